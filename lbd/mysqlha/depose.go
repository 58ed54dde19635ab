package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// depose takes from the old primary whoever could acknowledge what it writes, and kills it, all at once. It ends as soon as all that can acknowledge are
// cut; where one cannot be, it waits for the fence.
func (r *Runner) depose(ctx context.Context, c *Cluster, o *Observations, old Member) (func(*Record), error) {
	i := c.Record.Intent
	confirmed := r.fence(ctx, c, old, i)
	var mu sync.Mutex
	var cut []string // all anew: who was cut when this was tried before may have been started anew by hand, and its rules flushed
	each(everybody(c, old.Host), func(m Member) {
		if err := r.deposeReplica(ctx, m, old); err != nil {
			r.log.Log(ctx, again(i.Stopped != "", slog.LevelWarn), "a replica could not be cut from the old primary", "host", m.Host, "err", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		cut = append(cut, m.Host)
	})
	if err := r.ok(ctx); err != nil {
		return nil, err
	}
	for _, host := range c.Record.Ackers {
		if !slices.Contains(cut, host) && i.FenceConfirmed == "" {
			select {
			case <-confirmed:
			case <-time.After(fenceWait):
			case <-ctx.Done():
			}
			break
		}
	}
	slices.Sort(cut)
	return func(rec *Record) { rec.Intent.Cut = cut }, nil
}

// deposeReplica has one server receive nothing from the old primary any more, without dropping what it has received.
func (r *Runner) deposeReplica(ctx context.Context, m, old Member) error {
	local, server := r.cfg.World.Local(m), r.cfg.World.Server(m)
	order := r.order()
	// First the network: without that, stopping the thread waits for a source that is silent.
	cutErr := r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Cut(ctx, order, old.Source()) })
	f, err := r.observe(ctx, m)
	if err != nil {
		if cutErr == nil && old.Addr.IsValid() {
			return nil // it receives nothing; how far it is, the gate asks
		}
		return errors.Join(cutErr, err)
	}
	if f.Replica == nil {
		return nil // it follows nobody
	}
	if !f.Replica.SQL {
		// While its receiving thread is not stopped, starting the other is safe, and after that it is not.
		err := r.bounded(ctx, lookBound, server.StartSQL)
		if err != nil && !errors.Is(err, ErrPurge) {
			r.log.Warn("a replica does not apply what it has received", "host", m.Host, "err", err)
		}
	}
	if f.Replica.IO == "No" {
		return nil
	}
	if err := r.bounded(ctx, stopBound, server.StopIO); err != nil {
		return errors.Join(cutErr, err)
	}
	f, err = r.observe(ctx, m)
	switch {
	case err != nil && cutErr != nil:
		return err
	case err == nil && f.Replica != nil && f.Replica.IO != "No":
		return fmt.Errorf("its receiving thread is %q after it was stopped", f.Replica.IO)
	}
	return nil
}

// fence kills the old primary beside the steps, and closes the channel when that is confirmed. It is tried once a call; a host that is silent has its machine destroyed.
func (r *Runner) fence(ctx context.Context, c *Cluster, old Member, i *Intent) <-chan struct{} {
	done := make(chan struct{})
	if i.FenceConfirmed != "" {
		close(done)
		return done
	}
	epoch, order := r.rec.Epoch, r.order()
	r.wg.Go(func() {
		how := "its agent killed it"
		err := r.bounded(ctx, fenceWait, func(ctx context.Context) error { return r.cfg.World.Local(old).Kill(ctx, order, i.Why) })
		if errors.Is(err, ErrSilent) || errors.Is(err, context.DeadlineExceeded) {
			how = "its virtual machine was destroyed"
			if err2 := r.bounded(ctx, fenceBound, func(ctx context.Context) error { return r.cfg.World.DestroyVM(ctx, old.Host, order) }); err2 != nil {
				err = errors.Join(err, err2)
			} else {
				err = nil
			}
		}
		if err != nil {
			r.log.Log(ctx, again(i.Stopped != "", slog.LevelWarn), "the old primary is not fenced", "host", old.Host, "epoch", epoch, "err", err)
			return
		}
		r.log.Info("the old primary is fenced", "host", old.Host, "epoch", epoch, "how", how)
		r.mu.Lock()
		r.fenced[epoch] = how
		r.mu.Unlock()
		close(done)
	})
	return done
}

// mergeFence puts into a record what went on beside.
func (r *Runner) mergeFence(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if how := r.fenced[rec.Epoch]; how != "" && rec.Intent != nil && rec.Intent.Kind == Failover && rec.Intent.FenceConfirmed == "" {
		rec.Intent.FenceConfirmed = how
	}
}

// returned tells why the old primary can go on instead; "" = it cannot. Nobody was chosen yet. serves says that it answers itself; else it is to be started, and may never be: one for which that was tried in
// vain is left alone for a while.
func (r *Runner) returned(ctx context.Context, c *Cluster, o *Observations, old Member) (why string, serves bool) {
	i := c.Record.Intent
	// A person who has forced it wants another one, as long as there is any that could be.
	if i.Spoilt || i.Forced && hopeless(c, o, old.Host) == "" || c.Record.Fenced[old.Host] != "" {
		return "", false
	}
	if f, err := r.observe(ctx, old); err == nil {
		if f.Replica == nil {
			return "the old primary, " + old.Host + ", answers: it goes on", true
		}
		return "", false
	}
	if st, err := r.remembered(ctx, c, old, cutBound); err == nil && st.ended() && !resting(o, old.Host) {
		return "the agent of the old primary, " + old.Host + ", answers: its server, which has all, is started again", false
	}
	return "", false
}

