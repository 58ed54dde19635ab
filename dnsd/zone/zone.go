package zone

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// ErrNoZone is returned when a zone is named that is not served.
var ErrNoZone = errors.New("no such zone")

// Options are what a compilation needs beside the views.
type Options struct {
	// Domain is where the live names of the mesh stand.
	Domain string
	// LiveTTL is the time to live of live names in seconds: how long a resolver may go on with a host that failed.
	LiveTTL uint32

	probe func(source string) // tests: called before a source is compiled
}

// DefaultOptions are mesh.internal, and five seconds: about what the mesh itself needs to see a failure.
func DefaultOptions() Options { return Options{Domain: "mesh.internal", LiveTTL: 5} }

// Zones is everything that can be answered at one version of HostDB and one view of the mesh. It is immutable and safe
// for any number of readers; only what <tag>.tag answers is made on first use and kept.
type Zones struct {
	opts   Options
	domain name
	db     hostdb.View
	mesh   mesh.View

	feeders  map[string]*feeder // by tag
	order    []string           // tags of feeders, sorted
	zones    map[name]*zone
	sources  pmap[*contribution] // by key of HostDB, sections of tags apart
	down     map[string]bool     // hosts that the mesh knows as failed or left
	seen     mesh.View           // by which machines are judged
	machines pmap[[]string]      // hosts by the UUID of their virtual machine
	checked  pmap[string]        // members of balanced tags that do not work, by memberKey: why
	liveGen  uint64              // what live names kept is of this generation or void
	gens     *atomic.Uint64      // generations that were given out
	ordered  *atomic.Bool        // some live name was answered by distance
	problems *problemCache
}

// zone is one zone. Immutable once the batch that made it is over.
type zone struct {
	by      *edit
	origin  name
	text    string
	feeders []string // tags, sorted; the first is the one that gives SOA and NS
	nodes   nodeMap
	sum     Hash // of the records, without the SOA
	cuts    int  // names below the origin with NS
	wild    int  // wildcards
	records int
	serial  uint32
	soa     *dns.SOA
	soaWire string // soa without its owner
	hash    Hash   // sum and the SOA
	changed string // version of HostDB with which hash came up here
}

// contribution is what one key of HostDB puts into all zones.
type contribution struct {
	items    []item
	problems []Problem
}

// Problem is something that cannot be served as it was written.
type Problem struct {
	Zone   string `json:"zone,omitempty"` // origin; empty when it concerns none in particular
	Key    string `json:"key"`            // the key of HostDB to look at: hosts/x or tags/y
	Name   string `json:"name,omitempty"` // the DNS name
	Reason string `json:"reason"`
	Served bool   `json:"served,omitempty"` // everything is answered all the same: it is for a person to know
}

func compareProblems(a, b Problem) int {
	return cmp.Or(strings.Compare(a.Zone, b.Zone), strings.Compare(a.Key, b.Key), strings.Compare(a.Name, b.Name), strings.Compare(a.Reason, b.Reason))
}

type problemCache struct {
	once sync.Once
	list []Problem
}

// Info describes one zone.
type Info struct {
	Origin       string   `json:"zone"`          // with the last dot
	Tags         []string `json:"tags"`          // that feed it; none for the mesh's own domain
	Serial       uint32   `json:"serial"`        // 0 until WithSerials gave one
	Hash         Hash     `json:"hash"`          //
	Records      int      `json:"records"`       // without SOA and live names
	Changed      string   `json:"changed"`       // version of HostDB at which this node saw the content change last
	Transferable bool     `json:"transferable"`  // its content is a function of HostDB alone: it is not at or below the domain of the mesh
	Live         bool     `json:"live,omitzero"` // it holds the live names
}

// voidLive begins a new generation, which no other Zones of this line has.
func (z *Zones) voidLive() { z.liveGen = z.gens.Add(1) }

// Version is the version of HostDB that z was compiled from.
func (z *Zones) Version() string { return z.db.Version().String() }

// Domain is the origin of the live names, with the last dot.
func (z *Zones) Domain() string { return z.domain.String() }

// Infos describes every zone, by origin.
func (z *Zones) Infos() []Info {
	out := make([]Info, 0, len(z.zones))
	for _, zn := range z.sorted() {
		out = append(out, z.info(zn))
	}
	return out
}

// Info describes one zone.
func (z *Zones) Info(origin string) (Info, bool) {
	zn := z.byText(origin)
	if zn == nil {
		return Info{}, false
	}
	return z.info(zn), true
}

func (z *Zones) info(zn *zone) Info {
	live := zn.origin == z.domain
	return Info{Origin: zn.text, Tags: slices.Clone(zn.feeders), Serial: zn.serial, Hash: zn.hash, Records: zn.records,
		Changed: zn.changed, Transferable: !zn.origin.within(z.domain), Live: live}
}

func (z *Zones) sorted() []*zone {
	return slices.SortedFunc(maps.Values(z.zones), func(a, b *zone) int { return strings.Compare(a.text, b.text) })
}

