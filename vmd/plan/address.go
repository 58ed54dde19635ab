package plan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"hostmesh/hostdb"
)

var (
	// ErrNeedBlock is returned while the box's blocks are used up and it may ask for another.
	ErrNeedBlock = errors.New("the blocks of this box are used up")
	// ErrFull is returned when a Subnet has no address left that may be given.
	ErrFull = errors.New("the subnet is full")
	// ErrAddress is returned for an address or a hardware address that a machine must not have.
	ErrAddress = errors.New("the address cannot be used")
)

// Rest is how long a freed address is not given again: caches of names and neighbours have forgotten it by then.
const Rest = time.Hour

// AddressInput is what an address follows from.
type AddressInput struct {
	Subnet Subnet
	// Blocks are owned by this box, in the order in which they are to be used. Those outside of the pool, as it is now, are not used.
	Blocks []netip.Prefix
	// InUse names who has an address; "" = nobody. See InUse.
	InUse func(netip.Addr) string
	// Resting are addresses that were freed, and when. They stay in it until they are given again.
	Resting map[netip.Addr]time.Time
	Now     time.Time
	// Want is an address entered by hand; the zero Addr = any.
	Want netip.Addr
	// Last says that there is no further block to ask for.
	Last bool
}

// NextAddress is the address that a machine is given: one that was never used, else the one that rests longest, of those that
// rested for Rest. Its error wraps ErrNeedBlock, or ErrFull when Last is set, with how many rest and until when; or ErrAddress
// when Want cannot be used.
func NextAddress(in AddressInput) (netip.Addr, error) {
	if in.Want.IsValid() {
		if err := CheckAddress(in, in.Want); err != nil {
			return netip.Addr{}, err
		}
		return in.Want, nil
	}
	s := in.Subnet
	if !s.Pool.IsValid() {
		return netip.Addr{}, fmt.Errorf("%w: tags/%s has no Pool: give it one, or enter Network/IP of the host by hand", ErrFull, s.Tag)
	}
	var best netip.Addr // of those that rested enough
	var since time.Time // when it was freed
	var first time.Time // when the first of the others may be given
	blocks, resting := 0, 0
	for _, b := range in.Blocks {
		b = b.Masked()
		if !b.IsValid() || !within(b, s.Pool) {
			continue
		}
		blocks++
		for a := b.Addr(); b.Contains(a); a = a.Next() {
			if s.special(a) != "" {
				continue
			}
			freed, rests := in.Resting[a]
			switch until := freed.Add(Rest); {
			case rests && best.IsValid() && !freed.Before(since) && !until.After(in.Now):
			case in.InUse(a) != "":
			case !rests:
				return a, nil
			case until.After(in.Now):
				if resting++; resting == 1 || until.Before(first) {
					first = until
				}
			default:
				best, since = a, freed
			}
		}
	}
	if best.IsValid() {
		return best, nil
	}
	return netip.Addr{}, exhausted(in, blocks, resting, first)
}

func exhausted(in AddressInput, blocks, resting int, first time.Time) error {
	what, todo := ErrNeedBlock, "the box asks for another"
	if in.Last {
		what, todo = ErrFull, fmt.Sprintf("all blocks of Pool %s have an owner: make the pool larger, or enter Network/IP of the host by hand", in.Subnet.Pool)
	}
	rest := ""
	if resting > 0 {
		rest = fmt.Sprintf(" (%s, the first until %s)", count(resting, "address rests after use", "addresses rest after use"), first.UTC().Format(time.RFC3339))
	}
	return fmt.Errorf("subnet %s: %w: no free address in %s%s; %s", in.Subnet.Tag, what, count(blocks, "block of this box", "blocks of this box"), rest, todo)
}

// CheckAddress says whether a machine may have an address entered by hand: in CIDR outside of the pool, or in a block that this
// box owns; of nobody else, and nothing special. A resting one may be entered. The error wraps ErrAddress.
func CheckAddress(in AddressInput, addr netip.Addr) error {
	reason := in.Subnet.unusable(addr)
	if reason == "" && in.Subnet.Pool.IsValid() && in.Subnet.Pool.Contains(addr) && !owned(in.Blocks, addr) {
		reason = fmt.Sprintf("it lies in Pool %s of tags/%s, in a block that this box does not own; enter one outside of Pool, or none to be given one", in.Subnet.Pool, in.Subnet.Tag)
	}
	if reason == "" {
		if who := in.InUse(addr); who != "" {
			reason = "it is that of hosts/" + who + "; enter another, or none to be given one"
		}
	}
	if reason != "" {
		return fmt.Errorf("%w: Network/IP %s: %s", ErrAddress, addr, reason)
	}
	return nil
}

func owned(blocks []netip.Prefix, addr netip.Addr) bool {
	for _, b := range blocks {
		if b.Contains(addr) {
			return true
		}
	}
	return false
}

// unusable says why no machine of the network may have an address, and what to do; "" = one may.
func (s Subnet) unusable(addr netip.Addr) string {
	if !s.CIDR.Contains(addr) {
		return fmt.Sprintf("it is not in CIDR %s of tags/%s; enter one that is, or none to be given one", s.CIDR, s.Tag)
	}
	if what := s.special(addr); what != "" {
		return fmt.Sprintf("it is %s of tags/%s; enter another, or none to be given one", what, s.Tag)
	}
	return ""
}

// special says what an address of the network is kept for; "" = it is for hosts.
func (s Subnet) special(addr netip.Addr) string {
	switch {
	case addr == s.Gateway:
		return "the gateway"
	case s.VIPs.IsValid() && s.VIPs.Contains(addr):
		return "kept for virtual IPs by VIPs " + s.VIPs.String()
	case s.CIDR.Bits() >= addr.BitLen()-1: // RFC 3021, RFC 6164: a network of two has no others
		return ""
	case addr == s.CIDR.Masked().Addr():
		return "the address of the network itself" // in IPv6 that of any router, RFC 4291 section 2.6.1
	case addr.Is4() && addr == lastOf(s.CIDR):
		return "the broadcast address"
	}
	return ""
}

// InUse is who has an address in HostDB, but for the host itself.
func InUse(db hostdb.View, name string) func(netip.Addr) string {
	return func(a netip.Addr) string {
		for _, host := range db.HostsByAddr(a.String()) {
			if host != name {
				return host
			}
		}
		return ""
	}
}

// CheckMAC says whether a machine may have a hardware address: one of a single interface, that no other host has. The error
// wraps ErrAddress.
func (p *Planner) CheckMAC(name string, mac net.HardwareAddr) error {
	if reason := badMAC(mac); reason != "" {
		return fmt.Errorf("%w: Network/MAC %s: %s", ErrAddress, mac, reason)
	}
	for _, host := range p.macs.of([6]byte(mac)) {
		if host != name {
			return fmt.Errorf("%w: Network/MAC %s: it is that of hosts/%s; enter another", ErrAddress, mac, host)
		}
	}
	return nil
}

// badMAC says why no machine may have a hardware address; "" = one may.
func badMAC(mac net.HardwareAddr) string {
	switch {
	case len(mac) != 6:
		return "it has not 6 bytes; enter one such as 52:54:00:01:08:0b, or none to be given one"
	case mac[0]&1 != 0:
		return "it is one of groups; enter one whose first byte is even, or none to be given one"
	}
	return ""
}
