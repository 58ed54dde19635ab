package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// tag is what a tag contributes whatever its DNS section says: its names under the domain of the mesh.
func (b *batch) tag(tag string) contribution {
	mk := &maker{key: hostdb.Tags + "/" + tag, hasher: &b.hasher}
	if !b.next.db.Exists(hostdb.Tags, tag) {
		return mk.contribution
	}
	b.liveNames(mk, tag)
	return mk.contribution
}

// section is what the DNS section of a tag contributes: the records that a person wrote into a zone.
func (b *batch) section(tag string) contribution {
	mk := &maker{key: hostdb.Tags + "/" + tag, hasher: &b.hasher}
	f := b.next.feeders[tag]
	if f == nil {
		return mk.contribution
	}
	for _, origin := range f.zones() {
		zn := b.next.zones[origin]
		if zn.feeders[0] != f.tag {
			continue
		}
		servers := f.ns
		if len(servers) == 0 {
			servers = []string{"ns." + b.next.domain.String()}
		}
		for _, ns := range servers {
			mk.record(origin, origin, rankSection, false, &dns.NS{Hdr: header(zn.text, dns.TypeNS, f.ttl), Ns: ns})
		}
	}
	records := f.doc.At("Records")
	if records.Exists() && !records.IsNull() && !records.IsMapping() {
		mk.problem(f.origin.String(), "", "DNS/Records is not a mapping of names")
	}
	for key, types := range records.Keys() {
		b.named(mk, f, key, types)
	}
	return mk.contribution
}

// named adds the records of one name of Records.
func (b *batch) named(mk *maker, f *feeder, key string, types hostdb.Document) {
	where := "DNS/Records/" + key
	owner, err := f.owner(key)
	if err != nil {
		mk.problem(f.origin.String(), "", "%s: %q is not a name in DNS", where, key)
		return
	}
	zn := b.next.deepest(owner)
	switch {
	case zn == nil || !slices.Contains(f.zones(), zn.origin) && !below(owner, f.zones()):
		mk.problem(f.origin.String(), owner.String(), "%s: the name lies outside the zone", where)
		return
	case !slices.Contains(f.zones(), zn.origin):
		if owner != zn.origin || !types.At("NS").Exists() && !types.At("DS").Exists() {
			mk.problem(f.origin.String(), owner.String(), "%s: the name belongs to the zone %s, which this tag does not feed", where, zn.text)
			return
		}
		zn = b.next.deepest(owner.parent()) // a delegation to a zone that we serve too
		if zn == nil || !slices.Contains(f.zones(), zn.origin) {
			mk.problem(f.origin.String(), owner.String(), "%s: another zone stands between this one and the delegated one", where)
			return
		}
	}
	if !types.IsMapping() {
		mk.problem(zn.text, owner.String(), "%s: it is not a mapping of record types such as {A: 10.1.0.1}", where)
		return
	}
	ttl := f.ttl
	if t := types.At("TTL"); t.Exists() {
		if ttl, err = parseSeconds(t.Text()); err != nil {
			mk.problem(zn.text, owner.String(), "%s/TTL: %v", where, err)
			ttl = f.ttl
		}
	}
	for typ, values := range types.Keys() {
		switch {
		case strings.EqualFold(typ, "TTL"):
		case strings.EqualFold(typ, aliasType):
			b.alias(mk, f, place{zn.origin, owner}, ttl, values.Text())
		default:
			b.typed(mk, f, zn, place{zn.origin, owner}, ttl, typ, values)
		}
	}
}

func below(n name, origins []name) bool {
	return slices.ContainsFunc(origins, func(o name) bool { return n.within(o) })
}

// typed adds the records of one name and type.
func (b *batch) typed(mk *maker, f *feeder, zn *zone, at place, ttl uint32, typ string, values hostdb.Document) {
	where := typ
	t, ok := dns.StringToType[strings.ToUpper(typ)]
	if !ok {
		mk.problem(zn.text, at.owner.String(), "%s: it is not a record type", where)
		return
	}
	if why, no := refused[t]; no {
		mk.problem(zn.text, at.owner.String(), "%s: the type is not taken here: %s", where, why)
		return
	}
	if t == dns.TypeNS && at.owner == at.zone {
		if zn.feeders[0] != f.tag {
			mk.problem(zn.text, at.owner.String(), "NS: tag %s gives this zone its name servers", zn.feeders[0])
		}
		return // section added them
	}
	items := values.Items()
	if items == nil {
		items = []hostdb.Document{values}
	}
	for _, item := range items {
		origin := zn.text
		if f.origin != "" {
			origin = f.origin.String()
		}
		rr, err := parseRecord(at.owner, origin, ttl, t, item.Text())
		if err != nil {
			mk.problem(zn.text, at.owner.String(), "%s: %v", where, err)
			continue
		}
		mk.record(at.zone, at.owner, rankSection, false, rr)
	}
}

