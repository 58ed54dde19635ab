package vip

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Link is a network interface.
type Link struct {
	Index   int
	Name    string
	MAC     net.HardwareAddr
	Running bool // it is up, and has a carrier
}

// Address is an address on an interface.
type Address struct {
	Link   int // its index
	Prefix netip.Prefix
	// Lifetime is what is left of it, in whole seconds, rounded down; 0 = it lives for ever.
	Lifetime time.Duration
}

// Kernel has interfaces and their addresses, and ends the life of those that have one. Its methods are safe for concurrent use; those that
// change something return when it is done.
type Kernel interface {
	// Check tells whether addresses can be held here at all: ErrNotAllowed, ErrUnsuited.
	Check() error
	// Links lists the interfaces.
	Links() ([]Link, error)
	// Addresses lists the addresses of all interfaces.
	Addresses() ([]Address, error)
	// Add makes an address, which is usable at once and ends by itself at most 0.3 s after its lifetime of whole seconds. ErrExists
	// when there is one on this interface, ErrNoLink.
	Add(a Address) error
	// Refresh begins its lifetime anew. It never makes an address: ErrGone when there is none.
	Refresh(a Address) error
	// Delete removes an address. It is nil when there is none.
	Delete(a Address) error
	// Watch has one slot, which is filled when an address is gone or an interface has changed, perhaps. It is closed when nothing can be seen any
	// more, and by stop.
	Watch() (changed <-chan struct{}, stop func(), err error)
}

// interfaceFor chooses the interface whose subnet has an address: of the longest prefix, a running one first, then by index; of Ethernet ones. bits, if not 0, are those of
// the address's subnet: only addresses in it count. Addresses that are hosts of their own, and the address itself, say nothing of a subnet.
func interfaceFor(links []Link, has []Address, addr netip.Addr, bits int) (Link, error) {
	type choice struct {
		link Link
		bits int
	}
	var choices []choice
	var seen []string
	for _, a := range has {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Index == a.Link })
		if i < 0 || a.Prefix.IsSingleIP() || a.Prefix.Addr() == addr || a.Prefix.Addr().Is4() != addr.Is4() || a.Prefix.Addr().IsLoopback() {
			continue
		}
		if mac := links[i].MAC; len(mac) != 6 || bytes.Equal(mac, nobody) { // as lo is; nobody can be asked and told there
			seen = append(seen, fmt.Sprintf("%s has %s, but no Ethernet address", links[i].Name, a.Prefix))
			continue
		}
		seen = append(seen, fmt.Sprintf("%s has %s", links[i].Name, a.Prefix))
		if !a.Prefix.Contains(addr) || bits != 0 && a.Prefix.Bits() < bits && !netip.PrefixFrom(addr, bits).Masked().Contains(a.Prefix.Addr()) {
			continue
		}
		choices = append(choices, choice{links[i], a.Prefix.Bits()})
	}
	if len(choices) == 0 {
		slices.Sort(seen)
		what := "no interface has an address of that family with a subnet"
		if len(seen) > 0 {
			what = strings.Join(slices.Compact(seen), ", ")
		}
		return Link{}, fmt.Errorf("%w: %s is in no subnet of this box (%s); give an interface an address in its subnet, or name the interface", ErrNoInterface, addr, what)
	}
	return slices.MinFunc(choices, func(a, b choice) int {
		switch {
		case a.link.Running != b.link.Running && a.link.Running:
			return -1
		case a.link.Running != b.link.Running:
			return 1
		case a.bits != b.bits:
			return b.bits - a.bits
		}
		return a.link.Index - b.link.Index
	}).link, nil
}

func linkNamed(links []Link, name string) (Link, bool) {
	i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return links[i], true
}

func sameLink(a, b Link) bool {
	return a.Index == b.Index && a.Name == b.Name && a.Running == b.Running && bytes.Equal(a.MAC, b.MAC)
}
