package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"hostmesh/mesh"
	"hostmesh/mesh/lease/leasetest"
	"hostmesh/mesh/meshtest"
)

// cluster is a mesh in memory whose nodes have leases, in virtual time, on real files.
type cluster struct {
	t     *testing.T
	net   *meshtest.Net
	dir   string
	nodes []*node
	times Times
	log   *slog.Logger
	dc    func(i int) string
	rack  func(i int) string
	old   bool                     // the mesh was founded by a build without leases
	over  func(i int, m Mesh) Mesh // what a node's messages go through

	mu    sync.Mutex // guards the fields below
	apart map[[2]int]bool
	cuts  map[[2]int]bool // one direction each
	dead  map[int]bool
}

// node is one agent of a cluster.
type node struct {
	c     *cluster
	i     int
	clock *testClock
	mu    sync.Mutex // guards the fields below
	mesh  *mesh.Mesh
	lease *Lease
	stop  func()
}

// testClock is the bubble's clock, which a test may set off.
type testClock struct{ off atomic.Int64 }

func (c *testClock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

func (c *testClock) Boot() time.Duration {
	return time.Duration(time.Now().UnixNano()) + time.Duration(c.off.Load())
}

func testTimes() Times {
	t := DefaultTimes()
	t.Stable, t.Replace, t.Settle = 3*time.Second, 5*time.Second, 5*time.Second
	return t
}

// inCluster runs a test on k nodes of one datacenter, the first of which founded the mesh.
func inCluster(t *testing.T, k int, f func(c *cluster), edit ...func(c *cluster)) {
	t.Helper()
	dir := t.TempDir() // outside of the bubble, whose cleanups come first
	meshtest.Bubble(t, func(t *testing.T) {
		c := &cluster{
			t: t, net: meshtest.New(1), dir: dir, times: testTimes(), log: slog.New(slog.DiscardHandler),
			apart: map[[2]int]bool{}, cuts: map[[2]int]bool{}, dead: map[int]bool{},
			dc: func(int) string { return "dc1" }, rack: func(i int) string { return fmt.Sprintf("r%d", i%3) },
		}
		if text := os.Getenv("HOSTMESH_LEASE_LOG"); text != "" {
			c.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		for _, e := range edit {
			e(c)
		}
		for i := range k {
			c.nodes = append(c.nodes, &node{c: c, i: i, clock: &testClock{}})
			if i == 0 && !c.old {
				if err := Found(c.leaseDir(0), meshtest.ID(0), c.dc(0)); err != nil {
					t.Fatal(err)
				}
			}
			c.nodes[i].start()
		}
		t.Cleanup(func() {
			var wg sync.WaitGroup
			for _, n := range c.nodes {
				wg.Go(n.shut)
			}
			wg.Wait()
		})
		f(c)
	})
}

func (c *cluster) leaseDir(i int) string { return filepath.Join(c.dir, fmt.Sprintf("node%d", i)) }

// start opens and runs a node.
func (n *node) start() {
	c := n.c
	cfg := c.net.Config(n.i)
	cfg.Datacenter, cfg.Rack = c.dc(n.i), c.rack(n.i)
	for j := range n.i {
		cfg.Join = append(cfg.Join, meshtest.Addr(j).String())
	}
	if n.i == 0 && len(c.nodes) > 1 {
		cfg.Join = append(cfg.Join, meshtest.Addr(1).String())
	}
	cfg.RedialMax = 2 * time.Second
	m, err := mesh.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	lc := DefaultConfig()
	lc.NodeID, lc.Name, lc.Datacenter, lc.Dir, lc.Mesh, lc.Times = meshtest.ID(n.i), cfg.Name, cfg.Datacenter, c.leaseDir(n.i), m, c.times
	lc.Founder = n.i == 0
	if c.over != nil {
		lc.Mesh = c.over(n.i, m)
	}
	lc.Clock, lc.Logger = n.clock, c.log.With("at", cfg.Name)
	l, err := Open(lc)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(context.Background()) })
	wg.Go(func() { _ = l.Run(ctx) })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mesh, n.lease = m, l
	var once atomic.Bool
	done := make(chan struct{}) // what waits on a mutex holds up virtual time
	n.stop = func() {
		if once.CompareAndSwap(false, true) {
			cancel()
			l.Close()
			m.Close()
			wg.Wait()
			close(done)
		}
		<-done
	}
}

