package nft

import (
	"net/netip"
	"testing"
	"time"
)

// TestReviewHolderIsABackend: the box that divides may be one of those that serve. What goes there is served, and counted like all else.
func TestReviewHolderIsABackend(t *testing.T) {
	serve(t, 1085, "holder")
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, _ := open(t)
		own := addr("10.77.0.1")
		if six {
			own = addr("fd77::1")
		}
		for _, masquerade := range []bool{true, false} {
			s := service(proto, six, Source, 85)
			s.Backends, s.Masquerade = []Backend{{Addr: own, Port: 1085, State: In}}, masquerade
			apply(t, b, s)
			before := b.Status().Services[0].Backends[0].Flows
			calls := uint64(0)
			for _, box := range []string{"near", "far", ""} {
				if box != "near" && proto == UDP {
					continue // who listens on all addresses answers from another one than was asked, with a VIP or without
				}
				mustDial(t, box, proto, netip.Addr{}, s.at())
				calls++
			}
			if n := b.Status().Services[0].Backends[0].Flows - before; n < calls || n > calls+1 {
				t.Errorf("masquerade %v: %d flows, %d counted", masquerade, calls, n)
			}
		}
	})
}

// TestReviewForeignFlowsStay: flows that were not addressed to a service of ours are nobody's to end, whatever their protocol, port or answerer.
func TestReviewForeignFlowsStay(t *testing.T) {
	s := service(TCP, false, Source, 80, 0, 1)
	gone := place{TCP, netip.MustParseAddrPort("10.77.0.100:81")}
	drained := s.drain(1)
	now := time.Unix(1_900_000_000, 0)
	since := map[member]time.Time{drained.member(drained.Backends[1]): now.Add(-time.Hour)}
	v := judge(Table{[]Service{drained}}, since, map[place]bool{gone: true}, time.Minute, now)
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		name string
		flow flow
		ends bool
	}{
		{"to a backend that is in", flow{TCP, s.at(), at("10.77.0.11:1080")}, false},
		{"to one whose time to drain is over", flow{TCP, s.at(), at("10.77.0.12:1080")}, true},
		{"to one that is none any more", flow{TCP, s.at(), at("10.77.0.13:1080")}, true},
		{"to a service that went", flow{TCP, gone.vip, at("10.77.0.11:1081")}, true},
		{"to the VIP by another protocol", flow{UDP, s.at(), at("10.77.0.100:80")}, false},
		{"to another port of the VIP", flow{TCP, at("10.77.0.100:22"), at("10.77.0.100:22")}, false},
		{"to a backend itself", flow{TCP, at("10.77.0.11:1080"), at("10.77.0.11:1080")}, false},
		{"of somebody else", flow{TCP, at("192.0.2.1:443"), at("192.0.2.1:443")}, false},
	} {
		if got := v.drop(c.flow); got != c.ends {
			t.Errorf("%s: it ends: %v", c.name, got)
		}
	}
	// And on the kernel: a flow that this box forwards for others outlives changes of services.
	serve(t, 1086, "one")
	to := netip.AddrPortFrom(backendAddr(0, false), 1086)
	b, _ := open(t)
	apply(t, b, service(TCP, false, Source, 86, 0, 1))
	c := mustDial(t, "far", TCP, netip.Addr{}, to) // now flows are tracked
	apply(t, b, service(TCP, false, Source, 86, 0))
	apply(t, b, service(TCP, false, Source, 87, 0))
	tracks := 0
	if _, err := tracked(ip4, func(f flow) bool {
		if f.vip == to {
			tracks++
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	if tracks == 0 {
		t.Error("the kernel forgot a flow of somebody else")
	}
	if err := c.echo(); err != nil {
		t.Error(err)
	}
}
