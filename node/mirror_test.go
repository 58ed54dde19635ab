package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh/lease"
)

func mirrorStore(t *testing.T) *hostdb.Store {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func putHost(t *testing.T, s *hostdb.Store, key string) {
	t.Helper()
	_, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "new: " + key}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, key, hostdb.Document{})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// open lets everything through.
func open() error { return nil }

// The holder exports at once, then once for all that came while it worked or waited, less and less often while it fails, and lets
// another try after three failures.
func TestMirrorFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mirrorStore(t)
		begin := time.Now()
		var runs []string
		var broken atomic.Bool
		m := &mirror{store: s, every: 10 * time.Second, log: slog.New(slog.DiscardHandler), export: func(context.Context, func() error) (int, error) {
			runs = append(runs, fmt.Sprintf("%s:%d", time.Since(begin), s.View().Applied()))
			if broken.Load() {
				return 0, errors.New("no space left")
			}
			return 1, nil
		}}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		hold := func() { done <- m.hold(ctx, 7, open) }
		go hold()
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := strings.Join(runs, " "); got != want {
				t.Errorf("runs %q, want %q", got, want)
			}
			runs = nil
		}
		expect("0s:0")
		time.Sleep(time.Hour)
		expect("")
		putHost(t, s, "a")
		expect("1h0m0s:1")
		putHost(t, s, "b")
		putHost(t, s, "c")
		time.Sleep(time.Minute)
		expect("1h0m10s:3")
		broken.Store(true)
		putHost(t, s, "d")
		time.Sleep(30 * time.Second)
		expect("1h1m0s:4 1h1m20s:4")
		if d := m.status(); d.Failures != 2 || d.Error != "no space left" || d.LagMS != 30_000 || d.Name != "mirror" || d.Idle != "" {
			t.Errorf("%+v", d)
		}
		if err := <-done; err == nil || err.Error() != "it failed 3 times in a row: no space left" {
			t.Errorf("%v", err)
		}
		expect("1h2m0s:4")
		if d := m.status(); d.Failures != 3 || d.LagMS != 0 || !strings.HasPrefix(d.Idle, "it failed 3 times") {
			t.Errorf("%+v", d)
		}
		go hold() // nobody else took it; it tries once
		if err := <-done; err == nil || m.status().Failures != 4 {
			t.Errorf("%v, %+v", err, m.status())
		}
		expect("1h2m0s:4")
		broken.Store(false)
		go hold()
		time.Sleep(time.Minute)
		expect("1h2m0s:4")
		if d := m.status(); d.Failures != 0 || d.Error != "" || d.LagMS != 0 || d.Idle != "" || d.Version != s.View().Version().String() {
			t.Errorf("%+v", d)
		}
		if got := gathered(t, m, "hostmesh_mirror_holder"); got != 1 {
			t.Errorf("holder %v", got)
		}
		cancel(errors.New("the duty went elsewhere"))
		if err := <-done; err != nil {
			t.Error(err)
		}
		putHost(t, s, "e")
		if d := m.status(); d.Idle != "the duty went elsewhere" || gathered(t, m, "hostmesh_mirror_behind") != 0 || gathered(t, m, "hostmesh_mirror_holder") != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// fakeDuties stands for the lease: it says where home is, and notes what the mirror does.
type fakeDuties struct {
	mu          sync.Mutex // guards the fields below
	home, known bool
	campaigns   int
	running     bool
	declined    string
}

func (f *fakeDuties) set(home, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.home, f.known = home, known
}

func (f *fakeDuties) Home() (home, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.home, f.known
}

func (f *fakeDuties) Decline(_, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.declined = reason
}

func (f *fakeDuties) Campaign(ctx context.Context, _ string, _ func(context.Context, *lease.Grant) error) error {
	f.mu.Lock()
	f.campaigns, f.running = f.campaigns+1, true
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.running = false
	f.mu.Unlock()
	return nil
}

func (f *fakeDuties) is(t *testing.T, m *mirror, campaigns int, running bool, declined, idle string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := m.status().Idle; f.campaigns != campaigns || f.running != running || f.declined != declined || !strings.Contains(got, idle) {
		t.Errorf("%d campaigns, running %v, declined %q, idle %q", f.campaigns, f.running, f.declined, got)
	}
}

