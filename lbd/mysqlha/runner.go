package mysqlha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoVM is returned by World.DestroyVM for a host that runs in no machine of ours.
var ErrNoVM = errors.New("the host runs in no virtual machine of the mesh")

// World is where the runner's effects are. Its methods are safe for concurrent use; what it returns is kept by it, and not closed by the runner.
type World interface {
	// Server is the server of a member, by SQL; Local the agent on its host.
	Server(m Member) Server
	Local(m Member) Local
	// DestroyVM ends the virtual machine of a host at once, by the agent of its box, and returns when it is gone: ErrNoVM, ErrSilent.
	DestroyVM(ctx context.Context, host string, o Order) error
}

// Clock is the wall clock.
type Clock interface{ Now() time.Time }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// RunnerConfig is what a Runner needs.
type RunnerConfig struct {
	Tag   string
	World World
	// Records write under the grant. Fence is its number; Valid tells whether it still is, and is asked before each effect.
	Records Records
	Fence   uint64
	Valid   func() bool
	Clock   Clock // nil = the real one
	Logger  *slog.Logger
	// Wrote is called with each record that was written or read; nil = nobody.
	Wrote func(r Record)
}

// Runner carries acts out. Each step of a change is in the record before it is carried out, so that a runner that is ended anywhere is followed by one that goes
// on. It never acts when its grant has ended. Its methods are called by one goroutine at a time.
type Runner struct {
	cfg   RunnerConfig
	log   *slog.Logger
	clock Clock

	rec     Record
	version uint64
	loaded  bool
	// applies is how far the one has come that was chosen; poor are, by host, until when others come before one that was chosen and could not do it.
	applies applying
	poor    map[string]time.Time
	// told are, by host, whom it was told to follow and to acknowledge last.
	told map[string]string

	wg  sync.WaitGroup // what goes on beside the steps: fences, addresses
	seq atomic.Uint64  // of the last order

	mu        sync.Mutex // guards the fields below
	fenced    map[uint64]string
	epoch     uint64 // of the record, as it was last read or written
	following map[*following]bool
	lends     map[string]string // of whom copies are made, and for whom
	events    []Event           // for the record's history
}

// Bounds of single effects. A server that is asked and silent must not hold the others up.
const (
	lookBound    = 400 * time.Millisecond
	cutBound     = 400 * time.Millisecond
	stopBound    = 3 * time.Second // STOP SLAVE IO_THREAD waits up to 2 s for a source that is silent
	fenceBound   = 5 * time.Second
	fenceWait    = 1500 * time.Millisecond // for the fence, when a replica could not be cut
	addressBound = 5 * time.Second
	addressWait  = 300 * time.Millisecond // for the address, before a change ends without it
	openBound    = 3 * time.Second
	ackerBound   = 3 * time.Second
	planBound    = 5 * time.Second // of a step of a planned change
	applyBound   = 10 * time.Minute
	applyLook    = time.Second      // between two looks whether it still applies
	applyStill   = 10 * time.Second // that it has applied nothing, before another is chosen that has as much
	poorFor      = time.Minute      // that others come before one that was chosen and could not do it
	stayFor      = 5 * time.Second  // with a failover that takes long, before whoever watches looks at all again
	storeBound   = 5 * time.Second
	retryFor     = 3 * time.Second // a step of a failover, before another is chosen
	retryPause   = 50 * time.Millisecond
	stopPause    = 2 * time.Second // between tries of a change that has stopped
)

// NewRunner makes one.
func NewRunner(cfg RunnerConfig) *Runner {
	r := &Runner{cfg: cfg, log: cfg.Logger, clock: cfg.Clock, fenced: map[uint64]string{}, lends: map[string]string{}, following: map[*following]bool{}, told: map[string]string{}, poor: map[string]time.Time{}}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.clock == nil {
		r.clock = wallClock{}
	}
	r.log = r.log.With("tag", cfg.Tag)
	return r
}

// Close waits for what goes on beside the steps; their bounds are short.
func (r *Runner) Close() { r.wg.Wait() }

// ok tells why nothing may be done any more.
func (r *Runner) ok(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrOvertaken, context.Cause(ctx))
	}
	if !r.cfg.Valid() {
		return fmt.Errorf("%w: the grant has ended", ErrOvertaken)
	}
	return nil
}

// Load reads the record.
func (r *Runner) Load(ctx context.Context) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	rec, version, err := r.cfg.Records.Load(ctx, r.cfg.Tag)
	if err != nil {
		r.loaded = false
		return Record{}, err
	}
	if err := rec.Check(); err != nil {
		return Record{}, err
	}
	r.rec, r.version, r.loaded = rec, version, true
	r.tell()
	return rec, nil
}

