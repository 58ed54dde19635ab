package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/replica"
)

// hosts is how many hosts the database of every experiment has, and hostWrites how many operations made them: more than
// replica.Config.JoinOperations, so that a joiner takes a whole state.
const (
	hosts      = 200
	hostWrites = 1200
)

// world is one mesh in virtual time. It lives within one bubble of testing/synctest.
type world struct {
	model  model
	agents []*agent // by id; those of a join are there before they start
	byName map[string]*agent
	gossip *gossip
	watch  tracker
	ledger ledger

	mu      sync.Mutex // guards the fields below
	rand    *rand.Rand
	members []string // that started once

	started atomic.Int64
	over    chan struct{}
	wg      sync.WaitGroup
}

// agent is one box.
type agent struct {
	w          *world
	id         int
	name       string
	rack, site int
	line       link
	up         atomic.Bool // its process runs
	member     atomic.Bool // the others think so
	changed    chan struct{}

	mu      sync.Mutex // guards the fields below
	alive   []bool     // by id, as it sees them
	known   int        // how many of them are alive
	looked  time.Time
	looking bool

	// what runs; used by whoever starts and stops it
	disk    *disk
	store   *hostdb.Store
	replica *replica.Replica
	stop    func()
	former  replica.Counts // of replicas that ended
}

// disk is a storage that takes as long for a commit of operations as an fsync does. What is stored while the state of another
// replica is taken costs nothing: hostdb holds locks then, and virtual time stands still while anybody waits for a lock.
type disk struct {
	*hostdbtest.Memory
	fsync time.Duration
}

func (d *disk) Commit(batch []hostdb.Put) error {
	for _, p := range batch {
		if bytes.HasPrefix(p.Key, []byte("m")) && bytes.Contains(p.Key, []byte("applied")) && d.fsync > 0 && len(batch) > 3 {
			time.Sleep(d.fsync)
			break
		}
	}
	return d.Memory.Commit(batch)
}

// newWorld makes a mesh of n agents that hold the same database, and room for joiners. Origins is how many runs made it.
func newWorld(n, joiners, origins int, seed uint64, m model) (*world, error) {
	w := &world{model: m, byName: map[string]*agent{}, rand: rand.New(rand.NewPCG(seed, uint64(n))), over: make(chan struct{})}
	w.gossip = newGossip(w)
	total := n + joiners
	rack := m.rackSize
	if total < 5*rack {
		rack = max(2, total/5)
	}
	for i := range total {
		a := &agent{w: w, id: i, name: fmt.Sprintf("node%05d", i), rack: i / rack, changed: make(chan struct{}, 1)}
		if total >= 100 {
			a.site = a.rack % 2
		}
		a.line.rand = rand.New(rand.NewPCG(seed, uint64(i)))
		a.line.handlers = map[string]handler{}
		w.agents = append(w.agents, a)
		w.byName[a.name] = a
	}
	base, err := makeBase(origins)
	if err != nil {
		return nil, err
	}
	for _, a := range w.agents[:n] {
		a.disk = &disk{base.Snapshot(), m.fsync}
		w.joined(a)
		a.member.Store(true)
	}
	for _, a := range w.agents[n:] {
		a.disk = &disk{hostdbtest.NewMemory(), m.fsync}
	}
	w.wg.Go(func() { w.gossip.run(w.over) })
	for _, a := range w.agents[:n] {
		if err := a.start(); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// makeBase writes the database that all agents begin with, in so many runs.
func makeBase(origins int) (*hostdbtest.Memory, error) {
	storage := hostdbtest.NewMemory()
	for run := range origins {
		store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return storage, nil }, NodeID: fmt.Sprintf("writer%04d", run)})
		if err != nil {
			return nil, err
		}
		for i := hostWrites * run / origins; i < max(hostWrites*run/origins+1, hostWrites*(run+1)/origins); i++ {
			_, err := store.Update(context.Background(), hostdb.Request{User: "alice", Log: "inventory"}, func(tx *hostdb.Tx) error {
				return tx.Put(hostdb.Hosts, hostName(i%hosts), hostDocument(i%hosts, i))
			})
			if err != nil {
				return nil, err
			}
		}
		if err := store.Close(); err != nil {
			return nil, err
		}
		storage = storage.Reopen()
	}
	return storage, nil
}

func hostName(i int) string { return fmt.Sprintf("web%03d.dc1.example.com", i) }

// hostDocument is what stands of a host in an inventory; note makes it differ from the one before.
func hostDocument(i, note int) hostdb.Document {
	doc, err := hostdb.ParseDocument(fmt.Appendf(nil, `
Network: {FQDN: %s, IP: 10.1.%d.%d, MAC: "52:54:00:00:%02x:%02x"}
Hardware: {CPUs: 32, Memory: 256GiB, Vendor: Example, Serial: X%06d}
Physical Location: {Datacenter: dc1, Rack Number: %d, U Number: %d}
Status: active
Owner: web
Note: revision %d of this entry
`, hostName(i), i/250, i%250, i/256, i%256, i, i/40, i%40, note))
	if err != nil {
		panic(err) // it is written above
	}
	return doc
}

