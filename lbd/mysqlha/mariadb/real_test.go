package mariadb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestFull has a server that is full to its clients, and then to us as well.
func TestFull(t *testing.T) {
	t.Parallel()
	w := &world{options: mariadbtest.Options{Settings: []string{"max-connections=10"}}}
	m := w.add(t)
	facts(t, m)
	m.Fill()
	// One connection more is for those with CONNECTION ADMIN; one that was just refused may still be counted.
	for limit := time.Now().Add(mariadbtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		err := m.server.Ping(ctx(t))
		if err == nil {
			break
		}
		if !errors.Is(err, mysqlha.ErrSaturated) || time.Now().After(limit) {
			t.Fatalf("ping: %v", err)
		}
	}
	held := make(chan error, 1)
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	go func() {
		for {
			// The one of Ping may not be free yet.
			if err := m.server.Hold(c); !errors.Is(err, mysqlha.ErrSaturated) {
				held <- err
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	until(t, m, "ours is taken", func(f mysqlha.Facts) bool { return f.Connections > f.MaxConnections })
	other := open(t, m.real, m.real.Accounts)
	// It may have been one that looks which was counted, and not that which holds, which tries again.
	for limit := time.Now().Add(mariadbtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		err := other.Ping(ctx(t))
		if errors.Is(err, mysqlha.ErrSaturated) {
			break
		}
		if err != nil || time.Now().After(limit) {
			t.Fatalf("ping: %v", err)
		}
	}
	if _, err := other.Observe(ctx(t)); !errors.Is(err, mysqlha.ErrSaturated) {
		t.Errorf("observe: %v", err)
	}
	until(t, m, "clients are counted", func(f mysqlha.Facts) bool { return f.Clients >= 9 && f.MaxConnections == 10 })
	if n, err := m.server.EndClients(ctx(t)); !errors.Is(err, mysqlha.ErrSaturated) && (err != nil || n < 9) {
		t.Errorf("clients end: %d, %v", n, err)
	}
	cancel()
	if err := <-held; err != nil {
		t.Errorf("hold: %v", err)
	}
}

// TestHoldOutlivesKillOfItsStatement: somebody who ends a statement that takes long is no death of the server.
func TestHoldOutlivesKillOfItsStatement(t *testing.T) {
	t.Parallel()
	w := &world{}
	m := w.add(t)
	const holds = "SELECT COALESCE(MAX(ID), 0) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP%'"
	held := make(chan error, 1)
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	go func() { held <- m.server.Hold(c) }()
	for limit := time.Now().Add(mariadbtest.Patience); m.real.Text(holds) == "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not hold")
		}
	}
	m.real.Exec("KILL QUERY "+m.real.Text(holds), "SET GLOBAL max_statement_time = 0.05")
	select {
	case err := <-held:
		t.Errorf("it ended with %v", err)
	case <-time.After(500 * time.Millisecond): // only to give an error the time to show
	}
	m.real.Exec("SET GLOBAL max_statement_time = 0")
	for limit := time.Now().Add(mariadbtest.Patience); m.real.Text(holds) == "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not hold again")
		}
	}
	m.real.Stop()
	if err := <-held; !errors.Is(err, mysqlha.ErrUnreachable) {
		t.Errorf("it was stopped in order: %v", err)
	}
}

