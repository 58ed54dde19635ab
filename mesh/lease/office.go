package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// office is one leader's time in office, from the moment when all former entries are folded until raft says that it is
// over. Everything in it but the log is memory, and goes with it.
type office struct {
	l    *Lease
	raft *raft.Raft
	m    *machine
	term uint64
	ctx  context.Context // ends with the office
	poke chan struct{}   // something may be to assign
	conf *confirmer
	// since is when the office began, on Boot; nothing is granted before notBefore.
	since, notBefore time.Duration

	mu       sync.Mutex    // guards the fields below
	seen     time.Duration // Boot at the last tick
	sessions map[string]*session
	moves    map[string]move
	asked    map[string]ask // duties whose holders were asked to hand over
	unwanted map[string]time.Duration
	leading  bool // the leadership is being handed over: nothing is answered
	plan     change
	nodes    map[string]seenNode // since when nodes are alive or not, as this leader saw them
}

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
	ending bool // its end was proposed: it never renews again
	idle   bool
	unfit  string
}

type move struct {
	node  string
	until time.Duration
}

type ask struct {
	fence uint64
	to    string
	why   string
	at    time.Duration
}

type seenNode struct {
	alive bool
	since time.Duration
}

// moveLasts is how long a person's wish for a duty's place stands while it cannot be fulfilled, and holds it there.
const moveLasts = 5 * time.Minute

// newOffice begins one: every session that holds anything has its full time again, because the leader before may have
// renewed it a moment ago.
func newOffice(ctx context.Context, l *Lease, r *raft.Raft, m *machine, term uint64) *office {
	o := &office{
		l: l, raft: r, m: m, term: term, ctx: ctx, poke: make(chan struct{}, 1),
		sessions: map[string]*session{}, moves: map[string]move{}, asked: map[string]ask{}, unwanted: map[string]time.Duration{},
		nodes: map[string]seenNode{},
	}
	o.conf = newConfirmer(o)
	o.since = l.clock.Boot()
	o.seen = o.since
	// A new leader first hears from everybody, lest it give all to who comes first.
	o.notBefore = o.since + l.times.Renew/2
	m.read(func(s *state) {
		for id, duties := range s.bySession {
			o.sessions[id] = &session{id: id, node: s.Duties[duties[0]].Node, ends: o.since + l.times.Session}
		}
	})
	return o
}

// run assigns duties and ends sessions until the office is over.
func (o *office) run() {
	var wg sync.WaitGroup
	wg.Go(o.conf.run)
	wg.Go(o.watchVoters)
	o.introduce()
	defer wg.Wait()
	tick := time.NewTicker(o.l.times.Tick)
	defer tick.Stop()
	// What a duty's place follows from is told by a poke; the rest, such as the passing of time, can wait a little. A thousand duties
	// of sixty nodes take milliseconds to look at.
	again := o.notBefore
	for {
		poked := false
		select {
		case <-o.ctx.Done():
			return
		case <-o.poke:
			poked = true
		case <-tick.C:
		}
		o.endSessions()
		if now := o.l.clock.Boot(); now >= o.notBefore && (poked || now >= again) {
			o.assign()
			again = now + o.l.times.Settle/2
		}
	}
}

// mostIntroduced is how many nodes a new leader tells that it is one. Where there are more, the rest find out with their next renewal.
const mostIntroduced = 64

// introduce has the nodes of the datacenter renew now, so that the leader knows who would take what.
func (o *office) introduce() {
	n := 0
	for m := range o.l.cfg.Mesh.View().Alive() {
		if m.Datacenter != o.l.cfg.Datacenter {
			continue
		}
		o.l.pokeNode(m.ID)
		if n++; n == mostIntroduced {
			return
		}
	}
}

