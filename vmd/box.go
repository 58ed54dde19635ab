package vmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/vmd/plan"
)

const (
	// lookEvery is how often the hypervisor is looked at although it told of no change.
	lookEvery = 30 * time.Second
	// ticketEvery is how often a machine that waits for an approval asks for it: who approves looks on.
	ticketEvery = 5 * time.Second
	// seenWithin is how long a box waits for the entry of a machine that it reserved a place for, before its absence may mean
	// that it was deleted.
	seenWithin = time.Minute
	// callTime bounds a call of the hypervisor, so that one that hangs costs one machine's turn.
	callTime = time.Minute
)

// Box makes this box's machines real. It is a Daemon: Reconcile hands it new views and returns; the work is done by a worker
// for each machine within Run, so that an image that is fetched for an hour holds nobody else up. Its methods are safe for
// concurrent use.
type Box struct {
	cfg    Config
	log    *slog.Logger
	ledger *ledger
	stats  stats

	// disk is held while something is decided and written down that must not be decided twice: capacity, addresses.
	disk sync.Mutex

	mu       sync.Mutex // guards the fields below
	entries  map[string]Entry
	around   around // changed by holders of disk only
	damaged  []error
	machines map[string]*machine
	planner  *plan.Planner
	db       hostdb.View
	mesh     mesh.View
	have     inventory
	run      context.Context // of Run; nil while it does not run
	stopped  bool
	reported reported
	renamed  map[string]renaming  // what was looked up of machines whose UUID only another entry has
	nothing  map[string]string    // UUIDs of entries that name this box, of which it has nothing: why nothing is made of them
	wishless map[string]string    // UUIDs that HostDB or the lease log has here and the ledger has not: why nothing is made of them
	strange  map[string]string    // why a stray is left alone, by UUID
	names    map[string]string    // what records call machines that the ledger has not, by UUID
	lost     map[string]time.Time // machines with volumes that nothing refers to: since when that is known

	workers sync.WaitGroup
	slots   chan struct{} // work on machines
	fetches chan struct{} // images
	// choosing is held by whoever chooses an address, from the look at what is in use until it is written down.
	choosing chan struct{}
	tell     chan struct{} // there may be something new to report
}

// inventory is what the hypervisor showed last.
type inventory struct {
	known    bool // it was reached at least once
	host     Host
	machines []plan.Machine
	err      error
}

// Open reads the ledger. Nothing is done before Run, and the views of the first Reconcile.
func Open(cfg Config) (*Box, error) {
	cfg.resolve()
	l, entries, a, damaged, err := openLedger(cfg.Dir, cfg.Look)
	if err != nil {
		return nil, err
	}
	b := &Box{
		cfg: cfg, log: cfg.Logger, ledger: l, entries: entries, around: a, damaged: damaged,
		machines: map[string]*machine{}, planner: plan.NewPlanner(hostdb.View{}), wishless: map[string]string{}, renamed: map[string]renaming{}, strange: map[string]string{}, names: map[string]string{}, lost: map[string]time.Time{},
		slots: make(chan struct{}, max(cfg.Workers, 1)), fetches: make(chan struct{}, max(cfg.Fetches, 1)), choosing: make(chan struct{}, 1),
		tell: make(chan struct{}, 1),
	}
	for _, err := range damaged {
		b.log.Error("this box takes no machines", "err", err)
	}
	if cfg.Calls != nil && !cfg.Look {
		b.handle()
	}
	return b, nil
}

// Name implements node.Daemon.
func (b *Box) Name() string { return "vm" }

// Reconcile implements node.Daemon: it takes the views, and pokes whoever they concern.
func (b *Box) Reconcile(_ context.Context, db hostdb.View, m mesh.View) error {
	b.mu.Lock()
	b.mesh = m
	b.start()
	b.follow(db)
	b.mu.Unlock()
	b.changed()
	return nil // what is wrong with the box or a machine is in the report
}

