package hostdb

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"
)

// snapshot is the merged state of a set of operations with its indexes. It is immutable but for the caches in groups;
// fold makes the next one and shares what did not change.
type snapshot struct {
	entries    tree[string, *entry]
	keys       tree[string, int]      // namespace -> number of existing keys
	namespaces []string               // existing ones, sorted
	holders    tree[string, []string] // ns NUL member -> keys of ns that hold it directly, sorted
	groups     tree[string, *group]   // ns NUL key -> expanded members; absent: no member list
	active     tree[string, struct{}] // hosts that are not retired: the members of tags/all
	names      tree[string, struct{}] // lower-case name NUL host that claims it
	addrs      tree[string, struct{}] // canonical address NUL host that claims it
	modified   tree[string, Time]     // namespace -> newest write of data there, deletes included
	digests    tree[string, sum256]   // by namespace
	vector     tree[uint64, head]
	retired    tree[uint64, retiredRun] // runs that need not be named when replicas are compared
	retiredSum uint64                   // sum of hashes of retired's elements
	version    uint64                   // sum of hashes of the vector's elements
	applied    uint64                   // number of operations applied here, in the order of the apply log
	lateOps    uint64                   // operations with effects that this build cannot fold
}

// head is what is held of an origin.
type head struct {
	seq  uint64 // of the newest operation, as time and hash are
	time Time
	hash Hash
	node string // who made the run, if its first operation said
}

// group caches the expanded members of a key. A new group is a cold cache.
type group struct{ hosts atomic.Pointer[[]string] }

func id(ns, key string) string { return ns + "\x00" + key }

func emptySnapshot() *snapshot {
	s := &snapshot{namespaces: []string{System, Hosts, Tags}}
	s.groups = s.groups.set(id(Tags, AllTag), &group{})
	return s
}

// fold applies an operation. The foldings say what changed, in no particular order.
func (s *snapshot) fold(op *Operation, hash Hash) (*snapshot, []*folding) {
	n := *s
	n.applied++
	touched := n.effects(op)
	h, _ := s.vector.get(op.Origin)
	was := h
	h.seq, h.time, h.hash = op.Seq, op.Time, hash
	if op.Seq == 1 {
		h.node = op.Node
	}
	n.vector = n.vector.set(op.Origin, h)
	n.version += elementHash(op.Origin, h.seq, h.hash) - elementHash(op.Origin, was.seq, was.hash)
	if r, ok := n.retired.get(op.Origin); ok && was.seq < r.seq && h.seq >= r.seq {
		n.retiredSum += r.sum(op.Origin)
	}
	if !op.known() {
		n.lateOps++
	}
	return &n, touched
}

// effects folds op into n, which the caller owns.
func (n *snapshot) effects(op *Operation) []*folding {
	var touched []*folding
	byKey := make(map[string]*folding, 1)
	for i := range op.Effects {
		x := &op.Effects[i]
		if !x.foldable() {
			continue // of a newer version: kept in the log, folded after the upgrade
		}
		f := byKey[id(x.NS, x.Key)]
		if f == nil {
			e, _ := n.entries.get(id(x.NS, x.Key))
			f = beginFold(e, x.NS, x.Key)
			byKey[id(x.NS, x.Key)] = f
			touched = append(touched, f)
		}
		f.effect(op.Stamp(), x)
	}
	for _, f := range touched {
		f.finish()
		n.entries = n.entries.set(id(f.ns, f.key), f.entry)
		n.reindex(f)
	}
	return touched
}

// elementHash must be the same on every node: FNV-1a over origin, seq and the beginning of the operation's hash, so that
// chains which fork have versions that differ.
func elementHash(origin, seq uint64, hash Hash) uint64 {
	if seq == 0 {
		return 0
	}
	h := uint64(14695981039346656037)
	for _, w := range [3]uint64{origin, seq, binary.BigEndian.Uint64(hash[:8])} {
		for range 8 {
			h = (h ^ w&0xff) * 1099511628211
			w >>= 8
		}
	}
	h ^= h >> 32 // spread the upper bits into the lower
	return h * 0x9e3779b97f4a7c15
}

