package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/mesh/report"
)

// reportPair is a node, and the store of another that knows it as a member.
func reportPair(t *testing.T) (owner *reportSync, other *reportSync) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	for _, i := range []int{0, 1} {
		b := newBoard(Member{ID: reportNodeID(i), State: StateAlive}, log, realClock{}.Now)
		b.change(func(members map[string]Member) bool {
			for _, j := range []int{0, 1, 2} {
				if j != i {
					members[reportNodeID(j)] = Member{ID: reportNodeID(j), State: StateAlive}
				}
			}
			members[reportNodeID(3)] = Member{ID: reportNodeID(3), State: StateLeft}
			return true
		})
		s := newReportSync(b, reportNodeID(i), 100, log, realClock{})
		if i == 0 {
			owner = s
		} else {
			other = s
		}
	}
	return owner, other
}

func (s *reportSync) read(node int) (report.Report, bool) {
	return View{s.board.view.Load()}.Report(reportNodeID(node))
}

// ask lets s answer a message of a node.
func (s *reportSync) ask(t *testing.T, from int, m reportMessage) reportMessage {
	t.Helper()
	b, err := s.handle(context.Background(), Caller{ID: reportNodeID(from)}, m.encode())
	if err != nil {
		t.Fatal(err)
	}
	ans, err := decodeReports(b)
	if err != nil {
		t.Fatal(err)
	}
	return ans
}

// TestReportDeltas: a delta has what changed since, no more, is usable from each state in between, and the whole is told where
// the base is not known or most went.
func TestReportDeltas(t *testing.T) {
	owner, _ := reportPair(t)
	states := []func(r *report.Report){ // n = 1, 2, ...
		func(r *report.Report) {
			r.Box = &report.Box{CPUs: 8, Images: map[string]string{"b": "2", "a": "1"}, Bridges: []string{"br0"}}
			for i := range 20 {
				r.VMs[fmt.Sprint("vm", i)] = report.VM{Name: "web", Phase: report.Running}
			}
		},
		func(r *report.Report) { r.VMs["vm1"] = report.VM{Name: "web", Phase: report.Stopped} },
		func(r *report.Report) { delete(r.VMs, "vm2") },
		func(r *report.Report) { r.Box.CPUs = 9 },
		func(r *report.Report) { r.VMs["vm2"] = report.VM{Name: "back", Phase: report.Running} },
		func(r *report.Report) { clear(r.VMs) },
		func(r *report.Report) {
			r.LB = &report.LB{VIPs: map[string]report.VIP{"10.1.0.53": {Fence: 7, Phase: "held"}}}
		},
		func(r *report.Report) {
			r.LB.VIPs["10.1.0.53"] = report.VIP{Fence: 8, Phase: "refused", Why: "stranger"}
		},
		func(r *report.Report) { r.LB = nil },
		func(r *report.Report) {
			r.MySQL = map[string]report.MySQL{"shop-db": {Process: "running", Role: "primary", Port: 3306}}
		},
		func(r *report.Report) {
			r.MySQL = map[string]report.MySQL{"shop-db": {Process: "died", Reason: "killed"}}
		},
		func(r *report.Report) { r.MySQL = nil },
	}
	var at []report.Report
	id := reportNodeID(0)
	boot := owner.boot
	for i, edit := range states {
		owner.edit(edit)
		owner.edit(func(*report.Report) {})
		r, _ := owner.read(0)
		if r.N != uint64(i+1) || r.Boot != boot {
			t.Fatalf("state %d is numbered %d of %d", i+1, r.N, r.Boot)
		}
		at = append(at, r)
		for _, tt := range []struct {
			now       int
			since     stamp
			set, gone string
		}{
			{1, stamp{}, "whole", ""},
			{2, stamp{boot, 1}, "vm/vm1", ""},
			{3, stamp{boot, 1}, "vm/vm1", "vm/vm2"},
			{3, stamp{boot, 2}, "", "vm/vm2"},
			{4, stamp{boot, 2}, "box", "vm/vm2"},
			{4, stamp{boot, 3}, "box", ""},
			{5, stamp{boot, 1}, "box vm/vm1 vm/vm2", ""},
			{5, stamp{boot - 1, 4}, "whole", ""},
			{5, stamp{boot, 5}, "none", ""},
			{5, stamp{boot, 9}, "none", ""},
			{5, stamp{boot + 1, 1}, "none", ""},
			{6, stamp{boot, 5}, "whole", ""}, // box alone is shorter than what went
			{7, stamp{boot, 6}, "lb", ""},
			{8, stamp{boot, 7}, "lb", ""},
			{9, stamp{boot, 8}, "", "lb"},
			{10, stamp{boot, 9}, "mysql/shop-db", ""},
			{11, stamp{boot, 10}, "mysql/shop-db", ""},
			{12, stamp{boot, 11}, "", "mysql/shop-db"},
		} {
			if tt.now != i+1 {
				continue
			}
			d, ok := owner.board.reports.delta(id, tt.since)
			set := strings.Join(slices.Sorted(maps.Keys(d.set)), " ")
			if d.since == 0 {
				set = "whole"
			}
			if !ok {
				set = "none"
			}
			if set != tt.set || strings.Join(d.gone, " ") != tt.gone {
				t.Errorf("state %d since %v: set %q, gone %q; want %q, %q", tt.now, tt.since, set, d.gone, tt.set, tt.gone)
			}
		}
		// From each earlier state this one is reached.
		for was := range i + 1 {
			_, reader := reportPair(t)
			reader.hold(at[was])
			d, ok := owner.board.reports.delta(id, stamp{boot, uint64(was + 1)})
			if !ok {
				continue
			}
			reader.ask(t, 0, reportMessage{News: []wireDelta{d.wire()}})
			if got, _ := reader.read(0); !report.Equal(got, r) || got.N != r.N {
				t.Errorf("from state %d: %+v, want %+v", was+1, got, r)
			}
		}
	}
}

