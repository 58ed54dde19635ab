package lease

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// client is what a node wants of the group: its session, its offers, and what it was granted.
type client struct {
	l     *Lease
	find  *finder
	pokes chan struct{} // renew now
	begun chan struct{} // something is held

	mu       sync.Mutex // guards the fields below
	offers   map[string]*offering
	number   uint64 // of offers: grows with each change
	session  *run
	former   []*run // that ended by themselves, the last of them at the end: the leader may count them as alive
	asOf     uint64 // of the newest answer that was taken
	leaving  bool
	lastErr  error // of the last renewal
	lastGood time.Duration
	failing  bool
}

// offering is what this node says of a duty.
type offering struct {
	waiting *acquisition // somebody waits for it; nil = nobody
	grant   *Grant       // it is held
	refusal string       // of Decline
	avoid   string       // of Avoid
	failed  string       // of a campaign whose holder gave up
}

// why is why this node does not take the duty; "" = it does, if it offers itself.
func (o *offering) why() string {
	if o.failed != "" {
		return o.failed
	}
	return o.refusal
}

type acquisition struct {
	granted chan *Grant // one slot
}

// run is one session, from its first renewal to its end. It never comes back: what follows is another.
type run struct {
	id    string
	clock Clock
	hold  time.Duration

	mu    sync.Mutex // guards the fields below
	until time.Duration
	wall  time.Time // the same moment on the runtime's clock, lest an injected one that is set back makes it longer

	released map[string]uint64 // duty -> highest fence that was given back; client.mu guards it
}

func newRun(c *client) *run {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		panic(err) // it never fails
	}
	return &run{id: hex.EncodeToString(b), clock: c.l.clock, hold: c.l.times.Hold, released: map[string]uint64{}}
}

// left is how long what the session holds is held for sure.
func (r *run) left() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(r.until-r.clock.Boot(), time.Until(r.wall))
}

// extend counts from when the renewal was sent. It reports whether that made it last longer.
func (r *run) extend(sent time.Duration, sentAt time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := sent + r.hold
	if until <= r.until {
		return false
	}
	r.until, r.wall = until, sentAt.Add(r.hold)
	return true
}

func newClient(l *Lease) *client {
	c := &client{l: l, pokes: make(chan struct{}, 1), begun: make(chan struct{}, 1), offers: map[string]*offering{}, find: newFinder(l)}
	c.session = newRun(c)
	return c
}

// hurry has the session renewed now.
func (c *client) hurry() { poke(c.pokes) }

// set changes what is said of a duty, and tells the leader.
func (c *client) set(duty string, f func(*offering)) {
	c.mu.Lock()
	o := c.offers[duty]
	if o == nil {
		o = &offering{}
		c.offers[duty] = o
	}
	was := *o
	f(o)
	changed := was.why() != o.why() || was.avoid != o.avoid || was.offers() != o.offers()
	if o.empty() {
		delete(c.offers, duty)
	}
	if changed {
		c.number++
	}
	c.mu.Unlock()
	if changed {
		c.hurry()
	}
}

func (o *offering) offers() bool { return o.waiting != nil || o.grant != nil }

func (o *offering) empty() bool { return !o.offers() && o.why() == "" && o.avoid == "" }

func (c *client) acquire(ctx context.Context, duty string) (*Grant, error) {
	a := &acquisition{make(chan *Grant, 1)}
	busy := false
	c.set(duty, func(o *offering) {
		if busy = o.offers() || c.leaving; !busy {
			o.waiting = a
		}
	})
	if busy {
		return nil, fmt.Errorf("acquire duty %q: %w: this node asks for it or holds it already", duty, ErrInvalid)
	}
	select {
	case g := <-a.granted:
		return g, nil
	case <-ctx.Done():
	}
	c.set(duty, func(o *offering) {
		if o.waiting == a {
			o.waiting = nil
		}
	})
	select {
	case g := <-a.granted: // it came just then
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.l.times.Hold)
		defer cancel()
		_ = g.Release(release)
	default:
	}
	return nil, context.Cause(ctx)
}

func (c *client) holding() (list []*Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.offers)) {
		if g := c.offers[name].grant; g != nil {
			list = append(list, g)
		}
	}
	return list
}

// run renews until ctx ends.
func (c *client) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.expire(ctx) })
	flying := make(chan struct{}, 3) // renewals under way: one that is stuck does not hold up the next
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		hurry := false
		select {
		case <-ctx.Done():
			return
		case <-c.pokes:
			hurry = true
		case <-timer.C:
		}
		timer.Reset(c.pause())
		if !c.wants() {
			continue
		}
		select {
		case flying <- struct{}{}:
			wg.Go(func() {
				defer func() { <-flying }()
				c.renew(ctx, hurry)
			})
		default:
		}
	}
}

// wants reports whether there is anything to say.
func (c *client) wants() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	// A voter also says whether it is fit to be one.
	return len(c.offers) > 0 || c.l.own.owes(c.l.group()) || c.l.server.serving()
}

func (c *client) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idleLocked() && c.lastErr == nil {
		return c.l.times.Idle
	}
	return c.l.times.Renew
}

