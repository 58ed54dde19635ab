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
	"hostmesh/mesh/lease"
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

// mirrorDuty is the duty of who writes into the repository: of all agents that have mirror.git, one. It is of the home datacenter.
const mirrorDuty = "mirror"

// mirrorTries is after how many failures in a row a holder lets another agent try.
const mirrorTries = 3

// campaigner is what the mirror needs of the lease: *lease.Lease.
type campaigner interface {
	Campaign(ctx context.Context, duty string, hold func(ctx context.Context, g *lease.Grant) error) error
	Decline(duty, reason string)
	Home() (home, known bool)
}

// mirror keeps a Git repository up to date with the store, a commit for each revision, while this agent holds the duty.
type mirror struct {
	store *hostdb.Store
	every time.Duration
	log   *slog.Logger
	// duties grants the duty; nil = the lease cannot be opened, and nothing is exported.
	duties campaigner
	// declined is why this agent does not offer itself; "" = it does.
	declined string
	// export writes what is new into the repository and returns how many commits that is. It asks gate right before the repository
	// shows them.
	export func(ctx context.Context, gate func() error) (commits int, err error)

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
	holds    bool   // this agent is the one to export
	fence    uint64 // of the duty, while it holds
	idle     string // why it does not hold
}

// openMirror makes the mirror, if one is wanted. It is not started under --observe, which touches nothing.
func (a *Agent) openMirror() {
	if a.cfg.Mirror.Git == "" || a.cfg.Observe {
		return
	}
	every, _ := a.cfg.Mirror.interval() // validate has seen it
	a.mirror = &mirror{store: a.store, every: every, log: a.log.With("mirror", a.cfg.Mirror.Git), export: gitMirror(a.store, a.cfg.Mirror.Git)}
	if a.lease != nil {
		a.mirror.duties = a.lease
	}
	if !a.cfg.may(mirrorDuty) {
		a.mirror.declined = "duties in its configuration leaves mirror out"
	}
}

// gitMirror exports into the repository at a path.
func gitMirror(store *hostdb.Store, path string) func(context.Context, func() error) (int, error) {
	return func(ctx context.Context, gate func() error) (int, error) {
		repo, err := layout.CreateGit(ctx, path)
		if err != nil {
			return 0, err
		}
		x, err := repo.BeginExport(ctx, layout.DefaultBranch)
		if err != nil {
			return 0, err
		}
		defer x.Close()
		x.Gate = gate
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

// homeEvery is how often it is asked whether this datacenter is the home of the mesh's duties. It is known soon after the start, and
// hardly ever changes.
const (
	homeEvery      = time.Second
	homeEveryFirst = 100 * time.Millisecond
)

// run offers this agent for the duty until ctx ends, while its datacenter is the home datacenter.
func (m *mirror) run(ctx context.Context) error {
	if m.duties == nil {
		m.idle("this agent takes no part in duties")
		<-ctx.Done()
		return nil
	}
	for {
		home, known := m.duties.Home()
		switch {
		case !known:
			m.idle("the group that grants duties is not known yet")
		case !home:
			m.idle("its datacenter is not the home datacenter, where the mirror is kept")
		default:
			if m.declined != "" {
				m.duties.Decline(mirrorDuty, m.declined)
				m.idle(m.declined)
			} else if err := m.campaign(ctx); err != nil {
				m.idle(err.Error())
				m.log.Error("the mirror is not offered", "err", err)
			}
		}
		wait := homeEvery
		if !known {
			wait = homeEveryFirst
		}
		if !pause(ctx, wait) {
			m.duties.Decline(mirrorDuty, "")
			return nil
		}
	}
}

// campaign offers this agent until ctx ends or its datacenter is not the home datacenter any more.
func (m *mirror) campaign(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		for pause(ctx, homeEvery) {
			if home, known := m.duties.Home(); known && !home {
				cancel()
			}
		}
	})
	m.idle("another agent holds it, or nobody can grant it")
	return m.duties.Campaign(ctx, mirrorDuty, func(ctx context.Context, g *lease.Grant) error {
		return m.hold(ctx, g.Fence, func() error {
			if !g.Valid() {
				return fmt.Errorf("%w: another agent may hold the duty", context.Cause(g.Context()))
			}
			return nil
		})
	})
}

func (m *mirror) idle(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.holds, m.state.fence, m.state.idle = false, 0, why
}

// hold is the duty: it exports until ctx ends, or until it has failed so often that another agent should try.
func (m *mirror) hold(ctx context.Context, fence uint64, gate func() error) error {
	m.mu.Lock()
	m.state.holds, m.state.fence, m.state.idle = true, fence, ""
	m.mu.Unlock()
	m.log.Info("this agent keeps the mirror", "fence", fence)
	err := m.follow(ctx, gate)
	why := "another agent holds it, or nobody can grant it"
	if cause := context.Cause(ctx); cause != nil {
		why = cause.Error()
	}
	if err != nil {
		why = err.Error()
	}
	m.idle(why)
	m.log.Info("this agent keeps the mirror no longer", "fence", fence, "reason", why)
	return err
}

// follow keeps the repository up to date until ctx ends. One change or a thousand while it works or waits are one more run.
func (m *mirror) follow(ctx context.Context, gate func() error) error {
	changed, stop := m.store.Watch()
	defer stop()
	for {
		wait := m.once(ctx, gate)
		if err := m.stuck(); err != nil && ctx.Err() == nil {
			return err
		}
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

// stuck is why another agent should try.
func (m *mirror) stuck() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.failures < mirrorTries {
		return nil
	}
	return fmt.Errorf("it failed %d times in a row: %s", m.state.failures, m.state.err)
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
func (m *mirror) once(ctx context.Context, gate func() error) time.Duration {
	limited, cancel := context.WithTimeoutCause(ctx, mirrorTimeout, fmt.Errorf("git took longer than %s", mirrorTimeout))
	defer cancel()
	view := m.store.View()
	n, err := m.export(limited, gate)
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
	d := api.DaemonStatus{Name: "mirror", Version: m.state.version, Reconciled: m.state.success, Failures: m.state.failures, Error: m.state.err, Idle: m.state.idle}
	if !m.state.holds {
		return d // how far behind its repository is matters to nobody
	}
	if !m.state.behind.IsZero() {
		d.LagMS = time.Since(m.state.behind).Milliseconds()
	}
	return d
}

// mirrorCollector reads the mirror's state at each scrape.
type mirrorCollector struct {
	m                         *mirror
	behind, success, failures *prometheus.Desc
	holder                    *prometheus.Desc
}

func newMirrorCollector(m *mirror) *mirrorCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_mirror_"+name, help, nil, nil)
	}
	return &mirrorCollector{
		m:        m,
		behind:   desc("behind", "Operations of this node's replica that the Git mirror has not seen; 0 on agents that do not hold the duty."),
		holder:   desc("holder", "1 on the agent that holds the duty mirror."),
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
	behind, holder := 0.0, 0.0
	if s.holds {
		behind, holder = float64(c.m.store.View().Applied()-s.applied), 1
	}
	ch <- prometheus.MustNewConstMetric(c.behind, prometheus.GaugeValue, behind)
	ch <- prometheus.MustNewConstMetric(c.holder, prometheus.GaugeValue, holder)
	ch <- prometheus.MustNewConstMetric(c.success, prometheus.GaugeValue, at)
	ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(s.failed))
}
