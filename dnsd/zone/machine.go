package zone

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// machineOf is the UUID of a host's virtual machine and the name of its box; "" when it is none, or was not made yet.
func machineOf(doc hostdb.Document) (uuid, box string) {
	uuid = strings.ToLower(doc.Text("VM", "UUID"))
	if uuid == "" {
		return "", ""
	}
	return uuid, doc.Text("VM", "Box")
}

// machine is what the box of a host's virtual machine reports of it. known is false when there is nothing to judge by: the
// host is no machine, its box is not alive, or does not report it.
func (z *Zones) machine(doc hostdb.Document) (vm report.VM, box string, known bool) {
	uuid, box := machineOf(doc)
	if box == "" {
		return report.VM{}, box, false
	}
	m, ok := z.seen.ByName(box)
	if !ok || m.State != mesh.StateAlive {
		return report.VM{}, box, false
	}
	r, _ := z.seen.Report(m.ID)
	vm, known = r.VMs[uuid]
	return vm, box, known
}

// stopped reports whether a machine is a reason to leave its host out. Of foreign ones a box does not say whether they run, and
// of unknown ones it cannot.
func stopped(vm report.VM) bool {
	return !vm.Phase.Up() && vm.Phase != report.Foreign && vm.Phase != report.Unknown
}

// stoppedWhy says so.
func stoppedWhy(vm report.VM, box string) string {
	why := fmt.Sprintf("its machine is %s, says %s", vm.Phase, box)
	if vm.Reason != "" {
		why += ": " + vm.Reason
	}
	return why
}

// seenMesh is the view by which machines are judged. Under mass suspicion it is the one before.
func seenMesh(was *Zones, m mesh.View) mesh.View {
	if m.MassSuspicion() {
		return was.seen
	}
	return m
}

// machinesChanged lists the hosts whose machine came to be a reason to leave them out, or ceased to be, by reports alone: where
// boxes come, go or fail, meshChanged says so.
func (b *batch) machinesChanged() []string {
	changed := map[string]bool{}
	diff := func(was, now report.Report) {
		for id, vm := range was.VMs {
			x, stays := now.VMs[id]
			if stopped(vm) != (stays && stopped(x)) {
				changed[id] = true
			}
		}
		for id, vm := range now.VMs {
			if _, known := was.VMs[id]; !known && stopped(vm) {
				changed[id] = true
			}
		}
	}
	for was, now := range b.next.seen.ReportChanges(b.old.seen) {
		diff(was, now)
	}
	var hosts []string
	for id := range changed {
		list, _ := b.next.machines.get(strings.ToLower(id))
		hosts = append(hosts, list...)
	}
	return hosts
}

// indexMachines notes which hosts have which machine, as of the next view: of all hosts, or of those that changed. A UUID that
// was written twice has several.
func (b *batch) indexMachines(hosts []string) {
	for _, h := range hosts {
		was, _ := machineOf(b.old.db.Data(hostdb.Hosts, h))
		now, _ := machineOf(b.next.db.Data(hostdb.Hosts, h))
		if was == now {
			continue
		}
		b.setMachine(was, func(list []string) []string {
			return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == h })
		})
		b.setMachine(now, func(list []string) []string {
			if slices.Contains(list, h) {
				return list
			}
			return append(slices.Clip(list), h)
		})
	}
}

func (b *batch) setMachine(uuid string, edit func(hosts []string) []string) {
	if uuid == "" {
		return
	}
	list, had := b.next.machines.get(uuid)
	list = edit(list)
	switch {
	case len(list) > 0:
		b.next.machines = b.next.machines.set(b.edit, uuid, list)
	case had:
		b.next.machines = b.next.machines.delete(b.edit, uuid)
	}
}

// allMachines is the index of a view.
func (b *batch) allMachines() {
	b.next.machines = pmap[[]string]{}
	found := map[string][]string{}
	for h, item := range b.next.db.Items(hostdb.Hosts) {
		if uuid, _ := machineOf(item.Data()); uuid != "" {
			found[uuid] = append(found[uuid], h)
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(found)) {
		b.next.machines = b.next.machines.set(b.edit, uuid, found[uuid])
	}
}
