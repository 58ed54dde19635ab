package mariadb_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mariadbtest"
)

// BenchmarkFollow is how long a replica that has all takes until it has the next row of a source whose binary log has one long file, and of the same source when Leave has just begun another.
// A server looks through the file for the place where a replica goes on.
func BenchmarkFollow(b *testing.B) {
	p := newMember(b, mariadbtest.Start(b, mariadbtest.Options{}))
	m := newMember(b, mariadbtest.Start(b, mariadbtest.Options{ID: 2}))
	must(b, p.server.SetReadOnly(ctx(b), false))
	must(b, m.server.Follow(ctx(b), p.Source(), false))
	p.real.Exec("CREATE DATABASE IF NOT EXISTS long_log", "CREATE TABLE long_log.s (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE long_log.t (id INT PRIMARY KEY, a LONGBLOB) ENGINE=InnoDB")
	for i := range 300 {
		p.real.Exec("SET rand_seed1=1", "REPLACE INTO long_log.t SELECT "+string(rune('0'+i%8))+", REPEAT(RAND(), 60000)")
	}
	must(b, m.server.WaitApplied(ctx(b), facts(b, p).Current))
	row := 0
	follow := func() time.Duration {
		must(b, m.server.Leave(ctx(b)))
		began := time.Now()
		must(b, m.server.Follow(ctx(b), p.Source(), false))
		row++
		p.real.Exec(fmt.Sprintf("INSERT INTO long_log.s VALUES (%d)", row))
		must(b, m.server.WaitApplied(ctx(b), facts(b, p).Current))
		return time.Since(began)
	}
	var long, short time.Duration
	n := 0
	for b.Loop() {
		n++
		long += follow()
	}
	must(b, p.server.Leave(ctx(b)))
	for range n {
		short += follow()
	}
	b.ReportMetric(float64(long.Microseconds())/float64(n)/1e3, "long-ms/op")
	b.ReportMetric(float64(short.Microseconds())/float64(n)/1e3, "new-ms/op")
}

// TestLeaveBeginsALog: what follows a server that has left its source need not be looked for in a long file, and no transaction comes of that.
func TestLeaveBeginsALog(t *testing.T) {
	t.Parallel()
	p := newMember(t, mariadbtest.Start(t, mariadbtest.Options{}))
	m := newMember(t, mariadbtest.Start(t, mariadbtest.Options{ID: 2}))
	must(t, m.server.Follow(ctx(t), p.Source(), false))
	before, has := file(t, m), facts(t, m).Binlog
	must(t, m.server.Leave(ctx(t)))
	if after := file(t, m); after == before {
		t.Errorf("it goes on with %s", after)
	}
	if f := facts(t, m); f.Binlog != has || f.Replica != nil {
		t.Errorf("its log says %q, and said %q; it follows %+v", f.Binlog, has, f.Replica)
	}
}

// file is of its binary log the one that is written to.
func file(t *testing.T, m *member) string {
	t.Helper()
	var name, position, a, b sql.NullString
	must(t, m.real.Root().QueryRowContext(ctx(t), "SHOW MASTER STATUS").Scan(&name, &position, &a, &b))
	return name.String
}
