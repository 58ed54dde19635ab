package doctor

import (
	"fmt"
	"net/netip"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// databases looks at tags that are database clusters: what their members need in HostDB. Their virtual IPs are those of the check vips.
func databases(e *exam) {
	n := e.networks()
	e.eachTag(func(t *tag) {
		my := t.facts.MySQL
		if my == nil {
			return
		}
		members := e.view.Members(hostdb.Tags, t.key)
		if len(members) == 1 {
			e.add(Finding{Severity: section.Warning, ID: t.id(), Path: "MySQL", Related: []string{hostdb.Hosts + "/" + members[0]},
				Message: "the database cluster has one member: nobody can take over from it, and what it writes stands in one place",
				Remedy:  "give the tag to another host (hostmesh tag add HOST " + t.key + "): it becomes a replica"})
		}
		net := subnetOf(n, my.VIP)
		for _, name := range members {
			h := e.byHost[name]
			if h == nil {
				continue // members-missing says so
			}
			at := Finding{Severity: section.Error, ID: h.id(), Path: "Network/IP", Related: []string{t.id()},
				Message: "a member of the database cluster has no address, so nobody reaches its server",
				Remedy:  "write the address at which the server listens, or take the host out of the tag (hostmesh tag remove " + name + " " + t.key + ")"}
			if addr := h.facts.Network.IP; !addr.IsValid() && !h.facts.Network.IPv6.IsValid() {
				e.add(at)
				continue
			}
			inside := net == nil
			eachAddress(h, func(a netip.Addr, _ string) {
				inside = inside || a.IsValid() && net.facts.Subnet.CIDR.Contains(a.Unmap())
			})
			if !inside {
				at.Severity, at.Related = section.Warning, []string{t.id(), net.id()}
				at.Message = fmt.Sprintf("a member of the database cluster has no address in %s of %s, where the VIP %s is: it can never hold that", net.facts.Subnet.CIDR, net.id(), my.VIP)
				at.Remedy = "write its address there (Network/IP, or Interfaces), or take the VIP from a network in which all members are"
				e.add(at)
			}
		}
	})
}

// subnetOf is the tag in whose VIPs an address lies; nil = there is none.
func subnetOf(n networks, a netip.Addr) *tag {
	if !a.IsValid() {
		return nil
	}
	tags, _ := n.of(a)
	for _, t := range tags {
		if s := t.facts.Subnet; s.VIPs.IsValid() && s.VIPs.Contains(a.Unmap()) {
			return t
		}
	}
	return nil
}
