package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/node/api"
)

// otherDuties is what is not asked for.
type otherDuties interface{ api.Duties }

// fakeDuties answers as an agent does whose duties are handed over, one with each question.
type fakeDuties struct {
	otherDuties
	list  api.DutyList
	stuck bool // what is left is not handed over
	did   []string
}

var (
	box1 = strings.Repeat("1", 32)
	box2 = strings.Repeat("2", 32)
)

func sampleDuties() api.DutyList {
	since := noon.Add(-90 * time.Second)
	return api.DutyList{
		Group: api.DutyGroup{ID: "0123456789abcdef0123456789abcdef", Generation: 1, Datacenter: "dc1", Home: true}, Leader: box2, LeaderName: "box2",
		Duties: []api.Duty{
			{Duty: "mirror", Node: box1, Name: "box1", Fence: 7, Since: &since, Candidates: 2},
			{Duty: "vip/10.1.0.53", Node: box1, Name: "box1", Fence: 1234, Since: &since, Candidates: 1, HandOver: "its holder is drained: memory\x1b[2J", To: box2, ToName: "box2"},
			{Duty: "vip/10.1.0.54", Node: box2, Fence: 9, Candidates: 1},
			{Duty: "vip/10.1.0.55", Fence: 3, Since: &since},
			{Duty: "vip/10.1.0.56", Fence: 4, Since: &since, Candidates: 1},
		},
	}
}

func (f *fakeDuties) Duties(context.Context) (api.DutyList, error) {
	out := f.list
	if len(f.list.Duties) > 0 && !f.stuck {
		f.list.Duties = f.list.Duties[1:]
	}
	return out, nil
}

func (f *fakeDuties) MoveDuty(_ context.Context, _ api.Identity, duty, node string) (api.Duty, error) {
	return api.Duty{Duty: duty, Node: box2, Name: node, Fence: 8}, nil
}

func (f *fakeDuties) DrainNode(_ context.Context, _ api.Identity, node, reason string) (api.DrainedNode, error) {
	f.did = append(f.did, "drain "+node+": "+reason)
	return api.DrainedNode{Node: box1, Name: node, Holds: len(f.list.Duties)}, nil
}

func (f *fakeDuties) UndrainNode(_ context.Context, _ api.Identity, node string) (api.NodeName, error) {
	f.did = append(f.did, "undrain "+node)
	return api.NodeName{ID: box1, Name: node}, nil
}

func (f *fakeDuties) RecoverDuties(_ context.Context, _ api.Identity, force bool) (api.DutyGroup, error) {
	f.did = append(f.did, fmt.Sprintf("recover %v", force))
	return api.DutyGroup{ID: "g", Generation: 2, Datacenter: "dc1"}, nil
}

