package dnsd

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize    = 1232 // of questions and answers; DNS flag day 2020: fits every path without fragments
	minUDPSize = 512  // RFC 1035 section 4.2.1
	mostUDP    = 128  // answers that can fit into udpSize, and some more
	mostTCP    = 4096 // answers that can fit into 64 KiB
)

// serve answers one query that came at a time.
func (s *Server) serve(w dns.ResponseWriter, req *dns.Msg, came time.Time) {
	_, udp := w.LocalAddr().(*net.UDPAddr)
	if t := s.cfg.Transfers; t != nil && forTransfers(req) {
		s.transfer(t, w, req, udp)
		return
	}
	m, zone := s.respond(req, addrOf(w.RemoteAddr()), udp)
	if err := w.WriteMsg(m); err != nil {
		s.logUnsent(w.RemoteAddr(), err)
	}
	s.count(w, m, zone, udp, came)
}

// count notes an answer.
func (s *Server) count(w dns.ResponseWriter, reply *dns.Msg, zone string, udp bool, came time.Time) {
	what := said{zone: zone, rcode: uint8(reply.Rcode)}
	if len(reply.Question) == 1 {
		if what.typ = reply.Question[0].Qtype; dns.TypeToString[what.typ] == "" {
			what.typ = typeOther // else a client could make us count without end
		}
	}
	if udp { // its socket noted who asks
		s.slowTally.answered(what, netip.Addr{}, time.Since(came))
	} else {
		s.tcpTally.answered(what, addrOf(w.RemoteAddr()), time.Since(came))
	}
}

func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// logUnsent notes an answer that could not be sent.
func (s *Server) logUnsent(to net.Addr, err error) {
	s.cfg.Logger.Debug("dns answer not sent", slog.String("to", to.String()), slog.Any("error", err))
}

// transfer lets t answer.
func (s *Server) transfer(t Transfers, w dns.ResponseWriter, req *dns.Msg, udp bool) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked("transfer a zone", fmt.Sprint(req.Question), p)
		}
	}()
	t.Serve(w, req, func() *dns.Msg {
		m, _ := s.respond(unsigned(req), addrOf(w.RemoteAddr()), udp)
		return m
	})
}

// unsigned is a request without its signature.
func unsigned(req *dns.Msg) *dns.Msg {
	if req.IsTsig() == nil {
		return req
	}
	c := *req
	c.Extra = c.Extra[:len(c.Extra)-1] // it is the last record (RFC 8945 section 5.1)
	return &c
}

// respond makes the answer to a message that could be parsed, and names the zone it came from. It never panics.
func (s *Server) respond(req *dns.Msg, from netip.Addr, udp bool) (m *dns.Msg, zone string) {
	m = new(dns.Msg)
	defer func() {
		if p := recover(); p != nil {
			s.panicked("answer a question", fmt.Sprint(req.Question), p)
			m = failure(req, dns.RcodeServerFailure)
		}
	}()
	if req.IsTsig() != nil {
		return unsignable(req), ""
	}
	if req.Opcode != dns.OpcodeQuery {
		return failure(req, dns.RcodeNotImplemented), ""
	}
	if len(req.Question) != 1 {
		return failure(req, dns.RcodeFormatError), ""
	}
	opt, n := edns(req)
	if n > 1 || n == 1 && opt.Hdr.Name != "." { // RFC 6891 sections 6.1.1 and 6.1.2
		return failure(req, dns.RcodeFormatError), ""
	}
	m.SetReply(req)
	m.Compress = true
	limit := minUDPSize
	if opt != nil {
		m.SetEdns0(udpSize, opt.Do())
		limit = min(max(limit, int(opt.UDPSize())), udpSize)
	}
	if opt != nil && opt.Version() != 0 { // no option of a version that we do not know is looked at
		m.Rcode = dns.RcodeBadVers
		return m, ""
	}
	if opt != nil && s.cfg.Hostname != "" {
		s.identify(m.IsEdns0(), opt)
	}
	zone = s.answer(m, from)
	if udp {
		m.Answer = m.Answer[:min(len(m.Answer), mostUDP)]
		truncate(m, limit)
		return m, zone
	}
	// What does not fit even here is a live name of thousands of members: a part of them, another one each time, is of
	// more use than a flag that sends the client nowhere.
	m.Answer = m.Answer[:min(len(m.Answer), mostTCP)]
	m.Truncate(dns.MaxMsgSize)
	m.Truncated = false
	return m, zone
}

