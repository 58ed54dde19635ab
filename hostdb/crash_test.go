package hostdb_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"

	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// errStopped is what a storage says from the moment on at which the world stopped.
var errStopped = errors.New("the world has stopped")

// crashStep is a row of the table of TestCrashAtEveryStep: something that a replica does with its storage.
type crashStep struct {
	name string
	// batchBytes and batchPuts are what the storage takes at once; 0 is what badgerdb takes.
	batchBytes, batchPuts int
	// prepare makes what the step begins with, and is not disturbed.
	prepare func(*crashRun)
	// do opens the replica and does the step. Its errors are the crash's; what is acknowledged it notes.
	do func(*crashRun) error
	// mend goes on after the crash where do may have been left, before the checks; nil for nothing.
	mend func(*crashRun)
	// shared has the writers of do share their commits.
	shared bool
	// wide: its documents are too large to look at all of them each time.
	wide bool
	// partial: this replica does not hold all of history, so that no other one can be made of it.
	partial bool
}

// crashRun is a replica that is stopped at one of its commits.
type crashRun struct {
	*box
	t    *testing.T
	peer *box // another replica

	mu    sync.Mutex // guards acked
	acked []acknowledged
}

// acknowledged is what a client was told: ns/key holds a document since a revision, or nothing.
type acknowledged struct {
	ns, key, doc string
	revision     hostdb.Stamp
}

// write writes and notes what was acknowledged. Nothing else may write to the key later.
func (r *crashRun) write(ns, key, doc string, fns ...func(*hostdb.Tx) error) error {
	c, err := r.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.acked = append(r.acked, acknowledged{ns, key, doc, c.Revision})
	}
	return err
}

func (r *crashRun) put(ns, key, doc string) error {
	return r.write(ns, key, r.parse(doc).YAML(), put(ns, key, r.parse(doc)))
}

func (r *crashRun) parse(text string) hostdb.Document {
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// tryOpen is open for a storage that may stop.
func (r *crashRun) tryOpen() error {
	s, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return r.storage, nil },
		NodeID:      r.name, Clock: r.clock,
	})
	r.store = s
	return err
}

// opened opens the replica and goes on with what is to be done.
func opened(do func(*crashRun) error) func(*crashRun) error {
	return func(r *crashRun) error {
		if err := r.tryOpen(); err != nil {
			return err
		}
		return do(r)
	}
}

// noise is text that hardly compresses.
func noise(seed byte, size int) string {
	buf := make([]byte, size*3/4)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(buf) // it returns no error
	return base64.RawURLEncoding.EncodeToString(buf)
}

// stopper stops a storage at the n-th commit that it sees, before it or after it was stored.
type stopper struct {
	n       int
	after   bool
	shared  bool
	mu      sync.Mutex
	seen    int
	stopped bool
}

func (s *stopper) hooks() hostdbtest.Hooks {
	meet := func(after bool) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stopped {
			return errStopped
		}
		if !after {
			s.seen++
		}
		if s.stopped = s.seen == s.n && s.after == after; s.stopped {
			return errStopped
		}
		return nil
	}
	return hostdbtest.Hooks{
		Before: func([]hostdb.Put) error {
			if s.shared {
				synctest.Wait() // the others queue up behind this commit
			}
			return meet(false)
		},
		After: func([]hostdb.Put) error { return meet(true) },
	}
}

