package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Grant is a duty that this node holds. Its methods are safe for concurrent use.
type Grant struct {
	Duty  string
	Fence uint64    // grows with every grant of this duty; who acts on a shared thing hands it along
	Since time.Time // by the leader's wall clock, for people

	c       *client
	session *run
	ctx     context.Context
	cancel  context.CancelCauseFunc
	renewed chan struct{}

	mu   sync.Mutex // guards the fields below
	over bool       // released, lost or expired
	why  string     // it is to be handed over
}

// Context ends when the holder must stop: with ErrExpired or ErrLost at once; with ErrHandOver in order, after which Release is
// to be called. Its cause (context.Cause) tells which. Timers may fire late: ask Valid before acting on something shared.
func (g *Grant) Context() context.Context { return g.ctx }

// Valid reports whether this node holds the duty at this moment. Between the answer and the act time passes: a shared thing
// must refuse lower fencing numbers than the highest it saw.
func (g *Grant) Valid() bool { return g.Left() > 0 }

// Left is how long the duty is held for sure, unless it is renewed; 0 when it is not held.
func (g *Grant) Left() time.Duration {
	g.mu.Lock()
	over := g.over
	g.mu.Unlock()
	if over {
		return 0
	}
	return g.session.left()
}

// Renewal is how long ago the renewal was sent on which the duty is held now, and how long that holds it for sure: one moment's
// view of both. What rests on the duty outside of this process, such as an address with a lifetime, is refreshed soon after.
func (g *Grant) Renewal() (ago, left time.Duration) {
	left = g.Left()
	return g.c.l.times.Hold - left, left
}

// Renewed has one slot, which is filled whenever the duty is held for longer than before.
func (g *Grant) Renewed() <-chan struct{} { return g.renewed }

// Release gives the duty up; what it stands for must have stopped. It returns when the next holder may begin, or with ctx; then it
// goes on in the background until the session ends. It is idempotent.
func (g *Grant) Release(ctx context.Context) error {
	if !g.finish(ErrReleased) {
		return nil
	}
	return g.c.release(ctx, g)
}

// finish ends the grant, and reports whether it was not over yet.
func (g *Grant) finish(cause error) bool {
	g.mu.Lock()
	over := g.over
	g.over = true
	g.mu.Unlock()
	g.cancel(cause)
	return !over
}

// handOver ends the context, not the grant.
func (g *Grant) handOver(why string) {
	g.mu.Lock()
	again := g.why != "" || g.over
	g.why = why
	g.mu.Unlock()
	if !again {
		g.cancel(fmt.Errorf("%w: %s", ErrHandOver, why))
	}
}

// Acquire offers this node for a duty and waits until it is granted, or until ctx ends. The offer stands as long as the Grant does.
// A node holds a duty once: who asks for one that is asked for or held here gets ErrInvalid.
func (l *Lease) Acquire(ctx context.Context, duty string) (*Grant, error) {
	if err := checkName("duty", duty); err != nil {
		return nil, err
	}
	return l.client.acquire(ctx, duty)
}

// Campaign offers this node for a duty until ctx ends, and calls hold each time it is granted, with a context that ends when the
// holder must stop (see Grant.Context). The duty is released when hold has returned. When hold returns although it need not,
// the node is no candidate for a while, longer each time, and says why.
func (l *Lease) Campaign(ctx context.Context, duty string, hold func(ctx context.Context, g *Grant) error) error {
	const patience = time.Minute
	failures := 0
	for ctx.Err() == nil {
		g, err := l.Acquire(ctx, duty)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		held, stop := context.WithCancelCause(g.Context())
		unhook := context.AfterFunc(ctx, func() { stop(ErrReleased) })
		began := l.clock.Boot()
		err = hold(held, g)
		asked := held.Err() != nil
		unhook()
		stop(nil)
		if late := -g.session.left(); errors.Is(context.Cause(g.Context()), ErrExpired) && late > l.times.Session-l.times.Hold {
			l.counts.overruns.Add(1)
			l.log.Error("a holder did not stop in time", "duty", duty, "late", late.String())
		}
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.times.Hold)
		if rerr := g.Release(release); rerr != nil {
			l.log.Warn("duty is not released yet; it ends with the session", "duty", duty, "err", rerr)
		}
		cancel()
		switch {
		case asked || ctx.Err() != nil:
			failures = 0
			continue
		case l.clock.Boot()-began > patience:
			failures = 0
		}
		failures++
		wait := min(time.Second<<min(failures-1, 10), patience)
		reason := "it gave the duty up"
		if err != nil {
			reason = clip(err.Error())
		}
		l.log.Warn("holder gave its duty up", "duty", duty, "err", err, "again_in", wait.String())
		l.client.set(duty, func(o *offering) { o.failed = reason })
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		l.client.set(duty, func(o *offering) { o.failed = "" })
	}
	return nil
}

// Decline says why this node does not take a duty, for people who ask; "" takes it back. It does not end a campaign.
func (l *Lease) Decline(duty, reason string) {
	l.client.set(duty, func(o *offering) { o.refusal = reason })
}

// Avoid says why this node should have a duty only if nobody else takes it; "" takes that back.
func (l *Lease) Avoid(duty, reason string) {
	l.client.set(duty, func(o *offering) { o.avoid = reason })
}

// Holding are the duties that this node holds now.
func (l *Lease) Holding() []*Grant { return l.client.holding() }
