package replica

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// pair says that operations of an origin up to seq are held.
type pair struct{ origin, seq uint64 }

// vector is what this replica held at one version, of origins that were not retired. It is immutable: what a peer is known to
// hold is mostly a reference to one.
type vector struct {
	made  time.Time
	pairs []pair // by origin
	users int    // peers that refer to it; guarded by Replica.mu
}

func (v *vector) get(origin uint64) uint64 {
	if v == nil {
		return 0
	}
	i, ok := slices.BinarySearchFunc(v.pairs, origin, func(p pair, o uint64) int { return cmp.Compare(p.origin, o) })
	if !ok {
		return 0
	}
	return v.pairs[i].seq
}

// picture is a View prepared for comparisons. It is made once for each version that is compared, and immutable.
type picture struct {
	view    hostdb.View
	version string
	retired string
	heads   []shortHead // that were not retired, by origin
	sums    [bucketCount]uint64
	vector  *vector
	held    uint64 // operations that the state is made of
}

func newPicture(v hostdb.View) *picture {
	p := &picture{view: v, version: v.Version().String(), retired: v.Retired(), vector: &vector{made: time.Now()}}
	for h := range v.Heads() {
		s := short(h)
		p.heads = append(p.heads, s)
		p.sums[bucket(s.origin)] += s.sum()
		p.vector.pairs = append(p.vector.pairs, pair{s.origin, s.seq})
	}
	for h := range v.AllHeads() {
		p.held = addSat(p.held, h.Seq)
	}
	return p
}

func short(h hostdb.Head) shortHead {
	return shortHead{h.Origin, h.Seq, binary.BigEndian.Uint64(h.Hash[:8])}
}

// all are all heads, retired ones included, by origin.
func (p *picture) all() []shortHead {
	var all []shortHead
	for h := range p.view.AllHeads() {
		all = append(all, short(h))
	}
	return all
}

// inBuckets are the heads in the buckets of mask.
func (p *picture) inBuckets(mask uint64) []shortHead {
	var in []shortHead
	for _, h := range p.heads {
		if mask>>bucket(h.origin)&1 != 0 {
			in = append(in, h)
		}
	}
	return in
}

// bucket parts the origins, which are random, evenly.
func bucket(origin uint64) uint { return uint(origin >> 58) }

// sum is a hash of a head: FNV-1a over its words, mixed. It need not resist an enemy, since versions are compared as well.
func (h shortHead) sum() uint64 {
	x := uint64(14695981039346656037)
	for _, w := range [3]uint64{h.origin, h.seq, h.hash} {
		x = (x ^ w) * 0x9e3779b97f4a7c15
		x ^= x >> 29
	}
	return x
}

// addSat adds without overflow: a neighbour may name any number.
func addSat(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

// difference of two sorted lists of heads.
type difference struct {
	lacking []pair      // theirs that go on after ours: origin, and what is held here
	missing []pair      // ours that go on after theirs: origin, and what they hold
	behind  []shortHead // theirs that ours go on after, if they hold any
	forked  []shortHead // theirs with our seq and another hash
	theirs  []pair      // of each origin that differs: what they hold
}

// compareHeads compares two lists of heads that are sorted by origin.
func compareHeads(ours, theirs []shortHead) difference {
	var d difference
	for len(ours) > 0 || len(theirs) > 0 {
		switch {
		case len(theirs) == 0 || len(ours) > 0 && ours[0].origin < theirs[0].origin:
			d.missing = append(d.missing, pair{ours[0].origin, 0})
			d.theirs = append(d.theirs, pair{ours[0].origin, 0})
			ours = ours[1:]
			continue
		case len(ours) == 0 || theirs[0].origin < ours[0].origin:
			if theirs[0].seq > 0 {
				d.lacking = append(d.lacking, pair{theirs[0].origin, 0})
				d.theirs = append(d.theirs, pair{theirs[0].origin, theirs[0].seq})
			}
			theirs = theirs[1:]
			continue
		}
		o, t := ours[0], theirs[0]
		switch {
		case t.seq > o.seq:
			d.lacking = append(d.lacking, pair{o.origin, o.seq})
			d.theirs = append(d.theirs, pair{o.origin, t.seq})
		case t.seq < o.seq:
			d.missing = append(d.missing, pair{o.origin, t.seq})
			if t.seq > 0 {
				d.behind = append(d.behind, t)
			}
			d.theirs = append(d.theirs, pair{o.origin, t.seq})
		case t.hash != o.hash:
			d.forked = append(d.forked, t)
		}
		ours, theirs = ours[1:], theirs[1:]
	}
	return d
}

// holding is what a peer is known to hold: what we held once, but for a few origins. It takes some hundred bytes.
type holding struct {
	base *vector
	over []pair // exact values, whatever base says
	told bool   // it was compared, and nothing that it lacks was forgotten since
}

func (h *holding) seq(origin uint64) uint64 {
	for _, p := range h.over {
		if p.origin == origin {
			return p.seq
		}
	}
	return h.base.get(origin)
}

// set notes what is held of one origin. What does not fit is forgotten, so that less is known rather than too much.
func (h *holding) set(origin, seq uint64, limit int) {
	for i := range h.over {
		if h.over[i].origin == origin {
			h.over[i].seq = seq
			return
		}
	}
	if h.base.get(origin) == seq {
		return
	}
	if len(h.over) >= limit {
		h.told = false // until it is compared again: of a run that was retired base says nothing
		for i, p := range h.over {
			if p.seq >= h.base.get(p.origin) { // less is known without it
				h.over[i] = pair{origin, seq}
				return
			}
		}
		if seq >= h.base.get(origin) {
			return
		}
		h.rebase(nil)
		h.over = nil
	}
	h.over = append(h.over, pair{origin, seq})
}

func (h *holding) rebase(base *vector) {
	if h.base != nil {
		h.base.users--
	}
	if base != nil {
		base.users++
	}
	h.base = base
}

// vectors are those that peers refer to, oldest first. They are at most maxVectors, denser the younger they are.
type vectors []*vector

const maxVectors = 32

// add keeps v if it is new, and says which one to let go, and which older one its users fall back to.
func (l *vectors) add(v *vector, now time.Time) (drop, older *vector) {
	if n := len(*l); n > 0 && (*l)[n-1] == v {
		return nil, nil
	}
	*l = append(slices.DeleteFunc(*l, func(x *vector) bool { return x.users == 0 }), v)
	list := *l
	if len(list) <= maxVectors {
		return nil, nil
	}
	at, best := 0, 0.0
	for i := 1; i < len(list)-1; i++ {
		gap := float64(list[i+1].made.Sub(list[i-1].made)) / float64(max(1, now.Sub(list[i].made)))
		if at == 0 || gap < best {
			at, best = i, gap
		}
	}
	drop, older = list[at], list[at-1]
	*l = slices.Delete(list, at, at+1)
	return drop, older
}
