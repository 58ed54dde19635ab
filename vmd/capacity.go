package vmd

import (
	"fmt"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/vmd/plan"
)

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
		r.Disk = h.DiskFree + h.DiskOwn // a machine's disk is reserved whole, and takes what is written to it
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
	case b.cfg.Mesh == "":
		return "this node has not joined its mesh yet"
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
