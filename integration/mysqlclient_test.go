package integration

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
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
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = "app", "app", "tcp", s.dbPort(vip), "shop", &mysql.NopLogger{}
	c.Timeout, c.ReadTimeout, c.WriteTimeout, c.InterpolateParams = patience, patience, patience, true
	c.DialFunc = func(ctx context.Context, _, addr string) (conn net.Conn, err error) {
		d := net.Dialer{Timeout: dial}
		return conn, inSpace(s.t, "c1", func() (err error) { conn, err = d.DialContext(ctx, "tcp4", addr); return err })
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return connector.Connect(ctx)
}

// entry is a write of which the outcome is known to be good.
type entry struct {
	id int64
	at time.Time
}

// dbWriters writes through the address of the primary all the time, each row once, and keeps what was acknowledged.
type dbWriters struct {
	s    *dbSite
	stop atomic.Bool
	wg   sync.WaitGroup
	next atomic.Int64

	mu      sync.Mutex // guards the fields below
	acked   []entry
	unknown []int64        // whether these were written is not known
	refused map[string]int // why
	when    []time.Time    // of refusals
}

// writers is how many write at once.
const writers = 4

func newDBWriters(s *dbSite) *dbWriters {
	l := &dbWriters{s: s, refused: map[string]int{}}
	for who := range writers {
		l.wg.Go(func() { l.write(who) })
	}
	s.t.Cleanup(l.end)
	return l
}

func (l *dbWriters) end() {
	l.stop.Store(true)
	l.wg.Wait()
}

func (l *dbWriters) write(who int) {
	for !l.stop.Load() {
		conn, err := l.s.connects(writeVIP)
		if err != nil {
			l.fails(0, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for !l.stop.Load() {
			id := l.next.Add(1)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := conn.(driver.ExecerContext).ExecContext(ctx, "INSERT INTO written VALUES (?, ?)", []driver.NamedValue{{Ordinal: 1, Value: id}, {Ordinal: 2, Value: int64(who)}})
			cancel()
			if err != nil {
				l.fails(id, err)
				break
			}
			l.mu.Lock()
			l.acked = append(l.acked, entry{id: id, at: time.Now()})
			l.mu.Unlock()
			time.Sleep(20 * time.Millisecond) // replicas are to keep up on a machine that is busy
		}
		_ = conn.Close()
	}
}

// fails notes a write that was not acknowledged; id 0 = there was no connection.
func (l *dbWriters) fails(id int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said *mysql.MySQLError
	why := err.Error()
	if errors.As(err, &said) {
		why = fmt.Sprintf("error %d", said.Number)
	} else if id != 0 {
		l.unknown = append(l.unknown, id)
		why = "unknown outcome"
	} else if i := strings.LastIndex(why, ": "); i >= 0 {
		why = "no connection: " + why[i+2:]
	}
	l.refused[why]++
	l.when = append(l.when, time.Now())
}

// goesOn waits until several writes that ended after a moment were acknowledged.
func (l *dbWriters) goesOn(from time.Time) {
	l.s.t.Helper()
	l.s.await("writes through the address of the primary go on", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		n := 0
		for i := len(l.acked) - 1; i >= 0 && l.acked[i].at.After(from); i-- {
			n++
		}
		if n < 4*writers {
			return fmt.Errorf("%d writes were acknowledged, refused since the start: %v", n, l.refused)
		}
		return nil
	})
}

// gap is the longest time without an acknowledged write that ends after a moment, and what was refused since.
func (l *dbWriters) gap(from time.Time) (longest time.Duration, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last time.Time
	for _, e := range l.acked {
		if e.at.After(from) && !last.IsZero() {
			longest = max(longest, e.at.Sub(last))
		}
		last = e.at
	}
	n := 0
	for _, at := range l.when {
		if at.After(from) {
			n++
		}
	}
	return longest, fmt.Sprintf("%d acknowledged, %d of unknown outcome in all, %d failed tries since", len(l.acked), len(l.unknown), n)
}

// holds checks that all that was acknowledged until now is at a host, and nothing that was refused for sure.
func (l *dbWriters) holds(host string) {
	t := l.s.t
	t.Helper()
	l.mu.Lock()
	acked := make([]int64, 0, len(l.acked))
	for _, e := range l.acked {
		acked = append(acked, e.id)
	}
	l.mu.Unlock()
	rows, err := l.s.dbs[host].Root().QueryContext(t.Context(), "SELECT id FROM shop.written")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	has := make(map[int64]bool, len(acked))
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		has[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	lost := slices.DeleteFunc(acked, func(id int64) bool { return has[id] })
	if len(lost) > 0 {
		t.Fatalf("%s lost %d rows that were acknowledged, such as %v\n%s", host, len(lost), lost[:min(10, len(lost))], l.s.told())
	}
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
	at time.Time
	by int64 // its server_id
}

func newDBReaders(s *dbSite) *dbReaders {
	a := &dbReaders{s: s}
	a.wg.Go(func() {
		for ; !a.stop.Load(); time.Sleep(20 * time.Millisecond) {
			conn, err := s.connects(readVIP)
			if err != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			if rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT @@server_id, COUNT(*) FROM written WHERE id < 10", nil); err == nil {
				row := make([]driver.Value, 2)
				if rows.Next(row) == nil {
					var id int64
					if _, err := fmt.Sscan(fmt.Sprintf("%s", row[0]), &id); err != nil {
						id, _ = row[0].(int64)
					}
					a.mu.Lock()
					a.seen = append(a.seen, reading{time.Now(), id})
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
