package local

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/nft"
	"hostmesh/mesh/report"
)

// noRules are rules of a kernel that has none.
type noRules struct{}

func (noRules) Apply(nft.Cutting) error { return nil }

func (noRules) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// still opens a Host whose servers do not run.
func still(t *testing.T, publish func(string, *report.MySQL)) *Host {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir, cfg.Look, cfg.Publish = t.TempDir(), 5*time.Millisecond, publish
	cfg.Rules = func(uint16) (Rules, error) { return noRules{}, nil }
	cfg.Logger = slog.New(slog.DiscardHandler)
	mustDo(t, os.Chmod(cfg.Dir, 0o700))
	h, err := Open(cfg)
	mustDo(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { _ = h.Close(); cancel(); wg.Wait() })
	return h
}

func stillMember(t *testing.T, tag string, port uint16) Member {
	dir := filepath.Join(t.TempDir(), tag)
	return Member{Tag: tag, Host: "db1", Server: credentials.Server{Port: port, Datadir: dir, PIDFile: filepath.Join(dir, "pid"), Start: []string{"/bin/false"}}}
}

// TestNoReportAfterTheLast: a report that is being made known when the host ceases to be a member is not the last one.
func TestNoReportAfterTheLast(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var last *report.MySQL
	begun, goOn, told := make(chan struct{}), make(chan struct{}), make(chan struct{})
	once, after := sync.Once{}, sync.Once{}
	h := still(t, func(_ string, r *report.MySQL) {
		if r != nil {
			once.Do(func() { close(begun); <-goOn })
			defer after.Do(func() { close(told) })
		}
		mu.Lock()
		defer mu.Unlock()
		last = r
	})
	mustDo(t, h.Apply([]Member{stillMember(t, "shop", 3306)}))
	<-begun
	h.mu.Lock()
	s := h.servers["shop"]
	h.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- h.Apply(nil) }()
	<-s.stopped
	time.Sleep(20 * time.Millisecond) // what would come too early has the time to
	close(goOn)
	<-told
	mustDo(t, <-done)
	mu.Lock()
	defer mu.Unlock()
	if last != nil {
		t.Errorf("of a host that is no member the last report is %+v", *last)
	}
}

// TestTwoTagsOneServer: of two clusters whose files name one server on a host only one is led, and the error names both. The one that is here already stays.
func TestTwoTagsOneServer(t *testing.T) {
	t.Parallel()
	h := still(t, func(string, *report.MySQL) {})
	led := func(want ...string) {
		t.Helper()
		h.mu.Lock()
		defer h.mu.Unlock()
		if got := slices.Sorted(maps.Keys(h.servers)); !slices.Equal(got, want) {
			t.Errorf("led are %q, want %q", got, want)
		}
	}
	a, b, c, d := stillMember(t, "a", 3306), stillMember(t, "b", 3306), stillMember(t, "c", 3307), stillMember(t, "d", 3308)
	refused := func(err error, tags ...string) {
		t.Helper()
		for _, tag := range tags {
			if err == nil || !strings.Contains(err.Error(), tag) {
				t.Errorf("it does not name %s: %v", tag, err)
			}
		}
	}
	refused(h.Apply([]Member{c, b, a}), "b: ", "of a,", "port, 3306,")
	led("a", "c")
	mustDo(t, h.Apply([]Member{b, c}))
	d.Server.Datadir = c.Server.Datadir + "/"
	refused(h.Apply([]Member{a, b, c, d}), "a: ", "of b,", "d: ", "of c,", "datadir")
	led("b", "c")
	d.Server.Datadir, d.Server.PIDFile = a.Server.Datadir, c.Server.PIDFile
	refused(h.Apply([]Member{b, c, d}), "d: ", "pid file")
	led("b", "c")
	mustDo(t, h.Apply([]Member{a, c}))
	led("a", "c")
}
