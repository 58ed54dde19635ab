package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
	"hostmesh/lbd/nft"
)

// TestStartRoles: a server that died with a transaction that nobody has acknowledged keeps it as the primary, and truncates it as a replica.
func TestStartRoles(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	b.server.Exec("CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	ctx := t.Context()
	for i, as := range []mysqlha.Role{mysqlha.AsPrimary, mysqlha.AsReplica} {
		b.server.Exec("SET GLOBAL read_only=0", "SET GLOBAL rpl_semi_sync_master_enabled=1")
		row := 10 + i
		hung, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- b.server.TryExec(hung, fmt.Sprintf("INSERT INTO d.t VALUES (%d)", row)) }()
		b.server.Await("1", "SELECT COUNT(*) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS' AND VARIABLE_VALUE='1'")
		mustDo(t, b.local().Kill(ctx, order(1, 1), "it is to die with a waiter"))
		stop()
		if err := <-done; err == nil {
			t.Fatal("the write was acknowledged")
		}
		if as == mysqlha.AsPrimary { // a crash, not a fence
			mustDo(t, b.local().servers[tag].store.note(func(st *state) { st.Marked, st.Shut = "", false }))
		}
		mustDo(t, b.local().Start(ctx, order(1, 1), as))
		has := b.server.Text("SELECT COUNT(*) FROM d.t WHERE i=?", row)
		if want := map[mysqlha.Role]string{mysqlha.AsPrimary: "1", mysqlha.AsReplica: "0"}[as]; has != want {
			t.Errorf("as %s the row that nobody acknowledged is there %s times, want %s", as, has, want)
		}
		if ro := b.server.Global("READ_ONLY"); ro != "ON" {
			t.Errorf("as %s it starts with read_only %s", as, ro)
		}
	}
}

// TestCutEndsReplication: the thread that receives hears of a cut at once, from a source that is silent, too: a box that is off sends nothing.
func TestCutEndsReplication(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 2, true)
	source, replica := w.boxes[1], w.boxes[2]
	source.server.Exec("CREATE DATABASE d")
	const io = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='system user' AND STATE='Waiting for master to send event'"
	for _, silent := range []bool{false, true} {
		replica.server.Exec("STOP SLAVE", "CHANGE MASTER TO MASTER_HOST='"+source.server.Addr+"', MASTER_PORT=3306, MASTER_USER='hostmesh_repl', MASTER_PASSWORD='replica''s', "+
			"MASTER_USE_GTID=slave_pos, MASTER_HEARTBEAT_PERIOD=3600, MASTER_CONNECT_RETRY=1", "START SLAVE")
		replica.server.Await("1", io)
		if silent {
			w.net.Down(1)
		}
		began := time.Now()
		mustDo(t, replica.local().Cut(t.Context(), order(1, 1), source.source()))
		cut := time.Since(began)
		until(t, "the IO thread sees the end", func() bool { return replica.server.Text(io) == "0" })
		t.Logf("source silent %t: cut after %s, seen by the replica after %s", silent, cut, time.Since(began))
		began = time.Now()
		replica.server.Exec("STOP SLAVE IO_THREAD")
		t.Logf("source silent %t: IO thread stopped after %s", silent, time.Since(began))
		if silent {
			w.net.Up(1)
		}
		mustDo(t, replica.local().Uncut(t.Context(), order(1, 1), source.source()))
	}
}

// TestAwayDoesNotAcknowledge: a replica that is away counts as one that acknowledges until the primary's host is to hear nothing of it: then it counts no more, at
// once and when it is back, until it may again.
func TestAwayDoesNotAcknowledge(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 2, true)
	p, r := w.boxes[1], w.boxes[2]
	p.server.Exec("SET GLOBAL rpl_semi_sync_master_enabled=1")
	r.server.Exec("SET GLOBAL rpl_semi_sync_slave_enabled=1")
	r.follow(p)
	clients := "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS'"
	p.server.Await("1", clients)
	w.net.Down(2)
	if n := p.server.Text(clients); n != "1" {
		t.Fatalf("one that is away counts %s times without being cut", n)
	}
	source := r.source()
	source.Port = 0
	mustDo(t, p.local().Cut(t.Context(), order(1, 1), source))
	p.server.Await("0", clients)
	w.net.Up(2)
	const tries = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='system user' AND STATE LIKE 'Waiting to reconnect%' OR STATE LIKE 'Connecting%' OR STATE LIKE 'Reconnecting%'"
	until(t, "the replica tries again, and is refused", func() bool { return r.server.Text(tries) != "0" && !r.reaches(p) })
	if n := p.server.Text(clients); n != "0" {
		t.Fatalf("one that is back counts %s times", n)
	}
	// A write waits: nobody acknowledges.
	late, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.server.TryExec(late, "CREATE DATABASE d") }()
	p.server.Await("1", "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS'")
	mustDo(t, p.local().Uncut(t.Context(), order(1, 1), source))
	p.server.Await("1", clients)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestAddressStaysForTheNextAgent: an agent that ends in order leaves the address of a primary that serves; the next one goes on with it, or removes it when the record says so, or an order.
