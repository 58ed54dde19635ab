package plan

import (
	"net/netip"

	"hostmesh/hostdb"
)

// Subnet is a network that machines are connected to, of the section Subnet of a tag.
type Subnet struct {
	Tag        string
	CIDR       netip.Prefix
	Gateway    netip.Addr // the zero Addr = none
	Bridge     string
	Datacenter string       // "" = not said
	VIPs, Pool netip.Prefix // the zero Prefix = none
}

// SubnetOf is the network of a tag. The error says what is wrong with the tag, and what to do.
func SubnetOf(db hostdb.View, tag string) (Subnet, error) { panic("plan: to be written") }
