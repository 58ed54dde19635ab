package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
)

// vmTable is what stands of all virtual machines: what HostDB wants, and what boxes report. It follows the two views at the
// cost of what changed. The zero vmTable holds nothing. It is not safe for concurrent use.
type vmTable struct {
	db hostdb.View
	mv mesh.View
	// hosts are the entries that are machines, with their UUIDs in lower case, "" for none yet; names are the entries of a UUID.
	hosts map[string]string
	names map[string][]string
	// seen are the nodes that report a UUID; known is which state of a node that is of.
	seen  map[string][]string
	known map[string]vmReport
	// rows are the machines by id, ids those of a UUID.
	rows map[string]api.VM
	ids  map[string][]string
}

// vmReport tells apart what makes a difference of a node and its report.
type vmReport struct {
	boot, n uint64
	state   mesh.State
	name    string
	uuids   []string
}

// vmID names a row: one for an entry, one for a machine that only boxes have. A machine whose entry is deleted keeps its row.
func vmID(uuid, name string) string { return uuid + "|" + name }

// follow takes in the views, and returns the rows that changed, those that are new among them, and those that are gone.
func (t *vmTable) follow(db hostdb.View, mv mesh.View) (changed, gone []api.VM) {
	if t.rows == nil {
		t.hosts, t.names, t.seen = map[string]string{}, map[string][]string{}, map[string][]string{}
		t.known, t.rows, t.ids = map[string]vmReport{}, map[string]api.VM{}, map[string][]string{}
	}
	touched := map[string]bool{} // UUIDs
	bare := map[string]bool{}    // entries that have or had none
	t.followHosts(db, touched, bare)
	t.followReports(mv, touched, bare)
	t.db, t.mv = db, mv
	for name := range bare {
		if uuid, is := t.hosts[name]; is && uuid == "" {
			changed = t.put(t.entry(name), changed)
		} else if old, was := t.rows[vmID("", name)]; was {
			delete(t.rows, vmID("", name))
			if !is { // else it has a UUID now, and goes on under that
				gone = append(gone, old)
			}
		}
	}
	for uuid := range touched {
		var now []api.VM
		for _, name := range t.names[uuid] {
			now = append(now, t.entry(name))
		}
		if len(now) == 0 && len(t.seen[uuid]) > 0 {
			now = append(now, t.orphan(uuid))
		}
		was := t.ids[uuid]
		t.ids[uuid] = nil
		for _, vm := range now {
			t.ids[uuid] = append(t.ids[uuid], vmID(uuid, vm.Name))
			changed = t.put(vm, changed)
		}
		for _, id := range was {
			if !slices.Contains(t.ids[uuid], id) {
				gone = append(gone, t.rows[id])
				delete(t.rows, id)
			}
		}
		if len(now) == 0 {
			delete(t.ids, uuid)
		}
	}
	slices.SortFunc(changed, byVMName)
	slices.SortFunc(gone, byVMName)
	return changed, gone
}

// byVMName orders machines: those that are wanted before others of the name.
func byVMName(a, b api.VM) int {
	wanted := func(v api.VM) int {
		if v.Wanted {
			return 0
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.Name, b.Name), wanted(a)-wanted(b), strings.Compare(a.UUID, b.UUID))
}

func (t *vmTable) put(vm api.VM, changed []api.VM) []api.VM {
	id := vmID(vm.UUID, vm.Name)
	if old, ok := t.rows[id]; ok && sameVM(old, vm) {
		return changed
	}
	t.rows[id] = vm
	return append(changed, vm)
}