func (o *office) wake() { poke(o.poke) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// endSessions proposes the end of the sessions whose time is over. A leader that was away cannot tell theirs from its own.
func (o *office) endSessions() {
	o.mu.Lock()
	now := o.l.clock.Boot()
	if away := now - o.seen; away > 3*o.l.times.Tick+o.l.times.Renew || away < 0 {
		o.l.log.Warn("the lease leader was away: every session has its full time again", "away", away.String())
		for _, s := range o.sessions {
			s.ends = max(s.ends, now+o.l.times.Session)
		}
	}
	o.seen = now
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
			return
		}
		holds := false
		o.m.read(func(st *state) { holds = len(st.bySession[s.id]) > 0 })
		if holds {
			o.l.log.Warn("session ended: its duties are free", "node", s.node, "name", s.name)
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
		o.seen = o.l.clock.Boot() // waiting for the disk is not being away
		o.mu.Unlock()
		o.wake()
	}
}

// grantedBefore reports whether a duty was granted in this generation.
func (o *office) grantedBefore() (was bool) {
	o.m.read(func(s *state) {
		for _, d := range s.Duties {
			was = was || d.Fence>>44 == s.Generation
		}
	})
	return was
}

// assignment is the picture from which plan chooses.
func (o *office) assignment() assignment {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.assignmentLocked()
}

