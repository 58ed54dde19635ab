package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// Inner nodes of the tree that are sick do not cut off those behind them, although no repair runs.
func TestSickInnerNodesDoNotCutOffTheirSubtrees(t *testing.T) {
	for what, sick := range map[string]func(ctx context.Context) error{
		"fail":          func(context.Context) error { return errors.New("sick") },
		"do not answer": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFabric()
			ms := mesh(t, f, 60, Config{Fanout: 4, RepairEvery: 1000 * time.Hour})
			defer stopAll(ms)
			put(t, ms[0], "before", "1")
			time.Sleep(10 * time.Second)
			ms[0].replica.mu.Lock()
			kids := ms[0].replica.roster.children("node000", "node000", 4)
			bad := []string{kids[1], ms[0].replica.roster.children("node000", kids[2], 4)[0]}
			ms[0].replica.mu.Unlock()
			f.set(func() {
				f.hook = func(ctx context.Context, _, to, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
					if slices.Contains(bad, to) {
						return nil, sick(ctx)
					}
					return call()
				}
			})
			put(t, ms[0], "web1", "1")
			time.Sleep(4 * time.Second)
			for _, m := range ms {
				if !m.store.View().Exists(hostdb.Hosts, "web1") && !slices.Contains(bad, m.name) {
					t.Errorf("two inner nodes that %s cut off %s", what, m.name)
				}
			}
		})
	}
}

// When most of a node's children fail it is the node that is sick: it does not try thousands of others.
func TestNodeThatIsCutOffDoesNotPushToEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 150, Config{Fanout: 4, RepairEvery: 1000 * time.Hour})
		defer stopAll(ms)
		time.Sleep(10 * time.Second)
		tried := map[string]bool{}
		f.set(func() {
			f.hook = func(_ context.Context, from, to, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
				if from == "node000" {
					f.mu.Lock()
					tried[to] = tried[to] || name == pushName
					f.mu.Unlock()
					return nil, errors.New("nobody is reached")
				}
				return call()
			}
		})
		put(t, ms[0], "web1", "1")
		time.Sleep(20 * time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		pushed := 0
		for _, is := range tried {
			if is {
				pushed++
			}
		}
		if pushed > 60 {
			t.Errorf("a node that reaches nobody tried to push to %d others", pushed)
		}
	})
}

// quiet are peers that are alive and never answer.
type quiet struct {
	alive   []string
	handles map[string]func(context.Context, string, []byte) ([]byte, error)
}

func (q *quiet) Alive() []string { return q.alive }
func (q *quiet) Call(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (q *quiet) Handle(name string, h func(context.Context, string, []byte) ([]byte, error)) {
	q.handles[name] = h
}
func (q *quiet) Changed() (<-chan struct{}, func()) { return nil, func() {} }

func TestIdlePeersCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{handles: map[string]func(context.Context, string, []byte) ([]byte, error){}}
		for i := range 5000 {
			q.alive = append(q.alive, fmt.Sprintf("node%04d", i))
		}
		m := &member{name: "self"}
		before := runtime.NumGoroutine()
		m.storage = nil
		f := newFabric()
		start(t, f, m, Config{})
		m.stop()
		r, err := Open(Config{Store: m.store, NodeID: "self", Peers: q})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.Run(ctx) }()
		time.Sleep(time.Minute)
		if n := runtime.NumGoroutine() - before; n > 20 {
			t.Errorf("%d goroutines for 5,000 peers at rest", n)
		}
		r.mu.Lock()
		known := len(r.peers)
		r.mu.Unlock()
		if known > 100 {
			t.Errorf("state is kept of %d peers after a minute", known)
		}
		stop()
		<-done
	})
}

// What is known of peers takes little, however they differ, and is never more than they hold.
func TestKnowledgeOfPeersIsBounded(t *testing.T) {
	var l vectors
	now := time.Unix(1e9, 0)
	peers := make([]*holding, 300)
	for i := range peers {
		peers[i] = &holding{}
	}
	truth := make([]uint64, len(peers))
	for step := range 2000 {
		now = now.Add(time.Second)
		v := &vector{made: now, pairs: []pair{{1, uint64(step + 1)}, {2, 5}}}
		i := rand.N(len(peers))
		peers[i].rebase(v)
		truth[i] = uint64(step + 1)
		if drop, older := l.add(v, now); drop != nil {
			for _, p := range peers {
				if p.base == drop {
					p.rebase(older)
				}
			}
		}
		if len(l) > maxVectors {
			t.Fatalf("%d vectors", len(l))
		}
		for i, p := range peers {
			if p.seq(1) > truth[i] {
				t.Fatalf("peer %d is said to hold %d of %d", i, p.seq(1), truth[i])
			}
		}
	}
	if got := peers[0].seq(1) + peers[1].seq(1) + peers[2].seq(1); got == 0 {
		t.Error("nothing is known")
	}
	h := &holding{base: &vector{pairs: []pair{{1, 10}, {2, 10}, {3, 10}, {4, 10}}}}
	h.set(1, 5, 3)
	h.set(2, 20, 3)
	h.set(3, 20, 3)
	h.set(4, 2, 3)
	for origin, most := range map[uint64]uint64{1: 5, 2: 20, 3: 20, 4: 2} {
		if got := h.seq(origin); got > most {
			t.Errorf("origin %d: %d, it holds %d", origin, got, most)
		}
	}
	if len(h.over) > 3 {
		t.Errorf("%d origins are kept apart, 3 may be", len(h.over))
	}
}

// Many origins are compared by sums: only what differs crosses.
func TestComparisonOfManyOriginsIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{Fanout: 1, RepairEvery: time.Second} // no pushes but to one
		a, b := &member{name: "a"}, &member{name: "b"}
		start(t, f, a, cfg)
		start(t, f, b, cfg)
		defer stopAll([]*member{a, b})
		var last [][]byte
		for i := range 600 {
			w := &member{name: fmt.Sprintf("w%d", i)}
			ops := runOf(t, w, 2)
			if _, err := a.store.Apply(t.Context(), ops[:1]); err != nil {
				t.Fatal(err)
			}
			last = append(last, ops[1])
		}
		until(t, "b has it all", func() bool {
			return b.store.View().Version() == a.store.View().Version() || b.store.View().Applied() == 600
		})
		equal(t, a, b)
		largest := 0
		f.set(func() {
			f.hook = func(_ context.Context, _, _, _ string, req []byte, call func() ([]byte, error)) ([]byte, error) {
				back, err := call()
				f.mu.Lock()
				largest = max(largest, len(req), len(back))
				f.mu.Unlock()
				return back, err
			}
		})
		if _, err := a.store.Apply(t.Context(), last[:2]); err != nil {
			t.Fatal(err)
		}
		until(t, "b has the rest", func() bool { return b.store.View().Applied() == 602 })
		equal(t, a, b)
		f.mu.Lock()
		defer f.mu.Unlock()
		if largest > 4000 {
			t.Errorf("a message of %d bytes for two operations among 600 origins", largest)
		}
	})
}

// runOf are the first n operations of a new run of a node that writes alone.
func runOf(t *testing.T, w *member, n int) [][]byte {
	t.Helper()
	store, err := hostdb.Open(hostdb.Config{OpenStorage: memory(), NodeID: w.name, Clock: skewed{w}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w.store = store
	for i := range n {
		put(t, w, fmt.Sprint(w.name, "-", i), "1")
	}
	ops, err := store.Operations(store.Origin(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return ops
}
