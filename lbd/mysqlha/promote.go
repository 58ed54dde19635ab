package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// checkPlanned tells why a planned change would not be short and without loss.
func (r *Runner) checkPlanned(ctx context.Context, c *Cluster, o *Observations, old, to Member) error {
	seen := r.look(ctx, []Member{old, to}, o)
	s, p := seen.Servers[to.Host], seen.Servers[old.Host]
	m, member := c.Member(to.Host)
	why := ""
	switch {
	case !member || to.Host == old.Host:
		why = fmt.Sprintf("%s is no replica of the cluster", to.Host)
	case !p.answers(seen.Now):
		why = fmt.Sprintf("%s does not answer: it cannot hand over. If it is gone: hostmesh mysql failover %s", old.Host, c.Tag)
	case !s.answers(seen.Now):
		why = to.Host + " does not answer"
	case !healthy(s.Facts) || !c.follows(s.Facts, old.Host):
		why = to.Host + " does not receive and apply from " + old.Host + ": hostmesh mysql explain " + c.Tag + " says why"
	case fit(c, m, s) != "":
		why = to.Host + " cannot be the primary: " + fit(c, m, s)
	case s.Facts.Replica.Lag != nil && *s.Facts.Replica.Lag > time.Second:
		why = fmt.Sprintf("%s is %s behind: clients would wait for it", to.Host, *s.Facts.Replica.Lag)
	case seen.Busy[to.Host] != "":
		why = seen.Busy[to.Host]
	}
	if why == "" {
		was, later := s.before(p.Asked)
		if extra, err := Errant(was, p.Facts, later); err == nil && !extra.Empty() {
			why = fmt.Sprintf("%s has transactions that %s never had: %s", to.Host, old.Host, extra)
		}
	}
	if why == "" {
		if err := r.sound(ctx, c, to); err != nil {
			why = err.Error()
		}
	}
	if why != "" {
		return permanent{errors.New(why)}
	}
	return nil
}

// refuse has the old primary take no more writes, and says how far it came.
func (r *Runner) refuse(ctx context.Context, o *Observations, old Member) (func(*Record), error) {
	order, server := r.order(), r.cfg.World.Server(old)
	// New connections go nowhere from here on; where that is not to be had, they are refused by the server.
	if err := r.bounded(ctx, asking(o, old, planBound), func(ctx context.Context) error { return r.cfg.World.Local(old).HandOverVIP(ctx, order) }); err != nil {
		r.log.Warn("the address is not handed over in order", "host", old.Host, "err", err)
	}
	if err := r.bounded(ctx, planBound/2, func(ctx context.Context) error { return server.SetReadOnly(ctx, true) }); err != nil {
		return nil, fmt.Errorf("set %s read-only: %w", old.Host, err)
	}
	if err := r.bounded(ctx, planBound/2, func(ctx context.Context) error { _, err := server.EndClients(ctx); return err }); err != nil {
		return nil, fmt.Errorf("end the clients of %s: %w", old.Host, err)
	}
	f, err := r.observe(ctx, old)
	if err != nil {
		return nil, err
	}
	if !f.ReadOnly {
		return nil, fmt.Errorf("%s takes writes, after it was set read-only", old.Host)
	}
	return func(rec *Record) { rec.Intent.Position = f.Current }, nil
}

// catchUp waits until the planned one has all that the old primary has.
func (r *Runner) catchUp(ctx context.Context, to Member, position string) error {
	return r.bounded(ctx, planBound, func(ctx context.Context) error { return r.cfg.World.Server(to).WaitApplied(ctx, position) })
}

// untouched tells why the old primary of a planned change is not as it was left: some accounts are not held by read_only. What they wrote since would be left
// behind. One that has died since has nothing more than was waited for.
func (r *Runner) untouched(ctx context.Context, old Member, position string) error {
	f, err := r.observe(ctx, old)
	if err != nil {
		return nil
	}
	has, err := ParseGTIDs(f.Flavour, f.Current)
	left, err2 := ParseGTIDs(f.Flavour, position)
	switch {
	case err != nil || err2 != nil:
		return errors.Join(err, err2)
	case !f.ReadOnly:
		return permanent{fmt.Errorf("%s takes writes again: somebody has cleared read_only", old.Host)}
	case !left.Reaches(has):
		return permanent{fmt.Errorf("%s had %s when it was set read-only, and has %s: an account that read_only does not hold has written", old.Host, position, has)}
	}
	return nil
}

