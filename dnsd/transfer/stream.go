package transfer

import (
	"iter"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
)

// messageSize bounds the records of one message of a transfer, in bytes before compression: names are compressed only
// within the first 16 KiB of a message.
const messageSize = 16_000

// fullZone is a zone in the order of AXFR (RFC 5936 section 2.2).
func fullZone(z *zone.Zones, origin string) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		soa := z.SOA(origin)
		if !yield(soa) {
			return
		}
		for rr := range z.Records(origin) {
			if !yield(rr) {
				return
			}
		}
		yield(soa)
	}
}

// incremental is a difference in the order of IXFR (RFC 1995 section 4).
func incremental(from, to *dns.SOA, removed, added []dns.RR) []dns.RR {
	out := make([]dns.RR, 0, len(removed)+len(added)+4)
	out = append(append(out, to, from), removed...)
	return append(append(append(out, to), added...), to)
}

// messages divides the records of a transfer into the messages that answer req. Each begins with the header of an answer;
// the first has the question (RFC 5936 section 2.2).
func messages(req *dns.Msg, records iter.Seq[dns.RR]) iter.Seq[*dns.Msg] {
	return func(yield func(*dns.Msg) bool) {
		m, size := reply(req), 0
		for rr := range records {
			n := dns.Len(rr)
			if size > 0 && size+n > messageSize {
				if !yield(m) {
					return
				}
				m, size = reply(req), 0
				m.Question = nil
			}
			m.Answer = append(m.Answer, rr)
			size += n
		}
		yield(m)
	}
}

// reply is an empty answer to req.
func reply(req *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(req)
	m.Authoritative, m.Compress = true, true
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, opt.Do())
	}
	return m
}
