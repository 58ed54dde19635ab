package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// parseElectorate reads "a:voter:r1 b:learner:r2:behind=100 c:node:r1:dead=40s d:node:r2:new ...": nodes, what they are in raft, their racks,
// and what is special about them. The first is the leader. A node is alive for an hour unless it says otherwise.
func parseElectorate(t interface{ Fatalf(string, ...any) }, text string) *electorate {
	e := &electorate{Times: DefaultTimes()}
	for i, f := range strings.Fields(text) {
		p := strings.Split(f, ":")
		n := nodeState{ID: p[0], Name: p[0], Rack: p[2], Alive: true, For: time.Hour - time.Duration(i)*time.Second}
		s := server{Node: p[0], RaftID: p[0] + ".1"}
		known := true
		for _, x := range p[3:] {
			k, v, _ := strings.Cut(x, "=")
			d, _ := time.ParseDuration(v)
			switch k {
			case "behind":
				fmt.Sscan(v, &s.Behind)
			case "dead":
				n.Alive, n.For = false, d
			case "left":
				n.Alive, n.Left, n.For = false, true, d
			case "up":
				n.For = d
			case "removed":
				known = false
			case "elsewhere":
				n.Elsewhere = true
			case "drained":
				n.Drained = true
			case "apart":
				n.Apart = "a primary runs there"
			case "unfit":
				n.Unfit = "its disk is full"
			default:
				t.Fatalf("%q", x)
			}
		}
		if i == 0 {
			e.Leader = p[0]
		}
		switch p[1] {
		case "voter":
			s.Suffrage = voter
			e.Servers = append(e.Servers, s)
		case "learner":
			e.Servers = append(e.Servers, s)
		}
		if known {
			e.Nodes = append(e.Nodes, n)
		}
	}
	return e
}

