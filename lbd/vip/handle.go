package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Handle is a claim in a Table. Its methods are safe for concurrent use.
type Handle struct {
	t      *Table
	claim  Claim
	link   string // the interface's name
	prefix netip.Prefix
	pokes  chan struct{}
	done   chan struct{}
	told   chan struct{}
	under  atomic.Pointer[Lease]

	mu    sync.Mutex // guards the fields below
	want  want
	life  time.Duration // the last one, of what is left
	inbox []news
	state State

	// Of the claim's own goroutine.
	mem      memory
	deaf     error // it cannot listen
	hears    int   // the interface on which it listens; 0 = none
	stop     func()
	grumbled string // the last error that was logged
}

// news is what happened outside of the claim's goroutine.
type news struct {
	sighting Sighting
	at       time.Duration
	gone     bool // instead: at this time the address did not exist
}

// maxNews bounds what a hostile neighbour can pile up.
const maxNews = 64

func newHandle(t *Table, c Claim, l Link) *Handle {
	h := &Handle{
		t: t, claim: c, link: l.Name, prefix: netip.PrefixFrom(c.Addr, c.Bits),
		pokes: make(chan struct{}, 1), done: make(chan struct{}), told: make(chan struct{}, 1), stop: func() {},
	}
	h.under.Store(&c.Lease)
	h.mem = memory{keep: c.Keep, began: t.clock.Boot(), await: c.Former}
	h.state = State{Addr: c.Addr, Bits: c.Bits, Interface: l.Name, Owner: c.Owner, Phase: Waiting, Since: t.clock.Now()}
	return h
}

func (h *Handle) lease() Lease { return *h.under.Load() }

func (h *Handle) poke() {
	select {
	case h.pokes <- struct{}{}:
	default:
	}
}

// tell says what the owner wants; there is no way back.
func (h *Handle) tell(w want) {
	h.mu.Lock()
	h.want = max(h.want, w)
	h.mu.Unlock()
	h.poke()
}

func (h *Handle) ending() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.want != toHold
}

// State is how the claim stands.
func (h *Handle) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// Changed has one slot, which is filled whenever the phase has changed. One may wait on it.
func (h *Handle) Changed() <-chan struct{} { return h.told }

// Done is closed when the claim is over and its address is not here any more.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Wait waits until the address is here. ErrStranger when somebody else has it, ErrLost when the lease is not valid, ErrReleased when the claim
// is over; the claim goes on unless it is over. Whoever waits does not wait on Changed.
func (h *Handle) Wait(ctx context.Context) error {
	for {
		s := h.State()
		switch {
		case s.Phase == Held || s.Phase == Kept:
			return nil
		case s.Phase == Finished || s.Phase == Leaving:
			return ErrReleased
		case s.Phase == Refused:
			return fmt.Errorf("%w: %s on %s: %s; find out whose it is, or choose another address", ErrStranger, s.Addr, s.Interface, s.Why)
		case !h.lease().Valid():
			return ErrLost
		}
		select {
		case <-h.told:
		case <-ctx.Done():
			return fmt.Errorf("%s on %s is %s (%s): %w", s.Addr, s.Interface, s.Phase, s.Why, ctx.Err())
		case <-time.After(h.t.times.look):
		}
	}
}

// Under goes on under another lease, such as the next grant of the duty whose former grant is over while the address is kept.
func (h *Handle) Under(l Lease) {
	h.under.Store(&l)
	h.poke()
}

// HandOver leaves the address where it is until another node says that it has it, or its life is over, and refreshes and announces it no more. It returns
// at once: give up the lease then. What listens on the address should refuse from now on.
func (h *Handle) HandOver() { h.tell(toHandOver) }

// Leave leaves the address where it is for a life of its own, of whole seconds and 15 s at most, and ends the claim: a process of this box that claims it in that time goes on with it, without
// a gap. Meanwhile nobody here announces it or looks at a lease: it is for those whose safety does not rest on that. Without a valid lease, or when somebody else has it, it is removed. left tells
// which, when err is nil; with ctx it goes on in the background.
func (h *Handle) Leave(ctx context.Context, life time.Duration) (left bool, err error) {
	h.mu.Lock()
	h.life = max(min(life, h.t.times.left).Truncate(time.Second), h.t.times.trial)
	h.mu.Unlock()
	h.tell(toLeave)
	select {
	case <-h.done:
		return h.mem.left, nil // its goroutine has ended
	case <-ctx.Done():
		return false, fmt.Errorf("leave %s: %w", h.claim.Addr, ctx.Err())
	}
}

