package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// An address beside an ALIAS is left out of the answer and of what is transferred, and complained about; be it written into
// the section, of a host, or of another tag's ALIAS.
func TestAddressesBesideAnAlias(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/h1.lab.test", "Network: {IP: 10.0.0.1}")
	put(t, s, "hosts/www.lab.test", "Network: {IP: 10.0.0.7}")
	put(t, s, "tags/web", "{}")
	put(t, s, "tags/other", "{}")
	put(t, s, "tags/lab", "DNS: {Zone: lab.test, TTL: 60, Records: {'@': {ALIAS: web.tag, A: 192.0.2.9, AAAA: '2001:db8::9', MX: 10 h1}, www: {ALIAS: web.tag}}}")
	put(t, s, "tags/lab2", "DNS: {Zone: lab.test, TTL: 60, Records: {'@': {ALIAS: other.tag}}}")
	members(t, s, "web", "h1.lab.test")
	members(t, s, "other", "www.lab.test")
	members(t, s, "lab", "h1.lab.test", "www.lab.test")
	z := Compile(s.View(), aMesh("h1.lab.test=10.0.0.1"), DefaultOptions())
	for _, name := range []string{"lab.test.", "www.lab.test."} {
		transferred := map[uint16]int{}
		for rr := range z.Records("lab.test.") {
			if rr.Header().Name == name {
				transferred[rr.Header().Rrtype]++
			}
		}
		for typ, want := range map[uint16]int{dns.TypeA: 1, dns.TypeAAAA: 0} {
			if got := len(z.Lookup(name, typ).Answer); got != want || transferred[typ] != want {
				t.Errorf("%s %s: %d answered, %d transferred, want %d", name, dns.TypeToString[typ], got, transferred[typ], want)
			}
		}
	}
	if len(z.Lookup("lab.test.", dns.TypeMX).Answer) != 1 {
		t.Error("what may stand beside an ALIAS is not answered")
	}
	var got []string
	for _, p := range z.Problems() {
		if strings.Contains(p.Reason, "ALIAS") {
			got = append(got, p.Key+" "+p.Name+" "+strings.Fields(p.Reason)[1])
		}
	}
	slices.Sort(got)
	if want := "hosts/www.lab.test www.lab.test. address, tags/lab lab.test. address, tags/lab lab.test. address, tags/lab2 lab.test. has"; strings.Join(got, ", ") != want {
		t.Errorf("problems: %v", z.Problems())
	}
	put(t, s, "tags/lab", "DNS: {Zone: lab.test, TTL: 60, Records: {'@': {A: 192.0.2.9}}}")
	if z = z.Update(s.View(), aMesh("h1.lab.test=10.0.0.1")); dump(t, z) != dump(t, Compile(s.View(), aMesh("h1.lab.test=10.0.0.1"), DefaultOptions())) {
		t.Error("an update is not a compilation")
	}
}

// Of an ALIAS or a live name, members that are down come along with nothing, and ANY is not answered with them.
func TestOnlyLiveMembersComeAlong(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/h1.lab.test", "Network: {IP: 10.0.0.1}")
	put(t, s, "hosts/h2.lab.test", "Network: {IP: 10.0.0.2}")
	put(t, s, "tags/web", "{}")
	members(t, s, "web", "h1.lab.test", "h2.lab.test")
	put(t, s, "tags/lab", "DNS: {Zone: lab.test, TTL: 60, Records: {mail: {ALIAS: web.tag, TXT: x}, '@': {MX: 10 mail}, live: {MX: 10 web.tag.mesh.internal.}}}")
	z := Compile(s.View(), aMesh("h1.lab.test=10.0.0.1", "h2.lab.test=10.0.0.2 failed"), DefaultOptions())
	for what, rrs := range map[string][]dns.RR{
		"A": z.Lookup("mail.lab.test.", dns.TypeA).Answer, "ANY": z.Lookup("mail.lab.test.", dns.TypeANY).Answer,
		"beside MX": z.Lookup("lab.test.", dns.TypeMX).Additional, "beside MX of a live name": z.Lookup("live.lab.test.", dns.TypeMX).Additional,
	} {
		if len(rrs) != 1 || rrs[0].(*dns.A).A.String() != "10.0.0.1" {
			t.Errorf("%s: %v", what, rrs)
		}
	}
}

// The nearest member has IPv6 alone; of IPv4 the near one must still come before the far one.
func TestNearestOfEachFamily(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/web", "Service: {Port: 80, Order: near}")
	put(t, s, "hosts/n1", "Network: {IPv6: 'fd00::1'}")
	put(t, s, "hosts/n2", "Network: {IP: 10.2.0.1}")
	put(t, s, "hosts/n3", "Network: {IP: 10.3.0.1}")
	members(t, s, "web", "n1", "n2", "n3")
	m := aMesh("n1=10.1.0.1", "n2=10.2.0.1", "n3=10.3.0.1")
	id := func(i int) string { return m.Members()[i].ID }
	m = m.WithDistance(id(0), id(1), 20*time.Millisecond).WithDistance(id(0), id(2), 200*time.Millisecond)
	z := Compile(s.View(), m, DefaultOptions())
	for typ, want := range map[uint16]int{dns.TypeA: 2, dns.TypeAAAA: 1} {
		a := z.LookupFrom("web.tag.mesh.internal.", typ, netip.MustParseAddr("10.1.0.9"))
		if len(a.Answer) != want || a.Near != 1 {
			t.Errorf("%s: %v, near %d", dns.TypeToString[typ], a.Answer, a.Near)
		}
	}
}

