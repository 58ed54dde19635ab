package lbd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/check"
	"hostmesh/lbd/plan"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// sight is what this node and the others see of members, and who looks at whom.
type sight struct {
	self string
	db   hostdb.View // up to which drained hosts are known
	mesh mesh.View
	own  map[string]report.Check // by report.CheckKey
	mine map[netip.Addr]uint64   // what this node holds
	// said are the checks of nodes by key; this node's own are among them.
	said    map[string]map[string]report.Check
	alive   map[string]string                // id -> name
	nodes   []plan.Node                      // who can look, sorted by id
	holders map[netip.Addr]map[string]uint64 // address -> node -> fencing number
	tags    map[string]*plan.Service
	crowd   bool // who can look changed: choose anew
	chosen  []check.Spec
}

func newSight(self string) sight {
	return sight{self: self, said: map[string]map[string]report.Check{}, alive: map[string]string{}, holders: map[netip.Addr]map[string]uint64{}}
}

// look takes in what is seen now, and returns the tags of which something else is seen than before. own and mine are what this node itself found
// and holds, with fencing numbers: that counts at once, and while nothing is believed of the mesh.
func (s *sight) look(m mesh.View, own map[string]report.Check, mine map[netip.Addr]uint64) []string {
	judged := map[string]bool{}
	s.changes(s.self, s.own, own, judged)
	s.own = own
	for addr := range s.mine {
		if mine[addr] == 0 {
			s.holds(addr, s.self, 0, judged)
		}
	}
	for addr, fence := range mine {
		s.holds(addr, s.self, fence, judged)
	}
	s.mine = mine
	if m.MassSuspicion() && s.alive[s.self] != "" {
		return slices.Sorted(maps.Keys(judged)) // the crowd stands still
	}
	old := s.mesh
	s.mesh = m
	for was, now := range m.ReportChanges(old) {
		id := cmp.Or(now.Node, was.Node)
		s.crowd = s.crowd || (was.LB == nil) != (now.LB == nil)
		if id == s.self {
			continue
		}
		for text := range vipsOf(was) {
			if _, still := vipsOf(now)[text]; !still {
				s.holdsText(text, id, 0, judged)
			}
		}
		for text, v := range vipsOf(now) {
			s.holdsText(text, id, v.Fence, judged)
		}
		s.changes(id, was.Checks, now.Checks, judged)
	}
	alive := make(map[string]string, len(s.alive))
	for x := range m.Alive() {
		alive[x.ID] = x.Name
	}
	if !maps.Equal(alive, s.alive) {
		for key, by := range s.said {
			for id := range by {
				if (alive[id] == "") != (s.alive[id] == "") {
					judged[tagOf(key)] = true
				}
			}
		}
		s.alive, s.crowd = alive, true
	}
	if s.crowd {
		s.nodes = s.nodes[:0]
		for x := range m.Alive() {
			if r, ok := m.Report(x.ID); x.ID == s.self || ok && r.LB != nil {
				s.nodes = append(s.nodes, plan.Node{ID: x.ID, Name: x.Name, Datacenter: x.Datacenter, Alive: true, Configured: true})
			}
		}
	}
	return slices.Sorted(maps.Keys(judged))
}

// changes takes in what a node sees otherwise than before.
func (s *sight) changes(id string, was, now map[string]report.Check, judged map[string]bool) {
	for key := range was {
		if _, still := now[key]; !still {
			delete(s.said[key], id)
			if len(s.said[key]) == 0 {
				delete(s.said, key)
			}
			judged[tagOf(key)] = true
		}
	}
	for key, c := range now {
		if before, had := was[key]; had && before == c {
			continue
		}
		if s.said[key] == nil {
			s.said[key] = map[string]report.Check{}
		}
		s.said[key][id] = c
		judged[tagOf(key)] = true
	}
}

// tagOf is the tag in a report.CheckKey.
func tagOf(key string) string {
	tag, _, _ := strings.Cut(key, "/")
	return tag
}

func vipsOf(r report.Report) map[string]report.VIP {
	if r.LB == nil {
		return nil
	}
	return r.LB.VIPs
}

// holds notes that a node holds an address; fence 0 = it does not.
func (s *sight) holds(addr netip.Addr, node string, fence uint64, judged map[string]bool) {
	if s.holders[addr][node] == fence {
		return
	}
	if s.holders[addr] == nil {
		s.holders[addr] = map[string]uint64{}
	}
	s.holders[addr][node] = fence
	if fence == 0 {
		delete(s.holders[addr], node)
	}
	s.crowd = true
	for tag, x := range s.tags {
		if x.VIP == addr {
			judged[tag] = true
		}
	}
}

