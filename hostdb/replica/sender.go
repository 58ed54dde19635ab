package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// sender speaks to one peer: it pushes what the peer lacks of some origins, and pulls when told to. One goroutine a
// peer, so that a slow one delays nobody else.
type sender struct {
	r    *Replica
	node string
	poke chan struct{}
	stop context.CancelFunc

	// Guarded by r.mu.
	dirty   map[uint64]bool   // origins to push
	have    map[uint64]uint64 // what the peer is known to hold durably
	pull    bool              // a pull is wanted
	failing bool              // the last message went wrong
	differs bool              // the last comparison at equal versions found unequal digests
	lastErr string
	lastOK  time.Time
}

func newSender(r *Replica, node string) *sender {
	return &sender{
		r: r, node: node, poke: make(chan struct{}, 1), stop: func() {},
		dirty: map[uint64]bool{}, have: map[uint64]uint64{}, pull: true,
	}
}

func (s *sender) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *sender) wantPull() {
	s.r.mu.Lock()
	s.pull = true
	s.r.mu.Unlock()
	s.wake()
}

// pushOwn tells the senders that there is something new of ours.
func (r *Replica) pushOwn() {
	if origin := r.cfg.Store.Origin(); origin != 0 {
		r.push(origin, r.cfg.NodeID, "")
	}
}

// push tells the senders of our children in root's tree that an origin has grown; except is where it came from.
func (r *Replica) push(origin uint64, root, except string) {
	nodes := append(r.cfg.Peers.Alive(), r.cfg.NodeID)
	if root != r.cfg.NodeID && len(nodes) <= r.cfg.Fanout+1 {
		return // the writer pushes to everybody itself
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, node := range children(nodes, root, r.cfg.NodeID, r.cfg.Fanout) {
		if s := r.senders[node]; s != nil && node != except {
			s.dirty[origin] = true
			s.wake()
		}
	}
}

func (s *sender) run(ctx context.Context) {
	backoff := newBackoff()
	s.wake()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
		}
		for s.busy() && ctx.Err() == nil {
			err := s.work(ctx)
			if errors.Is(err, errLater) {
				continue // nothing was said: nothing is known anew
			}
			s.settle(err)
			if err == nil {
				backoff.reset()
				continue
			}
			if ctx.Err() == nil {
				s.r.log.Debug("peer does not take operations", "peer", s.node, "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff.next()):
			}
		}
	}
}

func (s *sender) busy() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.pull || len(s.dirty) > 0
}

// work does one thing that is due: pushes first, because people wait for them.
func (s *sender) work(ctx context.Context) error {
	s.r.mu.Lock()
	for origin := range s.dirty {
		have := s.have[origin]
		s.r.mu.Unlock()
		return s.pushOrigin(ctx, origin, have)
	}
	pull := s.pull
	s.r.mu.Unlock()
	if pull {
		return s.pullAll(ctx)
	}
	return nil
}

// settle notes how the last message went.
func (s *sender) settle(err error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.failing = err != nil
	if err != nil {
		s.lastErr = err.Error()
	} else {
		s.lastErr, s.lastOK = "", time.Now()
	}
	s.r.wakeLocked()
}

