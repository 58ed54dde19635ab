package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/vip"
)

// address is the claim of the primary's address.
type address struct {
	s *server

	taking sync.Mutex // one who takes it at a time

	mu     sync.Mutex // guards the fields below
	handle *vip.Handle
	tenure Tenure
	cancel context.CancelFunc // of the tenure's Run
	leaves bool               // it was handed over
	again  time.Time          // not before that is it taken by itself
	ends   bool               // the agent does: it takes none any more
}

// formerTime is how long a former holder may go on answering for the address: one whose agent has just ended in order, and whose kernel looks up to 1.3 s late.
const formerTime = mysqlha.RestartGrace + 1500*time.Millisecond

// errElsewhere is returned when the record says so.
var errElsewhere = errors.New("the cluster's record gives it to another host")

// phase is that of the claim; "" = there is none.
func (a *address) phase() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.handle == nil {
		return ""
	}
	select {
	case <-a.handle.Done():
		return ""
	default:
		return string(a.handle.State().Phase)
	}
}

// takeVIP claims the address, and waits until it is here.
func (s *server) takeVIP(ctx context.Context, o mysqlha.Order) error {
	s.orders.Lock()
	st, err := s.store.get()
	if err == nil {
		err = s.store.admit(o)
	}
	if err == nil && st.Marked != "" {
		err = fmt.Errorf("%w: %s", mysqlha.ErrMarked, st.Marked)
	}
	if err == nil {
		err = s.store.order(o, func(st *state) { st.Address = true })
	}
	s.orders.Unlock()
	if err != nil {
		return err
	}
	return s.vip.take(ctx, o.Epoch)
}

// take claims it under a tenure for an epoch.
func (a *address) take(ctx context.Context, epoch uint64) error {
	a.taking.Lock()
	defer a.taking.Unlock()
	h, err := a.claim(ctx, epoch)
	if err != nil {
		return err
	}
	if err := h.Wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	a.s.poke()
	return nil
}

func (a *address) claim(ctx context.Context, epoch uint64) (*vip.Handle, error) {
	m, cfg := a.s.get(), a.s.h.cfg
	if cfg.Addresses == nil || cfg.Tenure == nil {
		return nil, fmt.Errorf("%w: this agent has no virtual addresses: it needs CAP_NET_ADMIN and CAP_NET_RAW", ErrAddress)
	}
	if !m.VIP.IsValid() {
		return nil, fmt.Errorf("%w: MySQL of the tag names no VIP", ErrAddress)
	}
	if h := a.current(epoch); h != nil {
		return h, nil
	}
	if a.ending() {
		return nil, fmt.Errorf("%w: %w", ErrAddress, ErrClosed)
	}
	a.end("it is claimed anew")
	t := cfg.Tenure(m, epoch)
	ctx2, cancel := context.WithCancel(context.Background()) // it goes on after the order that began it
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := t.Run(ctx2); err != nil {
			a.deposed(t, err)
		}
	}()
	if err := becomesValid(ctx, t, over); err != nil {
		cancel()
		return nil, err
	}
	h, err := cfg.Addresses.Claim(ctx, vip.Claim{Addr: m.VIP, Owner: mysqlha.DutyOf(m.Tag), Lease: t, Former: formerTime})
	if err != nil {
		cancel()
		t.End("the address was not claimed")
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	a.mu.Lock()
	a.handle, a.tenure, a.cancel, a.leaves = h, t, cancel, false
	a.mu.Unlock()
	go func() {
		<-h.Done()
		a.s.poke()
	}()
	return h, nil
}

// current is the claim that goes on, if it does: for the later epoch as well.
func (a *address) current(epoch uint64) *vip.Handle {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.handle == nil || a.handle.State().Phase == vip.Leaving || !a.tenure.Valid() {
		return nil
	}
	select {
	case <-a.handle.Done():
		return nil
	default:
	}
	a.tenure.Order(epoch)
	return a.handle
}

