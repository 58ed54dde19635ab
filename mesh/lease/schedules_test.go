package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh/meshtest"
)

// a voter whose raft id changed is replaced or taken in again under its new id.
func TestVoterWithANewRaftID(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		i := voting[1]
		if i == c.leader() {
			i = voting[2]
		}
		if i == 0 {
			i = voting[0]
			if i == c.leader() || i == 0 {
				for _, v := range voting {
					if v != 0 && v != c.leader() {
						i = v
					}
				}
			}
		}
		c.kill(i)
		c.nodes[i].shut()
		dir := c.leaseDir(i)
		if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Rename(dir, dir+".was")
		os.Rename(dir+".copy", dir)
		c.revive(i)
		c.eventually("no server of an id that nobody has", func() error {
			lead := c.leader()
			if lead < 0 {
				return errors.New("nobody leads")
			}
			v, err := within(c.nodes[lead].l().Voters)
			if err != nil {
				return err
			}
			n := 0
			for _, s := range v.Servers {
				for j := range c.nodes {
					if meshtest.ID(j) == s.Node {
						if have := c.nodes[j].l().disk.RaftID(); have != s.RaftID {
							return fmt.Errorf("node %d is %s, the configuration has %s; want: %q", j, have, s.RaftID, v.Want)
						}
					}
				}
				if s.Voter {
					n++
				}
			}
			if n != 3 {
				return fmt.Errorf("%d voters", n)
			}
			return nil
		})
	})
}

// Granted names what the group never granted.
func TestGrantedIsGranted(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		x := c.others(voting...)[0]
		y := voting[0]
		c.split([]int{x}, c.others(x))
		if g, err := within(func(ctx context.Context) (string, error) {
			return c.nodes[x].l().Grant(ctx, "blocks", []string{"a", "b"})
		}); err == nil {
			t.Fatal(g)
		}
		g, err := within(func(ctx context.Context) (string, error) {
			return c.nodes[y].l().Grant(ctx, "blocks", []string{"a", "b"})
		})
		if err != nil {
			t.Fatal(err)
		}
		c.heal()
		time.Sleep(20 * time.Second)
		if have, err := c.nodes[x].l().Granted("blocks"); err != nil || slices.Contains(have, g) {
			t.Errorf("%q is owned by node %d by the log, and node %d says that it owns %q, %v", g, y, x, have, err)
		}
	})
}

// a session that was idle keeps its long life when it holds something.
func TestIdleSessionThatHolds(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		lead := c.leader()
		x := c.others(lead)[0]
		y := c.others(lead, x)[0]
		if x == lead || y == lead {
			t.Fatal("roles")
		}
		c.nodes[x].l().Decline("something", "not here")
		time.Sleep(2 * time.Second)
		h := c.campaign("vip", x)
		h.holder(x)
		h.add(y)
		time.Sleep(time.Second)
		if c.leader() == x {
			t.Fatal("the leader changed, though nothing happened")
		}
		died := time.Now()
		c.kill(x)
		h.holder(y)
		if took := h.last.Sub(died); took > 5*time.Second {
			t.Errorf("the next holder acts after %s", took)
		}
	})
}

// a grant that is on its way when its session ends.
func TestGrantToASessionThatLeft(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		lead := c.leader()
		x := c.others(lead)[0]
		o := c.nodes[lead].l().server.leading()
		// Node x waits for a duty; the leader has decided to give it, and not written it yet, when the agent of x stops in order.
		o.mu.Lock()
		o.notBefore = o.l.clock.Boot() + time.Hour
		o.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { _, _ = c.nodes[x].l().Acquire(ctx, "vip") }()
		var a assignment
		c.eventually("the leader knows the candidate", func() error {
			if a = o.assignment(); len(a.Candidates["vip"]) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		c.nodes[x].shut()
		var grants []grantOp
		for _, s := range a.plan() {
			grants = append(grants, grantOp{Duty: s.Duty, Node: s.Node, Session: s.Session, Why: s.Why})
		}
		if err := o.grant(op{Kind: opGrant, Grants: grants}); err != nil {
			t.Fatal(err)
		}
		o.mu.Lock()
		o.notBefore = 0
		o.mu.Unlock()
		y := c.others(lead, x)[0]
		h := c.campaign("vip", y)
		h.holder(y)
	})
}

// a voter that cannot vote and offers nothing.
func TestUnfitVoterWithoutOffers(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		i := voting[1]
		if i == c.leader() {
			i = voting[2]
		}
		c.nodes[i].l().cfg.Unfit = func() string { return "its disk is sick" }
		c.voting(3, i)
	})
}

