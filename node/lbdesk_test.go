package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
)

var lbVIP = netip.MustParseAddr("10.1.0.50")

// lbSite is a replica, and two nodes: the desk is that of box1.
type lbSite struct {
	*vmSite
	own, other lbd.State // of box1 and box2
	asked      []string
	err        error // of calls
}

func (s *lbSite) Call(_ context.Context, node, name string, req []byte) ([]byte, error) {
	s.asked = append(s.asked, name+" "+node+" "+string(req))
	if s.err != nil {
		return nil, s.err
	}
	var q lbQuestion
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, err
	}
	return json.Marshal(lbAnswerOf(s.other, q.VIPs))
}

func newLBSite(t *testing.T) (*lbSite, *lbDesk) {
	s := &lbSite{vmSite: newVMSite(t)}
	web := func(state plan.State, cause plan.Cause, why string) *plan.Service {
		return &plan.Service{
			Tag: "web", VIP: lbVIP, Subnet: "prod", Mode: section.NAT, Balance: "source", Keep: true, Drain: 5 * time.Minute, Version: "v5",
			Ports: []plan.Forward{{Port: 80, Proto: "tcp", To: 8080}, {Port: 81, Proto: "tcp", To: 8080}}, Check: section.Probe{Type: "tcp", Interval: time.Second, Rise: 2, Fall: 3},
			Backends: []plan.Backend{{Host: "web1", Addr: netip.MustParseAddr("10.1.8.1"), State: state, Cause: cause, Why: why, Since: s.clock.now}},
		}
	}
	s.own = lbd.State{
		Version: "v9", Services: []*plan.Service{web(plan.Draining, plan.Drained, "drained: disks")}, VIPs: []lbd.VIPState{{Addr: lbVIP, Duty: plan.Duty(lbVIP), Holder: box("box2")}},
		Problems: []plan.Problem{{Name: plan.NoSubnet, Tag: "bad", Text: "tags/bad: no subnet"}, {Name: plan.NoAddress, Tag: "web", Host: "web2", Text: "tags/web: hosts/web2 has none"}},
	}
	s.other = lbd.State{
		Version: "v8", Applied: "v8", Services: []*plan.Service{web(plan.In, "", ""), {Tag: "private", VIP: netip.MustParseAddr("10.1.0.60")}},
		VIPs: []lbd.VIPState{{Addr: lbVIP, Fence: 7, Held: true, Since: s.clock.now, Claim: &vip.State{Phase: vip.Held, Interface: "br0"}}},
	}
	key := report.CheckKey("web", "web1", 8080, "tcp")
	s.mv = s.mv.WithReport(report.Report{Node: box("box1"), Boot: 1, N: 1, Checks: map[string]report.Check{key: {State: report.CheckUp, Since: 1000}}})
	s.mv = s.mv.WithReport(report.Report{Node: box("box2"), Boot: 1, N: 1, LB: &report.LB{VIPs: map[string]report.VIP{lbVIP.String(): {Fence: 6, Phase: "held"}}},
		Checks: map[string]report.Check{key: {State: report.CheckDown, Bad: 3, Since: 1000, Reason: "refused"}}})
	return s, &lbDesk{
		db: s.store, net: s, log: slog.New(slog.DiscardHandler), self: box("box1"), state: func() lbd.State { return s.own },
		explain: func(tag, host string) plan.Explanation {
			return plan.Explanation{Tag: tag, Host: host, State: plan.Draining, Lines: []string{host + " at 10.1.8.1 is draining", "tags/web: VIP"}}
		},
		duty: func(context.Context, string) (api.DutyExplanation, error) {
			return api.DutyExplanation{}, api.ErrNoDuties
		},
	}
}

// TestLBDeskShowsTheHoldersTable: not what this node plans, unless the holder cannot be asked; and it says which.
func TestLBDeskShowsTheHoldersTable(t *testing.T) {
	s, d := newLBSite(t)
	list, err := d.LBServices(t.Context())
	if err != nil || list.Version != "v9" || len(list.Services) != 2 || list.Services[0].Tag != "bad" || list.Services[0].Balanced || list.Services[0].Problems[0].Name != "vip-no-subnet" {
		t.Fatalf("%+v %v", list, err)
	}
	web := list.Services[1]
	if web.NotHeld != "" || web.Version != "v8" || web.By.Name != "box2" || web.Backends[0].State != "in" || web.Changed != "v5" || web.NoQuorum != "keep" || len(web.Problems) != 1 || web.Problems[0].Host != "web2" {
		t.Errorf("%+v", web)
	}
	if h := web.Holder; h == nil || h.Name != "box2" || h.Fence != 7 || h.Phase != "held" || h.Interface != "br0" || h.Since == nil || !h.Since.Equal(s.clock.now) {
		t.Errorf("holder %+v", h)
	}
	checks := web.Backends[0].Checks
	if len(checks) != 2 || !checks[0].Holder || checks[0].Name != "box2" || checks[0].State != "down" || checks[0].Reason != "refused" || checks[0].Bad != 3 || checks[1].Name != "box1" || checks[1].Holder {
		t.Errorf("checks %+v", checks)
	}
	if want := []string{`lb.state.1 ` + box("box2") + ` {"vips":["10.1.0.50"]}`}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q, want %q", s.asked, want)
	}

	planned := func(when, notHeld string) api.LBService {
		t.Helper()
		x, err := d.LBService(t.Context(), "web")
		if err != nil || !strings.Contains(x.NotHeld, notHeld) || x.Version != "v9" || x.By.Name != "box1" || x.Backends[0].State != "draining" || x.Backends[0].Until == nil || !x.Backends[0].Until.Equal(s.clock.now.Add(5*time.Minute)) {
			t.Errorf("%s: %+v %v", when, x, err)
		}
		return x
	}
	s.err = mesh.ErrUnreachable
	if x := planned("the holder is silent", "cannot be asked"); x.Holder == nil || x.Holder.Fence != 6 || x.Holder.Since != nil {
		t.Errorf("its report still says who holds: %+v", x.Holder)
	}
	s.err = nil
	s.other.Services = nil
	planned("the holder has not heard of it", "does not have this tag yet")
	s.own.VIPs[0].Holder = ""
	if x := planned("nobody holds it", "no node is known to hold"); x.Holder != nil {
		t.Errorf("%+v", x.Holder)
	}
	s.asked = nil
	s.own.VIPs[0].Holder, s.own.Applied, s.own.Error = box("box1"), "v7", "the kernel's rules: no"
	if x, err := d.LBService(t.Context(), "web"); err != nil || len(s.asked) > 0 || x.NotHeld != "" || x.Version != "v7" || x.Error != "the kernel's rules: no" {
		t.Errorf("held here: %+v %v, asked %q", x, err, s.asked)
	}
	if _, err := d.LBService(t.Context(), "none"); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
}

