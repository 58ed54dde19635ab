package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// applying is how far the one has come that was chosen in a change, since it was.
type applying struct {
	change       time.Time // when that began, by the record
	to, at       string
	began, moved time.Time
}

// apply waits until the chosen one has applied all that it has received. It returns errLater when that takes long, and is called again. One that does not come further is not waited for where another could take over.
func (r *Runner) apply(ctx context.Context, c *Cluster, o *Observations, to Member, position string) (err error) {
	server, entered := r.cfg.World.Server(to), time.Now()
	if change := c.Record.Intent.Began; r.applies.to != to.Host || !r.applies.change.Equal(change) {
		r.applies = applying{change: change, to: to.Host, began: entered, moved: entered}
	}
	defer func() {
		if !errors.Is(err, errLater) {
			r.applies = applying{}
		}
	}()
	for {
		f, err := r.observe(ctx, to)
		if err != nil {
			return err
		}
		has, err := PositionOf(f)
		want, err2 := ParseGTIDs(f.Flavour, position)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if !has.Reaches(want) {
			return permanent{fmt.Errorf("%s had %s, and has %s: it has dropped what it had not applied", to.Host, position, has)}
		}
		if f.Current != r.applies.at {
			r.applies.at, r.applies.moved = f.Current, time.Now()
		}
		werr := r.bounded(ctx, applyLook, func(ctx context.Context) error { return server.WaitApplied(ctx, position) })
		if werr == nil {
			return nil
		}
		if err := r.ok(ctx); err != nil {
			return err
		}
		f, err = r.observe(ctx, to)
		switch now := time.Now(); {
		case err != nil:
			return err
		case f.Replica != nil && !f.Replica.SQL:
			// Its other thread is stopped, too: to start this one would drop what it has not applied.
			return permanent{fmt.Errorf("%s has stopped applying what it received: %w", to.Host, werr)}
		case now.Sub(r.applies.began) > applyBound:
			return permanent{werr}
		case f.Current == r.applies.at && now.Sub(r.applies.moved) > applyStill:
			if other := r.another(ctx, c, o, to); other != "" {
				return permanent{fmt.Errorf("%s has applied nothing for %s, and %s has applied as much: %w", to.Host, now.Sub(r.applies.moved).Round(time.Second), other, werr)}
			}
		}
		if time.Since(entered) > stayFor {
			return errLater
		}
		select {
		case <-time.After(retryPause): // it may have failed at once
		case <-ctx.Done():
		}
	}
}

// another is who takes over instead of the one that was chosen, as it has applied all that this has received; "" = nobody. Those that have not come after it when it is chosen again.
func (r *Runner) another(ctx context.Context, c *Cluster, o *Observations, to Member) string {
	seen := r.look(ctx, everybody(c, c.Record.Intent.Old), o)
	poor := map[string]time.Time{}
	for _, m := range c.Members {
		if m.Host == to.Host || Unapplied(seen.Servers[m.Host].Facts) {
			poor[m.Host] = seen.Now.Add(poorFor)
		}
	}
	seen.Rest = poor
	ch := Choose(c, seen)
	if _, is := poor[ch.To]; is || ch.To == "" || ch.Loss != c.Record.Intent.Loss {
		return ""
	}
	maps.Copy(r.poor, poor)
	return ch.To
}
