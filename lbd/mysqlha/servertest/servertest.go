// Package servertest is the contract of mysqlha.Server as tests: Run. Whoever makes Servers, of real ones or not, passes them, so that what is
// tried on a fake world holds in a real one.
//
// It leaves to others what servers are: a World makes them.
package servertest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
)

// World makes servers that know nothing of each other.
type World interface {
	// Add makes a server that runs, is read-only, follows nobody and has no rows.
	Add(t *testing.T) Member
}

// Member is one server. Its methods fail the test when they cannot do what they say.
type Member interface {
	// Server speaks to it; Denied does so with a wrong password. Both are closed by the world.
	Server() mysqlha.Server
	Denied() mysqlha.Server
	// Source is for those who follow it.
	Source() mysqlha.Source
	// Kill ends the process as SIGKILL does, and Restart starts it in a role, as an agent would. Freeze stops it as SIGSTOP does.
	Kill()
	Restart(as mysqlha.Role)
	Freeze()
	Thaw()
	// Insert writes a row as a client that may not write while the server is read-only, in one transaction: nil = acknowledged. Rows are
	// those that a client reads, sorted.
	Insert(ctx context.Context, id int) error
	Rows(ctx context.Context) ([]int, error)
	// Client keeps a connection as a client does, and says whether it is still there.
	Client() (alive func() bool)
	// Fill takes all connections that clients may have, until it is undone.
	Fill() (undo func())
	// PurgeLogs has the binary log forget all that was written.
	PurgeLogs()
}

// patience bounds waits for what must happen. It is no measure.
const patience = 60 * time.Second

// Run runs the tests, each in a world of its own.
func Run(t *testing.T, world func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"AloneAndReadOnly":          alone,
		"KilledAndBack":             killed,
		"HeldUntilItDies":           held,
		"FrozenEndsWithContext":     frozen,
		"FollowsByGTID":             follows,
		"AcknowledgedIsOnTheAcker":  acknowledged,
		"ReadOnlyHangsBehindWaiter": hangs,
		"OpensWhenItWaits":          opens,
		"AcknowledgesInTime":        inTime,
		"PurgeTrap":                 purgeTrap,
		"Failover":                  failover,
		"OldPrimaryWithMore":        errant,
		"MissingLog":                missingLog,
		"Saturated":                 saturated,
		"Denied":                    denied,
		"ClientsEnd":                clientsEnd,
		"RolesExclude":              rolesExclude,
		"Checksums":                 checksums,
		"FollowsUntil":              followsUntil,
		"TakesBackItsOwn":           takesBack,
		"Closed":                    closed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, world(t))
		})
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// soon is a context that ends while a server does not answer.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v; expected an error that is %q", what, err, want)
	}
}

func facts(t *testing.T, m Member) mysqlha.Facts {
	t.Helper()
	f, err := m.Server().Observe(within(t))
	must(t, err)
	return f
}

// until observes a server until that is as it must be.
func until(t *testing.T, m Member, what string, ok func(mysqlha.Facts) bool) mysqlha.Facts {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		f := facts(t, m)
		if ok(f) {
			return f
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s: %+v, replica %+v", what, patience, f, f.Replica)
		}
	}
}

func hasRows(t *testing.T, m Member, want ...int) {
	t.Helper()
	var got []int
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var err error
		got, err = m.Rows(within(t))
		must(t, err)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("rows are %v, and not %v, after %s", got, want, patience)
		}
	}
}

// opened is a server that takes writes, the first of which it has.
func opened(t *testing.T, w World) Member {
	t.Helper()
	m := w.Add(t)
	must(t, m.Server().SetReadOnly(within(t), false))
	must(t, m.Insert(within(t), 1))
	return m
}

// following is a replica of m that has all of its rows.
func following(t *testing.T, w World, m Member) Member {
	t.Helper()
	r := w.Add(t)
	must(t, r.Server().SetAcker(within(t), true))
	must(t, r.Server().Follow(within(t), m.Source(), false))
	must(t, r.Server().WaitApplied(within(t), facts(t, m).Current))
	return r
}

