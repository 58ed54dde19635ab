package plan

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
)

// Input is what a machine's place follows from.
type Input struct {
	DB   hostdb.View
	Mesh mesh.View
	// Index is a Planner that holds DB; nil: one is made, at the cost of all hosts.
	Index *Planner
	// InFlight are offers to boxes that may not be in their reports yet. What a report or HostDB has already is not counted twice.
	InFlight []Offer
	// LeftOut are boxes that a machine must not be given to, each with the reason: UUID -> box (key or node id) -> reason.
	LeftOut map[string]map[string]string
	// Blocks are the blocks of pools and their owners: Subnet tag -> block -> node id. A machine that has an address in a pool
	// already goes nowhere but to its owner. nil: that is not asked.
	Blocks map[string]map[string]string
	// Drained are nodes that are to hold nothing: node id -> reason.
	Drained map[string]string
	// Images are the known base images by name. nil: none is checked, as where the catalogue could not be read.
	Images map[string]Image
}

// Offer is a place on a box that was given to a machine.
type Offer struct {
	UUID, Name string
	Box        string // key or node id
	CPUs       int
	// Memory and Disk are bytes.
	Memory, Disk int64
}

// Image is what placing needs to know of a base image.
type Image struct {
	SHA256 string // hex
	// Size is what it takes on a box, Disk what a machine's disk has at least; bytes.
	Size, Disk int64
	// URL says that it can be fetched without a peer that has it.
	URL bool
}

// Decision is where a machine goes, and why.
type Decision struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	// Box is the key of the box, Node its node id; "" = nowhere.
	Box  string `json:"box,omitempty"`
	Node string `json:"node,omitempty"`
	// Reason sums it up for people.
	Reason string `json:"reason"`
	// Verdicts are of all boxes: those that fit first, by score, then the others by name. PlaceAll and Fleet.Place leave them out.
	Verdicts []Verdict `json:"verdicts,omitempty"`
}

// Verdict is what is said of one box for one machine.
type Verdict struct {
	Box  string `json:"box"`
	Node string `json:"node,omitempty"`
	OK   bool   `json:"ok"`
	// Score is the sum of Parts; the highest wins, and of equals the first by rendezvous hash of machine and box.
	Score float64 `json:"score"`
	Parts []Part  `json:"parts,omitempty"`
	// Reason says why it does not fit, or what is left on it.
	Reason string `json:"reason"`
}

// Part is one share of a score.
type Part struct {
	Name   string  `json:"name"` // memory, cpu, image, spread, apart, together
	Score  float64 `json:"score"`
	Reason string  `json:"reason"`
}

// The weights of a score. A rule that somebody wrote beats everything else.
const (
	forMemory = 10.0  // times what is free of a box's memory after: the emptiest box wins, which leaves each room to grow
	forCPU    = 10.0  // the same of its processors
	forImage  = 3.0   // a transfer of some gigabytes is spared; worth less than a box a third emptier
	forBox    = 4.0   // off for each share of a tag's machines on the same box, where nobody said anything
	forRack   = 2.0   // and in the same rack
	forRule   = 100.0 // off for each machine that a rule wants elsewhere, at the rule's level; half of it at each level within
)

// Place decides where one machine goes, with the verdict on every box.
func Place(in Input, w Wish) Decision { return NewFleet(in).Explain(w) }

// PlaceAll decides for many, in this order; each counts for those after it. Verdicts are left out.
func PlaceAll(in Input, wishes []Wish) []Decision {
	f := NewFleet(in)
	out := make([]Decision, len(wishes))
	for i, w := range wishes {
		out[i] = f.Place(w)
	}
	return out
}

// Place decides where a machine goes, without verdicts, and counts it there.
func (f *Fleet) Place(w Wish) Decision {
	if reason := f.refusal(w); reason != "" {
		return Decision{Name: w.Name, UUID: w.UUID, Reason: reason}
	}
	return f.place(w)
}

