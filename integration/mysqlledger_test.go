package integration

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// outcome is what is known of a row that somebody has tried to write.
type outcome int8

const (
	unknown      outcome = iota // under way, or its client got no answer: it may be there or not
	acknowledged                // it must be there
	refused                     // for sure: it must not be there
)

// sureRefusals are the errors of a server that say that nothing was written. All others leave that open: a session that is killed while it waits for an
// acknowledgement, or a server that shuts down meanwhile, may have committed; so may one that cannot write its log.
var sureRefusals = map[uint16]bool{
	1290: true, // read-only: looked at before a statement and before its commit, which is rolled back
	1836: true, // the same, in newer words
	1049: true, // no such database
	1146: true, // no such table
	1062: true, // there is such a row already: nobody writes one twice, so it is found out
	1205: true, // the wait for a lock was too long
	1213: true, // deadlock
	1114: true, // the table is full: the statement is rolled back
}

// surely reports whether an error says that nothing was written.
func surely(err error) bool {
	var said *mysql.MySQLError
	if errors.As(err, &said) {
		return sureRefusals[said.Number]
	}
	return errors.Is(err, driver.ErrBadConn) // the driver says so only where it has sent nothing
}

// entry is a write of which the outcome is known to be good.
type entry struct {
	id int64
	at time.Time
}

// attempt is what the ledger has of a row.
type attempt struct {
	who     int64
	outcome outcome
	why     string // it was refused
}

// dbWriters writes through the address of the primary all the time, each row once, and keeps a ledger of what became of each.
type dbWriters struct {
	s     *dbSite
	stop  atomic.Bool
	wg    sync.WaitGroup
	next  atomic.Int64
	still sync.RWMutex // held for reading while a row is written

	mu      sync.Mutex        // guards the fields below
	tried   map[int64]attempt // each row that was ever sent
	acked   []entry           // through the address of the primary
	beside  []entry           // elsewhere
	unknown []int64           // whether these were written is not known
	refused map[string]int    // why
	when    []time.Time       // of refusals, and of tries without a connection
}

// writers is how many write at once through the address of the primary; others have numbers above.
const writers = 4

func newDBWriters(s *dbSite) *dbWriters {
	l := &dbWriters{s: s, refused: map[string]int{}, tried: map[int64]attempt{}}
	for who := range writers {
		l.wg.Go(func() {
			l.write(int64(who), place{space: "c1", addr: writeVIP, dial: 250 * time.Millisecond, patience: time.Second}, &l.stop)
		})
	}
	s.t.Cleanup(l.end)
	return l
}

func (l *dbWriters) end() {
	l.stop.Store(true)
	l.wg.Wait()
}

// elsewhere has two more clients write at another place until stop is called. acked tells how many rows were acknowledged to them.
func (l *dbWriters) elsewhere(p place) (acked func() int, stop func()) {
	end := &atomic.Bool{}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { l.write(int64(writers+i), p, end) })
	}
	l.mu.Lock()
	before := len(l.beside)
	l.mu.Unlock()
	once := sync.OnceFunc(func() { end.Store(true); wg.Wait() })
	l.s.t.Cleanup(once)
	return func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.beside) - before
	}, once
}

