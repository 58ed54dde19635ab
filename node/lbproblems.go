package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/lbd"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
)

// lbNote is what this node does for virtual addresses; idle is why it does nothing.
func (a *Agent) lbNote() (note, idle string) {
	s := a.lb.daemon.State()
	var holds, offers []string
	for _, v := range s.VIPs {
		switch {
		case v.Held || v.Claim != nil && v.Claim.Here():
			text := fmt.Sprintf("%s (fence %d", v.Addr, v.Fence)
			if v.Claim != nil && v.Claim.Phase != vip.Held {
				text += ", " + string(v.Claim.Phase)
			}
			holds = append(holds, text+")")
		case v.Refusal == "":
			offers = append(offers, v.Addr.String())
		}
	}
	switch {
	case len(s.VIPs) == 0:
		return "", "no tag has a section LB"
	case len(holds) > 0:
		return "holds " + strings.Join(holds, ", ") + "; members of hostdb " + s.Applied, ""
	case len(offers) > 0:
		return "", fmt.Sprintf("other nodes hold the %d virtual addresses that it would take", len(offers))
	}
	return "", "it can hold none of the virtual addresses: " + s.VIPs[0].Refusal
}

// lbProblems are what is wrong with load balancing, as far as this node knows.
func (a *Agent) lbProblems() []api.Problem {
	if a.lb.daemon == nil {
		return nil
	}
	mv := a.mesh.View()
	f := lbFacts{
		state: a.lb.daemon.State(), self: a.dir.nodeID, datacenter: a.cfg.Labels.Datacenter, trial: a.onLoopback(), now: a.clock.Now(),
		unread: a.lb.addresses.Unread() != nil,
		name:   func(id string) string { return cmp.Or(nodeName(mv, id), id) },
		said: func(id string, addr netip.Addr) report.VIP {
			r, _ := mv.Report(id)
			if r.LB == nil {
				return report.VIP{}
			}
			return r.LB.VIPs[addr.String()]
		},
	}
	return f.problems()
}

// addressProblems is what keeps every virtual address from this node, until a person has dealt with it.
func (a *Agent) addressProblems() []api.Problem {
	if a.lb.addresses == nil {
		return nil
	}
	err := a.lb.addresses.Unread()
	if err == nil {
		return nil
	}
	return []api.Problem{{
		Severity: api.SeverityError, Subject: "vip", Text: "this node holds no virtual address: " + err.Error(),
		Remedy: "see with ip address whether this box has one that it should not, and remove that; then remove the file: the agent goes on by itself",
	}}
}

// orphanGrace is how long an address may be without a holder before that is told: longer than the worst take-over.
const orphanGrace = 10 * time.Second

// lbFacts are what problems of load balancing follow from.
type lbFacts struct {
	state            lbd.State
	self, datacenter string // of this node
	trial            bool   // on loopback, where nobody waits for an address to be held
	unread           bool   // addressProblems tells why it holds none
	now              time.Time
	name             func(id string) string                      // of a node
	said             func(id string, addr netip.Addr) report.VIP // of an address, by a node's report
}

// problems is pure.
func (f lbFacts) problems() (list []api.Problem) {
	add := func(severity, text, remedy string) {
		list = append(list, api.Problem{Severity: severity, Subject: "lb", Text: text, Remedy: remedy})
	}
	held := map[string]bool{} // tag -> somebody holds its address
	tags := map[netip.Addr][]string{}
	for _, s := range f.state.Services {
		tags[s.VIP] = append(tags[s.VIP], "tags/"+s.Tag)
		for _, v := range f.state.VIPs {
			held[s.Tag] = held[s.Tag] || v.Addr == s.VIP && v.Holder != ""
		}
	}
	for _, p := range f.state.Problems {
		severity := api.SeverityError
		switch p.Name {
		case plan.NoAddress, plan.SameAddress, plan.NoMembers:
			severity = api.SeverityNotice
		case plan.AllFail:
			if !held[p.Tag] { // no client gets as far as to its members
				severity = api.SeverityNotice
			}
		}
		add(severity, p.Text, lbRemedy(p))
	}
	for _, tag := range slices.Sorted(maps.Keys(f.state.Refused)) {
		add(api.SeverityError, f.state.Refused[tag], "")
	}
	lacking, lacks := 0, ""
	for _, v := range f.state.VIPs {
		if v.Lacking {
			lacking, lacks = lacking+1, cmp.Or(lacks, v.Refusal)
		}
		f.claim(v, add)
	}
	if lacking > 0 && !f.trial && !f.unread {
		add(api.SeverityNotice, fmt.Sprintf("this node cannot hold %d of %s: %s", lacking, countOf(len(f.state.VIPs), "virtual address", "virtual addresses"), lacks),
			"give the box what it lacks, or leave it so: others hold them (lb.enabled: false ends this note)")
	}
	if !f.trial {
		f.orphans(tags, add)
	}
	return list
}

