package dnsd

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// Every malformed message gets FORMERR, NOTIMP or silence, as the RFCs say, by both protocols; and the next question is
// answered.
func TestBadPackets(t *testing.T) {
	s := startServer(t, func(c *Config) { c.MaxConns = 400 })
	reconcile(t, s, richSite(t), mesh.View{})
	good, err := question("h1.x.test.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	const silence = -1
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	set := func(at int, v byte) []byte { return change(func(b []byte) []byte { b[at] = v; return b }) }
	opt := func(rest ...byte) []byte {
		return change(func(b []byte) []byte { b[11]++; return append(append(b, 0, 0, 41), rest...) })
	}
	for name, c := range map[string]struct {
		wire []byte
		want int
	}{
		"an answer":                         {set(2, 0x80), silence},
		"an answer that is not right":       {set(2, 0x80)[:14], silence},
		"half a header":                     {good[:7], silence},
		"a header alone":                    {good[:12], dns.RcodeFormatError},
		"no question":                       {set(5, 0), dns.RcodeFormatError},
		"two questions are announced":       {set(5, 2), dns.RcodeFormatError},
		"a label beyond the end":            {set(12, 60), dns.RcodeFormatError},
		"a reserved label type":             {set(12, 0x80), dns.RcodeFormatError},
		"a pointer to itself":               {change(func(b []byte) []byte { return append(b[:12], 0xc0, 12, 0, 1, 0, 1) }), dns.RcodeFormatError},
		"a pointer beyond the end":          {change(func(b []byte) []byte { return append(b[:12], 0xc1, 12, 0, 1, 0, 1) }), dns.RcodeFormatError},
		"a name that does not end":          {good[:20], dns.RcodeFormatError},
		"no class":                          {good[:len(good)-2], dns.RcodeFormatError},
		"a name of 300 bytes":               {change(longName), dns.RcodeFormatError},
		"records are announced":             {set(7, 9), dns.RcodeFormatError},
		"OPT without its end":               {opt(4, 208, 0, 0, 0), dns.RcodeFormatError},
		"OPT whose options are too long":    {opt(4, 208, 0, 0, 0, 0, 0, 9), dns.RcodeFormatError},
		"an option that is cut off":         {opt(4, 208, 0, 0, 0, 0, 0, 3, 0, 10, 0), dns.RcodeFormatError},
		"an option longer than the options": {opt(4, 208, 0, 0, 0, 0, 0, 6, 0, 10, 0, 8, 1, 2), dns.RcodeFormatError},
		"OPT of the next version":           {opt(4, 208, 0, 1, 0, 0, 0, 0), dns.RcodeBadVers},
		"OPT of a name":                     {change(func(b []byte) []byte { b[11]++; return append(b, 1, 'x', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0) }), dns.RcodeFormatError},
		"an update":                         {set(2, 5<<3), dns.RcodeNotImplemented},
		"a notify":                          {set(2, 4<<3), dns.RcodeNotImplemented},
		"opcode 15":                         {set(2, 15<<3), dns.RcodeNotImplemented},
		"bytes after the question":          {change(func(b []byte) []byte { return append(b, 1, 2, 3) }), dns.RcodeSuccess},
		"TC in a question":                  {set(2, 2), dns.RcodeSuccess},
		"an rcode in a question":            {set(3, 5), dns.RcodeSuccess},
	} {
		for _, network := range []string{"udp", "tcp"} {
			rcode, err := rcodeOf(s, network, c.wire, c.want == silence)
			if err != nil || rcode != c.want {
				t.Errorf("%s by %s: %d, want %d: %v", name, network, rcode, c.want, err)
			}
		}
	}
	large := change(func(b []byte) []byte { // more than we offer to take, and it claims to be whole
		b[11]++
		return append(append(b, 0, 0, 41, 4, 208, 0, 0, 0, 0, 8, 4, 0, 12, 8, 0), make([]byte, 2048)...)
	})
	if rcode, err := rcodeOf(s, "udp", large, false); err != nil || rcode != dns.RcodeFormatError {
		t.Errorf("a datagram of 2 kB: %d, %v", rcode, err)
	}
	if rcode, err := rcodeOf(s, "tcp", large, false); err != nil || rcode != dns.RcodeSuccess {
		t.Errorf("the same by tcp: %d, %v", rcode, err)
	}
}

// A question with OPT has OPT in its answer, whatever the answer says (RFC 6891 section 6.1.1); one without has none.
func TestRefusalsHaveOPT(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	for _, opcode := range []int{dns.OpcodeUpdate, dns.OpcodeNotify, dns.OpcodeStatus, 15} {
		for _, edns := range []bool{false, true} {
			m := question("h1.x.test.", dns.TypeA)
			if m.Opcode = opcode; edns {
				m.SetEdns0(1232, true)
			}
			wire, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for _, network := range []string{"udp", "tcp"} {
				r := exchangeRaw(t, s, network, wire)
				opt := r.IsEdns0()
				if r.Rcode != dns.RcodeNotImplemented || r.Opcode != opcode || r.Id != m.Id || (opt != nil) != edns || edns && (!opt.Do() || opt.UDPSize() != udpSize) {
					t.Errorf("opcode %d, EDNS %v by %s: %v", opcode, edns, network, r)
				}
			}
		}
	}
	m := question("h1.x.test.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.Extra = append(m.Extra, m.Extra[0])
	if r, _ := s.respond(m, netip.Addr{}, true); r.Rcode != dns.RcodeFormatError || len(r.Extra) != 1 || r.IsEdns0() == nil {
		t.Errorf("two OPT: %v", r)
	}
}

func longName(b []byte) []byte {
	b = b[:12]
	for range 5 {
		b = append(append(b, 60), make([]byte, 60)...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// rcodeOf sends a message, and asks a good question after it when silence is expected. It returns -1 for silence.
func rcodeOf(s *Server, network string, wire []byte, quiet bool) (int, error) {
	c, err := net.Dial(network, s.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	send := func(wire []byte) error {
		if network == "tcp" {
			wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
		}
		_, err := c.Write(wire)
		return err
	}
	if err := send(wire); err != nil {
		return 0, err
	}
	marker := question("h2.x.test.", dns.TypeA)
	marker.Id = binary.BigEndian.Uint16(wire) + 1
	if quiet {
		after, err := marker.Pack()
		if err != nil {
			return 0, err
		}
		if err := send(after); err != nil {
			return 0, err
		}
	}
	r, err := (&dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}).ReadMsg()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case err != nil:
		return 0, err
	case quiet && r.Id == marker.Id:
		return -1, nil
	}
	return r.Rcode, nil
}

// A server that is bound to all addresses answers from the one that was asked.
func TestAnswersComeFromWhereTheyWereAsked(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		s := startServer(t, func(c *Config) { c.Listen = listen })
		reconcile(t, s, richSite(t), mesh.View{})
		port := s.Addr().(*net.TCPAddr).Port
		for _, host := range []string{"127.0.0.1", "127.0.0.77", "::1"} {
			if listen[0] == '0' && host == "::1" {
				continue
			}
			for _, m := range []*dns.Msg{question("h1.x.test.", dns.TypeA), question("y.test.", dns.TypeMX)} { // the fast path, and the other one
				c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(host), Port: port}) // takes datagrams from there only
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				wire, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(wire); err != nil {
					t.Fatal(err)
				}
				if r, err := (&dns.Conn{Conn: c}).ReadMsg(); err != nil || r.Rcode != dns.RcodeSuccess {
					t.Errorf("%s by %s: %v %v", listen, host, r, err)
				}
				c.Close()
			}
		}
	}
}