// a leader whose box should not lead: another one does, and duties stay where they are.
func TestApart(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		lead := c.leader()
		free := c.others(voting...)[0]
		h := c.campaign("vip", free)
		h.holder(free)
		c.nodes[lead].l().cfg.Apart = func() string { return "a primary runs there" }
		c.eventually("another leads", func() error {
			if now := c.leader(); now == lead {
				return fmt.Errorf("%d leads still", now)
			}
			return nil
		})
		h.holder(free)
	})
}

// what a leader decided in one office is folded in a later one.
func TestDecisionOfAFormerOffice(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		lead := c.leader()
		free := c.others(voting...)[0]
		h := c.campaign("vip", free)
		h.holder(free)
		old := c.nodes[lead].l().server.leading()
		var session string
		old.m.read(func(s *state) { session = s.Duties["vip"].Session })
		// The old office has decided that the session is over; its goroutine does not get to Apply until the same node leads again.
		other := c.others(lead, free)[0]
		move := func(from, to int) {
			c.eventually("the leadership moves", func() error {
				o := c.nodes[from].l().server.leading()
				if o == nil {
					return errors.New("not yet")
				}
				return o.raft.LeadershipTransferToServer(raft.ServerID(c.nodes[to].l().disk.RaftID()), raft.ServerAddress(meshtest.ID(to))).Error()
			})
			c.eventually("it leads", func() error {
				if c.nodes[to].l().server.leading() == nil {
					return errors.New("not yet")
				}
				return nil
			})
		}
		move(lead, other)
		move(other, lead)
		if c.nodes[lead].l().server.leading() == old {
			t.Fatal("the same office")
		}
		if _, err := old.propose(op{Kind: opExpire, Session: session}); err == nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			if g := h.now[len(h.now)-1].g; g.Valid() {
				t.Errorf("the duty is free in the log while its holder is sure of it for %s", g.Left())
			}
		}
	})
}

// nothing bounds the drained nodes.
func TestDrainsAreBounded(t *testing.T) {
	s := newState()
	for i := range 50_000 {
		s.apply(uint64(i+1), op{Kind: opDrain, Node: fmt.Sprintf("%0253d", i), Text: string(bytes.Repeat([]byte("x"), maxText))})
	}
	if n := len(s.encode()); n > MaxSnapshot {
		t.Errorf("a snapshot has %d bytes, %d can be sent", n, MaxSnapshot)
	}
}

// nor what duties alone take.
func TestDutiesFitASnapshot(t *testing.T) {
	s := newState()
	for i := 0; i < maxDuties; i += maxBatch {
		var grants []grantOp
		for j := range maxBatch {
			grants = append(grants, grantOp{
				Duty: fmt.Sprintf("%0253d", i+j), Node: meshtest.ID(1), Session: meshtest.ID(2),
				Why: because(rank{Class: classAvoid, Reason: string(bytes.Repeat([]byte("x"), maxText))}, 2),
			})
		}
		s.apply(uint64(i+1), op{Kind: opGrant, Grants: grants})
	}
	if n := len(s.encode()); n > MaxSnapshot {
		t.Errorf("a snapshot has %d bytes, %d can be sent", n, MaxSnapshot)
	}
}

func BenchmarkAssignment(b *testing.B) {
	a := assignment{Holders: map[string]held{}, Candidates: map[string][]candidate{}, Drained: map[string]string{}, Moves: map[string]string{}, Leader: meshtest.ID(0), Settled: true}
	_ = a
	l := &Lease{clock: bootClock{}, times: DefaultTimes(), cfg: Config{NodeID: meshtest.ID(0)}}
	o := &office{l: l, m: newMachine(), sessions: map[string]*session{}, moves: map[string]move{}, asked: map[string]ask{}, unwanted: map[string]time.Duration{}}
	for n := range 60 {
		s := &session{id: fmt.Sprint(n), node: meshtest.ID(n), heard: l.clock.Boot() + time.Hour, offers: map[string]offer{}}
		for d := range 1000 {
			name := fmt.Sprintf("vip/10.0.%d.%d", d/256, d%256)
			s.offers[name] = offer{Duty: name}
		}
		o.sessions[s.id] = s
	}
	for d := range 1000 {
		name := fmt.Sprintf("vip/10.0.%d.%d", d/256, d%256)
		n := 1 + d%59
		o.m.s.apply(uint64(d+1), op{Kind: opGrant, Grants: []grantOp{{Duty: name, Node: meshtest.ID(n), Session: fmt.Sprint(n)}}})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		a := o.assignment()
		if len(a.plan()) != 0 {
			b.Fatal("steps")
		}
		o.forget(a)
	}
}

