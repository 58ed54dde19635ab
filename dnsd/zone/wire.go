package zone

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/miekg/dns"
)

// Plain is a question of class IN that AppendPlain may answer.
type Plain struct {
	Name   []byte     // in wire form, uncompressed and in lower case
	Type   uint16     //
	From   netip.Addr // who asks; the zero Addr is somebody near this node
	Limit  int        // bytes that the message may have
	Whole  bool       // no truncation: what does not fit is not plain
	Random uint32     // where sets of addresses begin

	target [256]byte // a name that an alias leads to
	packer packer
}

// Said is what a plain question was answered with.
type Said struct {
	Zone  string // origin of the zone that the question lies in; empty when none is ours
	Rcode int
}

// The bits of a header's third and fourth octets that AppendPlain sets (RFC 1035 section 4.1.1).
const (
	bitAuthoritative = 0x04
	bitTruncated     = 0x02

	headerSize = 12
	typeA      = 1
)

// AppendPlain answers a plain question in wire form, as Lookup does, without allocation or lock. msg is the message so far, a
// header and the question as it was asked; the counts and flags of the header are set, and records appended. ok is false
// for what is not plain: a type that has records of other names with it, a referral, an answer beyond Limit. The rest of
// msg is then void.
func (z *Zones) AppendPlain(msg []byte, q *Plain) (out []byte, said Said, ok bool) {
	if !plainType(q.Type) {
		return msg, said, false
	}
	n := name(unsafe.String(unsafe.SliceData(q.Name), len(q.Name)))                // nothing below keeps it
	if zn := z.zoneOf(n); zn != nil && (zn.cuts == 0 || n.parent() == zn.origin) { // else a delegation may be above it
		if a := zn.nodes.quick(string(n)); a != 0 {
			return a.answer(msg, q, zn)
		}
	}
	r := z.find(n, q.Type)
	switch {
	case r.zone == nil:
		said.Rcode = dns.RcodeRefused
		msg[3] |= byte(said.Rcode)
		return msg, said, true
	case r.cut != nil:
		return msg, said, false
	}
	said.Zone = r.zone.text
	msg[2] |= bitAuthoritative
	w := wireAnswer{b: msg, at: headerSize, q: q}
	if r.node != nil {
		if target := z.wire(&w, r, n); target != "" {
			r = z.follow(&w, target)
		}
	}
	if !w.odd && r.zone != nil && r.node == nil && r.cut == nil {
		said.Rcode = dns.RcodeNameError
		w.b[3] |= byte(said.Rcode)
		w.negative(r.zone, len(r.zone.origin))
	}
	if w.odd || len(w.b) > q.Limit {
		return msg, said, false
	}
	binary.BigEndian.PutUint16(w.b[6:], uint16(w.answers))
	binary.BigEndian.PutUint16(w.b[8:], uint16(w.authority))
	return w.b, said, true
}

// answer answers a name that has nothing but an A.
func (a quick) answer(msg []byte, q *Plain, zn *zone) ([]byte, Said, bool) {
	said := Said{Zone: zn.text}
	msg[2] |= bitAuthoritative
	if q.Type != dns.TypeA {
		w := wireAnswer{b: msg, at: headerSize, q: q}
		w.nothing(zn)
		msg[9] = 1
		return w.b, said, !w.odd
	}
	msg[7] = 1
	msg = append(msg, 0xc0, headerSize, 0, byte(typeA), 0, dns.ClassINET, byte(a>>56)&0x7f, byte(a>>48), byte(a>>40), byte(a>>32), 0, 4,
		byte(a>>24), byte(a>>16), byte(a>>8), byte(a))
	return msg, said, len(msg) <= q.Limit
}

// zoneOf is the zone that has a name of its own; DS is another matter, see find.
func (z *Zones) zoneOf(n name) *zone {
	if zn := z.zones[n]; zn != nil {
		return zn
	}
	return z.deepest(n.parent())
}

// plainType reports whether answers to a type can be plain: nothing is known of types that are not here.
func plainType(t uint16) bool {
	switch t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypePTR, dns.TypeTXT, dns.TypeSOA, dns.TypeCAA, dns.TypeHTTPS, dns.TypeSVCB,
		dns.TypeNAPTR, dns.TypeSSHFP, dns.TypeTLSA, dns.TypeHINFO, dns.TypeLOC, dns.TypeURI, dns.TypeSPF, dns.TypeMX, dns.TypeSRV, dns.TypeNS:
		return true
	}
	return false
}

// wireAnswer is an answer in the making.
type wireAnswer struct {
	b                  []byte
	at                 int // where the name stands that is looked for now
	q                  *Plain
	answers, authority int
	odd                bool // it is not plain after all
}

