package zone

import (
	"maps"
	"slices"
	"strings"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Members of balanced tags are tried by two nodes (package lbd). A live name leaves out one that both find down: an answer goes to
// clients anywhere, so that one node which cannot reach a member says little.

// failing is why a member of a tag does not work, say all living nodes that try it; "" = one of them finds it up, or nobody tries it.
func (z *Zones) failing(tag, host string) string {
	why, _ := z.checked.get(memberKey(tag, host))
	return why
}

func memberKey(tag, host string) string { return tag + "/" + host }

// checksChanged notes of which members something else is found, and returns their tags.
func (b *batch) checksChanged() []string {
	gone, keys := map[string]bool{}, map[string]bool{}
	for was, now := range b.next.seen.ReportChanges(b.old.seen) {
		for key, c := range was.Checks {
			if x, stays := now.Checks[key]; !stays {
				gone[key] = true
			} else if x != c {
				keys[key] = true
			}
		}
		for key := range now.Checks {
			if _, had := was.Checks[key]; !had {
				keys[key] = true
			}
		}
	}
	// Who dies says nothing any more, and who is back says what it said.
	for _, m := range b.next.seen.Members() {
		if before, _ := b.old.seen.Get(m.ID); (before.State == mesh.StateAlive) == (m.State == mesh.StateAlive) {
			continue
		}
		if r, ok := b.next.seen.Report(m.ID); ok {
			for key := range r.Checks {
				keys[key] = true
			}
		}
	}
	tags := map[string]bool{}
	for _, set := range []map[string]bool{gone, keys} { // of a member whose port has changed the new one counts
		for key := range set {
			if tag, changed := b.judge(key); changed {
				tags[tag] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(tags))
}

// allChecks is the same of a view as a whole.
func (b *batch) allChecks() {
	b.next.checked = pmap[string]{}
	keys := map[string]bool{}
	for _, m := range b.next.seen.Members() {
		if r, ok := b.next.seen.Report(m.ID); ok {
			for key := range r.Checks {
				keys[key] = true
			}
		}
	}
	for key := range keys {
		b.judge(key)
	}
}

// judge notes what the living say of one report.CheckKey.
func (b *batch) judge(key string) (tag string, changed bool) {
	tag, rest, _ := strings.Cut(key, "/")
	host, _, _ := strings.Cut(rest, "/")
	why, up := "", false
	for m := range b.next.seen.Alive() {
		r, _ := b.next.seen.Report(m.ID)
		switch c, ok := r.Checks[key]; {
		case !ok:
		case c.State == report.CheckUp:
			up = true
		case c.State == report.CheckDown && why == "":
			why = "its check fails, says " + m.Name + ": " + c.Reason
		}
	}
	if up {
		why = ""
	}
	at := memberKey(tag, host)
	was, _ := b.next.checked.get(at)
	if was == why {
		return tag, false
	}
	if why == "" {
		b.next.checked = b.next.checked.delete(b.edit, at)
	} else {
		b.next.checked = b.next.checked.set(b.edit, at, why)
	}
	return tag, (was == "") != (why == "")
}
