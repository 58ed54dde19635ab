package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// settle plans one tag, and reports whether its service is another now.
func (p *Planner) settle(tag, version string, in Input) bool {
	last := p.services[tag]
	d := p.drafts[tag]
	delete(p.problems, tag)
	delete(p.waiting, tag)
	delete(p.kept, tag)
	if d == nil {
		delete(p.services, tag)
		return last != nil
	}
	var problems []Problem
	refused := d.refused
	if refused == nil {
		refused = p.clash(d)
	}
	next := d.service
	if refused != nil {
		p.kept[tag] = true
		problem := *refused
		if last == nil {
			problem.Text += "; it is not balanced"
			p.problems[tag] = []Problem{problem}
			return false
		}
		if other := p.takenFrom(last); other != "" {
			problem.Text += fmt.Sprintf("; it is not balanced any more, as tags/%s has %s now", other, last.VIP)
			p.problems[tag] = []Problem{problem}
			delete(p.services, tag)
			return true
		}
		problem.Text += "; what it said before stays in force"
		problems = append(problems, problem)
		next = *last
		next.Kept = true
		if d.service.Tag != "" {
			next.Force = d.service.Force // members go on as HostDB says, and so does what is said of them
		}
	}
	problems = append(problems, p.backends(d, &next, last, in)...)
	for i := range next.Backends {
		if b := &next.Backends[i]; d.member(b.Host) == nil {
			d.watch(p, watchHost(b.Host)) // held, or draining
		}
	}
	next.Version = version
	if len(problems) > 0 {
		p.problems[tag] = problems
	}
	for i := range next.Backends {
		if b := &next.Backends[i]; b.State == Draining {
			if at := next.ends(b); p.waiting[tag].IsZero() || at.Before(p.waiting[tag]) {
				p.waiting[tag] = at
			}
		}
	}
	if last != nil {
		same := next
		same.Version = last.Version
		if reflect.DeepEqual(&same, last) {
			return false
		}
	}
	p.services[tag] = &next
	return true
}

