package hostdb

import "iter"

// Conflict is a write that lost to another whose writer had not seen it. The loser is in history.
type Conflict struct {
	NS, Key string
	What    Resource // Data, Members or Perms; "" when the whole key was deleted meanwhile
	At      string   // the path, with slashes, or the member; "" for the whole
	Winner  Stamp
	Loser   Stamp
}

// Conflicts yields the conflicts of a key that nobody has written over since. They are the same on every node of
// the same version.
func (v View) Conflicts(ns, key string) iter.Seq[Conflict] {
	return func(yield func(Conflict) bool) {
		e, _ := v.snap().entries.get(id(ns, key))
		if e == nil {
			return
		}
		if e.deleteKnown && e.deleteSaw.Less(e.lateEdit) &&
			!yield(Conflict{NS: ns, Key: key, Winner: e.deleted, Loser: e.lateEdit}) {
			return
		}
		shown := make(map[Path]bool, len(e.doc.leaves))
		for _, l := range e.doc.leaves {
			shown[l.Path] = true
		}
		for i, l := range e.leaves {
			r := e.leafRegs[i]
			c := Conflict{NS: ns, Key: key, What: Data, At: l.Path.String(), Winner: r.stamp}
			loser, ok := r.conflict()
			if !ok && l.Value != "" && l.Value != emptyMapping && !shown[l.Path] {
				// Hidden by a value above or below it whose writer would have removed it, had he seen it.
				c.Winner, loser, ok = e.hider(l.Path), r.stamp, true
			}
			if c.Loser = loser; ok && !yield(c) {
				return
			}
		}
		for name, r := range e.members.all() {
			if loser, ok := r.conflict(); ok && !yield(Conflict{NS: ns, Key: key, What: Members, At: name, Winner: r.stamp, Loser: loser}) {
				return
			}
		}
		if loser, ok := e.perms.conflict(); ok {
			yield(Conflict{NS: ns, Key: key, What: Perms, Winner: e.perms.stamp, Loser: loser})
		}
	}
}

// hider is the newest value above or below a hidden leaf.
func (e *entry) hider(p Path) (newest Stamp) {
	for i, l := range e.leaves {
		if l.Value != "" && l.Path != p && l.Path.comparable(p) {
			newest = maxStamp(newest, e.leafRegs[i].stamp)
		}
	}
	return newest
}
