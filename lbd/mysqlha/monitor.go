package mysqlha

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Times are how often a monitor looks, and for how long it waits.
type Times struct {
	Observe        time.Duration // between two looks at a server
	ObserveTimeout time.Duration // a look that takes longer is a failure
	Ping           time.Duration // between two fresh connections to the primary
	PingTimeout    time.Duration
	Record         time.Duration // between two reads of the record
}

// DefaultTimes returns the defaults.
func DefaultTimes() Times {
	return Times{
		Observe:        100 * time.Millisecond, // less than half a heartbeat, so that one that is missing is seen as soon as it is
		ObserveTimeout: 300 * time.Millisecond, // a query over a kept connection takes 1 ms; a server that was busy for longer is asked again
		Ping:           500 * time.Millisecond, // each costs the server a thread and a handshake
		PingTimeout:    300 * time.Millisecond,
		Record:         time.Second, // somebody else may have written it only after taking the duty over
	}
}

// monitor watches the servers of one cluster: a goroutine for each, and some for the primary.
type monitor struct {
	world World
	times Times
	poke  func() // something has changed that may matter

	mu      sync.Mutex // guards the fields below
	sights  map[string]Sight
	eyes    map[string]*eye
	primary string // who has pings and a held connection
	wg      sync.WaitGroup
}

// eye is what watches one server.
type eye struct {
	member Member
	cancel context.CancelFunc
	now    chan struct{} // look at once
	ping   chan struct{} // and try fresh connections
	letGo  chan struct{} // let go of the connection that is held
}

func newMonitor(world World, times Times, poke func()) *monitor {
	return &monitor{world: world, times: times, poke: poke, sights: map[string]Sight{}, eyes: map[string]*eye{}}
}

// watch makes these the servers that are watched, and one of them the primary.
func (m *monitor) watch(ctx context.Context, members []Member, primary string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := map[string]Member{}
	for _, x := range members {
		if x.Unfit == "" {
			wanted[x.Host] = x
		}
	}
	for host, e := range m.eyes {
		x, ok := wanted[host]
		changed := host == m.primary != (host == primary)
		if ok && x.Addr == e.member.Addr && x.Port == e.member.Port && !changed {
			continue
		}
		e.cancel()
		delete(m.eyes, host)
		if !ok {
			delete(m.sights, host)
		}
	}
	m.primary = primary
	for host, x := range wanted {
		if m.eyes[host] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		e := &eye{member: x, cancel: cancel, now: make(chan struct{}, 1), ping: make(chan struct{}, 1), letGo: make(chan struct{}, 1)}
		m.eyes[host] = e
		m.wg.Go(func() { m.observe(ctx, e) })
		if host == primary {
			m.wg.Go(func() { m.pings(ctx, e) })
			m.wg.Go(func() { m.hold(ctx, e) })
		}
	}
}

// close waits until nobody watches any more; the context of watch must have ended.
func (m *monitor) close() { m.wg.Wait() }

// probe has all looked at again, at once.
func (m *monitor) probe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.eyes {
		fill(e.now)
		fill(e.ping)
	}
}

func fill(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// seen is a copy of all sights.
func (m *monitor) seen() map[string]Sight {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]Sight, len(m.sights))
	for h, s := range m.sights {
		out[h] = s
	}
	return out
}

func (m *monitor) change(host string, edit func(s Sight) Sight) (was, is Sight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was = m.sights[host]
	is = edit(was)
	m.sights[host] = is
	return was, is
}

// observe looks at one server, again and again.
func (m *monitor) observe(ctx context.Context, e *eye) {
	told := false // to look at once
	for ctx.Err() == nil {
		server := m.world.Server(e.member) // another one when the accounts have changed
		asked := time.Now()
		bound, cancel := context.WithTimeout(ctx, m.times.ObserveTimeout)
		f, err := server.Observe(bound)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrClosed) {
			m.rest(ctx, m.times.Observe, e.now)
			continue
		}
		if errors.Is(err, context.DeadlineExceeded) && causeOf(err) == CauseOther {
			err = errors.Join(ErrUnreachable, err)
		}
		was, is := m.change(e.member.Host, func(s Sight) Sight { return s.see(asked, time.Now(), f, err) })
		if told || notable(was, is) {
			m.poke()
		}
		if is.Cause == CauseUnreachable && was.Cause == "" {
			fill(e.ping)
		}
		if is.Cause == CauseSaturated {
			fill(e.letGo)
		}
		told = m.rest(ctx, m.times.Observe, e.now)
	}
}

