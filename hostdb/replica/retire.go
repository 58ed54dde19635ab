package replica

import (
	"context"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// retireAtOnce is how many runs are due before the hour is not waited for.
const retireAtOnce = 64

// maxRetire is how many runs one operation retires.
const maxRetire = 4096

// retire retires the runs that nobody need name any more, when this is the node that does so.
func (r *Replica) retire(ctx context.Context) {
	members := r.members()
	if len(members) == 0 || r.cfg.Sick() || retirer(members) != r.cfg.NodeID {
		return
	}
	r.mu.Lock()
	early := !r.retired.IsZero() && time.Since(r.retired) < r.cfg.RetireEvery
	alive := r.roster.has
	allAlive := !slices.ContainsFunc(members, func(n string) bool { return !alive(n) })
	r.mu.Unlock()
	if !allAlive {
		return
	}
	var heads []hostdb.Head
	for h := range r.cfg.Store.View().Heads() {
		heads = append(heads, h)
	}
	v := r.cfg.Store.View()
	due := retirable(heads, members, func(origin uint64) uint64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.heldByAllLocked(members, origin, v.Seq(origin), false)
	})
	if len(due) == 0 || early && len(due) <= retireAtOnce {
		return
	}
	if _, err := r.cfg.Store.RetireRuns(ctx, due); err != nil {
		r.log.Warn("retire runs", "runs", len(due), "err", err)
		return
	}
	r.mu.Lock()
	r.retired = time.Now()
	r.counts.RetiredRuns += uint64(len(due))
	r.mu.Unlock()
	r.log.Info("runs retired: every member holds them", "runs", len(due))
}

// retirer is the member that retires runs: the one of the lowest hash, so that all agree who, and no operation is made twice.
func retirer(members []string) string {
	best := ranked{}
	for _, n := range members {
		if r := (ranked{n, fnv1a(fnv1a(14695981039346656037, "retire\x00"), n)}); best.node == "" || r.compare(best) < 0 {
			best = r
		}
	}
	return best.node
}

// retirable are the runs that are closed and held by every member: of a node that has a newer one, or that is no member any
// more. HeldByAll says what of an origin every member is known to hold.
func retirable(heads []hostdb.Head, members []string, heldByAll func(origin uint64) uint64) []hostdb.Head {
	newest := map[string]hostdb.Head{}
	for _, h := range heads {
		if n, ok := newest[h.Node]; !ok || h.Time > n.Time || h.Time == n.Time && h.Origin > n.Origin {
			newest[h.Node] = h
		}
	}
	member := map[string]bool{}
	for _, n := range members {
		member[n] = true
	}
	var due []hostdb.Head
	for _, h := range heads {
		if h.Node == "" || member[h.Node] && newest[h.Node].Origin == h.Origin || len(due) == maxRetire {
			continue
		}
		if heldByAll(h.Origin) >= h.Seq {
			due = append(due, h)
		}
	}
	return due
}
