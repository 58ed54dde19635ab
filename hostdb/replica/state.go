package replica

import (
	"context"
	"fmt"
	"time"

	"hostmesh/hostdb"
)

const (
	// pinFor is how long a view is kept for joiners after it was last asked for. It costs what changed since.
	pinFor = 3 * time.Minute
	// pinFresh is how long a pinned view is given to further joiners, so that they can help one another and share the place.
	pinFresh = 10 * time.Second
	maxPins  = 4
)

// pin is a view that is kept for joiners who take it in pieces.
type pin struct {
	version string
	view    hostdb.View
	made    time.Time
	until   time.Time
}

// pinned is the view of a version, or any that may be given when version is "".
func (r *Replica) pinned(version string) (hostdb.View, bool) {
	v, now := r.cfg.Store.View(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	live := r.pins[:0]
	for _, p := range r.pins {
		if now.Before(p.until) {
			live = append(live, p)
		}
	}
	clear(r.pins[len(live):])
	r.pins = live
	for i := len(live) - 1; i >= 0; i-- {
		if p := &live[i]; p.version == version || version == "" && now.Sub(p.made) < pinFresh {
			p.until = now.Add(pinFor)
			return p.view, true
		}
	}
	current := v.Version().String()
	if version != "" && version != current {
		return hostdb.View{}, false
	}
	if len(r.pins) >= maxPins {
		r.pins = append(r.pins[:0], r.pins[1:]...) // its joiner begins again, or goes on elsewhere
	}
	r.pins = append(r.pins, pin{version: current, view: v, made: now, until: now.Add(pinFor)})
	return v, true
}

// serveState answers with a piece of the whole state.
func (r *Replica) serveState(_ context.Context, from string, body []byte) ([]byte, error) {
	var req stateRequest
	if err := decode(body, &req); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return nil, fmt.Errorf("state for node %s: %w", from, err)
	}
	answer := stateAnswer{Protocol: protocol, Wall: r.cfg.Clock.Now().UnixNano(), Algorithm: hostdb.DigestAlgorithm}
	bytes, leave, wait := r.admit(max(req.Bytes, 1))
	if wait > 0 {
		answer.Busy, answer.RetryMS = true, int(wait.Milliseconds())
		return encode(answer)
	}
	defer leave()
	v, ok := r.pinned(req.Version)
	switch {
	case !ok:
		answer.Gone = "this node does not hold version " + req.Version
	case v.Applied() == 0:
		answer.Gone = "this replica is empty itself"
	case v.Unfolded() > 0:
		answer.Gone = "this replica holds operations of a newer build that it cannot fold"
	}
	if answer.Gone != "" {
		return encode(answer)
	}
	answer.Version = v.Version().String()
	if len(req.After) == 0 {
		answer.Heads = v.EncodeHeads()
		for _, ns := range v.Namespaces() {
			answer.Keys += v.Len(ns)
		}
	}
	piece, last := v.Piece(string(req.After), bytes)
	answer.Piece, answer.Last = piece, []byte(last)
	if last == "" {
		answer.Digests = digests(v)
	}
	r.budget.spend(len(answer.Piece) + len(answer.Heads))
	r.count(func(c *Counts) { c.ServedPieces++ })
	return encode(answer)
}

// askState asks a peer for a piece of a state. A peer that has it no longer, or never will, gives errNoState.
func (r *Replica) askState(ctx context.Context, node, version, after string) (*stateAnswer, error) {
	var answer stateAnswer
	if err := r.call(ctx, node, stateName, stateRequest{Version: version, After: []byte(after), Bytes: r.cfg.MessageBytes, Protocol: protocol}, &answer); err != nil {
		if unknownName(err) {
			return nil, fmt.Errorf("%w: peer %s is of an older build", errNoState, node)
		}
		return nil, err
	}
	switch {
	case answer.Busy:
		r.mu.Lock()
		p := r.peerLocked(node)
		r.counts.TurnedAway++
		r.mu.Unlock()
		return nil, r.turnedAway(p, answer.RetryMS)
	case answer.Gone != "":
		return nil, fmt.Errorf("%w: peer %s: %s", errNoState, node, answer.Gone)
	case version != "" && answer.Version != version, answer.Version == "":
		r.count(func(c *Counts) { c.Refused++ })
		return nil, broken("peer %s gave version %q for %q", node, answer.Version, version)
	case len(answer.Last) > 0 && !further(string(answer.Last), after):
		r.count(func(c *Counts) { c.Refused++ })
		return nil, broken("peer %s gave a piece that does not go on", node)
	case after == "" && len(answer.Heads) == 0, len(answer.Last) == 0 && len(answer.Digests) == 0:
		r.count(func(c *Counts) { c.Refused++ })
		return nil, broken("peer %s left out heads or digests", node)
	case answer.Algorithm != hostdb.DigestAlgorithm:
		return nil, fmt.Errorf("%w: peer %s makes digests another way", errNoState, node)
	}
	return &answer, nil
}

// further reports whether a place in a state comes after another, so that pieces come to an end: behind its first byte, which
// says what stands there, it grows.
func further(place, than string) bool { return than == "" || len(place) > 1 && place[1:] > than[1:] }
