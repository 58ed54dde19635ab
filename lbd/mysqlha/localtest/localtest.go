// Package localtest has the conformance suite of mysqlha.Local: what the runner rests on, whichever way it is kept.
package localtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
)

// World is a host whose server runs, was never ordered anything, and takes no writes. Functions that are nil are not asked for: what they would show is not tested.
type World struct {
	Local mysqlha.Local
	Tag   string
	// Host is the host's key in hosts.
	Host string
	// Die ends the server's process without an order.
	Die func(t *testing.T)
	// Reopen ends the agent and begins another one. The server goes on.
	Reopen func(t *testing.T) mysqlha.Local
	// Source is a server elsewhere. Reaches tells whether this host reaches it, Heard whether its host is served by the own server, Served whether a client on
	// another host is.
	Source  mysqlha.Source
	Reaches func() bool
	Heard   func() bool
	Served  func() bool
	// Here tells whether the address of the primary is here. The record says that it may be.
	Here func() bool
	// Donor is a host to clone from, and Position what a copy of its server is at.
	Donor    string
	Position func() string
}

// Patience bounds waits: real servers on a loaded machine take their time.
const Patience = 2 * time.Minute

// Test has a Local keep the contract. open makes a new World for each part.
func Test(t *testing.T, open func(t *testing.T) *World) {
	for name, part := range map[string]func(*testing.T, *World){
		"Orders": orders, "Kill": kill, "Mark": mark, "Death": death, "Stop": stop, "Start": start, "Late": late, "Cut": cut, "Deaf": deaf, "Address": address, "Clone": clone,
	} {
		t.Run(name, func(t *testing.T) { part(t, open(t)) })
	}
}

func (w *World) order(epoch, fence uint64) mysqlha.Order {
	return mysqlha.Order{Tag: w.Tag, Epoch: epoch, Fence: fence}
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

func (w *World) state(t *testing.T) mysqlha.LocalState {
	t.Helper()
	s, err := w.Local.State(patient(t), w.Tag)
	if err != nil {
		t.Fatalf("State: %v", err)
	}
	return s
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func want(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("%s: %v, want %v", what, err, sentinel)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(Patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s", what, Patience)
		}
	}
}

func always(t *testing.T, what string, f func() bool, is bool) {
	t.Helper()
	if f != nil && f() != is {
		t.Fatalf("%s: %t", what, !is)
	}
}

// each are all orders, under one.
func (w *World) each(ctx context.Context, o mysqlha.Order) map[string]error {
	_, cloned := w.Local.Clone(ctx, o, "nowhere", nil)
	return map[string]error{
		"Cut": w.Local.Cut(ctx, o, w.Source), "Uncut": w.Local.Uncut(ctx, o, w.Source), "Kill": w.Local.Kill(ctx, o, "test"),
		"Start": w.Local.Start(ctx, o, mysqlha.AsReplica), "Stop": w.Local.Stop(ctx, o), "TakeVIP": w.Local.TakeVIP(ctx, o),
		"DropVIP": w.Local.DropVIP(ctx, o), "HandOverVIP": w.Local.HandOverVIP(ctx, o), "Clone": cloned,
		"Compared": w.Local.Compared(ctx, o, ""),
	}
}

func orders(t *testing.T, w *World) {
	ctx := patient(t)
	s := w.state(t)
	if s.Process != mysqlha.ProcessRuns || s.PID == 0 || s.Since.IsZero() || s.Epoch != 0 || s.Fence != 0 || s.Marked != "" || len(s.CutFrom) != 0 || s.VIP != "" {
		t.Fatalf("a server that was never ordered anything stands as %+v", s)
	}
	must(t, "Uncut", w.Local.Uncut(ctx, w.order(5, 50), w.Source))
	refused := func() {
		t.Helper()
		for _, o := range []mysqlha.Order{w.order(4, 50), w.order(5, 49), w.order(4, 60)} {
			for what, err := range w.each(ctx, o) {
				want(t, what, err, mysqlha.ErrOvertaken)
			}
		}
		if now := w.state(t); now.PID != s.PID || now.Process != mysqlha.ProcessRuns || now.Epoch != 5 || now.Fence != 50 {
			t.Fatalf("after orders that were refused it stands as %+v, and stood as %+v", now, s)
		}
	}
	refused()
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
		refused()
	}
	other := w.order(7, 70)
	other.Tag = "elsewhere"
	for what, err := range w.each(ctx, other) {
		want(t, what, err, mysqlha.ErrNotHere)
	}
	_, err := w.Local.State(ctx, "elsewhere")
	want(t, "State", err, mysqlha.ErrNotHere)
	// Numbers begin anew in a group that was founded anew; whoever has the old ones comes too late then.
	must(t, "Uncut under a later epoch and a lower number", w.Local.Uncut(ctx, w.order(6, 1), w.Source))
	for _, o := range []mysqlha.Order{w.order(5, 60), w.order(6, 0)} {
		want(t, "Uncut under an earlier order", w.Local.Uncut(ctx, o, w.Source), mysqlha.ErrOvertaken)
	}
	if now := w.state(t); now.Epoch != 6 || now.Fence != 1 {
		t.Fatalf("after an order of epoch 6 and number 1 it stands as %+v", now)
	}
}

