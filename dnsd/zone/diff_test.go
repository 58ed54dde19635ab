package zone

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// contents are the records of a zone and how often each is there, which is once.
func contents(t interface {
	Helper()
	Fatalf(string, ...any)
}, z *Zones, origin string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for rr := range z.Records(origin) {
		if out[rr.String()] {
			t.Fatalf("%s has %s twice", origin, rr)
		}
		out[rr.String()] = true
	}
	return out
}

func texted(rrs []dns.RR) []string {
	out := []string{}
	for _, rr := range rrs {
		out = append(out, rr.String())
	}
	slices.Sort(out)
	return out
}

// Whatever changes in whatever order, be the zones of one lineage or not: what was there, without what is told as removed
// and with what is told as added, is what is there, and nothing is told for nothing.
func TestDiffLeadsFromOneToTheOther(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := openStore(t)
		defer s.Close()
		opts := DefaultOptions()
		all := []*Zones{Compile(s.View(), mesh.View{}, opts)}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			writes := rapid.IntRange(1, 3).Draw(rt, "writes")
			update(t, s, func(tx *hostdb.Tx) error {
				for range writes {
					drawChange(rt)(tx)
				}
				return nil
			})
			m := rapid.SampledFrom(someMeshes).Draw(rt, "mesh")
			if rapid.Bool().Draw(rt, "apart") {
				all = append(all, Compile(s.View(), m, opts))
			} else {
				all = append(all, all[len(all)-1].Update(s.View(), m))
			}
		}
		now := all[len(all)-1]
		old := rapid.SampledFrom(all).Draw(rt, "old")
		origins := map[string]bool{}
		for _, i := range append(old.Infos(), now.Infos()...) {
			origins[i.Origin] = true
		}
		for origin := range origins {
			have, want := contents(rt, old, origin), contents(rt, now, origin)
			removed, added := now.Diff(old, origin)
			for _, rr := range removed {
				if !have[rr.String()] || want[rr.String()] {
					rt.Fatalf("%s: %s is told as removed", origin, rr)
				}
				delete(have, rr.String())
			}
			for _, rr := range added {
				if have[rr.String()] {
					rt.Fatalf("%s: %s is told as added", origin, rr)
				}
				have[rr.String()] = true
			}
			if !maps.Equal(have, want) {
				rt.Fatalf("%s: after the difference\n%v\nwant\n%v", origin, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
			}
			back, forth := old.Diff(now, origin)
			if !slices.Equal(texted(back), texted(added)) || !slices.Equal(texted(forth), texted(removed)) {
				rt.Fatalf("%s: the way back is another one", origin)
			}
		}
	})
}

// Trees of one content may have other shapes, because a deletion leaves them deep.
func TestDiffOfTreesOfOtherShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, b pmap[int]
		keys := func(label string) []int { return rapid.SliceOfN(rapid.IntRange(0, 400), 0, 300).Draw(t, label) }
		for _, k := range keys("common") {
			a = a.set(&edit{}, fmt.Sprint(k), k+1)
		}
		b = a
		for _, k := range keys("gone from a") {
			a = a.delete(&edit{}, fmt.Sprint(k))
		}
		for _, k := range keys("gone from b") {
			b = b.delete(&edit{}, fmt.Sprint(k))
		}
		for _, k := range keys("new in b") {
			b = b.set(&edit{}, fmt.Sprint(k), k+2)
		}
		got := map[[2]int]int{}
		diffNodes(a.root, b.root, 0, func(x, y int) { got[[2]int{x, y}]++ })
		want := map[[2]int]int{}
		for k, x := range a.all() {
			if y, _ := b.get(k); x != y {
				want[[2]int{x, y}]++
			}
		}
		for k, y := range b.all() {
			if _, ok := a.get(k); !ok {
				want[[2]int{0, y}]++
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// A difference costs what changed, not what there is.
func TestDiffCostsTheChange(t *testing.T) {
	s := bigStore(t, 20_000)
	m := aMesh("host-1.dc1.example.com=127.0.0.1")
	was := Compile(s.View(), m, DefaultOptions())
	put(t, s, "hosts/"+hostKey(77), "Network: {IP: 10.200.1.1}")
	now := was.Update(s.View(), m)
	removed, added := now.Diff(was, "dc1.example.com.")
	if len(removed) != 3 || len(added) != 1 {
		t.Errorf("removed %v, added %v", removed, added)
	}
	if n := testing.AllocsPerRun(10, func() { now.Diff(was, "dc1.example.com.") }); n > 100 {
		t.Errorf("%v allocations for one host of 20,000", n)
	}
}

func BenchmarkDiffOfOneHost(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := bigStore(b, n)
			m := aMesh("host-1.dc1.example.com=127.0.0.1")
			was := Compile(s.View(), m, DefaultOptions())
			put(b, s, "hosts/"+hostKey(77), "Network: {IP: 10.200.1.1}")
			now := was.Update(s.View(), m)
			b.ReportAllocs()
			for b.Loop() {
				now.Diff(was, "dc1.example.com.")
			}
		})
	}
}