func TestNextChangeOfVoters(t *testing.T) {
	for _, c := range []struct{ name, is, want string }{
		{"alone", "a:voter:r1", "nothing"},
		{"two nodes: one voter is better than two", "a:voter:r1 b:node:r2", "nothing"},
		{"three stable nodes", "a:voter:r1 b:node:r2 c:node:r3", "add b"},
		{"three nodes, one too new", "a:voter:r1 b:node:r2 c:node:r3:up=5s", "nothing"},
		{"the first learner catches up: no second voter yet", "a:voter:r1 b:learner:r2 c:node:r3", "add c"},
		{"a learner that is behind is waited for", "a:voter:r1 b:learner:r2:behind=900 c:node:r3", "nothing"},
		{"both have caught up", "a:voter:r1 b:learner:r2 c:learner:r3", "promote b"},
		{"two voters do not stay two", "a:voter:r1 b:voter:r2 c:learner:r3", "promote c"},
		{"two voters, the third died meanwhile: it is waited for", "a:voter:r1 b:voter:r2 c:node:r3:dead=10s", "nothing"},
		{"the other racks first", "a:voter:r1 b:node:r1 c:node:r1 d:node:r2", "add d"},
		{"three of six", "a:voter:r1 b:voter:r2 c:voter:r3 d:node:r4 e:node:r5 f:node:r6", "nothing"},
		{"five of seven", "a:voter:r1 b:voter:r2 c:voter:r3 d:node:r4 e:node:r5 f:node:r6 g:node:r7", "add d"},
		{"seven, of which four are dead: three stay three", "a:voter:r1 b:voter:r2 c:voter:r3 d:node:r4:dead=1h e:node:r5:dead=1h f:node:r6:dead=1h g:node:r7:dead=1h", "nothing"},
		{"five stay five while nodes are only dead", "a:voter:r1 b:voter:r2 c:voter:r3 d:voter:r4:dead=1h e:voter:r5:dead=1h f:node:r6:dead=1h g:node:r7:dead=1h", "nothing"},
		{"five, and only four nodes are left of the mesh: three", "a:voter:r1 b:voter:r2 c:voter:r3 d:voter:r4 e:voter:r5:removed", "remove e"},
		{"a dead voter is first given a successor", "a:voter:r1 b:voter:r2 c:voter:r3:dead=40s d:node:r4", "add d"},
		{"who is behind is waited for", "a:voter:r1 b:voter:r2 c:voter:r3:dead=40s d:learner:r4:behind=70", "nothing"},
		{"then it goes", "a:voter:r1 b:voter:r2 c:voter:r3:dead=40s d:learner:r4", "remove c"},
		{"and the successor has its vote", "a:voter:r1 b:voter:r2 c:node:r3:dead=40s d:learner:r4", "promote d"},
		{"a voter that is away for a moment stays", "a:voter:r1 b:voter:r2 c:voter:r3:dead=20s d:node:r4", "nothing"},
		{"nobody can replace it", "a:voter:r1 b:voter:r2 c:voter:r3:dead=1h", "nothing"},
		{"it came back: the learner is not needed", "a:voter:r1 b:voter:r2 c:voter:r3:up=3s d:learner:r4", "remove d"},
		{"a removed voter", "a:voter:r1 b:voter:r2 c:voter:r3:removed d:node:r4", "add d"},
		{"a removed voter of three, of which two are left: one", "a:voter:r1 b:voter:r2 c:voter:r3:removed", "remove c"},
		{"two left: one", "a:voter:r1 b:voter:r2", "remove b"},
		{"a voter that left in order, a while ago", "a:voter:r1 b:voter:r2 c:voter:r3:left=1m d:node:r4", "add d"},
		{"a drained voter", "a:voter:r1 b:voter:r2 c:voter:r3:drained d:node:r4", "add d"},
		{"a drained voter, and nobody else", "a:voter:r1 b:voter:r2 c:voter:r3:drained", "nothing"},
		{"a drained leader", "a:voter:r1:drained b:voter:r2 c:voter:r3", "lead b"},
		{"a drained leader, alone", "a:voter:r1:drained b:node:r2 c:node:r3", "add b"},
		{"a voter with a full disk", "a:voter:r1 b:voter:r2:unfit c:voter:r3 d:node:r4", "add d"},
		{"a node with a full disk is not taken", "a:voter:r1 b:voter:r2 c:voter:r3:dead=1h d:node:r4:unfit e:node:r5", "add e"},
		{"a voter of another datacenter", "a:voter:r1 b:voter:r2 c:voter:r3:elsewhere d:node:r4", "add d"},
		{"a learner whose node died", "a:voter:r1 b:voter:r2 c:voter:r3 d:learner:r4:dead=40s", "remove d"},
		{"a rack without a voter, while two share one", "a:voter:r1 b:voter:r1 c:voter:r2 d:node:r3", "add d"},
		{"it becomes one", "a:voter:r1 b:voter:r1 c:voter:r2 d:learner:r3", "promote d"},
		{"and one of the shared rack goes", "a:voter:r1 b:voter:r1 c:voter:r2 d:voter:r3", "remove b"},
		{"a leader that should be another", "a:voter:r1:apart b:voter:r2:apart c:voter:r3", "lead c"},
		{"a leader that should be another, and all should be", "a:voter:r1:apart b:voter:r2:apart c:voter:r3:apart", "nothing"},
		{"the one that could lead has just come back", "a:voter:r1:apart b:voter:r2:up=3s c:voter:r3:apart", "nothing"},
		{"the one that could lead is away", "a:voter:r1:apart b:voter:r2:dead=5s c:voter:r3:apart", "nothing"},
		{"a leader that should be another, alone", "a:voter:r1:apart", "nothing"},
		{"who votes comes first", "a:voter:r1:apart b:voter:r2 c:voter:r3:dead=40s d:node:r4", "add d"},
		{"one that may lead is taken before one that should not", "a:voter:r1 b:voter:r2 c:voter:r3:dead=40s d:node:r4:apart e:node:r5", "add e"},
		{"one that should not is better than none", "a:voter:r1 b:voter:r2 c:voter:r3:dead=40s d:node:r4:apart", "add d"},
		{"no better rack", "a:voter:r1 b:voter:r1 c:voter:r2 d:node:r2", "nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parseElectorate(t, c.is).next()
			text := strings.TrimSpace(changeNames[got.Kind] + " " + got.Node)
			if text != c.want {
				t.Errorf("%s: %s (%s), want %s", c.is, text, got.Why, c.want)
			}
		})
	}
}