func (s *stopper) has() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// crashSteps are what a replica does with its storage. New kinds of work are new rows.
var crashSteps = []crashStep{
	{
		name: "plain commits",
		do: opened(func(r *crashRun) error {
			for i := range 3 {
				if err := r.put("hosts", fmt.Sprint("plain", i), fmt.Sprintf("{n: %d}", i)); err != nil {
					return err
				}
			}
			if err := r.write("tags", "some", "n: 1\n", put("tags", "some", r.parse("{n: 1}")), member("some", "plain0"), member("some", "plain1")); err != nil {
				return err
			}
			return r.write("hosts", "old", "", func(tx *hostdb.Tx) error { return tx.Delete("hosts", "old") })
		}),
	},
	{
		name: "writers that share commits", shared: true,
		do: opened(func(r *crashRun) error {
			var g sync.WaitGroup
			errs := make([]error, 7)
			for i := range errs {
				g.Go(func() {
					for n := range 2 {
						errs[i] = errors.Join(errs[i], r.put("hosts", fmt.Sprintf("shared%d-%d", i, n), fmt.Sprintf("{n: %d}", i)))
					}
				})
			}
			g.Wait()
			return errors.Join(errs...)
		}),
	},
	{
		name: "operations larger than a batch", batchBytes: 4000, batchPuts: 20,
		do: opened(func(r *crashRun) error {
			tag := append(r.crowd("part", 30), put("tags", "large", r.parse("{n: 1}")))
			for i := range 30 {
				tag = append(tag, member("large", fmt.Sprintf("part%02d", i)))
			}
			if err := r.write("hosts", "part00", "n: 0\n", tag...); err != nil {
				return err
			}
			if err := r.write("tags", "large", "", func(tx *hostdb.Tx) error { return tx.Delete("tags", "large") }); err != nil {
				return err
			}
			return r.write("hosts", "part07", "", func(tx *hostdb.Tx) error { return tx.Delete("hosts", "part07") })
		}),
	},
	{
		name: "documents in parts", wide: true, batchBytes: 600_000, batchPuts: 6000,
		prepare: func(r *crashRun) {
			write(r.t, r.box, put("hosts", "wide", r.parse("{}")))
			exchange(r.t, r.box, r.peer)
			write(r.t, r.peer, put("hosts", "wide", r.parse("{there: x"+noise(1, 400_000)+"}")))
		},
		do: opened(func(r *crashRun) error {
			if err := r.write("hosts", "sign1", "here\n", put("hosts", "wide", r.parse("{here: x"+noise(2, 400_000)+"}")), put("hosts", "sign1", r.parse("here"))); err != nil {
				return err
			}
			if err := r.take(r.peer); err != nil {
				return err
			}
			return r.write("hosts", "wide", "small: 1\n", put("hosts", "wide", r.parse("{small: 1}")))
		}),
	},
	{
		name: "operations of others", batchBytes: 4000, batchPuts: 40,
		prepare: func(r *crashRun) {
			for i := range 6 {
				write(r.t, r.peer, put("hosts", fmt.Sprint("theirs", i), r.parse(fmt.Sprintf("{n: %d}", i))))
			}
			write(r.t, r.peer, r.crowd("theirs-large", 30)...)
			r.peer.restart(r.t)
			write(r.t, r.peer, put("hosts", "theirs-last", r.parse("{}")), func(tx *hostdb.Tx) error { return tx.Delete("hosts", "old") })
		},
		do: opened(func(r *crashRun) error {
			if err := r.take(r.peer); err != nil {
				return err
			}
			return r.put("hosts", "ours", "{}")
		}),
	},
	{
		name: "upgrade from format 1", batchBytes: 1000, batchPuts: 8,
		prepare: func(r *crashRun) {
			for i := range 12 {
				write(r.t, r.box, put("hosts", fmt.Sprint("from-old", i), r.parse("{}")))
			}
			puts := []hostdb.Put{{Key: []byte("mformat"), Value: binary.BigEndian.AppendUint64(nil, 1)}}
			if err := r.storage.Scan([]byte{'t'}, nil, func(key, _ []byte) error {
				puts = append(puts, hostdb.Put{Key: bytes.Clone(key)})
				return nil
			}); err != nil {
				r.t.Fatal(err)
			}
			r.storage.SetMaxBatch(1<<20, 1000)
			if err := r.storage.Commit(puts); err != nil {
				r.t.Fatal(err)
			}
		},
		do: opened(func(r *crashRun) error { return r.put("hosts", "after-upgrade", "{}") }),
	},
	{
		name: "reopening, again and again", batchBytes: 4000, batchPuts: 40,
		do: func(r *crashRun) error {
			for i := range 3 {
				if err := r.tryOpen(); err != nil {
					return err
				}
				if err := r.write("hosts", fmt.Sprintf("opening%d07", i), "n: 7\n", r.crowd(fmt.Sprint("opening", i), 20)...); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "a state of another replica, and its history", batchBytes: 3000, batchPuts: 30,
		prepare: func(r *crashRun) {
			for i := range 8 {
				write(r.t, r.peer, put("hosts", fmt.Sprint("known", i), r.parse("{n: "+noise(byte(i), 400)+"}")))
			}
			write(r.t, r.peer, put("tags", "known", r.parse("{}")), member("known", "known1"), member("known", "known5"))
			write(r.t, r.peer, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "known5") })
			r.peer.restart(r.t)
			write(r.t, r.peer, put("hosts", "known-last", r.parse("{}")))
			empty := openBox(r.t, r.name)
			empty.storage.SetMaxBatch(3000, 30)
			r.storage, r.store, r.clock = empty.storage, empty.store, empty.clock
		},
		do:   opened(func(r *crashRun) error { return r.joinPeer() }),
		mend: func(r *crashRun) { r.must(r.joinPeer()) },
	},
	{
		name: "an operation of a forked chain is kept",
		do: opened(func(r *crashRun) error {
			origin, raw := forkOf(r)
			if err := r.store.KeepFork(raw); err != nil {
				return err
			}
			kept, err := r.store.Forks()
			if err != nil || len(kept) != 1 || kept[0].Origin != origin {
				r.t.Errorf("kept aside: %+v, %v", kept, err)
			}
			return r.put("hosts", "after-fork", "{}")
		}),
		mend: func(r *crashRun) {
			if kept, err := r.store.Forks(); err != nil || r.has("hosts", "after-fork") && len(kept) != 1 {
				r.t.Errorf("kept aside after the crash: %+v, %v", kept, err)
			}
		},
	},
	{
		name: "registers are repaired", batchBytes: 2000, batchPuts: 8,
		prepare: func(r *crashRun) {
			var rot []hostdb.Put
			for i := range 12 {
				write(r.t, r.box, put("hosts", fmt.Sprint("rot", i), r.parse("{n: 1}")))
			}
			exchange(r.t, r.box, r.peer)
			if err := r.storage.Scan([]byte("khosts\x00rot"), nil, func(key, value []byte) error {
				rot = append(rot, hostdb.Put{Key: bytes.Clone(key), Value: nil}) // the registers of keys are gone
				return nil
			}); err != nil || len(rot) != 12 {
				r.t.Fatalf("%d rows, %v", len(rot), err)
			}
			for _, p := range rot {
				if err := r.storage.Commit([]hostdb.Put{p}); err != nil {
					r.t.Fatal(err)
				}
			}
		},
		do:   opened(func(r *crashRun) error { return r.repair() }),
		mend: func(r *crashRun) { r.must(r.repair()) },
	},
	{
		name: "closed runs are retired",
		do: opened(func(r *crashRun) error {
			var runs []hostdb.Head
			for h := range r.store.View().Heads() {
				runs = append(runs, h)
			}
			if _, err := r.store.RetireRuns(context.Background(), runs); err != nil {
				return err
			}
			return r.put("hosts", "after-retirement", "{}")
		}),
	},
	{
		name: "history is dropped", partial: true, batchBytes: 2000, batchPuts: 10,
		prepare: func(r *crashRun) {
			for i := range 30 {
				write(r.t, r.box, put("hosts", fmt.Sprint("kept", i%4), r.parse(fmt.Sprintf("{n: %d}", i))))
				if i == 20 {
					write(r.t, r.box, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "kept2") })
					r.restart(r.t)
				}
			}
			exchange(r.t, r.box, r.peer)
		},
		do: opened(func(r *crashRun) error {
			if err := r.put("hosts", "before-drop", "{}"); err != nil {
				return err
			}
			// Once more than half of what there is, and then all but the last.
			list := revisionsOf(r.t, r.box)
			for _, until := range []hostdb.Stamp{list[20].ID, list[len(list)-2].ID} {
				if _, err := r.store.Retain(context.Background(), hostdb.Retention{Until: until}); err != nil {
					return err
				}
			}
			return r.put("hosts", "after-drop", "{}")
		}),
		mend: func(r *crashRun) {
			_, err := r.store.Retain(context.Background(), hostdb.Retention{})
			r.must(err)
		},
	},
	{
		name: "operations of a fast clock are made anew",
		prepare: func(r *crashRun) {
			slow := r.clock.now
			r.clock.now = slow.Add(time.Hour)
			for i := range 3 {
				write(r.t, r.box, put("hosts", fmt.Sprint("fast", i), r.parse(fmt.Sprintf("{n: %d}", i))), put("tags", fmt.Sprint("fast", i), r.parse("{}")))
			}
			r.clock.now = slow
		},
		do: opened(func(r *crashRun) error {
			if err := r.restamp(); err != nil {
				return err
			}
			return r.put("hosts", "after-restamp", "{}")
		}),
		mend: func(r *crashRun) {
			r.must(r.restamp())
			for i := range 3 {
				name := fmt.Sprint("fast", i)
				if got := r.store.View().Data("hosts", name).YAML(); got != fmt.Sprintf("n: %d\n", i) || !r.has("tags", name) {
					r.t.Fatalf("%s is %q after its operation was made anew", name, got)
				}
			}
			if moves, err := r.store.Restamps(context.Background()); err != nil || len(moves) != 1 || len(moves[0].Moved) != 3 {
				r.t.Fatalf("made anew: %+v, %v", moves, err)
			}
		},
	},
}