// reindex follows the change of one entry through every index.
func (n *snapshot) reindex(f *folding) {
	e, was := f.entry, f.before
	existed, exists := was.exists(), e.exists()
	if existed != exists {
		n.countKey(e, exists)
	}
	d, _ := n.digests.get(e.ns)
	if was != nil {
		d.sub(was.sumDoc)
		d.sub(was.sumMembers)
	}
	d.add(e.sumDoc)
	d.add(e.sumMembers)
	n.digests = n.digests.set(e.ns, d)

	for name, before := range f.memberBefore {
		now, _ := e.members.get(name)
		if name != "" && before.member != now.member {
			k := id(e.ns, name)
			list, _ := n.holders.get(k)
			n.holders = setOrDelete(n.holders, k, edit(list, e.key, now.member))
		}
	}
	if len(f.memberBefore) > 0 || existed != exists {
		n.cool(e.ns, e.key)
	}
	// What an older generation held counts as well: else the order in which things came would show.
	if newest, _ := n.modified.get(e.ns); newest < max(e.dataStamp.Time, e.deleted.Time, e.lateEdit.Time) {
		n.modified = n.modified.set(e.ns, max(e.dataStamp.Time, e.deleted.Time, e.lateEdit.Time))
	}
	switch {
	case e.ns == Hosts && f.dataTouched:
		n.reindexHost(was, e)
	case e.ns == System && f.dataTouched && isRetirement(e.key):
		n.reindexRetired(was, e)
	}
}

func (n *snapshot) countKey(e *entry, exists bool) {
	if e.key == "" {
		n.namespaces = edit(n.namespaces, e.ns, exists || e.ns == Hosts || e.ns == Tags || e.ns == System)
		return
	}
	count, _ := n.keys.get(e.ns)
	if exists {
		count++
	} else {
		count--
	}
	n.keys = n.keys.set(e.ns, count)
}

// reindexHost follows a change of a host's existence or facts.
func (n *snapshot) reindexHost(was, e *entry) {
	if was.exists() != e.exists() {
		for _, ns := range n.namespaces {
			holders, _ := n.holders.get(id(ns, e.key))
			for _, key := range holders {
				n.cool(ns, key)
			}
		}
	}
	var before, after hostFacts
	if was.exists() {
		before = factsOf(was.key, was.doc)
	}
	if e.exists() {
		after = factsOf(e.key, e.doc)
	}
	if before.active != after.active {
		if after.active {
			n.active = n.active.set(e.key, struct{}{})
		} else {
			n.active = n.active.delete(e.key)
		}
		n.cool(Tags, AllTag)
	}
	n.names = reindexClaims(n.names, e.key, before.names, after.names)
	n.addrs = reindexClaims(n.addrs, e.key, before.addrs, after.addrs)
}

func reindexClaims(t tree[string, struct{}], host string, before, after []string) tree[string, struct{}] {
	for _, c := range before {
		if !slices.Contains(after, c) {
			t = t.delete(id(c, host))
		}
	}
	for _, c := range after {
		if !slices.Contains(before, c) {
			t = t.set(id(c, host), struct{}{})
		}
	}
	return t
}

// claimants are the hosts that claim a name or address, sorted.
func claimants(t tree[string, struct{}], claim string) []string {
	var hosts []string
	for k := range t.from(id(claim, "")) {
		host, ok := strings.CutPrefix(k, claim+"\x00")
		if !ok {
			break
		}
		hosts = append(hosts, host)
	}
	return hosts
}

// cool forgets the expanded members of a key and of every key that inherits from it.
func (n *snapshot) cool(ns, key string) {
	seen := map[string]bool{}
	var up func(key string)
	up = func(key string) {
		if seen[key] {
			return
		}
		seen[key] = true
		e, _ := n.entries.get(id(ns, key))
		if e != nil && e.members.len() > 0 || ns == Tags && key == AllTag {
			n.groups = n.groups.set(id(ns, key), &group{})
		} else {
			n.groups = n.groups.delete(id(ns, key))
		}
		holders, _ := n.holders.get(id(ns, "@"+key))
		for _, h := range holders {
			up(h)
		}
	}
	up(key)
}