func kill(t *testing.T, w *World) {
	ctx := patient(t)
	always(t, "a client elsewhere is served", w.Served, true)
	for range 2 { // it is idempotent
		must(t, "Kill", w.Local.Kill(ctx, w.order(1, 1), "a failover"))
		if s := w.state(t); s.Process != mysqlha.ProcessStopped || s.PID != 0 || s.Marked == "" || s.Epoch != 1 || s.Fence != 1 {
			t.Fatalf("after Kill: %+v", s)
		}
		always(t, "a client elsewhere is served", w.Served, false)
	}
	want(t, "Start as primary", w.Local.Start(ctx, w.order(1, 1), mysqlha.AsPrimary), mysqlha.ErrMarked)
	if w.Here != nil {
		want(t, "TakeVIP", w.Local.TakeVIP(ctx, w.order(1, 1)), mysqlha.ErrMarked)
	}
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
		want(t, "Start as primary after a restart", w.Local.Start(ctx, w.order(1, 1), mysqlha.AsPrimary), mysqlha.ErrMarked)
		if s := w.state(t); s.Process != mysqlha.ProcessStopped || s.Marked == "" {
			t.Fatalf("after a restart: %+v", s)
		}
	}
	must(t, "Start as replica", w.Local.Start(ctx, w.order(2, 2), mysqlha.AsReplica))
	if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.PID == 0 || s.Marked != "" || s.Epoch != 2 {
		t.Fatalf("after Start: %+v", s)
	}
	always(t, "a client elsewhere is served", w.Served, true)
}

// mark: a stopped failover goes back to the server that it has killed, under a later epoch; the change itself can not.
func mark(t *testing.T, w *World) {
	ctx := patient(t)
	must(t, "Kill", w.Local.Kill(ctx, w.order(2, 1), "a failover"))
	want(t, "Start as primary, by another runner of the same change", w.Local.Start(ctx, w.order(2, 2), mysqlha.AsPrimary), mysqlha.ErrMarked)
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
	}
	must(t, "Start as primary in a later epoch", w.Local.Start(ctx, w.order(3, 2), mysqlha.AsPrimary))
	if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.Marked != "" || s.Epoch != 3 {
		t.Fatalf("after Start: %+v", s)
	}
	always(t, "a client elsewhere is served", w.Served, true)
	must(t, "Kill", w.Local.Kill(ctx, w.order(3, 2), "another failover"))
	must(t, "Kill", w.Local.Kill(ctx, w.order(4, 2), "it is tried again"))
	want(t, "Start as primary in the epoch of the last kill", w.Local.Start(ctx, w.order(4, 2), mysqlha.AsPrimary), mysqlha.ErrMarked)
}

