package replica

import (
	"slices"
	"strings"
	"time"
)

// PeerStatus is what is known of one peer's replica.
type PeerStatus struct {
	Node    string
	Missing uint64    // operations held here that the peer is not known to hold
	Ahead   uint64    // operations it holds that are missing here
	Differs bool      // it held the same operations and another state: must not happen
	LastOK  time.Time // of the last message that was answered; zero for never
	Err     string    // why the last message failed; "" when it did not
}

// Status is how replication stands.
type Status struct {
	Synced bool
	Peers  []PeerStatus
	Counts Counts
}

// Status is how replication stands now.
func (r *Replica) Status() Status {
	v := r.cfg.Store.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{Synced: r.synced, Counts: r.counts}
	for node, s := range r.senders {
		p := PeerStatus{Node: node, Differs: s.differs, LastOK: s.lastOK, Err: s.lastErr}
		for origin, seq := range v.Vector() {
			p.Missing += seq - min(seq, s.have[origin])
		}
		for origin, seq := range s.have {
			p.Ahead += seq - min(seq, v.Seq(origin))
		}
		st.Peers = append(st.Peers, p)
	}
	slices.SortFunc(st.Peers, func(a, b PeerStatus) int { return strings.Compare(a.Node, b.Node) })
	return st
}
