package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// ForkStatus is an origin of which two chains exist: two boxes write under one identity, as a copied directory that was not
// opened anew would, or a peer changed history.
type ForkStatus struct {
	Origin uint64
	Node   string    // whose run it is; "" when that is not known
	Seqs   []uint64  // of operations that are kept aside; the first maxForkSeqs of them
	Peer   string    // that holds the other chain, as last seen; "" after a restart
	Since  time.Time // when it was seen first
}

const (
	maxForks    = 1024
	maxForkSeqs = 64
	// maxForkOps is how far back the place is looked for where two chains part.
	maxForkOps = 1000
	// forkPause is how long a peer is not asked for an origin that forks; it doubles up to maxForkPause.
	forkPause    = time.Minute
	maxForkPause = 10 * time.Minute
)

// fork is a ForkStatus of one origin.
type fork struct{ ForkStatus }

// forkAsk names an origin that a peer holds another chain of.
type forkAsk struct {
	node   string
	origin uint64
}

// patience says when to ask again.
type patience struct {
	until time.Time
	d     time.Duration
}

// recallForks reads what was kept aside before.
func (r *Replica) recallForks() error {
	kept, err := r.cfg.Store.Forks()
	if err != nil && !errors.Is(err, hostdb.ErrUnavailable) {
		return fmt.Errorf("read forks: %w", err)
	}
	for _, k := range kept {
		r.enterFork(k.Origin, k.Seq, k.Node, "", k.Seen)
	}
	return nil
}

// enterFork notes an operation that is kept aside, and reports whether the origin is new among those that fork.
func (r *Replica) enterFork(origin, seq uint64, node, peer string, seen time.Time) (fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.forks[origin]
	if f == nil {
		if len(r.forks) >= maxForks {
			return false
		}
		f = &fork{ForkStatus{Origin: origin, Node: node, Since: seen}}
		r.forks[origin] = f
		fresh = true
	}
	if peer != "" {
		f.Peer = peer
	}
	if f.Node == "" {
		f.Node = node
	}
	if at, ok := slices.BinarySearch(f.Seqs, seq); !ok && seq > 0 && len(f.Seqs) < maxForkSeqs {
		f.Seqs = slices.Insert(f.Seqs, at, seq)
	}
	return fresh
}

// barredLocked reports whether a peer is not to be asked for, nor sent, an origin for a while.
func (r *Replica) barredLocked(node string, origin uint64) bool {
	p := r.forkAsks[forkAsk{node, origin}]
	return p != nil && time.Now().Before(p.until)
}

// barLocked leaves an origin of a peer alone for a while; it reports false if that holds already.
func (r *Replica) barLocked(node string, origin uint64) bool {
	now := time.Now()
	p := r.forkAsks[forkAsk{node, origin}]
	if p != nil && now.Before(p.until) {
		return false
	}
	if p == nil {
		if len(r.forkAsks) >= 8*maxForks {
			clear(r.forkAsks)
		}
		p = &patience{d: forkPause}
		r.forkAsks[forkAsk{node, origin}] = p
	} else {
		p.d = min(2*p.d, maxForkPause)
	}
	p.until = now.Add(p.d)
	return true
}

// suspectForkLocked has it looked into that a peer may hold another chain of an origin.
func (r *Replica) suspectForkLocked(node string, origin uint64) {
	r.goLocked(func(ctx context.Context) { r.foundFork(ctx, node, origin, ^uint64(0)) })
}

// foundFork looks into an origin of which a peer holds another chain: it raises the alarm, and keeps what the peer holds in
// place of ours, from the place where they part up to seq at most.
func (r *Replica) foundFork(ctx context.Context, node string, origin, seq uint64) {
	r.mu.Lock()
	fresh := r.barLocked(node, origin)
	r.mu.Unlock()
	if !fresh {
		return
	}
	v := r.cfg.Store.View()
	writer := v.OriginNode(origin)
	kept, err := r.keepOthers(ctx, node, origin, min(seq, v.Seq(origin)))
	if err == nil && kept == 0 {
		return // it was not a fork: operations crossed
	}
	if err != nil && !errors.Is(err, hostdb.ErrFork) {
		r.log.Debug("look into a fork", "peer", node, "origin", originName(origin), "err", err)
	}
	if kept > 0 && r.enterFork(origin, 0, writer, node, r.cfg.Clock.Now()) {
		r.count(func(c *Counts) { c.Forks++ })
	}
	r.alarm("an origin's chain forks: two boxes write under one identity, or a peer changed history; both sides are kept",
		"peer", node, "origin", originName(origin), "writer", writer)
}

// maxBehind is how many origins in which a peer is behind are looked at in one comparison.
const maxBehind = 8

// checkBehind looks whether a peer that holds fewer operations of an origin holds the beginning of our chain. The peer finds out
// when it gets ours; we would not.
func (r *Replica) checkBehind(ctx context.Context, node string, behind []shortHead) {
	for _, h := range behind[:min(len(behind), maxBehind)] {
		r.mu.Lock()
		barred := r.barredLocked(node, h.origin)
		r.mu.Unlock()
		if barred {
			continue
		}
		ops, _, _, err := r.cfg.Store.OperationsUntil(h.origin, h.seq, 1)
		if err != nil || len(ops) == 0 {
			continue
		}
		hash := sha256.Sum256(ops[len(ops)-1])
		if binary.BigEndian.Uint64(hash[:8]) != h.hash {
			r.foundFork(ctx, node, h.origin, h.seq)
		}
	}
}

// keepOthers fetches the peer's operations of an origin backwards until they are ours, and keeps those that are not.
func (r *Replica) keepOthers(ctx context.Context, node string, origin, until uint64) (kept int, err error) {
	for looked := 0; until > 0 && looked < maxForkOps; {
		answer, err := r.askHistory(ctx, node, origin, until, r.cfg.MessageBytes)
		if err != nil {
			return kept, err
		}
		if len(answer.Ops) == 0 {
			if answer.NotHere && kept == 0 && looked == 0 { // it holds fewer than we do
				until--
				looked++
				continue
			}
			return kept, nil
		}
		ours, _, _, err := r.cfg.Store.OperationsUntil(origin, until, r.cfg.MessageBytes)
		if err != nil && !gone(err) {
			return kept, err
		}
		held := map[uint64]string{}
		for _, raw := range ours {
			if _, seq, err := hostdb.PeekOperation(raw); err == nil {
				held[seq] = string(raw)
			}
		}
		for _, raw := range slices.Backward(answer.Ops) {
			_, seq, _ := hostdb.PeekOperation(raw)
			if held[seq] == string(raw) {
				return kept, nil // from here back they are the same, for each names the hash of the one before
			}
			if _, ok := held[seq]; !ok && len(ours) > 0 {
				break // further back than was read of ours: read on
			}
			if err := r.cfg.Store.KeepFork(raw); err != nil {
				return kept, fmt.Errorf("keep operation %d aside: %w", seq, err)
			}
			if r.enterFork(origin, seq, "", node, r.cfg.Clock.Now()) {
				r.count(func(c *Counts) { c.Forks++ })
			}
			kept++
			looked++
			until = seq - 1
		}
		if len(ours) == 0 && !answer.More {
			return kept, nil
		}
	}
	return kept, nil
}