// claim looks at who has an address.
func (f lbFacts) claim(v lbd.VIPState, add func(severity, text, remedy string)) {
	const stranger = "find out whose hardware address that is, or give the tag another VIP"
	if v.Claim == nil {
		if s := f.said(v.Holder, v.Addr); v.Holder != "" && v.Holder != f.self && s.Why != "" && s.Phase != string(vip.Held) {
			add(api.SeverityError, fmt.Sprintf("VIP %s is %s's to hold, and is not there: %s", v.Addr, f.name(v.Holder), s.Why), "see hostmesh status on that node")
		}
		return
	}
	switch v.Claim.Phase {
	case vip.Refused:
		add(api.SeverityError, fmt.Sprintf("VIP %s is not here: %s has it on %s", v.Addr, v.Claim.Stranger, v.Claim.Interface), stranger)
	case vip.Kept:
		add(api.SeverityError, fmt.Sprintf("VIP %s is kept although the lease group has no majority: on the other side of a cut it may be held, too", v.Addr),
			"bring voters back: hostmesh duties voters")
	case vip.Held:
		if v.Claim.Stranger != "" {
			add(api.SeverityError, fmt.Sprintf("VIP %s is here, and %s announces it on %s as well", v.Addr, v.Claim.Stranger, v.Claim.Interface), stranger)
		}
	}
}

// orphans tells of addresses that nobody holds, by the reason why this node does not.
func (f lbFacts) orphans(tags map[netip.Addr][]string, add func(severity, text, remedy string)) {
	by := map[string][]lbd.VIPState{}
	var reasons []string
	for _, v := range f.state.VIPs {
		if v.Orphaned.IsZero() || f.now.Sub(v.Orphaned) < orphanGrace || v.Claim != nil && v.Claim.Here() {
			continue
		}
		if by[v.Refusal] == nil {
			reasons = append(reasons, v.Refusal)
		}
		by[v.Refusal] = append(by[v.Refusal], v)
	}
	const few = 5
	for _, reason := range reasons {
		var names []string
		tag := ""
		for i, v := range by[reason] {
			if i == few {
				names = append(names, fmt.Sprintf("%d more", len(by[reason])-few))
				break
			}
			names = append(names, fmt.Sprintf("%s of %s", v.Addr, strings.Join(tags[v.Addr], " and ")))
			if tag == "" && len(tags[v.Addr]) > 0 {
				tag = strings.TrimPrefix(tags[v.Addr][0], "tags/")
			}
		}
		this := "this node offers itself"
		if reason != "" {
			this = "this node does not: " + reason
		}
		add(api.SeverityError, fmt.Sprintf("nobody holds VIP %s, so clients get no answer; %s", strings.Join(names, ", "), this),
			"see why each node does or does not: hostmesh lb explain "+tag)
	}
}

// lbRemedy is what helps against a problem of a plan.
func lbRemedy(p plan.Problem) string {
	switch p.Name {
	case plan.BadSection:
		return "see what may stand there: hostmesh schema LB"
	case plan.NoSubnet, plan.OutsideVIPs, plan.VIPIsHost, plan.VIPTaken:
		return fmt.Sprintf("give it another: hostmesh db set tags/%s/LB/VIP ADDRESS", p.Tag)
	case plan.PortClash:
		return fmt.Sprintf("change one of the tags: hostmesh db edit tags/%s", p.Tag)
	case plan.UnknownCheck:
		return "lay the program into the directory lb.checks of each box that may try the members"
	case plan.NoAddress:
		return fmt.Sprintf("enter one: hostmesh db set hosts/%s/Network/IP ADDRESS", p.Host)
	case plan.SameAddress:
		return fmt.Sprintf("correct one of them, or take it out: hostmesh tag remove %s %s", p.Host, p.Tag)
	case plan.NoMembers:
		return fmt.Sprintf("add some: hostmesh tag add HOST %s", p.Tag)
	}
	return "see hostmesh lb show " + p.Tag
}

// lbDoctorTime bounds how long the doctor waits for what other nodes say of addresses.
const lbDoctorTime = 5 * time.Second

// lbCandidates are what each node says of addresses that nobody holds: for the doctor, which may wait for it.
func (a *Agent) lbCandidates(ctx context.Context) (list []api.Problem) {
	if a.lb.daemon == nil || a.onLoopback() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lbDoctorTime)
	defer cancel()
	return lbCandidates(ctx, a.lb.daemon.State(), a.clock.Now(), duties{a}.ExplainDuty)
}

func lbCandidates(ctx context.Context, s lbd.State, now time.Time, explain func(ctx context.Context, duty string) (api.DutyExplanation, error)) (list []api.Problem) {
	told := map[string]bool{} // addresses of one network have one answer
	for _, v := range s.VIPs {
		if v.Orphaned.IsZero() || now.Sub(v.Orphaned) < orphanGrace {
			continue
		}
		e, err := explain(ctx, v.Duty)
		if err != nil {
			return list // the duties themselves are what is wrong, and the doctor says so
		}
		var nodes []string
		for _, n := range e.Nodes {
			nodes = append(nodes, fmt.Sprintf("%s: %s", cmp.Or(n.Name, n.Node), cmp.Or(n.Reason, n.Class)))
		}
		if e.Silent > 0 {
			nodes = append(nodes, fmt.Sprintf("%s said nothing", countOf(e.Silent, "node has", "nodes have")))
		}
		slices.Sort(nodes)
		text := strings.Join(nodes, "; ")
		if text == "" || told[text] {
			continue
		}
		told[text] = true
		list = append(list, api.Problem{Severity: api.SeverityNotice, Subject: "lb", Text: fmt.Sprintf("who could hold VIP %s: %s", v.Addr, text)})
	}
	return list
}