func (z *Zones) byText(origin string) *zone {
	n, err := parseName(origin)
	if err != nil {
		return nil
	}
	return z.zones[n]
}

// deepest is the zone that n belongs to; nil when we do not serve it.
func (z *Zones) deepest(n name) *zone {
	for ; n != ""; n = n.parent() {
		if zn := z.zones[n]; zn != nil {
			return zn
		}
	}
	return nil
}

// WithSerials is z with new serial numbers; serial is called for each zone. It shares everything else with z.
func (z *Zones) WithSerials(serial func(origin string, content Hash) uint32) *Zones {
	c := *z
	c.zones = make(map[name]*zone, len(z.zones))
	for n, zn := range z.zones {
		if s := serial(zn.text, zn.hash); s != zn.serial {
			zc := *zn
			zc.serial, zc.by = s, nil
			zc.soa = withSerial(zn.soa, s)
			zc.soaWire = restOf(zc.soa)
			zn = &zc
		}
		c.zones[n] = zn
	}
	return &c
}

func withSerial(rr *dns.SOA, serial uint32) *dns.SOA {
	c := *rr
	c.Serial = serial
	return &c
}

// Problems lists what could not be served as it was written, sorted. The list is shared.
func (z *Zones) Problems() []Problem {
	z.problems.once.Do(func() { z.problems.list = z.collectProblems() })
	return z.problems.list
}

func (z *Zones) collectProblems() []Problem {
	var out []Problem
	for _, tag := range z.order {
		out = append(out, z.feeders[tag].problems...)
	}
	for _, c := range z.sources.all() {
		out = append(out, c.problems...)
	}
	for _, zn := range z.zones {
		if len(zn.feeders) > 1 && !isReverse(zn.origin) {
			for _, tag := range zn.feeders[1:] {
				out = append(out, Problem{Zone: zn.text, Key: hostdb.Tags + "/" + tag, Served: true,
					Reason: "tag " + zn.feeders[0] + " has this zone already: all records are served, with SOA and NS of " + zn.feeders[0]})
			}
		}
		out = append(out, z.transferProblems(zn)...)
		for n, nd := range zn.nodes.all() {
			out = append(out, nd.problems()...)
			out = append(out, z.targetProblems(zn, name(n), nd)...)
		}
		if up := z.deepest(zn.origin.parent()); up != nil && !isReverse(zn.origin) {
			if cut, ok := up.nodes.get(string(zn.origin)); !ok || cut.set(dns.TypeNS) == nil {
				out = append(out, Problem{Zone: up.text, Key: up.owner(), Name: zn.text, Served: true,
					Reason: "the zone below is ours too, but this one does not delegate it: servers other than ours need an NS record here"})
			}
		}
	}
	slices.SortFunc(out, compareProblems)
	return slices.Compact(out)
}

// transferProblems names tags that want a zone transferred otherwise than its first tag does: what all of them allow counts.
// Of keys any two that differ are one too many, whichever tags name them.
func (z *Zones) transferProblems(zn *zone) []Problem {
	if len(zn.feeders) < 2 {
		return nil
	}
	var out []Problem
	what := "by both"
	if n := len(zn.feeders); n > 2 {
		what = fmt.Sprintf("by all %d tags that feed it", n)
	}
	first := z.feeders[zn.feeders[0]].doc.At("Transfer")
	keyTag, key := "", "" // the first that is named
	for i, tag := range zn.feeders {
		own := z.feeders[tag].doc.At("Transfer")
		k := strings.TrimSuffix(strings.TrimSpace(own.Text("Key")), ".")
		p := Problem{Zone: zn.text, Key: hostdb.Tags + "/" + tag}
		switch {
		case key != "" && k != "" && !strings.EqualFold(k, key):
			p.Reason = "DNS/Transfer/Key is another one than that of tag " + keyTag + ", which feeds the zone too: nobody may transfer it"
		case i > 0 && !own.Equal(first):
			p.Served, p.Reason = true, "DNS/Transfer is another one than that of tag "+zn.feeders[0]+", which feeds the zone too: only who may "+what+" may transfer it"
		}
		if p.Reason != "" {
			out = append(out, p)
		}
		if key == "" {
			keyTag, key = tag, k
		}
	}
	return out
}

func isReverse(n name) bool {
	return n.within("\x07in-addr\x04arpa\x00") || n.within("\x03ip6\x04arpa\x00")
}

// owner is the key that gives the zone its SOA.
func (zn *zone) owner() string {
	if len(zn.feeders) == 0 {
		return meshSource
	}
	return hostdb.Tags + "/" + zn.feeders[0]
}

