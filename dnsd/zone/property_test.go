package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// The ways in which hosts, tags and the mesh of the property tests may look. They clash on purpose.
var (
	someHosts = []string{"a.one.test", "b.one.test", "c.two.test", "short", "d.sub.one.test", "bad host", "E.One.Test"}
	someFacts = []string{
		"{}",
		"Network: {IP: 10.0.0.1}",
		"Network: {IP: 10.0.0.2, IPv6: 'fd00::2', cname: 'www, alias.two.test'}",
		"Network: {FQDN: a.one.test, IP: 10.0.1.3, cname: [www, b.one.test]}",
		"Network: {IP: nonsense, cname: ['bad name!', x.y.z]}",
		"{Network: {IP: 10.0.0.1}, Status: retired}",
		"Owner: [somebody]",
		"{Network: {IP: 10.0.0.7}, VM: {UUID: 0ACFBCCA-161e-427c-8423-ef788bb47f00, Box: a.one.test}}",
		"{Network: {IP: 10.0.0.8}, VM: {UUID: 1acfbcca-161e-427c-8423-ef788bb47f00, Box: a.one.test}}",
		"{Network: {IP: 10.0.0.9}, VM: {UUID: 1acfbcca-161e-427c-8423-ef788bb47f00, Box: b.one.test}}",
	}
	someTags     = []string{"p", "q", "r", "s"}
	someSections = []string{
		"{}",
		"DNS: {Zone: one.test, Reverse: [10.0.0.0/16], Records: {'@': {MX: 10 a}, '*': {A: 10.9.9.9}, www: {CNAME: a}}}",
		"DNS: {Zone: one.test, Reverse: [10.0.0.0/24, 'fd00::/61'], TTL: 1m, NS: [a, ns.two.test.]}",
		"DNS: {Zone: sub.one.test, Records: {deep.er: {TXT: [x, y]}, '@': {NS: [d]}}}",
		"DNS: {Zone: two.test, Records: {c: {CNAME: c}, l1: {CNAME: l2}, l2: {CNAME: l1}, cut: {NS: [ns.cut], A: 1.2.3.4}, ns.cut: {A: 10.3.3.3}}, SOA: {Refresh: 1h, RName: a.b@two.test}}",
		"DNS: {Zone: 'not..a zone', Reverse: [10.0.0.1/33]}",
		"{Service: {Port: 80}, LB: {VIP: 10.5.5.5}}",
		"Service: {Port: 99999, Proto: icmp}",
		"{DNS: {Zone: one.test, Records: {'@': {ALIAS: q.tag, AAAA: 'fd00::9'}, v: {ALIAS: p.vip}, w: {ALIAS: r.tag}}}, Service: {Port: 1, Order: near, TTL: 7}}",
	}
	someMembers = [][]string{
		{}, {"a.one.test", "b.one.test", "short"}, {"c.two.test", "@q"}, {"d.sub.one.test", "bad host", "@r"}, {"E.One.Test", "a.one.test", "gone.test"}, {"@p", "c.two.test"},
	}
	someMeshes = []mesh.View{
		{}, aMesh("a.one.test=127.0.0.1", "b.one.test=127.0.0.2"), aMesh("a.one.test=127.0.0.1 failed", "a.two.test=127.0.0.3"),
		aMesh("a.one.test=127.0.0.1 failed", "b.one.test=127.0.0.2 left", "short=127.0.0.4"),
		someMachines(report.Running, report.Running), someMachines(report.Stopped, report.Running), someMachines(report.Failed, report.Stopped),
		someMachines(report.Running, report.Foreign), someMachines(report.Starting),
	}
)

// someMachines is a mesh of two boxes, of which the first reports two machines.
func someMachines(phases ...report.Phase) mesh.View {
	r := report.Report{Node: fmt.Sprintf("%032x", 1), VMs: map[string]report.VM{}}
	for i, p := range phases {
		r.VMs[fmt.Sprintf("%dacfbcca-161e-427c-8423-ef788bb47f00", i)] = report.VM{Name: "x", Phase: p}
	}
	return aMesh("a.one.test=127.0.0.1", "b.one.test=127.0.0.2").WithReport(r)
}

// drawChange draws a write; what HostDB refuses of it changes nothing.
func drawChange(t *rapid.T) func(tx *hostdb.Tx) {
	host, tag := rapid.SampledFrom(someHosts).Draw(t, "host"), rapid.SampledFrom(someTags).Draw(t, "tag")
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0, 1:
		d, _ := hostdb.ParseDocument([]byte(rapid.SampledFrom(someFacts).Draw(t, "facts")))
		return func(tx *hostdb.Tx) { _ = tx.Put(hostdb.Hosts, host, d) }
	case 2:
		d, _ := hostdb.ParseDocument([]byte(rapid.SampledFrom(someSections).Draw(t, "section")))
		return func(tx *hostdb.Tx) { _ = tx.Put(hostdb.Tags, tag, d) }
	case 3, 4:
		all, _ := hostdb.ParseMembers(strings.Join(rapid.SampledFrom(someMembers).Draw(t, "members"), "\n"))
		return func(tx *hostdb.Tx) {
			list := slices.DeleteFunc(slices.Clone(all), func(m hostdb.Member) bool {
				ns, key := hostdb.Hosts, m.Name
				if strings.HasPrefix(key, "@") {
					ns, key = hostdb.Tags, key[1:]
				}
				return !tx.Exists(ns, key)
			})
			_ = tx.SetMembers(hostdb.Tags, tag, list)
		}
	default:
		ns, key := hostdb.Tags, tag
		if rapid.Bool().Draw(t, "of host") {
			ns, key = hostdb.Hosts, host
		}
		return func(tx *hostdb.Tx) { _ = tx.Delete(ns, key) }
	}
}

