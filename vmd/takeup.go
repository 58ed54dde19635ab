package vmd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

// recover finds what the lease log says this box has, and its ledger does not. It goes on until it had an answer, and again
// while there are domains of this mesh that the ledger does not know, or machines that nothing is made of.
func (b *Box) recover(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	done := false
	for {
		b.mu.Lock()
		unknown := len(b.strays()) + len(b.wishless)
		ready := b.have.known && (b.cfg.Complete == nil || b.cfg.Complete()) && b.cfg.Records != nil
		b.mu.Unlock()
		if ready && (!done || unknown > 0) {
			if err := b.takeUp(ctx); err != nil {
				b.log.Debug("records cannot be read", "err", err)
			} else {
				done = true
			}
		}
		if ready {
			if err := b.sweep(ctx); err != nil {
				b.log.Debug("volumes cannot be looked through", "err", err)
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
		if err != nil || r.State != Taken {
			continue
		}
		if r.Node != b.cfg.Node {
			yes, why := b.inherits(r)
			b.mu.Lock()
			b.strange[r.UUID] = why
			b.mu.Unlock()
			if !yes {
				continue
			}
			b.log.Warn("taking over a machine of this box from before it was installed anew", "vm", r.Name, "uuid", r.UUID, "former", r.Node)
			r.Node = b.cfg.Node
			version, err := b.cfg.Records.Put(ctx, raw.Key, Encode(r), raw.Version)
			if errors.Is(err, lease.ErrConflict) {
				continue // it will be looked at again
			}
			if err != nil {
				return err
			}
			raw.Version = version
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
		b.names[r.UUID] = r.Name
		why := "this box has nothing of it, though its record says that it does: its ledger was lost. "
		if what == gone {
			why += "hostmesh vm purge " + r.Name + " frees its name, and takes away what volumes are left"
		} else {
			why += "To have it made anew, without what was on its disk: hostmesh db delete hosts/" + w.Name + "/VM/Box -m 'lost'; or hostmesh vm destroy " + w.Name
		}
		b.wishless[r.UUID] = why
		b.mu.Unlock()
		return false, nil
	}
	if what == unseen {
		return false, nil
	}
	b.mu.Lock()
	delete(b.wishless, r.UUID) // whoever removed VM/Box wants it made anew
	b.mu.Unlock()
	return true, nil
}
