package doctor

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func replicaChecks() []Check {
	return []Check{
		{"conflicts", "writes that lost to another whose writer had not seen them", conflicts},
		{"access", "access lists that cannot be read, or grant what does not exist", accessLists},
		{"versions", "operations of a newer version of hostmesh, which this one does not understand", newerOperations},
	}
}

// everyKey yields all keys but those of System, .default included, by namespace and key.
func (e *exam) everyKey(fn func(ns, key string)) {
	for c := range e.view.Changes(hostdb.View{}) {
		if e.over() {
			return
		}
		if c.NS != hostdb.System && c.Key != "" {
			fn(c.NS, c.Key)
		}
	}
}

func conflicts(e *exam) {
	for c := range e.view.AllConflicts() {
		if e.over() {
			return
		}
		id := c.NS + "/" + c.Key
		f := Finding{Severity: section.Warning, ID: id, Path: c.At,
			Remedy: "look at both (hostmesh db conflicts), and write what should be there: that settles it"}
		what := "what was written"
		switch c.What {
		case hostdb.Members:
			f.ID, what = id+"/members", "what was done to this member"
		case hostdb.Perms:
			f.ID, what = id+"/perms", "the access list that was written"
		case "":
			e.add(Finding{Severity: section.Warning, ID: id, Remedy: "write it again if it should be there",
				Message: fmt.Sprintf("it was deleted in %s while %s wrote to it elsewhere; what was written is in history alone", c.Winner, c.Loser)})
			continue
		}
		f.Message = fmt.Sprintf("%s in %s lost to %s, whose writer had not seen it", what, c.Loser, c.Winner)
		e.add(f)
	}
}

func newerOperations(e *exam) {
	if n := e.view.Unfolded(); n > 0 {
		e.add(Finding{Severity: section.Warning, ID: "hostdb",
			Message: fmt.Sprintf("%s of a newer version of hostmesh: kept and passed on, but what they did is not seen here", count(int(n), "operation is", "operations are")),
			Remedy:  "upgrade this agent"})
	}
}

func accessLists(e *exam) {
	known := manual()
	used := map[string]bool{}
	e.eachTag(func(t *tag) {
		for key := range t.doc.Keys() {
			used[key] = true
		}
	})
	for _, h := range e.hosts {
		if e.over() {
			return
		}
		for key := range h.doc.Keys() {
			used[key] = true
		}
	}
	e.everyKey(func(ns, key string) {
		acl, ok := e.view.Perms(ns, key)
		if !ok {
			return
		}
		id := ns + "/" + key + "/perms"
		doc, err := hostdb.ParseDocument([]byte(acl.YAML()))
		if err != nil || !doc.IsMapping() {
			e.add(Finding{Severity: section.Error, ID: id,
				Message: "the access list cannot be read, so it gives nobody anything, and .default decides",
				Remedy:  "write it anew, for example {ops: {data: RW, members: RW}}"})
			return
		}
		for who, rules := range doc.Keys() {
			for what := range rules.Keys() {
				name, isSection := strings.CutPrefix(what, string(hostdb.Section("")))
				if !isSection || ns != hostdb.Tags && ns != hostdb.Hosts || used[name] || slices.Contains(known, name) {
					continue
				}
				f := Finding{Severity: section.Warning, ID: id, Path: path(who, what),
					Message: "nothing is called " + name + ", in any document or in the manual, so the entry grants nothing",
					Remedy:  "correct the name of the section, or take the entry out"}
				if near := section.Nearest(name, known); near != "" {
					f.Remedy = "did you mean data/" + near + "?"
				}
				e.add(f)
			}
		}
	})
}
