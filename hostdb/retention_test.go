package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// heldByAll is what every box holds of an origin.
func heldByAll(boxes []*box) func(origin uint64) uint64 {
	return func(origin uint64) uint64 {
		least := ^uint64(0)
		for _, b := range boxes {
			least = min(least, b.store.View().Seq(origin))
		}
		return least
	}
}

// settledAt reports whether a box knows everything that the others wrote and will write up to a stamp.
func settledAt(t failer, b *box, boxes []*box) func(hostdb.Stamp) bool {
	return func(s hostdb.Stamp) bool {
		for _, other := range boxes {
			if other.store.Floor() < s.Time {
				return false
			}
			for origin, seq := range other.store.View().Vector() {
				held := b.store.View().Seq(origin)
				if held >= seq {
					continue
				}
				ops, err := other.store.Operations(origin, held, 1)
				if err != nil {
					t.Fatalf("operations: %v", err)
				}
				if op, err := hostdb.ParseOperation(ops[0]); err != nil || !s.Less(op.Stamp()) {
					return false
				}
			}
		}
		return true
	}
}

// meet gives all boxes the same clock and the same operations.
func meet(t failer, boxes []*box) {
	t.Helper()
	now := slices.MaxFunc(boxes, func(a, b *box) int { return a.clock.now.Compare(b.clock.now) }).clock.now
	for _, b := range boxes {
		b.clock.now = now
	}
	for _, a := range boxes {
		for _, b := range boxes {
			deliverAll(t, a, b)
		}
	}
}

func retain(t failer, b *box, boxes []*box, until hostdb.Stamp) (dropped int) {
	t.Helper()
	n, err := b.store.Retain(context.Background(), hostdb.Retention{Until: until, Held: heldByAll(boxes), Settled: settledAt(t, b, boxes)})
	if err != nil {
		t.Fatalf("retain at %s: %v", b.name, err)
	}
	return n
}

// tellings are everything that history says after a horizon.
func tellings(t failer, b *box, after hostdb.Stamp) string {
	t.Helper()
	ctx := context.Background()
	var out strings.Builder
	fmt.Fprintln(&out, b.store.View().Version(), picture(b.store.View()), digests(b.store.View()))
	for c := range b.store.View().AllConflicts() {
		fmt.Fprintln(&out, c)
	}
	cuts := []hostdb.Stamp{after}
	err := b.store.EachRevision(ctx, after, func(r hostdb.Revision) error {
		cuts = append(cuts, r.ID)
		fmt.Fprintln(&out, r.ID, r.User, r.Log, r.At, r.Node, len(r.Effects))
		return nil
	})
	if err != nil {
		t.Fatalf("revisions of %s: %v", b.name, err)
	}
	for i, cut := range cuts {
		v := at(t, b, cut)
		fmt.Fprintln(&out, "as of", cut, picture(v), digests(v), v.Modified("hosts"), v.Modified("tags"))
		for c := range v.AllConflicts() {
			fmt.Fprintln(&out, c)
		}
		if i == 0 {
			continue
		}
		// What taking it back would do.
		rev, err := b.store.Revision(cut)
		if err != nil {
			t.Fatalf("revision %s: %v", cut, err)
		}
		before := at(t, b, cut.Before())
		c, err := b.store.Update(ctx, hostdb.Request{User: "u", Log: "l", DryRun: true}, func(tx *hostdb.Tx) error { return tx.Undo(rev, before, v, true) })
		fmt.Fprintln(&out, "undo:", err)
		for _, x := range c.Effects {
			fmt.Fprintln(&out, x.Kind, x.NS, x.Key, x.Path, x.Value, x.Member, x.Text)
		}
	}
	if after.IsZero() {
		return out.String()
	}
	err = b.store.Replay(ctx, after, func(r hostdb.Revision, v hostdb.View) error {
		fmt.Fprintln(&out, "replay", r.ID, digests(v))
		return nil
	})
	if err != nil {
		t.Fatalf("replay of %s: %v", b.name, err)
	}
	return out.String()
}