func (c *client) idleLocked() bool {
	for _, o := range c.offers {
		if o.offers() {
			return false
		}
	}
	return true
}

// renew sends one renewal and takes the answer.
func (c *client) renew(ctx context.Context, hurry bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.l.times.Renew)
	defer cancel()
	var full bool
	for range 3 { // the second time with all offers, if the leader has not got them
		c.mu.Lock()
		s := c.session
		r := &renewing{Session: s.id, Name: c.l.cfg.Name, Number: c.number, Hurry: hurry, Idle: c.idleLocked(), Full: full, Over: c.overLocked()}
		if full {
			for _, name := range slices.Sorted(maps.Keys(c.offers)) {
				o := c.offers[name]
				f := offer{Duty: name, Refusal: o.why(), Avoid: o.avoid}
				if !o.offers() && f.Refusal == "" {
					continue
				}
				r.Offers = append(r.Offers, f)
			}
		}
		c.mu.Unlock()
		r.Unfit, r.Apart = c.l.unfit(), c.l.apart()
		sent, sentAt := c.l.clock.Boot(), time.Now()
		a, err := c.ask(ctx, &asking{Renew: r}, once)
		c.l.counts.renewals.Add(1)
		if err != nil {
			c.failed(err)
			return
		}
		again := c.take(s, sent, sentAt, a, r.Over)
		if !again {
			break
		}
		full, hurry = true, true
	}
	if c.l.own.owes(c.l.group()) {
		c.l.claim(ctx)
	}
}

func (c *client) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
	if !c.failing && c.l.clock.Boot()-c.lastGood > c.l.times.Hold {
		c.failing = true
		c.l.log.Warn("the lease group does not answer: nothing new is granted", "err", err)
	}
}

// take makes what this node holds what the leader says it does. over is what the leader was told of former sessions. It reports whether the leader
// wants the offers.
func (c *client) take(s *run, sent time.Duration, sentAt time.Time, a answer, over []string) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.toldLocked(over)
	c.lastErr, c.lastGood = nil, c.l.clock.Boot()
	if c.failing {
		c.failing = false
		c.l.log.Info("the lease group answers again")
	}
	if s != c.session {
		return false // an answer to what is over
	}
	if s.left() <= 0 && c.holdsLocked() {
		c.endLocked(ErrExpired) // nobody has looked yet: what is over must not begin again
		return true
	}
	if a.Expired {
		c.endLocked(fmt.Errorf("%w: the leader ended the session", ErrExpired))
		return true
	}
	if a.AsOf >= c.asOf {
		c.asOf = a.AsOf
		mine := make(map[string]heldDuty, len(a.Held))
		for _, h := range a.Held {
			if s.released[h.Duty] < h.Fence {
				mine[h.Duty] = h
			}
		}
		c.endMissingLocked(mine)
		extended := s.extend(sent, sentAt) // not before what was lost has ended, and before what is new begins
		c.beginLocked(s, mine, extended)
	}
	return a.Want
}

// endMissingLocked ends the grants that the leader does not name.
func (c *client) endMissingLocked(mine map[string]heldDuty) {
	for name, o := range c.offers {
		g := o.grant
		if g == nil || mine[name].Fence == g.Fence {
			continue
		}
		o.grant = nil
		c.number++
		c.l.counts.lost.Add(1)
		if g.finish(ErrLost) {
			c.l.log.Warn("duty lost", "duty", name, "fence", g.Fence)
		}
		if o.empty() {
			delete(c.offers, name)
		}
	}
}

// beginLocked begins grants that are new, and passes on what the leader wants of the others.
func (c *client) beginLocked(s *run, mine map[string]heldDuty, extended bool) {
	for name, h := range mine {
		o := c.offers[name]
		switch {
		case o != nil && o.grant != nil:
			if h.Over != "" {
				o.grant.handOver(h.Over)
			}
			if extended {
				poke(o.grant.renewed)
			}
		case o != nil && o.waiting != nil:
			ctx, cancel := context.WithCancelCause(context.Background())
			g := &Grant{
				Duty: name, Fence: h.Fence, Since: time.UnixMilli(h.Since), c: c, session: s, ctx: ctx, cancel: cancel,
				renewed: make(chan struct{}, 1),
			}
			o.grant = g
			c.l.log.Info("duty held", "duty", name, "fence", h.Fence)
			o.waiting.granted <- g
			o.waiting = nil
			poke(c.begun)
		default: // it was given up before it came
			s.released[name] = h.Fence
			go func() { _ = c.giveBack(s, name, h.Fence) }()
		}
	}
}