// Only agents of the home datacenter offer themselves, as soon as they know that they are there and as long as they are.
func TestMirrorCampaigns(t *testing.T) {
	for _, c := range []struct {
		name, declined string
	}{{"offers", ""}, {"declines", "duties leaves it out"}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeDuties{}
				m := &mirror{store: mirrorStore(t), log: slog.New(slog.DiscardHandler), duties: f, declined: c.declined}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- m.run(ctx) }()
				f.is(t, m, 0, false, "", "not known yet")
				f.set(false, true)
				time.Sleep(2 * time.Second)
				f.is(t, m, 0, false, "", "not the home datacenter")
				f.set(true, true)
				time.Sleep(2 * time.Second)
				if c.declined != "" {
					f.is(t, m, 0, false, c.declined, c.declined)
				} else {
					f.is(t, m, 1, true, "", "another agent holds it")
					f.set(false, true)
					time.Sleep(3 * time.Second)
					f.is(t, m, 1, false, "", "not the home datacenter")
				}
				cancel()
				if err := <-done; err != nil || f.declined != "" {
					t.Errorf("%v, %q", err, f.declined)
				}
			})
		})
	}
}

// A holder that has lost the duty while git worked changes nothing.
func TestMirrorGate(t *testing.T) {
	s := mirrorStore(t)
	dir := filepath.Join(t.TempDir(), "history.git")
	m := &mirror{store: s, every: time.Second, log: slog.New(slog.DiscardHandler), export: gitMirror(s, dir)}
	head := func() string {
		t.Helper()
		out, err := exec.Command("git", "-C", dir, "for-each-ref", "--format=%(objectname)", "refs/heads/main").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	putHost(t, s, "a")
	m.once(t.Context(), func() error { return errors.New("the duty is another agent's") })
	if d := m.status(); head() != "" || !strings.Contains(d.Error, "move refs/heads/main: the duty is another agent's") {
		t.Errorf("%q, %+v", head(), d)
	}
	m.once(t.Context(), open)
	if head() == "" || m.status().Failures != 0 {
		t.Errorf("%+v", m.status())
	}
}

func TestMirrorWritesARepository(t *testing.T) {
	s := mirrorStore(t)
	dir := filepath.Join(t.TempDir(), "history.git")
	m := &mirror{store: s, every: time.Second, log: slog.New(slog.DiscardHandler), export: gitMirror(s, dir)}
	subjects := func() string {
		t.Helper()
		cmd := exec.Command("git", "-C", dir, "log", "--reverse", "--format=%an %s", "main")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", ")
	}
	ctx := context.Background()
	putHost(t, s, "a")
	m.once(ctx, open)
	putHost(t, s, "b")
	putHost(t, s, "c")
	m.state.holds = true
	if got := gathered(t, m, "hostmesh_mirror_behind"); got != 2 {
		t.Errorf("behind %v", got)
	}
	m.once(ctx, open)
	if got := subjects(); got != "alice new: a, alice new: b, alice new: c" || m.status().Error != "" {
		t.Errorf("%q, %+v", got, m.status())
	}
	if got := gathered(t, m, "hostmesh_mirror_behind"); got != 0 {
		t.Errorf("behind %v", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "objects")); err != nil {
		t.Fatal(err)
	}
	putHost(t, s, "d")
	m.once(ctx, open)
	if d := m.status(); d.Failures != 1 || !strings.Contains(d.Error, dir) {
		t.Errorf("%+v", d)
	}
	if got := gathered(t, m, "hostmesh_mirror_failures_total"); got != 1 {
		t.Errorf("%v failures", got)
	}
	if err := os.RemoveAll(dir); err != nil { // what the operator does: it is made anew
		t.Fatal(err)
	}
	m.once(ctx, open)
	if got := subjects(); got != "alice new: a, alice new: b, alice new: c, alice new: d" {
		t.Errorf("%q", got)
	}
}

// gathered is the value of a metric of the mirror.
func gathered(t *testing.T, m *mirror, name string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(newMirrorCollector(m))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMirrorConfig(t *testing.T) {
	for _, c := range []struct {
		mirror MirrorConfig
		want   string
	}{
		{MirrorConfig{Git: "relative.git"}, "mirror.git relative.git: want an absolute path"},
		{MirrorConfig{Git: "/srv/history.git", Every: "soon"}, `mirror.every "soon"`},
		{MirrorConfig{Git: "/srv/history.git", Every: "10ms"}, `mirror.every "10ms"`},
		{MirrorConfig{Every: "10s"}, "mirror.git: set it"},
	} {
		cfg := DefaultConfig()
		cfg.Dev, cfg.Mirror = true, c.mirror
		if err := cfg.resolve(); err != nil {
			t.Fatal(err)
		}
		if err := cfg.validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.mirror, err)
		}
	}
}
