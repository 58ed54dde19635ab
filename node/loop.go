package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// errStuck is the cause with which the watchdog ends a run.
var errStuck = errors.New("it took longer than the watchdog allows")

// errPanic is wrapped by the error of a run that panicked.
var errPanic = errors.New("panic")

// dbSource and meshSource are what a loop follows: *hostdb.Store and *mesh.Mesh.
type dbSource interface {
	View() hostdb.View
	Watch() (changed <-chan struct{}, stop func())
}

type meshSource interface {
	View() mesh.View
	Watch() (changed <-chan struct{}, stop func())
}

// loopConfig are the times of the loop.
type loopConfig struct {
	resync     time.Duration // the slow timer: how often a daemon runs although nothing changed
	watchdog   time.Duration // a run that takes longer is reported, and its context ends
	backoff    time.Duration // the pause after the first failure; it doubles with each further one
	backoffMax time.Duration
	restMax    time.Duration // a daemon rests as long as its last run took, at most this
	observe    bool
	log        *slog.Logger
}

func defaultLoopConfig() loopConfig {
	return loopConfig{
		resync:     30 * time.Second, // undoes what somebody did to the box by hand, at little cost
		watchdog:   time.Minute,      // far more than any plan needs; hypervisors and disks can take seconds
		backoff:    time.Second,
		backoffMax: time.Minute,
		restMax:    time.Second, // an import of thousands of writes keeps at most half a core busy per daemon
	}
}

// loop runs daemons: each in its own goroutine, with a one-slot poke from both views, of which the latest win.
//
// A daemon's own state is its last good output: when Reconcile fails or panics it is simply called again later, and
// until then what it did last stays.
type loop struct {
	cfg   loopConfig
	db    dbSource
	mesh  meshSource
	tasks []*task
}

// task is one daemon in the loop.
type task struct {
	daemon  Daemon
	answers bool // it touches nothing but its own memory, so it runs under observe as well
	log     *slog.Logger

	mu    sync.Mutex // guards state
	state DaemonState
	done  hostdb.View // what the last good run was given
}

// DaemonState is how a daemon does.
type DaemonState struct {
	Name       string
	Observed   bool          // it only plans
	Version    string        // of the HostDB view of the last good run; empty before the first
	Applied    uint64        // place of that view in the apply log
	Reconciled time.Time     // end of the last good run; zero = never
	Took       time.Duration // of the last run that ended
	Running    time.Time     // start of the present run; zero = none
	Stuck      bool          // the present run takes longer than the watchdog allows
	Behind     time.Time     // since when HostDB has been newer than Version; zero = it is not
	Runs       uint64
	Failures   int    // in a row
	Failed     uint64 // in all
	Panics     uint64
	Error      string // of the last run; empty when it was good
	Plan       string // what the last run under observe would have done
}

func newLoop(cfg loopConfig, db dbSource, m meshSource) *loop {
	return &loop{cfg: cfg, db: db, mesh: m}
}

// add registers a daemon. answers says that it touches nothing but its own memory.
func (l *loop) add(d Daemon, answers bool) {
	l.tasks = append(l.tasks, &task{
		daemon: d, answers: answers, log: l.cfg.log.With("daemon", d.Name()),
		state: DaemonState{Name: d.Name(), Observed: l.cfg.observe && !answers},
	})
}

// run runs all daemons until ctx ends and they have returned, but waits for none longer than the watchdog's time.
func (l *loop) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, t := range l.tasks {
		wg.Go(func() { l.follow(ctx, t) })
	}
	<-ctx.Done()
	wg.Wait()
}

