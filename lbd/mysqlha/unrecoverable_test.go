package mysqlha

import (
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

// TestOneThatCannotRecover: the process of db2 has ended, and its last start did because its data cannot be recovered.
func TestOneThatCannotRecover(t *testing.T) {
	for _, c := range []struct {
		title string
		act   Act
		host  string
		see   func(x *seen)
	}{
		{"it counts, and another has all", ActDismiss, "db2", func(x *seen) {}},
		{"it alone counts", ActDismiss, "db2", func(x *seen) { x.c.Record.Ackers = []string{"db2"} }},
		{"it counts, and the other has not got all", ActStart, "db2", func(x *seen) { behindBy(x, "db3") }},
		{"it counts, and the primary does not take writes yet", ActStart, "db2", func(x *seen) {
			behindBy(x, "db3")
			x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi.Clients, s.Facts.Uptime = true, 0, 5*time.Second })
		}},
		{"it does not count", ActStart, "db2", func(x *seen) { x.c.Record.Ackers = []string{"db3"} }},
		{"nobody counts, and writes wait", ActRelease, "db1", func(x *seen) {
			x.c.Record.Ackers, x.c.Members = nil, x.c.Members[:2]
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting, s.Wrote = 0, 8, now.Add(-5*time.Second) })
		}},
		{"nobody counts, writes wait, and a person decides", ActNone, "", func(x *seen) {
			x.c.MySQL.Failover = section.Manual
			x.c.Record.Ackers, x.c.Members = nil, x.c.Members[:2]
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting, s.Wrote = 0, 8, now.Add(-5*time.Second) })
		}},
	} {
		x := healthySeen()
		x.died("db2")
		x.edit("db2", func(s *Sight) { s.Unrecoverable = true })
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		if a := Next(&x.c, &x.o, list); a.Act != c.act || a.Host != c.host {
			t.Errorf("%s: %s %s (%s), want %s", c.title, a.Act, a.Host, a.Why, c.act)
		}
	}
}
