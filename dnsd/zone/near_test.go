package zone

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

func TestStationOf(t *testing.T) {
	z := Compile(openStore(t).View(), aMesh("a=10.1.0.11", "b=10.1.7.12", "c=10.2.0.11", "d=fd00:0:1::1", "e=127.0.0.3"), DefaultOptions())
	list := z.findStations()
	for from, want := range map[string]string{"10.1.0.200": "10.1.0.11", "10.1.7.1": "10.1.7.12", "10.1.7.12": "10.1.7.12", "10.2.255.1": "10.2.0.11", "10.3.0.1": "",
		"192.0.2.1": "", "fd00:0:1:9::5": "fd00:0:1::1", "fd01::1": "", "255.255.255.255": "", "0.0.0.0": "", "::ffff:10.2.0.1": "10.2.0.11"} {
		got := ""
		if i := stationOf(list, netip.MustParseAddr(from)); i >= 0 {
			got = list[i].addr.String()
		}
		if got != want {
			t.Errorf("%s stands at %q, want %q", from, got, want)
		}
	}
}

// Two sites; who asks from one is given that one's members first, and any of them.
func TestNearestFirst(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/web", "Service: {Port: 80, Order: near}")
	put(t, s, "tags/any", "Service: {Port: 80}")
	var all []string
	for host, ip := range map[string]string{"n1": "10.1.0.1", "n2": "10.2.0.1", "vm1": "10.1.0.77", "vm2": "10.2.0.77", "stray": "192.0.2.9"} {
		put(t, s, "hosts/"+host, "Network: {IP: "+ip+"}")
		all = append(all, host)
	}
	members(t, s, "web", all...)
	members(t, s, "any", all...)
	m := aMesh("n1=10.1.0.1", "n2=10.2.0.1")
	m = m.WithDistance(m.Members()[0].ID, m.Members()[1].ID, 20*time.Millisecond)
	z := Compile(s.View(), m, DefaultOptions())
	order := func(z *Zones, tag, from string) (string, int) {
		a := z.LookupFrom(tag+".tag.mesh.internal.", dns.TypeA, netip.MustParseAddr(from))
		var out []string
		for _, rr := range a.Answer {
			out = append(out, rr.(*dns.A).A.String())
		}
		return strings.Join(out, " "), a.Near
	}
	for from, want := range map[string]string{
		"10.1.3.4":    "10.1.0.1 10.1.0.77 10.2.0.1 10.2.0.77 192.0.2.9",
		"10.2.3.4":    "10.2.0.1 10.2.0.77 10.1.0.1 10.1.0.77 192.0.2.9",
		"203.0.113.1": "10.1.0.1 10.1.0.77 10.2.0.1 10.2.0.77 192.0.2.9", // nobody knows: near this node
	} {
		if got, near := order(z, "web", from); got != want || near != 2 {
			t.Errorf("from %s: %s, near %d; want %s", from, got, near, want)
		}
	}
	if _, near := order(z, "any", "10.2.3.4"); near != 0 {
		t.Errorf("a tag in random order has %d near", near)
	}
	far := m.WithDistance(m.Members()[0].ID, m.Members()[1].ID, 0)
	if got, near := order(z.Update(s.View(), far), "web", "10.2.3.4"); near != 4 {
		t.Errorf("when all are near: %s, %d", got, near)
	}
	failed := mesh.NewView(m.Self().ID, []mesh.Member{m.Members()[0], func() mesh.Member { x := m.Members()[1]; x.State = mesh.StateFailed; return x }()})
	if got, _ := order(z.Update(s.View(), failed), "web", "10.2.3.4"); strings.Contains(got, "10.2.0.1 ") {
		t.Errorf("a failed one is answered: %s", got)
	}
}
