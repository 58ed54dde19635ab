package mariadb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
	"hostmesh/lbd/mysqlha/servertest"
)

func TestMain(m *testing.M) { os.Exit(mariadbtest.Main(m)) }

// TestContract has real servers keep the contract of a Server.
func TestContract(t *testing.T) {
	servertest.Run(t, func(t *testing.T) servertest.World { return &world{} })
}

// world is of real servers on the loopback.
type world struct {
	n       uint32
	options mariadbtest.Options
}

func (w *world) Add(t *testing.T) servertest.Member { return w.add(t) }

func (w *world) add(t *testing.T) *member {
	t.Helper()
	w.n++
	o := w.options
	o.ID = w.n
	return newMember(t, mariadbtest.Start(t, o))
}

func newMember(t testing.TB, s *mariadbtest.Server) *member {
	t.Helper()
	m := &member{real: s, t: t}
	m.server, m.denied = open(t, s, s.Accounts), nil
	wrong := s.Accounts
	wrong.Admin.Password = credentials.NewSecret("wrong")
	m.denied = open(t, s, wrong)
	// What clients have is not of any server's history: each has it from the start.
	s.Exec("SET sql_log_bin = 0", "CREATE DATABASE shop", "CREATE TABLE shop.ledger (id INT PRIMARY KEY, word VARCHAR(40), amount DOUBLE) ENGINE=InnoDB",
		"CREATE USER app@'%' IDENTIFIED BY 'app'", "GRANT ALL ON shop.* TO app@'%'")
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.DBName, c.Logger = "app", "app", "tcp", "shop", &mysql.NopLogger{}
	c.Addr = netip.AddrPortFrom(netip.MustParseAddr(s.Addr), uint16(s.Port)).String()
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	m.client = connector
	return m
}

func open(t testing.TB, s *mariadbtest.Server, f credentials.File) *mariadb.Server {
	t.Helper()
	server, err := mariadb.Open(mariadb.DefaultConfig(netip.MustParseAddr(s.Addr), s.Port, f))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// member is a real server.
type member struct {
	real           *mariadbtest.Server
	server, denied *mariadb.Server
	client         driver.Connector
	t              testing.TB
}

func (m *member) Server() mysqlha.Server { return m.server }
func (m *member) Denied() mysqlha.Server { return m.denied }
func (m *member) Kill()                  { m.real.Kill() }
func (m *member) Freeze()                { m.real.Freeze() }
func (m *member) Thaw()                  { m.real.Thaw() }

// PurgeLogs repeats it: a log is kept while the storage engine may still need it.
func (m *member) PurgeLogs() {
	m.t.Helper()
	m.real.Exec("FLUSH BINARY LOGS")
	for limit := time.Now().Add(mariadbtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		var file, position, do, ignore string
		if err := m.real.Root().QueryRow("SHOW MASTER STATUS").Scan(&file, &position, &do, &ignore); err != nil {
			m.t.Fatal(err)
		}
		m.real.Exec("PURGE BINARY LOGS TO '" + file + "'")
		var first, size string
		if err := m.real.Root().QueryRow("SHOW BINARY LOGS").Scan(&first, &size); err != nil {
			m.t.Fatal(err)
		}
		if first == file {
			return
		}
		if time.Now().After(limit) {
			m.t.Fatalf("%s is still there", first)
		}
	}
}

func (m *member) Source() mysqlha.Source {
	return mysqlha.Source{Host: m.real.Addr, Port: m.real.Port, Name: m.real.Name}
}

func (m *member) Restart(as mysqlha.Role) {
	role := "MASTER"
	if as == mysqlha.AsReplica {
		role = "SLAVE"
	}
	m.real.Restart("--init-rpl-role="+role, "--read-only=1", "--skip-slave-start")
}

func (m *member) Insert(ctx context.Context, id int) error {
	db := sql.OpenDB(m.client)
	_, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'row %d', %d.25)", id, id, id))
	return errors.Join(err, db.Close())
}

func (m *member) Rows(ctx context.Context) (out []int, err error) {
	db := sql.OpenDB(m.client)
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT id FROM ledger ORDER BY id")
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

func (m *member) Client() func() bool {
	m.t.Helper()
	conn, err := m.client.Connect(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), mariadbtest.Patience)
		defer cancel()
		return conn.(driver.Pinger).Ping(ctx) == nil
	}
}

func (m *member) Fill() func() {
	m.t.Helper()
	var list []driver.Conn
	undo := func() {
		for _, c := range list {
			_ = c.Close()
		}
		list = nil
	}
	m.t.Cleanup(undo)
	ctx, cancel := context.WithTimeout(context.Background(), mariadbtest.Patience)
	defer cancel()
	for {
		c, err := m.client.Connect(ctx)
		if err == nil {
			list = append(list, c)
			continue
		}
		var said *mysql.MySQLError
		if !errors.As(err, &said) || said.Number != 1040 {
			m.t.Fatalf("taking connections: %v", err)
		}
		return undo
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
