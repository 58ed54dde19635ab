package local

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
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
