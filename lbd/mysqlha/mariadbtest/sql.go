package mariadbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Root is a database handle as root, by the server's socket: it works from each network namespace, and while all connections by
// network are taken, one more is kept for it. It is not to be closed.
func (s *Server) Root() *sql.DB { return s.root }

// Exec runs statements, one after the other, on one connection of root.
func (s *Server) Exec(statements ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := s.TryExec(ctx, statements...); err != nil {
		s.t.Fatal(err)
	}
}

// TryExec is Exec that returns the error.
func (s *Server) TryExec(ctx context.Context, statements ...string) error {
	conn, err := s.root.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %s: %w", s.Name, statement, err)
		}
	}
	// What a session has set must not meet the next.
	if slices.ContainsFunc(statements, func(s string) bool { return strings.HasPrefix(s, "SET ") && !strings.HasPrefix(s, "SET GLOBAL") }) {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // which has the connection dropped
	}
	return nil
}

// Text is the first column of the first row of a query, "" where there is none.
func (s *Server) Text(query string, args ...any) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var text sql.NullString
	switch err := s.root.QueryRowContext(ctx, query, args...).Scan(&text); err {
	case nil, sql.ErrNoRows:
		return text.String
	default:
		s.t.Fatalf("%s: %s: %v", s.Name, query, err)
		return ""
	}
}

// Await waits until a query's first column is want.
func (s *Server) Await(want, query string, args ...any) {
	s.t.Helper()
	limit := time.Now().Add(Patience)
	for {
		got := s.Text(query, args...)
		if got == want {
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("%s: %s: it is %q, and not %q, after %s", s.Name, query, got, want, Patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Global is the value of a global variable.
func (s *Server) Global(name string) string {
	s.t.Helper()
	return s.Text("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME = ?", name)
}

// Status is the value of a global status variable.
func (s *Server) Status(name string) string {
	s.t.Helper()
	return s.Text("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = ?", name)
}

// Client is a handle for a client with an account of its own, by TCP from where the test is, or by the server's socket. What takes longer than patience fails, with an
// unknown outcome. It ends with the test.
func (s *Server) Client(user, password, database string, bySocket bool, patience time.Duration) *sql.DB {
	s.t.Helper()
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName, c.Logger = user, password, database, &mysql.NopLogger{}
	c.Net, c.Addr = "tcp", net.JoinHostPort(s.Addr, strconv.Itoa(s.Port))
	if bySocket {
		c.Net, c.Addr = "unix", s.Socket
	}
	c.Timeout, c.ReadTimeout, c.WriteTimeout, c.RejectReadOnly = patience, patience, patience, true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}
