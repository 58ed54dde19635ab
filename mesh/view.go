package mesh

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/hashicorp/serf/coordinate"

	"hostmesh/mesh/report"
)

// View is what this node knows of the mesh at one moment. It is immutable, and safe for any number of readers. The zero
// View is empty. Members are sorted by id.
type View struct{ d *viewData }

type viewData struct {
	revision uint64
	self     string
	members  []Member
	byName   map[string]int // the best member of each name, see NewView
	coords   map[string]*coordinate.Coordinate
	fixed    map[[2]string]time.Duration // distances given by a test or a planner instead of coordinates
	mass     bool
	reports  []*report.Report // by node id
}

// NewView makes a View by hand, for planners that ask "what if", and for tests. It copies members, sorts them by id and
// sets Self. Where two members have one name, ByName finds the one that is alive, else the one changed last.
func NewView(self string, members []Member) View {
	d := &viewData{self: self, members: slices.Clone(members)}
	for i := range d.members {
		d.members[i].Self = d.members[i].ID == self
	}
	d.index()
	return View{d}
}

func (d *viewData) index() {
	slices.SortFunc(d.members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	d.members = slices.Clip(d.members)
	d.byName = make(map[string]int, len(d.members))
	for i, m := range d.members {
		if j, ok := d.byName[m.Name]; ok && !betterNamesake(m, d.members[j]) {
			continue
		}
		d.byName[m.Name] = i
	}
}

// betterNamesake decides who owns a name when a box was set up anew (new id) and its former self is still listed.
func betterNamesake(a, b Member) bool {
	if (a.State == StateAlive) != (b.State == StateAlive) {
		return a.State == StateAlive
	}
	return a.Since.After(b.Since)
}

// WithMassSuspicion returns a View that differs in MassSuspicion only.
func (v View) WithMassSuspicion(on bool) View {
	d := v.copy()
	d.mass = on
	return View{d}
}

// WithDistance returns a View in which the distance between a and b, both ways, is d.
func (v View) WithDistance(a, b string, dist time.Duration) View {
	d := v.copy()
	fixed := make(map[[2]string]time.Duration, len(d.fixed)+2)
	for k, x := range d.fixed {
		fixed[k] = x
	}
	fixed[[2]string{a, b}], fixed[[2]string{b, a}] = dist, dist
	d.fixed = fixed
	return View{d}
}

func (v View) copy() *viewData {
	if v.d == nil {
		return &viewData{}
	}
	d := *v.d
	return &d
}

// Revision grows with every change that watchers are told of: members, their states, mass suspicion, reports. It is this
// process's own count, and says nothing to other nodes.
func (v View) Revision() uint64 {
	if v.d == nil {
		return 0
	}
	return v.d.revision
}

// Self returns the node that holds the View, or the zero Member in an empty View.
func (v View) Self() Member {
	if v.d == nil {
		return Member{}
	}
	m, _ := v.Get(v.d.self)
	return m
}

// Members returns all known members, sorted by id, whatever their state. The slice is shared: do not change it.
func (v View) Members() []Member {
	if v.d == nil {
		return nil
	}
	return v.d.members
}

// Alive yields the members that are alive, sorted by id; this node is among them.
func (v View) Alive() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for _, m := range v.Members() {
			if m.State == StateAlive && !yield(m) {
				return
			}
		}
	}
}

// Len returns the number of known members.
func (v View) Len() int { return len(v.Members()) }

// Get returns the member with this id.
func (v View) Get(id string) (Member, bool) {
	ms := v.Members()
	i, ok := slices.BinarySearchFunc(ms, id, func(m Member, id string) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Member{}, false
	}
	return ms[i], true
}

// ByName returns the member with this host name. Names are not unique for ever (a box may be set up anew): the one that
// is alive wins, else the one whose state changed last.
func (v View) ByName(name string) (Member, bool) {
	if v.d == nil {
		return Member{}, false
	}
	i, ok := v.d.byName[name]
	if !ok {
		return Member{}, false
	}
	return v.d.members[i], true
}

// Distance returns the estimated round-trip time between two members, by id. It is false when one of them has no
// coordinate yet, which takes some seconds after a join.
func (v View) Distance(a, b string) (time.Duration, bool) {
	if v.d == nil {
		return 0, false
	}
	if a == b {
		_, ok := v.Get(a)
		return 0, ok
	}
	if d, ok := v.d.fixed[[2]string{a, b}]; ok {
		return d, true
	}
	ca, cb := v.d.coords[a], v.d.coords[b]
	if ca == nil || cb == nil || !ca.IsCompatibleWith(cb) {
		return 0, false
	}
	return ca.DistanceTo(cb), true
}

// MassSuspicion reports that so many members failed within a minute that this node is more likely sick, or a switch
// down, than they. While it holds nobody is evicted or placed anew, and filters by liveness freeze.
func (v View) MassSuspicion() bool { return v.d != nil && v.d.mass }
