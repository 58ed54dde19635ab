package doctor

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func memberChecks() []Check {
	return []Check{
		{"members-missing", "lists that name a host or an @key that does not exist", missingMembers},
		{"members-cycle", "keys that are members of themselves", memberCycles},
		{"members-none", "tags that serve or balance, and have nobody to do it", noMembers},
	}
}

// direct are the names in a list.
func (e *exam) direct(ns, key string) []string {
	if ns == hostdb.Tags && key == hostdb.AllTag {
		return nil // the tag all has every host, whatever its list says
	}
	var out []string
	for _, m := range e.view.DirectMembers(ns, key) {
		if m.Name != "" {
			out = append(out, m.Name)
		}
	}
	return out
}

func missingMembers(e *exam) {
	for _, ns := range e.namespaces() {
		for key := range e.view.Keys(ns) {
			if e.over() {
				return
			}
			for _, name := range e.direct(ns, key) {
				e.missing(ns, key, name)
			}
		}
	}
}

func (e *exam) missing(ns, key, name string) {
	place, target := hostdb.Hosts, name
	if other, inherits := strings.CutPrefix(name, "@"); inherits {
		place, target = ns, other
	}
	if e.view.Exists(place, target) {
		return
	}
	id := place + "/" + target
	f := Finding{
		Severity: section.Error, ID: ns + "/" + key + "/members", Path: name, Related: []string{id},
		Message: id + " does not exist, so the list has no effect there",
		Remedy:  fmt.Sprintf("take it off the list (hostmesh db members remove %s/%s %s), or create %s", ns, key, name, id),
	}
	switch {
	case place == hostdb.Hosts && len(e.view.HostsByName(target)) > 0:
		real := e.view.HostsByName(target)
		f.Message = fmt.Sprintf("no host has this key; it is a name of %s", enumerate(real))
		f.Remedy = "put the key of the host on the list: " + real[0]
	case e.view.WasDeleted(place, target):
		f.Message = id + " was deleted while this list was written elsewhere, so the list has no effect there"
	}
	e.add(f)
}

// memberCycles finds the groups of keys that reach each other (Tarjan's strongly connected components).
func memberCycles(e *exam) {
	for _, ns := range e.namespaces() {
		s := cycleSearch{exam: e, ns: ns, number: map[string]int{}, low: map[string]int{}, open: map[string]bool{}}
		for key := range e.view.Keys(ns) {
			if e.over() {
				return
			}
			if s.number[key] == 0 {
				s.visit(key)
			}
		}
	}
}

type cycleSearch struct {
	*exam
	ns          string
	number, low map[string]int
	stack       []string
	open        map[string]bool
}

// inherited are the existing keys that a list names, sorted.
func (s *cycleSearch) inherited(key string) []string {
	var out []string
	for _, name := range s.direct(s.ns, key) {
		if other, ok := strings.CutPrefix(name, "@"); ok && s.view.Exists(s.ns, other) {
			out = append(out, other)
		}
	}
	slices.Sort(out)
	return out
}

func (s *cycleSearch) visit(key string) {
	n := len(s.number) + 1
	s.number[key], s.low[key] = n, n
	s.stack, s.open[key] = append(s.stack, key), true
	self := false
	for _, to := range s.inherited(key) {
		switch {
		case to == key:
			self = true
		case s.number[to] == 0:
			s.visit(to)
			s.low[key] = min(s.low[key], s.low[to])
		case s.open[to]:
			s.low[key] = min(s.low[key], s.number[to])
		}
	}
	if s.low[key] != n {
		return
	}
	at := slices.Index(s.stack, key)
	group := slices.Clone(s.stack[at:])
	s.stack = s.stack[:at]
	for _, k := range group {
		delete(s.open, k)
	}
	if len(group) > 1 || self {
		slices.Sort(group)
		s.report(group)
	}
}

// report names a shortest way round from the first key of a group.
func (s *cycleSearch) report(group []string) {
	first := group[0]
	from := map[string]string{}
	queue := []string{first}
	last := ""
	for len(queue) > 0 && last == "" {
		key := queue[0]
		queue = queue[1:]
		for _, to := range s.inherited(key) {
			if to == first {
				last = key
				break
			}
			if _, seen := from[to]; !seen && slices.Contains(group, to) {
				from[to] = key
				queue = append(queue, to)
			}
		}
	}
	way := []string{"@" + first}
	for key := last; key != first; key = from[key] {
		way = append(way, "@"+key)
	}
	way = append(way, "@"+first)
	slices.Reverse(way)
	related := make([]string, 0, len(group))
	for _, key := range group[1:] {
		related = append(related, s.ns+"/"+key)
	}
	s.add(Finding{
		Severity: section.Error, ID: s.ns + "/" + first + "/members", Related: related, Path: way[1],
		Message: "it is a member of itself: " + strings.Join(way, " has ") + "; all of them have the same hosts",
		Remedy:  fmt.Sprintf("take one of them off the list before it, for example: hostmesh db members remove %s/%s %s", s.ns, first, way[1]),
	})
}

func noMembers(e *exam) {
	e.eachTag(func(t *tag) {
		f := t.facts
		if f.Group != nil || len(e.view.Members(hostdb.Tags, t.key)) > 0 {
			return // a group makes its members
		}
		var idle []string
		for _, s := range []struct {
			name string
			has  bool
		}{{"LB", f.LB != nil}, {"MySQL", f.MySQL != nil}, {"Service", f.Service != nil}, {"Guest", f.Guest != nil}, {"Puppet", f.Puppet != nil},
			{"Monitoring", f.Monitoring != nil}, {"Backup", f.Backup != nil}, {"Logs", f.Logs != nil}} {
			if s.has {
				idle = append(idle, s.name)
			}
		}
		if len(idle) > 0 {
			e.add(Finding{
				Severity: section.Warning, ID: t.id(), Path: idle[0],
				Message: "the tag has no members, so " + enumerate(idle) + " of it acts on nothing",
				Remedy:  "add members (hostmesh tag add HOST " + t.key + "), or take the section out",
			})
		}
	})
}
