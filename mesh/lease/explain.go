package lease

import (
	"fmt"
	"maps"
	"slices"
)

// list is every duty that somebody holds, held or says something of.
func (o *office) list() []Status {
	a := o.assignment()
	names := map[string]bool{}
	for d := range a.Candidates {
		names[d] = true
	}
	o.m.read(func(s *state) {
		for d := range s.Duties {
			names[d] = true
		}
	})
	out := make([]Status, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, o.status(a, name))
	}
	return out
}

func (o *office) status(a assignment, name string) Status {
	st := Status{Duty: name}
	o.m.read(func(s *state) {
		if d := s.Duties[name]; d != nil {
			st.Node, st.Fence, st.Since, st.Why, st.Last = d.Node, d.Fence, d.Since, d.Why, d.Last
		}
	})
	for _, c := range a.Candidates[name] {
		if _, drained := a.Drained[c.Node]; c.Refusal == "" && !drained {
			st.Candidates++
		}
		if c.Node == st.Node {
			st.Name = c.Name
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if q, ok := o.asked[name]; ok && q.fence == st.Fence && st.Node != "" {
		st.Over, st.To, st.OverMS = q.why, q.to, (o.l.clock.Boot() - q.at).Milliseconds()
	}
	return st
}

// explain tells who could have a duty, and why who has it.
func (o *office) explain(name string) (*Explanation, error) {
	a := o.assignment()
	load, limit := a.spread()
	e := &Explanation{Status: o.status(a, name), Leader: a.Leader}
	for _, r := range a.ranks(name, load, limit) {
		mine := a.Holders[name] == held{r.Node, r.Session}
		holds := load[r.Node]
		if mine {
			holds--
		}
		e.Ranks = append(e.Ranks, Rank{Node: r.Node, Name: r.Name, Class: classNames[r.Class], Reason: r.Reason, Holds: holds, Weight: r.Weight, Holder: mine})
	}
	if len(e.Ranks) == 0 && e.Status.Fence == 0 {
		return nil, fmt.Errorf("duty %q: %w; see hostmesh duties", name, ErrNotFound)
	}
	return e, nil
}
