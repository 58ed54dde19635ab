package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
	"hostmesh/mesh/report"
)

func TestMain(m *testing.M) {
	if os.Getenv(asBig) != "" {
		big()
	}
	os.Exit(mariadbtest.Main(m))
}

const (
	tag     = "shop"
	vipAddr = "10.78.0.100"
)

// world are boxes, each with a server and the agent beside it.
type world struct {
	t     *testing.T
	net   *mariadbtest.Boxes
	boxes []*box // from 0, which is none
}

// box is one host.
type box struct {
	w      *world
	i      int
	dir    string
	server *mariadbtest.Server
	seg    *viptest.Box
	edit   func(*Config)

	mu      sync.Mutex // guards the fields below
	host    *Host
	end     func()
	quit    func() // in order, as when it is started anew
	reports []report.MySQL
}

// newWorld makes n boxes, the first of which has a server that takes writes when primary is set.
func newWorld(t *testing.T, n int, primary bool, settings ...string) *world {
	t.Helper()
	w := &world{t: t, net: mariadbtest.NewBoxes(t, n), boxes: make([]*box, n+1)}
	segment := viptest.NewSegment(1)
	for i := 1; i <= n; i++ {
		b := &box{w: w, i: i, dir: t.TempDir()}
		if err := os.Chmod(b.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		b.seg = segment.Box(netip.MustParsePrefix(w.net.Addr(i) + "/24"))
		b.server = w.net.Start(i, mariadbtest.Options{Writable: primary && i == 1, Settings: settings})
		w.boxes[i] = b
		t.Cleanup(b.clean)
		b.open()
	}
	return w
}

// clean ends what the agent of the box has started.
func (b *box) clean() {
	b.close()
	if pid, err := find(*b.server.Accounts.Server, true); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // gone, or goes
	}
}

func (b *box) member() Member {
	return Member{
		Tag: tag, Host: b.name(), VIP: netip.MustParseAddr(vipAddr), MaxLag: 5 * time.Second,
		Server: *b.server.Accounts.Server, Backup: b.server.Accounts.Backup, SQL: &rootSQL{root: b.server.Root()},
	}
}

func (b *box) name() string { return b.w.net.Space(b.i) }

// open begins an agent.
func (b *box) open() *Host {
	b.w.t.Helper()
	table, err := vip.Open(vip.Config{Dir: b.dir, Kernel: b.seg, Announcer: b.seg, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.w.t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Dir, cfg.Look, cfg.Observe = b.dir, 20*time.Millisecond, 100*time.Millisecond
	cfg.Addresses, cfg.Donors = table, PeerDonors{b.w}
	cfg.Tenure = func(Member, uint64) Tenure { return newTenure() }
	cfg.Rules = func(port uint16) (Rules, error) {
		x, err := nft.OpenCuts(fmt.Sprintf("hostmesh_mysql_%d", port), slog.New(slog.DiscardHandler))
		return rulesIn{b.name(), x}, err
	}
	cfg.Publish = func(_ string, r *report.MySQL) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if r != nil {
			b.reports = append(b.reports, *r)
		}
	}
	cfg.Logger = slog.New(slog.NewTextHandler(testWriter{b.w.t, b.name()}, nil))
	if b.edit != nil {
		b.edit(&cfg)
	}
	h, err := Open(cfg)
	if err != nil {
		b.w.t.Fatal(err)
	}
	if err := h.Apply([]Member{b.member()}); err != nil && !errors.Is(err, ErrDamaged) {
		b.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	wg.Go(func() { _ = table.Run(ctx) })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.host = h
	var once sync.Once
	ends := func(first func()) func() {
		return func() {
			once.Do(func() {
				first()
				_ = h.Close()
				cancel()
				wg.Wait()
				_ = table.Close()
			})
		}
	}
	b.end = ends(func() {})
	ran := make(chan struct{})
	go func() { wg.Wait(); close(ran) }()
	b.quit = ends(func() { cancel(); <-ran })
	return h
}

func (b *box) close() {
	b.mu.Lock()
	end := b.end
	b.mu.Unlock()
	if end != nil {
		end()
	}
}

func (b *box) reopen() *Host {
	b.close()
	return b.open()
}

func (b *box) local() *Host {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.host
}

func (b *box) last() report.MySQL {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.reports) == 0 {
		return report.MySQL{}
	}
	return b.reports[len(b.reports)-1]
}

func (b *box) source() mysqlha.Source {
	return mysqlha.Source{Host: b.server.Addr, Port: b.server.Port, Name: b.name()}
}

func (b *box) state() mysqlha.LocalState {
	b.w.t.Helper()
	s, err := b.local().State(context.Background(), tag)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return s
}

// die kills the process behind the agent's back.
func (b *box) die() {
	b.w.t.Helper()
	pid, err := find(*b.server.Accounts.Server, true)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		b.w.t.Fatal(err)
	}
}

// served reports whether a client at the bridge is greeted.
func (b *box) served() bool { return greeted("", b.server.Addr, b.server.Port) }

// reaches reports whether a program in the box is greeted by another's server.
func (b *box) reaches(other *box) bool {
	return greeted(b.name(), other.server.Addr, other.server.Port)
}