func death(t *testing.T, w *World) {
	ctx := patient(t)
	for _, as := range []mysqlha.Role{mysqlha.AsPrimary, mysqlha.AsReplica} {
		before := w.state(t)
		w.Die(t)
		until(t, "State tells the death", func() bool { return w.state(t).Process == mysqlha.ProcessDied })
		if s := w.state(t); s.PID != 0 || s.Why == "" || s.Marked != "" || s.Since.Before(before.Since) {
			t.Fatalf("after a death: %+v", s)
		}
		must(t, "Start", w.Local.Start(ctx, w.order(1, 1), as))
		if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.PID == before.PID {
			t.Fatalf("after Start: %+v, before: %+v", s, before)
		}
	}
	if w.Reopen == nil {
		return
	}
	w.Local = w.Reopen(t)
	if s := w.state(t); s.Process != mysqlha.ProcessRuns {
		t.Fatalf("after a restart of the agent: %+v", s)
	}
	w.Die(t)
	until(t, "State tells the death to another agent", func() bool { return w.state(t).Process == mysqlha.ProcessDied })
	w.Local = w.Reopen(t)
	if s := w.state(t); s.Process != mysqlha.ProcessDied {
		t.Fatalf("after another restart: %+v", s)
	}
}

func stop(t *testing.T, w *World) {
	ctx := patient(t)
	for range 2 {
		must(t, "Stop", w.Local.Stop(ctx, w.order(1, 1)))
		if s := w.state(t); s.Process != mysqlha.ProcessStopped || s.PID != 0 || s.Marked != "" || s.Why == "" {
			t.Fatalf("after Stop: %+v", s)
		}
	}
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
		if s := w.state(t); s.Process != mysqlha.ProcessStopped {
			t.Fatalf("after a restart: %+v", s)
		}
	}
	must(t, "Start", w.Local.Start(ctx, w.order(1, 1), mysqlha.AsPrimary))
	always(t, "a client elsewhere is served", w.Served, true)
}

func start(t *testing.T, w *World) {
	ctx := patient(t)
	before := w.state(t)
	for _, as := range []mysqlha.Role{mysqlha.AsReplica, mysqlha.AsPrimary} {
		must(t, "Start of what runs", w.Local.Start(ctx, w.order(1, 1), as))
		if s := w.state(t); s.PID != before.PID || s.Epoch != 1 {
			t.Fatalf("it is %+v, and was %+v", s, before)
		}
	}
	if err := w.Local.Start(ctx, w.order(1, 1), "king"); err == nil {
		t.Fatal("it starts in a role that there is not")
	}
}

// numbered is an order of one runner, and which it is of those that it gave.
func (w *World) numbered(seq uint64) mysqlha.Order {
	o := w.order(1, 1)
	o.Seq = seq
	return o
}

// late: of two orders of one runner about the process the later one holds, though the earlier one arrives after it, or once more: as a kill whose packets waited for a link, when the server was started
// as a replica since.
func late(t *testing.T, w *World) {
	ctx := patient(t)
	must(t, "Kill, number 3", w.Local.Kill(ctx, w.numbered(3), "it is deposed"))
	must(t, "Start, number 7", w.Local.Start(ctx, w.numbered(7), mysqlha.AsReplica))
	want(t, "Kill, number 3, again", w.Local.Kill(ctx, w.numbered(3), "it is deposed"), mysqlha.ErrOvertaken)
	want(t, "Stop, number 4", w.Local.Stop(ctx, w.numbered(4)), mysqlha.ErrOvertaken)
	if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.Marked != "" {
		t.Fatalf("after a kill that was late: %+v", s)
	}
	always(t, "a client elsewhere is served", w.Served, true)
	must(t, "Kill, number 8", w.Local.Kill(ctx, w.numbered(8), "it is deposed again"))
	want(t, "Start, number 7, again", w.Local.Start(ctx, w.numbered(7), mysqlha.AsReplica), mysqlha.ErrOvertaken)
	if s := w.state(t); s.Process != mysqlha.ProcessStopped || s.Marked == "" {
		t.Fatalf("after a start that was late: %+v", s)
	}
	next := w.numbered(1)
	next.Fence++
	must(t, "Start by the next runner, whose numbers begin anew", w.Local.Start(ctx, next, mysqlha.AsReplica))
}