// cluster is a primary that waits for n replicas, all of which acknowledge, and they.
func cluster(t *testing.T, w World, n int) (Member, []Member) {
	t.Helper()
	p := opened(t, w)
	var replicas []Member
	for range n {
		replicas = append(replicas, following(t, w, p))
	}
	must(t, p.Server().SetSource(within(t), true))
	until(t, p, "all acknowledge", func(f mysqlha.Facts) bool { return f.Semi.Source && f.Semi.Active && f.Semi.Clients == n })
	return p, replicas
}

func alone(t *testing.T, w World) {
	m := w.Add(t)
	f := facts(t, m)
	if f.Version == "" || f.Flavour == "" || f.ServerID == 0 || f.MaxConnections == 0 || f.Connections == 0 || !f.ReadOnly || f.Replica != nil || f.Received != "" ||
		f.Semi.Source || f.Semi.Acker || f.Settings["log_bin"] == "" {
		t.Errorf("facts are %+v", f)
	}
	if again := facts(t, m); f.Began.IsZero() || !again.Began.Equal(f.Began) {
		t.Errorf("it began at %s, and then at %s", f.Began, again.Began)
	}
	if err := m.Insert(within(t), 1); err == nil {
		t.Error("a client writes while it is read-only")
	}
	for range 2 {
		must(t, m.Server().SetReadOnly(within(t), false))
	}
	must(t, m.Insert(within(t), 1))
	if f := facts(t, m); f.ReadOnly || f.Current == "" || f.Binlog == "" {
		t.Errorf("after a write facts are %+v", f)
	}
	for range 2 {
		must(t, m.Server().SetReadOnly(within(t), true))
	}
	if err := m.Insert(within(t), 2); err == nil || !facts(t, m).ReadOnly {
		t.Errorf("read-only again: a write ends with %v", err)
	}
	hasRows(t, m, 1)
	for range 2 {
		must(t, m.Server().Leave(within(t)))
	}
	must(t, m.Server().Ping(within(t)))
}

func killed(t *testing.T, w World) {
	m, other := opened(t, w), w.Add(t)
	began := facts(t, m).Began
	time.Sleep(1100 * time.Millisecond) // its clock has seconds
	m.Kill()
	_, err := m.Server().Observe(within(t))
	wants(t, "observe", err, mysqlha.ErrUnreachable)
	wants(t, "ping", m.Server().Ping(within(t)), mysqlha.ErrUnreachable)
	wants(t, "set read-only", m.Server().SetReadOnly(within(t), true), mysqlha.ErrUnreachable)
	wants(t, "follow", m.Server().Follow(within(t), other.Source(), false), mysqlha.ErrUnreachable)
	wants(t, "hold", m.Server().Hold(within(t)), mysqlha.ErrUnreachable)
	m.Restart(mysqlha.AsPrimary)
	if f := facts(t, m); !f.ReadOnly {
		t.Error("it takes writes after a restart")
	} else if !f.Began.After(began) {
		t.Errorf("it began at %s, was started anew, and began at %s", began, f.Began)
	}
	must(t, m.Server().Ping(within(t)))
	hasRows(t, m, 1)
}

func held(t *testing.T, w World) {
	m := w.Add(t)
	must(t, m.Server().Hold(soon(t)))
	ended := make(chan error, 1)
	ctx := within(t)
	before := facts(t, m).Connections
	go func() { ended <- m.Server().Hold(ctx) }()
	until(t, m, "it is held", func(f mysqlha.Facts) bool { return f.Connections > before })
	m.Kill()
	select {
	case err := <-ended:
		wants(t, "hold", err, mysqlha.ErrUnreachable)
	case <-ctx.Done():
		t.Error("a held connection does not end with the process")
	}
}

