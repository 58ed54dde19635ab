package zone

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Who is near whom is known of nodes alone. A member of a tag stands where its own node is, or where the node is whose address
// shares the longest prefix with its own; and so does who asks.
const (
	nearPrefix4 = 16 // bits that an address must share with a node's to stand with it: a site's network
	nearPrefix6 = 32 // the same: what a site is given
	maxNear     = 64 // addresses that are put into order for each place: nobody tries more
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

// orders are what a live name answers at each station, made when somebody asks there.
type orders struct {
	stations []station
	self     int // this node's; -1 when it is not known
	made     []atomic.Pointer[liveAnswer]
}

func newOrders(z *Zones) *orders {
	z.ordered.Store(true)
	o := &orders{stations: z.findStations()}
	self := z.mesh.Self().ID
	o.self = slices.IndexFunc(o.stations, func(s station) bool { return s.id == self })
	o.made = make([]atomic.Pointer[liveAnswer], len(o.stations))
	return o
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
		return near
	}
	near := l.order(z, o, at)
	o.made[at].Store(near)
	return near
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
	up = up[:min(len(up), maxNear)]
	a := &liveAnswer{gen: z.liveGen}
	list := make([]LiveMember, len(up))
	for i, p := range up {
		list[i] = p.LiveMember
		if i == 0 || p.far-up[0].far < max(nearEnough, up[0].far/4) {
			for _, addr := range p.Addrs {
				if addr.Is4() {
					a.near[1]++
				} else {
					a.near[0]++
				}
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
