package lbd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Target is a member that is to be tried.
type Target struct {
	Tag, Host string
	Addr      netip.Addr
	Port      uint16
	Proto     section.Proto // of the port
	Probe     section.Probe
}

// sight is what this node and the others see of members, and who looks at whom.
type sight struct {
	self string
	db   hostdb.View // up to which drained hosts are known
	mesh mesh.View
	own  map[string]report.Checks
	// said are the checks of nodes by tag; this node's own are among them.
	said    map[string]map[string]report.Checks
	alive   map[string]string                // id -> name
	nodes   []plan.Node                      // who can look, sorted by id
	holders map[netip.Addr]map[string]uint64 // address -> node -> fencing number
	vips    map[string]netip.Addr            // tag -> its address
	blind   map[string]bool                  // tags whose members cannot be tried
	crowd   bool                             // who can look changed: choose anew
	chosen  []Target
}

func newSight(self string) sight {
	return sight{self: self, said: map[string]map[string]report.Checks{}, alive: map[string]string{}, holders: map[netip.Addr]map[string]uint64{}}
}

// look takes in what is seen now, and returns the tags of which something else is seen than before.
func (s *sight) look(m mesh.View, own map[string]report.Checks, last plan.Result) []string {
	judged := map[string]bool{}
	for tag := range s.own {
		if !maps.Equal(s.own[tag], own[tag]) {
			judged[tag] = true
		}
	}
	for tag := range own {
		if !maps.Equal(s.own[tag], own[tag]) {
			judged[tag] = true
		}
	}
	for tag := range judged {
		s.say(tag, s.self, own[tag])
	}
	s.own = own
	if m.MassSuspicion() && s.alive[s.self] != "" {
		return slices.Sorted(maps.Keys(judged)) // the crowd stands still
	}
	old := s.mesh
	s.mesh = m
	for was, now := range m.ReportChanges(old) {
		id := cmp.Or(now.Node, was.Node)
		for addr := range vipsOf(was) {
			s.holds(addr, id, 0, judged)
		}
		for addr, v := range vipsOf(now) {
			s.holds(addr, id, v.Fence, judged)
		}
		s.crowd = s.crowd || (was.LB == nil) != (now.LB == nil)
		if id == s.self {
			continue
		}
		for tag, list := range was.Checks {
			if !maps.Equal(list, now.Checks[tag]) {
				s.say(tag, id, now.Checks[tag])
				judged[tag] = true
			}
		}
		for tag, list := range now.Checks {
			if !maps.Equal(list, was.Checks[tag]) {
				s.say(tag, id, list)
				judged[tag] = true
			}
		}
	}
	alive := make(map[string]string, len(s.alive))
	for x := range m.Alive() {
		alive[x.ID] = x.Name
	}
	if !maps.Equal(alive, s.alive) {
		for tag, by := range s.said {
			for id := range by {
				if (alive[id] == "") != (s.alive[id] == "") {
					judged[tag] = true
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

func vipsOf(r report.Report) map[string]report.VIP {
	if r.LB == nil {
		return nil
	}
	return r.LB.VIPs
}

// holds notes that a node holds an address; fence 0 = it does not.
func (s *sight) holds(text, node string, fence uint64, judged map[string]bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || s.holders[addr][node] == fence {
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
	for tag, vip := range s.vips {
		if vip == addr {
			judged[tag] = true
		}
	}
}

func (s *sight) say(tag, node string, list report.Checks) {
	if len(list) == 0 {
		delete(s.said[tag], node)
		if len(s.said[tag]) == 0 {
			delete(s.said, tag)
		}
		return
	}
	if s.said[tag] == nil {
		s.said[tag] = map[string]report.Checks{}
	}
	s.said[tag][node] = list
}

// holder is who holds an address, as far as is known: of those alive the one of the latest grant.
func (s *sight) holder(addr netip.Addr) string {
	best, fence := "", uint64(0)
	for id, f := range s.holders[addr] {
		if s.alive[id] != "" && f > fence {
			best, fence = id, f
		}
	}
	return best
}

// services takes in a new plan.
func (s *sight) services(r plan.Result) {
	take := func(x *plan.Service) {
		s.crowd = true
		s.vips[x.Tag] = x.VIP
		if _, some := tried(x); !some {
			s.blind[x.Tag] = true
		}
	}
	if s.vips == nil {
		s.vips, s.blind = map[string]netip.Addr{}, map[string]bool{}
		for _, x := range r.Services {
			take(x)
		}
	}
	for _, tag := range r.Changed {
		s.crowd = true
		delete(s.vips, tag)
		delete(s.blind, tag)
		if x, ok := r.Service(tag); ok {
			take(x)
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

// targets are the members that this node is to try.
func (s *sight) targets(r plan.Result) []Target {
	if !s.crowd {
		return s.chosen
	}
	s.crowd = false
	var out []Target
	for _, x := range r.Services {
		if !slices.Contains(plan.Observers(x, s.holder(x.VIP), s.nodes), s.self) {
			continue
		}
		port, can := tried(x)
		if !can {
			continue
		}
		for i := range x.Backends {
			if b := &x.Backends[i]; b.Cause != plan.Gone && b.Cause != plan.Retired && b.Cause != plan.Moved {
				out = append(out, Target{Tag: x.Tag, Host: b.Host, Addr: b.Addr, Port: port.To, Proto: port.Proto, Probe: x.Check})
			}
		}
	}
	s.chosen = out
	return out
}

// opinion is what one node found.
type opinion struct {
	node   string // its name
	holder bool
	check  report.Check
}

// verdict is what those who look at a member say of it.
func (s *sight) verdict(tag, host string, addr netip.Addr) plan.Verdict {
	if s.blind[tag] {
		return plan.Verdict{Judgement: plan.Up}
	}
	var list []opinion
	holder := s.holder(s.vips[tag])
	for id, checks := range s.said[tag] {
		if c, ok := checks[addr.String()]; ok && c.Host == host && (id == s.self || s.alive[id] != "") {
			name := s.alive[id]
			list = append(list, opinion{name, id == holder, c})
		}
	}
	return judge(list)
}

// judge says what follows from opinions. Who holds the address knows best, for it is the one that passes connections on; without
// its word a member is down when nobody finds it up.
func judge(list []opinion) plan.Verdict {
	slices.SortFunc(list, func(a, b opinion) int { return strings.Compare(a.node, b.node) })
	var down []string
	why, up := "", 0
	for _, o := range list {
		if o.holder && o.check.Up {
			return plan.Verdict{Judgement: plan.Up}
		}
		if o.check.Up {
			up++
			continue
		}
		if o.holder || why == "" {
			why = o.check.Why
		}
		down = append(down, o.node)
	}
	held := slices.ContainsFunc(list, func(o opinion) bool { return o.holder })
	switch {
	case len(list) == 0:
		return plan.Verdict{}
	case up > 0 && !held:
		return plan.Verdict{Judgement: plan.Up}
	}
	says := " says "
	if len(down) > 1 {
		says = " say "
	}
	return plan.Verdict{Judgement: plan.Down, Why: why + "," + says + strings.Join(down, " and ")}
}
