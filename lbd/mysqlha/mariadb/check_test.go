package mariadb_test

import (
	"slices"
	"testing"

	"hostmesh/lbd/mysqlha"
)

// TestCheckOfRealServers: servers that are as they should be have no finding, and each that is made wrong has that one, with the value that it has.
func TestCheckOfRealServers(t *testing.T) {
	t.Parallel()
	w := &world{}
	p, r := w.add(t), w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, r.server.SetAcker(ctx(t), true))
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	must(t, p.server.SetSource(ctx(t), true))
	found := func(m *member, role mysqlha.Duty, strict bool) (out []string) {
		for _, s := range mysqlha.Check(facts(t, m), role, strict) {
			out = append(out, s.Name+"="+s.Have)
		}
		return out
	}
	want := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: findings are %q, want %q", what, got, want)
		}
	}
	want("the primary", found(p, mysqlha.OnPrimary, true))
	want("the replica", found(r, mysqlha.OnReplica, true))
	want("the primary as available", found(p, mysqlha.OnPrimary, false), "rpl_semi_sync_master_timeout=315360000000")
	p.real.Exec("SET GLOBAL sync_binlog=0", "SET GLOBAL rpl_semi_sync_master_timeout=10000", "SET GLOBAL gtid_strict_mode=0", "SET GLOBAL innodb_flush_log_at_trx_commit=2",
		"SET GLOBAL rpl_semi_sync_master_wait_no_slave=0", "SET GLOBAL rpl_semi_sync_master_wait_point=AFTER_COMMIT", "SET GLOBAL binlog_format=STATEMENT", "SET GLOBAL rpl_semi_sync_master_enabled=0")
	want("a primary that is wrong", found(p, mysqlha.OnPrimary, true), "binlog_format=STATEMENT", "gtid_strict_mode=OFF", "innodb_flush_log_at_trx_commit=2", "rpl_semi_sync_master_enabled=OFF",
		"rpl_semi_sync_master_timeout=10000", "rpl_semi_sync_master_wait_no_slave=OFF", "rpl_semi_sync_master_wait_point=AFTER_COMMIT", "sync_binlog=0")
	r.real.Exec("SET GLOBAL read_only=0", "SET GLOBAL rpl_semi_sync_slave_enabled=0", "SET GLOBAL sync_relay_log=1", "STOP SLAVE", "CHANGE MASTER TO MASTER_HEARTBEAT_PERIOD=5, MASTER_DELAY=3", "START SLAVE")
	want("a replica that is wrong", found(r, mysqlha.OnReplica, true), "MASTER_DELAY=3", "MASTER_HEARTBEAT_PERIOD=5", "read_only=OFF", "rpl_semi_sync_slave_enabled=OFF", "sync_relay_log=1")
}
