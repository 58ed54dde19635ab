package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"hostmesh/hostdb"
)

// errNoState is wrapped by errors about a peer that cannot give a state.
var errNoState = errors.New("no such state")

// Joining is how the taking of a whole state stands.
type Joining struct {
	Active  bool
	From    string // the peer that is asked at the moment
	Version string
	Pieces  int
	Bytes   int64
	Keys    int // that the state has; 0 when that is not known, as after a restart
	Began   time.Time
	Err     string // why the last piece did not come
}

// joining is a Joining with what runs it.
type joining struct {
	Joining
	after string // place of the last piece that is stored
}

// joinTries is how often a peer is asked for the next piece before another is.
const joinTries = 3

// joinFrom begins to take the whole state, of this peer at first, unless that goes on already.
func (r *Replica) joinFrom(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.join.Active {
		return
	}
	j := joining{Joining: Joining{Active: true, From: node, Began: time.Now()}}
	if r.goLocked(func(ctx context.Context) { r.takeState(ctx, node) }) {
		r.join = j
	}
}

// resumeJoin goes on with a join that a crash or a restart broke off.
func (r *Replica) resumeJoin() {
	j, ok := r.cfg.Store.Joining()
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.goLocked(func(ctx context.Context) { r.takeState(ctx, "") }) {
		r.join = joining{Joining: Joining{Active: true, Version: j.Version, Began: time.Now()}, after: j.After}
	}
}

// takeState takes the whole state piece by piece, from whoever has it, until it is here or there is nobody to take it from.
func (r *Replica) takeState(ctx context.Context, node string) {
	r.log.Info("taking the whole state of another replica", "peer", node)
	refused := map[string]bool{} // have no such state
	fails := 0
	for ctx.Err() == nil {
		if node == "" || refused[node] || fails >= joinTries {
			node, fails = r.source(refused, node), 0
		}
		if node == "" {
			if !r.joinAgain(ctx, refused) {
				break
			}
			clear(refused)
			continue
		}
		done, err := r.takePiece(ctx, node)
		r.noteJoin(node, err)
		switch {
		case err == nil:
			fails = 0
		case errors.Is(err, hostdb.ErrJoined):
			r.log.Info("this replica is not empty any more: nothing is taken over")
			done = true
		case errors.Is(err, errNoState), errors.Is(err, ErrMessage), errors.Is(err, hostdb.ErrInvalid):
			refused[node] = true
			r.count(func(c *Counts) { c.JoinFailures++ })
			r.log.Warn("a peer's state is not taken", "peer", node, "err", err)
		case errors.Is(err, errBusy):
			fails++
			if other := r.source(refused, node); other != "" && other != node {
				node, fails = other, 0
			} else {
				pause(ctx, r.busyFor(node))
			}
		default:
			fails++
			pause(ctx, backoff(fails))
		}
		if done {
			r.endJoin(node)
			return
		}
	}
	r.mu.Lock()
	r.join.Active = false
	r.mu.Unlock()
}

func (r *Replica) busyFor(node string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(time.Until(r.peerLocked(node).busyUntil), 10*time.Millisecond)
}

// noteJoin notes what Status shows.
func (r *Replica) noteJoin(node string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.join.From, r.join.Err = node, ""
	if err != nil {
		r.join.Err = clip(err.Error())
	}
}

// source is a random live peer that may have the state, rather one that is not busy, and not the one that was asked last.
func (r *Replica) source(refused map[string]bool, last string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var free, rest []string
	for _, node := range r.roster.nodes {
		if node == r.cfg.NodeID || refused[node] {
			continue
		}
		p := r.peers[node]
		if node == last || p != nil && (now.Before(p.busyUntil) || p.failing || p.protocol == oldProtocol) {
			rest = append(rest, node)
		} else {
			free = append(free, node)
		}
	}
	switch {
	case len(free) > 0:
		return free[rand.N(len(free))]
	case len(rest) > 0:
		return rest[rand.N(len(rest))]
	}
	return ""
}

// joinAgain is called when nobody has the state that was begun. It waits a while, in case only the way to them is broken, and
// then drops what was taken, so that another state can be begun. It reports false when there is nothing left to take up:
// comparisons with peers decide anew.
func (r *Replica) joinAgain(ctx context.Context, refused map[string]bool) bool {
	if !pause(ctx, jitter(time.Second)) {
		return false
	}
	if len(refused) == 0 {
		return true // nobody is alive: those who come may have it
	}
	j, ok := r.cfg.Store.Joining()
	if ok {
		r.log.Warn("nobody has the state any more that was being taken: beginning again", "version", j.Version)
		if err := r.cfg.Store.AbandonJoin(ctx); err != nil {
			r.log.Warn("drop what was taken of a state", "err", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.join.Version, r.join.after, r.join.Pieces, r.join.Bytes = "", "", 0, 0
	return ok
}

// takePiece takes the next piece from a peer; done says that the state is here.
func (r *Replica) takePiece(ctx context.Context, node string) (done bool, err error) {
	r.mu.Lock()
	version, after := r.join.Version, r.join.after
	r.mu.Unlock()
	answer, err := r.askState(ctx, node, version, after)
	if err != nil {
		return false, err
	}
	store := r.cfg.Store
	if after == "" {
		if err := store.BeginJoin(ctx, answer.Version, answer.Heads); err != nil {
			return false, err
		}
	}
	last := string(answer.Last)
	if err := store.AddPiece(ctx, answer.Piece, after, last); err != nil {
		return false, err
	}
	r.mu.Lock()
	j := &r.join
	j.Version, j.after = answer.Version, last
	j.Pieces++
	j.Bytes += int64(len(answer.Piece))
	j.Keys = max(j.Keys, answer.Keys)
	r.counts.JoinPieces++
	pieces, bytes := j.Pieces, j.Bytes
	r.mu.Unlock()
	if pieces%64 == 0 {
		r.log.Info("taking the whole state of another replica", "peer", node, "pieces", pieces, "bytes", bytes)
	}
	if last != "" {
		return false, nil
	}
	if err := store.FinishJoin(ctx, answer.Digests); err != nil {
		if errors.Is(err, hostdb.ErrInvalid) {
			r.alarm("the state of a peer does not match its digests", "peer", node, "version", answer.Version, "err", err)
			r.mu.Lock()
			j.Version, j.after, j.Pieces, j.Bytes = "", "", 0, 0
			r.mu.Unlock()
		}
		return false, err
	}
	return true, nil
}

// endJoin goes on from the state that was taken: the operations since, then history.
func (r *Replica) endJoin(node string) {
	r.mu.Lock()
	j := r.join.Joining
	r.join.Active = false
	r.wantPullLocked(node)
	r.pullAnyLocked()
	r.mu.Unlock()
	r.log.Info("the whole state is here", "peer", node, "version", j.Version, "bytes", j.Bytes, "took", time.Since(j.Began).Round(time.Millisecond))
	r.fillHistory()
}
