package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// goneVoices is how many peers must say that operations are held nowhere any more, where more are alive.
const goneVoices = 5

// Filling is how the fetching of history stands that a replica lacks which took a whole state.
type Filling struct {
	Holes int    // origins of which operations are missing
	Left  uint64 // operations that are missing, at most
	All   uint64 // as many were missing at first
	Bytes int64  // that were fetched
	Err   string // why the last piece did not come
}

// filling is a Filling with what runs it.
type filling struct {
	Filling
	active bool
	gone   map[hostdb.Hole]map[string]bool // who said that there is nothing older
}

// serveHistory answers with operations of an origin, backwards.
func (r *Replica) serveHistory(_ context.Context, from string, body []byte) ([]byte, error) {
	var req historyRequest
	if err := decode(body, &req); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return nil, fmt.Errorf("history for node %s: %w", from, err)
	}
	answer := historyAnswer{Protocol: protocol, Wall: r.cfg.Clock.Now().UnixNano()}
	bytes, leave, wait := r.admit(max(req.Bytes, 1))
	if wait > 0 {
		answer.Busy, answer.RetryMS = true, int(wait.Milliseconds())
		return encode(answer)
	}
	defer leave()
	if r.cfg.Store.View().Seq(req.Origin) < req.Until || req.Until == 0 {
		answer.NotHere = true
		return encode(answer)
	}
	ops, more, dropped, err := r.cfg.Store.OperationsUntil(req.Origin, req.Until, bytes)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("history for node %s: %w", from, err)
	}
	answer.Ops, answer.More, answer.Gone, answer.NotHere = ops, more, dropped, err != nil && !dropped
	for _, op := range ops {
		r.budget.spend(len(op))
	}
	r.count(func(c *Counts) { c.ServedHistory += uint64(len(ops)) })
	return encode(answer)
}

// fillHistory fetches history if some is missing, unless that goes on already.
func (r *Replica) fillHistory() {
	holes := r.cfg.Store.Holes()
	if len(holes) == 0 && !r.baseMissing() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fill.active || !r.goLocked(r.fillHoles) {
		return
	}
	left := leftIn(holes)
	r.fill.active, r.fill.Holes, r.fill.Left = true, len(holes), left
	r.fill.All = max(r.fill.All, left)
	if r.fill.gone == nil {
		r.fill.gone = map[hostdb.Hole]map[string]bool{}
	}
}

func leftIn(holes []hostdb.Hole) (left uint64) {
	for _, h := range holes {
		left = addSat(left, h.Until)
	}
	return left
}

