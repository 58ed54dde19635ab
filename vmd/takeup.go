package vmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

const (
	groupEvery  = 5 * time.Second  // how often it is looked whether the lease group is another
	takeUpEvery = 10 * time.Minute // how often ledger and records are compared though nothing asks for it
)

// recover compares what the lease log says this box has with what its ledger says: until it had an answer, when the lease group was
// recovered, when a domain of this mesh turns up that the ledger does not know, and now and then.
func (b *Box) recover(ctx context.Context) {
	t := time.NewTicker(groupEvery)
	defer t.Stop()
	group, done, another := "", false, false
	var at time.Time // of the last try
	for {
		if b.cfg.Group != nil {
			if g := b.cfg.Group(); g != "" && g != group {
				if group != "" {
					b.log.Warn("the lease group is another, or was recovered: records of machines are compared with the ledger", "was", group, "is", g)
					b.disown()
					done, another, at = false, true, time.Time{}
				}
				group = g
			}
		}
		b.mu.Lock()
		unknown := len(b.strays()) + len(b.wishless)
		ready := b.have.known && (b.cfg.Complete == nil || b.cfg.Complete()) && b.cfg.Records != nil
		b.mu.Unlock()
		since := time.Since(at)
		if ready && (since >= takeUpEvery || since >= lookEvery && (!done || unknown > 0)) {
			at = time.Now()
			err := b.takeUp(ctx)
			if err == nil && another {
				err = b.claimByHand(ctx)
				another = err != nil
			}
			if done = err == nil; !done {
				b.log.Debug("records cannot be read", "err", err)
			}
		}
		if ready {
			b.lookForNothing(ctx)
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

// disown has nothing new made before the records say again that it is this box's.
func (b *Box) disown() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.machines {
		m.own(false, "")
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
	b.mu.Lock()
	strays := map[string]bool{}
	for _, m := range b.strays() {
		strays[m.UUID] = true
	}
	b.mu.Unlock()
	said, strange := map[string]bool{}, map[string]string{}
	for _, raw := range list.Records {
		r, err := decodeRecord(raw.Value)
		if err != nil || r.State != Taken {
			continue
		}
		if r.Node != b.cfg.Node && !strays[r.UUID] {
			continue
		}
		if r.Node != b.cfg.Node {
			yes, why := b.inherits(r)
			if !yes {
				strange[r.UUID] = why
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
		said[r.UUID] = true
		if _, known := b.entry(r.UUID); known {
			continue
		}
		// Since the list was made it may have been purged: the record goes before the entry.
		if _, version, err := readRecord(ctx, b.cfg.Records, r.UUID); err != nil {
			return err
		} else if version != raw.Version {
			continue
		}
		if err := b.takeUpOne(ctx, r, raw); err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.strange = strange
	b.mu.Unlock()
	return b.reclaim(ctx, said)
}

// reclaim has the records say again what this box has; said are the machines of which they do.
func (b *Box) reclaim(ctx context.Context, said map[string]bool) error {
	b.mu.Lock()
	entries := slices.Collect(maps.Values(b.entries))
	b.mu.Unlock()
	for _, e := range entries {
		b.mu.Lock()
		m := b.machines[e.UUID]
		b.mu.Unlock()
		if m == nil || e.Stage != Held && e.Stage != Destroying && e.Stage != Kept {
			continue
		}
		if said[e.UUID] {
			m.own(true, "")
			continue
		}
		if !e.Ran { // its worker asks before it goes on
			m.own(false, "")
			continue
		}
		rival, err := b.claim(ctx, e, "")
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return err
		}
		m.own(rival == "", rival)
		if rival != "" {
			b.log.Error("a machine that ran here is another box's by now", "vm", e.Name, "uuid", e.UUID, "reason", rival)
		}
	}
	return nil
}

// claim has a machine's record say that this box took it. Where that is another's, rival says whose; of a machine that never ran
// also where this box gave it up, or HostDB names another box.
func (b *Box) claim(ctx context.Context, e Entry, box string) (rival string, err error) {
	r, version, err := readRecord(ctx, b.cfg.Records, e.UUID)
	if err != nil {
		return "", err
	}
	mine := r.Node == b.cfg.Node
	switch {
	case version != 0 && mine && r.State == Taken:
		return "", nil
	case version != 0 && !mine && (r.State == Taken || !e.Ran):
		return fmt.Sprintf("the lease log says %s of it for %s", r.State, r.Box), nil
	case version != 0 && r.State == Refused && !e.Ran:
		return "the lease log says that this box gave it up", nil
	case version == 0 && !e.Ran && box != "" && box != b.cfg.Name:
		return "HostDB says that it is on " + box, nil
	}
	is := Record{Format: recordFormat, UUID: e.UUID, Name: e.Name, State: Taken, Node: b.cfg.Node, Box: b.cfg.Name, Fence: e.Fence,
		CPUs: e.CPUs, Memory: e.Memory, Disk: e.Disk, Tried: r.Tried, Wish: r.Wish}
	_, err = b.cfg.Records.Put(ctx, RecordKey(e.UUID), Encode(is), version)
	if errors.Is(err, lease.ErrConflict) || errors.Is(err, lease.ErrUnknown) {
		return "", errAgain
	}
	if err != nil {
		return "", err
	}
	b.log.Warn("the lease log had lost that a machine is here; it says so again", "vm", e.Name, "uuid", e.UUID)
	return "", nil
}

// claim does that for a machine that never ran. One of which nothing is here, and which is another's, is left.
func (m *machine) claim(ctx context.Context, e Entry, seen sight) error {
	rival, err := m.box.claim(ctx, e, seen.wish.Box)
	if err != nil {
		return err
	}
	if rival != "" && seen.domain.UUID == "" {
		m.box.log.Warn("a machine in the ledger is another box's", "vm", e.Name, "uuid", e.UUID, "reason", rival)
		return m.box.note(e.UUID, func(e *Entry) { e.Stage, e.Reason = Leaving, rival })
	}
	m.own(rival == "", rival)
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
