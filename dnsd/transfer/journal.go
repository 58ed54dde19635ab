package transfer

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
)

// Limits bound what a journal remembers.
type Limits struct {
	// Steps of one zone: so many changes back a secondary may be and still get the difference.
	Steps int
	// Records that the steps of one zone may have beyond as many as the zone itself. A longer way is no shorter than the
	// whole zone.
	Records int
	// Total is of the records of all zones.
	Total int
}

// DefaultLimits returns the defaults.
func DefaultLimits() Limits {
	return Limits{
		Steps:   4096,    // more than an hour of a change a second
		Records: 1024,    // so that small zones have a past as well
		Total:   200_000, // some tens of megabytes at worst; a record that is still served costs a pointer
	}
}

// Journal knows what zones contained under earlier serials of this run, as differences to the next. It keeps those of zones
// that somebody may transfer. All methods are safe for concurrent use.
type Journal struct {
	limits Limits

	mu    sync.Mutex // guards the fields below
	now   *zone.Zones
	zones map[string]*past
	total int // records of all steps
}

// past are the steps that led to what a zone contains now, oldest first.
type past struct {
	steps   []step
	records int
}

// step leads from the content that from is the SOA of to that of the next step, or to the present.
type step struct {
	from           *dns.SOA
	removed, added []dns.RR
}

func (s step) size() int { return len(s.removed) + len(s.added) + 1 }

// NewJournal knows nothing yet.
func NewJournal(l Limits) *Journal { return &Journal{limits: l, zones: map[string]*past{}} }

// newer reports whether serial a comes after b (RFC 1982 section 3.2). Where that is undefined it does not.
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }

// Publish tells what is served from now on. keep says of which zones the past is kept. It returns the origins of those zones
// whose SOA is another one now, new ones among them.
func (j *Journal) Publish(z *zone.Zones, keep func(origin string) bool) (changed []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	was := j.now
	j.now = z
	served := map[string]bool{}
	for _, info := range z.Infos() {
		origin := info.Origin
		served[origin] = true
		after := z.SOA(origin)
		var before *dns.SOA
		if was != nil {
			before = was.SOA(origin)
		}
		if before == nil || *before != *after {
			changed = append(changed, origin)
		}
		if !info.Transferable || !keep(origin) {
			j.forget(origin)
			continue
		}
		switch {
		case before == nil || *before == *after:
		case !newer(after.Serial, before.Serial):
			j.forget(origin) // it cannot be: but no journal is better than one that lies
		default:
			s := step{from: before}
			s.removed, s.added = z.Diff(was, origin)
			j.add(origin, s, info.Records)
		}
	}
	for origin := range j.zones {
		if !served[origin] {
			j.forget(origin)
		}
	}
	return changed
}

// add appends a step and drops the oldest ones that are too many. The caller holds mu.
func (j *Journal) add(origin string, s step, zoneRecords int) {
	p := j.zones[origin]
	if p == nil {
		p = &past{}
		j.zones[origin] = p
	}
	p.steps = append(p.steps, s)
	p.records += s.size()
	j.total += s.size()
	for len(p.steps) > j.limits.Steps || len(p.steps) > 0 && p.records > j.limits.Records+zoneRecords {
		j.dropOldest(p)
	}
	for j.total > j.limits.Total {
		largest := p
		for _, o := range j.zones {
			if o.records > largest.records {
				largest = o
			}
		}
		j.dropOldest(largest)
	}
}

func (j *Journal) dropOldest(p *past) {
	n := p.steps[0].size()
	p.steps[0] = step{} // the array behind it lives on
	p.steps = p.steps[1:]
	p.records -= n
	j.total -= n
}

func (j *Journal) forget(origin string) {
	if p := j.zones[origin]; p != nil {
		j.total -= p.records
		delete(j.zones, origin)
	}
}

// Zones is what Publish told last; nil before.
func (j *Journal) Zones() *zone.Zones {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
}

// Size is how many steps and records are kept, of all zones.
func (j *Journal) Size() (steps, records int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.zones {
		steps += len(p.steps)
	}
	return steps, j.total
}

// What a question for a difference comes to.
type outcome string

const (
	upToDate   outcome = "current"     // the asker has what we have, or something newer
	difference outcome = "incremental" // steps lead from what the asker has to what we have
	unknown    outcome = "unknown"     // the journal does not know the asker's serial
	otherZone  outcome = "other"       // it does, with another content
)

// since finds what leads from a secondary's content, as the SOA in its question tells it, to what is served.
func (j *Journal) since(origin string, has *dns.SOA) (z *zone.Zones, steps []step, o outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now.SOA(origin)
	switch {
	case now == nil:
		return j.now, nil, unknown
	case has.Serial == now.Serial && sameContent(has, now):
		return j.now, nil, upToDate
	case has.Serial == now.Serial:
		return j.now, nil, otherZone
	case !newer(now.Serial, has.Serial):
		return j.now, nil, upToDate // RFC 1995 section 2; after a cut the others are behind us or we behind them
	}
	if p := j.zones[origin]; p != nil {
		i, found := slices.BinarySearchFunc(p.steps, has.Serial, func(s step, serial uint32) int {
			return cmp.Compare(int32(s.from.Serial-serial), 0)
		})
		if found && sameContent(has, p.steps[i].from) {
			return j.now, slices.Clone(p.steps[i:]), difference
		}
		if found {
			return j.now, nil, otherZone
		}
	}
	return j.now, nil, unknown
}

// sameContent reports whether two SOAs of one serial name one content: some bits of its hash ride in these fields.
func sameContent(a, b *dns.SOA) bool {
	return a.Refresh == b.Refresh && a.Retry == b.Retry && a.Expire == b.Expire && a.Minttl == b.Minttl &&
		strings.EqualFold(a.Ns, b.Ns) && strings.EqualFold(a.Mbox, b.Mbox)
}

// condense makes one step of many (RFC 1995 section 5): what came and went is not in it.
func condense(steps []step) (removed, added []dns.RR) {
	if len(steps) == 1 {
		return steps[0].removed, steps[0].added
	}
	type turn struct {
		rr dns.RR
		by int
	}
	net := map[string]*turn{}
	var order []*turn
	count := func(rr dns.RR, by int) {
		wire := string(wireOf(rr))
		t := net[wire]
		if t == nil {
			t = &turn{rr: rr}
			net[wire] = t
			order = append(order, t)
		}
		t.by += by
	}
	for _, s := range steps {
		for _, rr := range s.removed {
			count(rr, -1)
		}
		for _, rr := range s.added {
			count(rr, +1)
		}
	}
	for _, t := range order {
		switch {
		case t.by < 0:
			removed = append(removed, t.rr)
		case t.by > 0:
			added = append(added, t.rr)
		}
	}
	return removed, added
}

// wireOf is a record in wire form, without compression: equal records have equal ones.
func wireOf(rr dns.RR) []byte {
	wire, err := zone.Wire(rr)
	if err != nil {
		return []byte(rr.String()) // it cannot be sent either, which dnsd/zone made sure of
	}
	return wire
}
