package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// richSite has, beside a small one, whatever makes an answer more than a record.
func richSite(t testing.TB) *hostdb.Store {
	db := smallSite(t, 60)
	put(t, db, "hosts/six.x.test", "Network: {IP: 10.0.4.1, IPv6: ['2001:db8::1', '2001:db8::2'], cname: [six-alias, other.y.test]}")
	put(t, db, "tags/y", `DNS: {Zone: y.test, TTL: 300, Reverse: ['2001:db8::/32'], Records: {
		'@': {ALIAS: web.tag, MX: [10 mail, 20 mail.elsewhere.test.], TXT: [v=spf1 -all, another], CAA: 0 issue ca.test, NS: [ns1, ns.elsewhere.test.]},
		mail: {A: [10.1.0.1, 10.1.0.2], AAAA: '2001:db8::3'}, ns1: {A: 10.1.0.3},
		'*.wild': {A: 10.1.0.4, TXT: wild}, '*.alias': {CNAME: many},
		many: {A: [10.2.0.1, 10.2.0.2, 10.2.0.3, 10.2.0.4, 10.2.0.5, 10.2.0.6, 10.2.0.7]},
		c1: {CNAME: c2}, c2: {CNAME: c3.y.test.}, c3: {CNAME: h1.x.test.}, out: {CNAME: www.elsewhere.test.}, none: {CNAME: nobody.x.test.},
		Loop1: {CNAME: LOOP2}, loop2: {CNAME: loop1}, tolive: {CNAME: x.tag.mesh.internal.}, tocut: {CNAME: host.cut},
		cut: {NS: [ns.cut, ns.elsewhere.test.]}, ns.cut: {A: 10.3.0.1}, deep.empty.name: {A: 10.4.0.1},
		_http._tcp: {SRV: [0 1 80 six.x.test., 0 1 80 mail]}, 'es\.caped': {A: 10.5.0.1}, long: {TXT: "`+strings.Repeat("long ", 120)+`"}}}`, "six.x.test")
	put(t, db, "tags/web", "{Service: {Port: 80}, LB: {VIP: 10.9.0.1, Ports: {80/tcp: 80}}}", "h1.x.test", "h2.x.test", "six.x.test")
	put(t, db, "tags/x2", "DNS: {Zone: x.test}", "six.x.test")
	put(t, db, "tags/near", "Service: {Port: 80, Order: near, TTL: 2}", "h1.x.test", "h2.x.test", "h3.x.test", "six.x.test")
	put(t, db, "tags/empty", "Owner: nobody")
	return db
}

// plainNames are questions that a fast answer must get right.
var plainNames = []string{"h1.x.test.", "c1.x.test.", "six.x.test.", "six-alias.x.test.", "other.y.test.", "x.test.", "y.test.", "mail.y.test.",
	"a.wild.y.test.", "a.b.wild.y.test.", "wild.y.test.", "a.alias.y.test.", "many.y.test.", "c1.y.test.", "out.y.test.", "none.y.test.", "loop1.y.test.", "tolive.y.test.",
	"tocut.y.test.", "cut.y.test.", "host.cut.y.test.", "ns.cut.y.test.", "empty.name.y.test.", "name.y.test.", "_http._tcp.y.test.",
	`es\.caped.y.test.`, "long.y.test.", "x.tag.mesh.internal.", "web.tag.mesh.internal.", "_web._tcp.tag.mesh.internal.", "web.vip.mesh.internal.",
	"empty.tag.mesh.internal.", "near.tag.mesh.internal.", "tag.mesh.internal.", "mesh.internal.", "n1.node.mesh.internal.", "ns.mesh.internal.", "nobody.x.test.", "test.", ".",
	"www.elsewhere.test.", "1.0.0.10.in-addr.arpa.", "0.0.10.in-addr.arpa.", "9.9.0.10.in-addr.arpa."}

var plainTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypePTR, dns.TypeTXT, dns.TypeSOA, dns.TypeCAA, dns.TypeMX,
	dns.TypeSRV, dns.TypeNS, dns.TypeHTTPS, dns.TypeANY, dns.TypeDS}