// address begins to move the address to the new primary, which refuses writes. The steps that follow do not wait for it: a planned change does before it can be taken back no more,
// and whoever opens asks again.
func (r *Runner) address(ctx context.Context, o *Observations, old, to Member) {
	order, planned, patience := r.order(), r.rec.Intent.Kind == Switchover, asking(o, old, planBound)
	r.wg.Go(func() {
		if err := r.bounded(ctx, addressBound, func(ctx context.Context) error { return r.cfg.World.Local(to).TakeVIP(ctx, order) }); err != nil {
			r.log.Warn("the address is not at the new primary yet", "host", to.Host, "err", err)
			return
		}
		if !planned { // who was deposed loses it with its tenure, or is killed
			return
		}
		if err := r.bounded(ctx, patience, func(ctx context.Context) error { return r.cfg.World.Local(old).DropVIP(ctx, order) }); err != nil {
			r.log.Warn("the address was not taken from the old primary; it loses it with its tenure", "host", old.Host, "err", err)
		}
	})
}

// arrived waits until the address of a planned change is at the new primary.
func (r *Runner) arrived(ctx context.Context, to Member) error {
	order := r.order()
	if err := r.bounded(ctx, planBound, func(ctx context.Context) error { return r.cfg.World.Local(to).TakeVIP(ctx, order) }); err != nil {
		return fmt.Errorf("bring the address to %s: %w", to.Host, err)
	}
	return nil
}

// promote has the new primary follow nobody, and wait for acknowledgements once it takes writes. It is read-only.
func (r *Runner) promote(ctx context.Context, c *Cluster, to Member) error {
	server := r.cfg.World.Server(to)
	for what, f := range inOrder(
		"have it refuse writes", func(ctx context.Context) error { return server.SetReadOnly(ctx, true) },
		"end its replication", server.Leave,
		"have it not acknowledge", func(ctx context.Context) error { return server.SetAcker(ctx, false) },
		"have it wait long enough", func(ctx context.Context) error { return r.patient(ctx, c, to) },
		"have it wait for acknowledgements", func(ctx context.Context) error {
			return server.SetSource(ctx, wanted(c, len(everybody(c, to.Host, c.Record.Intent.Old))))
		},
	) {
		if err := r.bounded(ctx, openBound, f); err != nil {
			return fmt.Errorf("%s: %s: %w", to.Host, what, err)
		}
	}
	return nil
}

// inOrder yields pairs of a text and an effect.
func inOrder(pairs ...any) func(yield func(string, func(context.Context) error) bool) {
	return func(yield func(string, func(context.Context) error) bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if !yield(pairs[i].(string), pairs[i+1].(func(context.Context) error)) {
				return
			}
		}
	}
}

