package hostdb

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// renewAll makes each operation anew on what is left, above the newest stamp that is.
func (p *restamp) renewAll(newest Time) {
	p.renew = map[Stamp]Stamp{}
	clock := hybridClock{newest}
	own := run{origin: newOrigin()}
	for _, old := range p.ops {
		before := clock
		op := &Operation{Version: OperationVersion, Origin: own.origin, Seq: own.seq + 1, Time: clock.next(p.now), User: old.User, Source: old.Source}
		op.Log = strings.TrimSpace(old.Log + " (restamped from " + old.Stamp().String() + ")")
		if own.seq > 0 {
			op.After = own.hash[:]
		} else {
			op.Node = p.store.cfg.NodeID
			if origin, last, ok := p.lastRun(); ok {
				op.Prev, op.After = &Link{Origin: origin, Seq: last.seq}, last.hash[:]
			}
		}
		move := Move{Old: old.Stamp(), User: old.User, Log: old.Log}
		if op.Effects = p.keep(old, op.Stamp()); len(op.Effects) == 0 {
			clock = before
		} else {
			op.seal()
			own.seq, own.hash = op.Seq, op.Hash()
			p.state.effects(op)
			p.made = append(p.made, op)
			p.renew[old.Stamp()] = op.Stamp()
			move.New = op.Stamp()
		}
		p.out.Moved = append(p.out.Moved, move)
	}
}

// lastRun is the newest run of this node that remains.
func (p *restamp) lastRun() (origin uint64, last head, ok bool) {
	for o, h := range p.store.head.vector.all() {
		if cut, is := p.cuts[o]; is {
			h = cut
		}
		if h.seq > 0 && h.node == p.store.cfg.NodeID && (!ok || h.time > last.time) {
			origin, last, ok = o, h, true
		}
	}
	return origin, last, ok
}

// keep are the effects of an operation that may be made anew with a stamp, as they are then; the others are noted.
func (p *restamp) keep(old *Operation, at Stamp) (kept []Effect) {
	k := &keeping{p: p, old: old, at: at, folds: map[string]*folding{}, broken: map[string]string{}}
	k.findBrokenRenames()
	for i := range old.Effects {
		x := &old.Effects[i]
		if !x.foldable() {
			continue
		}
		y, why := k.judge(x)
		if why != "" {
			p.out.Left = append(p.out.Left, Left{old.Stamp(), *x, why})
			continue
		}
		k.fold(x.NS, x.Key).effect(at, &y)
		kept = append(kept, y)
	}
	return kept
}

// keeping is the judgement of one operation's effects, in order: each finds what those before it did.
type keeping struct {
	p      *restamp
	old    *Operation
	at     Stamp // of the operation that is being made
	folds  map[string]*folding
	broken map[string]string // ids of keys and of members that a rename which cannot be made anew would change, and why not
}

func (k *keeping) fold(ns, key string) *folding {
	f := k.folds[id(ns, key)]
	if f == nil {
		e, _ := k.p.state.entries.get(id(ns, key))
		f = beginFold(e, ns, key)
		k.folds[id(ns, key)] = f
	}
	return f
}

// renewed is what a stamp that the old operation names is called now.
func (k *keeping) renewed(s *Stamp) Stamp {
	switch {
	case s == nil:
		return Stamp{}
	case *s == k.old.Stamp():
		return k.at
	}
	if is, ok := k.p.renew[*s]; ok {
		return is
	}
	return *s
}

// unseen reports whether a stamp is of an operation that the writer had not seen.
func (k *keeping) unseen(s Stamp) bool {
	if s.IsZero() {
		return false
	}
	knew, changed := k.p.seen[k.old.Stamp()].get(s.Origin)
	if !changed {
		return false
	}
	row, found, err := k.p.r.st.Get(stampKey(s))
	if err != nil {
		return true // it is left out rather than lost
	}
	return found && binary.BigEndian.Uint64(row) > knew
}

// judge gives an effect as it is made anew, or says why it is not.
func (k *keeping) judge(x *Effect) (y Effect, why string) {
	f := k.fold(x.NS, x.Key)
	if why := k.broken[id(x.NS, x.Key)]; why != "" {
		return y, why
	}
	if x.Member != "" {
		if why := k.broken[memberID(x.NS, x.Member)]; why != "" {
			return y, why
		}
	}
	if x.Kind == DeleteKey {
		if why := k.keepsFromDeleting(f); why != "" {
			return y, why
		}
		y = *x
		y.Replaces = ref(maxStamp(f.newest(), k.seenLate(f)))
		return y, ""
	}
	switch {
	case k.renewed(x.Base) != f.deleted:
		return y, "the key was deleted or made anew meanwhile"
	case x.Kind != CreateKey && !f.exists() && x.Key != DefaultKey:
		return y, "the key does not exist any more"
	}
	if x.Kind == CreateKey { // it replaces nothing, and names what was lost with the key that was there before
		if f.exists() {
			return y, k.replacedBy(f.created.stamp)
		}
		y = *x
		y.Base, y.Replaces = ref(f.deleted), ref(k.seenLate(f))
		return y, ""
	}
	var stands Stamp
	switch x.Kind {
	case SetLeaf, UnsetLeaf:
		if i, ok := findLeaf(f.leaves, PathOf(x.Path...)); ok {
			stands = f.leafRegs[i].stamp
		}
	case PutMember, RemoveMember:
		r, _ := f.members.get(x.Member)
		stands = r.stamp
	case SetPerms:
		stands = f.perms.stamp
	}
	if stands != k.renewed(x.Replaces) {
		return y, k.replacedBy(stands)
	}
	if x.Kind == SetLeaf {
		if by := k.around(f, x); !by.IsZero() {
			return y, fmt.Sprintf("revision %s wrote above or below it meanwhile", by)
		}
	}
	y = *x
	y.Base, y.Replaces = ref(f.deleted), ref(stands)
	return y, ""
}

