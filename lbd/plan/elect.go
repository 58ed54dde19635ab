package plan

import (
	"cmp"
	"fmt"
	"hostmesh/mesh"
	"slices"
	"strings"
)

// Node is an agent that could hold a VIP, or observe backends.
type Node struct {
	ID, Name, Datacenter string
	Alive                bool
	// Unfit is why it cannot hold: rights or programs that are missing, an interface that does not lead into the network. "" = it can.
	Unfit string
	// Drained is why a person wants it to hold nothing; "" = nobody does.
	Drained string
	// Configured says that its configuration lets it be elected for this duty.
	Configured bool
}

// Candidate is what is said of a node for a VIP.
type Candidate struct {
	Node
	OK  bool
	Why string // for people
}

// Holders ranks nodes for a VIP: first those that may hold it, in an order of the VIP's own that nodes which come and go do not
// change (rendezvous hashing), then the others by name. The lease decides; this proposes, and says why not.
func Holders(v VIP, nodes []Node) []Candidate {
	out := make([]Candidate, 0, len(nodes))
	for _, n := range nodes {
		c := Candidate{Node: n}
		switch {
		case v.Datacenter != "" && n.Datacenter != v.Datacenter:
			c.Why = fmt.Sprintf("it is in datacenter %q, and tags/%s in %q", n.Datacenter, v.Subnet, v.Datacenter)
		case !n.Configured:
			c.Why = "its configuration leaves lb out of duties"
		case !n.Alive:
			c.Why = "it does not answer"
		case n.Unfit != "":
			c.Why = n.Unfit
		case n.Drained != "":
			c.Why = "it is drained: " + n.Drained
		default:
			c.OK, c.Why = true, "it may hold "+v.Addr.String()
		}
		out = append(out, c)
	}
	duty := Duty(v.Addr)
	slices.SortFunc(out, func(a, b Candidate) int {
		if a.OK != b.OK {
			if a.OK {
				return -1
			}
			return 1
		}
		if a.OK {
			return cmp.Or(cmp.Compare(mesh.Weight(duty, b.ID), mesh.Weight(duty, a.ID)), strings.Compare(a.ID, b.ID))
		}
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return out
}

// Observers are the ids of the nodes that check the backends of a service: the holder of its VIP, and one other that is alive, of
// the same datacenter where there is one. It is no backend of the service where another is left, because a host that is cut off
// finds itself well. Without a holder there are two others. The choice is by rendezvous hashing: it moves only with the nodes chosen.
func Observers(s *Service, holder string, nodes []Node) []string {
	backend := make(map[string]bool, len(s.Backends))
	for i := range s.Backends {
		backend[s.Backends[i].Host] = true
	}
	alive := make([]Node, 0, len(nodes))
	for _, n := range nodes {
		if n.Alive && n.ID != holder {
			alive = append(alive, n)
		}
	}
	key := "check/" + s.Tag
	rank := func(n Node) int {
		r := 0
		if s.Datacenter != "" && n.Datacenter != s.Datacenter {
			r += 2
		}
		if backend[n.Name] {
			r++
		}
		return r
	}
	slices.SortFunc(alive, func(a, b Node) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(mesh.Weight(key, b.ID), mesh.Weight(key, a.ID)), strings.Compare(a.ID, b.ID))
	})
	var out []string
	if holder != "" {
		out = append(out, holder)
	}
	for _, n := range alive {
		if len(out) == 2 {
			break
		}
		out = append(out, n.ID)
	}
	return out
}
