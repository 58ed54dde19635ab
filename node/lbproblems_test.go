package node

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hostmesh/lbd"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
)

func TestLBProblems(t *testing.T) {
	now := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	other := netip.MustParseAddr("10.1.0.51")
	state := func(v lbd.VIPState, problems ...plan.Problem) lbd.State {
		v.Addr = lbVIP
		return lbd.State{Services: []*plan.Service{{Tag: "web", VIP: lbVIP}}, VIPs: []lbd.VIPState{v}, Problems: problems}
	}
	told := func(name plan.ProblemName) plan.Problem {
		return plan.Problem{Name: name, Tag: "web", Host: "web1", Text: "tags/web: what"}
	}
	held := lbd.VIPState{Holder: box("box2")}
	long := now.Add(-time.Minute)
	for _, c := range []struct {
		name  string
		state lbd.State
		facts func(f *lbFacts)
		want  string
	}{
		{"all is well", state(held), nil, ""},
		{"a section that cannot be read", state(held, told(plan.BadSection)), nil, "error tags/web: what | see what may stand there: hostmesh schema LB"},
		{"no network", state(held, told(plan.NoSubnet)), nil, "error tags/web: what | give it another: hostmesh db set tags/web/LB/VIP ADDRESS"},
		{"outside the VIPs", state(held, told(plan.OutsideVIPs)), nil, "error tags/web: what | give it another: hostmesh db set tags/web/LB/VIP ADDRESS"},
		{"a host's address", state(held, told(plan.VIPIsHost)), nil, "error tags/web: what | give it another: hostmesh db set tags/web/LB/VIP ADDRESS"},
		{"MySQL's address", state(held, told(plan.VIPTaken)), nil, "error tags/web: what | give it another: hostmesh db set tags/web/LB/VIP ADDRESS"},
		{"two tags with one port", state(held, told(plan.PortClash)), nil, "error tags/web: what | change one of the tags: hostmesh db edit tags/web"},
		{"no such check", state(held, told(plan.UnknownCheck)), nil, "error tags/web: what | lay the program into the directory lb.checks of each box that may try the members"},
		{"no address", state(held, told(plan.NoAddress)), nil, "notice tags/web: what | enter one: hostmesh db set hosts/web1/Network/IP ADDRESS"},
		{"one address twice", state(held, told(plan.SameAddress)), nil, "notice tags/web: what | correct one of them, or take it out: hostmesh tag remove web1 web"},
		{"no members", state(held, told(plan.NoMembers)), nil, "notice tags/web: what | add some: hostmesh tag add HOST web"},
		{"held for the pool's sake", state(held, told(plan.ShrinkHeld)), nil, "error tags/web: what | see hostmesh lb show web"},
		{"no member works, and clients come", state(held, told(plan.AllFail)), nil, "error tags/web: what | see hostmesh lb show web"},
		{"no member works, and no client comes", state(lbd.VIPState{Orphaned: now}, told(plan.AllFail)), nil, "notice tags/web: what | see hostmesh lb show web"},

		{"a stranger has it", state(lbd.VIPState{Holder: box("box1"), Claim: &vip.State{Phase: vip.Refused, Stranger: "02:00", Interface: "br0"}}), nil,
			"error VIP 10.1.0.50 is not here: 02:00 has it on br0 | find out whose hardware address that is, or give the tag another VIP"},
		{"a stranger announces it", state(lbd.VIPState{Holder: box("box1"), Claim: &vip.State{Phase: vip.Held, Stranger: "02:00", Interface: "br0"}}), nil,
			"error VIP 10.1.0.50 is here, and 02:00 announces it on br0 as well | find out whose hardware address that is, or give the tag another VIP"},
		{"a stranger has it, says the holder", state(held), func(f *lbFacts) {
			f.said = func(string, netip.Addr) report.VIP { return report.VIP{Phase: "refused", Why: "02:00 has it"} }
		}, "error VIP 10.1.0.50 is box2's to hold, and is not there: 02:00 has it | see hostmesh status on that node"},
		{"no majority", state(lbd.VIPState{Claim: &vip.State{Phase: vip.Kept}, Orphaned: long}), nil,
			"error VIP 10.1.0.50 is kept although the lease group has no majority: on the other side of a cut it may be held, too | bring voters back: hostmesh duties voters"},

		{"this box cannot, and others can", state(lbd.VIPState{Holder: box("box2"), Refusal: "no nft", Lacking: true}), nil,
			"notice this node cannot hold 1 of 1 virtual address: no nft | give the box what it lacks, or leave it so: others hold them (lb.enabled: false ends this note)"},
		{"this box cannot because of a file, of which is told elsewhere", state(lbd.VIPState{Holder: box("box2"), Refusal: "no file", Lacking: true}), func(f *lbFacts) { f.unread = true }, ""},
		{"it is not in that network, and others are", state(lbd.VIPState{Holder: box("box2"), Refusal: "no interface"}), nil, ""},
		{"nobody holds it for a moment", state(lbd.VIPState{Orphaned: now.Add(-9 * time.Second), Refusal: "no interface"}), nil, ""},
		{"nobody can", state(lbd.VIPState{Orphaned: long, Refusal: "no interface"}), nil,
			"error nobody holds VIP 10.1.0.50 of tags/web, so clients get no answer; this node does not: no interface | see why each node does or does not: hostmesh lb explain web"},
		{"nobody does", state(lbd.VIPState{Orphaned: long}), nil,
			"error nobody holds VIP 10.1.0.50 of tags/web, so clients get no answer; this node offers itself | see why each node does or does not: hostmesh lb explain web"},
		{"on loopback nobody waits for it", state(lbd.VIPState{Orphaned: long, Refusal: "on loopback"}), func(f *lbFacts) { f.trial = true }, ""},
		{"several for one reason", lbd.State{
			Services: []*plan.Service{{Tag: "dns", VIP: other}, {Tag: "web", VIP: lbVIP}, {Tag: "web-tls", VIP: lbVIP}},
			VIPs:     []lbd.VIPState{{Addr: lbVIP, Orphaned: long, Refusal: "r"}, {Addr: other, Orphaned: long, Refusal: "r"}},
		}, nil, "error nobody holds VIP 10.1.0.50 of tags/web and tags/web-tls, 10.1.0.51 of tags/dns, so clients get no answer; this node does not: r | see why each node does or does not: hostmesh lb explain web"},
	} {
		f := lbFacts{
			state: c.state, self: box("box1"), now: now, name: func(string) string { return "box2" },
			said: func(string, netip.Addr) report.VIP { return report.VIP{Phase: "held"} },
		}
		if c.facts != nil {
			c.facts(&f)
		}
		var lines []string
		for _, p := range f.problems() {
			if p.Subject != "lb" {
				t.Errorf("%s: it is about %s", c.name, p.Subject)
			}
			lines = append(lines, fmt.Sprintf("%s %s | %s", p.Severity, p.Text, p.Remedy))
		}
		if got := strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// TestLBCandidates: the doctor says of each node why it does not hold an address that nobody holds, once for addresses of one network.
func TestLBCandidates(t *testing.T) {
	now := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	s := lbd.State{VIPs: []lbd.VIPState{
		{Addr: netip.MustParseAddr("10.1.0.49"), Holder: box("box2"), Duty: "lb/held"},
		{Addr: lbVIP, Orphaned: now.Add(-time.Minute), Duty: "lb/1"}, {Addr: lbVIP.Next(), Orphaned: now.Add(-time.Minute), Duty: "lb/2"},
		{Addr: lbVIP.Next().Next(), Orphaned: now, Duty: "lb/new"},
	}}
	var asked []string
	explain := func(_ context.Context, duty string) (api.DutyExplanation, error) {
		asked = append(asked, duty)
		return api.DutyExplanation{Nodes: []api.DutyRank{{Name: "box2", Class: "not eligible", Reason: "no nft"}, {Name: "box1", Class: "not eligible", Reason: "no interface"}}, Silent: 1}, nil
	}
	list := lbCandidates(t.Context(), s, now, explain)
	if want := "who could hold VIP 10.1.0.50: 1 node has said nothing; box1: no interface; box2: no nft"; len(list) != 1 || list[0].Text != want || list[0].Severity != api.SeverityNotice {
		t.Errorf("%+v, want %s", list, want)
	}
	if got := strings.Join(asked, " "); got != "lb/1 lb/2" {
		t.Errorf("asked for %s", got)
	}
}

// TestLBTroubles: what keeps a service from being in force stands in its explanation.
func TestLBTroubles(t *testing.T) {
	s, d := newLBSite(t)
	s.other.Error = "haproxy: tags/web: its certificate /etc/hostmesh/balancer.d/web.pem is missing"
	s.other.VIPs[0].Claim = &vip.State{Phase: vip.Refused, Why: "02:00:00:00:00:01 has it"}
	e, err := d.ExplainLB(t.Context(), "web", "")
	want := "the VIP is refused at box2: 02:00:00:00:00:01 has it\nit is not in force as HostDB has it, and what was stays: haproxy: tags/web: its certificate /etc/hostmesh/balancer.d/web.pem is missing"
	if got := strings.Join(e.Lines, "\n"); err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	s.own.VIPs[0].Holder, s.own.VIPs[0].Refusal = "", "no interface of this box is in 10.1.0.0/16"
	e, err = d.ExplainLB(t.Context(), "web", "")
	want = "nobody holds the VIP; the node that answers does not: no interface of this box is in 10.1.0.0/16"
	if got := strings.Join(e.Lines, "\n"); err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if x, err := d.LBService(t.Context(), "web"); err != nil || x.Refusal != s.own.VIPs[0].Refusal {
		t.Errorf("%+v %v", x, err)
	}
}
