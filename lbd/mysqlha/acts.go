package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Long reports whether an act takes so long that others must not wait for it: it is done by Effect, beside. All others are done by Do.
func (a Action) Long() bool {
	return a.Act == ActStart || a.Act == ActClone || a.Act == ActRejoin || a.Act == ActVerify
}

// Do does what is short, and what writes the record. by is who asked for it; "" = nobody.
func (r *Runner) Do(ctx context.Context, c *Cluster, o *Observations, a Action, by string) error {
	if !r.loaded {
		return ErrChanged
	}
	m, _ := c.Known(a.Host)
	primary, _ := c.Known(c.Record.Primary)
	order := r.order()
	server, local := r.cfg.World.Server(m), r.cfg.World.Local(m)
	do := func(limit time.Duration, f func(ctx context.Context) error) error { return r.bounded(ctx, limit, f) }
	switch a.Act {
	case ActNone, ActPage, ActProbe:
		return nil
	case ActFailover:
		if i := r.rec.Intent; i != nil && i.Kind == Failover && by == "" {
			by = i.By // whoever asked for that change asked for its end
		}
		if err := r.Begin(ctx, Intent{Kind: Failover, Why: a.Why, By: by, Spoilt: a.For == PrimaryLost}); err != nil {
			return err
		}
		return r.Continue(ctx, c, o)
	case ActSwitchover:
		return r.inherit(ctx, c, o, a)
	case ActContinue:
		return r.Continue(ctx, c, o)
	case ActReadOnly:
		return do(openBound, func(ctx context.Context) error { return server.SetReadOnly(ctx, true) })
	case ActSource:
		if err := r.patient(ctx, c, m); err != nil {
			return err
		}
		return do(openBound, func(ctx context.Context) error { return server.SetSource(ctx, wanted(c, len(c.Record.Ackers))) })
	case ActAwaken:
		return r.awaken(ctx, m)
	case ActAddress:
		return do(addressBound, func(ctx context.Context) error { return local.TakeVIP(ctx, order) })
	case ActWritable:
		return r.writable(ctx, c, o, m)
	case ActFollow, ActResume:
		// What it has received and not applied may go with that, or, where it was not told to acknowledge, will never be acknowledged: it is written before that it is not counted on until it has all again.
		// So whoever was overtaken does nothing here.
		f := o.Servers[a.Host].Facts
		if slices.Contains(r.rec.Ackers, a.Host) && (a.Act == ActFollow || anew(c, f, primary)) {
			// While it is counted on, what it has tells whether the primary has lost data. It may be the first answer of either since.
			if _, err := r.unspoilt(ctx, c, o, primary); err != nil {
				return err
			}
			if err := r.store(ctx, func(rec *Record) { delete(rec.Starts, a.Host) }); err != nil {
				return err
			}
		}
		return r.back(ctx, c, m, primary)
	case ActAcker, ActProve:
		if err := r.sound(ctx, c, m); err != nil {
			return err
		}
		began := o.began(o.Servers[a.Host])
		err := r.store(ctx, func(rec *Record) {
			if !slices.Contains(rec.Ackers, a.Host) {
				rec.Ackers = append(rec.Ackers, a.Host)
			}
			if rec.Starts == nil {
				rec.Starts = map[string]time.Time{}
			}
			rec.Starts[a.Host] = began
			if p := o.Servers[rec.Primary]; p.answers(o.Now) {
				rec.Position = p.Facts.Current
			}
		})
		if err != nil || o.Servers[a.Host].Facts.Semi.Acker && a.Act == ActProve {
			return err
		}
		return r.speak(ctx, m)
	case ActCount:
		// Whoever acknowledges is waited for, whatever its data are: one that is a copy which nobody has compared is dismissed then, once others have all.
		return r.store(ctx, func(rec *Record) {
			if !slices.Contains(rec.Ackers, a.Host) {
				rec.Ackers = append(rec.Ackers, a.Host) // that it has all is established later
			}
		})
	case ActSpeak:
		if _, err := r.unspoilt(ctx, c, o, primary); err != nil {
			return err
		}
		// Why it does not is unknown: it may have been started anew. That it has all is to be established again.
		if err := r.store(ctx, func(rec *Record) { delete(rec.Starts, a.Host) }); err != nil {
			return err
		}
		return r.speak(ctx, m)
	case ActDismiss:
		if _, err := r.unspoilt(ctx, c, o, primary); err != nil {
			return err
		}
		ended := o.Servers[a.Host].Unrecoverable // it acknowledges nothing, and never will with these data
		switch {
		case ended:
		case m.Unfit == notInHostDB: // nobody can tell it
			if err := r.unheard(ctx, c, m); err != nil {
				return err
			}
		default:
			if err := r.silence(ctx, m); err != nil {
				return err
			}
		}
		if err := r.spared(ctx, c, a.Host); err != nil {
			return err
		}
		if err := r.store(ctx, func(rec *Record) { rec.Ackers = without2(rec.Ackers, a.Host) }); err != nil {
			return err
		}
		if s := o.Servers[a.Host]; ended || m.Unfit == notInHostDB || s.answers(o.Now) && s.Facts.Replica == nil {
			return nil // it follows nobody, or nobody can: there is nothing to start
		}
		return do(openBound, server.Start)
	case ActShut:
		return r.shut(ctx, c, m, primary)
	case ActUnshut:
		if err := do(openBound, func(ctx context.Context) error { return server.SetAcker(ctx, false) }); err != nil {
			return err
		}
		// Somebody may have taken away what shuts it out: then it acknowledges until its receiving thread is started anew.
		if f, err := r.observe(ctx, m); err != nil {
			return err
		} else if receives(c, f, primary) {
			if err := do(stopBound, server.StopIO); err != nil {
				return err
			}
		}
		if err := do(cutBound, func(ctx context.Context) error { return r.cfg.World.Local(primary).Uncut(ctx, order, m.anything()) }); err != nil {
			return err
		}
		return r.store(ctx, func(rec *Record) { rec.Shut = without2(rec.Shut, a.Host) })
	case ActAgree:
		return r.store(ctx, func(rec *Record) { rec.Durability = string(c.MySQL.Durability) })
	case ActRelease:
		return r.release(ctx, c, o, a, m, by)
	case ActForget:
		return r.store(ctx, func(rec *Record) {
			delete(rec.Fenced, a.Host)
			rec.Note(Event{At: r.clock.Now(), Epoch: rec.Epoch, What: a.Host + ", an old primary, is not in HostDB any more: nobody waits for it to rejoin", By: by})
		})
	case ActAdmit:
		old := m
		each(everybody(c, old.Host), func(m Member) {
			_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(m).Uncut(ctx, order, old.Source()) })
			// Whom it was to hear nothing of, as the primary, it may hear when it is one again. Where that fails it is seen to when it matters.
			_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Uncut(ctx, order, m.anything()) })
		})
		return r.store(ctx, func(rec *Record) {
			delete(rec.Fenced, a.Host)
			rec.Note(Event{At: r.clock.Now(), Epoch: rec.Epoch, What: a.Host + " follows " + rec.Primary + " now, whose place it had", By: by})
		})
	}
	return fmt.Errorf("act %q is not known", a.Act)
}