func frozen(t *testing.T, w World) {
	m := opened(t, w)
	m.Freeze()
	_, err := m.Server().Observe(soon(t))
	wants(t, "observe", err, mysqlha.ErrUnreachable)
	wants(t, "ping", m.Server().Ping(soon(t)), mysqlha.ErrUnreachable)
	wants(t, "set read-only", m.Server().SetReadOnly(soon(t), true), mysqlha.ErrUnreachable)
	wants(t, "wait", m.Server().WaitApplied(soon(t), "0-1-1"), mysqlha.ErrUnreachable)
	m.Thaw()
	until(t, m, "it answers again", func(mysqlha.Facts) bool { return true })
	must(t, m.Server().Ping(within(t)))
}

func follows(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	must(t, p.Insert(within(t), 2))
	hasRows(t, r, 1, 2)
	now := facts(t, p)
	f := until(t, r, "it has all", func(f mysqlha.Facts) bool { return f.Received == now.Current && f.Current == now.Current })
	if x := f.Replica; x == nil || x.SourceHost != p.Source().Host || x.SourcePort != p.Source().Port || x.IO != "Yes" || !x.SQL || !x.UsesGTID || x.Position == "" || x.Lag == nil ||
		x.HeartbeatPeriod != 250*time.Millisecond || x.IOErrno != 0 || x.SQLErrno != 0 || !f.ReadOnly {
		t.Errorf("facts are %+v, replica %+v", f, f.Replica)
	}
	beats := f.Replica.Heartbeats
	until(t, r, "heartbeats arrive", func(f mysqlha.Facts) bool { return f.Replica.Heartbeats > beats })
	must(t, r.Server().Follow(within(t), p.Source(), false))
	must(t, r.Server().StopIO(within(t)))
	if f := facts(t, r); f.Replica.IO != "No" || !f.Replica.SQL {
		t.Errorf("without the thread that receives: %+v", f.Replica)
	}
	must(t, p.Insert(within(t), 3))
	must(t, r.Server().StartSQL(within(t)))
	must(t, r.Server().Start(within(t)))
	hasRows(t, r, 1, 2, 3)
	must(t, r.Server().Leave(within(t)))
	if f := facts(t, r); f.Replica != nil || f.Received != "" || !f.ReadOnly {
		t.Errorf("after it left: %+v", f)
	}
	must(t, r.Server().WaitApplied(within(t), facts(t, p).Current))
	must(t, p.Insert(within(t), 4))
	if err := r.Server().WaitApplied(within(t), facts(t, p).Current); err == nil {
		t.Error("it has applied what it could not have received")
	}
}

