package zone

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// maker collects what one key contributes.
type maker struct {
	contribution
	key    string
	hasher *hasher
}

func (mk *maker) problem(zone, owner, format string, args ...any) {
	mk.problems = append(mk.problems, Problem{Zone: zone, Key: mk.key, Name: owner, Reason: fmt.Sprintf(format, args...)})
}

// record adds a record; owner is that of rr.
func (mk *maker) record(zone, owner name, r rank, local bool, rr dns.RR) {
	if err := mk.hasher.check(rr); err != nil {
		mk.problem(zone.String(), owner.String(), "%s: it cannot be put into a message: %v", dns.TypeToString[rr.Header().Rrtype], err)
		return
	}
	mk.items = append(mk.items, item{zone, owner, &claim{source: mk.key, rank: r, one: [1]dns.RR{rr}, local: local}})
}

func header(owner string, typ uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: typ, Class: dns.ClassINET, Ttl: ttl}
}

func addressRecord(owner string, ttl uint32, a netip.Addr) dns.RR {
	if a.Is4() {
		rr := &struct { // one piece of memory, for there are many
			dns.A
			ip [4]byte
		}{dns.A{Hdr: header(owner, dns.TypeA, ttl)}, a.As4()}
		rr.A.A = rr.ip[:]
		return &rr.A
	}
	rr := &struct {
		dns.AAAA
		ip [16]byte
	}{dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl)}, a.As16()}
	rr.AAAA.AAAA = rr.ip[:]
	return &rr.AAAA
}

// hostAddresses are Network/IP and Network/IPv6; bad are the texts that are no addresses.
func hostAddresses(doc hostdb.Document) (addrs []netip.Addr, bad []string) {
	for _, field := range [...]string{"IP", "IPv6"} {
		for _, text := range texts(doc.At("Network", field)) {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" || a.IsUnspecified() {
				bad = append(bad, text)
				continue
			}
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, bad
}

// hostName is Network/FQDN, or the key.
func hostName(doc hostdb.Document, key string) string {
	if fqdn := strings.TrimSpace(doc.Text("Network", "FQDN")); fqdn != "" {
		key = fqdn
	}
	return strings.ToLower(strings.TrimSuffix(key, "."))
}

// host is what a host contributes to the zones of its tags.
func (b *batch) host(host string, feeders []*feeder) contribution {
	mk := &maker{key: hostdb.Hosts + "/" + host, hasher: &b.hasher}
	if len(feeders) == 0 || !b.next.db.Exists(hostdb.Hosts, host) {
		return mk.contribution
	}
	doc := b.next.db.Data(hostdb.Hosts, host)
	text := hostName(doc, host)
	if err := checkHost(text); err != nil {
		mk.problem(feeders[0].origin.String(), "", "%q cannot be a host's name in DNS (RFC 1123): %v", text, err)
		return mk.contribution
	}
	addrs, bad := hostAddresses(doc)
	for _, a := range bad {
		mk.problem(feeders[0].origin.String(), text+".", "%q is not an address", a)
	}
	h := hostMaker{maker: mk, batch: b, feeders: feeders}
	canonical := h.forward(text, addrs)
	for _, a := range addrs {
		h.pointer(a, canonical)
	}
	for _, alias := range texts(doc.At("Network", "cname")) {
		h.alias(strings.ToLower(alias), canonical)
	}
	return mk.contribution
}

type hostMaker struct {
	*maker
	*batch
	feeders []*feeder
}

// forward adds the addresses in each zone that the name lies in, and returns the host's name.
func (h *hostMaker) forward(text string, addrs []netip.Addr) string {
	canonical := ""
	for _, p := range h.places(text) {
		own := p.owner.String() // once: the records share it
		if canonical == "" {
			canonical = own
		}
		for _, a := range addrs {
			h.record(p.zone, p.owner, rankAddress, false, addressRecord(own, p.ttl, a))
		}
	}
	if canonical == "" && strings.Contains(text, ".") {
		canonical = text + "."
	}
	return canonical
}

// fedPlace is a name in a zone that one of the host's tags feeds.
type fedPlace struct {
	zone, owner name
	ttl         uint32
}

// places are where a name of the host stands: in each fed zone if it has no dot, else in the one that it lies in.
func (h *hostMaker) places(text string) []fedPlace {
	relative := !strings.Contains(text, ".")
	var out []fedPlace
	seen := map[place]bool{}
	for _, f := range h.feeders {
		if f.origin == "" {
			continue
		}
		full := text
		if relative {
			full = text + "." + f.origin.String()
		}
		owner, err := parseName(full)
		if err != nil {
			h.problem(f.origin.String(), "", "%q is too long to be a name in DNS", full)
			continue
		}
		if !owner.within(f.origin) || seen[place{f.origin, owner}] {
			continue
		}
		if zn := h.next.deepest(owner); zn.origin != f.origin {
			h.notFed(zn, owner)
			continue
		}
		seen[place{f.origin, owner}] = true
		out = append(out, fedPlace{f.origin, owner, f.ttl})
	}
	return out
}

// notFed names a record that belongs to a zone which none of the host's tags feeds.
func (h *hostMaker) notFed(zn *zone, owner name) {
	for _, f := range h.feeders {
		for _, o := range f.zones() {
			if o == zn.origin {
				return
			}
		}
	}
	h.problem(zn.text, owner.String(), "it belongs to a zone that none of the host's tags feeds: make the host a member of %s", zn.owner())
}

// pointer adds the PTR of an address that lies in a Reverse of one of the host's tags.
func (h *hostMaker) pointer(a netip.Addr, canonical string) {
	if canonical == "" {
		return
	}
	owner, err := ptrName(a)
	if err != nil {
		return
	}
	deepest := h.next.deepest(owner)
	for _, f := range h.feeders {
		for _, r := range f.reverse {
			if !r.prefix.Contains(a) {
				continue
			}
			if deepest.origin != r.zone {
				h.notFed(deepest, owner)
				continue
			}
			h.record(r.zone, owner, rankAddress, false, &dns.PTR{Hdr: header(owner.String(), dns.TypePTR, f.ttl), Ptr: canonical})
			return
		}
	}
}

// alias adds a name of Network/cname.
func (h *hostMaker) alias(text, canonical string) {
	text = strings.TrimSuffix(text, ".")
	if err := checkLive(strings.TrimPrefix(text, "*.")); err != nil {
		h.problem(h.feeders[0].origin.String(), "", "the alias %q is not a name in DNS: %v", text, err)
		return
	}
	if canonical == "" {
		return
	}
	places := h.places(text)
	for _, p := range places {
		if own := p.owner.String(); own != canonical {
			h.record(p.zone, p.owner, rankAlias, false, &dns.CNAME{Hdr: header(own, dns.TypeCNAME, p.ttl), Target: canonical})
		}
	}
	if n, err := parseName(text); len(places) == 0 && err == nil && strings.Contains(text, ".") && h.next.deepest(n) == nil {
		h.problem("", text+".", "the alias lies in no zone that is served here")
	}
}
