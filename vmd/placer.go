package vmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

// PlacerDuty is the duty of who finds boxes for new machines, one in each datacenter.
const PlacerDuty = "vm/placer"

// stepPlace is the Step of machines that a placer reports: those that no box has yet.
const stepPlace = "place"

const (
	maxBoxes     = 3                // boxes that may fail to make a machine before a person is asked
	leftOutFor   = 10 * time.Minute // a box that failed to make a machine is not given it again
	refusedFor   = time.Minute      // nor one that had no room for it
	awayFor      = 15 * time.Second // nor one that did not answer
	placeAgain   = 5 * time.Second  // between two tries to place one machine
	placeSoon    = time.Second      // where only a box is missing: another report may come any moment
	tidyEvery    = time.Minute
	flightKept   = 30 * time.Second // after a box took a machine, until its report says so at the latest
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
	for ctx.Err() == nil {
		var drained map[string]string
		work := p.round()
		if len(work) > 0 && p.cfg.Drained != nil {
			drained = p.cfg.Drained(ctx)
		}
		for _, w := range work {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				p.land(w.UUID, false)
				continue
			}
			wg.Go(func() {
				defer func() { <-slots }()
				p.place(ctx, office, w, drained)
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

// round finds what is to be placed now, and marks it.
func (p *Placer) round() []plan.Wish {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock.Now()
	p.index.Update(p.db)
	for uuid, f := range p.flight {
		if !f.busy && now.Sub(f.until) > flightKept {
			delete(p.flight, uuid)
		}
	}
	var work []plan.Wish
	waits := map[string]bool{}
	for _, w := range p.waiting(p.index) {
		key := w.UUID
		if key == "" {
			key = w.Name
		}
		waits[key] = true
		f := p.flight[key]
		switch {
		case f != nil && f.busy, now.Before(p.again[key]):
		case f != nil: // a box has it, and HostDB will say so
		case w.Problem != "":
			p.sayLocked(w, report.Failed, w.Problem)
		default:
			p.flight[key] = &flight{busy: true}
			work = append(work, w)
		}
	}
	for uuid := range p.vms {
		if !waits[uuid] {
			delete(p.vms, uuid)
		}
	}
	maps.DeleteFunc(p.again, func(key string, _ time.Time) bool { return !waits[key] })
	maps.DeleteFunc(p.left, func(key string, _ map[string]leftOut) bool { return !waits[key] })
	return work
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

// digest tells two wishes apart for the question whether a box could make it.
func digest(w plan.Wish) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %d %q %v %v", w.Image, w.CPUs, w.Memory, w.Disk, w.Subnet.Tag, w.IP, w.MAC))
	return hex.EncodeToString(sum[:8])
}

// place finds a box for one machine.
func (p *Placer) place(ctx context.Context, office Office, w plan.Wish, drained map[string]string) {
	key := w.UUID
	if key == "" {
		if err := p.identify(ctx, w.Name); err != nil {
			p.log.Error("a machine cannot be given a UUID", "vm", w.Name, "err", err)
		}
		p.land(w.Name, false) // the next view has it under its UUID
		return
	}
	placed, err := p.tryPlace(ctx, office, w, drained)
	if err != nil && ctx.Err() == nil {
		phase := report.Failed
		if noQuorum(err) || errors.Is(err, errPatience) {
			phase = report.Reserved
		}
		p.say(w, phase, err.Error())
	}
	p.land(key, placed)
	if errors.Is(err, errPatience) {
		p.mu.Lock()
		p.again[key] = p.cfg.Clock.Now().Add(placeSoon)
		p.mu.Unlock()
	}
}

// errPatience is wrapped by reasons that pass by themselves.
var errPatience = errors.New("it waits for a box")

// identify gives an entry that was written by hand its UUID.
func (p *Placer) identify(ctx context.Context, name string) error {
	_, err := p.cfg.DB.Update(ctx, hostdb.Request{User: "vmd", Log: "vm: an identity for " + name}, func(tx *hostdb.Tx) error {
		doc := tx.View().Data(hostdb.Hosts, name)
		if !doc.At("VM").IsMapping() || doc.Text("VM", "UUID") != "" {
			return nil
		}
		return putText(tx, name, newUUID(), "VM", "UUID")
	})
	return err
}

// tryPlace offers a machine to boxes, one after the other, until one takes it.
func (p *Placer) tryPlace(ctx context.Context, office Office, w plan.Wish, drained map[string]string) (placed bool, err error) {
	now := p.cfg.Clock.Now()
	rec, version, err := readRecord(ctx, p.cfg.Records, w.UUID)
	if err != nil {
		return false, err
	}
	want := digest(w)
	if rec.Wish != want && rec.State != Taken {
		rec.Tried = nil
	}
	first := "" // the box that it may have been offered to already
	switch {
	case rec.State == Taken:
		return false, fmt.Errorf("%w: %s took it, and has not written that into HostDB yet", errPatience, rec.Box)
	case rec.State == Offered && now.Before(time.UnixMilli(rec.Expires)):
		first = rec.Node
	}
	if why := failures(rec.Tried); why != "" {
		return false, errors.New(why)
	}
	name := p.cfg.Records.ClaimName(ctx, NameSpace, w.Name, w.UUID)
	if name != nil {
		if errors.Is(name, lease.ErrTaken) {
			return false, fmt.Errorf("the name %s belongs to another machine in the lease log; wait until that is gone, or choose another name: %w", w.Name, name)
		}
		return false, name
	}
	for ctx.Err() == nil && office.Valid() {
		node, box, why := p.choose(w, rec, first, drained)
		first = ""
		if node == "" {
			return false, fmt.Errorf("%w: %s", errPatience, why)
		}
		r := Record{Format: recordFormat, UUID: w.UUID, Name: w.Name, State: Offered, Node: node, Box: box, Fence: office.Fence(),
			CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk, Expires: p.cfg.Clock.Now().Add(p.cfg.OfferTime).UnixMilli(), Tried: rec.Tried, Wish: want}
		if _, err := office.Put(ctx, RecordKey(w.UUID), Encode(r), version); err != nil {
			if errors.Is(err, lease.ErrConflict) || errors.Is(err, lease.ErrUnknown) {
				err = fmt.Errorf("%w: its record was changed meanwhile", errPatience)
			}
			return false, err
		}
		rec = r
		answer, err := p.offer(ctx, r, office.Group(), w)
		switch {
		case err == nil && answer.Taken:
			p.log.Info("vm placed", "vm", w.Name, "uuid", w.UUID, "box", box)
			return true, nil
		case err == nil:
			p.leave(w.UUID, node, answer.Reason, refusedFor)
			p.log.Info("a box refused a machine", "vm", w.Name, "uuid", w.UUID, "box", box, "reason", answer.Reason)
		default:
			var remote *mesh.RemoteError
			if errors.As(err, &remote) && remote.Code == CodeFence {
				return false, err
			}
			p.leave(w.UUID, node, err.Error(), awayFor)
			p.log.Warn("a box does not answer an offer", "vm", w.Name, "uuid", w.UUID, "box", box, "err", err)
		}
		// It may have taken it all the same: whoever wins the record wins.
		now, v, err := readRecord(ctx, p.cfg.Records, w.UUID)
		switch {
		case err != nil:
			return false, err
		case now.State == Taken:
			return true, nil
		}
		version = v
		if v != 0 {
			rec.Tried = now.Tried
		}
	}
	return false, ctx.Err()
}

// failures sums up what boxes said who could not make a machine; "" while another may try.
func failures(list []Attempt) string {
	if len(list) < maxBoxes {
		return ""
	}
	var lines []string
	for _, a := range list {
		lines = append(lines, a.Box+": "+a.Reason)
	}
	return fmt.Sprintf("%d boxes could not make it; change its entry, or hostmesh vm retry, to begin anew. %s", len(list), strings.Join(lines, "; "))
}

// choose decides where a machine goes, and keeps the place.
func (p *Placer) choose(w plan.Wish, rec Record, first string, drained map[string]string) (node, box, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock.Now()
	in := p.input(p.db, p.mesh, p.index)
	if p.index.Update(p.db); drained != nil {
		in.Drained = drained
	}
	left := p.elsewhere(p.mesh)
	for id, l := range p.left[w.UUID] {
		if now.Before(l.until) {
			left[id] = l.reason
		}
	}
	for _, a := range rec.Tried {
		if now.Sub(time.UnixMilli(a.At)) < leftOutFor {
			left[a.Node] = a.Reason
		}
	}
	in.LeftOut = map[string]map[string]string{w.UUID: left}
	for uuid, f := range p.flight {
		if uuid != w.UUID && f.offer.Box != "" {
			in.InFlight = append(in.InFlight, f.offer)
		}
	}
	if m, ok := p.mesh.Get(first); ok && m.State == mesh.StateAlive && left[first] == "" {
		node, box = m.ID, m.Name
	} else {
		d := plan.NewFleet(in).Place(w)
		node, box, why = d.Node, d.Box, d.Reason
	}
	if f := p.flight[w.UUID]; f != nil {
		f.offer = plan.Offer{}
		if node != "" {
			f.offer = plan.Offer{UUID: w.UUID, Name: w.Name, Box: node, CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk}
		}
	}
	return node, box, why
}

// leave leaves a box out for a machine.
func (p *Placer) leave(uuid, node, reason string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left[uuid] == nil {
		p.left[uuid] = map[string]leftOut{}
	}
	p.left[uuid][node] = leftOut{clip(reason), p.cfg.Clock.Now().Add(d)}
}

// offer asks a box.
func (p *Placer) offer(ctx context.Context, r Record, group string, w plan.Wish) (Reserved, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.OfferTime)
	defer cancel()
	o := Offer{UUID: r.UUID, Name: r.Name, Group: group, Fence: r.Fence, CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk,
		Image: w.Image, Subnet: w.Subnet.Tag, Expires: r.Expires}
	if w.Subnet.Tag != "" {
		o.Bridge = w.Subnet.Bridge
	}
	raw, err := p.cfg.Calls.Call(ctx, r.Node, CallReserve, Encode(o))
	if err != nil {
		return Reserved{}, err
	}
	var a Reserved
	return a, Decode(raw, &a)
}

// tidy removes what the lease log has of machines that nobody wants and no box has.
func (p *Placer) tidy(ctx context.Context, office Office) error {
	p.mu.Lock()
	p.index.Update(p.db)
	db := p.db
	p.mu.Unlock()
	wanted := func(uuid string) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.index.ByUUID(uuid)) > 0 || p.flight[uuid] != nil
	}
	list, err := p.cfg.Records.List(ctx, recordPrefix)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, raw := range list.Records {
		r, err := decodeRecord(raw.Value)
		if err != nil {
			known[strings.TrimPrefix(raw.Key, recordPrefix)] = true
			continue
		}
		known[r.UUID] = true
		was := db.WasDeleted(hostdb.Hosts, r.Name) || db.Exists(hostdb.Hosts, r.Name)
		over := r.State == Refused || r.State == Offered && p.cfg.Clock.Now().After(time.UnixMilli(r.Expires).Add(2*p.cfg.OfferTime))
		if !was || !over || wanted(r.UUID) || !office.Valid() {
			continue
		}
		// The name goes first: a record that is left finds it again.
		if err := p.cfg.Records.FreeName(ctx, NameSpace, r.Name, r.UUID); err != nil {
			return err
		}
		if err := p.cfg.Records.Delete(ctx, raw.Key, raw.Version); err != nil && !errors.Is(err, lease.ErrConflict) && !errors.Is(err, lease.ErrNotFound) {
			return err
		}
	}
	const names = "name/" + NameSpace + "/"
	claims, err := p.cfg.Records.List(ctx, names)
	if err != nil {
		return err
	}
	for _, c := range claims.Records {
		if uuid := string(c.Value); !known[uuid] && !wanted(uuid) && office.Valid() {
			if err := p.cfg.Records.FreeName(ctx, NameSpace, strings.TrimPrefix(c.Key, names), uuid); err != nil {
				return err
			}
		}
	}
	return nil
}
