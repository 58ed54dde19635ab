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
}

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
	h, err := cfg.Addresses.Claim(ctx, vip.Claim{Addr: m.VIP, Owner: mysqlha.DutyOf(m.Tag), Lease: t})
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
			return fmt.Errorf("%w: the cluster's record gives it to another host", ErrAddress)
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
	a.s.h.cfg.Logger.Warn("address of the primary goes from here", "tag", a.s.tag, "why", why)
	if err := a.s.store.note(func(st *state) { st.Address = false }); err != nil && !errors.Is(err, ErrDamaged) {
		a.s.h.cfg.Logger.Warn("that the address of the primary is not to be here cannot be written down", "tag", a.s.tag, "err", err)
	}
	a.end(why.Error())
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

func (a *address) close() { a.end("the agent ends") }

// dropVIP returns when the address is not here.
func (s *server) dropVIP(ctx context.Context, o mysqlha.Order) error {
	s.orders.Lock()
	err := s.store.restrain(o, func(st *state) { st.Address = false })
	s.orders.Unlock()
	if err != nil && (errors.Is(err, mysqlha.ErrOvertaken) || errors.Is(err, ErrDamaged)) {
		return err
	}
	if h := s.vip.end("it was told to let the address go"); h != nil {
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
	if err != nil || !st.Address || st.Marked != "" || a.s.h.cfg.Tenure == nil {
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
		if _, err := a.claim(ctx, st.Epoch); err != nil && ctx.Err() == nil {
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
