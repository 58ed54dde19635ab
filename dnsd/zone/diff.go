package zone

import (
	"iter"
	"math/bits"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// SOA is the SOA record of a zone; nil when it is not served. It is shared and must not be changed.
func (z *Zones) SOA(origin string) *dns.SOA {
	if zn := z.byText(origin); zn != nil {
		return zn.soa
	}
	return nil
}

// Records yields what a zone holds beside its SOA and live names, in no particular order. The records are shared.
func (z *Zones) Records(origin string) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		zn := z.byText(origin)
		if zn == nil {
			return
		}
		for _, nd := range zn.nodes.all() {
			var buf [1]rrset
			for _, s := range nd.sets(&buf) {
				for _, rr := range s.rrs {
					if !yield(rr) {
						return
					}
				}
			}
		}
	}
}

// Owner is the tag that gives a zone its SOA, as a key and as it stands in HostDB; none for the mesh's own domain.
func (z *Zones) Owner(origin string) (tag string, item hostdb.Item) {
	zn := z.byText(origin)
	if zn == nil || len(zn.feeders) == 0 {
		return "", hostdb.Item{}
	}
	item, _ = z.db.Get(hostdb.Tags, zn.feeders[0])
	return zn.feeders[0], item
}

// Feeders are the tags that feed a zone, as keys and as they stand in HostDB, Owner first; none for the mesh's own domain.
func (z *Zones) Feeders(origin string) iter.Seq2[string, hostdb.Item] {
	return func(yield func(string, hostdb.Item) bool) {
		zn := z.byText(origin)
		if zn == nil {
			return
		}
		for _, tag := range zn.feeders {
			if item, _ := z.db.Get(hostdb.Tags, tag); !yield(tag, item) {
				return
			}
		}
	}
}

// Diff is what z holds in a zone that old does not, and the other way round, without SOA and live names. A zone that is
// not served holds nothing. Where z came from old by Update it costs what changed; two that were compiled apart cost their
// size. The records are shared.
func (z *Zones) Diff(old *Zones, origin string) (removed, added []dns.RR) {
	var was, now pmap[nodeEntry]
	if zn := old.byText(origin); zn != nil {
		was = zn.nodes.m
	}
	if zn := z.byText(origin); zn != nil {
		now = zn.nodes.m
	}
	var h hasher
	diffNodes(was.root, now.root, 0, func(a, b nodeEntry) {
		r, n := h.diff(a.node, b.node)
		removed, added = append(removed, r...), append(added, n...)
	})
	return removed, added
}

// diff is the difference of what two nodes answer; nil is a name that is not there.
func (h *hasher) diff(was, now *node) (removed, added []dns.RR) {
	if was == now {
		return nil, nil
	}
	before := map[string]dns.RR{}
	var order []string
	for rr := range was.records() {
		wire, err := h.pack(rr)
		if err != nil {
			continue // maker.record saw that it can be packed
		}
		before[string(wire)] = rr
		order = append(order, string(wire))
	}
	for rr := range now.records() {
		wire, err := h.pack(rr)
		if err != nil {
			continue
		}
		if _, same := before[string(wire)]; same {
			delete(before, string(wire))
			continue
		}
		added = append(added, rr)
	}
	for _, wire := range order {
		if rr, gone := before[wire]; gone {
			removed = append(removed, rr)
		}
	}
	return removed, added
}

// records yields the records of a node; none of a live name's.
func (n *node) records() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if n == nil {
			return
		}
		var buf [1]rrset
		for _, s := range n.sets(&buf) {
			for _, rr := range s.rrs {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// diffNodes tells of each key whose values differ in two trees, with both; the zero value is that of a key which is not
// there. What the trees share is not looked at. The same entries may stand at other depths: a deletion leaves a tree deeper
// than one that never had the key.
func diffNodes[V comparable](a, b *pnode[V], shift int, tell func(a, b V)) {
	var none V
	switch {
	case a == b:
		return
	case a == nil:
		b.walk(func(_ string, v V) bool { tell(none, v); return true })
		return
	case b == nil:
		a.walk(func(_ string, v V) bool { tell(v, none); return true })
		return
	case shift >= pdepth:
		diffLists(a.entry, b.entry, tell)
		return
	}
	for rest := a.leaves | a.kids | b.leaves | b.kids; rest != 0; rest &= rest - 1 {
		bit := rest & -rest
		ea, ka := a.slot(bit)
		eb, kb := b.slot(bit)
		if len(ea)+len(eb) == 0 {
			diffNodes(ka, kb, shift+pbits, tell)
			continue
		}
		diffLists(append(ea, ka.entries()...), append(eb, kb.entries()...), tell)
	}
}

// slot is what stands in one slot: at most one entry, with no room behind it, or a subtree.
func (n *pnode[V]) slot(bit uint32) (entry []pentry[V], kid *pnode[V]) {
	if n.leaves&bit != 0 {
		at := bits.OnesCount32(n.leaves & (bit - 1))
		return n.entry[at : at+1 : at+1], nil
	}
	if n.kids&bit != 0 {
		return nil, n.kid[bits.OnesCount32(n.kids&(bit-1))]
	}
	return nil, nil
}

// entries are all below n. It is small where it is asked for: beside one entry of the other tree.
func (n *pnode[V]) entries() []pentry[V] {
	if n == nil {
		return nil
	}
	out := append([]pentry[V]{}, n.entry...)
	for _, k := range n.kid {
		out = append(out, k.entries()...)
	}
	return out
}

func diffLists[V comparable](a, b []pentry[V], tell func(a, b V)) {
	var none V
	left := make(map[string]V, len(b))
	for i := range b {
		left[b[i].key] = b[i].val
	}
	for i := range a {
		now, ok := left[a[i].key]
		switch {
		case !ok:
			tell(a[i].val, none)
		case now != a[i].val:
			tell(a[i].val, now)
		}
		delete(left, a[i].key)
	}
	for i := range b {
		if v, ok := left[b[i].key]; ok {
			tell(none, v)
		}
	}
}
