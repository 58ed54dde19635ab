package dnsd

import (
	"testing"

	"hostmesh/dnsd/zone"
	"hostmesh/mesh"
)

// Whoever is told of zones hears of each, in order, with its serials, before anybody is answered from it.
func TestPublishedBeforeServed(t *testing.T) {
	var heard []*zone.Zones
	var s *Server
	after := 0
	s = startServer(t, func(c *Config) {
		c.Publishing = func(z *zone.Zones) {
			if s.Zones() == z {
				t.Error("it is served before it is told")
			}
			heard = append(heard, z)
		}
		c.Published = func(z *zone.Zones) { // secondaries that are told now must find it
			if s.Zones() != z || len(heard) == 0 || heard[len(heard)-1] != z {
				t.Error("it is told before it is served")
			}
			after++
		}
	})
	m := mesh.View{}
	reconcile(t, s, smallSite(t, 2), m)
	reconcile(t, s, smallSite(t, 3), m)
	if len(heard) != 2 || after != 2 || heard[1] != s.Zones() || heard[0] == heard[1] {
		t.Fatalf("heard %d", len(heard))
	}
	for _, i := range heard[0].Infos() {
		now, _ := heard[1].Info(i.Origin)
		if i.Serial == 0 || now.Hash != i.Hash && !newer(now.Serial, i.Serial) {
			t.Errorf("%s: serial %d, then %d", i.Origin, i.Serial, now.Serial)
		}
	}
}
