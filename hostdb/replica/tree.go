package replica

import (
	"hash/fnv"
	"slices"
	"strings"
)

// children are the nodes to which self passes on what root wrote: a tree of the given fan-out over nodes (self and
// root among them), root first and the others in an order that depends on the root alone, so that each root loads
// other nodes. Nodes that see the same members compute the same tree; where they do not, repair fills the gap.
func children(nodes []string, root, self string, fanout int) []string {
	type ranked struct {
		node string
		rank uint64
	}
	order := make([]ranked, 0, len(nodes))
	for _, n := range nodes {
		if n == root {
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(root + "\x00" + n))
		order = append(order, ranked{n, h.Sum64()})
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if a.rank != b.rank {
			if a.rank < b.rank {
				return -1
			}
			return 1
		}
		return strings.Compare(a.node, b.node)
	})
	at := 0
	if self != root {
		i := slices.IndexFunc(order, func(r ranked) bool { return r.node == self })
		if i < 0 {
			return nil
		}
		at = i + 1
	}
	var out []string
	for i := at*fanout + 1; i <= at*fanout+fanout && i <= len(order); i++ {
		out = append(out, order[i-1].node)
	}
	return out
}