func (l *dbWriters) write(who int64, p place, stop *atomic.Bool) {
	for !stop.Load() {
		conn, err := l.s.reaches(p)
		if err != nil {
			l.fails(0, who, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for !stop.Load() && l.insert(conn, who) {
			time.Sleep(20 * time.Millisecond) // replicas are to keep up on a machine that is busy
		}
		_ = conn.Close()
		time.Sleep(10 * time.Millisecond) // who is refused asks anew soon, and not as fast as two processors can
	}
}

// insert writes one row, and reports whether the connection can be used on.
func (l *dbWriters) insert(conn driver.Conn, who int64) bool {
	l.still.RLock()
	defer l.still.RUnlock()
	id := l.next.Add(1)
	l.mu.Lock()
	l.tried[id] = attempt{who: who}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := conn.(driver.ExecerContext).ExecContext(ctx, "INSERT INTO written VALUES (?, ?)", []driver.NamedValue{{Ordinal: 1, Value: id}, {Ordinal: 2, Value: who}})
	if err != nil {
		l.fails(id, who, err)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried[id] = attempt{who: who, outcome: acknowledged}
	e := entry{id: id, at: time.Now()}
	if who < writers {
		l.acked = append(l.acked, e)
	} else {
		l.beside = append(l.beside, e)
	}
	return true
}

// fails notes a write that was not acknowledged; id 0 = there was no connection.
func (l *dbWriters) fails(id, who int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said *mysql.MySQLError
	why := err.Error()
	if errors.As(err, &said) {
		why = fmt.Sprintf("error %d", said.Number)
	}
	switch {
	case id == 0:
		if i := strings.LastIndex(why, ": "); i >= 0 {
			why = why[i+2:]
		}
		why = "no connection: " + why
	case surely(err):
		l.tried[id] = attempt{who: who, outcome: refused, why: why}
	default:
		l.unknown = append(l.unknown, id)
		why = "unknown outcome"
	}
	if who >= writers {
		return
	}
	l.refused[why]++
	l.when = append(l.when, time.Now())
}

// goesOn waits until several writes that ended after a moment were acknowledged.
func (l *dbWriters) goesOn(from time.Time) {
	l.s.t.Helper()
	l.s.await("writes through the address of the primary go on", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		n := 0
		for i := len(l.acked) - 1; i >= 0 && l.acked[i].at.After(from); i-- {
			n++
		}
		if n < 4*writers {
			return fmt.Errorf("%d writes were acknowledged, refused since the start: %v", n, l.refused)
		}
		return nil
	})
}

// gap is the longest time without an acknowledged write that ends after a moment, and what was refused since.
func (l *dbWriters) gap(from time.Time) (longest time.Duration, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last, ended time.Time
	for _, e := range l.acked {
		if d := e.at.Sub(last); e.at.After(from) && !last.IsZero() && d > longest {
			longest, ended = d, e.at
		}
		last = e.at
	}
	n := 0
	for _, at := range l.when {
		if at.After(from) {
			n++
		}
	}
	return longest, fmt.Sprintf("until %s; %d acknowledged, %d of unknown outcome in all, %d failed tries since", ended.UTC().Format("15:04:05.000"), len(l.acked), len(l.unknown), n)
}

// verdict is what a host's rows say, held against the ledger.
type verdict struct {
	lost  []int64 // they were acknowledged, and are not there
	ghost []int64 // they were refused for sure, and are there
	alien []int64 // nobody has tried to write them, or somebody else
}

// judge holds the rows of a host against all that was acknowledged until now.
func (l *dbWriters) judge(host string) (v verdict, err error) {
	l.mu.Lock()
	acked := make([]int64, 0, len(l.acked)+len(l.beside))
	for _, list := range [][]entry{l.acked, l.beside} {
		for _, e := range list {
			acked = append(acked, e.id)
		}
	}
	l.mu.Unlock()
	rows, err := l.s.dbs[host].Root().QueryContext(l.s.t.Context(), "SELECT id, who FROM shop.written")
	if err != nil {
		return v, err
	}
	defer rows.Close()
	has := make(map[int64]int64, len(acked))
	for rows.Next() {
		var id, who int64
		if err := rows.Scan(&id, &who); err != nil {
			return v, err
		}
		has[id] = who
	}
	if err := rows.Err(); err != nil {
		return v, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return judged(has, acked, l.tried), nil
}

// judged holds rows, by whom they are, against those that were acknowledged before they were read, and those that were tried until after that.
func judged(has map[int64]int64, acked []int64, tried map[int64]attempt) (v verdict) {
	for _, id := range acked {
		if _, there := has[id]; !there {
			v.lost = append(v.lost, id)
		}
	}
	for id, who := range has {
		switch a, ok := tried[id]; {
		case !ok || a.who != who:
			v.alien = append(v.alien, id)
		case a.outcome == refused:
			v.ghost = append(v.ghost, id)
		}
	}
	slices.Sort(v.alien)
	slices.Sort(v.ghost)
	return v
}

// TestLedger has the ledger find what it is there for.
func TestLedger(t *testing.T) {
	t.Parallel()
	tried := map[int64]attempt{1: {who: 1, outcome: acknowledged}, 2: {who: 2, outcome: refused}, 3: {who: 3}, 4: {who: 4, outcome: acknowledged}}
	for _, c := range []struct {
		has  map[int64]int64
		want verdict
	}{
		{map[int64]int64{1: 1, 4: 4}, verdict{}},
		{map[int64]int64{1: 1, 3: 3, 4: 4}, verdict{}}, // nobody knows of 3
		{map[int64]int64{1: 1}, verdict{lost: []int64{4}}},
		{map[int64]int64{1: 1, 2: 2, 4: 4}, verdict{ghost: []int64{2}}},
		{map[int64]int64{1: 1, 4: 4, 9: 1, -1: 1}, verdict{alien: []int64{-1, 9}}},
		{map[int64]int64{1: 1, 4: 1}, verdict{alien: []int64{4}}}, // another's row has its number
	} {
		if got := judged(c.has, []int64{1, 4}, tried); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %+v, want %+v", c.has, got, c.want)
		}
	}
	for err, sure := range map[error]bool{
		&mysql.MySQLError{Number: 1290}: true, fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: 1205}): true, driver.ErrBadConn: true,
		&mysql.MySQLError{Number: 1317}: false, &mysql.MySQLError{Number: 1053}: false, &mysql.MySQLError{Number: 1026}: false, mysql.ErrInvalidConn: false, context.DeadlineExceeded: false, io.EOF: false,
	} {
		if surely(err) != sure {
			t.Errorf("%v: that nothing was written is sure: %v", err, !sure)
		}
	}
}

