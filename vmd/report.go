package vmd

import (
	"context"
	"maps"
	"slices"

	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

// reported is what was told last.
type reported struct {
	box *report.Box
	vms map[string]report.VM
}

// report tells the mesh what is here whenever that changes.
func (b *Box) report(ctx context.Context) {
	for {
		box, vms := b.observe()
		b.mu.Lock()
		b.reported = reported{box, vms}
		b.mu.Unlock()
		if b.cfg.Reports != nil {
			b.cfg.Reports.Report(func(r *report.Report) {
				r.Box = box
				for uuid := range r.VMs { // those of a placer here are its own
					if r.VMs[uuid].Step != stepPlace {
						delete(r.VMs, uuid)
					}
				}
				if r.VMs == nil {
					r.VMs = map[string]report.VM{}
				}
				maps.Copy(r.VMs, vms)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-b.tell:
		}
	}
}

// Report is what was told last: the box, nil before the first time, and its machines by UUID.
func (b *Box) Report() (*report.Box, map[string]report.VM) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reported.box, b.reported.vms
}

// observe is what is here now.
func (b *Box) observe() (*report.Box, map[string]report.VM) {
	var images map[string]string
	if b.cfg.Images != nil {
		images = b.cfg.Images.Have()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	total, used := b.room("")
	box := &report.Box{
		Unfit: b.unfit(), CPUs: total.CPUs, Memory: total.Memory, Disk: total.Disk,
		UsedCPUs: used.CPUs, UsedMemory: used.Memory, UsedDisk: used.Disk,
		Bridges: slices.Clone(b.have.host.Bridges), Hypervisor: b.have.host.Hypervisor, Images: images,
	}
	vms := map[string]report.VM{}
	has := map[string]plan.Machine{}
	for _, m := range b.have.machines {
		has[m.UUID] = m
	}
	for uuid, e := range b.entries {
		// Until its worker has looked, the hypervisor's word counts: a restart of the agent takes no machine out of DNS.
		vm := report.VM{Phase: report.Reserved}
		switch {
		case e.Stage == Held && has[uuid].State == plan.Running:
			vm.Phase = report.Running
		case e.Stage == Held && e.Ran:
			vm.Phase = report.Stopped
		case e.Stage == Kept:
			vm.Phase = report.Deleted
		}
		if m := b.machines[uuid]; m != nil {
			m.mu.Lock()
			if m.status.Phase != "" {
				vm = m.status
			}
			m.mu.Unlock()
		}
		vm.Name, vm.MAC, vm.CPUs, vm.Memory, vm.Disk = e.Name, e.MAC, e.CPUs, e.Memory, e.Disk
		if e.IP.IsValid() {
			vm.IP = e.IP.String()
		}
		if e.Stage == Kept {
			vm.Until = e.Until
		}
		if d := has[uuid]; e.Domain != nil && d.State == plan.Running {
			w, _, _ := b.wishLocked(e)
			vm.Restart = d.CPUs != e.Domain.CPUs || d.Memory != e.Domain.Memory || w.Disk > e.Disk
		}
		vms[uuid] = vm
	}
	for uuid, d := range has {
		switch {
		case vms[uuid].Name != "":
		case d.Mesh != b.cfg.Mesh:
			vms[uuid] = report.VM{Name: d.Name, Phase: report.Foreign, CPUs: d.CPUs, Memory: d.Memory, Reason: "somebody else made it; hostmesh does not touch it"}
		default:
			vms[uuid] = report.VM{Name: d.Name, Phase: report.Failed, CPUs: d.CPUs, Memory: d.Memory,
				Reason: "a stray: it has this mesh's mark, but neither this box's ledger nor the lease log says that it belongs here; hostmesh does not touch it"}
		}
	}
	for uuid, why := range b.wishless {
		if _, known := vms[uuid]; !known {
			name := ""
			if names := b.planner.ByUUID(uuid); len(names) > 0 {
				name = names[0]
			}
			vms[uuid] = report.VM{Name: name, Phase: report.Failed, Reason: why}
		}
	}
	return box, vms
}