// repoint has the others follow the new primary, and says who acknowledges from now on: before that is written, the new one takes no writes.
func (r *Runner) repoint(ctx context.Context, c *Cluster, o *Observations, old, to Member) (func(*Record), error) {
	i := c.Record.Intent
	rec := &c.Record
	var list []Member
	for _, m := range c.Members {
		if m.Unfit != "" || m.Host == to.Host || rec.Fenced[m.Host] != "" || o.Busy[m.Host] != "" || i.Kind == Failover && m.Host == old.Host {
			continue
		}
		list = append(list, m)
	}
	var mu sync.Mutex
	var ackers []string
	follows := map[string]bool{}
	began := time.Now()
	took := func() string { return time.Since(began).Round(time.Millisecond).String() }
	each(list, func(m Member) {
		unsound := r.sound(ctx, c, m)
		var asked bool
		var err error
		if unsound != nil {
			r.log.Warn("a server does not count for the new primary", "host", m.Host, "reason", unsound)
			// A copy of which nobody has said yet what it has: what it receives first would be all that its log ever had.
			err = r.recall(ctx, c, m, to)
		}
		if err == nil {
			asked, err = r.follow(ctx, m, to, m.Host == old.Host, unsound == nil)
		}
		if err != nil {
			r.log.Warn("a server does not follow the new primary", "host", m.Host, "to", to.Host, "took", took(), "err", err)
		} else {
			r.log.Info("a server follows the new primary", "host", m.Host, "to", to.Host, "epoch", r.rec.Epoch, "took", took())
		}
		mu.Lock()
		defer mu.Unlock()
		// One that cannot be asked now may have been when this step was tried before: then it acknowledges, and must be counted.
		if s := o.Servers[m.Host]; unsound != nil && err == nil {
			delete(r.told, m.Host)
		} else if asked || r.told[m.Host] == to.Host || !s.Known || c.follows(s.Facts, to.Host) {
			ackers = append(ackers, m.Host)
			r.told[m.Host] = to.Host
		}
		follows[m.Host] = err == nil
	})
	if err := r.ok(ctx); err != nil {
		return nil, err
	}
	starts := map[string]time.Time{}
	if slices.Contains(slices.Collect(maps.Values(follows)), true) {
		starts = r.awaitAcker(ctx, c, o, to, ackers)
	}
	// Once it counts as the primary there is no way back but another failover: it must live, and be found.
	if i.Kind == Switchover {
		if err := r.arrived(ctx, to); err != nil {
			return nil, err
		}
	}
	f, err := r.observe(ctx, to)
	if err != nil {
		return nil, err
	} else if f.Replica != nil || !f.ReadOnly {
		return nil, permanent{fmt.Errorf("%s is not as it was left: it takes writes, or follows another", to.Host)}
	}
	return func(rec *Record) {
		// From this writing on the new primary counts as one: it may take writes any moment.
		rec.Primary, rec.Ackers, rec.Starts, rec.Shut = to.Host, ackers, starts, nil
		rec.Position = f.Current
		if rec.Fenced == nil {
			rec.Fenced = map[string]string{}
		}
		delete(rec.Fenced, to.Host)
		if i.Kind == Failover || !follows[old.Host] {
			rec.Fenced[old.Host] = fmt.Sprintf("it was the primary until epoch %d: %s", rec.Epoch, i.Why)
			if i.Kind == Failover {
				rec.Ackers = slices.DeleteFunc(rec.Ackers, func(h string) bool { return h == old.Host })
			}
		}
	}, nil
}

// follow has one server follow another, and acknowledge, or not. asked says that it may acknowledge from now on, whatever the error.
func (r *Runner) follow(ctx context.Context, m, to Member, demoted, acker bool) (asked bool, err error) {
	local, server, order := r.cfg.World.Local(m), r.cfg.World.Server(m), r.order()
	if err := r.bounded(ctx, lookBound, func(ctx context.Context) error { return server.SetReadOnly(ctx, true) }); err != nil {
		return false, fmt.Errorf("have it refuse writes: %w", err)
	}
	_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Uncut(ctx, order, to.Source()) }) // it rarely is, and then following fails
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetSource(ctx, false) }); err != nil {
		return false, fmt.Errorf("have it not wait for acknowledgements: %w", err)
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, acker) }); err != nil {
		return true, fmt.Errorf("have it acknowledge (%t): %w", acker, err)
	}
	if !acker {
		if err := r.bounded(ctx, stopBound, server.StopIO); err != nil { // until then it may go on to
			return true, fmt.Errorf("have it not acknowledge: %w", err)
		}
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.Follow(ctx, to.Source(), demoted) }); err != nil {
		return acker, fmt.Errorf("follow: %w", err)
	}
	return acker, nil
}

