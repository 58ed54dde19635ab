package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"hostmesh/mesh/meshtest"
)

// the founder's directory is gone or was discarded (restored, cloned, damaged): it must find its group, not found another.
func TestFounderWithoutItsDirectory(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3)
		h.expected = true
		h.holder()
		before, _ := c.nodes[1].l().Group()
		c.kill(0)
		c.nodes[0].shut()
		if err := os.RemoveAll(c.leaseDir(0)); err != nil {
			t.Fatal(err)
		}
		c.revive(0)
		h.add(0)
		time.Sleep(20 * time.Second)
		after, ok := c.nodes[0].l().Group()
		if !ok || after.ID != before.ID {
			t.Errorf("the founder has a group of its own: %+v, the others %+v", after, before)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, v := range h.violations {
			t.Error(v)
		}
	})
}

// after a recovery, the claim of what was never granted wins over that of the owner.
func TestClaimOfWhatWasNeverGranted(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		voting := c.voting(3)
		free := c.others(voting...)
		x, y := free[0], free[1]
		c.split([]int{x}, c.others(x))
		_, _ = within(func(ctx context.Context) (string, error) {
			return c.nodes[x].l().Grant(ctx, "blocks", []string{"a", "b"})
		})
		g, err := within(func(ctx context.Context) (string, error) {
			return c.nodes[y].l().Grant(ctx, "blocks", []string{"a", "b"})
		})
		if err != nil || g != "a" {
			t.Fatal(g, err)
		}
		c.heal()
		for _, i := range voting {
			c.kill(i)
		}
		time.Sleep(5 * time.Second)
		if _, err := c.nodes[x].l().Recover(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		r, err := within(func(ctx context.Context) (Record, error) { return c.nodes[x].l().Get(ctx, grantPrefix+"blocks/a") })
		if err != nil || string(r.Value) != meshtest.ID(y) {
			granted, gerr := c.nodes[y].l().Granted("blocks")
			t.Errorf("a is %q's, %v; it was granted to %q, which says %v of it (%v): %q", r.Value, err, meshtest.ID(y), granted, gerr, c.nodes[y].l().Health().OwnedTwo)
		}
	})
}

// apply and restore agree on the size of the state after a recovery.
func TestSizeAfterRecovery(t *testing.T) {
	s := newState()
	s.apply(1, op{Kind: opAdd, Key: counterPrefix + "n", Count: 1})
	before := s.Records[counterPrefix+"n"].Version
	s.apply(2, op{Kind: opRecover, Generation: 2})
	r, err := decodeState(bytes.NewReader(s.encode()))
	if err != nil {
		t.Fatal(err)
	}
	if r.size != s.size {
		t.Errorf("the state has %d bytes where it was folded, %d where it was restored", s.size, r.size)
	}
	if v := s.Records[counterPrefix+"n"].Version; v == before {
		t.Errorf("the counter changed and its version is still %d", v)
	}
	// The consequence: the same entry is taken by one voter and refused by the other.
	fill := func(s *state) {
		for i := 0; s.size+maxValue+20 < maxState; i++ {
			s.apply(uint64(10+i), op{Kind: opPut, Key: fmt.Sprintf("k%09d", i), Value: make([]byte, maxValue)})
		}
	}
	fill(s)
	if r, err = decodeState(bytes.NewReader(s.encode())); err != nil {
		t.Fatal(err)
	}
	last := op{Kind: opPut, Key: "last", Value: make([]byte, maxState-s.size-len("last"))}
	one, two := s.apply(9999, last), r.apply(9999, last)
	if (one.Err == nil) != (two.Err == nil) || !bytes.Equal(s.encode(), r.encode()) {
		t.Errorf("one voter: %v; another: %v", one.Err, two.Err)
	}
}

// a watcher is told that what it saw is gone with the former generation.
func TestWatchAcrossRecovery(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		voting := c.voting(3)
		free := c.others(voting...)
		for n := range 50 {
			if _, err := within(func(ctx context.Context) (any, error) {
				return c.nodes[free[0]].l().Put(ctx, fmt.Sprintf("mysql/%d", n), []byte("x"), 0)
			}); err != nil {
				t.Fatal(err)
			}
		}
		list, err := within(func(ctx context.Context) (Changes, error) { return c.nodes[free[0]].l().List(ctx, "mysql/") })
		if err != nil || len(list.Records) != 50 {
			t.Fatal(err)
		}
		for _, i := range voting {
			c.kill(i)
		}
		time.Sleep(5 * time.Second)
		if _, err := c.nodes[free[1]].l().Recover(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		c.eventually("it is written", func() error { // the first time it may ask the old leader
			_, err := within(func(ctx context.Context) (any, error) {
				return c.nodes[free[1]].l().Put(ctx, "mysql/new", []byte("y"), 0)
			})
			if errors.Is(err, ErrConflict) {
				return nil
			}
			return err
		})
		w, err := within(func(ctx context.Context) (Changes, error) {
			limit, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second) // the old leader does not answer
			defer stop()
			return c.nodes[free[0]].l().Watch(limit, "mysql/", list.AsOf)
		})
		if err != nil || !w.Anew || len(w.Records) != 1 {
			t.Errorf("asked after %d: %+v, %v", list.AsOf, w, err)
		}
	})
}

