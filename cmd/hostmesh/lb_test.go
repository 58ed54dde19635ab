package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

var lbNoon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sampleLB is a tag with everything that can be said of one.
func sampleLB() api.LBService {
	ago := func(d time.Duration) *time.Time { t := lbNoon.Add(-d); return &t }
	until := lbNoon.Add(3 * time.Minute)
	box1, box2 := api.NodeName{ID: "n1", Name: "box1"}, api.NodeName{ID: "n2", Name: "box2"}
	return api.LBService{
		Tag: "web", Balanced: true, VIP: "10.1.0.50", Subnet: "prod", Mode: "nat", Balance: "source", Masquerade: true, DrainMS: 300000, NoQuorum: "drop",
		Ports: []api.LBPort{{Port: 80, Proto: "tcp", To: 8080}, {Port: 53, Proto: "udp", To: 53}}, Check: &api.LBCheck{Type: "tcp", IntervalMS: 2000, Rise: 2, Fall: 3},
		Holder: &api.LBHolder{NodeName: box1, Fence: 812, Since: ago(90 * time.Minute), Phase: "held", Interface: "br0"}, By: &box1, Version: "v9", Changed: "v7",
		Backends: []api.LBBackend{
			{Host: "web1", Addr: "10.1.8.1", State: "in", Checks: []api.LBSight{
				{NodeName: box1, Holder: true, Alive: true, Port: 8080, Proto: "tcp", State: "up"}, {NodeName: box2, Alive: true, Port: 8080, Proto: "tcp", State: "up", Bad: 1, Reason: "timeout"}}},
			{Host: "web2", Addr: "10.1.8.2", State: "draining", Cause: "drained", Why: "drained: new disks", Until: &until},
			{Host: "web3", Addr: "10.1.8.3", State: "out", Cause: "check", Why: "both observers: connection refused", Checks: []api.LBSight{
				{NodeName: box1, Holder: true, Alive: true, Port: 8080, Proto: "tcp", State: "down", Bad: 3, Since: ago(time.Minute), Reason: "connection refused"},
				{NodeName: api.NodeName{ID: "n3"}, Port: 8080, Proto: "tcp", State: "up"}}},
			{Host: "web4", Addr: "10.1.8.4", State: "in", Held: true, Why: "it is no member any more, but it is held"},
		},
		Problems: []api.LBProblem{{Name: "shrink-held", Text: "tags/web: a change takes out too many"}},
	}
}

func TestLBTexts(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	alone := api.LBService{Tag: "dns", Balanced: true, VIP: "10.1.0.51", Mode: "tcp", Ports: []api.LBPort{{Port: 53, Proto: "tcp", To: 53}}, Refusal: "haproxy cannot be run here: there is no haproxy"}
	silent := sampleLB()
	silent.Tag, silent.NotHeld, silent.Error, silent.Problems = "silent", "the holder cannot be asked (timeout)", "the kernel's rules: no", nil
	silent.Holder = &api.LBHolder{NodeName: api.NodeName{ID: "n1"}, Phase: "refused"}
	bad := api.LBService{Tag: "bad", Problems: []api.LBProblem{{Name: "vip-no-subnet", Text: "tags/bad: LB/VIP \x1b[2J is in no network"}}}
	lbTable(w, []api.LBService{bad, alone, silent, sampleLB()}, lbNoon)
	for _, s := range []api.LBService{sampleLB(), silent, alone, bad} {
		fmt.Fprintln(w)
		lbText(w, s, lbNoon)
	}
	lbTable(w, nil, lbNoon)
	w.Flush()
	golden(t, "lb.txt", []byte(b.String()))
}

