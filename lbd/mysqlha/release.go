package mysqlha

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb/section"
)

// release ends a primary whose writes wait without end, where no other takes over: it has all, starts read-only, and goes on as soon as a replica acknowledges. What the server's own timeout ends is waited for.
func release(c *Cluster, o *Observations, why string) (Action, bool) {
	p := o.Servers[c.Record.Primary]
	if c.MySQL.Failover != section.Auto || !p.Agent || resting(o, c.Record.Primary) || len(hurried(p.Facts, true)) > 0 {
		return Action{}, false
	}
	return Action{Act: ActRelease, Host: c.Record.Primary, Why: why}, true
}

// uncopyable reports whether no copy of the primary would end as it stands: writes wait there, and nothing was written since. Under load some wait at any time, and each for a moment.
func uncopyable(c *Cluster, o *Observations) bool {
	p := o.Servers[c.Record.Primary]
	return c.Strict() && !p.Facts.ReadOnly && p.Facts.Semi.Waiting > 0 && o.Now.Sub(p.Wrote) >= stuckAfter
}

// forsaken reports whether, beside that, all who count have been gone for so long that another is to be made in their place; the list is of them. One whose agent is there is not gone unless that says that its process is: it may go on any moment, and
// this node may be on its host, which the primary would hear nothing of.
func forsaken(c *Cluster, o *Observations) (gone []string, yes bool) {
	// The server finds out late that a host has gone: it counts its replica as connected till then. More than that are others, who acknowledge.
	if !uncopyable(c, o) || !c.unheard() && o.Servers[c.Record.Primary].Facts.Semi.Clients > len(c.Record.Ackers) {
		return nil, false
	}
	for _, host := range c.Record.Ackers {
		m, _ := c.Known(host)
		s := o.Servers[host]
		if s.acked().IsZero() || o.Now.Sub(s.acked()) <= ackerPatience || s.lives(o.Now) || s.Agent && !s.down() || !m.Addr.IsValid() { // the last could not be shut out
			return nil, false
		}
	}
	return c.Record.Ackers, true
}

// forNew is why the primary is released for a host that is to be a copy of it.
func forNew(c *Cluster, o *Observations, away []string, host string) string {
	who := "nobody"
	if len(away) > 0 {
		who = strings.Join(away, " and ") + ", of whom nothing is heard"
	}
	return fmt.Sprintf("%d writes wait there for the acknowledgement of %s, and while they do no copy can be made of it, which %s is to be", o.Servers[c.Record.Primary].Facts.Semi.Waiting, who, host)
}

// released releases the primary for a host that a person wants to be a copy of it, whatever Failover says.
func (w *Watch) released(c *Cluster, o *Observations, host, by string, d *Done) error {
	primary := c.Record.Primary
	away, yes := forsaken(c, o)
	if !yes {
		return cannotDo("writes wait on %s to be acknowledged, and while they do no copy of it can be made: wait until %s is back, or has been away for %s, and its agent as well (hostmesh mysql status %s)", primary, strings.Join(c.Record.Ackers, " or "), ackerPatience, c.Tag)
	}
	a := Action{Act: ActRelease, Host: primary, For: ReplicaNew, Why: forNew(c, o, away, host)}
	err := w.runner.Do(w.run, c, o, a, by)
	w.did(a, err)
	if err != nil {
		return err
	}
	d.Lines = []string{lastEvent(w.runner.rec), fmt.Sprintf("%s becomes a copy of it by itself if it is new; else ask again when %s answers", host, primary)}
	return nil
}

// release ends the primary. Where that is for a copy of it, nobody counts any more, and those who did are not heard there before they were told: it takes no writes until a replica has all.
func (r *Runner) release(ctx context.Context, c *Cluster, o *Observations, a Action, m Member, by string) error {
	order := r.order()
	o, err := r.unspoilt(ctx, c, o, m)
	if err != nil {
		return err
	}
	ackers := r.rec.Ackers
	if (a.For == ReplicaNew || a.For == ReplicaLost) && len(ackers) > 0 {
		if ackers, err = r.forsake(ctx, c, o, m); err != nil {
			return err
		}
	}
	// The kill marks the server not to start as the primary in the epoch of its order: it is to, so that is the one before. Whoever waits hears nothing any more, so that nobody takes what only this server
	// has for acknowledged.
	if err := r.store(ctx, func(rec *Record) {
		rec.Epoch++
		rec.Ackers = ackers
		rec.Note(Event{At: r.clock.Now(), Epoch: rec.Epoch, What: a.Host + " is ended, and starts again, read-only: " + a.Why, By: by})
	}); err != nil {
		return err
	}
	return r.bounded(ctx, fenceBound, func(ctx context.Context) error { return r.cfg.World.Local(m).Kill(ctx, order, a.Why) })
}

// forsake has the primary's host hear nothing of those who count and are away, and returns who counts then: nobody.
func (r *Runner) forsake(ctx context.Context, c *Cluster, o *Observations, primary Member) ([]string, error) {
	order := r.order()
	away, yes := forsaken(c, o)
	if !yes {
		return nil, fmt.Errorf("%w: somebody acknowledges again, or nothing waits any more", ErrBusy)
	}
	for _, host := range away {
		m, _ := c.Known(host)
		if o.Servers[host].Agent {
			continue // its process has ended, and does not acknowledge when it starts
		}
		if err := r.shutOut(ctx, order, m, primary); err != nil {
			return nil, err
		}
	}
	// What was on its way before the network was shut has arrived, by another address as well: whoever has come back meanwhile ends the waiting.
	for range 2 {
		before := o.Servers[primary.Host].Facts.Binlog
		time.Sleep(retryPause)
		o = r.look(ctx, []Member{primary}, o)
		if p := o.Servers[primary.Host]; !p.answers(o.Now) || p.Facts.Semi.Waiting == 0 || p.Facts.Binlog != before {
			return nil, fmt.Errorf("%w: %s does not answer, or nothing waits there any more", ErrBusy, primary.Host)
		}
		if err := r.ok(ctx); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// shutOut has the primary's host hear nothing of another; the record says so before.
func (r *Runner) shutOut(ctx context.Context, order Order, m, primary Member) error {
	if err := r.store(ctx, func(rec *Record) {
		if !slices.Contains(rec.Shut, m.Host) {
			rec.Shut = append(rec.Shut, m.Host)
			slices.Sort(rec.Shut)
		}
	}); err != nil {
		return err
	}
	return r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(primary).Cut(ctx, order, m.anything()) })
}
