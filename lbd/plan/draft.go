package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// draft is what HostDB says of one balanced tag.
type draft struct {
	tag     string
	service Service // without backends
	refused *Problem
	members []member // by host
	watched []string // what its plan looks at beside HostDB
	readers bool     // the service is ReadVIP of a section MySQL
	unread  string   // why that of the tag has none
}

// member is a host of a balanced tag.
type member struct {
	host     string
	revision hostdb.Stamp // of its document
	four     netip.Addr
	six      netip.Addr
	status   section.Status
	exists   bool
	uuid     string // of its machine; "" = none, or not made yet
	box      string
}

// addr is its address of the family of a VIP.
func (m *member) addr(vip netip.Addr) netip.Addr {
	if vip.Is4() {
		return m.four
	}
	return m.six
}

func (d *draft) member(host string) *member {
	i, ok := slices.BinarySearchFunc(d.members, host, func(m member, host string) int { return strings.Compare(m.host, host) })
	if !ok {
		return nil
	}
	return &d.members[i]
}

func memberOf(db hostdb.View, host string, was *member) member {
	item, ok := db.Get(hostdb.Hosts, host)
	if !ok {
		return member{host: host}
	}
	if was != nil && was.exists && was.revision == item.Revision() {
		return *was
	}
	doc := item.Data()
	m := member{host: host, revision: item.Revision(), exists: true, status: section.StatusOf(doc)}
	network, _ := section.NetworkOf(doc) // what cannot be read counts as absent, and the tag's problems say that there is none
	for _, a := range []netip.Addr{network.IP.Unmap(), network.IPv6} {
		switch {
		case !a.IsValid() || a.IsUnspecified():
		case a.Is4():
			m.four = a
		default:
			m.six = a
		}
	}
	if uuid := strings.ToLower(doc.Text("VM", "UUID")); uuid != "" {
		m.uuid, m.box = uuid, doc.Text("VM", "Box")
	}
	return m
}

// readMembers reads the members of the tag anew, but for documents that are as they were.
func (d *draft) readMembers(db hostdb.View, was *draft) {
	hosts := db.Members(hostdb.Tags, d.tag)
	d.members = make([]member, len(hosts))
	for i, host := range hosts {
		var before *member
		if was != nil {
			before = was.member(host)
		}
		m := memberOf(db, host, before)
		d.members[i] = m
		d.watched = append(d.watched, watchHost(host))
		if m.uuid != "" {
			d.watched = append(d.watched, watchMachine(m.uuid), watchBox(m.box))
		}
	}
}

// watch adds something that the tag's plan looks at.
func (d *draft) watch(p *Planner, what string) {
	if !p.watchers[what][d.tag] {
		put(p.watchers, what, d.tag)
		d.watched = append(d.watched, what)
	}
}

func watchHost(host string) string    { return "host/" + host }
func watchBox(box string) string      { return "box/" + box }
func watchMachine(uuid string) string { return "machine/" + uuid }

// readSection reads the section. It leaves the problem that refuses it, if there is one, in d.
func (d *draft) readSection(p *Planner, doc hostdb.Document) {
	lb, problems := section.LBOf(doc)
	refuse := func(name ProblemName, format string, args ...any) {
		if d.refused == nil {
			d.refused = &Problem{Name: name, Tag: d.tag, Text: fmt.Sprintf(format, args...)}
		}
	}
	for _, pr := range problems {
		if pr.Severity == section.Error {
			refuse(BadSection, "tags/%s: %s", d.tag, pr)
		}
	}
	if lb == nil {
		refuse(BadSection, "tags/%s: LB: is not a mapping; expected one with VIP and Ports", d.tag)
		return
	}
	vip := lb.VIP.Unmap()
	d.service = Service{
		Tag: d.tag, VIP: vip, Mode: lb.Mode, Balance: lb.Balance, Check: lb.Check, Masquerade: lb.Masquerade, TLS: lb.TLS,
		Drain: lb.Drain, Keep: lb.NoQuorum == section.KeepVIP, Force: lb.Force,
	}
	for from, to := range lb.Ports {
		d.service.Ports = append(d.service.Ports, Forward{from.Number, from.Proto, to})
	}
	slices.SortFunc(d.service.Ports, compareForwards)
	if d.refused != nil {
		return
	}
	if !vip.IsValid() || len(d.service.Ports) == 0 {
		refuse(BadSection, "tags/%s: LB needs a VIP and Ports", d.tag)
		return
	}
	d.place(p, "LB/VIP", refuse)
	if p.programs != nil && !slices.Contains([]string{"tcp", "http", "dns", "mysql"}, lb.Check.Type) && !p.programs[lb.Check.Type] {
		refuse(UnknownCheck, "tags/%s: LB/Check/Type %q is no program in checks.d here, and no type of check: put it there, or take tcp, http, dns or mysql", d.tag, lb.Check.Type)
	}
}

// place finds the network of the VIP, which is what of the section, and refuses one that cannot be there.
func (d *draft) place(p *Planner, what string, refuse func(name ProblemName, format string, args ...any)) {
	vip := d.service.VIP
	if tag, near := p.subnetOf(vip); tag != "" {
		s := p.subnets[tag]
		d.service.Subnet, d.service.CIDR, d.service.Interface, d.service.Datacenter = tag, s.CIDR.Masked(), s.Bridge, s.Datacenter
		if s.Gateway == vip {
			refuse(VIPIsHost, "tags/%s: %s %s is the gateway of tags/%s: take another of its VIPs", d.tag, what, vip, tag)
		}
	} else if near != "" {
		refuse(OutsideVIPs, "tags/%s: %s %s is in the network of tags/%s, and not in its VIPs (%s): take an address from there, or widen Subnet/VIPs", d.tag, what, vip, near, textOf(p.subnets[near].VIPs))
	} else {
		refuse(NoSubnet, "tags/%s: %s %s is in the VIPs of no tag's Subnet: take an address from one, or describe the network (Subnet: {CIDR, VIPs, Datacenter})", d.tag, what, vip)
	}
	if hosts := p.db.HostsByAddr(vip.String()); len(hosts) > 0 {
		refuse(VIPIsHost, "tags/%s: %s %s is also the address of hosts/%s: one of them needs another", d.tag, what, vip, strings.Join(hosts, ", hosts/"))
	}
}

func compareForwards(a, b Forward) int {
	if a.Port != b.Port {
		return int(a.Port) - int(b.Port)
	}
	return strings.Compare(string(a.Proto), string(b.Proto))
}

func textOf(p netip.Prefix) string {
	if !p.IsValid() {
		return "it has none"
	}
	return p.String()
}

// same reports whether two services cannot both have the ports on one VIP.
func (f Forward) same(g Forward) bool { return f.Port == g.Port && f.Proto == g.Proto }

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// ends is when a backend that drains is done.
func (s *Service) ends(b *Backend) time.Time { return b.Since.Add(s.Drain) }
