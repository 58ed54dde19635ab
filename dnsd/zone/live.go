package zone

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// live answers <tag>.tag. It is replaced when the tag, its members or their facts change, and voided by a new
// generation when the mesh does.
type live struct {
	tag             string
	owner, srvOwner string
	service         service
	ttl             uint32
	made            atomic.Pointer[liveAnswer]
}

type liveAnswer struct {
	gen    uint64
	near   [2]int    // of AAAA and A: how many come first, in any order, because none of them is nearer; 0: all
	orders *orders   // nil unless the nearest come first
	sets   []rrset   // of <tag>.tag, by type
	srv    []rrset   // of _<tag>._<proto>.tag
	packed [2]string // the sets of addresses in wire form: AAAA and A
}

// srvOf are the SRV of the one or the other name.
func (a *liveAnswer) srvOf(srv bool) []dns.RR {
	sets := a.sets
	if srv {
		sets = a.srv
	}
	for i := range sets {
		if sets[i].typ == dns.TypeSRV {
			return sets[i].rrs
		}
	}
	return nil
}

// service is the section Service of a tag; port 0 for none.
type service struct {
	port  uint16
	proto string
	near  bool   // the nearest members come first
	ttl   uint32 // 0 is that of all live names
}

func serviceOf(doc hostdb.Document) (service, error) {
	d := doc.At("Service")
	if !d.Exists() || d.IsNull() {
		return service{}, nil
	}
	port, err := strconv.ParseUint(d.Text("Port"), 10, 16)
	if err != nil || port == 0 {
		return service{}, fmt.Errorf("Service/Port: %q is not a port", d.Text("Port"))
	}
	proto := strings.ToLower(d.Text("Proto"))
	switch proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return service{}, fmt.Errorf("Service/Proto: %q is not tcp, udp or sctp", proto)
	}
	out := service{port: uint16(port), proto: proto}
	if ttl := d.At("TTL"); ttl.Exists() && !ttl.IsNull() {
		if out.ttl, err = parseSeconds(ttl.Text()); err != nil {
			return out, fmt.Errorf("Service/TTL: %w", err)
		}
	}
	switch order := strings.ToLower(d.Text("Order")); order {
	case "", "random":
	case "near":
		out.near = true
	default:
		return out, fmt.Errorf("Service/Order: %q is not random or near", d.Text("Order"))
	}
	return out, nil
}

// answer is what l answers in z. It is safe for concurrent use.
func (l *live) answer(z *Zones) *liveAnswer {
	if a := l.made.Load(); a != nil && a.gen == z.liveGen {
		return a
	}
	a := l.make(z)
	l.made.Store(a)
	return a
}

// LiveMember is a member of a tag, and whether <tag>.tag answers with it.
type LiveMember struct {
	Host  string
	Addrs []netip.Addr
	// Out says why it is left out; empty when it is answered.
	Out string
}

// LiveMembers lists the members of a tag, inherited ones included, as live names see them. When all that have an address
// would be left out for what was observed or written of them, all of these are in: a wrong guess must not take the
// service away.
func (z *Zones) LiveMembers(tag string) []LiveMember {
	var out []LiveMember
	in := 0
	for _, host := range z.db.Members(hostdb.Tags, tag) {
		doc := z.db.Data(hostdb.Hosts, host)
		addrs, _ := hostAddresses(doc)
		m := LiveMember{Host: host, Addrs: addrs, Out: z.leftOut(tag, host, doc)}
		if len(addrs) == 0 {
			m.Out = "it has no address"
		}
		if m.Out == "" {
			in++
		}
		out = append(out, m)
	}
	for i := range out {
		if in == 0 && len(out[i].Addrs) > 0 {
			out[i].Out = ""
		}
	}
	return out
}

// leftOut says why a member of a tag is not answered by its live names.
func (z *Zones) leftOut(tag, host string, doc hostdb.Document) string {
	switch {
	case strings.EqualFold(doc.Text("Status"), "retired"):
		return "its Status is retired"
	case z.down[host]:
		return "its agent failed or was stopped"
	}
	if vm, box, known := z.machine(doc); known && stopped(vm) {
		return stoppedWhy(vm, box)
	}
	return z.failing(tag, host)
}

func (l *live) make(z *Zones) *liveAnswer {
	a := &liveAnswer{gen: z.liveGen}
	members := z.LiveMembers(l.tag)
	up := members[:0]
	for _, m := range members {
		if m.Out == "" {
			up = append(up, m)
		}
	}
	if l.service.near {
		a.orders = newOrders(z)
	}
	l.fill(z, a, up)
	return a
}

