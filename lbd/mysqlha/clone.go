package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// clone makes a host's server a copy of another's, compares it, and has it follow the primary.
func (r *Runner) clone(ctx context.Context, c *Cluster, m Member, from string, order Order, progress func(CloneProgress)) error {
	local := r.cfg.World.Local(m)
	if progress == nil {
		progress = func(CloneProgress) {}
	}
	primary, ok := c.Known(c.Record.Primary)
	if !ok {
		return fmt.Errorf("the primary, %s, is in HostDB no more: write hosts/%[1]s again", c.Record.Primary)
	}
	done, err := r.lend(from, m.Host)
	if err != nil {
		return err
	}
	began := time.Now()
	var position string
	if err = r.ready(ctx, c, from, primary); err == nil {
		err = r.bounded(ctx, longBound, func(ctx context.Context) (err error) {
			position, err = local.Clone(ctx, order, from, progress)
			return err
		})
	}
	done()
	if err != nil {
		return fmt.Errorf("make %s a copy of %s: %w", m.Host, from, err)
	}
	r.log.Info("a server was made a copy of another", "host", m.Host, "from", from, "position", position, "took", time.Since(began).Round(time.Millisecond).String())
	r.remember("%s was made a copy of %s", m.Host, from)
	of, err := r.observe(ctx, primary)
	if err != nil {
		return err
	}
	f, err := r.endow(ctx, c, m, from, of)
	if err != nil {
		return err
	}
	if lost, err := Forgotten(f, of); err != nil {
		return err
	} else if !lost.Empty() {
		return fmt.Errorf("the copy of %s that %s is has not got what it wrote itself as a primary, up to %s, and would skip that: it is made again", from, m.Host, lost)
	}
	// Before it follows anybody: it has nothing then that clients still wait for, and that no snapshot of the primary has.
	if err := r.verify(ctx, c, m, order, progress); errors.Is(err, ErrBusy) {
		return errors.New(err.Error()) // the copy itself is made
	} else if err != nil {
		return err
	}
	return nil
}

// endow has a copy say by its binary log that it has what it has, and returns what it says then: that log is empty, and would say that it never had what others have. Once it is the primary they would be taken for servers with
// errant transactions. Whoever made the copy may have been gone before it came to that. of is the primary.
func (r *Runner) endow(ctx context.Context, c *Cluster, m Member, from string, of Facts) (Facts, error) {
	f, err := r.observe(ctx, m)
	if err != nil || f.Binlog != "" {
		return f, err
	}
	history := of.Binlog
	if donor, ok := c.Known(from); ok && from != c.Record.Primary {
		if said, err := r.observe(ctx, donor); err == nil { // it may have transactions of its own, which are in the copy
			history = said.Binlog
		}
	}
	has := Inherited(f.Flavour, history, f.Current)
	if has == "" {
		return f, nil
	}
	if err := r.bounded(ctx, openBound, func(ctx context.Context) error { return r.cfg.World.Server(m).Inherit(ctx, has) }); err != nil {
		return f, fmt.Errorf("have %s know what its copy has: %w", m.Host, err)
	}
	return r.observe(ctx, m)
}

// recall is endow before a copy follows one that is about to be the primary.
func (r *Runner) recall(ctx context.Context, c *Cluster, m, to Member) error {
	of, err := r.observe(ctx, to)
	if err != nil {
		return err
	}
	_, err = r.endow(ctx, c, m, to.Host, of)
	return err
}

// ready waits until a donor has applied all that the primary has now. A copy of one that is behind would have to receive what the host that becomes it may have written itself, and would skip that. See Forgotten.
func (r *Runner) ready(ctx context.Context, c *Cluster, from string, primary Member) error {
	donor, ok := c.Known(from)
	if !ok || from == primary.Host {
		return nil
	}
	f, err := r.observe(ctx, primary)
	if err != nil {
		return err
	}
	if err := r.bounded(ctx, applyBound, func(ctx context.Context) error { return r.cfg.World.Server(donor).WaitApplied(ctx, f.Current) }); err != nil {
		return fmt.Errorf("wait until %s, of which a copy is made, has all: %w", from, err)
	}
	return nil
}

// attach has a server follow the primary, and not acknowledge yet.
func (r *Runner) attach(ctx context.Context, c *Cluster, m Member, server Server, demoted bool) error {
	primary, ok := c.Known(c.Record.Primary)
	if !ok {
		return fmt.Errorf("the primary, %s, is in HostDB no more: write hosts/%[1]s again", c.Record.Primary)
	}
	for what, f := range inOrder(
		"have it refuse writes", func(ctx context.Context) error { return server.SetReadOnly(ctx, true) },
		"have it not wait for acknowledgements", func(ctx context.Context) error { return server.SetSource(ctx, false) },
		"have it not acknowledge", func(ctx context.Context) error { return server.SetAcker(ctx, false) },
		"follow", func(ctx context.Context) error { return server.Follow(ctx, primary.Source(), demoted) },
	) {
		if err := r.bounded(ctx, openBound, f); err != nil {
			return fmt.Errorf("%s: %s: %w", m.Host, what, err)
		}
	}
	return nil
}