// TestManyGone: who missed that many entries went gets the whole.
func TestManyGone(t *testing.T) {
	owner, other := reportPair(t)
	id := reportNodeID(0)
	owner.edit(func(r *report.Report) {
		for i := range maxGone + 200 {
			r.VMs[fmt.Sprint(i)] = report.VM{Name: "a"}
		}
	})
	before, _ := owner.read(0)
	other.hold(before)
	for i := range maxGone + 100 {
		owner.edit(func(r *report.Report) { delete(r.VMs, fmt.Sprint(i)) })
	}
	if n := len(owner.board.reports.held[id].gone); n > maxGone {
		t.Errorf("%d are remembered", n)
	}
	d, _ := owner.board.reports.delta(id, stamp{before.Boot, before.N})
	other.ask(t, 0, reportMessage{News: []wireDelta{d.wire()}})
	want, _ := owner.read(0)
	if got, _ := other.read(0); d.since != 0 || !report.Equal(got, want) {
		t.Errorf("since %d: %d machines, want %d", d.since, len(got.VMs), len(want.VMs))
	}
}

// hold lets s have a report of another as it is.
func (s *reportSync) hold(r report.Report) {
	entries, err := encodeEntries(r)
	if err != nil {
		panic(err)
	}
	d := reportDelta{node: r.Node, at: stamp{r.Boot, r.N}, set: entries}
	s.take(r.Node, []wireDelta{d.wire()})
}

func hold(node int, boot, n uint64, vms ...string) report.Report {
	r := report.Report{Node: reportNodeID(node), Boot: boot, N: n}
	for _, id := range vms {
		if r.VMs == nil {
			r.VMs = map[string]report.VM{}
		}
		r.VMs[id] = report.VM{Name: id, Phase: report.Running}
	}
	return r
}