// A live name keeps the answers of a few places, whoever asks from wherever.
func TestOrdersAreBounded(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/web", "Service: {Port: 80, Order: near}")
	var list []string
	for i := range 4 * maxOrders {
		addr := netip.AddrFrom4([4]byte{10, byte(i), 0, 1}).String()
		list = append(list, "n"+addr+"="+addr)
		put(t, s, "hosts/n"+addr, "Network: {IP: "+addr+"}")
	}
	members(t, s, "web", "n10.0.0.1", "n10.1.0.1")
	z := Compile(s.View(), aMesh(list...), DefaultOptions())
	n, err := parseName("web.tag.mesh.internal.")
	if err != nil {
		t.Fatal(err)
	}
	l, _ := z.find(n, 0).node.live()
	o := l.answer(z).orders
	ask := func(site int) {
		t.Helper()
		if a := l.answerTo(z, netip.AddrFrom4([4]byte{10, byte(site), 9, 9})); len(a.sets) == 0 || len(a.sets[0].rrs) != 2 {
			t.Fatalf("%+v", a.sets)
		}
	}
	made := func() (n int) {
		for i := range o.made {
			if o.made[i].Load() != nil {
				n++
			}
		}
		return n
	}
	for round := range 3 {
		for site := range 4 * maxOrders {
			ask(site)
		}
		if n := made(); n > maxOrders+1 || n < maxOrders || len(o.kept) != n {
			t.Fatalf("round %d: %d orders are kept, %d are known", round, n, len(o.kept))
		}
		for _, at := range o.kept { // time goes by
			o.made[at].Load().made = time.Time{}
		}
	}
	// Who asks again and again keeps its place among those that ask once.
	last := 4*maxOrders - 1
	for site := 1; site < last; site++ {
		ask(last)
		for _, at := range o.kept {
			o.made[at].Load().made = time.Time{}
		}
		before := o.made[o.at(last)].Load()
		ask(site)
		if site > 2*maxOrders && before != o.made[o.at(last)].Load() {
			t.Fatalf("its order went for that of site %d", site)
		}
	}
}

// at is the station of a site of the test above.
func (o *orders) at(site int) int {
	return slices.IndexFunc(o.stations, func(s station) bool { return s.addr == netip.AddrFrom4([4]byte{10, byte(site), 0, 1}) })
}

// Of three tags, each one that differs is told so; two keys are too many, whichever tags name them.
func TestTransferOfThreeTags(t *testing.T) {
	const other, key = "DNS/Transfer is another one than that of tag aaa, which feeds the zone too: only who may by all 3 tags that feed it may transfer it",
		"DNS/Transfer/Key is another one than that of tag bbb, which feeds the zone too: nobody may transfer it"
	for _, c := range []struct {
		transfer [3]string
		want     []string
	}{
		{[3]string{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53]}"}, nil},
		{[3]string{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53]}", "{Allow: [10.0.0.0/8]}"}, []string{"true tags/ccc " + other}},
		{[3]string{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53], Key: b}", "{Allow: [10.0.0.53], Key: c}"},
			[]string{"true tags/bbb " + other, "false tags/ccc " + key}},
		{[3]string{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53], Key: b}", "{Allow: [10.0.0.53], Key: B.}"},
			[]string{"true tags/bbb " + other, "true tags/ccc " + other}},
	} {
		s := openStore(t)
		for i, tag := range []string{"aaa", "bbb", "ccc"} {
			put(t, s, "tags/"+tag, "DNS: {Zone: lab.test, Transfer: "+c.transfer[i]+"}")
		}
		var got []string
		for _, p := range Compile(s.View(), mesh.View{}, DefaultOptions()).Problems() {
			if strings.Contains(p.Reason, "DNS/Transfer") {
				got = append(got, fmt.Sprint(p.Served, " ", p.Key, " ", p.Reason))
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(c.want))
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n%q\nwant\n%q", c.transfer, got, want)
		}
	}
}

// Tags that want a zone transferred in different ways are told so.
func TestTransferOfSeveralTags(t *testing.T) {
	for _, c := range []struct {
		a, b   string
		served bool
		want   string
	}{
		{"{Allow: [10.0.0.53]}", "{Allow: [10.0.0.53]}", false, ""},
		{"{}", "{}", false, ""},
		{"{Allow: [0.0.0.0/0]}", "{Allow: [10.0.0.53]}", true, "only who may by both"},
		{"{Allow: [10.0.0.53], Key: a}", "{Allow: [10.0.0.53], Key: b}", false, "nobody may transfer it"},
	} {
		s := openStore(t)
		put(t, s, "tags/aaa", "DNS: {Zone: lab.test, Transfer: "+c.a+"}")
		put(t, s, "tags/lab", "DNS: {Zone: lab.test, Transfer: "+c.b+"}")
		got := ""
		for _, p := range Compile(s.View(), mesh.View{}, DefaultOptions()).Problems() {
			if strings.Contains(p.Reason, "DNS/Transfer") {
				got += p.Reason
				if p.Key != "tags/lab" || p.Served != c.served {
					t.Errorf("%+v", p)
				}
			}
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s and %s: %q", c.a, c.b, got)
		}
	}
}