func TestLBDeskExplains(t *testing.T) {
	s, d := newLBSite(t)
	s.put("web1", "{}")
	if e, err := d.ExplainLB(t.Context(), "web", "web1"); err != nil || e.State != "draining" || len(e.Lines) != 2 || e.Duty != nil || e.NoDuty != "" {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := d.ExplainLB(t.Context(), "web", ""); err != nil || !slices.Equal(e.Lines, []string{"web1 at 10.1.8.1 is draining", "tags/web: VIP"}) || e.NoDuty == "" {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := d.ExplainLB(t.Context(), "bad", ""); err != nil || !slices.Equal(e.Lines, []string{"vip-no-subnet: tags/bad: no subnet"}) {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := d.ExplainLB(t.Context(), "web", "web11"); !errors.Is(err, hostdb.ErrNotFound) || !strings.Contains(err.Error(), "web1?") {
		t.Errorf("a slip: %v", err)
	}
	if _, err := d.ExplainLB(t.Context(), "none", ""); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
}

// TestLBDeskDrains: it is entered where lbd reads it, by whoever may write the host, once.
func TestLBDeskDrains(t *testing.T) {
	s, d := newLBSite(t)
	s.put("web1", "{Owner: shop}")
	doc, err := hostdb.ParseDocument([]byte("LB: {VIP: 10.1.0.50, Ports: {80/tcp: 80}}"))
	if err != nil {
		t.Fatal(err)
	}
	acl, err := hostdb.ParseACL([]byte("bob: {data: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error {
		for _, tag := range []string{"web", "plain"} {
			if err := tx.Put(hostdb.Tags, tag, map[string]hostdb.Document{"web": doc}[tag]); err != nil {
				return err
			}
			if err := tx.AddMember(hostdb.Tags, tag, "web1"); err != nil {
				return err
			}
		}
		return tx.SetPerms(hostdb.Hosts, "web1", acl)
	}); err != nil {
		t.Fatal(err)
	}
	says := func() string { return s.store.View().Data(hostdb.Hosts, "web1").Text(lbd.DrainKey) }
	root := api.Identity{User: "root", Admin: true}
	drain := func(reason string, changed bool, want string) {
		t.Helper()
		w, err := d.DrainLBHost(t.Context(), root, "web1", api.LBDrain{Reason: reason, Log: "l"})
		if err != nil || w.Changed != changed || (w.Revision != "") != changed || says() != want || !slices.Equal(w.Tags, []string{"web"}) {
			t.Errorf("%q: %+v %v, it says %q, want %q", reason, w, err, says(), want)
		}
	}
	drain("", true, "by root")
	drain("new: {disks} # \"<x>\"\n for web1", true, `new: {disks} # "<x>" for web1`)
	drain("", false, `new: {disks} # "<x>" for web1`)
	for _, wanted := range []bool{true, false} {
		if w, err := d.EnableLBHost(t.Context(), root, "web1", api.LBEnable{Log: "l"}); err != nil || w.Changed != wanted || says() != "" {
			t.Errorf("%+v %v, it says %q", w, err, says())
		}
	}
	if owner := s.store.View().Data(hostdb.Hosts, "web1").Text("Owner"); owner != "shop" {
		t.Errorf("the rest of the host: %q", owner)
	}
	if _, err := d.DrainLBHost(t.Context(), root, "web2", api.LBDrain{Log: "l"}); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("no such host: %v", err)
	}
	if _, err := d.DrainLBHost(t.Context(), api.Identity{User: "eve"}, "web1", api.LBDrain{Log: "l"}); !errors.Is(err, hostdb.ErrDenied) || says() != "" {
		t.Errorf("who may not: %v", err)
	}
	if w, err := d.DrainLBHost(t.Context(), api.Identity{User: "bob"}, "web1", api.LBDrain{Log: "l"}); err != nil || !w.Changed || says() != "by bob" {
		t.Errorf("who may: %+v %v, it says %q", w, err, says())
	}
}
