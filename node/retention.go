package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// HistoryConfig says what of HostDB's history this node keeps. What goes is what both allow, and only what every member of the mesh
// holds that was not removed.
type HistoryConfig struct {
	// Keep is how old an operation must be to be dropped, as a Go duration or in days, such as 400d. Empty: none is dropped for its age.
	Keep string
	// AtLeast is how many of the newest operations stay whatever their age. Empty with Keep: none; without it: everything older goes.
	AtLeast string
}

// leastKept is the youngest age at which history may be dropped: an undo of yesterday's mistake must be possible.
const leastKept = 24 * time.Hour

// policy is the configuration as hostdb wants it.
func (c HistoryConfig) policy() (p hostdb.Policy, err error) {
	if c.Keep != "" {
		text, days := strings.CutSuffix(c.Keep, "d")
		if n, err := strconv.Atoi(text); days && err == nil && n > 0 && n < 100_000 {
			p.Age = time.Duration(n) * 24 * time.Hour
		} else {
			p.Age, _ = time.ParseDuration(c.Keep)
		}
		if p.Age < leastKept {
			return hostdb.Policy{}, fmt.Errorf("history.keep %q: want a duration of at least a day, such as 400d", c.Keep)
		}
	}
	if c.AtLeast != "" {
		if p.Count, err = strconv.ParseUint(c.AtLeast, 10, 64); err != nil || p.Count == 0 {
			return hostdb.Policy{}, fmt.Errorf("history.at_least %q: want a number of operations, such as 100000", c.AtLeast)
		}
	}
	return p, nil
}

// retention drops old history now and then.
type retention struct {
	agent  *Agent
	policy hostdb.Policy
	every  time.Duration
	// dropped counts operations.
	dropped prometheus.Counter

	mu   sync.Mutex // guards the fields below
	kept string     // why something is kept that might go; "" when nothing is
	from time.Time  // where history begins; zero for the beginning
}

func newRetention(a *Agent) *retention {
	policy, _ := a.cfg.History.policy() // validated
	return &retention{agent: a, policy: policy, every: 6 * time.Hour,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hostmesh", Subsystem: "history", Name: "dropped_operations_total",
			Help: "Operations that retention dropped from this node's history since the start."}),
	}
}

// run looks a minute after the start, when the others were heard, and then every few hours. A round that fails is logged and tried again.
func (r *retention) run(ctx context.Context) error {
	for wait := time.Minute; ; wait = r.every {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)):
		}
		if err := r.round(ctx); err != nil && ctx.Err() == nil {
			r.agent.log.Warn("cannot drop old history, will try again", "err", err)
		}
	}
}

// round drops what may go. Without a policy it only finishes what an earlier run was stopped in.
func (r *retention) round(ctx context.Context) error {
	a := r.agent
	if a.store.Missing() > 0 {
		return nil // it is still being fetched
	}
	if a.mesh.View().MassSuspicion() {
		return nil // what others hold is not known well enough
	}
	until, err := r.policy.Until(a.clock.Now(), func(n uint64) (hostdb.Stamp, error) { return a.store.Newest(ctx, n) })
	if err != nil {
		return err
	}
	what := hostdb.Retention{Until: until}
	if len(a.memberIDs()) > 1 {
		what.Held, what.Settled = a.replica.HeldByAll, a.settled
	} else if node := unseen(a.store.View(), a.dir.nodeID); node != "" {
		// It may be a copy that was restored beside a mesh: whoever wrote that is somewhere, and may lack what is dropped here.
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.kept = ""; !until.IsZero() {
			r.kept = "old history is kept because node " + node + ", which wrote some of it, is no member that this node knows"
		}
		return nil
	}
	n, err := a.store.Retain(ctx, what)
	r.dropped.Add(float64(n))
	if err != nil {
		return err
	}
	at, cut, err := a.store.Horizon()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from, r.kept = time.Time{}, ""
	if cut {
		r.from = at.Time.Wall()
	}
	if !until.IsZero() && at.Less(until) && n == 0 {
		r.kept = blocking(a.mesh.View())
	}
	return nil
}

// unseen is a node other than self that made a run and was not removed from the mesh; "" when there is none.
func unseen(v hostdb.View, self string) string {
	removed := v.Data(hostdb.System, removedKey)
	for h := range v.AllHeads() {
		if h.Node != "" && h.Node != self && !removed.At(h.Node).Exists() {
			return h.Node
		}
	}
	return ""
}

// blocking says whom retention waits for; "" when everybody is there.
func blocking(v mesh.View) string {
	var names []string
	for _, m := range v.Members() {
		if m.State != mesh.StateAlive {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	const most = 5
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Sprintf("old history is kept because %s%s may lack some of it", strings.Join(names, ", "), more)
}

// state is why something is kept that might go, and where history begins.
func (r *retention) state() (kept string, from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept, r.from
}
