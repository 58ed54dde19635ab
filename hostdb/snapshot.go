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
	var byKey map[string]*folding // made for the second key: most operations touch one
	var f *folding
	for i := range op.Effects {
		x := &op.Effects[i]
		if !x.foldable() {
			continue // of a newer version: kept in the log, folded after the upgrade
		}
		if f == nil || x.Key != f.key || x.NS != f.ns {
			if f != nil && byKey == nil {
				byKey = map[string]*folding{id(f.ns, f.key): f}
			}
			key, last := id(x.NS, x.Key), f
			if f = byKey[key]; f == nil {
				e, _ := n.entries.get(key)
				f = beginFold(e, x.NS, x.Key)
				f.expect(last, op.Effects[i:])
				if byKey != nil {
					byKey[key] = f
				}
				touched = append(touched, f)
			}
		}
		f.effect(op.Stamp(), x)
	}
	n.put(touched)
	return touched
}

// put finishes foldings, each of another key, and has n show them.
func (n *snapshot) put(touched []*folding) {
	entries := make(map[string]*entry, len(touched))
	for _, f := range touched {
		entries[id(f.ns, f.key)] = f.finish()
	}
	n.entries = n.entries.with(treeOfMap(entries))
	n.reindex(touched...)
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
