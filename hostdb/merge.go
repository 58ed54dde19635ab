package hostdb

import (
	"slices"
	"strings"
	"sync/atomic"
	"unique"
)

// The merge. A key's state is a set of registers, each a semilattice under fold, so the order in which operations
// arrive, and how often, does not matter:
//
//   - A register keeps the effect with the highest stamp (last writer wins) and the second highest stamp it has seen.
//     The winner names the stamp it replaced; a second stamp above that one belongs to a write that the winner's
//     writer had not seen: a conflict, and its loser is in history.
//   - A key's generation is its newest delete: the highest stamp of its delete effects and of the bases that other
//     effects name. Effects of an older generation change nothing; their highest stamp is remembered, and if the
//     deleter had not seen it, that is a conflict too.
//   - A document is what remains of its leaf registers after values have hidden ancestors and descendants with lower
//     stamps. An empty mapping only says "a mapping is here": it never hides what stands below it, so that two people
//     who edit different fields both win.

// register is the part of a last-writer-wins register that decides.
type register struct {
	stamp    Stamp // of the winner
	replaces Stamp // what the winner's writer saw here
	second   Stamp // highest stamp below the winner's
}

// fold takes note of an effect and reports whether it is the new winner.
func (r *register) fold(stamp, replaces Stamp) bool {
	switch c := stamp.Compare(r.stamp); {
	case c > 0:
		r.second, r.stamp, r.replaces = r.stamp, stamp, replaces
		return true
	case c < 0:
		r.second = maxStamp(r.second, stamp)
	}
	return false
}

// conflict is the stamp of a write that the winner hides though its writer never saw it.
func (r *register) conflict() (loser Stamp, ok bool) {
	return r.second, r.replaces.Less(r.second)
}

// memberRegister is one element of the member list.
type memberRegister struct {
	register
	member bool // in the list
	order  string
	text   string
}

// permsRegister is the access list.
type permsRegister struct {
	register
	value Value // text in canonical YAML; null or zero: none
}

// entry is a key's merged state, immutable once published. Its registers all have the entry's generation as base.
type entry struct {
	ns, key string

	deleted      Stamp // the generation: newest delete known, zero for never
	deleteSaw    Stamp // newest stamp in the key that the deleter saw
	deleteKnown  bool  // the delete effect itself has arrived
	lateEdit     Stamp // highest stamp of an effect of an older generation
	created      register
	from         string      // old name, if created by a rename
	leaves       []Leaf      // of each leaf register the path and the winner's value, "" when that removed it; by path
	leafRegs     []*register // beside leaves; shared by leaves that were written together, and never changed
	members      tree[string, memberRegister]
	perms        permsRegister
	maxOrder     string // at or above every place in the member list
	memberCount  int    // members in the list, without the nameless one
	dataStamp    Stamp  // newest stamp of creation and leaves, removals included
	membersStamp Stamp  // newest stamp of a member register

	// Made from the above by finish.
	doc        Document
	text       *lazyText // doc in canonical YAML
	acl        ACL
	sumDoc     sum256 // of creation, visible leaves and perms
	sumMembers sum256 // of the members in the list
}

// exists reports whether the key is there.
func (e *entry) exists() bool { return e != nil && !e.created.stamp.IsZero() }

// newest is the highest stamp of any register of this generation.
func (e *entry) newest() Stamp {
	return maxStamp(maxStamp(e.dataStamp, e.membersStamp), e.perms.stamp)
}

// folding is an entry being changed by one operation: a private copy and what was touched.
type folding struct {
	*entry
	before       *entry    // nil if the key was unknown
	dirty        bool      // something to store has changed
	dataTouched  bool      // creation or leaves
	leavesOwned  bool      // leaves and leafRegs are ours to change in place
	lastReg      *register // made last: what is written together shares it
	permsTouched bool
	memberBefore map[string]memberRegister // of each member register touched; zero: was not there
	like         *folding                  // of the key before in the same operation: its leaves are often at the same paths
	inOrder      bool                      // members of a list that was empty come by name, and go into newMembers until gatherMembers
	newMembers   treeBuilder[string, memberRegister]
}

func beginFold(e *entry, ns, key string) *folding {
	if e == nil {
		return &folding{entry: &entry{ns: ns, key: key}}
	}
	c := *e
	return &folding{entry: &c, before: e}
}

