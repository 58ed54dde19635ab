package replica

import (
	"cmp"
	"slices"
)

// maxTrees bounds the trees of a roster that are kept.
const maxTrees = 1024

// roster is who is alive, this node among them, with the trees over them that were asked for. It is guarded by Replica.mu,
// and replaced when membership changes.
type roster struct {
	self  string
	nodes []string // sorted
	trees map[treeKey][]string
}

type treeKey struct{ root, at string }

func newRoster(self string, alive []string) *roster {
	nodes := make([]string, 0, len(alive)+1)
	nodes = append(append(nodes, alive...), self)
	slices.Sort(nodes)
	return &roster{self: self, nodes: slices.Compact(nodes), trees: map[treeKey][]string{}}
}

func (r *roster) has(node string) bool {
	_, ok := slices.BinarySearch(r.nodes, node)
	return ok
}

// others is the number of nodes besides this one.
func (r *roster) others() int { return len(r.nodes) - 1 }

// children are those of node at in root's tree. The slice is shared.
func (r *roster) children(root, at string, fanout int) []string {
	k := treeKey{root, at}
	kids, ok := r.trees[k]
	if !ok {
		kids = children(r.nodes, root, at, fanout)
		if len(r.trees) >= maxTrees {
			clear(r.trees)
		}
		r.trees[k] = kids
	}
	return kids
}

// ranked is a node at its place in the order of a root.
type ranked struct {
	node string
	rank uint64
}

func (a ranked) compare(b ranked) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.node, b.node))
}

// children are the nodes to which self passes on what root wrote: a tree of the given fan-out over nodes (self and
// root among them), root first and the others in an order that depends on the root alone, so that each root loads
// other nodes. Nodes that see the same members compute the same tree; where they do not, repair fills the gap.
//
// Most nodes of a large mesh are leaves; they are spared the sorting.
func children(nodes []string, root, self string, fanout int) []string {
	prefix := fnv1a(fnv1a(14695981039346656037, root), "\x00")
	order := make([]ranked, 0, len(nodes))
	at := -1
	var own ranked
	for _, n := range nodes {
		if n == root {
			continue
		}
		r := ranked{n, fnv1a(prefix, n)}
		if n == self {
			own, at = r, 0
		}
		order = append(order, r)
	}
	switch {
	case self == root:
		at = 0
	case at < 0:
		return nil
	default:
		at = 1
		for _, r := range order {
			if r.compare(own) < 0 {
				at++
			}
		}
	}
	first := at * fanout
	if first >= len(order) {
		return nil
	}
	slices.SortFunc(order, ranked.compare)
	kids := make([]string, 0, min(fanout, len(order)-first))
	for _, r := range order[first:min(first+fanout, len(order))] {
		kids = append(kids, r.node)
	}
	return kids
}

// fnv1a goes on with a 64-bit FNV-1a hash. Older builds order by the same.
func fnv1a(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
