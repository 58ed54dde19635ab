package doctor

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func claimChecks() []Check {
	return []Check{
		{"addresses", "addresses that two hosts, or a host and a virtual IP, claim", addressClashes},
		{"macs", "hardware addresses that two hosts claim", macClashes},
		{"names", "names (keys, FQDNs, cnames, records) that two hosts claim", nameClashes},
		{"uuids", "virtual machines that two hosts claim by one UUID", uuidClashes},
	}
}

// claim is one key's hold on something that only one may have.
type claim struct {
	id      string
	path    string
	retired bool // a host out of use: it clashes with nobody as long as it stays so
	tag     bool
}

type claims map[string][]claim

// hold notes a claim; a key that claims something in several places has one.
func (c claims) hold(what string, by claim) {
	if what == "" || slices.ContainsFunc(c[what], func(o claim) bool { return o.id == by.id }) {
		return
	}
	c[what] = append(c[what], by)
}

// clashes reports what several claim. noun and verb make a sentence: "address 10.1.0.1 is also claimed by ...".
func (e *exam) clashes(all claims, noun, remedy string) {
	for what, list := range all {
		if len(list) < 2 || e.over() {
			continue
		}
		var used, out []claim
		tags := 0
		for _, c := range list {
			switch {
			case c.retired:
				out = append(out, c)
			default:
				used = append(used, c)
				if c.tag {
					tags++
				}
			}
		}
		switch {
		case len(used) > 1 && tags < len(used):
			e.clash(section.Error, noun+" "+what, used, remedy)
		case len(used) == 1 && len(out) > 0:
			f := append(used, out...)
			e.clash(section.Warning, noun+" "+what, f, "take it from the entry of the retired host, so that it cannot come back with it")
		}
	}
}

func (e *exam) clash(severity section.Severity, what string, list []claim, remedy string) {
	first, others := list[0], list[1:]
	if severity == section.Error {
		list = slices.Clone(list)
		slices.SortFunc(list, func(a, b claim) int { return strings.Compare(a.id, b.id) })
		first, others = list[0], list[1:]
	}
	var names []string
	var related []string
	for _, o := range others {
		at := o.path
		if at == "" {
			at = "its key"
		}
		name := o.id + " (" + at + ")"
		if o.retired {
			name = o.id + ", which is retired (" + at + ")"
		}
		names, related = append(names, name), append(related, o.id)
	}
	slices.Sort(names)
	e.add(Finding{Severity: severity, ID: first.id, Path: first.path, Related: related,
		Message: what + " is claimed by " + enumerate(names) + " as well", Remedy: remedy})
}

func addressClashes(e *exam) {
	all := claims{}
	hold := func(a netip.Addr, c claim) {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			all.hold(a.Unmap().String(), c)
		}
	}
	for _, h := range e.hosts {
		eachAddress(h, func(a netip.Addr, at string) { hold(a, claim{id: h.id(), path: at, retired: h.retired()}) })
		hold(h.facts.Hardware.OOB, claim{id: h.id(), path: "Hardware/OOB", retired: h.retired()})
	}
	e.eachTag(func(t *tag) {
		eachVIP(t, func(a netip.Addr, at string) { hold(a, claim{id: t.id(), path: at, tag: true}) })
	})
	e.clashes(all, "address", "find out which of them answers there, and correct the others")
}

// eachAddress calls fn for the addresses at which a host is reached.
func eachAddress(h *host, fn func(a netip.Addr, at string)) {
	fn(h.facts.Network.IP, "Network/IP")
	fn(h.facts.Network.IPv6, "Network/IPv6")
	for _, name := range slices.Sorted(maps.Keys(h.facts.Interfaces)) {
		i := h.facts.Interfaces[name]
		fn(i.IP, path("Interfaces", name, "IP"))
		fn(i.IPv6, path("Interfaces", name, "IPv6"))
	}
}

// eachVIP calls fn for the virtual IPs of a tag.
func eachVIP(t *tag, fn func(a netip.Addr, at string)) {
	if lb := t.facts.LB; lb != nil {
		fn(lb.VIP, "LB/VIP")
	}
	if my := t.facts.MySQL; my != nil {
		fn(my.VIP, "MySQL/VIP")
		fn(my.ReadVIP, "MySQL/ReadVIP")
	}
}