// expect prepares f for the effects of an operation that come next, and shares with the key before, if there is one: what an import
// writes is alike.
func (f *folding) expect(before *folding, effects []Effect) {
	if f.like = before; before != nil {
		f.lastReg = before.lastReg
	}
	leaves, members := 0, 0
	for i := range effects {
		x := &effects[i]
		if x.Key != f.key || x.NS != f.ns {
			break
		}
		switch x.Kind {
		case SetLeaf, UnsetLeaf:
			leaves++
		case PutMember, RemoveMember:
			members++
		}
	}
	if len(f.leaves) == 0 && leaves > 0 {
		f.leaves, f.leafRegs, f.leavesOwned = make([]Leaf, 0, leaves), make([]*register, 0, leaves), true
	}
	if members > 0 {
		f.memberBefore, f.inOrder = make(map[string]memberRegister, members), f.members.len() == 0
	}
}

// path is the shared copy of a path.
func (f *folding) path(steps []string) Path {
	if at := len(f.leaves); f.like != nil && at < len(f.like.leaves) && f.like.leaves[at].Path.is(steps) {
		return f.like.leaves[at].Path
	}
	return shared(PathOf(steps...))
}

// effect folds one effect with the stamp of its operation.
func (f *folding) effect(stamp Stamp, x *Effect) {
	var base, replaces Stamp
	if x.Base != nil {
		base = *x.Base
	}
	if x.Replaces != nil {
		replaces = *x.Replaces
	}
	if x.Kind == DeleteKey {
		if f.deleted.Less(stamp) {
			f.advance(stamp)
		}
		if f.deleted == stamp {
			f.deleteSaw, f.deleteKnown, f.dirty = replaces, true, true
		}
		return
	}
	switch c := base.Compare(f.deleted); {
	case c < 0:
		if f.lateEdit.Less(stamp) { // whatever came first: that the same operation deleted the key makes no difference here
			f.lateEdit, f.dirty = stamp, true
		}
		return
	case c > 0:
		f.advance(base)
	}
	f.dirty = true
	switch x.Kind {
	case CreateKey:
		if f.created.fold(stamp, replaces) {
			f.from = x.From
		}
		f.dataTouched = true
		f.dataStamp = maxStamp(f.dataStamp, stamp)
	case SetLeaf, UnsetLeaf:
		value := x.Value
		if x.Kind == UnsetLeaf {
			value = ""
		}
		f.leaf(f.path(x.Path), stamp, replaces, value)
	case PutMember, RemoveMember:
		f.member(x.Member, stamp, replaces, memberRegister{member: x.Kind == PutMember, order: x.Order, text: x.Text})
	case SetPerms:
		if f.perms.fold(stamp, replaces) {
			f.perms.value = x.Value
		}
		f.permsTouched = true
	}
}

// shared is the one copy of a path that all keys use: most documents have the same paths.
func shared(p Path) Path { return unique.Make(p).Value() }

// advance moves the key to a newer generation: what older ones held can never live again.
func (f *folding) advance(to Stamp) {
	f.lateEdit = maxStamp(f.lateEdit, f.newest())
	f.deleted, f.deleteSaw, f.deleteKnown = to, Stamp{}, false
	f.gatherMembers()
	for name, r := range f.members.all() {
		f.rememberMember(name, r)
	}
	f.created, f.from, f.leaves, f.leafRegs, f.leavesOwned = register{}, "", nil, nil, true
	f.members, f.maxOrder, f.memberCount = tree[string, memberRegister]{}, "", 0
	f.perms = permsRegister{}
	f.dataStamp, f.membersStamp = Stamp{}, Stamp{}
	f.dataTouched, f.permsTouched, f.dirty = true, true, true
}

func (f *folding) leaf(path Path, stamp, replaces Stamp, value Value) {
	if !f.leavesOwned {
		f.leaves, f.leafRegs, f.leavesOwned = slices.Clone(f.leaves), slices.Clone(f.leafRegs), true
	}
	f.dataTouched = true
	f.dataStamp = maxStamp(f.dataStamp, stamp)
	i, found := slices.BinarySearchFunc(f.leaves, path, func(l Leaf, p Path) int { return strings.Compare(string(l.Path), string(p)) })
	var r register
	if found {
		r = *f.leafRegs[i]
	} else {
		f.leaves = slices.Insert(f.leaves, i, Leaf{Path: path})
		f.leafRegs = slices.Insert(f.leafRegs, i, nil)
	}
	if r.fold(stamp, replaces) {
		f.leaves[i].Value = value
	}
	f.leafRegs[i] = f.share(r)
}

// share is a register equal to r: the last one made, if it is.
func (f *folding) share(r register) *register {
	if f.lastReg == nil || *f.lastReg != r {
		f.lastReg = &r
	}
	return f.lastReg
}

