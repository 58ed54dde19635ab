package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

const (
	// DefaultMirrorEvery is the least time between two updates of the mirror: people who read git log do not need each
	// write at once, and a thousand writes share one run of git.
	DefaultMirrorEvery = 10 * time.Second
	// mirrorTimeout ends an update that does not end by itself. The first one of a long history takes minutes.
	mirrorTimeout = 30 * time.Minute
	// mirrorPatience is the longest that a mirror which fails waits before it tries again.
	mirrorPatience = 5 * time.Minute
)

// mirror keeps a Git repository up to date with the store: a commit for each revision.
type mirror struct {
	store *hostdb.Store
	every time.Duration
	log   *slog.Logger
	// export writes what is new into the repository and returns how many commits that is.
	export func(ctx context.Context) (commits int, err error)

	mu    sync.Mutex // guards state
	state mirrorState
}

// mirrorState is how the mirror does.
type mirrorState struct {
	version  string // that the repository has; "" before the first success
	applied  uint64 // of that version
	success  time.Time
	behind   time.Time // since when there is more; zero for never or not
	failures int       // in a row
	failed   uint64    // in all
	err      string
}

// openMirror makes the mirror, if one is wanted. It is not started under --observe, which touches nothing.
func (a *Agent) openMirror() {
	if a.cfg.Mirror.Git == "" || a.cfg.Observe {
		return
	}
	every, _ := a.cfg.Mirror.interval() // validate has seen it
	a.mirror = &mirror{store: a.store, every: every, log: a.log.With("mirror", a.cfg.Mirror.Git), export: gitMirror(a.store, a.cfg.Mirror.Git)}
}

// gitMirror exports into the repository at a path.
func gitMirror(store *hostdb.Store, path string) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		repo, err := layout.CreateGit(ctx, path)
		if err != nil {
			return 0, err
		}
		x, err := repo.BeginExport(ctx, layout.DefaultBranch)
		if err != nil {
			return 0, err
		}
		defer x.Close()
		r, w := io.Pipe()
		written := make(chan error, 1)
		go func() {
			_, err := layout.WriteGit(ctx, w, store, x.After)
			w.CloseWithError(err) // nil is the end
			written <- err
		}()
		n, err := x.Take(ctx, r, nil)
		r.Close() // git may have ended early
		if werr := <-written; err == nil && werr != nil {
			err = werr
		}
		if err != nil || n == 0 {
			return 0, err
		}
		if err := x.Tidy(ctx); err != nil {
			return n, fmt.Errorf("the mirror is up to date, but cannot be packed: %w", err)
		}
		return n, nil
	}
}

// run keeps the repository up to date until ctx ends. One change or a thousand while it works or waits are one more run.
func (m *mirror) run(ctx context.Context) error {
	changed, stop := m.store.Watch()
	defer stop()
	for {
		wait := m.once(ctx)
		if !pause(ctx, wait) {
			return nil
		}
		for m.upToDate() { // what was poked for may be in the repository already
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
		}
		m.fellBehind()
	}
}

func (m *mirror) upToDate() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.failures == 0 && m.state.version == m.store.View().Version().String()
}

func (m *mirror) fellBehind() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.behind.IsZero() {
		m.state.behind = time.Now()
	}
}

// once updates the repository and returns how long to wait before the next time.
func (m *mirror) once(ctx context.Context) time.Duration {
	limited, cancel := context.WithTimeoutCause(ctx, mirrorTimeout, fmt.Errorf("git took longer than %s", mirrorTimeout))
	defer cancel()
	view := m.store.View()
	n, err := m.export(limited)
	if limited.Err() != nil && ctx.Err() == nil {
		err = context.Cause(limited)
	}
	if ctx.Err() != nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state
	if err != nil {
		s.failures++
		s.failed++
		if s.behind.IsZero() {
			s.behind = time.Now()
		}
		if s.err != err.Error() { // once, not with every repetition
			m.log.Error("mirror failed; it tries again", "err", err)
		}
		s.err = err.Error()
		return min(m.every<<min(s.failures, 10), max(mirrorPatience, m.every))
	}
	if s.failures > 0 {
		m.log.Info("mirror works again", "failures", s.failures)
	}
	if n > 0 {
		m.log.Debug("mirrored", "commits", n, "version", view.Version().String())
	}
	s.version, s.applied, s.success, s.behind = view.Version().String(), view.Applied(), time.Now(), time.Time{}
	s.failures, s.err = 0, ""
	return m.every
}

// status is the mirror among the daemons.
func (m *mirror) status() api.DaemonStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := api.DaemonStatus{Name: "mirror", Version: m.state.version, Reconciled: m.state.success, Failures: m.state.failures, Error: m.state.err}
	if !m.state.behind.IsZero() {
		d.LagMS = time.Since(m.state.behind).Milliseconds()
	}
	return d
}

// mirrorCollector reads the mirror's state at each scrape.
type mirrorCollector struct {
	m                         *mirror
	behind, success, failures *prometheus.Desc
}

func newMirrorCollector(m *mirror) *mirrorCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_mirror_"+name, help, nil, nil)
	}
	return &mirrorCollector{
		m:        m,
		behind:   desc("behind", "Operations of this node's replica that the Git mirror has not seen."),
		success:  desc("last_success_timestamp_seconds", "When the Git mirror was last brought up to date; 0 before the first time."),
		failures: desc("failures_total", "Updates of the Git mirror that failed."),
	}
}

func (c *mirrorCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *mirrorCollector) Collect(ch chan<- prometheus.Metric) {
	c.m.mu.Lock()
	s := c.m.state
	c.m.mu.Unlock()
	at := 0.0
	if !s.success.IsZero() {
		at = float64(s.success.Unix())
	}
	ch <- prometheus.MustNewConstMetric(c.behind, prometheus.GaugeValue, float64(c.m.store.View().Applied()-s.applied))
	ch <- prometheus.MustNewConstMetric(c.success, prometheus.GaugeValue, at)
	ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(s.failed))
}