// crowd puts n hosts.
func (r *crashRun) crowd(prefix string, n int) []func(*hostdb.Tx) error {
	var fns []func(*hostdb.Tx) error
	for i := range n {
		fns = append(fns, put("hosts", fmt.Sprintf("%s%02d", prefix, i), r.parse(fmt.Sprintf("{n: %d}", i))))
	}
	return fns
}

// sum names a state.
func sum(v hostdb.View) string {
	text := v.Version().String()
	for _, ns := range v.Namespaces() {
		text += " " + ns + " " + v.Digest(ns)
	}
	return text
}

func member(tag, host string) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error { return tx.AddMember("tags", tag, host) }
}

func (r *crashRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *crashRun) has(ns, key string) bool { return r.store.View().Exists(ns, key) }

// take brings what the other holds to this replica, in one go for each origin, and expects it to be there when it is acknowledged.
func (r *crashRun) take(from *box) error {
	for origin, seq := range from.store.View().Vector() {
		var raws [][]byte
		for have := r.store.View().Seq(origin); have < seq; {
			ops, err := from.store.Operations(origin, have, 1<<20)
			r.must(err)
			raws = append(raws, ops...)
			have += uint64(len(ops))
		}
		if len(raws) == 0 {
			continue
		}
		if _, err := r.store.Apply(context.Background(), raws); err != nil {
			return err
		}
		for _, raw := range raws {
			op, err := hostdb.ParseOperation(raw)
			r.must(err)
			r.mu.Lock()
			r.acked = append(r.acked, acknowledged{revision: op.Stamp()})
			r.mu.Unlock()
		}
	}
	return nil
}

