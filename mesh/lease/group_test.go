package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh/meshtest"
)

// TestEachOfTheFirstVotersIsReplaced kills the first three voters one after another, for good, while clients write: the group goes on
// without any of them.
func TestEachOfTheFirstVotersIsReplaced(t *testing.T) {
	inCluster(t, 7, func(c *cluster) {
		c.voting(5)
		first := map[int]bool{}
		h := c.campaign("mirror", 0, 1, 2, 3, 4, 5, 6)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var mu sync.Mutex
		last := uint64(0)
		wg.Go(func() { // a counter that only grows
			for n := 0; ctx.Err() == nil; n++ {
				i := n % 7
				c.mu.Lock()
				dead := c.dead[i]
				c.mu.Unlock()
				if dead {
					continue
				}
				l := c.nodes[i].l()
				v, err := within(func(ctx context.Context) (uint64, error) { return l.Next(ctx, "numbers", 1) })
				mu.Lock()
				if err == nil && v <= last {
					t.Errorf("the counter went from %d to %d", last, v)
				}
				if err == nil {
					last = v
				}
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
		for i := range 3 {
			first[i] = true
			c.kill(i)
			var dead []int
			for x := range first {
				dead = append(dead, x)
			}
			// Nothing removes them from the mesh: seven are known, of which four are alive at the end.
			c.eventually(fmt.Sprintf("node %d votes no more", i), func() error {
				lead := c.leader()
				if lead < 0 {
					return errors.New("nobody leads")
				}
				v, err := within(c.nodes[lead].l().Voters)
				if err != nil {
					return err
				}
				for _, s := range v.Servers {
					for x := range first {
						if s.Node == meshtest.ID(x) {
							if free := 7 - len(first); free < 5 && len(v.Servers) == 5 {
								continue // there is nobody to replace it with
							}
							return fmt.Errorf("%+v", v)
						}
					}
				}
				return nil
			})
			h.holder(c.others(dead...)...)
		}
		mu.Lock()
		before := last
		mu.Unlock()
		time.Sleep(5 * time.Second)
		cancel()
		wg.Wait()
		if last <= before {
			t.Error("nothing is written any more")
		}
	})
}

// TestVotersOfThree: of six nodes, each of the three that vote at first dies for good.
func TestVotersOfThree(t *testing.T) {
	inCluster(t, 6, func(c *cluster) {
		first := c.voting(3)
		for n, i := range first {
			l := c.nodes[c.others(first...)[0]].l()
			if _, err := within(func(ctx context.Context) (any, error) {
				return nil, l.ClaimName(ctx, "vms", fmt.Sprintf("web%d", n), "box1")
			}); err != nil {
				t.Fatal(err)
			}
			c.kill(i)
			c.voting(3, first[:n+1]...)
		}
		for n := range first {
			l := c.nodes[c.others(first...)[1]].l()
			_, err := within(func(ctx context.Context) (any, error) {
				return nil, l.ClaimName(ctx, "vms", fmt.Sprintf("web%d", n), "box2")
			})
			if !errors.Is(err, ErrTaken) {
				t.Errorf("web%d is forgotten: %v", n, err)
			}
		}
		// They come back: what they know is out of date, and they are told.
		for _, i := range first {
			c.revive(i)
		}
		c.eventually("the former voters know that they are none", func() error {
			for _, i := range first {
				if h := c.nodes[i].l().Health(); h.Serving {
					return fmt.Errorf("node %d: %+v", i, h)
				}
			}
			return nil
		})
		c.voting(3, first...)
	})
}

func TestTwoDatacentersAreCut(t *testing.T) {
	half := func(i int) string { return fmt.Sprintf("dc%d", i/3+1) }
	inCluster(t, 6, func(c *cluster) {
		if g, err := c.nodes[4].l().Found(context.Background(), true, false); !errors.Is(err, ErrHasGroup) {
			t.Fatalf("two home groups: %+v, %v", g, err)
		}
		if _, err := c.nodes[4].l().Found(context.Background(), false, false); err != nil {
			t.Fatal(err)
		}
		c.eventually("both datacenters know their groups", func() error {
			for i, n := range c.nodes {
				if g, ok := n.l().Group(); !ok || g.Datacenter != half(i) || g.Home != (i < 3) {
					return fmt.Errorf("node %d: %+v", i, g)
				}
			}
			return nil
		})
		if _, err := c.nodes[5].l().Found(context.Background(), false, false); !errors.Is(err, ErrHasGroup) {
			t.Errorf("a second group of one datacenter: %v", err)
		}
		one, two := c.campaign("vip/10.1.0.1", 0, 1, 2), c.campaign("vip/10.2.0.1", 3, 4, 5)
		one.holder()
		two.holder()
		c.split([]int{0, 1, 2}, []int{3, 4, 5})
		time.Sleep(20 * time.Second)
		for _, h := range []*holders{one, two} {
			at := h.holder()
			other := c.others(append([]int{at}, map[bool][]int{true: {3, 4, 5}, false: {0, 1, 2}}[at < 3]...)...)[0]
			if _, err := within(func(ctx context.Context) (Status, error) {
				return c.nodes[at].l().Move(ctx, h.duty, meshtest.ID(other))
			}); err != nil {
				t.Error(err)
			}
			h.holder(other)
		}
		c.heal()
		time.Sleep(20 * time.Second)
		one.holder(0, 1, 2)
		two.holder(3, 4, 5)
		for i, n := range c.nodes {
			if g, _ := n.l().Group(); g.Datacenter != half(i) || g.Generation != 1 {
				t.Errorf("node %d: %+v", i, g)
			}
		}
	}, func(c *cluster) { c.dc = half })
}

// TestAMeshOlderThanItsGroups gets one where it was founded, when all its nodes can be asked.
func TestAMeshOlderThanItsGroups(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.eventually("there is a group", func() error {
			for i, n := range c.nodes {
				if g, ok := n.l().Group(); !ok || !g.Home {
					return fmt.Errorf("node %d: %+v", i, g)
				}
			}
			return nil
		})
		c.campaign("mirror", 0, 1, 2).holder()
	}, func(c *cluster) { c.old = true })
}

// TestALostMajority: nothing is granted; a node that is left begins a new generation; everything goes on, and the old voters, when they
// come back, take part as new ones.
func TestALostMajority(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		voting := c.voting(3)
		free := c.others(voting...)
		h := c.campaign("mirror", free...)
		h.holder()
		block, err := within(func(ctx context.Context) (string, error) {
			return c.nodes[free[0]].l().Grant(ctx, "blocks", []string{"10.0.0.0/24", "10.0.1.0/24"})
		})
		if err != nil || block != "10.0.0.0/24" {
			t.Fatal(block, err)
		}
		for range 3 {
			if _, err := within(func(ctx context.Context) (uint64, error) { return c.nodes[free[0]].l().Next(ctx, "n", 1) }); err != nil {
				t.Fatal(err)
			}
		}
		survivor := voting[2]
		if _, err := c.nodes[survivor].l().Recover(context.Background(), false); !errors.Is(err, ErrQuorum) {
			t.Errorf("a group that is well is recovered: %v", err)
		}
		c.kill(voting[0])
		c.kill(voting[1])
		time.Sleep(10 * time.Second)
		for _, x := range h.c.nodes[free[0]].l().Holding() {
			t.Errorf("without a majority %s is held", x.Duty)
		}
		if _, err := within(func(ctx context.Context) (uint64, error) { return c.nodes[free[0]].l().Next(ctx, "n", 1) }); !errors.Is(err, ErrNoLeader) {
			t.Errorf("without a majority: %v", err)
		}
		g, err := c.nodes[survivor].l().Recover(context.Background(), false)
		if err != nil || g.Generation != 2 {
			t.Fatal(g, err)
		}
		h.holder(free...) // with a higher number than before: begin checks that
		c.eventually("who is there has claimed", func() error {
			v, err := within(c.nodes[survivor].l().Voters)
			if err != nil {
				return err
			}
			if len(v.Owing) != 2 {
				return fmt.Errorf("%v", v.Owing)
			}
			return nil
		})
		taken := func(ctx context.Context) (string, error) {
			return c.nodes[free[1]].l().Grant(ctx, "blocks", []string{"10.0.0.0/24", "10.0.1.0/24"})
		}
		if b, err := within(taken); !errors.Is(err, ErrRecovering) {
			t.Errorf("%s is granted while nodes owe their claims: %v", b, err)
		}
		if n, err := within(func(ctx context.Context) (uint64, error) { return c.nodes[free[0]].l().Next(ctx, "n", 1) }); err != nil || n <= 4 {
			t.Errorf("the counter is at %d: %v", n, err)
		}
		if _, err := within(func(ctx context.Context) (any, error) {
			return nil, c.nodes[survivor].l().Excuse(ctx, meshtest.ID(voting[0]))
		}); err != nil {
			t.Fatal(err)
		}
		c.revive(voting[0])
		c.revive(voting[1])
		c.eventually("the blocks are granted again, each once", func() error {
			b, err := within(taken)
			if err == nil && b != "10.0.1.0/24" {
				t.Fatalf("%s is granted twice", b)
			}
			return err
		})
		for _, i := range voting[:2] {
			c.eventually("the old voters follow", func() error {
				if g, _ := c.nodes[i].l().Group(); g.Generation != 2 {
					return fmt.Errorf("%+v", g)
				}
				return nil
			})
		}
		c.voting(3)
	})
}

