package lease

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Suffrage is what a member of raft's configuration may do.
type suffrage int

const (
	learner suffrage = iota // gets the log, has no vote
	voter
)

// server is one member of raft's configuration, and what is known of its node.
type server struct {
	Node     string // id
	RaftID   string
	Suffrage suffrage
	Behind   uint64 // entries it lacks, as far as the leader knows; learners only
	Void     bool   // its node has another raft id by now: this one never votes again
}

// nodeState is a node of the datacenter, as the mesh and the leader see it.
type nodeState struct {
	ID, Name, Rack string
	Alive          bool
	For            time.Duration // since it is alive, or is not
	Left           bool          // it said goodbye
	Elsewhere      bool          // it is of another datacenter
	Drained        bool
	Unfit          string // why it cannot be a voter, as it says itself; "" = it can
	Apart          string // why another should lead, as it says itself; "" = it may
}

// electorate is what the choice of voters follows from.
type electorate struct {
	Leader  string // node
	Servers []server
	Nodes   []nodeState // those of the mesh; a server whose node is not among them was removed
	Sick    bool        // mass suspicion: nobody is replaced
	Times   Times
}

// change is one step towards the voters that there should be.
type change struct {
	Kind   changeKind
	Node   string
	RaftID string // of a server that is there
	Why    string
}

type changeKind int

const (
	changeNone    changeKind = iota
	changeAdd                // takes a node in as a learner
	changePromote            // gives a learner the vote
	changeRemove             // takes a server out
	changeLead               // hands the leadership over to a voter
)

var changeNames = [...]string{changeNone: "nothing", changeAdd: "add", changePromote: "promote", changeRemove: "remove", changeLead: "lead"}

func (c change) String() string { return fmt.Sprintf("%s %s: %s", changeNames[c.Kind], c.Node, c.Why) }

// caughtUp is how many entries a learner may lack when it is promoted: what is written while it fetches the rest.
const caughtUp = 64

// wanted is how many voters so many nodes should have. Two would be worse than one: either's death would stop both.
func wanted(nodes int) int {
	switch {
	case nodes >= 7:
		return 5
	case nodes >= 3:
		return 3
	}
	return 1
}

// next is the next step, one at a time: pure. When the voters are those that there should be, the best of them leads.
func (e *electorate) next() change {
	c := e.nextVoters()
	if c.Kind != changeNone || e.Sick {
		return c
	}
	nodes := map[string]*nodeState{}
	for i := range e.Nodes {
		nodes[e.Nodes[i].ID] = &e.Nodes[i]
	}
	lead := nodes[e.Leader]
	if lead == nil || lead.Apart == "" {
		return c
	}
	for _, s := range e.Servers {
		// One that has just come back would be the next to go.
		if n := nodes[s.Node]; s.Suffrage == voter && s.Node != e.Leader && isAlive(nodes, s) && n.For >= e.Times.Stable && !n.Elsewhere && !n.Drained && n.Unfit == "" && n.Apart == "" {
			return change{changeLead, s.Node, s.RaftID, "another than " + lead.ID + " should lead: " + lead.Apart}
		}
	}
	return c
}

