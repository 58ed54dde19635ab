package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
)

// SetReadOnly sets or clears read_only, and not later, when nobody waits for it any more: where setting it hangs the server gives up a little before ctx ends, MariaDB only.
func (s *Server) SetReadOnly(ctx context.Context, on bool) error {
	return s.on(ctx, fmt.Sprintf("set read_only to %t", on), func(ctx context.Context, c session) error {
		// One that is so already, as at each step that is taken anew, is asked and not told.
		if is, err := numbers(ctx, c, "SELECT @@global."+c.d.readOnlyName); err != nil || on && len(is) == 1 && is[0] == 1 {
			return err
		}
		if on {
			return c.limited(ctx, c.d.readOnly)
		}
		limit, err := c.until(ctx)
		if err != nil {
			return err
		}
		return c.holds(ctx, c.d.writable(limit), c.d.readOnlyName, tooLate("let it take writes"))
	})
}

// Open has it take writes, if it waits for acknowledgements: mysqlha.ErrUnfit.
func (s *Server) Open(ctx context.Context) error {
	return s.on(ctx, "have it take writes", func(ctx context.Context, c session) error {
		limit, err := c.until(ctx)
		if err != nil {
			return err
		}
		return c.holds(ctx, c.d.open(limit), c.d.readOnlyName, fmt.Errorf("%w: it does not wait for acknowledgements (%s), so what it says is written could be lost", mysqlha.ErrUnfit, c.d.sourceName))
	})
}

// holds runs a statement that leaves a variable on where a condition does not hold: that is the error then.
func (c session) holds(ctx context.Context, statement, name string, unfit error) error {
	if err := c.exec(ctx, statement); err != nil {
		return err
	}
	is, err := numbers(ctx, c, "SELECT @@global."+name)
	if err == nil && (len(is) != 1 || is[0] != 0) {
		err = unfit
	}
	return err
}

// SetSource has it wait for acknowledgements, or not. It refuses to on a server that follows another, and not to on one that takes writes: mysqlha.ErrUnfit.
func (s *Server) SetSource(ctx context.Context, on bool) error {
	return s.on(ctx, fmt.Sprintf("set semi-sync of a source to %t", on), func(ctx context.Context, c session) error {
		if on {
			f, err := c.replication(ctx)
			if err != nil {
				return err
			}
			if f.Replica != nil {
				return fmt.Errorf("%w: it follows %s: the thread that applies would hang; end that first (Leave)", mysqlha.ErrUnfit, f.Replica.SourceHost)
			}
			return c.timely(ctx, c.d.sourceName)
		}
		return c.holds(ctx, c.d.noSource, c.d.sourceName, fmt.Errorf("%w: it takes writes (%s is off), and who waits for an acknowledgement would be told that all is well", mysqlha.ErrUnfit, c.d.readOnlyName))
	})
}

// SetAcker has a replica acknowledge, or not.
func (s *Server) SetAcker(ctx context.Context, on bool) error {
	return s.on(ctx, fmt.Sprintf("set semi-sync of a replica to %t", on), func(ctx context.Context, c session) error {
		if on {
			return c.timely(ctx, c.d.ackerName)
		}
		return c.exec(ctx, "SET GLOBAL "+c.d.ackerName+" = 0")
	})
}

// clock is the server's, in microseconds: when the statement began, in no time zone.
const clock = "TIMESTAMPDIFF(MICROSECOND, '2000-01-01', UTC_TIMESTAMP(6))"

// before holds until a moment of the server's clock.
func before(limit int64) string { return fmt.Sprintf("%s <= %d", clock, limit) }

// onUntil switches a variable on before a moment of the server's clock, and not after.
func onUntil(name string, limit int64) string {
	return fmt.Sprintf("SET GLOBAL %s = IF(%s, 1, @@global.%[1]s)", name, before(limit))
}

// until is the moment of the server's clock at which ctx ends. A statement that reaches a server later, which stood still or whose network was cut, must not do what others rely on by then that it did not.
func (c session) until(ctx context.Context) (limit int64, err error) {
	now, err := numbers(ctx, c, "SELECT "+clock)
	if err != nil {
		return 0, err
	}
	deadline, ok := ctx.Deadline()
	if !ok || len(now) != 1 {
		return 0, fmt.Errorf("%w: until when that may be done is not known", mysqlha.ErrUnfit)
	}
	return now[0] + time.Until(deadline).Microseconds(), nil
}

func tooLate(what string) error {
	return fmt.Errorf("%w: it came too late to %s", mysqlha.ErrUnreachable, what)
}