func TestAddressStaysForTheNextAgent(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	ctx := t.Context()
	at := b.member().VIP
	over := func(b *box) { // the record gives it to another
		b.edit = func(c *Config) {
			c.Tenure = func(Member, uint64) Tenure {
				x := newTenure()
				x.End("another is the primary")
				return x
			}
		}
	}
	quit := func(stays bool) {
		t.Helper()
		b.quit()
		if b.seg.Has(at) != stays {
			t.Fatalf("the address stays: %t, want %t", !stays, stays)
		}
	}
	gone := func(what string) {
		t.Helper()
		until(t, what, func() bool { return !b.seg.Has(at) })
	}
	mustDo(t, b.local().TakeVIP(ctx, order(1, 1)))
	for range 2 {
		quit(true)
		b.open()
		until(t, "it is held again", func() bool { return b.state().VIP == "held" })
	}
	quit(true)
	over(b)
	b.open()
	gone("the record gives it to another")
	b.close()
	b.edit = nil
	b.open()
	for what, do := range map[string]func() error{
		"Kill":        func() error { return b.local().Kill(ctx, order(2, 1), "a failover") },
		"DropVIP":     func() error { return b.local().DropVIP(ctx, order(2, 1)) },
		"HandOverVIP": func() error { return b.local().HandOverVIP(ctx, order(2, 1)) },
	} {
		mustDo(t, b.local().Start(ctx, order(2, 1), mysqlha.AsReplica))
		mustDo(t, b.local().TakeVIP(ctx, order(2, 1)))
		quit(true)
		b.edit = func(c *Config) { c.Look = time.Hour } // it does not take it by itself before the order
		b.open()
		mustDo(t, do())
		gone(what)
		b.close()
		b.edit = nil
		b.open()
	}
	// Without a server, on a machine that goes down, or when a change is under way it goes at once.
	mustDo(t, b.local().Start(ctx, order(3, 1), mysqlha.AsReplica))
	for what, edit := range map[string]func(c *Config){
		"the machine goes down": func(c *Config) { c.Halting = func(context.Context) bool { return true } },
		"a change is under way": func(c *Config) { c.Tenure = func(Member, uint64) Tenure { return unsettled{newTenure()} } },
	} {
		b.close()
		b.edit = edit
		b.open()
		mustDo(t, b.local().TakeVIP(ctx, order(3, 1)))
		t.Log(what)
		quit(false)
	}
	b.edit = nil
	b.open()
	mustDo(t, b.local().TakeVIP(ctx, order(3, 1)))
	b.die()
	until(t, "the death is known", func() bool { return b.state().Process == mysqlha.ProcessDied })
	quit(false)
}

// unsettled is a tenure while the record has a change.
type unsettled struct{ *tenure }

func (unsettled) Settled() bool { return false }