// nextVoters is the next step towards the voters that there should be. It removes no voter that lives before another has its place, and a dead
// one only when somebody who can replace it has caught up, so that the majority gets no larger meanwhile.
func (e *electorate) nextVoters() change {
	nodes := map[string]*nodeState{}
	for i := range e.Nodes {
		nodes[e.Nodes[i].ID] = &e.Nodes[i]
	}
	var voters, learners []server
	for _, s := range e.Servers {
		if s.Suffrage == voter {
			voters = append(voters, s)
		} else {
			learners = append(learners, s)
		}
	}

	// A learner that is not coming, or of which there are two of one node.
	for _, l := range learners {
		n := nodes[l.Node]
		switch {
		case n == nil:
			return change{changeRemove, l.Node, l.RaftID, "its node was removed from the mesh"}
		case l.Void:
			return change{changeRemove, l.Node, l.RaftID, voidText}
		case !n.Alive && n.For > e.Times.Replace, n.Elsewhere, n.Drained, n.Unfit != "":
			return change{changeRemove, l.Node, l.RaftID, "it is no longer fit to become a voter" + because2(n)}
		}
	}

	// Growing waits for stable nodes; dying nodes do not shrink the group, removing them does.
	known, stable := 0, 0
	for _, n := range e.Nodes {
		if n.Elsewhere || n.Left && n.For > e.Times.Replace {
			continue
		}
		known++
		if n.Alive && n.For >= e.Times.Stable && !n.Drained && n.Unfit == "" {
			stable++
		}
	}
	want := max(wanted(stable), min(len(voters)|1, wanted(known)))
	missing := min(want, (len(voters)+1)|1) - len(voters) // in steps of two, from one odd number to the next
	wantText := fmt.Sprintf("%d voters are wanted", want)

	lost, lostWhy := e.lost(voters, nodes)
	spare := e.spare(voters, learners, nodes)
	var ready, catching []server
	for _, l := range learners {
		if l.Behind <= caughtUp && nodes[l.Node].Alive {
			ready = append(ready, l)
		} else {
			catching = append(catching, l)
		}
	}
	switch {
	case lost != nil && lost.Void && safe(voters, nodes, *lost):
		return change{changeRemove, lost.Node, lost.RaftID, "it " + voidText} // its node may then become one again
	case lost != nil && lost.Node == e.Leader:
		// A leader that is drained, unfit or elsewhere: another one must do the rest.
		for _, v := range voters {
			if n := nodes[v.Node]; v.Node != e.Leader && n != nil && n.Alive && !n.Drained && n.Unfit == "" && !n.Elsewhere {
				return change{changeLead, v.Node, v.RaftID, "the leader " + lostWhy}
			}
		}
		if len(ready) > 0 {
			return change{changePromote, ready[0].Node, ready[0].RaftID, "it takes over from a leader that " + lostWhy}
		}
	case lost != nil && len(ready) > 0 && isAlive(nodes, *lost) && len(voters) <= want:
		// While it lives, its vote counts until another one does.
		return change{changePromote, ready[0].Node, ready[0].RaftID, "it is to replace " + lost.Node + ", which " + lostWhy}
	case lost != nil && (len(voters) > want || len(ready) > 0) && safe(voters, nodes, *lost):
		return change{changeRemove, lost.Node, lost.RaftID, "it " + lostWhy}
	case len(voters) > want:
		if w := e.worst(voters, nodes); safe(voters, nodes, w) {
			return change{changeRemove, w.Node, w.RaftID, fmt.Sprintf("%d voters are enough", want)}
		}
		return change{}
	case missing >= 2 && len(ready) < 2:
		// From one voter to three: both newcomers first catch up, so that two voters are a matter of milliseconds.
		if len(learners) < 2 && len(catching) == 0 && spare != nil && !e.Sick {
			return change{changeAdd, spare.ID, "", wantText}
		}
		return change{}
	case missing > 0 && len(ready) > 0:
		return change{changePromote, ready[0].Node, ready[0].RaftID, "it has caught up; " + wantText}
	}
	switch {
	case len(catching) > 0 || e.Sick: // who catches up is waited for
		return change{}
	case len(ready) > 0 && lost == nil: // and missing is 0
		l := ready[0]
		if e.betterRack(nodes[l.Node], voters, nodes) {
			return change{changePromote, l.Node, l.RaftID, "its rack " + nodes[l.Node].Rack + " has no voter yet"}
		}
		return change{changeRemove, l.Node, l.RaftID, "it is not needed"}
	case spare == nil || len(ready) > 0:
		return change{}
	case lost != nil:
		return change{changeAdd, spare.ID, "", "it is to replace " + lost.Node + ", which " + lostWhy}
	case missing > 0:
		return change{changeAdd, spare.ID, "", wantText}
	case e.betterRack(spare, voters, nodes):
		return change{changeAdd, spare.ID, "", "rack " + spare.Rack + " has no voter yet"}
	}
	return change{}
}

const voidText = "has another raft id by now"

func isAlive(nodes map[string]*nodeState, v server) bool {
	return !v.Void && nodes[v.Node] != nil && nodes[v.Node].Alive
}

// safe reports whether a majority of the voters is alive without one of them.
func safe(voters []server, nodes map[string]*nodeState, without server) bool {
	up, all := 0, 0
	for _, v := range voters {
		if v.RaftID != without.RaftID {
			all++
			up += btoi(isAlive(nodes, v))
		}
	}
	return up > all/2
}

