package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/hostdb/section"
)

// Agent is what is known of the agent on a host, and what it says of its server.
type Agent struct {
	Alive, Reported bool
	Process         Process
	Since           time.Time // by the host's clock
	Seen            time.Time // when this was heard of, by ours
	VIP             string
	DiskFull        string
	// Copy says that its data are a copy that nobody has found right, and of whom; Differs what differs; Lends that a copy is made of it.
	Copy, Differs string
	Lends         bool
	Epoch         uint64 // of the latest order that it has seen
}

// Scene is what HostDB and the mesh say of a cluster. It is read only.
type Scene struct {
	MySQL   section.MySQL
	Members []Member // by host
	// Known are other hosts, by key, for those that are members no more.
	Known  map[string]Member
	Agents map[string]Agent
	Mass   bool
}

// WatchConfig is what a Watch needs.
type WatchConfig struct {
	Tag     string
	World   World
	Records Records // under the grant
	Fence   uint64
	Valid   func() bool
	// Scene is asked before each decision; it must be quick. Poke tells of changes: Watch.Poke.
	Scene func() Scene
	// Observe: nothing is touched, and what would be done is told.
	Observe bool
	Times   Times // zero = the defaults
	Clock   Clock // nil = the real one
	Logger  *slog.Logger
}

// Watch watches over one cluster under one grant: it observes, decides and acts, until its context or its grant ends.
type Watch struct {
	cfg     WatchConfig
	log     *slog.Logger
	clock   Clock
	monitor *monitor
	runner  *Runner
	poke    chan struct{}
	orders  chan order
	picture atomic.Pointer[Picture]
	record  atomic.Pointer[Record] // as last read or written
	run     context.Context        // of Run; set before anything else is done
	counts  counts

	suspected time.Time // since when the primary is; Run's own, as the next three
	probed    time.Time
	away      map[string]time.Time // since when the agent of a host is
	strangers time.Time            // since when more acknowledge than are known

	ended chan struct{}  // closed when Run has
	wg    sync.WaitGroup // of what takes long

	mu     sync.Mutex // guards the fields below
	busy   map[string]string
	rest   map[string]time.Time
	tries  map[string]int
	last   map[string]Act  // of a host
	spoilt map[string]bool // hosts whose last start has ended in ErrUnrecoverable
	tasks  []*Task
	story  []Line
	recErr string
	tail   string               // of story, to say a thing once
	said   map[string]time.Time // when what fails again and again was last said
	// acted is when the last act ended: what was seen before says nothing of how things are now. Zero = all was seen since.
	acted time.Time
}

// order is what a person asked for; it is done between two decisions.
type order struct {
	do   func(ctx context.Context, c *Cluster, o *Observations) error
	done chan error
}

// Picture is how a cluster stands. It is read only.
type Picture struct {
	At           time.Time // by the wall clock
	Cluster      Cluster
	Observations Observations
	Diagnoses    []Diagnosis
	Action       Action
	Fence        uint64
	Observe      bool
	Tasks        []Task
	Story        []Line
}

// Line is one thing that was decided, when, and why.
type Line struct {
	At        time.Time `json:"at"`
	Diagnosis Diagnosis `json:"diagnosis"`
	Action    Action    `json:"action"`
	Error     string    `json:"error,omitempty"`
}

// Task is something that takes, or took, long.
type Task struct {
	What, Host string
	Progress   CloneProgress
	Began      time.Time
	Took       time.Duration
	Done       bool
	Error      string
}

// How much is kept for people, and how often what is tried in vain is said.
const (
	sayAgain    = 10 * time.Minute
	storyLength = 100
	tasksLength = 20
)