func (n *node) shut() {
	n.mu.Lock()
	stop := n.stop
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (n *node) l() *Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lease
}

// kill takes a node off the network, for all others at once, and then ends it: it can say nothing any more.
func (c *cluster) kill(i int) {
	c.mu.Lock()
	c.dead[i] = true
	c.mu.Unlock()
	c.wire()
	n := c.nodes[i]
	n.mu.Lock()
	stop := n.stop
	n.mu.Unlock()
	go stop()
}

// revive starts a killed node again on its directory.
func (c *cluster) revive(i int) {
	c.nodes[i].shut()
	c.mu.Lock()
	delete(c.dead, i)
	c.mu.Unlock()
	c.wire()
	c.nodes[i].start()
}

// split parts nodes from each other, both ways; heal ends that and all one-way cuts.
func (c *cluster) split(side, other []int) {
	c.mu.Lock()
	for _, a := range side {
		for _, b := range other {
			c.apart[[2]int{a, b}] = true
		}
	}
	c.mu.Unlock()
	c.wire()
}

func (c *cluster) deafen(to int, from ...int) {
	c.mu.Lock()
	for _, f := range from {
		c.cuts[[2]int{f, to}] = true
	}
	c.mu.Unlock()
	c.wire()
}

func (c *cluster) heal() {
	c.mu.Lock()
	clear(c.apart)
	clear(c.cuts)
	c.mu.Unlock()
	c.wire()
}

// wire makes the network what it should be.
func (c *cluster) wire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.net.Heal()
	for p := range c.apart {
		c.net.Cut(meshtest.Addr(p[0]), meshtest.Addr(p[1]))
	}
	for p := range c.cuts {
		c.net.CutOneWay(meshtest.Addr(p[0]), meshtest.Addr(p[1]))
	}
	for i := range c.dead {
		c.net.Isolate(meshtest.Addr(i))
	}
}

func (c *cluster) others(of ...int) (list []int) {
next:
	for i := range c.nodes {
		for _, x := range of {
			if x == i {
				continue next
			}
		}
		list = append(list, i)
	}
	return list
}

// eventually waits, for two minutes of virtual time at most.
func (c *cluster) eventually(what string, ok func() error) {
	c.t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	c.t.Fatalf("did not happen: %s: %v", what, err)
}

// ask gives a call some seconds.
func within[T any](f func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return f(ctx)
}

// leader is the node that leads; -1 when none is known to.
func (c *cluster) leader() int {
	for i, n := range c.nodes {
		c.mu.Lock()
		dead := c.dead[i]
		c.mu.Unlock()
		if l := n.l(); !dead && l != nil && l.server.leading() != nil {
			return i
		}
	}
	return -1
}

