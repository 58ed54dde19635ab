package zone

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// meshSource is the source of claims that follow from the mesh.
const meshSource = "mesh"

// manyHosts is how many changed hosts make it cheaper to void all live names than to look for theirs.
const manyHosts = 256

// Compile makes the zones of two views. It never fails: what cannot be served is in Problems.
func Compile(db hostdb.View, m mesh.View, opts Options) *Zones {
	domain, err := parseName(opts.Domain)
	if err != nil || domain == "\x00" {
		domain, _ = parseName(DefaultOptions().Domain)
	}
	z := &Zones{opts: opts, domain: domain, ordered: new(atomic.Bool), gens: new(atomic.Uint64)}
	return z.rebuild(db, m, scanFeeders(db))
}

// Update makes the zones of newer views, at the cost of what changed since those of z. The result equals what Compile
// would make, but for what was kept of keys that could not be compiled.
func (z *Zones) Update(db hostdb.View, m mesh.View) *Zones {
	var hosts, tags, lives []string // changed: data of hosts and tags; answers of live names
	for c := range db.Changes(z.db) {
		switch {
		case c.NS == hostdb.Hosts && c.Data:
			hosts = append(hosts, c.Key)
		case c.NS == hostdb.Tags && (c.Data || c.Members):
			if c.Data {
				tags = append(tags, c.Key)
			}
			if c.Members {
				lives = append(lives, c.Key)
			}
		}
	}
	feeders := z.feeders
	for _, tag := range tags {
		f, was := parseFeeder(db, tag), z.feeders[tag]
		if !was.sameFrame(f) {
			return z.rebuild(db, m, scanFeeders(db))
		}
		if f != nil && !f.doc.Equal(was.doc) {
			if len(feeders) > 0 && feeders[tag] == z.feeders[tag] {
				feeders = maps.Clone(feeders)
			}
			feeders[tag] = f
		}
	}
	b := z.begin(db, m, feeders)
	b.indexMachines(hosts)
	stopped := b.machinesChanged()
	lives = append(lives, b.checksChanged()...)
	for _, tag := range z.order {
		hosts = append(hosts, diffSorted(z.db.Members(hostdb.Tags, tag), db.Members(hostdb.Tags, tag))...)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	if len(hosts)+len(stopped) > manyHosts {
		b.next.voidLive()
	} else {
		for _, h := range stopped {
			lives = append(lives, db.Parents(h, hostdb.Tags)...)
		}
		for _, h := range hosts {
			lives = append(lives, z.db.Parents(h, hostdb.Tags)...)
			lives = append(lives, db.Parents(h, hostdb.Tags)...)
		}
	}
	touched := b.affected(tags, lives)
	for _, tag := range touched {
		b.compile(hostdb.Tags+"/"+tag, func() contribution { return b.tag(tag) })
	}
	// Sections apart: one may be a whole zone, which is not to be read again for a member of its tag.
	for _, tag := range b.sections(tags, touched, len(hosts) > manyHosts) {
		b.compile(hostdb.Tags+"/"+tag+sectionPart, func() contribution { return b.section(tag) })
	}
	for _, h := range hosts {
		b.compile(hostdb.Hosts+"/"+h, func() contribution { return b.host(h, b.fedBy(h)) })
	}
	if b.meshChanged() || slices.ContainsFunc(hosts, func(h string) bool { _, ok := m.ByName(h); return ok }) {
		b.next.voidLive()
		b.compile(meshSource, b.members)
	} else if b.next.ordered.Load() && b.moved() {
		b.next.voidLive()
	}
	return b.finish()
}

// scanFeeders reads the DNS sections of all tags.
func scanFeeders(db hostdb.View) map[string]*feeder {
	out := map[string]*feeder{}
	for tag := range db.Keys(hostdb.Tags) {
		if f := parseFeeder(db, tag); f != nil {
			out[tag] = f
		}
	}
	return out
}

// batch makes the next Zones.
type batch struct {
	*edit
	old, next *Zones
	fresh     bool // the zones began empty
	dirty     map[place]*node
	hasher    hasher
}

type place struct{ zone, owner name }

func (z *Zones) begin(db hostdb.View, m mesh.View, feeders map[string]*feeder) *batch {
	next := *z
	next.db, next.mesh, next.feeders, next.problems = db, m, feeders, &problemCache{}
	next.zones = maps.Clone(z.zones)
	next.down, next.seen = downHosts(z, m), seenMesh(z, m)
	return &batch{edit: &edit{}, old: z, next: &next, dirty: map[place]*node{}}
}

// rebuild compiles everything anew. Of z only serial numbers, and what cannot be compiled any more, is kept.
func (z *Zones) rebuild(db hostdb.View, m mesh.View, feeders map[string]*feeder) *Zones {
	b := z.begin(db, m, feeders)
	b.fresh = true
	next := b.next
	next.order = slices.Sorted(maps.Keys(feeders))
	next.zones, next.sources = map[name]*zone{}, pmap[*contribution]{}
	next.voidLive()
	b.allMachines()
	b.allChecks()
	b.newZone(z.domain)
	for _, tag := range next.order {
		for _, origin := range feeders[tag].zones() {
			zn := b.newZone(origin)
			zn.feeders = append(zn.feeders, tag)
		}
	}
	fed := map[string][]*feeder{}
	for _, tag := range next.order {
		for _, h := range db.Members(hostdb.Tags, tag) {
			fed[h] = append(fed[h], feeders[tag])
		}
	}
	for tag := range db.Keys(hostdb.Tags) {
		b.compile(hostdb.Tags+"/"+tag, func() contribution { return b.tag(tag) })
	}
	for _, tag := range next.order {
		b.compile(hostdb.Tags+"/"+tag+sectionPart, func() contribution { return b.section(tag) })
	}
	for h, list := range fed {
		b.compile(hostdb.Hosts+"/"+h, func() contribution { return b.host(h, list) })
	}
	b.compile(meshSource, b.members)
	return b.finish()
}

func (b *batch) newZone(origin name) *zone {
	if zn := b.next.zones[origin]; zn != nil {
		return zn
	}
	zn := &zone{by: b.edit, origin: origin, text: origin.String()}
	if was := b.old.zones[origin]; was != nil {
		zn.serial, zn.hash, zn.changed = was.serial, was.hash, was.changed
	}
	b.next.zones[origin] = zn
	return zn
}

// fedBy are the feeders that have host among their members.
func (b *batch) fedBy(host string) []*feeder {
	var out []*feeder
	for _, tag := range b.next.order {
		if _, ok := slices.BinarySearch(b.next.db.Members(hostdb.Tags, tag), host); ok {
			out = append(out, b.next.feeders[tag])
		}
	}
	return out
}

// affected are the tags whose contribution must be made anew: those with new data, those with new members, and those
// that inherit from the latter.
func (b *batch) affected(tags, lives []string) []string {
	seen := map[string]bool{}
	var up func(tag string)
	up = func(tag string) {
		if seen[tag] {
			return
		}
		seen[tag] = true
		for _, db := range []hostdb.View{b.old.db, b.next.db} {
			for _, t := range db.Holders(hostdb.Tags, "@"+tag) {
				up(t)
			}
		}
	}
	for _, tag := range lives {
		up(tag)
	}
	for _, tag := range tags {
		seen[tag] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// sectionPart ends the source that is the DNS section of a tag; what stands before it is the key of HostDB.
const sectionPart = "\x00DNS"

// compile replaces what a source contributes. One that panics keeps what it had, and is named.
func (b *batch) compile(source string, make func() contribution) {
	was, _ := b.next.sources.get(source)
	key := strings.TrimSuffix(source, sectionPart)
	now, err := b.attempt(key, make)
	now.items = fitted(now.items)
	if err != nil {
		if kept, ok := b.old.sources.get(source); ok {
			now.items = kept.items
		}
		now.problems = []Problem{{Key: key, Reason: fmt.Sprintf("it could not be compiled, its last good records are kept: %v", err)}}
	}
	if was == nil && len(now.items) == 0 && len(now.problems) == 0 {
		return
	}
	if was != nil && was.equal(&now) {
		return
	}
	if was != nil {
		for _, it := range was.items {
			if n := b.node(place{it.zone, it.owner}); n != nil {
				n.remove(it.claim)
			}
		}
	}
	for _, it := range now.items {
		if n := b.node(place{it.zone, it.owner}); n != nil {
			n.add(it.claim)
		}
	}
	if len(now.items) == 0 && len(now.problems) == 0 {
		b.next.sources = b.next.sources.delete(b.edit, source)
		return
	}
	b.next.sources = b.next.sources.set(b.edit, source, &now)
}

func (b *batch) attempt(source string, make func() contribution) (c contribution, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = contribution{}, fmt.Errorf("panic: %v at %s", p, panicSite(debug.Stack()))
		}
	}()
	if b.next.opts.probe != nil {
		b.next.opts.probe(source)
	}
	return make(), nil
}

// panicSite is the innermost function of ours on a stack that panicked.
func panicSite(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	for line := range strings.Lines(after) {
		if strings.HasPrefix(line, "hostmesh/") {
			return strings.TrimSpace(line)
		}
	}
	return "unknown place"
}

func (c *contribution) equal(o *contribution) bool {
	return slices.EqualFunc(c.items, o.items, func(a, b item) bool {
		return a.zone == b.zone && a.owner == b.owner && a.claim.live == b.claim.live && a.claim.local == b.claim.local &&
			a.claim.rank == b.claim.rank && a.claim.srv == b.claim.srv && a.claim.alias == b.claim.alias && a.claim.sum() == b.claim.sum()
	}) && slices.Equal(c.problems, o.problems)
}

// zone is a zone of the next Zones, to be changed in place; nil when it is none.
func (b *batch) zone(origin name) *zone {
	zn := b.next.zones[origin]
	if zn != nil && zn.by != b.edit {
		c := *zn
		c.by = b.edit
		zn = &c
		b.next.zones[origin] = zn
	}
	return zn
}

// node is a node of the next Zones, to be changed in place and settled at the end.
func (b *batch) node(p place) *node {
	if n := b.dirty[p]; n != nil {
		return n
	}
	zn := b.zone(p.zone)
	if zn == nil || !p.owner.within(p.zone) {
		return nil // of a contribution that was kept although the zone is gone
	}
	n := b.own(zn, p.owner)
	b.dirty[p] = n
	return n
}

func (b *batch) own(zn *zone, owner name) *node {
	n, ok := zn.nodes.get(string(owner))
	if ok && n.by == b.edit {
		return n
	}
	c := &node{by: b.edit}
	if ok {
		*c = *n
		c.by, c.claims = b.edit, slices.Clone(n.claims)
	}
	zn.nodes = zn.nodes.set(b.edit, string(owner), c)
	return c
}

// finish settles the names that changed and seals their zones.
func (b *batch) finish() *Zones {
	none := &node{}
	for p, now := range b.dirty {
		zn := b.next.zones[p.zone]
		was := none
		if o := b.old.zones[p.zone]; o != nil && !b.fresh {
			if n, ok := o.nodes.get(string(p.owner)); ok {
				was = n
			}
		}
		before := *was
		zn.sum = zn.sum.minus(before.settle(p.zone, p.owner, &b.hasher)).plus(now.settle(p.zone, p.owner, &b.hasher))
		zn.count(was, -1, p)
		zn.count(now, +1, p)
	}
	for p, n := range b.dirty {
		if !n.listed || !n.exists() {
			b.list(b.next.zones[p.zone], p.owner)
		}
	}
	for p, n := range b.dirty {
		if n.exists() {
			zn := b.next.zones[p.zone]
			zn.nodes = zn.nodes.settle(b.edit, string(p.owner), n)
		}
	}
	if b.fresh {
		b.next.sources.fit(b.edit)
		for _, zn := range b.next.zones {
			zn.nodes.fit(b.edit)
		}
	}
	version := b.next.Version()
	for origin, zn := range b.next.zones {
		if zn.by == b.edit || b.feederChanged(zn) {
			zn = b.zone(origin)
			was, since := zn.hash, zn.changed
			b.next.seal(zn, version)
			if zn.hash == was {
				zn.changed = since
			}
		}
	}
	return b.next
}

// feederChanged reports whether the tag that gives zn its SOA was read anew.
func (b *batch) feederChanged(zn *zone) bool {
	return len(zn.feeders) > 0 && b.old.feeders[zn.feeders[0]] != b.next.feeders[zn.feeders[0]]
}

func (zn *zone) count(n *node, by int, p place) {
	var buf [1]rrset
	for _, s := range n.sets(&buf) {
		zn.records += by * len(s.rrs)
	}
	if p.owner != p.zone && n.set(dns.TypeNS) != nil {
		zn.cuts += by
	}
	if p.owner.wildcard() && len(n.claims) > 0 {
		zn.wild += by
	}
}

// list tells the ancestors of a name whether it is there now. Names without data and children are dropped.
func (b *batch) list(zn *zone, owner name) {
	for owner != zn.origin {
		n := b.own(zn, owner)
		there, was := n.exists(), n.listed
		n.listed = there
		if !there {
			zn.nodes = zn.nodes.delete(b.edit, string(owner))
		}
		if there == was {
			return
		}
		owner = owner.parent()
		if up := b.own(zn, owner); there {
			up.children++
		} else {
			up.children--
		}
	}
}

// diffSorted are the texts that only one of two sorted lists has.
func diffSorted(a, b []string) []string {
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return nil
	}
	var out []string
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0], b[0]); {
		case c == 0:
			a, b = a[1:], b[1:]
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		default:
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
