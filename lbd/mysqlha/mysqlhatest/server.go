package mysqlhatest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/lbd/mysqlha"
)

// At is the world as a runner on a node sees it. Node may be the name of a box, or of none.
func (w *World) At(node string) mysqlha.World { return view{w, node} }

type view struct {
	w    *World
	node string
}

func (v view) Server(m mysqlha.Member) mysqlha.Server {
	return &server{w: v.w, node: v.node, host: m.Host, closed: make(chan struct{})}
}
func (v view) Local(m mysqlha.Member) mysqlha.Local { return &local{v.w, v.node, m.Host} }

// DestroyVM implements mysqlha.World.
func (v view) DestroyVM(ctx context.Context, host string, _ mysqlha.Order) error {
	v.w.effect(host, "destroy")
	if err := pass(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	b := v.w.boxes[host]
	if !b.isVM {
		return mysqlha.ErrNoVM
	}
	b.off("its machine was destroyed")
	v.w.say("%s has the machine of %s destroyed", v.node, host)
	return nil
}

// effect tells the hook.
func (w *World) effect(host, what string) {
	w.mu.Lock()
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		hook(host, what)
	}
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// server implements mysqlha.Server.
type server struct {
	w          *World
	node, host string
	denied     bool // its password is wrong
	once       sync.Once
	closed     chan struct{} // by Close
}

// ask runs a statement on the server, or fails as a client would.
func (s *server) ask(ctx context.Context, what string, f func(b *box) error) error {
	if what != "observe" && what != "ping" {
		s.w.effect(s.host, what)
	}
	if err := pass(ctx, time.Millisecond); err != nil {
		return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, err)
	}
	pid := 0
	for {
		s.w.mu.Lock()
		b := s.w.boxes[s.host]
		silent := b.frozen || b.dead || !s.w.way(s.node, s.host) || !changing(what) && !s.w.way(s.host, s.node)
		var err error
		switch {
		case silent:
			if pid == 0 {
				pid = b.pid // the process that it was sent to
			}
		case isClosed(s.closed):
			err = fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, mysqlha.ErrClosed)
		case s.w.cutAgents && s.w.boxes[s.node] != nil && s.node != s.host && cutOff(s.w.boxes[s.node], b):
			err = fmt.Errorf("%s: %w: connection refused", s.host, mysqlha.ErrUnreachable)
		case !b.running || b.closed:
			err = fmt.Errorf("%s: %w: connection refused", s.host, mysqlha.ErrUnreachable)
		case pid != 0 && pid != b.pid:
			err = fmt.Errorf("%s: %w: the connection is one to another process", s.host, mysqlha.ErrUnreachable)
		case s.denied:
			err = fmt.Errorf("%s: %w", s.host, mysqlha.ErrDenied)
		case what == "ping" && b.unserved:
			err = fmt.Errorf("%s: error 1135: can't create a new thread", s.host)
		case what == "ping" && b.saturated:
			err = fmt.Errorf("%s: %w", s.host, mysqlha.ErrSaturated)
		default:
			err = f(b)
			if changing(what) {
				s.w.say("%s has %s do %s (%v): %s", s.node, s.host, what, err, b.stands())
			}
		}
		s.w.mu.Unlock()
		if !silent {
			return s.answered(ctx, err)
		}
		if perr := pass(ctx, tick); perr != nil {
			if changing(what) && pid != 0 {
				s.later(what, pid, f)
			}
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, perr)
		}
	}
}

// state is what the log has, the last of each server. It is brought up to date at the cost of what came.
func (b *box) state() string {
	if b.stateAt > len(b.log) || b.lasts == nil {
		b.lasts, b.stateAt = map[uint32]uint64{}, b.unlogged
		maps.Copy(b.lasts, b.inherited)
	}
	for _, t := range b.log[b.stateAt:] {
		b.lasts[t.server] = max(b.lasts[t.server], t.seq)
	}
	b.stateAt = len(b.log)
	var parts []string
	for id, seq := range b.lasts {
		parts = append(parts, fmt.Sprintf("0-%d-%d", id, seq))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func position(list []txn) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].gtid()
}

