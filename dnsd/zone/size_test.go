package zone

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// oneEach has n hosts with one address each, in a zone and its reverse zone: what a host costs at the least.
func oneEach(t *testing.T, n int) *hostdb.Store {
	t.Helper()
	s := openStore(t)
	put(t, s, "tags/dc1", "DNS: {Zone: dc1.example.com, Reverse: [10.0.0.0/8]}")
	update(t, s, func(tx *hostdb.Tx) error {
		for i := range n {
			if err := tx.Put(hostdb.Hosts, hostKey(i), document(t, fmt.Sprintf("Network: {IP: 10.0.%d.%d}", i>>8, i&255))); err != nil {
				return err
			}
		}
		return tx.SetMembers(hostdb.Tags, "dc1", []hostdb.Member{{Name: "@all"}})
	})
	return s
}

// A host with an address and its PTR takes some 800 bytes here: an agent holds tens of thousands of them.
func TestBytesPerHost(t *testing.T) {
	const small, large, bound = 2_000, 10_000, 900
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first moves what pools hold, the second frees it
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var kept [2]int64
	for i, n := range []int{small, large} {
		v := oneEach(t, n).View()
		for _, h := range v.Members(hostdb.Tags, "dc1") {
			v.Data(hostdb.Hosts, h) // what the view keeps of it is not ours
		}
		before := heap()
		z := Compile(v, aMesh(), DefaultOptions())
		kept[i] = heap() - before
		runtime.KeepAlive(z)
		runtime.KeepAlive(v)
	}
	if per := (kept[1] - kept[0]) / (large - small); per > bound {
		t.Errorf("a host takes %d bytes, more than %d", per, bound)
	} else {
		t.Logf("%d bytes a host", per)
	}
}

// What a change compiles and makes anew is the same whatever the number of hosts, and no more than it must be.
func TestOneChangeTouches(t *testing.T) {
	type touched struct {
		sources      []string
		zones, names int
	}
	var all []touched
	for _, n := range []int{100, 2_000} {
		s := oneEach(t, n)
		var got touched
		opts := DefaultOptions()
		counting := false
		opts.probe = func(source string) {
			if counting {
				got.sources = append(got.sources, source)
			}
		}
		was := Compile(s.View(), aMesh(), opts)
		counting = true
		put(t, s, "hosts/"+hostKey(7), "Network: {IP: 10.1.2.3}")
		now := was.Update(s.View(), was.mesh)
		for origin, zn := range now.zones {
			if zn == was.zones[origin] {
				continue
			}
			got.zones++
			for k, nd := range zn.nodes.all() {
				if before, _ := was.zones[origin].nodes.get(k); nd != before {
					got.names++
				}
			}
		}
		all = append(all, got)
	}
	// The host and the tags that it is in. Names are the host's, those of its old and new pointers
	// with the empty ones above them, and those of the tags.
	want := []string{"tags/all", "tags/dc1", "hosts/" + hostKey(7)}
	for _, got := range all {
		if !slices.Equal(got.sources, want) {
			t.Errorf("%v were compiled, want %v", got.sources, want)
		}
		if got.zones != all[0].zones || got.zones > 3 {
			t.Errorf("%d zones were made anew, %d with fewer hosts", got.zones, all[0].zones)
		}
		if got.names != all[0].names || got.names > 10 {
			t.Errorf("%d names were made anew, %d with fewer hosts", got.names, all[0].names)
		}
	}
	t.Logf("%+v", all)
}

// A question for a name of one record costs the name and the list of the answer, and nothing for the set.
func TestLookupAllocations(t *testing.T) {
	z := Compile(oneEach(t, 100).View(), aMesh(), DefaultOptions())
	q := hostKey(7) + "."
	if a := z.Lookup(q, dns.TypeA); len(a.Answer) != 1 {
		t.Fatalf("the answer is %v", a.Answer)
	}
	if n := testing.AllocsPerRun(100, func() { z.Lookup(q, dns.TypeA) }); n > 2 {
		t.Errorf("%v allocations, 2 are needed", n)
	}
}
