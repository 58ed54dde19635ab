package zone

import (
	"testing"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// rfcZone is the zone of the tests in this file.
func rfcZone(t *testing.T) *Zones {
	s := openStore(t)
	put(t, s, "hosts/host1.x.test", "Network: {IP: 10.0.0.1, IPv6: '2001:db8::1'}")
	put(t, s, "tags/x", `DNS: {Zone: x.test, TTL: 600, SOA: {Minimum: 60}, Reverse: ['2001:db8::/32', 10.0.0.0/8], Records: {
		'*': {MX: 10 host1, TXT: this is a wildcard}, sub.*: {TXT: this is not a wildcard}, _ssh._tcp.host1: {SRV: 0 0 22 host1},
		subdel: {NS: [ns.subdel, ns.elsewhere.test.]}, ns.subdel: {A: 10.0.0.53},
		a: {CNAME: b}, b: {CNAME: host1}, lost: {CNAME: deep.nobody.host1}, loop1: {CNAME: loop2}, loop2: {CNAME: loop1}, gone: {CNAME: www.elsewhere.test.},
		'*.w': {CNAME: host1}, mixed: {A: 10.0.0.8}, mail: {MX: 0 ., CAA: 0 issue ca.test}, dotted: {TXT: '"a" "b"'}}}`)
	members(t, s, "x", "host1.x.test")
	return Compile(s.View(), mesh.View{}, DefaultOptions())
}

// RFC 4592, sections 2.2.1 and 3.3: its example, as far as hosts can be named so.
func TestWildcards(t *testing.T) {
	askAll(t, rfcZone(t), []question{
		{"host3.x.test", "MX", "NOERROR: host3.x.test. MX 10 host1.x.test. + host1.x.test. A 10.0.0.1; host1.x.test. AAAA 2001:db8::1"},
		{"host3.x.test", "A", "NOERROR:  | SOA x.test."},
		{"foo.bar.x.test", "TXT", `NOERROR: foo.bar.x.test. TXT "this is a wildcard"`},
		{"host1.x.test", "MX", "NOERROR:  | SOA x.test."},                // it exists
		{"sub.*.x.test", "MX", "NOERROR:  | SOA x.test."},                // so does this
		{"_telnet._tcp.host1.x.test", "SRV", "NXDOMAIN:  | SOA x.test."}, // the closest encloser has no wildcard
		{"host.subdel.x.test", "A", "referral:  | subdel.x.test. NS ns.elsewhere.test.; subdel.x.test. NS ns.subdel.x.test. + ns.subdel.x.test. A 10.0.0.53"},
		{"ghost.*.x.test", "MX", "NXDOMAIN:  | SOA x.test."}, // * is the closest encloser
		{"q.w.x.test", "A", "NOERROR: host1.x.test. A 10.0.0.1; q.w.x.test. CNAME host1.x.test."},
		{"*.x.test", "TXT", `NOERROR: *.x.test. TXT "this is a wildcard"`},
	})
}

// RFC 8020: a name with something below exists; one without has nothing below.
func TestEmptyNonTerminals(t *testing.T) {
	z := rfcZone(t)
	for _, name := range []string{"_tcp.host1.x.test.", "w.x.test.", "0.10.in-addr.arpa."} {
		if a := z.Lookup(name, dns.TypeA); a.Rcode != dns.RcodeSuccess || len(a.Answer) != 0 || len(a.Authority) != 1 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := z.Lookup("_udp.host1.x.test.", dns.TypeA); a.Rcode != dns.RcodeNameError {
		t.Errorf("%+v", a)
	}
}

// RFC 2308, sections 3 and 5: the SOA of a negative answer has the lower of its own TTL and the minimum.
func TestNegativeTTL(t *testing.T) {
	z := rfcZone(t)
	for _, name := range []string{"no.host1.x.test.", "host1.x.test."} {
		a := z.Lookup(name, dns.TypeTXT)
		if len(a.Authority) != 1 || a.Authority[0].Header().Ttl != 60 || !a.Authoritative {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := z.Lookup("x.test.", dns.TypeSOA); a.Answer[0].Header().Ttl != 600 {
		t.Errorf("%+v", a)
	}
}

// RFC 1034, sections 3.6.2 and 4.3.2, and RFC 6604: aliases are followed; the code is that of the last name; loops end.
func TestAliasesAreFollowed(t *testing.T) {
	askAll(t, rfcZone(t), []question{
		{"a.x.test", "A", "NOERROR: a.x.test. CNAME b.x.test.; b.x.test. CNAME host1.x.test.; host1.x.test. A 10.0.0.1"},
		{"a.x.test", "CNAME", "NOERROR: a.x.test. CNAME b.x.test."},
		{"a.x.test", "TXT", "NOERROR: a.x.test. CNAME b.x.test.; b.x.test. CNAME host1.x.test. | SOA x.test."},
		{"lost.x.test", "A", "NXDOMAIN: lost.x.test. CNAME deep.nobody.host1.x.test. | SOA x.test."},
		{"loop1.x.test", "A", "NOERROR: loop1.x.test. CNAME loop2.x.test.; loop2.x.test. CNAME loop1.x.test."},
		{"gone.x.test", "A", "NOERROR: gone.x.test. CNAME www.elsewhere.test."},
	})
}

// RFC 1034, section 4.3.2, RFC 4035, section 3.1.4.1, and RFC 9471: what lies below a cut is referred, with glue; DS is answered above.
func TestReferralsHaveGlue(t *testing.T) {
	z := rfcZone(t)
	for _, q := range []struct {
		name string
		typ  uint16
	}{{"subdel.x.test.", dns.TypeNS}, {"deep.subdel.x.test.", dns.TypeA}, {"ns.subdel.x.test.", dns.TypeA}} {
		a := z.Lookup(q.name, q.typ)
		if a.Authoritative || len(a.Answer) != 0 || len(a.Authority) != 2 || len(a.Additional) != 1 {
			t.Errorf("%s: %+v", q.name, a)
		}
	}
	if a := z.Lookup("subdel.x.test.", dns.TypeDS); !a.Authoritative || a.Rcode != dns.RcodeSuccess || len(a.Authority) != 1 {
		t.Errorf("DS at the cut: %+v", a)
	}
}

// RFC 3596, section 2.5: the reverse of an IPv6 address.
func TestReverseOfIPv6(t *testing.T) {
	z := rfcZone(t)
	name, err := dns.ReverseAddr("2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	if a := z.Lookup(name, dns.TypePTR); len(a.Answer) != 1 || a.Answer[0].(*dns.PTR).Ptr != "host1.x.test." {
		t.Errorf("%+v", a)
	}
}

// RFC 7505 and RFC 8659: a null MX, a CAA.
func TestOtherTypes(t *testing.T) {
	askAll(t, rfcZone(t), []question{
		{"mail.x.test", "MX", "NOERROR: mail.x.test. MX 0 ."},
		{"mail.x.test", "CAA", `NOERROR: mail.x.test. CAA 0 issue "ca.test"`},
		{"dotted.x.test", "TXT", `NOERROR: dotted.x.test. TXT "a" "b"`},
	})
}
