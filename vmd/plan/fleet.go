package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Fleet is all boxes with what is free on them. It keeps what it gave, so that many machines cost one look at the views. It is
// not safe for concurrent use.
type Fleet struct {
	in     Input
	index  *Planner
	finder *hostdb.ParentFinder
	sites  []*site // by key
	byKey  map[string]*site
	given  map[string]*counted // by name: offers, and what was placed here
	peers  map[string]*peers   // by tag
	held   map[string]bool     // images that a live box has, by SHA-256
	spots  spots
	having map[having][]bool // by number of the box
}

// counted is a machine whose room is counted beside what reports and HostDB say.
type counted struct {
	uuid string
	site *site
	need Room
}

// site is one box.
type site struct {
	key, node  string
	number     int         // in the fleet
	where      [levels]int // box, rack and datacenter, by number
	datacenter string
	rack       string
	class      class  // fits = it takes machines
	why        string // for people
	report     report.Report
	total      Room
	used       Room
	machines   int
	coming     []string // images that were not there when a machine was placed here
}

func (r Room) plus(o Room) Room { return Room{r.CPUs + o.CPUs, r.Memory + o.Memory, r.Disk + o.Disk} }

func (r Room) minus(o Room) Room { return Room{r.CPUs - o.CPUs, r.Memory - o.Memory, r.Disk - o.Disk} }

// beyond is what r has more than o, and nothing where it has less.
func (r Room) beyond(o Room) Room { return r.minus(o).atLeast(Room{}) }

func (r Room) atLeast(o Room) Room {
	return Room{max(r.CPUs, o.CPUs), max(r.Memory, o.Memory), max(r.Disk, o.Disk)}
}

// NewFleet looks at the views.
func NewFleet(in Input) *Fleet {
	f := &Fleet{
		in: in, index: in.Index, finder: in.DB.ParentFinder(hostdb.Tags), given: map[string]*counted{},
		peers: map[string]*peers{}, held: map[string]bool{}, having: map[having][]bool{},
	}
	if f.index == nil {
		f.index = NewPlanner(in.DB)
	}
	n := len(f.index.boxes)
	f.sites, f.byKey, f.spots = make([]*site, 0, n), make(map[string]*site, n), spots{n, map[[2]string]int{}}
	for m := range in.Mesh.Alive() { // a node that only keeps images gives them, too
		if r, _ := in.Mesh.Report(m.ID); r.Box != nil {
			for _, sum := range r.Box.Images {
				f.held[sum] = true
			}
		}
	}
	byNode := make(map[string]*site, n)
	slab := make([]site, n)
	for i, key := range slices.Sorted(maps.Keys(f.index.boxes)) {
		s := &slab[i]
		s.number = i
		f.look(s, key)
		f.sites = append(f.sites, s)
		f.byKey[key] = s
		if s.node != "" {
			byNode[s.node] = s
		}
	}
	for _, o := range in.InFlight {
		s := byNode[o.Box]
		if s == nil {
			s = f.byKey[o.Box]
		}
		if s == nil || o.UUID == "" {
			continue
		}
		o.UUID = strings.ToLower(o.UUID)
		// What the report or HostDB has of it is counted; the offer may be more.
		need := Room{o.CPUs, o.Memory, o.Disk}
		need = need.beyond(reported(s.report, o.UUID))
		for _, name := range f.index.ByUUID(o.UUID) {
			if m := f.index.machines[name]; m.base.Box == s.key {
				need = need.beyond(f.need(&m.base).beyond(reported(s.report, o.UUID)))
			}
		}
		s.used = s.used.plus(need)
		f.given[cmp.Or(o.Name, o.UUID)] = &counted{uuid: o.UUID, site: s, need: need}
	}
	return f
}

// need is what a machine takes, with the disk of its image where it names no size.
func (f *Fleet) need(w *Wish) Room {
	n := Room{w.CPUs, w.Memory, w.Disk} // Need copies all of the wish
	if n.Disk == 0 {
		n.Disk = f.in.Images[w.Image].Disk
	}
	return n
}

// reported is what a box's own account has of a machine.
func reported(r report.Report, uuid string) Room {
	vm, ok := r.VMs[uuid]
	if !ok {
		return Room{}
	}
	return Room{vm.CPUs, vm.Memory, vm.Disk}
}