// seenLate is the newest edit of an older generation, if the writer had seen it.
func (k *keeping) seenLate(f *folding) Stamp {
	if k.unseen(f.lateEdit) {
		return Stamp{}
	}
	return f.lateEdit
}

func (k *keeping) replacedBy(stands Stamp) string {
	if stands.IsZero() {
		return "what it replaced does not stand any more"
	}
	return fmt.Sprintf("revision %s replaced it meanwhile", stands)
}

// keepsFromDeleting says why a key must not be deleted anew: it has something that the writer had not seen.
func (k *keeping) keepsFromDeleting(f *folding) (why string) {
	if !f.exists() && f.newest().IsZero() {
		return "the key does not exist any more"
	}
	by := Stamp{}
	look := func(s Stamp) {
		if k.unseen(s) {
			by = maxStamp(by, s)
		}
	}
	look(f.created.stamp)
	for _, r := range f.leafRegs {
		if by.Less(r.stamp) {
			look(r.stamp)
		}
	}
	for _, r := range f.members.all() {
		if by.Less(r.stamp) {
			look(r.stamp)
		}
	}
	look(f.perms.stamp)
	if !by.IsZero() {
		return fmt.Sprintf("revision %s wrote to the key meanwhile", by)
	}
	return ""
}

// around is the newest value above or below the place of a leaf that its writer had not seen and that it would hide.
func (k *keeping) around(f *folding, x *Effect) (by Stamp) {
	path := PathOf(x.Path...)
	look := func(i int) {
		l := f.leaves[i]
		switch {
		case l.Value == "" || l.Path == path,
			l.Value == emptyMapping && l.Path.Above(path), x.Value == emptyMapping && path.Above(l.Path):
		case by.Less(f.leafRegs[i].stamp) && k.unseen(f.leafRegs[i].stamp):
			by = f.leafRegs[i].stamp
		}
	}
	if i, ok := findLeaf(f.leaves, ""); ok {
		look(i)
	}
	for n := range x.Path {
		if i, ok := findLeaf(f.leaves, PathOf(x.Path[:n+1]...)); ok {
			look(i)
		}
	}
	i, _ := findLeaf(f.leaves, path)
	for ; i < len(f.leaves) && (f.leaves[i].Path == path || path.Above(f.leaves[i].Path)); i++ {
		look(i)
	}
	return by
}

func findLeaf(leaves []Leaf, p Path) (i int, ok bool) {
	return slices.BinarySearchFunc(leaves, p, func(l Leaf, p Path) int { return strings.Compare(string(l.Path), string(p)) })
}

// memberID names a member in the lists of a namespace: a host in those of all.
func memberID(ns, member string) string {
	if strings.HasPrefix(member, "@") {
		return "member\x00" + ns + "\x00" + member
	}
	return "member\x00" + member
}

// findBrokenRenames finds the renames of which a half cannot be made anew: neither name nor any list is changed then, because a key
// must not be there twice, or not at all.
func (k *keeping) findBrokenRenames() {
	for i := range k.old.Effects {
		x := &k.old.Effects[i]
		if x.Kind != CreateKey || x.From == "" || !slices.ContainsFunc(k.old.Effects, func(d Effect) bool {
			return d.Kind == DeleteKey && d.NS == x.NS && d.Key == x.From
		}) {
			continue
		}
		why := k.keepsFromDeleting(k.fold(x.NS, x.From))
		if to := k.fold(x.NS, x.Key); why == "" && to.exists() && k.unseen(to.created.stamp) {
			why = k.replacedBy(to.created.stamp)
		}
		if why == "" {
			continue
		}
		why = fmt.Sprintf("%s/%s is not renamed to %s: %s", x.NS, x.From, x.Key, why)
		for _, key := range []string{x.From, x.Key} {
			k.broken[id(x.NS, key)] = why
			if x.NS == Hosts {
				k.broken[memberID("", key)] = why
			} else {
				k.broken[memberID(x.NS, "@"+key)] = why
			}
		}
	}
}