// follow takes a newer view, and pokes the machines of which it says something else: whoever takes one, for nobody hears of what is
// in it a second time. The machines of which it says the same are left alone: a look at one costs calls of the hypervisor, and a mesh
// has many machines. A caller holds mu.
func (b *Box) follow(db hostdb.View) {
	b.db = db
	if !b.planner.Update(db) {
		return
	}
	for uuid, x := range b.machines {
		w, what, clash := b.wishLocked(b.entries[uuid])
		x.follow(said{w.Stamp, w.Subnet, w.Problem, what, clash})
	}
}

// start starts the workers that are missing; a caller holds mu.
func (b *Box) start() {
	if b.run == nil || b.stopped || b.cfg.Hypervisor == nil {
		return
	}
	for uuid := range b.entries {
		if b.machines[uuid] == nil {
			b.startOne(newMachine(b, uuid))
		}
	}
}

// startOne starts a worker; a caller holds mu.
func (b *Box) startOne(m *machine) {
	b.machines[m.uuid] = m
	ctx := b.run
	b.workers.Go(func() { m.work(ctx) })
}

// Run works until ctx ends. It can be called once.
func (b *Box) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	if b.cfg.Mesh == "" && b.cfg.Learn != nil {
		id, err := b.cfg.Learn(ctx)
		if err != nil {
			return nil // ctx ended
		}
		b.mu.Lock()
		b.cfg.Mesh = id // whoever works begins later
		b.mu.Unlock()
	}
	if b.cfg.Hypervisor != nil {
		b.look(ctx)
		wg.Go(func() { b.watch(ctx) })
		wg.Go(func() { b.recover(ctx) })
	}
	wg.Go(func() { b.report(ctx) })
	b.mu.Lock()
	b.run = ctx
	b.follow(b.cfg.DB.View()) // workers must not take a HostDB that nobody has shown them for an empty one
	b.start()
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.workers.Wait()
	wg.Wait()
	return nil
}

// watch looks at the hypervisor when it tells of a change, and now and then, and pokes the machines that are not as they were.
func (b *Box) watch(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-b.cfg.Hypervisor.Changed():
		case <-t.C:
			all = true
		}
		b.mu.Lock()
		before := b.have
		b.mu.Unlock()
		b.look(ctx)
		b.mu.Lock()
		all = all || (before.err == nil) != (b.have.err == nil)
		were := map[string]plan.Machine{}
		for _, m := range before.machines {
			were[m.UUID] = m
		}
		for _, m := range b.have.machines {
			was, known := were[m.UUID]
			delete(were, m.UUID)
			if x := b.machines[m.UUID]; x != nil && (!known || !reflect.DeepEqual(was, m)) {
				x.wake()
			}
		}
		for uuid, x := range b.machines {
			if _, gone := were[uuid]; gone || all {
				x.wake()
			}
		}
		b.mu.Unlock()
	}
}

// look asks the hypervisor for all that it has. Workers look at their own machine again before they act.
func (b *Box) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	host, err := b.cfg.Hypervisor.Host(ctx)
	var list []plan.Machine
	if err == nil {
		list, err = b.cfg.Hypervisor.List(ctx)
	}
	b.mu.Lock()
	was := b.have.err
	if b.have.err = err; err == nil {
		b.have.known, b.have.host, b.have.machines = true, host, list
	}
	b.mu.Unlock()
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
	case err != nil && was == nil:
		b.log.Error("the hypervisor cannot be looked at: machines stay as they are", "err", err)
	case err == nil && was != nil:
		b.log.Info("the hypervisor is back")
	}
	b.changed()
}

// changed says that there may be something to report.
func (b *Box) changed() {
	select {
	case b.tell <- struct{}{}:
	default:
	}
}

// entry is what the ledger has of a machine.
func (b *Box) entry(uuid string) (Entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[uuid]
	return e, ok
}

// save writes an entry down; a caller holds disk.
func (b *Box) save(e Entry) error {
	if err := b.ledger.save(e); err != nil {
		return err
	}
	b.mu.Lock()
	b.entries[e.UUID] = e
	b.mu.Unlock()
	b.changed()
	return nil
}