// Observe implements mysqlha.Server.
func (s *server) Observe(ctx context.Context) (f mysqlha.Facts, err error) {
	err = s.ask(ctx, "observe", func(b *box) error {
		f = mysqlha.Facts{
			Version: "10.11.19-MariaDB", Flavour: mysqlha.MariaDB, ServerID: b.id, Uptime: time.Since(b.began).Truncate(time.Second), Began: b.began.Truncate(time.Second), ReadOnly: b.readOnly,
			Binlog: b.state(), Current: position(b.log), MaxConnections: 100, Clients: len(b.waiting) + len(b.clients), Connections: 1 + b.held + len(b.waiting) + len(b.clients),
			Settings: map[string]string{"log_bin": "ON", "gtid_strict_mode": "ON", "rpl_semi_sync_master_timeout": b.timeout(s.w.Strict)},
			Semi:     mysqlha.SemiSync{Source: b.semi, Acker: b.acker, Active: b.semi && !b.lapsed, Waiting: len(b.waiting), Clients: b.strangers},
		}
		for _, x := range s.w.boxes {
			if x.running && x.source == b.name && x.ioState == "Yes" && x.ackConnected && b.semi {
				f.Semi.Clients++ // the server finds out late that one is gone
			}
		}
		if b.source != "" {
			f.Received = b.last().gtid()
			if b.last().seq == 0 {
				f.Received = ""
			}
			lag := time.Duration(0)
			r := &mysqlha.Replication{
				SourceHost: s.w.boxes[b.source].addr.String(), SourcePort: 3306, IO: b.ioState, SQL: b.sql, Position: f.Received, Heartbeats: b.beats,
				HeartbeatPeriod: 250 * time.Millisecond, IOErrno: b.ioErrno, SQLErrno: b.sqlErrno, UsesGTID: true,
			}
			if b.ioState == "Yes" && b.sql && len(b.relay) == 0 {
				r.Lag = &lag
			}
			if b.ioErrno != 0 {
				r.IOError = "Got fatal error 1236 from master"
			}
			f.Replica = r
		}
		return nil
	})
	return f, err
}

// Ping implements mysqlha.Server.
func (s *server) Ping(ctx context.Context) error {
	return s.ask(ctx, "ping", func(*box) error { return nil })
}

// Hold implements mysqlha.Server.
func (s *server) Hold(ctx context.Context) error {
	var died chan struct{}
	if err := s.ask(ctx, "ping", func(b *box) error { died = b.died; b.held++; return nil }); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer s.w.with(s.host, func(b *box) { b.held-- })
	select {
	case <-ctx.Done():
		return nil
	case <-s.closed:
		return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, mysqlha.ErrClosed)
	case <-died:
	}
	s.w.mu.Lock()
	heard := s.w.link(s.node, s.host)
	s.w.mu.Unlock()
	if !heard { // nobody says so
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("%s: %w: unexpected EOF", s.host, mysqlha.ErrUnreachable)
}

// SetReadOnly implements mysqlha.Server.
func (s *server) SetReadOnly(ctx context.Context, on bool) error {
	what := "writable"
	if on {
		what = "read-only"
	}
	for {
		hangs := false
		err := s.ask(ctx, what, s.inTime(ctx, !on, func(b *box) error {
			if hangs = on && !b.readOnly && len(b.waiting) > 0; !hangs {
				b.readOnly = on
			}
			return nil
		}))
		if err != nil || !hangs {
			return err
		}
		if err := pass(ctx, tick); err != nil {
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, err)
		}
	}
}

// Open implements mysqlha.Server.
func (s *server) Open(ctx context.Context) error {
	return s.ask(ctx, "writable", s.inTime(ctx, true, func(b *box) error {
		if b.readOnly && !b.semi {
			return fmt.Errorf("%s: %w: it does not wait for acknowledgements", s.host, mysqlha.ErrUnfit)
		}
		b.readOnly = false
		return nil
	}))
}

// SetSource implements mysqlha.Server.
func (s *server) SetSource(ctx context.Context, on bool) error {
	return s.ask(ctx, "source", s.inTime(ctx, on, func(b *box) error {
		if on && b.source != "" {
			return fmt.Errorf("%s: %w: it follows another: its applying thread would hang", s.host, mysqlha.ErrUnfit)
		}
		if !on && b.semi && !b.readOnly {
			return fmt.Errorf("%s: %w: it takes writes", s.host, mysqlha.ErrUnfit)
		}
		if b.semi && !on {
			for i := range b.log {
				if !b.log[i].committed {
					b.commit(s.w, i) // their clients are told OK
				}
			}
		}
		b.semi = on
		return nil
	}))
}

// Inherit implements mysqlha.Server: the log of a copy has nothing of what came with it.
func (s *server) Inherit(ctx context.Context, history string) error {
	return s.ask(ctx, "inherit", func(b *box) error {
		if len(b.log) > b.unlogged {
			return fmt.Errorf("%s: its binary log is not empty", s.host)
		}
		b.inherited, b.lasts = map[uint32]uint64{}, nil
		for part := range strings.SplitSeq(history, ",") {
			var domain, id uint32
			var seq uint64
			if _, err := fmt.Sscanf(strings.TrimSpace(part), "%d-%d-%d", &domain, &id, &seq); err != nil {
				return fmt.Errorf("%s: inherit %q: %w", s.host, history, err)
			}
			b.inherited[id] = seq
		}
		return nil
	})
}

