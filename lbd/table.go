package lbd

import (
	"reflect"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
)

// tableOf is what the kernel divides: the services of mode nat.
func tableOf(list []*plan.Service) nft.Table {
	var t nft.Table
	for _, s := range list {
		if s.Mode != section.NAT {
			continue
		}
		for _, f := range s.Ports {
			x := nft.Service{
				Key: s.Tag, VIP: s.VIP, Port: f.Port, Proto: nft.Proto(f.Proto), Balance: nft.Balance(s.Balance), Masquerade: s.Masquerade, DrainLimit: s.Drain,
			}
			for _, b := range s.Backends {
				switch b.State {
				case plan.In:
					x.Backends = append(x.Backends, nft.Backend{Addr: b.Addr, Port: f.To, Weight: b.Weight, State: nft.In})
				case plan.Draining:
					x.Backends = append(x.Backends, nft.Backend{Addr: b.Addr, Port: f.To, Weight: b.Weight, State: nft.Draining})
				}
			}
			t.Services = append(t.Services, x)
		}
	}
	return t
}

// proxied are the services that HAProxy divides.
func proxied(list []*plan.Service) []*plan.Service {
	var out []*plan.Service
	for _, s := range list {
		if s.Mode != section.NAT {
			out = append(out, s)
		}
	}
	return out
}

func sameTable(a, b nft.Table) bool { return reflect.DeepEqual(a, b) }
