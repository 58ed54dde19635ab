package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
)

// Config says which server, and how it is spoken to. Begin with DefaultConfig.
type Config struct {
	// Addr is the server's address, Port its port.
	Addr netip.Addr
	Port int
	// Credentials are the cluster's. They have Admin, Replication and Backup.
	Credentials credentials.File
	// Untested allows MySQL, whose dialect was never tried on a server; else it is refused: ErrFlavour.
	Untested bool
	// Dial bounds how long a connection may take, Observe an observation, Statement a change, Checksum a query of Checksum. A context that ends earlier
	// ends them earlier.
	Dial, Observe, Statement, Checksum time.Duration
}

// DefaultConfig are the bounds of a server at an address.
func DefaultConfig(addr netip.Addr, port int, f credentials.File) Config {
	return Config{
		Addr: addr, Port: port, Credentials: f,
		Dial:      2 * time.Second,  // a handshake with a server under load takes tenths of one
		Observe:   2 * time.Second,  // observations are every 0.1 s: what takes longer is a finding
		Statement: 15 * time.Second, // STOP SLAVE waits up to 5 s for a silent source, twice
		Checksum:  5 * time.Minute,  // some hundred thousand rows a table, from cold disks
	}
}

// Server is mysqlha.Server by SQL. Make it with Open.
type Server struct {
	c    Config
	addr string
	// admin speaks one statement at a time, for changes; watch several, all constant, for Observe; hold waits long; backup reads tables.
	admin, backup *sql.DB
	watch, hold   driver.Connector
	// slot is taken by who uses kept.
	slot chan struct{}
	kept *observer // nil = no connection
	// known is how it is spoken to, asked anew with each connection of Observe; nil = nobody has asked yet.
	known atomic.Pointer[dialect]
	// ended is done when Close was called.
	ended context.Context
	end   context.CancelFunc
	// holds are calls of Hold; mu is held by who begins one and by who ends all.
	mu    sync.Mutex
	holds sync.WaitGroup
}

var _ mysqlha.Server = (*Server)(nil)

// Open makes a Server. It connects to nothing, so the server may be down; it reads the files of TLS.
func Open(c Config) (*Server, error) {
	if !c.Addr.IsValid() || c.Port < 1 || c.Port > math.MaxUint16 {
		return nil, fmt.Errorf("database server: %q port %d is no place: it needs an address, and a port from 1 to 65535", c.Addr, c.Port)
	}
	for _, a := range []credentials.Account{c.Credentials.Admin, c.Credentials.Replication, c.Credentials.Backup} {
		if a.User == "" || strings.ContainsAny(a.User, "'\\\x00") {
			return nil, fmt.Errorf("database server %s: accounts admin, replication and backup are needed, without quotes and backslashes in the name", c.Addr)
		}
	}
	s := &Server{c: c, addr: netip.AddrPortFrom(c.Addr, uint16(c.Port)).String(), slot: make(chan struct{}, 1)}
	// Reads of a change are bounded a little later than the statement is at the server, so that its answer wins.
	admin, err := s.connector(c.Credentials.Admin, c.Statement+time.Second, false)
	if err != nil {
		return nil, err
	}
	watch, err := s.connector(c.Credentials.Admin, c.Observe, true)
	if err != nil {
		return nil, err
	}
	hold, err := s.connector(c.Credentials.Admin, holdFor+10*time.Second, false)
	if err != nil {
		return nil, err
	}
	backup, err := s.connector(c.Credentials.Backup, c.Checksum, false)
	if err != nil {
		return nil, err
	}
	s.watch, s.hold, s.admin, s.backup = watch, hold, sql.OpenDB(admin), sql.OpenDB(backup)
	s.admin.SetMaxIdleConns(1)
	s.admin.SetConnMaxIdleTime(time.Minute) // a change is rare, and its steps come together
	s.backup.SetMaxIdleConns(0)
	s.ended, s.end = context.WithCancel(context.Background())
	return s, nil
}