func macClashes(e *exam) {
	all := claims{}
	for _, h := range e.hosts {
		hold := func(mac net.HardwareAddr, at string) {
			if slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }) {
				all.hold(mac.String(), claim{id: h.id(), path: at, retired: h.retired()})
			}
		}
		hold(h.facts.Network.MAC, "Network/MAC")
		for _, name := range slices.Sorted(maps.Keys(h.facts.Interfaces)) {
			i := h.facts.Interfaces[name]
			hold(i.MAC, path("Interfaces", name, "MAC"))
		}
	}
	e.clashes(all, "hardware address", "correct the entry of the host that does not have this card; two cards with one address cannot be on one network")
}

func uuidClashes(e *exam) {
	all := claims{}
	for _, h := range e.hosts {
		if h.facts.VM != nil {
			all.hold(strings.ToLower(h.facts.VM.UUID), claim{id: h.id(), path: "VM/UUID", retired: h.retired()})
		}
	}
	e.clashes(all, "the machine", "take VM/UUID from the entry that was copied: then it becomes a machine of its own")
}

// nameClashes looks at names as DNS does: a name of one label is meant within each zone of its host.
func nameClashes(e *exam) {
	all := claims{}
	aliases := map[string][]*host{}
	for _, h := range e.hosts {
		hold := func(name, at string) {
			for _, full := range h.fullNames(name) {
				all.hold(full, claim{id: h.id(), path: at, retired: h.retired()})
			}
		}
		if h.facts.Network.FQDN != "" {
			hold(h.facts.Network.FQDN, "Network/FQDN")
		}
		if h.facts.Network.FQDN == "" || strings.Contains(h.key, ".") {
			hold(h.key, "")
		}
		for _, alias := range h.facts.Network.CNames {
			hold(alias, "Network/cname")
			for _, full := range h.fullNames(alias) {
				aliases[full] = append(aliases[full], h)
			}
		}
	}
	e.clashes(all, "name", "decide which host has the name, and take it from the others")
	e.eachTag(func(t *tag) {
		if t.zone == "" {
			return
		}
		for name, set := range t.facts.DNS.Records {
			full, inside := absolute(t.zone, name)
			if !inside {
				continue
			}
			holders := aliases[full]
			if set.CNAME != "" {
				holders = nil
				for _, c := range all[full] {
					holders = append(holders, e.byHost[strings.TrimPrefix(c.id, hostdb.Hosts+"/")])
				}
			}
			for _, h := range holders {
				if !slices.Contains(h.feeders, t) && !slices.ContainsFunc(h.feeders, func(f *tag) bool { return f.zone == t.zone }) {
					continue
				}
				e.add(Finding{
					Severity: section.Error, ID: t.id(), Path: path("DNS", "Records", name), Related: []string{h.id()},
					Message: fmt.Sprintf("name %s is a name of %s as well, and an alias stands alone (RFC 1034 section 3.6.2); the record is served", full, h.id()),
					Remedy:  "take the record out, or the name from the host",
				})
			}
		}
	})
}

// fullNames are what a name of a host means: itself when it has a dot, else one in each zone of the host, or the bare
// label when there is none.
func (h *host) fullNames(name string) []string {
	if strings.TrimSpace(name) == "" {
		return nil
	}
	name = strings.ToLower(name)
	full := strings.TrimSuffix(name, ".")
	if strings.Contains(full, ".") || len(h.feeders) == 0 {
		return []string{full}
	}
	var out []string
	for _, t := range h.feeders {
		if n := full + "." + t.zone; !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// absolute is the full name, in normal form, of a name in the section of a zone: within the zone unless it ends in a dot
// or in the zone's own name. inside is false when it lies elsewhere.
func absolute(zone, name string) (full string, inside bool) {
	if name == "@" {
		return zone, true
	}
	full = hostdb.NormalName(name)
	if within(full, zone) {
		return full, true
	}
	if strings.HasSuffix(name, ".") {
		return full, false
	}
	return full + "." + zone, true
}

// within reports whether a name is at or below a zone.
func within(name, zone string) bool { return name == zone || strings.HasSuffix(name, "."+zone) }
