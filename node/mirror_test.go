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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
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

// The mirror runs at once, then once for all that came while it worked or waited, and less and less often while it fails.
func TestMirrorFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mirrorStore(t)
		begin := time.Now()
		var runs []string
		var broken atomic.Bool
		m := &mirror{store: s, every: 10 * time.Second, log: slog.New(slog.DiscardHandler), export: func(context.Context) (int, error) {
			runs = append(runs, fmt.Sprintf("%s:%d", time.Since(begin), s.View().Applied()))
			if broken.Load() {
				return 0, errors.New("no space left")
			}
			return 1, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.run(ctx) }()
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
		time.Sleep(2 * time.Minute)
		expect("1h1m0s:4 1h1m20s:4 1h2m0s:4")
		if d := m.status(); d.Failures != 3 || d.Error != "no space left" || d.LagMS != 120_000 || d.Name != "mirror" {
			t.Errorf("%+v", d)
		}
		broken.Store(false)
		time.Sleep(20 * time.Minute)
		expect("1h3m20s:4")
		if d := m.status(); d.Failures != 0 || d.Error != "" || d.LagMS != 0 || d.Version != s.View().Version().String() {
			t.Errorf("%+v", d)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
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
	m.once(ctx)
	putHost(t, s, "b")
	putHost(t, s, "c")
	if got := gathered(t, m, "hostmesh_mirror_behind"); got != 2 {
		t.Errorf("behind %v", got)
	}
	m.once(ctx)
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
	m.once(ctx)
	if d := m.status(); d.Failures != 1 || !strings.Contains(d.Error, dir) {
		t.Errorf("%+v", d)
	}
	if got := gathered(t, m, "hostmesh_mirror_failures_total"); got != 1 {
		t.Errorf("%v failures", got)
	}
	if err := os.RemoveAll(dir); err != nil { // what the operator does: it is made anew
		t.Fatal(err)
	}
	m.once(ctx)
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