// Random operations on replicas of which some drop history at random horizons: what is younger is answered as it is by a replica that
// keeps all, and what is older is refused.
func TestRetentionChangesNoAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boxes := []*box{openBox(t, "one"), openBox(t, "two"), openBox(t, "whole")}
		for _, b := range boxes[:2] {
			b.storage.SetMaxBatch(1<<20, rapid.IntRange(10, 60).Draw(t, "puts"))
			b.restart(t)
		}
		whole := boxes[2]
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				_, _ = rapid.SampledFrom(boxes).Draw(t, "box").update(t, randomWrite(t))
			},
			"time": func(t *rapid.T) {
				b := rapid.SampledFrom(boxes).Draw(t, "box")
				b.clock.now = b.clock.now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
			},
			"deliver": func(t *rapid.T) {
				a, b := rapid.SampledFrom(boxes).Draw(t, "from"), rapid.SampledFrom(boxes).Draw(t, "to")
				b.clock.now = slices.MaxFunc([]*box{a, b}, func(a, b *box) int { return a.clock.now.Compare(b.clock.now) }).clock.now
				deliverAll(t, a, b)
			},
			"restart": func(t *rapid.T) { rapid.SampledFrom(boxes[:2]).Draw(t, "box").restart(t) },
			"retain": func(t *rapid.T) {
				b := boxes[rapid.IntRange(0, 1).Draw(t, "box")]
				if rapid.IntRange(0, 2).Draw(t, "all know all") > 0 {
					meet(t, boxes)
				}
				n := rapid.Uint64Range(1, 6).Draw(t, "keep")
				until, err := hostdb.Policy{Count: n}.Until(b.clock.now, func(n uint64) (hostdb.Stamp, error) { return b.store.Newest(context.Background(), n) })
				if err != nil {
					t.Fatal(err)
				}
				was, had, _ := b.store.Horizon()
				before := picture(b.store.View()) + digests(b.store.View())
				retain(t, b, boxes, until)
				if picture(b.store.View())+digests(b.store.View()) != before {
					t.Fatalf("retention changed the present")
				}
				is, has, err := b.store.Horizon()
				if err != nil || is.Less(was) || had && !has || is != was && until.Less(is) {
					t.Fatalf("the horizon moved from %s to %s, until %s: %v", was, is, until, err)
				}
			},
			"": func(t *rapid.T) {},
		})
		meet(t, boxes)
		for _, b := range boxes[:2] {
			h, has, err := b.store.Horizon()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := tellings(t, b, h), tellings(t, whole, h); got != want {
				t.Fatalf("after the horizon %s\n%s\nwant\n%s", h, got, want)
			}
			if !has {
				continue
			}
			if _, err := b.store.At(context.Background(), h.Before()); !errors.Is(err, hostdb.ErrDropped) {
				t.Fatalf("the state before the horizon: %v", err)
			}
			if err := b.store.Replay(context.Background(), hostdb.Stamp{}, func(hostdb.Revision, hostdb.View) error { return nil }); !errors.Is(err, hostdb.ErrDropped) {
				t.Fatalf("a replay from before the horizon: %v", err)
			}
		}
	})
}

// someHistory writes a history with all kinds of operations, also one of many batches.
func someHistory(t *testing.T, b *box) []hostdb.Revision {
	t.Helper()
	var many []func(*hostdb.Tx) error
	var list []hostdb.Member
	for i := range 40 {
		name := fmt.Sprintf("host%02d", i)
		many = append(many, put("hosts", name, parse(t, "{Network: {IP: 10.0.0.1}, note: "+strings.Repeat("x", 50)+"}")))
		list = append(list, hostdb.Member{Name: name})
	}
	write(t, b, put("hosts", "small", parse(t, "{a: 1, b: 2}")))
	write(t, b, many...)
	write(t, b, put("tags", "big", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "big", list) })
	write(t, b, put("hosts", "small", parse(t, "{a: 1}")))
	write(t, b, rename("tags", "big", "large"))
	write(t, b, rename("hosts", "host05", "other"))
	write(t, b, remove("hosts", "host06"), put("hosts", "host07", parse(t, "{new: here}")))
	write(t, b, remove("tags", "large"))
	write(t, b, put("tags", "large", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "large", "host01") })
	write(t, b, put("hosts", "small", parse(t, "{c: 3}")))
	return revisionsOf(t, b)
}

