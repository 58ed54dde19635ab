package vip

import "net/netip"

// Ask asks for an address as any client does, and not as one who wants it.
func (n *Neighbours) Ask(l Link, from, addr netip.Addr) error {
	if addr.Is6() {
		return n.Probe(l, addr) // to others than holders that leave it is the same
	}
	return n.send(l, addr, [][]byte{arp(l.MAC, arpRequest, from, nobody, addr)})
}
