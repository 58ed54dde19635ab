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

// baseName is the request for what remains of the operations that retention dropped: history is built on it.
const baseName = "hostdb.base.1"

// baseRequest asks for a piece of a base.
type baseRequest struct {
	Version string `cbor:"1,keyasint,omitempty"` // of the base; "" takes any
	After   []byte `cbor:"2,keyasint,omitempty"`
	Bytes   int    `cbor:"3,keyasint"`
}

// baseAnswer is a piece of a base. Pieces are those of a state.
type baseAnswer struct {
	State  stateAnswer `cbor:"1,keyasint"`
	Time   hostdb.Time `cbor:"2,keyasint,omitempty"` // where history begins
	Origin uint64      `cbor:"3,keyasint,omitempty"`
}

func (m *baseRequest) check() error {
	return (&stateRequest{Version: m.Version, After: m.After}).check()
}

func (m *baseAnswer) check() error { return m.State.check() }

// basePin is the base that is given to those who joined. To make it costs history, so it is made once for all who ask.
type basePin struct {
	view  hostdb.View
	at    hostdb.Stamp
	until time.Time
}

// base is the base of a version, or any when version is "".
func (r *Replica) base(ctx context.Context, version string) (basePin, error) {
	r.mu.Lock()
	pin := r.basePin
	r.mu.Unlock()
	if now := time.Now(); !now.Before(pin.until) || version != "" && pin.view.Version().String() != version {
		if version != "" {
			return basePin{}, fmt.Errorf("%w: this node does not keep the base %s", errNoState, version)
		}
		view, at, err := r.cfg.Store.Base(ctx)
		if err != nil {
			return basePin{}, err
		}
		if at.IsZero() {
			return basePin{}, fmt.Errorf("%w: all of history is held here", errNoState)
		}
		pin = basePin{view: view, at: at}
	}
	pin.until = time.Now().Add(pinFor)
	r.mu.Lock()
	r.basePin = pin
	r.mu.Unlock()
	return pin, nil
}

// serveBase answers with a piece of the base.
func (r *Replica) serveBase(ctx context.Context, from string, body []byte) ([]byte, error) {
	var req baseRequest
	if err := decode(body, &req); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return nil, fmt.Errorf("base for node %s: %w", from, err)
	}
	answer := baseAnswer{State: stateAnswer{Protocol: protocol, Wall: r.cfg.Clock.Now().UnixNano(), Algorithm: hostdb.DigestAlgorithm}}
	s := &answer.State
	bytes, leave, wait := r.admit(max(req.Bytes, 1))
	if wait > 0 {
		s.Busy, s.RetryMS = true, int(wait.Milliseconds())
		return encode(answer)
	}
	defer leave()
	pin, err := r.base(ctx, req.Version)
	if err != nil {
		s.Gone = clip(err.Error())
		return encode(answer)
	}
	s.Version, answer.Time, answer.Origin = pin.view.Version().String(), pin.at.Time, pin.at.Origin
	if len(req.After) == 0 {
		s.Heads = pin.view.EncodeHeads()
	}
	piece, last := pin.view.Piece(string(req.After), bytes)
	s.Piece, s.Last = piece, []byte(last)
	r.budget.spend(len(piece) + len(s.Heads))
	r.count(func(c *Counts) { c.ServedPieces++ })
	return encode(answer)
}

// baseMissing reports whether history is fetched but for what it is built on.
func (r *Replica) baseMissing() bool {
	if _, joining := r.cfg.Store.Joining(); joining || r.cfg.Store.Missing() > 0 || r.cfg.Store.Failure() != nil {
		return false
	}
	_, _, err := r.cfg.Store.Horizon()
	return errors.Is(err, hostdb.ErrUnavailable)
}

// fillBase fetches the base if it is missing, from random peers until one has one that fits. What fails is tried again later.
func (r *Replica) fillBase(ctx context.Context) {
	if !r.baseMissing() {
		return
	}
	r.mu.Lock()
	nodes := slices.Clone(r.roster.nodes)
	r.mu.Unlock()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, node := range nodes[:min(len(nodes), maxVoices)] {
		if node == r.cfg.NodeID || ctx.Err() != nil {
			continue
		}
		err := r.takeBase(ctx, node)
		if err == nil {
			r.log.Info("what history is built on is here", "peer", node)
			return
		}
		r.log.Debug("a peer's base of history is not taken", "peer", node, "err", err)
	}
}

// takeBase takes the base of one peer.
func (r *Replica) takeBase(ctx context.Context, node string) error {
	var heads []byte
	var pieces [][]byte
	version, after, size, busy := "", "", 0, 0
	for {
		var answer baseAnswer
		req := baseRequest{Version: version, After: []byte(after), Bytes: r.cfg.MessageBytes}
		if err := r.call(ctx, node, baseName, req, &answer); err != nil {
			return err
		}
		s := &answer.State
		switch last := string(s.Last); {
		case s.Busy && busy < 10:
			busy++
			if !pause(ctx, jitter(retryAfter(s.RetryMS))) {
				return ctx.Err()
			}
			continue
		case s.Busy:
			return errBusy
		case s.Gone != "":
			return fmt.Errorf("%w: peer %s: %s", errNoState, node, s.Gone)
		case version != "" && s.Version != version, last != "" && !further(last, after), size+len(s.Piece) > maxStateBytes:
			r.count(func(c *Counts) { c.Refused++ })
			return broken("peer %s's base does not go on", node)
		case after == "":
			heads = s.Heads
		}
		version, after = s.Version, string(s.Last)
		pieces, size = append(pieces, s.Piece), size+len(s.Piece)
		r.budget.spend(len(s.Piece))
		if after != "" {
			continue
		}
		base, err := hostdb.StateOf(heads, pieces)
		if err != nil {
			return err
		}
		return r.cfg.Store.TakeBase(ctx, hostdb.Stamp{Time: answer.Time, Origin: answer.Origin}, base)
	}
}
