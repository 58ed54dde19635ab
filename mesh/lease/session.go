package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// session is one agent, as it last renewed.
type session struct {
	id     string
	node   string
	name   string
	heard  time.Duration // on Boot: the last renewal
	ends   time.Duration // on Boot
	number uint64        // of offers
	known  bool          // offers were sent to this leader
	offers map[string]offer
	over   bool // its node has begun another, because this one's deadline had passed
	ending bool // its end was proposed: it never renews again
	idle   bool
	unfit  string
	apart  string // why its node should not lead
}

// endSessions proposes the end of the sessions whose time is over, and returns when it is to be called again. A leader that was away cannot tell theirs from its own.
func (o *office) endSessions() (again time.Duration) {
	o.mu.Lock()
	now := o.l.clock.Boot()
	if away := now - o.seen; away > 3*o.l.times.Tick+o.l.times.Renew || away < 0 {
		o.l.log.Warn("the lease leader was away: every session has its full time again", "away", away.String())
		for _, s := range o.sessions {
			if !s.over { // of that one it has heard all there is to hear
				s.ends = max(s.ends, now+o.l.times.Session)
			}
		}
	}
	o.lookLocked(now)
	again = o.l.times.Renew // nobody waits for the end of a session that wants nothing
	for _, s := range o.sessions {
		if !s.idle {
			again = o.l.times.Tick
			break
		}
	}
	// Whoever left while a grant to it was on its way holds something and renews nothing.
	o.m.read(func(s *state) {
		for id, duties := range s.bySession {
			if o.sessions[id] == nil {
				o.sessions[id] = &session{id: id, node: s.Duties[duties[0]].Node, ends: now + o.l.times.Session}
			}
		}
	})
	var over []*session
	for _, s := range o.sessions {
		if !s.ending && now >= s.ends {
			s.ending = true
			over = append(over, s)
		}
	}
	o.mu.Unlock()
	for _, s := range over {
		if o.ctx.Err() != nil {
			return again
		}
		holds := false
		o.m.read(func(st *state) { holds = len(st.bySession[s.id]) > 0 })
		if holds {
			o.l.log.Warn("session ended: its duties are free", "node", s.node, "name", s.name, "reason", s.whyOver())
			if _, err := o.propose(op{Kind: opExpire, Session: s.id}); err != nil {
				// The office is over, or the disk is sick: the next leader counts anew. Should this one stay, it tries again.
				o.mu.Lock()
				s.ending = !errors.Is(err, errNotProposed)
				o.mu.Unlock()
				continue
			}
			o.l.counts.expired.Add(1)
		}
		o.mu.Lock()
		delete(o.sessions, s.id)
		o.lookLocked(o.l.clock.Boot()) // waiting for the disk is not being away
		o.mu.Unlock()
		o.wake()
	}
	return again
}

// whyOver is why a session ends that was not ended in order.
func (s *session) whyOver() string {
	if s.over {
		return "its node heard no answer in time and stopped by itself"
	}
	return "it was not renewed"
}

// endsLocked shortens sessions of a node that the node itself says are over. Their deadlines passed before the message was sent, and it is the node that
// counts them from sending: no answer that is on its way can give it anything any more, and no renewal that is late means anything. What is
// left to wait for is what a deadline leaves to those who are late, such as the kernel with an address: the time by which a session outlasts it.
func (o *office) endsLocked(node string, ids []string, received time.Duration) {
	for _, id := range ids[:min(len(ids), maxSessions)] {
		if s := o.sessions[id]; s != nil && s.node == node && !s.over {
			s.over, s.offers = true, nil
			s.ends = min(s.ends, received+o.l.times.Session-o.l.times.Hold)
		}
	}
}

// quiet is why a session's node gets nothing new; "" = nothing stands against it. Whoever died with the holder of a duty still has a session
// when that duty is given away.
func (o *office) quiet(s *session, now time.Duration) string {
	silent := now - s.heard
	if silent <= 2*o.l.times.Renew+2*o.l.times.Tick {
		return ""
	}
	return fmt.Sprintf("it was not heard for %s", silent.Truncate(100*time.Millisecond))
}