func TestNobodyIsReplacedUnderMassSuspicion(t *testing.T) {
	e := parseElectorate(t, "a:voter:r1:apart b:voter:r2 c:voter:r3:dead=40s d:node:r4 e:learner:r5")
	e.Sick = true
	if got := e.next(); got.Kind != changeNone && got.Kind != changeRemove || got.Node == "c" {
		t.Errorf("%s", got)
	}
}

// TestVotersSettle carries out change after change: they come to an end, a majority of the voters is alive after each if it was before, and
// at the end there are as many as there should be.
func TestVotersSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		var text []string
		for i := range n {
			f := fmt.Sprintf("%c:node:r%d", 'a'+i, rapid.IntRange(1, 4).Draw(t, "rack"))
			if i == 0 {
				f = "a:voter:r1"
			} else if kind := rapid.SampledFrom([]string{"node", "voter", "learner"}).Draw(t, "kind"); kind != "node" {
				f = strings.Replace(f, "node", kind, 1)
			}
			if i > 0 {
				f += rapid.SampledFrom([]string{"", "", "", ":dead=1h", ":drained", ":unfit", ":removed", ":elsewhere"}).Draw(t, "state")
			}
			f += rapid.SampledFrom([]string{"", "", ":apart"}).Draw(t, "apart")
			text = append(text, f)
		}
		e := parseElectorate(t, strings.Join(text, " "))
		nodes := map[string]nodeState{}
		for _, x := range e.Nodes {
			nodes[x.ID] = x
		}
		alive := func() (up, all int) {
			for _, s := range e.Servers {
				if s.Suffrage == voter {
					all++
					if nodes[s.Node].Alive {
						up++
					}
				}
			}
			return up, all
		}
		up, all := alive()
		had := up > all/2
		if !had {
			return // nobody could lead such a group
		}
		for step := 0; ; step++ {
			if step > 60 {
				t.Fatalf("%v: it does not end: %+v", text, e.Servers)
			}
			c := e.next()
			if c.Kind == changeNone {
				break
			}
			i := slices.IndexFunc(e.Servers, func(s server) bool { return s.Node == c.Node })
			switch c.Kind {
			case changeAdd:
				if i >= 0 {
					t.Fatalf("%v: %s is a server already", text, c)
				}
				if x := nodes[c.Node]; !x.Alive || x.Drained || x.Elsewhere || x.Unfit != "" {
					t.Fatalf("%v: %s: %+v", text, c, x)
				}
				e.Servers = append(e.Servers, server{Node: c.Node, RaftID: c.Node + ".1"})
			case changePromote:
				e.Servers[i].Suffrage = voter
			case changeRemove:
				if c.Node == e.Leader {
					t.Fatalf("%v: the leader removes itself", text)
				}
				e.Servers = slices.Delete(e.Servers, i, i+1)
			case changeLead:
				e.Leader = c.Node
			}
			if up, all := alive(); up <= all/2 {
				t.Fatalf("%v: after %s %d of %d voters are alive", text, c, up, all)
			}
		}
		if _, all := alive(); all%2 == 0 {
			fit := 0
			for _, x := range e.Nodes {
				if x.Alive && !x.Drained && !x.Elsewhere && x.Unfit == "" {
					fit++
				}
			}
			if fit > all {
				t.Fatalf("%v: %d voters at the end: %+v", text, all, e.Servers)
			}
		}
	})
}
