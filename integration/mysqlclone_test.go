package integration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/node/api"
)

// What is cloned: 450 MB, in rows of a kilobyte, written so many at a time.
const (
	cloneRows  = 450_000
	cloneBatch = 5_000
)

// historyHas finds an event by its text.
func historyHas(text string) func(api.MySQLEvent) bool {
	return func(e api.MySQLEvent) bool { return strings.Contains(e.What, text) }
}

// clone450 has box4 become a copy of a replica with 450 MB, while clients write all the time, and says for how long they could not: beside the same writes without a
// copy, for as long.
func (s *dbSite) clone450() {
	t := s.t
	t.Helper()
	primary := s.settles()
	db := s.dbs[primary]
	db.Exec("USE shop", "CREATE TABLE shop.large (id INT PRIMARY KEY, v VARCHAR(1000)) ENGINE=InnoDB")
	began := time.Now()
	for from := 1; from <= cloneRows; from += cloneBatch {
		db.Exec("USE shop", fmt.Sprintf("INSERT INTO shop.large SELECT seq, REPEAT(MD5(RAND()), 31) FROM seq_%d_to_%d", from, from+cloneBatch-1))
	}
	want := fmt.Sprint(cloneRows)
	for _, host := range s.members {
		s.await(host+" has all", func() error {
			if n := s.dbs[host].Text("SELECT COUNT(*) FROM shop.large"); n != want {
				return fmt.Errorf("it has %s rows of %s", n, want)
			}
			return nil
		})
	}
	s.keepsUp()
	size := db.Text("SELECT ROUND(SUM(DATA_LENGTH + INDEX_LENGTH) / 1048576) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop'")
	t.Logf("%s MB were written in %s", size, time.Since(began).Round(time.Second))

	report := func(what string, from time.Time) {
		took := time.Since(from)
		gap, text := s.writes.gap(from)
		line := fmt.Sprintf("%-40s worst write gap %d ms in %s; %s", what, gap.Milliseconds(), took.Round(100*time.Millisecond), text)
		t.Log(line)
		s.results = append(s.results, line)
	}
	from := time.Now()
	time.Sleep(10 * time.Second)
	report("10 s without a copy", from)

	from = time.Now()
	s.members = append(s.members, "box4")
	slices.Sort(s.members)
	s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
	s.await("box4 is a copy", func() error {
		if c, err := s.cluster(); err != nil || !slices.ContainsFunc(c.Record.History, historyHas("box4 was made a copy of")) {
			return fmt.Errorf("%+v %w", c.Tasks, err)
		}
		return nil
	})
	report("a copy of "+size+" MB is made", from)
	s.await("box4 was compared", func() error {
		if c, err := s.cluster(); err != nil || !slices.ContainsFunc(c.Record.History, historyHas("and was found right")) {
			return fmt.Errorf("%+v %w", c.Tasks, err)
		}
		return nil
	})
	s.settles()
	s.writes.goesOn(time.Now())
	took := time.Since(from)
	report("until it was compared and counts", from)
	if n := s.dbs["box4"].Text("SELECT COUNT(*) FROM shop.large"); n != want {
		t.Errorf("the copy has %s rows of %s", n, want)
	}
	from = time.Now()
	time.Sleep(took)
	report("as long without a copy", from)
	s.writes.holds(primary)
	at := db.Text("SELECT @@gtid_current_pos")
	if failed := s.dbs["box4"].Text("SELECT MASTER_GTID_WAIT('" + at + "', 60)"); failed != "0" {
		t.Errorf("box4 has not got %s within a minute", at)
	}
}