func (s *Server) connector(a credentials.Account, read time.Duration, several bool) (driver.Connector, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = a.User, a.Password.Reveal(), "tcp", s.addr
	c.Timeout, c.ReadTimeout, c.WriteTimeout = s.c.Dial, read, s.c.Dial
	c.MultiStatements = several
	c.Logger = &mysql.NopLogger{} // what it would print is in the errors
	// Not rejectReadOnly: it is for clients that write; here it would hide error 1290 behind a connection that was closed.
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		// Two of three lost probes end a connection whose other end is gone without a word.
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}, Control: mark}
		conn, err := d.DialContext(ctx, network, addr)
		if tcp, ok := conn.(*net.TCPConn); ok {
			// What was not delivered when a call ends is forgotten then, and not sent again for minutes.
			err = errors.Join(err, tcp.SetLinger(0))
		}
		return conn, err
	}
	if t := s.c.Credentials.TLS; t != nil {
		config, err := t.Config(s.c.Addr.String())
		if err != nil {
			return nil, fmt.Errorf("database server %s: %w", s.addr, err)
		}
		c.TLS = config
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("database server %s: %w", s.addr, err)
	}
	return connector, nil
}

// mark marks a socket as the agent's own. That takes CAP_NET_ADMIN: one that has no such right has no cuts either.
func mark(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mysqlha.SocketMark) })
}

// Close ends the connections. Calls that are under way return.
func (s *Server) Close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.slot <- struct{}{}
	s.drop()
	<-s.slot
	s.holds.Wait()
	return errors.Join(s.admin.Close(), s.backup.Close())
}

var errClosed = mysqlha.ErrClosed

// bounded is ctx with a limit, which ends as well when the server is closed.
func (s *Server) bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(s.ended, cancel)
	return ctx, func() { stop(); cancel() }
}

// session is a connection for a change, with the dialect of its server.
type session struct {
	*sql.Conn
	d dialect
}

// on runs f on a connection for changes. An error of f has the connection dropped unless it is the server's own: what it did is unknown.
func (s *Server) on(ctx context.Context, what string, f func(ctx context.Context, c session) error) error {
	ctx, cancel := s.bounded(ctx, s.c.Statement)
	defer cancel()
	return s.fail(what, s.run(ctx, s.admin, f))
}

func (s *Server) run(ctx context.Context, db *sql.DB, f func(ctx context.Context, c session) error) error {
	if s.ended.Err() != nil {
		return errClosed
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	d := s.known.Load()
	if d == nil {
		if d, err = s.identify(ctx, conn); err != nil {
			return err
		}
	}
	return f(ctx, session{conn, *d})
}

// identify asks a server what it is, and remembers it: ErrFlavour.
func (s *Server) identify(ctx context.Context, conn *sql.Conn) (*dialect, error) {
	var text, comment string
	if err := conn.QueryRowContext(ctx, identify).Scan(&text, &comment); err != nil {
		return nil, err
	}
	d, err := s.dialectOf(text, comment)
	if err != nil {
		s.known.Store(nil)
		return nil, err
	}
	s.known.Store(&d)
	return &d, nil
}

const identify = "SELECT @@global.version, @@global.version_comment"

// dialectOf is how a server is spoken to: ErrFlavour.
func (s *Server) dialectOf(text, comment string) (dialect, error) {
	v, err := parseVersion(text, comment)
	if err != nil {
		return dialect{}, err
	}
	if v.flavour == flavourMySQL {
		if !s.c.Untested {
			return dialect{}, fmt.Errorf("%w: it is MySQL %.40q, whose dialect was never tried on a server", mysqlha.ErrFlavour, text)
		}
		return mysql8(v), nil
	}
	return maria(v), nil
}

// exec runs statements, one after the other.
func (c session) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := c.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// limited runs a statement that the server itself gives up, a little before ctx ends: what nobody waits for any more must not happen later. It leaves
// no limit behind.
func (c session) limited(ctx context.Context, statement string) error {
	deadline, ok := ctx.Deadline()
	if !ok || c.d.limit == nil {
		return c.exec(ctx, statement)
	}
	left := time.Until(deadline)
	left -= min(left/10, 200*time.Millisecond)
	if left <= 0 {
		return context.DeadlineExceeded
	}
	if err := c.exec(ctx, c.d.limit(left)); err != nil {
		return err
	}
	if err := c.exec(ctx, statement); err != nil {
		// Not back to the pool: it has a limit.
		_ = c.Raw(func(any) error { return driver.ErrBadConn })
		return err
	}
	return c.exec(ctx, c.d.limit(0))
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }
