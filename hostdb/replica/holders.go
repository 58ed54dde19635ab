package replica

// HeldElsewhere is the newest operation of an origin that some other member is known to hold, at most the newest held here;
// 0 when nobody is known to hold any.
func (r *Replica) HeldElsewhere(origin uint64) uint64 {
	members := r.members()
	own := r.cfg.Store.View().Seq(origin)
	retired := r.retiredHere(origin)
	r.mu.Lock()
	defer r.mu.Unlock()
	var most uint64
	if members == nil {
		for _, p := range r.peers {
			most = max(most, p.heldOf(origin, own, retired))
		}
	}
	for _, node := range members {
		if p := r.peers[node]; p != nil && node != r.cfg.NodeID {
			most = max(most, p.heldOf(origin, own, retired))
		}
	}
	return min(most, own)
}

// HeldByAll is the newest operation of an origin that every member is known to hold, this node included; 0 while one of them
// was not compared with since Open and since it was away last, or members are not known.
func (r *Replica) HeldByAll(origin uint64) uint64 {
	members := r.members()
	own := r.cfg.Store.View().Seq(origin)
	retired := r.retiredHere(origin)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heldByAllLocked(members, origin, own, retired)
}

// soundings is how many peers must have said what they hold before anything is concluded from what nobody is known to hold.
const soundings = 3

// Sounded reports whether enough was heard since Open for HeldElsewhere to be meant: what every other member holds if all is
// set, else what three of those that are alive do, or all of them where there are fewer.
func (r *Replica) Sounded(all bool) bool {
	members := r.members()
	r.mu.Lock()
	defer r.mu.Unlock()
	if all {
		for _, node := range members {
			if p := r.peers[node]; node != r.cfg.NodeID && (p == nil || !p.told) {
				return false
			}
		}
	}
	told := 0
	for _, node := range r.roster.nodes {
		if p := r.peers[node]; node != r.cfg.NodeID && p != nil && p.told {
			told++
		}
	}
	return told >= min(r.roster.others(), soundings)
}

func (r *Replica) heldByAllLocked(members []string, origin, own uint64, retired bool) uint64 {
	if members == nil {
		return 0
	}
	least := own
	for _, node := range members {
		if node == r.cfg.NodeID {
			continue
		}
		p := r.peers[node]
		if p == nil || !p.told {
			return 0
		}
		if least = min(least, p.heldOf(origin, own, retired)); least == 0 {
			return 0
		}
	}
	return least
}

// heldOf is what a peer is known to hold of an origin of which own is held here. Of a run that was retired that is all, unless
// the peer said otherwise: every member held it, and those who joined later took it with the state.
func (p *peer) heldOf(origin, own uint64, retired bool) uint64 {
	for _, o := range p.over {
		if o.origin == origin {
			return o.seq
		}
	}
	if retired && p.told {
		return own
	}
	return p.base.get(origin)
}

// retiredHere reports whether an origin was retired as far as is known here.
func (r *Replica) retiredHere(origin uint64) bool {
	pic := r.picture()
	return pic.view.Seq(origin) > 0 && pic.vector.get(origin) == 0
}
