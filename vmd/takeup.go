package vmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

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
		if ready {
			b.lookForNothing(ctx)
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

// lookForNothing finds the entries that name this box, of which neither its ledger nor the lease log says that they are its:
// nobody else would speak of them.
func (b *Box) lookForNothing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b.mu.Lock()
	b.follow(b.cfg.DB.View())
	var list []plan.Wish
	for _, w := range b.planner.Wanted(b.cfg.Name) {
		_, known := b.entries[w.UUID]
		broken := slices.ContainsFunc(b.damaged, func(err error) bool { return strings.Contains(err.Error(), w.UUID) })
		if !known && !broken {
			list = append(list, w)
		}
	}
	was := b.nothing
	b.mu.Unlock()
	now := map[string]string{}
	for _, w := range list {
		r, version, err := readRecord(ctx, b.cfg.Records, w.UUID)
		switch {
		case err != nil:
			if was[w.UUID] != "" {
				now[w.UUID] = was[w.UUID]
			}
		case version != 0 && r.Node == b.cfg.Node && r.State == Taken: // see takeUp
		default:
			now[w.UUID] = fmt.Sprintf("hosts/%s names this box, which has nothing of it: its disks are gone, or VM/Box was entered by hand. To have it made anew, take VM/Box out of hosts/%s: then a box is looked for", w.Name, w.Name)
		}
	}
	for uuid, why := range now {
		if was[uuid] == "" {
			b.log.Error("a machine is wanted here, and this box has nothing of it", "uuid", uuid, "reason", why)
		}
	}
	b.mu.Lock()
	b.nothing = now
	b.mu.Unlock()
	if len(now) > 0 || len(was) > 0 {
		b.changed()
	}
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
