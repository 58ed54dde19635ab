package vip

import (
	"net"
	"net/netip"
)

// Sighting is what a neighbour was heard saying of an address.
type Sighting struct {
	From net.HardwareAddr
	// Asks: it wants to know whether anybody has the address, because it wants it itself; it does not have it. Otherwise it says that it has it.
	Asks bool
}

// Announcer tells those who must know where an address is, and hears what they say. Its methods are safe for concurrent use, and do not
// block: what cannot be sent at once is an error.
type Announcer interface {
	// Check tells whether it can work here: ErrNotAllowed.
	Check() error
	// Listen calls hear with each sighting of an address until stop, one after the other. What this box itself sends is none. Where it
	// cannot work, because the interface is gone, it tries again.
	Listen(l Link, addr netip.Addr, hear func(Sighting)) (stop func(), err error)
	// Probe asks once whether anybody has the address. Answers are sightings. Announcers that have nobody to ask do nothing.
	Probe(l Link, addr netip.Addr) error
	// Announce says that the address is here.
	Announce(l Link, addr netip.Addr) error
	// Withdraw says that it is not here any more; neighbours on a link need not be told.
	Withdraw(l Link, addr netip.Addr) error
}