// holdsText is holds for an address as a report has it.
func (s *sight) holdsText(text, node string, fence uint64, judged map[string]bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		s.holds(addr, node, fence, judged)
	}
}

// holder is who holds an address, as far as is known: of those alive the one of the latest grant.
func (s *sight) holder(addr netip.Addr) string {
	best, fence := "", uint64(0)
	for id, f := range s.holders[addr] {
		if (s.alive[id] != "" || id == s.self) && f > fence {
			best, fence = id, f
		}
	}
	return best
}

// services takes in a new plan.
func (s *sight) services(r plan.Result) {
	if s.tags == nil {
		s.tags, s.crowd = map[string]*plan.Service{}, true
		for _, x := range r.Services {
			s.tags[x.Tag] = x
		}
	}
	for _, tag := range r.Changed {
		s.crowd = true
		delete(s.tags, tag)
		if x, ok := r.Service(tag); ok {
			s.tags[tag] = x
		}
	}
}

// tried is the port at which members are tried: the first, TCP before UDP. A service of UDP alone can be tried by what speaks UDP, or by a program.
func tried(x *plan.Service) (plan.Forward, bool) {
	for _, f := range x.Ports {
		if f.Proto == section.TCP {
			return f, true
		}
	}
	return x.Ports[0], !slices.Contains([]string{"tcp", "http", "mysql"}, x.Check.Type)
}

// isTried reports whether a backend is to be tried. Of a host that has two addresses, because it got another one and the former is held, that is
// the one that it is to have: results have a host's name.
func isTried(list []plan.Backend, i int) bool {
	could := func(b *plan.Backend) bool {
		return b.Cause != plan.Gone && b.Cause != plan.Retired && b.Cause != plan.Moved
	}
	if !could(&list[i]) {
		return false
	}
	for j := range list {
		o := &list[j]
		if j != i && o.Host == list[i].Host && could(o) && (o.Held != list[i].Held && list[i].Held || o.Held == list[i].Held && j < i) {
			return false
		}
	}
	return true
}

// targets are the members that this node is to try.
func (s *sight) targets(r plan.Result) []check.Spec {
	if !s.crowd {
		return s.chosen
	}
	s.crowd = false
	var out []check.Spec
	for _, x := range r.Services {
		if !slices.Contains(plan.Observers(x, s.holder(x.VIP), s.nodes), s.self) {
			continue
		}
		port, can := tried(x)
		if !can {
			continue
		}
		for i := range x.Backends {
			if b := &x.Backends[i]; isTried(x.Backends, i) {
				out = append(out, check.Spec{
					Type: x.Check.Type, Interval: x.Check.Interval, Rise: x.Check.Rise, Fall: x.Check.Fall,
					Target: check.Target{Addr: b.Addr, Port: port.To, Proto: string(port.Proto), Host: b.Host, Tag: x.Tag, VIP: x.VIP},
				})
			}
		}
	}
	s.chosen = out
	return out
}

// verdict is what those who look at a member say of it. What was found at another address of its says nothing.
func (s *sight) verdict(tag, host string, addr netip.Addr) plan.Verdict {
	x := s.tags[tag]
	if x == nil {
		return plan.Verdict{}
	}
	port, can := tried(x)
	if !can {
		return plan.Verdict{Judgement: plan.Up}
	}
	by := s.said[report.CheckKey(tag, host, port.To, string(port.Proto))]
	var held, second *report.Check
	holder := s.holder(x.VIP)
	for id, c := range by {
		switch {
		case s.alive[id] == "" && id != s.self, c.Addr != "" && c.Addr != addr.String():
		case id == holder:
			held = &c
		case second == nil || better(c, *second):
			second = &c
		}
	}
	switch v := report.Judge(held, second, x.Check.Fall); {
	case held == nil && second == nil:
		return plan.Verdict{}
	case v.Out:
		return plan.Verdict{Judgement: plan.Down, Why: v.Why}
	}
	return plan.Verdict{Judgement: plan.Up}
}

// better reports whether a speaks more for a member than b. Where several look at it and none of them holds the address, it is out
// when all find it down.
func better(a, b report.Check) bool {
	if (a.State == report.CheckUp) != (b.State == report.CheckUp) {
		return a.State == report.CheckUp
	}
	return cmp.Or(a.Bad-b.Bad, cmp.Compare(a.Since, b.Since), strings.Compare(a.Reason, b.Reason)) < 0
}
