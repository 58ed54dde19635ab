package zone

import (
	"net/netip"
	"slices"
	"unsafe"

	"github.com/miekg/dns"
)

const maxChain = 8 // aliases followed for one question

// Answer is what a question is answered with. The records are shared: they and the slices must not be changed.
type Answer struct {
	Zone          string // origin of the zone that the question lies in; empty when none is ours
	Rcode         int    // dns.RcodeRefused when no zone is ours
	Authoritative bool   // false for a referral
	Answer        []dns.RR
	Authority     []dns.RR
	Additional    []dns.RR
	// Near is how many of the addresses at the end of Answer may change places, because none of them is nearer than another.
	// 0: all may.
	Near int
}

// found is what one step of a search came to.
type found struct {
	zone     *zone
	node     *node // nil when the name does not exist
	cut      *node // the delegation that the name lies below, or is
	wildcard bool  // node is a wildcard's
}

// Lookup answers a question of class IN (RFC 1034 section 4.3.2) to somebody near this node. Case does not matter, and is
// kept. qname must be absolute.
func (z *Zones) Lookup(qname string, qtype uint16) Answer {
	return z.LookupFrom(qname, qtype, netip.Addr{})
}

// LookupFrom is Lookup for who asks from an address.
func (z *Zones) LookupFrom(qname string, qtype uint16, from netip.Addr) Answer {
	n, err := parseName(qname)
	if err != nil {
		return Answer{Rcode: dns.RcodeFormatError}
	}
	var a Answer
	r := z.find(n, qtype)
	if r.zone == nil {
		a.Rcode = dns.RcodeRefused
		return a
	}
	a.Zone, a.Authoritative = r.zone.text, r.cut == nil
	var seen [maxChain]name
	for i := range maxChain {
		seen[i] = n
		if r.cut != nil {
			if len(a.Answer) == 0 {
				z.refer(&a, r, from)
			}
			break
		}
		if r.node == nil {
			a.Rcode = dns.RcodeNameError
			a.Authority = r.zone.negative()
			break
		}
		target := z.take(&a, r, qname, n, qtype, from)
		if target == "" {
			break
		}
		if n, err = parseName(target); err != nil || slices.Contains(seen[:i+1], n) {
			break
		}
		if r = z.find(n, qtype); r.zone == nil {
			break // not ours to follow
		}
		qname = target
	}
	z.add(&a, from)
	return a
}

// find searches a name. A question for DS belongs to the side above a cut (RFC 4035 section 3.1.4.1).
func (z *Zones) find(n name, qtype uint16) found {
	zn := z.zones[n]
	if zn == nil || qtype == dns.TypeDS && z.deepest(n.parent()) != nil {
		zn = z.deepest(n.parent())
	}
	if zn == nil {
		return found{}
	}
	r := found{zone: zn}
	if zn.cuts > 0 {
		for at := n; at != zn.origin; at = at.parent() {
			if at == n && qtype == dns.TypeDS {
				continue
			}
			if nd, ok := zn.nodes.get(string(at)); ok && nd.set(dns.TypeNS) != nil {
				r.cut = nd // the highest one wins
			}
		}
	}
	if nd, ok := zn.nodes.get(string(n)); ok || n == zn.origin {
		if r.node = nd; nd == nil {
			r.node = bare // an apex without records: SOA only
		}
		return r
	}
	if zn.wild == 0 {
		return r
	}
	for at := n.parent(); ; at = at.parent() {
		if _, ok := zn.nodes.get(string(at)); ok || at == zn.origin { // the closest encloser, RFC 4592 section 3.3.1
			var buf [258]byte // a name that was put together would be a piece of memory
			star := append(append(buf[:0], "\x01*"...), at...)
			if nd, ok := zn.nodes.get(unsafe.String(&star[0], len(star))); ok {
				r.node, r.wildcard = nd, true
			}
			return r
		}
	}
}

// bare is a name without data.
var bare = &node{}

