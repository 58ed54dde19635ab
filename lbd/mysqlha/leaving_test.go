package mysqlha

import (
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

// TestOneThatLeavesAndIsAway: db3 counts, and is no member any more.
func TestOneThatLeavesAndIsAway(t *testing.T) {
	away := func(x *seen) {
		x.c.Others, x.c.Members = x.c.Members[2:], x.c.Members[:2]
		x.silent("db3")
		x.agentGone("db3")
		x.edit("db3", func(s *Sight) { s.IORan = now.Add(-time.Minute) })
	}
	deleted := func(x *seen) {
		x.c.Others, x.c.Members = []Member{{Host: "db3", Unfit: notInHostDB}}, x.c.Members[:2]
		x.o.Servers["db3"] = Sight{AgentGone: now.Add(-11 * time.Second)}
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 1 })
	}
	for _, c := range []struct {
		title string
		act   Act
		see   func(x *seen)
	}{
		{"it is away", ActShut, away},
		{"it is away, available", ActShut, func(x *seen) { away(x); x.c.MySQL.Durability = section.Available; x.c.Record.Durability = "available" }},
		{"it is away since a moment ago", ActNone, func(x *seen) { away(x); x.edit("db3", func(s *Sight) { s.IORan = now.Add(-9 * time.Second) }) }},
		{"it is away, and the agent of the primary as well", ActNone, func(x *seen) { away(x); x.agentGone("db1") }},
		{"it is away, and the other has not got all", ActNone, func(x *seen) { away(x); behindBy(x, "db2") }},
		{"it is away, and more are connected than count", ActNone, func(x *seen) { away(x); x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 3 }) }},
		{"it is away, and has the address of another", ActNone, func(x *seen) { away(x); x.c.Others[0].Unfit = "its address is that of another host" }},
		{"it does not receive, and can be told", ActDismiss, func(x *seen) {
			x.c.Others, x.c.Members = x.c.Members[2:], x.c.Members[:2]
			x.io("Connecting", "db3")
			x.edit("db3", func(s *Sight) { s.IORan = now.Add(-time.Minute) })
		}},
		{"it was deleted", ActDismiss, deleted},
		{"it was deleted, and is connected", ActNone, func(x *seen) { deleted(x); x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 2 }) }},
		{"it was deleted a moment ago", ActNone, func(x *seen) { deleted(x); x.agentGone("db3") }},
		{"it was deleted, and its agent is there", ActNone, func(x *seen) { deleted(x); x.edit("db3", func(s *Sight) { s.Agent = true }) }},
		{"it was deleted, and the other has not got all", ActNone, func(x *seen) { deleted(x); behindBy(x, "db2") }},
		{"it was deleted, and nobody else counts", ActNone, func(x *seen) {
			deleted(x)
			x.c.Record.Ackers = []string{"db3"}
			x.c.Members[1].Drained = "a test"
			x.edit("db2", func(s *Sight) { s.Facts.Semi.Acker = false })
		}},
		{"it has lost its address", ActNone, func(x *seen) { deleted(x); x.c.Others[0].Unfit = "it has no Network/IP" }},
	} {
		x := healthySeen()
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		if _, is := has(list, AckerLeaving, "db3"); !is {
			t.Errorf("%s: %+v", c.title, list)
		}
		if a := Next(&x.c, &x.o, list); a.Act != c.act || a.Act != ActNone && a.Host != "db3" {
			t.Errorf("%s: %s %s (%s), want %s", c.title, a.Act, a.Host, a.Why, c.act)
		}
	}
}