func sameVM(a, b api.VM) bool {
	same := func(x, y *time.Time) bool { return x == y || x != nil && y != nil && x.Equal(*y) }
	if !same(a.Since, b.Since) || !same(a.Until, b.Until) {
		return false
	}
	a.Since, a.Until, a.Tags, b.Since, b.Until, b.Tags = nil, nil, nil, nil, nil, nil
	return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

// followHosts notes which entries became, were or are other machines.
func (t *vmTable) followHosts(db hostdb.View, touched, bare map[string]bool) {
	note := func(name string) {
		uuid, was := t.hosts[name]
		vm, _ := section.VMOf(db.Data(hostdb.Hosts, name))
		if was {
			touched[uuid] = true
			if t.names[uuid] = slices.DeleteFunc(t.names[uuid], func(n string) bool { return n == name }); len(t.names[uuid]) == 0 {
				delete(t.names, uuid)
			}
			delete(t.hosts, name)
			bare[name] = uuid == ""
		}
		if vm != nil {
			uuid = strings.ToLower(vm.UUID)
			t.hosts[name], touched[uuid] = uuid, true
			if uuid == "" {
				bare[name] = true
			} else {
				t.names[uuid] = append(t.names[uuid], name)
			}
		}
		delete(touched, "")
	}
	for c := range db.Changes(t.db) {
		if c.NS == hostdb.Hosts && c.Data && c.Key != "" {
			note(c.Key)
		}
	}
	maps.DeleteFunc(bare, func(_ string, is bool) bool { return !is })
}

// followReports notes which machines a node reports, does not report any more, or reports anew.
func (t *vmTable) followReports(mv mesh.View, touched, bare map[string]bool) {
	now := map[string]vmReport{}
	for _, m := range mv.Members() {
		r, _ := mv.Report(m.ID)
		now[m.ID] = vmReport{boot: r.Boot, n: r.N, state: m.State, name: m.Name}
	}
	boxes := map[string]bool{} // names of members that came, went, or changed their state
	for id, was := range t.known {
		is, still := now[id]
		if still && is.boot == was.boot && is.n == was.n && is.state == was.state && is.name == was.name {
			continue
		}
		for _, uuid := range was.uuids {
			touched[uuid] = true
			if t.seen[uuid] = slices.DeleteFunc(t.seen[uuid], func(n string) bool { return n == id }); len(t.seen[uuid]) == 0 {
				delete(t.seen, uuid)
			}
		}
		if !still || is.state != was.state || is.name != was.name {
			boxes[was.name] = true
		}
		delete(t.known, id)
	}
	for id, is := range now {
		if _, known := t.known[id]; known {
			continue
		}
		r, _ := mv.Report(id)
		for uuid := range r.VMs {
			is.uuids = append(is.uuids, uuid)
			uuid = strings.ToLower(uuid)
			touched[uuid] = true
			t.seen[uuid] = append(t.seen[uuid], id)
		}
		if _, was := t.memberBefore(id); !was {
			boxes[is.name] = true
		}
		t.known[id] = is
	}
	if len(boxes) == 0 {
		return
	}
	for name, uuid := range t.hosts { // members come and go rarely
		if vm, _ := section.VMOf(t.db.Data(hostdb.Hosts, name)); vm != nil && boxes[vm.Box] {
			if uuid == "" {
				bare[name] = true
			} else {
				touched[uuid] = true
			}
		}
	}
}

func (t *vmTable) memberBefore(id string) (mesh.Member, bool) { return t.mv.Get(id) }

// reported is the report to believe of a machine: that of the box that HostDB names, else of a node that is alive, else the
// newest.
func (t *vmTable) reported(uuid, box string) (vm report.VM, m mesh.Member, ok bool) {
	rank := func(v report.VM, m mesh.Member) int {
		switch {
		case v.Step == stepPlace && m.State == mesh.StateAlive:
			return 1 // a box's own word counts more
		case v.Step == stepPlace:
			return 0
		case box != "" && m.Name == box:
			return 4
		case m.State == mesh.StateAlive:
			return 3
		}
		return 2
	}
	for _, id := range t.seen[uuid] {
		r, _ := t.mv.Report(id)
		v, has := r.VMs[uuid]
		by, _ := t.mv.Get(id)
		if has && (!ok || rank(v, by) > rank(vm, m) || rank(v, by) == rank(vm, m) && v.Since > vm.Since) {
			vm, m, ok = v, by, true
		}
	}
	return vm, m, ok
}

// entry is the row of a machine that HostDB has.
func (t *vmTable) entry(name string) api.VM {
	doc := t.db.Data(hostdb.Hosts, name)
	host, _ := section.HostOf(doc)
	if host.VM == nil {
		host.VM = &section.VM{}
	}
	vm := api.VM{
		Name: name, UUID: strings.ToLower(host.VM.UUID), Wanted: host.Status != section.Retired, Box: host.VM.Box,
		Image: host.VM.Image, Subnet: host.VM.Subnet, CPUs: host.VM.CPUs, Memory: int64(host.VM.Memory), Disk: int64(host.VM.Disk),
		Power: "off", Status: string(host.Status), Owner: host.Owner, Expires: doc.Text("Expires"), Protected: host.Protected, OnBoxLoss: string(host.VM.OnBoxLoss),
	}
	if host.VM.Power {
		vm.Power = "on"
	}
	if host.Network.IP.IsValid() {
		vm.IP = host.Network.IP.String()
	}
	if host.Network.MAC != nil {
		vm.MAC = host.Network.MAC.String()
	}
	if r, by, ok := t.reported(vm.UUID, vm.Box); ok && vm.UUID != "" {
		fillVM(&vm, r, by)
		return vm
	}
	vm.Phase = api.VMPending
	m, member := t.mv.ByName(vm.Box)
	switch {
	case vm.Box == "":
		vm.Reason = "it waits for a box: see hostmesh vm explain " + name
	case !member:
		vm.Phase, vm.Reason = api.VMUnreachable, vm.Box+" is no member of the mesh: start its agent, or correct VM/Box"
	case m.State != mesh.StateAlive:
		vm.Phase, vm.Reason, vm.Since = api.VMUnreachable, vm.Box+" does not answer", since(m.Since)
	default:
		vm.Reason = vm.Box + " does not report it yet"
	}
	return vm
}

// orphan is the row of a machine that only boxes have: it is deleted, or somebody else's.
func (t *vmTable) orphan(uuid string) api.VM {
	r, by, _ := t.reported(uuid, "")
	vm := api.VM{Name: r.Name, UUID: uuid, Disk: r.Disk}
	fillVM(&vm, r, by)
	return vm
}

// stepPlace is the step of machines that who places reports: no box has them yet.
const stepPlace = "place"

// fillVM enters what a box, or who places, reports.
func fillVM(vm *api.VM, r report.VM, by mesh.Member) {
	if vm.Node = by.ID; r.Step != stepPlace {
		vm.Box = by.Name
	}
	vm.Phase, vm.Step, vm.Reason, vm.Since, vm.Restart = string(r.Phase), r.Step, r.Reason, at(r.Since), r.Restart
	vm.Until = at(r.Until)
	vm.IP, vm.MAC = cmp.Or(r.IP, vm.IP), cmp.Or(r.MAC, vm.MAC)
	if !vm.Wanted || vm.CPUs == 0 {
		vm.CPUs, vm.Memory = r.CPUs, r.Memory
	}
	if r.Step == stepPlace {
		if by.State == mesh.StateAlive && r.Phase == report.Failed {
			return
		}
		vm.Phase = api.VMPending
		if by.State != mesh.StateAlive {
			vm.Reason = cmp.Or(by.Name, by.ID) + ", which placed machines, does not answer: another node takes over"
		}
		return
	}
	if by.State != mesh.StateAlive {
		vm.Reason = fmt.Sprintf("%s does not answer; the machine was %s", cmp.Or(by.Name, by.ID), r.Phase)
		vm.Phase, vm.Step, vm.Since = api.VMUnreachable, "", since(by.Since)
	}
}

// since is a moment that may be unknown.
func since(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// tagged adds the tags that the host has.
func (t *vmTable) tagged(vm api.VM) api.VM {
	if vm.Wanted {
		vm.Tags = slices.DeleteFunc(t.db.Parents(vm.Name, hostdb.Tags), func(tag string) bool { return tag == hostdb.AllTag })
	}
	return vm
}

// list are the machines that a filter keeps, by name.
func (t *vmTable) list(f api.VMFilter) []api.VM {
	var out []api.VM
	for _, vm := range t.rows {
		if f.Box != "" && f.Box != vm.Box && f.Box != vm.Node || f.Phase != "" && f.Phase != vm.Phase {
			continue
		}
		if vm = t.tagged(vm); f.Tag != "" && f.Tag != hostdb.AllTag && !slices.Contains(vm.Tags, f.Tag) {
			continue
		}
		out = append(out, vm)
	}
	slices.SortFunc(out, byVMName)
	return out
}

// find are the machines of a name, the one that HostDB has first.
func (t *vmTable) find(name string) []api.VM {
	var out []api.VM
	if uuid, ok := t.hosts[name]; ok {
		out = append(out, t.tagged(t.rows[vmID(uuid, name)]))
	}
	for _, vm := range t.rows {
		if _, entry := t.hosts[vm.Name]; vm.Name == name && !(entry && vm.UUID == t.hosts[name]) {
			out = append(out, vm)
		}
	}
	slices.SortStableFunc(out, byVMName)
	return out
}