func greeted(space, addr string, port int) bool {
	var c net.Conn
	err := inSpace(space, func() (err error) {
		c, err = net.DialTimeout("tcp", net.JoinHostPort(addr, fmt.Sprint(port)), 20*time.Second)
		return err
	})
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(make([]byte, 5))
	return err == nil && n > 0
}

// inSpace runs f in a namespace; sockets that it opens stay there.
func inSpace(space string, f func() error) error {
	if space == "" {
		return f()
	}
	// The thread must live on, in the test's namespace: servers die with the thread that started them.
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	h, err := netns.GetFromName(space)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := netns.Set(h); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(own); back != nil {
		return back // the thread stays locked, and ends
	}
	runtime.UnlockOSThread()
	return err
}

// rulesIn are rules of a namespace.
type rulesIn struct {
	space string
	cuts  *nft.Cuts
}

func (r rulesIn) Apply(c nft.Cutting) error {
	return inSpace(r.space, func() error { return r.cuts.Apply(c) })
}

func (r rulesIn) Run(ctx context.Context) error {
	return inSpace(r.space, func() error { return r.cuts.Run(ctx) })
}

// tenure is one that lasts as long as its Run.
type tenure struct {
	*viptest.Lease
	over chan struct{}
	once sync.Once
}

func newTenure() *tenure { return &tenure{Lease: viptest.NewLease(), over: make(chan struct{})} }

func (t *tenure) Run(ctx context.Context) error {
	defer t.Lease.Keep()()
	select {
	case <-ctx.Done():
		return nil
	case <-t.over:
		return errors.New("it is over")
	}
}

func (t *tenure) Order(uint64)  {}
func (t *tenure) Settled() bool { return t.Lease.Valid() }
func (t *tenure) End(string) {
	t.Lease.End()
	t.once.Do(func() { close(t.over) })
}

// rootSQL is the own server, as far as this package asks it.
type rootSQL struct {
	mysqlha.Server
	root *sql.DB
}

func (s *rootSQL) Observe(ctx context.Context) (f mysqlha.Facts, err error) {
	err = s.root.QueryRowContext(ctx, "SELECT @@read_only, @@gtid_current_pos").Scan(&f.ReadOnly, &f.Current)
	if err != nil {
		return f, err
	}
	rows, err := s.root.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return f, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return f, errors.Join(err, rows.Err())
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return f, err
	}
	of := func(name string) string { return values[slices.Index(names, name)].String }
	f.Replica = &mysqlha.Replication{IO: of("Slave_IO_Running"), SQL: of("Slave_SQL_Running") == "Yes", IOError: of("Last_IO_Error"), SQLError: of("Last_SQL_Error")}
	fmt.Sscan(of("Last_SQL_Errno"), &f.Replica.SQLErrno)
	if text := of("Seconds_Behind_Master"); text != "" {
		var n int
		fmt.Sscan(text, &n)
		lag := time.Duration(n) * time.Second
		f.Replica.Lag = &lag
	}
	return f, nil
}

func (s *rootSQL) StartSQL(ctx context.Context) error {
	_, err := s.root.ExecContext(ctx, "START SLAVE SQL_THREAD")
	return err
}

// world is the mesh: it reaches the agents of boxes by name.
var errNobody = errors.New("no such member")

func (w *world) Call(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	i := slices.IndexFunc(w.boxes, func(b *box) bool { return b != nil && b.name() == host })
	if i < 0 {
		return nil, errNobody
	}
	if name == CallClone {
		return w.boxes[i].local().ServeClone(ctx, req)
	}
	return w.boxes[i].local().ServeLocal(ctx, req)
}

func (w *world) CallUrgent(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	return w.Call(ctx, host, name, req)
}

func order(epoch, fence uint64) mysqlha.Order {
	return mysqlha.Order{Tag: tag, Epoch: epoch, Fence: fence}
}

// follow has a box replicate from another.
func (b *box) follow(from *box) {
	b.w.t.Helper()
	b.server.Exec(
		"CHANGE MASTER TO MASTER_HOST='"+from.server.Addr+"', MASTER_PORT=3306, MASTER_USER='hostmesh_repl', MASTER_PASSWORD='replica''s', MASTER_USE_GTID=slave_pos, MASTER_HEARTBEAT_PERIOD=1, MASTER_CONNECT_RETRY=1",
		"START SLAVE")
	b.server.Await("ON", "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='SLAVE_RUNNING'")
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testWriter struct {
	t    *testing.T
	name string
}

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(w.name + ": " + strings.TrimSpace(string(p)))
	return len(p), nil
}

// noSecrets fails when a password stands in a file of the agent's directory, or in an error.
func (b *box) noSecrets(errs ...error) {
	b.w.t.Helper()
	secrets := []string{b.server.Accounts.Backup.Password.Reveal() + "\"", b.server.Accounts.Admin.Password.Reveal()}
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				b.w.t.Errorf("%s has a password", where)
			}
		}
	}
	_ = filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			look(path, string(text))
		}
		return nil
	})
	for _, err := range errs {
		if err != nil {
			look("an error", err.Error())
		}
	}
}

func chmodPrivate(dir string) error { return os.Chmod(dir, 0o700) }

// rulesOfBox removes what a part before has left in the kernel.
func rulesOfBox(b *box) error {
	x, err := nft.OpenCuts(fmt.Sprintf("hostmesh_mysql_%d", b.server.Port), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return rulesIn{b.name(), x}.Apply(nft.Cutting{})
}
