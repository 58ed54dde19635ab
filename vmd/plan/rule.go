package plan

import (
	"cmp"
	"maps"
	"slices"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// rule is what a tag says about the places of its machines, by its sections Placement and Group.
type rule struct {
	spread          section.Spread
	apart, together map[string]section.Spread
	strict          bool
}

// ruleOf reads a tag; nil when it says nothing.
func ruleOf(tag hostdb.Document) *rule {
	if p, _ := section.PlacementOf(tag); p != nil {
		return &rule{p.Spread, p.Apart, p.Together, p.Strict}
	}
	if g, _ := section.GroupOf(tag); g != nil {
		return &rule{spread: g.Spread}
	}
	return nil
}

// level is a kind of place that machines can share: the larger, the wider.
type level int

const (
	onBox level = iota
	onRack
	onSite
	levels
)

var levelNames = [levels]string{"box", "rack", "datacenter"}

// levelOf is the level of a Spread; false for none.
func levelOf(s section.Spread) (level, bool) {
	switch s {
	case section.SpreadBox:
		return onBox, true
	case section.SpreadRack:
		return onRack, true
	case section.SpreadDatacenter:
		return onSite, true
	}
	return 0, false
}

// peers are the machines of one tag by where they are.
type peers struct {
	members []string // of the tag, sorted
	seats   map[string]*site
	at      [levels][]int // by the number of box, rack and datacenter
}

func (p *peers) add(name string, s *site) {
	p.remove(name)
	p.seats[name] = s
	for l := range levels {
		p.at[l][s.where[l]]++
	}
}

func (p *peers) remove(name string) {
	s := p.seats[name]
	if s == nil {
		return
	}
	delete(p.seats, name)
	for l := range levels {
		p.at[l][s.where[l]]--
	}
}

// beside counts the machines that share a place of level l with a box, but for one of them.
func (p *peers) beside(l level, s *site, but string) int {
	n := p.at[l][s.where[l]]
	if own := p.seats[but]; own != nil && own.where[l] == s.where[l] {
		n--
	}
	return n
}

// peersOf are the machines of a tag; they are counted once, and kept.
func (f *Fleet) peersOf(tag string) *peers {
	if p := f.peers[tag]; p != nil {
		return p
	}
	p := &peers{members: f.in.DB.Members(hostdb.Tags, tag), seats: map[string]*site{}}
	for l := range levels {
		p.at[l] = make([]int, f.spots.len())
	}
	for _, name := range p.members {
		if s := f.seatOf(name); s != nil {
			p.add(name, s)
		}
	}
	f.peers[tag] = p
	return p
}

// seatOf is the box that a machine is on, by what was given here, an offer, or HostDB; nil = none.
func (f *Fleet) seatOf(name string) *site {
	if c := f.given[name]; c != nil {
		return c.site
	}
	if m := f.index.machines[name]; m != nil {
		if s := f.byKey[m.base.Box]; s != nil && s.class != lost {
			return s
		}
	}
	return nil
}

// seat notes where a machine is now; nil = nowhere.
func (f *Fleet) seat(name string, s *site) {
	for _, p := range f.peers {
		if _, ok := slices.BinarySearch(p.members, name); !ok && p.seats[name] == nil {
			continue
		}
		if s == nil {
			p.remove(name)
		} else {
			p.add(name, s)
		}
	}
}

// company is one rule of one machine, ready to be asked of boxes.
type company struct {
	tag    string // whose machines
	of     string // the tag that says so
	kind   int
	level  level
	strict bool
	peers  *peers
	total  int // of peers but for the machine itself
}

const (
	spreads = iota // away from machines of its own tag
	parts          // away from machines of another tag
	gathers        // near to machines of another tag
	shuns          // nobody said so: a little away from machines of its own tag
)

// fewPeers bounds the tags that count without a rule: one with more members says where machines are, not what they do.
const fewPeers = 200

// companiesOf are the rules that a machine is placed by.
func (f *Fleet) companiesOf(w Wish) []company {
	var out []company
	add := func(c company) {
		c.peers = f.peersOf(c.tag)
		c.total = len(c.peers.seats)
		if c.peers.seats[w.Name] != nil {
			c.total--
		}
		if c.total > 0 {
			out = append(out, c)
		}
	}
	tags := f.finder.Of(w.Name)
	if len(w.Tags) > 0 {
		tags = slices.Concat(tags, w.Tags)
		slices.Sort(tags)
		tags = slices.Compact(tags)
	}
	for _, tag := range tags {
		r := f.index.rules[tag]
		if r == nil {
			if tag != hostdb.AllTag && len(f.in.DB.Members(hostdb.Tags, tag)) <= fewPeers {
				add(company{tag: tag, of: tag, kind: shuns})
			}
			continue
		}
		if l, ok := levelOf(r.spread); ok {
			add(company{tag: tag, of: tag, kind: spreads, level: l, strict: r.strict})
		}
		for _, other := range slices.Sorted(maps.Keys(r.apart)) {
			if l, ok := levelOf(r.apart[other]); ok {
				add(company{tag: other, of: tag, kind: parts, level: l, strict: r.strict})
			}
		}
		for _, other := range slices.Sorted(maps.Keys(r.together)) {
			if l, ok := levelOf(r.together[other]); ok {
				add(company{tag: other, of: tag, kind: gathers, level: l})
			}
		}
	}
	// Strict ones first, so that a box is refused before it is measured.
	slices.SortStableFunc(out, func(a, b company) int { return cmp.Compare(b2i(b.strict), b2i(a.strict)) })
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
