package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func networkChecks() []Check {
	return []Check{
		{"subnets", "addresses outside every Subnet, in its Pool or its VIPs, and Subnets that overlap", subnets},
		{"vips", "virtual IPs outside the VIPs of every Subnet, or used twice", virtualIPs},
		{"databases", "database clusters with one member, or with members that nobody reaches", databases},
		{"machines", "virtual machines whose box, subnet or size does not fit", machines},
	}
}

// networks are the Subnets of tags, found by address.
type networks struct {
	byPrefix map[netip.Prefix][]*tag
	lengths  map[bool][]int // by family (true: IPv6), longest first
}

func (e *exam) networks() networks {
	n := networks{map[netip.Prefix][]*tag{}, map[bool][]int{}}
	e.eachTag(func(t *tag) {
		s := t.facts.Subnet
		if s == nil || !s.CIDR.IsValid() {
			return
		}
		p := s.CIDR.Masked()
		n.byPrefix[p] = append(n.byPrefix[p], t)
		six := p.Addr().Is6()
		if !slices.Contains(n.lengths[six], p.Bits()) {
			n.lengths[six] = append(n.lengths[six], p.Bits())
		}
	})
	for _, l := range n.lengths {
		slices.SortFunc(l, func(a, b int) int { return b - a })
	}
	return n
}

// of are the tags whose Subnet has an address, the longest prefix first. known is false when there is no Subnet of its
// family at all.
func (n networks) of(a netip.Addr) (tags []*tag, known bool) {
	a = a.Unmap()
	lengths := n.lengths[a.Is6()]
	for _, bits := range lengths {
		if p, err := a.Prefix(bits); err == nil {
			tags = append(tags, n.byPrefix[p]...)
		}
	}
	return tags, len(lengths) > 0
}

func subnets(e *exam) {
	n := e.networks()
	e.inUse(func(h *host) {
		eachAddress(h, func(a netip.Addr, at string) {
			if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() {
				return
			}
			tags, known := n.of(a)
			switch {
			case !known:
			case len(tags) == 0:
				e.add(Finding{Severity: section.Warning, ID: h.id(), Path: at,
					Message: fmt.Sprintf("%s is in no Subnet of any tag", a),
					Remedy:  "correct the address, or describe the network in the section Subnet of a tag"})
			default:
				e.reserved(h, tags[0], a, at)
			}
		})
	})
	e.overlaps(n)
}

// reserved names a host whose address lies in a part of its network that is kept for others.
func (e *exam) reserved(h *host, t *tag, a netip.Addr, at string) {
	s := t.facts.Subnet
	part, use := "", ""
	switch {
	case s.VIPs.IsValid() && s.VIPs.Contains(a.Unmap()):
		part, use = "VIPs", "virtual IPs"
	case s.Pool.IsValid() && s.Pool.Contains(a.Unmap()) && h.facts.VM == nil:
		part, use = "Pool", "virtual machines"
	default:
		return
	}
	e.add(Finding{Severity: section.Warning, ID: h.id(), Path: at, Related: []string{t.id()},
		Message: fmt.Sprintf("%s lies in Subnet/%s of %s, which is for %s", a, part, t.id(), use),
		Remedy:  "give the host an address outside that part, or make the part smaller"})
}

// overlaps names pairs of Subnets of which one lies within the other. Two prefixes cannot overlap in any other way.
func (e *exam) overlaps(n networks) {
	for _, p := range slices.SortedFunc(maps.Keys(n.byPrefix), netip.Prefix.Compare) {
		tags := n.byPrefix[p]
		for _, bits := range n.lengths[p.Addr().Is6()] {
			if bits > p.Bits() {
				continue
			}
			wide, err := p.Addr().Prefix(bits)
			if err != nil {
				continue
			}
			for _, w := range n.byPrefix[wide] {
				for _, t := range tags {
					if t == w || bits == p.Bits() && w.key <= t.key {
						continue
					}
					e.add(Finding{Severity: section.Warning, ID: t.id(), Path: "Subnet/CIDR", Related: []string{w.id()},
						Message: fmt.Sprintf("%s overlaps %s of %s: which of them an address belongs to is not clear", p, wide, w.id()),
						Remedy:  "make them parts that have no address in common"})
				}
			}
		}
	}
}