// TestRecoveredWithoutACopy: no voter is left. What nodes own comes in again; the rest is lost, and the numbers grow all the same.
func TestRecoveredWithoutACopy(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		voting := c.voting(3)
		free := c.others(voting...)
		h := c.campaign("mirror", free...)
		h.holder()
		if _, err := within(func(ctx context.Context) (string, error) {
			return c.nodes[free[0]].l().Grant(ctx, "blocks", []string{"a", "b"})
		}); err != nil {
			t.Fatal(err)
		}
		for _, i := range voting {
			c.kill(i)
		}
		time.Sleep(5 * time.Second)
		if _, err := c.nodes[free[1]].l().Recover(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		h.holder(free...)
		for _, i := range voting {
			c.eventually("it is excused", func() error {
				_, err := within(func(ctx context.Context) (any, error) { return nil, c.nodes[free[1]].l().Excuse(ctx, meshtest.ID(i)) })
				return err
			})
		}
		c.eventually("grants go on", func() error {
			b, err := within(func(ctx context.Context) (string, error) {
				return c.nodes[free[1]].l().Grant(ctx, "blocks", []string{"a", "b"})
			})
			if err == nil && b != "b" {
				t.Fatalf("%s is granted twice", b)
			}
			return err
		})
	})
}

// TestADirectoryThatWasCopied: the copy takes part under an id of its own, and cannot vote for the original.
func TestADirectoryThatWasCopied(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		i := voting[0]
		if i == c.leader() {
			i = voting[1]
		}
		before := c.nodes[i].l().disk.RaftID()
		c.kill(i)
		c.nodes[i].shut()
		dir := c.leaseDir(i)
		if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir, dir+".was"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".copy", dir); err != nil {
			t.Fatal(err)
		}
		c.revive(i)
		h := c.nodes[i].l().Health()
		if !strings.Contains(h.Alarm, "discarded") || c.nodes[i].l().disk.RaftID() == before || h.Serving {
			t.Errorf("%+v", h)
		}
		c.voting(3)
		c.campaign("mirror", c.others()...).holder()
	})
}

