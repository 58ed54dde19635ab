package mysqlha

import (
	"strings"
	"testing"
	"time"
)

// TestStrangers: db1 has three replicas connected that acknowledge, and db2 and db3 are known.
func TestStrangers(t *testing.T) {
	for _, c := range []struct {
		title string
		told  bool
		see   func(x *seen)
	}{
		{"both are connected", true, func(x *seen) {}},
		{"since a moment ago", false, func(x *seen) { x.o.Strangers = now.Add(-29 * time.Second) }},
		{"two are connected", false, func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 2 }) }},
		{"one is away, and may have left it behind", false, func(x *seen) { x.silent("db3") }},
		{"one does not receive", false, func(x *seen) { x.io("Connecting", "db3") }},
		{"one hears nothing", false, func(x *seen) { x.frozen("db3") }},
		{"one is new", false, func(x *seen) { x.c.Record.Ackers = []string{"db2"}; empty(x, "db3") }},
		{"one was deleted", false, func(x *seen) {
			x.c.Members, x.c.Others = x.c.Members[:2], []Member{{Host: "db3", Unfit: notInHostDB}}
			delete(x.o.Servers, "db3")
		}},
		{"one does not acknowledge any more, and may be connected as before", false, func(x *seen) {
			x.c.Record.Ackers = []string{"db2"}
			x.c.Members[2].Drained = "a test"
			x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false })
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 2 })
		}},
	} {
		x := healthySeen()
		x.o.Strangers = now.Add(-time.Minute)
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 3 })
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		told := false
		for _, d := range list {
			told = told || d.Name == AckerStray && d.Host == "" && strings.HasPrefix(d.Text, "db1 has 3 replicas connected that acknowledge, and 2 that are known")
		}
		if told != c.told {
			t.Errorf("%s: %+v", c.title, list)
		}
		if a := Next(&x.c, &x.o, list); a.Act == ActCount || c.told && a.Act != ActNone {
			t.Errorf("%s: %s %s: %s", c.title, a.Act, a.Host, a.Why)
		}
	}
	// It refuses no failover: a count that was left behind looks like it.
	x := healthySeen()
	x.o.Strangers = now.Add(-time.Minute)
	x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 3 })
	x.died("db1")
	x.io("Connecting", "db2", "db3")
	if a := Next(&x.c, &x.o, Diagnose(&x.c, &x.o)); a.Act != ActFailover {
		t.Errorf("%s: %s", a.Act, a.Why)
	}
}