// timely switches a variable on while ctx has not ended.
func (c session) timely(ctx context.Context, name string) error {
	limit, err := c.until(ctx)
	if err != nil {
		return err
	}
	if err := c.exec(ctx, onUntil(name, limit)); err != nil {
		return err
	}
	is, err := numbers(ctx, c, "SELECT @@global."+name)
	if err == nil && (len(is) != 1 || is[0] != 1) {
		err = tooLate("switch " + name + " on")
	}
	return err
}

// starts runs a statement that starts threads of a replica while ctx has not ended: one that came late could find both stopped, and drop what was received.
func (c session) starts(ctx context.Context, statement string) error {
	if c.d.startUntil == nil {
		return c.exec(ctx, statement)
	}
	limit, err := c.until(ctx)
	if err != nil {
		return err
	}
	return c.exec(ctx, c.d.startUntil(statement, limit))
}

// Inherit implements mysqlha.Server.
func (s *Server) Inherit(ctx context.Context, history string) error {
	if err := checkPosition(flavourMariaDB, history); err != nil {
		return err
	}
	return s.on(ctx, "say what a copy has", func(ctx context.Context, c session) error {
		if c.d.v.flavour != flavourMariaDB {
			return nil // it keeps that by itself
		}
		return c.exec(ctx, "SET GLOBAL gtid_binlog_state = '"+history+"'")
	})
}

// killBatch is how many connections one statement ends.
const killBatch = 200

// EndClients ends the connections of clients.
func (s *Server) EndClients(ctx context.Context) (ended int, err error) {
	err = s.on(ctx, "end the connections of clients", func(ctx context.Context, c session) error {
		others, err := notOurs([]string{s.c.Credentials.Admin.User, s.c.Credentials.Replication.User, s.c.Credentials.Backup.User})
		if err != nil {
			return err
		}
		ids, err := numbers(ctx, c, "SELECT ID FROM "+c.d.processes+" WHERE "+others)
		if err != nil {
			return err
		}
		ended = len(ids)
		for len(ids) > 0 {
			n := min(len(ids), killBatch)
			for _, statement := range c.d.kill(ids[:n]) {
				// One that ended by itself meanwhile is no error.
				if err := c.exec(ctx, statement); err != nil && number(err) != noSuchThread {
					return err
				}
			}
			ids = ids[n:]
		}
		return nil
	})
	return ended, err
}

func numbers(ctx context.Context, c session, query string) (out []int64, err error) {
	rows, err := c.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

var variableName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

var plainNumber = regexp.MustCompile(`^-?[0-9]{1,20}(\.[0-9]{1,9})?$`)

// Apply sets variables at run time. Those that only the server's file can set are returned: what is so by nature, what only SUPER may set, which our
// account is not given, and what belongs to how a replica follows (MASTER_...), which Follow sets. What cannot be set for another
// reason is an error; the others are set all the same.
func (s *Server) Apply(ctx context.Context, want []mysqlha.Setting) (restart []mysqlha.Setting, err error) {
	err = s.on(ctx, "set variables", func(ctx context.Context, c session) error {
		if err := c.exec(ctx, plainQuotes); err != nil {
			return err
		}
		var errs []error
		for _, w := range want {
			if w.Restart || strings.HasPrefix(w.Name, "MASTER_") || strings.HasPrefix(w.Name, "SOURCE_") {
				restart = append(restart, w)
				continue
			}
			if !variableName.MatchString(w.Name) {
				errs = append(errs, fmt.Errorf("%.60q names no variable", w.Name))
				continue
			}
			value := w.Want
			if !plainNumber.MatchString(value) {
				var err error
				if value, err = literal(value); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", w.Name, err))
					continue
				}
			}
			switch err := c.exec(ctx, "SET GLOBAL "+w.Name+" = "+value); number(err) {
			case readOnlyVariable, deniedPrivilege:
				restart = append(restart, w)
			default:
				if err != nil {
					errs = append(errs, fmt.Errorf("%s = %s: %w", w.Name, w.Want, err))
				}
				if err != nil && number(err) == 0 {
					return errors.Join(errs...)
				}
			}
		}
		return errors.Join(errs...)
	})
	return restart, err
}

// rowsOf are those of a query, by column.
func (c session) rowsOf(ctx context.Context, query string) (_ []row, err error) {
	var rows *sql.Rows
	if rows, err = c.QueryContext(ctx, query); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	return readRows(rows)
}

// replication is how it follows, alone: Facts.Replica and Received.
func (c session) replication(ctx context.Context) (f mysqlha.Facts, err error) {
	list, err := c.rowsOf(ctx, c.d.replica)
	if err != nil {
		return f, err
	}
	return f, c.d.replication(&f, list)
}
