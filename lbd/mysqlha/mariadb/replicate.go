package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
)

// StartSQL starts the thread that applies: ErrPurge where that would drop what the replica has received.
func (s *Server) StartSQL(ctx context.Context) error {
	return s.on(ctx, "start the thread that applies", func(ctx context.Context, c session) error {
		f, err := c.replication(ctx)
		switch r := f.Replica; {
		case err != nil:
			return err
		case r == nil:
			return errors.New("it follows nobody: there is nothing to apply")
		case r.SQL:
			return nil
		case c.d.purges && r.IO == "No" && r.UsesGTID:
			return fmt.Errorf("%w: both its threads are stopped, and it follows by GTID; start both (Start) where its source lives", mysqlha.ErrPurge)
		}
		return c.starts(ctx, c.d.startSQL)
	})
}

// StopIO stops the thread that receives.
func (s *Server) StopIO(ctx context.Context) error {
	return s.on(ctx, "stop the thread that receives", func(ctx context.Context, c session) error { return c.exec(ctx, c.d.stopIO) })
}

// Start starts both threads. A replica whose threads were both stopped asks its source again for what it has not applied: the source must have it.
func (s *Server) Start(ctx context.Context) error {
	return s.on(ctx, "start replication", func(ctx context.Context, c session) error { return c.starts(ctx, c.d.start) })
}

// Leave ends replication for good.
func (s *Server) Leave(ctx context.Context) error {
	return s.on(ctx, "end replication", func(ctx context.Context, c session) error { return c.exec(ctx, c.d.leave...) })
}

const (
	// waitAtMost bounds WaitApplied where its context does not.
	waitAtMost = 10 * time.Minute
	// waitStep is how long one statement of it waits: who is stopped meanwhile is noticed then.
	waitStep = time.Second
)

