package replica

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// pushPatience is how long a push may take before others count as waiting for a sick box.
const pushPatience = time.Second

// pushOwn tells our children in our own tree that there is something new of ours.
func (r *Replica) pushOwn() {
	if origin := r.cfg.Store.Origin(); origin != 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.acked.origin != origin {
			r.acked = acked{origin: origin, by: map[string]uint64{}}
		}
		r.pushLocked(origin, r.cfg.NodeID, "")
	}
}

// push tells our children in root's tree that an origin has grown; except is where it came from.
func (r *Replica) push(origin uint64, root, except string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if root != r.cfg.NodeID && r.roster.others() <= r.cfg.Fanout {
		return // the writer pushes to everybody itself
	}
	r.pushLocked(origin, root, except)
}

func (r *Replica) pushLocked(origin uint64, root, except string) {
	for _, node := range r.roster.children(root, r.cfg.NodeID, r.cfg.Fanout) {
		if node == except {
			continue
		}
		r.dirtyLocked(node, origin)
		if p := r.peers[node]; p != nil && (p.failing || p.slow) {
			r.takeOverLocked(node, origin, root)
		}
	}
}

// dirtyLocked has an origin pushed to a peer, unless it holds all of it.
func (r *Replica) dirtyLocked(node string, origin uint64) {
	if node == r.cfg.NodeID || !r.roster.has(node) || r.ctx == nil || r.over {
		return
	}
	p := r.peerLocked(node)
	if slices.Contains(p.dirty, origin) || !p.sending && p.seq(origin) >= r.cfg.Store.View().Seq(origin) {
		return
	}
	p.dirty = append(p.dirty, origin)
	r.sendLocked(p)
}

// sendLocked starts the goroutine that pushes to a peer.
func (r *Replica) sendLocked(p *peer) {
	if p.sending || len(p.dirty) == 0 || r.over {
		return
	}
	ctx, stop := context.WithCancel(r.ctx)
	p.sending, p.stop = true, stop
	r.wg.Go(func() { r.send(ctx, p) })
}

// takeOverLocked pushes to the children of a peer that fails or is slow, one level: should one of them be sick as well, its
// children follow when that shows. When most of our own children fail it is rather us, and there would be thousands: then
// repair brings what is missing.
func (r *Replica) takeOverLocked(node string, origin uint64, root string) {
	kids := r.roster.children(root, r.cfg.NodeID, r.cfg.Fanout)
	sick := 0
	for _, k := range kids {
		if p := r.peers[k]; p != nil && (p.failing || p.slow) {
			sick++
		}
	}
	if len(kids) >= 3 && 2*sick > len(kids) {
		return
	}
	theirs := r.roster.children(root, node, r.cfg.Fanout)
	if len(theirs) == 0 {
		return
	}
	// Until it shows that most fail, a chain of them must not lead through the whole mesh.
	if now := time.Now(); now.Sub(r.tookOver) > time.Second {
		r.tookOver, r.takeovers = now, 0
	}
	if r.takeovers++; r.takeovers > max(4, len(kids)) {
		return
	}
	r.counts.TakenOver++
	for _, k := range theirs {
		r.dirtyLocked(k, origin)
	}
}

// send pushes to a peer until nothing is left to push, or the peer is gone.
func (r *Replica) send(ctx context.Context, p *peer) {
	for {
		r.mu.Lock()
		if len(p.dirty) == 0 || ctx.Err() != nil || r.over {
			p.stop()
			p.sending = false
			if r.roster.has(p.node) {
				r.sendLocked(p) // it came back meanwhile
			}
			r.mu.Unlock()
			return
		}
		origin, fails := p.dirty[0], p.fails
		p.dirty = p.dirty[1:] // anything committed from here on puts it back
		r.mu.Unlock()
		sent, err := r.pushOrigin(ctx, p, origin)
		r.mu.Lock()
		if sent || err != nil {
			r.settleLocked(p, err)
		}
		if err != nil {
			if !slices.Contains(p.dirty, origin) && ctx.Err() == nil {
				p.dirty = append(p.dirty, origin)
			}
			if ctx.Err() == nil {
				r.takeOverLocked(p.node, origin, r.cfg.Store.View().OriginNode(origin))
			}
		}
		r.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			r.log.Debug("peer does not take operations", "peer", p.node, "err", err)
			pause(ctx, backoff(fails+1))
		}
	}
}

