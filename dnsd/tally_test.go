package dnsd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/mesh"
)

// Who asks most is found among many more than are remembered, and no count is off by more than it says.
func TestAskersFindTheHeavy(t *testing.T) {
	var a askers
	r := rand.New(rand.NewPCG(1, 2))
	real := map[netip.Addr]uint64{}
	total := uint64(0)
	for range 100_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), 1})
		if r.IntN(3) == 0 {
			addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(5))})
		}
		real[addr]++
		total++
		a.add(addr, 1)
	}
	list := merge(a.snapshot())
	if len(list) > mostAskers {
		t.Errorf("%d addresses are kept", len(list))
	}
	for i, k := range list {
		if i < 5 && k.Addr.As4()[0] != 192 {
			t.Errorf("place %d has %+v", i, k)
		}
		if n := real[k.Addr]; k.Questions < n || k.Questions-k.Error > n || k.Error > total/mostAskers {
			t.Errorf("%+v, in truth %d", k, n)
		}
	}
	for i := range a.heap {
		if a.index[a.heap[i].addr] != i || i > 0 && a.heap[i].n < a.heap[(i-1)/2].n {
			t.Fatalf("the heap is not one at %d", i)
		}
	}
}

// Answers of both paths and protocols are counted: what was asked, how long it took, and who asked.
func TestAnswersAreCounted(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, richSite(t), mesh.View{})
	for _, network := range []string{"udp", "tcp"} {
		for range 3 {
			query(t, s, network, question("h1.x.test.", dns.TypeA))
		}
		query(t, s, network, question("y.test.", dns.TypeMX))
		query(t, s, network, question("nobody.x.test.", dns.TypeA))
		query(t, s, network, question("www.elsewhere.test.", 65281))
	}
	want := map[string]uint64{"x.test. A NOERROR": 6, "y.test. MX NOERROR": 2, "x.test. A NXDOMAIN": 2, " other REFUSED": 2}
	deadline := time.Now().Add(30 * time.Second)
	for { // an answer is counted after it is sent
		got := map[string]uint64{}
		for _, q := range s.Queries() {
			got[fmt.Sprintf("%s %s %s", q.Zone, q.Type, q.Rcode)] = q.Count
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("counted are %v, want %v", got, want)
		}
		time.Sleep(time.Millisecond)
	}
	if top := s.Askers(); len(top) != 1 || top[0].Questions != 12 || !top[0].Addr.IsLoopback() {
		t.Errorf("askers: %+v", top)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, f := range families {
		seen[f.GetName()] = len(f.GetMetric())
		for _, m := range f.GetMetric() {
			if f.GetName() == "hostmesh_dns_query_seconds" && m.GetHistogram().GetSampleCount() != 6 {
				t.Errorf("latency of %v", m)
			}
		}
	}
	if seen["hostmesh_dns_queries_total"] != 4 || seen["hostmesh_dns_query_seconds"] != 2 || seen["hostmesh_dns_top_asker_queries"] != 1 {
		t.Errorf("series: %v", seen)
	}
}