// Whatever changes in whatever order: an update says what a compilation of everything says, and an old Zones stays.
func TestUpdateEqualsCompile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := openStore(t)
		defer s.Close()
		opts := DefaultOptions()
		z := Compile(s.View(), mesh.View{}, opts)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			var writes []func(tx *hostdb.Tx)
			for range rapid.IntRange(1, 4).Draw(rt, "writes") {
				writes = append(writes, drawChange(rt))
			}
			update(t, s, func(tx *hostdb.Tx) error {
				for _, write := range writes {
					write(tx)
				}
				return nil
			})
			m := rapid.SampledFrom(someMeshes).Draw(rt, "mesh")
			before := dump(t, z)
			next := z.Update(s.View(), m)
			if after := dump(t, z); after != before {
				rt.Fatalf("the old zones changed:\n%s\n---\n%s", before, after)
			}
			z = next
			want := dump(t, Compile(s.View(), m, opts))
			if got := dump(t, z); got != want {
				rt.Fatalf("updated:\n%s\ncompiled:\n%s", got, want)
			}
			everyNameAnswers(rt, z)
		}
	})
}

// everyNameAnswers asks for each record of each zone and wants it back, or what stands before it.
func everyNameAnswers(t interface {
	Helper()
	Errorf(string, ...any)
}, z *Zones) {
	t.Helper()
	for _, zn := range z.zones {
		soa := z.Lookup(zn.text, dns.TypeSOA)
		if len(soa.Answer) != 1 || soa.Zone != zn.text {
			t.Errorf("SOA of %s: %v", zn.text, soa)
		}
		for n, nd := range zn.nodes.all() {
			hidden := z.deepest(name(n)) != zn || z.find(name(n), 0).cut != nil
			if !hidden {
				if a := z.Lookup(name(n).String(), dns.TypeNULL); a.Rcode != dns.RcodeSuccess && nd.set(dns.TypeCNAME) == nil {
					t.Errorf("%s exists, but: %s", name(n), dns.RcodeToString[a.Rcode])
				}
			}
			var buf [1]rrset
			for _, set := range nd.sets(&buf) {
				a := z.Lookup(name(n).String(), set.typ)
				if nd.alias() != nil && isAddress(set.typ) {
					continue
				}
				if !hidden && (len(a.Answer) < len(set.rrs) || a.Answer[0] != set.rrs[0]) {
					t.Errorf("%s %s: got %v, want %v", name(n), dns.TypeToString[set.typ], a.Answer, set.rrs)
				}
			}
			if missing := z.Lookup("no-such-label."+name(n).String(), dns.TypeA); !hidden && zn.wild == 0 && missing.Rcode != dns.RcodeNameError {
				if z.deepest(name("\x0dno-such-label"+n)) == zn && z.find(name("\x0dno-such-label"+n), 0).cut == nil {
					t.Errorf("no-such-label.%s: %s", name(n), dns.RcodeToString[missing.Rcode])
				}
			}
		}
	}
}

// A persistent map is a map, and its versions do not disturb each other.
func TestPersistentMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			m    pmap[int]
			want map[string]int
		}
		versions := []version{{want: map[string]int{}}}
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			v := rapid.SampledFrom(versions).Draw(t, "base")
			next := version{v.m, map[string]int{}}
			for k, x := range v.want {
				next.want[k] = x
			}
			by := &edit{}
			for i := range rapid.IntRange(1, 60).Draw(t, "changes") {
				key := fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "key"))
				if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
					next.m = next.m.delete(by, key)
					delete(next.want, key)
				} else {
					next.m = next.m.set(by, key, i)
					next.want[key] = i
				}
			}
			versions = append(versions, next)
		}
		for _, v := range versions {
			n := 0
			for k, x := range v.m.all() {
				if n++; v.want[k] != x {
					t.Fatalf("%s is %d, want %d", k, x, v.want[k])
				}
			}
			for k, x := range v.want {
				if got, ok := v.m.get(k); !ok || got != x {
					t.Fatalf("get %s: %d %v, want %d", k, got, ok, x)
				}
			}
			if n != len(v.want) || v.m.len() != n {
				t.Fatalf("%d entries, len %d, want %d", n, v.m.len(), len(v.want))
			}
		}
	})
}

// Keys whose hashes are equal stand beside each other.
func TestPersistentMapCollisions(t *testing.T) {
	var root *pnode[int]
	by := &edit{}
	for i := range 5 {
		root, _ = root.put(by, pentry[int]{7, fmt.Sprint(i), i}, 0)
	}
	root, added := root.put(by, pentry[int]{7, "3", 33}, 0)
	m := pmap[int]{root, 5}
	if v, ok := m.find(7, "3"); added || !ok || v != 33 {
		t.Fatalf("got %d %v, added %v", v, ok, added)
	}
	for i := range 5 {
		m.root = m.root.drop(&edit{}, 7, fmt.Sprint(i), 0)
		if _, ok := m.find(7, fmt.Sprint(i)); ok {
			t.Fatalf("%d is still there", i)
		}
	}
	if m.root != nil {
		t.Fatal("the empty map has a root")
	}
}
