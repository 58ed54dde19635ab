package replica

import (
	"context"
	"time"
)

// askVector is what is asked of a peer of the old protocol: everything that is held, and of what cannot be taken now nothing.
func (r *Replica) askVector(node string) map[uint64]uint64 {
	vector := map[uint64]uint64{}
	for origin, seq := range r.cfg.Store.View().Vector() {
		vector[origin] = seq
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for origin, a := range r.aside {
		if now.Before(a.recheck) {
			vector[origin] = ^uint64(0)
		}
	}
	for ask, wait := range r.forkAsks {
		if ask.node == node && now.Before(wait.until) {
			vector[ask.origin] = ^uint64(0)
		}
	}
	return vector
}

// pullOld takes what is missing from a peer of the old protocol; answer is its first, when it gave one.
func (r *Replica) pullOld(ctx context.Context, p *peer, answer *pullAnswer) error {
	held, began := map[uint64]bool{}, time.Now()
	for {
		asked := r.askVector(p.node)
		for origin := range held {
			asked[origin] = ^uint64(0)
		}
		if answer == nil {
			answer = &pullAnswer{}
			if err := r.call(ctx, p.node, pullName, pullRequest{Vector: asked, Bytes: r.cfg.MessageBytes}, answer); err != nil {
				return err
			}
			if answer.Busy {
				return r.turnedAway(p, answer.RetryMS)
			}
			r.count(func(c *Counts) { c.Pulls++ })
			if answer.Protocol >= protocol {
				r.mu.Lock()
				p.protocol = 0 // it was upgraded
				r.mu.Unlock()
			}
		}
		for origin := range answer.Vector {
			if _, ok := asked[origin]; !ok {
				asked[origin] = 0
			}
		}
		taken, err := r.take(ctx, p.node, answer.Ops, held)
		r.count(func(c *Counts) { c.PulledOps += uint64(taken) })
		if err != nil {
			return err
		}
		if len(answer.Ops) == 0 || !answer.More || taken == 0 && len(held) == 0 {
			r.oldReached(p, answer, len(held) == 0)
			return nil
		}
		if !r.turnGoesOn(p.node, began) {
			return nil
		}
		answer = nil
	}
}

// oldReached notes that everything was taken that a peer of the old protocol had.
func (r *Replica) oldReached(p *peer, answer *pullAnswer, whole bool) {
	pic := r.picture()
	var d difference
	for h := range r.cfg.Store.View().Heads() {
		if seq := answer.Vector[h.Origin]; seq != h.Seq {
			d.theirs = append(d.theirs, pair{h.Origin, seq})
			if seq < h.Seq {
				d.missing = append(d.missing, pair{h.Origin, seq})
			}
		}
	}
	r.mu.Lock()
	p.saidVersion(answer.Version)
	r.comparedLocked(p, pic, d.theirs)
	if whole {
		p.floor = max(p.floor, answer.Floor)
	}
	r.syncedLocked()
	r.mu.Unlock()
	if answer.Version == pic.version {
		r.compare(p.node, pic, answer)
	}
	r.offer(p, d.missing)
}
