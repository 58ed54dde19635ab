package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

const (
	uuid1 = "0acfbcca-161e-427c-8423-ef788bb47f00"
	uuid2 = "1acfbcca-161e-427c-8423-ef788bb47f00"
)

// boxReport is what the i-th member of aMesh, from 1, reports.
func boxReport(i int, vms map[string]report.VM) report.Report {
	return report.Report{Node: fmt.Sprintf("%032x", i), VMs: vms}
}

// TestLiveMachines: a machine that does not run is left out, by the report of its living box, and explain says so.
func TestLiveMachines(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/h1.x.test", "{Network: {IP: 10.0.0.1}, VM: {UUID: "+strings.ToUpper(uuid1)+", Box: b1.x.test}}")
	put(t, s, "hosts/h2.x.test", "{Network: {IP: 10.0.0.2}, VM: {UUID: "+uuid2+", Box: b2.x.test}}")
	put(t, s, "hosts/h3.x.test", "{Network: {IP: 10.0.0.3}}")
	put(t, s, "hosts/other.x.test", "{Network: {IP: 10.0.0.4}}")
	put(t, s, "tags/g", "Service: {Port: 80}")
	put(t, s, "tags/far", "{}")
	put(t, s, "tags/above", "{}")
	members(t, s, "g", "h1.x.test", "h2.x.test", "h3.x.test")
	members(t, s, "far", "other.x.test")
	members(t, s, "above", "@g")
	boxes := func(state string, phases ...report.Phase) mesh.View {
		m := aMesh("b1.x.test=127.0.0.1"+state, "b2.x.test=127.0.0.2")
		for i, p := range phases {
			if p != "" {
				id := []string{uuid1, uuid2}[i]
				m = m.WithReport(boxReport(i+1, map[string]report.VM{id: {Name: "x", Phase: p, Reason: "no space"}}))
			}
		}
		return m
	}
	z := Compile(s.View(), boxes(""), DefaultOptions())
	step := func(what string, m mesh.View, want, why string) {
		t.Helper()
		z = z.Update(s.View(), m)
		for _, tag := range []string{"g", "above"} {
			want := strings.ReplaceAll(want, "#", tag+".tag.mesh.internal. A 10.0.0.")
			if got := ask(z, tag+".tag.mesh.internal", "A"); got != "NOERROR: "+want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
		e, err := z.Explain("g.tag.mesh.internal")
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Members[0].Why; got != why {
			t.Errorf("%s: explained as %q, want %q", what, got, why)
		}
		if list := z.LiveMembers("g"); (list[0].Out != "") == e.Members[0].In {
			t.Errorf("%s: listed as %+v, explained as %+v", what, list[0], e.Members[0])
		}
	}
	nothing := "it runs no agent, so nothing is known against it"
	step("no report", boxes(""), "#1; #2; #3", nothing)
	step("running", boxes("", report.Running, report.Running), "#1; #2; #3", "its machine is running, says b1.x.test")
	step("one failed", boxes("", report.Failed, report.Running), "#2; #3", "its machine is failed, says b1.x.test: no space")
	step("the other stops", boxes("", report.Running, report.Stopped), "#1; #3", "its machine is running, says b1.x.test")
	step("foreign", boxes("", report.Foreign), "#1; #2; #3", nothing)
	step("unknown", boxes("", report.Unknown), "#1; #2; #3", nothing)
	step("both stopped", boxes("", report.Stopped, report.Stopped), "#3", "its machine is stopped, says b1.x.test: no space")
	step("the box is dead", boxes(" failed", report.Stopped, report.Running), "#1; #2; #3", nothing)
	step("frozen without", boxes("", report.Stopped, report.Running).WithMassSuspicion(true), "#1; #2; #3", nothing)
	step("thawn", boxes("", report.Stopped, report.Running), "#2; #3", "its machine is stopped, says b1.x.test: no space")
	step("frozen", boxes("", report.Running, report.Running).WithMassSuspicion(true), "#2; #3",
		"its machine is stopped, says b1.x.test: no space, when it was known last: too many failed at once")
	step("thawn again", boxes("", report.Running, report.Running), "#1; #2; #3", "its machine is running, says b1.x.test")
	step("stopped", boxes("", report.Stopped, report.Running), "#2; #3", "its machine is stopped, says b1.x.test: no space")
	put(t, s, "hosts/h1.x.test", "{Network: {IP: 10.0.0.1}, VM: {UUID: "+uuid1+", Box: b2.x.test}}")
	step("of another box", boxes("", report.Stopped, report.Running), "#1; #2; #3", nothing)
	put(t, s, "hosts/h1.x.test", "{Network: {IP: 10.0.0.1}, VM: {UUID: "+uuid1+", Box: b1.x.test}}")
	put(t, s, "hosts/h3.x.test", "{Network: {IP: 10.0.0.3}, Status: retired}")
	step("all out answers all", boxes("", report.Stopped, report.Stopped), "#1; #2; #3", "its machine is stopped, says b1.x.test: no space")
}

// TestReportTouches: a report compiles the tags of the machines concerned and nothing else, keeps the answers of other live
// names, and one that changes no answer compiles nothing.
func TestReportTouches(t *testing.T) {
	s := openStore(t)
	for i := range 40 {
		put(t, s, fmt.Sprintf("hosts/h%d.x.test", i), fmt.Sprintf("{Network: {IP: 10.0.0.%d}, VM: {UUID: 0acfbcca-161e-427c-8423-ef788bb47f%02d, Box: b1.x.test}}", i+1, i))
		put(t, s, fmt.Sprintf("tags/t%d", i), "{}")
		members(t, s, fmt.Sprintf("t%d", i), fmt.Sprintf("h%d.x.test", i))
	}
	put(t, s, "tags/zone", "DNS: {Zone: x.test}")
	members(t, s, "zone", "h0.x.test", "h1.x.test")
	vms := func(down ...int) mesh.View {
		r := boxReport(1, map[string]report.VM{})
		for i := range 40 {
			p := report.Running
			if slices.Contains(down, i) {
				p = report.Failed
			}
			r.VMs[fmt.Sprintf("0acfbcca-161e-427c-8423-ef788bb47f%02d", i)] = report.VM{Name: "x", Phase: p}
		}
		r.VMs["unknown"] = report.VM{Phase: report.Failed}
		return aMesh("b1.x.test=127.0.0.1").WithReport(r)
	}
	var touched []string
	opts := DefaultOptions()
	opts.probe = func(source string) { touched = append(touched, source) }
	z := Compile(s.View(), vms(), opts)
	was := liveOf(t, z, "t2.tag.mesh.internal").answer(z)
	for _, tt := range []struct {
		down []int
		want []string
	}{
		{nil, nil},
		{[]int{1}, []string{"tags/all", "tags/t1", "tags/zone"}},
		{[]int{1, 7}, []string{"tags/all", "tags/t7"}},
		{[]int{7}, []string{"tags/all", "tags/t1", "tags/zone"}},
		{[]int{7}, nil},
	} {
		touched = nil
		z = z.Update(s.View(), vms(tt.down...))
		if !slices.Equal(touched, tt.want) {
			t.Errorf("with %v down: compiled %q, want %q", tt.down, touched, tt.want)
		}
		if liveOf(t, z, "t2.tag.mesh.internal").answer(z) != was {
			t.Errorf("with %v down: the answer of another name was made anew", tt.down)
		}
	}
}

func liveOf(t *testing.T, z *Zones, qname string) *live {
	t.Helper()
	n, err := parseName(qname)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := z.find(n, 0).node.live()
	if l == nil {
		t.Fatalf("%s is no live name", qname)
	}
	return l
}
