package section

import "net/netip"

// Guest is how virtual machines configure themselves at their first boot, by cloud-init. It counts when a machine is made;
// those that are there keep what they have.
type Guest struct {
	// Profile is the name of a file of the box, NAME.yaml in guests.d: who may log in, and what is run first. Absent is
	// the file default.yaml, where the box has one. Its content is no part of HostDB, because whoever may write a tag has
	// not root on its hosts.
	Profile string `format:"file" example:"shop"`
	// Resolvers are the name servers, the first asked first. Absent is what the image has.
	Resolvers []netip.Addr `example:"[10.1.0.53]"`
	// Search are the domains in which short names are looked up.
	Search []string `format:"domain" example:"[dc1.example.com]"`
}

func (Guest) example() string {
	return `Profile: shop
Resolvers: [10.1.0.53]
Search: [dc1.example.com]
`
}