// Release removes the address and ends the claim. It returns when that is done, or with ctx; then it goes on in the background. It is idempotent.
func (h *Handle) Release(ctx context.Context) error {
	h.tell(toEnd)
	select {
	case <-h.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("release %s: %w", h.claim.Addr, ctx.Err())
	}
}

// absent says that the address did not exist at some time.
func (h *Handle) absent(at time.Duration) { h.push(news{at: at, gone: true}) }

func (h *Handle) push(n news) {
	h.mu.Lock()
	if len(h.inbox) < maxNews {
		h.inbox = append(h.inbox, n)
	}
	h.mu.Unlock()
}

func (h *Handle) hear(s Sighting) {
	if h.t.ours(s.From) {
		return
	}
	if s.Asks && h.State().Phase == Held && !h.ending() {
		return // the kernel answers
	}
	h.push(news{sighting: s, at: h.t.clock.Boot()})
	h.poke()
}

// run is the claim's life.
func (h *Handle) run() {
	t := h.t
	defer func() {
		h.stop()
		var err error
		if h.mem.left {
			until := h.mem.touched + h.mem.life
			t.bequeathed(h.claim.Addr, until)
			err = t.file.bequeath(h.claim.Addr, until)
		} else {
			err = t.file.forget(h.claim.Addr)
		}
		if err != nil {
			t.log.Warn("the file of claims cannot be written", "err", err)
		}
		t.finished(h)
		close(h.done)
	}()
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		if err := t.file.remember(h.claim.Addr); err != nil { // the kernel removes the address without it, too
			t.log.Warn("the file of claims cannot be written", "err", err)
		}
	}()
	defer func() { <-recorded }()
	record := recorded
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		h.heed()
		h.takeIn()
		l := h.listen()
		lease := h.lease()
		now := t.clock.Boot()
		r := reading{valid: lease.Valid()}
		r.ago, r.left = lease.Renewal()
		r.valid = r.valid && r.left > 0
		h.heed() // a lease that was given up after HandOver is not one that was lost
		before := h.mem
		m, a, wait := next(t.times, h.mem, r, l, now)
		h.mem = m
		if a != rest && a != finish {
			h.perform(a, l, r, now) // before anything that could take time
		}
		h.publish(before, l)
		switch a {
		case finish:
			return
		case rest:
		default:
			continue
		}
		timer.Reset(max(wait, 0))
		select {
		case <-timer.C:
		case <-h.pokes:
		case <-lease.Renewed():
			t.renewed(lease, h)
		case <-record:
			record = nil
			h.mem.recorded = true
		}
	}
}

// heed takes in what the owner wants.
func (h *Handle) heed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.want == toHandOver && h.mem.want == toHold {
		h.mem.conflict, h.mem.asked, h.mem.signed = nil, 0, 0 // what was before is no answer to this
	}
	h.mem.want = h.want
}

// takeIn takes in what happened.
func (h *Handle) takeIn() {
	h.mu.Lock()
	inbox := h.inbox
	h.inbox = nil
	h.mu.Unlock()
	for _, n := range inbox {
		if n.gone {
			if h.mem.present && h.mem.touched < n.at {
				h.vanished()
			}
			continue
		}
		if !n.sighting.Asks && h.mem.present {
			h.t.counts.conflicts.Add(1)
			h.mu.Lock()
			h.state.Conflicts++
			h.mu.Unlock()
		}
		h.mem = h.mem.hears(n.sighting, n.at)
	}
}

func (h *Handle) vanished() {
	h.mem = h.mem.lost()
	if h.mem.want != toHold {
		return // its life is over, as it should be
	}
	h.t.counts.vanished.Add(1)
	h.t.log.Warn("virtual address has vanished", "addr", h.claim.Addr.String(), "interface", h.link, "owner", h.claim.Owner)
}

// listen makes sure that it hears what is said on the interface, as far as there is one.
func (h *Handle) listen() Link {
	l, _ := linkNamed(*h.t.links.Load(), h.link)
	if l.Index == h.hears && l.Index != 0 {
		return l
	}
	h.stop()
	h.stop, h.hears, h.deaf = func() {}, 0, nil
	if l.Index == 0 {
		return l
	}
	stop, err := h.t.wire.Listen(l, h.claim.Addr, h.hear)
	if err != nil {
		h.deaf = err
		l.Running = false // it must not take what it cannot ask for
		return l
	}
	h.stop, h.hears = stop, l.Index
	return l
}

