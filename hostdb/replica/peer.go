package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// peer is what is known of one peer. It is made when the peer is first spoken to, takes some hundred bytes, and has a
// goroutine only while there is something to push. Replica.mu guards it.
type peer struct {
	node    string
	holding // what it is known to hold durably
	stop    context.CancelFunc

	dirty     []uint64 // origins to push
	sending   bool     // a goroutine pushes
	slow      bool     // a push is under way that was not answered in time
	pulled    bool     // a pull is wanted or runs
	retrying  bool     // a pull will be tried again
	failing   bool     // the last message went wrong
	filled    bool     // it was seen to hold something
	differs   bool     // the last comparison at equal versions found unequal digests
	protocol  uint8    // 0 while it is not known
	version   string   // when it was last compared
	fails     int      // in a row
	lastErr   string
	lastOK    time.Time
	busies    int // times in a row that it was busy
	busyUntil time.Time
	floor     hostdb.Time // everything it wrote with a lower stamp is here
}

// peerLocked is what is known of a node.
func (r *Replica) peerLocked(node string) *peer {
	p := r.peers[node]
	if p == nil {
		p = &peer{node: node, stop: func() {}}
		r.peers[node] = p
	}
	return p
}

// leaveLocked ends what is under way with a peer that went away. What it holds stays known, but is not relied on until it is compared
// with again: it may come back with an older copy of its directory.
func (p *peer) leaveLocked() {
	p.told = false
	p.stop()
	p.dirty, p.slow, p.retrying, p.failing, p.fails, p.lastErr = nil, false, false, false, 0, ""
	p.protocol, p.busyUntil = 0, time.Time{} // it may come back as another build
}

// saidVersion notes what a peer is at.
func (p *peer) saidVersion(version string) {
	p.version = version
	p.filled = version != emptyVersion && version != ""
}

// overLimitLocked is how many origins of a peer may differ from a vector of ours: 4 MiB for all peers together.
func (r *Replica) overLimitLocked() int { return max(8, (1<<18)/max(1, len(r.peers))) }

// holdsLocked notes what a peer holds of one origin, exactly or at least.
func (r *Replica) holdsLocked(p *peer, origin, seq uint64) {
	p.filled = p.filled || seq > 0
	p.set(origin, seq, r.overLimitLocked())
	r.ackLocked(p, origin, seq)
}

// comparedLocked notes all that a peer holds: what pic does, but for the origins of over.
func (r *Replica) comparedLocked(p *peer, pic *picture, over []pair) {
	if len(over) > r.overLimitLocked() {
		p.rebase(nil)
		p.over = nil
	} else {
		if p.base != pic.vector {
			p.rebase(pic.vector)
			if drop, older := r.vectors.add(pic.vector, time.Now()); drop != nil {
				for _, q := range r.peers {
					if q.base == drop {
						q.rebase(older)
					}
				}
			}
		}
		p.over = slices.Clip(over)
	}
	p.told = len(over) <= r.overLimitLocked() // else what it lacks was forgotten
	if own := r.acked.origin; own != 0 {
		r.ackLocked(p, own, p.seq(own))
	}
}

// picture is the newest View, prepared for comparisons.
func (r *Replica) picture() *picture {
	v := r.cfg.Store.View()
	r.mu.Lock()
	p := r.picked
	r.mu.Unlock()
	if p != nil && p.view == v {
		return p
	}
	p = newPicture(v)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.picked != nil && r.picked.version == p.version {
		p.vector = r.picked.vector // peers refer to that one
	}
	r.picked = p
	return p
}

// call sends one message and takes note of the answer's clock.
func (r *Replica) call(ctx context.Context, node, name string, req any, answer checked) error {
	body, err := encode(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	sent := r.cfg.Clock.Now()
	began := time.Now()
	back, err := r.cfg.Peers.Call(ctx, node, name, body)
	trip := time.Since(began)
	r.mu.Lock()
	r.counts.BytesSent += uint64(len(body))
	r.counts.BytesReceived += uint64(len(back))
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if err := decode(back, answer); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return fmt.Errorf("answer of peer %s: %w", node, err)
	}
	if wall := wallOf(answer); wall != 0 {
		r.heardClock(node, wall, sent, trip)
	}
	return nil
}

func wallOf(answer checked) int64 {
	switch a := answer.(type) {
	case *pushAnswer:
		return a.Wall
	case *pullAnswer:
		return a.Wall
	case *stateAnswer:
		return a.Wall
	case *historyAnswer:
		return a.Wall
	}
	return 0
}

// unknownName reports whether a peer does not know the request: it is of an older build.
func unknownName(err error) bool {
	var coded interface{ ErrorCode() string }
	return errors.As(err, &coded) && coded.ErrorCode() == "no_handler"
}

// settleLocked notes how a message went.
func (r *Replica) settleLocked(p *peer, err error) {
	p.failing = err != nil
	p.busies = 0
	if err != nil {
		p.fails++
		p.lastErr = clip(err.Error())
	} else {
		p.fails, p.lastErr, p.lastOK = 0, "", time.Now()
	}
	r.wakeLocked()
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
