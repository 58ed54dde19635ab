package mariadb_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSnapshotPosition: the position of a snapshot is that of what is in it, on a primary under constant writes that wait for acknowledgements, on a replica that applies, while logs are rotated and
// purged; and on servers whose log was begun anew, as that of a copy.
func TestSnapshotPosition(t *testing.T) {
	t.Parallel()
	w := &world{}
	p, r := w.add(t), w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, p.Insert(ctx(t), 1))
	must(t, r.server.SetAcker(ctx(t), true))
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	must(t, p.server.SetSource(ctx(t), true))
	// Each row is one transaction, so that rows and numbers grow together.
	look := func(m *member) (rows, number int) {
		t.Helper()
		s, err := m.server.Checksum(ctx(t), []string{"shop.ledger"}, 0)
		must(t, err)
		count, _, _ := strings.Cut(s.Tables["shop.ledger"], ":")
		rows, err = strconv.Atoi(count)
		must(t, err)
		number, err = strconv.Atoi(s.Position[strings.LastIndex(s.Position, "-")+1:])
		if err != nil || strings.Contains(s.Position, ",") {
			t.Fatalf("position is %q: %v", s.Position, err)
		}
		return rows, number
	}
	rows, number := look(p)
	ahead := number - rows
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer func() { stop.Store(true); wg.Wait() }()
	var id atomic.Int64
	id.Store(1)
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				if err := p.Insert(ctx(t), int(id.Add(1))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	seen := map[*member]int{}
	for i := range 40 {
		for _, m := range []*member{p, r} {
			if i%3 == 0 {
				m.real.Exec("FLUSH BINARY LOGS")
			}
			rows, number := look(m)
			if number-rows != ahead {
				t.Fatalf("look %d at %s: a snapshot at number %d has %d rows, and %d would be right", i, m.real.Name, number, rows, number-ahead)
			}
			if rows < seen[m] {
				t.Fatalf("it has had %d rows, and has %d", seen[m], rows)
			}
			seen[m] = rows
		}
	}
	if seen[p] < 20 || seen[r] < 20 {
		t.Errorf("only %v rows were written", seen)
	}
	stop.Store(true)
	wg.Wait()
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	// As a copy begins: a log without anything, and a position.
	must(t, r.server.Leave(ctx(t)))
	at := facts(t, r).Current
	r.real.Exec("RESET MASTER", "SET GLOBAL gtid_slave_pos = '"+at+"'")
	same := func(what string, m *member) {
		t.Helper()
		s, err := m.server.Checksum(ctx(t), nil, 0)
		must(t, err)
		if now := facts(t, m).Current; s.Position != now || now == "" {
			t.Errorf("%s: a snapshot is at %q, and the server at %q", what, s.Position, now)
		}
	}
	same("a log that was begun anew", r)
	r.real.Exec("FLUSH BINARY LOGS")
	same("and rotated", r)
	r.Kill()
	r.Restart("replica")
	same("and after a crash", r)
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	must(t, p.server.SetReadOnly(ctx(t), true))
	must(t, p.server.SetSource(ctx(t), false))
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, p.Insert(ctx(t), int(id.Add(1))))
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	same("and with something in it", r)
	p.PurgeLogs()
	same("a log that was purged", p)
	p.real.Stop()
	p.Restart("primary")
	same("after a start", p)
}

// TestEngines: tables that are not InnoDB's are named, and are outside of each sample, as those without a primary key.
func TestEngines(t *testing.T) {
	t.Parallel()
	w := &world{}
	m := w.add(t)
	m.real.Exec("USE shop", "SET sql_log_bin = 0", "CREATE TABLE shop.half (i INT PRIMARY KEY) ENGINE=Aria", "CREATE TABLE shop.old (i INT PRIMARY KEY) ENGINE=MyISAM", "CREATE TABLE shop.keyless (i INT) ENGINE=InnoDB",
		"CREATE TABLE shop.texts (i INT PRIMARY KEY, a TEXT, b LONGBLOB) ENGINE=InnoDB", "INSERT INTO shop.texts SELECT seq, seq, seq FROM seq_1_to_1000",
		"CREATE VIEW shop.seen AS SELECT i FROM shop.old", "INSERT INTO shop.ledger VALUES (1, NULL, NULL)")
	engines, err := m.server.Engines(ctx(t))
	if err != nil || fmt.Sprint(engines) != "map[shop.half:Aria shop.old:MyISAM]" {
		t.Errorf("engines: %v, %v", engines, err)
	}
	s, err := m.server.Checksum(ctx(t), nil, uint64(time.Now().UnixNano()))
	if err != nil || fmt.Sprint(s.Outside) != "[shop.half shop.keyless shop.old]" || len(s.Tables) != 2 || !strings.HasPrefix(s.Tables["shop.ledger"], "1:") || !strings.HasPrefix(s.Tables["shop.texts"], "1000:") {
		t.Errorf("checksums: %+v, %v", s, err)
	}
	// Of rows that may be large fewer are read, from both ends.
	for row, same := range map[int]bool{200: false, 500: true, 801: false} {
		m.real.Exec("USE shop", fmt.Sprintf("UPDATE texts SET b = 'other' WHERE i = %d", row))
		now, err := m.server.Checksum(ctx(t), []string{"shop.texts"}, 0)
		must(t, err)
		if now.Tables["shop.texts"] == s.Tables["shop.texts"] != same {
			t.Errorf("row %d was changed, and the sum is the same: %t", row, !same)
		}
		m.real.Exec("USE shop", fmt.Sprintf("UPDATE texts SET b = '%d' WHERE i = %d", row, row))
	}
}
