package local

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
	"hostmesh/mesh/report"
)

// settleBound is for what must come about in the end, on a machine that has other things to do.
const settleBound = 3 * time.Minute

// cluster are boxes with real servers, the agents beside them, a record, and whoever watches over it: all there is but the mesh, which here is a call.
type cluster struct {
	*world
	t   *testing.T
	log *slog.Logger

	mu      sync.Mutex // guards the fields below
	record  mysqlha.Record
	version uint64
	holder  uint64 // the number that was granted last
	stored  func(mysqlha.Record)
	down    map[int]time.Time // boxes without a link, and since when
	heard   map[int]mysqlha.Agent
	watch   *mysqlha.Watch

	nextID atomic.Int64
	told   map[int64]string  // ids that a client was told of, and where; guarded by mu
	first  map[int]time.Time // when one was first told, through the address, by a box, since it was asked for; guarded by mu
}

// newCluster makes n boxes; db1 has a table of the clients, and the others are new members.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{world: newWorld(t, n, false), t: t, down: map[int]time.Time{}, heard: map[int]mysqlha.Agent{}, told: map[int64]string{}}
	c.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if os.Getenv("MYSQLHA_LOG") != "" {
		c.log = slog.New(slog.NewTextHandler(testWriter{t, "watch"}, nil))
	}
	c.record = mysqlha.Record{Format: mysqlha.RecordFormat, Epoch: 1, Primary: c.boxes[1].name(), Durability: string(section.Strict)}
	c.version = 1
	c.boxes[1].server.Exec("CREATE DATABASE shop", "CREATE TABLE shop.ledger (id BIGINT PRIMARY KEY, at VARCHAR(40)) ENGINE=InnoDB",
		"CREATE USER app@'%' IDENTIFIED BY 'app'", "CREATE USER app@localhost IDENTIFIED BY 'app'", "GRANT ALL ON shop.* TO app@'%'", "GRANT ALL ON shop.* TO app@localhost")
	for i := 1; i <= n; i++ {
		b := c.boxes[i]
		b.edit = func(cfg *Config) {
			cfg.Donors, cfg.Logger = PeerDonors{c}, c.log
			cfg.Publish = func(_ string, r *report.MySQL) { c.publish(i, r) }
			cfg.Tenure = func(m Member, epoch uint64) Tenure {
				return mysqlha.NewTenure(m.Tag, m.Host, epoch, recordsAt{c, i, 0}, func(ctx context.Context) (n int, ok bool) {
					err := b.server.Root().QueryRowContext(ctx, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS'").Scan(&n)
					return n, err == nil
				}, c.log)
			}
		}
		b.reopen()
	}
	return c
}

func (c *cluster) publish(i int, r *report.MySQL) {
	if r == nil {
		return
	}
	a := mysqlha.Agent{Alive: true, Reported: true, Process: mysqlha.Process(r.Process), Since: time.UnixMilli(r.Since), Seen: time.Now(), VIP: r.VIP, DiskFull: r.Full, Copy: r.Copy, Differs: r.Differs, Lends: r.Lends}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, ok := c.heard[i]; ok && was.Process == a.Process && was.Since.Equal(a.Since) {
		a.Seen = was.Seen
	}
	// What a box says without a link is heard when it has one: nothing else comes after it, or what does is newer.
	c.heard[i] = a
	if c.down[i].IsZero() && c.watch != nil {
		c.watch.Poke()
	}
}

func (c *cluster) isDown(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.down[i].IsZero()
}

// link takes the network of a box away, or gives it back.
func (c *cluster) link(i int, on bool) {
	c.mu.Lock()
	if on {
		delete(c.down, i)
	} else {
		c.down[i] = time.Now()
	}
	c.mu.Unlock()
	c.boxes[i].seg.Cut(!on)
	if on {
		c.net.Up(i)
	} else {
		c.net.Down(i)
	}
}

// Call implements Mesh: from whoever watches, or from a box that wants a copy, both of which have a link.
func (c *cluster) Call(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	i := c.index(host)
	if i == 0 {
		return nil, errNobody
	}
	for c.isDown(i) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c.world.Call(ctx, host, name, req)
}