// WaitApplied waits until the server has applied all up to a position. It ends as well when nobody applies any more: the thread that does so has
// stopped, or the server follows nobody.
func (s *Server) WaitApplied(ctx context.Context, position string) error {
	ctx, cancel := s.bounded(ctx, waitAtMost)
	defer cancel()
	what := fmt.Sprintf("wait until %.100s is applied", position)
	return s.fail(what, s.run(ctx, s.admin, func(ctx context.Context, c session) error {
		if err := checkPosition(c.d.v.flavour, position); err != nil {
			return err
		}
		if position == "" {
			return nil
		}
		for limit := time.Duration(0); ; limit = waitStep {
			if deadline, ok := ctx.Deadline(); ok {
				limit = min(limit, max(0, time.Until(deadline)))
			}
			done, err := numbers(ctx, c, c.d.wait(position, limit))
			if err != nil || len(done) == 1 && done[0] == 0 {
				return err
			}
			f, err := c.replication(ctx)
			switch r := f.Replica; {
			case err != nil:
				return err
			case r == nil:
				return errors.New("it has not applied that, and follows nobody from whom it could")
			case !r.SQL:
				return fmt.Errorf("the thread that applies is stopped: %s", orElse(r.SQLError, "by somebody; start it"))
			}
		}
	}))
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// How Follow looks whether a replica was let in.
const (
	followPoll = 10 * time.Millisecond
	// followPatience is how long the source may not be reached before Follow says so; the replica goes on trying.
	followPatience = 3 * time.Second
)

// Follow replicates from a source, and returns when that has let it in and begun to send: ErrMissingLog, ErrDenied, ErrUnreachable, of the source then. What
// the source finds out later is in Facts. It refuses while the server waits for acknowledgements itself, which would hang what it applies. A replica
// that follows this source already, with both threads, is left alone.
func (s *Server) Follow(ctx context.Context, source mysqlha.Source, demoted bool) error {
	what := fmt.Sprintf("follow %s (%s:%d)", source.Name, source.Host, source.Port)
	source, err := s.other(source)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.on(ctx, what, func(ctx context.Context, c session) error {
		f, err := c.replication(ctx)
		if err != nil {
			return err
		}
		if r := f.Replica; r != nil && r.SourceHost == source.Host && r.SourcePort == source.Port && r.UsesGTID && r.IO == "Yes" && r.SQL {
			return nil
		}
		statements, err := s.toFollow(ctx, c, source, demoted)
		if err != nil {
			return err
		}
		last := len(statements) - 1
		if err := c.tell(ctx, statements[:last]); err != nil {
			return err
		}
		if err := c.starts(ctx, statements[last]); err != nil {
			return err
		}
		return c.followed(ctx)
	})
}

// other is a source as it is written in the statement, and shown by the server. It is not the server itself.
func (s *Server) other(source mysqlha.Source) (mysqlha.Source, error) {
	if addr, err := netip.ParseAddr(source.Host); err == nil {
		source.Host = addr.String()
	}
	if source.Host == s.c.Addr.String() && source.Port == s.c.Port {
		return source, errors.New("that is the server itself")
	}
	return source, nil
}

// toFollow are the statements that have a server follow another; the last starts it.
func (s *Server) toFollow(ctx context.Context, c session, source mysqlha.Source, demoted bool) ([]string, error) {
	on, err := numbers(ctx, c, "SELECT @@global."+c.d.sourceName)
	if err != nil {
		return nil, err
	}
	if len(on) != 1 || on[0] != 0 {
		return nil, fmt.Errorf("it waits for acknowledgements as a source does (%s), so that what it applies would hang: switch that off first (SetSource)", c.d.sourceName)
	}
	return c.d.follow(source, s.c.Credentials.Replication, s.c.Credentials.TLS, demoted)
}

// tell runs statements that have secrets, which no error shows.
func (c session) tell(ctx context.Context, statements []string) error {
	if err := c.exec(ctx, plainQuotes); err != nil {
		return err
	}
	for _, statement := range statements {
		if err := c.exec(ctx, statement); err != nil {
			verb, _, _ := strings.Cut(statement, " TO ") // what follows has a password
			if number(err) == badSyntax {
				// The server's text quotes a part of the statement.
				return fmt.Errorf("%s: the server does not understand it: error %d", verb, badSyntax)
			}
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	return nil
}

// untilAtMost bounds FollowUntil where its context does not: a copy may be hours behind.
const untilAtMost = 24 * time.Hour

// FollowUntil replicates from a source up to a position, and returns when both threads have stopped there.
func (s *Server) FollowUntil(ctx context.Context, source mysqlha.Source, position string, demoted bool) error {
	what := fmt.Sprintf("follow %s (%s:%d) until %.100s", source.Name, source.Host, source.Port, position)
	source, err := s.other(source)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := s.bounded(ctx, untilAtMost)
	defer cancel()
	return s.fail(what, s.run(ctx, s.admin, func(ctx context.Context, c session) error {
		if err := checkPosition(c.d.v.flavour, position); err != nil {
			return err
		}
		want, err := mysqlha.ParseGTIDs(c.d.v.flavour, position)
		if err != nil {
			return err
		}
		statements, err := s.toFollow(ctx, c, source, demoted)
		if err != nil {
			return err
		}
		if err := c.tell(ctx, statements[:len(statements)-1]); err != nil {
			return err
		}
		switch has, err := c.current(ctx); {
		case err != nil:
			return err
		case has.Past(want):
			return fmt.Errorf("%w: it is at %s, which is further", mysqlha.ErrUnfit, has)
		case has.Reaches(want):
			return nil
		}
		if err := c.starts(ctx, c.d.until(position)); err != nil {
			return err
		}
		return c.arrived(ctx, want)
	}))
}

// current is the position that a server has applied.
func (c session) current(ctx context.Context) (mysqlha.GTIDs, error) {
	var text sql.NullString
	if err := c.QueryRowContext(ctx, "SELECT "+c.d.current).Scan(&text); err != nil {
		return mysqlha.GTIDs{}, err
	}
	return mysqlha.ParseGTIDs(c.d.v.flavour, oneLine(text.String))
}

// arrivedPatience is for how long a source may not be reached before FollowUntil gives up.
const arrivedPatience = 10 * time.Second

// arrived waits until a replica has stopped by itself at a position.
func (c session) arrived(ctx context.Context, want mysqlha.GTIDs) error {
	pause, received := followPoll, time.Now()
	for {
		f, err := c.replication(ctx)
		if err != nil {
			return err
		}
		has, err := c.current(ctx)
		if err != nil {
			return err
		}
		r := f.Replica
		switch {
		case r == nil:
			return errors.New("somebody else has ended its replication meanwhile")
		case r.SQLErrno != 0:
			return fmt.Errorf("it cannot apply: error %d: %s", r.SQLErrno, r.SQLError)
		case has.Past(want):
			return fmt.Errorf("it went on to %s: somebody else has started it", has)
		case !r.SQL && has.Reaches(want):
			return c.exec(ctx, c.d.leave[0]) // the one that receives may go on
		case r.IO == "No" && r.IOErrno != 0:
			return sourceSays(sentinelOf(causeOf(r)), r)
		case !r.SQL:
			return fmt.Errorf("somebody has stopped it at %s", has)
		case r.IO == "Yes" || r.IO == "No": // the thread that receives is done first
			received = time.Now()
		case time.Since(received) > arrivedPatience:
			return sourceSays(sentinelOf(causeOf(r)), r)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: it is at %s", ctx.Err(), has)
		case <-time.After(pause):
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// followed waits until the source has let a replica in, or not.
func (c session) followed(ctx context.Context) error {
	began, good := time.Now(), 0
	for {
		f, err := c.replication(ctx)
		if err != nil {
			return err
		}
		r := f.Replica
		switch {
		case r == nil:
			return errors.New("somebody else has ended its replication meanwhile")
		case r.SQLErrno != 0:
			return fmt.Errorf("it cannot apply: error %d: %s", r.SQLErrno, r.SQLError)
		case r.IOErrno != 0:
			is := sentinelOf(causeOf(r))
			if r.IO == "No" || is == mysqlha.ErrDenied || time.Since(began) > followPatience {
				return sourceSays(is, r)
			}
			good = 0
		case r.IO == "Yes" && r.Position != "":
			// It is said to be connected before the source has looked at its position; one look more finds what that complains of.
			if good++; good == 2 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the thread that receives is %q, error %d: %s", ctx.Err(), r.IO, r.IOErrno, r.IOError)
		case <-time.After(followPoll):
		}
	}
}

var innerNumber = regexp.MustCompile(`\(Errno: ([0-9]{1,5})\)`)

// causeOf is the number of what the source said, which may stand in a text with a number of its own: error 1597 is of a command that failed there.
func causeOf(r *mysqlha.Replication) int {
	if m := innerNumber.FindStringSubmatch(r.IOError); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && sentinelOf(n) != nil {
			return n
		}
	}
	return r.IOErrno
}

func sourceSays(is error, r *mysqlha.Replication) error {
	if is == nil {
		return fmt.Errorf("source says error %d: %s", r.IOErrno, r.IOError)
	}
	return fmt.Errorf("source: %w: error %d: %s", is, r.IOErrno, r.IOError)
}
