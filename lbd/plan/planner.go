package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Planner makes plans at the cost of what changed between them. It is not safe for concurrent use; what it returns is immutable.
type Planner struct {
	db       hostdb.View
	mesh     mesh.View
	seen     mesh.View // by which backends are judged: under mass suspicion the one before
	began    bool
	drained  map[string]string
	programs map[string]bool
	result   Result

	drafts   map[string]*draft
	services map[string]*Service
	problems map[string][]Problem
	subnets  map[string]*section.Subnet
	claims   map[netip.Addr]map[string]bool // VIP -> tags whose LB has it
	mysql    map[netip.Addr]map[string]bool // VIP -> tags whose MySQL has it
	vips     map[string][]netip.Addr        // tag -> its MySQL VIPs
	watchers map[string]map[string]bool     // what is looked at -> tags

	again   map[string]bool      // tags to be read from HostDB anew
	dirty   map[string]bool      // tags to be planned anew
	kept    map[string]bool      // tags whose section cannot be used
	waiting map[string]time.Time // tags with a backend that drains -> the next end
}

// NewPlanner makes one that goes on from a last plan; only its Services matter.
func NewPlanner(last Result) *Planner {
	p := &Planner{
		drafts: map[string]*draft{}, services: map[string]*Service{}, problems: map[string][]Problem{}, subnets: map[string]*section.Subnet{},
		claims: map[netip.Addr]map[string]bool{}, mysql: map[netip.Addr]map[string]bool{}, vips: map[string][]netip.Addr{},
		watchers: map[string]map[string]bool{}, again: map[string]bool{}, dirty: map[string]bool{}, kept: map[string]bool{}, waiting: map[string]time.Time{},
	}
	for _, s := range last.Services {
		p.services[s.Tag] = s
		p.again[s.Tag] = true
	}
	return p
}

// Plan follows to other views.
func (p *Planner) Plan(db hostdb.View, m mesh.View, in Input) Result {
	p.follow(db)
	p.followMesh(m)
	for host := range p.drained {
		if reason, still := in.Drained[host]; !still || reason != p.drained[host] {
			p.touch(watchHost(host))
		}
	}
	for host := range in.Drained {
		if _, was := p.drained[host]; !was {
			p.touch(watchHost(host))
		}
	}
	p.drained = maps.Clone(in.Drained)
	if !maps.Equal(p.programs, in.Programs) || (p.programs == nil) != (in.Programs == nil) {
		p.programs = maps.Clone(in.Programs)
		for tag := range p.drafts {
			p.again[tag] = true
		}
	}
	for _, tag := range in.Judged {
		p.dirty[tag] = true
	}
	for tag, at := range p.waiting {
		if !in.Now.Before(at) {
			p.dirty[tag] = true
		}
	}
	if p.began && len(p.again) == 0 && len(p.dirty) == 0 {
		p.result.Changed = nil
		p.result.Version = db.Version().String()
		return p.result
	}
	for tag := range p.kept {
		p.again[tag] = true // what it kept may be another's by now
	}
	for tag := range p.again {
		p.read(tag)
		p.dirty[tag] = true
	}
	version := db.Version().String()
	var changed []string
	for _, tag := range slices.Sorted(maps.Keys(p.dirty)) {
		if p.settle(tag, version, in) {
			changed = append(changed, tag)
		}
	}
	clear(p.again)
	clear(p.dirty)
	p.began = true
	p.sum(changed, version)
	return p.result
}

// sum makes the result anew.
func (p *Planner) sum(changed []string, version string) {
	r := Result{Services: make([]*Service, 0, len(p.services)), Changed: changed, Version: version}
	for _, tag := range slices.Sorted(maps.Keys(p.services)) {
		r.Services = append(r.Services, p.services[tag])
	}
	for _, list := range p.problems {
		r.Problems = append(r.Problems, list...)
	}
	sortProblems(r.Problems)
	for _, at := range p.waiting {
		if r.Next.IsZero() || at.Before(r.Next) {
			r.Next = at
		}
	}
	p.result = r
}

// touch plans the tags anew that look at something.
func (p *Planner) touch(what string) {
	for tag := range p.watchers[what] {
		p.dirty[tag] = true
	}
}

// reread reads the tags from HostDB anew that look at something.
func (p *Planner) reread(tags map[string]bool) {
	for tag := range tags {
		p.again[tag] = true
	}
}

