package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rejoin makes an old primary a replica: started as one it drops what was never acknowledged; when it still has what the new primary has not, it becomes a copy of a replica.
func (r *Runner) rejoin(ctx context.Context, c *Cluster, m Member, order Order, progress func(CloneProgress)) error {
	local, server := r.cfg.World.Local(m), r.cfg.World.Server(m)
	primary, _ := c.Known(c.Record.Primary)
	var st LocalState
	if err := r.bounded(ctx, fenceWait, func(ctx context.Context) (err error) { st, err = local.State(ctx, c.Tag); return err }); err != nil {
		return fmt.Errorf("ask the agent of %s: %w", m.Host, err)
	}
	f, ferr := r.observe(ctx, m)
	if ferr == nil && f.ReadOnly && c.follows(f, primary.Host) && healthy(f) {
		if of, err := r.observe(ctx, primary); err != nil {
			return err
		} else if lost, err := Forgotten(f, of); err == nil && lost.Empty() {
			return nil // an earlier runner did it
		}
	}
	// One that was started as a replica since it was deposed may still recover, and must not be killed amid that: it might never start again.
	if st.Process == ProcessRuns && st.Rejoined != order.Epoch {
		if err := r.bounded(ctx, fenceBound, func(ctx context.Context) error { return local.Kill(ctx, order, "it was the primary, and is to rejoin") }); err != nil {
			return fmt.Errorf("end the server of %s: %w", m.Host, err)
		}
	}
	if err := r.bounded(ctx, fenceBound, func(ctx context.Context) error { return local.DropVIP(ctx, order) }); err != nil {
		return fmt.Errorf("take the address from %s: %w", m.Host, err)
	}
	_ = r.bounded(ctx, cutBound, func(ctx context.Context) error { return local.Uncut(ctx, order, primary.Source()) })
	var spoilt error
	if err := r.bounded(ctx, longBound, func(ctx context.Context) error { return local.Start(ctx, order, AsReplica) }); errors.Is(err, ErrUnrecoverable) {
		spoilt = err
	} else if err != nil {
		return fmt.Errorf("start the server of %s as a replica: %w", m.Host, err)
	}
	// It is no primary any more, so the new one may hear it again.
	if err := r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(primary).Uncut(ctx, order, m.Source()) }); err != nil {
		r.log.Warn("the primary may not hear the old one yet", "host", primary.Host, "old", m.Host, "err", err)
	}
	r.heard(ctx, c, m, primary, order)
	// So may those that follow the new one: what a cut keeps from a server is kept from the whole host, and this agent may be on one of them.
	each(everybody(c, m.Host, primary.Host), func(x Member) {
		f, err := r.observe(ctx, x)
		if err == nil && !c.follows(f, primary.Host) {
			return
		}
		if err == nil {
			err = r.bounded(ctx, cutBound, func(ctx context.Context) error { return r.cfg.World.Local(x).Uncut(ctx, order, m.Source()) })
		}
		if err != nil {
			r.log.Warn("a replica may not hear the old primary yet", "host", x.Host, "old", m.Host, "err", err)
		}
	})
	if spoilt != nil {
		r.log.Warn("an old primary cannot recover its data: it becomes a copy of another", "host", m.Host, "reason", spoilt)
		r.remember("%s cannot recover its data, and becomes a copy", m.Host)
		return r.copied(ctx, c, m, primary, order, progress)
	}
	f, err := r.observe(ctx, m)
	if err != nil {
		return err
	}
	of, err := r.observe(ctx, primary)
	if err != nil {
		return err
	}
	extra, err := Errant(f, of, true)
	if err != nil {
		return err
	}
	lost, err := Forgotten(f, of)
	if err != nil {
		return err
	}
	now, end := r.during(ctx, order)
	defer end()
	why := ""
	if !extra.Empty() {
		why = "it has what the primary never had: " + extra.String()
	} else if !lost.Empty() {
		if why, err = r.takeBack(now, m, primary, f, of, lost); err != nil {
			return err
		}
	}
	if why != "" {
		// It becomes a copy.
	} else if st.Copy != nil {
		return r.verify(ctx, c, m, order, progress) // it is one, of an earlier runner
	} else if err := r.attach(now, c, m, server, true); errors.Is(err, ErrMissingLog) {
		why = err.Error()
	} else if err != nil {
		return err
	} else if why, err = r.settled(now, m); err != nil {
		return err
	}
	if why == "" {
		how := "it has nothing that the primary has not"
		if !lost.Empty() {
			how = "it has taken back what it had dropped of its own, up to " + lost.String()
		}
		r.log.Info("an old primary follows the new one without a copy", "host", m.Host, "primary", primary.Host, "how", how)
		r.remember("%s rejoined without a copy: %s", m.Host, how)
		return nil
	}
	r.log.Warn("an old primary cannot follow the new one: it becomes a copy of another", "host", m.Host, "reason", why)
	r.remember("%s cannot rejoin with what it has, and becomes a copy: %s", m.Host, why)
	return r.copied(ctx, c, m, primary, order, progress)
}

// settled waits until a replica receives, or says that it never can: then why is not "".
func (r *Runner) settled(ctx context.Context, m Member) (why string, err error) {
	for end := time.Now().Add(planBound); ; {
		f, err := r.observe(ctx, m)
		switch {
		case err != nil:
			return "", err
		case f.Replica == nil:
			return "", fmt.Errorf("%s follows nobody, after it was told to", m.Host)
		case missingLog(f.Replica):
			return f.Replica.IOError, nil
		case f.Replica.IO == "Yes":
			return "", nil
		case time.Now().After(end):
			return "", fmt.Errorf("%s does not receive from the primary: %s", m.Host, f.Replica.IOError)
		}
		if err := r.ok(ctx); err != nil {
			return "", err
		}
		time.Sleep(retryPause)
	}
}