// as R1, but the directory was copied, so it was discarded by the rule for clones.
func TestFounderWithACopiedDirectory(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		before, _ := c.nodes[1].l().Group()
		c.kill(0)
		c.nodes[0].shut()
		dir := c.leaseDir(0)
		if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Rename(dir, dir+".was")
		os.Rename(dir+".copy", dir)
		c.revive(0)
		time.Sleep(20 * time.Second)
		after, ok := c.nodes[0].l().Group()
		if !ok || after.ID != before.ID {
			t.Errorf("the founder has a group of its own: %+v, the others %+v; alarm %q", after, before, c.nodes[0].l().Health().Alarm)
		}
	})
}

// TestTwoRecoveries: both sides of a cut are recovered, by force of nobody. Neither takes the other for itself, and a person is told.
func TestTwoRecoveries(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		voting := c.voting(3)
		a, b := voting[0], voting[1]
		free := c.others(voting...)
		c.kill(voting[2])
		c.split([]int{a, free[0]}, []int{b, free[1]})
		time.Sleep(5 * time.Second)
		ga, err := c.nodes[a].l().Recover(context.Background(), false)
		if err != nil {
			t.Fatal(err)
		}
		gb, err := c.nodes[b].l().Recover(context.Background(), false)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range map[int]string{a: "x/a", b: "x/b"} {
			if _, err := within(func(ctx context.Context) (any, error) { return c.nodes[i].l().Put(ctx, key, []byte("acknowledged"), 0) }); err != nil {
				t.Fatal(i, err)
			}
		}
		if ga.Generation != gb.Generation || ga.epoch() == gb.epoch() {
			t.Errorf("%+v and %+v", ga, gb)
		}
		c.heal()
		time.Sleep(60 * time.Second)
		for i, key := range map[int]string{a: "x/a", b: "x/b"} {
			h := c.nodes[i].l().Health()
			if !strings.Contains(h.Alarm, "two lease groups") {
				t.Errorf("node %d: %+v", i, h)
			}
			if _, err := within(func(ctx context.Context) (any, error) { return c.nodes[i].l().Get(ctx, key) }); err != nil {
				t.Errorf("%s, which node %d acknowledged, is gone there: %v", key, i, err)
			}
		}
		// A person says which is to stay.
		if _, err := c.nodes[a].l().Recover(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		c.eventually("all are of one generation again", func() error {
			for _, i := range []int{a, b, free[0], free[1]} {
				if g, _ := c.nodes[i].l().Group(); g.Generation != 3 {
					return fmt.Errorf("node %d: %+v", i, g)
				}
				if h := c.nodes[i].l().Health(); h.Alarm != "" {
					return fmt.Errorf("node %d: %+v", i, h)
				}
			}
			return nil
		})
		if _, err := within(func(ctx context.Context) (any, error) { return c.nodes[b].l().Get(ctx, "x/a") }); err != nil {
			t.Error(err)
		}
	})
}

// a node that wants nothing never hears of a new generation, never claims, and nothing is granted again.
func TestNodesWithoutOffersClaim(t *testing.T) {
	inCluster(t, 9, func(c *cluster) {
		voting := c.voting(5)
		dead := voting[:3]
		for _, i := range dead {
			c.kill(i)
		}
		time.Sleep(5 * time.Second)
		at := voting[4]
		if _, err := c.nodes[at].l().Recover(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		c.eventually("those that live have claimed", func() error {
			v, err := within(c.nodes[at].l().Voters)
			if err != nil {
				return err
			}
			if len(v.Owing) != len(dead) {
				var gens []uint64
				for _, n := range c.nodes {
					gens = append(gens, n.l().group().Generation)
				}
				return fmt.Errorf("owing: %v; the nodes are of generations %v", v.Owing, gens)
			}
			return nil
		})
	})
}

// bare is an office on a raft of one voter, without a mesh, in real time.
func bare(t *testing.T, store *raft.InmemStore, snaps raft.SnapshotStore) (*office, *raft.Raft, *machine, context.CancelFunc) {
	t.Helper()
	addr, trans := raft.NewInmemTransport("a")
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "a", hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 100*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	if has, _ := raft.HasExistingState(store, store, snaps); !has {
		if err := raft.BootstrapCluster(c, store, store, snaps, trans, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: addr}}}); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine()
	r, err := raft.NewRaft(c, m, store, store, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); r.Barrier(time.Second).Error() != nil; {
		if time.Now().After(end) {
			t.Fatal("nobody leads")
		}
		time.Sleep(10 * time.Millisecond)
	}
	l := &Lease{clock: bootClock{}, times: DefaultTimes(), commits: newHistogram()}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return &office{l: l, raft: r, m: m, ctx: ctx, term: r.CurrentTerm()}, r, m, cancel
}
