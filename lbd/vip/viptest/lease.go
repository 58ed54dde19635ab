package viptest

import (
	"sync"
	"time"
)

// Lease is a vip.Lease that its test renews. Its methods are safe for concurrent use. A Lease that is over stays over.
type Lease struct {
	// Reading, if it is not nil, is called before and after it is read. It is set before anything else is done.
	Reading func(after bool)

	mu      sync.Mutex // guards the fields below
	sent    time.Time
	over    bool
	ago     time.Duration
	valid   bool
	renewed chan struct{}
}

// Hold is how long one renewal lasts.
const Hold = 2 * time.Second

// NewLease makes one that was renewed this moment.
func NewLease() *Lease { return &Lease{sent: time.Now(), renewed: make(chan struct{}, 1)} }

// Renew takes the answer to a renewal that was sent some time ago.
func (l *Lease) Renew(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.sent) >= Hold {
		l.over = true
	}
	if l.over || !sent.After(l.sent) {
		return
	}
	l.sent = sent
	select {
	case l.renewed <- struct{}{}:
	default:
	}
}

// End ends it.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// Keep renews it twice a second until stop.
func (l *Lease) Keep() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			l.Renew(time.Now())
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-ended
	})
}

func (l *Lease) read() (time.Duration, bool) {
	if l.Reading != nil {
		l.Reading(false)
		defer l.Reading(true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ago = time.Since(l.sent)
	if l.ago >= Hold {
		l.over = true
	}
	l.valid = !l.over
	return l.ago, l.valid
}

// Valid implements vip.Lease.
func (l *Lease) Valid() bool {
	_, ok := l.read()
	return ok
}

// Renewal implements vip.Lease.
func (l *Lease) Renewal() (ago, left time.Duration) {
	ago, ok := l.read()
	if !ok {
		return Hold, 0
	}
	return ago, Hold - ago
}

// Last is what was read last, without reading.
func (l *Lease) Last() (ago time.Duration, valid bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ago, l.valid
}

// Sent is when the renewal was sent on which it is held.
func (l *Lease) Sent() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// Renewed implements vip.Lease.
func (l *Lease) Renewed() <-chan struct{} { return l.renewed }