func because2(n *nodeState) string {
	switch {
	case n.Unfit != "":
		return ": " + n.Unfit
	case n.Drained:
		return ": it is drained"
	case n.Elsewhere:
		return ": it is of another datacenter"
	}
	return ""
}

// lost is a voter that should be replaced, and why. One that is only away for a moment is not.
func (e *electorate) lost(voters []server, nodes map[string]*nodeState) (*server, string) {
	why := func(v server) string {
		n := nodes[v.Node]
		switch {
		case n == nil:
			return "was removed from the mesh"
		case v.Void:
			return voidText
		case e.Sick:
			return ""
		case n.Left && n.For > e.Times.Replace:
			return "left"
		case !n.Alive && n.For > e.Times.Replace:
			return fmt.Sprintf("has been away for %s", n.For.Truncate(time.Second))
		case n.Elsewhere:
			return "is of another datacenter"
		case n.Drained:
			return "is drained"
		case n.Unfit != "" && n.Alive:
			return "cannot vote: " + n.Unfit
		}
		return ""
	}
	// The leader comes last: while another can be replaced, it can do that.
	order := slices.Clone(voters)
	slices.SortStableFunc(order, func(a, b server) int { // those that are dead come first
		return cmp.Or(cmp.Compare(btoi(a.Node == e.Leader), btoi(b.Node == e.Leader)), cmp.Compare(btoi(isAlive(nodes, a)), btoi(isAlive(nodes, b))))
	})
	for _, v := range order {
		if w := why(v); w != "" {
			return &v, w
		}
	}
	return nil, ""
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// spare is the best node that is no server yet; nil when there is none. A rack without a voter comes first, then a node that may lead.
func (e *electorate) spare(voters, learners []server, nodes map[string]*nodeState) *nodeState {
	in := map[string]bool{}
	racks := map[string]int{}
	for _, s := range append(slices.Clone(voters), learners...) {
		in[s.Node] = true
		if n := nodes[s.Node]; n != nil && n.Alive {
			racks[n.Rack]++
		}
	}
	var best *nodeState
	better := func(a, b *nodeState) bool {
		return cmp.Or(cmp.Compare(racks[a.Rack], racks[b.Rack]), cmp.Compare(btoi(a.Apart != ""), btoi(b.Apart != "")), -cmp.Compare(a.For, b.For), cmp.Compare(a.ID, b.ID)) < 0
	}
	for i := range e.Nodes {
		n := &e.Nodes[i]
		if in[n.ID] || !n.Alive || n.For < e.Times.Stable || n.Elsewhere || n.Drained || n.Unfit != "" {
			continue
		}
		if best == nil || better(n, best) {
			best = n
		}
	}
	return best
}

// betterRack reports whether a spare would bring a rack that no voter is in, while two voters share one.
func (e *electorate) betterRack(spare *nodeState, voters []server, nodes map[string]*nodeState) bool {
	if spare.Rack == "" || spare.For < 10*e.Times.Stable {
		return false
	}
	racks := map[string]int{}
	shared := false
	for _, v := range voters {
		n := nodes[v.Node]
		if n == nil || !n.Alive {
			return false
		}
		racks[n.Rack]++
		shared = shared || n.Rack != "" && racks[n.Rack] > 1
	}
	return shared && racks[spare.Rack] == 0
}

// worst is the voter that is missed least: not the leader, of the rack with the most voters, the one that came last.
func (e *electorate) worst(voters []server, nodes map[string]*nodeState) server {
	racks := map[string]int{}
	rack := func(v server) string {
		if n := nodes[v.Node]; n != nil {
			return n.Rack
		}
		return ""
	}
	for _, v := range voters {
		racks[rack(v)]++
	}
	age := func(v server) time.Duration {
		if n := nodes[v.Node]; n != nil && n.Alive {
			return n.For
		}
		return -1
	}
	return slices.MinFunc(voters, func(a, b server) int {
		return cmp.Or(cmp.Compare(btoi(a.Node == e.Leader), btoi(b.Node == e.Leader)), cmp.Compare(btoi(isAlive(nodes, a)), btoi(isAlive(nodes, b))), -cmp.Compare(racks[rack(a)], racks[rack(b)]),
			cmp.Compare(age(a), age(b)), cmp.Compare(a.Node, b.Node))
	})
}