func acknowledged(t *testing.T, w World) {
	p, r := cluster(t, w, 1)
	must(t, p.Insert(within(t), 2))
	must(t, r[0].Server().StopIO(within(t)))
	until(t, p, "nobody acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 0 })
	done := make(chan error, 1)
	ctx := within(t)
	go func() { done <- p.Insert(ctx, 3) }()
	f := until(t, p, "a write waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 1 })
	if !f.Semi.Active {
		t.Errorf("it does not wait any more: %+v", f.Semi)
	}
	select {
	case err := <-done:
		t.Fatalf("a write that nobody has acknowledged ends with %v", err)
	default:
	}
	must(t, r[0].Server().Start(within(t)))
	must(t, <-done)
	p.Kill()
	must(t, r[0].Server().WaitApplied(within(t), facts(t, r[0]).Received))
	hasRows(t, r[0], 1, 2, 3)
}

func hangs(t *testing.T, w World) {
	p, r := cluster(t, w, 1)
	must(t, r[0].Server().StopIO(within(t)))
	until(t, p, "nobody acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 0 })
	done := make(chan error, 1)
	ctx := within(t)
	go func() { done <- p.Insert(ctx, 2) }()
	until(t, p, "a write waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 1 })
	wants(t, "set read-only", p.Server().SetReadOnly(soon(t), true), mysqlha.ErrUnreachable)
	must(t, p.Server().Ping(within(t)))
	must(t, r[0].Server().Start(within(t)))
	must(t, <-done)
	must(t, p.Server().SetReadOnly(within(t), true))
	if !facts(t, p).ReadOnly {
		t.Error("it takes writes")
	}
	hasRows(t, p, 1, 2)
}

// opens: a server opens itself only while it waits for acknowledgements, and does not cease to wait while it is open. Both were made so for an overtaken runner, whose
// statement is still on its way: see the end.
func opens(t *testing.T, w World) {
	m := w.Add(t)
	wants(t, "open one that does not wait", m.Server().Open(within(t)), mysqlha.ErrUnfit)
	if !facts(t, m).ReadOnly || m.Insert(within(t), 1) == nil {
		t.Fatal("it takes writes")
	}
	p, r := cluster(t, w, 1)
	must(t, p.Server().SetReadOnly(within(t), true))
	must(t, p.Server().SetSource(within(t), false))
	must(t, p.Server().SetSource(within(t), true))
	for range 2 {
		must(t, p.Server().Open(within(t)))
	}
	must(t, p.Insert(within(t), 2))
	hasRows(t, r[0], 1, 2)
	wants(t, "have one that takes writes not wait", p.Server().SetSource(within(t), false), mysqlha.ErrUnfit)
	if f := facts(t, p); !f.Semi.Source || f.ReadOnly {
		t.Errorf("after that it is %+v", f)
	}
	// It is deposed, and made a replica of the other; then the former runner's statement arrives.
	p.Kill()
	must(t, r[0].Server().WaitApplied(within(t), facts(t, r[0]).Received))
	must(t, r[0].Server().Leave(within(t)))
	must(t, r[0].Server().SetReadOnly(within(t), false))
	p.Restart(mysqlha.AsReplica)
	must(t, p.Server().SetSource(within(t), false))
	must(t, p.Server().Follow(within(t), r[0].Source(), true))
	wants(t, "open a server that was deposed", p.Server().Open(within(t)), mysqlha.ErrUnfit)
	if err := p.Insert(within(t), 3); err == nil || !facts(t, p).ReadOnly {
		t.Error("a server that was deposed takes writes")
	}
}

func purgeTrap(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	p.Kill()
	until(t, r, "it notices", func(f mysqlha.Facts) bool { return f.Replica.IO == "Connecting" })
	must(t, r.Server().StartSQL(within(t)))
	must(t, r.Server().StopIO(within(t)))
	must(t, r.Server().StartSQL(within(t)))
	r.Kill()
	r.Restart(mysqlha.AsReplica)
	if f := facts(t, r); f.Replica == nil || f.Replica.IO != "No" || f.Replica.SQL {
		t.Fatalf("it follows by itself after a restart: %+v", f.Replica)
	}
	wants(t, "start what applies", r.Server().StartSQL(within(t)), mysqlha.ErrPurge)
}

func failover(t *testing.T, w World) {
	p, r := cluster(t, w, 2)
	must(t, p.Insert(within(t), 2))
	p.Kill()
	for _, m := range r {
		must(t, m.Server().StopIO(within(t)))
		must(t, m.Server().StartSQL(within(t)))
	}
	next := r[0]
	if a, b := facts(t, r[0]).Received, facts(t, r[1]).Received; len(b) > len(a) || b > a {
		next = r[1]
		r[0], r[1] = r[1], r[0]
	}
	must(t, next.Server().WaitApplied(within(t), facts(t, next).Received))
	must(t, next.Server().Leave(within(t)))
	must(t, next.Server().SetSource(within(t), true))
	must(t, r[1].Server().Follow(within(t), next.Source(), false))
	until(t, next, "the other acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 1 })
	must(t, next.Server().SetReadOnly(within(t), false))
	must(t, next.Insert(within(t), 3))
	hasRows(t, next, 1, 2, 3)
	hasRows(t, r[1], 1, 2, 3)
	p.Restart(mysqlha.AsReplica)
	must(t, p.Server().SetSource(within(t), false))
	must(t, p.Server().SetAcker(within(t), true))
	must(t, p.Server().Follow(within(t), next.Source(), true))
	hasRows(t, p, 1, 2, 3)
	until(t, next, "the old primary acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 2 })
	must(t, next.Insert(within(t), 4))
	hasRows(t, p, 1, 2, 3, 4)
}

// errant has an old primary come back with a write that nobody else has.
func errant(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	must(t, r.Server().StopIO(within(t)))
	must(t, p.Insert(within(t), 2)) // nobody has to acknowledge it
	p.Kill()
	must(t, r.Server().Leave(within(t)))
	must(t, r.Server().SetReadOnly(within(t), false))
	must(t, r.Insert(within(t), 3))
	p.Restart(mysqlha.AsPrimary)
	wants(t, "follow", p.Server().Follow(within(t), r.Source(), true), mysqlha.ErrMissingLog)
	hasRows(t, p, 1, 2)
}

func saturated(t *testing.T, w World) {
	m := w.Add(t)
	facts(t, m)
	undo := m.Fill()
	f := facts(t, m) // over the connection that is kept
	err := m.Server().Ping(within(t))
	if err != nil {
		wants(t, "ping", err, mysqlha.ErrSaturated)
	} else if f.Connections < f.MaxConnections {
		t.Errorf("a server that is full has %d of %d connections, and lets us in", f.Connections, f.MaxConnections)
	}
	undo()
	for limit := time.Now().Add(patience); m.Server().Ping(within(t)) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it lets nobody in")
		}
	}
}

func denied(t *testing.T, w World) {
	m := w.Add(t)
	_, err := m.Denied().Observe(within(t))
	wants(t, "observe", err, mysqlha.ErrDenied)
	wants(t, "ping", m.Denied().Ping(within(t)), mysqlha.ErrDenied)
	wants(t, "set read-only", m.Denied().SetReadOnly(within(t), true), mysqlha.ErrDenied)
	wants(t, "hold", m.Denied().Hold(within(t)), mysqlha.ErrDenied)
}

func clientsEnd(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	a, b := p.Client(), p.Client()
	until(t, p, "clients are counted", func(f mysqlha.Facts) bool { return f.Clients >= 2 })
	must(t, p.Server().SetReadOnly(within(t), true))
	n, err := p.Server().EndClients(within(t))
	must(t, err)
	if n < 2 {
		t.Errorf("%d clients were ended, there were 2 at least", n)
	}
	for limit := time.Now().Add(patience); a() || b(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("clients are still there")
		}
	}
	if f := facts(t, r); f.Replica.IO != "Yes" {
		t.Errorf("a replica was ended, too: %+v", f.Replica)
	}
	must(t, p.Server().SetReadOnly(within(t), false))
	must(t, p.Insert(within(t), 2))
	hasRows(t, r, 1, 2)
}

func rolesExclude(t *testing.T, w World) {
	p, r := cluster(t, w, 1)
	if err := r[0].Server().SetSource(within(t), true); err == nil {
		t.Error("a replica waits for acknowledgements: what it applies hangs")
	}
	must(t, p.Server().SetReadOnly(within(t), true))
	if err := p.Server().Follow(within(t), r[0].Source(), true); err == nil {
		t.Error("a server follows while it waits for acknowledgements: what it applies hangs")
	}
	must(t, p.Server().SetReadOnly(within(t), false))
	must(t, p.Insert(within(t), 2))
	hasRows(t, r[0], 1, 2)
}

func closed(t *testing.T, w World) {
	m := w.Add(t)
	facts(t, m)
	held := make(chan error, 1)
	ctx := within(t)
	go func() { held <- m.Server().Hold(ctx) }()
	for range 2 {
		must(t, m.Server().Close())
	}
	wants(t, "hold", <-held, mysqlha.ErrUnreachable)
	_, err := m.Server().Observe(within(t))
	wants(t, "observe", err, mysqlha.ErrUnreachable)
	wants(t, "set read-only", m.Server().SetReadOnly(within(t), true), mysqlha.ErrUnreachable)
	wants(t, "ping", m.Server().Ping(within(t)), mysqlha.ErrUnreachable)
}
