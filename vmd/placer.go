package vmd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

// PlacerDuty is the duty of who finds boxes for new machines, one in each datacenter.
const PlacerDuty = "vm/placer"

// stepPlace is the Step of machines that a placer reports: those that no box has yet.
const stepPlace = "place"

const (
	maxBoxes     = 3                // boxes that may fail to make a machine before a person is asked
	leftOutFor   = 10 * time.Minute // a box that failed to make a machine is not given it again, and twice as long after maxBoxes more attempts
	leftOutMost  = 2 * time.Hour    // nor longer than that
	changeCounts = time.Minute      // but sooner when its entry was changed: after this time, lest something that writes it all the time has it tried all the time
	refusedFor   = time.Minute      // nor one that had no room for it
	awayFor      = 15 * time.Second // nor one that did not answer
	placeAgain   = 5 * time.Second  // between two tries to place one machine
	placeSoon    = time.Second      // where only a box is missing: another report may come any moment
	tidyEvery    = time.Minute
	flightKept   = 5 * time.Second // after a box took a machine, until its report or HostDB says so; then its record is asked what became of it
	offersAtOnce = 32
)

// Office is the duty of the placer, while it is held.
type Office interface {
	Group() string
	Fence() uint64
	Valid() bool
	// Put is lease.PutHeld.
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
}

// PlacerConfig is what a Placer needs.
type PlacerConfig struct {
	// Node is this node's id, Datacenter where it stands.
	Node, Datacenter string
	// Home reports whether it is the datacenter that serves networks without one.
	Home    func() bool
	Records Records
	DB      DB
	Calls   Calls
	Reports Reporter // nil = nobody
	// Images are the known images for plan.Input; nil = none is checked.
	Images func(hostdb.View) map[string]plan.Image
	// Drained are nodes that are to hold nothing; nil = none.
	Drained func(context.Context) map[string]string
	// Removed reports whether a node was removed from the mesh for good; nil = none was.
	Removed func(db hostdb.View, node string) bool
	// OfferTime is how long a box may take to answer; 0 = 10 s: it writes to its disk and asks the lease group.
	OfferTime time.Duration
	Clock     Clock
	Logger    *slog.Logger
}

// Placer finds boxes for machines while it holds the duty. It is a Daemon, which only takes the views. Its methods are safe for
// concurrent use.
type Placer struct {
	cfg  PlacerConfig
	log  *slog.Logger
	poke chan struct{}

	mu     sync.Mutex // guards the fields below
	db     hostdb.View
	mesh   mesh.View
	index  *plan.Planner // nil while it does not hold the duty
	flight map[string]*flight
	left   map[string]map[string]leftOut // by UUID and node
	again  map[string]time.Time          // not before
	vms    map[string]report.VM          // what is reported
	placed uint64
	failed uint64
}

// flight is a machine that is being placed, or was lately.
type flight struct {
	offer plan.Offer
	busy  bool
	until time.Time // when it was placed
}

type leftOut struct {
	reason string
	until  time.Time
}

