package zone

import (
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// aliasType is what stands in Records, where a type does, for the addresses of a tag or of its VIP. It is needed where a
// CNAME cannot stand: at the zone itself.
const aliasType = "ALIAS"

// parseAlias reads web.tag or web.vip.
func parseAlias(text string) (tag string, vip, ok bool) {
	text = strings.TrimSpace(text)
	if tag, ok = strings.CutSuffix(text, ".tag"); ok {
		return tag, false, tag != ""
	}
	tag, ok = strings.CutSuffix(text, ".vip")
	return tag, true, ok && tag != ""
}

// aliasTargets are the tags that records of f take their addresses from.
func (f *feeder) aliasTargets() []string {
	var out []string
	for _, types := range f.doc.At("Records").Keys() {
		for typ, value := range types.Keys() {
			if tag, _, ok := parseAlias(value.Text()); ok && strings.EqualFold(typ, aliasType) {
				out = append(out, tag)
			}
		}
	}
	return out
}

// alias adds the addresses of a tag. What is transferred must not depend on which node looks: for a tag it is all members
// that are not retired, in place of which a server of ours answers with those that are up.
func (b *batch) alias(mk *maker, f *feeder, at place, ttl uint32, text string) {
	tag, vip, ok := parseAlias(text)
	zone, owner := at.zone.String(), at.owner.String()
	if !ok {
		mk.problem(zone, owner, "ALIAS: %q is not the addresses of a tag; write them as web.tag, or as web.vip for its virtual IP", text)
		return
	}
	if !b.next.db.Exists(hostdb.Tags, tag) {
		mk.problem(zone, owner, "ALIAS: there is no tag %s", tag)
		return
	}
	doc := b.next.db.Data(hostdb.Tags, tag)
	if vip {
		addrs := vipsOf(&maker{}, doc, at.zone) // what is wrong with them is told of the tag itself
		if len(addrs) == 0 {
			mk.problem(zone, owner, "ALIAS: tag %s has no virtual IP", tag)
		}
		for _, a := range addrs {
			mk.record(at.zone, at.owner, rankSection, false, addressRecord(owner, ttl, a))
		}
		return
	}
	s, _ := serviceOf(doc)
	l := &live{tag: tag, owner: owner, service: service{near: s.near}, ttl: min(ttl, b.liveTTL(s))}
	mk.items = append(mk.items, item{at.zone, at.owner, &claim{source: mk.key, rank: rankLive, live: l, local: true, alias: true}})
	none := true
	for _, host := range b.next.db.Members(hostdb.Tags, tag) {
		doc := b.next.db.Data(hostdb.Hosts, host)
		if strings.EqualFold(doc.Text("Status"), "retired") {
			continue
		}
		addrs, _ := hostAddresses(doc)
		for _, a := range addrs {
			none = false
			mk.record(at.zone, at.owner, rankStead, false, addressRecord(owner, l.ttl, a))
		}
	}
	if none {
		mk.problem(zone, owner, "ALIAS: no member of tag %s has an address", tag)
	}
}

// sections are the tags whose DNS section must be read anew: of the changed ones those that feed a zone, and those whose
// records take addresses from a touched tag; or from any tag, with all. touched is sorted.
func (b *batch) sections(changed, touched []string, all bool) []string {
	var out []string
	for _, tag := range b.next.order {
		if slices.Contains(changed, tag) || slices.ContainsFunc(b.next.feeders[tag].aliases, func(t string) bool {
			_, ok := slices.BinarySearch(touched, t)
			return ok || all
		}) {
			out = append(out, tag)
		}
	}
	return out
}