// vip is one virtual IP of a tag.
type vip struct {
	tag *tag
	at  string
}

func virtualIPs(e *exam) {
	n := e.networks()
	all := map[netip.Addr][]vip{}
	e.eachTag(func(t *tag) {
		eachVIP(t, func(a netip.Addr, at string) {
			if !a.IsValid() {
				return
			}
			all[a.Unmap()] = append(all[a.Unmap()], vip{t, at})
			tags, _ := n.of(a)
			if slices.ContainsFunc(tags, func(s *tag) bool {
				return s.facts.Subnet.VIPs.IsValid() && s.facts.Subnet.VIPs.Contains(a.Unmap())
			}) {
				return
			}
			f := Finding{Severity: section.Error, ID: t.id(), Path: at,
				Message: fmt.Sprintf("%s lies in Subnet/VIPs of no tag, so no box may hold it", a),
				Remedy:  "take an address from the VIPs of the network, or describe the network in the section Subnet of a tag"}
			if len(tags) > 0 {
				f.Message = fmt.Sprintf("%s is in the Subnet of %s and not in its VIPs, so no box may hold it", a, tags[0].id())
				f.Related = []string{tags[0].id()}
			}
			e.add(f)
		})
	})
	for a, users := range all {
		for i, u := range users {
			for _, o := range users[i+1:] {
				if why := together(u, o); why != "" {
					e.add(Finding{Severity: section.Error, ID: u.tag.id(), Path: u.at, Related: related(u.tag, o.tag),
						Message: fmt.Sprintf("%s is %s of %s as well: %s", a, o.at, o.tag.id(), why),
						Remedy:  "give one of them another address"})
				}
			}
		}
	}
}

// related are the other keys of a finding at t.
func related(t *tag, others ...*tag) []string {
	var out []string
	for _, o := range others {
		if o != t {
			out = append(out, o.id())
		}
	}
	return out
}

// together says why two users of one virtual IP exclude each other. Two balancers may share one if no port is in both.
func together(a, b vip) string {
	if a.at != "LB/VIP" || b.at != "LB/VIP" {
		return "the address of a database moves on its own"
	}
	var ports []string
	for p := range a.tag.facts.LB.Ports {
		if _, both := b.tag.facts.LB.Ports[p]; both {
			ports = append(ports, p.String())
		}
	}
	if len(ports) == 0 {
		return ""
	}
	slices.Sort(ports)
	return "both balance port " + enumerate(ports)
}

func machines(e *exam) {
	given := map[*host]section.Size{}
	hasCatalogue := slices.Contains(e.view.Namespaces(), catalogue)
	former := map[string][]string{}
	e.inUse(func(h *host) {
		vm := h.facts.VM
		if vm == nil {
			return
		}
		if vm.Subnet != "" {
			e.network(h.id(), "VM/Subnet", vm.Subnet, h.facts.Network.IP)
		}
		if vm.Box == "" {
			e.image(h.id(), "VM/Image", vm.Image)
		} else if vm.Image != "" && hasCatalogue && !e.view.Exists(catalogue, vm.Image) {
			former[vm.Image] = append(former[vm.Image], h.id())
		}
		if vm.Box == "" {
			return // it waits to be placed
		}
		at := Finding{Severity: section.Error, ID: h.id(), Path: "VM/Box", Related: []string{hostdb.Hosts + "/" + vm.Box},
			Remedy: "name a host that has the fact Box, or take VM/Box out to have it placed"}
		box := e.byHost[vm.Box]
		switch {
		case box == nil:
			at.Message = vm.Box + " does not exist"
			if names := e.view.HostsByName(vm.Box); len(names) > 0 {
				at.Message = "no host has the key " + vm.Box + "; it is a name of hosts/" + names[0]
				at.Remedy = "write the key of the box: " + names[0]
			}
		case box == h:
			at.Message = "a machine cannot be its own box"
		case box.facts.Box == nil:
			at.Message = box.id() + " is no box: it has no fact Box, so it carries no machines"
		case box.retired():
			at.Message = box.id() + " is retired"
		default:
			given[box] += vm.Memory
			return
		}
		e.add(at)
	})
	e.inUse(func(h *host) {
		if b := h.facts.Box; b != nil && b.Memory > 0 && given[h] > b.Memory {
			e.add(Finding{Severity: section.Warning, ID: h.id(), Path: "Box/Memory",
				Message: fmt.Sprintf("its machines are to have %s of memory, and it gives %s; the last of them do not start", given[h], b.Memory),
				Remedy:  "move machines to another box (VM/Box), or make them smaller"})
		}
	})
	e.formerImages(former)
	e.eachTag(func(t *tag) {
		if g := t.facts.Group; g != nil && g.Template.Subnet != "" {
			e.network(t.id(), "Group/Template/Subnet", g.Template.Subnet, netip.Addr{})
		}
		if g := t.facts.Group; g != nil && hasCatalogue {
			e.image(t.id(), "Group/Template/Image", g.Template.Image)
		}
		if p := t.facts.Placement; p != nil {
			e.company(t, "Placement/Apart", p.Apart)
			e.company(t, "Placement/Together", p.Together)
		}
	})
}

