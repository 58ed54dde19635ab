package transfer

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// policy is who may transfer a zone and who is told of its changes.
type policy struct {
	from   string           // the tags' documents that it was read from, by their ETags
	allow  [][]netip.Prefix // an address must be in each of the lists; none: nobody may
	notify []netip.AddrPort
	key    string // the name of a TSIG key in its canonical form; empty: none is needed
}

// policies are those of the zones that are served, read again when their tag changes.
type policies map[string]policy

// read reads the policy of a zone. Where several tags feed it, it is what all of them allow: who may write a tag could
// open the zones of others otherwise.
func (all policies) read(z *zone.Zones, origin string) policy {
	var from strings.Builder
	var docs []hostdb.Document
	for tag, item := range z.Feeders(origin) {
		from.WriteString(tag + " " + item.ETag(hostdb.Data) + "\n")
		docs = append(docs, item.Data())
	}
	p, ok := all[origin]
	if !ok || p.from != from.String() {
		p = policy{}
		for i, doc := range docs {
			if one := readPolicy(doc); i == 0 {
				p = one
			} else {
				p = p.and(one)
			}
		}
		p.from = from.String()
		all[origin] = p
	}
	return p
}

// and is the strictest of two policies: an address must be allowed by both, a key is needed that either needs, and nobody
// has two keys. Told are the secondaries of both.
func (p policy) and(o policy) policy {
	switch {
	case len(p.allow) == 0 || len(o.allow) == 0 || p.key != "" && o.key != "" && p.key != o.key:
		p.allow = nil
	default:
		p.allow = slices.Concat(p.allow, o.allow)
	}
	p.key = cmp.Or(p.key, o.key)
	p.notify = slices.Clone(p.notify)
	for _, to := range o.notify {
		if !slices.Contains(p.notify, to) {
			p.notify = append(p.notify, to)
		}
	}
	return p
}

// readPolicy reads the policy in a tag's document. Of what cannot be read nothing is allowed.
func readPolicy(doc hostdb.Document) policy {
	var p policy
	at := doc.At("DNS", "Transfer")
	if !at.Exists() || at.IsNull() {
		return p
	}
	facts, _ := section.TagOf(doc)
	if facts.DNS == nil {
		return p
	}
	t := facts.DNS.Transfer
	if len(t.Allow) > 0 {
		p.allow = [][]netip.Prefix{t.Allow}
	}
	for _, to := range t.Notify {
		if to.Port() == 0 {
			to = netip.AddrPortFrom(to.Addr(), 53)
		}
		if !slices.Contains(p.notify, to) {
			p.notify = append(p.notify, to)
		}
	}
	// As it is written, not as it was understood: a name that is wrong must not open the zone.
	if text := strings.TrimSpace(at.Text("Key")); text != "" {
		p.key = keyName(text)
	}
	if k := at.At("Key"); k.Exists() && !k.IsNull() && p.key == "" && (k.IsMapping() || k.Items() != nil) {
		p.allow = nil
	}
	return p
}

func (p policy) allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, list := range p.allow {
		if !slices.ContainsFunc(list, func(n netip.Prefix) bool { return n.Contains(addr) }) {
			return false
		}
	}
	return len(p.allow) > 0
}

// Rules by which a transfer is refused, as logs and metrics name them.
type rule string

const (
	ruleNoZone   rule = "no-zone"        // not a zone of ours
	ruleLive     rule = "live-names"     // it has live names, which are not the same everywhere
	ruleNobody   rule = "no-transfer"    // a section of it has no Transfer/Allow, or two have other keys
	ruleAddress  rule = "address"        // the asker is not in Transfer/Allow
	ruleUnsigned rule = "tsig-missing"   // Transfer/Key is set and the question is not signed
	ruleOtherKey rule = "tsig-other-key" // it is signed with a key of ours, which is not Transfer/Key
	ruleBadKey   rule = "tsig-bad-key"   // with one that we do not have
	ruleBadSig   rule = "tsig-bad-sig"   // with something that is not the key's
	ruleBadTime  rule = "tsig-bad-time"  // at a time too far from ours
	ruleUDP      rule = "axfr-over-udp"  // RFC 5936 section 4.2
	ruleBusy     rule = "too-many"       // more transfers than are served at a time
	ruleNotYet   rule = "not-ready"      // nothing is compiled yet
)

// says is what a rule tells the operator of the secondary.
var says = map[rule]string{
	ruleNoZone:   "no such zone here",
	ruleLive:     "the zone has live names and is not transferable",
	ruleNobody:   "a tag of the zone allows nobody: add DNS/Transfer/Allow, to all that feed it and with one key",
	ruleAddress:  "the address is not in DNS/Transfer/Allow of the zone's tag",
	ruleUnsigned: "the zone's tag asks for a TSIG key and the question has none",
	ruleOtherKey: "the question is signed with another key than DNS/Transfer/Key of the zone's tag",
	ruleBadKey:   "the TSIG key is not known here",
	ruleBadSig:   "the TSIG signature is wrong: the secrets or the algorithms differ",
	ruleBadTime:  "the TSIG signature is of another time: the clocks differ",
	ruleUDP:      "AXFR is over TCP alone",
	ruleBusy:     "too many transfers at a time: try again",
	ruleNotYet:   "no zones are compiled yet: try again",
}

// judge decides whether somebody may have a zone; signed is the name of the key that the question is proven to be signed
// with. An empty rule is yes.
func judge(z *zone.Zones, origin string, p policy, from netip.Addr, signed string) rule {
	info, ok := z.Info(origin)
	switch {
	case !ok:
		return ruleNoZone
	case !info.Transferable:
		return ruleLive
	case len(p.allow) == 0:
		return ruleNobody
	case !p.allows(from):
		return ruleAddress
	case p.key != "" && signed == "":
		return ruleUnsigned
	case p.key != "" && signed != p.key:
		return ruleOtherKey
	}
	return ""
}