func (c *cluster) CallUrgent(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	return c.Call(ctx, host, name, req)
}

func (c *cluster) index(host string) int {
	return max(0, slices.IndexFunc(c.boxes, func(b *box) bool { return b != nil && b.name() == host }))
}

// recordsAt is the record as a box reaches it, or, for box 0, who watches.
type recordsAt struct {
	c     *cluster
	box   int
	fence uint64
}

func (r recordsAt) reach(ctx context.Context) error {
	for r.c.isDown(r.box) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no quorum: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (r recordsAt) Load(ctx context.Context, _ string) (mysqlha.Record, uint64, error) {
	if err := r.reach(ctx); err != nil {
		return mysqlha.Record{}, 0, err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.record.Clone(), r.c.version, nil
}

func (r recordsAt) Store(ctx context.Context, _ string, rec mysqlha.Record, version uint64) (uint64, error) {
	if err := r.reach(ctx); err != nil {
		return 0, err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	switch {
	case r.fence != r.c.holder:
		return 0, mysqlha.ErrOvertaken
	case version != r.c.version:
		return 0, mysqlha.ErrChanged
	}
	r.c.record = rec.Clone()
	r.c.version++
	if r.c.stored != nil {
		r.c.stored(rec)
	}
	return r.c.version, nil
}

// effects implements mysqlha.World for one who watches.
type effects struct {
	c       *cluster
	servers map[string]mysqlha.Server
}

func (e effects) Server(m mysqlha.Member) mysqlha.Server { return e.servers[m.Host] }
func (e effects) Local(m mysqlha.Member) mysqlha.Local   { return NewRemote(e.c, m.Host) }
func (e effects) DestroyVM(context.Context, string, mysqlha.Order) error {
	return mysqlha.ErrNoVM
}

func (c *cluster) members() []mysqlha.Member {
	var out []mysqlha.Member
	for _, b := range c.boxes[1:] {
		out = append(out, mysqlha.Member{Host: b.name(), Addr: netip.MustParseAddr(b.server.Addr), Port: b.server.Port})
	}
	return out
}

func (c *cluster) scene() mysqlha.Scene {
	s := mysqlha.Scene{
		MySQL:   section.MySQL{VIP: netip.MustParseAddr(vipAddr), MaxLag: 5 * time.Second, Durability: section.Strict, Failover: section.Auto, Credentials: tag},
		Members: c.members(), Agents: map[string]mysqlha.Agent{},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range c.heard {
		// The mesh takes a while to miss a node.
		a.Alive = c.down[i].IsZero() || time.Since(c.down[i]) < 2*time.Second
		s.Agents[c.boxes[i].name()] = a
	}
	return s
}

// hold has somebody else watch from now on; end ends that where it is, and does not wait.
func (c *cluster) hold() (w *mysqlha.Watch, end func()) {
	c.t.Helper()
	e := effects{c, map[string]mysqlha.Server{}}
	for _, m := range c.members() {
		s, err := mariadb.Open(mariadb.DefaultConfig(m.Addr, m.Port, c.boxes[c.index(m.Host)].server.Accounts))
		mustDo(c.t, err)
		e.servers[m.Host] = s
	}
	c.mu.Lock()
	c.holder++
	fence := c.holder
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	w = mysqlha.NewWatch(mysqlha.WatchConfig{Tag: tag, World: e, Records: recordsAt{c, 0, fence}, Fence: fence, Scene: c.scene, Logger: c.log, Valid: func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.holder == fence
	}})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = w.Run(ctx) // it ends with ctx
		for _, s := range e.servers {
			_ = s.Close()
		}
	})
	c.t.Cleanup(func() { cancel(); wg.Wait() })
	c.mu.Lock()
	c.watch = w
	c.mu.Unlock()
	return w, cancel
}

func (c *cluster) rec() mysqlha.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.Clone()
}

// address is the box that clients with a link find the address at; 0 = none.
func (c *cluster) address() int {
	for i, b := range c.boxes {
		if b != nil && !c.isDown(i) && b.seg.Has(netip.MustParseAddr(vipAddr)) {
			return i
		}
	}
	return 0
}

