package mariadb_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// The traps of MariaDB that the methods of a Server, and the steps of a failover, are made around. Each is shown on real servers, so that a version
// in which one has gone, or become another, is noticed.

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func facts(t testing.TB, m *member) mysqlha.Facts {
	t.Helper()
	f, err := m.server.Observe(ctx(t))
	must(t, err)
	return f
}

func until(t testing.TB, m *member, what string, ok func(mysqlha.Facts) bool) {
	t.Helper()
	for limit := time.Now().Add(mariadbtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		f, err := m.server.Observe(ctx(t))
		if err == nil && ok(f) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s: %v, %+v, replica %+v", what, mariadbtest.Patience, err, f, f.Replica)
		}
	}
}

// pair is a primary, which waits for acknowledgements if it is told to, and a replica that gives them; one row is on both.
func pair(t *testing.T, waits bool) (p, r *member) {
	t.Helper()
	w := &world{}
	p, r = w.add(t), w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, r.server.SetAcker(ctx(t), true))
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	if waits {
		must(t, p.server.SetSource(ctx(t), true))
		until(t, p, "the replica acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 1 })
	}
	must(t, p.Insert(ctx(t), 1))
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	return p, r
}

// waiter is a primary with a client whose row 2 nobody acknowledges.
func waiter(t *testing.T) (p, r *member, done chan error) {
	t.Helper()
	p, r = pair(t, true)
	must(t, r.server.StopIO(ctx(t)))
	until(t, p, "nobody acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 0 })
	done = make(chan error, 1)
	c := ctx(t)
	go func() { done <- p.Insert(c, 2) }()
	until(t, p, "a client waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 1 })
	return p, r, done
}

func rowsAre(t *testing.T, m *member, want ...int) {
	t.Helper()
	got, err := m.Rows(ctx(t))
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("rows are %v, and not %v", got, want)
	}
}

// TestTrapStartOfSQLPurges: with GTIDs, STOP SLAVE and START SLAVE SQL_THREAD drops what was received and acknowledged.
func TestTrapStartOfSQLPurges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		by   func(t *testing.T, r *member)
		want []int
	}{
		{"both stopped", func(t *testing.T, r *member) {
			r.real.Exec("STOP SLAVE")
			if err := r.server.StartSQL(ctx(t)); !errors.Is(err, mysqlha.ErrPurge) {
				t.Errorf("StartSQL: %v", err)
			}
			r.real.Exec("START SLAVE SQL_THREAD")
		}, []int{1}},
		{"connecting", func(t *testing.T, r *member) {
			until(t, r, "it notices", func(f mysqlha.Facts) bool { return f.Replica.IO == "Connecting" })
			must(t, r.server.StartSQL(ctx(t)))
			must(t, r.server.StopIO(ctx(t)))
		}, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, r := pair(t, true)
			r.real.Exec("STOP SLAVE SQL_THREAD")
			must(t, p.Insert(ctx(t), 2))
			p.Kill()
			received := facts(t, r).Received
			c.by(t, r)
			if slices.Equal(c.want, []int{1, 2}) {
				must(t, r.server.WaitApplied(ctx(t), received))
			} else if got := facts(t, r).Received; got == received {
				t.Errorf("it still has %s", got)
			}
			rowsAre(t, r, c.want...)
		})
	}
}

// TestTrapSourceOnReplicaHangs: a replica that waits for acknowledgements itself applies nothing. SetSource and Follow refuse that.
func TestTrapSourceOnReplicaHangs(t *testing.T) {
	t.Parallel()
	p, r := pair(t, false)
	r.real.Exec("SET GLOBAL rpl_semi_sync_master_enabled = 1")
	must(t, p.Insert(ctx(t), 2))
	until(t, r, "what applies waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 1 && f.Received != f.Current })
	if err := r.server.Follow(ctx(t), mysqlha.Source{Name: "other", Host: "127.0.0.9", Port: 1}, false); err == nil || facts(t, r).Replica.SourcePort != p.real.Port {
		t.Errorf("follows another while it waits: %v", err)
	}
	must(t, r.server.SetSource(ctx(t), false))
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	rowsAre(t, r, 1, 2)
}

// TestTrapReadOnlyHangsBehindLockTables: and when SetReadOnly has given up it does not happen later.
func TestTrapReadOnlyHangsBehindLockTables(t *testing.T) {
	t.Parallel()
	w := &world{}
	p := w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), false))
	conn, err := p.real.Root().Conn(ctx(t))
	must(t, err)
	_, err = conn.ExecContext(ctx(t), "LOCK TABLES shop.ledger WRITE")
	must(t, err)
	short, cancel := context.WithTimeout(ctx(t), time.Second)
	defer cancel()
	if err := p.server.SetReadOnly(short, true); !errors.Is(err, mysqlha.ErrUnreachable) {
		t.Errorf("behind LOCK TABLES: %v", err)
	}
	_, err = conn.ExecContext(ctx(t), "UNLOCK TABLES")
	must(t, err)
	must(t, conn.Close())
	must(t, p.Insert(ctx(t), 1))
	if facts(t, p).ReadOnly {
		t.Error("it became read-only when nobody waited for that any more")
	}
}