// follow notes what a change of HostDB means.
func (p *Planner) follow(db hostdb.View) {
	old := p.db
	p.db = db
	for c := range db.Changes(old) {
		switch {
		case c.NS == hostdb.Hosts && c.Data:
			p.hostChanged(old, c.Key)
		case c.NS == hostdb.Tags:
			if c.Data {
				p.tagChanged(c.Key)
			}
			if c.Members {
				p.membersChanged(c.Key, map[string]bool{})
			}
		}
	}
}

func (p *Planner) hostChanged(old hostdb.View, host string) {
	p.reread(p.watchers[watchHost(host)])
	for _, view := range []hostdb.View{old, p.db} {
		for _, a := range addressesOf(view.Data(hostdb.Hosts, host)) {
			p.reread(p.claims[a])
		}
	}
	if len(p.drafts) == 0 {
		return // the first look: tags come after hosts
	}
	for _, tag := range p.db.Parents(host, hostdb.Tags) {
		if p.drafts[tag] != nil {
			p.again[tag] = true
		}
	}
}

// addressesOf are the addresses that a host claims.
func addressesOf(doc hostdb.Document) []netip.Addr {
	var out []netip.Addr
	add := func(doc hostdb.Document) {
		for _, key := range []string{"IP", "IPv6"} {
			if a, err := netip.ParseAddr(strings.TrimSpace(doc.Text(key))); err == nil {
				out = append(out, a.Unmap())
			}
		}
	}
	add(doc.At("Network"))
	for _, nic := range doc.At("Interfaces").Keys() {
		add(nic)
	}
	return out
}

func (p *Planner) tagChanged(tag string) {
	doc := p.db.Data(hostdb.Tags, tag)
	subnet, _ := section.SubnetOf(doc)
	if was := p.subnets[tag]; !reflect.DeepEqual(was, subnet) {
		delete(p.subnets, tag)
		if subnet != nil {
			p.subnets[tag] = subnet
		}
		for name, d := range p.drafts {
			if vip := d.service.VIP; was != nil && was.CIDR.Contains(vip) || subnet != nil && subnet.CIDR.Contains(vip) {
				p.again[name] = true
			}
		}
	}
	if doc.At("MySQL").Exists() || p.vips[tag] != nil {
		var vips []netip.Addr
		if my, _ := section.MySQLOf(doc); my != nil {
			for _, a := range []netip.Addr{my.VIP.Unmap(), my.ReadVIP.Unmap()} {
				if a.IsValid() {
					vips = append(vips, a)
				}
			}
		}
		for _, a := range p.vips[tag] {
			drop(p.mysql, a, tag)
			p.reread(p.claims[a])
		}
		delete(p.vips, tag)
		for _, a := range vips {
			put(p.mysql, a, tag)
			p.reread(p.claims[a])
			p.vips[tag] = vips
		}
		p.again[tag] = true
	}
	if p.drafts[tag] != nil || doc.At("LB").Exists() {
		p.again[tag] = true
		if d := p.drafts[tag]; d != nil {
			p.reread(p.claims[d.service.VIP])
		}
		if lb, _ := section.LBOf(doc); lb != nil {
			p.reread(p.claims[lb.VIP.Unmap()])
		}
	}
}

// membersChanged finds the balanced tags that a list leads to.
func (p *Planner) membersChanged(tag string, seen map[string]bool) {
	if seen[tag] {
		return
	}
	seen[tag] = true
	if p.drafts[tag] != nil {
		p.again[tag] = true
	}
	for _, above := range p.db.Holders(hostdb.Tags, "@"+tag) {
		p.membersChanged(above, seen)
	}
}

func put[K comparable](m map[K]map[string]bool, key K, tag string) {
	if m[key] == nil {
		m[key] = map[string]bool{}
	}
	m[key][tag] = true
}