// pushOrigin sends the next piece of what the peer lacks of an origin.
func (s *sender) pushOrigin(ctx context.Context, origin, have uint64) error {
	r := s.r
	r.mu.Lock()
	delete(s.dirty, origin) // anything committed from here on sets it again
	r.mu.Unlock()
	again := func() {
		r.mu.Lock()
		s.dirty[origin] = true
		r.mu.Unlock()
	}
	last := r.cfg.Store.View().Seq(origin)
	if have >= last {
		return nil
	}
	if have == 0 && last > 1 {
		have = last - 1 // most likely the peer lacks only the newest; its answer says what it has
	}
	ops, err := r.cfg.Store.Operations(origin, have, r.cfg.MessageBytes)
	if err != nil {
		again()
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	answer, err := s.callPush(ctx, ops)
	if err != nil {
		again()
		return err
	}
	got := answer.Have[origin]
	r.mu.Lock()
	progress := got > s.have[origin]
	s.have[origin] = got
	if got < r.cfg.Store.View().Seq(origin) {
		s.dirty[origin] = true
	}
	r.counts.PushedOps += uint64(len(ops))
	r.mu.Unlock()
	if !progress && answer.Reason != "" {
		return fmt.Errorf("peer %s: %s", s.node, answer.Reason)
	}
	return nil
}

func (s *sender) callPush(ctx context.Context, ops [][]byte) (*pushAnswer, error) {
	var answer pushAnswer
	if err := s.call(ctx, pushName, pushRequest{Ops: ops}, &answer); err != nil {
		s.r.mu.Lock()
		s.r.counts.PushErrors++
		s.r.mu.Unlock()
		return nil, err
	}
	return &answer, nil
}

func (s *sender) call(ctx context.Context, name string, req, answer any) error {
	body, err := encode(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.r.cfg.CallTimeout)
	defer cancel()
	back, err := s.r.cfg.Peers.Call(ctx, s.node, name, body)
	s.r.mu.Lock()
	s.r.counts.BytesSent += uint64(len(body))
	s.r.counts.BytesReceived += uint64(len(back))
	s.r.mu.Unlock()
	if err != nil {
		return err
	}
	return decode(back, answer)
}

// pullAll asks the peer for what is missing here until nothing is, then compares digests.
func (s *sender) pullAll(ctx context.Context) error {
	r := s.r
	if !s.takeTurn() {
		return errLater
	}
	defer r.nextTurn()
	began := time.Now()
	fail := func(err error) error {
		r.mu.Lock()
		s.pull = true
		r.counts.PullErrors++
		r.mu.Unlock()
		return err
	}
	held := map[uint64]bool{} // origins that cannot be taken now
	for {
		vector := map[uint64]uint64{}
		for origin, seq := range r.cfg.Store.View().Vector() {
			vector[origin] = seq
		}
		for origin := range held {
			vector[origin] = ^uint64(0)
		}
		var answer pullAnswer
		if err := s.call(ctx, pullName, pullRequest{Vector: vector, Bytes: r.cfg.MessageBytes}, &answer); err != nil {
			return fail(err)
		}
		if answer.Busy {
			return fail(errors.New("the peer answers others; later"))
		}
		taken, err := r.take(ctx, s.node, answer.Ops, held)
		r.mu.Lock()
		r.counts.Pulls++
		r.counts.PulledOps += uint64(taken)
		for origin, seq := range answer.Vector {
			s.have[origin] = max(s.have[origin], seq)
		}
		r.mu.Unlock()
		if err != nil {
			return fail(err)
		}
		if len(answer.Ops) == 0 || !answer.More {
			r.mu.Lock()
			r.synced = true
			if len(held) == 0 {
				r.floors[s.node] = max(r.floors[s.node], answer.Floor)
			}
			r.mu.Unlock()
			r.compare(s.node, &answer)
			s.offer(&answer)
			return nil
		}
		if time.Since(began) > turn && r.othersWait() {
			s.wantPull()
			return nil
		}
	}
}

// turn is how long one peer's pull goes on while others wait: a slow peer does not keep a joiner from a fast one.
const turn = 2 * time.Second

// errLater is returned by a pull that waits for its turn.
var errLater = errors.New("another pull runs")

// takeTurn lets one pull run at a time: all peers have the same to give. It reports false when another runs; this one
// is woken after it.
func (s *sender) takeTurn() bool {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	s.pull = false
	if r.pulling {
		if !slices.Contains(r.turns, s) {
			r.turns = append(r.turns, s)
		}
		return false
	}
	r.pulling = true
	return true
}

// nextTurn ends a pull and wakes the next that waits, if its peer is still there.
func (r *Replica) nextTurn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulling = false
	for len(r.turns) > 0 {
		s := r.turns[0]
		r.turns = r.turns[1:]
		if r.senders[s.node] == s {
			s.pull = true
			s.wake()
			return
		}
	}
}

