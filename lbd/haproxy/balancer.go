package haproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/lbd/plan"
)

// Clock is the part of time that a Balancer's decisions rest on.
type Clock interface{ Now() time.Time }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// Config is what a Balancer is made of.
type Config struct {
	// Program is HAProxy's; "" = haproxy of the path.
	Program string
	// Dir is a directory of its own, which is made, mode 0700. Sockets lie in it: its path has at most 90 bytes.
	Dir string
	// TLSDir holds the certificates, NAME.pem; "" = /etc/hostmesh/balancer.d.
	TLSDir string
	// User is whom HAProxy goes on as where the agent is root; "" = haproxy where there is such a user. Others keep their own.
	User string
	// Timeouts are DefaultTimeouts where they are zero.
	Timeouts Timeouts
	Clock    Clock        // nil = the wall clock
	Logger   *slog.Logger // nil = none
}

// Balancer keeps one HAProxy running for the services it was given last. It is safe for concurrent use.
type Balancer struct {
	cfg     Config
	log     *slog.Logger
	program atomic.Pointer[string] // its path, once it was found fit
	users   []int
	group   string // of cfg.User
	wake    chan struct{}

	seen atomic.Pointer[snapshot]

	mu       sync.Mutex // guards what is below, and is held while HAProxy is changed
	closed   bool
	asked    []*plan.Service // of Apply, all of them
	want     []*plan.Service // accepted; what a process runs or will
	refused  map[string]error
	bad      map[string]bad // what was refused before, so that it is not tried at each turn
	shape    string         // of the process
	number   int            // of the next process
	now      *process
	old      []*process // that finish
	heard    time.Time  // when now answered last
	left     bool       // a server could not be deleted yet
	failures int        // starts that failed in a row
	retry    time.Time  // when the next may be tried
	failed   error      // why there is no process for asked; nil = it was not tried, or there is one
	counts   counts
}

type counts struct{ starts, deaths, reloads, refusals, changes uint64 }

// maxOld bounds the processes that finish: each holds memory until its last connection goes.
const maxOld = 4

// steady is after how long a process that dies counts as one that ran well.
const steady = time.Minute

// Open prepares the directory and ends what a killed agent left there. It needs no HAProxy: Apply and Check say that there is none.
func Open(ctx context.Context, cfg Config) (*Balancer, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = wallClock{}
	}
	cfg.TLSDir = cmp.Or(cfg.TLSDir, "/etc/hostmesh/balancer.d")
	cfg.Program = cmp.Or(cfg.Program, "haproxy")
	if cfg.Timeouts == (Timeouts{}) {
		cfg.Timeouts = DefaultTimeouts()
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("haproxy's directory %s: %w", cfg.Dir, err)
	}
	if len(dir) > 90 {
		return nil, fmt.Errorf("haproxy's directory %s is longer than 90 bytes, and no socket can lie there: choose a shorter data_dir", dir)
	}
	cfg.Dir = dir
	for _, d := range []string{dir, filepath.Join(dir, "root")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("haproxy's directory: %w", err)
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return nil, fmt.Errorf("haproxy's directory: %w", err)
		}
	}
	b := &Balancer{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), refused: map[string]error{}, bad: map[string]bad{}, users: []int{os.Geteuid()}}
	if os.Geteuid() == 0 {
		name := cmp.Or(cfg.User, "haproxy")
		switch u, err := user.Lookup(name); {
		case err == nil:
			uid, err := strconv.Atoi(u.Uid)
			if err != nil {
				return nil, fmt.Errorf("user %s: %w", name, err)
			}
			group, err := user.LookupGroupId(u.Gid)
			if err != nil {
				return nil, fmt.Errorf("user %s: its group: %w", name, err)
			}
			b.cfg.User, b.group = name, group.Name
			b.users = append(b.users, uid)
		case cfg.User != "":
			return nil, fmt.Errorf("haproxy's user: %w", err)
		default:
			b.log.Warn("there is no user haproxy: HAProxy keeps the rights of the agent")
		}
	} else {
		b.cfg.User = ""
	}
	if _, err := endStale(ctx, dir, b.users, b.log); err != nil {
		return nil, err
	}
	stale, err := filepath.Glob(filepath.Join(dir, "*.sock*"))
	if err != nil {
		return nil, fmt.Errorf("haproxy's directory: %w", err)
	}
	for _, f := range stale {
		if err := os.Remove(f); err != nil {
			return nil, fmt.Errorf("haproxy's directory: %w", err)
		}
	}
	b.publish()
	return b, nil
}