// TestFrozenLeavesNothingBehind: calls that end with their context while the server is stopped leave no goroutine and no connection.
func TestFrozenLeavesNothingBehind(t *testing.T) {
	w := &world{}
	m := w.add(t)
	facts(t, m)
	before := runtime.NumGoroutine()
	m.Freeze()
	for range 5 {
		for name, call := range map[string]func(context.Context) error{
			"observe": func(c context.Context) error { _, err := m.server.Observe(c); return err },
			"ping":    m.server.Ping,
			"wait":    func(c context.Context) error { return m.server.WaitApplied(c, "0-1-99") },
			"leave":   m.server.Leave,
			"sums":    func(c context.Context) error { _, err := m.server.Checksum(c, nil, 1); return err },
		} {
			c, cancel := context.WithTimeout(ctx(t), 50*time.Millisecond)
			if err := call(c); !errors.Is(err, mysqlha.ErrUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
	}
	m.Thaw()
	for limit := time.Now().Add(mariadbtest.Patience); ; time.Sleep(50 * time.Millisecond) {
		// One kept connection at most, with its watcher, and what a pool has.
		if now := runtime.NumGoroutine(); now <= before+4 {
			break
		}
		if time.Now().After(limit) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d now:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
	facts(t, m)
}

// TestMisled has servers that cannot be led as they are, each of which says why.
func TestMisled(t *testing.T) {
	t.Parallel()
	t.Run("binary log off", func(t *testing.T) {
		t.Parallel()
		m := (&world{options: mariadbtest.Options{Settings: []string{"skip-log-bin"}}}).add(t)
		if f := facts(t, m); f.Settings["log_bin"] != "OFF" || f.Binlog != "" {
			t.Errorf("log_bin is %q, positions are %q", f.Settings["log_bin"], f.Binlog)
		}
	})
	t.Run("no GTID", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		p, r := w.add(t), w.add(t)
		r.real.Exec(fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='hostmesh_repl', MASTER_PASSWORD='replica''s', MASTER_USE_GTID=no", p.real.Port), "START SLAVE")
		until(t, r, "it follows", func(f mysqlha.Facts) bool { return f.Replica != nil && f.Replica.IO == "Yes" && !f.Replica.UsesGTID })
		// Without GTIDs the trap is none: the relay log stays.
		r.real.Exec("STOP SLAVE")
		must(t, r.server.StartSQL(ctx(t)))
		must(t, r.server.Follow(ctx(t), p.Source(), false))
		if f := facts(t, r); !f.Replica.UsesGTID {
			t.Errorf("it follows as before: %+v", f.Replica)
		}
	})
	t.Run("two sources", func(t *testing.T) {
		t.Parallel()
		m := (&world{}).add(t)
		m.real.Exec("CHANGE MASTER 'other' TO MASTER_HOST='127.0.0.1', MASTER_USER='x', MASTER_PASSWORD='y'")
		if _, err := m.server.Observe(ctx(t)); !errors.Is(err, mysqlha.ErrFlavour) || !strings.Contains(err.Error(), `"other"`) {
			t.Errorf("observe: %v", err)
		}
	})
	t.Run("Galera", func(t *testing.T) {
		t.Parallel()
		s := mariadbtest.Start(t, mariadbtest.Options{Settings: []string{
			"wsrep-on=ON", "wsrep-provider=/usr/lib/galera/libgalera_smm.so", "wsrep-cluster-address=gcomm://", "wsrep-node-address=127.0.0.1", "wsrep-sst-method=rsync",
			fmt.Sprintf("wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr=127.0.0.1:%d;gcache.size=4M", freePort(t), freePort(t)), "default-storage-engine=InnoDB", "innodb-autoinc-lock-mode=2",
		}})
		if _, err := open(t, s, s.Accounts).Observe(ctx(t)); !errors.Is(err, mysqlha.ErrFlavour) || !strings.Contains(err.Error(), "Galera") {
			t.Errorf("observe: %v", err)
		}
	})
	t.Run("wrong password of replicas", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		p, r := w.add(t), w.add(t)
		f := r.real.Accounts
		f.Replication.Password = credentials.NewSecret("wrong")
		err := open(t, r.real, f).Follow(ctx(t), p.Source(), false)
		if !errors.Is(err, mysqlha.ErrDenied) || strings.Contains(err.Error(), "'wrong'") {
			t.Errorf("follow: %v", err)
		}
	})
	t.Run("source away", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		p, r := w.add(t), w.add(t)
		p.Kill()
		if err := r.server.Follow(ctx(t), p.Source(), false); !errors.Is(err, mysqlha.ErrUnreachable) || !strings.Contains(err.Error(), "source") {
			t.Errorf("follow: %v", err)
		}
		p.Restart(mysqlha.AsPrimary)
		until(t, r, "it goes on trying", func(f mysqlha.Facts) bool { return f.Replica.IO == "Yes" })
	})
	t.Run("itself", func(t *testing.T) {
		t.Parallel()
		m := (&world{}).add(t)
		if err := m.server.Follow(ctx(t), m.Source(), true); err == nil || !strings.Contains(err.Error(), "itself") || facts(t, m).Replica != nil {
			t.Errorf("follow: %v", err)
		}
	})
	t.Run("one id for two", func(t *testing.T) {
		t.Parallel()
		p, r := (&world{}).add(t), (&world{}).add(t)
		if err := r.server.Follow(ctx(t), p.Source(), false); !errors.Is(err, mysqlha.ErrMissingLog) || !strings.Contains(err.Error(), "server id") {
			t.Errorf("follow: %v", err)
		}
	})
}

// TestBrokenReplicaIsSeen: what cannot be applied is in the facts, and waits end with it.
func TestBrokenReplicaIsSeen(t *testing.T) {
	t.Parallel()
	p, r := pair(t, false)
	r.real.Exec("SET sql_log_bin = 0", "INSERT INTO shop.ledger VALUES (2, 'errant', 0)")
	must(t, p.Insert(ctx(t), 2))
	until(t, r, "it breaks", func(f mysqlha.Facts) bool {
		return f.Replica.SQLErrno == 1062 && !f.Replica.SQL && f.Replica.SQLError != "" && f.Replica.Lag == nil
	})
	err := r.server.WaitApplied(ctx(t), facts(t, p).Current)
	if err == nil || !strings.Contains(err.Error(), "Duplicate entry") || errors.Is(err, mysqlha.ErrUnreachable) && !strings.Contains(err.Error(), "stopped") {
		t.Errorf("wait: %v", err)
	}
}

// TestTLS has accounts that are let in by TLS alone, replicas among them.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := &world{options: mariadbtest.Options{TLS: true}}
	p := w.add(t)
	must(t, p.server.Ping(ctx(t)))
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, p.Insert(ctx(t), 1))
	if got := p.real.Text("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'hostmesh'"); got == "0" {
		t.Error("no connection of ours")
	}
	with := func(f credentials.File, change func(*credentials.TLS)) credentials.File {
		tls := *f.TLS
		change(&tls)
		f.TLS = &tls
		return f
	}
	other := w.add(t)
	for name, c := range map[string]struct {
		f     credentials.File
		to    *member
		lets  bool
		error error
	}{
		"authority alone":   {with(p.real.Accounts, func(x *credentials.TLS) { x.Verify = credentials.VerifyCA }), p, true, nil},
		"another authority": {with(p.real.Accounts, func(x *credentials.TLS) { x.CA = other.real.Accounts.TLS.CA }), p, false, mysqlha.ErrDenied},
		"another authority, authority alone": {with(p.real.Accounts, func(x *credentials.TLS) {
			x.CA, x.Verify = other.real.Accounts.TLS.CA, credentials.VerifyCA
		}), p, false, mysqlha.ErrDenied},
		"no TLS": {func() credentials.File { f := p.real.Accounts; f.TLS = nil; return f }(), p, false, mysqlha.ErrDenied},
	} {
		err := open(t, c.to.real, c.f).Ping(ctx(t))
		if (err == nil) != c.lets || c.error != nil && !errors.Is(err, c.error) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// By another address of the same server: its certificate is not for that.
	wild := mariadbtest.Start(t, mariadbtest.Options{ID: 9, TLS: true, Settings: []string{"bind-address=0.0.0.0"}})
	config := func(addr, verify string) mariadb.Config {
		return mariadb.DefaultConfig(netip.MustParseAddr(addr), wild.Port, with(wild.Accounts, func(x *credentials.TLS) { x.Verify = verify }))
	}
	for _, c := range []struct {
		addr, verify string
		lets         bool
	}{{"127.0.0.1", credentials.VerifyIdentity, true}, {"127.0.0.2", credentials.VerifyIdentity, false}, {"127.0.0.2", credentials.VerifyCA, true}} {
		s, err := mariadb.Open(config(c.addr, c.verify))
		must(t, err)
		if err := s.Ping(ctx(t)); (err == nil) != c.lets || err != nil && !errors.Is(err, mysqlha.ErrDenied) {
			t.Errorf("%s, %s: %v", c.addr, c.verify, err)
		}
		must(t, s.Close())
	}
	// A server that cannot: TLS is never left out.
	plain := (&world{}).add(t)
	if err := open(t, plain.real, p.real.Accounts).Ping(ctx(t)); !errors.Is(err, mysqlha.ErrDenied) {
		t.Errorf("a server without TLS: %v", err)
	}
	// The replica checks its source against the authority in the file.
	follower := open(t, other.real, with(p.real.Accounts, func(x *credentials.TLS) {}))
	if err := follower.Ping(ctx(t)); err == nil {
		t.Error("it has another authority")
	}
}