// identify tells who answers, if the client asks for it (RFC 5001 section 2.1).
func (s *Server) identify(reply, asked *dns.OPT) {
	for _, o := range asked.Option {
		if o.Option() == dns.EDNS0NSID {
			reply.Option = append(reply.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: hex.EncodeToString([]byte(s.cfg.Hostname))})
			return
		}
	}
}

// truncate makes an answer fit. Records that come along with an authoritative answer are left out without a word, for
// nobody needs to ask again for them (RFC 2181 section 9); the addresses of a delegation's servers are not such.
func truncate(m *dns.Msg, limit int) {
	all := len(m.Extra)
	if !m.Authoritative || all == 0 || m.Len() <= limit {
		m.Truncate(limit)
		return
	}
	extra := m.Extra
	m.Extra = slices.DeleteFunc(slices.Clone(extra), func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	if m.Len() > limit {
		m.Truncate(limit)
		return
	}
	for _, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		if m.Extra = append(m.Extra, rr); m.Len() > limit {
			m.Extra = m.Extra[:len(m.Extra)-1]
			return
		}
	}
}

// failure is an answer with a code alone, and with OPT if the question has it (RFC 6891 section 6.1.1).
func failure(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(req, rcode)
	if opt, n := edns(req); n > 0 {
		m.SetEdns0(udpSize, opt.Do())
	}
	return m
}

// edns is the OPT record of a message, and how many it has.
func edns(req *dns.Msg) (opt *dns.OPT, n int) {
	for _, rr := range req.Extra {
		if o, ok := rr.(*dns.OPT); ok {
			opt, n = o, n+1
		}
	}
	return opt, n
}

// answer fills in what the question of m asks for.
func (s *Server) answer(m *dns.Msg, from netip.Addr) (zone string) {
	q := m.Question[0]
	switch {
	case q.Qclass == dns.ClassCHAOS:
		s.chaos(m, q)
		return ""
	case q.Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
		return ""
	}
	switch q.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
		return ""
	case dns.TypeMAILA, dns.TypeMAILB, dns.TypeTKEY, dns.TypeTSIG:
		m.Rcode = dns.RcodeNotImplemented
		return ""
	case dns.TypeNone, dns.TypeOPT:
		m.Rcode = dns.RcodeFormatError
		return ""
	}
	z := s.zones.Load()
	if z == nil {
		m.Rcode = dns.RcodeServerFailure
		return ""
	}
	a := z.LookupFrom(q.Name, q.Qtype, from)
	m.Rcode, m.Authoritative = a.Rcode, a.Authoritative
	m.Answer, m.Ns = rotate(a.Answer, a.Near), a.Authority
	m.Extra = append(m.Extra, a.Additional...) // after OPT
	return a.Zone
}

// rotate lets each set of addresses begin anywhere, so that clients that take the first share the load; or, with near, one of
// the nearest come first. The slice is Lookup's own, for this one answer.
func rotate(rrs []dns.RR, near int) []dns.RR {
	for i := 0; i < len(rrs); {
		h := rrs[i].Header()
		j := i + 1
		for j < len(rrs) && rrs[j].Header().Rrtype == h.Rrtype && rrs[j].Header().Name == h.Name {
			j++
		}
		set := rrs[i:j]
		if near > 0 && j == len(rrs) {
			set = set[:min(near, len(set))]
		}
		if len(set) > 1 && (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA || h.Rrtype == dns.TypeSRV) {
			n := rand.IntN(len(set))
			copy(set, append(append(make([]dns.RR, 0, len(set)), set[n:]...), set[:n]...))
		}
		i = j
	}
	return rrs
}

// chaos answers who we are (RFC 4892), if the operator wants that known.
func (s *Server) chaos(m *dns.Msg, q dns.Question) {
	text := ""
	switch strings.ToLower(q.Name) {
	case "version.bind.", "version.server.":
		text = s.cfg.Version
	case "hostname.bind.", "id.server.":
		text = s.cfg.Hostname
	}
	if text == "" || q.Qtype != dns.TypeTXT && q.Qtype != dns.TypeANY {
		m.Rcode = dns.RcodeRefused
		return
	}
	m.Authoritative = true
	m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{text[:min(len(text), 255)]}}}
}
