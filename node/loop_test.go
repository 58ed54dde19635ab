package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
)

// fakeMesh is a mesh whose view a test sets.
type fakeMesh struct {
	mu       sync.Mutex
	view     mesh.View
	watchers map[chan struct{}]bool
}

func (f *fakeMesh) View() mesh.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

func (f *fakeMesh) Watch() (<-chan struct{}, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan struct{}, 1)
	if f.watchers == nil {
		f.watchers = map[chan struct{}]bool{}
	}
	f.watchers[ch] = true
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, ch)
	}
}

func (f *fakeMesh) set(v mesh.View) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view = v
	for ch := range f.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// fakeDaemon calls a function and remembers the versions it was given.
type fakeDaemon struct {
	name string
	do   func(ctx context.Context, db hostdb.View, m mesh.View) error

	mu   sync.Mutex
	seen []string
}

func (d *fakeDaemon) Name() string { return d.name }

func (d *fakeDaemon) Reconcile(ctx context.Context, db hostdb.View, m mesh.View) error {
	d.mu.Lock()
	d.seen = append(d.seen, db.Version().String())
	d.mu.Unlock()
	if d.do == nil {
		return nil
	}
	return d.do(ctx, db, m)
}

func (d *fakeDaemon) runs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.seen...)
}

// planningDaemon can say what it would do.
type planningDaemon struct {
	fakeDaemon
	plan string
}

func (d *planningDaemon) Plan(context.Context, hostdb.View, mesh.View) (string, error) {
	return d.plan, nil
}

// loopTest is a loop over a real store in memory, in a synctest bubble.
type loopTest struct {
	t     *testing.T
	store *hostdb.Store
	mesh  *fakeMesh
	loop  *loop
	log   *bytes.Buffer
	stop  func()
}

func newLoopTest(t *testing.T, observe bool) *loopTest {
	t.Helper()
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil },
		NodeID:      strings.Repeat("0", 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	lt := &loopTest{t: t, store: store, mesh: &fakeMesh{}, log: &bytes.Buffer{}}
	cfg := defaultLoopConfig()
	cfg.observe, cfg.log = observe, slog.New(slog.NewTextHandler(lt.log, nil))
	lt.loop = newLoop(cfg, store, lt.mesh)
	return lt
}

func (lt *loopTest) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		lt.loop.run(ctx)
		close(done)
	}()
	lt.stop = func() {
		cancel()
		<-done
		if err := lt.store.Close(); err != nil {
			lt.t.Error(err)
		}
	}
}

func (lt *loopTest) write(key string) string {
	lt.t.Helper()
	doc, err := hostdb.ParseDocument([]byte("Owner: ops\n"))
	if err != nil {
		lt.t.Fatal(err)
	}
	if _, err := lt.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, key, doc)
	}); err != nil {
		lt.t.Fatal(err)
	}
	return lt.store.View().Version().String()
}

func (lt *loopTest) state() DaemonState { return lt.loop.states()[0] }

func TestLoopLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		release := make(chan struct{})
		d := &fakeDaemon{name: "slow"}
		d.do = func(context.Context, hostdb.View, mesh.View) error { <-release; return nil }
		lt.loop.add(d, false)
		lt.start()
		synctest.Wait()
		if n := len(d.runs()); n != 1 {
			t.Fatalf("%d runs before anything changed, want 1", n)
		}
		var last string
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			last = lt.write(key)
		}
		time.Sleep(10 * time.Second)
		if lag := lt.state().lag(time.Now()); lag != 10*time.Second {
			t.Errorf("lag %v after 10s in which the daemon was busy, want 10s", lag)
		}
		if lt.loop.ready() {
			t.Error("ready before the first good run")
		}
		close(release)
		time.Sleep(2 * time.Second) // its rest, at most one second
		runs := d.runs()
		if len(runs) != 2 || runs[1] != last {
			t.Errorf("runs at %v, want a second one at the latest, %s", runs, last)
		}
		s := lt.state()
		if s.Version != last || s.lag(time.Now()) != 0 || s.Error != "" || !lt.loop.ready() {
			t.Errorf("state %+v, want it up to date", s)
		}
		lt.stop()
	})
}

func TestLoopMeshChangeAndTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		var alone atomic.Bool
		d := &fakeDaemon{name: "d", do: func(_ context.Context, _ hostdb.View, m mesh.View) error {
			alone.Store(m.Len() < 2)
			return nil
		}}
		lt.loop.add(d, false)
		lt.start()
		synctest.Wait()
		lt.mesh.set(mesh.NewView("a", []mesh.Member{{ID: "a"}, {ID: "b"}}))
		synctest.Wait()
		if alone.Load() || len(d.runs()) != 2 {
			t.Errorf("%d runs, the last one sees the second member: %t; want 2, true", len(d.runs()), !alone.Load())
		}
		time.Sleep(time.Minute)
		if n := len(d.runs()); n < 3 || n > 6 {
			t.Errorf("%d runs after a quiet minute, want the slow timer to have made one or two more", n)
		}
		lt.stop()
	})
}

func TestLoopBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		var broken atomic.Bool
		broken.Store(true)
		d := &fakeDaemon{name: "d", do: func(context.Context, hostdb.View, mesh.View) error {
			if broken.Load() {
				return errors.New("disk is on fire")
			}
			return nil
		}}
		lt.loop.add(d, false)
		lt.start()
		time.Sleep(10 * time.Minute)
		n := len(d.runs())
		// 1+2+4+...+32 s are 63 s, then once a minute, a quarter more or less.
		if n < 12 || n > 20 {
			t.Errorf("%d runs in ten minutes of failure, want about 15", n)
		}
		s := lt.state()
		if s.Failures != n || s.Failed != uint64(n) || s.Error != "disk is on fire" || !s.Reconciled.IsZero() || lt.loop.ready() {
			t.Errorf("state %+v", s)
		}
		if c := strings.Count(lt.log.String(), "daemon failed"); c != 1 {
			t.Errorf("the same failure was logged %d times, want once", c)
		}

		// The remedy may be in HostDB: a change shortens the wait.
		time.Sleep(2 * time.Second) // beyond the first pause, if a run has just failed
		broken.Store(false)
		v := lt.write("remedy")
		time.Sleep(2 * time.Second)
		if s := lt.state(); s.Version != v || s.Failures != 0 || s.Error != "" {
			t.Errorf("state %+v, want it reconciled at %s", s, v)
		}
		if !strings.Contains(lt.log.String(), "daemon works again") {
			t.Error("recovery is not logged")
		}
		lt.stop()
	})
}

func TestLoopPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		d := &fakeDaemon{name: "d", do: func(_ context.Context, db hostdb.View, _ mesh.View) error {
			if db.Exists(hostdb.Hosts, "poison") {
				panic("no such bridge")
			}
			return nil
		}}
		other := &fakeDaemon{name: "other"}
		lt.loop.add(d, false)
		lt.loop.add(other, false)
		lt.start()
		synctest.Wait()
		good := lt.state().Version
		lt.write("poison")
		time.Sleep(20 * time.Second)
		s := lt.state()
		if s.Panics < 3 || s.Version != good || !strings.Contains(s.Error, "no such bridge") {
			t.Errorf("state %+v, want panics counted and the last good version %s", s, good)
		}
		if s := lt.loop.states()[1]; s.Version == good || s.Failed != 0 {
			t.Errorf("the other daemon: %+v, want it undisturbed", s)
		}
		item, _ := lt.store.View().Get(hostdb.Hosts, "poison")
		if want := "hosts/poison@" + item.Revision().String(); !strings.Contains(lt.log.String(), want) {
			t.Errorf("the log does not name key and revision, %s:\n%s", want, lt.log)
		}
		lt.stop()
	})
}

func TestLoopWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		var runs atomic.Int32
		d := &fakeDaemon{name: "d", do: func(ctx context.Context, _ hostdb.View, _ mesh.View) error {
			if runs.Add(1) > 1 {
				return nil
			}
			<-ctx.Done()
			time.Sleep(30 * time.Second) // it takes its time to give up
			return ctx.Err()
		}}
		lt.loop.add(d, false)
		lt.start()
		time.Sleep(59 * time.Second)
		if s := lt.state(); s.Stuck || s.Running.IsZero() {
			t.Errorf("before the limit: %+v", s)
		}
		time.Sleep(2 * time.Second)
		if s := lt.state(); !s.Stuck {
			t.Errorf("after the limit: %+v, want it stuck", s)
		}
		if runs.Load() != 1 {
			t.Error("a second run began beside the stuck one")
		}
		time.Sleep(35 * time.Second)
		if s := lt.state(); s.Stuck || s.Failed != 1 || s.Failures != 0 || s.Version == "" {
			t.Errorf("after it gave up and ran again: %+v", s)
		}
		lt.stop()
	})
}

func TestLoopStopsWithStuckDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		forever := make(chan struct{})
		lt.loop.add(&fakeDaemon{name: "d", do: func(context.Context, hostdb.View, mesh.View) error { <-forever; return nil }}, false)
		lt.start()
		synctest.Wait()
		start := time.Now()
		lt.stop()
		if waited := time.Since(start); waited > lt.loop.cfg.watchdog {
			t.Errorf("waited %v for a daemon that does not stop", waited)
		}
		close(forever)
	})
}

func TestLoopRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, false)
		d := &fakeDaemon{name: "d", do: func(context.Context, hostdb.View, mesh.View) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}}
		lt.loop.add(d, false)
		lt.start()
		for i := range 1000 { // ten seconds in which something changes all the time
			lt.mesh.set(mesh.NewView("a", []mesh.Member{{ID: "a", Protocol: i}}))
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(d.runs()); n > 52 || n < 40 {
			t.Errorf("%d runs of 100 ms in 10 s, want it busy about half the time", n)
		}
		lt.stop()
	})
}

func TestLoopObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lt := newLoopTest(t, true)
		touches := &fakeDaemon{name: "a-touches"}
		plans := &planningDaemon{fakeDaemon{name: "b-plans"}, "+ start vm1"}
		answers := &fakeDaemon{name: "c-answers"}
		lt.loop.add(touches, false)
		lt.loop.add(plans, false)
		lt.loop.add(answers, true)
		lt.start()
		time.Sleep(5 * time.Minute)
		if len(touches.runs()) != 0 || len(plans.runs()) != 0 {
			t.Errorf("under observe %d and %d runs touched the box", len(touches.runs()), len(plans.runs()))
		}
		if len(answers.runs()) == 0 {
			t.Error("a daemon that only answers did not run")
		}
		s := lt.loop.states()
		if s[1].Plan != "+ start vm1" || !s[1].Observed || s[2].Observed {
			t.Errorf("states %+v", s)
		}
		if n := strings.Count(lt.log.String(), "+ start vm1"); n != 1 {
			t.Errorf("an unchanged plan was logged %d times, want once", n)
		}
		lt.stop()
	})
}