func TestDamagedFiles(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		i := voting[0]
		if i == c.leader() {
			i = voting[1]
		}
		for n := range 50 {
			if _, err := within(func(ctx context.Context) (uint64, error) { return c.nodes[i].l().Next(ctx, "n", 1) }); err != nil {
				t.Fatal(n, err)
			}
		}
		c.kill(i)
		c.nodes[i].shut()
		files, err := filepath.Glob(filepath.Join(c.leaseDir(i), "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		more, _ := filepath.Glob(filepath.Join(c.leaseDir(i), "*"))
		hurt := 0
		for _, f := range append(files, more...) {
			b, err := os.ReadFile(f)
			if err != nil || len(b) < 1000 {
				continue
			}
			copy(b[300:], make([]byte, 200))
			if err := os.WriteFile(f, b, 0o600); err != nil {
				t.Fatal(err)
			}
			hurt++
		}
		if hurt == 0 {
			t.Fatalf("nothing to damage among %v", more)
		}
		c.revive(i)
		if h := c.nodes[i].l().Health(); !strings.Contains(h.Alarm, "damaged") {
			t.Errorf("%+v", h)
		}
		c.voting(3)
	})
}

func TestRecords(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		a, b := c.nodes[1].l(), c.nodes[2].l()
		ctx := context.Background()
		if _, err := a.Get(ctx, "mysql/shop"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		v, err := a.Put(ctx, "mysql/shop", []byte("epoch 1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(ctx, "mysql/shop", []byte("mine"), 0); !errors.Is(err, ErrConflict) {
			t.Errorf("%v", err)
		}
		list, err := b.List(ctx, "mysql/")
		if err != nil || len(list.Records) != 1 || list.Records[0].Version != v {
			t.Fatalf("%+v, %v", list, err)
		}
		type result struct {
			c   Changes
			err error
		}
		got := make(chan result)
		go func() {
			c, err := b.Watch(ctx, "mysql/", list.AsOf)
			got <- result{c, err}
		}()
		time.Sleep(5 * time.Second)
		v2, err := a.Put(ctx, "mysql/shop", []byte("epoch 2"), v)
		if err != nil || v2 <= v {
			t.Fatal(v2, err)
		}
		r := <-got
		if r.err != nil || len(r.c.Records) != 1 || string(r.c.Records[0].Value) != "epoch 2" || r.c.Anew {
			t.Errorf("%+v", r)
		}
		if err := a.Delete(ctx, "mysql/shop", v); !errors.Is(err, ErrConflict) {
			t.Errorf("%v", err)
		}
		if err := a.Delete(ctx, "mysql/shop", v2); err != nil {
			t.Error(err)
		}
		w, err := b.Watch(ctx, "mysql/", r.c.AsOf)
		if err != nil || len(w.Deleted) != 1 || w.Deleted[0] != "mysql/shop" {
			t.Errorf("%+v, %v", w, err)
		}
		if v3, err := b.Put(ctx, "mysql/shop", nil, 0); err != nil || v3 <= v2 {
			t.Errorf("a version came twice: %d after %d, %v", v3, v2, err)
		}
		for _, bad := range []string{"", "a\nb", strings.Repeat("k", 300), "\xff"} {
			if _, err := a.Put(ctx, bad, nil, 0); !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if _, err := a.Put(ctx, "large", make([]byte, maxValue+1), 0); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		if err := a.ClaimName(ctx, "vms", "web1", "a"); err != nil {
			t.Error(err)
		}
		if err := a.ClaimName(ctx, "vms", "web1", "a"); err != nil {
			t.Errorf("what one has can be claimed again: %v", err)
		}
		if err := b.ClaimName(ctx, "vms", "web1", "b"); !errors.Is(err, ErrTaken) {
			t.Error(err)
		}
		if err := b.FreeName(ctx, "vms", "web1", "b"); err != nil {
			t.Error(err)
		}
		if err := b.ClaimName(ctx, "vms", "web1", "b"); !errors.Is(err, ErrTaken) {
			t.Errorf("who has no name can free it: %v", err)
		}
		if err := a.FreeName(ctx, "vms", "web1", "a"); err != nil {
			t.Error(err)
		}
		if err := b.ClaimName(ctx, "vms", "web1", "b"); err != nil {
			t.Error(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		numbers := map[uint64]bool{}
		for i := range 30 {
			wg.Go(func() {
				n, err := c.nodes[i%3].l().Next(ctx, "serial", 1)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || numbers[n] {
					t.Errorf("%d: %v", n, err)
				}
				numbers[n] = true
			})
		}
		wg.Wait()
		for i := range 3 {
			g, err := c.nodes[i].l().Grant(ctx, "blocks", []string{"x", "y", "z"})
			if err != nil || g != []string{"x", "y", "z"}[i] || fmt.Sprint(c.nodes[i].l().Granted("blocks")) != "["+g+"]" {
				t.Errorf("%s, %v", g, err)
			}
		}
		if err := a.GiveBack(ctx, "blocks", "y"); err != nil {
			t.Error(err)
		}
		if g, err := b.Grant(ctx, "blocks", []string{"x", "y"}); err != nil || g != "y" {
			t.Errorf("%s, %v", g, err)
		}
	})
}

// TestWhatOnlyAHolderWrites: an epoch that the holder of a duty writes is refused once another holds the duty, though nobody changed the record.
func TestWhatOnlyAHolderWrites(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		ctx := context.Background()
		a, b := c.nodes[c.others(c.leader())[0]].l(), c.nodes[c.others(c.leader())[1]].l()
		first, err := within(func(ctx context.Context) (*Grant, error) { return a.Acquire(ctx, "mysql/shop") })
		if err != nil {
			t.Fatal(err)
		}
		v, err := a.PutHeld(ctx, first, "epoch/shop", []byte("1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Release(ctx); err != nil {
			t.Fatal(err)
		}
		second, err := within(func(ctx context.Context) (*Grant, error) { return b.Acquire(ctx, "mysql/shop") })
		if err != nil || second.Fence <= first.Fence {
			t.Fatal(second, err)
		}
		if _, err := a.PutHeld(ctx, first, "epoch/shop", []byte("mine"), v); !errors.Is(err, ErrLost) {
			t.Errorf("a former holder wrote: %v", err)
		}
		if _, err := b.PutHeld(ctx, second, "epoch/shop", []byte("2"), v); err != nil {
			t.Error(err)
		}
	})
}

// TestANewOfficeRemembers: who leads two terms in a row knows when sessions end. Whoever else led between may have renewed them.
func TestANewOfficeRemembers(t *testing.T) {
	const left, full = 500 * time.Millisecond, 3 * time.Second
	for _, c := range []struct {
		name string
		term uint64
		edit func(before *office, clock *testClock)
		ends time.Duration
	}{
		{"the next term", 5, func(*office, *testClock) {}, left},
		{"another one led between", 6, func(*office, *testClock) {}, full},
		{"nobody led before", 5, nil, full},
		{"of another raft", 5, func(b *office, _ *testClock) { b.raft = new(raft.Raft) }, full},
		{"another node's session", 5, func(b *office, _ *testClock) { b.sessions["s"].node = "b" }, full},
		{"a session that it did not know", 5, func(b *office, _ *testClock) { clear(b.sessions) }, full},
		{"it slept between", 5, func(b *office, clock *testClock) { clock.off.Add(int64(time.Minute)) }, full},
		{"a session that lasts longer than what it could have answered", 5, func(b *office, _ *testClock) { b.sessions["s"].ends += time.Minute }, full},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := &testClock{}
				l := &Lease{clock: clock, times: DefaultTimes(), cfg: Config{NodeID: meshtest.ID(0)}}
				m := newMachine()
				m.s.apply(1, op{Kind: opGrant, Grants: []grantOp{{Duty: "mirror", Node: "a", Session: "s"}}})
				var before *office
				if c.edit != nil {
					before = newOffice(t.Context(), l, nil, m, 4, nil)
					if s := before.sessions["s"]; s == nil || s.ends != clock.Boot()+full {
						t.Fatalf("%+v", s)
					}
					time.Sleep(full - left)
					before.mu.Lock()
					before.lookLocked(clock.Boot())
					before.mu.Unlock()
					c.edit(before, clock)
				}
				o := newOffice(t.Context(), l, nil, m, c.term, before)
				if got := o.sessions["s"].ends - clock.Boot(); got != c.ends {
					t.Errorf("it lasts for %s, not %s", got, c.ends)
				}
			})
		})
	}
}
