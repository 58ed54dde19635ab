package hostdb

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

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
		if e.deleteKnown && e.lateEdit != e.deleted && e.deleteSaw.Less(e.lateEdit) && e.created.replaces.Less(e.lateEdit) &&
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

// AllConflicts yields the conflicts of every key but those of System, by namespace and key. It looks at every key.
func (v View) AllConflicts() iter.Seq[Conflict] {
	return func(yield func(Conflict) bool) {
		for _, e := range v.snap().entries.all() {
			if e.ns == System {
				continue
			}
			for c := range v.Conflicts(e.ns, e.key) {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// Side is one of the two writes of a conflict.
type Side struct {
	Revision Revision
	Value    string // a value in canonical YAML, the text of an access list, the name of a member; "" when Gone
	Gone     bool   // it removed what stood there
	Dropped  bool   // history does not hold it any more: of Revision only the id and the time are known, and no Value
}

// Sides are the two writes of a conflict. The loser's value is in history alone, and gone with what retention dropped. ErrNotFound when
// history never held one of them.
func (s *Store) Sides(c Conflict) (winner, loser Side, err error) {
	if winner, err = s.side(c, c.Winner); err == nil {
		loser, err = s.side(c, c.Loser)
	}
	if err != nil {
		return Side{}, Side{}, fmt.Errorf("read the conflict of %s/%s: %w", c.NS, c.Key, err)
	}
	return winner, loser, nil
}

func (s *Store) side(c Conflict, id Stamp) (Side, error) {
	rev, err := s.Revision(id)
	if errors.Is(err, ErrDropped) {
		return Side{Revision: Revision{ID: id, At: id.Time.Wall()}, Dropped: true}, nil
	}
	if err != nil {
		return Side{}, err
	}
	side := Side{Revision: rev, Gone: true}
	var leaves []Leaf
	for i := range rev.Effects {
		x := &rev.Effects[i]
		if x.NS != c.NS || x.Key != c.Key {
			continue
		}
		at := PathOf(x.Path...)
		switch {
		case c.What == "" && x.Kind == SetLeaf:
			leaves, side.Gone = append(leaves, Leaf{at, x.Value}), false
		case c.What == "" && x.Kind != DeleteKey && x.Kind != UnsetLeaf && x.Kind != RemoveMember:
			side.Gone = false
		case c.What == Data && x.Kind == SetLeaf && at.String() == c.At:
			return Side{Revision: rev, Value: x.Value.document().YAML()}, nil
		case c.What == Data && x.Kind == UnsetLeaf && at.String() == c.At:
			return side, nil
		case c.What == Data && x.Kind == SetLeaf && comparableText(at.String(), c.At):
			leaves, side.Gone = append(leaves, Leaf{at, x.Value}), false // it hides the other from above or below
		case c.What == Members && x.Kind == PutMember && x.Member == c.At:
			return Side{Revision: rev, Value: x.Text + x.Member}, nil
		case c.What == Perms && x.Kind == SetPerms && !x.Value.IsNull():
			return Side{Revision: rev, Value: x.Value.Scalar()}, nil
		}
	}
	if len(leaves) > 0 {
		side.Value = NewDocument(leaves...).YAML()
	}
	return side, nil
}

// comparableText reports whether one path is above the other, as people write them.
func comparableText(a, b string) bool {
	p, q := PathOf(strings.Split(a, "/")...), PathOf(strings.Split(b, "/")...)
	return p.comparable(q)
}