// chance is a number in [0, 1).
func (w *world) chance() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64()
}

func (w *world) joined(a *agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = append(w.members, a.name)
	w.started.Add(1)
}

func (w *world) memberNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.members[:len(w.members):len(w.members)]
}

// running are the agents whose processes run.
func (w *world) running() []*agent {
	var out []*agent
	for _, a := range w.agents {
		if a.up.Load() {
			out = append(out, a)
		}
	}
	return out
}

// start opens the agent's replica and lets it run.
func (a *agent) start() error {
	w := a.w
	a.greet()
	store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return a.disk, nil }, NodeID: a.name})
	if err != nil {
		return fmt.Errorf("start %s: %w", a.name, err)
	}
	cfg := replica.DefaultConfig()
	cfg.Store, cfg.NodeID, cfg.Peers = store, a.name, port{w, a}
	cfg.Members, cfg.Sick = w.memberNames, a.suspects
	r, err := replica.Open(cfg)
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", a.name, err), store.Close())
	}
	store.SetAcker(acker{w, a, r})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) }) // it returns nil
	changed, unwatch := store.Watch()
	running.Go(func() {
		defer unwatch()
		w.watch.look(a, store.View())
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				w.watch.look(a, store.View())
			}
		}
	})
	a.store, a.replica = store, r
	a.stop = sync.OnceFunc(func() {
		a.up.Store(false)
		a.former = add(a.former, r.Status().Counts)
		cancel()
		running.Wait()
		_ = r.Close() // it returns nil
		_ = store.Close()
	})
	a.up.Store(true)
	return nil
}

// kill ends the agent as kill -9 does: what it acknowledged is on its disk.
func (a *agent) kill() {
	a.stop()
	a.disk = &disk{a.disk.Snapshot(), a.disk.fsync}
}

func add(a, b replica.Counts) replica.Counts {
	a.Busy += b.Busy
	a.TakenOver += b.TakenOver
	a.Mismatches += b.Mismatches
	a.Forks += b.Forks
	a.Refused += b.Refused
	a.PushErrors += b.PushErrors
	a.JoinFailures += b.JoinFailures
	a.RetiredRuns += b.RetiredRuns
	return a
}

// counts are those of all agents together, also of replicas that ended.
func (w *world) counts() replica.Counts {
	var sum replica.Counts
	for _, a := range w.agents {
		sum = add(sum, a.former)
		if a.up.Load() {
			sum = add(sum, a.replica.Status().Counts)
		}
	}
	return sum
}

// close ends everything.
func (w *world) close() error {
	var wg sync.WaitGroup
	for _, a := range w.agents {
		if a.stop != nil {
			wg.Go(a.stop)
		}
	}
	wg.Wait()
	close(w.over)
	w.wg.Wait()
	return nil
}

// write changes a host at an agent and returns when it is durable there and, if that comes soon, at another.
func (w *world) write(a *agent, t *track) error {
	n := int(w.chance() * 1e9)
	ctx := context.WithValue(context.Background(), trackKey{}, t)
	_, err := a.store.Update(ctx, hostdb.Request{User: "alice", Log: "change"}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, hostName(n%hosts), hostDocument(n%hosts, n))
	})
	if err != nil {
		return fmt.Errorf("write at %s: %w", a.name, err)
	}
	return nil
}

// difference says where two running agents differ; nil when all are equal.
func (w *world) difference(agents []*agent) error {
	first := agents[0].store.View()
	version := first.Version()
	for _, a := range agents[1:] {
		if v := a.store.View(); v.Version().String() != version.String() {
			return fmt.Errorf("%s is at version %s and %s at %s", a.name, v.Version(), agents[0].name, version)
		}
	}
	return nil
}

// unequal says where the digests of running agents differ, or what acknowledged writes they lack.
func (w *world) unequal(agents []*agent) error {
	if err := w.difference(agents); err != nil {
		return err
	}
	first := agents[0].store.View()
	spaces := first.Namespaces()
	for _, a := range agents {
		v := a.store.View()
		if got := v.Namespaces(); strings.Join(got, " ") != strings.Join(spaces, " ") {
			return fmt.Errorf("%s has namespaces %q, %s has %q", a.name, got, agents[0].name, spaces)
		}
		for _, ns := range spaces {
			if v.Digest(ns) != first.Digest(ns) {
				return fmt.Errorf("%s and %s differ in %s at equal versions", a.name, agents[0].name, ns)
			}
		}
		if err := w.ledger.check(a.name, v); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until all running agents are equal, and says for how long.
func (w *world) settle(most time.Duration) (time.Duration, error) {
	began := time.Now()
	for {
		agents := w.running()
		err := w.difference(agents)
		if err == nil {
			return time.Since(began), w.unequal(agents)
		}
		if time.Since(began) > most {
			return 0, fmt.Errorf("after %s: %w", most, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