// becomesValid waits for the first look of a tenure. Its Renewed is the table's.
func becomesValid(ctx context.Context, t Tenure, over <-chan struct{}) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !t.Valid() {
		select {
		case <-over:
			return fmt.Errorf("%w: %w", ErrAddress, errElsewhere)
		case <-ctx.Done():
			return fmt.Errorf("%w: the cluster's record cannot be read: %w", ErrAddress, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// deposed is called when the record says that the address is another's.
func (a *address) deposed(t Tenure, why error) {
	a.mu.Lock()
	is := a.tenure == t && !a.leaves
	a.mu.Unlock()
	if !is {
		return
	}
	a.elsewhere(why)
}

// elsewhere lets the address go, and does not take it by itself any more.
func (a *address) elsewhere(why error) {
	a.s.h.cfg.Logger.Warn("address of the primary goes from here", "tag", a.s.tag, "why", why)
	if err := a.s.store.note(func(st *state) { st.Address = false }); err != nil && !errors.Is(err, ErrDamaged) {
		a.s.h.cfg.Logger.Warn("that the address of the primary is not to be here cannot be written down", "tag", a.s.tag, "err", err)
	}
	a.letGo(why.Error())
}

// end ends the claim, and does not wait.
func (a *address) end(why string) *vip.Handle {
	a.mu.Lock()
	h, t, cancel := a.handle, a.tenure, a.cancel
	a.handle, a.tenure, a.cancel = nil, nil, nil
	a.mu.Unlock()
	if h == nil {
		return nil
	}
	t.End(why)
	cancel()
	now, done := context.WithCancel(context.Background())
	done()
	_ = h.Release(now) // it goes on in the background
	a.s.poke()
	return h
}

// letGo ends the claim, does not wait, and removes the address also where the agent before has left it.
func (a *address) letGo(why string) *vip.Handle {
	h := a.end(why)
	if h == nil {
		a.disown()
	}
	return h
}

func (a *address) close() { a.end("the agent ends") }

func (a *address) ending() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ends
}

// disown removes the address where it was left by the agent before.
func (a *address) disown() {
	m, cfg := a.s.get(), a.s.h.cfg
	if cfg.Addresses == nil || !m.VIP.IsValid() {
		return
	}
	if err := cfg.Addresses.Disown(m.VIP); err != nil {
		cfg.Logger.Warn("address of the primary, which was left for this agent, cannot be removed; the kernel does within seconds", "tag", a.s.tag, "err", err)
	}
}

// leave leaves the address to the agent that follows, when it is to be here: the record was read a moment ago and said so, no change is under way, the server runs, and the machine does not go down.
func (a *address) leave(ctx context.Context) {
	a.mu.Lock()
	a.ends = true
	h, t, cancel, leaves := a.handle, a.tenure, a.cancel, a.leaves
	a.mu.Unlock()
	st, err := a.s.store.get()
	if h == nil || leaves || err != nil || !st.Address || st.Marked != "" || a.s.running() == nil || !t.Settled() || a.s.h.cfg.Halting(ctx) {
		return
	}
	left, err := h.Leave(ctx, mysqlha.RestartGrace)
	a.mu.Lock()
	mine := a.handle == h
	if mine {
		a.handle, a.tenure, a.cancel = nil, nil, nil
	}
	a.mu.Unlock()
	if !mine { // it was told to let it go meanwhile
		a.disown()
		return
	}
	t.End("the agent ends")
	cancel()
	switch {
	case err != nil:
		a.s.h.cfg.Logger.Warn("address of the primary is not left for the next agent", "tag", a.s.tag, "err", err)
		a.disown()
	case left:
		a.s.h.cfg.Logger.Info("address of the primary stays for the next agent", "tag", a.s.tag, "for", mysqlha.RestartGrace.String())
	}
}

// dropVIP returns when the address is not here.
func (s *server) dropVIP(ctx context.Context, o mysqlha.Order) error {
	s.orders.Lock()
	err := s.store.restrain(o, func(st *state) { st.Address = false })
	s.orders.Unlock()
	if err != nil && (errors.Is(err, mysqlha.ErrOvertaken) || errors.Is(err, ErrDamaged)) {
		return err
	}
	if h := s.vip.letGo("it was told to let the address go"); h != nil {
		err = errors.Join(err, h.Release(ctx))
	}
	return err
}

// handOverVIP leaves the address until the next has it.
func (s *server) handOverVIP(o mysqlha.Order) error {
	s.orders.Lock()
	defer s.orders.Unlock()
	if err := s.store.order(o, func(st *state) { st.Address = false }); err != nil {
		return err
	}
	s.vip.handOver("it was told to hand the address over")
	return nil
}

// handOver leaves the address here until the next one has it, at most for its life. What serves there must refuse by now: whoever asks is told so at once, and need not wait for an
// address that nobody has.
func (a *address) handOver(why string) {
	a.mu.Lock()
	h, t, cancel := a.handle, a.tenure, a.cancel
	a.leaves = true // that the tenure ends says nothing new
	a.mu.Unlock()
	if h == nil {
		a.disown()
		return
	}
	h.HandOver()
	t.End(why)
	cancel()
	a.s.poke()
}

// keep takes the address again that is to be here, after a restart of the agent or when a claim ended.
func (a *address) keep(ctx context.Context) {
	st, err := a.s.store.get()
	if err != nil || !st.Address || st.Marked != "" || a.s.h.cfg.Tenure == nil || a.ending() {
		return
	}
	a.mu.Lock()
	going := a.handle != nil && !isClosed(a.handle.Done())
	now := a.s.h.cfg.Clock.Now()
	wait := now.Before(a.again)
	if !going && !wait {
		a.again = now.Add(time.Second)
	}
	a.mu.Unlock()
	if going || wait || !a.taking.TryLock() {
		return
	}
	go func() {
		defer a.taking.Unlock()
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err := a.claim(ctx, st.Epoch)
		if errors.Is(err, errElsewhere) {
			a.elsewhere(err)
		} else if err != nil && ctx.Err() == nil {
			a.s.h.cfg.Logger.Warn("address of the primary is not taken again", "tag", a.s.tag, "err", err)
		}
	}()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
