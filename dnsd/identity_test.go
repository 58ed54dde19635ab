package dnsd

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// Who answers, and what, is told when the operator wants it (RFC 4892, RFC 5001), by both protocols; else not.
func TestIdentity(t *testing.T) {
	for _, told := range []bool{true, false} {
		s := startServer(t, func(c *Config) {
			if c.Version = ""; told {
				c.Version, c.Hostname = "hostmesh 9", "n1.x.test"
			}
		})
		reconcile(t, s, smallSite(t, 2), mesh.View{})
		for _, network := range []string{"udp", "tcp"} {
			m := question("h1.x.test.", dns.TypeA)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
			r := query(t, s, network, m)
			id := ""
			for _, o := range r.IsEdns0().Option {
				b, err := hex.DecodeString(o.(*dns.EDNS0_NSID).Nsid)
				if err != nil {
					t.Error(err)
				}
				id += string(b)
			}
			if len(r.Answer) != 1 || told != (id == "n1.x.test") || !told && id != "" {
				t.Errorf("%s, told %v: identifier %q in %v", network, told, id, r)
			}
			if r := query(t, s, network, withOPT(question("h1.x.test.", dns.TypeA))); len(r.IsEdns0().Option) != 0 {
				t.Errorf("%s: an option that was not asked for: %v", network, r)
			}
			for name, want := range map[string]string{"version.bind.": "hostmesh 9", "VERSION.server.": "hostmesh 9", "hostname.bind.": "n1.x.test", "id.server.": "n1.x.test"} {
				m := question(name, dns.TypeTXT)
				m.Question[0].Qclass = dns.ClassCHAOS
				r := query(t, s, network, m)
				if told && (len(r.Answer) != 1 || !strings.Contains(r.Answer[0].String(), want)) || !told && r.Rcode != dns.RcodeRefused {
					t.Errorf("%s, told %v: %s: %v", network, told, name, r)
				}
			}
		}
	}
}

func withOPT(m *dns.Msg) *dns.Msg { return m.SetEdns0(1232, false) }

// Addresses that come along are left out before an answer is truncated; those of a delegation's servers are not
// (RFC 2181 section 9, RFC 9471).
func TestWhatDoesNotFit(t *testing.T) {
	db := smallSite(t, 2)
	var mx, addrs, ns []string
	for i := range 12 {
		mx = append(mx, fmt.Sprintf("%d mail%d.with-a-long-name", i, i))
		ns = append(ns, fmt.Sprintf("ns%d.with-a-long-name.cut", i))
		addrs = append(addrs, fmt.Sprintf("mail%d.with-a-long-name: {AAAA: ['fd00::%d', 'fd01::%d']}, ns%d.with-a-long-name.cut: {AAAA: 'fd00::%d'}", i, i, i, i, i))
	}
	put(t, db, "tags/y", "DNS: {Zone: y.test, Records: {'@': {MX: ["+strings.Join(mx, ", ")+"]}, cut: {NS: ["+strings.Join(ns, ", ")+"]}, "+strings.Join(addrs, ", ")+"}}")
	s := startServer(t, nil)
	reconcile(t, s, db, mesh.View{})
	small := query(t, s, "udp", question("y.test.", dns.TypeMX))
	if small.Truncated || len(small.Answer) != 12 || len(small.Extra) >= 24 {
		t.Errorf("MX in 512 bytes: truncated %v, %d answers, %d more", small.Truncated, len(small.Answer), len(small.Extra))
	}
	if r := query(t, s, "tcp", question("y.test.", dns.TypeMX)); len(r.Extra) != 24 {
		t.Errorf("MX by tcp: %d more", len(r.Extra))
	}
	if r := query(t, s, "udp", question("www.cut.y.test.", dns.TypeA)); !r.Truncated || r.Authoritative {
		t.Errorf("a referral whose glue does not fit: %v", r)
	}
	if r := query(t, s, "tcp", question("www.cut.y.test.", dns.TypeA)); r.Truncated || len(r.Ns) != 12 || len(r.Extra) != 12 {
		t.Errorf("the same by tcp: %v", r)
	}
}

// The case of the question is kept in the question and in the owners of the answer, by both paths.
func TestCaseIsKept(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	for _, m := range []*dns.Msg{question("h1.X.tEsT.", dns.TypeA), question("X.tesT.", dns.TypeMX), question("C1.x.TEST.", dns.TypeA)} {
		for _, network := range []string{"udp", "tcp"} {
			r := query(t, s, network, m)
			if r.Question[0].Name != m.Question[0].Name || len(r.Answer) == 0 || r.Answer[0].Header().Name != m.Question[0].Name {
				t.Errorf("%s: %v", network, r)
			}
		}
	}
}

// ANY is answered with one set (RFC 8482 section 4.1).
func TestAnyIsMinimal(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, richSite(t), mesh.View{})
	for _, name := range []string{"y.test.", "mail.y.test.", "six.x.test.", "c1.x.test.", "x.tag.mesh.internal."} {
		r := query(t, s, "tcp", question(name, dns.TypeANY))
		if len(r.Answer) == 0 || r.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %v", name, r)
		}
		for _, rr := range r.Answer {
			if rr.Header().Rrtype != r.Answer[0].Header().Rrtype {
				t.Errorf("%s: more than one set: %v", name, r)
			}
		}
	}
}