// fill puts the records of members into a, in their order.
func (l *live) fill(z *Zones, a *liveAnswer, up []LiveMember) {
	ttl := l.ttl
	var v4, v6, srv, srvOwn []dns.RR
	seen := map[netip.Addr]bool{}
	for _, h := range up {
		for _, addr := range h.Addrs {
			if seen[addr] {
				continue
			}
			seen[addr] = true
			if rr := addressRecord(l.owner, ttl, addr); addr.Is4() {
				v4 = append(v4, rr)
			} else {
				v6 = append(v6, rr)
			}
		}
		if l.service.port == 0 {
			continue
		}
		if target := z.serviceTarget(h.Host); target != "" {
			rr := &dns.SRV{Hdr: header(l.owner, dns.TypeSRV, ttl), Weight: 1, Port: l.service.port, Target: target}
			own := *rr
			own.Hdr.Name = l.srvOwner
			srv, srvOwn = append(srv, rr), append(srvOwn, &own)
		}
	}
	for _, s := range []rrset{{dns.TypeA, v4}, {dns.TypeAAAA, v6}, {dns.TypeSRV, srv}} {
		if len(s.rrs) > 0 {
			a.sets = append(a.sets, s)
		}
	}
	a.packed[dns.TypeA&1], a.packed[dns.TypeAAAA&1] = pack(v4), pack(v6)
	if l.srvOwner != "" && len(srvOwn) > 0 {
		a.srv = []rrset{{dns.TypeSRV, srvOwn}}
	}
}

// serviceTarget is the name by which a client finds a host: its own where we serve the zone, else that of the node.
func (z *Zones) serviceTarget(host string) string {
	text := hostName(z.db.Data(hostdb.Hosts, host), host)
	own := ""
	if n, err := parseName(text); err == nil && checkHost(text) == nil && strings.Contains(text, ".") {
		own = n.String()
		if z.deepest(n) != nil {
			return own
		}
	}
	if m, ok := z.mesh.ByName(host); ok && checkHost(m.Name) == nil {
		if n, err := parseName(m.Name + ".node." + z.domain.String()); err == nil {
			return n.String()
		}
	}
	return own
}

// downHosts are the hosts whose node failed or left. Under mass suspicion it is what it was.
func downHosts(was *Zones, m mesh.View) map[string]bool {
	if m.MassSuspicion() {
		return was.down
	}
	down := map[string]bool{}
	for _, member := range m.Members() {
		best, _ := m.ByName(member.Name)
		if best.State == mesh.StateFailed || best.State == mesh.StateLeft {
			down[best.Name] = true
		}
	}
	if maps.Equal(down, was.down) {
		return was.down
	}
	return down
}

// meshChanged reports whether anything that names depend on differs between the old and the next view of the mesh.
func (b *batch) meshChanged() bool {
	if !maps.Equal(b.old.down, b.next.down) || b.old.mesh.Self().ID != b.next.mesh.Self().ID ||
		b.old.mesh.MassSuspicion() != b.next.mesh.MassSuspicion() {
		return true
	}
	return !slices.EqualFunc(b.old.mesh.Members(), b.next.mesh.Members(), func(x, y mesh.Member) bool {
		return x.ID == y.ID && x.Name == y.Name && x.Addr == y.Addr && x.State == y.State
	})
}

// nodeLabels are the names of members under node: the whole name, and its first label where only one has it.
func nodeLabels(m mesh.View) map[string]mesh.Member {
	whole, first := map[string]mesh.Member{}, map[string][]mesh.Member{}
	for _, member := range m.Members() {
		best, _ := m.ByName(member.Name)
		text := strings.ToLower(strings.TrimSuffix(best.Name, "."))
		if _, known := whole[text]; known {
			continue
		}
		whole[text] = best
		label, _, _ := strings.Cut(text, ".")
		first[label] = append(first[label], best)
	}
	for label, list := range first {
		if _, known := whole[label]; !known && len(list) == 1 {
			whole[label] = list[0]
		}
	}
	return whole
}

// nodeAddresses is where a member is reached in the mesh, and its addresses of the other family in HostDB.
func (z *Zones) nodeAddresses(m mesh.Member) []netip.Addr {
	addrs, _ := hostAddresses(z.db.Data(hostdb.Hosts, m.Name))
	if !m.Addr.IsValid() {
		return addrs
	}
	own := m.Addr.Unmap().WithZone("")
	out := []netip.Addr{own}
	for _, a := range addrs {
		if a.Is4() != own.Is4() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

const maxNameServers = 8 // as many as fit into 512 bytes with both families

// nameServerAddresses are those of the live members that follow this node by id, itself first, so that nodes share
// the load between them.
func (z *Zones) nameServerAddresses() []netip.Addr {
	members := z.mesh.Members()
	self := z.mesh.Self().ID
	start := max(0, slices.IndexFunc(members, func(m mesh.Member) bool { return m.ID == self }))
	var out []netip.Addr
	for i := range members {
		m := members[(start+i)%len(members)]
		if a := m.Addr.Unmap().WithZone(""); len(out) < maxNameServers && m.Addr.IsValid() && !z.down[m.Name] && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