// write has clients write at the address, and, on each box, at the server there, whatever it is: who is on the wrong side of a cut has a server, too.
func (c *cluster) write() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	try := func(db *sql.DB, where string) bool {
		id := c.nextID.Add(1)
		one, done := context.WithTimeout(ctx, time.Second)
		_, err := db.ExecContext(one, fmt.Sprintf("INSERT INTO ledger VALUES (%d, '%s')", id, where))
		done()
		if err != nil {
			return false // if it was cut short, whether it is there is unknown
		}
		c.mu.Lock()
		c.told[id] = where
		c.mu.Unlock()
		return true
	}
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	dbs := make([]*sql.DB, len(c.boxes))
	for i, b := range c.boxes {
		if b == nil {
			continue
		}
		dbs[i] = b.server.Client("app", "app", "shop", false, time.Second)
		own := b.server.Client("app", "app", "shop", true, time.Second)
		wg.Go(func() {
			for ctx.Err() == nil {
				try(own, b.name())
				pause(100 * time.Millisecond)
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if i := c.address(); i != 0 && try(dbs[i], vipAddr) {
					c.mu.Lock()
					if c.first != nil && c.first[i].IsZero() {
						c.first[i] = time.Now()
					}
					c.mu.Unlock()
				}
				pause(20 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// moving has it noted from now on who tells clients of writes.
func (c *cluster) moving() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = map[int]time.Time{}
	return time.Now()
}

// wrote waits until a client was told of a write, through the address, by another than the old primary, and returns how long after a moment that was.
func (c *cluster) wrote(since time.Time, old *box, what string) time.Duration {
	c.t.Helper()
	var took time.Duration
	c.settles(what+": a write through the address", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, at := range c.first {
			if i != old.i {
				took = at.Sub(since).Round(time.Millisecond)
				return true
			}
		}
		return false
	})
	return took
}

func (c *cluster) settles(what string, ok func() bool) {
	c.t.Helper()
	for limit := time.Now().Add(settleBound); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			c.mu.Lock()
			w := c.watch
			c.mu.Unlock()
			if w != nil {
				if p := w.Picture(); p != nil {
					for _, d := range p.Diagnoses {
						c.t.Logf("diagnosis %s, %s: %s %q", d.Name, d.Host, d.Text, d.Evidence)
					}
					for _, l := range p.Story[max(0, len(p.Story)-25):] {
						c.t.Logf("%s %s: %s %s: %s %s", l.At.Format("15:04:05.000"), l.Diagnosis.Name, l.Action.Act, l.Action.Host, l.Action.Why, l.Error)
					}
				}
			}
			r := c.rec()
			c.t.Fatalf("not within %s: %s; record %+v, intent %+v, address at %d", settleBound, what, r, r.Intent, c.address())
		}
	}
}

// whole waits until there is one primary with the address, and all others follow it, take no writes and acknowledge; then it looks whether each of them has all
// that clients were told of.
func (c *cluster) whole(what string) {
	c.t.Helper()
	n := len(c.boxes) - 1
	c.settles(what+": a whole cluster", func() bool {
		r := c.rec()
		if r.Intent != nil || len(r.Fenced)+len(r.Shut) != 0 || len(r.Ackers) != n-1 || len(r.Starts) != n-1 || c.address() != c.index(r.Primary) {
			return false
		}
		for _, b := range c.boxes[1:] {
			var readOnly, clients int
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := b.server.Root().QueryRowContext(ctx, "SELECT @@read_only, (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS')").Scan(&readOnly, &clients)
			cancel()
			if err != nil || (readOnly == 0) != (b.name() == r.Primary) || readOnly == 0 && clients != n-1 {
				return false
			}
		}
		return true
	})
	c.mu.Lock()
	told := len(c.told)
	want := make(map[int64]string, told)
	for id, where := range c.told {
		want[id] = where
	}
	c.mu.Unlock()
	for _, b := range c.boxes[1:] {
		var missing []string
		c.settles(fmt.Sprintf("%s: %s has all that was acknowledged", what, b.name()), func() bool {
			missing = nil
			has := map[int64]bool{}
			rows, err := b.server.Root().Query("SELECT id FROM shop.ledger")
			if err != nil {
				return false
			}
			defer rows.Close()
			for rows.Next() {
				var id int64
				if rows.Scan(&id) == nil {
					has[id] = true
				}
			}
			for id, where := range want {
				if !has[id] {
					missing = append(missing, fmt.Sprintf("%d (told at %s)", id, where))
				}
			}
			if len(missing) > 0 && b.name() == c.rec().Primary {
				c.t.Fatalf("%s: %s, the primary, has lost %d of %d writes that clients were told of: %.300v", what, b.name(), len(missing), told, missing)
			}
			return rows.Err() == nil && len(missing) == 0
		})
	}
	c.t.Logf("%s: whole again, %s is the primary, and all %d have the %d writes that clients were told of", what, c.rec().Primary, n, told)
}

// signal sends one to the server of a box, whoever started it.
func (b *box) signal(sig syscall.Signal) {
	b.w.t.Helper()
	pid, err := find(*b.server.Accounts.Server, true)
	if err == nil {
		err = syscall.Kill(pid, sig)
	}
	mustDo(b.w.t, err)
}

// acked has somebody acknowledge the last failover, so that the next one may follow.
func (c *cluster) acked(w *mysqlha.Watch) {
	c.t.Helper()
	c.settles("the failover is acknowledged", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := w.Ack(ctx, "a test", "it is one")
		return err == nil
	})
}