// fillHoles fetches history until there are no holes, or nobody can give more for now.
func (r *Replica) fillHoles(ctx context.Context) {
	r.log.Info("fetching the history behind the state")
	fails := 0
	for ctx.Err() == nil && fails < 10 {
		holes := r.cfg.Store.Holes()
		r.mu.Lock()
		r.fill.Holes, r.fill.Left = len(holes), leftIn(holes)
		r.mu.Unlock()
		if len(holes) == 0 {
			if r.fillBase(ctx); !r.baseMissing() {
				r.log.Info("the history is complete")
			}
			break
		}
		progress, wait, err := r.fillSome(ctx, holes)
		r.mu.Lock()
		r.fill.Err = ""
		if err != nil {
			r.fill.Err = clip(err.Error())
		}
		r.mu.Unlock()
		if progress {
			fails = 0
		} else {
			fails++
			wait = max(wait, backoff(fails))
		}
		if wait > 0 {
			pause(ctx, wait)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fill.active = false
	if r.fill.Holes == 0 {
		r.fill.gone = nil
	}
}

// fillSome asks a random peer for the first hole that it may fill.
func (r *Replica) fillSome(ctx context.Context, holes []hostdb.Hole) (progress bool, wait time.Duration, err error) {
	bytes, wait := r.budget.ask(r.cfg.MessageBytes)
	if bytes == 0 {
		return true, wait, nil // nothing is wrong: it is not our turn
	}
	for _, h := range holes[:min(len(holes), 16)] {
		node := r.historian(h)
		if node == "" {
			if r.believeGone(h) {
				return true, 0, r.cfg.Store.Fill(ctx, h, nil, true)
			}
			continue
		}
		return r.fillFrom(ctx, node, h, bytes)
	}
	return false, time.Second, errors.New("nobody who is alive and not busy holds what is missing")
}

// historian is a random peer that did not say yet that it has nothing older.
func (r *Replica) historian(h hostdb.Hole) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := r.fill.gone[h]
	if len(said) >= goneVoices {
		return ""
	}
	now := time.Now()
	var free []string
	for _, node := range r.roster.nodes {
		p := r.peers[node]
		if node == r.cfg.NodeID || said[node] || p != nil && (now.Before(p.busyUntil) || p.protocol == oldProtocol) {
			continue
		}
		free = append(free, node)
	}
	if len(free) == 0 {
		return ""
	}
	return free[rand.N(len(free))]
}

// believeGone reports whether enough peers say that there is nothing older: all that are alive, and five at most.
func (r *Replica) believeGone(h hostdb.Hole) bool {
	if r.cfg.Sick() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	said, alive := 0, 0
	for _, node := range r.roster.nodes {
		if node == r.cfg.NodeID {
			continue
		}
		alive++
		if r.fill.gone[h][node] {
			said++
		}
	}
	return alive > 0 && said >= min(alive, goneVoices)
}

// fillFrom asks one peer for a hole.
func (r *Replica) fillFrom(ctx context.Context, node string, h hostdb.Hole, bytes int) (progress bool, wait time.Duration, err error) {
	answer, err := r.askHistory(ctx, node, h.Origin, h.Until, bytes)
	if err != nil {
		return false, 0, err
	}
	if len(answer.Ops) == 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if answer.Gone && len(r.fill.gone) < 1<<12 {
			if r.fill.gone[h] == nil {
				r.fill.gone[h] = map[string]bool{}
			}
			r.fill.gone[h][node] = true
			return true, 0, nil
		}
		return false, 0, fmt.Errorf("peer %s has yet to fetch it itself", node)
	}
	size := 0
	for _, op := range answer.Ops {
		size += len(op)
	}
	r.budget.spend(size)
	if err := r.cfg.Store.Fill(ctx, h, answer.Ops, false); err != nil {
		if errors.Is(err, hostdb.ErrFork) {
			r.foundFork(ctx, node, h.Origin, h.Until)
		}
		return false, 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.FilledOps += uint64(len(answer.Ops))
	r.fill.Bytes += int64(size)
	delete(r.fill.gone, h)
	return true, 0, nil
}

// askHistory asks a peer for operations of an origin up to a seq, and checks that these are they.
func (r *Replica) askHistory(ctx context.Context, node string, origin, until uint64, bytes int) (*historyAnswer, error) {
	var answer historyAnswer
	if err := r.call(ctx, node, historyName, historyRequest{Origin: origin, Until: until, Bytes: bytes, Protocol: protocol}, &answer); err != nil {
		if unknownName(err) {
			r.mu.Lock()
			r.peerLocked(node).protocol = oldProtocol
			r.mu.Unlock()
		}
		return nil, err
	}
	if answer.Busy {
		r.mu.Lock()
		p := r.peerLocked(node)
		r.counts.TurnedAway++
		r.mu.Unlock()
		return nil, r.turnedAway(p, answer.RetryMS)
	}
	seq := until
	for _, raw := range slices.Backward(answer.Ops) {
		o, s, err := hostdb.PeekOperation(raw)
		if err != nil || o != origin || s != seq || s == 0 {
			r.count(func(c *Counts) { c.Refused++ })
			return nil, broken("peer %s sent other operations than those of origin %016x up to %d", node, origin, until)
		}
		seq--
	}
	return &answer, nil
}
