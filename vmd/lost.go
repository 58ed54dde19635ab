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
	"hostmesh/hostdb/section"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

// StepLost is the Step of what is reported of volumes that no ledger knows.
const StepLost = "lost"

// volumeOf is the machine that a volume is of by its name; "" = none.
func volumeOf(name string) string {
	for _, suffix := range []string{"-seed.iso", ".qcow2"} {
		if uuid, ok := strings.CutSuffix(name, suffix); ok && uuidShape.MatchString(uuid) {
			return uuid
		}
	}
	return ""
}

// lostLocked are the machines with volumes among those named that nothing this box knows of refers to: no entry, no domain,
// nothing in HostDB. A ledger with damaged files, and a replica that is not whole, say nothing. A caller holds mu.
func (b *Box) lostLocked(volumes []string, domains []plan.Machine) []string {
	if len(b.damaged) > 0 || b.cfg.Complete != nil && !b.cfg.Complete() {
		return nil
	}
	found := map[string]bool{}
	for _, name := range volumes {
		uuid := volumeOf(name)
		if _, known := b.entries[uuid]; uuid == "" || known || len(b.planner.ByUUID(uuid)) > 0 {
			continue
		}
		found[uuid] = !slices.ContainsFunc(domains, func(m plan.Machine) bool { return m.UUID == uuid })
	}
	maps.DeleteFunc(found, func(_ string, lost bool) bool { return !lost })
	return slices.Sorted(maps.Keys(found))
}

// sweep looks for volumes that a lost ledger left. They are told of, and go when this run saw them for as long as disks are kept,
// unless a record has their machine.
func (b *Box) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	volumes, err := b.cfg.Hypervisor.Volumes(ctx)
	if err != nil {
		return err
	}
	domains, err := b.cfg.Hypervisor.List(ctx)
	if err != nil {
		return err
	}
	now := b.cfg.Clock.Now()
	b.mu.Lock()
	list := b.lostLocked(volumes, domains)
	was := len(b.lost)
	maps.DeleteFunc(b.lost, func(uuid string, _ time.Time) bool { return !slices.Contains(list, uuid) })
	var over []string
	for _, uuid := range list {
		since, known := b.lost[uuid]
		if !known {
			b.lost[uuid] = now
			b.log.Warn("volumes that neither the ledger nor HostDB knows", "uuid", uuid, "kept_for", b.cfg.Keep)
		} else if now.Sub(since) > b.cfg.Keep {
			over = append(over, uuid)
		}
	}
	if was+len(list) > 0 {
		defer b.changed()
	}
	b.mu.Unlock()
	for _, uuid := range over {
		if _, version, err := readRecord(ctx, b.cfg.Records, uuid); err != nil || version != 0 {
			if err != nil {
				return err
			}
			continue // a person must say so: hostmesh vm purge
		}
		if _, err := b.purgeLost(ctx, uuid, ""); err != nil {
			return err
		}
	}
	return nil
}

// reportLost adds what is to be said of lost volumes; a caller holds mu.
func (b *Box) reportLost(vms map[string]report.VM) {
	for uuid, since := range b.lost {
		if _, known := vms[uuid]; !known {
			until := since.Add(b.cfg.Keep)
			vms[uuid] = report.VM{Name: uuid, Phase: report.Deleted, Step: StepLost, Since: since.UnixMilli(), Until: until.UnixMilli(),
				Reason: "volumes that neither this box's ledger nor HostDB knows: they go then, or with hostmesh vm purge " + uuid}
		}
	}
}

