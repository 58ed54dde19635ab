package mysqlha

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
)

// defaultPort is where a server listens whose agent has not said, and of which the section says nothing: the one that MySQL is assigned (IANA).
const defaultPort = 3306

// drainKey is the fact of a host that takes it out; its text is the reason. It is that of load balancing.
const drainKey = "Drain"

// clusters are the tags with a section MySQL, as HostDB has them. It is brought up to date at the cost of what changed. It is not safe for concurrent use.
type clusters struct {
	db      hostdb.View
	subnets map[string]*section.Subnet
	byTag   map[string]*definition
}

// definition is what HostDB says of one cluster.
type definition struct {
	tag     string
	mysql   section.MySQL
	problem string // why the section cannot be used; "" = it can
}

func newClusters() clusters {
	return clusters{subnets: map[string]*section.Subnet{}, byTag: map[string]*definition{}}
}

// follow takes in another view.
func (s *clusters) follow(db hostdb.View) {
	old := s.db
	s.db = db
	for c := range db.Changes(old) {
		if c.NS != hostdb.Tags || !c.Data {
			continue
		}
		doc := db.Data(hostdb.Tags, c.Key)
		delete(s.subnets, c.Key)
		if subnet, problems := section.SubnetOf(doc); subnet != nil && !anyError(problems) {
			s.subnets[c.Key] = subnet
		}
		delete(s.byTag, c.Key)
		my, problems := section.MySQLOf(doc)
		if my == nil && len(problems) == 0 {
			continue
		}
		d := &definition{tag: c.Key}
		for _, p := range problems {
			if p.Severity == section.Error && d.problem == "" {
				d.problem = fmt.Sprintf("tags/%s: %s", c.Key, p)
			}
		}
		switch {
		case my == nil:
			d.problem = fmt.Sprintf("tags/%s: MySQL: is not a mapping; expected one with VIP and Credentials", c.Key)
		case d.problem == "" && (!my.VIP.IsValid() || my.Credentials == ""):
			d.problem = fmt.Sprintf("tags/%s: MySQL needs a VIP and Credentials", c.Key)
		}
		if my != nil {
			d.mysql = *my
		}
		s.byTag[c.Key] = d
	}
}

func anyError(problems []section.Problem) bool {
	return slices.ContainsFunc(problems, func(p section.Problem) bool { return p.Severity == section.Error })
}

func (s *clusters) tags() []string { return slices.Sorted(maps.Keys(s.byTag)) }

// subnetOf is the tag of the network in whose VIPs an address lies, the narrowest.
func (s *clusters) subnetOf(a netip.Addr) (tag string, subnet *section.Subnet) {
	best := -1
	for _, name := range slices.Sorted(maps.Keys(s.subnets)) {
		if x := s.subnets[name]; x.VIPs.IsValid() && x.VIPs.Contains(a.Unmap()) && x.VIPs.Bits() > best {
			tag, subnet, best = name, x, x.VIPs.Bits()
		}
	}
	return tag, subnet
}

// AddressOf is where the server of a host is reached, by its document: of the family of the VIP, else another; the zero Addr = it has none.
func AddressOf(host hostdb.Document, vip netip.Addr) (addr netip.Addr) {
	network, _ := section.NetworkOf(host) // what cannot be read counts as absent
	for _, a := range []netip.Addr{network.IPv6, network.IP.Unmap()} {
		if a.IsValid() && !a.IsUnspecified() && (a.Is4() == vip.Unmap().Is4() || !addr.IsValid()) {
			addr = a
		}
	}
	return addr
}

// member reads a host, and what its agent says of its port.
func (s *clusters) member(d *definition, host string, m mesh.View) Member {
	out := Member{Host: host, Port: cmp.Or(int(d.mysql.Port), defaultPort)}
	item, ok := s.db.Get(hostdb.Hosts, host)
	if !ok {
		out.Unfit = notInHostDB
		return out
	}
	doc := item.Data()
	out.Addr = AddressOf(doc, d.mysql.VIP)
	if !out.Addr.IsValid() {
		out.Unfit = "it has no Network/IP"
	}
	if node, ok := m.ByName(host); ok {
		if r, ok := m.Report(node.ID); ok && r.MySQL[d.tag].Port != 0 {
			out.Port = int(r.MySQL[d.tag].Port)
		}
	}
	out.Drained = strings.TrimSpace(doc.Text(drainKey))
	return out
}

// members are the hosts of the tag, sorted.
func (s *clusters) members(d *definition, m mesh.View) []Member {
	var out []Member
	for _, host := range s.db.Members(hostdb.Tags, d.tag) {
		out = append(out, s.member(d, host, m))
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// hearing remembers since when what an agent says is known here.
type hearing struct {
	process Process
	since   int64
	at      time.Time
}

// agents are what the mesh says of the agents on hosts. heard is brought up to date.
func agents(tag string, hosts []string, m mesh.View, heard map[string]hearing, now time.Time) map[string]Agent {
	out := make(map[string]Agent, len(hosts))
	for _, host := range hosts {
		node, ok := m.ByName(host)
		if !ok {
			continue
		}
		a := Agent{Alive: node.State == mesh.StateAlive}
		if r, ok := m.Report(node.ID); ok {
			if x, ok := r.MySQL[tag]; ok {
				a.Reported, a.Process, a.Since, a.VIP = true, Process(x.Process), time.UnixMilli(x.Since), x.VIP
				h := heard[host]
				if h.process != a.Process || h.since != x.Since {
					h = hearing{a.Process, x.Since, now}
					heard[host] = h
				}
				a.Seen = h.at
				a.DiskFull, a.Epoch, a.Copy, a.Differs, a.Lends = x.Full, x.Epoch, x.Copy, x.Differs, x.Lends
			}
		}
		out[host] = a
	}
	return out
}
