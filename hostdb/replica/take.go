package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// take applies operations origin by origin, so that one that must wait holds back nobody else.
func (r *Replica) take(ctx context.Context, from string, ops [][]byte, held map[uint64]bool) (taken int, err error) {
	for len(ops) > 0 {
		origin, _, err := hostdb.PeekOperation(ops[0])
		if err != nil {
			return taken, fmt.Errorf("peer %s sent what is no operation: %w", from, err)
		}
		n := 1
		for n < len(ops) {
			if next, _, err := hostdb.PeekOperation(ops[n]); err != nil || next != origin {
				break
			}
			n++
		}
		got, err := r.cfg.Store.Apply(ctx, ops[:n])
		taken += got
		if err != nil && !r.tolerate(ctx, from, origin, ops[:n], err) {
			return taken, err
		}
		if err != nil {
			held[origin] = true
		}
		ops = ops[n:]
	}
	return taken, nil
}

// tolerate reports whether an error of Apply concerns one origin only, and makes it seen.
func (r *Replica) tolerate(ctx context.Context, from string, origin uint64, ops [][]byte, err error) bool {
	switch {
	case errors.Is(err, hostdb.ErrFuture):
		r.putAside(from, origin, ops, err)
	case errors.Is(err, hostdb.ErrFork):
		_, seq, _ := hostdb.PeekOperation(ops[0])
		r.mu.Lock()
		r.suspectForkLocked(from, origin)
		r.mu.Unlock()
		r.log.Debug("chain does not go on", "peer", from, "origin", originName(origin), "seq", seq, "err", err)
	case errors.Is(err, hostdb.ErrGap):
		// Another pull fills it.
	default:
		return false
	}
	return true
}

func originName(origin uint64) string { return fmt.Sprintf("%016x", origin) }

// gone reports whether operations are asked for that are not held.
func gone(err error) bool { return errors.Is(err, hostdb.ErrGone) }

// Aside is an origin whose operations wait because their writer's clock runs ahead.
type Aside struct {
	Origin uint64
	Seq    uint64 // the first that waits
	Node   string // who wrote them; "" when that is not known
	Ahead  time.Duration
	Since  time.Time // by this box's wall, as Until
	Until  time.Time // when it can be taken
	// recheck is when it is asked for again, by the timer's clock.
	recheck time.Time
}

const (
	maxAside     = 1024
	recheckAside = 10 * time.Second // the clock may be put right, and what waits is often little
	// remoteLead is how far ahead a stamp may be that hostdb takes.
	remoteLead = 5 * time.Second
)

// putAside notes an origin that must wait.
func (r *Replica) putAside(from string, origin uint64, ops [][]byte, cause error) {
	v := r.cfg.Store.View()
	next := v.Seq(origin) + 1
	now := r.cfg.Clock.Now()
	a := Aside{Origin: origin, Seq: next, Node: v.OriginNode(origin), Since: now}
	for _, raw := range ops {
		if op, err := hostdb.ParseOperation(raw); err == nil && op.Seq >= next {
			a.Ahead = op.Time.Wall().Sub(now)
			a.Until = op.Time.Wall().Add(-remoteLead)
			if a.Node == "" {
				a.Node = clip(op.Node)
			}
			break
		}
	}
	a.recheck = time.Now().Add(min(max(a.Until.Sub(now), time.Second), recheckAside))
	r.mu.Lock()
	r.counts.HeldAside++
	if was, ok := r.aside[origin]; ok {
		a.Since = was.Since
	}
	if len(r.aside) < maxAside || r.aside[origin].Seq != 0 {
		r.aside[origin] = a
	}
	r.mu.Unlock()
	r.alarm("operations held aside: their writer's clock runs ahead", "peer", from, "origin", originName(origin), "writer", a.Node, "err", cause)
}

// forgetAside forgets what has come in meanwhile.
func (r *Replica) forgetAside() {
	v := r.cfg.Store.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	for origin, a := range r.aside {
		if v.Seq(origin) >= a.Seq {
			delete(r.aside, origin)
		}
	}
}

// asideLocked are the origins that wait, longest first.
func (r *Replica) asideLocked(v hostdb.View) []Aside {
	var list []Aside
	for _, a := range r.aside {
		if v.Seq(a.Origin) < a.Seq {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Aside) int { return a.Since.Compare(b.Since) })
	return list
}
