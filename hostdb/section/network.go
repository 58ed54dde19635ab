package section

import (
	"net/netip"
	"time"
)

// Subnet makes the tag a network. Its addresses fall in three parts: VIPs, the pool, and the rest, which people enter
// by hand.
type Subnet struct {
	// CIDR is the network.
	CIDR netip.Prefix `need:"yes" example:"10.1.0.0/16"`
	// Gateway is the default route of its hosts. Absent is none.
	Gateway netip.Addr `example:"10.1.0.1"`
	// Bridge is the network interface of the boxes that virtual machines are connected to.
	Bridge string `format:"interface" example:"br0"`
	// Datacenter is the site that the network belongs to. Its lease group decides who holds a virtual address.
	Datacenter string `example:"dc1"`
	// VIPs are the addresses that virtual IPs of LB and MySQL lie in. Absent: the network has no virtual IPs.
	VIPs netip.Prefix `example:"10.1.0.48/28"`
	// Pool are the addresses that virtual machines are given. Absent: only addresses entered by hand.
	Pool netip.Prefix `example:"10.1.128.0/17"`
}

func (s *Subnet) defaults() {
	s.Bridge = "br0" // what Debian's own documentation calls the first bridge
}

func (Subnet) example() string {
	return `CIDR: 10.1.0.0/16
Gateway: 10.1.0.1
Bridge: br0
Datacenter: dc1
VIPs: 10.1.0.48/28
Pool: 10.1.128.0/17
`
}

func (s *Subnet) check(r *report) {
	if s.CIDR.IsValid() {
		if s.Gateway.IsValid() && !s.CIDR.Contains(s.Gateway) {
			r.bad(s.Gateway.String(), "is not in CIDR, "+s.CIDR.String()+"; expected an address of the network", "Gateway")
		}
		for _, part := range []struct {
			key string
			p   netip.Prefix
		}{{"VIPs", s.VIPs}, {"Pool", s.Pool}} {
			if part.p.IsValid() && (part.p.Bits() < s.CIDR.Bits() || !s.CIDR.Overlaps(part.p)) {
				r.bad(part.p.String(), "is not in CIDR, "+s.CIDR.String()+"; expected a part of the network", part.key)
			}
		}
	}
	if s.VIPs.IsValid() && s.Pool.IsValid() && s.VIPs.Overlaps(s.Pool) {
		r.bad(s.Pool.String(), "overlaps VIPs, "+s.VIPs.String()+"; expected parts that have no address in common", "Pool")
	}
	if s.Gateway.IsValid() && s.Pool.Contains(s.Gateway) {
		r.bad(s.Gateway.String(), "is in Pool, "+s.Pool.String()+"; expected an address that no virtual machine is given", "Gateway")
	}
}

// Service is what the members of a tag offer. SRV answers and scrapers follow it.
type Service struct {
	// Port is where it is offered.
	Port uint16 `need:"yes" min:"1" example:"9090"`
	// Proto is the transport protocol.
	Proto Proto `example:"udp"`
	// Order is which addresses DNS names first under TAG.tag.
	Order Order `example:"near"`
	// TTL is how long resolvers may keep what DNS says of the tag's live names, in seconds. Absent (0) is 5, about what it
	// takes to see that a member failed.
	TTL time.Duration `unit:"seconds" max:"1h" example:"2"`
}

func (s *Service) defaults() {
	s.Proto = TCP    // as nearly all are
	s.Order = Random // shares the load; near asks for members that are all fit for the whole of it
}

// Order is which addresses come first.
type Order string

// The values of Order.
const (
	Random Order = "random" // any of them
	Near   Order = "near"   // those nearest to who asks, by the round trips that nodes measure
)

func (Order) values() []string { return []string{string(Random), string(Near)} }

func (Service) example() string { return "Port: 9090\nProto: tcp\n" }

// Proto is a transport protocol.
type Proto string

// The values of Proto.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

func (Proto) values() []string { return []string{string(TCP), string(UDP)} }
