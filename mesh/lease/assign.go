package lease

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
)

// candidate is a node's word about a duty.
type candidate struct {
	Node    string // id
	Name    string // host name, for people
	Session string
	Refusal string // why it does not take the duty; "" = it does
	Avoid   string // why it should only when nobody else does; "" = no reason
}

// assignment is what the choice of holders follows from.
type assignment struct {
	Holders    map[string]held        // duty -> who has it; no entry = nobody
	Candidates map[string][]candidate // duty -> what nodes say of it
	Drained    map[string]string      // node -> why
	Leader     string                 // node; "" = it does not matter
	Moves      map[string]string      // duty -> node that a person wants it on
	Settled    bool                   // the leader has been there for a while: it may give away what it holds itself
}

type held struct{ Node, Session string }

// step is one thing to do about a duty: grant it to a node, or ask its holder to hand over to that node.
type step struct {
	Duty    string
	Node    string
	Session string
	Why     string
	Ask     bool // the duty has a holder, who is to be asked
}

// rank is how a candidate stands for a duty. The lowest class wins, then the highest weight.
type rank struct {
	candidate
	Class  int    // see the constants
	Reason string // of the class
	Weight uint64 // rendezvous
}

const (
	classWanted     = iota // a person moves the duty there
	classFree              // nothing is against it
	classFull              // it holds more than its share
	classAvoid             // only when nobody else is eligible
	classIneligible        // never
)

var classNames = [...]string{classWanted: "wanted", classFree: "eligible", classFull: "full", classAvoid: "second choice", classIneligible: "not eligible"}

// weight is rendezvous hashing: each duty ranks the nodes in an order of its own, which others that come and go do not change.
func weight(duty, node string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(duty))
	h.Write([]byte{0})
	h.Write([]byte(node))
	// FNV's high bits hardly depend on the last bytes; mix as splitmix64 does.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// share is how many duties a node holds before others come first: a quarter more than all would have alike.
func share(duties, nodes int) int {
	if nodes == 0 {
		return duties
	}
	return (5*duties+4*nodes-1)/(4*nodes) + 1
}

// ranks orders the candidates of a duty, the best first. load is what each node holds, without this duty.
func (a *assignment) ranks(duty string, load map[string]int, limit int) []rank {
	list := make([]rank, 0, len(a.Candidates[duty]))
	for _, c := range a.Candidates[duty] {
		r := rank{candidate: c, Class: classFree, Weight: weight(duty, c.Node)}
		drained, isDrained := a.Drained[c.Node]
		switch {
		case c.Refusal != "":
			r.Class, r.Reason = classIneligible, c.Refusal
		case isDrained:
			r.Class, r.Reason = classIneligible, "it is drained: "+drained
		case a.Moves[duty] == c.Node:
			r.Class, r.Reason = classWanted, "moved there by a person"
		case c.Avoid != "":
			r.Class, r.Reason = classAvoid, c.Avoid
		case c.Node == a.Leader:
			r.Class, r.Reason = classAvoid, "it leads the lease group: if it died, both would have to be replaced"
		case load[c.Node] >= limit:
			r.Class, r.Reason = classFull, fmt.Sprintf("it holds %d duties, its share is %d", load[c.Node], limit)
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y rank) int {
		return cmp.Or(cmp.Compare(x.Class, y.Class), cmp.Compare(y.Weight, x.Weight), cmp.Compare(x.Node, y.Node), cmp.Compare(x.Session, y.Session))
	})
	return list
}

// spread is what each node holds, and how much is its share.
func (a *assignment) spread() (load map[string]int, limit int) {
	load = map[string]int{}
	able := map[string]bool{}
	for _, h := range a.Holders {
		load[h.Node]++
	}
	for _, list := range a.Candidates {
		for _, c := range list {
			if _, drained := a.Drained[c.Node]; c.Refusal == "" && !drained && c.Node != a.Leader {
				able[c.Node] = true
			}
		}
	}
	return load, share(len(a.Candidates), len(able))
}

// avoided are the duties that their holders should not have, and why: they have said so since they got them.
func (a *assignment) avoided() map[string]string {
	out := map[string]string{}
	for duty, list := range a.Candidates {
		h := a.Holders[duty]
		for _, c := range list {
			if c.Avoid != "" && c.Node == h.Node && c.Session == h.Session {
				out[duty] = c.Avoid
			}
		}
	}
	return out
}

// plan is what to do: pure, and the same for the same assignment. Duties come in the order of their names.
func (a *assignment) plan() []step {
	load, limit := a.spread()
	avoided := a.avoided()
	duties := make([]string, 0, len(a.Candidates))
	for duty := range a.Candidates {
		duties = append(duties, duty)
	}
	slices.Sort(duties)
	var steps []step
	for _, duty := range duties {
		h, has := a.Holders[duty]
		if has && avoided[duty] == "" && !a.mayMove(duty, h) {
			continue
		}
		list := a.ranks(duty, load, limit)
		if len(list) == 0 || list[0].Class == classIneligible {
			continue // nobody; who holds it keeps it, which is better than nobody
		}
		best := list[0]
		if has {
			why := a.whyMove(duty, h, list, avoided[duty])
			if why == "" || best.Node == h.Node {
				continue
			}
			steps = append(steps, step{Duty: duty, Node: best.Node, Session: best.Session, Why: why, Ask: true})
		} else {
			steps = append(steps, step{Duty: duty, Node: best.Node, Session: best.Session, Why: because(best, len(list))})
		}
		load[best.Node]++
		if has {
			load[h.Node]--
		}
	}
	return steps
}

// mayMove sorts out most duties, those whose holder is as it should be, without ranking anybody.
func (a *assignment) mayMove(duty string, h held) bool {
	_, drained := a.Drained[h.Node]
	to, wanted := a.Moves[duty]
	return drained || wanted && to != h.Node || a.Settled && h.Node == a.Leader
}

// whyMove is why the holder of a duty is to hand it over to the best of the list; "" = it is not.
func (a *assignment) whyMove(duty string, h held, list []rank, avoided string) string {
	best := list[0]
	if best.Class == classWanted {
		return best.Reason
	}
	if why, drained := a.Drained[h.Node]; drained {
		return "its holder is drained: " + why
	}
	if a.Settled && h.Node == a.Leader && best.Class < classAvoid {
		return "its holder came to lead the lease group"
	}
	if avoided != "" && best.Class < classAvoid {
		return "its holder is the second choice: " + avoided
	}
	return ""
}

func because(r rank, of int) string {
	switch r.Class {
	case classWanted:
		return r.Reason
	case classAvoid, classFull:
		return "nobody else is eligible, though " + r.Reason
	}
	if of == 1 {
		return "the only candidate"
	}
	return "the first by rendezvous among the eligible"
}