func (f *Fleet) place(w Wish) Decision {
	d := Decision{Name: w.Name, UUID: w.UUID}
	q := f.question(w)
	var best *site
	var top mark
	for _, s := range f.sites {
		m := q.judge(s)
		q.tally(s, m)
		if m.class == fits && (best == nil || q.better(s, &m, best, &top)) {
			best, top = s, m
		}
	}
	d.Reason = q.sum(best)
	if best != nil {
		d.Box, d.Node = best.key, best.node
		need := q.need
		if need.Disk += q.fetch(best, top); !top.here {
			best.coming = append(best.coming, w.Image)
		}
		f.count(w, best, need)
	}
	return d
}

// Explain is Place with verdicts; it counts nothing.
func (f *Fleet) Explain(w Wish) Decision {
	d := Decision{Name: w.Name, UUID: w.UUID}
	q := f.question(w)
	type judged struct {
		*site
		mark
	}
	all := make([]*judged, 0, len(f.sites))
	for _, s := range f.sites {
		m := q.judge(s)
		q.tally(s, m)
		all = append(all, &judged{s, m})
	}
	slices.SortStableFunc(all, func(a, b *judged) int {
		switch {
		case a.mark.class == fits && b.mark.class == fits:
			if q.better(a.site, &a.mark, b.site, &b.mark) {
				return -1
			}
			return 1
		case a.mark.class != fits && b.mark.class != fits:
			return strings.Compare(a.key, b.key)
		}
		return cmp.Compare(min(a.mark.class, 1), min(b.mark.class, 1))
	})
	for _, j := range all {
		d.Verdicts = append(d.Verdicts, q.verdict(j.site, j.mark))
	}
	var best *site
	if len(all) > 0 && all[0].mark.class == fits {
		best = all[0].site
	}
	d.Reason = q.sum(best)
	if reason := f.refusal(w); reason != "" {
		d.Reason = reason
	} else if best != nil {
		d.Box, d.Node = best.key, best.node
	}
	return d
}

// refusal says why a machine is placed nowhere, whatever boxes there are; "" = it is placed.
func (f *Fleet) refusal(w Wish) string {
	switch {
	case w.Problem != "":
		return w.Problem
	case w.Status == section.Maintenance:
		return "hosts/" + w.Name + ": Status is maintenance: it is placed when that is active"
	case f.in.Mesh.MassSuspicion():
		return "many members failed within a minute, so that this node or a switch is more likely sick than they: nothing is placed until that is over (hostmesh members)"
	}
	return ""
}

// question is one machine that boxes are judged for.
type question struct {
	f         *Fleet
	w         *Wish
	id        string // what the hash is of
	need      Room
	image     Image
	known     bool   // the image; also where none is checked
	reachable bool   // a box without the image can fetch it
	images    []bool // whether a box has the image, by its number
	bridges   []bool // whether it has the bridge; nil = none is needed
	out       map[string]string
	own       ownRoom
	bound     bool   // its address lies in a pool, so that only the owner of the block may have it
	owner     string // node id; "" = nobody
	companies []company
	count     [classes]int
	largest   Room   // free on boxes that have too little
	unfit     string // why the first that is not fit is not
	left      string // the first that is left out, and why
}

func (f *Fleet) question(w Wish) *question {
	q := &question{f: f, w: &w, id: cmp.Or(w.UUID, w.Name), need: f.need(&w), own: f.ownOf(&w), companies: f.companiesOf(w)}
	q.out = f.in.LeftOut[w.UUID]
	if pool := w.Subnet.Pool; f.in.Blocks != nil && w.IP.IsValid() && pool.IsValid() && pool.Contains(w.IP) {
		q.bound, q.owner = true, ownerOf(f.in.Blocks[w.Subnet.Tag], w.IP)
	}
	q.image, q.known = f.in.Images[w.Image]
	q.reachable = q.image.URL || f.held[q.image.SHA256]
	q.images = f.have(having{image: w.Image, sum: q.image.SHA256})
	if b := w.Subnet.Bridge; b != "" {
		q.bridges = f.have(having{bridge: b})
	}
	if f.in.Images == nil {
		q.known, q.reachable = true, true
	}
	q.need.Disk = max(q.need.Disk, q.image.Disk) // the image does not shrink
	return q
}

// ownerOf is the owner of the block that an address lies in; "" = none.
func ownerOf(blocks map[string]string, a netip.Addr) string {
	for block, owner := range blocks {
		if p, err := netip.ParsePrefix(block); err == nil && p.Contains(a) {
			return owner
		}
	}
	return ""
}