func TestLBChanges(t *testing.T) {
	was := sampleLB()
	now := sampleLB()
	now.Version = "v10"
	now.Holder = &api.LBHolder{NodeName: api.NodeName{ID: "n2", Name: "box2"}, Fence: 900, Phase: "held"}
	now.Backends = now.Backends[:3]
	now.Backends[1].State, now.Backends[1].Until = "out", nil
	now.Backends = append(now.Backends, api.LBBackend{Host: "web5", Addr: "10.1.8.5", State: "out", Cause: "unchecked", Why: "it was not checked yet"})
	now.Problems = []api.LBProblem{{Name: "no-address", Text: "hosts/web6 has none"}}
	var got []string
	for _, x := range lbChanges(map[string]api.LBService{"web": was, "old": {Tag: "old", Balanced: true}}, []api.LBService{now}) {
		got = append(got, strings.TrimSpace(x.Tag+" "+x.Host+" "+x.Version+": "+x.Text))
	}
	want := []string{
		"web  v10: box2 holds 10.1.0.50, fence 900",
		"web web2 v10: out at 10.1.8.2: drained: new disks",
		"web web5 v10: out at 10.1.8.5: it was not checked yet",
		"web web4 v10: no backend any more at 10.1.8.4",
		"web  v10: no-address: hosts/web6 has none",
		"web  v10: shrink-held: no more",
		"old  : is not balanced any more",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if same := lbChanges(map[string]api.LBService{"web": was}, []api.LBService{sampleLB()}); len(same) > 0 {
		t.Errorf("nothing changed, and it tells %+v", same)
	}
}

// fakeLB has one tag, whose holder takes in what is entered at the second look.
type fakeLB struct {
	mu      sync.Mutex
	service api.LBService
	pending func(s *api.LBService)
	looks   int
	did     []string
	noTags  bool
}

func (f *fakeLB) look() api.LBService {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looks++; f.pending != nil && f.looks > 1 {
		f.pending(&f.service)
		f.pending = nil
	}
	s := f.service
	s.Backends = append([]api.LBBackend(nil), s.Backends...)
	return s
}

func (f *fakeLB) LBServices(context.Context) (api.LBList, error) {
	return api.LBList{Version: "v9", Services: []api.LBService{f.look()}}, nil
}

func (f *fakeLB) LBService(_ context.Context, tag string) (api.LBService, error) {
	if tag != "web" {
		return api.LBService{}, fmt.Errorf("tags/%s: %w", tag, hostdb.ErrNotFound)
	}
	return f.look(), nil
}

func (f *fakeLB) ExplainLB(_ context.Context, tag, host string) (api.LBExplanation, error) {
	e := api.LBExplanation{Tag: tag, Host: host, Lines: []string{host + " is why"}}
	if host == "" {
		e.Duty = &api.DutyExplanation{Duty: api.Duty{Duty: "lb/10.1.0.50", Node: "n1", Name: "box1", Why: "the only one"}, Nodes: []api.DutyRank{{Node: "n2", Name: "box2", Class: "not eligible", Reason: "no nft"}}}
	}
	return e, nil
}

func (f *fakeLB) wrote(host, what string) (api.LBWritten, error) {
	f.did = append(f.did, what)
	if host == "db1" {
		return api.LBWritten{}, fmt.Errorf("hosts/db1: %w", hostdb.ErrDenied)
	}
	w := api.LBWritten{Host: host, Changed: true, Tags: []string{"web"}}
	if f.noTags {
		w.Tags = nil
	}
	return w, nil
}

func (f *fakeLB) DrainLBHost(_ context.Context, _ api.Identity, host string, d api.LBDrain) (api.LBWritten, error) {
	return f.wrote(host, fmt.Sprintf("drain %s %+v", host, d))
}

func (f *fakeLB) EnableLBHost(_ context.Context, _ api.Identity, host string, e api.LBEnable) (api.LBWritten, error) {
	return f.wrote(host, fmt.Sprintf("enable %s %+v", host, e))
}

func (f *fakeLB) serve(t *testing.T) (socket string) {
	t.Helper()
	return serveAPI(t, api.Config{LB: f})
}

// TestLBDrainWaits: a command ends when the holder has it, and says so when it never will.
func TestLBDrainWaits(t *testing.T) {
	set := func(i int, b api.LBBackend) func(*api.LBService) {
		return func(s *api.LBService) {
			b.Host, b.Addr = s.Backends[i].Host, s.Backends[i].Addr
			s.Backends[i] = b
		}
	}
	for _, c := range []struct {
		name   string
		args   []string
		begin  func(s *api.LBService)
		then   func(s *api.LBService)
		noTags bool
		code   int
		want   []string
		did    string
	}{
		{name: "drained", args: []string{"drain", "web1", "-m", "new disks"}, then: set(0, api.LBBackend{State: "draining", Cause: "drained"}),
			want: []string{"web1 is drained\n", "tags/web: draining on box1 after "}, did: "drain web1 {Reason:new disks Log:new disks}"},
		{name: "not waited for", args: []string{"drain", "web1", "--no-wait"}, want: []string{"web1 is drained\n"}, did: "drain web1 {Reason: Log:hostmesh lb drain web1}"},
		{name: "out for another reason is not drained yet", args: []string{"drain", "web3"}, then: set(2, api.LBBackend{State: "out", Cause: "drained"}), want: []string{"tags/web: out on box1"}},
		{name: "in no tag", args: []string{"drain", "web1"}, noTags: true, want: []string{"a member of no balanced tag"}},
		{name: "the last", args: []string{"drain", "web1"}, then: set(0, api.LBBackend{State: "in", Held: true, Why: "drained: x, but it is the last"}), code: exitFailed,
			want: []string{"web1 is drained", "tags/web: in, drained: x, but it is the last"}},
		{name: "denied", args: []string{"drain", "db1"}, code: exitFailed, want: []string{"permission denied"}},
		{name: "nobody holds the VIP", args: []string{"drain", "web1", "--timeout", "300ms"}, begin: func(s *api.LBService) { s.Holder = nil }, code: exitFailed,
			want: []string{"nobody holds the VIP 10.1.0.50", "--timeout", "hostmesh lb watch"}},
		{name: "on loopback", args: []string{"drain", "web1"}, begin: func(s *api.LBService) { s.Holder, s.Trial = nil, true },
			want: []string{"web1 is drained", "tags/web: nobody holds the VIP 10.1.0.50 here, on loopback"}},
		{name: "not in force", args: []string{"drain", "web2", "--timeout", "300ms"}, begin: func(s *api.LBService) { s.Error = "the kernel's rules: no" }, code: exitFailed,
			want: []string{"not in force on box1: the kernel's rules: no"}},
		{name: "not the holder's table", args: []string{"drain", "web2", "--timeout", "300ms"}, begin: func(s *api.LBService) { s.NotHeld = "the holder cannot be asked" }, code: exitFailed,
			want: []string{"the holder cannot be asked"}},
		{name: "enabled", args: []string{"enable", "web2"}, then: set(1, api.LBBackend{State: "in"}), want: []string{"web2 is enabled", "tags/web: in on box1"}, did: "enable web2 {Log:hostmesh lb enable web2}"},
		{name: "enabled, and it fails", args: []string{"enable", "web3"}, code: exitFailed, want: []string{"web3 is enabled", "tags/web: out: both observers: connection refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeLB{service: sampleLB(), pending: c.then, noTags: c.noTags}
			if c.begin != nil {
				c.begin(&f.service)
			}
			code, out, errs := hostmesh(t, append([]string{"--socket", f.serve(t), "lb"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, out, errs)
			}
			if err := inOrder(out+errs, c.want...); err != nil {
				t.Errorf("%v:\n%s%s", err, out, errs)
			}
			if c.did != "" && (len(f.did) != 1 || f.did[0] != c.did) {
				t.Errorf("it did %q, want %q", f.did, c.did)
			}
		})
	}
}

func TestLBCommands(t *testing.T) {
	f := &fakeLB{service: sampleLB()}
	socket := f.serve(t)
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"list"}, exitDone, []string{"TAG", "web", "80/tcp>8080", "box1", "shrink-held"}},
		{[]string{"list", "-o", "json"}, exitDone, []string{`"version": "v9"`, `"fence": 812`, `"state": "draining"`}},
		{[]string{"show", "web", "-o", "yaml"}, exitDone, []string{"tag: web", "version: v9", "why: 'drained: new disks'"}},
		{[]string{"show", "none"}, exitFailed, []string{"tags/none"}},
		{[]string{"explain", "web", "web1"}, exitDone, []string{"web1 is why"}},
		{[]string{"explain", "web"}, exitDone, []string{"the only one", "not eligible", "no nft"}},
		{[]string{"watch", "-o", "yaml"}, exitUsage, []string{"-o yaml"}},
		{[]string{"watch", "none"}, exitFailed, []string{"tags/none"}},
		{[]string{"drain"}, exitUsage, []string{"1 arg"}},
	} {
		code, out, errs := hostmesh(t, append([]string{"--socket", socket, "lb"}, c.args...)...)
		if err := inOrder(out+errs, c.want...); code != c.code || err != nil {
			t.Errorf("%q: exit code %d, want %d, %v\n%s%s", c.args, code, c.code, err, out, errs)
		}
	}
}

// TestLBWatch: first how it stands, then what changes, then it ends with its context.
func TestLBWatch(t *testing.T) {
	f := &fakeLB{service: sampleLB(), pending: func(s *api.LBService) { s.Backends[0].State, s.Backends[0].Why = "out", "both observers: timeout" }}
	socket := f.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &cancelling{on: "both observers: timeout", cancel: cancel}
	var errs strings.Builder
	if code := run(ctx, []string{"--socket", socket, "lb", "watch", "web"}, nil, strings.NewReader(""), out, &errs); code != exitDone {
		t.Errorf("exit code %d: %s", code, &errs)
	}
	if err := inOrder(out.text.String(), "tags/web: box1 holds 10.1.0.50, fence 812\n", "web1: in at 10.1.8.1\n", "shrink-held", "web1: out at 10.1.8.1: both observers: timeout"); err != nil {
		t.Errorf("%v\n%s", err, &out.text)
	}
}

// cancelling ends what writes to it once it has written a text.
type cancelling struct {
	text   strings.Builder
	on     string
	cancel func()
}

func (c *cancelling) Write(p []byte) (int, error) {
	c.text.Write(p)
	if strings.Contains(c.text.String(), c.on) {
		c.cancel()
	}
	return len(p), nil
}
