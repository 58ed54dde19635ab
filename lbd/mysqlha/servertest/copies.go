package servertest

import (
	"context"
	"hostmesh/lbd/mysqlha"
	"maps"
	"testing"
)

func missingLog(t *testing.T, w World) {
	p := opened(t, w)
	p.PurgeLogs()
	r := w.Add(t)
	wants(t, "follow", r.Server().Follow(within(t), p.Source(), false), mysqlha.ErrMissingLog)
	if f := facts(t, r); f.Replica == nil || f.Replica.IO != "No" || f.Replica.IOErrno == 0 || f.Replica.IOError == "" {
		t.Errorf("replica is %+v", f.Replica)
	}
}

func checksums(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	of := func(m Member) map[string]string {
		sums, err := m.Server().Checksum(within(t), nil, 7)
		must(t, err)
		if f := facts(t, m); sums.Position != f.Current {
			t.Errorf("the snapshot of a server that stands at %q is at %q", f.Current, sums.Position)
		}
		return sums.Tables
	}
	same := func() bool {
		a, b := of(p), of(r)
		if len(a) == 0 || len(a) != len(b) {
			t.Fatalf("checksums are %v and %v", a, b)
		}
		for table, sum := range a {
			if b[table] != sum {
				return false
			}
		}
		return true
	}
	if !same() {
		t.Error("a replica that has all differs")
	}
	must(t, r.Server().StopIO(within(t)))
	must(t, p.Insert(within(t), 2))
	if same() {
		t.Error("a replica that has not all is the same")
	}
	if sums, err := p.Server().Checksum(within(t), []string{"no.such"}, 0); err != nil || len(sums.Tables) > 0 || sums.Position == "" {
		t.Errorf("of a table that is not there: %+v, %v", sums, err)
	}
	if engines, err := p.Server().Engines(within(t)); err != nil || len(engines) > 0 {
		t.Errorf("tables of other engines: %v, %v", engines, err)
	}
}

// followsUntil: a replica goes on to a position, stops there, and has what a snapshot there had; it goes on when it is told to.
func followsUntil(t *testing.T, w World) {
	p := opened(t, w)
	r := following(t, w, p)
	must(t, r.Server().Leave(within(t)))
	must(t, p.Insert(within(t), 2))
	at, err := p.Server().Checksum(within(t), nil, 1)
	must(t, err)
	must(t, p.Insert(within(t), 3))
	for range 2 { // the second time it is there
		must(t, r.Server().FollowUntil(within(t), p.Source(), at.Position, false))
		f := facts(t, r)
		if f.Current != at.Position || f.Replica == nil || f.Replica.IO != "No" || f.Replica.SQL {
			t.Fatalf("it is at %q, and was to stop at %q: %+v", f.Current, at.Position, f.Replica)
		}
		its, err := r.Server().Checksum(within(t), nil, 1)
		must(t, err)
		if its.Position != at.Position || !maps.Equal(its.Tables, at.Tables) {
			t.Errorf("at one position %+v and %+v", at, its)
		}
	}
	must(t, r.Server().Follow(within(t), p.Source(), false))
	must(t, r.Server().WaitApplied(within(t), facts(t, p).Current))
	hasRows(t, r, 1, 2, 3)
	wants(t, "follow until where it was before", r.Server().FollowUntil(within(t), p.Source(), at.Position, false), mysqlha.ErrUnfit)
	must(t, r.Server().Leave(within(t)))
	must(t, p.Insert(within(t), 4))
	last := facts(t, p).Current
	p.Kill()
	wants(t, "follow a source that is dead", r.Server().FollowUntil(soon(t), p.Source(), last, false), mysqlha.ErrUnreachable)
}

// takesBack: an old primary that was killed with a write for which it knew no acknowledgement drops it as a replica, and gets it back from those who have it when it follows as one that
// acknowledges, until there. Not all servers can be brought to that: then it has dropped nothing, and the rest holds all the same.
func takesBack(t *testing.T, w World) {
	p, r := cluster(t, w, 1)
	must(t, p.Insert(within(t), 2))
	must(t, r[0].Server().StopIO(within(t)))
	until(t, p, "nobody acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients == 0 })
	// What it receives now it does not acknowledge.
	must(t, r[0].Server().SetAcker(within(t), false))
	done := make(chan error, 1)
	ctx := within(t)
	go func() { done <- p.Insert(ctx, 3) }()
	until(t, p, "a write waits", func(f mysqlha.Facts) bool { return f.Semi.Waiting == 1 })
	must(t, r[0].Server().Start(within(t)))
	hasRows(t, r[0], 1, 2, 3)
	p.Kill()
	if err := <-done; err == nil {
		t.Error("the client was told that all is well")
	}
	must(t, r[0].Server().WaitApplied(within(t), facts(t, r[0]).Received))
	must(t, r[0].Server().Leave(within(t)))
	must(t, r[0].Server().SetReadOnly(within(t), false))
	must(t, r[0].Insert(within(t), 4))
	p.Restart(mysqlha.AsReplica)
	hasRows(t, p, 1, 2)
	lost, err := mysqlha.Forgotten(facts(t, p), facts(t, r[0]))
	must(t, err)
	if lost.Empty() {
		t.Fatal("that it has dropped something is not seen")
	}
	must(t, p.Server().SetSource(within(t), false))
	must(t, p.Server().SetAcker(within(t), true))
	must(t, p.Server().FollowUntil(within(t), r[0].Source(), lost.String(), true))
	must(t, p.Server().SetAcker(within(t), false))
	hasRows(t, p, 1, 2, 3)
	if lost, err := mysqlha.Forgotten(facts(t, p), facts(t, r[0])); err != nil || !lost.Empty() {
		t.Errorf("it lacks %s still: %v", lost, err)
	}
	must(t, p.Server().Follow(within(t), r[0].Source(), true))
	hasRows(t, p, 1, 2, 3, 4)
	if f := facts(t, r[0]); f.Semi.Clients != 0 {
		t.Errorf("it acknowledges: %+v", f.Semi)
	}
}

// inTime: a server that stands still, and is told to acknowledge, does not begin to when it goes on and nobody waits for that any more.
func inTime(t *testing.T, w World) {
	for what, c := range map[string]struct {
		does func(context.Context, mysqlha.Server) error
		is   func(mysqlha.Facts) bool
	}{
		"acknowledge":              {func(ctx context.Context, s mysqlha.Server) error { return s.SetAcker(ctx, true) }, func(f mysqlha.Facts) bool { return f.Semi.Acker }},
		"wait for acknowledgement": {func(ctx context.Context, s mysqlha.Server) error { return s.SetSource(ctx, true) }, func(f mysqlha.Facts) bool { return f.Semi.Source }},
		"take writes":              {func(ctx context.Context, s mysqlha.Server) error { return s.SetReadOnly(ctx, false) }, func(f mysqlha.Facts) bool { return !f.ReadOnly }},
	} {
		m := w.Add(t)
		must(t, m.Server().SetAcker(within(t), false)) // there is a connection
		m.Freeze()
		wants(t, "have it "+what, c.does(soon(t), m.Server()), mysqlha.ErrUnreachable)
		m.Thaw()
		until(t, m, "it answers again", func(mysqlha.Facts) bool { return true })
		must(t, m.Server().Ping(within(t)))
		if c.is(facts(t, m)) {
			t.Errorf("it was told too late, and does %s", what)
		}
		must(t, c.does(within(t), m.Server()))
		if !c.is(facts(t, m)) {
			t.Errorf("it does not %s", what)
		}
	}
}