// joinPeer takes the whole state of the other, from where an attempt before ended, and then its history.
func (r *crashRun) joinPeer() error {
	ctx, from := context.Background(), r.peer.store.View()
	switch n := r.store.View().Applied(); {
	case n == 0:
		if r.store.View().Len("hosts") != 0 {
			r.t.Fatal("half a state is shown")
		}
		j, ok := r.store.Joining()
		if !ok {
			if err := r.store.BeginJoin(ctx, from.Version().String(), from.EncodeHeads()); err != nil {
				return err
			}
			j, _ = r.store.Joining()
		}
		for after, more := j.After, true; more; {
			piece, last := from.Piece(after, 500)
			if err := r.store.AddPiece(ctx, piece, after, last); err != nil {
				return err
			}
			after, more = last, last != ""
		}
		digests := map[string]string{}
		for _, ns := range from.Namespaces() {
			digests[ns] = from.Digest(ns)
		}
		if err := r.store.FinishJoin(ctx, digests); err != nil {
			return err
		}
	case r.store.View().Len("hosts") != from.Len("hosts"):
		r.t.Fatalf("half a state is shown: %d hosts of %d", r.store.View().Len("hosts"), from.Len("hosts"))
	}
	for holes := r.store.Holes(); len(holes) > 0; holes = r.store.Holes() {
		ops, _, gone, err := r.peer.store.OperationsUntil(holes[0].Origin, holes[0].Until, 600)
		r.must(err)
		if err := r.store.Fill(ctx, holes[0], ops, gone); err != nil {
			return err
		}
	}
	return nil
}