func (r *Runner) tell() {
	r.mu.Lock()
	r.epoch = r.rec.Epoch
	for f := range r.following {
		f.endBefore(r.epoch)
	}
	r.mu.Unlock()
	if r.cfg.Wrote != nil {
		r.cfg.Wrote(r.rec.Clone())
	}
}

// store writes the record as edit changes it. When it has changed meanwhile, ErrChanged is returned and it must be loaded again.
func (r *Runner) store(ctx context.Context, edit func(rec *Record)) error {
	if err := r.ok(ctx); err != nil {
		return err
	}
	if !r.loaded {
		if _, err := r.Load(ctx); err != nil {
			return err
		}
	}
	rec := r.rec.Clone()
	edit(&rec)
	slices.Sort(rec.Ackers)
	rec.Ackers = slices.Compact(rec.Ackers)
	for host := range rec.Starts {
		if !slices.Contains(rec.Ackers, host) {
			delete(rec.Starts, host)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storeBound)
	defer cancel()
	version, err := r.cfg.Records.Store(ctx, r.cfg.Tag, rec, r.version)
	if err != nil {
		r.loaded = false // whether it was written is unknown
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	r.rec, r.version = rec, version
	r.tell()
	return nil
}

// unchanged reads the record again, where a while has gone by since it was: ErrChanged if somebody has written it. A node that stood still, and so takes its grant for valid, would else tell servers,
// which know no epochs, what was decided before another decided.
func (r *Runner) unchanged(ctx context.Context) error {
	version, loaded := r.version, r.loaded
	if _, err := r.Load(ctx); err != nil {
		return err
	}
	if !loaded || r.version != version {
		r.loaded = false
		return ErrChanged
	}
	return nil
}

// following is what takes long beside the steps, and follows the primary of an epoch.
type following struct {
	epoch  uint64
	cancel context.CancelCauseFunc
}

func (f *following) endBefore(epoch uint64) {
	if f.epoch < epoch {
		f.cancel(fmt.Errorf("%w: epoch %d is over; it begins anew where it is needed still", ErrOvertaken, f.epoch))
	}
}

// during is a context for what follows the primary of an order's epoch: it ends with that, for it would wait for a server that may be gone, or speak to one about which another act decides
// by now. end is called when it is done.
func (r *Runner) during(ctx context.Context, o Order) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &following{o.Epoch, cancel}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.following[f] = true
	f.endBefore(r.epoch)
	return ctx, func() {
		r.mu.Lock()
		delete(r.following, f)
		r.mu.Unlock()
		cancel(nil)
	}
}

// order is under what hosts are told something.
func (r *Runner) order() Order {
	return Order{Tag: r.cfg.Tag, Epoch: r.rec.Epoch, Fence: r.cfg.Fence, Seq: r.seq.Add(1)}
}

// bounded runs one effect, if it may be.
func (r *Runner) bounded(ctx context.Context, limit time.Duration, f func(ctx context.Context) error) error {
	if err := r.ok(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// seen is the latest order that hosts have seen of a cluster: a later record than the present one may have been lost, and they refuse what is earlier.
func (r *Runner) seen(ctx context.Context, c *Cluster) (latest Order) {
	var mu sync.Mutex
	each(everybody(c), func(m Member) {
		err := r.bounded(ctx, fenceWait, func(ctx context.Context) error {
			st, err := r.cfg.World.Local(m).State(ctx, c.Tag)
			mu.Lock()
			defer mu.Unlock()
			if o := (Order{Tag: c.Tag, Epoch: st.Epoch, Fence: st.Fence}); err == nil && latest.Before(o) {
				latest = o
			}
			return err
		})
		if err != nil {
			r.log.Warn("which epoch a host has seen is not known; it refuses orders if that is a later one", "host", m.Host, "err", err)
		}
	})
	return latest
}

// each does something with members in parallel, and waits for all.
func each(list []Member, f func(m Member)) {
	var wg sync.WaitGroup
	for _, m := range list {
		wg.Go(func() { f(m) })
	}
	wg.Wait()
}

// everybody are all hosts that the cluster has to do with, but for some.
func everybody(c *Cluster, but ...string) []Member {
	var out []Member
	for _, m := range slices.Concat(c.Members, c.Others) {
		if m.Unfit == "" && !slices.Contains(but, m.Host) {
			out = append(out, m)
		}
	}
	return out
}

// look asks servers at once, and has what was seen of them, and of all others, before go on.
func (r *Runner) look(ctx context.Context, list []Member, was *Observations) *Observations {
	o := &Observations{Servers: map[string]Sight{}, Busy: was.Busy, Rest: was.Rest, Lends: was.Lends, Mass: was.Mass}
	for h, s := range was.Servers {
		o.Servers[h] = s
	}
	var mu sync.Mutex
	each(list, func(m Member) {
		asked := time.Now()
		f, err := r.observe(ctx, m)
		mu.Lock()
		defer mu.Unlock()
		o.Servers[m.Host] = o.Servers[m.Host].see(asked, time.Now(), f, err)
	})
	o.Now, o.Wall = time.Now(), r.clock.Now()
	return o
}

func (r *Runner) observe(ctx context.Context, m Member) (f Facts, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	return r.cfg.World.Server(m).Observe(ctx)
}

// Begin begins a change of the primary: of i its Kind, Why, By, Forced and Spoilt, and To of a switchover; a failover chooses.
func (r *Runner) Begin(ctx context.Context, i Intent) error {
	now := r.clock.Now()
	return r.store(ctx, func(rec *Record) {
		rec.Epoch++
		i.Step, i.Old, i.Began = Steps(i.Kind)[0], rec.Primary, now
		rec.Intent = &i
		if i.By == "" {
			rec.LastFailover, rec.AckedBy = now, ""
		}
	})
}

// errLater is of a step that takes long, and is to be carried out again.
var errLater = errors.New("it takes long")

// Continue carries the change on that the record has, until it has ended, stopped, or cannot go on for now. o is what was seen last. It returns nil, and the record has the change still, where that takes long:
// whoever watches looks at all, does what a person asks for, and calls it again.
func (r *Runner) Continue(ctx context.Context, c *Cluster, o *Observations) error {
	failing, said, entered := time.Time{}, "", time.Now()
	for {
		i := r.rec.Intent
		if !r.loaded || i == nil {
			return nil
		}
		cc := *c
		cc.Record, cc.HasRecord = r.rec, true
		step, began := i.Step, time.Now()
		edit, err := r.carry(ctx, &cc, o)
		if err == nil {
			failing, said = time.Time{}, ""
			err = r.store(ctx, func(rec *Record) {
				next := after(i.Kind, step)
				if next != "" {
					rec.Intent.Step = next
				}
				r.mergeFence(rec)
				if edit != nil {
					edit(rec)
				}
			})
			if err != nil {
				return err
			}
			r.log.Info("a step of a change of the primary is done", "kind", i.Kind, "step", step, "epoch", r.rec.Epoch, "old", i.Old, "to", i.To, "took", time.Since(began).Round(time.Millisecond).String())
			continue
		}
		if errors.Is(err, errLater) {
			return nil
		}
		var stop stopped
		stays := errors.As(err, &stop) && i.Stopped == stop.why // it was said when it stopped
		r.log.Log(ctx, again(stays || said == err.Error(), slog.LevelWarn), "a step of a change of the primary did not succeed", "kind", i.Kind, "step", step, "epoch", r.rec.Epoch, "old", i.Old, "to", i.To, "err", err)
		said = err.Error()
		if errors.Is(err, ErrOvertaken) || errors.Is(err, ErrChanged) || r.ok(ctx) != nil {
			r.loaded = false
			return err
		}
		if stop.why != "" {
			if i.Stopped != stop.why {
				if err := r.store(ctx, func(rec *Record) { r.mergeFence(rec); rec.Intent.Stopped = stop.why }); err != nil {
					return err
				}
				r.log.Error("a change of the primary has stopped: a person has to decide", "kind", i.Kind, "step", step, "epoch", r.rec.Epoch, "reason", stop.why)
			}
			return err
		}
		if failing.IsZero() {
			failing = began
		}
		var final permanent
		if time.Since(failing) < retryFor && (i.Kind == Failover || i.Step == StepWithdraw) && !errors.As(err, &final) {
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
			if err := r.unchanged(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.giveUp(ctx, &cc, o, err); err != nil {
			return err
		}
		if failing = (time.Time{}); r.rec.Intent.Kind == Failover && time.Since(entered) > stayFor {
			return nil
		}
	}
}

// again is the level of a line, which is a detail where it was said before.
func again(said bool, level slog.Level) slog.Level {
	if said {
		return slog.LevelDebug
	}
	return level
}

// stopped is an error that a person has to decide about, permanent one that trying again does not mend.
type (
	stopped   struct{ why string }
	permanent struct{ error }
)

func (s stopped) Error() string   { return "stopped: " + s.why }
func (p permanent) Unwrap() error { return p.error }

// giveUp is what follows when a step cannot be done: a planned change is taken back, a failover chooses again, also one that was to be taken back. Once the new primary may have taken writes neither
// can be: whoever looks at the cluster finds what it has, and begins a new change.
func (r *Runner) giveUp(ctx context.Context, c *Cluster, o *Observations, cause error) error {
	i := r.rec.Intent
	old, known := c.Known(i.Old)
	if !known {
		old = Member{Host: i.Old}
	}
	switch {
	case i.Step == StepOpen:
		return cause
	case i.Kind == Switchover && i.Step != StepWithdraw:
		return r.store(ctx, func(rec *Record) {
			rec.Epoch++ // orders of the change are refused from now on
			rec.Intent.Step, rec.Intent.Why = StepWithdraw, fmt.Sprintf("step %s: %v", i.Step, cause)
		})
	case i.Kind == Failover && i.Step == StepWithdraw && !r.vain(ctx, c, o, old):
		return cause
	case i.Kind == Failover && i.Step != StepWithdraw && stepIndex(Failover, i.Step) <= stepIndex(Failover, StepChoose):
		return cause
	}
	if i.Kind == Failover && i.To != "" {
		if rest := time.Now().Add(poorFor); rest.After(r.poor[i.To]) {
			r.poor[i.To] = rest
		}
	}
	// The one that was chosen is gone, or a change cannot be taken back, because the old primary is. Nobody else has taken writes.
	return r.store(ctx, func(rec *Record) { rec.beginAnew(cause.Error()) })
}

// beginAnew has a failover begin anew, in another epoch.
func (r *Record) beginAnew(cause string) {
	i := r.Intent
	r.Epoch++
	r.Intent = &Intent{Kind: Failover, Step: StepDepose, Old: i.Old, Began: i.Began, By: i.By, Forced: i.Forced, Spoilt: i.Spoilt, FenceConfirmed: i.FenceConfirmed,
		Why: fmt.Sprintf("%s; at step %s to %s: %s", i.Why, i.Step, cmp.Or(i.To, i.Old), cause)}
	if i.Kind == Failover && i.Step != StepWithdraw { // what was found out at the gate holds: the old primary has nobody since who acknowledges
		r.Intent.Position, r.Intent.Loss, r.Intent.Cut = i.Position, i.Loss, i.Cut
	}
}

// carry carries the record's step out, and returns what the record is to say after it, beside the next step.
func (r *Runner) carry(ctx context.Context, c *Cluster, o *Observations) (func(*Record), error) {
	if err := r.ok(ctx); err != nil {
		return nil, err
	}
	i := c.Record.Intent
	old, oldKnown := c.Known(i.Old)
	to, toKnown := c.Known(i.To)
	if i.To != "" && !toKnown {
		return nil, permanent{fmt.Errorf("%s is no member any more", i.To)}
	}
	if !oldKnown {
		old = Member{Host: i.Old}
	}
	switch i.Step {
	case StepDepose:
		return r.depose(ctx, c, o, old)
	case StepChoose:
		return r.choose(ctx, c, o, old)
	case StepCheck:
		return nil, r.checkPlanned(ctx, c, o, old, to)
	case StepRefuse:
		return r.refuse(ctx, o, old)
	case StepCatchUp:
		return nil, r.catchUp(ctx, to, i.Position)
	case StepAddress:
		r.address(ctx, o, old, to)
		return nil, nil
	case StepApply:
		return nil, r.apply(ctx, c, o, to, i.Position)
	case StepPromote:
		if i.Kind == Switchover {
			if err := r.untouched(ctx, old, i.Position); err != nil {
				return nil, err
			}
		}
		return nil, r.promote(ctx, c, to)
	case StepRepoint:
		return r.repoint(ctx, c, o, old, to)
	case StepOpen:
		return r.open(ctx, c, to)
	case StepWithdraw:
		return r.withdraw(ctx, c, o, old)
	}
	return nil, permanent{fmt.Errorf("step %q is not known", i.Step)}
}

// asking is for how long an agent is asked that an old primary's may be gone: then not for as long as one that is there.
func asking(o *Observations, m Member, limit time.Duration) time.Duration {
	if !o.Servers[m.Host].Agent {
		return lookBound
	}
	return limit
}

// wanted reports whether a primary is to wait for acknowledgements, when this many may come.
func wanted(c *Cluster, ackers int) bool { return c.Strict() || ackers > 0 }