// inherit has another server take over from one that lives, and whose agent is gone.
func (r *Runner) inherit(ctx context.Context, c *Cluster, o *Observations, a Action) error {
	old, _ := c.Known(a.Host)
	to, _ := c.Member(a.To)
	// Two kinds of evidence, here as well: the mesh misses it, and it does not answer.
	err := r.bounded(ctx, fenceWait, func(ctx context.Context) error { _, err := r.cfg.World.Local(old).State(ctx, c.Tag); return err })
	if err := r.ok(ctx); err != nil {
		return err
	}
	if !errors.Is(err, ErrSilent) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the mesh counts the agent of %s as gone, and it answers: nothing is handed over (%v)", old.Host, err)
	}
	if err := r.checkPlanned(ctx, c, o, old, to); err != nil {
		return err
	}
	if err := r.Begin(ctx, Intent{Kind: Switchover, To: to.Host, Why: a.Why}); err != nil {
		return err
	}
	if err := r.Continue(ctx, c, o); err != nil {
		return err
	}
	if r.rec.Primary != to.Host && r.rec.Intent == nil {
		return fmt.Errorf("it was taken back: %s", lastEvent(r.rec))
	}
	return nil
}

func without2(list []string, host string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(h string) bool { return h == host })
}

// Effect does what takes long. It reads nothing of the Runner that changes, so that it may run beside everything else: order is of when it began. progress
// may be nil.
func (r *Runner) Effect(ctx context.Context, c *Cluster, a Action, order Order, progress func(CloneProgress)) error {
	m, ok := c.Known(a.Host)
	if !ok {
		return fmt.Errorf("%s is no member", a.Host)
	}
	local := r.cfg.World.Local(m)
	switch a.Act {
	case ActStart:
		err := r.bounded(ctx, longBound, func(ctx context.Context) error { return local.Start(ctx, order, a.As) })
		if primary, ok := c.Known(c.Record.Primary); ok && a.As == AsReplica && errors.Is(err, ErrUnrecoverable) && !slices.Contains(c.Record.Ackers, a.Host) {
			r.log.Warn("a replica cannot recover its data: it becomes a copy of another", "host", a.Host, "reason", err)
			r.remember("%s cannot recover its data, and becomes a copy", a.Host)
			return r.copied(ctx, c, m, primary, order, progress)
		}
		return err
	case ActClone:
		primary, _ := c.Known(c.Record.Primary)
		if err := r.replaceable(ctx, c, m, primary, a.Asked); err != nil {
			return err
		}
		return r.clone(ctx, c, m, a.From, order, progress)
	case ActRejoin:
		return r.rejoin(ctx, c, m, order, progress)
	case ActVerify:
		return r.verify(ctx, c, m, order, progress)
	}
	return fmt.Errorf("act %q is not one that takes long", a.Act)
}

