package integration

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha/credentials"
)

func shopAccounts() credentials.File {
	return credentials.File{
		Admin:       credentials.Account{User: "hostmesh", Password: credentials.NewSecret("admin's")},
		Replication: credentials.Account{User: "hostmesh_repl", Password: credentials.NewSecret("replica's")},
		Backup:      credentials.Account{User: "hostmesh_backup", Password: credentials.NewSecret("backup")},
	}
}

// dbPort is where clients ask.
func (s *dbSite) dbPort(vip netip.Addr) string { return netip.AddrPortFrom(vip, 3306).String() }

// connects makes a connection from the clients' namespace. One is used by one goroutine.
func (s *dbSite) connects(vip netip.Addr) (driver.Conn, error) {
	// An address that nobody has is asked for anew soon, as one who waits for it would.
	return s.dials(vip, 250*time.Millisecond, time.Second)
}

// dials is connects with other bounds, of what connects and of what is waited for then.
func (s *dbSite) dials(vip netip.Addr, dial, patience time.Duration) (driver.Conn, error) {
	return s.reaches(place{space: "c1", addr: vip, dial: dial, patience: patience})
}

// place is from where a client connects, to what, and what bounds that and each answer.
type place struct {
	space          string // network namespace
	addr           netip.Addr
	dial, patience time.Duration
}

// reaches makes a connection. One is used by one goroutine.
func (s *dbSite) reaches(p place) (driver.Conn, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = "app", "app", "tcp", s.dbPort(p.addr), "shop", &mysql.NopLogger{}
	c.Timeout, c.ReadTimeout, c.WriteTimeout, c.InterpolateParams = p.patience, p.patience, p.patience, true
	if s.trust != nil {
		c.TLS = s.trust.Clone()
		c.TLS.ServerName = p.addr.String()
	}
	c.DialFunc = func(ctx context.Context, _, addr string) (conn net.Conn, err error) {
		d := net.Dialer{Timeout: p.dial}
		return conn, inSpace(s.t, p.space, func() (err error) { conn, err = d.DialContext(ctx, "tcp4", addr); return err })
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return connector.Connect(ctx)
}

// dbReaders reads through ReadVIP all the time.
type dbReaders struct {
	s    *dbSite
	stop atomic.Bool
	wg   sync.WaitGroup

	mu   sync.Mutex // guards seen
	seen []reading
}

// reading is an answer: which server gave it.
type reading struct {
	asked, at time.Time
	by        int64 // its server_id
}

func newDBReaders(s *dbSite) *dbReaders {
	a := &dbReaders{s: s}
	a.wg.Go(func() {
		for ; !a.stop.Load(); time.Sleep(20 * time.Millisecond) {
			asked := time.Now()
			conn, err := s.connects(readVIP)
			if err != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			if rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT @@server_id, COUNT(*) FROM written WHERE id < 10", nil); err == nil {
				row := make([]driver.Value, 2)
				if rows.Next(row) == nil {
					text, ok := row[0].([]byte)
					if !ok {
						text = fmt.Append(nil, row[0])
					}
					id, _ := strconv.ParseInt(string(text), 10, 64)
					a.mu.Lock()
					a.seen = append(a.seen, reading{asked, time.Now(), id})
					a.mu.Unlock()
				}
				_ = rows.Close()
			}
			cancel()
			_ = conn.Close()
		}
	})
	s.t.Cleanup(a.end)
	return a
}

func (a *dbReaders) end() {
	a.stop.Store(true)
	a.wg.Wait()
}

// by are the servers that have answered since a moment, by id.
func (a *dbReaders) by(from time.Time) (ids []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.seen {
		if r.at.After(from) && !slices.Contains(ids, r.by) {
			ids = append(ids, r.by)
		}
	}
	slices.Sort(ids)
	return ids
}

// after waits for several answers to questions that were asked after a moment, and returns who gave them.
func (a *dbReaders) after(from time.Time, n int) (ids []int64) {
	a.s.t.Helper()
	a.s.await("readers are answered", func() error {
		ids = nil
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, r := range a.seen {
			if r.asked.After(from) {
				ids = append(ids, r.by)
			}
		}
		if len(ids) < n {
			return fmt.Errorf("%d of %d are", len(ids), n)
		}
		return nil
	})
	return ids
}

// goesOn waits until readers are served.
func (a *dbReaders) goesOn(from time.Time) {
	a.s.t.Helper()
	a.s.await("readers are served", func() error {
		if len(a.by(from)) == 0 {
			return errors.New("nobody answers at the address of the replicas")
		}
		return nil
	})
}