// NewWatch makes one. It touches nothing before Run.
func NewWatch(cfg WatchConfig) *Watch {
	w := &Watch{
		cfg: cfg, log: cfg.Logger, clock: cfg.Clock, poke: make(chan struct{}, 1), orders: make(chan order), ended: make(chan struct{}),
		busy: map[string]string{}, rest: map[string]time.Time{}, tries: map[string]int{}, last: map[string]Act{}, spoilt: map[string]bool{}, said: map[string]time.Time{}, away: map[string]time.Time{},
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	if w.clock == nil {
		w.clock = wallClock{}
	}
	if w.cfg.Times == (Times{}) {
		w.cfg.Times = DefaultTimes()
	}
	w.log = w.log.With("tag", cfg.Tag)
	w.runner = NewRunner(RunnerConfig{Tag: cfg.Tag, World: cfg.World, Records: cfg.Records, Fence: cfg.Fence, Valid: cfg.Valid, Clock: cfg.Clock, Logger: cfg.Logger, Wrote: func(r Record) { w.record.Store(&r) }})
	w.monitor = newMonitor(cfg.World, w.cfg.Times, w.Poke)
	return w
}

// Poke has it look at once: what the scene says has changed.
func (w *Watch) Poke() { fill(w.poke) }

// Picture is how the cluster stood when it was last decided about; nil = never yet.
func (w *Watch) Picture() *Picture { return w.picture.Load() }

// Run watches until ctx ends. It returns when nothing is done any more.
func (w *Watch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		close(w.ended)
		w.monitor.close()
		w.wg.Wait()
		w.runner.Close()
	}()
	w.run = ctx
	var read time.Time
	timer := time.NewTicker(w.cfg.Times.Observe)
	defer timer.Stop()
	for {
		// One that changed under the runner is read at once, one that could not be read as rarely as ever.
		if !w.runner.loaded && w.unread() == "" || time.Since(read) >= w.cfg.Times.Record {
			w.read(ctx)
			read = time.Now()
		}
		w.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		asked := func(o order) {
			if !w.runner.loaded {
				w.read(ctx)
			}
			c, obs := w.look()
			err := o.do(ctx, c, obs)
			w.refresh(ctx)
			o.done <- err
			read = time.Time{}
		}
		select {
		case o := <-w.orders: // before the next act, where one follows another
			asked(o)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.poke:
		case <-timer.C:
		case o := <-w.orders:
			asked(o)
		}
	}
}

// read reads the record.
func (w *Watch) read(ctx context.Context) {
	_, err := w.runner.Load(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.recErr = ""
	case errors.Is(err, ErrNoRecord):
		w.recErr = noRecord
	default:
		w.recErr = err.Error()
	}
}

// unread is why the record could not be read the last time; "" = it was.
func (w *Watch) unread() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recErr
}

// noRecord marks that the record was read, and is not there.
const noRecord = "-"

// look gathers what a decision rests on.
func (w *Watch) look() (*Cluster, *Observations) {
	scene := w.cfg.Scene()
	c := &Cluster{Tag: w.cfg.Tag, MySQL: scene.MySQL, Members: scene.Members}
	if w.runner.loaded {
		c.Record, c.HasRecord = w.runner.rec.Clone(), true
	}
	w.mu.Lock()
	if w.recErr != "" && w.recErr != noRecord {
		c.RecordError = w.recErr
	} else if w.recErr == "" && !w.runner.loaded {
		c.RecordError = "it was not read yet"
	}
	o := &Observations{Mass: scene.Mass, Busy: maps.Clone(w.busy), Rest: maps.Clone(w.rest), Lends: w.runner.lending()}
	spoilt := maps.Clone(w.spoilt)
	w.mu.Unlock()
	for _, host := range related(c.Record) {
		if _, ok := c.Known(host); ok {
			continue
		}
		m, ok := scene.Known[host]
		if !ok {
			m = Member{Host: host, Unfit: notInHostDB}
		}
		i, _ := slices.BinarySearchFunc(c.Others, host, func(m Member, h string) int { return strings.Compare(m.Host, h) })
		c.Others = slices.Insert(c.Others, i, m)
	}
	c.Members = slices.Clone(c.Members)
	c.distinct()
	o.Servers = w.monitor.seen()
	for host, a := range scene.Agents {
		s := o.Servers[host]
		s.Agent, s.Reported, s.Process, s.ProcessSince, s.ProcessSeen, s.VIP, s.DiskFull, s.Epoch = a.Alive, a.Reported, a.Process, a.Since, a.Seen, a.VIP, a.DiskFull, a.Epoch
		s.Copy, s.Differs, s.Lends = a.Copy, a.Differs, a.Lends
		s.Unrecoverable = spoilt[host] && s.down()
		o.Servers[host] = s
	}
	o.Now, o.Wall = time.Now(), w.clock.Now()
	w.miss(c, o)
	w.strange(c, o)
	return c, o
}

// miss notes since when agents are away.
func (w *Watch) miss(c *Cluster, o *Observations) {
	away := map[string]time.Time{}
	for _, m := range slices.Concat(c.Members, c.Others) {
		s := o.Servers[m.Host]
		if s.Agent {
			continue
		}
		if s.AgentGone = w.away[m.Host]; s.AgentGone.IsZero() {
			s.AgentGone = o.Now
		}
		away[m.Host], o.Servers[m.Host] = s.AgentGone, s
	}
	w.away = away
}