// longBound is for what takes as long as it takes: recovery after a crash, or a copy.
const longBound = 24 * time.Hour

// writable has the record's primary take writes, as after a start.
func (r *Runner) writable(ctx context.Context, c *Cluster, o *Observations, m Member) error {
	epoch := r.rec.Epoch
	rec, err := r.Load(ctx)
	if err != nil {
		return err
	}
	if rec.Epoch != epoch || rec.Intent != nil || rec.Primary != m.Host {
		return ErrChanged
	}
	cc := *c
	cc.Record = rec
	if _, err := r.unspoilt(ctx, &cc, o, m); err != nil {
		return err
	}
	server, local, order := r.cfg.World.Server(m), r.cfg.World.Local(m), r.order()
	for _, host := range rec.Shut {
		switch shut, ok := c.Known(host); {
		case !ok:
		case !shut.Addr.IsValid():
			// The primary's host keeps what it was told, on its disk, so that one that was deleted stays shut out by the address that it had. That is not renewed: writes would wait for somebody who does not come.
			r.log.Warn("a host that does not count has no address by which it could be shut out anew", "host", host, "primary", m.Host)
		default:
			if err := r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Cut(ctx, order, shut.anything()) }); err != nil {
				return fmt.Errorf("keep %s, which does not count, from acknowledging: %w", host, err)
			}
		}
	}
	if err := r.patient(ctx, c, m); err != nil {
		return err
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetSource(ctx, wanted(c, len(rec.Ackers))) }); err != nil {
		return err
	}
	return r.takeWrites(ctx, c, server, len(rec.Ackers))
}

// receives reports whether a server receives from the primary.
func receives(c *Cluster, f Facts, primary Member) bool {
	return f.Replica != nil && f.Replica.IO == "Yes" && c.follows(f, primary.Host)
}

// patient has a server wait for acknowledgements as long as Durability wants it, once it is the primary: one that became a member later may have what its file says.
func (r *Runner) patient(ctx context.Context, c *Cluster, m Member) error {
	f, err := r.observe(ctx, m)
	if err != nil {
		return err
	}
	list := hurried(f, c.Strict())
	if len(list) == 0 {
		return nil
	}
	var file []Setting
	err = r.bounded(ctx, openBound, func(ctx context.Context) (err error) {
		file, err = r.cfg.World.Server(m).Apply(ctx, list)
		return err
	})
	for _, s := range file {
		err = errors.Join(err, fmt.Errorf("%s must be %s, and our account may not set it: set it in the server's file", s.Name, s.Want))
	}
	if err != nil {
		return fmt.Errorf("have %s wait for acknowledgements as Durability wants it: %w", m.Host, err)
	}
	r.log.Info("how long a primary waits for acknowledgements was set", "host", m.Host, "settings", len(list))
	return nil
}

