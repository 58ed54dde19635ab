package zone

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Who is near whom is known of nodes alone. A member of a tag stands where its own node is, or where the node is whose address
// shares the longest prefix with its own; and so does who asks.
const (
	nearPrefix4 = 16 // bits that an address must share with a node's to stand with it: a site's network
	nearPrefix6 = 32 // the same: what a site is given
	maxNear     = 64 // members of each family that are put into order for each place: nobody tries more
	maxOrders   = 16 // places for which a live name keeps its answers: a node has its own clients, and those of few others
)

// Nearer by less than this is not nearer: estimates are no better, and the load is to be shared.
const nearEnough = time.Millisecond

// station is where a node stands.
type station struct {
	addr netip.Addr
	id   string
}

// stations of a mesh, by address.
func (z *Zones) findStations() []station {
	var out []station
	for _, m := range z.mesh.Members() {
		if m.Addr.IsValid() {
			out = append(out, station{m.Addr.Unmap().WithZone(""), m.ID})
		}
	}
	slices.SortFunc(out, func(a, b station) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.id, b.id)) })
	return out
}

// stationOf is the index of the station that shares the longest prefix with an address; -1 when none shares enough. Of
// equals it is the first.
func stationOf(list []station, a netip.Addr) int {
	a = a.Unmap()
	best, longest := -1, nearPrefix4
	if a.Is6() {
		longest = nearPrefix6
	}
	at, _ := slices.BinarySearchFunc(list, a, func(s station, a netip.Addr) int { return s.addr.Compare(a) })
	for _, i := range [...]int{at - 1, at} { // in order, neighbours share the most
		if i < 0 || i >= len(list) || list[i].addr.BitLen() != a.BitLen() {
			continue
		}
		if n := sharedBits(list[i].addr, a); n > longest || n == longest && best < 0 {
			best, longest = i, n
		}
	}
	return best
}

// sharedBits is how long a prefix two addresses of one family share.
func sharedBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n += bits.LeadingZeros8(d)
			break
		}
		n += 8
	}
	return n - (128 - a.BitLen())
}

// keepOrder is how long an answer of a station is kept at least. Who asks from more stations than have room meanwhile is
// answered as somebody near this node: an order costs a look at all members, and senders of datagrams can be made up.
const keepOrder = time.Second

// orders are what a live name answers at stations, made when somebody asks there, of at most maxOrders of them.
type orders struct {
	stations []station
	self     int // this node's; -1 when it is not known
	made     []atomic.Pointer[nearAnswer]

	mu   sync.Mutex // guards kept
	kept []int      // stations whose answers are made; the one that is looked at next for room is the first
}

// nearAnswer is the answer of a station.
type nearAnswer struct {
	*liveAnswer
	made time.Time
	used atomic.Bool // since it was looked at for room
}

func newOrders(z *Zones) *orders {
	z.ordered.Store(true)
	o := &orders{stations: z.findStations()}
	self := z.mesh.Self().ID
	o.self = slices.IndexFunc(o.stations, func(s station) bool { return s.id == self })
	o.made = make([]atomic.Pointer[nearAnswer], len(o.stations))
	return o
}

// room reports whether a station may have its answer kept, and makes room: of those that are old enough the first goes that
// nobody used since the last look (the clock of page replacement). This node's own stays. The caller holds mu.
func (o *orders) room(now time.Time) bool {
	for range 2 * len(o.kept) {
		if len(o.kept) < maxOrders {
			return true
		}
		at := o.kept[0]
		o.kept = append(o.kept[1:], at)
		a := o.made[at].Load()
		if at == o.self || now.Sub(a.made) < keepOrder || a.used.Swap(false) {
			continue
		}
		o.made[at].Store(nil)
		o.kept = o.kept[:len(o.kept)-1]
	}
	return len(o.kept) < maxOrders
}