// expire ends what was not renewed in time.
func (c *client) expire(ctx context.Context) {
	for {
		c.mu.Lock()
		s, held := c.session, c.holdsLocked()
		wait := time.Hour
		if held {
			wait = c.l.times.Renew / 5
			if left := s.left(); left <= 0 {
				c.endLocked(ErrExpired)
			} else {
				wait = min(wait, left)
			}
		}
		c.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.begun:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (c *client) holdsLocked() bool {
	for _, o := range c.offers {
		if o.grant != nil {
			return true
		}
	}
	return false
}

// overLocked are former sessions whose deadlines have passed. One that ended before its deadline is not among them until then: what it stood for
// may still be stopping.
func (c *client) overLocked() (ids []string) {
	for _, r := range c.former {
		if r.left() <= 0 {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// toldLocked forgets former sessions of which the leader was told. A leader that follows it has to hear of them as well, so they are kept for as
// long as a leader keeps a session.
func (c *client) toldLocked(ids []string) {
	c.former = slices.DeleteFunc(c.former, func(r *run) bool {
		return slices.Contains(ids, r.id) && r.left() < -c.l.times.Session
	})
}

// endLocked ends the session and all it holds, and begins another.
func (c *client) endLocked(cause error) {
	for name, o := range c.offers {
		if g := o.grant; g != nil {
			o.grant = nil
			c.l.counts.lost.Add(1)
			if g.finish(cause) {
				c.l.log.Warn("duty given up", "duty", name, "fence", g.Fence, "reason", cause)
			}
			if o.empty() {
				delete(c.offers, name)
			}
		}
	}
	c.former = append(c.former, c.session)
	c.former = slices.Delete(c.former, 0, max(0, len(c.former)-maxSessions))
	c.session = newRun(c)
	c.number++
	c.hurry()
}

// dropAll ends all that is held.
func (c *client) dropAll(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(cause)
}

// release tells the leader that a duty has stopped here.
func (c *client) release(ctx context.Context, g *Grant) error {
	c.mu.Lock()
	if o := c.offers[g.Duty]; o != nil && o.grant == g {
		o.grant = nil
		c.number++
		if o.empty() {
			delete(c.offers, g.Duty)
		}
	}
	g.session.released[g.Duty] = g.Fence
	c.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- c.giveBack(g.session, g.Duty, g.Fence) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("release duty %q: %w", g.Duty, ctx.Err())
	}
}

// giveBack goes on until the leader has heard it, or the session cannot last any more.
func (c *client) giveBack(s *run, duty string, fence uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*c.l.times.Session)
	defer cancel()
	_, err := c.ask(ctx, &asking{Release: &releasing{Session: s.id, Ends: []endOp{{duty, fence}}}}, untilDone)
	if err != nil {
		return fmt.Errorf("release duty %q: %w", duty, err)
	}
	return nil
}

// leave ends the session in order: all campaigns must be over, or are told to be. What others wait for is free at once.
func (c *client) leave() {
	c.mu.Lock()
	c.leaving = true
	s := c.session
	var held []*Grant
	for _, o := range c.offers {
		if o.grant != nil {
			held = append(held, o.grant)
		}
	}
	c.mu.Unlock()
	for _, g := range held {
		g.handOver("the agent stops")
	}
	// Holders release what they hold themselves; who does not within a renewal's time loses it.
	end := time.Now().Add(c.l.times.Hold)
	for time.Now().Before(end) && len(c.holding()) > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	for _, g := range c.holding() {
		g.finish(ErrReleased)
	}
	if g, ok := c.l.Group(); !ok || g.ID == "" || s.left() <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.l.times.Hold)
	defer cancel()
	if _, err := c.ask(ctx, &asking{Release: &releasing{Session: s.id, Over: true}}, untilDone); err != nil {
		c.l.log.Debug("the session was not ended in order; it ends by itself", "err", err)
	}
}

// How long ask goes on.
type persistence int

const (
	once      persistence = iota // until somebody answers who should know; for what is repeated anyway
	untilDone                    // until it is done, or ctx ends; for what may be done twice without harm
	untilSent                    // until it may have been done; for what must not be done twice
)

// ask sends a request to the leader, whoever that is. Errors: those of the leader (see errCodes); ErrNoGroup; ErrNoLeader, when
// nothing was done; ErrUnknown, when it may have been.
func (c *client) ask(ctx context.Context, q *asking, how persistence) (answer, error) {
	var last error
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, c.l.times.Renew) {
		g, ok := c.l.Group()
		if !ok {
			last = ErrNoGroup
		} else {
			q.Group, q.Epoch = g.ID, g.epoch()
			a, err := c.find.try(ctx, q)
			var remote *remoteError
			switch {
			case err == nil || errors.As(err, &remote) && !errors.Is(err, errNotProposed):
				if how == untilDone && errors.Is(err, ErrUnknown) {
					break // once more
				}
				return a, err
			case errors.Is(err, ErrUnknown) && how == untilSent:
				return answer{}, err
			case how == once:
				return answer{}, err
			}
			last = err
		}
		if how == once && last != nil {
			return answer{}, last
		}
		select {
		case <-ctx.Done():
			return answer{}, fmt.Errorf("%w: %w", last, ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (l *Lease) unfit() string {
	if err := l.disk.Sick(); err != nil {
		return err.Error()
	}
	if l.cfg.Unfit != nil {
		return l.cfg.Unfit()
	}
	return ""
}

func (l *Lease) apart() string {
	if l.cfg.Apart == nil {
		return ""
	}
	return l.cfg.Apart()
}

// shortID names a node for logs.
func shortID(node string) string { return strings.ToLower(node[:min(len(node), 8)]) }
