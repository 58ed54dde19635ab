package plan

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Planner is an index of the virtual machines, boxes, networks and hardware addresses of a HostDB view. Update follows the
// view at the cost of what changed. It is not safe for concurrent use; what it returns is immutable.
type Planner struct {
	db       hostdb.View
	machines map[string]*machine
	byBox    map[string]map[string]*machine // box -> name; "" = unplaced
	uuids    holders[string]
	macs     holders[[6]byte]
	boxes    map[string]place
	networks networks
	rules    map[string]*rule // tags that say how their machines are spread
	guests   map[string]bool  // tags with a Guest mapping

	// What wishes were made of. They grow when a network, the Guest of a tag, a member list changed.
	networksAt, guestsAt, membersAt uint64
}

// machine is a host that is a virtual machine.
type machine struct {
	base Wish // of its own document
	own  bool // it has a Guest mapping itself

	wish                            Wish // as it was made last
	parents                         []string
	made                            bool
	networksAt, guestsAt, membersAt uint64
}

// place is a host that carries machines, as HostDB has it.
type place struct {
	status           section.Status
	datacenter, rack string
}

// NewPlanner makes one that holds db.
func NewPlanner(db hostdb.View) *Planner {
	p := &Planner{
		machines: map[string]*machine{}, byBox: map[string]map[string]*machine{}, uuids: newHolders[string](), macs: newHolders[[6]byte](),
		boxes: map[string]place{}, networks: networks{}, rules: map[string]*rule{}, guests: map[string]bool{},
	}
	p.Update(db)
	return p
}

// Update follows to another view, and reports whether a machine, a box or a tag that says something about them may be another.
func (p *Planner) Update(db hostdb.View) bool {
	old := p.db
	p.db = db
	changed := false
	for c := range db.Changes(old) {
		switch {
		case c.NS == hostdb.Hosts && c.Data:
			if p.setHost(old, c.Key) {
				changed = true
			}
		case c.NS == hostdb.Tags:
			if c.Data && p.setTag(old, c.Key) {
				changed = true
			}
			if c.Members {
				p.membersAt++
				changed = changed || len(p.machines) > 0
			}
		}
	}
	return changed
}

// setHost reads a host anew, and reports whether it is, or was, a machine or a box.
func (p *Planner) setHost(old hostdb.View, name string) bool {
	for _, mac := range macsOf(old.Data(hostdb.Hosts, name)) {
		p.macs.drop(mac, name)
	}
	was, changed := p.machines[name]
	if changed {
		delete(p.machines, name)
		delete(p.byBox[was.base.Box], name)
		if len(p.byBox[was.base.Box]) == 0 {
			delete(p.byBox, was.base.Box)
		}
		p.uuids.drop(was.base.UUID, name)
	}
	if _, ok := p.boxes[name]; ok {
		delete(p.boxes, name)
		changed = true
	}
	item, ok := p.db.Get(hostdb.Hosts, name)
	if !ok {
		return changed
	}
	doc := item.Data()
	for _, mac := range macsOf(doc) {
		p.macs.add(mac, name)
	}
	if box, _ := section.BoxOf(doc); box != nil {
		at := doc.At("Physical Location")
		p.boxes[name] = place{section.StatusOf(doc), strings.TrimSpace(at.Text("Datacenter")), strings.TrimSpace(at.Text("Rack Number"))}
		changed = true
	}
	if w, ok := wishOf(name, item); ok {
		m := &machine{base: w, own: doc.At("Guest").Exists()}
		p.machines[name] = m
		if p.byBox[w.Box] == nil {
			p.byBox[w.Box] = map[string]*machine{}
		}
		p.byBox[w.Box][name] = m
		if w.UUID != "" {
			p.uuids.add(w.UUID, name)
		}
		changed = true
	}
	return changed
}

// setTag reads a tag anew, and reports whether it says another thing about machines.
func (p *Planner) setTag(old hostdb.View, tag string) bool {
	doc := p.db.Data(hostdb.Tags, tag)
	changed := p.networks.set(tag, doc) || doc.Exists() != old.Exists(hostdb.Tags, tag) // a wish may say that there is no such tag
	if changed {
		p.networksAt++
	}
	if was, is := p.guests[tag], doc.At("Guest").Exists(); was || is {
		p.guestsAt++
		delete(p.guests, tag)
		if is {
			p.guests[tag] = true
		}
		changed = true
	}
	was, is := p.rules[tag], ruleOf(doc)
	if was != nil || is != nil {
		delete(p.rules, tag)
		if is != nil {
			p.rules[tag] = is
		}
		changed = true
	}
	return changed
}

