package mysqlha

import (
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

// TestWhatToDoAboutLostData: the primary has lost its data. What is said to be done is what works.
func TestWhatToDoAboutLostData(t *testing.T) {
	const command, wanted = "hostmesh mysql failover shop-db", ". Where what db1 has is wanted: hostmesh mysql setup shop-db --primary db1, and again with --apply"
	for _, c := range []struct {
		title, want string
		see         func(x *seen)
	}{
		{"another takes over", "another takes over: a replica has what was acknowledged", func(x *seen) {}},
		{"a person decides", command, func(x *seen) { x.c.MySQL.Failover = section.Manual }},
		{"one that acknowledges is dead", "bring back what is missing (hostmesh mysql explain shop-db): then it goes on. Or accept that transactions are lost: " + command + " --force -m WHY", func(x *seen) { x.silent("db2") }},
		{"one that acknowledges is dead, and a person decides", "bring back what is missing (hostmesh mysql explain shop-db): then it goes on. Or accept that transactions are lost: " + command + " --force -m WHY", func(x *seen) {
			x.silent("db2")
			x.c.MySQL.Failover = section.Manual
		}},
		{"the second within the hour", "find out why a second primary is gone within the hour; then hostmesh mysql ack shop-db, and it is replaced", func(x *seen) { x.c.Record.LastFailover = now.Add(-20 * time.Minute) }},
		{"paused", command + "; or hostmesh mysql resume shop-db, and the agents do what they would", func(x *seen) { x.c.Record.Paused = &Paused{By: "somebody"} }},
	} {
		x := healthySeen()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Binlog, s.Facts.Current, s.Asked = true, "", "", now })
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		if d, _ := has(list, PrimaryLost, "db1"); strings.TrimSuffix(d.Remedy, wanted) != c.want {
			t.Errorf("%s: %q, want %q", c.title, d.Remedy, c.want)
		}
	}
}