func (o *office) assignmentLocked() assignment {
	now := o.l.clock.Boot()
	a := assignment{
		Holders: map[string]held{}, Candidates: map[string][]candidate{}, Drained: map[string]string{}, Moves: map[string]string{},
		Leader: o.l.cfg.NodeID, Settled: now-o.since >= o.l.times.Settle,
	}
	o.m.read(func(s *state) {
		for name, d := range s.Duties {
			if d.Node != "" {
				a.Holders[name] = held{d.Node, d.Session}
			}
		}
		for node, d := range s.Drained {
			a.Drained[node] = d.Reason
		}
	})
	for _, s := range o.sessions {
		if s.ending {
			continue
		}
		gone := o.quiet(s, now)
		for duty, f := range s.offers {
			c := candidate{Node: s.node, Name: s.name, Session: s.id, Refusal: f.Refusal, Avoid: f.Avoid}
			if c.Refusal == "" {
				c.Refusal = gone
			}
			a.Candidates[duty] = append(a.Candidates[duty], c)
		}
	}
	for duty, m := range o.moves {
		if now >= m.until {
			delete(o.moves, duty)
			continue
		}
		a.Moves[duty] = m.node
	}
	return a
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

// assign carries out what plan says.
func (o *office) assign() {
	a := o.assignment()
	var grants []grantOp
	for _, s := range a.plan() {
		if !s.Ask {
			if len(grants) < maxBatch {
				grants = append(grants, grantOp{Duty: s.Duty, Node: s.Node, Session: s.Session, Why: short(s.Why)})
			}
			continue
		}
		o.askFor(a, s)
	}
	if len(grants) > 0 {
		o.grant(op{Kind: opGrant, Grants: grants})
		if len(grants) == maxBatch {
			o.wake()
		}
	}
	o.forget(a)
}

// grant proposes grants and tells the nodes that got one.
func (o *office) grant(p op) error {
	out, err := o.propose(p)
	if err != nil {
		return err
	}
	nodes := map[string]bool{}
	o.mu.Lock()
	for _, g := range p.Grants {
		if slices.Contains(out.Granted, g.Duty) {
			nodes[g.Node] = true
			delete(o.asked, g.Duty)
		}
	}
	o.mu.Unlock()
	o.l.counts.granted.Add(uint64(len(out.Granted)))
	for _, g := range p.Grants {
		if slices.Contains(out.Granted, g.Duty) {
			o.l.log.Info("duty granted", "duty", g.Duty, "node", g.Node, "why", g.Why)
		}
	}
	for node := range nodes {
		o.l.pokeNode(node)
	}
	return nil
}

// askFor asks a holder to hand over. It hears it with its next renewal, which it is told to make now.
func (o *office) askFor(a assignment, s step) {
	h := a.Holders[s.Duty]
	fence := uint64(0)
	o.m.read(func(st *state) {
		if d := st.Duties[s.Duty]; d != nil {
			fence = d.Fence
		}
	})
	now := o.l.clock.Boot()
	o.mu.Lock()
	was, known := o.asked[s.Duty]
	if known && was.fence == fence {
		// Asked already. Another choice now is as good; who is on the way keeps it.
		late := now-was.at > o.l.times.HandOver
		o.mu.Unlock()
		if late {
			o.l.stuck(s.Duty, h.Node, now-was.at)
		}
		return
	}
	o.asked[s.Duty] = ask{fence: fence, to: s.Node, why: s.Why, at: now}
	o.mu.Unlock()
	o.l.log.Info("duty is to be handed over", "duty", s.Duty, "from", h.Node, "to", s.Node, "why", s.Why)
	o.l.pokeNode(h.Node)
}

// forget drops duties that nobody wants any more, after a day, so that their number stays bounded.
func (o *office) forget(a assignment) {
	const after = 24 * time.Hour
	now := o.l.clock.Boot()
	var old []string
	o.mu.Lock() // always before the state's lock
	o.m.read(func(s *state) {
		for name, d := range s.Duties {
			if d.Node != "" || len(a.Candidates[name]) > 0 {
				delete(o.unwanted, name)
				continue
			}
			since, ok := o.unwanted[name]
			if !ok {
				o.unwanted[name] = now
			} else if now-since > after && len(old) < maxBatch {
				old = append(old, name)
			}
		}
	})
	o.mu.Unlock()
	if len(old) > 0 {
		_, _ = o.propose(op{Kind: opForget, Duties: old}) // it is tried again
	}
}

// errNotProposed is wrapped by errors of entries that are not in the log and never will be.
var errNotProposed = errors.New("it was not carried out")

// propose writes an entry and waits until it is folded here.
func (o *office) propose(p op) (outcome, error) {
	p.Wall, p.Term = millis(o.l.clock.Now()), o.term
	entry := p.encode()
	if len(entry) > maxEntry {
		return outcome{}, fmt.Errorf("%w: an entry of %d bytes, at most %d", ErrInvalid, len(entry), maxEntry)
	}
	began := time.Now()
	f := o.raft.Apply(entry, o.l.times.Hold)
	// Raft, when it is shut down, leaves entries that it has committed without an answer.
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	var err error
	select {
	case err = <-done:
	case <-o.ctx.Done():
		select {
		case err = <-done:
		case <-time.After(o.l.times.Tick):
			return outcome{}, fmt.Errorf("%w: %w", ErrUnknown, errOffice)
		}
	}
	if err != nil {
		switch {
		// Not among these: raft.ErrRaftShutdown, which it also says of what was committed.
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
			return outcome{}, fmt.Errorf("%w: %w: %w", errNotProposed, ErrNoLeader, err)
		}
		return outcome{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	o.l.commits.observe(time.Since(began))
	out, ok := f.Response().(outcome)
	if !ok {
		return outcome{}, fmt.Errorf("%w: no answer of the state", ErrUnknown)
	}
	return out, out.Err
}

// renew keeps a session and tells what it holds.
func (o *office) renew(ctx context.Context, node string, r *renewing) answer {
	received := o.l.clock.Boot()
	o.mu.Lock()
	s := o.sessions[r.Session]
	if s == nil {
		if s = o.admitLocked(r.Session, node); s == nil {
			o.mu.Unlock()
			return failed(fmt.Errorf("%w: session of node %s", ErrInvalid, node))
		}
	}
	if s.ending || s.node != node {
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
	s.name, s.unfit, s.idle = clip(r.Name), clip(r.Unfit), r.Idle
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
		if s.ending { // it ended while the majority was asked: whatever the state says now, it is on its way out
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
			s.offers = nil
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

// successors are the grants that follow releases: to the nodes that were chosen when the holders were asked, if they are still
// there, else to the best.
func (o *office) successors(ends []endOp) (grants []grantOp) {
	if o.l.clock.Boot() < o.notBefore {
		return nil
	}
	a := o.assignment()
	load, limit := a.spread()
	for _, e := range ends {
		o.mu.Lock()
		q, asked := o.asked[e.Duty]
		o.mu.Unlock()
		for _, r := range a.ranks(e.Duty, load, limit) {
			if r.Class == classIneligible || r.Node == a.Holders[e.Duty].Node && r.Session == a.Holders[e.Duty].Session {
				continue
			}
			if asked && q.fence == e.Fence && r.Node == q.to {
				grants = append(grants, grantOp{Duty: e.Duty, Node: r.Node, Session: r.Session, Why: short(q.why)})
				break
			}
			if !asked || q.fence != e.Fence || !o.offers(q.to, e.Duty) {
				grants = append(grants, grantOp{Duty: e.Duty, Node: r.Node, Session: r.Session, Why: short(because(r, len(a.Candidates[e.Duty])))})
				break
			}
		}
	}
	return grants
}

// offers reports whether a node is there and takes a duty.
func (o *office) offers(node, duty string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.sessions {
		if f, ok := s.offers[duty]; ok && s.node == node && !s.ending && f.Refusal == "" {
			return true
		}
	}
	return false
}

// moveTo notes that a person wants a duty on a node, and begins to do it.
func (o *office) moveTo(m *moving) error {
	a := o.assignment()
	load, limit := a.spread()
	list := a.ranks(m.Duty, load, limit)
	if len(list) == 0 {
		return fmt.Errorf("duty %q: %w: no node offers or refuses it; see hostmesh duties", m.Duty, ErrNotFound)
	}
	i := slices.IndexFunc(list, func(r rank) bool { return r.Node == m.Node })
	switch {
	case i < 0:
		return fmt.Errorf("move duty %q to node %s: %w: the node has said nothing of this duty", m.Duty, m.Node, ErrIneligible)
	case list[i].Class == classIneligible:
		return fmt.Errorf("move duty %q to node %s: %w: %s", m.Duty, m.Node, ErrIneligible, list[i].Reason)
	}
	o.mu.Lock()
	o.moves[m.Duty] = move{m.Node, o.l.clock.Boot() + moveLasts}
	o.mu.Unlock()
	o.wake()
	return nil
}

// list is every duty that somebody holds, held or says something of.
func (o *office) list() []Status {
	a := o.assignment()
	names := map[string]bool{}
	for d := range a.Candidates {
		names[d] = true
	}
	o.m.read(func(s *state) {
		for d := range s.Duties {
			names[d] = true
		}
	})
	out := make([]Status, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, o.status(a, name))
	}
	return out
}

func (o *office) status(a assignment, name string) Status {
	st := Status{Duty: name}
	o.m.read(func(s *state) {
		if d := s.Duties[name]; d != nil {
			st.Node, st.Fence, st.Since, st.Why, st.Last = d.Node, d.Fence, d.Since, d.Why, d.Last
		}
	})
	for _, c := range a.Candidates[name] {
		if _, drained := a.Drained[c.Node]; c.Refusal == "" && !drained {
			st.Candidates++
		}
		if c.Node == st.Node {
			st.Name = c.Name
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if q, ok := o.asked[name]; ok && q.fence == st.Fence && st.Node != "" {
		st.Over, st.To, st.OverMS = q.why, q.to, (o.l.clock.Boot() - q.at).Milliseconds()
	}
	return st
}

// explain tells who could have a duty, and why who has it.
func (o *office) explain(name string) (*Explanation, error) {
	a := o.assignment()
	load, limit := a.spread()
	e := &Explanation{Status: o.status(a, name), Leader: a.Leader}
	for _, r := range a.ranks(name, load, limit) {
		mine := a.Holders[name] == held{r.Node, r.Session}
		holds := load[r.Node]
		if mine {
			holds--
		}
		e.Ranks = append(e.Ranks, Rank{Node: r.Node, Name: r.Name, Class: classNames[r.Class], Reason: r.Reason, Holds: holds, Weight: r.Weight, Holder: mine})
	}
	if len(e.Ranks) == 0 && e.Status.Fence == 0 {
		return nil, fmt.Errorf("duty %q: %w; see hostmesh duties", name, ErrNotFound)
	}
	return e, nil
}

// short is a reason as it stands in the log.
func short(why string) string { return why[:min(len(why), maxWhy)] }