// take answers from a node that exists, and returns where an alias leads.
func (z *Zones) take(a *Answer, r found, qname string, n name, qtype uint16, from netip.Addr) (target string) {
	var buf [1]rrset
	sets := r.node.sets(&buf)
	l, srv := r.node.live()
	if alias := r.node.alias(); alias != nil && (isAddress(qtype) || qtype == dns.TypeANY && len(alias.answerTo(z, from).sets) > 0) {
		l = alias
	}
	if l != nil {
		now := l.answerTo(z, from)
		if sets = now.sets; srv {
			sets = now.srv
		}
		if isAddress(qtype) {
			a.Near = now.near[qtype&1]
		} else if qtype == dns.TypeANY && len(sets) > 0 && isAddress(sets[0].typ) {
			a.Near = now.near[sets[0].typ&1]
		}
	}
	if n == r.zone.origin && qtype == dns.TypeSOA {
		a.Answer = append(a.Answer, r.zone.soa)
		return ""
	}
	for i := range sets {
		s := &sets[i]
		if s.typ != qtype && s.typ != dns.TypeCNAME && qtype != dns.TypeANY {
			continue
		}
		before := len(a.Answer)
		a.Answer = append(a.Answer, s.rrs...)        // for ANY the first set will do (RFC 8482 section 4.1)
		if a.Answer[before].Header().Name != qname { // a wildcard's, or asked in another case
			for j, rr := range a.Answer[before:] {
				rr = dns.Copy(rr)
				rr.Header().Name = dns.Fqdn(qname)
				a.Answer[before+j] = rr
			}
		}
		if s.typ == dns.TypeCNAME && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
			return s.rrs[0].(*dns.CNAME).Target
		}
		return ""
	}
	a.Authority = r.zone.negative()
	return ""
}

// negative is the SOA of a negative answer (RFC 2308 section 3).
func (zn *zone) negative() []dns.RR {
	soa := *zn.soa
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return []dns.RR{&soa}
}

// refer points to the servers of a delegated zone, with their addresses where we have them.
func (z *Zones) refer(a *Answer, r found, from netip.Addr) {
	a.Authority = r.cut.set(dns.TypeNS)
	for _, rr := range a.Authority {
		if n, err := parseName(rr.(*dns.NS).Ns); err == nil {
			z.glue(a, r.zone, n, from)
		}
	}
}

// glue adds the addresses of a name, those of names below a cut in zn too. Of an ALIAS, and of a live name, they are those of
// the members that are answered, as many as have room among what comes along.
func (z *Zones) glue(a *Answer, zn *zone, n name, from netip.Addr) {
	nd := (*node)(nil)
	if n.within(zn.origin) {
		nd, _ = zn.nodes.get(string(n))
	}
	if nd == nil {
		r := z.find(n, 0)
		if r.zone == nil || r.node == nil || r.wildcard || r.cut != nil {
			return
		}
		nd = r.node
	}
	l, srv := nd.live()
	if alias := nd.alias(); alias != nil {
		l, srv = alias, false
	}
	switch {
	case l == nil:
		a.Additional = append(append(a.Additional, nd.set(dns.TypeA)...), nd.set(dns.TypeAAAA)...)
	case !srv:
		for _, set := range l.answerTo(z, from).sets {
			if room := maxAdditional - len(a.Additional); isAddress(set.typ) && room > 0 {
				a.Additional = append(a.Additional, set.rrs[:min(room, len(set.rrs))]...)
			}
		}
	}
}

const maxAdditional = 32 // records that save a client further questions, at most

// add completes an answer with the addresses of the names it points at.
func (z *Zones) add(a *Answer, from netip.Addr) {
	for _, rr := range a.Answer {
		if typ := rr.Header().Rrtype; typ == dns.TypeCNAME || len(a.Additional) >= maxAdditional {
			continue
		}
		target, addresses := targetOf(rr)
		if !addresses {
			continue
		}
		n, err := parseName(target)
		if err != nil {
			continue
		}
		if zn := z.deepest(n); zn != nil {
			z.glue(a, zn, n, from)
		}
	}
}