// holds checks that all that was acknowledged until now is at a host, and nothing that was refused for sure, or that nobody wrote.
func (l *dbWriters) holds(host string) {
	t := l.s.t
	t.Helper()
	v, err := l.judge(host)
	if err != nil {
		t.Fatal(err)
	}
	for what, list := range map[string][]int64{"lost rows that were acknowledged": v.lost, "has rows that were refused": v.ghost, "has rows that nobody wrote": v.alien} {
		if len(list) > 0 {
			t.Errorf("%s %s, %d, such as %v", host, what, len(list), list[:min(10, len(list))])
		}
	}
	if t.Failed() {
		t.Fatal(l.s.told())
	}
}

// forgives takes what a host has lost out of the ledger, for it was announced, and returns how much that is. All else must hold.
func (l *dbWriters) forgives(host string) int {
	t := l.s.t
	t.Helper()
	v, err := l.judge(host)
	if err != nil {
		t.Fatal(err)
	}
	gone := map[int64]bool{}
	for _, id := range v.lost {
		gone[id] = true
	}
	l.mu.Lock()
	for _, list := range []*[]entry{&l.acked, &l.beside} {
		*list = slices.DeleteFunc(*list, func(e entry) bool { return gone[e.id] })
	}
	for id := range gone {
		a := l.tried[id]
		a.outcome = unknown // it may come back by hand
		l.tried[id] = a
	}
	l.mu.Unlock()
	l.holds(host)
	return len(gone)
}

// agrees checks that all members have the same rows, while nothing is written.
func (l *dbWriters) agrees(primary string) {
	s := l.s
	s.t.Helper()
	l.still.Lock()
	defer l.still.Unlock()
	const sum = "SELECT CONCAT(COUNT(*), ' rows, ', COALESCE(BIT_XOR(CRC32(CONCAT(id, ' ', who))), 0)) FROM shop.written"
	s.await("all members have the same rows", func() error {
		at, err := s.text(primary, "SELECT @@gtid_current_pos")
		if err != nil {
			return err
		}
		want, err := s.text(primary, sum)
		if err != nil {
			return err
		}
		for _, host := range s.replicas(primary) {
			if reached, err := s.text(host, "SELECT MASTER_GTID_WAIT(?, 5)", at); err != nil || reached != "0" {
				return fmt.Errorf("%s does not reach %s of %s: %q %v", host, at, primary, reached, err)
			}
			if has, err := s.text(host, sum); err != nil || has != want {
				return fmt.Errorf("%s has %s, and %s has %s: %v", host, has, primary, want, err)
			}
		}
		return nil
	})
}
