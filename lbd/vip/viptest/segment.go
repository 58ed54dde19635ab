// Package viptest has boxes on a link in memory, for tests of whoever holds virtual addresses, and the tests that every vip.Kernel and
// vip.Announcer passes.
//
// It leaves to others what the addresses are for.
package viptest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"hostmesh/lbd/vip"
)

// Segment is a link that boxes share. Time is that of package time, so that it may be virtual.
type Segment struct {
	mu    sync.Mutex // guards the fields below, and the boxes
	boxes []*Box
	rng   *rand.Rand
}

// NewSegment makes one. What is left to chance follows from the seed.
func NewSegment(seed uint64) *Segment { return &Segment{rng: rand.New(rand.NewPCG(seed, 0))} }

// Box is a kernel and an announcer with one interface, eth0, on a segment. Its methods are safe for concurrent use.
type Box struct {
	seg  *Segment
	name string

	// Around, if it is not nil, is called before and after each act, which it may hold up. It is set before anything else is done.
	Around func(act string, after bool, addr netip.Addr)

	up      bool // the fields from here are guarded by seg.mu
	cut     bool
	has     map[netip.Addr]*held
	ears    map[netip.Addr]map[int]func(vip.Sighting)
	nextEar int
	watch   []chan struct{}
}

type held struct {
	prefix netip.Prefix
	ends   time.Time // zero = never
	timer  *time.Timer
}

// Box adds a box to the segment, with an address of its own.
func (s *Segment) Box(own netip.Prefix) *Box {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &Box{seg: s, name: fmt.Sprintf("box%d", len(s.boxes)+1), up: true, has: map[netip.Addr]*held{}, ears: map[netip.Addr]map[int]func(vip.Sighting){}}
	b.has[own.Addr()] = &held{prefix: own}
	s.boxes = append(s.boxes, b)
	return b
}

const eth0 = 2

func (b *Box) link() vip.Link {
	i := slices.Index(b.seg.boxes, b)
	return vip.Link{Index: eth0, Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}, Running: b.up}
}

// MAC is that of the interface.
func (b *Box) MAC() net.HardwareAddr {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	return b.link().MAC
}

// Has reports whether the box has an address.
func (b *Box) Has(addr netip.Addr) bool {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	return b.has[addr] != nil
}

// Take has somebody who runs the box put an address there, for ever, or remove it.
func (b *Box) Take(p netip.Prefix, here bool) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.drop(p.Addr())
	if here {
		b.has[p.Addr()] = &held{prefix: p}
	}
}

// Up says whether the interface has a carrier.
func (b *Box) Up(up bool) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.up = up
	b.poke()
}

// Cut says whether what it sends is lost, and what others send to it.
func (b *Box) Cut(cut bool) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.cut = cut
}