func cut(t *testing.T, w *World) {
	ctx := patient(t)
	always(t, "the source is reached", w.Reaches, true)
	for range 2 {
		must(t, "Cut", w.Local.Cut(ctx, w.order(1, 1), w.Source))
		always(t, "the source is reached", w.Reaches, false)
	}
	if s := w.state(t); len(s.CutFrom) != 1 || s.Process != mysqlha.ProcessRuns {
		t.Fatalf("after Cut: %+v", s)
	}
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
		always(t, "the source is reached after a restart", w.Reaches, false)
		if s := w.state(t); len(s.CutFrom) != 1 {
			t.Fatalf("after a restart: %+v", s)
		}
	}
	for range 2 {
		must(t, "Uncut", w.Local.Uncut(ctx, w.order(1, 1), w.Source))
		always(t, "the source is reached", w.Reaches, true)
	}
	if s := w.state(t); len(s.CutFrom) != 0 {
		t.Fatalf("after Uncut: %+v", s)
	}
	// Of two that are told by one runner the later one holds, though the earlier one arrives after it, or once more.
	must(t, "Uncut, number 4", w.Local.Uncut(ctx, w.numbered(4), w.Source))
	must(t, "Cut, number 7", w.Local.Cut(ctx, w.numbered(7), w.Source))
	want(t, "Uncut, number 4, again", w.Local.Uncut(ctx, w.numbered(4), w.Source), mysqlha.ErrOvertaken)
	always(t, "the source is reached", w.Reaches, false)
	must(t, "Uncut, number 8", w.Local.Uncut(ctx, w.numbered(8), w.Source))
	want(t, "Cut, number 7, again", w.Local.Cut(ctx, w.numbered(7), w.Source), mysqlha.ErrOvertaken)
	always(t, "the source is reached", w.Reaches, true)
	next := w.numbered(1)
	next.Fence++
	must(t, "Cut by the next runner, whose numbers begin anew", w.Local.Cut(ctx, next, w.Source))
	if err := w.Local.Cut(ctx, w.order(1, 1), mysqlha.Source{Host: "a name", Port: 3306}); err == nil {
		t.Fatal("it is cut from what is no address")
	}
}

// deaf: the own server is reached by nobody at an address, from whatever port, and by all others.
func deaf(t *testing.T, w *World) {
	ctx := patient(t)
	host := mysqlha.Source{Host: w.Source.Host, Name: w.Source.Name}
	always(t, "the other host is served", w.Heard, true)
	for range 2 {
		must(t, "Cut", w.Local.Cut(ctx, w.order(1, 1), host))
		always(t, "the other host is served", w.Heard, false)
		always(t, "the other host's server is reached", w.Reaches, true)
		always(t, "a client elsewhere is served", w.Served, true)
	}
	if s := w.state(t); len(s.CutFrom) != 1 || s.Process != mysqlha.ProcessRuns {
		t.Fatalf("after Cut: %+v", s)
	}
	must(t, "Cut from the server there, too", w.Local.Cut(ctx, w.order(1, 1), w.Source))
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
	}
	always(t, "the other host is served after a restart", w.Heard, false)
	if s := w.state(t); len(s.CutFrom) != 2 {
		t.Fatalf("after a restart: %+v", s)
	}
	must(t, "Uncut from the server there", w.Local.Uncut(ctx, w.order(1, 1), w.Source))
	always(t, "the other host is served", w.Heard, false)
	for range 2 {
		must(t, "Uncut", w.Local.Uncut(ctx, w.order(1, 1), host))
		always(t, "the other host is served", w.Heard, true)
	}
	if s := w.state(t); len(s.CutFrom) != 0 {
		t.Fatalf("after Uncut: %+v", s)
	}
}

