package hostdbtest

import (
	"bytes"
	"hash/fnv"
	"iter"
)

// node is a persistent treap: a search tree by key and a heap by weight, changed by copying the path to the change.
// A nil *node is the empty tree. Nodes are never changed once they are reachable, so a snapshot is a pointer.
type node struct {
	key, value  []byte
	weight      uint32
	left, right *node
}

// weight is a function of the key, so that equal contents have equal trees.
func weight(key []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(key) // it returns no error
	w := h.Sum32()
	// FNV alone leaves neighbours close together, and the tree deep.
	w ^= w >> 16
	w *= 0x85ebca6b
	w ^= w >> 13
	return w
}

func (n *node) find(key []byte) *node {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n
		}
	}
	return nil
}

// set returns the tree with one more node, or one replaced. It takes over the node.
func (n *node) set(add *node) *node {
	if n == nil {
		return add
	}
	if c := bytes.Compare(add.key, n.key); c == 0 {
		add.left, add.right = n.left, n.right
		return add
	} else if add.weight > n.weight {
		add.left, add.right = n.split(add.key) // a key has one weight, so n does not contain it
		return add
	} else if c < 0 {
		return n.with(n.left.set(add), n.right)
	}
	return n.with(n.left, n.right.set(add))
}

func (n *node) delete(key []byte) *node {
	if n == nil {
		return nil
	}
	switch c := bytes.Compare(key, n.key); {
	case c < 0:
		return n.with(n.left.delete(key), n.right)
	case c > 0:
		return n.with(n.left, n.right.delete(key))
	}
	return join(n.left, n.right)
}

// split returns the nodes below key and those above.
func (n *node) split(key []byte) (below, above *node) {
	if n == nil {
		return nil, nil
	}
	if bytes.Compare(n.key, key) < 0 {
		l, r := n.right.split(key)
		return n.with(n.left, l), r
	}
	l, r := n.left.split(key)
	return l, n.with(r, n.right)
}

// join is the reverse of split.
func join(l, r *node) *node {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.weight >= r.weight:
		return l.with(l.left, join(l.right, r))
	}
	return r.with(join(l, r.left), r.right)
}

func (n *node) with(left, right *node) *node {
	c := *n
	c.left, c.right = left, right
	return &c
}

// from yields the nodes that are not below key, in order.
func (n *node) from(key []byte) iter.Seq[*node] {
	return func(yield func(*node) bool) { n.walk(key, yield) }
}

func (n *node) walk(key []byte, yield func(*node) bool) bool {
	if n == nil {
		return true
	}
	if bytes.Compare(n.key, key) < 0 {
		return n.right.walk(key, yield)
	}
	return n.left.walk(key, yield) && yield(n) && n.right.walk(key, yield)
}

// back yields the nodes whose key begins with prefix and is not above from (nil: all), in reverse order.
func (n *node) back(prefix, from []byte) iter.Seq[*node] {
	return func(yield func(*node) bool) { n.walkBack(prefix, from, yield) }
}

func (n *node) walkBack(prefix, from []byte, yield func(*node) bool) bool {
	if n == nil {
		return true
	}
	if from != nil && bytes.Compare(n.key, from) > 0 {
		return n.left.walkBack(prefix, from, yield)
	}
	if !n.right.walkBack(prefix, from, yield) {
		return false
	}
	if bytes.Compare(n.key, prefix) < 0 {
		return true // so is everything left of it
	}
	if bytes.HasPrefix(n.key, prefix) && !yield(n) {
		return false
	}
	return n.left.walkBack(prefix, from, yield)
}
