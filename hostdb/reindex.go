package hostdb

import (
	"maps"
	"slices"
)

// reindexing follows the change of some entries through the indexes of a snapshot. An operation of an import touches hundreds of
// keys, whose lines in an index lie together: each index is changed once for all of them.
type reindexing struct {
	n             *snapshot
	spaces        map[string]*spaceChange
	holders       map[string][]string // those that change, as they are now
	active        []string            // hosts that are active now
	passive       []string            // hosts that are not any more
	names, addrs  []string            // claims that are new
	noName, noAdr []string            // claims that are gone
	cooled        map[string]*group   // by id; nil for a key that has no group any more
}

// spaceChange is what changes of a namespace.
type spaceChange struct {
	digest sum256 // what is added to it
	keys   int    // what is added to their number
	newest Time   // write of data
}

// reindex follows the change of some entries, each once, through every index of n, which the caller owns and which has the entries
// already.
func (n *snapshot) reindex(touched ...*folding) {
	r := reindexing{n: n, spaces: map[string]*spaceChange{}}
	for _, f := range touched {
		r.count(f)
		r.members(f)
		switch {
		case f.ns == Hosts && f.dataTouched:
			r.host(f)
		case f.ns == System && f.dataTouched && isRetirement(f.key):
			n.reindexRetired(f.before, f.entry)
		}
	}
	r.apply()
	for _, f := range touched { // by the holders that are now: a key that holds one no more was touched itself
		r.coolAround(f)
	}
	if len(r.active) > 0 || len(r.passive) > 0 {
		r.cool(Tags, AllTag)
	}
	n.groups = change(n.groups, r.cooled, func(g *group) bool { return g != nil })
}

func (r *reindexing) count(f *folding) {
	e, was := f.entry, f.before
	c := r.spaces[e.ns]
	if c == nil {
		c = &spaceChange{}
		r.spaces[e.ns] = c
	}
	if existed, exists := was.exists(), e.exists(); existed != exists {
		switch {
		case e.key == "":
			r.n.namespaces = edit(r.n.namespaces, e.ns, exists || e.ns == Hosts || e.ns == Tags || e.ns == System)
		case exists:
			c.keys++
		default:
			c.keys--
		}
	}
	if was != nil {
		c.digest.sub(was.sumDoc)
		c.digest.sub(was.sumMembers)
	}
	c.digest.add(e.sumDoc)
	c.digest.add(e.sumMembers)
	// What an older generation held counts as well: else the order in which things came would show.
	c.newest = max(c.newest, e.dataStamp.Time, e.deleted.Time, e.lateEdit.Time)
}

func (r *reindexing) members(f *folding) {
	for name, before := range f.memberBefore {
		now, _ := f.entry.members.get(name)
		if name == "" || before.member == now.member {
			continue
		}
		k := id(f.ns, name)
		list, pending := r.holders[k]
		if !pending {
			list, _ = r.n.holders.get(k)
		}
		if r.holders == nil {
			r.holders = make(map[string][]string, len(f.memberBefore))
		}
		r.holders[k] = edit(list, f.key, now.member)
	}
}

// host follows a change of a host's existence or facts.
func (r *reindexing) host(f *folding) {
	var before, after hostFacts
	if f.before.exists() {
		before = factsOf(f.key, f.before.doc)
	}
	if f.entry.exists() {
		after = factsOf(f.key, f.doc)
	}
	switch {
	case after.active && !before.active:
		r.active = append(r.active, f.key)
	case before.active && !after.active:
		r.passive = append(r.passive, f.key)
	}
	claims := func(before, after []string, added, gone *[]string) {
		for _, c := range before {
			if !slices.Contains(after, c) {
				*gone = append(*gone, id(c, f.key))
			}
		}
		for _, c := range after {
			if !slices.Contains(before, c) {
				*added = append(*added, id(c, f.key))
			}
		}
	}
	claims(before.names, after.names, &r.names, &r.noName)
	claims(before.addrs, after.addrs, &r.addrs, &r.noAdr)
}

// apply brings what was collected into the trees.
func (r *reindexing) apply() {
	n := r.n
	for ns, c := range r.spaces {
		d, _ := n.digests.get(ns)
		d.add(c.digest)
		n.digests = n.digests.set(ns, d)
		if c.keys != 0 {
			keys, _ := n.keys.get(ns)
			n.keys = n.keys.set(ns, keys+c.keys)
		}
		if newest, _ := n.modified.get(ns); newest < c.newest {
			n.modified = n.modified.set(ns, c.newest)
		}
	}
	n.holders = change(n.holders, r.holders, func(keys []string) bool { return len(keys) > 0 })
	n.active = changeSet(n.active, r.active, r.passive)
	n.names = changeSet(n.names, r.names, r.noName)
	n.addrs = changeSet(n.addrs, r.addrs, r.noAdr)
}

// change is t with the pairs of m, and without the keys whose value does not stay.
func change[V any](t tree[string, V], m map[string]V, stays func(V) bool) tree[string, V] {
	maps.DeleteFunc(m, func(k string, v V) bool {
		if stays(v) {
			return false
		}
		t = t.delete(k)
		return true
	})
	return t.with(treeOfMap(m))
}

func changeSet(t tree[string, struct{}], added, gone []string) tree[string, struct{}] {
	for _, k := range gone {
		t = t.delete(k)
	}
	return t.with(treeOfSet(added))
}

// coolAround cools what the change of a key changes the expanded members of.
func (r *reindexing) coolAround(f *folding) {
	existed, exists := f.before.exists(), f.entry.exists()
	if len(f.memberBefore) > 0 || existed != exists {
		r.cool(f.ns, f.key)
	}
	if f.ns == Hosts && f.dataTouched && existed != exists {
		for _, ns := range r.n.namespaces {
			holders, _ := r.n.holders.get(id(ns, f.key))
			for _, key := range holders {
				r.cool(ns, key)
			}
		}
	}
}

// cool forgets the expanded members of a key and of every key that inherits from it.
func (r *reindexing) cool(ns, key string) {
	k := id(ns, key)
	if _, done := r.cooled[k]; done {
		return
	}
	if r.cooled == nil {
		r.cooled = map[string]*group{}
	}
	e, _ := r.n.entries.get(k)
	if e != nil && e.members.len() > 0 || ns == Tags && key == AllTag {
		r.cooled[k] = &group{}
	} else {
		r.cooled[k] = nil
	}
	holders, _ := r.n.holders.get(id(ns, "@"+key))
	for _, h := range holders {
		r.cool(ns, h)
	}
}