// a campaign that begins while the former one releases is wiped out.
func TestCampaignAgain(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		x := c.others(c.leader())[0]
		l := c.nodes[x].l()
		held := make(chan struct{}, 10)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = l.Campaign(ctx, "vip", func(ctx context.Context, g *Grant) error { held <- struct{}{}; <-ctx.Done(); return nil })
		}()
		<-held
		c.split([]int{x}, c.others(x)) // the release takes a while
		cancel()
		time.Sleep(100 * time.Millisecond)
		ctx2, cancel2 := context.WithCancel(context.Background())
		done2 := make(chan struct{})
		errs := make(chan error, 1)
		go func() {
			defer close(done2)
			errs <- l.Campaign(ctx2, "vip", func(ctx context.Context, g *Grant) error { held <- struct{}{}; <-ctx.Done(); return nil })
		}()
		<-done
		c.heal()
		select {
		case <-held:
		case err := <-errs:
			t.Logf("refused: %v", err)
		case <-time.After(time.Minute):
			t.Error("the second campaign waits for ever")
		}
		cancel2()
		<-done2
	})
}

// all records of a prefix, far fewer than the group takes.
func TestListOfMoreThanAFrame(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		x := c.others(c.leader())[0]
		for n := range 20 {
			if _, err := within(func(ctx context.Context) (any, error) {
				return c.nodes[x].l().Put(ctx, fmt.Sprintf("x/%d", n), make([]byte, 60_000), 0)
			}); err != nil {
				t.Fatal(err)
			}
		}
		list, err := within(func(ctx context.Context) (Changes, error) { return c.nodes[x].l().List(ctx, "x/") })
		if err != nil || len(list.Records) != 20 {
			t.Errorf("%d records, %v", len(list.Records), err)
		}
	})
}

// a learner that takes nothing of this group is promoted, and the group has no quorum any more.
func TestLearnerThatTakesNothing(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		voting := c.voting(3)
		x := c.others(voting...)[0]
		lead := c.leader()
		// The leader asks x to take part, and dies before it is in the configuration.
		o := c.nodes[lead].l().server.leading()
		if _, err := o.tell(meshtest.ID(x), serving{Group: o.l.group()}); err != nil {
			t.Fatal(err)
		}
		survivor := c.others(lead, x)[0]
		other := c.others(lead, x)[1]
		c.kill(lead)
		c.kill(other)
		time.Sleep(5 * time.Second)
		if _, err := c.nodes[survivor].l().Recover(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		c.eventually("x knows the generation", func() error {
			if g, _ := c.nodes[x].l().Group(); g.Generation != 2 {
				return fmt.Errorf("%+v", g)
			}
			return nil
		})
		c.revive(lead)
		c.revive(other)
		time.Sleep(60 * time.Second)
		for n := range 5 {
			if _, err := within(func(ctx context.Context) (any, error) { return c.nodes[survivor].l().Next(ctx, "n", 1) }); err != nil {
				t.Errorf("%d: %v", n, err)
			}
			time.Sleep(5 * time.Second)
		}
		c.voting(3)
	})
}

// a planner's promoted learner that never took an entry.
func TestReadyMeansCaughtUp(t *testing.T) {
	e := electorate{Leader: "a", Times: DefaultTimes(),
		Servers: []server{{Node: "a", RaftID: "a1", Suffrage: voter}, {Node: "b", RaftID: "b1", Behind: caughtUp + 1}, {Node: "c", RaftID: "c1", Behind: caughtUp + 1}}, // the log has 40 entries: they have none
	}
	for _, n := range []string{"a", "b", "c"} {
		e.Nodes = append(e.Nodes, nodeState{ID: n, Alive: true, For: time.Hour})
	}
	if c := e.next(); c.Kind == changePromote {
		t.Errorf("%s, though it has nothing of the log", c)
	}
}

// raft is shut down while entries are on their way to the state. Those that are committed must not be called "not carried out",
// for that is sent again (untilSent); and nobody may wait for ever.
func TestShutdownWithEntriesUnderWay(t *testing.T) {
	store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	o, r, m, end := bare(t, store, snaps)
	m.mu.Lock() // the state is slow
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := map[string]error{}
	back := 0
	const count = 140
	for i := range count {
		key := fmt.Sprintf("k%03d", i)
		wg.Go(func() {
			_, err := o.propose(op{Kind: opPut, Key: key})
			mu.Lock()
			defer mu.Unlock()
			back++
			if errors.Is(err, errNotProposed) {
				refused[key] = err
			}
		})
		time.Sleep(3 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	f := r.Shutdown()
	end()
	time.Sleep(200 * time.Millisecond)
	m.mu.Unlock()
	_ = f.Error()
	time.Sleep(5 * time.Second)
	mu.Lock()
	if back != count {
		t.Errorf("%d of %d calls of propose wait for ever after raft ended", count-back, count)
	}
	mu.Unlock()
	_, r2, m2, _ := bare(t, store, snaps)
	defer r2.Shutdown()
	m2.read(func(s *state) {
		for key, err := range refused {
			if s.Records[key] != nil {
				t.Errorf("%s was written, and its writer heard: %v", key, err)
			}
		}
	})
}