// NewPlacer makes one.
func NewPlacer(cfg PlacerConfig) *Placer {
	if cfg.Clock == nil {
		cfg.Clock = wallClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.OfferTime == 0 {
		cfg.OfferTime = 10 * time.Second
	}
	return &Placer{cfg: cfg, log: cfg.Logger, poke: make(chan struct{}, 1),
		flight: map[string]*flight{}, left: map[string]map[string]leftOut{}, again: map[string]time.Time{}, vms: map[string]report.VM{}}
}

// Name implements node.Daemon.
func (p *Placer) Name() string { return "vm-placer" }

// Reconcile implements node.Daemon.
func (p *Placer) Reconcile(_ context.Context, db hostdb.View, m mesh.View) error {
	p.mu.Lock()
	p.db, p.mesh = db, m
	p.mu.Unlock()
	p.wake()
	return nil
}

func (p *Placer) wake() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// Plan implements node.Planner.
func (p *Placer) Plan(_ context.Context, db hostdb.View, m mesh.View) (string, error) {
	index := plan.NewPlanner(db)
	var out strings.Builder
	for _, d := range plan.PlaceAll(p.input(db, m, index), p.waiting(index)) {
		if d.Box != "" {
			fmt.Fprintf(&out, "%s: offer to %s\n", d.Name, d.Box)
		}
	}
	return out.String(), nil
}

// waiting are the machines that this datacenter's placer serves.
func (p *Placer) waiting(index *plan.Planner) []plan.Wish {
	list := index.Unplaced(p.cfg.Datacenter)
	if p.cfg.Datacenter != "" && p.cfg.Home != nil && p.cfg.Home() {
		list = append(list, index.Unplaced("")...)
		slices.SortStableFunc(list, func(a, b plan.Wish) int { return a.Stamp.Compare(b.Stamp) })
	}
	return list
}

// input is what places follow from.
func (p *Placer) input(db hostdb.View, m mesh.View, index *plan.Planner) plan.Input {
	in := plan.Input{DB: db, Mesh: m, Index: index}
	if p.cfg.Images != nil {
		in.Images = p.cfg.Images(db)
	}
	return in
}

// elsewhere are the nodes of other datacenters: they cannot take what this one's lease group offers.
func (p *Placer) elsewhere(m mesh.View) map[string]string {
	out := map[string]string{}
	for _, n := range m.Members() {
		if n.Datacenter != p.cfg.Datacenter {
			out[n.ID] = fmt.Sprintf("it is in datacenter %q, and the placer of %q serves this machine", n.Datacenter, p.cfg.Datacenter)
		}
	}
	return out
}

// Hold places machines until ctx ends. It is called while the duty is held.
func (p *Placer) Hold(ctx context.Context, office Office) error {
	p.log.Info("this agent places virtual machines", "fence", office.Fence())
	p.mu.Lock()
	p.index = plan.NewPlanner(p.db)
	p.mu.Unlock()
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		p.mu.Lock()
		p.index = nil
		clear(p.flight)
		clear(p.left)
		clear(p.again)
		clear(p.vms)
		p.mu.Unlock()
		p.tell()
		p.log.Info("this agent places virtual machines no longer", "fence", office.Fence())
	}()
	slots := make(chan struct{}, offersAtOnce)
	tidied := p.cfg.Clock.Now()
	var drained map[string]string
	var asked time.Time // when drained was
	for ctx.Err() == nil {
		work, waits := p.round(drained)
		if now := p.cfg.Clock.Now(); p.cfg.Drained != nil && (len(work) > 0 || waits && now.Sub(asked) >= placeAgain) {
			drained, asked = p.cfg.Drained(ctx), now
		}
		out := drained
		for _, j := range work {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				p.land(j.key(), false)
				continue
			}
			wg.Go(func() {
				defer func() { <-slots }()
				p.place(ctx, office, j, out)
			})
		}
		if now := p.cfg.Clock.Now(); now.Sub(tidied) >= tidyEvery {
			tidied = now
			if err := p.tidy(ctx, office); err != nil && ctx.Err() == nil {
				p.log.Warn("records of machines that are gone cannot be removed", "err", err)
			}
		}
		p.tell()
		t := time.NewTimer(placeSoon)
		select {
		case <-ctx.Done():
		case <-p.poke:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// job is a machine that is to be placed, with the box that a look at all of them chose for it; "" = none.
type job struct {
	plan.Wish
	node, box string
}

func (j job) key() string {
	if j.UUID == "" {
		return j.Name
	}
	return j.UUID
}

// round finds what is to be placed now, and marks it. A machine for which no box was found before, and is none now, is told of
// and costs nobody else anything; waits reports whether there is one.
func (p *Placer) round(drained map[string]string) (work []job, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock.Now()
	p.index.Update(p.db)
	for uuid, f := range p.flight {
		if !f.busy && now.Sub(f.until) > flightKept {
			delete(p.flight, uuid)
		}
	}
	var fleet *plan.Fleet
	left := map[string]map[string]string{}
	open := map[string]bool{}
	for _, w := range p.waiting(p.index) {
		j := job{Wish: w}
		key := j.key()
		open[key] = true
		f := p.flight[key]
		switch {
		case f != nil && f.busy, now.Before(p.again[key]):
		case f != nil: // a box has it, and HostDB will say so
		case w.Problem != "":
			p.sayLocked(w, report.Failed, w.Problem)
		default:
			if w.UUID != "" {
				if fleet == nil {
					fleet = plan.NewFleet(p.fleetInput("", left, drained))
				}
				left[w.UUID] = p.leftOut(w.UUID, now)
				d := fleet.Place(w)
				if _, again := p.again[key]; again && d.Node == "" {
					p.sayLocked(w, report.Reserved, fmt.Sprintf("%v: %s", errPatience, d.Reason))
					p.again[key], waits = now.Add(placeSoon), true
					continue
				}
				j.node, j.box = d.Node, d.Box
			}
			f := &flight{busy: true}
			if j.node != "" {
				f.offer = plan.Offer{UUID: w.UUID, Name: w.Name, Box: j.node, CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk}
			}
			p.flight[key] = f
			work = append(work, j)
		}
	}
	for uuid := range p.vms {
		if !open[uuid] {
			delete(p.vms, uuid)
		}
	}
	maps.DeleteFunc(p.again, func(key string, _ time.Time) bool { return !open[key] })
	maps.DeleteFunc(p.left, func(key string, _ map[string]leftOut) bool { return !open[key] })
	return work, waits
}

// fleetInput is what places follow from now; but is the machine whose own flight does not count. A caller holds mu.
func (p *Placer) fleetInput(but string, left map[string]map[string]string, drained map[string]string) plan.Input {
	in := p.input(p.db, p.mesh, p.index)
	in.LeftOut = left
	if drained != nil {
		in.Drained = drained
	}
	for uuid, f := range p.flight {
		if uuid != but && f.offer.Box != "" {
			in.InFlight = append(in.InFlight, f.offer)
		}
	}
	return in
}

// leftOut are the boxes that a machine is not given to at present, with the reasons; a caller holds mu.
func (p *Placer) leftOut(uuid string, now time.Time) map[string]string {
	left := p.elsewhere(p.mesh)
	for id, l := range p.left[uuid] {
		if now.Before(l.until) {
			left[id] = l.reason
		}
	}
	return left
}

// land ends a flight.
func (p *Placer) land(key string, placed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flight[key]
	if f == nil {
		return
	}
	if !placed {
		delete(p.flight, key)
		p.again[key] = p.cfg.Clock.Now().Add(placeAgain)
		return
	}
	f.busy, f.until = false, p.cfg.Clock.Now()
	delete(p.vms, key)
	p.placed++
}

func (p *Placer) say(w plan.Wish, phase report.Phase, reason string) {
	p.mu.Lock()
	p.sayLocked(w, phase, reason)
	p.mu.Unlock()
	p.tell()
}

func (p *Placer) sayLocked(w plan.Wish, phase report.Phase, reason string) {
	if w.UUID == "" {
		return // there is nothing to report it under
	}
	was := p.vms[w.UUID]
	vm := report.VM{Name: w.Name, Phase: phase, Step: stepPlace, Reason: reason, Since: was.Since, CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk}
	if was.Phase != phase {
		vm.Since = p.cfg.Clock.Now().UnixMilli()
		if phase == report.Failed {
			p.failed++
			p.log.Error("a machine cannot be placed", "vm", w.Name, "uuid", w.UUID, "reason", reason)
		}
	}
	p.vms[w.UUID] = vm
}

// tell reports the machines that no box has yet.
func (p *Placer) tell() {
	if p.cfg.Reports == nil {
		return
	}
	p.mu.Lock()
	vms := maps.Clone(p.vms)
	p.mu.Unlock()
	p.cfg.Reports.Report(func(r *report.Report) {
		if r.VMs == nil {
			r.VMs = map[string]report.VM{}
		}
		for uuid, vm := range r.VMs {
			if _, still := vms[uuid]; vm.Step == stepPlace && !still {
				delete(r.VMs, uuid)
			}
		}
		for uuid, vm := range vms {
			if is, here := r.VMs[uuid]; !here || is.Step == stepPlace { // a box's own word counts more
				r.VMs[uuid] = vm
			}
		}
	})
}

// Waiting are the machines that this placer has no box for, by UUID.
func (p *Placer) Waiting() map[string]report.VM {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.vms)
}
