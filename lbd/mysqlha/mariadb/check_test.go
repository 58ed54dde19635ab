package mariadb_test

import (
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

func TestCheckX(t *testing.T) {
	w := &world{}
	p, r := w.add(t), w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, r.server.SetAcker(ctx(t), true))
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	must(t, p.server.SetSource(ctx(t), true))
	for _, m := range []struct {
		m    *member
		role mysqlha.Duty
	}{{p, mysqlha.OnPrimary}, {r, mysqlha.OnReplica}} {
		for _, s := range mysqlha.Check(facts(t, m.m), m.role, true) {
			t.Logf("%d: %+v", m.role, s)
		}
		for _, s := range mysqlha.Check(facts(t, m.m), m.role, false) {
			t.Logf("available %d: %+v", m.role, s)
		}
	}
	_ = mariadbtest.Patience
	t.Log(p.real.Text("SHOW VARIABLES LIKE 'skip_slave%'"), p.real.Text("SELECT @@extra_max_connections"))
}