// restamp makes what nobody else has seen anew under this replica's clock.
func (r *crashRun) restamp() error {
	_, err := r.store.Restamp(context.Background(), hostdb.Restamping{Held: r.peer.store.View().Seq})
	return err
}

func (r *crashRun) repair() error {
	right, err := r.store.Refold(context.Background())
	r.must(err)
	_, err = r.store.Repair(context.Background(), right)
	return err
}

// forkOf is an operation that a copy of this replica's directory could have made: it has the place of one that is held.
func forkOf(r *crashRun) (origin uint64, raw []byte) {
	r.t.Helper()
	for o := range r.store.View().Vector() {
		ops, err := r.store.Operations(o, 0, 1<<20)
		r.must(err)
		if op, err := hostdb.ParseOperation(ops[0]); err == nil && bytes.Contains(ops[0], []byte("test")) {
			return op.Origin, bytes.Replace(ops[0], []byte("test"), []byte("fork"), 1)
		}
	}
	r.t.Fatal("no operation to fork")
	return 0, nil
}

// TestCrashAtEveryStep stops the world at each commit of each step, before it and when it was stored but nobody knew, and looks at what
// is found then: all that was acknowledged, exactly; no half operation; what a replica that folds the same operations has. What
// makes it good after the crash is stopped at each of its commits as well.
func TestCrashAtEveryStep(t *testing.T) {
	for _, step := range crashSteps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			var begin *hostdbtest.Memory
			var peer *hostdbtest.Memory
			synctest.Test(t, func(t *testing.T) {
				r := &crashRun{t: t, box: openBox(t, "a"), peer: openBox(t, "b")}
				write(t, r.box, put("hosts", "old", r.parse("{n: 1}")), put("tags", "some-old", r.parse("{}")), member("some-old", "old"))
				exchange(t, r.box, r.peer)
				if step.batchBytes > 0 {
					r.storage.SetMaxBatch(step.batchBytes, step.batchPuts)
				}
				if step.prepare != nil {
					step.prepare(r)
				}
				r.must(r.store.Close())
				begin, peer = r.storage.Snapshot(), r.peer.storage.Snapshot()
				if step.batchBytes > 0 {
					begin.SetMaxBatch(step.batchBytes, step.batchPuts)
				}
			})
			crashes, again := 0, 0
			for n, more := 1, true; more; n++ {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						stop := &stopper{n: n, after: after, shared: step.shared}
						r := newCrashRun(t, begin, peer)
						r.storage.SetHooks(stop.hooks())
						err := step.do(r)
						if more = stop.has(); more && err == nil {
							t.Errorf("stopped at commit %d, it says that all is well", n)
						} else if !more && err != nil {
							t.Fatalf("without a crash: %v", err)
						}
						if more {
							crashes++
						}
						again += r.recover(step)
					})
				}
			}
			if crashes < 4 {
				t.Errorf("%d crashes: the step has too few commits to show anything", crashes)
			}
			t.Logf("%d crashes, and %d more while they were made good", crashes, again)
		})
	}
}

func newCrashRun(t *testing.T, storage, peer *hostdbtest.Memory) *crashRun {
	clock := &fakeClock{time.UnixMilli(1_700_000_100_000)}
	r := &crashRun{t: t, box: &box{storage: storage.Snapshot(), clock: clock, name: "a"}, peer: &box{storage: peer.Snapshot(), clock: clock, name: "b"}}
	r.peer.open(t)
	return r
}

