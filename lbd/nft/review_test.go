package nft

import (
	"net/netip"
	"testing"
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
