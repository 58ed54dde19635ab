package mysqlha

import (
	"strings"
	"testing"
	"time"
)

// TestWritesThatWaitAreTold: db2 alone acknowledges. That writes wait for it is told before the primary has found out that it is gone, which may take minutes.
func TestWritesThatWaitAreTold(t *testing.T) {
	for _, c := range []struct {
		title    string
		told     bool
		evidence string
		act      Act
		see      func(x *seen)
	}{
		{"it does not answer", true, "db2: it does not answer", ActNone, func(x *seen) { x.silent("db2") }},
		{"it answers, and its receiving thread hangs", true, "db2: it is connected, and got no event and no heartbeat for 5s", ActNone, func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Moved = now.Add(-5 * time.Second) })
		}},
		{"its disk is full", true, "it has no room on its disk: 0 of 100 GiB are free", ActNone, func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Moved, s.DiskFull = now.Add(-5*time.Second), "0 of 100 GiB are free" })
		}},
		{"it does not receive", true, "db2: its threads: receiving Connecting", ActNone, func(x *seen) { x.io("Connecting", "db2") }},
		{"it receives, and acknowledges in a moment", false, "", ActNone, func(x *seen) { x.edit("db2", func(s *Sight) { s.Got = now.Add(-time.Second) }) }},
		{"something was written a moment ago", false, "", ActNone, func(x *seen) { x.silent("db2"); x.edit("db1", func(s *Sight) { s.Wrote = now.Add(-2 * time.Second) }) }},
		{"nobody waits", false, "", ActNone, func(x *seen) { x.silent("db2"); x.edit("db1", func(s *Sight) { s.Facts.Semi.Waiting = 0 }) }},
		{"another acknowledges as well, and receives", false, "", ActNone, func(x *seen) {
			x.silent("db2")
			x.c.Record.Ackers = []string{"db2", "db3"}
			x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker, s.Got = true, now.Add(-time.Second) })
		}},
	} {
		x := healthySeen()
		x.c.Record.Ackers = []string{"db2"}
		x.c.Members[2].Drained = "a test"
		x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false })
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting, s.Wrote = 1, 3, now.Add(-5*time.Second) })
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		d, told := has(list, NoAcker, "")
		if told != c.told || !strings.Contains(strings.Join(d.Evidence, "\n"), c.evidence) || NoAcker.Severity() != Grave {
			t.Errorf("%s: %+v", c.title, list)
		}
		if a := Next(&x.c, &x.o, list); a.Act != c.act {
			t.Errorf("%s: %s %s: %s", c.title, a.Act, a.Host, a.Why)
		}
	}
}

// TestAFullDiskOfAReplicaIsTold: whatever else it has, and whether it answers or not.
func TestAFullDiskOfAReplicaIsTold(t *testing.T) {
	lag := time.Minute
	for _, see := range []func(x *seen){
		func(x *seen) {}, func(x *seen) { x.silent("db2") }, func(x *seen) { x.died("db2") }, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Replica.Lag = &lag }) },
	} {
		x := healthySeen()
		see(x)
		x.edit("db2", func(s *Sight) { s.DiskFull = "0 of 100 GiB are free" })
		n := 0
		for _, d := range Diagnose(&x.c, &x.o) {
			if d.Name == ReplicaLagging && d.Host == "db2" && strings.Contains(d.Text, "no room on its disk") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("it is told %d times: %+v", n, Diagnose(&x.c, &x.o))
		}
	}
}
