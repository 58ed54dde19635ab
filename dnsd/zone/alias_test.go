package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

func answers(z *Zones, qname string, qtype uint16) string {
	var out []string
	for _, rr := range z.Lookup(qname, qtype).Answer {
		f := strings.Fields(rr.String())
		out = append(out, f[1]+" "+f[len(f)-1])
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func zoneFile(t *testing.T, z *Zones, origin string) string {
	t.Helper()
	var b strings.Builder
	if err := z.WriteZone(&b, origin); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The apex answers with the members that are up; the zone's content is that of HostDB alone.
func TestApexIsATag(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/a.x.test", "Network: {IP: 10.0.0.1, IPv6: 'fd00::1'}")
	put(t, s, "hosts/b.x.test", "Network: {IP: 10.0.0.2}")
	put(t, s, "hosts/old.x.test", "{Network: {IP: 10.0.0.3}, Status: retired}")
	put(t, s, "tags/web", "{LB: {VIP: 10.9.0.1}, Service: {Port: 80}}")
	members(t, s, "web", "a.x.test", "b.x.test", "old.x.test")
	put(t, s, "tags/x", "DNS: {Zone: x.test, TTL: 60, Records: {'@': {ALIAS: web.tag, MX: 10 a}, v: {ALIAS: web.vip}}}")
	up := Compile(s.View(), aMesh("a.x.test=10.0.0.1", "b.x.test=10.0.0.2"), DefaultOptions())
	if got := answers(up, "x.test.", dns.TypeA); got != "5 10.0.0.1, 5 10.0.0.2" {
		t.Errorf("all up: %s", got)
	}
	if got := answers(up, "x.test.", dns.TypeAAAA) + "; " + answers(up, "x.test.", dns.TypeMX) + "; " + answers(up, "v.x.test.", dns.TypeA); got != "5 fd00::1; 60 a.x.test.; 60 10.9.0.1" {
		t.Error(got)
	}
	down := up.Update(s.View(), aMesh("a.x.test=10.0.0.1", "b.x.test=10.0.0.2 failed"))
	if got := answers(down, "x.test.", dns.TypeA); got != "5 10.0.0.1" {
		t.Errorf("one down: %s", got)
	}
	a, _ := up.Info("x.test.")
	b, _ := down.Info("x.test.")
	if a.Hash != b.Hash || !b.Transferable {
		t.Errorf("a member that failed changed the content: %+v, %+v", a, b)
	}
	if text := zoneFile(t, down, "x.test."); !strings.Contains(text, "x.test.\t5\tIN\tA\t10.0.0.2") || strings.Contains(text, "10.0.0.3") {
		t.Errorf("transferred is:\n%s", text)
	}
	put(t, s, "hosts/b.x.test", "Network: {IP: 10.0.0.22}")
	z := down.Update(s.View(), mesh.View{})
	if got := answers(z, "x.test.", dns.TypeA); got != "5 10.0.0.1, 5 10.0.0.22" {
		t.Errorf("after a change of a member: %s", got)
	}
	put(t, s, "tags/web", "{LB: {VIP: 10.9.0.2}, Service: {Port: 80, TTL: 2}}")
	members(t, s, "web", "b.x.test")
	z = z.Update(s.View(), mesh.View{})
	if got := answers(z, "x.test.", dns.TypeA) + "; " + answers(z, "v.x.test.", dns.TypeA) + "; " + answers(z, "web.tag.mesh.internal.", dns.TypeA); got != "2 10.0.0.22; 60 10.9.0.2; 2 10.0.0.22" {
		t.Errorf("after a change of the tag: %s", got)
	}
	if dump(t, z) != dump(t, Compile(s.View(), mesh.View{}, DefaultOptions())) {
		t.Error("an update is not a compilation")
	}
}

// What cannot be an alias is named, and harms nothing else.
func TestBadAliases(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/empty", "{}")
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {a: {ALIAS: nobody.tag}, b: {ALIAS: web}, c: {ALIAS: empty.vip}, d: {ALIAS: empty.tag, TXT: there}}}")
	z := Compile(s.View(), mesh.View{}, DefaultOptions())
	want := []string{"no tag nobody", `"web" is not the addresses of a tag`, "has no virtual IP", "no member of tag empty has an address"}
	for i, p := range z.Problems() {
		if i >= len(want) || !strings.Contains(p.Reason, want[i]) {
			t.Errorf("%+v", p)
		}
	}
	if len(z.Problems()) != len(want) {
		t.Errorf("%d problems, want %d", len(z.Problems()), len(want))
	}
	if a := z.Lookup("d.x.test.", dns.TypeTXT); len(a.Answer) != 1 {
		t.Errorf("%+v", a)
	}
	if a := z.Lookup("d.x.test.", dns.TypeA); a.Rcode != dns.RcodeSuccess || len(a.Authority) != 1 {
		t.Errorf("%+v", a)
	}
}

// An update after random changes equals a compilation with aliases, too; see TestUpdateEqualsCompile for everything else.
func TestManyHostsBehindAnAlias(t *testing.T) {
	s := openStore(t)
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("h%d.x.test", i))
		put(t, s, "hosts/"+names[i], fmt.Sprintf("Network: {IP: 10.0.%d.%d}", i>>8, i&255))
	}
	put(t, s, "tags/web", "{}")
	members(t, s, "web", names...)
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {'@': {ALIAS: web.tag}}}")
	z := Compile(s.View(), mesh.View{}, DefaultOptions())
	for i := range 300 {
		put(t, s, "hosts/"+names[i], fmt.Sprintf("Network: {IP: 10.1.%d.%d}", i>>8, i&255))
	}
	z = z.Update(s.View(), mesh.View{})
	if dump(t, z) != dump(t, Compile(s.View(), mesh.View{}, DefaultOptions())) {
		t.Error("an update is not a compilation")
	}
}