// renew keeps a session and tells what it holds.
func (o *office) renew(ctx context.Context, node string, r *renewing) answer {
	received := o.l.clock.Boot()
	o.mu.Lock()
	o.endsLocked(node, r.Over, received)
	s := o.sessions[r.Session]
	if s == nil {
		if s = o.admitLocked(r.Session, node); s == nil {
			o.mu.Unlock()
			return failed(fmt.Errorf("%w: session of node %s", ErrInvalid, node))
		}
	}
	if s.ending || s.over || s.node != node {
		o.mu.Unlock()
		return answer{Expired: true}
	}
	lasts := o.l.times.Session
	if r.Idle {
		lasts = 3 * o.l.times.Idle
	}
	back := s.heard > 0 && o.quiet(s, received) != ""
	if s.idle && !r.Idle {
		s.ends = received // it was to last longer
	}
	s.heard, s.ends = received, max(s.ends, received+lasts)
	s.name, s.unfit, s.apart, s.idle = clip(r.Name), clip(r.Unfit), clip(r.Apart), r.Idle
	changed := back
	if r.Full && (!s.known || r.Number >= s.number) {
		s.known, s.number, changed = true, r.Number, true
		s.offers = make(map[string]offer, len(r.Offers))
		for _, f := range r.Offers {
			if checkName("duty", f.Duty) == nil && len(s.offers) < maxDuties {
				f.Refusal, f.Avoid = clip(f.Refusal), clip(f.Avoid)
				s.offers[f.Duty] = f
			}
		}
	}
	want := !s.known || s.number != r.Number
	o.mu.Unlock()
	if changed {
		o.wake()
	}
	if err := o.conf.confirm(ctx, r.Hurry); err != nil {
		return notLeader(err)
	}
	out := answer{Want: want}
	o.mu.Lock() // always before the state's lock
	defer o.mu.Unlock()
	o.m.read(func(st *state) {
		out.AsOf = st.asOf()
		if s.ending || s.over { // it ended while the majority was asked: whatever the state says now, it is on its way out
			out.Expired = true
			return
		}
		for _, name := range st.bySession[r.Session] {
			d := st.Duties[name]
			h := heldDuty{Duty: name, Fence: d.Fence, Since: d.Since}
			if q, ok := o.asked[name]; ok && q.fence == d.Fence {
				h.Over, h.To = q.why, q.to
			}
			out.Held = append(out.Held, h)
		}
	})
	return out
}

// maxSessions is how many sessions a node may have at a time: one, and those of its former lives that have not ended yet.
const maxSessions = 4

// admitLocked begins a session, nil when it cannot. The former ones of its node, who was restarted, take nothing new.
func (o *office) admitLocked(id, node string) *session {
	if len(id) != 32 {
		return nil
	}
	n := 0
	for _, s := range o.sessions {
		if s.node == node {
			// Should it renew all the same, then what begins here is the former one, whose renewal was late: it is asked for its offers again.
			s.offers, s.known = nil, false
			n++
		}
	}
	if n >= maxSessions {
		return nil
	}
	s := &session{id: id, node: node}
	o.sessions[id] = s
	return s
}

// release ends what a holder has stopped, and grants it to who is next, in one entry where that is possible.
func (o *office) release(node string, r *releasing) answer {
	ends := r.Ends
	o.mu.Lock()
	s := o.sessions[r.Session]
	if s != nil && s.node != node {
		o.mu.Unlock()
		return failed(fmt.Errorf("%w: the session is another node's", ErrInvalid))
	}
	if r.Over && s != nil {
		s.offers, s.known = nil, true
	}
	o.mu.Unlock()
	if r.Over {
		o.m.read(func(st *state) {
			for _, name := range st.bySession[r.Session] {
				ends = append(ends, endOp{name, st.Duties[name].Fence})
			}
		})
	}
	var err error
	for len(ends) > 0 && err == nil {
		n := min(len(ends), maxBatch)
		p := op{Kind: opRelease, Ends: ends[:n], Session: r.Session}
		p.Grants = o.successors(p.Ends)
		err = o.grant(p)
		ends = ends[n:]
	}
	if r.Over && err == nil {
		o.mu.Lock()
		delete(o.sessions, r.Session)
		o.mu.Unlock()
	}
	o.wake()
	if err != nil {
		return failed(err)
	}
	return answer{}
}