// TestCluster has three real servers, and one who watches over them, go through what happens to clusters. Clients write all the time, and no write that one was told of
// is ever lost.
func TestCluster(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	c := newCluster(t, 3)
	w, end := c.hold()
	defer func() { end() }()
	stop := c.write()
	defer stop()
	began := time.Now()
	c.whole("two new members")
	t.Logf("two new members were cloned and counted after %s", time.Since(began).Round(time.Millisecond))
	primary := func() *box { return c.boxes[c.index(c.rec().Primary)] }

	// fault ends the primary in some way, and waits until another takes writes and the old one is back.
	fault := func(what string, begin, undo func(b *box)) {
		t.Helper()
		old := primary()
		at := c.moving()
		begin(old)
		c.settles(what+": another is promoted", func() bool { return c.rec().Primary != old.name() })
		t.Logf("%s: first write through the address %s after it", what, c.wrote(at, old, what))
		if undo != nil {
			undo(old)
		}
		c.whole(what)
		if p := primary(); p == old {
			t.Fatalf("%s: %s is the primary again", what, old.name())
		}
		c.acked(w)
	}
	kill := func(b *box) { b.signal(syscall.SIGKILL) }
	fault("process killed", kill, nil)
	fault("process stopped", func(b *box) { b.signal(syscall.SIGSTOP) }, nil)
	fault("link down", func(b *box) { c.link(b.i, false) }, func(b *box) { c.link(b.i, true) })

	old := primary()
	at := c.moving()
	done, err := w.Switchover(t.Context(), "", "a test", "it is one")
	if err != nil || done.Primary == old.name() {
		t.Fatalf("switchover: %+v, %v", done, err)
	}
	t.Logf("switchover: took %s, first write through the address %s after it was asked for", done.Took.Round(time.Millisecond), c.wrote(at, old, "switchover"))
	c.whole("switchover")

	// Whoever carries a failover out is ended at each step in turn, and another goes on.
	for _, step := range mysqlha.Steps(mysqlha.Failover) {
		what := fmt.Sprintf("process killed, and the runner at step %s", step)
		reached := make(chan struct{})
		was := end
		c.mu.Lock()
		c.stored = func(r mysqlha.Record) {
			if r.Intent != nil && r.Intent.Step == step {
				c.stored = nil
				was()
				close(reached)
			}
		}
		c.mu.Unlock()
		old, at := primary(), c.moving()
		kill(old)
		select {
		case <-reached:
		case <-time.After(settleBound):
			t.Fatalf("%s: not reached: %+v", what, c.rec())
		}
		w, end = c.hold()
		c.settles(what+": another is promoted", func() bool { return c.rec().Primary != old.name() })
		t.Logf("%s: first write through the address %s after it", what, c.wrote(at, old, what))
		c.whole(what)
		c.acked(w)
	}
}
