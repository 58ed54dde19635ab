package lbd

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

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

// usable is what the kernel can have of a table that contradicts itself: a backend, or else a tag, that is to blame is left out, and refused has
// why, by tag. A tag that is left out keeps what the kernel has of its ports. One bad entry must not stop all others.
func usable(want, have nft.Table) (out nft.Table, refused map[string]error) {
	refused = map[string]error{}
	ours := map[netip.AddrPort]string{}
	for _, x := range want.Services {
		ours[netip.AddrPortFrom(x.VIP, x.Port)] = x.Key
	}
	good := func(x nft.Service) error {
		_, err := nft.Table{Services: []nft.Service{x}}.Normal()
		return err
	}
	for _, x := range want.Services {
		all := x.Backends
		x.Backends = nil
		for _, b := range all {
			one := x
			one.Backends = []nft.Backend{b}
			if key, loop := ours[netip.AddrPortFrom(b.Addr.Unmap(), b.Port)]; loop {
				refused[x.Key] = fmt.Errorf("tags/%s: backend %s is itself the VIP of tags/%s, and is left out", x.Key, b, key)
			} else if err := good(one); err != nil {
				refused[x.Key] = fmt.Errorf("tags/%s: a backend is left out: %w", x.Key, err)
			} else {
				x.Backends = append(x.Backends, b)
			}
		}
		if err := good(x); err != nil {
			i := slices.IndexFunc(have.Services, func(h nft.Service) bool {
				return h.Key == x.Key && h.VIP == x.VIP && h.Port == x.Port && h.Proto == x.Proto
			})
			if i < 0 {
				refused[x.Key] = fmt.Errorf("tags/%s: it is not balanced: %w", x.Key, err)
				continue
			}
			refused[x.Key] = fmt.Errorf("tags/%s: it stays as it was: %w", x.Key, err)
			x = have.Services[i]
		}
		out.Services = append(out.Services, x)
	}
	return out, refused
}

// refusals are all of them in one error, or nil.
func refusals(refused map[string]error) error {
	var list []error
	for _, tag := range slices.Sorted(maps.Keys(refused)) {
		list = append(list, refused[tag])
	}
	return errors.Join(list...)
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