// hostExists reports whether name is a key of hosts.
func (s *snapshot) hostExists(name string) bool {
	e, _ := s.entries.get(id(Hosts, name))
	return e.exists()
}

// expanded is the sorted, unique hosts that a key's list leads to. Dangling members and cycles are left out.
func (s *snapshot) expanded(ns, key string) []string {
	g, ok := s.groups.get(id(ns, key))
	if !ok {
		return nil
	}
	if list := g.hosts.Load(); list != nil {
		return *list
	}
	list := []string{}
	seen := map[string]bool{}
	var down func(key string)
	down = func(key string) {
		if seen[key] {
			return
		}
		seen[key] = true
		if ns == Tags && key == AllTag {
			for h := range s.active.all() {
				list = append(list, h)
			}
			return
		}
		e, _ := s.entries.get(id(ns, key))
		if !e.exists() {
			return
		}
		for name, r := range e.members.all() {
			switch {
			case !r.member || name == "":
			case name[0] == '@':
				down(name[1:])
			case s.hostExists(name):
				list = append(list, name)
			}
		}
	}
	down(key)
	slices.Sort(list)
	list = slices.Clip(slices.Compact(list))
	g.hosts.Store(&list)
	return list
}

// ancestors calls fn once for each key of ns that holds member, directly or by inheritance.
func (s *snapshot) ancestors(ns, member string, fn func(key string)) {
	seen := map[string]bool{}
	var up func(member string)
	up = func(member string) {
		holders, _ := s.holders.get(id(ns, member))
		for _, key := range holders {
			if e, _ := s.entries.get(id(ns, key)); !seen[key] && e.exists() {
				seen[key] = true
				fn(key)
				up("@" + key)
			}
		}
	}
	up(member)
}

// edit is the sorted list with or without item; the given list is not changed.
func edit(list []string, item string, in bool) []string {
	i, found := slices.BinarySearch(list, item)
	switch {
	case in == found:
		return list
	case in:
		out := make([]string, 0, len(list)+1)
		return append(append(append(out, list[:i]...), item), list[i:]...)
	default:
		out := make([]string, 0, len(list)-1)
		return append(append(out, list[:i]...), list[i+1:]...)
	}
}

func setOrDelete(t tree[string, []string], k string, list []string) tree[string, []string] {
	if len(list) == 0 {
		return t.delete(k)
	}
	return t.set(k, list)
}

// hostFacts are what the indexes know of a host.
type hostFacts struct {
	active bool
	names  []string
	addrs  []string
}

func factsOf(key string, d Document) hostFacts {
	f := hostFacts{active: !strings.EqualFold(d.Text("Status"), "retired")}
	name := func(s string) {
		if s = NormalName(s); s != "" && !slices.Contains(f.names, s) {
			f.names = append(f.names, s)
		}
	}
	addr := func(s string) {
		if s = NormalAddr(s); s != "" && !slices.Contains(f.addrs, s) {
			f.addrs = append(f.addrs, s)
		}
	}
	network := d.At("Network")
	name(key)
	name(network.Text("FQDN"))
	cname := network.At("cname")
	for s := range strings.FieldsFuncSeq(cname.Text(), func(r rune) bool { return r == ',' || r == ' ' }) {
		name(s)
	}
	for _, item := range cname.Items() {
		name(item.Text())
	}
	addr(network.Text("IP"))
	addr(network.Text("IPv6"))
	for _, i := range d.At("Interfaces").Keys() {
		addr(i.Text("IP"))
		addr(i.Text("IPv6"))
	}
	return f
}

// NormalName is a DNS name in lower case without its last dot. Index keys are in this form.
func NormalName(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
