package dnsd

import (
	"github.com/miekg/dns"
)

// Transfers answers what concerns whole zones, and knows the keys that messages are signed with.
type Transfers interface {
	// TsigProvider checks and signs with the keys (RFC 8945). It is called before Serve; what it found is w.TsigStatus.
	dns.TsigProvider
	// Serve takes over a request whose type is AXFR or IXFR, whose opcode is NOTIFY, or that is signed, whatever it asks,
	// and writes all answers to it. plain makes the answer that the same request would get without a signature. Serve is
	// called on a goroutine that may take its time; it must not use w after it returned.
	Serve(w dns.ResponseWriter, req *dns.Msg, plain func() *dns.Msg)
}

// forTransfers reports whether a request is the business of Transfers.
func forTransfers(req *dns.Msg) bool {
	if req.Opcode == dns.OpcodeNotify || req.IsTsig() != nil {
		return true
	}
	if req.Opcode != dns.OpcodeQuery || len(req.Question) != 1 {
		return false
	}
	typ := req.Question[0].Qtype
	return typ == dns.TypeAXFR || typ == dns.TypeIXFR
}

// unsignable answers a signed request when there are no keys: no key is known (RFC 8945 section 5.2.1), and the error
// itself is not signed.
func unsignable(req *dns.Msg) *dns.Msg {
	m := failure(req, dns.RcodeNotAuth)
	t := *req.IsTsig()
	t.Hdr.Rrtype, t.Hdr.Class, t.Hdr.Ttl = dns.TypeTSIG, dns.ClassANY, 0
	t.MAC, t.MACSize, t.Error, t.OtherLen, t.OtherData = "", 0, dns.RcodeBadKey, 0, ""
	m.Extra = append(m.Extra, &t)
	return m
}
