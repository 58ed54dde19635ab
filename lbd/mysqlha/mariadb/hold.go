package mariadb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"
)

// holdFor is how long one statement of Hold waits: a connection that nobody speaks on for longer is dropped by some firewalls.
const holdFor = 30 * time.Second

// Ping proves that a new client is served. An account with CONNECTION ADMIN comes in by one connection more than max_connections, so that
// a server that is full to others may still be well here: see Facts.Connections.
func (s *Server) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx, s.c.Observe)
	defer cancel()
	return s.fail("connect anew", s.ping(ctx))
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := s.watch.Connect(ctx)
	if err != nil {
		return orEnded(ctx, err)
	}
	defer func() { _ = conn.Close() }() // it has served
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("%T runs no queries", conn)
	}
	rows, err := q.QueryContext(ctx, "SELECT 1 FROM "+pinged+" LIMIT 1", nil)
	if err != nil {
		return orEnded(ctx, err)
	}
	// That there is none, of a server without a single table, is served as well.
	if err := rows.Next(make([]driver.Value, len(rows.Columns()))); err != nil && !errors.Is(err, io.EOF) {
		return orEnded(ctx, errors.Join(err, rows.Close()))
	}
	return orEnded(ctx, rows.Close())
}

// orEnded is ctx's error where that is why there is one.
func orEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// Hold keeps a connection on which the server waits. That somebody ends the statement, and the server says so, begins it anew: the server lives.
func (s *Server) Hold(ctx context.Context) error {
	s.mu.Lock()
	if s.ended.Err() != nil {
		s.mu.Unlock()
		return s.fail("hold a connection", errClosed)
	}
	s.holds.Add(1)
	s.mu.Unlock()
	defer s.holds.Done()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	for {
		lives, err := s.hold1(inner)
		switch {
		case ctx.Err() != nil:
			return nil
		case s.ended.Err() != nil:
			return s.fail("hold a connection", errClosed)
		case !lives:
			return s.fail("hold a connection", err)
		}
		select {
		case <-inner.Done():
		case <-time.After(100 * time.Millisecond): // whoever ends it each time is not to cost a handshake each time at once
		}
	}
}

// hold1 holds one connection. lives says that the server itself has ended it, and not by its own end: the statement was killed, or took too
// long for a max_statement_time.
func (s *Server) hold1(ctx context.Context) (lives bool, err error) {
	conn, err := s.hold.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // of a server that may be gone
	e, ok := conn.(driver.ExecerContext)
	if !ok {
		return false, fmt.Errorf("%T runs no statements", conn)
	}
	for {
		if _, err := e.ExecContext(ctx, fmt.Sprintf("DO SLEEP(%d)", int(holdFor.Seconds())), nil); err != nil {
			n := number(err)
			return n != 0 && n != shuttingDown, err
		}
	}
}