// liveNames adds <tag>.tag, _<tag>._<proto>.tag and <tag>.vip.
func (b *batch) liveNames(mk *maker, tag string) {
	doc, domain := b.next.db.Data(hostdb.Tags, tag), b.next.domain
	service, err := serviceOf(doc)
	if err != nil {
		mk.problem(domain.String(), "", "%v", err)
	}
	vips := vipsOf(mk, doc, domain)
	if err := checkLive(tag); err != nil {
		mk.problem(domain.String(), "", "the tag's name cannot stand in DNS: %v", err)
		return
	}
	zone := func(below string) (at, owner name, ok bool) {
		owner, err := parseName(below + "." + domain.String())
		if err != nil {
			mk.problem(domain.String(), "", "%s.%s is too long to be a name in DNS", below, domain)
			return "", "", false
		}
		return b.next.deepest(owner).origin, owner, true
	}
	l := &live{tag: tag, service: service, ttl: b.liveTTL(service)}
	if at, owner, ok := zone(tag + ".tag"); ok {
		l.owner = owner.String()
		mk.items = append(mk.items, item{at, owner, &claim{source: mk.key, rank: rankLive, live: l, local: true}})
	}
	if service.port != 0 && !strings.Contains(tag, ".") && len(tag) < 63 {
		if at, owner, ok := zone("_" + tag + "._" + service.proto + ".tag"); ok {
			l.srvOwner = owner.String()
			mk.items = append(mk.items, item{at, owner, &claim{source: mk.key, rank: rankLive, live: l, local: true, srv: true}})
		}
	}
	if at, owner, ok := zone(tag + ".vip"); ok {
		for _, a := range vips {
			mk.record(at, owner, rankAddress, false, addressRecord(owner.String(), l.ttl, a))
		}
	}
}

// liveTTL is the time to live of a tag's live names.
func (b *batch) liveTTL(s service) uint32 {
	if s.ttl > 0 {
		return s.ttl
	}
	return b.next.opts.LiveTTL
}

// vipsOf are the addresses in LB/VIP and MySQL/VIP.
func vipsOf(mk *maker, doc hostdb.Document, domain name) []netip.Addr {
	var out []netip.Addr
	for _, section := range [...]string{"LB", "MySQL"} {
		for _, text := range texts(doc.At(section, "VIP")) {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				mk.problem(domain.String(), "", "%s/VIP: %q is not an address", section, text)
				continue
			}
			if a = a.Unmap(); !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// members is what the mesh contributes to its domain: <node>.node, ns, and the NS of the domain itself.
func (b *batch) members() contribution {
	mk := &maker{key: meshSource, hasher: &b.hasher}
	z := b.next
	domain, ttl := z.domain, z.opts.LiveTTL
	ns, _ := parseName("ns." + domain.String())
	zn := z.zones[domain]
	if len(zn.feeders) == 0 {
		mk.record(domain, domain, rankSection, false, &dns.NS{Hdr: header(domain.String(), dns.TypeNS, ttl), Ns: ns.String()})
	}
	if z.deepest(ns) == zn {
		for _, a := range z.nameServerAddresses() {
			mk.record(domain, ns, rankAddress, true, addressRecord(ns.String(), ttl, a))
		}
	}
	for label, m := range nodeLabels(z.mesh) {
		if err := checkHost(label); err != nil {
			mk.problem(domain.String(), "", "the member's name %q cannot stand in DNS: %v", label, err)
			continue
		}
		owner, err := parseName(label + ".node." + domain.String())
		if err != nil {
			mk.problem(domain.String(), "", "the member's name %q is too long for DNS", label)
			continue
		}
		at := z.deepest(owner)
		for _, a := range z.nodeAddresses(m) {
			mk.record(at.origin, owner, rankAddress, true, addressRecord(owner.String(), ttl, a))
		}
	}
	slices.SortFunc(mk.items, func(a, b item) int {
		return cmp.Or(strings.Compare(string(a.owner), string(b.owner)), compareClaims(a.claim, b.claim))
	})
	slices.SortFunc(mk.problems, compareProblems)
	return mk.contribution
}