// pushOrigin sends the next piece of what the peer lacks of an origin.
func (r *Replica) pushOrigin(ctx context.Context, p *peer, origin uint64) (sent bool, err error) {
	r.mu.Lock()
	have, told := p.seq(origin), p.told
	barred := r.barredLocked(p.node, origin)
	r.mu.Unlock()
	last := r.cfg.Store.View().Seq(origin)
	if have >= last || barred {
		return false, nil
	}
	if have > 0 || last == 1 || told { // a peer that was compared, and then named nothing of it, has nothing of it: it is new
		sent, _, err = r.pushAfter(ctx, p, origin, have, false)
		return sent, err
	}
	// Most likely it lacks only the newest. Its answer says what it has: where that is less, what it lacks follows at once.
	sent, got, err := r.pushAfter(ctx, p, origin, last-1, true)
	if err == nil && sent && got < last-1 {
		sent, _, err = r.pushAfter(ctx, p, origin, got, false)
	}
	return sent, err
}

// pushAfter sends operations after one that the peer has, or is guessed to have. got is what it has then, by its answer.
func (r *Replica) pushAfter(ctx context.Context, p *peer, origin, have uint64, guess bool) (sent bool, got uint64, err error) {
	ops, err := r.cfg.Store.Operations(origin, have, r.cfg.MessageBytes)
	if err != nil {
		if gone(err) {
			return false, 0, nil // what comes next is not here: the peer gets it from another
		}
		return false, 0, err
	}
	if len(ops) == 0 {
		return false, 0, nil
	}
	s := &slot{r: r, ch: r.fast}
	select {
	case r.fast <- struct{}{}:
	case <-ctx.Done():
		return false, 0, ctx.Err()
	}
	patience := time.AfterFunc(pushPatience, func() { r.late(p, origin, s) })
	r.mu.Lock()
	maybeEmpty := !p.filled
	r.mu.Unlock()
	var answer pushAnswer
	req := pushRequest{Ops: ops}
	if maybeEmpty {
		req.Held, req.Partial = r.picture().held, r.partial()
	}
	err = r.call(ctx, p.node, pushName, req, &answer)
	patience.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.freeLocked()
	p.slow = false
	if err != nil {
		r.counts.PushErrors++
		return false, 0, err
	}
	if slices.Contains(answer.Forked, origin) {
		r.suspectForkLocked(p.node, origin) // what it has there may be of another chain, and acknowledges nothing
		return true, have, nil
	}
	got = answer.Have[origin]
	progress := got > have
	r.holdsLocked(p, origin, got)
	r.counts.PushedOps += uint64(len(ops))
	if got < r.cfg.Store.View().Seq(origin) && !slices.Contains(p.dirty, origin) {
		p.dirty = append(p.dirty, origin)
	}
	wrong := guess && got < have && !answer.Early // what it lacks follows: nothing is the matter with it
	if !progress && !wrong && answer.Reason != "" {
		return true, got, fmt.Errorf("peer %s: %s", p.node, answer.Reason)
	}
	return true, got, nil
}

// late follows a push that was not answered in time: its slot is for others, and so is its subtree.
func (r *Replica) late(p *peer, origin uint64, s *slot) {
	root := r.cfg.Store.View().OriginNode(origin)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ch == nil || r.over {
		return
	}
	s.slowLocked()
	p.slow = true
	r.wakeLocked()
	r.takeOverLocked(p.node, origin, root)
}

// slot is a place among the pushes under way. Replica.mu guards it.
type slot struct {
	r  *Replica
	ch chan struct{} // nil when it was given back
}

func (s *slot) freeLocked() {
	if s.ch != nil {
		<-s.ch
		s.ch = nil
	}
}

// slowLocked moves it among the slow ones, if there is room.
func (s *slot) slowLocked() {
	select {
	case s.r.slow <- struct{}{}:
		<-s.ch
		s.ch = s.r.slow
	default:
	}
}

// acked is who holds what of our own run.
type acked struct {
	origin uint64
	by     map[string]uint64
}

func (r *Replica) ackLocked(p *peer, origin, seq uint64) {
	if origin == r.acked.origin && origin != 0 {
		r.acked.by[p.node] = seq
	}
}

// Await implements hostdb.Acker. It returns at once when nobody can be reached.
func (r *Replica) Await(ctx context.Context, origin, seq uint64, want int) int {
	for {
		r.mu.Lock()
		held, hopeful := r.standingLocked(origin, seq)
		if held >= want || hopeful == 0 || r.over || r.ctx == nil {
			r.mu.Unlock()
			return held
		}
		if r.acks == nil {
			r.acks = make(chan struct{})
		}
		wake := r.acks
		r.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return held
		}
	}
}

// standingLocked is how many live peers hold an operation of ours, and how many children may yet.
func (r *Replica) standingLocked(origin, seq uint64) (held, hopeful int) {
	by := r.acked.by
	if r.acked.origin != origin {
		by = nil
	}
	for node, n := range by {
		if n >= seq && r.roster.has(node) {
			held++
		}
	}
	for _, node := range r.roster.children(r.cfg.NodeID, r.cfg.NodeID, r.cfg.Fanout) {
		if p := r.peers[node]; by[node] < seq && (p == nil || !p.failing && !p.slow) {
			hopeful++
		}
	}
	return held, hopeful
}
