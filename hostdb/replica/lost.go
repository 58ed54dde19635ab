package replica

import "time"

const (
	// lostAfter is how long operations must be missing that peers do not hold one by one, before that is called final: a peer that joined
	// itself has yet to fetch them.
	lostAfter = 10 * time.Minute
	maxLost   = 1024
)

// lost is an origin of which operations are missing here that the peers that were asked hold as part of their state only. No member
// that was there all the time has such: retention keeps what a member lacks. One with an older copy of its directory may.
type lost struct {
	held  uint64 // here
	since time.Time
	last  time.Time // when a peer said so last
}

// noteGone notes that a peer cannot give what follows the operations of an origin that are held here.
func (r *Replica) noteGone(node string, origin, held uint64) {
	now := time.Now()
	r.mu.Lock()
	l, ok := r.lost[origin]
	switch {
	case ok && l.held == held:
		l.last = now
	case len(r.lost) >= maxLost:
		r.mu.Unlock()
		return
	default:
		l = lost{held, now, now}
	}
	if r.lost == nil {
		r.lost = map[uint64]lost{}
	}
	r.lost[origin] = l
	r.mu.Unlock()
	if l.final(now) {
		r.alarm("this replica lacks operations that the others have dropped: it will not become equal; save what only this node has with "+
			"hostmesh db export --unreplicated, and start it with an empty data directory", "peer", node, "origin", originName(origin), "held", held)
	}
}

// final reports whether operations have been missing for so long that they will not come any more.
func (l lost) final(now time.Time) bool {
	return now.Sub(l.since) >= lostAfter && now.Sub(l.last) < lostAfter
}

// forgetLost forgets what has come in meanwhile, and what nobody has said for a while.
func (r *Replica) forgetLost() {
	v, now := r.cfg.Store.View(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for origin, l := range r.lost {
		if v.Seq(origin) > l.held || now.Sub(l.last) >= lostAfter {
			delete(r.lost, origin)
		}
	}
}

// lostLocked is the number of origins of which operations are missing for good.
func (r *Replica) lostLocked() (n int) {
	now := time.Now()
	for _, l := range r.lost {
		if l.final(now) {
			n++
		}
	}
	return n
}