// look sums up one box. What is used is its own account, and what HostDB has of machines there beyond that account: the report
// may be older than HostDB, and HostDB than the report.
func (f *Fleet) look(s *site, key string) {
	at := f.index.boxes[key]
	m, member := f.in.Mesh.ByName(key)
	s.key, s.node = key, m.ID
	if at.datacenter == "" {
		at.datacenter = m.Datacenter
	}
	if at.rack == "" {
		at.rack = m.Rack
	}
	s.rack = at.rack
	s.datacenter = at.datacenter
	s.where = [levels]int{s.number, s.number, f.spots.of(at.datacenter, "")}
	if at.rack != "" { // else nobody said that it shares one
		s.where[onRack] = f.spots.of(at.datacenter, at.rack)
	}
	var known bool
	if member {
		s.report, known = f.in.Mesh.Report(m.ID)
	}
	var extra, wished Room
	for _, on := range f.index.byBox[key] {
		w := &on.base
		need := f.need(w)
		wished = wished.plus(need)
		extra = extra.plus(need.beyond(reported(s.report, w.UUID)))
		s.machines++
	}
	if box := s.report.Box; box != nil {
		s.total = Room{box.CPUs, box.Memory, box.Disk}
		s.used = Room{box.UsedCPUs, box.UsedMemory, box.UsedDisk}
	}
	s.used = s.used.plus(extra).atLeast(wished)
	drained, drain := f.in.Drained[m.ID]
	switch {
	case at.status == section.Retired:
		s.class, s.why = retired, "its Status is retired"
	case at.status == section.Maintenance:
		s.class, s.why = maintenance, "its Status is maintenance"
	case !member:
		s.class, s.why = stranger, "no member of the mesh has its name: start an agent on it, with this name"
	case m.State != mesh.StateAlive:
		s.class, s.why = silent, "it does not answer ("+m.State.String()+")"
	case drain:
		s.class, s.why = emptied, "it is drained"+because(drained)
	case !known:
		s.class, s.why = unheard, "its report did not arrive yet"
	case s.report.Box == nil:
		s.class, s.why = unfit, "it reports no hypervisor"
	case s.report.Box.Unfit != "":
		s.class, s.why = unfit, s.report.Box.Unfit
	}
}

// spots numbers racks and datacenters, above the boxes.
type spots struct {
	boxes int
	known map[[2]string]int
}

func (n spots) len() int { return n.boxes + len(n.known) }

func (n spots) of(datacenter, rack string) int {
	key := [2]string{datacenter, rack}
	i, ok := n.known[key]
	if !ok {
		i = n.len()
		n.known[key] = i
	}
	return i
}

// having is a question that is asked of all boxes: whether they have an image, or a bridge.
type having struct{ image, sum, bridge string }

// have answers it, once.
func (f *Fleet) have(q having) []bool {
	if list, ok := f.having[q]; ok {
		return list
	}
	list := make([]bool, len(f.sites))
	for _, s := range f.sites {
		box := s.report.Box
		switch {
		case box == nil:
		case q.bridge != "":
			list[s.number] = slices.Contains(box.Bridges, q.bridge)
		default:
			sum, ok := box.Images[q.image]
			list[s.number] = ok && (q.sum == "" || sum == q.sum)
		}
	}
	f.having[q] = list
	return list
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Release takes back what Place counted for a machine, by name. It is harmless for one that was not placed here.
func (f *Fleet) Release(name string) {
	c := f.given[name]
	if c == nil {
		return
	}
	c.site.used = c.site.used.minus(c.need)
	delete(f.given, name)
	f.seat(name, f.seatOf(name))
}

// count gives a machine its place.
func (f *Fleet) count(w Wish, s *site, need Room) {
	f.Release(w.Name)
	s.used = s.used.plus(need)
	f.given[w.Name] = &counted{uuid: w.UUID, site: s, need: need}
	f.seat(w.Name, s)
}

// room is what a box has free for a machine: what is counted for the machine itself is not in its way.
func (f *Fleet) room(s *site, w *Wish, own ownRoom) Room {
	free := s.total.minus(s.used)
	if own.given != nil && own.given.site == s {
		free = free.plus(own.given.need)
	}
	if own.box == s {
		free = free.plus(own.need.atLeast(reported(s.report, w.UUID)))
	}
	return free
}

// ownRoom is what is counted for a machine that is placed anew.
type ownRoom struct {
	given *counted
	box   *site // by HostDB
	need  Room
}

func (f *Fleet) ownOf(w *Wish) ownRoom {
	own := ownRoom{given: f.given[w.Name]}
	if m := f.index.machines[w.Name]; m != nil && m.base.Box != "" {
		own.box, own.need = f.byKey[m.base.Box], f.need(&m.base)
	}
	return own
}

// class says why a box takes a machine or does not, in the order in which it is asked.
type class int

const (
	fits class = iota
	lost
	retired
	maintenance
	stranger
	silent
	emptied
	unheard
	unfit
	elsewhere
	leftOut
	otherBlock
	noBridge
	noImage
	badCompany
	noMemory
	noCPUs
	noDisk
	classes
)
