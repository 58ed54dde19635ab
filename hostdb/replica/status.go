package replica

import (
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// PeerStatus is what is known of one live peer's replica.
type PeerStatus struct {
	Node    string
	Missing uint64    // operations held here that the peer is not known to hold; 0 where nothing is known of it
	Ahead   uint64    // operations it holds that are missing here
	Differs bool      // it held the same operations and another state: must not happen
	LastOK  time.Time // of the last message that was answered; zero for never
	Err     string    // why the last message failed; "" when it did not
	Version string    // it had when it was last compared; "" when it was not
}

// Status is how replication stands.
type Status struct {
	Synced bool
	Peers  []PeerStatus // live ones, by node
	Counts Counts
	Join   Joining // the taking of a whole state; Active while it goes on
	Fill   Filling // history that is fetched behind it
	Forks  []ForkStatus
	Aside  []Aside // operations that wait because their writer's clock runs ahead
	Clocks ClocksStatus
	// Lost is of how many origins operations are missing here that the others have dropped: this replica never becomes equal, and
	// needs an empty directory.
	Lost int
	// Verdict is what the last look into replicas that differed came to; "" when there was none. Doubted is when that was.
	Verdict string
	Doubted time.Time
}

// Status is how replication stands now.
func (r *Replica) Status() Status {
	v := r.cfg.Store.View()
	clocks := r.clocksNow()
	heads := heldBy(v)
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{
		Synced: r.synced, Counts: r.counts, Clocks: clocks, Join: r.join.Joining, Fill: r.fill.Filling,
		Aside: r.asideLocked(v), Lost: r.lostLocked(), Verdict: r.doubt.verdict, Doubted: r.doubt.looked,
	}
	for _, f := range r.forks {
		st.Forks = append(st.Forks, ForkStatus{f.Origin, f.Node, slices.Clone(f.Seqs), f.Peer, f.Since})
	}
	slices.SortFunc(st.Forks, func(a, b ForkStatus) int { return a.Since.Compare(b.Since) })
	tally := tally{v: v, heads: heads, bases: map[*vector]uint64{}}
	wide := r.roster.others() > r.cfg.Fanout
	for _, node := range r.roster.nodes {
		if node == r.cfg.NodeID {
			continue
		}
		s := PeerStatus{Node: node}
		p := r.peers[node]
		if p != nil {
			s.Differs, s.LastOK, s.Err, s.Version = p.differs, p.lastOK, p.lastErr, p.version
		}
		switch {
		case p != nil && (p.told || len(p.over) > 0 || !wide):
			s.Missing, s.Ahead = tally.of(&p.holding)
		case !wide:
			s.Missing, _ = tally.of(&holding{})
		}
		st.Peers = append(st.Peers, s)
	}
	slices.SortFunc(st.Peers, func(a, b PeerStatus) int { return strings.Compare(a.Node, b.Node) })
	return st
}

// heldBy are the heads of a view that were not retired.
func heldBy(v hostdb.View) []pair {
	var heads []pair
	for h := range v.Heads() {
		heads = append(heads, pair{h.Origin, h.Seq})
	}
	return heads
}

// tally counts what peers lack. Most of them refer to the same few vectors.
type tally struct {
	v     hostdb.View
	heads []pair
	bases map[*vector]uint64
}

func (t *tally) of(h *holding) (missing, ahead uint64) {
	missing, ok := t.bases[h.base]
	if !ok {
		for _, p := range t.heads {
			missing = addSat(missing, p.seq-min(p.seq, h.base.get(p.origin)))
		}
		t.bases[h.base] = missing
	}
	for _, o := range h.over {
		own := t.v.Seq(o.origin)
		base := h.base.get(o.origin)
		missing -= min(missing, own-min(own, base))
		missing = addSat(missing, own-min(own, o.seq))
		ahead = addSat(ahead, o.seq-min(o.seq, own))
	}
	return missing, ahead
}