// SetAcker implements mysqlha.Server.
func (s *server) SetAcker(ctx context.Context, on bool) error {
	return s.ask(ctx, "acker", s.inTime(ctx, on, func(b *box) error {
		b.acker = on
		return nil
	}))
}

// StartSQL implements mysqlha.Server.
func (s *server) StartSQL(ctx context.Context) error {
	return s.ask(ctx, "start-sql", s.inTime(ctx, true, func(b *box) error {
		if b.source == "" || b.sql {
			return nil
		}
		if !b.io {
			return mysqlha.ErrPurge
		}
		b.sql, b.sqlErrno = true, 0
		return nil
	}))
}

// StopIO implements mysqlha.Server.
func (s *server) StopIO(ctx context.Context) error {
	return s.ask(ctx, "stop-io", func(b *box) error {
		if b.stubborn {
			return fmt.Errorf("%s: %w: the statement took too long", s.host, mysqlha.ErrUnreachable)
		}
		if !b.heedless {
			b.io, b.ioState, b.ackConnected = false, "No", false
		}
		return nil
	})
}

// Start implements mysqlha.Server.
func (s *server) Start(ctx context.Context) error {
	return s.ask(ctx, "start", s.inTime(ctx, true, func(b *box) error {
		if b.source == "" {
			return nil
		}
		b.until = 0
		if !b.io && !b.sql {
			b.relay = nil // both were stopped, with GTIDs
		}
		b.io, b.sql, b.ioErrno, b.sqlErrno = true, true, 0, 0
		if b.ioState == "No" {
			b.ioState, b.triedAt = "Connecting", time.Time{}
		}
		return nil
	}))
}

// WaitApplied implements mysqlha.Server.
func (s *server) WaitApplied(ctx context.Context, position string) error {
	want, err := mysqlha.ParseGTIDs(mysqlha.MariaDB, position)
	if err != nil {
		return err
	}
	s.w.effect(s.host, "wait")
	for {
		done := false
		err := s.ask(ctx, "ping", func(b *box) error {
			has, err := mysqlha.ParseGTIDs(mysqlha.MariaDB, b.state())
			done = has.Reaches(want)
			if err == nil && !done && !b.sql {
				err = fmt.Errorf("%s: it has not applied that, and nothing applies there", s.host)
			}
			return err
		})
		if err != nil || done {
			return err
		}
		if err := pass(ctx, tick); err != nil {
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, err)
		}
	}
}

// Leave implements mysqlha.Server.
func (s *server) Leave(ctx context.Context) error {
	return s.ask(ctx, "leave", func(b *box) error {
		// Where a failover has announced that they are lost (Choose: both threads had been stopped, so that they cannot be applied any more), that is no surprise. A copy that is to be compared fetches them again.
		if i := s.w.rec.record.Intent; len(b.relay) > 0 && (i == nil || i.To != s.host || i.Loss == "") && b.copy == nil {
			s.w.fault("%s ended its replication with %d transactions that it had not applied", s.host, len(b.relay))
		}
		b.relay, b.source, b.io, b.sql, b.ioState, b.ackConnected, b.until = nil, "", false, false, "No", false, 0
		return nil
	})
}

// FollowUntil implements mysqlha.Server.
func (s *server) FollowUntil(ctx context.Context, source mysqlha.Source, position string, _ bool) error {
	want, err := mysqlha.ParseGTIDs(mysqlha.MariaDB, position)
	if err != nil {
		return err
	}
	seq, lost := want.Count(), error(nil) // there is one domain
	there := func(b *box) bool {
		if b.ioErrno == 1236 {
			lost = fmt.Errorf("%s: %w", s.host, mysqlha.ErrMissingLog)
		}
		return b.until == 0 && !b.io && !b.sql && len(b.log) > 0 && b.log[len(b.log)-1].seq == seq
	}
	done := false
	if err := s.ask(ctx, "follow-until", func(b *box) error {
		if b.semi {
			return fmt.Errorf("%s waits for acknowledgements: its applying thread would hang", s.host)
		}
		has := uint64(0)
		if n := len(b.log); n > 0 {
			has = b.log[n-1].seq
		}
		b.relay, b.source, b.io, b.sql, b.ioErrno, b.sqlErrno, b.until = nil, source.Name, false, false, 0, 0, 0
		b.ioState, b.ackConnected, b.triedAt = "No", false, time.Time{}
		switch {
		case has > seq:
			return fmt.Errorf("%s: %w: it is at %d, which is further", s.host, mysqlha.ErrUnfit, has)
		case has == seq:
			done = true
		default:
			b.io, b.sql, b.until, b.ioState = true, true, seq, "Connecting"
		}
		return nil
	}); err != nil || done {
		return err
	}
	for away := time.Now(); ; {
		stopped := false
		if err := s.ask(ctx, "ping", func(b *box) error {
			done = there(b)
			if b.ioState == "Yes" || !b.io {
				away = time.Now()
			}
			stopped = b.until == 0 && !done
			return nil
		}); err != nil || done || lost != nil {
			return errors.Join(err, lost)
		}
		if stopped {
			return fmt.Errorf("%s: somebody has stopped it, or started it", s.host)
		}
		if time.Since(away) > 10*time.Second {
			return fmt.Errorf("%s: %w: source %s cannot be reached", s.host, mysqlha.ErrUnreachable, source.Name)
		}
		if perr := pass(ctx, tick); perr != nil {
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, perr)
		}
	}
}