// wishOf is a machine's wish as of now. It is made again only after what it is made of may have changed.
func (p *Planner) wishOf(m *machine) Wish {
	stale := !m.made || m.networksAt != p.networksAt || m.guestsAt != p.guestsAt
	if !stale && m.membersAt != p.membersAt && len(p.guests) > 0 {
		// Which of two tags counts depends on how they contain each other, too: the same tags may say another thing.
		parents := p.db.Parents(m.base.Name, hostdb.Tags)
		stale = !slices.Equal(m.parents, parents) || slices.ContainsFunc(parents, func(tag string) bool { return p.guests[tag] })
	}
	if stale {
		m.wish = m.base
		m.wish.resolve(p.db, p.networks)
		m.parents, m.wish.Guest = p.guest(m)
	}
	m.made, m.networksAt, m.guestsAt, m.membersAt = true, p.networksAt, p.guestsAt, p.membersAt
	w := m.wish
	for _, other := range p.uuids.of(w.UUID) {
		if other != w.Name && w.Problem == "" {
			w.Twin = true
			w.Problem = fmt.Sprintf("hosts/%s: VM/UUID %s is also that of hosts/%s: take VM/UUID and VM/Box out of the one that is a copy, which makes it a machine of its own", w.Name, w.UUID, other)
		}
	}
	return w
}

// guest is what a machine's tags and its own document say under Guest, and the tags.
func (p *Planner) guest(m *machine) (parents []string, guest hostdb.Document) {
	if !m.own && len(p.guests) == 0 {
		return nil, hostdb.Document{}
	}
	parents = p.db.Parents(m.base.Name, hostdb.Tags)
	if !m.own && !slices.ContainsFunc(parents, func(tag string) bool { return p.guests[tag] }) {
		return parents, hostdb.Document{}
	}
	return parents, section.Effective(p.db, m.base.Name).Document.At("Guest")
}

// Wanted is Wanted of the view that the Planner holds.
func (p *Planner) Wanted(box string) []Wish {
	if box == "" {
		return nil
	}
	var out []Wish
	for _, m := range p.byBox[box] {
		if m.base.UUID != "" {
			out = append(out, p.wishOf(m))
		}
	}
	slices.SortFunc(out, func(a, b Wish) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Unplaced is Unplaced of the view that the Planner holds.
func (p *Planner) Unplaced(datacenter string) []Wish {
	var out []Wish
	for _, m := range p.byBox[""] {
		if m.base.Status != section.Active {
			continue
		}
		if w := p.wishOf(m); w.Subnet.Datacenter == datacenter {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, byStamp)
	return out
}

// Wish is the machine that a host is meant to be; false when it is no machine, or is retired.
func (p *Planner) Wish(name string) (Wish, bool) {
	m, ok := p.machines[name]
	if !ok {
		return Wish{}, false
	}
	return p.wishOf(m), true
}

// ByUUID are the hosts with a UUID, sorted; more than one is a clash.
func (p *Planner) ByUUID(uuid string) []string { return p.uuids.of(strings.ToLower(uuid)) }

// SubnetOf is SubnetOf of the view that the Planner holds.
func (p *Planner) SubnetOf(tag string) (Subnet, error) { return p.networks.of(p.db, tag) }

// macsOf are the hardware addresses that a host claims, each once.
func macsOf(doc hostdb.Document) [][6]byte {
	var out [][6]byte
	add := func(text string) {
		if mac, err := net.ParseMAC(strings.TrimSpace(text)); err == nil && len(mac) == 6 && !slices.Contains(out, [6]byte(mac)) {
			out = append(out, [6]byte(mac))
		}
	}
	add(doc.Text("Network", "MAC"))
	for _, nic := range doc.At("Interfaces").Keys() {
		add(nic.Text("MAC"))
	}
	return out
}

// holders are the hosts that claim a thing. Nearly all things have one, which is kept without a list of its own.
type holders[K comparable] struct {
	one  map[K]string
	more map[K][]string // all of them, sorted, where there are several
}

func newHolders[K comparable]() holders[K] { return holders[K]{map[K]string{}, map[K][]string{}} }

func (h holders[K]) add(k K, name string) {
	switch have, ok := h.one[k]; {
	case !ok:
		h.one[k] = name
	case have == name || slices.Contains(h.more[k], name):
	default:
		list := append(slices.Clone(h.more[k]), name)
		if len(list) == 1 {
			list = append(list, have)
		}
		slices.Sort(list)
		h.more[k] = list
	}
}

func (h holders[K]) drop(k K, name string) {
	list := slices.DeleteFunc(slices.Clone(h.of(k)), func(n string) bool { return n == name })
	delete(h.more, k)
	delete(h.one, k)
	for _, n := range list {
		h.add(k, n)
	}
}

// of are the claimants, sorted.
func (h holders[K]) of(k K) []string {
	if list := h.more[k]; list != nil {
		return list
	}
	if one, ok := h.one[k]; ok {
		return []string{one}
	}
	return nil
}
