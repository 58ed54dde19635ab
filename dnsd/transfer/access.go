package transfer

import (
	"net/netip"
	"slices"
	"strings"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// policy is who may transfer a zone and who is told of its changes.
type policy struct {
	tag    string
	etag   string // of the tag's document that it was read from
	allow  []netip.Prefix
	notify []netip.AddrPort
	key    string // the name of a TSIG key in its canonical form; empty: none is needed
}

// policies are those of the zones that are served, read again when their tag changes.
type policies map[string]policy

// read reads the policy of a zone: that of the tag which gives it its SOA.
func (all policies) read(z *zone.Zones, origin string) policy {
	tag, item := z.Owner(origin)
	etag := item.ETag(hostdb.Data)
	p, ok := all[origin]
	if !ok || p.tag != tag || p.etag != etag {
		p = readPolicy(item.Data())
		p.tag, p.etag = tag, etag
		all[origin] = p
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
	p.allow = t.Allow
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
	return slices.ContainsFunc(p.allow, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// Rules by which a transfer is refused, as logs and metrics name them.
type rule string

const (
	ruleNoZone   rule = "no-zone"        // not a zone of ours
	ruleLive     rule = "live-names"     // it has live names, which are not the same everywhere
	ruleNobody   rule = "no-transfer"    // its section has no Transfer/Allow
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
	ruleNobody:   "the zone's tag allows nobody: add DNS/Transfer/Allow",
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