// TestAgentSeesWhatItsHostIsCutFrom: the connections of an agent to a database server are not cut with those of its host.
func TestAgentSeesWhatItsHostIsCutFrom(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	at := netip.AddrPortFrom(netip.MustParseAddr(b.server.Addr), uint16(b.server.Port))
	s, err := mariadb.Open(mariadb.DefaultConfig(at.Addr(), b.server.Port, b.server.Accounts))
	mustDo(t, err)
	defer s.Close()
	if _, err := s.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	x, err := nft.OpenCuts("hostmesh_mysql_agent", slog.New(slog.DiscardHandler))
	mustDo(t, err)
	defer func() { mustDo(t, x.Apply(nft.Cutting{})) }()
	mustDo(t, x.Apply(nft.Cutting{From: []netip.AddrPort{at}, Spare: mysqlha.SocketMark}))
	if b.served() {
		t.Error("a client of this host reaches the server")
	}
	if _, err := s.Observe(t.Context()); err != nil {
		t.Errorf("the agent's connection: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("a new one: %v", err)
	}
	mustDo(t, x.Apply(nft.Cutting{From: []netip.AddrPort{at}}))
	if err := s.Ping(t.Context()); !errors.Is(err, mysqlha.ErrUnreachable) {
		t.Errorf("with nothing spared: %v", err)
	}
}

// TestFence: clients elsewhere hear of a kill at once, those who come are refused, and what starts the server all the same has no success.
func TestFence(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	c, err := net.Dial("tcp", net.JoinHostPort(b.server.Addr, "3306"))
	mustDo(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mustDo(t, b.local().Kill(t.Context(), order(1, 1), "a failover"))
	killed := time.Since(began)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a client sees %v, want a reset", err)
	}
	t.Logf("killed after %s, seen by a client after %s", killed, time.Since(began))
	_, err = net.DialTimeout("tcp", net.JoinHostPort(b.server.Addr, "3306"), time.Minute)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a client that comes: %v, want a refusal", err)
	}
	<-b.server.Ended() // its parent, which is the test, hears of it later than the agent
	b.server.Launch()
	<-b.server.Ended()
	if s := b.state(); s.Marked == "" || s.Process == mysqlha.ProcessDied {
		t.Errorf("it stands as %+v", s)
	}
	if b.served() {
		t.Error("it serves")
	}
}

// TestKilledHandsOver: the address of a server that was killed stays, where all is refused, until the next one has it.
func TestKilledHandsOver(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 2, true)
	a, b := w.boxes[1], w.boxes[2]
	addr := a.member().VIP
	mustDo(t, a.local().TakeVIP(t.Context(), order(1, 1)))
	began := time.Now()
	mustDo(t, a.local().Kill(t.Context(), order(2, 1), "a failover"))
	if !a.seg.Has(addr) && time.Since(began) < time.Second { // it has two
		t.Error("nobody has the address, and nobody refuses those who come")
	}
	if a.served() {
		t.Error("the port is open")
	}
	mustDo(t, b.local().TakeVIP(t.Context(), order(2, 1)))
	until(t, "the address goes from the first", func() bool { return !a.seg.Has(addr) })
	if !b.seg.Has(addr) {
		t.Error("the second lost it")
	}
}

// TestDeathIsTold: agents hear of a death, whichever of them saw the server begin; SIGSTOP is none.
func TestDeathIsTold(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	until(t, "the primary is reported", func() bool {
		r := b.last()
		return r.Process == "running" && r.Role == "primary" && r.Reads && r.Port == 3306
	})
	b.reopen()
	b.server.Freeze()
	time.Sleep(50 * time.Millisecond) // it has its chance to be wrong
	if s := b.state(); s.Process != mysqlha.ProcessRuns {
		t.Errorf("a stopped process stands as %+v", s)
	}
	b.server.Thaw()
	var took []time.Duration
	for range 5 {
		until(t, "it is reported to run", func() bool { return b.last().Process == "running" })
		began := time.Now()
		b.die()
		until(t, "the death is reported", func() bool { return b.last().Process == "died" })
		took = append(took, time.Since(began))
		mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsPrimary))
	}
	t.Logf("from kill -9 to the report: %s", took)
	if r := b.last(); r.Epoch != 1 {
		t.Errorf("the report is %+v", r)
	}
	mustDo(t, b.local().Stop(t.Context(), order(1, 1)))
	until(t, "the stop is reported", func() bool { return b.last().Process == "stopped" && b.last().Role == "" })
}