func richServer(t testing.TB) *Server {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	self := strings.Repeat("1", 32)
	reconcile(t, s, richSite(t), mesh.NewView(self, []mesh.Member{
		{ID: self, Name: "n1.x.test", Addr: netip.MustParseAddr("10.0.0.1"), State: mesh.StateAlive},
		{ID: strings.Repeat("2", 32), Name: "h2.x.test", Addr: netip.MustParseAddr("10.0.0.2"), State: mesh.StateFailed}}))
	return s
}

// records are a section as a sorted list without regard to case and order.
func records(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.ToLower(rr.String()))
	}
	slices.Sort(out)
	return out
}

// comparePlain gives one packet to both paths. It reports whether the fast one answered.
func comparePlain(t testing.TB, s *Server, r *reader, wire []byte, udp bool) bool {
	t.Helper()
	in := slices.Clone(wire)
	reply, what, ok := r.answer(s.Zones(), wire, make([]byte, 0, plainTCP+1024), netip.MustParseAddr("10.0.0.9"), udp)
	if !slices.Equal(in, wire) {
		t.Fatalf("the question was changed: %x, now %x", in, wire)
	}
	if !ok {
		return false
	}
	req := new(dns.Msg)
	if err := req.Unpack(wire); err != nil {
		t.Fatalf("a fast answer to %x, which is no message: %v", wire, err)
	}
	// The other path has the owners' case from the zone, and cannot compress them with a question in another: that would
	// be another size.
	lower := req.Copy()
	lower.Question[0].Name = strings.ToLower(lower.Question[0].Name)
	want, zone := s.respond(lower, netip.Addr{}, udp)
	want.Question = req.Question
	packed, err := want.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(reply); err != nil {
		t.Fatalf("%v: the fast answer cannot be read: %v\n%x", req.Question, err, reply)
	}
	if err := want.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	if udp && (len(reply) > udpSize || req.IsEdns0() == nil && len(reply) > minUDPSize) {
		t.Fatalf("%v: %d bytes", req.Question, len(reply))
	}
	if got.MsgHdr != want.MsgHdr || !slices.Equal(got.Question, want.Question) || zone != what.zone || int(what.rcode) != want.Rcode || what.typ != req.Question[0].Qtype {
		t.Fatalf("fast (%+v):\n%v\nslow (%s):\n%v", what, got, zone, want)
	}
	if got.Truncated {
		whole, _ := s.respond(req, netip.Addr{}, false)
		all := records(whole.Answer)
		if len(got.Answer) != len(want.Answer) || slices.ContainsFunc(records(got.Answer), func(rr string) bool { return !slices.Contains(all, rr) }) {
			t.Fatalf("truncated, fast:\n%v\nslow:\n%v", got, want)
		}
	} else if !slices.Equal(records(got.Answer), records(want.Answer)) {
		t.Fatalf("fast:\n%v\nslow:\n%v", got, want)
	}
	if !slices.Equal(records(got.Ns), records(want.Ns)) || !slices.Equal(records(got.Extra), records(want.Extra)) {
		t.Fatalf("fast:\n%v\nslow:\n%v", got, want)
	}
	return true
}

// variants are the ways in which one question is asked.
func variants(t testing.TB, name string, typ uint16) [][]byte {
	var out [][]byte
	for i := range 8 {
		m := question(name, typ)
		m.Id, m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = uint16(i*7919), i&1 == 0, i&2 == 0, i&4 == 0
		switch {
		case i == 1:
			m.SetEdns0(512, false)
		case i == 2:
			m.SetEdns0(1232, true)
		case i == 3:
			m.SetEdns0(4096, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
		case i == 4:
			m.Question[0].Name = strings.ToUpper(name)
		case i == 5:
			m.SetEdns0(700, false)
		}
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, wire)
	}
	return out
}