func (b *Box) poke() {
	for _, c := range b.watch {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (b *Box) drop(addr netip.Addr) {
	if h := b.has[addr]; h != nil {
		if h.timer != nil {
			h.timer.Stop()
		}
		delete(b.has, addr)
		b.poke()
	}
}

func (b *Box) around(act string, addr netip.Addr) func() {
	if b.Around == nil {
		return func() {}
	}
	b.Around(act, false, addr)
	return func() { b.Around(act, true, addr) }
}

// Check implements vip.Kernel and vip.Announcer.
func (b *Box) Check() error { return nil }

// Links implements vip.Kernel.
func (b *Box) Links() ([]vip.Link, error) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	return []vip.Link{{Index: 1, Name: "lo", Running: true}, b.link()}, nil
}

// Addresses implements vip.Kernel.
func (b *Box) Addresses() ([]vip.Address, error) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	list := []vip.Address{{Link: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")}}
	for _, h := range b.has {
		a := vip.Address{Link: eth0, Prefix: h.prefix}
		if !h.ends.IsZero() {
			a.Lifetime = max(time.Until(h.ends).Truncate(time.Second), 1)
		}
		list = append(list, a)
	}
	return list, nil
}

// live begins a life, that ends up to 0.3 s late.
func (b *Box) live(h *held, life time.Duration) {
	if h.timer != nil {
		h.timer.Stop()
	}
	h.ends = time.Now().Add(life)
	h.timer = time.AfterFunc(life+time.Duration(b.seg.rng.Int64N(int64(300*time.Millisecond))), func() {
		b.seg.mu.Lock()
		defer b.seg.mu.Unlock()
		if addr := h.prefix.Addr(); b.has[addr] == h && !time.Now().Before(h.ends) {
			b.drop(addr)
		}
	})
}

// Add implements vip.Kernel.
func (b *Box) Add(a vip.Address) error {
	defer b.around("add", a.Prefix.Addr())()
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	switch {
	case a.Link != eth0:
		return vip.ErrNoLink
	case b.has[a.Prefix.Addr()] != nil:
		return vip.ErrExists
	}
	h := &held{prefix: a.Prefix}
	b.has[a.Prefix.Addr()] = h
	b.live(h, a.Lifetime)
	return nil
}

// Refresh implements vip.Kernel.
func (b *Box) Refresh(a vip.Address) error {
	defer b.around(fmt.Sprintf("refresh %s", a.Lifetime), a.Prefix.Addr())()
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	h := b.has[a.Prefix.Addr()]
	switch {
	case a.Link != eth0:
		return vip.ErrNoLink
	case h == nil:
		return vip.ErrGone
	}
	b.live(h, a.Lifetime)
	return nil
}

// Delete implements vip.Kernel.
func (b *Box) Delete(a vip.Address) error {
	defer b.around("delete", a.Prefix.Addr())()
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.drop(a.Prefix.Addr())
	return nil
}

// Watch implements vip.Kernel.
func (b *Box) Watch() (<-chan struct{}, func(), error) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	c := make(chan struct{}, 1)
	b.watch = append(b.watch, c)
	return c, sync.OnceFunc(func() {
		b.seg.mu.Lock()
		defer b.seg.mu.Unlock()
		b.watch = slices.DeleteFunc(b.watch, func(o chan struct{}) bool { return o == c })
		close(c)
	}), nil
}

// Listen implements vip.Announcer.
func (b *Box) Listen(l vip.Link, addr netip.Addr, hear func(vip.Sighting)) (func(), error) {
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.nextEar++
	id := b.nextEar
	if b.ears[addr] == nil {
		b.ears[addr] = map[int]func(vip.Sighting){}
	}
	b.ears[addr][id] = hear
	return func() {
		b.seg.mu.Lock()
		defer b.seg.mu.Unlock()
		delete(b.ears[addr], id)
	}, nil
}

// tell lets boxes hear something, at once. Callers hold seg.mu.
func (s *Segment) tell(to *Box, addr netip.Addr, said vip.Sighting) {
	for _, hear := range to.ears[addr] {
		go hear(said)
	}
}

func (b *Box) others(do func(*Box)) {
	if !b.up || b.cut {
		return
	}
	for _, o := range b.seg.boxes {
		if o != b && o.up && !o.cut {
			do(o)
		}
	}
}

// Probe implements vip.Announcer.
func (b *Box) Probe(l vip.Link, addr netip.Addr) error {
	defer b.around("probe", addr)()
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.others(func(o *Box) {
		b.seg.tell(o, addr, vip.Sighting{From: b.link().MAC, Asks: true})
		if o.has[addr] != nil {
			b.seg.tell(b, addr, vip.Sighting{From: o.link().MAC})
		}
	})
	return nil
}

// Announce implements vip.Announcer. A box that has the address answers.
func (b *Box) Announce(l vip.Link, addr netip.Addr) error {
	defer b.around("announce", addr)()
	b.seg.mu.Lock()
	defer b.seg.mu.Unlock()
	b.others(func(o *Box) {
		b.seg.tell(o, addr, vip.Sighting{From: b.link().MAC})
		if o.has[addr] != nil {
			b.seg.tell(b, addr, vip.Sighting{From: o.link().MAC})
		}
	})
	return nil
}

// Withdraw implements vip.Announcer.
func (b *Box) Withdraw(vip.Link, netip.Addr) error { return nil }