// awaitAcker waits until one of those that acknowledge has all that the new primary has, and returns of those that have when their processes began. When
// none has in time, none is counted on before it has: then there is no failover for so long.
func (r *Runner) awaitAcker(ctx context.Context, c *Cluster, o *Observations, to Member, ackers []string) map[string]time.Time {
	out := map[string]time.Time{}
	cc := *c
	cc.Record = c.Record.Clone()
	cc.Record.Primary = to.Host
	list := []Member{to}
	for _, h := range ackers {
		if m, ok := c.Known(h); ok {
			list = append(list, m)
		}
	}
	for end := time.Now().Add(ackerBound); ; {
		o = r.look(ctx, list, o)
		for _, h := range ackers {
			if caughtUp(&cc, o, h) {
				out[h] = o.began(o.Servers[h])
			}
		}
		if len(out) > 0 && o.Servers[to.Host].Facts.Semi.Clients > 0 || time.Now().After(end) || r.ok(ctx) != nil {
			return out
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// open has the new primary take writes, when the record still says so, and ends the change.
func (r *Runner) open(ctx context.Context, c *Cluster, to Member) (func(*Record), error) {
	epoch := r.rec.Epoch
	rec, err := r.Load(ctx)
	if err != nil {
		return nil, err
	}
	if rec.Epoch != epoch || rec.Intent == nil || rec.Intent.Step != StepOpen || rec.Primary != to.Host {
		return nil, ErrChanged
	}
	f, err := r.observe(ctx, to)
	if err != nil {
		return nil, err
	}
	if f.Replica != nil {
		return nil, fmt.Errorf("%s follows %s", to.Host, f.Replica.SourceHost)
	}
	server, local, order := r.cfg.World.Server(to), r.cfg.World.Local(to), r.order()
	if !f.Semi.Source && wanted(c, len(rec.Ackers)) {
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetSource(ctx, true) }); err != nil {
			return nil, fmt.Errorf("have %s wait for acknowledgements: %w", to.Host, err)
		}
	}
	// Where nobody is known to acknowledge it is opened later: no copy could be made of a server in which writes wait for ever.
	cc := *c
	if cc.Record = rec; cc.unheard() {
		r.log.Warn("the new primary takes no writes until a replica acknowledges", "host", to.Host, "epoch", epoch)
	} else if err := r.takeWrites(ctx, c, server, len(rec.Ackers)); err != nil {
		return nil, fmt.Errorf("have %s take writes: %w", to.Host, err)
	}
	// The address was asked for before; where it is not, it is asked for again by whoever looks.
	if err := r.bounded(ctx, addressWait, func(ctx context.Context) error { return local.TakeVIP(ctx, order) }); err != nil {
		r.log.Warn("the new primary takes writes, and the address is not there yet", "host", to.Host, "err", err)
	}
	r.mergeFence(&rec)
	i := rec.Intent
	if i.Kind == Switchover { // one that was deposed hears of it when it rejoins
		r.hearsAll(ctx, c, i.Old)
	}
	loss := i.Loss
	if i.Kind == Failover && !c.Strict() && i.FenceConfirmed == "" {
		loss = strings.TrimPrefix(loss+fmt.Sprintf("; %s had not been killed when %s took over: what it goes on to tell clients, once it waits for acknowledgements no longer, is lost", i.Old, i.To), "; ")
	}
	now := r.clock.Now()
	what := fmt.Sprintf("%s from %s to %s: %s", i.Kind, i.Old, i.To, i.Why)
	r.log.Info("the primary has changed", "kind", i.Kind, "old", i.Old, "to", i.To, "epoch", epoch, "took", now.Sub(i.Began).Round(time.Millisecond).String(), "loss", loss)
	return func(rec *Record) {
		rec.Intent = nil
		rec.Note(Event{At: now, Epoch: epoch, What: what, Took: now.Sub(i.Began), By: i.By, Loss: loss})
	}, nil
}

// hearsAll has the host of one that is no primary any more hear whom it was to hear nothing of as such, beside: nobody is shut out since the record names another. Where that fails it is seen to when it matters.
func (r *Runner) hearsAll(ctx context.Context, c *Cluster, host string) {
	old, ok := c.Known(host)
	if !ok || old.Unfit != "" {
		return
	}
	order := r.order()
	for _, m := range everybody(c, host) {
		r.wg.Go(func() {
			_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(old).Uncut(ctx, order, m.anything()) })
		})
	}
}

