package nft

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Table is all that this box balances. The zero Table is nothing.
type Table struct {
	Services []Service
}

// Service is one port of a virtual address, and who answers behind it.
type Service struct {
	Key  string // names it in errors, log lines and metrics: the tag
	VIP  netip.Addr
	Port uint16
	// Proto is TCP or UDP.
	Proto   Proto
	Balance Balance
	// Masquerade makes members see this box as the client, so that answers come back this way. Without it this box must be the way back.
	Masquerade bool
	// DrainLimit is how long flows of a draining backend may go on. 0 = Config.DrainLimit.
	DrainLimit time.Duration
	// Backends may be empty: then connections are refused at once.
	Backends []Backend
}

// Backend is a member. One that stands in the table no more is taken for dead, and what was sent to it goes elsewhere at once.
type Backend struct {
	Addr netip.Addr // of the VIP's family
	Port uint16
	// Weight is its share beside the others'; 0 = 1, and at most MaxWeight.
	Weight int
	State  State
}

// Proto is a transport protocol.
type Proto string

// The protocols that are balanced.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// Balance is how a member is chosen for a new flow.
type Balance string

// The ways to choose.
const (
	RoundRobin Balance = "round-robin" // each in turn
	Source     Balance = "source"      // by the client's address
)

// State is what a backend gets.
type State string

// The states of a backend.
const (
	In       State = "in"
	Draining State = "draining" // no new flows; what flows goes on until it ends or the limit passes
)

// Bounds of a table.
const (
	MaxWeight   = 256
	MaxBackends = Slots / 4 // of a service; beyond that, shares by slots are no shares
	MaxServices = 256       // a new flow looks through the VIPs one by one, once
)

func (b Backend) String() string { return netip.AddrPortFrom(b.Addr, b.Port).String() }

func (b Backend) weight() int { return max(b.Weight, 1) }

// String is the service as people write it: 10.1.0.53:53/udp.
func (s Service) String() string {
	return netip.AddrPortFrom(s.VIP, s.Port).String() + "/" + string(s.Proto)
}

func (s Service) in() []Backend {
	return slices.DeleteFunc(slices.Clone(s.Backends), func(b Backend) bool { return b.State != In })
}

// Normal returns t in the order in which it is compared, sharing nothing with t; or ErrTable, naming the service and what is wrong.
func (t Table) Normal() (Table, error) {
	if len(t.Services) > MaxServices {
		return Table{}, fmt.Errorf("%w: it has %d services, at most %d fit: spread them over more boxes", ErrTable, len(t.Services), MaxServices)
	}
	out := Table{slices.Clone(t.Services)}
	seen := make(map[string]string, len(out.Services))
	vips := make(map[netip.AddrPort]string, len(out.Services))
	for i := range out.Services {
		s := &out.Services[i]
		s.VIP = s.VIP.Unmap()
		if err := s.check(); err != nil {
			return Table{}, fmt.Errorf("%w: service %s of %q: %w", ErrTable, *s, s.Key, err)
		}
		if other, twice := seen[s.String()]; twice {
			return Table{}, fmt.Errorf("%w: %s is claimed by %q and by %q: give one of them another VIP or port", ErrTable, *s, other, s.Key)
		}
		seen[s.String()] = s.Key
		vips[netip.AddrPortFrom(s.VIP, s.Port)] = s.Key
		s.Backends = slices.Clone(s.Backends)
		for j := range s.Backends {
			s.Backends[j].Addr = s.Backends[j].Addr.Unmap()
		}
		slices.SortFunc(s.Backends, func(a, b Backend) int {
			return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
		})
		for j := 1; j < len(s.Backends); j++ {
			if a, b := s.Backends[j-1], s.Backends[j]; a.Addr == b.Addr && a.Port == b.Port {
				return Table{}, fmt.Errorf("%w: service %s of %q: backend %s stands twice in it", ErrTable, *s, s.Key, b)
			}
		}
	}
	for _, s := range out.Services {
		for _, b := range s.Backends {
			if key, loop := vips[netip.AddrPortFrom(b.Addr, b.Port)]; loop {
				return Table{}, fmt.Errorf("%w: service %s of %q: backend %s is itself the VIP of %q: name the members' own addresses", ErrTable, s, s.Key, b, key)
			}
		}
	}
	slices.SortFunc(out.Services, func(a, b Service) int {
		return cmp.Or(a.VIP.Compare(b.VIP), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	return out, nil
}

func (s Service) check() error {
	switch {
	case !usable(s.VIP):
		return fmt.Errorf("the VIP %s is no unicast address without a zone", s.VIP)
	case s.Port == 0:
		return fmt.Errorf("port 0 is none")
	case s.Proto != TCP && s.Proto != UDP:
		return fmt.Errorf("protocol %q is neither tcp nor udp", s.Proto)
	case s.Balance != RoundRobin && s.Balance != Source:
		return fmt.Errorf("balance %q is neither round-robin nor source", s.Balance)
	case s.DrainLimit < 0:
		return fmt.Errorf("drain limit %s is below zero", s.DrainLimit)
	case len(s.Backends) > MaxBackends:
		return fmt.Errorf("it has %d backends, at most %d get their shares: divide the tag", len(s.Backends), MaxBackends)
	}
	for _, b := range s.Backends {
		switch {
		case !usable(b.Addr):
			return fmt.Errorf("the backend's address %s is no unicast address without a zone", b.Addr)
		case b.Addr.Unmap().Is4() != s.VIP.Is4():
			return fmt.Errorf("backend %s is not of the VIP's family: the kernel translates IPv4 to IPv4 and IPv6 to IPv6 only", b)
		case b.Port == 0:
			return fmt.Errorf("backend %s: port 0 is none", b.Addr)
		case b.Weight < 0 || b.Weight > MaxWeight:
			return fmt.Errorf("backend %s: weight %d is not within 0 to %d", b, b.Weight, MaxWeight)
		case b.State != In && b.State != Draining:
			return fmt.Errorf("backend %s: state %q is neither in nor draining", b, b.State)
		}
	}
	return nil
}

func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// name is what the kernel's objects of a service are called: people read it in nft list.
func (s Service) name() string {
	return string(s.Proto) + "_" + plain(s.VIP) + "_" + fmt.Sprint(s.Port)
}

// counter is the name of a backend's counter.
func (s Service) counter(b Backend) string {
	return "flows_" + s.name() + "_" + plain(b.Addr) + "_" + fmt.Sprint(b.Port)
}

// plain is an address in letters that nft's grammar takes within a name.
func plain(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return strings.ReplaceAll(a.StringExpanded(), ":", ".")
}