// ended reports whether the process of a server is known not to run.
func (st LocalState) ended() bool { return st.Process == ProcessDied || st.Process == ProcessStopped }

// vain reports whether the old primary, for which a failover is taken back, is not to be waited for: its host is gone, for longer than an agent's restart takes, or its server was started, and does not run. One that
// runs is waited for, for it may recover, and must not be killed amid that.
func (r *Runner) vain(ctx context.Context, c *Cluster, o *Observations, old Member) bool {
	switch st, err := r.remembered(ctx, c, old, fenceWait); {
	case errors.Is(err, ErrSilent), errors.Is(err, context.DeadlineExceeded):
		return o.Servers[old.Host].left(o.Now)
	case err != nil || o.Busy[old.Host] != "":
		return false
	default:
		return st.ended() && resting(o, old.Host)
	}
}

// copies are what the hosts of replicas that answer remember of their data: what was reported may be older.
func (r *Runner) copies(ctx context.Context, c *Cluster, old Member) map[string]*Unverified {
	out := map[string]*Unverified{}
	var mu sync.Mutex
	each(everybody(c, old.Host), func(m Member) {
		st, err := r.remembered(ctx, c, m, cutBound)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		out[m.Host] = st.Copy
	})
	return out
}

// recut cuts again who was cut, and follows the old primary with a receiving thread that runs or tries to: somebody has flushed the rules of its host, or started the server or its threads. Where that
// fails it is not cut. It reports whether there was such a one.
func (r *Runner) recut(ctx context.Context, c *Cluster, seen *Observations, old Member) (again bool) {
	for _, host := range slices.Clone(c.Record.Intent.Cut) {
		s := seen.Servers[host]
		m, known := c.Known(host)
		if !known || !s.answers(seen.Now) || !c.follows(s.Facts, old.Host) || s.Facts.Replica.IO == "No" {
			continue
		}
		again = true
		err := r.deposeReplica(ctx, m, old)
		r.log.Warn("a replica that was cut from the old primary tries to receive from it: it is cut again", "host", host, "err", err)
		if err != nil {
			c.Record.Intent.Cut = without2(c.Record.Intent.Cut, host)
		}
	}
	return again
}

// choose is the gate. A change that has stopped here tries all again; if the old primary turns out to live, and was not killed, it is taken back. So it is for one that could be started, as long as the gate
// stops still.
func (r *Runner) choose(ctx context.Context, c *Cluster, o *Observations, old Member) (func(*Record), error) {
	i := c.Record.Intent
	var deposed func(*Record)
	back := ""
	takeBack := func(rec *Record) {
		rec.Epoch++ // a kill that is still on its way is refused
		rec.Intent.Step, rec.Intent.Why, rec.Intent.Stopped, rec.Intent.FenceConfirmed = StepWithdraw, back+". Before: "+i.Stopped, "", ""
	}
	if i.Stopped != "" {
		var serves bool
		if back, serves = r.returned(ctx, c, o, old); serves {
			return takeBack, nil
		}
		var err error
		if deposed, err = r.depose(ctx, c, o, old); err != nil {
			return nil, err
		}
	}
	cc := *c
	cc.Record = c.Record.Clone()
	if deposed != nil {
		deposed(&cc.Record)
	}
	r.mergeFence(&cc.Record)
	copies := make(chan map[string]*Unverified, 1)
	go func() { copies <- r.copies(ctx, &cc, old) }()
	seen := r.look(ctx, everybody(&cc, old.Host), o)
	if r.recut(ctx, &cc, seen, old) {
		seen = r.look(ctx, everybody(&cc, old.Host), o)
	}
	for host, u := range <-copies {
		s := seen.Servers[host]
		if s.Copy, s.Differs = "", ""; u != nil {
			s.Copy, s.Differs = u.From, u.Differs
		}
		seen.Servers[host] = s
	}
	if err := r.ok(ctx); err != nil {
		return nil, err
	}
	seen.Rest = r.poor
	ch := Choose(&cc, seen)
	for _, e := range ch.Evidence {
		r.log.Log(ctx, again(i.Stopped != "", slog.LevelInfo), "looked for a new primary", "epoch", r.rec.Epoch, "evidence", e)
	}
	if ch.Stop != "" && back != "" {
		return takeBack, nil
	}
	if ch.Stop != "" {
		return nil, stopped{ch.Stop}
	}
	if ch.Loss != "" {
		r.log.Error("transactions that were acknowledged may be lost", "epoch", r.rec.Epoch, "to", ch.To, "reason", ch.Loss)
	}
	return func(rec *Record) {
		rec.Intent.To, rec.Intent.Position, rec.Intent.Loss, rec.Intent.Stopped = ch.To, ch.Position, ch.Loss, ""
		rec.Intent.Cut = cc.Record.Intent.Cut
	}, nil
}
