package vmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

// reserve serves an Offer. The ledger is written before the record: a record that says taken has a box that knows.
func (b *Box) reserve(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
	var o Offer
	if err := Decode(req, &o); err != nil {
		return nil, coded(CodeInvalid, "offer: %w", err)
	}
	if !uuidShape.MatchString(o.UUID) || o.Name == "" || o.CPUs < 1 || o.Memory < 1 || o.Disk < 0 {
		return nil, coded(CodeInvalid, "offer: %w", ErrMalformed)
	}
	if left := time.UnixMilli(o.Expires).Sub(b.cfg.Clock.Now()); left <= 0 {
		return nil, coded(CodeState, "the offer of %s is over by this box's clock", o.Name)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	why, err := b.writeDown(o)
	if err != nil {
		return nil, err
	}
	if why != "" {
		return Encode(Reserved{Reason: why}), nil
	}
	return b.take(ctx, o)
}

// writeDown enters an offer into the ledger. why is why it is not taken.
func (b *Box) writeDown(o Offer) (why string, err error) {
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	a := b.around
	highest := a.Fences[o.Group]
	e, known := b.entries[o.UUID]
	unfit, run := b.unfit(), b.run != nil && !b.stopped
	total, used := b.room(o.UUID)
	bridges := b.have.host.Bridges
	b.mu.Unlock()
	switch {
	case o.Fence < highest:
		return "", coded(CodeFence, "the offer of %s has the fencing number %d, and a later placer spoke under %d", o.Name, o.Fence, highest)
	case !run:
		return "this agent is starting or stopping", nil
	case known && e.Stage == Held:
		return "", nil // the record says so, or nearly
	case known && e.Stage != Reserving:
		return fmt.Sprintf("it is being taken away from this box (%s)", e.Stage), nil
	case unfit != "":
		return unfit, nil
	case o.Bridge != "" && !slices.Contains(bridges, o.Bridge):
		return fmt.Sprintf("this box has no bridge %s; it has %s", o.Bridge, strings.Join(bridges, ", ")), nil
	}
	want := plan.Room{CPUs: o.CPUs, Memory: o.Memory, Disk: o.Disk}
	if why := lacks(total, used, want); why != "" {
		return why, nil
	}
	if o.Fence > highest { // durable before anything follows from it
		fences := map[string]uint64{}
		for group, f := range a.Fences {
			fences[group] = f
		}
		fences[o.Group] = o.Fence
		a.Fences = fences
		if err := b.saveAround(a); err != nil {
			return "", err
		}
	}
	err = b.save(Entry{UUID: o.UUID, Name: o.Name, Stage: Reserving, Group: o.Group, Fence: o.Fence, Expires: o.Expires, At: b.cfg.Clock.Now().UnixMilli(),
		CPUs: o.CPUs, Memory: o.Memory, Disk: o.Disk})
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	if b.machines[o.UUID] == nil && !b.stopped {
		m := newMachine(b, o.UUID)
		m.mine = true
		b.startOne(m)
	}
	b.mu.Unlock()
	return "", nil
}

// lacks says what there is too little of; "" = it fits.
func lacks(total, used, want plan.Room) string {
	free := plan.Room{CPUs: max(total.CPUs-used.CPUs, 0), Memory: max(total.Memory-used.Memory, 0), Disk: max(total.Disk-used.Disk, 0)}
	switch {
	case want.Memory > free.Memory:
		return fmt.Sprintf("%s of memory are free, it needs %s", size(free.Memory), size(want.Memory))
	case want.CPUs > free.CPUs:
		return fmt.Sprintf("%d virtual processors are free, it needs %d", free.CPUs, want.CPUs)
	case want.Disk > free.Disk:
		return fmt.Sprintf("%s of disk are free, it needs %s", size(free.Disk), size(want.Disk))
	}
	return ""
}

// take turns the record from offered to taken.
func (b *Box) take(ctx context.Context, o Offer) ([]byte, error) {
	for {
		r, version, err := readRecord(ctx, b.cfg.Records, o.UUID)
		if err != nil {
			return nil, err // the worker finds out when the offer is over
		}
		switch {
		case version != 0 && r.Node == b.cfg.Node && r.State == Taken:
			return b.taken(o)
		case version == 0, r.Node != b.cfg.Node, r.State != Offered, r.Fence != o.Fence:
			b.disk.Lock()
			defer b.disk.Unlock()
			if e, ok := b.entry(o.UUID); ok && e.Stage == Reserving && e.Fence == o.Fence {
				if err := b.drop(e); err != nil {
					return nil, err
				}
			}
			return Encode(Reserved{Lost: true, Reason: "the lease log offers it to another box by now"}), nil
		}
		r.State, r.Expires = Taken, 0
		_, err = b.cfg.Records.Put(ctx, RecordKey(o.UUID), Encode(r), version)
		switch {
		case err == nil:
			return b.taken(o)
		case errors.Is(err, lease.ErrConflict), errors.Is(err, lease.ErrUnknown):
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		default:
			return nil, err
		}
	}
}

// taken writes down that the record names this box.
func (b *Box) taken(o Offer) ([]byte, error) {
	err := b.note(o.UUID, func(e *Entry) {
		if e.Stage == Reserving {
			e.Stage = Held
		}
	})
	if err != nil && !errors.Is(err, errGone) {
		return nil, err
	}
	b.mu.Lock()
	m := b.machines[o.UUID]
	b.mu.Unlock()
	if m != nil {
		m.wake()
	}
	b.stats.taken.Add(1)
	return Encode(Reserved{Taken: true}), nil
}