func (r *Replica) othersWait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.turns) > 0
}

// offer pushes what of ours the peer turned out to lack: it may have missed it while it was away.
func (s *sender) offer(answer *pullAnswer) {
	origin := s.r.cfg.Store.Origin()
	if origin == 0 || answer.Vector[origin] >= s.r.cfg.Store.View().Seq(origin) {
		return
	}
	s.r.mu.Lock()
	s.dirty[origin] = true
	s.r.mu.Unlock()
}

// take applies operations origin by origin, so that one that must wait holds back nobody else.
func (r *Replica) take(ctx context.Context, from string, ops [][]byte, held map[uint64]bool) (taken int, err error) {
	for len(ops) > 0 {
		origin, _, err := hostdb.PeekOperation(ops[0])
		if err != nil {
			return taken, fmt.Errorf("peer %s sent what is no operation: %w", from, err)
		}
		n := 1
		for n < len(ops) {
			if next, _, err := hostdb.PeekOperation(ops[n]); err != nil || next != origin {
				break
			}
			n++
		}
		got, err := r.cfg.Store.Apply(ctx, ops[:n])
		taken += got
		if err != nil && !r.tolerate(from, origin, err) {
			return taken, err
		}
		if err != nil {
			held[origin] = true
		}
		ops = ops[n:]
	}
	return taken, nil
}

// tolerate reports whether an error of Apply concerns one origin only, and makes it seen.
func (r *Replica) tolerate(from string, origin uint64, err error) bool {
	name := fmt.Sprintf("%016x", origin)
	node := r.cfg.Store.View().OriginNode(origin)
	switch {
	case errors.Is(err, hostdb.ErrFuture):
		r.count(func(c *Counts) { c.HeldAside++ })
		r.alarm("operations held aside: their writer's clock runs ahead", "peer", from, "origin", name, "writer", node, "err", err)
	case errors.Is(err, hostdb.ErrFork):
		r.count(func(c *Counts) { c.Forks++ })
		r.alarm("an origin's chain forks: two boxes write under one identity, or a peer changed history", "peer", from, "origin", name, "writer", node, "err", err)
	case errors.Is(err, hostdb.ErrGap):
		// Another pull fills it.
	default:
		return false
	}
	return true
}

func (r *Replica) count(fn func(*Counts)) {
	r.mu.Lock()
	fn(&r.counts)
	r.mu.Unlock()
}

// compare holds our digests against a peer's of the same version.
func (r *Replica) compare(node string, answer *pullAnswer) {
	v := r.cfg.Store.View()
	if answer.Algorithm != hostdb.DigestAlgorithm || answer.Version != v.Version().String() || v.Unfolded() > 0 {
		return
	}
	differs := false
	defer func() {
		r.mu.Lock()
		if s := r.senders[node]; s != nil {
			s.differs = differs
		}
		r.mu.Unlock()
	}()
	for _, ns := range v.Namespaces() {
		if theirs, ok := answer.Digests[ns]; ok && theirs != v.Digest(ns) {
			differs = true
			r.count(func(c *Counts) { c.Mismatches++ })
			r.alarm("replicas with equal versions differ", "peer", node, "namespace", ns, "version", answer.Version, "ours", v.Digest(ns), "theirs", theirs)
		}
	}
}

// backoff is a pause that doubles from 50 ms to 5 s.
type backoff struct{ d time.Duration }

func newBackoff() *backoff { return &backoff{d: 50 * time.Millisecond} }

func (b *backoff) reset() { b.d = 50 * time.Millisecond }

func (b *backoff) next() time.Duration {
	d := b.d
	b.d = min(2*b.d, 5*time.Second)
	return jitter(d)
}