// answerTo is what l answers in z to who asks from an address. It is safe for concurrent use.
func (l *live) answerTo(z *Zones, from netip.Addr) *liveAnswer {
	a := l.answer(z)
	o := a.orders
	if o == nil {
		return a
	}
	at := -1
	if from.IsValid() && !from.IsLoopback() {
		at = stationOf(o.stations, from)
	} else if from.IsValid() { // in a mesh on loopback a node may be there
		at = slices.IndexFunc(o.stations, func(s station) bool { return s.addr == from })
	}
	if at < 0 {
		at = o.self
	}
	if at < 0 {
		return a
	}
	if near := o.made[at].Load(); near != nil {
		if !near.used.Load() {
			near.used.Store(true)
		}
		return near.liveAnswer
	}
	return l.makeOrder(z, o, at, a)
}

// makeOrder makes the answer for a station, if there is room for it; else it is that for this node, or the one for nobody in
// particular.
func (l *live) makeOrder(z *Zones, o *orders, at int, otherwise *liveAnswer) *liveAnswer {
	o.mu.Lock()
	defer o.mu.Unlock()
	if near := o.made[at].Load(); near != nil {
		return near.liveAnswer
	}
	now := time.Now()
	if !o.room(now) {
		if o.self < 0 {
			return otherwise
		}
		if near := o.made[o.self].Load(); near != nil {
			return near.liveAnswer
		}
		at = o.self // one more than there is room for
	}
	near := &nearAnswer{liveAnswer: l.order(z, o, at), made: now}
	o.made[at].Store(near)
	o.kept = append(o.kept, at)
	return near.liveAnswer
}

// order makes the answer for a station: the nearest members first.
func (l *live) order(z *Zones, o *orders, at int) *liveAnswer {
	type placed struct {
		LiveMember
		far time.Duration
	}
	const unknown = time.Duration(1<<63 - 1)
	var up []placed
	for _, m := range z.LiveMembers(l.tag) {
		if m.Out != "" {
			continue
		}
		p := placed{m, unknown}
		id := ""
		if node, ok := z.mesh.ByName(m.Host); ok {
			id = node.ID
		} else if i := stationOf(o.stations, m.Addrs[0]); i >= 0 {
			id = o.stations[i].id
		}
		if d, ok := z.mesh.Distance(o.stations[at].id, id); ok {
			p.far = d
		}
		up = append(up, p)
	}
	slices.SortStableFunc(up, func(a, b placed) int { return cmp.Compare(a.far, b.far) })
	a := &liveAnswer{gen: z.liveGen}
	var list []LiveMember
	var first [2]time.Duration // of the nearest member that has an address of the family
	var count [2]int           // members of the family
	for _, p := range up {
		var has [2]int
		for _, addr := range p.Addrs {
			if addr.Is4() {
				has[1]++
			} else {
				has[0]++
			}
		}
		if (has[0] == 0 || count[0] >= maxNear) && (has[1] == 0 || count[1] >= maxNear) {
			continue
		}
		list = append(list, p.LiveMember)
		for f, n := range has {
			if n == 0 {
				continue
			}
			if count[f]++; count[f] == 1 {
				first[f] = p.far
			}
			if p.far-first[f] < max(nearEnough, first[f]/4) {
				a.near[f] += n
			}
		}
	}
	l.fill(z, a, list)
	for i, set := range a.packed { // an address of two members is there once
		if size := addressSize(uint16([...]int{28, 1}[i])); a.near[i] > len(set)/size {
			a.near[i] = len(set) / size
		}
	}
	return a
}

// moved reports whether distances from this node changed so much that orders are void. Each node looks at its own alone: it
// changes them when it moves, and others have their own eyes.
func (b *batch) moved() bool {
	was, now := b.old.mesh, b.next.mesh
	self := now.Self().ID
	for _, m := range now.Members() {
		d, ok := now.Distance(self, m.ID)
		before, had := was.Distance(self, m.ID)
		if ok != had || (d-before).Abs() > max(nearEnough, before/4) {
			return true
		}
	}
	return false
}
