package zone

import (
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// What cannot be served is named, and everything else is served.
func TestProblems(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/good.x.test", "Network: {IP: 10.0.0.1}")
	put(t, s, "hosts/also.x.test", "Network: {IP: 10.0.0.3, cname: www.x.test}")
	put(t, s, "hosts/odd name", "Network: {IP: 10.0.0.2}")
	put(t, s, "hosts/ns_1.x.test", "Network: {IP: 10.0.0.4}")
	put(t, s, "tags/x", `DNS:
  Zone: x.test
  Reverse: [10.0.0.0/30, nonsense]
  TTL: soon
  Records:
    "@": {NS: [good, missing], MX: 10 nowhere}
    www: {CNAME: good, A: 10.0.0.9}
    alias: {CNAME: elsewhere.example.}
    doubled: {CNAME: good.x.test.x.test.}
    a: {CNAME: b}
    b: {CNAME: a}
    bad: {A: 10.0.0.300, NOTYPE: x, SOA: x, AAAA: "fd00::1"}
    inject: {TXT: "x\n$INCLUDE /etc/passwd"}
    out.: {A: 10.0.0.1}
    list: [A, B]
`)
	put(t, s, "tags/y", "DNS: {Zone: x.test, Records: {y: {A: 10.0.0.7}}}")
	members(t, s, "x", "good.x.test", "also.x.test", "odd name", "ns_1.x.test")
	z := Compile(s.View(), aMesh(), DefaultOptions())

	askAll(t, z, []question{
		{"good.x.test", "A", "NOERROR: good.x.test. A 10.0.0.1"},
		{"www.x.test", "A", "NOERROR: www.x.test. A 10.0.0.9"},
		{"bad.x.test", "AAAA", "NOERROR: bad.x.test. AAAA fd00::1"},
		{"bad.x.test", "A", "NOERROR:  | SOA x.test."},
		{"y.x.test", "A", "NOERROR: y.x.test. A 10.0.0.7"},
		{"alias.x.test", "A", "NOERROR: alias.x.test. CNAME elsewhere.example."},
		{"a.x.test", "A", "NOERROR: a.x.test. CNAME b.x.test.; b.x.test. CNAME a.x.test."},
		{"1.0.0.10.in-addr.arpa", "PTR", "NOERROR: 1.0.0.10.in-addr.arpa. PTR good.x.test."},
		{"4.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN:  | SOA 0.0.10.in-addr.arpa."},
	})
	var got []string
	for _, p := range z.Problems() {
		got = append(got, p.Key+" "+p.Name+" "+p.Reason)
	}
	for _, want := range []string{
		`hosts/odd name  "odd name" cannot be a host's name`,
		`hosts/ns_1.x.test  "ns_1.x.test" cannot be a host's name`,
		"hosts/also.x.test www.x.test. an alias (CNAME) cannot stand beside other data",
		"tags/x www.x.test. an alias (CNAME) cannot stand beside other data",
		`tags/x  DNS/Reverse: "nonsense" is not a prefix`,
		`tags/x  DNS: TTL: "soon" is not a time to live`,
		"tags/x x.test. NS: it points at missing.x.test., which does not exist",
		"tags/x x.test. MX: it points at nowhere.x.test., which does not exist",
		"tags/x doubled.x.test. CNAME: it points at good.x.test.x.test., which does not exist: a dot is missing",
		"tags/x a.x.test. CNAME: the aliases form a loop",
		`tags/x bad.x.test. A: "10.0.0.300" is not the data of an A`,
		"tags/x bad.x.test. NOTYPE: it is not a record type",
		"tags/x bad.x.test. SOA: the type is not taken here: write DNS/SOA instead",
		"tags/x inject.x.test. TXT: ",
		"tags/x out. DNS/Records/out.: the name lies outside the zone",
		"tags/x list.x.test. DNS/Records/list: it is not a mapping",
		"tags/y  tag x has this zone already",
	} {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) {
			t.Errorf("no problem begins with %q", want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(got, "\n"))
	}
}

// A key that makes the compiler panic keeps its last good records and is named; nothing else notices.
func TestPanicIsQuarantined(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/x", "DNS: {Zone: x.test}")
	put(t, s, "hosts/a.x.test", "Network: {IP: 10.0.0.1}")
	put(t, s, "hosts/b.x.test", "Network: {IP: 10.0.0.2}")
	members(t, s, "x", "a.x.test", "b.x.test")
	opts, sick := DefaultOptions(), ""
	opts.probe = func(source string) {
		if source == sick {
			panic("poison")
		}
	}
	z := Compile(s.View(), aMesh(), opts)
	sick = "hosts/a.x.test"
	for _, ttl := range []string{"10", "20"} { // the first change touches the host, the second compiles everything anew
		put(t, s, "hosts/a.x.test", "Network: {IP: 10.9.9."+ttl+"}")
		put(t, s, "hosts/b.x.test", "Network: {IP: 10.8.8."+ttl+"}")
		z = z.Update(s.View(), aMesh())
		askAll(t, z, []question{
			{"a.x.test", "A", "NOERROR: a.x.test. A 10.0.0.1"},
			{"b.x.test", "A", "NOERROR: b.x.test. A 10.8.8." + ttl},
		})
		if !slices.ContainsFunc(z.Problems(), func(p Problem) bool {
			return p.Key == sick && strings.Contains(p.Reason, "poison at hostmesh/dnsd/zone")
		}) {
			t.Errorf("the key is not named: %v", z.Problems())
		}
		put(t, s, "tags/x", "DNS: {Zone: x.test, TTL: 7}")
	}
	sick = ""
	put(t, s, "hosts/a.x.test", "Network: {IP: 10.7.7.7}")
	z = z.Update(s.View(), aMesh())
	askAll(t, z, []question{{"a.x.test", "A", "NOERROR: a.x.test. A 10.7.7.7"}})
	if p := z.Problems(); len(p) > 0 {
		t.Errorf("cured, but: %v", p)
	}
}

func TestDelegationAndNestedZones(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/up", `DNS: {Zone: up.test, Records: {"@": {NS: [ns]}, ns: {A: 10.0.0.1}, cut: {NS: [ns.cut, ns]}, ns.cut: {A: 10.0.0.2},
  hidden.cut: {A: 10.0.0.3}, sub: {NS: [ns]}, "*.wild": {TXT: w}, host.wild: {A: 10.0.0.4}, deep.er.wild: {A: 10.0.0.5}}}`)
	put(t, s, "tags/sub", "DNS: {Zone: sub.up.test, Records: {x: {A: 10.0.0.6}}}")
	z := Compile(s.View(), aMesh("n.test=127.0.0.9"), DefaultOptions())
	askAll(t, z, []question{
		{"hidden.cut.up.test", "A", "referral:  | cut.up.test. NS ns.cut.up.test.; cut.up.test. NS ns.up.test. + ns.cut.up.test. A 10.0.0.2; ns.up.test. A 10.0.0.1"},
		{"cut.up.test", "NS", "referral:  | cut.up.test. NS ns.cut.up.test.; cut.up.test. NS ns.up.test. + ns.cut.up.test. A 10.0.0.2; ns.up.test. A 10.0.0.1"},
		{"cut.up.test", "DS", "NOERROR:  | SOA up.test."},
		{"sub.up.test", "DS", "NOERROR:  | SOA up.test."},
		{"sub.up.test", "NS", "NOERROR: sub.up.test. NS ns.mesh.internal. + ns.mesh.internal. A 127.0.0.9"},
		{"x.sub.up.test", "A", "NOERROR: x.sub.up.test. A 10.0.0.6"},
		{"any.wild.up.test", "TXT", `NOERROR: any.wild.up.test. TXT "w"`},
		{"any.wild.up.test", "A", "NOERROR:  | SOA up.test."},
		{"a.b.wild.up.test", "TXT", `NOERROR: a.b.wild.up.test. TXT "w"`},
		{"host.wild.up.test", "TXT", "NOERROR:  | SOA up.test."},
		{"x.host.wild.up.test", "TXT", "NXDOMAIN:  | SOA up.test."},
		{"er.wild.up.test", "TXT", "NOERROR:  | SOA up.test."},
		{"x.er.wild.up.test", "TXT", "NXDOMAIN:  | SOA up.test."},
		{"wild.up.test", "TXT", "NOERROR:  | SOA up.test."},
		{"ns.up.test", "ANY", "NOERROR: ns.up.test. A 10.0.0.1"},
	})
	checkZones(t, z)
}

func TestLiveMembers(t *testing.T) {
	s := openStore(t)
	for _, h := range []string{"1", "2", "3"} {
		put(t, s, "hosts/h"+h+".x.test", "Network: {IP: 10.0.0."+h+"}")
	}
	put(t, s, "tags/g", "Service: {Port: 80}")
	members(t, s, "g", "h1.x.test", "h2.x.test", "h3.x.test")
	z := Compile(s.View(), aMesh("h1.x.test=127.0.0.1", "h2.x.test=127.0.0.2"), DefaultOptions())
	step := func(what, want string) {
		t.Helper()
		want = strings.ReplaceAll(want, "#", "g.tag.mesh.internal. A 10.0.0.")
		if got := ask(z, "g.tag.mesh.internal", "A"); got != "NOERROR: "+want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	step("all alive", "#1; #2; #3")
	failed := aMesh("h1.x.test=127.0.0.1 failed", "h2.x.test=127.0.0.2")
	z = z.Update(s.View(), failed)
	step("one failed", "#2; #3")
	z = z.Update(s.View(), aMesh("h1.x.test=127.0.0.1 failed", "h2.x.test=127.0.0.2 failed").WithMassSuspicion(true))
	step("mass suspicion freezes", "#2; #3")
	put(t, s, "hosts/h3.x.test", "{Network: {IP: 10.0.0.3}, Status: retired}")
	z = z.Update(s.View(), aMesh("h1.x.test=127.0.0.1 failed", "h2.x.test=127.0.0.2 left"))
	step("all down answers all", "#1; #2; #3")
	update(t, s, func(tx *hostdb.Tx) error { return tx.RemoveMember(hostdb.Tags, "g", "h3.x.test") })
	z = z.Update(s.View(), failed)
	step("back", "#2")
	if got, want := ask(z, "_g._tcp.tag.mesh.internal", "SRV"),
		"NOERROR: _g._tcp.tag.mesh.internal. SRV 0 1 80 h2.x.test.node.mesh.internal. + h2.x.test.node.mesh.internal. A 127.0.0.2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHashAndSOA(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {a: {A: 10.0.0.1}, b: {A: 10.0.0.2}}}")
	z := Compile(s.View(), aMesh(), DefaultOptions())
	one, _ := z.Info("x.test")
	put(t, s, "hosts/elsewhere", "Network: {IP: 10.1.1.1}")
	z2 := z.Update(s.View(), aMesh("elsewhere=127.0.0.1"))
	if two, _ := z2.Info("x.test"); two.Hash != one.Hash || two.Changed != one.Changed || z2.Version() == z.Version() {
		t.Errorf("a change elsewhere: %+v, then %+v", one, two)
	}
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {a: {A: 10.0.0.2}, b: {A: 10.0.0.1}}}")
	z3 := z2.Update(s.View(), aMesh()).WithSerials(func(string, Hash) uint32 { return 77 })
	three, _ := z3.Info("x.test.")
	if three.Hash == one.Hash || three.Changed != z3.Version() || three.Serial != 77 {
		t.Errorf("a change: %+v, then %+v", one, three)
	}
	text, _ := three.Hash.MarshalText()
	var back Hash
	if err := back.UnmarshalText(text); err != nil || back != three.Hash {
		t.Errorf("hash as text: %s, %v", text, err)
	}
	a, b := z.Lookup("x.test.", 6).Answer[0].String(), z3.Lookup("x.test.", 6).Answer[0].String()
	if a == strings.Replace(b, " 77 ", " 0 ", 1) {
		t.Errorf("the timers do not tell two contents apart: %s", a)
	}
}