// A retention that is killed at any step leaves every answer right; the next one finishes it, and nothing of what it dropped remains.
func TestRetentionCrashesAtEveryStep(t *testing.T) {
	b := openBox(t, "a")
	b.storage.SetMaxBatch(4000, 40)
	b.restart(t)
	list := someHistory(t, b)
	for _, h := range []hostdb.Stamp{list[3].ID, list[7].ID} { // one on top of the other
		want := tellings(t, b, h)
		var crashes []*hostdbtest.Memory
		snapshot := func([]hostdb.Put) error { crashes = append(crashes, b.storage.Snapshot()); return nil }
		b.storage.SetHooks(hostdbtest.Hooks{Before: snapshot, After: snapshot})
		retain(t, b, nil, h)
		b.storage.SetHooks(hostdbtest.Hooks{})
		if got := tellings(t, b, h); got != want {
			t.Fatalf("after the retention\n%s\nwant\n%s", got, want)
		}
		if len(crashes) < 10 {
			t.Fatalf("only %d steps", len(crashes))
		}
		for i, m := range crashes {
			if i%2 == 1 && i%6 != 1 { // most are what the step before the next one begins with
				continue
			}
			re := &box{storage: m, clock: b.clock, name: "a"}
			re.open(t)
			if got := tellings(t, re, h); got != want {
				t.Fatalf("a crash before or after step %d left\n%s\nwant\n%s", i/2, got, want)
			}
			retain(t, re, nil, hostdb.Stamp{})
			retain(t, re, nil, h)
			if got := tellings(t, re, h); got != want {
				t.Fatalf("the retention that was begun anew after step %d left\n%s\nwant\n%s", i/2, got, want)
			}
			if re.storage.Len() != b.storage.Len() {
				t.Fatalf("a crash at step %d leaves %d rows, not %d", i/2, re.storage.Len(), b.storage.Len())
			}
			if re.restart(t); i%5 == 0 && tellings(t, re, h) != want {
				t.Fatalf("another restart changes\n%s\nto\n%s", want, tellings(t, re, h))
			}
			if _, err := re.store.At(t.Context(), h.Before()); !errors.Is(err, hostdb.ErrDropped) {
				t.Fatalf("the state before the horizon: %v", err)
			}
		}
	}
	if _, err := b.store.Operations(list[0].ID.Origin, 0, 1); !errors.Is(err, hostdb.ErrGone) {
		t.Errorf("operations that were dropped: %v", err)
	}
}

