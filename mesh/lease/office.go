package lease

import (
	"context"
	"errors"
	"fmt"
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
	seenAt   time.Time     // the same moment on the runtime's clock, which stands still while the machine sleeps
	sessions map[string]*session
	moves    map[string]move
	asked    map[string]ask // duties whose holders were asked to hand over
	unwanted map[string]time.Duration
	leading  bool // the leadership is being handed over: nothing is answered
	plan     change
	nodes    map[string]seenNode // since when nodes are alive or not, as this leader saw them
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
// renewed it a moment ago. Unless that was this node: of two terms in a row there was no other leader between, and before, which is this node's office of the
// former one or nil, knows all renewals that were answered. It answers none any more: a renewal counts there before the majority is asked, and a
// majority that knows of the new term does not confirm it.
func newOffice(ctx context.Context, l *Lease, r *raft.Raft, m *machine, term uint64, before *office) *office {
	o := &office{
		l: l, raft: r, m: m, term: term, ctx: ctx, poke: make(chan struct{}, 1),
		sessions: map[string]*session{}, moves: map[string]move{}, asked: map[string]ask{}, unwanted: map[string]time.Duration{},
		nodes: map[string]seenNode{},
	}
	o.conf = newConfirmer(o)
	o.since = l.clock.Boot()
	o.lookLocked(o.since)
	// A new leader first hears from everybody, lest it give all to who comes first.
	o.notBefore = o.since + l.times.Renew/2
	m.read(func(s *state) {
		for id, duties := range s.bySession {
			o.sessions[id] = &session{id: id, node: s.Duties[duties[0]].Node, ends: o.since + l.times.Session}
		}
	})
	if before != nil && before.raft == r && before.m == m && before.term+1 == term {
		o.remember(before)
	}
	return o
}

// remember takes from this node's former office when sessions end. After sleep it takes nothing, as an office does that was away.
func (o *office) remember(before *office) {
	before.mu.Lock()
	defer before.mu.Unlock()
	if slept := o.since - before.seen - o.seenAt.Sub(before.seenAt); slept > o.l.times.Tick || slept < -o.l.times.Tick {
		return
	}
	for id, s := range o.sessions {
		if f := before.sessions[id]; f != nil && f.node == s.node {
			s.ends, s.over = min(s.ends, f.ends), f.over
		}
	}
}

// lookLocked notes that the leader is there.
func (o *office) lookLocked(now time.Duration) { o.seen, o.seenAt = now, time.Now() }

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
		tick.Reset(o.endSessions())
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

// short is a reason as it stands in the log.
func short(why string) string { return why[:min(len(why), maxWhy)] }