func (f *folding) member(name string, stamp, replaces Stamp, set memberRegister) {
	if f.inOrder && f.newMembers.n > 0 && name <= f.newMembers.last() {
		f.gatherMembers()
	}
	r, _ := f.members.get(name)
	f.rememberMember(name, r)
	was := r.member
	if r.fold(stamp, replaces) {
		r.member, r.order, r.text = set.member, set.order, set.text
	}
	if f.inOrder {
		f.newMembers.add(name, r)
	} else {
		f.members = f.members.set(name, r)
	}
	if name != "" {
		if r.member && !was {
			f.memberCount++
		} else if was && !r.member {
			f.memberCount--
		}
		f.maxOrder = max(f.maxOrder, r.order)
	}
	f.membersStamp = maxStamp(f.membersStamp, stamp)
}

// gatherMembers makes a tree of the members that came in order.
func (f *folding) gatherMembers() {
	if f.inOrder {
		f.members, f.inOrder = f.newMembers.tree(), false
	}
}

func (f *folding) rememberMember(name string, r memberRegister) {
	if f.memberBefore == nil {
		f.memberBefore = map[string]memberRegister{}
	}
	if _, ok := f.memberBefore[name]; !ok {
		f.memberBefore[name] = r
	}
}

// finish makes what readers see from the registers that were touched.
func (f *folding) finish() *entry {
	e := f.entry
	f.gatherMembers()
	if f.leavesOwned {
		f.compact()
	}
	if f.dataTouched {
		e.doc = Document{leaves: visible(e.leaves, e.leafRegs)}
		e.text = &lazyText{}
	}
	if f.permsTouched {
		e.acl = ACL{}
		if e.perms.value.IsScalar() && !e.perms.value.IsNull() {
			// A list that cannot be read gives nobody anything; its origin should have refused it.
			e.acl, _ = ParseACL([]byte(e.perms.value.Scalar()))
		}
	}
	f.redigest()
	f.like = nil
	return e
}

// compact makes the leaves as small as loading would make them: a new key's values lie in one piece of memory, and the list of their
// registers is the one of the key before, if it is equal.
func (f *folding) compact() {
	e := f.entry
	e.leaves, e.leafRegs = slices.Clip(e.leaves), slices.Clip(e.leafRegs)
	if f.before == nil && len(e.leaves) > 1 {
		size := 0
		for _, l := range e.leaves {
			size += len(l.Value)
		}
		var all strings.Builder
		all.Grow(size)
		for _, l := range e.leaves {
			all.WriteString(string(l.Value))
		}
		values, begin := Value(all.String()), 0
		for i := range e.leaves {
			end := begin + len(e.leaves[i].Value)
			e.leaves[i].Value, begin = values[begin:end], end
		}
	}
	if f.like != nil && slices.Equal(e.leafRegs, f.like.leafRegs) {
		e.leafRegs = f.like.leafRegs
	}
}

// lazyText is made by its first reader; most documents are never read as text between two changes.
type lazyText struct{ made atomic.Pointer[string] }

func (l *lazyText) of(d Document) string {
	if s := l.made.Load(); s != nil {
		return *s
	}
	s := d.YAML()
	l.made.Store(&s)
	return s
}

// visible is what remains of leaf registers after values have hidden ancestors and descendants with lower stamps. It is
// leaves itself when everything remains, which is the rule.
func visible(leaves []Leaf, regs []*register) []Leaf {
	whole, apart := true, true // nothing removed; no register above another, so that nothing can be hidden
	for i := range leaves {
		if leaves[i].Value == "" {
			whole = false
		}
		if i > 0 && leaves[i-1].Path.Above(leaves[i].Path) {
			apart = false
		}
	}
	if whole && apart {
		return leaves
	}
	hidden := make([]bool, len(leaves))
	withAncestors(leaves, func(i int, above []int) {
		for _, a := range above {
			if !regs[i].stamp.Less(regs[a].stamp) {
				hidden[a] = true
			} else if leaves[a].Value != emptyMapping {
				hidden[i] = true
			}
		}
	})
	// An empty mapping steps aside for anything visible below it.
	withAncestors(leaves, func(i int, above []int) {
		for _, a := range above {
			if !hidden[i] && leaves[a].Value == emptyMapping {
				hidden[a] = true
			}
		}
	})
	out := make([]Leaf, 0, len(leaves))
	for i, l := range leaves {
		if l.Value != "" && !hidden[i] {
			out = append(out, l)
		}
	}
	return slices.Clip(out)
}

// withAncestors calls fn for each leaf with a value, in path order, with those that stand above it.
func withAncestors(leaves []Leaf, fn func(i int, above []int)) {
	var above []int
	for i := range leaves {
		if leaves[i].Value == "" {
			continue
		}
		for len(above) > 0 && !leaves[above[len(above)-1]].Path.Above(leaves[i].Path) {
			above = above[:len(above)-1]
		}
		fn(i, above)
		above = append(above, i)
	}
}
