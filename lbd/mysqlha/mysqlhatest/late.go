package mysqlhatest

import (
	"context"
	"fmt"
	"time"

	"hostmesh/lbd/mysqlha"
)

// changing reports whether a statement changes something.
func changing(what string) bool { return what != "observe" && what != "ping" && what != "wait" }

// answered waits until an answer comes through.
func (s *server) answered(ctx context.Context, err error) error {
	for {
		s.w.mu.Lock()
		ok := s.w.way(s.host, s.node)
		s.w.mu.Unlock()
		if ok {
			return err
		}
		if perr := pass(ctx, tick); perr != nil {
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, perr)
		}
	}
}

// inTime is a statement that a server does not carry out once ctx has ended, when it is to do something: one that lets go of it comes at any time.
func (s *server) inTime(ctx context.Context, does bool, f func(b *box) error) func(b *box) error {
	return func(b *box) error {
		if does && ctx.Err() != nil {
			return fmt.Errorf("%s: %w: it came to that too late", s.host, mysqlha.ErrUnreachable)
		}
		return f(b)
	}
}

// later has a statement arrive at the process that it was sent to, when that hears again, though nobody waits for it any more.
func (s *server) later(what string, pid int, f func(b *box) error) {
	s.w.mu.Lock()
	lands := s.w.lands
	s.w.mu.Unlock()
	if !lands {
		return
	}
	s.w.wg.Go(func() {
		for end := time.Now().Add(landTime); time.Now().Before(end); {
			s.w.mu.Lock()
			b := s.w.boxes[s.host]
			gone := b.pid != pid || b.closed
			arrives := !gone && !b.frozen && !b.dead && s.w.way(s.node, s.host)
			if arrives {
				_ = f(b) // nobody hears of it
				s.w.say("%s has %s do %s, late: %s", s.node, s.host, what, b.stands())
			}
			s.w.mu.Unlock()
			if gone || arrives || pass(s.w.ctx, tick) != nil {
				return
			}
		}
	})
}