// TestFollowsOverTLS has a replica check who its source is.
func TestFollowsOverTLS(t *testing.T) {
	t.Parallel()
	p := (&world{options: mariadbtest.Options{TLS: true}}).add(t)
	f := p.real.Accounts
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, p.Insert(ctx(t), 1))
	for _, verify := range []string{credentials.VerifyCA, credentials.VerifyIdentity} {
		tls := *f.TLS
		tls.Verify = verify
		f.TLS = &tls
		// A replica that has a certificate of the same authority.
		o := mariadbtest.Options{ID: 2, Accounts: f, Settings: []string{
			"ssl-ca=" + p.real.Dir + "/ca.pem", "ssl-cert=" + p.real.Dir + "/server.pem", "ssl-key=" + p.real.Dir + "/server.key",
		}}
		r := newMember(t, mariadbtest.Start(t, o))
		must(t, r.server.Follow(ctx(t), p.Source(), false))
		must(t, r.server.WaitApplied(ctx(t), facts(t, p).Current))
		rowsAre(t, r, 1)
		if got := p.real.Text("SELECT @@global.require_secure_transport"); got == "" {
			t.Error("no answer")
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// TestSilentSource has a source whose link goes down: nobody is told. What a replica shows of that, and all that it is asked to do then, is what detection
// and failover are made of.
func TestSilentSource(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	b := mariadbtest.NewBoxes(t, 2)
	p, r := newMember(t, b.Start(1, mariadbtest.Options{})), newMember(t, b.Start(2, mariadbtest.Options{}))
	must(t, p.server.SetReadOnly(ctx(t), false))
	must(t, p.Insert(ctx(t), 1))
	must(t, r.server.SetAcker(ctx(t), true))
	must(t, r.server.Follow(ctx(t), p.Source(), false))
	beats := facts(t, r).Replica.Heartbeats
	until(t, r, "heartbeats arrive", func(f mysqlha.Facts) bool { return f.Replica.Heartbeats > beats+1 })
	facts(t, p)
	b.Down(1)
	short, cancel := context.WithTimeout(ctx(t), 300*time.Millisecond)
	defer cancel()
	if _, err := p.server.Observe(short); !errors.Is(err, mysqlha.ErrUnreachable) {
		t.Errorf("observe: %v", err)
	}
	frozen := facts(t, r)
	time.Sleep(time.Second) // four heartbeats, which do not come
	if now := facts(t, r); now.Replica.IO != "Yes" || now.Replica.Heartbeats != frozen.Replica.Heartbeats || now.Replica.Position != frozen.Replica.Position {
		t.Errorf("of a source that is silent the replica says %+v, before that %+v", now.Replica, frozen.Replica)
	}
	// All that a failover asks of it ends, though the source is not there to answer.
	must(t, r.server.StopIO(ctx(t)))
	must(t, r.server.StartSQL(ctx(t)))
	must(t, r.server.WaitApplied(ctx(t), facts(t, r).Received))
	must(t, r.server.Leave(ctx(t)))
	must(t, r.server.SetReadOnly(ctx(t), false))
	must(t, r.Insert(ctx(t), 2))
	b.Up(1)
	until(t, p, "it is back", func(mysqlha.Facts) bool { return true })
	must(t, p.server.Follow(ctx(t), r.Source(), true))
	must(t, p.server.WaitApplied(ctx(t), facts(t, r).Current))
	rowsAre(t, p, 1, 2)
}

func TestApply(t *testing.T) {
	t.Parallel()
	m := (&world{options: mariadbtest.Options{Settings: []string{"sync-binlog=0", "gtid-strict-mode=0", "innodb-flush-log-at-trx-commit=2"}}}).add(t)
	restart, err := m.server.Apply(ctx(t), []mysqlha.Setting{
		{Name: "sync_binlog", Want: "1"}, {Name: "gtid_strict_mode", Want: "ON"}, {Name: "innodb_flush_log_at_trx_commit", Want: "1"}, {Name: "log_bin", Want: "ON"},
		{Name: "skip_name_resolve", Want: "ON", Restart: true}, {Name: "MASTER_USE_GTID", Want: "slave_pos"},
		{Name: "no_such_variable", Want: "1"}, {Name: "x = 1; DROP DATABASE shop", Want: "1"}, {Name: "binlog_format", Want: `it's \'; no format`},
		{Name: "slave_net_timeout", Want: "17"},
	})
	var names []string
	for _, r := range restart {
		names = append(names, r.Name)
	}
	if got, want := strings.Join(names, " "), "innodb_flush_log_at_trx_commit log_bin skip_name_resolve MASTER_USE_GTID"; got != want {
		t.Errorf("for the file: %s, and not %s", got, want)
	}
	for _, want := range []string{"no_such_variable", "names no variable", "binlog_format"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	f := facts(t, m)
	if f.Settings["sync_binlog"] != "1" || f.Settings["gtid_strict_mode"] != "ON" || f.Settings["slave_net_timeout"] != "17" || f.Settings["binlog_format"] != "ROW" {
		t.Errorf("settings are %v", f.Settings)
	}
}

// TestPasswordsOfAllKinds has a server take each password as it is.
func TestPasswordsOfAllKinds(t *testing.T) {
	t.Parallel()
	w := &world{}
	for i, password := range []string{`\`, `\'; DROP USER root; -- `, `''''`, `"` + "`" + `$(id)%s`, "pässwörd – 密码", strings.Repeat("x", 60)} {
		f := mariadbtest.Accounts()
		f.Admin.Password, f.Replication.Password = credentials.NewSecret(password), credentials.NewSecret(password)
		w.options.Accounts = f
		if i < 2 {
			p, r := w.add(t), w.add(t)
			must(t, r.server.Follow(ctx(t), p.Source(), false))
			continue
		}
		must(t, w.add(t).server.Ping(ctx(t)))
	}
}

// TestHistoryOfACopy: the log of a server that has none yet can be told what is in its data, by our account, and remembers it.
func TestHistoryOfACopy(t *testing.T) {
	t.Parallel()
	w := &world{}
	m := w.add(t)
	m.real.Exec("RESET MASTER")
	want := "0-1-100,0-2-40"
	if file, err := m.server.Apply(ctx(t), []mysqlha.Setting{{Name: "gtid_binlog_state", Want: want}}); err != nil || len(file) > 0 {
		t.Fatalf("%v, %v", file, err)
	}
	m.real.Kill()
	m.real.Restart("--read-only=1")
	until(t, m, "it remembers", func(f mysqlha.Facts) bool { return f.Binlog == want })
}