func drop[K comparable](m map[K]map[string]bool, key K, tag string) {
	delete(m[key], tag)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// followMesh notes what a change of the mesh means.
func (p *Planner) followMesh(m mesh.View) {
	p.mesh = m
	if m.MassSuspicion() && p.began {
		return
	}
	old := p.seen
	p.seen = m
	was := old.Members()
	for _, now := range m.Members() {
		for len(was) > 0 && was[0].ID < now.ID {
			p.memberChanged(was[0].Name)
			was = was[1:]
		}
		if len(was) > 0 && was[0].ID == now.ID {
			if was[0].State != now.State || was[0].Name != now.Name {
				p.memberChanged(was[0].Name)
				p.memberChanged(now.Name)
			}
			was = was[1:]
			continue
		}
		p.memberChanged(now.Name)
	}
	for _, gone := range was {
		p.memberChanged(gone.Name)
	}
	for was, now := range m.ReportChanges(old) {
		for _, pair := range [][2]map[string]report.MySQL{{was.MySQL, now.MySQL}, {now.MySQL, was.MySQL}} {
			for tag, my := range pair[0] {
				if other, both := pair[1][tag]; !both || other != my {
					p.touch(watchServers(tag))
				}
			}
		}
		for _, pair := range [][2]map[string]report.VM{{was.VMs, now.VMs}, {now.VMs, was.VMs}} {
			for uuid, vm := range pair[0] {
				if other, both := pair[1][uuid]; !both || other.Phase != vm.Phase || other.Reason != vm.Reason {
					p.touch(watchMachine(strings.ToLower(uuid)))
				}
			}
		}
	}
}

func (p *Planner) memberChanged(name string) {
	p.touch(watchHost(name))
	p.touch(watchBox(name))
}

// read makes the draft of a tag anew.
func (p *Planner) read(tag string) {
	was := p.drafts[tag]
	if was != nil {
		for _, w := range was.watched {
			drop(p.watchers, w, tag)
		}
		drop(p.claims, was.service.VIP, tag)
	}
	delete(p.drafts, tag)
	doc := p.db.Data(hostdb.Tags, tag)
	d := &draft{tag: tag}
	readers := hasReaders(doc)
	switch at := doc.At("LB"); {
	case at.Exists() && !at.IsNull():
		d.readSection(p, doc)
		if readers {
			d.unread = "MySQL/ReadVIP is not served, for the tag has a section LB as well: put LB into a tag of its own"
		}
	case readers:
		d.readReaders(p, doc)
	default:
		return
	}
	if last := p.services[tag]; last != nil && (!d.service.VIP.IsValid() || len(d.service.Ports) == 0) {
		d.service.VIP, d.service.Ports = last.VIP, last.Ports // nobody gave up what cannot be read any more
	}
	d.readMembers(p.db, was)
	p.drafts[tag] = d
	put(p.claims, d.service.VIP, tag)
	for _, w := range d.watched {
		put(p.watchers, w, tag)
	}
}

// subnetOf is the tag whose VIPs hold an address, the narrowest; or the one whose network does.
func (p *Planner) subnetOf(a netip.Addr) (tag, near string) {
	best, close := -1, -1
	for _, name := range slices.Sorted(maps.Keys(p.subnets)) {
		s := p.subnets[name]
		if s.VIPs.IsValid() && s.VIPs.Contains(a) && s.VIPs.Bits() > best {
			tag, best = name, s.VIPs.Bits()
		}
		if s.CIDR.IsValid() && s.CIDR.Contains(a) && s.CIDR.Bits() > close {
			near, close = name, s.CIDR.Bits()
		}
	}
	return tag, near
}

// clash says which other tag has the VIP and a port of d, if that is the first: the one that had it in the last plan, then the one
// written longer ago, then the first by name.
func (p *Planner) clash(d *draft) *Problem {
	vip := d.service.VIP
	for _, tag := range slices.Sorted(maps.Keys(p.mysql[vip])) {
		if tag != d.tag || !d.readers {
			return &Problem{Name: VIPTaken, Tag: d.tag, Text: fmt.Sprintf("tags/%s: %s %s is also that of MySQL of tags/%s: one of them needs another", d.tag, d.what(), vip, tag)}
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(p.claims[vip])) {
		other := p.drafts[tag]
		if tag == d.tag || other == nil {
			continue
		}
		for _, f := range d.service.Ports {
			if slices.ContainsFunc(other.service.Ports, f.same) && !p.before(d, other, f) {
				return &Problem{Name: PortClash, Tag: d.tag, Text: fmt.Sprintf("tags/%s: %s is %s with port %d/%s, as in tags/%s: one of them needs another", d.tag, d.what(), vip, f.Port, f.Proto, tag)}
			}
		}
	}
	return nil
}

// before reports whether a comes before b where both want one port of a VIP.
func (p *Planner) before(a, b *draft, f Forward) bool {
	if x, y := p.had(a, f), p.had(b, f); x != y {
		return x
	}
	x, _ := p.db.Get(hostdb.Tags, a.tag)
	y, _ := p.db.Get(hostdb.Tags, b.tag)
	if c := x.Revision().Compare(y.Revision()); c != 0 {
		return c < 0
	}
	return a.tag < b.tag
}

// had reports whether a port of the VIP that d wants was its in the last plan.
func (p *Planner) had(d *draft, f Forward) bool {
	s := p.services[d.tag]
	return s != nil && s.VIP == d.service.VIP && slices.ContainsFunc(s.Ports, f.same)
}
