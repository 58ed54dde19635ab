package zone

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// pmap is a persistent hash map (a CHAMP: Steindorff and Vinju, 2015): set and delete copy one path and share the rest.
// Copies are saved while one batch of changes owns what it made, which its edit tells. The zero pmap is empty.
type pmap[V any] struct {
	root *pnode[V]
	n    int
}

// edit marks what a batch of changes made and may therefore change in place. It must not be of size zero: pointers to
// such are not distinct.
type edit struct{ _ byte }

type pnode[V any] struct {
	by     *edit
	leaves uint32 // which of the 32 slots hold an entry
	kids   uint32 // which hold a subtree
	entry  []pentry[V]
	kid    []*pnode[V]
}

type pentry[V any] struct {
	hash uint64
	key  string
	val  V
}

const (
	pbits  = 5
	pdepth = 60 // bits used up; below, entries with equal hashes stand in a plain list
)

var pseed = maphash.MakeSeed()

func (m pmap[V]) len() int { return m.n }

func (m pmap[V]) get(key string) (v V, ok bool) {
	return m.find(maphash.String(pseed, key), key)
}

func (m pmap[V]) find(h uint64, key string) (v V, ok bool) {
	n := m.root
	for shift := 0; n != nil; shift += pbits {
		if shift >= pdepth {
			for i := range n.entry {
				if n.entry[i].key == key {
					return n.entry[i].val, true
				}
			}
			return v, false
		}
		bit := uint32(1) << (h >> shift & 31)
		if n.leaves&bit != 0 {
			e := &n.entry[bits.OnesCount32(n.leaves&(bit-1))]
			if e.key == key {
				return e.val, true
			}
			return v, false
		}
		if n.kids&bit == 0 {
			return v, false
		}
		n = n.kid[bits.OnesCount32(n.kids&(bit-1))]
	}
	return v, false
}

// set is m with key; what by made is changed in place.
func (m pmap[V]) set(by *edit, key string, val V) pmap[V] {
	e := pentry[V]{maphash.String(pseed, key), key, val}
	root, added := m.root.put(by, e, 0)
	m.root = root
	if added {
		m.n++
	}
	return m
}

func (n *pnode[V]) own(by *edit) *pnode[V] {
	switch {
	case n == nil:
		return &pnode[V]{by: by}
	case n.by == by:
		return n
	}
	c := *n
	c.by = by
	c.entry, c.kid = slices.Clone(n.entry), slices.Clone(n.kid)
	return &c
}

func (n *pnode[V]) put(by *edit, e pentry[V], shift int) (_ *pnode[V], added bool) {
	n = n.own(by)
	if shift >= pdepth {
		for i := range n.entry {
			if n.entry[i].key == e.key {
				n.entry[i] = e
				return n, false
			}
		}
		n.entry = append(n.entry, e)
		return n, true
	}
	bit := uint32(1) << (e.hash >> shift & 31)
	at, below := bits.OnesCount32(n.leaves&(bit-1)), bits.OnesCount32(n.kids&(bit-1))
	switch {
	case n.kids&bit != 0:
		n.kid[below], added = n.kid[below].put(by, e, shift+pbits)
		return n, added
	case n.leaves&bit == 0:
		n.leaves |= bit
		n.entry = slices.Insert(n.entry, at, e)
		return n, true
	case n.entry[at].key == e.key:
		n.entry[at] = e
		return n, false
	}
	sub, _ := (*pnode[V])(nil).put(by, n.entry[at], shift+pbits)
	sub, _ = sub.put(by, e, shift+pbits)
	n.leaves &^= bit
	n.kids |= bit
	n.entry = slices.Delete(n.entry, at, at+1)
	n.kid = slices.Insert(n.kid, below, sub)
	return n, true
}

// delete is m without key.
func (m pmap[V]) delete(by *edit, key string) pmap[V] {
	if _, ok := m.get(key); !ok {
		return m
	}
	m.root = m.root.drop(by, maphash.String(pseed, key), key, 0)
	m.n--
	return m
}

// drop is n without key, which it has; nil when nothing remains.
func (n *pnode[V]) drop(by *edit, h uint64, key string, shift int) *pnode[V] {
	n = n.own(by)
	bit := uint32(1) << (h >> shift & 31)
	switch {
	case shift >= pdepth:
		n.entry = slices.DeleteFunc(n.entry, func(e pentry[V]) bool { return e.key == key })
	case n.leaves&bit != 0:
		at := bits.OnesCount32(n.leaves & (bit - 1))
		n.entry = slices.Delete(n.entry, at, at+1)
		n.leaves &^= bit
	default:
		at := bits.OnesCount32(n.kids & (bit - 1))
		if n.kid[at] = n.kid[at].drop(by, h, key, shift+pbits); n.kid[at] == nil {
			n.kid = slices.Delete(n.kid, at, at+1)
			n.kids &^= bit
		}
	}
	if len(n.entry) == 0 && len(n.kid) == 0 {
		return nil
	}
	return n
}

// fit gives back the room that filling a map left in it: at most what was made by, which the caller owns.
func (m pmap[V]) fit(by *edit) { m.root.fit(by) }

func (n *pnode[V]) fit(by *edit) {
	if n == nil || n.by != by {
		return
	}
	n.entry, n.kid = fitted(n.entry), fitted(n.kid)
	for _, k := range n.kid {
		k.fit(by)
	}
}

// fitted is list in a piece of memory of its size.
func fitted[T any](list []T) []T {
	if len(list) == cap(list) {
		return list
	}
	return append(make([]T, 0, len(list)), list...)
}

// all yields the entries in no particular order.
func (m pmap[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { m.root.walk(yield) }
}

func (n *pnode[V]) walk(yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entry {
		if !yield(n.entry[i].key, n.entry[i].val) {
			return false
		}
	}
	for _, k := range n.kid {
		if !k.walk(yield) {
			return false
		}
	}
	return true
}