// follow runs one daemon.
func (l *loop) follow(ctx context.Context, t *task) {
	dbChanged, stopDB := l.db.Watch()
	defer stopDB()
	meshChanged, stopMesh := l.mesh.Watch()
	defer stopMesh()
	for {
		took, err := l.once(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if !pause(ctx, min(took, l.cfg.restMax)) {
				return
			}
			timer := time.NewTimer(jitter(l.cfg.resync))
			select {
			case <-ctx.Done():
			case <-dbChanged:
				t.behind(l.db.View(), time.Now())
			case <-meshChanged:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		l.backOff(ctx, t, dbChanged)
	}
}

// backOff waits after a failure. A change of HostDB may be the remedy, so it shortens the wait to the first pause.
func (l *loop) backOff(ctx context.Context, t *task, dbChanged <-chan struct{}) {
	if !pause(ctx, jitter(l.cfg.backoff)) {
		return
	}
	t.mu.Lock()
	n := t.state.Failures
	t.mu.Unlock()
	rest := min(l.cfg.backoff<<min(n-1, 16), l.cfg.backoffMax) - l.cfg.backoff
	if rest <= 0 {
		return
	}
	timer := time.NewTimer(jitter(rest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-dbChanged:
		t.behind(l.db.View(), time.Now())
	case <-timer.C:
	}
}

// once runs a daemon once on the latest views, watches over it, and keeps the account.
func (l *loop) once(ctx context.Context, t *task) (time.Duration, error) {
	db, m := l.db.View(), l.mesh.View()
	start := time.Now()
	t.behind(db, start)
	t.mu.Lock()
	t.state.Running = start
	t.mu.Unlock()

	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	result := make(chan error, 1)
	var plan string
	go func() {
		var err error
		plan, err = t.call(runCtx, db, m)
		result <- err
	}()
	watchdog := time.NewTimer(l.cfg.watchdog)
	defer watchdog.Stop()
	var err error
	for waiting := true; waiting; {
		select {
		case err = <-result:
			waiting = false
		case <-watchdog.C:
			if ctx.Err() != nil {
				t.log.Error("daemon does not stop; leaving it behind", "running_since", start)
				return 0, errStuck
			}
			// It cannot be killed, and a second run beside it could do harm: say so, and go on waiting.
			cancel(errStuck)
			t.mu.Lock()
			t.state.Stuck = true
			t.mu.Unlock()
			t.log.Error("daemon is stuck", "running_since", start, "version", db.Version().String(), "limit", l.cfg.watchdog)
			watchdog.Reset(l.cfg.watchdog)
		}
	}
	if err != nil && errors.Is(context.Cause(runCtx), errStuck) {
		err = fmt.Errorf("%w (%s): %w", errStuck, l.cfg.watchdog, err)
	}
	took := time.Since(start)
	if ctx.Err() != nil && err != nil {
		return took, err // it was told to stop: no failure
	}
	t.finish(db, plan, took, err)
	return took, err
}

// call runs Reconcile, or Plan under observe, and makes a panic an error.
func (t *task) call(ctx context.Context, db hostdb.View, m mesh.View) (plan string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
			t.log.Error("daemon panicked; what it did last stays", "panic", p, "version", db.Version().String(),
				"changed", t.suspects(db), "stack", string(debug.Stack()))
		}
	}()
	if !t.state.Observed { // set once, before run
		return "", t.daemon.Reconcile(ctx, db, m)
	}
	p, ok := t.daemon.(Planner)
	if !ok {
		return "(it has no plan to show)", nil
	}
	return p.Plan(ctx, db, m)
}

// suspects names the keys that changed since the last good run, with their revisions: one of them made it panic.
func (t *task) suspects(db hostdb.View) string {
	t.mu.Lock()
	done := t.done
	t.mu.Unlock()
	const most = 5
	var list []string
	for c := range db.Changes(done) {
		if len(list) == most {
			list = append(list, "...")
			break
		}
		item, _ := db.Get(c.NS, c.Key)
		list = append(list, strings.TrimSuffix(c.NS+"/"+c.Key+"@"+item.Revision().String(), "@"))
	}
	return strings.Join(list, " ")
}

// behind notes since when HostDB has been newer than what the daemon reconciled.
func (t *task) behind(db hostdb.View, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Behind.IsZero() && t.state.Version != db.Version().String() {
		t.state.Behind = now
	}
}

// finish keeps the account of a run that ended.
func (t *task) finish(db hostdb.View, plan string, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.state
	first := s.Reconciled.IsZero() && s.Failures == 0
	s.Runs++
	s.Took, s.Running, s.Stuck = took, time.Time{}, false
	if err != nil {
		s.Failures++
		s.Failed++
		if errors.Is(err, errPanic) {
			s.Panics++
		}
		if s.Error != err.Error() { // once, not with every repetition
			t.log.Error("daemon failed; what it did last stays", "version", db.Version().String(), "err", err)
		}
		s.Error = err.Error()
		return
	}
	if s.Failures > 0 {
		t.log.Info("daemon works again", "version", db.Version().String(), "failures", s.Failures)
	}
	if s.Observed && (s.Plan != plan || first) {
		t.log.Info("daemon would do", "version", db.Version().String(), "plan", plan)
	}
	s.Version, s.Applied, s.Reconciled, s.Behind = db.Version().String(), db.Applied(), time.Now(), time.Time{}
	s.Failures, s.Error, s.Plan = 0, "", plan
	t.done = db
}

// states are how the daemons do now, sorted by name.
func (l *loop) states() []DaemonState {
	db := l.db.View()
	now := time.Now()
	out := make([]DaemonState, 0, len(l.tasks))
	for _, t := range l.tasks {
		t.behind(db, now)
		t.mu.Lock()
		out = append(out, t.state)
		t.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b DaemonState) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// ready reports whether each daemon has had one good run.
func (l *loop) ready() bool {
	return !slices.ContainsFunc(l.states(), func(s DaemonState) bool { return s.Reconciled.IsZero() })
}

// pause waits, and reports whether ctx is still on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jitter is d, a quarter more or less, so that the nodes of a mesh do not all do it at once.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}
