package dnsd

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
)

// What of a message's form (RFC 1035 section 4.1) plain questions need.
const (
	headerSize   = 12
	minPlain     = headerSize + 5 // the root, a type and a class
	maxLabel     = 63
	maxName      = 255 // in wire form
	classIN      = 1
	typeOPT      = 41
	optSize      = 11   // of an OPT record without options
	optCookie    = 10   // RFC 7873
	bitQR        = 0x80 // of the header's third octet
	bitRD        = 0x01
	bitsOdd      = 0xfa // the same: QR, an opcode, TC
	bitCD        = 0x10 // of its fourth
	bitDO        = 0x80 // of the third octet of OPT's time to live (RFC 3225)
	rcodeFormErr = 1

	rcodeServFail = 2
	rcodeNotImp   = 4
	plainTCP      = 4096 // bytes of an answer over TCP that is plain still
)

// reader answers plain questions out of packets. It belongs to one goroutine.
type reader struct {
	q    zone.Plain
	name [maxName]byte
	seed uint64
}

// said is what a plain question asked for and got: what is counted.
type said struct {
	zone  string
	typ   uint16
	rcode uint8
}

// answer writes the answer to a plain question into out, which must have room for udpSize, or plainTCP, and one record more.
// ok is false for everything that is not plain or not right: the whole of DNS must look at it. It does not allocate.
func (r *reader) answer(z *zone.Zones, in, out []byte, from netip.Addr, udp bool) (reply []byte, s said, ok bool) {
	if z == nil || len(in) < minPlain || in[2]&bitsOdd != 0 {
		return nil, s, false
	}
	additional := binary.BigEndian.Uint32(in[8:])
	if binary.BigEndian.Uint32(in[4:]) != 1<<16 || additional > 1 { // one question, no records, at most one OPT
		return nil, s, false
	}
	end := headerSize
	for in[end] != 0 {
		if in[end] > maxLabel {
			return nil, s, false
		}
		if end += 1 + int(in[end]); end+5 > len(in) {
			return nil, s, false
		}
	}
	end++
	size := end - headerSize
	if size > maxName {
		return nil, s, false
	}
	for i, c := range in[headerSize:end] { // octets of a label's length are below 'A'
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		r.name[i] = c
	}
	s.typ = binary.BigEndian.Uint16(in[end:])
	if binary.BigEndian.Uint16(in[end+2:]) != classIN {
		return nil, s, false
	}
	end += 4
	limit, do := minUDPSize, byte(0)
	if rest := in[end:]; additional == 1 {
		var asked int
		if asked, do, ok = plainOPT(rest); !ok {
			return nil, s, false
		}
		limit = min(max(limit, asked), udpSize)
	} else if len(rest) != 0 {
		return nil, s, false
	}
	if !udp {
		limit = plainTCP
	}
	out = append(out[:0], in[:end]...)
	out[2], out[3] = bitQR|in[2]&bitRD, in[3]&bitCD
	out[11] = 0
	r.seed = r.seed*6364136223846793005 + 1442695040888963407
	r.q.Name, r.q.Type, r.q.From, r.q.Random = r.name[:size], s.typ, from, uint32(r.seed>>33)
	r.q.Limit, r.q.Whole = limit-optSize*int(additional), !udp
	out, what, ok := z.AppendPlain(out, &r.q)
	if !ok {
		return nil, s, false
	}
	s.zone, s.rcode = what.Zone, uint8(what.Rcode)
	if additional == 1 {
		out = appendOPT(out, do)
		out[11] = 1
	}
	return out, s, true
}

// plainOPT reads an OPT record (RFC 6891 section 6.1.2) that a packet ends with. Of its options it knows the cookie, which
// we do not speak and pass over.
func plainOPT(b []byte) (size int, do byte, ok bool) {
	if len(b) < optSize || b[0] != 0 || b[1] != 0 || b[2] != typeOPT || b[6] != 0 {
		return 0, 0, false
	}
	size, do = int(binary.BigEndian.Uint16(b[3:])), b[7]&bitDO
	options := b[optSize:]
	if int(binary.BigEndian.Uint16(b[9:])) != len(options) {
		return 0, 0, false
	}
	for len(options) > 0 {
		if len(options) < 4 || binary.BigEndian.Uint16(options) != optCookie {
			return 0, 0, false
		}
		n := int(binary.BigEndian.Uint16(options[2:]))
		if n != 8 && (n < 16 || n > 40) || len(options) < 4+n {
			return 0, 0, false
		}
		options = options[4+n:]
	}
	return size, do, true
}

// cutOff reports whether a query ends within its question, which the library would complete with zeros.
func cutOff(b []byte) bool {
	if len(b) < headerSize || binary.BigEndian.Uint16(b[4:]) != 1 {
		return false // others see to that
	}
	at := headerSize
	for at < len(b) && b[at] != 0 {
		if b[at] > maxLabel { // a pointer, or nothing that is known
			at++
			break
		}
		at += 1 + int(b[at])
	}
	return at+5 > len(b)
}

// foreign reports whether a message is of an opcode that is not served, so that nothing is known of its form: all but QUERY
// and NOTIFY.
func foreign(wire []byte) bool {
	opcode := wire[2] >> 3 & 0xf
	return wire[2]&bitQR == 0 && opcode != dns.OpcodeQuery && opcode != dns.OpcodeNotify
}

// appendForeign appends the answer to such a message: its header alone, with OPT if it can be read and has one.
func appendForeign(out, wire []byte) []byte {
	at := len(out)
	out = appendRefusal(out, wire, rcodeNotImp)
	req := new(dns.Msg)
	if binary.BigEndian.Uint16(wire[10:]) == 0 || req.Unpack(wire) != nil {
		return out
	}
	if opt, n := edns(req); n > 0 {
		do := byte(0)
		if opt.Do() {
			do = bitDO
		}
		out = appendOPT(out, do)
		out[at+11] = 1
	}
	return out
}

func appendOPT(out []byte, do byte) []byte {
	return append(out, 0, 0, typeOPT, udpSize>>8, udpSize&0xff, 0, 0, do, 0, 0, 0)
}

// appendRefusal appends an answer to a message that cannot be read: its header alone.
func appendRefusal(out, wire []byte, rcode byte) []byte {
	return append(out, wire[0], wire[1], bitQR|wire[2]&(0x78|bitRD), rcode, 0, 0, 0, 0, 0, 0, 0, 0)
}
