package lease

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// parseAssignment reads lines "duty: a b=refusal c~avoid @holder >moved": what nodes say of a duty, who has it, who should.
func parseAssignment(text string) *assignment {
	a := &assignment{
		Holders: map[string]held{}, Candidates: map[string][]candidate{}, Drained: map[string]string{}, Moves: map[string]string{}, Leader: "lead", Settled: true,
	}
	for line := range strings.Lines(text) {
		duty, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		for _, f := range strings.Fields(rest) {
			if duty == "drained" {
				a.Drained[f] = "work"
				continue
			}
			switch f[0] {
			case '@':
				a.Holders[duty] = held{f[1:], "s" + f[1:]}
				continue
			case '>':
				a.Moves[duty] = f[1:]
				continue
			}
			node, refusal, _ := strings.Cut(f, "=")
			node, avoid, _ := strings.Cut(node, "~")
			a.Candidates[duty] = append(a.Candidates[duty], candidate{Node: node, Name: node, Session: "s" + node, Refusal: refusal, Avoid: avoid})
		}
	}
	return a
}

func TestPlanOfDuties(t *testing.T) {
	for _, c := range []struct{ name, is, want string }{
		{"nobody wants it", "d: a=no b=no", ""},
		{"the only candidate", "d: a b=no", "grant d a"},
		{"held well", "d: a b @a", ""},
		{"the holder is kept though another comes first", "d: a b c @c", ""},
		{"the leader comes last", "d: lead a", "grant d a"},
		{"the leader, if nobody else takes it", "d: lead a=no", "grant d lead"},
		{"the leader gives it away", "d: lead a @lead", "ask d a"},
		{"but not to one that should not have it", "d: lead a~primary @lead", ""},
		{"second choice", "d: a~primary b", "grant d b"},
		{"second choice is better than nobody", "d: a~primary b=no", "grant d a"},
		{"the holder has become a second choice", "d: a~primary b @a", "ask d b"},
		{"the holder has become a second choice, and nobody is a better one", "d: a~primary b=no c~primary lead @a", ""},
		{"the holder has become a second choice, and a person wants it there", "d: a~primary b @a >a", ""},
		{"a drained holder", "d: a b @a\ndrained: a", "ask d b"},
		{"a drained holder whom nobody can follow keeps it", "d: a b=no @a\ndrained: a", ""},
		{"a drained node gets nothing", "d: a b\ndrained: a", "grant d b"},
		{"moved by a person", "d: a b @a >b", "ask d b"},
		{"moved to where it is", "d: a b @b >b", ""},
		{"moved to the leader: a person knows", "d: lead a @a >lead", "ask d lead"},
		{"moved to one that refuses", "d: a b=no @a >b", ""},
		{"moved to one that is drained", "d: a b @a >b\ndrained: b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, s := range parseAssignment(c.is).plan() {
				verb := "grant"
				if s.Ask {
					verb = "ask"
				}
				got = append(got, fmt.Sprintf("%s %s %s", verb, s.Duty, s.Node))
				if s.Why == "" {
					t.Errorf("%s %s: no reason", s.Duty, s.Node)
				}
				if s.Session != "s"+s.Node {
					t.Errorf("%s goes to session %s of node %s", s.Duty, s.Session, s.Node)
				}
			}
			if text := strings.Join(got, "; "); text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
}

func TestANewLeaderKeepsItsDutiesForAWhile(t *testing.T) {
	a := parseAssignment("d: lead a @lead")
	a.Settled = false
	if steps := a.plan(); len(steps) > 0 {
		t.Errorf("%+v", steps)
	}
}

// TestDutiesSpread: each gets a holder that is eligible, nobody has more than its share and the leader nothing; a node that dies moves only
// what it had.
func TestDutiesSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(2, 12).Draw(t, "nodes")
		duties := rapid.IntRange(1, 60).Draw(t, "duties")
		a := &assignment{Holders: map[string]held{}, Candidates: map[string][]candidate{}, Leader: "n0", Settled: true}
		for d := range duties {
			name := fmt.Sprintf("vip/10.0.0.%d", d)
			for n := range nodes {
				node := fmt.Sprintf("n%d", n)
				a.Candidates[name] = append(a.Candidates[name], candidate{Node: node, Session: "s" + node})
			}
		}
		settle := func() map[string]int {
			for range 3 {
				for _, s := range a.plan() {
					a.Holders[s.Duty] = held{s.Node, s.Session}
				}
			}
			load := map[string]int{}
			for _, h := range a.Holders {
				load[h.Node]++
			}
			return load
		}
		load := settle()
		if len(a.Holders) != duties {
			t.Fatalf("%d of %d duties have a holder", len(a.Holders), duties)
		}
		limit := share(duties, nodes-1)
		for n, l := range load {
			if n == "n0" || l > limit {
				t.Fatalf("%s holds %d of %d, its share among %d nodes is %d", n, l, duties, nodes, limit)
			}
		}
		if len(a.plan()) > 0 {
			t.Fatal("what is settled does not stay")
		}
		if nodes < 3 {
			return
		}
		before := map[string]held{}
		for d, h := range a.Holders {
			before[d] = h
			if h.Node == "n1" {
				delete(a.Holders, d)
			}
		}
		for d, list := range a.Candidates {
			a.Candidates[d] = append(list[:1:1], list[2:]...)
		}
		settle()
		for d, h := range a.Holders {
			if before[d].Node != "n1" && before[d] != h {
				t.Fatalf("%s moved from %s to %s, though neither died", d, before[d].Node, h.Node)
			}
		}
	})
}