// related are the hosts that a record has to do with.
func related(r Record) []string {
	out := slices.Concat(r.Ackers, r.Shut, slices.Collect(maps.Keys(r.Fenced)))
	if r.Primary != "" {
		out = append(out, r.Primary)
	}
	if i := r.Intent; i != nil {
		out = append(out, i.Old)
		if i.To != "" {
			out = append(out, i.To)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// step decides once, and does what follows.
func (w *Watch) step(ctx context.Context) {
	if w.stale() {
		return
	}
	c, o := w.look()
	w.monitor.watch(ctx, everybody(c), c.Record.Primary)
	list := Diagnose(c, o)
	a := Next(c, o, list)
	w.note(list[0], a, "")
	w.show(c, o, list, a)
	if w.cfg.Observe || a.Act == ActNone || a.Act == ActPage {
		if err := w.doubt(ctx, c, o); err != nil {
			w.log.Debug("that nobody is known to have all is not written yet", "err", err)
		}
		if !w.cfg.Observe && c.HasRecord && c.Record.Intent == nil && a.Act == ActNone {
			if err := w.runner.history(ctx); err != nil {
				w.log.Debug("history is not written yet", "err", err)
			}
		}
		return
	}
	if a.Act == ActProbe {
		w.probe()
		return
	}
	w.suspected = time.Time{}
	if err := w.doubt(ctx, c, o); err != nil {
		w.log.Debug("that nobody is known to have all is not written yet", "err", err)
	}
	if a.Long() {
		w.long(ctx, c, a)
		return
	}
	w.did(a, w.runner.Do(ctx, c, o, a, ""))
}

// doubt writes that no replica is known to have all, once the primary tells clients of what nobody has acknowledged: after its next start it would look like one that never did. It is found out anew when
// it waits again.
func (w *Watch) doubt(ctx context.Context, c *Cluster, o *Observations) error {
	p := o.Servers[c.Record.Primary]
	if w.cfg.Observe || !c.HasRecord || c.Record.Intent != nil || len(c.Record.Starts) == 0 || !p.answers(o.Now) || asynchronous(c.Record.Primary, p, o.Now) == "" {
		return nil
	}
	return w.runner.store(ctx, func(rec *Record) { rec.Starts = nil })
}

// How eagerly all are asked again while the primary is suspected: that soon ends in one or the other, or lasts.
const (
	probeGap = 20 * time.Millisecond
	probeFor = 2 * time.Second
)

// probe has all asked again at once. When that did not settle it, they are asked as often as ever.
func (w *Watch) probe() {
	now := time.Now()
	if w.suspected.IsZero() {
		w.suspected = now
	}
	if now.Sub(w.suspected) < probeFor && now.Sub(w.probed) >= probeGap {
		w.probed = now
		w.monitor.probe()
	}
}

// stale reports whether an act has ended, and servers that answer were not asked since. It does not wait long for them.
func (w *Watch) stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.acted.IsZero() {
		return false
	}
	if time.Since(w.acted) < w.cfg.Times.ObserveTimeout {
		for _, s := range w.monitor.seen() {
			if s.Known && s.Cause == "" && s.Asked.Before(w.acted) {
				return true
			}
		}
	}
	w.acted = time.Time{}
	return false
}

// did takes note of how an act ended: what failed is left alone for a while, longer each time.
func (w *Watch) did(a Action, err error) {
	w.counts.acts.Add(1)
	defer w.monitor.probe()
	key := a.Host
	switch a.Act {
	case ActContinue, ActFailover:
		key = restIntent
	case ActSwitchover:
		key = restSwitchover // the primary itself is seen to meanwhile
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acted = time.Now()
	if err == nil && key != restIntent && w.last[key] == a.Act {
		// It went well, and had to be done again: others come first, the longer the oftener it was.
		w.tries[key]++
		w.rest[key] = time.Now().Add(min(100*time.Millisecond<<min(w.tries[key], 10), 10*time.Second))
		return
	}
	w.last[key] = a.Act
	if err == nil {
		delete(w.tries, key)
		delete(w.rest, key)
		if a.Act == ActAddress {
			w.rest[restAddress] = time.Now().Add(stopPause)
		}
		return
	}
	w.counts.failed.Add(1)
	pause := stopPause
	if errors.Is(err, ErrBusy) {
		// It is no fault of its own: it is tried as soon as that is over.
	} else if key != restIntent {
		w.tries[key]++
		pause = min(500*time.Millisecond<<min(w.tries[key], 10), 5*time.Minute)
		if a.For == PrimaryReadOnly || a.For == AddressAway {
			pause = min(pause, 2*time.Second)
		}
	} else if errors.Is(err, ErrChanged) {
		pause = 0
	}
	w.rest[key] = time.Now().Add(pause)
	fresh := w.noteLocked(Diagnosis{Name: a.For, Host: a.Host}, a, err.Error())
	if fresh && !errors.Is(err, ErrOvertaken) {
		w.log.Warn("an act for a database cluster did not succeed", "act", a.Act, "host", a.Host, "for", a.For, "err", err, "again", pause.String())
	}
}

// long begins what takes long, beside everything else.
func (w *Watch) long(ctx context.Context, c *Cluster, a Action) {
	t := w.begin(string(a.Act), a.Host, a.Why)
	order := w.runner.order()
	w.wg.Go(func() { w.finish(t, a, w.runner.Effect(ctx, c, a, order, func(p CloneProgress) { w.progress(t, p) })) })
}

func (w *Watch) begin(what, host, why string) *Task {
	w.log.Info("something that takes long begins on a database server", "act", what, "host", host, "reason", why)
	t := &Task{What: what, Host: host, Began: w.clock.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[host] = what + " is under way: " + why
	w.tasks = append(w.tasks, t)
	if n := len(w.tasks); n > tasksLength {
		w.tasks = w.tasks[n-tasksLength:]
	}
	return t
}

func (w *Watch) progress(t *Task, p CloneProgress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Progress = p
}

func (w *Watch) finish(t *Task, a Action, err error) {
	w.mu.Lock()
	t.Done, t.Took = true, w.clock.Now().Sub(t.Began)
	if err != nil {
		t.Error = err.Error()
	}
	delete(w.busy, t.Host)
	w.spoilt[t.Host] = errors.Is(err, ErrUnrecoverable)
	w.mu.Unlock()
	w.did(a, err)
}

// note keeps what was decided, when it is something else than before.
func (w *Watch) note(d Diagnosis, a Action, err string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(d, a, err)
}

// noteLocked reports whether it was not said before. Ages and the like in a text make nothing new of it; nor does what is tried in vain again and again,
// for a while.
func (w *Watch) noteLocked(d Diagnosis, a Action, err string) bool {
	key := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, fmt.Sprint(d.Name, a.Act, a.Why, err)) + "\x00" + d.Host + "\x00" + a.Host
	if key == w.tail {
		return false
	}
	if err != "" || d.Name == IntentStopped {
		now := time.Now()
		if last, said := w.said[key]; said && now.Sub(last) < sayAgain {
			return false
		}
		if len(w.said) >= storyLength {
			clear(w.said)
		}
		w.said[key] = now
	}
	w.tail = key
	w.story = append(w.story, Line{At: w.clock.Now(), Diagnosis: d, Action: a, Error: err})
	if n := len(w.story); n > storyLength {
		w.story = slices.Delete(w.story, 0, n-storyLength)
	}
	if err == "" {
		level := slog.LevelInfo
		if a.Act == ActPage {
			level = slog.LevelError
		}
		w.log.Log(context.Background(), level, "database cluster", "diagnosis", d.Name, "host", d.Host, "text", d.Text, "act", a.Act, "on", a.Host, "why", a.Why, "observe", w.cfg.Observe)
	}
	return true
}

// refresh shows what an order did before whoever asked for it is told: what that looks at then is no older.
func (w *Watch) refresh(ctx context.Context) {
	for w.stale() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if !w.runner.loaded {
		return // it is read first
	}
	c, o := w.look()
	list := Diagnose(c, o)
	w.show(c, o, list, Next(c, o, list))
}

// show publishes how it stands.
func (w *Watch) show(c *Cluster, o *Observations, list []Diagnosis, a Action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &Picture{At: o.Wall, Cluster: *c, Observations: *o, Diagnoses: list, Action: a, Fence: w.cfg.Fence, Observe: w.cfg.Observe, Story: slices.Clone(w.story)}
	for _, t := range w.tasks {
		p.Tasks = append(p.Tasks, *t)
	}
	w.picture.Store(p)
}

// ask has the goroutine of Run do something between two decisions.
func (w *Watch) ask(ctx context.Context, do func(ctx context.Context, c *Cluster, o *Observations) error) error {
	o := order{do: do, done: make(chan error, 1)}
	select {
	case w.orders <- o:
	case <-w.ended:
		return ErrElsewhere
	case <-ctx.Done():
		return fmt.Errorf("the agent that watches over the cluster is busy with it, see hostmesh mysql status: %w", ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-w.ended:
		select {
		case err := <-o.done:
			return err
		default:
			return ErrElsewhere
		}
	case <-ctx.Done():
		return fmt.Errorf("it goes on in the background: %w", ctx.Err())
	}
}

type counts struct{ acts, failed atomic.Uint64 }

// related are the hosts that the record has to do with, as it was last read.
func (w *Watch) related() []string {
	if r := w.record.Load(); r != nil {
		return related(*r)
	}
	return nil
}