// Run keeps HAProxy running until ctx ends, and ends it then. It sleeps while there is nothing to be run.
func (b *Balancer) Run(ctx context.Context) error {
	defer b.Close()
	for {
		var turn <-chan time.Time
		if !b.idle() {
			turn = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-turn:
		}
		b.tend(ctx)
	}
}

// idle reports whether no process runs, and none should. What was refused should: it is tried again.
func (b *Balancer) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now == nil && len(b.old) == 0 && len(b.asked) == 0
}

func (b *Balancer) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// tend starts a process that died again, and finishes what could not be done at once.
func (b *Balancer) tend(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	defer b.publish()
	b.reap()
	switch {
	case b.now == nil && len(b.asked) > 0 && !b.cfg.Clock.Now().Before(b.retry), b.now != nil && b.tryAgain():
		clear(b.refused)
		if b.failed = b.accept(ctx, b.asked); b.failed != nil {
			b.log.Error("haproxy does not start", "err", b.failed, "next_try", b.retry)
		}
	case b.now != nil && b.left:
		if err := b.adjust(ctx, b.want); err != nil {
			b.log.Warn("haproxy's servers are not as they should be", "err", err)
		}
	case b.now != nil:
		b.listen(ctx)
	}
}

// tryAgain reports whether a service was refused so long ago that it may be carried by now. Who asked for it need not have heard of it.
func (b *Balancer) tryAgain() bool {
	for tag := range b.refused {
		if known, ok := b.bad[tag]; ok && !b.cfg.Clock.Now().Before(known.until) {
			return true
		}
	}
	return false
}

// A process that answers nothing at its socket for so long is none any more: it neither serves nor hands its sockets over.
const (
	listenEach = 3 * time.Second
	deaf       = 15 * time.Second
)

// listen ends a process that stands still; it is started again as one that died.
func (b *Balancer) listen(ctx context.Context) {
	now := time.Now() // of the process, and of nothing that was decided
	if now.Sub(b.heard) < listenEach {
		return
	}
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	_, err := pidOf(ask, b.now.socket)
	cancel()
	switch {
	case err == nil:
		b.heard = time.Now()
	case ctx.Err() == nil && now.Sub(b.heard) >= deaf:
		b.log.Error("haproxy does not answer, and is ended", "pid", b.now.pid, "err", err)
		b.now.end(time.Second)
		b.reap()
	}
}

// reap looks after processes that are gone.
func (b *Balancer) reap() {
	b.old = slices.DeleteFunc(b.old, func(p *process) bool {
		if !p.alive() {
			os.Remove(p.socket) // it may have done so itself
		}
		return !p.alive()
	})
	for len(b.old) > maxOld {
		b.log.Warn("a haproxy that finishes is ended, as too many do", "pid", b.old[0].pid)
		b.old[0].end(time.Second)
		os.Remove(b.old[0].socket)
		b.old = b.old[1:]
	}
	if b.now == nil || b.now.alive() {
		return
	}
	p := b.now
	b.now, b.shape = nil, ""
	b.counts.deaths++
	if b.cfg.Clock.Now().Sub(p.began) >= steady {
		b.failures = 0
	}
	b.pause()
	b.log.Error("haproxy died", "pid", p.pid, "said", alerts(p.said.String()), "next_try", b.retry)
}

// pause sets when the next start may be tried: the first time at once, then after 0.2 s, and so on to 30 s.
func (b *Balancer) pause() {
	wait := time.Duration(0)
	if b.failures > 0 {
		wait = min(100*time.Millisecond<<min(b.failures, 10), 30*time.Second)
	}
	b.failures++
	b.retry = b.cfg.Clock.Now().Add(wait)
}

