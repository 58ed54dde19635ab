package layout

import (
	"slices"

	"hostmesh/hostdb"
)

// mergeData applies to ours what theirs changed of base: values that both have alike stay as ours has them. Where ours
// is base the result is theirs.
func mergeData(base, theirs, ours hostdb.Document) hostdb.Document {
	if ours.Equal(base) || !ours.Exists() {
		return theirs
	}
	was, now := map[hostdb.Path]hostdb.Value{}, map[hostdb.Path]hostdb.Value{}
	for p, v := range base.Leaves() {
		was[p] = v
	}
	for p, v := range theirs.Leaves() {
		now[p] = v
	}
	out := map[hostdb.Path]hostdb.Value{}
	for p, v := range ours.Leaves() {
		out[p] = v
	}
	for p := range was {
		if _, stays := now[p]; !stays {
			delete(out, p)
		}
	}
	for p, v := range now {
		if old, same := was[p]; same && old == v {
			continue
		}
		if hollow(v) && anyBelow(out, p) {
			continue // an empty mapping where others have put something
		}
		for q := range out {
			if p.Above(q) || q.Above(p) {
				delete(out, q)
			}
		}
		out[p] = v
	}
	if len(out) == 0 {
		return theirs
	}
	leaves := make([]hostdb.Leaf, 0, len(out))
	for p, v := range out {
		leaves = append(leaves, hostdb.Leaf{Path: p, Value: v})
	}
	return hostdb.NewDocument(leaves...)
}

// hollow reports whether v only says that nothing is there: an empty mapping, or null.
func hollow(v hostdb.Value) bool {
	return v.IsNull() || hostdb.NewDocument(hostdb.Leaf{Value: v}).IsMapping()
}

func anyBelow(m map[hostdb.Path]hostdb.Value, p hostdb.Path) bool {
	for q := range m {
		if p.Above(q) {
			return true
		}
	}
	return false
}

// mergeMembers applies to ours what theirs changed of base: members that came and went, and texts before members. Where
// ours is base the result is theirs; else a new member stands behind the one it follows in theirs.
func mergeMembers(base, theirs, ours []hostdb.Member) []hostdb.Member {
	if slices.Equal(ours, base) {
		return theirs
	}
	was, now := byName(base), byName(theirs)
	out := make([]hostdb.Member, 0, len(ours)+len(theirs))
	for _, m := range ours {
		old, inBase := was[m.Name]
		is, inTheirs := now[m.Name]
		switch {
		case inBase && !inTheirs:
			continue
		case inTheirs && (!inBase || old.Text != is.Text):
			m.Text = is.Text
		}
		out = append(out, m)
	}
	have := byName(out)
	after := 0 // place behind the last member of theirs that is in out
	for _, m := range theirs {
		_, inBase := was[m.Name]
		if _, there := have[m.Name]; there {
			if m.Name != "" {
				after = 1 + slices.IndexFunc(out, func(x hostdb.Member) bool { return x.Name == m.Name })
			}
			continue
		}
		switch {
		case m.Name == "" && (!inBase || was[""].Text != m.Text):
			out = append(out, m)
		case m.Name != "" && !inBase:
			out = slices.Insert(out, after, m)
			after++
		}
	}
	return out
}

func byName(list []hostdb.Member) map[string]hostdb.Member {
	out := make(map[string]hostdb.Member, len(list))
	for _, m := range list {
		out[m.Name] = m
	}
	return out
}
