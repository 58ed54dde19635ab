package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flow is what the kernel remembers of one: whom the client addressed, and who answers.
type flow struct {
	proto    Proto
	vip      netip.AddrPort
	answerer netip.AddrPort // the VIP itself where nothing was rewritten
}

// tracked goes through the flows of a family and ends those that drop names: the kernel forgets them, so that the next packet of such a client is
// sent to a member that is in, or refused.
func tracked(f family, drop func(flow) bool) (ended int, err error) {
	fam := netlink.InetFamily(unix.AF_INET)
	if f == ip6 {
		fam = unix.AF_INET6
	}
	for range 3 {
		var n uint
		n, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, fam, filter(drop))
		ended += int(n)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return ended, fmt.Errorf("go through tracked flows: %w", err)
	}
	return ended, nil
}

type filter func(flow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (drop filter) MatchConntrackFlow(x *netlink.ConntrackFlow) bool {
	f := flow{vip: addrPort(x.Forward.DstIP, x.Forward.DstPort), answerer: addrPort(x.Reverse.SrcIP, x.Reverse.SrcPort)}
	switch x.Forward.Protocol {
	case unix.IPPROTO_TCP:
		f.proto = TCP
	case unix.IPPROTO_UDP:
		f.proto = UDP
	default:
		return false
	}
	return drop(f)
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// place names a service as flows have it.
type place struct {
	proto Proto
	vip   netip.AddrPort
}

// member names a backend of a service.
type member struct {
	place
	addr netip.AddrPort
}

func (s Service) key() place { return place{s.Proto, netip.AddrPortFrom(s.VIP, s.Port)} }

func (s Service) member(b Backend) member {
	return member{s.key(), netip.AddrPortFrom(b.Addr, b.Port)}
}

// verdict says which flows may go on: those of backends that are in, and of draining ones until their time. retired are services that went.
type verdict struct {
	until   map[member]time.Time // the zero time: no end
	ours    map[place]bool
	now     time.Time
	counted map[member]int // flows that go on
}

func judge(t Table, since map[member]time.Time, retired map[place]bool, limit time.Duration, now time.Time) *verdict {
	v := &verdict{map[member]time.Time{}, map[place]bool{}, now, map[member]int{}}
	for p := range retired {
		v.ours[p] = true
	}
	for _, s := range t.Services {
		v.ours[s.key()] = true
		for _, b := range s.Backends {
			end := time.Time{}
			if b.State == Draining {
				end = since[s.member(b)].Add(s.drainLimit(limit))
			}
			v.until[s.member(b)] = end
		}
	}
	return v
}

func (s Service) drainLimit(limit time.Duration) time.Duration {
	if s.DrainLimit > 0 {
		return s.DrainLimit
	}
	return limit
}

// drop says whether a flow ends.
func (v *verdict) drop(f flow) bool {
	p := place{f.proto, f.vip}
	if !v.ours[p] {
		return false
	}
	m := member{p, f.answerer}
	until, stays := v.until[m]
	if !stays || !until.IsZero() && !v.now.Before(until) {
		return true
	}
	v.counted[m]++
	return false
}