// Apply makes HAProxy carry the services of the modes tcp and http among those given, and no others. Where one is refused the
// others are carried, and it keeps what it had, if it had something: the error wraps ErrRefused, and names each of them with the
// reason. Connections of services that stay are not cut; who is out because somebody wants it so is.
func (b *Balancer) Apply(ctx context.Context, services []*plan.Service) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("haproxy: closed")
	}
	defer b.poke()
	defer b.publish()
	b.reap()
	services = carried(services)
	if len(services) == 0 {
		b.asked = nil
		b.halt()
		return nil
	}
	if b.program.Load() == nil {
		if err := b.Check(ctx); err != nil {
			return err
		}
	}
	if b.now == nil && b.failed != nil && slices.Equal(services, b.asked) && b.cfg.Clock.Now().Before(b.retry) {
		return b.failed // who asks again and again does not make it start more often
	}
	b.asked = services
	clear(b.refused)
	if b.failed = b.accept(ctx, services); b.failed != nil {
		return b.failed
	}
	return b.refusals()
}

// Check is why HAProxy cannot be run here, as Check of this package says it. What it finds need not be found again when somebody waits for it.
func (b *Balancer) Check(ctx context.Context) error {
	if _, err := Check(ctx, b.cfg.Program); err != nil {
		return err
	}
	path, err := exec.LookPath(b.cfg.Program)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	b.program.Store(&path)
	return nil
}

// halt lets HAProxy finish: nothing is to be carried.
func (b *Balancer) halt() {
	b.want, b.shape, b.left = nil, "", false
	clear(b.refused)
	if b.now != nil {
		b.now.cmd.Process.Signal(finish) // an error means that it is gone
		b.old = append(b.old, b.now)
		b.now = nil
		b.reap()
	}
}

// carry makes HAProxy carry exactly these, or changes nothing.
func (b *Balancer) carry(ctx context.Context, services []*plan.Service) error {
	for _, s := range services {
		if err := b.certificate(s); err != nil {
			return err
		}
	}
	form, err := shape(b.settings(""), services)
	if err != nil {
		return err
	}
	if b.now != nil && form == b.shape {
		if err := b.write(services); err != nil {
			return err
		}
		err := b.adjust(ctx, services)
		if err == nil {
			return nil
		}
		b.log.Warn("haproxy is reloaded, as its servers could not be changed while it runs", "err", err)
	}
	return b.launch(ctx, services)
}

// launch starts a process for services, and lets the one before finish. Where there is one, the file is tried first, lest it is told to finish by one that
// does not come up. Where there is none, as on a box that takes an address over, the start itself tries the file: it reads it as haproxy -c does, and
// clients wait. Only why it failed is asked of haproxy -c then, which no port that is taken distracts.
func (b *Balancer) launch(ctx context.Context, services []*plan.Service) error {
	form, err := shape(b.settings(""), services)
	if err != nil {
		return err
	}
	b.number++
	socket := b.path(fmt.Sprintf("%d.sock", b.number))
	text, err := Render(b.settings(socket), services)
	if err != nil {
		return err
	}
	file := b.path("next.cfg")
	if err := writeFile(file, text); err != nil {
		return err
	}
	if b.now != nil {
		if err := b.tryFile(ctx, file); err != nil {
			return err
		}
	}
	p, err := b.start(ctx, file, socket, b.now)
	if err != nil {
		if b.now == nil {
			if errors.Is(err, ErrRefused) {
				if bad := b.tryFile(ctx, file); bad != nil {
					return bad
				}
			}
			b.pause()
		}
		return err
	}
	if err := os.Rename(file, b.path("haproxy.cfg")); err != nil {
		b.log.Warn("haproxy's file cannot be kept", "err", err)
	}
	b.counts.starts++
	if old := b.now; old != nil {
		b.counts.reloads++
		b.old = append(b.old, old)
	}
	b.now, b.shape, b.want, b.heard = p, form, services, time.Now()
	b.reap()
	b.log.Info("haproxy runs", "pid", p.pid, "services", len(services))
	return b.adjust(ctx, services) // those that drain are out in the file
}

// write keeps the file up to date beside a process that is changed while it runs.
func (b *Balancer) write(services []*plan.Service) error {
	text, err := Render(b.settings(b.now.socket), services)
	if err != nil {
		return err
	}
	file := b.path("haproxy.cfg")
	if have, err := os.ReadFile(file); err == nil && string(have) == text {
		return nil
	}
	return writeFile(file, text)
}

// Close ends HAProxy, with all its connections. It is idempotent.
func (b *Balancer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, p := range append(slices.Clone(b.old), b.now) {
		if p != nil {
			p.end(2 * time.Second)
		}
	}
	b.now, b.old, b.want, b.asked = nil, nil, nil, nil
	b.publish()
	return nil
}