// TestReportsTaken: only what is newer is taken, of members that have not left, and never of this node itself.
func TestReportsTaken(t *testing.T) {
	raw := func(v any) cbor.RawMessage { b, _ := reportEnc.Marshal(v); return b }
	vm := raw(report.VM{Name: "new", Phase: report.Running})
	for _, tt := range []struct {
		name  string
		delta wireDelta
		took  bool
		have  int // stamps in the answer
	}{
		{"the next, as a delta", wireDelta{Boot: 5, N: 11, Since: 10, Set: map[string]cbor.RawMessage{"vm/x": vm}}, true, 0},
		{"a later one from an earlier base", wireDelta{Boot: 5, N: 15, Since: 3}, true, 0},
		{"a base that is not here", wireDelta{Boot: 5, N: 15, Since: 12}, false, 1},
		{"a delta of another run", wireDelta{Boot: 6, N: 15, Since: 10}, false, 1},
		{"the whole of another run", wireDelta{Boot: 6, N: 1}, true, 0},
		{"the same", wireDelta{Boot: 5, N: 10}, false, 0},
		{"an older one", wireDelta{Boot: 5, N: 9}, false, 1},
		{"an older run", wireDelta{Boot: 4, N: 99}, false, 1},
		{"of a stranger", wireDelta{Node: nodeBytes(reportNodeID(77)), Boot: 9, N: 1}, false, 0},
		{"of one that left", wireDelta{Node: nodeBytes(reportNodeID(3)), Boot: 9, N: 1}, false, 0},
		{"a kind of a later build", wireDelta{Boot: 5, N: 11, Since: 10, Set: map[string]cbor.RawMessage{"checks/http": raw([]int{1})}}, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, s := reportPair(t)
			s.hold(hold(2, 5, 10, "a", "b"))
			was, _ := s.read(2)
			if tt.delta.Node == nil {
				tt.delta.Node = nodeBytes(reportNodeID(2))
			}
			ans := s.ask(t, 0, reportMessage{News: []wireDelta{tt.delta}})
			now, _ := s.read(2)
			if took := now.N == tt.delta.N && now.Boot == tt.delta.Boot && (was.N != now.N || was.Boot != now.Boot); took != tt.took {
				t.Errorf("taken: %v (%+v)", took, now)
			}
			if len(ans.Have) != tt.have {
				t.Errorf("answered %d stamps, want %d", len(ans.Have), tt.have)
			}
			if s.counts.refused.Load() != 0 {
				t.Error("it counts as broken")
			}
			if list := slices.Collect(View{s.board.view.Load()}.Reports()); len(list) != 1 {
				t.Errorf("%d reports", len(list))
			}
			if err := s.board.reports.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLaterBuildsReports: what a later build says beside what this one knows is passed on by it.
func TestLaterBuildsReports(t *testing.T) {
	_, s := reportPair(t)
	s.ask(t, 0, reportMessage{News: []wireDelta{{Node: nodeBytes(reportNodeID(2)), Boot: 5, N: 1, Set: map[string]cbor.RawMessage{"checks/http": {0x01}}}}})
	ans := s.ask(t, 0, reportMessage{Want: []wireStamp{{Node: nodeBytes(reportNodeID(2))}}})
	if len(ans.News) != 1 || !bytes.Equal(ans.News[0].Set["checks/http"], []byte{1}) {
		t.Fatalf("passed on: %+v", ans.News)
	}
}

// TestOwnReportIsOurs: others that have a later report of this node, or another under the same number, make it go above.
func TestOwnReportIsOurs(t *testing.T) {
	_, s := reportPair(t)
	s.edit(func(r *report.Report) { r.VMs["a"] = report.VM{Name: "a"} })
	was, _ := s.read(1)
	ans := s.ask(t, 0, reportMessage{News: []wireDelta{{Node: nodeBytes(reportNodeID(1)), Boot: was.Boot - 1, N: 400}}})
	if now, _ := s.read(1); now.Boot != was.Boot || len(ans.Have) != 1 || ans.Have[0].Boot != was.Boot {
		t.Fatalf("an older one of ours: now %+v, answer %+v", now, ans)
	}
	later := wireDelta{Node: nodeBytes(reportNodeID(1)), Boot: was.Boot + uint64((365 * 24 * time.Hour).Milliseconds()), N: 400, Set: map[string]cbor.RawMessage{}}
	ans = s.ask(t, 0, reportMessage{News: []wireDelta{later}})
	now, _ := s.read(1)
	if now.Boot <= later.Boot || !report.Equal(was, now) || len(ans.Have) != 1 || ans.Have[0].Boot != now.Boot {
		t.Fatalf("a later one of ours: now %+v, answer %+v", now, ans)
	}
	// The same number, and something else under it, as an answer to a comparison.
	var kept uint64
	s.boots = func(boot uint64) { kept = boot }
	s.call = func(context.Context, string, []byte) ([]byte, error) {
		m := reportMessage{Have: []wireStamp{{Node: nodeBytes(reportNodeID(1)), Boot: now.Boot, N: now.N, Sum: 1}}}
		return m.encode(), nil
	}
	p := s.peer(reportNodeID(0))
	if err := s.exchange(context.Background(), reportNodeID(0), p, reportMessage{Compare: true}); err != nil {
		t.Fatal(err)
	}
	if again, _ := s.read(1); again.Boot <= now.Boot || kept != again.Boot {
		t.Fatalf("boot %d after %d, kept %d", again.Boot, now.Boot, kept)
	}
}

// TestReportsOfMembersOnly: who leaves takes its report along, who fails does not, and nothing older comes back.
func TestReportsOfMembersOnly(t *testing.T) {
	_, s := reportPair(t)
	state := func(x State) {
		s.board.change(func(members map[string]Member) bool {
			members[reportNodeID(2)] = Member{ID: reportNodeID(2), State: x}
			return true
		})
	}
	s.hold(hold(2, 5, 10, "a"))
	before := View{s.board.view.Load()}
	state(StateFailed)
	if _, ok := s.read(2); !ok {
		t.Fatal("the report went with a failure")
	}
	state(StateLeft)
	if _, ok := s.read(2); ok {
		t.Fatal("the report stays after the goodbye")
	}
	if _, ok := before.Report(reportNodeID(2)); !ok {
		t.Fatal("a View changed")
	}
	state(StateAlive)
	ans := s.ask(t, 2, reportMessage{News: []wireDelta{{Node: nodeBytes(reportNodeID(2)), Boot: 5, N: 9}}})
	if len(ans.Have) != 1 || ans.Have[0].Boot != 5 || ans.Have[0].N != 10 {
		t.Fatalf("it is not told that it had said more: %+v", ans)
	}
	if r, ok := s.read(2); ok {
		t.Fatalf("an older one came back: %+v", r)
	}
	s.hold(hold(2, 5, 10, "a"))
	if _, ok := s.read(2); !ok {
		t.Fatal("what was dropped with a goodbye cannot come back")
	}
	s.board.change(func(members map[string]Member) bool { delete(members, reportNodeID(2)); return true })
	if _, ok := s.read(2); ok {
		t.Fatal("the report stays after removal")
	}
	if err := s.board.reports.check(); err != nil {
		t.Fatal(err)
	}
}

// TestBadReports: what breaks the rules is refused and counted, and changes nothing.
func TestBadReports(t *testing.T) {
	node := nodeBytes(reportNodeID(2))
	raw := func(v any) cbor.RawMessage { b, _ := reportEnc.Marshal(v); return b }
	set := func(key string, v any) reportMessage {
		return reportMessage{News: []wireDelta{{Node: node, Boot: 5, N: 11, Since: 10, Set: map[string]cbor.RawMessage{key: raw(v)}}}}
	}
	big := map[string]cbor.RawMessage{}
	for i := range 600 {
		big[fmt.Sprint("later/", i)] = raw(strings.Repeat("x", 2000))
	}
	many := map[string]cbor.RawMessage{}
	for i := range maxReportEntries {
		many[fmt.Sprint("x/", i)] = raw(1)
	}
	for name, m := range map[string]reportMessage{
		"short node id":       {News: []wireDelta{{Node: node[:5], Boot: 5, N: 11}}},
		"no boot":             {News: []wireDelta{{Node: node, N: 11}}},
		"last boot of all":    {News: []wireDelta{{Node: node, Boot: 1 << 63, N: 11}}},
		"no number":           {News: []wireDelta{{Node: node, Boot: 5}}},
		"base is later":       {News: []wireDelta{{Node: node, Boot: 5, N: 11, Since: 11}}},
		"whole with gone":     {News: []wireDelta{{Node: node, Boot: 5, N: 11, Gone: []string{"box"}}}},
		"empty key":           set("", 1),
		"long key":            set(strings.Repeat("k", maxReportKey+1), 1),
		"long gone key":       {News: []wireDelta{{Node: node, Boot: 5, N: 11, Since: 10, Gone: []string{strings.Repeat("k", maxReportKey+1)}}}},
		"box is a number":     set("box", 1),
		"machine is a list":   set("vm/x", []int{1}),
		"machine without id":  set("vm/", report.VM{Name: "x"}),
		"long reason":         set("vm/x", report.VM{Name: "x", Reason: strings.Repeat("r", 5000)}),
		"long bridge":         set("box", report.Box{Bridges: []string{strings.Repeat("r", 5000)}}),
		"text is not UTF-8":   set("box", map[int]any{1: []byte("\xff"), 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1}),
		"more than 1 MiB":     {News: []wireDelta{{Node: node, Boot: 5, N: 11, Since: 10, Set: big}}},
		"too many entries":    {News: []wireDelta{{Node: node, Boot: 5, N: 11, Since: 10, Set: many}}},
		"want of nobody":      {Want: []wireStamp{{Node: []byte("x")}}},
		"have of a last boot": {Have: []wireStamp{{Node: node, Boot: 1 << 60}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := reportPair(t)
			s.hold(hold(2, 5, 10, "a"))
			_, err := s.handle(context.Background(), Caller{ID: reportNodeID(0)}, m.encode())
			if r, _ := s.read(2); r.N != 10 {
				t.Errorf("it was taken: %+v", r)
			}
			if s.counts.refused.Load() != 1 {
				t.Errorf("%d are counted (%v)", s.counts.refused.Load(), err)
			}
			if err != nil && !errors.Is(err, errReport) {
				t.Errorf("%v", err)
			}
			if err := s.board.reports.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOwnReportIsBounded: texts are cut, and what is too long in all is not taken.
func TestOwnReportIsBounded(t *testing.T) {
	s, other := reportPair(t)
	s.edit(func(r *report.Report) {
		r.VMs["a"] = report.VM{Name: "x\xff", Reason: strings.Repeat("é", report.MaxReason)}
		r.VMs[strings.Repeat("u", 100)] = report.VM{}
		r.Box = &report.Box{Unfit: strings.Repeat("u", 10_000), Bridges: []string{"br0"}}
	})
	r, _ := s.read(0)
	if len(r.VMs) != 1 || len(r.VMs["a"].Reason) != report.MaxReason || r.VMs["a"].Name != "x\uFFFD" || len(r.Box.Unfit) != report.MaxReason {
		t.Fatalf("%+v", r)
	}
	other.hold(r)
	if got, _ := other.read(0); !report.Equal(got, r) {
		t.Fatalf("it is read as %+v", got)
	}
	s.edit(func(r *report.Report) {
		for i := range 2000 {
			r.VMs[fmt.Sprint(i)] = report.VM{Reason: strings.Repeat("x", 1000)}
		}
	})
	if now, _ := s.read(0); now.N != r.N || s.counts.refused.Load() != 1 {
		t.Fatalf("a report of 2 MB was taken: %d, %d", now.N, s.counts.refused.Load())
	}
	// What edit keeps is not what Views have.
	var kept *report.Box
	s.edit(func(r *report.Report) { r.Box.Unfit, kept = "", r.Box })
	kept.Bridges[0] = "changed"
	if now, _ := s.read(0); now.Box.Bridges[0] != "br0" {
		t.Fatal("a View changes with what edit kept")
	}
}

// FuzzReports takes arbitrary bytes as a message: nothing panics, all that is counted along stays right, what is ours stays
// ours, and no report exceeds its bounds.
func FuzzReports(f *testing.F) {
	raw := func(v any) cbor.RawMessage { b, _ := reportEnc.Marshal(v); return b }
	node := nodeBytes(reportNodeID(2))
	for _, m := range []reportMessage{
		{Compare: true, Sum: 7},
		{Want: []wireStamp{{Node: node, Boot: 5, N: 3}}},
		{Have: []wireStamp{{Node: nodeBytes(reportNodeID(1)), Boot: 500, N: 3, Sum: 1}}},
		{News: []wireDelta{
			{Node: node, Boot: 5, N: 11, Since: 10, Set: map[string]cbor.RawMessage{"vm/b": raw(report.VM{Name: "b"}), "box": raw(report.Box{CPUs: 1})}, Gone: []string{"vm/a"}},
			{Node: nodeBytes(reportNodeID(1)), Boot: 1000, N: 1},
			{Node: node, Boot: 6, N: 1, Set: map[string]cbor.RawMessage{"later": raw("x")}},
		}},
	} {
		f.Add(m.encode())
	}
	f.Add([]byte{0xa1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, s := reportPair(t)
		s.hold(hold(2, 5, 10, "a"))
		s.edit(func(r *report.Report) { r.VMs["own"] = report.VM{Name: "own"} })
		before := View{s.board.view.Load()}
		was, _ := before.Report(reportNodeID(2))
		if b2, err := s.handle(context.Background(), Caller{ID: reportNodeID(0)}, b); err == nil {
			if _, err := decodeReports(b2); err != nil {
				t.Fatalf("the answer breaks the rules: %v", err)
			}
		}
		s.call = func(context.Context, string, []byte) ([]byte, error) { return b, nil }
		p := s.peer(reportNodeID(0))
		_ = s.exchange(context.Background(), reportNodeID(0), p, reportMessage{Compare: true})
		s.next(p)
		own, _ := s.read(1)
		if len(own.VMs) != 1 || own.VMs["own"].Name != "own" {
			t.Fatalf("our own report became %+v", own)
		}
		now, ok := s.read(2)
		if !ok || (stamp{was.Boot, was.N}).newer(stamp{now.Boot, now.N}) {
			t.Fatalf("%+v after %+v", now, was)
		}
		if len(was.VMs) != 1 || was.N != 10 {
			t.Fatal("a View changed")
		}
		if err := s.board.reports.check(); err != nil {
			t.Fatal(err)
		}
		if h := s.board.reports.held[reportNodeID(2)]; h.check() != nil {
			t.Fatal(h.check())
		}
	})
}

// TestChecksTravel: checks go one by one as machines do, under keys as long as two names make them, and what is not one is refused.
func TestChecksTravel(t *testing.T) {
	owner, other := reportPair(t)
	long := report.CheckKey(strings.Repeat("t", report.MaxName), strings.Repeat("h", report.MaxName), 65535, "tcp")
	id, boot := reportNodeID(0), owner.boot
	tell := func(since uint64) (d reportDelta) {
		t.Helper()
		d, ok := owner.board.reports.delta(id, stamp{boot, since})
		if !ok {
			t.Fatal("there is no news")
		}
		other.ask(t, 0, reportMessage{News: []wireDelta{d.wire()}})
		want, _ := owner.read(0)
		if got, _ := other.read(0); !report.Equal(got, want) || got.N != want.N {
			t.Fatalf("the other has %+v, not %+v", got, want)
		}
		return d
	}
	owner.edit(func(r *report.Report) {
		for i := range 20 {
			r.Checks[report.CheckKey("web", fmt.Sprint("web", i), 80, "tcp")] = report.Check{State: report.CheckUp, Interval: 2000}
		}
		r.Checks[long] = report.Check{State: report.CheckDown, Bad: 3, Since: 1, Interval: 2000, Reason: "connection refused"}
	})
	tell(0)
	owner.edit(func(r *report.Report) {
		r.Checks["web/web1/80/tcp"] = report.Check{State: report.CheckUp, Bad: 1, Interval: 2000}
	})
	if d := tell(1); len(d.set) != 1 || d.set["check/web/web1/80/tcp"] == nil || d.since != 1 {
		t.Errorf("one change travels as %d entries", len(d.set))
	}
	was, _ := other.read(0)
	owner.edit(func(r *report.Report) { delete(r.Checks, long) })
	if d := tell(2); len(d.gone) != 1 || len(was.Checks) != 21 {
		t.Errorf("one that goes travels as %d, and an earlier report now has %d", len(d.gone), len(was.Checks))
	}
	owner.edit(func(r *report.Report) { clear(r.Checks) })
	tell(3)
	if got, _ := other.read(0); got.Checks != nil {
		t.Errorf("%d checks stay", len(got.Checks))
	}
	raw, _ := reportEnc.Marshal(report.Check{State: report.CheckUp})
	for key, raw := range map[string][]byte{"check/no": raw, "check/web/web1/80/tcp": {0x60}} {
		var r report.Report
		if err := setEntry(&r, key, raw); !errors.Is(err, errReport) || r.Checks != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}