// takeWrites has a primary take writes. Where it is to wait for acknowledgements the server itself looks whether it does: whoever decides by now may have made it
// a replica since this runner looked.
func (r *Runner) takeWrites(ctx context.Context, c *Cluster, server Server, ackers int) error {
	return r.bounded(ctx, openBound, func(ctx context.Context) error {
		if wanted(c, ackers) {
			return server.Open(ctx)
		}
		return server.SetReadOnly(ctx, false)
	})
}

// withdraw takes a change back: all follow the old primary again, which takes writes.
func (r *Runner) withdraw(ctx context.Context, c *Cluster, o *Observations, old Member) (func(*Record), error) {
	i := c.Record.Intent
	server := r.cfg.World.Server(old)
	order := r.order()
	if i.Kind == Failover {
		// A kill of the failover that is still on its way is of an earlier epoch: once the agent has seen this one it is refused.
		if err := r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(old).Uncut(ctx, order, old.Source()) }); err != nil {
			r.log.Warn("the agent of the old primary has not heard yet that the failover is taken back", "host", old.Host, "err", err)
		}
	}
	f, err := r.observe(ctx, old)
	// One that does not run is started beside, see Next: recovery may take long. Of a planned change, the old primary was well a moment ago: if it is gone, others have all that it
	// has, and giveUp makes a failover of it.
	for end := time.Now().Add(retryFor); err != nil && i.Kind == Switchover && time.Now().Before(end) && r.ok(ctx) == nil; {
		time.Sleep(retryPause)
		f, err = r.observe(ctx, old)
	}
	if err != nil {
		return nil, fmt.Errorf("take the change back: %w", err)
	}
	if err := r.unchanged(ctx); err != nil { // while it was waited for, others may have gone on
		return nil, err
	}
	if i.Kind == Failover { // of a planned change it was well a moment ago, and clients wait
		if _, err := r.unspoilt(ctx, c, o, old); err != nil {
			r.log.Error("the old primary takes no writes again, and another is looked for", "host", old.Host, "err", err)
			return func(rec *Record) {
				rec.Epoch++
				rec.Intent.Step, rec.Intent.Spoilt, rec.Intent.Why, rec.Intent.Cut = StepDepose, true, err.Error(), nil
			}, nil
		}
	}
	if to, ok := c.Known(i.To); ok && i.To != "" {
		_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(to).DropVIP(ctx, order) }) // its tenure ends, too
	}
	if f.Replica != nil {
		if err := r.bounded(ctx, openBound, server.Leave); err != nil {
			return nil, fmt.Errorf("take the change back: %w", err)
		}
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, false) }); err != nil {
		return nil, fmt.Errorf("take the change back: %w", err)
	}
	if on := wanted(c, len(c.Record.Ackers)); f.ReadOnly || on && !c.unheard() {
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetSource(ctx, on) }); err != nil {
			return nil, fmt.Errorf("take the change back: %w", err)
		}
	}
	if err := r.doubted(ctx, c, o, old); err != nil {
		return nil, err
	}
	each(everybody(c, old.Host), func(m Member) {
		if c.Record.Fenced[m.Host] != "" {
			return
		}
		if err := r.back(ctx, c, m, old); err != nil {
			r.log.Warn("a server does not follow the old primary again yet", "host", m.Host, "err", err)
		}
	})
	if c.unheard() { // as after a start: it is opened when somebody acknowledges
		r.log.Warn("the old primary takes no writes until a replica acknowledges", "host", old.Host, "epoch", r.rec.Epoch)
	} else if err := r.takeWrites(ctx, c, server, len(c.Record.Ackers)); err != nil {
		return nil, fmt.Errorf("take the change back: %w", err)
	}
	if err := r.bounded(ctx, asking(o, old, addressBound), func(ctx context.Context) error { return r.cfg.World.Local(old).TakeVIP(ctx, order) }); err != nil {
		r.log.Warn("the address is not at the primary", "host", old.Host, "err", err)
	}
	now := r.clock.Now()
	r.log.Warn("a change of the primary was taken back", "kind", i.Kind, "old", i.Old, "to", i.To, "reason", i.Why)
	return func(rec *Record) {
		rec.Intent = nil
		if i.By == "" {
			rec.LastFailover = time.Time{} // there was none
		}
		rec.Note(Event{At: now, Epoch: rec.Epoch, What: fmt.Sprintf("%s from %s to %s was taken back: %s", i.Kind, i.Old, i.To, i.Why), By: i.By})
	}, nil
}