// What another member lacks, or what may still arrive, stays, and all that is younger.
func TestRetentionWaits(t *testing.T) {
	b := openBox(t, "a")
	list := someHistory(t, b)
	newest := list[len(list)-1].ID
	n, err := b.store.Retain(t.Context(), hostdb.Retention{Until: newest, Held: func(uint64) uint64 { return 3 }})
	if err != nil || n != 3 {
		t.Errorf("%d operations dropped though members hold 3: %v", n, err)
	}
	n, err = b.store.Retain(t.Context(), hostdb.Retention{Until: newest, Settled: func(s hostdb.Stamp) bool { return s.Less(list[5].ID) }})
	if err != nil || n != 2 {
		t.Errorf("%d more operations dropped though 5 are settled: %v", n, err)
	}
	if got := revisionsOf(t, b); len(got) != len(list)-5 || got[0].ID != list[5].ID {
		t.Errorf("%d revisions are left", len(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.store.Retain(ctx, hostdb.Retention{Until: newest}); !errors.Is(err, context.Canceled) {
		t.Errorf("a retention that is not wanted any more: %v", err)
	}
	if b.store.Failure() != nil {
		t.Errorf("it took the storage along: %v", b.store.Failure())
	}
	// Something that arrives late all the same is part of every answer.
	late := foreign(t, 7, list[1].ID.Time, nil, []hostdb.Effect{{Kind: hostdb.CreateKey, NS: "hosts", Key: "late"}})
	if _, err := b.store.Apply(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if v := at(t, b, list[6].ID); !v.Exists("hosts", "late") {
		t.Error("what arrived late is missing in the past")
	}
}

// Writes go on while history is dropped.
func TestRetentionWhileOthersWrite(t *testing.T) {
	b := openBox(t, "a")
	list := someHistory(t, b)
	// The writer begins when the retention has.
	var once sync.Once
	started := make(chan struct{})
	b.storage.SetHooks(hostdbtest.Hooks{After: func(batch []hostdb.Put) error {
		if strings.HasPrefix(string(batch[0].Key), "mhorizon") {
			once.Do(func() { close(started) })
		}
		return nil
	}})
	stop := make(chan error, 1)
	go func() {
		var err error
		<-started
		for i := 0; i < 50 && err == nil; i++ {
			_, err = b.store.Update(context.Background(), hostdb.Request{User: "u", Log: "l"}, put("hosts", fmt.Sprintf("w%d", i), hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text("x")})))
		}
		stop <- err
	}()
	retain(t, b, nil, list[8].ID)
	if err := <-stop; err != nil {
		t.Fatal(err)
	}
	before := picture(b.store.View())
	b.restart(t)
	if got := picture(b.store.View()); got != before {
		t.Errorf("a restart changed\n%s\nto\n%s", before, got)
	}
}

func TestPolicy(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	hour := hostdb.Stamp{Time: hostdb.TimeOf(now.Add(-time.Hour))}
	young, old := hostdb.Stamp{Time: hostdb.TimeOf(now.Add(-time.Minute)), Origin: 1}, hostdb.Stamp{Time: hostdb.TimeOf(now.Add(-2 * time.Hour)), Origin: 1}
	for _, test := range []struct {
		p     hostdb.Policy
		first hostdb.Stamp // of those that the count keeps
		want  hostdb.Stamp
	}{
		{hostdb.Policy{}, young, hostdb.Stamp{}},
		{hostdb.Policy{Age: time.Hour}, hostdb.Stamp{}, hour.Before()},
		{hostdb.Policy{Count: 5}, young, young.Before()},
		{hostdb.Policy{Count: 5}, hostdb.Stamp{}, hostdb.Stamp{}},
		{hostdb.Policy{Age: time.Hour, Count: 5}, young, hour.Before()},
		{hostdb.Policy{Age: time.Hour, Count: 5}, old, old.Before()},
		{hostdb.Policy{Age: time.Hour, Count: 5}, hostdb.Stamp{}, hostdb.Stamp{}},
	} {
		got, err := test.p.Until(now, func(n uint64) (hostdb.Stamp, error) {
			if n != test.p.Count {
				t.Errorf("asked for the %d. newest", n)
			}
			return test.first, nil
		})
		if err != nil || got != test.want {
			t.Errorf("%+v lets go until %s (%v), want %s", test.p, got, err, test.want)
		}
	}
}

// A replica that joined after history was dropped answers what is younger as soon as it has the base.
func TestBaseOfAJoiner(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	list := someHistory(t, a)
	h := list[6].ID
	retain(t, a, nil, h)
	v := a.store.View()
	ctx := t.Context()
	if err := b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads()); err != nil {
		t.Fatal(err)
	}
	for after, last := "", "x"; last != ""; after = last {
		var piece []byte
		piece, last = v.Piece(after, 2000)
		if err := b.store.AddPiece(ctx, piece, after, last); err != nil {
			t.Fatal(err)
		}
	}
	sums := map[string]string{}
	for _, ns := range v.Namespaces() {
		sums[ns] = v.Digest(ns)
	}
	if err := b.store.FinishJoin(ctx, sums); err != nil {
		t.Fatal(err)
	}
	for _, hole := range b.store.Holes() {
		ops, _, gone, err := a.store.OperationsUntil(hole.Origin, hole.Until, 1<<20)
		if err == nil {
			err = b.store.Fill(ctx, hole, ops, gone)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.store.At(ctx, h); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Errorf("the past without its base: %v", err)
	}
	if _, err := b.store.Retain(ctx, hostdb.Retention{Until: h}); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Errorf("a retention without a base: %v", err)
	}
	base, horizon, err := a.store.Base(ctx)
	if err != nil || horizon != h {
		t.Fatalf("the base as of %s: %v", horizon, err)
	}
	var pieces [][]byte
	for after, last := "", "x"; last != ""; after = last {
		var piece []byte
		piece, last = base.Piece(after, 2000)
		pieces = append(pieces, piece)
	}
	sent, err := hostdb.StateOf(base.EncodeHeads(), pieces)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.TakeBase(ctx, horizon, hostdb.View{}); !errors.Is(err, hostdb.ErrMoved) {
		t.Errorf("a base of fewer operations: %v", err)
	}
	want := tellings(t, a, h)
	var crashes []*hostdbtest.Memory
	b.storage.SetMaxBatch(4000, 40)
	snapshot := func([]hostdb.Put) error { crashes = append(crashes, b.storage.Snapshot()); return nil }
	b.storage.SetHooks(hostdbtest.Hooks{Before: snapshot, After: snapshot})
	if err := b.store.TakeBase(ctx, horizon, sent); err != nil {
		t.Fatal(err)
	}
	if got := tellings(t, b, h); got != want {
		t.Fatalf("with the base\n%s\nwant\n%s", got, want)
	}
	for i, m := range crashes {
		re := &box{storage: m, clock: b.clock, name: "b"}
		re.open(t)
		if err := re.store.TakeBase(ctx, horizon, sent); err != nil {
			t.Fatal(err)
		}
		if got := tellings(t, re, h); got != want {
			t.Fatalf("after a crash at step %d\n%s\nwant\n%s", i/2, got, want)
		}
		if n := retain(t, re, nil, list[8].ID); n != 2 {
			t.Fatalf("%d operations dropped at the joiner", n)
		}
		if got, want := tellings(t, re, list[8].ID), tellings(t, a, list[8].ID); got != want {
			t.Fatalf("after a retention at the joiner\n%s\nwant\n%s", got, want)
		}
	}
}

// What people ask about a time that was dropped is refused with the reason; a conflict tells what is known of a side that is gone.
func TestDroppedHistoryIsTold(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 2}")))
	exchange(t, a, b)
	write(t, b, path("web1", "4", "cpu"))
	a.clock.now = a.clock.now.Add(time.Second)
	write(t, a, path("web1", "8", "cpu"))
	b.clock.now = a.clock.now
	exchange(t, a, b)
	list := revisionsOf(t, a)
	retain(t, a, []*box{a, b}, list[1].ID)
	ctx := t.Context()
	if _, err := a.store.Revision(list[1].ID); !errors.Is(err, hostdb.ErrDropped) {
		t.Errorf("a revision that was dropped: %v", err)
	}
	if _, err := a.store.Revision(hostdb.Stamp{Time: list[2].ID.Time + 1, Origin: 1}); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("a revision that never was: %v", err)
	}
	for _, text := range []string{"2020-01-31", list[0].ID.String(), "1h"} {
		if _, err := a.store.Cut(ctx, text); !errors.Is(err, hostdb.ErrDropped) || !strings.Contains(err.Error(), "retention") {
			t.Errorf("as of %s: %v", text, err)
		}
	}
	if cut, err := a.store.Cut(ctx, "0s"); err != nil || at(t, a, cut).Data("hosts", "web1").Text("cpu") != "8" {
		t.Errorf("as of now: %v", err)
	}
	got, more, err := a.store.Revisions(ctx, hostdb.RevisionQuery{Scope: hostdb.Scope{NS: "hosts", Key: "web1"}})
	if err != nil || more || len(got) != 1 {
		t.Errorf("%d revisions, more %v: %v", len(got), more, err)
	}
	lines, err := a.store.Blame(ctx, a.store.View(), hostdb.Scope{NS: "hosts", Key: "web1"})
	if err != nil || len(lines) != 1 || lines[0].User != "test" {
		t.Errorf("blame: %+v, %v", lines, err)
	}
	n := 0
	for c := range a.store.View().AllConflicts() {
		n++
		winner, loser, err := a.store.Sides(c)
		if err != nil || winner.Dropped || winner.Value != "8\n" || !loser.Dropped || loser.Revision.ID != list[1].ID || loser.Revision.At.IsZero() {
			t.Errorf("the sides of %+v are %+v and %+v: %v", c, winner, loser, err)
		}
	}
	if n != 1 {
		t.Errorf("%d conflicts", n)
	}
}
