package vmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

const (
	// lookEvery is how often the hypervisor is looked at although it told of no change.
	lookEvery = 30 * time.Second
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
	wishless map[string]string // UUIDs that HostDB or the lease log has here and the ledger has not: why nothing is made of them

	workers sync.WaitGroup
	slots   chan struct{} // work on machines
	fetches chan struct{} // images
	// choosing is held by whoever chooses an address, from the look at what is in use until it is written down.
	choosing chan struct{}
	tell     chan struct{} // there may be something new to report
	relook   chan struct{} // the hypervisor should be looked at
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
	l, entries, a, damaged, err := openLedger(cfg.Dir)
	if err != nil {
		return nil, err
	}
	b := &Box{
		cfg: cfg, log: cfg.Logger, ledger: l, entries: entries, around: a, damaged: damaged,
		machines: map[string]*machine{}, planner: plan.NewPlanner(hostdb.View{}), wishless: map[string]string{},
		slots: make(chan struct{}, max(cfg.Workers, 1)), fetches: make(chan struct{}, max(cfg.Fetches, 1)), choosing: make(chan struct{}, 1),
		tell: make(chan struct{}, 1), relook: make(chan struct{}, 1),
	}
	for _, err := range damaged {
		b.log.Error("this box takes no machines", "err", err)
	}
	if cfg.Calls != nil {
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
	changed := b.follow(db)
	b.start()
	if changed {
		for uuid, x := range b.machines {
			w, _, _ := b.wishLocked(b.entries[uuid])
			x.follow(w.Stamp)
		}
	}
	b.mu.Unlock()
	b.changed()
	return nil // what is wrong with the box or a machine is in the report
}

// follow takes a newer view; a caller holds mu.
func (b *Box) follow(db hostdb.View) bool {
	b.db = db
	return b.planner.Update(db)
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

// watch looks at the hypervisor when it tells of a change, and now and then.
func (b *Box) watch(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.cfg.Hypervisor.Changed():
		case <-b.relook:
		case <-t.C:
		}
		b.look(ctx)
		b.mu.Lock()
		for _, m := range b.machines {
			m.wake()
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
	if len(names) > 0 {
		name := names[0]
		if slices.Contains(names, e.Name) {
			name = e.Name
		}
		if len(names) > 1 {
			clash = fmt.Sprintf("%s have the UUID %s: it is %s; give the others none", strings.Join(names, " and "), e.UUID, name)
		}
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
		return plan.Wish{}, unseen, ""
	}
	return plan.Wish{}, gone, ""
}

// room is what the box gives and what of it is used, by its ledger and by what runs here besides. A caller holds mu. The
// entry of skip is left out.
func (b *Box) room(skip string) (total, used plan.Room) {
	if doc, _ := section.HostOf(b.db.Data(hostdb.Hosts, b.cfg.Name)); doc.Box != nil {
		total = capacity(*doc.Box, b.have.host)
	}
	runs := map[string]plan.Machine{}
	for _, m := range b.have.machines {
		if m.State != plan.Off && m.State != plan.Crashed {
			runs[m.UUID] = m
		}
	}
	for uuid, e := range b.entries {
		m := runs[uuid]
		delete(runs, uuid)
		if uuid == skip {
			continue
		}
		used.Disk += e.Disk
		if e.Stage != Kept && e.Stage != Purging || m.UUID != "" {
			used.CPUs += max(e.CPUs, m.CPUs) // a change counts from the next start
			used.Memory += max(e.Memory, m.Memory)
		}
	}
	for _, m := range runs { // foreign, or unknown to the ledger
		used.CPUs += m.CPUs
		used.Memory += m.Memory
	}
	return total, used
}

// ownMemory is what a box keeps for itself where Box does not say how much it gives: a twentieth, and a GiB at least.
const ownMemory = 1 << 30

// capacity is what a box gives.
func capacity(s section.Box, h Host) plan.Room {
	r := plan.Room{CPUs: s.CPUs, Memory: int64(s.Memory), Disk: int64(s.Disk)}
	if r.CPUs == 0 {
		r.CPUs = h.CPUs
	}
	r.CPUs = int(float64(r.CPUs) * s.Overcommit)
	if r.Memory == 0 {
		r.Memory = max(h.Memory-max(h.Memory/20, ownMemory), 0)
	}
	if r.Disk == 0 {
		r.Disk = h.DiskSize
	}
	return r
}

// unfit is why this box takes no machines; a caller holds mu.
func (b *Box) unfit() string {
	switch {
	case b.cfg.Hypervisor == nil:
		return b.cfg.Unfit
	case len(b.damaged) > 0:
		return b.damaged[0].Error()
	case b.have.err != nil:
		return "the hypervisor is away: " + b.have.err.Error()
	case !b.have.known:
		return "the hypervisor was not reached yet"
	case b.cfg.Records == nil:
		return "this agent takes no part in duties; see hostmesh status"
	}
	if b.cfg.Complete != nil && !b.cfg.Complete() {
		return "this agent has no whole copy of HostDB yet"
	}
	doc, _ := section.HostOf(b.db.Data(hostdb.Hosts, b.cfg.Name))
	switch {
	case doc.Box == nil:
		return fmt.Sprintf("hosts/%s has no Box: to let it carry machines, hostmesh db set hosts/%s/Box {}", b.cfg.Name, b.cfg.Name)
	case doc.Status == section.Retired, doc.Status == section.Maintenance:
		return fmt.Sprintf("hosts/%s is in %s", b.cfg.Name, doc.Status)
	}
	return ""
}

// recover finds what the lease log says this box has, and its ledger does not. It goes on until it had an answer, and again
// when a domain of this mesh turns up that the ledger does not know.
func (b *Box) recover(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	done := false
	for {
		b.mu.Lock()
		unknown := b.strays()
		ready := b.have.known && (b.cfg.Complete == nil || b.cfg.Complete()) && b.cfg.Records != nil
		b.mu.Unlock()
		if ready && (!done || len(unknown) > 0) {
			if err := b.takeUp(ctx); err != nil {
				b.log.Debug("records cannot be read", "err", err)
			} else {
				done = true
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// strays are this mesh's domains that the ledger does not know; a caller holds mu.
func (b *Box) strays() []plan.Machine {
	var out []plan.Machine
	for _, m := range b.have.machines {
		if _, known := b.entries[m.UUID]; !known && m.Mesh == b.cfg.Mesh {
			out = append(out, m)
		}
	}
	return out
}

// takeUp compares the records that name this box with its ledger.
func (b *Box) takeUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	list, err := b.cfg.Records.List(ctx, recordPrefix)
	if err != nil {
		return err
	}
	for _, raw := range list.Records {
		r, err := decodeRecord(raw.Value)
		if err != nil || r.Node != b.cfg.Node || r.State != Taken {
			continue
		}
		if err := b.takeUpOne(ctx, r, raw); err != nil {
			return err
		}
	}
	return nil
}

// takeUpOne makes an entry of a domain whose record says that it is this box's. Where there is no domain the reservation was
// lost before anything was made, and is given up; but if HostDB says that it was made here, a person must look.
func (b *Box) takeUpOne(ctx context.Context, r Record, raw lease.Record) error {
	if lost, err := b.adopt(r); !lost || err != nil {
		return err
	}
	r.Tried = tried(r.Tried, Attempt{Node: b.cfg.Node, Box: b.cfg.Name, Reason: "the box has lost its reservation", At: b.cfg.Clock.Now().UnixMilli()})
	r.State = Refused
	_, err := b.cfg.Records.Put(ctx, raw.Key, Encode(r), raw.Version)
	if errors.Is(err, lease.ErrConflict) {
		return nil // it will be looked at again
	}
	return err
}

// adopt makes the entry, or reports that the record is to be given up.
func (b *Box) adopt(r Record) (lost bool, err error) {
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	_, known := b.entries[r.UUID]
	i := slices.IndexFunc(b.have.machines, func(m plan.Machine) bool { return m.UUID == r.UUID && m.Mesh == b.cfg.Mesh })
	broken := slices.ContainsFunc(b.damaged, func(err error) bool { return strings.Contains(err.Error(), r.UUID) })
	w, what, _ := b.wishLocked(Entry{UUID: r.UUID, Name: r.Name})
	db := b.db
	b.mu.Unlock()
	switch {
	case known || broken:
		return false, nil
	case i >= 0:
		b.log.Warn("taking up a machine that the ledger does not know: its record says that this box has it", "vm", r.Name, "uuid", r.UUID)
		e := Entry{UUID: r.UUID, Name: r.Name, Stage: Held, Fence: r.Fence, At: b.cfg.Clock.Now().UnixMilli(),
			CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk, Ran: true, Seen: what != unseen, Subnet: w.Subnet.Tag, IP: w.IP, MAC: w.MAC.String()}
		if err := b.save(e); err != nil {
			return false, err
		}
		b.mu.Lock()
		b.start()
		b.mu.Unlock()
		return false, nil
	case (what == wantOn || what == wantOff) && w.Box == b.cfg.Name || what == gone && db.WasDeleted(hostdb.Hosts, r.Name):
		b.mu.Lock()
		b.wishless[r.UUID] = "this box has nothing of it, though its record says that it does: its ledger was lost. Remove VM/Box of the host and purge it, to have it made anew"
		b.mu.Unlock()
		return false, nil
	}
	return what != unseen, nil
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