// follow goes where an alias leads, as Lookup does. It returns where the search ended: nowhere when all is said.
func (z *Zones) follow(w *wireAnswer, target string) found {
	var names [maxChain]int
	names[0] = headerSize
	for i := 1; i < maxChain && target != "" && !w.odd; i++ {
		for _, before := range names[:i] {
			if sameName(w.b[before:], w.b[w.at:]) {
				return found{}
			}
		}
		names[i] = w.at
		n := lowerName(&w.q.target, w.b[w.at:])
		r := z.find(n, w.q.Type)
		if r.zone == nil || r.cut != nil {
			return found{}
		}
		if r.node == nil {
			return r
		}
		target = z.wire(w, r, n)
	}
	return found{}
}

// lowerName copies an uncompressed name into buf, in lower case. Octets of a label's length are below 'A'.
func lowerName(buf *[256]byte, b []byte) name {
	n := nameSize(b)
	for i, c := range b[:n] {
		buf[i] = lower(c)
	}
	return name(unsafe.String(&buf[0], n))
}

// nameSize is the size of the uncompressed name that b begins with.
func nameSize(b []byte) int {
	at := 0
	for b[at] != 0 {
		at += 1 + int(b[at])
	}
	return at + 1
}

// sameName compares the uncompressed names that a and b begin with, without their case.
func sameName(a, b []byte) bool {
	n := nameSize(a)
	if nameSize(b) != n {
		return false
	}
	for i := range n {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// wire appends what a node that exists says, and returns where an alias leads; w.at is then the place of that name.
func (z *Zones) wire(w *wireAnswer, r found, n name) (target string) {
	if w.q.Type == dns.TypeSOA && n == r.zone.origin {
		w.record(r.zone.soaWire, r.zone.soa.Hdr.Ttl)
		w.answers++
		return ""
	}
	if l, srv := r.node.live(); l != nil {
		z.wireLive(w, r.zone, l, srv)
		return ""
	}
	if l := r.node.alias(); l != nil && isAddress(w.q.Type) {
		z.wireLive(w, r.zone, l, false)
		return ""
	}
	var buf [1]rrset
	sets := r.node.sets(&buf)
	for i := range sets {
		s := &sets[i]
		switch {
		case s.typ == dns.TypeCNAME && w.q.Type != dns.TypeCNAME:
			target = s.rrs[0].(*dns.CNAME).Target
			w.named(s.rrs[0].Header(), target)
			return target
		case s.typ != w.q.Type:
			continue
		case s.typ == dns.TypeA || s.typ == dns.TypeAAAA:
			if packed := r.node.packed(s.typ); packed != "" {
				w.packed(packed, addressSize(s.typ), 0)
			} else {
				w.addresses(s)
			}
		default:
			w.others(s, r.wildcard)
		}
		return ""
	}
	w.nothing(r.zone)
	return ""
}

// wireLive appends what a live name says.
func (z *Zones) wireLive(w *wireAnswer, zn *zone, l *live, srv bool) {
	a := l.answerTo(z, w.q.From)
	switch typ := w.q.Type; {
	case (typ == dns.TypeA || typ == dns.TypeAAAA) && !srv && a.packed[typ&1] != "": // A is 1 and AAAA 28
		w.packed(a.packed[typ&1], addressSize(typ), a.near[typ&1])
	case typ == dns.TypeSRV && len(a.srvOf(srv)) > 0:
		w.odd = true // the addresses of its targets come along
	default:
		w.nothing(zn)
	}
}

// nothing says that the name has no such type.
func (w *wireAnswer) nothing(zn *zone) { w.negative(zn, len(zn.origin)) }

// negative appends the SOA of a negative answer (RFC 2308 section 3). Its owner is the end of the name that was looked for.
func (w *wireAnswer) negative(zn *zone, origin int) {
	at := w.at
	w.at += nameSize(w.b[at:]) - origin
	w.record(zn.soaWire, min(zn.soa.Hdr.Ttl, zn.soa.Minttl))
	w.at = at
	w.authority++
}

// record appends a record without its owner, with another time to live.
func (w *wireAnswer) record(rest string, ttl uint32) {
	if len(w.b)+2+len(rest) > w.q.Limit || rest == "" {
		w.odd = true
		return
	}
	w.owner()
	w.b = append(w.b, rest...)
	binary.BigEndian.PutUint32(w.b[len(w.b)-len(rest)+4:], ttl)
}

// owner points to the name that is looked for.
func (w *wireAnswer) owner() { w.b = append(w.b, 0xc0|byte(w.at>>8), byte(w.at)) }

// head appends an owner, and what stands before a record's data. The size of the data is 0 for now.
func (w *wireAnswer) head(h *dns.RR_Header) {
	w.b = append(w.b, 0xc0|byte(w.at>>8), byte(w.at), byte(h.Rrtype>>8), byte(h.Rrtype), 0, dns.ClassINET,
		byte(h.Ttl>>24), byte(h.Ttl>>16), byte(h.Ttl>>8), byte(h.Ttl), 0, 0)
}

// named appends a record whose data is a name, and makes it the name that is looked for.
func (w *wireAnswer) named(h *dns.RR_Header, text string) {
	if len(w.b)+headerSize+len(text)+2 > w.q.Limit {
		w.odd = true
		return
	}
	w.head(h)
	start := len(w.b)
	var ok bool
	if w.b, ok = appendName(w.b, text); !ok {
		w.odd = true
		return
	}
	binary.BigEndian.PutUint16(w.b[start-2:], uint16(len(w.b)-start))
	w.at = start
	w.answers++
}

// appendName appends an absolute name. It does not know escapes.
func appendName(b []byte, text string) ([]byte, bool) {
	if text == "." {
		return append(b, 0), true
	}
	start := len(b)
	b = append(b, 0)
	for i := range len(text) {
		switch c := text[i]; c {
		case '\\':
			return b, false
		case '.':
			b[start] = byte(len(b) - start - 1)
			start = len(b)
			b = append(b, 0)
		default:
			b = append(b, c)
		}
	}
	return b, start == len(b)-1 // it ended in a dot
}

// addressSize is the size of an address record with a pointer for its owner.
func addressSize(typ uint16) int {
	if typ == dns.TypeA {
		return headerSize + 4
	}
	return headerSize + 16
}

// room is how many of n records of a size fit. Where that is not all, the answer is truncated, if it may be.
func (w *wireAnswer) room(n, size int) int {
	fit := (w.q.Limit - len(w.b)) / size
	if n <= fit {
		return n
	}
	if w.q.Whole || w.answers > 0 || fit < 0 {
		w.odd = true
		return 0
	}
	w.b[2] |= bitTruncated
	return fit
}

// addresses appends a set of addresses, which begins anywhere.
func (w *wireAnswer) addresses(s *rrset) {
	all := len(s.rrs)
	n, from := w.room(all, addressSize(s.typ)), 0
	if all > 1 {
		from = int(w.q.Random % uint32(all))
	}
	for i := range n {
		rr := s.rrs[(from+i)%all]
		w.head(rr.Header())
		var ip []byte
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA.To16()
		}
		w.b[len(w.b)-1] = byte(len(ip))
		w.b = append(w.b, ip...)
	}
	w.answers += n
}

// packed appends a set of addresses that is there in wire form. Of them the first near may change places with each other,
// all if near is 0; the rest keeps its order.
func (w *wireAnswer) packed(set string, size, near int) {
	all := len(set) / size
	n := w.room(all, size)
	if near == 0 {
		near = all
	}
	from := int(w.q.Random%uint32(near)) * size
	start, bytes := len(w.b), n*size
	for _, part := range [...]string{set[from : near*size], set[:from], set[near*size:]} {
		part = part[:min(len(part), bytes-(len(w.b)-start))]
		w.b = append(w.b, part...)
	}
	if w.at != headerSize {
		for i := start; i < len(w.b); i += size {
			w.b[i], w.b[i+1] = 0xc0|byte(w.at>>8), byte(w.at)
		}
	}
	w.answers += n
}

// others appends a set of any other type.
func (w *wireAnswer) others(s *rrset, wildcard bool) {
	switch s.typ {
	case dns.TypePTR, dns.TypeCNAME:
		if s.typ == dns.TypeCNAME || len(s.rrs) == 1 {
			target := ""
			switch rr := s.rrs[0].(type) {
			case *dns.PTR:
				target = rr.Ptr
			case *dns.CNAME:
				target = rr.Target
			}
			w.named(s.rrs[0].Header(), target)
			return
		}
	case dns.TypeMX, dns.TypeSRV, dns.TypeNS:
		w.odd = true // the addresses of its targets come along
		return
	}
	if wildcard {
		w.odd = true
		return
	}
	for _, rr := range s.rrs {
		if !w.whole(rr) {
			w.odd = true
			return
		}
		w.answers++
	}
}

// whole appends a record with its owner in full. What packs it puts a header before it: that comes to stand over the end of
// what is there, which is put back.
func (w *wireAnswer) whole(rr dns.RR) bool {
	at := len(w.b) - headerSize
	var end [headerSize]byte
	copy(end[:], w.b[at:])
	room := w.b[at:cap(w.b)]
	wire, err := w.q.packer.pack(rr, room)
	copy(w.b[at:], end[:])
	if err != nil || unsafe.SliceData(wire) != unsafe.SliceData(room) { // no room, most likely
		return false
	}
	w.b = w.b[:at+len(wire)]
	return len(w.b) <= w.q.Limit
}

// pack is a set of addresses in wire form, each with a pointer to the question for its owner.
func pack(rrs []dns.RR) string {
	if len(rrs) == 0 {
		return ""
	}
	w := wireAnswer{b: make([]byte, 0, len(rrs)*addressSize(rrs[0].Header().Rrtype)), at: headerSize, q: &Plain{Limit: 1 << 30}}
	w.addresses(&rrset{typ: rrs[0].Header().Rrtype, rrs: rrs})
	return string(w.b)
}

// restOf is a record in wire form without its owner; "" for one that has none.
func restOf(rr dns.RR) string {
	wire, err := Wire(rr)
	if err != nil {
		return ""
	}
	return string(wire[nameSize(wire):])
}