// mark is how a box does for a machine. class is the first reason against it, and the rest counts when there is none.
type mark struct {
	class               class
	company             int // which of the question's, for badCompany
	free                Room
	here                bool // the image
	memory, cpu, image  float64
	spread, apart, near float64
	weight              uint64 // see weigh
}

func (m mark) score() float64 {
	return math.Round((m.memory+m.cpu+m.image+m.spread+m.apart+m.near)*1e4) / 1e4 // beyond that, order of addition would decide
}

// judge measures one box. It allocates nothing.
func (q *question) judge(s *site) mark {
	m := mark{class: s.class}
	if m.class != fits {
		return m
	}
	if d := q.w.Subnet.Datacenter; d != "" && d != s.datacenter {
		m.class = elsewhere
		return m
	}
	if len(q.out) > 0 && q.why(s) != "" {
		m.class = leftOut
		return m
	}
	if q.bound && s.node != q.owner {
		m.class = otherBlock
		return m
	}
	if q.bridges != nil && !q.bridges[s.number] {
		m.class = noBridge
		return m
	}
	m.here = q.images[s.number]
	if !q.known || !m.here && !q.reachable {
		m.class = noImage
		return m
	}
	for i := range q.companies {
		if c := &q.companies[i]; c.strict && c.kind != gathers && c.peers.beside(c.level, s, q.w.Name) > 0 {
			m.class, m.company = badCompany, i
			return m
		}
	}
	m.free = q.f.room(s, q.w, q.own)
	need := q.need
	need.Disk += q.fetch(s, m)
	switch {
	case need.Memory > m.free.Memory:
		m.class = noMemory
		return m
	case need.CPUs > m.free.CPUs:
		m.class = noCPUs
		return m
	case need.Disk > m.free.Disk:
		m.class = noDisk
		return m
	}
	m.memory = forMemory * share(m.free.Memory-need.Memory, s.total.Memory)
	m.cpu = forCPU * share(int64(m.free.CPUs-need.CPUs), int64(s.total.CPUs))
	if m.here {
		m.image = forImage
	}
	for i := range q.companies {
		c := &q.companies[i]
		v := c.score(s, q.w.Name)
		switch c.kind {
		case spreads:
			m.spread += v
		case shuns:
			m.spread = min(m.spread, v)
		case parts:
			m.apart += v
		case gathers:
			m.near += v
		}
	}
	return m
}

// score is what a rule gives a box: never more than 0 for those that keep machines away.
func (c *company) score(s *site, but string) float64 {
	switch c.kind {
	case shuns:
		total := float64(c.total)
		return -forBox*float64(c.peers.beside(onBox, s, but))/total - forRack*float64(c.peers.beside(onRack, s, but))/total
	case gathers:
		return forRule * float64(c.peers.beside(c.level, s, but)) / float64(c.total)
	}
	sum, weight := 0.0, forRule
	for l := c.level; l >= onBox; l-- {
		sum -= weight * float64(c.peers.beside(l, s, but))
		weight /= 2
	}
	return sum
}

func share(part, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return float64(part) / float64(of)
}

// better orders boxes that fit; no two are equal.
func (q *question) better(a *site, am *mark, b *site, bm *mark) bool {
	if x, y := am.score(), bm.score(); x != y {
		return x > y
	}
	if x, y := q.weigh(a, am), q.weigh(b, bm); x != y {
		return x > y
	}
	return a.key < b.key
}

// weigh is the hash of the machine and a box, made when it is asked for first.
func (q *question) weigh(s *site, m *mark) uint64 {
	if m.weight == 0 {
		m.weight = mesh.Weight(q.id, s.key)
	}
	return m.weight
}

// why says why a box was left out for this machine; "" = it was not.
func (q *question) why(s *site) string {
	if reason, ok := q.out[s.key]; ok {
		return cmp.Or(reason, "it was left out")
	}
	if reason, ok := q.out[s.node]; ok && s.node != "" {
		return cmp.Or(reason, "it was left out")
	}
	return ""
}

// fetch is what the image takes on a box that has it not yet.
func (q *question) fetch(s *site, m mark) int64 {
	if m.here || slices.Contains(s.coming, q.w.Image) {
		return 0
	}
	return q.image.Size
}
