package hostdb

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
)

// tree is an ordered persistent map: set and delete copy one path and share the rest, so a View costs what changed.
// It is a treap (Seidel and Aragon, 1996) whose priorities are hashes of the keys: its shape depends on its keys
// alone, hence two trees that share history share nodes, and diff skips what they share. The zero tree is empty.
type tree[K cmp.Ordered, V any] struct {
	root *treeNode[K, V]
	n    int
}

type treeNode[K cmp.Ordered, V any] struct {
	left, right *treeNode[K, V]
	pri         uint32
	key         K
	val         V
}

var treeSeed = maphash.MakeSeed()

func treePriority[K cmp.Ordered](k K) uint32 { return uint32(maphash.Comparable(treeSeed, k)) }

// above is the heap order: by priority, then by key, so that the shape is unique.
func (a *treeNode[K, V]) above(pri uint32, key K) bool {
	return a.pri > pri || a.pri == pri && a.key > key
}

func (t tree[K, V]) len() int { return t.n }

func (t tree[K, V]) get(k K) (v V, ok bool) {
	for n := t.root; n != nil; {
		switch c := cmp.Compare(k, n.key); {
		case c == 0:
			return n.val, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return v, false
}

func (t tree[K, V]) set(k K, v V) tree[K, V] {
	added := 1
	if _, ok := t.get(k); ok {
		added = 0
	}
	return tree[K, V]{root: treeInsert(t.root, k, v, treePriority(k), added == 0), n: t.n + added}
}

func treeInsert[K cmp.Ordered, V any](n *treeNode[K, V], k K, v V, pri uint32, exists bool) *treeNode[K, V] {
	if n == nil {
		return &treeNode[K, V]{key: k, val: v, pri: pri}
	}
	if k == n.key {
		c := *n
		c.val = v
		return &c
	}
	if !exists && !n.above(pri, k) {
		l, r := treeSplit(n, k)
		return &treeNode[K, V]{key: k, val: v, pri: pri, left: l, right: r}
	}
	c := *n
	if k < n.key {
		c.left = treeInsert(n.left, k, v, pri, exists)
	} else {
		c.right = treeInsert(n.right, k, v, pri, exists)
	}
	return &c
}

// treeSplit parts n into what is below k and what is above; k itself, if there, is dropped.
func treeSplit[K cmp.Ordered, V any](n *treeNode[K, V], k K) (l, r *treeNode[K, V]) {
	switch {
	case n == nil:
		return nil, nil
	case n.key == k:
		return n.left, n.right
	case k < n.key:
		ll, lr := treeSplit(n.left, k)
		if lr == n.left { // nothing was below k, or k itself
			return ll, n
		}
		c := *n
		c.left = lr
		return ll, &c
	default:
		rl, rr := treeSplit(n.right, k)
		if rl == n.right {
			return n, rr
		}
		c := *n
		c.right = rl
		return &c, rr
	}
}

// with is t and the pairs of b, which win: what set would make of them one by one, at a cost that follows b when its keys lie
// together. It takes b's nodes; b must not be used again.
func (t tree[K, V]) with(b tree[K, V]) tree[K, V] {
	switch b.n {
	case 0:
		return t
	case 1:
		return t.set(b.root.key, b.root.val)
	}
	same := 0
	root := treeUnion(t.root, b.root, &same)
	return tree[K, V]{root: root, n: t.n + b.n - same}
}

// treeUnion counts the keys that are in both. The nodes of b are changed in place.
func treeUnion[K cmp.Ordered, V any](a, b *treeNode[K, V], same *int) *treeNode[K, V] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.key == b.key:
		*same++
		b.left, b.right = treeUnion(a.left, b.left, same), treeUnion(a.right, b.right, same)
		return b
	case a.above(b.pri, b.key):
		l, r := treePart(b, a.key)
		c := *a
		c.left, c.right = treeUnion(a.left, l, same), treeUnion(a.right, r, same)
		return &c
	default:
		l, r := treeSplit(a, b.key)
		b.left, b.right = treeUnion(l, b.left, same), treeUnion(r, b.right, same)
		return b
	}
}

// treePart is treeSplit of nodes that are nobody else's, without k among them.
func treePart[K cmp.Ordered, V any](n *treeNode[K, V], k K) (l, r *treeNode[K, V]) {
	switch {
	case n == nil:
		return nil, nil
	case k < n.key:
		l, n.left = treePart(n.left, k)
		return l, n
	default:
		n.right, r = treePart(n.right, k)
		return n, r
	}
}

// treeBuilder makes a tree of pairs that come in the order of their keys, in linear time and with nothing to throw away:
// the tree that set would make of them. The zero treeBuilder is ready.
type treeBuilder[K cmp.Ordered, V any] struct {
	spine []*treeNode[K, V] // the right edge, from the root down
	n     int
}