func address(t *testing.T, w *World) {
	if w.Here == nil {
		return
	}
	ctx := patient(t)
	for range 2 {
		must(t, "TakeVIP", w.Local.TakeVIP(ctx, w.order(1, 1)))
		always(t, "the address is here", w.Here, true)
	}
	if s := w.state(t); s.VIP != "held" {
		t.Fatalf("after TakeVIP: %+v", s)
	}
	for range 2 {
		must(t, "DropVIP", w.Local.DropVIP(ctx, w.order(1, 1)))
		always(t, "the address is here", w.Here, false)
	}
	must(t, "TakeVIP", w.Local.TakeVIP(ctx, w.order(2, 1)))
	if w.Reopen != nil {
		w.Local = w.Reopen(t)
		until(t, "the address is here after a restart", w.Here)
	}
	must(t, "HandOverVIP", w.Local.HandOverVIP(ctx, w.order(2, 1)))
	until(t, "the address goes, for nobody takes it", func() bool { return !w.Here() })
	must(t, "TakeVIP", w.Local.TakeVIP(ctx, w.order(3, 1)))
	always(t, "the address is here", w.Here, true)
	must(t, "Kill", w.Local.Kill(ctx, w.order(3, 1), "a failover"))
	until(t, "the address goes with the server", func() bool { return !w.Here() })
}

func clone(t *testing.T, w *World) {
	ctx := patient(t)
	before := w.state(t)
	for _, from := range []string{"nowhere", w.Host} {
		if _, err := w.Local.Clone(ctx, w.order(1, 1), from, nil); err == nil {
			t.Fatalf("a clone from %s succeeds", from)
		}
	}
	if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.PID != before.PID || s.Copy != nil {
		t.Fatalf("after clones that could not begin: %+v, before: %+v", s, before)
	}
	must(t, "Compared, of what is no copy", w.Local.Compared(ctx, w.order(1, 1), "a row"))
	if s := w.state(t); s.Copy != nil {
		t.Fatalf("what is no copy differs: %+v", s.Copy)
	}
	if w.Donor == "" {
		return
	}
	// A fenced server may become a clone: that is how it comes back.
	must(t, "Kill", w.Local.Kill(ctx, w.order(1, 1), "a failover"))
	var steps []string
	position, err := w.Local.Clone(ctx, w.order(1, 2), w.Donor, func(p mysqlha.CloneProgress) {
		if !slices.Contains(steps, p.Step) {
			steps = append(steps, p.Step)
		}
	})
	must(t, "Clone", err)
	if position != w.Position() || len(steps) == 0 {
		t.Fatalf("the copy is at %q, want %q; it went through %q", position, w.Position(), steps)
	}
	if s := w.state(t); s.Process != mysqlha.ProcessRuns || s.Marked != "" || s.PID == before.PID {
		t.Fatalf("after Clone: %+v", s)
	}
	// Nobody has compared it, and that is remembered.
	for _, differs := range []string{"", "a row", ""} {
		if s := w.state(t); s.Copy == nil || s.Copy.From != w.Donor || s.Copy.Differs != differs {
			t.Fatalf("a copy that %q is remembered as %+v", differs, s.Copy)
		}
		if w.Reopen != nil {
			w.Local = w.Reopen(t)
			if s := w.state(t); s.Copy == nil || s.Copy.Differs != differs {
				t.Fatalf("after a restart a copy that %q is remembered as %+v", differs, s.Copy)
			}
		}
		switch differs {
		case "":
			must(t, "Compared", w.Local.Compared(ctx, w.order(1, 2), "a row"))
		default:
			if err := w.Local.Compared(ctx, w.order(1, 1), ""); !errors.Is(err, mysqlha.ErrOvertaken) {
				t.Fatalf("Compared by one who was overtaken: %v", err)
			}
			_, err := w.Local.Clone(ctx, w.order(1, 2), w.Donor, nil)
			must(t, "Clone anew", err)
		}
	}
	_, err = w.Local.Clone(ctx, w.order(1, 2), w.Donor, nil)
	must(t, "Clone anew", err)
	for range 2 {
		must(t, "Compared", w.Local.Compared(ctx, w.order(1, 2), ""))
		if s := w.state(t); s.Copy != nil {
			t.Fatalf("a copy that was found right is remembered as %+v", s.Copy)
		}
	}
	always(t, "a client elsewhere is served", w.Served, true)
}
