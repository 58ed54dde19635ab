package zone

import (
	"fmt"
	"strings"
	"testing"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// TestLiveChecks: a member that all who try it find down is left out of the names of that tag, until one finds it up or nobody tries it; where all
// are down, all are answered.
func TestLiveChecks(t *testing.T) {
	s := openStore(t)
	for i := 1; i <= 3; i++ {
		put(t, s, fmt.Sprintf("hosts/h%d.x.test", i), fmt.Sprintf("Network: {IP: 10.0.0.%d}", i))
	}
	put(t, s, "tags/g", "{}")
	put(t, s, "tags/other", "{}")
	members(t, s, "g", "h1.x.test", "h2.x.test", "h3.x.test")
	members(t, s, "other", "h1.x.test")
	// Each letter is what a node says of h1, h2, h3: u, d, or - for nothing.
	view := func(states [2]string, says ...string) mesh.View {
		m := aMesh("b1.x.test=127.0.0.1"+states[0], "b2.x.test=127.0.0.2"+states[1])
		for i, text := range says {
			r := report.Report{Node: fmt.Sprintf("%032x", i+1), Checks: map[string]report.Check{}}
			for k, c := range text {
				state := map[rune]report.CheckState{'u': report.CheckUp, 'd': report.CheckDown}[c]
				if state != "" {
					r.Checks[report.CheckKey("g", fmt.Sprintf("h%d.x.test", k+1), 80, "tcp")] = report.Check{State: state, Reason: "connection refused"}
				}
			}
			m = m.WithReport(r)
		}
		return m
	}
	both := [2]string{}
	z := Compile(s.View(), view(both), DefaultOptions())
	for _, tt := range []struct {
		what   string
		states [2]string
		says   []string
		frozen bool
		want   string
		why    string
	}{
		{what: "nobody tries", want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
		{what: "well", says: []string{"uuu", "uuu"}, want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
		{what: "one says so", says: []string{"duu", "uuu"}, want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
		{what: "both say so", says: []string{"duu", "duu"}, want: "#2; #3", why: "its check fails, says b1.x.test: connection refused"},
		{what: "frozen", says: []string{"uuu", "uuu"}, frozen: true, want: "#2; #3", why: "its check fails, says b1.x.test: connection refused, when it was known last: too many failed at once"},
		{what: "well again", says: []string{"uuu", "uuu"}, want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
		{what: "one does not know", says: []string{"-du", "ddu"}, want: "#3", why: "its check fails, says b2.x.test: connection refused"},
		{what: "all are down", says: []string{"ddd", "ddd"}, want: "#1; #2; #3", why: "its check fails, says b1.x.test: connection refused"},
		{what: "the one that finds it up dies", states: [2]string{"", " failed"}, says: []string{"duu", "uuu"}, want: "#2; #3", why: "its check fails, says b1.x.test: connection refused"},
		{what: "it is back", says: []string{"duu", "uuu"}, want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
		{what: "nobody tries any more", want: "#1; #2; #3", why: "it runs no agent, so nothing is known against it"},
	} {
		m := view(tt.states, tt.says...).WithMassSuspicion(tt.frozen)
		z = z.Update(s.View(), m)
		for what, x := range map[string]*Zones{"after the others": z, "alone": Compile(s.View(), m, DefaultOptions())} {
			if tt.frozen && x != z {
				continue // who starts in it knows nothing of before
			}
			if got, want := ask(x, "g.tag.mesh.internal", "A"), "NOERROR: "+expand(tt.want, "g"); got != want {
				t.Errorf("%s, %s: got %s, want %s", tt.what, what, got, want)
			}
			if got := ask(x, "other.tag.mesh.internal", "A"); got != "NOERROR: "+expand("#1", "other") {
				t.Errorf("%s, %s: another tag of the host: %s", tt.what, what, got)
			}
			e, err := x.Explain("g.tag.mesh.internal")
			if err != nil || e.Members[0].Why != tt.why {
				t.Errorf("%s, %s: explained as %q, want %q (%v)", tt.what, what, e.Members[0].Why, tt.why, err)
			}
		}
	}
}

// expand makes records of #1.
func expand(text, tag string) string {
	return strings.ReplaceAll(text, "#", tag+".tag.mesh.internal. A 10.0.0.")
}