// TestStartFails: a server that does not come up is told with the reason from its log; and the next start, of a file that is right, works.
func TestStartFails(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, false)
	b := w.boxes[1]
	mustDo(t, b.local().Stop(t.Context(), order(1, 1)))
	good, err := os.ReadFile(b.server.Config)
	mustDo(t, err)
	mustDo(t, os.WriteFile(b.server.Config, append(good, "no_such_variable=1\n"...), 0o600))
	err = b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica)
	if !errors.Is(err, ErrNotServing) || !strings.Contains(err.Error(), "no_such_variable") {
		t.Errorf("a start with a bad file: %v", err)
	}
	mustDo(t, os.WriteFile(b.server.Config, good, 0o600))
	mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))

	mustDo(t, b.local().Stop(t.Context(), order(1, 1)))
	m := b.member()
	for what, start := range map[string][]string{
		"does not exist":       {"/nowhere/mariadbd"},
		"is no server":         {"/bin/false"},
		"does nothing for now": {"/bin/sleep", "0.01"},
	} {
		m.Server.Start = start
		mustDo(t, b.local().Apply([]Member{m}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := b.local().Start(ctx, order(1, 1), mysqlha.AsReplica); !errors.Is(err, ErrNotServing) {
			t.Errorf("a program that %s: %v", what, err)
		}
		cancel()
	}
}

// TestHandsOver: a command that has another one start the server, as systemd-run does, is right, too; and the server outlives it.
func TestHandsOver(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, false)
	b := w.boxes[1]
	mustDo(t, b.local().Stop(t.Context(), order(1, 1)))
	script := filepath.Join(t.TempDir(), "start")
	mustDo(t, os.WriteFile(script, []byte("#!/bin/sh\nsetsid \"$@\" >/dev/null 2>&1 &\n"), 0o700))
	m := b.member()
	m.Server.Start = append([]string{script}, m.Server.Start...)
	mustDo(t, b.local().Apply([]Member{m}))
	mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
	pid := b.state().PID
	if s := b.state(); s.Rejoined != 1 {
		t.Errorf("who started it is not known: %+v", s)
	}
	b.die()
	until(t, "the death of what is no child is told", func() bool { return b.state().Process == mysqlha.ProcessDied })
	if pid == 0 {
		t.Error("no process")
	}
}

// TestDamagedFile: nothing is done while nobody knows what was promised, and the error says how to go on.
func TestDamagedFile(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, false)
	b := w.boxes[1]
	mustDo(t, b.local().Cut(t.Context(), order(3, 3), mysqlha.Source{Host: "10.78.0.77", Port: 3306}))
	file := filepath.Join(b.dir, tag+".json")
	good, err := os.ReadFile(file)
	mustDo(t, err)
	for what, text := range map[string]string{
		"half": string(good[:len(good)/2]), "empty": "", "of the future": strings.Replace(string(good), `"format":1`, `"format":2`, 1), "of another": strings.Replace(string(good), tag, "other", 1),
	} {
		b.close()
		mustDo(t, os.WriteFile(file, []byte(text), 0o600))
		b.open()
		for order, err := range map[string]error{
			"Kill": b.local().Kill(t.Context(), order(9, 9), "test"), "Start": b.local().Start(t.Context(), order(9, 9), mysqlha.AsReplica), "Uncut": b.local().Uncut(t.Context(), order(9, 9), b.source()),
		} {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), file) {
				t.Errorf("a file that is %s: %s: %v", what, order, err)
			}
		}
		if s := b.state(); s.Process != mysqlha.ProcessRuns || !strings.Contains(s.Marked, file) {
			t.Errorf("a file that is %s: %+v", what, s)
		}
		if now, _ := os.ReadFile(file); string(now) != text {
			t.Errorf("a file that is %s was written to", what)
		}
		if err := inSpace(b.name(), func() error {
			_, err := net.DialTimeout("tcp", "10.78.0.77:3306", time.Minute)
			return err
		}); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a file that is %s: what was cut is not any more: %v", what, err)
		}
	}
	b.close()
	mustDo(t, os.Remove(file))
	b.open()
	mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
}

// TestDiskFails: a fence is carried out although it cannot be written down, and that is told; what gives something back is not done.
func TestDiskFails(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	mustDo(t, b.local().Cut(t.Context(), order(1, 1), mysqlha.Source{Host: "10.78.0.77", Port: 3306}))
	moved := b.dir + ".away"
	mustDo(t, os.Rename(b.dir, moved))
	ctx := t.Context()
	if err := b.local().Uncut(ctx, order(1, 1), mysqlha.Source{Host: "10.78.0.77", Port: 3306}); err == nil || len(b.state().CutFrom) != 1 {
		t.Errorf("uncut: %v, %+v", err, b.state())
	}
	if err := b.local().Kill(ctx, order(1, 1), "a failover"); err == nil {
		t.Error("Kill says nothing of the disk")
	}
	if s := b.state(); s.Process != mysqlha.ProcessStopped || s.Marked == "" || b.served() {
		t.Errorf("after Kill: %+v", s)
	}
	if err := b.local().Start(ctx, order(1, 1), mysqlha.AsPrimary); !errors.Is(err, mysqlha.ErrMarked) {
		t.Errorf("Start: %v", err)
	}
	mustDo(t, os.Rename(moved, b.dir))
	mustDo(t, b.local().Kill(ctx, order(1, 1), "a failover"))
	b.reopen()
	if s := b.state(); s.Marked == "" {
		t.Errorf("after a restart: %+v", s)
	}
}