// takenFrom is another tag that HostDB gives a port of a service's VIP to, where its own tag wants it no more.
func (p *Planner) takenFrom(last *Service) string {
	own := p.drafts[last.Tag]
	wants := func(f Forward) bool {
		return own.service.VIP == last.VIP && slices.ContainsFunc(own.service.Ports, f.same)
	}
	if own.service.VIP != last.VIP {
		for _, tag := range slices.Sorted(maps.Keys(p.mysql[last.VIP])) {
			return tag
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(p.claims[last.VIP])) {
		d := p.drafts[tag]
		if tag == last.Tag || d == nil || d.refused != nil {
			continue
		}
		for _, f := range last.Ports {
			if !wants(f) && slices.ContainsFunc(d.service.Ports, f.same) {
				return tag
			}
		}
	}
	return ""
}

// backends fills in the backends of a service.
func (p *Planner) backends(d *draft, next, last *Service, in Input) (problems []Problem) {
	problem := func(name ProblemName, format string, args ...any) {
		problems = append(problems, Problem{Name: name, Tag: d.tag, Text: "tags/" + d.tag + ": " + fmt.Sprintf(format, args...)})
	}
	sights := map[seat]sight{}
	s := &settling{now: in.Now, last: map[seat]*Backend{}, drain: next.Drain, problem: problem}
	s.see = func(k seat) sight {
		x, ok := sights[k]
		if !ok {
			x = p.see(d, k, in)
			sights[k] = x
		}
		return x
	}
	was := map[netip.Addr]*Backend{}
	if last != nil {
		for i := range last.Backends {
			was[last.Backends[i].Addr] = &last.Backends[i]
		}
	}
	owner, twins := d.owners(next.VIP, was)
	for _, m := range twins {
		problem(SameAddress, "hosts/%s has the address %s of hosts/%s: it is left out", m.host, m.addr(next.VIP), owner[m.addr(next.VIP)].host)
		problems[len(problems)-1].Host = m.host
	}
	var wanted []seat
	var resting []Backend // in maintenance, and not in the last plan
	for i := range d.members {
		m := &d.members[i]
		addr := m.addr(next.VIP)
		switch {
		case !m.exists, m.status == section.Retired:
		case !addr.IsValid():
			family := "IPv4"
			if next.VIP.Is6() {
				family = "IPv6"
			}
			problem(NoAddress, "hosts/%s has no %s address (Network/IP, Network/IPv6), as VIP %s is one: it is left out", m.host, family, next.VIP)
			problems[len(problems)-1].Host = m.host
		case owner[addr] != m:
		case addr == next.VIP: // connections would go round in a circle
			problem(SameAddress, "hosts/%s has the address %s, which is the VIP itself: it is left out", m.host, addr)
			problems[len(problems)-1].Host = m.host
		case m.status == section.Maintenance:
			if was[addr] == nil {
				resting = append(resting, Backend{Host: m.host, Addr: addr, Weight: 1, State: Out, Cause: Maintenance, Why: "its Status is maintenance"})
			}
		default:
			wanted = append(wanted, seat{m.host, addr})
		}
	}
	for addr, b := range was {
		k := seatOf(b)
		if m := owner[addr]; m != nil {
			k.host = m.host // a host that was renamed is the same backend
		}
		s.last[k] = b
	}
	force := last != nil && next.Force != "" && next.Force != last.Force
	next.Backends, next.FailOpen = s.settle(wanted, func(k seat) (Cause, string) { return whyNot(d, k, next.VIP) }, force)
	if len(resting) > 0 {
		next.Backends = merge(next.Backends, resting)
	}
	if len(next.Backends) == 0 {
		problem(NoMembers, "it has no member that could be a backend: add hosts with an address (hostmesh tag add HOST %s)", d.tag)
	}
	return problems
}

// owners are the members by address. Of several with one it is the one in use, then the one that was, then the first by name; the
// others are twins.
func (d *draft) owners(vip netip.Addr, was map[netip.Addr]*Backend) (owner map[netip.Addr]*member, twins []*member) {
	owner = make(map[netip.Addr]*member, len(d.members))
	for i := range d.members {
		m := &d.members[i]
		addr := m.addr(vip)
		if !m.exists || m.status == section.Retired || !addr.IsValid() {
			continue
		}
		have := owner[addr]
		if have == nil {
			owner[addr] = m
			continue
		}
		if b := was[addr]; m.status == section.Active && (have.status != section.Active || b != nil && b.Host == m.host) {
			owner[addr] = m
		}
	}
	for i := range d.members {
		m := &d.members[i]
		if o := owner[m.addr(vip)]; o != nil && o != m && m.exists && m.status != section.Retired {
			twins = append(twins, m)
		}
	}
	return owner, twins
}

// whyNot says of a backend that HostDB does not want what became of it.
func whyNot(d *draft, k seat, vip netip.Addr) (Cause, string) {
	m := d.member(k.host)
	switch {
	case m == nil || !m.exists:
		return Gone, "it is no member any more"
	case m.status == section.Retired:
		return Retired, "its Status is retired"
	case m.addr(vip) == vip:
		return Moved, "its address is the VIP itself now"
	case m.addr(vip) != k.addr && m.addr(vip).IsValid():
		return Moved, "its address is " + m.addr(vip).String() + " now"
	case m.addr(vip) != k.addr:
		return Moved, "it has no address any more"
	case m.status == section.Maintenance:
		return Maintenance, "its Status is maintenance"
	}
	return Moved, "its address is that of another member"
}

// see is what is known of a backend.
func (p *Planner) see(d *draft, k seat, in Input) sight {
	s := sight{verdict: Verdict{Judgement: Up}}
	if in.Verdict != nil {
		s.verdict = in.Verdict(d.tag, k.host, k.addr)
	}
	s.reason, s.drained = in.Drained[k.host]
	if m := d.member(k.host); m != nil && m.uuid != "" && m.box != "" {
		if box, ok := p.seen.ByName(m.box); ok && box.State == mesh.StateAlive {
			r, _ := p.seen.Report(box.ID)
			if vm, known := r.VMs[m.uuid]; known && !vm.Phase.Up() && vm.Phase != report.Foreign {
				s.bad, s.why = Machine, fmt.Sprintf("its machine is %s, says %s", vm.Phase, m.box)
				return s
			}
		}
	}
	if node, ok := p.seen.ByName(k.host); ok {
		switch node.State {
		case mesh.StateFailed:
			s.bad, s.why = Silent, "its agent does not answer"
		case mesh.StateLeft:
			// An agent that is being upgraded says goodbye, and what runs beside it goes on: where it is seen to work, it is in.
			if in.Verdict == nil || s.verdict.Judgement != Up {
				s.bad, s.why = Silent, "its agent was stopped"
			}
		}
	}
	return s
}

// merge puts two lists together, sorted.
func merge(a, b []Backend) []Backend {
	out := make([]Backend, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && compareSeats(seatOf(&a[0]), seatOf(&b[0])) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}