// note changes an entry and writes it down.
func (b *Box) note(uuid string, change func(*Entry)) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	e, ok := b.entry(uuid)
	if !ok {
		return errGone
	}
	change(&e)
	return b.save(e)
}

// drop forgets an entry; its address begins to rest. A caller holds disk. The address rests before the entry goes: a crash in
// between leaves both.
func (b *Box) drop(e Entry) error {
	if err := b.release(e); err != nil {
		return err
	}
	if err := b.ledger.remove(e.UUID); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.entries, e.UUID)
	delete(b.machines, e.UUID)
	delete(b.renamed, e.UUID)
	b.mu.Unlock()
	b.changed()
	return nil
}

// release lets an entry's address rest; a caller holds disk.
func (b *Box) release(e Entry) error {
	if !e.IP.IsValid() || e.ByHand {
		return nil
	}
	b.mu.Lock()
	a := b.around
	b.mu.Unlock()
	a.Rests = rest(a.Rests, e.Subnet, e.IP, b.cfg.Clock.Now())
	return b.saveAround(a)
}

func (b *Box) saveAround(a around) error {
	if err := b.ledger.saveAround(a); err != nil {
		return err
	}
	b.mu.Lock()
	b.around = a
	b.mu.Unlock()
	return nil
}

// errGone is returned for an entry that is not in the ledger any more.
var errGone = errors.New("the ledger has it no more")

// wish is what HostDB wants of a machine. clash names other hosts with the same UUID.
func (b *Box) wish(e Entry) (w plan.Wish, what wanting, clash string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wishLocked(e)
}

func (b *Box) wishLocked(e Entry) (w plan.Wish, what wanting, clash string) {
	if b.cfg.Complete != nil && !b.cfg.Complete() {
		return plan.Wish{}, unseen, ""
	}
	young := b.cfg.Clock.Now().Sub(time.UnixMilli(e.At)) < seenWithin
	names := b.planner.ByUUID(e.UUID)
	name, its := b.itsName(e, names)
	if len(names) > 1 {
		clash = fmt.Sprintf("%s have the UUID %s: it is %s; give the others none", strings.Join(names, " and "), e.UUID, name)
	}
	if its {
		if w, ok := b.planner.Wish(name); ok {
			// The box that gave it up took its own name and address out of HostDB before this one could take it.
			if !e.Ran && young && w.Box != "" && w.Box != b.cfg.Name {
				return w, unseen, clash
			}
			if w.Power {
				return w, wantOn, clash
			}
			return w, wantOff, clash
		}
		return plan.Wish{}, gone, clash // retired
	}
	// Not there: deleted, or not come here yet. Only what was there can have been deleted.
	was := b.db.Exists(hostdb.Hosts, e.Name) || b.db.WasDeleted(hostdb.Hosts, e.Name)
	if !was || young && !e.Seen {
		return plan.Wish{}, unseen, clash
	}
	return plan.Wish{}, gone, clash
}

// Plan implements node.Planner: what would be done, a line each. It touches nothing.
func (b *Box) Plan(ctx context.Context, db hostdb.View, m mesh.View) (string, error) {
	if b.cfg.Hypervisor == nil {
		return "", nil
	}
	b.look(ctx)
	b.mu.Lock()
	b.mesh = m
	b.follow(db)
	entries := slices.SortedFunc(maps.Values(b.entries), func(x, y Entry) int { return strings.Compare(x.Name, y.Name) })
	b.mu.Unlock()
	var out strings.Builder
	for _, e := range entries {
		s, _, err := newMachine(b, e.UUID).look(ctx, e)
		if err != nil {
			return "", err
		}
		if a := next(s); a != actNone {
			fmt.Fprintf(&out, "%s: %s\n", e.Name, a)
		}
	}
	return out.String(), nil
}

// Files are the files that machines in the ledger refer to, whether they are defined or not.
func (b *Box) Files() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.entries {
		if d := e.Domain; d != nil {
			for _, path := range []string{d.Disk, d.Seed, d.Kernel, d.Initrd} {
				if path != "" {
					out = append(out, path)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