// recover opens what a crash left, once for good and once for each commit that this makes, stopped at that one, and checks it. It
// returns how many those were.
func (r *crashRun) recover(step crashStep) (again int) {
	r.t.Helper()
	left := r.storage.Snapshot()
	r.storage = left.Snapshot()
	r.open(r.t)
	is := sum(r.store.View())
	for n := 1; ; n++ {
		stopped := false
		for _, after := range []bool{false, true} {
			stop := &stopper{n: n, after: after}
			second := &crashRun{t: r.t, box: &box{storage: left.Snapshot(), clock: r.clock, name: r.name}}
			second.storage.SetHooks(stop.hooks())
			if err := second.tryOpen(); err == nil {
				continue
			} else if !errors.Is(err, errStopped) {
				r.t.Fatalf("opening after a crash: %v", err)
			}
			stopped = true
			again++
			second.restart(r.t)
			if got := sum(second.store.View()); got != is {
				r.t.Fatalf("after a crash while a crash was made good there is %s, not %s\n%s", got, is, picture(second.store.View()))
			}
		}
		if !stopped {
			break
		}
	}
	if step.mend != nil {
		step.mend(r)
	}
	r.check(step)
	return again
}

// check looks at a replica after a crash.
func (r *crashRun) check(step crashStep) {
	t := r.t
	t.Helper()
	report, err := hostdb.Verify(context.Background(), r.storage, hostdb.VerifyOptions{})
	if err != nil || report.Damaged() {
		t.Fatalf("the storage is damaged: %+v, %v", report.Findings, err)
	}
	view := r.store.View()
	known := map[hostdb.Stamp]bool{}
	err = r.store.EachRevision(context.Background(), hostdb.Stamp{}, func(rev hostdb.Revision) error {
		known[rev.ID] = true
		return nil
	})
	dropped := step.partial && errors.Is(err, hostdb.ErrDropped)
	if err != nil && !dropped {
		t.Fatal(err)
	}
	for _, a := range r.acked {
		if !dropped && !known[a.revision] {
			t.Fatalf("%s/%s was acknowledged as revision %s, which history does not have", a.ns, a.key, a.revision)
		}
		switch item, ok := view.Get(a.ns, a.key); {
		case a.key == "":
		case !ok && a.doc != "", ok && item.YAML() != a.doc:
			t.Fatalf("%s/%s was acknowledged as %.80q and is %.80q", a.ns, a.key, a.doc, item.YAML())
		}
	}
	checkIndexes(t, view)

	// Whoever folds the same operations has the same.
	if !step.partial {
		fresh := openBox(t, "c")
		fresh.clock = r.clock
		fresh.restart(t)
		deliverAll(t, r.box, fresh)
		if got := fresh.store.View(); sum(got) != sum(view) || !step.wide && picture(got) != picture(view) {
			t.Fatalf("after the crash there is\n%s\nand its operations make\n%s", picture(view), picture(got))
		}
	}
	// The chain goes on from what is there, and the others take it.
	var last hostdb.Head
	for h := range view.AllHeads() {
		if h.Node == r.name && h.Time > last.Time {
			last = h
		}
	}
	write(t, r.box, put("hosts", "goes-on", r.parse("{}")))
	run := r.store.Origin()
	ops, err := r.store.Operations(run, view.Seq(run), 1)
	r.must(err)
	op, err := hostdb.ParseOperation(ops[0])
	r.must(err)
	if last.Origin != 0 && (!bytes.Equal(op.After, last.Hash[:]) || run != last.Origin && (op.Prev == nil || op.Prev.Origin != last.Origin || op.Prev.Seq != last.Seq)) {
		t.Errorf("operation %x/%d after the crash follows %+v, not %x/%d", run, op.Seq, op.Prev, last.Origin, last.Seq)
	}
	exchange(t, r.box, r.peer)
	for _, ns := range view.Namespaces() {
		if got, want := r.peer.store.View().Digest(ns), r.store.View().Digest(ns); got != want {
			t.Fatalf("another replica has\n%s\nof\n%s", picture(r.peer.store.View()), picture(r.store.View()))
		}
	}
}