// speak has a replica that is counted acknowledge: that holds from the next start of its receiving thread, which is stopped before. So one that is left in the middle stands, and is
// started, and does not look like one that acknowledges. The other thread is never stopped.
func (r *Runner) speak(ctx context.Context, m Member) error {
	server := r.cfg.World.Server(m)
	f, err := r.observe(ctx, m)
	if err != nil {
		return err
	}
	if f.Replica == nil || !f.Replica.SQL {
		return fmt.Errorf("%s does not apply: its receiving thread is not touched", m.Host)
	}
	if err := r.bounded(ctx, stopBound, server.StopIO); err != nil {
		return err
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, true) }); err != nil {
		return err
	}
	return r.bounded(ctx, openBound, server.Start)
}

// silence has a replica acknowledge no more, and returns when that is so.
func (r *Runner) silence(ctx context.Context, m Member) error {
	server := r.cfg.World.Server(m)
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, false) }); err != nil {
		return err
	}
	if err := r.bounded(ctx, stopBound, server.StopIO); err != nil {
		return err
	}
	f, err := r.observe(ctx, m)
	if err == nil && (f.Semi.Acker || f.Replica != nil && f.Replica.IO != "No") {
		err = fmt.Errorf("%s acknowledges still", m.Host)
	}
	return err
}

// shut has the cluster do without an acker that is away: the primary's host hears nothing of it until it was told. Others have all.
func (r *Runner) shut(ctx context.Context, c *Cluster, m, primary Member) error {
	if err := r.shutOut(ctx, r.order(), m, primary); err != nil {
		return err
	}
	if err := r.unheard(ctx, c, m); err != nil {
		return err
	}
	if err := r.spared(ctx, c, m.Host); err != nil {
		return err
	}
	return r.store(ctx, func(rec *Record) { rec.Ackers = without2(rec.Ackers, m.Host) })
}

// unheard waits until the primary has no more replicas connected that acknowledge than the others that count: one that was shut out may come from another address of its host than the one that is cut.
func (r *Runner) unheard(ctx context.Context, c *Cluster, m Member) error {
	cc := *c
	cc.Record = r.rec
	for end := time.Now().Add(planBound); ; {
		o := r.look(ctx, everybody(&cc), &Observations{})
		p, known := o.Servers[cc.Record.Primary], 0
		for _, host := range cc.Record.Ackers {
			if s := o.Servers[host]; host != m.Host && s.answers(o.Now) && s.Facts.Semi.Acker && c.follows(s.Facts, cc.Record.Primary) && s.Facts.Replica.IO == "Yes" {
				known++
			}
		}
		if p.answers(o.Now) && p.Facts.Semi.Clients <= known {
			return nil
		}
		if err := r.ok(ctx); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s has %d replicas connected that acknowledge, and of those that count %d beside %s: that one may reach it from another address than %s, or the other is not seen",
				cc.Record.Primary, p.Facts.Semi.Clients, known, m.Host, m.Addr)
		}
		time.Sleep(retryPause)
	}
}

// spared waits until an acker that acknowledges no more can be counted no more: what it may have acknowledged until now, another must have.
func (r *Runner) spared(ctx context.Context, c *Cluster, host string) error {
	cc := *c
	cc.Record = r.rec
	for end := time.Now().Add(planBound); ; {
		o := r.look(ctx, everybody(&cc), &Observations{})
		o = r.look(ctx, everybody(&cc), o) // the primary's answer of the first is before those of the second
		if spare(&cc, o, host) {
			return nil
		}
		if err := r.ok(ctx); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("no other replica has all that %s may have acknowledged", host)
		}
		time.Sleep(retryPause)
	}
}