// add appends a pair; its key must be above all before it.
func (b *treeBuilder[K, V]) add(k K, v V) {
	n := &treeNode[K, V]{key: k, val: v, pri: treePriority(k)}
	at := len(b.spine)
	for at > 0 && !b.spine[at-1].above(n.pri, k) {
		at--
	}
	if at < len(b.spine) {
		n.left = b.spine[at]
	}
	if at > 0 {
		b.spine[at-1].right = n
	}
	b.spine = append(b.spine[:at], n)
	b.n++
}

// last is the key that was added last; there must be one.
func (b *treeBuilder[K, V]) last() K { return b.spine[len(b.spine)-1].key }

// tree is what was added. The builder begins anew.
func (b *treeBuilder[K, V]) tree() (t tree[K, V]) {
	if len(b.spine) > 0 {
		t = tree[K, V]{root: b.spine[0], n: b.n}
	}
	*b = treeBuilder[K, V]{spine: b.spine[:0]}
	return t
}

// treeOfMap is the tree of the pairs of a map.
func treeOfMap[K cmp.Ordered, V any](m map[K]V) tree[K, V] {
	var b treeBuilder[K, V]
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.add(k, m[k])
	}
	return b.tree()
}

// treeOfSet is the tree of some keys, which it sorts.
func treeOfSet(keys []string) tree[string, struct{}] {
	slices.Sort(keys)
	var b treeBuilder[string, struct{}]
	for i, k := range keys {
		if i == 0 || keys[i-1] != k {
			b.add(k, struct{}{})
		}
	}
	return b.tree()
}

func (t tree[K, V]) delete(k K) tree[K, V] {
	if _, ok := t.get(k); !ok {
		return t
	}
	return tree[K, V]{root: treeDelete(t.root, k), n: t.n - 1}
}

func treeDelete[K cmp.Ordered, V any](n *treeNode[K, V], k K) *treeNode[K, V] {
	if k == n.key {
		return treeJoin(n.left, n.right)
	}
	c := *n
	if k < n.key {
		c.left = treeDelete(n.left, k)
	} else {
		c.right = treeDelete(n.right, k)
	}
	return &c
}

func treeJoin[K cmp.Ordered, V any](l, r *treeNode[K, V]) *treeNode[K, V] {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.above(r.pri, r.key):
		c := *l
		c.right = treeJoin(l.right, r)
		return &c
	default:
		c := *r
		c.left = treeJoin(l, r.left)
		return &c
	}
}

// all yields the pairs in key order.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { treeWalk(t.root, yield) }
}

func treeWalk[K cmp.Ordered, V any](n *treeNode[K, V], yield func(K, V) bool) bool {
	return n == nil || treeWalk(n.left, yield) && yield(n.key, n.val) && treeWalk(n.right, yield)
}

// from yields the pairs whose key is at least k, in key order.
func (t tree[K, V]) from(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { treeWalkFrom(t.root, k, yield) }
}

func treeWalkFrom[K cmp.Ordered, V any](n *treeNode[K, V], k K, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if n.key < k {
		return treeWalkFrom(n.right, k, yield)
	}
	return treeWalkFrom(n.left, k, yield) && yield(n.key, n.val) && treeWalk(n.right, yield)
}

// diff calls fn for each key whose node differs between a and b, in key order, until fn returns false; shared parts
// cost nothing. inA and inB say where the key is.
func (a tree[K, V]) diff(b tree[K, V], fn func(k K, av V, inA bool, bv V, inB bool) bool) {
	treeDiff(a.root, b.root, fn)
}

func treeDiff[K cmp.Ordered, V any](a, b *treeNode[K, V], fn func(K, V, bool, V, bool) bool) bool {
	var zero V
	switch {
	case a == b:
		return true
	case a == nil:
		return treeWalk(b, func(k K, v V) bool { return fn(k, zero, false, v, true) })
	case b == nil:
		return treeWalk(a, func(k K, v V) bool { return fn(k, v, true, zero, false) })
	case a.key == b.key:
		return treeDiff(a.left, b.left, fn) && fn(a.key, a.val, true, b.val, true) && treeDiff(a.right, b.right, fn)
	case a.above(b.pri, b.key):
		// a's root is not in b: it would stand at or above b's root there.
		l, r := treeSplit(b, a.key)
		return treeDiff(a.left, l, fn) && fn(a.key, a.val, true, zero, false) && treeDiff(a.right, r, fn)
	default:
		l, r := treeSplit(a, b.key)
		return treeDiff(l, b.left, fn) && fn(b.key, zero, false, b.val, true) && treeDiff(r, b.right, fn)
	}
}