// doubted writes of those who are to follow the primary anew that they are not counted on before they have all again.
func (r *Runner) doubted(ctx context.Context, c *Cluster, o *Observations, primary Member) error {
	var list []Member
	for host := range r.rec.Starts {
		if m, ok := c.Known(host); ok && m.Unfit == "" {
			list = append(list, m)
		}
	}
	o = r.look(ctx, list, o)
	list = slices.DeleteFunc(list, func(m Member) bool {
		return !o.Servers[m.Host].answers(o.Now) || !anew(c, o.Servers[m.Host].Facts, primary)
	})
	if len(list) == 0 {
		return nil
	}
	return r.store(ctx, func(rec *Record) {
		for _, m := range list {
			delete(rec.Starts, m.Host)
		}
	})
}

// anew reports whether a server that is to follow the primary again (back) may come without what it had acknowledged: it drops what it has received and not applied, or was not told to acknowledge, and is never
// asked for what it has received since.
func anew(c *Cluster, f Facts, primary Member) bool {
	return !f.Semi.Acker && !receives(c, f, primary) || !c.follows(f, primary.Host) || f.Replica.IO == "No" && !f.Replica.SQL
}

// heard has the primary's host hear a server that it may have been told to hear nothing of, when it was the primary before, or that has the address of such a one. Who is shut out now stays so. Where it fails, what
// follows does.
func (r *Runner) heard(ctx context.Context, c *Cluster, m, primary Member, order Order) {
	if !slices.Contains(c.Record.Shut, m.Host) {
		_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(primary).Uncut(ctx, order, m.anything()) })
	}
}

// back has one server follow the primary as it did, with what it has received. One that is counted on, and is to follow it anew, is left alone: that it is counted on no more is written before.
func (r *Runner) back(ctx context.Context, c *Cluster, m, primary Member) error {
	server, local, order := r.cfg.World.Server(m), r.cfg.World.Local(m), r.order()
	_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Uncut(ctx, order, primary.Source()) })
	r.heard(ctx, c, m, primary, order)
	f, err := r.observe(ctx, m)
	if err != nil {
		return err
	}
	if f.Replica == nil && f.Binlog == "" && f.Current != "" {
		return fmt.Errorf("%s is a copy whose log does not say yet what it has: that and the comparison come first", m.Host)
	}
	if _, proved := r.rec.Starts[m.Host]; proved && anew(c, f, primary) {
		return fmt.Errorf("%s stands otherwise than a moment ago: it follows again once it is not counted on", m.Host)
	}
	// One that is not counted must not acknowledge: a failover would not wait for its cut. It may since a change that it missed, or by its own file.
	hears := receives(c, f, primary) // then it goes on to until it is told anew: it is counted (ActCount)
	if f.Semi.Acker && !hears && !slices.Contains(c.Record.Ackers, m.Host) {
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, false) }); err != nil {
			return err
		}
	}
	// One that is counted acknowledges from its first event on: a write that waits, and that it had received before, would not be acknowledged before the next one, which may
	// never come when those who wait have all connections.
	if !f.Semi.Acker && !hears && slices.Contains(c.Record.Ackers, m.Host) && !slices.Contains(c.Record.Shut, m.Host) {
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, true) }); err != nil {
			return err
		}
	}
	if f.Replica == nil || !c.follows(f, primary.Host) {
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetReadOnly(ctx, true) }); err != nil {
			return err
		}
		if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetSource(ctx, false) }); err != nil {
			return err
		}
		return r.bounded(ctx, openBound, func(ctx context.Context) error { return server.Follow(ctx, primary.Source(), false) })
	}
	if f.Replica.IO != "No" && !f.Replica.SQL {
		return r.bounded(ctx, openBound, server.StartSQL)
	}
	return r.bounded(ctx, openBound, server.Start)
}