// targetProblems names records that point at names of ours which are not there.
func (z *Zones) targetProblems(zn *zone, owner name, nd *node) []Problem {
	var out []Problem
	ours := "ns." + z.domain.String() // has addresses as soon as there is a mesh
	for _, c := range nd.claims {
		if c.live != nil || c.source == meshSource {
			continue
		}
		target, addresses := targetOf(c.rr())
		n, err := parseName(target)
		if target == "" || target == "." || target == ours || err != nil {
			continue
		}
		reason := ""
		switch r := z.find(n, 0); {
		case r.zone == nil || r.cut != nil && r.zone.origin == zn.origin && addresses && r.node != nil:
			// not ours, or glue
		case r.node == nil && n.within(zn.origin[:len(zn.origin)-1]+zn.origin):
			reason = "it points at " + target + ", which does not exist: a dot is missing at its end"
		case r.node == nil && r.cut == nil:
			reason = "it points at " + target + ", which does not exist"
		case !addresses && z.loops(owner):
			reason = "the aliases form a loop, or a chain of more than " + strconv.Itoa(maxChain)
		case r.node == nil || !addresses || r.node.isLive():
		case r.node.set(dns.TypeCNAME) != nil:
			reason = "it points at " + target + ", which is an alias (RFC 2181 section 10.3)"
		case r.node.set(dns.TypeA) == nil && r.node.set(dns.TypeAAAA) == nil:
			reason = "it points at " + target + ", which has no address"
		}
		if reason != "" {
			out = append(out, Problem{Zone: zn.text, Key: c.source, Name: owner.String(), Reason: dns.TypeToString[c.typ()] + ": " + reason})
		}
	}
	return out
}

// loops reports whether the aliases from n on do not come to an end.
func (z *Zones) loops(n name) bool {
	for range maxChain {
		r := z.find(n, 0)
		if r.node == nil || r.cut != nil || len(r.node.set(dns.TypeCNAME)) == 0 {
			return false
		}
		n, _ = parseName(r.node.set(dns.TypeCNAME)[0].(*dns.CNAME).Target)
	}
	return true
}

// targetOf is the name that a record points at, and whether it must have addresses.
func targetOf(rr dns.RR) (target string, addresses bool) {
	switch rr := rr.(type) {
	case *dns.CNAME:
		return rr.Target, false
	case *dns.NS:
		return rr.Ns, true
	case *dns.MX:
		return rr.Mx, true
	case *dns.SRV:
		return rr.Target, true
	}
	return "", false
}

// lowBits is base with some bits of the hash in its lowest ones, at most limit and never more than an eighth of it, so
// that two contents under one serial are told apart by their SOA. used is how many it took.
func lowBits(base uint32, limit int, hash uint64) (v uint32, used int) {
	used = max(0, min(limit, bits.Len32(base)-3))
	mask := uint32(1)<<used - 1
	return base&^mask | uint32(hash)&mask, used
}

// seal makes the SOA and the hash of a zone whose records are settled.
func (z *Zones) seal(zn *zone, version string) {
	var s soa
	ttl := z.opts.LiveTTL
	mname := "ns." + z.domain.String()
	if len(zn.feeders) > 0 {
		f := z.feeders[zn.feeders[0]]
		s, ttl = f.soa, f.ttl
		if len(f.ns) > 0 {
			mname = f.ns[0]
		}
	}
	rr := &dns.SOA{
		Hdr:     dns.RR_Header{Name: zn.text, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      cmp.Or(s.mname, mname),
		Mbox:    cmp.Or(s.rname, "hostmaster."+zn.text),
		Refresh: cmp.Or(s.refresh, defaultRefresh),
		Retry:   cmp.Or(s.retry, defaultRetry),
		Expire:  cmp.Or(s.expire, defaultExpire),
		Minttl:  cmp.Or(s.minimum, min(ttl, maxMinimum)),
	}
	if len(rr.Mbox) > maxNameText {
		rr.Mbox = "." // RFC 2142 wants a mailbox; there is no room for one
	}
	zn.hash = zn.sum
	if h, err := new(hasher).hash(rr); err == nil {
		zn.hash = zn.sum.plus(h)
	}
	rest, used := zn.hash[3], 0
	rr.Refresh, used = lowBits(rr.Refresh, 8, rest)
	rest >>= used
	rr.Retry, used = lowBits(rr.Retry, 6, rest)
	rest >>= used
	rr.Expire, _ = lowBits(rr.Expire, 12, rest)
	rr.Serial = zn.serial
	zn.soa, zn.soaWire, zn.changed = rr, restOf(rr), version
}

// names yields the existing names of a zone in canonical order (RFC 4034 section 6.1).
func (zn *zone) names() iter.Seq2[name, *node] {
	type entry struct {
		n   name
		key string
		nd  *node
	}
	list := make([]entry, 0, zn.nodes.len())
	for k, nd := range zn.nodes.all() {
		list = append(list, entry{name(k), canonical(name(k)), nd})
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return func(yield func(name, *node) bool) {
		for _, e := range list {
			if !yield(e.n, e.nd) {
				return
			}
		}
	}
}

// canonical is a text that sorts as RFC 4034 section 6.1 wants: labels from the right, each ended by a byte that sorts
// before all others.
func canonical(n name) string {
	var labels []string
	for ; len(n) > 1; n = n.parent() {
		label := string(n[1 : 1+n[0]])
		if strings.ContainsAny(label, "\x00\x01") {
			label = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02").Replace(label)
		}
		labels = append(labels, label)
	}
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}
