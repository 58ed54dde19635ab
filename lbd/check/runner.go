package check

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"hostmesh/mesh/report"
)

// Spec is one check that should be made.
type Spec struct {
	Type   string // tcp, http, dns, mysql, or a program's name
	Target Target
	// Interval is how often, give or take a tenth. An answer has to come within it, and within Config.Timeout.
	Interval time.Duration
	Rise     int // good answers in a row after which one that is down is up
	Fall     int // bad answers in a row after which one is down
}

// Key is where the check stands in a report.
func (s Spec) Key() string {
	return report.CheckKey(s.Target.Tag, s.Target.Host, s.Target.Port, s.Target.Proto)
}

func (s Spec) check() error {
	switch {
	case s.Interval <= 0:
		return fmt.Errorf("check %s: interval %s is not above zero", s.Key(), s.Interval)
	case s.Rise < 1 || s.Fall < 1:
		return fmt.Errorf("check %s: rise %d and fall %d must be 1 or more", s.Key(), s.Rise, s.Fall)
	}
	return nil
}

// State is what is known of a target.
type State string

// The states of a check.
const (
	Unknown State = "unknown" // not tried, or neither good nor bad often enough
	Up      State = "up"
	Down    State = "down"
)

// Result is how a check stands.
type Result struct {
	State   State
	Since   time.Time // when the state began
	Bad     int       // bad answers in a row, up to Fall
	Good    int       // good answers in a row, up to Rise
	Last    time.Time // when the last answer came; zero = none yet
	Latency time.Duration
	// Reason is what the last bad answer was, or what is remarkable of a good one. It stays until the next of the kind that is in force.
	Reason string
	said   time.Time // when Reason became what it is
}

// reasonStays is how long the reason of one that is down stays, whatever later bad answers are: some are another text each time, and what a report says
// is told to the whole mesh.
const reasonStays = time.Minute

// Config is what a Runner needs. Begin with DefaultConfig.
type Config struct {
	// Prober makes a prober of a type's name. See Types.
	Prober func(kind string) Prober
	// Parallel bounds how many probes run at once; the others wait.
	Parallel int
	// Timeout bounds a probe whose interval is longer.
	Timeout time.Duration
	Logger  *slog.Logger
}

// DefaultConfig returns what is right for most boxes; programs are looked for in dir.
func DefaultConfig(dir string) Config {
	return Config{
		Prober:   Types(dir),
		Parallel: 256,             // a thousand dead targets, with two seconds of patience each, are tried every eight
		Timeout:  5 * time.Second, // who needs longer does not serve
		Logger:   slog.Default(),
	}
}

// Runner tries targets again and again. It is safe for concurrent use.
type Runner struct {
	cfg     Config
	changed chan struct{} // one slot
	wake    chan struct{} // one slot

	mu     sync.Mutex // guards what follows
	checks map[string]*running
	queue  queue
	counts counts
}

type counts struct {
	good, bad, late uint64
	transitions     uint64
}

// running is one check.
type running struct {
	spec   Spec
	addr   string // of its target
	prober Prober
	result Result
	due    time.Time
	place  int  // in the queue; -1 = a probe is under way
	gone   bool // it is wanted no more
}

// Open makes a Runner that has nothing to do.
func Open(cfg Config) (*Runner, error) {
	if cfg.Prober == nil || cfg.Parallel < 1 || cfg.Timeout <= 0 || cfg.Logger == nil {
		return nil, errors.New("check: Prober, Parallel, Timeout and Logger must be set")
	}
	return &Runner{cfg: cfg, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), checks: map[string]*running{}}, nil
}

// Set makes specs all that is checked. What is known of a target stays as long as its address, port and type stay. An error names a spec that
// makes no sense; then nothing was changed.
func (r *Runner) Set(specs []Spec) error {
	want := make(map[string]Spec, len(specs))
	for _, s := range specs {
		if err := s.check(); err != nil {
			return err
		}
		if other, twice := want[s.Key()]; twice && other != s {
			return fmt.Errorf("check %s is wanted in two ways", s.Key())
		}
		want[s.Key()] = s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	changed := false
	for key, c := range r.checks {
		s, stays := want[key]
		if stays && s.Type == c.spec.Type && s.Target == c.spec.Target {
			continue
		}
		c.gone, changed = true, true
		delete(r.checks, key)
		if c.place >= 0 {
			heap.Remove(&r.queue, c.place)
		}
	}
	for key, s := range want {
		c := r.checks[key]
		if c == nil {
			// The first is tried at some moment of the first interval, so that checks that begin together do not go on together.
			c = &running{spec: s, addr: s.Target.Addr.String(), prober: r.cfg.Prober(s.Type), result: Result{State: Unknown, Since: now}, due: now.Add(time.Duration(rand.Float64() * float64(s.Interval)))}
			r.checks[key] = c
			heap.Push(&r.queue, c)
			continue
		}
		if s.Interval < c.spec.Interval && c.place >= 0 {
			c.due = now.Add(time.Duration(rand.Float64() * float64(s.Interval)))
			heap.Fix(&r.queue, c.place)
		}
		c.spec = s
	}
	if changed {
		poke(r.changed)
	}
	poke(r.wake)
	return nil
}

// Changed is poked when a result changed in a way that a report tells. It has one slot: look at Checks after it.
func (r *Runner) Changed() <-chan struct{} { return r.changed }

// Results returns how all checks stand, by Spec.Key.
func (r *Runner) Results() map[string]Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]Result, len(r.checks))
	for key, c := range r.checks {
		out[key] = c.result
	}
	return out
}