// perform does what was decided.
func (h *Handle) perform(a act, l Link, r reading, now time.Duration) {
	t := h.t
	addr := Address{Link: l.Index, Prefix: h.prefix}
	var err error
	switch a {
	case probe:
		t.counts.probes.Add(1)
		err = t.wire.Probe(l, h.claim.Addr)
	case add:
		addr.Lifetime = t.times.trial
		if err = t.kernel.Add(addr); errors.Is(err, ErrExists) {
			// Somebody has put it there: it must live as long as we say.
			if err = t.kernel.Delete(addr); err == nil {
				err = t.kernel.Add(addr)
			}
		}
	case refresh, shorten:
		addr.Lifetime = t.times.life
		if a == shorten {
			addr.Lifetime = t.times.trial
			t.counts.shortened.Add(1)
		} else {
			t.counts.refreshes.Add(1)
		}
		err = t.kernel.Refresh(addr)
	case bequeath:
		h.mu.Lock()
		addr.Lifetime = h.life
		h.mu.Unlock()
		err = t.kernel.Refresh(addr)
		h.mem.life, h.mem.touched = addr.Lifetime, t.clock.Boot()
	case remove:
		if err = t.kernel.Delete(addr); err == nil {
			_ = t.wire.Withdraw(l, h.claim.Addr) // nobody rests on it
		}
	case announce:
		t.counts.announcements.Add(1)
		h.mu.Lock()
		h.state.Announced++
		h.mu.Unlock()
		err = t.wire.Announce(l, h.claim.Addr)
	}
	then := t.clock.Boot()
	if a == refresh || a == shorten || a == bequeath {
		if errors.Is(err, ErrGone) {
			h.vanished()
			return
		}
	}
	if errors.Is(err, ErrNoLink) {
		_ = t.look() // it is listed on the next change again
	}
	if a == remove && h.mem.late {
		t.counts.late.Add(1)
		t.log.Error("virtual address was given by the kernel after the lease was over, and is removed", "addr", h.claim.Addr.String(), "interface", h.link, "owner", h.claim.Owner)
	}
	h.grumble(a, err)
	h.mem = h.mem.did(t.times, a, err, r, now, then)
}

// grumble logs an error once, and not every time that it comes.
func (h *Handle) grumble(a act, err error) {
	h.t.counts.failed(err)
	text := ""
	if err != nil {
		text = a.String() + ": " + err.Error()
	}
	if text != "" && text != h.grumbled {
		h.t.log.Warn("virtual address: an act failed", "addr", h.claim.Addr.String(), "interface", h.link, "act", a.String(), "err", err)
	}
	if text != "" || a == add || a == refresh {
		h.grumbled = text
	}
}

// publish makes public what the memory says, and logs what people want to know.
func (h *Handle) publish(before memory, l Link) {
	m := h.mem
	why := m.why
	if h.deaf != nil && !m.present {
		why = "it cannot be asked for: " + h.deaf.Error()
	}
	stranger := ""
	switch {
	case m.conflict != nil:
		stranger = m.conflict.String()
	case m.answered != nil && !m.former:
		stranger = m.answered.String()
	}
	h.mu.Lock()
	was := h.state.Phase
	h.state.Why, h.state.Stranger = why, stranger
	if was != m.phase {
		h.state.Phase, h.state.Since = m.phase, h.t.clock.Now()
	}
	h.mu.Unlock()
	args := []any{"addr", h.claim.Addr.String(), "interface", h.link, "owner", h.claim.Owner}
	log := h.t.log
	if before.conflict == nil && m.conflict != nil && m.present && m.want == toHold {
		log.Warn("somebody else announces a virtual address that is held here", append(args, "mac", m.conflict.String())...)
	}
	if before.conflict != nil && m.conflict == nil && m.phase == Held {
		log.Info("nobody else announces the virtual address any more; it is announced again", append(args, "mac", before.conflict.String())...)
	}
	if was == m.phase {
		return
	}
	switch m.phase {
	case Held:
		log.Info("virtual address is here", append(args, "mac", l.MAC.String())...)
	case Refused:
		h.t.counts.refused.Add(1)
		log.Error("virtual address is refused: somebody else has it", append(args, "mac", stranger)...)
	case Kept:
		log.Warn("virtual address is kept without a lease", args...)
	case Finished, Leaving, Waiting:
		if was == Held || was == Kept || was == Leaving {
			log.Info("virtual address goes", append(args, "phase", string(m.phase), "why", why)...)
		}
	}
	select {
	case h.told <- struct{}{}:
	default:
	}
}
