package plan

import (
	"net/netip"
	"testing"
)

// TestReviewVIPIsNoBackend: a host that gets the VIP's address is no backend behind it: connections would go round in a circle.
func TestReviewVIPIsNoBackend(t *testing.T) {
	w := newWorld(t)
	w.write(web(4))
	w.plan()
	w.write(map[string]string{hostID(1): "Network: {IP: 10.1.0.50}"})
	r := w.plan()
	s, ok := r.Service("web")
	if !ok || !s.Kept || !hasProblem(r, "web", VIPIsHost) {
		t.Fatalf("%s", show(r))
	}
	for _, b := range s.Backends {
		if b.Addr == netip.MustParseAddr("10.1.0.50") {
			t.Errorf("%+v", b)
		}
	}
	if !hasProblem(r, "web", SameAddress) {
		t.Errorf("nobody is told that it is left out: %s", show(r))
	}
	if got, want := states(r, "web"), "1d 2i 3i 4i"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