// voting waits until there are so many voters, none of which is among the nodes given, and one leads.
func (c *cluster) voting(count int, not ...int) (voting []int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%d voters", count), func() error {
		i := c.leader()
		if i < 0 {
			return errors.New("nobody leads")
		}
		v, err := within(c.nodes[i].l().Voters)
		if err != nil {
			return err
		}
		voting = nil
		for _, s := range v.Servers {
			if !s.Voter {
				return fmt.Errorf("%+v", v)
			}
			for j := range c.nodes {
				if meshtest.ID(j) == s.Node {
					voting = append(voting, j)
				}
			}
		}
		for _, x := range not {
			for _, j := range voting {
				if x == j {
					return fmt.Errorf("node %d still votes: %+v", x, v)
				}
			}
		}
		if len(voting) != count {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	return voting
}

// campaign has nodes offer themselves for a duty until the test ends, and watches who holds it. Unless the test looks at them
// itself, violations fail it.
func (c *cluster) campaign(duty string, nodes ...int) *holders {
	h := &holders{c: c, duty: duty, ctx: map[int]context.CancelFunc{}, began: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(func() {
		cancel()
		h.wg.Wait()
		if !h.expected {
			for _, v := range h.violations {
				c.t.Error(v)
			}
		}
	})
	h.all = ctx
	for _, i := range nodes {
		h.add(i)
	}
	h.wg.Go(h.watch)
	return h
}

// holders watches who holds a duty: never two at the same time, and each with a higher number than the one before.
type holders struct {
	c        *cluster
	duty     string
	all      context.Context
	wg       sync.WaitGroup
	began    time.Time
	expected bool // violations are what the test is for

	mu         sync.Mutex // guards the fields below
	ctx        map[int]context.CancelFunc
	now        []*tenure // that may still act
	at         int       // the node that held it last
	fence      uint64
	last       time.Time // when the last holder began
	count      int
	violations []string
	history    []porcupine.Operation
}

// tenure is one holder's time.
type tenure struct {
	g    *Grant
	node int
	over bool
}

func (h *holders) add(i int) {
	ctx, cancel := context.WithCancel(h.all)
	h.mu.Lock()
	h.ctx[i] = cancel
	h.mu.Unlock()
	l := h.c.nodes[i].l()
	h.wg.Go(func() {
		asked := time.Now()
		_ = l.Campaign(ctx, h.duty, func(ctx context.Context, g *Grant) error {
			h.begin(i, g, asked)
			<-ctx.Done()
			h.look() // before it is released
			asked = time.Now()
			return nil
		})
	})
}

func (h *holders) begin(i int, g *Grant, asked time.Time) {
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.Fence <= h.fence {
		h.violations = append(h.violations, fmt.Sprintf("%s: node %d holds it under %d, after %d", h.duty, i, g.Fence, h.fence))
	}
	h.now, h.at, h.fence, h.last, h.count = append(h.now, &tenure{g: g, node: i}), i, max(h.fence, g.Fence), time.Now(), h.count+1
	h.history = append(h.history, porcupine.Operation{
		ClientId: i, Input: leasetest.Tenure{Begin: true, Fence: g.Fence}, Output: nil,
		Call: asked.Sub(h.began).Nanoseconds(), Return: time.Since(h.began).Nanoseconds(),
	})
	h.lookLocked()
}

// watch looks all the time: a grant that was no more valid must not be so again.
func (h *holders) watch() {
	for h.all.Err() == nil {
		h.look()
		time.Sleep(5 * time.Millisecond)
	}
}

func (h *holders) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lookLocked()
}

func (h *holders) lookLocked() {
	var valid []string
	kept := h.now[:0]
	for _, x := range h.now {
		if x.g.Valid() {
			valid = append(valid, fmt.Sprintf("node %d under %d for %s", x.node, x.g.Fence, x.g.Left()))
		} else if !x.over {
			x.over = true
			h.history = append(h.history, porcupine.Operation{
				ClientId: x.node, Input: leasetest.Tenure{Fence: x.g.Fence}, Call: time.Since(h.began).Nanoseconds(), Return: (100 * time.Hour).Nanoseconds(),
			})
		}
		if !x.over || len(h.now) < 10 {
			kept = append(kept, x)
		}
	}
	h.now = kept
	if len(valid) > 1 && len(h.violations) < 10 {
		h.violations = append(h.violations, fmt.Sprintf("%s is held twice: %s", h.duty, strings.Join(valid, ", ")))
	}
}

// holder waits until a node, of those given if any are, holds the duty.
func (h *holders) holder(among ...int) (at int) {
	h.c.t.Helper()
	h.c.eventually(h.duty+" is held", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.now) == 0 || !h.now[len(h.now)-1].g.Valid() {
			return errors.New("nobody holds it")
		}
		at = h.at
		for _, x := range among {
			if x == at {
				return nil
			}
		}
		if len(among) > 0 {
			return fmt.Errorf("node %d holds it", at)
		}
		return nil
	})
	return at
}
