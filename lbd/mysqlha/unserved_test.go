package mysqlha

import (
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

// TestOneThatServesNoNewConnection: db1 answers on the connection that is kept, and on no other.
func TestOneThatServesNoNewConnection(t *testing.T) {
	const said = "serves no new connection, and answers on one that was kept"
	for _, c := range []struct {
		title string
		want  Name // the first
		text  string
		act   Act
		see   func(x *seen)
	}{
		{"its replicas receive", PrimarySuspect, said, ActNone, func(x *seen) {}},
		{"one of them receives", PrimarySuspect, said, ActNone, func(x *seen) { x.io("Connecting", "db2") }},
		{"they have lost it as well", PrimarySilent, said, ActFailover, func(x *seen) { x.io("Connecting", "db2", "db3") }},
		{"they have lost it as well, and a person decides", PrimarySilent, said, ActPage, func(x *seen) {
			x.io("Connecting", "db2", "db3")
			x.c.MySQL.Failover = section.Manual
		}},
		{"it refuses them", PrimarySuspect, said, ActNone, func(x *seen) {
			x.io("Connecting", "db2", "db3")
			for _, h := range []string{"db2", "db3"} {
				x.edit(h, func(s *Sight) { s.Facts.Replica.IOErrno = tooMany })
			}
		}},
		{"it stood, and goes on", PrimarySuspect, "did not answer", ActNone, func(x *seen) {
			x.frozen("db2", "db3")
			x.edit("db1", func(s *Sight) { s.Since = now.Add(-50 * time.Millisecond) })
		}},
		{"a replica has ended", PrimarySuspect, said, ActStart, func(x *seen) { x.died("db2") }},
		{"a replica is away", PrimarySuspect, said, ActShut, func(x *seen) {
			x.silent("db2")
			x.edit("db2", func(s *Sight) { s.IORan = now.Add(-time.Minute) })
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 1 })
		}},
		{"no replica answers", PrimarySuspect, said, ActNone, func(x *seen) { x.silent("db2"); x.silent("db3"); x.agentGone("db2"); x.agentGone("db3") }},
		{"it was started, and takes no writes", PrimarySuspect, said, ActWritable, func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true }) }},
		{"an acknowledgement was lost", PrimarySuspect, said, ActFailover, func(x *seen) { x.stuck() }},
	} {
		x := healthySeen()
		x.edit("db1", func(s *Sight) {
			s.Since, s.Pings, s.PingError, s.PingAt = now.Add(-time.Minute), 5, "error 1135: can't create a new thread", now.Add(-100*time.Millisecond)
		})
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		if a := Next(&x.c, &x.o, list); list[0].Name != c.want || !strings.Contains(list[0].Text, c.text) || a.Act != c.act || list[0].Name.Severity() != Grave {
			t.Errorf("%s: %+v, then %s %s (%s); want %q, then %s", c.title, list[0], a.Act, a.Host, a.Why, c.want, c.act)
		}
	}
}
