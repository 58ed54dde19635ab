package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hostmesh/lbd/mysqlha"
)

// back has the old data in place again, and the server run if it did.
func (s *server) back(d dirs, j journal) {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if !s.backData(ctx, d, j) {
		return
	}
	// It was a replica, and is one again; by itself it follows nobody.
	l, err := s.retried(ctx, func() (*launch, error) {
		if st, err := s.store.get(); err != nil || st.Marked != "" || s.running() != nil {
			return nil, err
		}
		l, err := s.launch(mysqlha.AsReplica, nil)
		if err == nil {
			_ = s.store.note(func(st *state) { st.Ended = "" }) // tried again with the next write
		}
		return l, err
	})
	if err == nil && l != nil {
		err = s.serve(ctx, l)
	}
	if err != nil && !isClosed(s.stopped) {
		s.h.cfg.Logger.Error("a database server does not run again after a clone that failed", "tag", s.tag, "err", err)
	}
}

// backData puts the old data back, and reports whether the server is to run on it.
func (s *server) backData(ctx context.Context, d dirs, j journal) bool {
	log := s.h.cfg.Logger
	s.orders.Lock()
	defer s.orders.Unlock()
	if isClosed(s.stopped) {
		return false // the next start does it
	}
	swapped, err := d.swapped(j.ID)
	if swapped {
		var p *process
		if p, err = s.sigkill(); err == nil && p != nil {
			err = s.wait(ctx, p)
		}
		if err == nil {
			err = d.swap()
		}
	}
	if err != nil {
		log.Error("the former data of a database server is not put back; it is tried again", "tag", s.tag, "dir", d.fresh, "err", err)
		return false
	}
	if err := s.store.note(func(st *state) {
		st.Clone, st.Copy = nil, j.Was
		if st.Marked == "" && !j.Runs {
			st.Ended = "it did not run before a clone that failed"
		}
	}); err != nil {
		log.Warn("that a clone is over cannot be written down", "tag", s.tag, "err", err)
	}
	if err := d.removeFresh(); err != nil {
		log.Warn("what a clone has left is not removed", "tag", s.tag, "dir", d.fresh, "err", err)
	}
	return j.Runs
}

// recover is for the start of an agent: it ends a clone in which the one before has ended, or removes what one has left.
func (c *cloning) recover() {
	s := c.s
	st, err := s.store.get()
	if err != nil {
		return
	}
	if st.Clone != nil {
		c.resume()
		return
	}
	if d := dirsOf(s.get().Server.Datadir); there(d.fresh) && !there(d.third) {
		s.h.cfg.Logger.Info("what a clone has left is removed", "tag", s.tag, "dir", d.fresh)
		c.wg.Go(func() { _ = d.removeFresh() }) // the next clone tries again
	}
}

// resumeLooks is for how many looks what could not be ended rests.
const resumeLooks = 40

// resume ends a clone that was interrupted, unless one goes on: forward where the new data can be served, else back. What cannot be ended now is tried again: a journal that stayed would be
// carried out by an agent that is started months later, on data that were used since.
func (c *cloning) resume() {
	s := c.s
	c.mu.Lock()
	defer c.mu.Unlock()
	// Not by how often it was looked: other events count there, too, and might take each turn.
	if c.run != nil && !isClosed(c.run.done) || time.Since(c.resumed) < resumeLooks*s.h.cfg.Look {
		return
	}
	st, err := s.store.get()
	if err != nil || st.Clone == nil {
		return
	}
	c.resumed = time.Now()
	j := *st.Clone
	_, err = c.spawn(j.Order, j.From, func(ctx context.Context, r *cloneRun) (string, error) { return s.recoverClone(ctx, r, j) })
	if err != nil {
		s.h.cfg.Logger.Error("a clone that was interrupted is not ended yet", "tag", s.tag, "err", err)
	}
}

// ended refuses what is not to meet data of which it is open whether they stay: those of a clone that goes on, or of one that was interrupted and has not been ended.
func (c *cloning) ended() error {
	if c.busy() {
		return ErrBusy
	}
	if st, _ := c.s.store.get(); st.Clone != nil {
		return interrupted(*st.Clone)
	}
	return nil
}

func interrupted(j journal) error {
	return fmt.Errorf("%w: one from %s was interrupted, and could not be ended yet, which is tried again; the log of the agent says why", ErrBusy, j.From)
}

func (s *server) recoverClone(ctx context.Context, r *cloneRun, j journal) (string, error) {
	d := dirsOf(s.get().Server.Datadir)
	if err := d.mend(); err != nil {
		return "", err
	}
	st, err := s.store.get()
	if err != nil {
		return "", err
	}
	swapped, err := d.swapped(j.ID)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrClone, err)
	}
	err = errors.New("it was interrupted")
	if swapped {
		position, unknown := d.position()
		if st.Copy == nil {
			// Somebody has compared them since: they count, and may have what nobody else has.
			s.finish(d)
			return position, unknown
		}
		r.at(stepStart, 0, 0)
		if err = s.forward(ctx, j, d); err == nil {
			s.finish(d)
			return position, nil
		}
	}
	s.back(d, j)
	return "", fmt.Errorf("%w: %w", ErrClone, cause(ctx, err))
}

func (s *server) forward(ctx context.Context, j journal, d dirs) error {
	ctx, cancel := context.WithTimeout(ctx, s.h.cfg.StartTime)
	defer cancel()
	l, err := s.retried(ctx, func() (*launch, error) {
		st, err := s.store.get()
		if err == nil && st.Marked != "" && s.running() != nil {
			err = mysqlha.ErrMarked
		}
		if err != nil {
			return nil, err
		}
		return s.startAs(ctx, j.Order, mysqlha.AsReplica, d.arguments())
	})
	if err != nil {
		return err
	}
	return s.confirm(ctx, l, d)
}