// Checks returns what a report says: checks whose state is known.
func (r *Runner) Checks() map[string]report.Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]report.Check, len(r.checks))
	for key, c := range r.checks {
		x := c.result
		if x.State == Unknown {
			continue
		}
		out[key] = report.Check{State: report.CheckState(x.State), Bad: x.Bad, Since: x.Since.UnixMilli(), Interval: c.spec.Interval.Milliseconds(), Reason: x.Reason, Addr: c.addr}
	}
	return out
}

// Run makes checks until ctx ends, and returns when the last probe has ended. It can be called once at a time.
func (r *Runner) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	free := make(chan struct{}, r.cfg.Parallel)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c, wait := r.next()
		if c == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-r.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			r.again(c)
			return nil
		case free <- struct{}{}:
		}
		probes.Add(1)
		go func() {
			defer probes.Done()
			r.probe(ctx, c)
			<-free
		}()
	}
}

// next takes the check that is due, or says how long there is none.
func (r *Runner) next() (*running, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil, time.Hour
	}
	c := r.queue[0]
	if wait := time.Until(c.due); wait > 0 {
		return nil, wait
	}
	heap.Pop(&r.queue)
	return c, 0
}

// again puts a check back. It counts from when it was due, but never makes up for what was missed.
func (r *Runner) again(c *running) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return
	}
	now := time.Now()
	step := time.Duration((0.9 + 0.2*rand.Float64()) * float64(c.spec.Interval))
	c.due = c.due.Add(step)
	if c.due.Before(now) {
		if now.Sub(c.due) > c.spec.Interval/2 {
			r.counts.late++
		}
		c.due = now
	}
	heap.Push(&r.queue, c)
	if c.place == 0 {
		poke(r.wake)
	}
}

func (r *Runner) probe(ctx context.Context, c *running) {
	r.mu.Lock()
	spec := c.spec
	r.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, min(spec.Interval, r.cfg.Timeout))
	began := time.Now()
	err := try(limit, c.prober, spec.Target)
	cancel()
	if ctx.Err() == nil { // else it says nothing of the target
		r.took(c, err, time.Since(began))
	}
	r.again(c)
}

// try makes a panic of a prober a bad answer of its target.
func try(ctx context.Context, p Prober, t Target) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("the check itself broke: %v", x)
		}
	}()
	return p.Probe(ctx, t)
}

// took enters an answer.
func (r *Runner) took(c *running, err error, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return
	}
	was, now := c.result, time.Now()
	c.result = was.next(c.spec, err, now, latency)
	is := c.result
	if err == nil || isRemark(err) {
		r.counts.good++
	} else {
		r.counts.bad++
	}
	if is.State != was.State {
		r.counts.transitions++
		level := slog.LevelInfo
		if is.State == Down {
			level = slog.LevelWarn
		}
		r.cfg.Logger.Log(context.Background(), level, "check changed", "check", c.spec.Key(), "addr", c.spec.Target.hostPort(), "type", c.spec.Type,
			"was", string(was.State), "is", string(is.State), "reason", is.Reason)
	}
	if is.State != was.State || is.Bad != was.Bad || is.Reason != was.Reason {
		poke(r.changed)
	}
}

func isRemark(err error) bool {
	var r Remark
	return errors.As(err, &r)
}

// next is what follows from an answer. The first good answer makes an unknown one up: it has its clients already.
func (x Result) next(s Spec, err error, now time.Time, latency time.Duration) Result {
	x.Last, x.Latency = now, latency
	to := x.State
	if err == nil || isRemark(err) {
		x.Good, x.Bad = min(x.Good+1, s.Rise), 0
		if x.State == Unknown || x.State == Down && x.Good >= s.Rise {
			to = Up
		}
		if to == Up {
			x.Reason = ""
			if err != nil {
				x.Reason = err.Error()
			}
		}
	} else {
		x.Good, x.Bad = 0, min(x.Bad+1, s.Fall)
		if x.Bad >= s.Fall {
			to = Down
		}
		if text := err.Error(); text != x.Reason && (x.State != Down || now.Sub(x.said) >= reasonStays) {
			x.Reason, x.said = text, now
		}
	}
	if to != x.State {
		x.State, x.Since = to, now
	}
	return x
}

// Close forgets all checks. It is idempotent.
func (r *Runner) Close() error { return r.Set(nil) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// queue has the checks that wait, by when they are due.
type queue []*running

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	c := x.(*running)
	c.place = len(*q)
	*q = append(*q, c)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	c.place = -1
	return c
}