// TestTrapReadOnlyGivenUpBehindWaiter: as above, behind a client that waits for acknowledgement. It is Observe that shows why.
func TestTrapReadOnlyGivenUpBehindWaiter(t *testing.T) {
	t.Parallel()
	p, r, done := waiter(t)
	short, cancel := context.WithTimeout(ctx(t), time.Second)
	defer cancel()
	if err := p.server.SetReadOnly(short, true); !errors.Is(err, mysqlha.ErrUnreachable) {
		t.Errorf("behind a client that waits: %v", err)
	}
	must(t, r.server.Start(ctx(t)))
	must(t, <-done)
	must(t, p.Insert(ctx(t), 3))
	if facts(t, p).ReadOnly {
		t.Error("it became read-only when nobody waited for that any more")
	}
}

// TestTrapKillOfWaiterCommits: KILL of a client that waits for acknowledgement commits its transaction, here and nowhere else.
func TestTrapKillOfWaiterCommits(t *testing.T) {
	t.Parallel()
	p, r, done := waiter(t)
	if _, err := p.server.EndClients(ctx(t)); err != nil {
		t.Error(err)
	}
	<-done
	until(t, p, "nobody waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 0 })
	rowsAre(t, p, 1, 2)
	rowsAre(t, r, 1)
}

// TestTrapSwitchingOffAcknowledges: whoever waits is told that all is well when semi-sync is switched off, which SetSource refuses while the server takes writes.
func TestTrapSwitchingOffAcknowledges(t *testing.T) {
	t.Parallel()
	p, r, done := waiter(t)
	if err := p.server.SetSource(ctx(t), false); !errors.Is(err, mysqlha.ErrUnfit) {
		t.Errorf("switching off: %v", err)
	}
	p.real.Exec("SET GLOBAL rpl_semi_sync_master_enabled = 0")
	if err := <-done; err != nil {
		t.Errorf("the client is told %v", err)
	}
	rowsAre(t, r, 1)
}

// TestTrapOrderlyStopCommits: after SIGTERM what nobody had acknowledged is there, whatever role the server is started in.
func TestTrapOrderlyStopCommits(t *testing.T) {
	t.Parallel()
	p, r, done := waiter(t)
	p.real.Stop()
	<-done
	p.Restart(mysqlha.AsReplica)
	rowsAre(t, p, 1, 2)
	rowsAre(t, r, 1)
}

// TestTrapRoleAfterKill: after SIGKILL a server that starts as a replica truncates what nobody has acknowledged, and one that starts as the primary keeps
// it. Started as a replica it follows one that never had it.
func TestTrapRoleAfterKill(t *testing.T) {
	t.Parallel()
	for as, want := range map[mysqlha.Role][]int{mysqlha.AsReplica: {1}, mysqlha.AsPrimary: {1, 2}} {
		t.Run(string(as), func(t *testing.T) {
			t.Parallel()
			p, r, done := waiter(t)
			p.Kill()
			if err := <-done; err == nil {
				t.Error("the client was told that all is well")
			}
			p.Restart(as)
			rowsAre(t, p, want...)
			must(t, r.server.Leave(ctx(t)))
			must(t, r.server.SetReadOnly(ctx(t), false))
			must(t, r.Insert(ctx(t), 3))
			err := p.server.Follow(ctx(t), r.Source(), true)
			if as == mysqlha.AsPrimary {
				if !errors.Is(err, mysqlha.ErrMissingLog) {
					t.Errorf("with a row that the new primary never had it follows: %v", err)
				}
				return
			}
			must(t, err)
			must(t, p.server.WaitApplied(ctx(t), facts(t, r).Current))
			rowsAre(t, p, 1, 3)
		})
	}
}

// TestTrapReplicaRoleKeepsCommitted: what was acknowledged and committed stays with a server that was killed and starts as a replica.
func TestTrapReplicaRoleKeepsCommitted(t *testing.T) {
	t.Parallel()
	p, r := pair(t, true)
	must(t, p.Insert(ctx(t), 2))
	p.Kill()
	p.Restart(mysqlha.AsReplica)
	must(t, p.server.SetAcker(ctx(t), true))
	must(t, r.server.WaitApplied(ctx(t), facts(t, r).Received))
	must(t, r.server.Leave(ctx(t)))
	must(t, p.server.Follow(ctx(t), r.Source(), true))
	must(t, p.server.WaitApplied(ctx(t), facts(t, r).Current))
	rowsAre(t, p, 1, 2)
}

// TestTrapReadOnlyAdminWrites: read_only does not hold for those who have READ_ONLY ADMIN.
func TestTrapReadOnlyAdminWrites(t *testing.T) {
	t.Parallel()
	w := &world{}
	p := w.add(t)
	must(t, p.server.SetReadOnly(ctx(t), true))
	if err := p.Insert(ctx(t), 1); err == nil {
		t.Error("a client writes")
	}
	p.real.Exec("SET sql_log_bin = 0", "GRANT READ_ONLY ADMIN ON *.* TO app@'%'")
	must(t, p.Insert(ctx(t), 2))
	rowsAre(t, p, 2)
}

// TestTrapDemotion: a server that wrote asks a source for all that it wrote itself, which the source need not have any more, unless that counts as applied.
func TestTrapDemotion(t *testing.T) {
	t.Parallel()
	p, r := pair(t, false)
	must(t, r.server.Leave(ctx(t)))
	r.PurgeLogs()
	must(t, p.server.SetReadOnly(ctx(t), true))
	if err := p.server.Follow(ctx(t), r.Source(), false); !errors.Is(err, mysqlha.ErrMissingLog) {
		t.Errorf("without demotion: %v", err)
	}
	must(t, p.server.Follow(ctx(t), r.Source(), true))
	must(t, r.server.SetReadOnly(ctx(t), false))
	must(t, r.Insert(ctx(t), 2))
	must(t, p.server.WaitApplied(ctx(t), facts(t, r).Current))
	rowsAre(t, p, 1, 2)
}

// TestTrapOwnTransactionsAreSkipped: a server that has dropped what it wrote itself goes past it when it receives it from another, and says nothing: mysqlha.Forgotten finds
// that before. As one that acknowledges it takes it.
func TestTrapOwnTransactionsAreSkipped(t *testing.T) {
	t.Parallel()
	for acker, rows := range map[bool][]int{false: {1, 3}, true: {1, 2, 3}} {
		w := &world{}
		p, r := w.add(t), w.add(t)
		must(t, p.server.SetReadOnly(ctx(t), false))
		must(t, p.Insert(ctx(t), 1))
		before := facts(t, p).Current
		must(t, r.server.Follow(ctx(t), p.Source(), false))
		must(t, p.Insert(ctx(t), 2))
		must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
		must(t, r.server.Leave(ctx(t)))
		must(t, r.server.SetReadOnly(ctx(t), false))
		must(t, r.Insert(ctx(t), 3))
		// As after a start as a replica that has truncated the second.
		p.real.Exec("SET sql_log_bin=0", "DELETE FROM shop.ledger WHERE id=2", "RESET MASTER", "SET GLOBAL gtid_slave_pos='"+before+"'")
		lost, err := mysqlha.Forgotten(facts(t, p), facts(t, r))
		if err != nil || lost.Empty() {
			t.Errorf("that it would skip something is not seen: %s, %v", lost, err)
		}
		must(t, p.server.SetReadOnly(ctx(t), true))
		must(t, p.server.SetAcker(ctx(t), acker))
		must(t, p.server.Follow(ctx(t), r.Source(), false))
		must(t, p.server.WaitApplied(ctx(t), facts(t, r).Current))
		rowsAre(t, p, rows...)
		if lost, err := mysqlha.Forgotten(facts(t, p), facts(t, r)); err != nil || !lost.Empty() {
			t.Errorf("what it has come past counts as missing: %s, %v", lost, err)
		}
	}
}

// TestTrapLateStatement: a statement that a server gets late is carried out, though nobody waits for it any more: by its own clock it can tell.
func TestTrapLateStatement(t *testing.T) {
	t.Parallel()
	m := (&world{}).add(t)
	for limit, want := range map[int64]bool{1: false, math.MaxInt64: true} {
		must(t, m.server.SetAcker(ctx(t), false))
		must(t, m.server.SetReadOnly(ctx(t), true))
		m.real.Exec(mariadb.OnUntil("rpl_semi_sync_slave_enabled", limit))
		if is := facts(t, m).Semi.Acker; is != want {
			t.Errorf("until %d: it acknowledges: %t", limit, is)
		}
		m.real.Exec(mariadb.WritableUntil(limit))
		if is := !facts(t, m).ReadOnly; is != want {
			t.Errorf("until %d: it takes writes: %t", limit, is)
		}
	}
}

// A thread that is started late, when both are stopped, drops what the replica has received.
func TestTrapLateStart(t *testing.T) {
	t.Parallel()
	p, r := pair(t, false)
	r.real.Exec("STOP SLAVE SQL_THREAD")
	must(t, p.Insert(ctx(t), 2))
	want := facts(t, p).Current
	until(t, r, "it has received the row", func(f mysqlha.Facts) bool { return f.Received == want })
	must(t, r.server.StopIO(ctx(t)))
	if err := r.real.TryExec(ctx(t), mariadb.StartUntil("START SLAVE SQL_THREAD", 1)); err == nil {
		t.Error("a statement that came late is no error")
	}
	f := facts(t, r)
	if f.Replica == nil || f.Replica.SQL {
		t.Errorf("a statement that came late has started the thread: %+v", f.Replica)
	}
	must(t, r.server.Start(ctx(t)))
	must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
	rowsAre(t, r, 1, 2)
}