// purgeLost takes away what is left of a machine that the ledger does not know: its volumes here, and its name and record where
// those are this box's.
func (b *Box) purgeLost(ctx context.Context, uuid, override string) (name string, err error) {
	b.mu.Lock()
	names, db, damaged := b.planner.ByUUID(uuid), b.db, len(b.damaged)
	wanted := ""
	for _, n := range names {
		if _, wants := b.planner.Wish(n); wants {
			wanted = n
		}
	}
	b.mu.Unlock()
	switch {
	case !uuidShape.MatchString(uuid):
		return "", coded(CodeInvalid, "purge: %w", ErrMalformed)
	case b.cfg.Hypervisor == nil:
		return "", coded(CodeNotHere, "%s has no machine %s", b.cfg.Name, uuid)
	case b.cfg.Records == nil:
		return "", errNoRecords
	case damaged > 0:
		return "", coded(CodeState, "%s cannot tell what it has while files of its ledger are damaged: see its log", b.cfg.Name)
	case b.cfg.Complete != nil && !b.cfg.Complete():
		return "", coded(CodeState, "%s has not got all of HostDB yet: try again in a moment", b.cfg.Name)
	case wanted != "":
		return "", coded(CodeState, "hosts/%s wants %s: hostmesh vm destroy %s comes first", wanted, uuid, wanted)
	}
	for _, n := range names { // retired
		if override == "" && section.ProtectedOf(db.Data(hostdb.Hosts, n)) {
			return "", coded(CodeProtected, "hosts/%s is Protected: to purge it, give an override with the reason, or end the protection first", n)
		}
	}
	if _, err := b.cfg.Hypervisor.Get(ctx, uuid); err == nil {
		return "", coded(CodeState, "%s has a domain with the UUID %s, and no entry of it: hostmesh does not touch that. virsh destroy and virsh undefine it, if it is not needed", b.cfg.Name, uuid)
	} else if !errors.Is(err, ErrNoDomain) {
		return "", commandError(err)
	}
	volumes, err := b.cfg.Hypervisor.Volumes(ctx)
	if err != nil {
		return "", commandError(err)
	}
	r, version, err := readRecord(ctx, b.cfg.Records, uuid)
	if err != nil {
		return "", err
	}
	mine := version != 0 && r.Node == b.cfg.Node
	if !mine && !slices.ContainsFunc(volumes, func(name string) bool { return volumeOf(name) == uuid }) {
		return "", coded(CodeNotHere, "%s has no machine %s", b.cfg.Name, uuid)
	}
	if _, here := b.entry(uuid); here {
		return "", coded(CodeState, "%s was given %s meanwhile", b.cfg.Name, uuid)
	}
	if err := b.deleteVolumes(ctx, Entry{UUID: uuid}); err != nil {
		return "", commandError(err)
	}
	if mine { // the name goes first: a record that is left finds it again
		if err := b.cfg.Records.FreeName(ctx, NameSpace, r.Name, uuid); err != nil {
			return "", err
		}
		if err := b.cfg.Records.Delete(ctx, RecordKey(uuid), version); errors.Is(err, lease.ErrConflict) {
			return "", coded(CodeState, "the record of %s was changed meanwhile: try again", r.Name)
		} else if err != nil && !errors.Is(err, lease.ErrNotFound) {
			return "", err
		}
	}
	b.mu.Lock()
	delete(b.lost, uuid)
	delete(b.wishless, uuid)
	b.mu.Unlock()
	b.changed()
	b.log.Info("what was left of a machine was purged", "vm", r.Name, "uuid", uuid)
	if r.Name == "" {
		return uuid, nil
	}
	return r.Name, nil
}

// inherits reports whether the record of a stray is of this box before it was installed anew: it names the box, but another node
// that is gone, and HostDB has the machine here. why is what is in the way; "" = nothing, or it is not known yet.
func (b *Box) inherits(r Record) (yes bool, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, what, _ := b.wishLocked(Entry{UUID: r.UUID, Name: r.Name})
	if _, self := b.mesh.Get(b.cfg.Node); !self || what == unseen {
		return false, "" // not known yet
	}
	_, member := b.mesh.Get(r.Node)
	const begins = "a stray: it has this mesh's mark, but "
	switch {
	case r.Box != b.cfg.Name:
		return false, fmt.Sprintf(begins+"its record says that %s took it (hostmesh vm show %s). If that is so, virsh destroy and virsh undefine it here", r.Box, r.Name)
	case member:
		return false, fmt.Sprintf(begins+"it was taken by node %s, which had this box's name: hostmesh node remove %s, and it is taken up (hostmesh vm show %s)", r.Node, r.Node, r.Name)
	case what == gone:
		return false, fmt.Sprintf(begins+"HostDB does not want it any more: hostmesh vm undelete %s, and it is taken up; or virsh undefine it, and hostmesh vm purge %s", r.Name, r.Name)
	case w.Box != b.cfg.Name:
		return false, fmt.Sprintf(begins+"HostDB has it on %q: set VM/Box of hosts/%s to %s, and it is taken up (hostmesh vm show %s)", w.Box, w.Name, b.cfg.Name, r.Name)
	}
	return true, ""
}