// catalogue is the namespace of base images. A site that has none makes no machines by hostmesh yet.
const catalogue = "images"

// image looks for a base image that something is to be made of.
func (e *exam) image(id, at, name string) {
	if name == "" || e.view.Exists(catalogue, name) {
		return
	}
	text := "no image is called " + name + ", so it cannot be made"
	if near := section.Nearest(name, slices.Collect(e.view.Keys(catalogue))); near != "" {
		text += "; did you mean " + near + "?"
	}
	e.add(Finding{Severity: section.Error, ID: id, Path: at, Message: text,
		Remedy: "name one that hostmesh image list shows, or add it: hostmesh image add " + name})
}

// formerImages tells of images that are gone although machines were made of them, each once.
func (e *exam) formerImages(users map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(users)) {
		e.add(Finding{Severity: section.Warning, ID: catalogue + "/" + name, Related: users[name],
			Message: "it does not exist, and machines were made of it: they go on, and could not be made anew",
			Remedy:  "add it: hostmesh image add " + name + "; or have VM/Image name another"})
	}
}

// company looks at the tags that a Placement names.
func (e *exam) company(t *tag, at string, others map[string]section.Spread) {
	for _, other := range slices.Sorted(maps.Keys(others)) {
		if e.byTag[other] == nil {
			e.add(Finding{Severity: section.Warning, ID: t.id(), Path: at + "/" + other, Related: []string{hostdb.Tags + "/" + other},
				Message: hostdb.Tags + "/" + other + " does not exist, so this has no effect",
				Remedy:  "correct the name of the tag, or take it out"})
		}
	}
}

// network looks at the Subnet that machines are connected to.
func (e *exam) network(id, at, name string, a netip.Addr) {
	f := Finding{Severity: section.Error, ID: id, Path: at, Related: []string{hostdb.Tags + "/" + name},
		Remedy: "name a tag that has the section Subnet"}
	t := e.byTag[name]
	switch {
	case t == nil:
		f.Message = hostdb.Tags + "/" + name + " does not exist"
		var known []string
		for _, t := range e.tags {
			if t.facts.Subnet != nil {
				known = append(known, t.key)
			}
		}
		if near := section.Nearest(name, known); near != "" {
			f.Remedy += "; did you mean " + near + "?"
		} else if len(known) > 0 {
			f.Remedy += ": " + enumerate(known)
		}
	case t.facts.Subnet == nil:
		f.Message = t.id() + " has no section Subnet"
	case a.IsValid() && t.facts.Subnet.CIDR.IsValid() && t.facts.Subnet.CIDR.Addr().Is4() == a.Unmap().Is4() && !t.facts.Subnet.CIDR.Contains(a.Unmap()):
		f.Severity = section.Warning
		f.Message = fmt.Sprintf("the machine is connected to %s, and its address %s is not in %s", t.id(), a, t.facts.Subnet.CIDR)
		f.Remedy = "correct the address (Network/IP) or the Subnet"
	default:
		return
	}
	e.add(f)
}