// Follow implements mysqlha.Server.
func (s *server) Follow(ctx context.Context, source mysqlha.Source, _ bool) error {
	err := s.ask(ctx, "follow", func(b *box) error {
		if b.semi {
			return fmt.Errorf("%s waits for acknowledgements: its applying thread would hang", s.host)
		}
		if b.source == source.Name && b.io && b.sql {
			return nil
		}
		b.relay, b.source, b.io, b.sql, b.ioErrno, b.sqlErrno, b.until = nil, source.Name, true, true, 0, 0, 0
		b.ioState, b.ackConnected, b.triedAt = "Connecting", false, time.Time{}
		return nil
	})
	// It returns when the source has let it in, or not, or cannot be reached.
	for end := time.Now().Add(followPatience); err == nil; {
		settled := false
		err = s.ask(ctx, "ping", func(b *box) error {
			settled = b.ioState == "Yes"
			if b.ioErrno == 1236 {
				return fmt.Errorf("%s: %w", s.host, mysqlha.ErrMissingLog)
			}
			return nil
		})
		if settled || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w: source %s cannot be reached", s.host, mysqlha.ErrUnreachable, source.Name)
		}
		if perr := pass(ctx, tick); perr != nil {
			return fmt.Errorf("%s: %w: %w", s.host, mysqlha.ErrUnreachable, perr)
		}
	}
	return err
}

// followPatience is how long the source may not be reached before Follow says so.
const followPatience = 3 * time.Second

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// EndClients implements mysqlha.Server.
func (s *server) EndClients(ctx context.Context) (n int, err error) {
	err = s.ask(ctx, "end-clients", func(b *box) error {
		if n = len(b.waiting); n > 0 && !b.readOnly {
			s.w.fault("clients of %s were ended while they waited for an acknowledgement: that commits", s.host)
		}
		n += len(b.clients)
		for _, c := range b.clients {
			close(c)
		}
		b.clients = nil
		return nil
	})
	return n, err
}

// hurry is ackTimeout, as the server says it.
const hurry = "10000"

// timeout is how long it waits for an acknowledgement, as it says it. In a world that is not strict it goes on at once, and says what is wanted there.
func (b *box) timeout(strict bool) string {
	if b.hurried || !strict {
		return hurry
	}
	return "9223372036854775807"
}

// Apply implements mysqlha.Server.
func (s *server) Apply(ctx context.Context, want []mysqlha.Setting) (restart []mysqlha.Setting, err error) {
	err = s.ask(ctx, "apply-settings", func(b *box) error {
		for _, x := range want {
			if x.Name == "rpl_semi_sync_master_timeout" {
				b.hurried = x.Want == hurry
			}
		}
		return nil
	})
	for _, x := range want {
		if x.Restart {
			restart = append(restart, x)
		}
	}
	return restart, err
}

// Checksum implements mysqlha.Server: what is committed, which a snapshot has.
func (s *server) Checksum(ctx context.Context, tables []string, _ uint64) (out mysqlha.Sums, err error) {
	out.Tables = map[string]string{}
	err = s.ask(ctx, "checksum", func(b *box) error {
		n := 0
		for n < len(b.log) && b.log[n].committed {
			n++
		}
		out.Position = position(b.log[:n])
		if tables != nil && !slices.Contains(tables, ledgerTable) {
			return nil
		}
		h := fnv.New64a()
		for _, t := range b.log[:n] {
			fmt.Fprintln(h, t.server, t.seq, t.id)
		}
		if b.tampered {
			fmt.Fprintln(h, "another row")
		}
		out.Tables[ledgerTable] = fmt.Sprintf("%d:%x", n, h.Sum64())
		return nil
	})
	return out, err
}

// Engines implements mysqlha.Server.
func (s *server) Engines(ctx context.Context) (map[string]string, error) {
	return map[string]string{}, s.ask(ctx, "ping", func(*box) error { return nil })
}

// ledgerTable is the one table that there is.
const ledgerTable = "ledger.writes"

// Close implements mysqlha.Server.
func (s *server) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
