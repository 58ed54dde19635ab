package vmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

// digest tells two wishes apart for the question whether a box could make it; image is what its image is.
func digest(w plan.Wish, image string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d %d %q %v %v", w.Image, image, w.CPUs, w.Memory, w.Disk, w.Subnet.Tag, w.IP, w.MAC))
	return hex.EncodeToString(sum[:8])
}

// place finds a box for one machine.
func (p *Placer) place(ctx context.Context, office Office, j job, drained map[string]string) {
	w, key := j.Wish, j.key()
	if w.UUID == "" {
		if err := p.identify(ctx, w.Name); err != nil {
			p.log.Error("a machine cannot be given a UUID", "vm", w.Name, "err", err)
		}
		p.land(w.Name, false) // the next view has it under its UUID
		return
	}
	placed, err := p.tryPlace(ctx, office, j, drained)
	if err != nil && ctx.Err() == nil {
		phase := report.Failed
		if passes(err) {
			phase = report.Reserved
		}
		p.say(w, phase, err.Error())
	}
	p.land(key, placed)
	// Where a box was chosen, but the record leaves it out, each try asks the lease group.
	if errors.Is(err, errChanged) || errors.Is(err, errPatience) && j.node == "" {
		p.mu.Lock()
		p.again[key] = p.cfg.Clock.Now().Add(placeSoon)
		p.mu.Unlock()
	}
}

// passes reports whether a reason not to place a machine may pass by itself: whoever waits for it goes on.
func passes(err error) bool {
	var remote *mesh.RemoteError
	return noQuorum(err) || errors.Is(err, errPatience) || errors.Is(err, lease.ErrTaken) || errors.Is(err, lease.ErrLost) ||
		errors.Is(err, context.DeadlineExceeded) || errors.As(err, &remote)
}

// errPatience is wrapped by reasons that pass by themselves.
var errPatience = errors.New("it waits for a box")

// errChanged is wrapped where somebody else was quicker.
var errChanged = fmt.Errorf("%w: its record was changed meanwhile", errPatience)

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
func (p *Placer) tryPlace(ctx context.Context, office Office, j job, drained map[string]string) (placed bool, err error) {
	w, named := j.Wish, false
	now := p.cfg.Clock.Now()
	rec, version, err := readRecord(ctx, p.cfg.Records, w.UUID)
	if err != nil {
		return false, err
	}
	want := digest(w, p.imageOf(w.Image))
	if rec.Wish != want && rec.State != Taken {
		rec.Tried = nil
	}
	first := "" // the box that it may have been offered to already
	switch {
	case rec.State == Taken && p.gone(rec.Node):
		return false, fmt.Errorf("%s took it, and that node was removed from the mesh, with its disk; destroy it, and create it anew", rec.Box)
	case rec.State == Taken:
		return false, fmt.Errorf("%w: %s took it, and has not written that into HostDB yet", errPatience, rec.Box)
	case rec.State == Offered && now.Before(time.UnixMilli(rec.Expires)):
		first = rec.Node
	}
	if why := p.carried(w, rec); why != "" {
		return false, fmt.Errorf("%w: %s", errPatience, why)
	}
	for ctx.Err() == nil && office.Valid() {
		back := p.setback(rec.Tried)
		if back.spent() {
			return false, errors.New(back.text(w.Name))
		}
		node, box, why := p.choose(j, back, first, drained)
		first, j.node = "", ""
		switch {
		case node == "" && why == "":
			return false, errors.New(back.text(w.Name))
		case node == "":
			return false, fmt.Errorf("%w: %s", errPatience, why)
		}
		if !named { // not before there is a box: a claim is a write of the lease log
			if err := p.cfg.Records.ClaimName(ctx, NameSpace, w.Name, w.UUID); errors.Is(err, lease.ErrTaken) {
				return false, fmt.Errorf("the name %s belongs to another machine in the lease log; wait until that is gone, or choose another name: %w", w.Name, err)
			} else if err != nil {
				return false, err
			}
			named = true
		}
		r := Record{Format: recordFormat, UUID: w.UUID, Name: w.Name, State: Offered, Node: node, Box: box, Fence: office.Fence(),
			CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk, Expires: p.cfg.Clock.Now().Add(p.cfg.OfferTime).UnixMilli(), Tried: rec.Tried, Wish: want}
		if _, err := office.Put(ctx, RecordKey(w.UUID), Encode(r), version); err != nil {
			if errors.Is(err, lease.ErrConflict) || errors.Is(err, lease.ErrUnknown) {
				err = errChanged
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

// carried says who has a machine although its record does not say so: the lease log may have been recovered without it, and then
// the boxes write it down again; "" = nobody is known to. What a box said before it gave the machine up counts no more.
func (p *Placer) carried(w plan.Wish, rec Record) string {
	if box := p.cfg.DB.View().Data(hostdb.Hosts, w.Name).Text("VM", "Box"); box != "" {
		return "HostDB says that it is on " + box
	}
	p.mu.Lock()
	m := p.mesh
	p.mu.Unlock()
	for r := range m.Reports() {
		vm, speaks := r.VMs[w.UUID]
		if !speaks || vm.Step == stepPlace || vm.Phase == report.Reserved || vm.Phase == report.Foreign || vm.Phase == report.Failed && vm.Memory == 0 {
			continue
		}
		if slices.ContainsFunc(rec.Tried, func(a Attempt) bool { return a.Node == r.Node && vm.Since <= a.At }) {
			continue
		}
		name := r.Node
		if member, ok := m.Get(r.Node); ok {
			name = member.Name
		}
		return fmt.Sprintf("%s reports it as %s, though the lease log does not say that it is there", name, vm.Phase)
	}
	return ""
}

// gone reports whether a node was removed from the mesh.
func (p *Placer) gone(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Removed != nil && p.cfg.Removed(p.db, node)
}

// setback is what the attempts mean now.
func (p *Placer) setback(list []Attempt) setback {
	view := p.cfg.DB.View()
	return setbackOf(list, p.cfg.Clock.Now(), func(box string) time.Time {
		item, _ := view.Get(hostdb.Hosts, box)
		return item.Modified()
	})
}

// imageOf tells what the image of a name is; "" = it is not known.
func (p *Placer) imageOf(name string) string {
	if p.cfg.Images == nil {
		return ""
	}
	return p.cfg.Images(p.cfg.DB.View())[name].SHA256
}

// choose decides where a machine goes, and keeps the place. With neither a node nor a reason, only boxes could have it that could
// not make it.
func (p *Placer) choose(j job, back setback, first string, drained map[string]string) (node, box, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Clock.Now()
	w := j.Wish
	p.index.Update(p.db)
	left := p.leftOut(w.UUID, now)
	others := maps.Clone(left)
	for _, a := range back.recent {
		left[a.Node] = a.Reason
	}
	if m, ok := p.mesh.Get(first); ok && m.State == mesh.StateAlive && left[first] == "" {
		node, box = m.ID, m.Name
	} else if _, out := drained[j.node]; j.node != "" && left[j.node] == "" && !out {
		node, box = j.node, j.box
	} else {
		d := plan.NewFleet(p.fleetInput(w.UUID, map[string]map[string]string{w.UUID: left}, drained)).Place(w)
		node, box, why = d.Node, d.Box, d.Reason
		if node == "" && len(back.recent) > 0 &&
			plan.NewFleet(p.fleetInput(w.UUID, map[string]map[string]string{w.UUID: others}, drained)).Place(w).Node != "" {
			why = ""
		}
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
