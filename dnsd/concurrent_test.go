package dnsd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// While hosts change, every query gets a right answer: the one before or the one after.
func TestQueriesDuringChanges(t *testing.T) {
	db := smallSite(t, 20)
	s := startServer(t, nil)
	reconcile(t, s, db, mesh.View{})
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for ctx.Err() == nil {
				for name, want := range map[string]int{"h1.x.test.": 1, "c1.x.test.": 2, "x.tag.mesh.internal.": 20, "h2.x.test.": 1} {
					m, _ := s.respond(question(name, dns.TypeA), netip.Addr{}, false)
					if len(m.Answer) != want {
						t.Errorf("%s: %d records, want %d:\n%v", name, len(m.Answer), want, m)
						return
					}
					if _, err := m.Pack(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	serials := map[uint32]bool{}
	const changes = 50
	for i := range changes {
		put(t, db, "hosts/h1.x.test", fmt.Sprintf("Network: {IP: 10.0.9.%d, cname: c1}", i))
		reconcile(t, s, db, mesh.View{})
		info, _ := s.Zones().Info("x.test.")
		serials[info.Serial] = true
		m, _ := s.respond(question("h1.x.test.", dns.TypeA), netip.Addr{}, true)
		if !strings.HasSuffix(m.Answer[0].String(), fmt.Sprintf("10.0.9.%d", i)) {
			t.Errorf("after change %d: %v", i, m.Answer)
		}
	}
	stop()
	clients.Wait()
	if len(serials) != changes {
		t.Errorf("%d changes, %d serials", changes, len(serials))
	}
}