// notable reports whether a sight says something else than the one before, apart from what moves all the time.
func notable(was, is Sight) bool {
	if was.Known != is.Known || was.Cause != is.Cause || was.Facts.ReadOnly != is.Facts.ReadOnly || was.Facts.Semi.Source != is.Facts.Semi.Source || is.Cause != "" {
		return true
	}
	a, b := was.Facts.Replica, is.Facts.Replica
	return (a == nil) != (b == nil) || a != nil && (a.IO != b.IO || a.SQL != b.SQL || a.IOErrno != b.IOErrno || a.SQLErrno != b.SQLErrno)
}

// rest waits about as long as said, less when it is told to, and not to the beat of others.
func (m *monitor) rest(ctx context.Context, about time.Duration, now <-chan struct{}) (told bool) {
	t := time.NewTimer(about - about/10 + rand.N(about/5+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-now:
		return true
	case <-ctx.Done():
	}
	return false
}

// pings tries fresh connections to the primary: now and then, and at once several when it is suspected.
func (m *monitor) pings(ctx context.Context, e *eye) {
	for ctx.Err() == nil {
		n := 1
		if s := m.seen()[e.member.Host]; time.Since(s.heard()) < recently && (s.Cause == CauseUnreachable || !s.HoldLost.IsZero() && !s.heard().After(s.HoldLost) || s.down()) {
			n = deadPings
		}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if i > 0 {
					m.rest(ctx, time.Duration(i)*30*time.Millisecond, nil)
				}
				m.ping(ctx, e)
			})
		}
		wg.Wait()
		about := m.times.Ping
		if n > 1 {
			about /= 5
		}
		m.rest(ctx, about, e.ping)
	}
}

func (m *monitor) ping(ctx context.Context, e *eye) {
	bound, cancel := context.WithTimeout(ctx, m.times.PingTimeout)
	defer cancel()
	asked := time.Now()
	err := m.world.Server(e.member).Ping(bound)
	if ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return
	}
	m.change(e.member.Host, func(s Sight) Sight {
		if err != nil && s.Pinged.After(asked) {
			return s // another, which began later, was served
		}
		return s.pinged(time.Now(), err)
	})
	if err != nil {
		fill(e.now)
		m.poke()
	}
}

// hold keeps a connection to the primary, whose end tells of the end of its process. A server that is full to clients has one connection more for us, and to see how it stands matters more: so one is held while it answers, and let go when what asks gets none.
func (m *monitor) hold(ctx context.Context, e *eye) {
	for ctx.Err() == nil {
		if s := m.seen()[e.member.Host]; !s.Known || s.Cause != "" {
			m.rest(ctx, m.times.Observe/5, nil)
			continue
		}
		select {
		case <-e.letGo: // it answers since
		default:
		}
		began := time.Now()
		gone, err := m.held(ctx, e)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !gone && !errors.Is(err, ErrClosed) {
			m.change(e.member.Host, func(s Sight) Sight {
				if s.heard().After(began) { // it stood
					s.HoldLost = time.Now()
				}
				return s
			})
			fill(e.now)
			fill(e.ping)
			m.poke()
		}
		m.rest(ctx, 2*m.times.Observe, nil)
	}
}

// held holds one connection, and reports whether it was let go.
func (m *monitor) held(ctx context.Context, e *eye) (letGo bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.world.Server(e.member).Hold(ctx) }()
	select {
	case err = <-ended:
		return false, err
	case <-e.letGo:
		cancel()
		return true, <-ended
	}
}