// The fast path says what the other one says, and takes what it is for.
func TestPlainAnswersEqualTheOthers(t *testing.T) {
	s := richServer(t)
	var r reader
	fast := map[string]bool{}
	for _, name := range plainNames {
		for _, typ := range plainTypes {
			for _, wire := range variants(t, name, typ) {
				for _, udp := range []bool{true, false} {
					if comparePlain(t, s, &r, wire, udp) {
						fast[fmt.Sprintf("%s %s", name, dns.TypeToString[typ])] = true
					}
				}
			}
		}
	}
	for _, must := range []string{"h1.x.test. A", "h1.x.test. AAAA", "c1.x.test. A", "six.x.test. AAAA", "x.test. SOA", "y.test. TXT", "y.test. CAA", "a.wild.y.test. A", "many.y.test. A",
		"c1.y.test. A", "none.y.test. A", "tolive.y.test. A", "x.tag.mesh.internal. A", "web.vip.mesh.internal. A", "nobody.x.test. A", "1.0.0.10.in-addr.arpa. PTR",
		"www.elsewhere.test. A", "y.test. A", "near.tag.mesh.internal. A", "h1.x.test. HTTPS", "a.alias.y.test. A", "empty.name.y.test. A"} {
		if !fast[must] {
			t.Errorf("%s is not answered by the fast path", must)
		}
	}
	for _, not := range []string{"cut.y.test. A", "y.test. ANY", "h1.x.test. DS"} {
		if fast[not] {
			t.Errorf("%s is answered by the fast path", not)
		}
	}
}

// A plain answer allocates nothing.
func TestPlainAnswersDoNotAllocate(t *testing.T) {
	s := richServer(t)
	var r reader
	out := make([]byte, 0, plainTCP+1024)
	for _, name := range plainNames {
		for _, typ := range plainTypes {
			for _, wire := range variants(t, name, typ) {
				_, _, ok := r.answer(s.Zones(), wire, out, netip.Addr{}, true)
				if !ok {
					continue
				}
				if n := testing.AllocsPerRun(10, func() { r.answer(s.Zones(), wire, out, netip.Addr{}, true) }); n > 0 {
					t.Errorf("%s %s: %v allocations", name, dns.TypeToString[typ], n)
				}
			}
		}
	}
}

// Records are shared by all answers and by what compiles the next ones, so nobody writes into them. The library would write
// the size of the data, which is 0 in a record that was made and not received.
func TestRecordsAreNotWrittenTo(t *testing.T) {
	s := richServer(t)
	for _, name := range plainNames {
		for _, typ := range plainTypes {
			for _, wire := range variants(t, name, typ) {
				comparePlain(t, s, new(reader), wire, true)
				comparePlain(t, s, new(reader), wire, false)
			}
		}
	}
	n := 0
	for _, info := range s.Zones().Infos() {
		for rr := range s.Zones().Records(strings.TrimSuffix(info.Origin, ".") + ".") {
			if n++; rr.Header().Rdlength != 0 {
				t.Errorf("%d bytes were written into %v", rr.Header().Rdlength, rr)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d records", n)
	}
}

// FuzzPlain gives arbitrary packets to the fast path, and holds what it answers against the other one's.
func FuzzPlain(f *testing.F) {
	s := richServer(f)
	for _, name := range plainNames {
		for _, typ := range plainTypes[:3] {
			for _, wire := range variants(f, name, typ)[:4] {
				f.Add(wire, true)
			}
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, udp bool) {
		comparePlain(t, s, new(reader), wire, udp)
	})
}

func BenchmarkPlain(b *testing.B) {
	s := richServer(b)
	for _, name := range []string{"h1.x.test.", "web.tag.mesh.internal.", "x.tag.mesh.internal.", "nobody.x.test.", "c1.x.test."} {
		b.Run(name, func(b *testing.B) {
			wire := variants(b, name, dns.TypeA)[2]
			var r reader
			out := make([]byte, 0, plainTCP+1024)
			t := newTally()
			b.ReportAllocs()
			for b.Loop() {
				_, what, ok := r.answer(s.Zones(), wire, out, netip.Addr{}, true)
				if !ok {
					b.Fatal("not plain")
				}
				t.count(what)
			}
		})
	}
}