func (f *fakeDuties) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(shortTempDir(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := api.NewHandler(api.Config{Duties: f, Identify: func(*http.Request) (api.Identity, bool, error) {
		return api.Identity{User: "root", Admin: true}, true, nil
	}})
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}

// TestDutiesText fixes what people read about duties.
func TestDutiesText(t *testing.T) {
	list := sampleDuties()
	since := noon.Add(-time.Hour)
	voters := api.DutyVoters{
		Group: list.Group, Leader: box2, LeaderName: "box2", Term: 3, Index: 1240, Next: "promote box3: it has caught up; 3 voters are wanted",
		Voters: []api.DutyVoter{
			{Node: box1, Name: "box1", Voter: true, State: "alive"}, {Node: box2, Name: "box2", Voter: true, State: "alive"},
			{Node: strings.Repeat("3", 32), Name: "box3", Behind: 17, State: "alive"}, {Node: strings.Repeat("4", 32), Voter: true},
		},
		Drained: []api.DrainedNode{{Node: box1, Name: "box1", By: "root(alice)", Reason: "memory", At: &since, Holds: 1}},
		Owing:   []api.NodeName{{ID: box1, Name: "box1"}},
	}
	explanation := api.DutyExplanation{
		Duty: list.Duties[1], Leader: box2, LeaderName: "box2", Silent: 2,
		Nodes: []api.DutyRank{
			{Node: box2, Name: "box2", Class: "second choice", Reason: "it leads the lease group"},
			{Node: box1, Name: "box1", Class: "not eligible", Reason: "it is drained: memory", Holds: 1, Holder: true},
		},
	}
	explanation.Duty.Why, explanation.Duty.Last, explanation.Duty.LastName = "the only candidate", box2, "box2"
	free := api.DutyExplanation{Duty: list.Duties[3], Leader: box2, Silent: 1}
	var all bytes.Buffer
	a := app{stdout: &all, output: formTable}
	for _, c := range []struct {
		name  string
		print func(w io.Writer)
	}{
		{"duties", func(w io.Writer) { dutiesTable(w, list, noon) }},
		{"none", func(w io.Writer) { dutiesTable(w, api.DutyList{Group: list.Group}, noon) }},
		{"explain", func(w io.Writer) { explanationText(w, explanation, noon) }},
		{"explain what is free", func(w io.Writer) { explanationText(w, free, noon) }},
		{"voters", func(w io.Writer) { votersTable(w, voters, noon) }},
		{"lines of status", func(w io.Writer) {
			for _, s := range []api.DutiesStatus{
				{Error: "locked"}, {}, {Group: &list.Group, Leads: true, Votes: true},
				{Group: &list.Group, Leader: box2, Holding: []api.HeldDuty{{Duty: "a"}, {Duty: "b"}, {Duty: "c"}, {Duty: "d"}, {Duty: "e"}, {Duty: "f"}}},
			} {
				row(w, dutiesLine(s))
			}
		}},
	} {
		all.WriteString("# " + c.name + "\n")
		if err := a.print(nil, c.print); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
	}
	golden(t, "duties.txt", all.Bytes())
}

func TestNodeDrain(t *testing.T) {
	for _, c := range []struct {
		name  string
		stuck bool
		args  []string
		code  int
		want  string
	}{
		{"until nothing is held", false, nil, exitDone, "box1 is drained and holds nothing, after "},
		{"without waiting", false, []string{"--no-wait"}, exitDone, "box1 is drained; it holds 3 duties\n"},
		{"what nobody else can take", true, nil, exitFailed, "box1 is drained but keeps 1 duty, because no other node is eligible: vip/10.1.0.53; see hostmesh duties explain vip/10.1.0.53"},
		{"in the time there is", true, []string{"--timeout", "500ms"}, exitFailed, "box1 is drained and still holds 1 duty: vip/10.1.0.53: it took longer than 500ms (--timeout)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeDuties{stuck: c.stuck}
			f.list.Duties = []api.Duty{{Duty: "mirror", Node: box1, Candidates: 1}, {Duty: "other", Node: box2, Candidates: 1}, {Duty: "vip/10.1.0.53", Node: box1}}
			if c.stuck {
				f.list.Duties = f.list.Duties[1:]
			}
			code, out, errs := hostmesh(t, append([]string{"--socket", f.serve(t), "node", "drain", "box1", "-m", "memory"}, c.args...)...)
			if code != c.code || !strings.Contains(out+errs, c.want) || len(f.did) != 1 || f.did[0] != "drain box1: memory" {
				t.Errorf("%d %q %q %q", code, out, errs, f.did)
			}
		})
	}
	f := &fakeDuties{}
	socket := f.serve(t)
	if code, _, errs := hostmesh(t, "--socket", socket, "node", "drain", "box1"); code != exitUsage || !strings.Contains(errs, "-m") || len(f.did) > 0 {
		t.Errorf("without a reason: %d %q", code, errs)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "node", "undrain", "box1"); code != exitDone || out != "box1 may hold duties again\n" {
		t.Errorf("undrain: %d %q", code, out)
	}
}

func TestDutiesCommands(t *testing.T) {
	f := &fakeDuties{list: sampleDuties()}
	socket := f.serve(t)
	if code, out, errs := hostmesh(t, "--socket", socket, "duties", "move", "vip/10.1.0.53", "box2"); code != exitDone ||
		!strings.HasPrefix(out, "vip/10.1.0.53 is held by box2 after ") || !strings.HasSuffix(out, ", fencing number 8\n") {
		t.Errorf("move: %d %q %q", code, out, errs)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "duties", "recover"); code != exitUsage || !strings.Contains(errs, "--yes") || len(f.did) > 0 {
		t.Errorf("recover without a terminal: %d %q %q", code, errs, f.did)
	}
	if code, out, errs := hostmesh(t, "--socket", socket, "duties", "recover", "--yes", "--force"); code != exitDone || !strings.Contains(out, "generation 2") ||
		!strings.Contains(out, "hostmesh duties excuse NODE") || f.did[0] != "recover true" {
		t.Errorf("recover: %d %q %q", code, out, errs)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "duties", "-o", "yaml"); code != exitDone || !strings.Contains(out, "duty: mirror\n") {
		t.Errorf("yaml: %d %q", code, out)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "duties", "explane", "mirror"); code != exitUsage || !strings.Contains(errs, "explane") {
		t.Errorf("a command that is not there: %d %q", code, errs)
	}
	if code, out, errs := hostmesh(t, "__complete", "--socket", socket, "duties", "explain", "vip"); code != exitDone || !strings.Contains(out, "vip/10.1.0.56\n") {
		t.Errorf("completion: %d %q %q", code, out, errs)
	}
}
