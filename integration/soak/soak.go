package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/integration/wires"
	"hostmesh/node/api"
)

const (
	agents        = 5
	homesPerAgent = 3
	roamers       = 20
)

// soak is one run.
type soak struct {
	binary  string
	length  time.Duration
	seed    uint64
	rate    int
	only    string // names of faults; empty for all
	clocks  bool   // the binary can be given a wrong clock; one of an older release cannot
	dir     string // of everything it makes
	keyFile string
	start   time.Time
	agents  []*agent
	writers []*writer
	wires   wires.Net

	ackedN, refusedN, unknownN, idleN, unsent atomic.Int64
	made                                      atomic.Int64 // acknowledged writes of keys that are written once

	// moot are those of idle and refused that no fault is the reason of, but what stands there already, or does not. They
	// are made up for.
	moot atomic.Int64

	mu      sync.Mutex // guards the fields below, and the terminal
	under   []string   // faults that go on
	defects []string
	why     map[string]int // refusals, by what they say
	samples [agents][]sample
}

// clock is how far into the run it is.
func (s *soak) clock() time.Duration {
	if s.start.IsZero() {
		return 0
	}
	return time.Since(s.start)
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// say prints a line with its time.
func (s *soak) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked(format, args...)
}

func (s *soak) sayLocked(format string, args ...any) {
	at := s.clock().Truncate(time.Second)
	fmt.Printf("%02d:%02d:%02d %s\n", int(at.Hours()), int(at.Minutes())%60, int(at.Seconds())%60, fmt.Sprintf(format, args...))
}

// maxDefects is how many are told one by one.
const maxDefects = 40

// defect is what must not happen. The run goes on, and fails.
func (s *soak) defect(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defects = append(s.defects, fmt.Sprintf(format, args...))
	if len(s.defects) <= maxDefects {
		s.sayLocked("DEFECT: "+format, args...)
	}
}

func (s *soak) begun(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under = append(s.under, what)
	s.sayLocked("fault: %s", what)
}

func (s *soak) healed(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.under, what); i >= 0 {
		s.under = slices.Delete(s.under, i, i+1)
	}
	s.sayLocked("healed: %s", what)
}

// count adds up what became of a write.
func (s *soak) count(o outcome, err error) {
	switch o {
	case acked:
		s.ackedN.Add(1)
	case idle:
		s.idleN.Add(1)
	case refused:
		s.refusedN.Add(1)
	case unknown:
		s.unknownN.Add(1)
	}
	var answered *api.Error
	if o == idle || errors.As(err, &answered) && answered.Status < 500 {
		s.moot.Add(1)
	}
	if err == nil {
		return
	}
	reason := reasonOf(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why[reason]++
}

// long reports whether there is time for faults that last.
func (s *soak) long() bool { return s.length > 5*time.Minute }

// diskSize leaves room above the floor for what a run writes.
func (s *soak) diskSize() int64 {
	if s.length > 10*time.Minute {
		return 5 << 30
	}
	return 1 << 30
}

// inside makes the boxes, lets them run, and judges them.
func (s *soak) inside(ctx context.Context) (err error) {
	s.why = map[string]int{}
	s.keyFile = filepath.Join(s.dir, "mesh.key")
	help, err := wires.Output(exec.Command(s.binary, "agent", "--help"))
	if err != nil {
		return err
	}
	if s.clocks = strings.Contains(help, "--clock-offset"); !s.clocks {
		fmt.Println("this binary's agent has no --clock-offset: no clock is set wrong")
	}
	if err := os.Mkdir(s.logs(), 0o700); err != nil {
		return err
	}
	if err := wires.PrivateMounts(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for i := range agents {
		a, err := s.newAgent(i)
		if err != nil {
			return err
		}
		s.agents = append(s.agents, a)
		if err := errors.Join(a.disk.Mount(), a.setClock(0)); err != nil {
			return err
		}
	}
	for _, a := range s.agents {
		s.wires.Boxes = append(s.wires.Boxes, a.box)
	}
	if err := s.wires.Lay(); err != nil {
		return err
	}
	if err := s.agents[0].found(); err != nil {
		return err
	}

	// The agents are kept until the very end; what ends before has a context of its own.
	keepers, endKeepers := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	defer func() {
		endKeepers()
		kept.Wait()
	}()
	s.start = time.Now()
	fmt.Printf("five agents, %d writes/s for %s; again with -seed %d\n", s.rate, s.length, s.seed)
	for _, a := range s.agents {
		a.want(true)
		kept.Go(func() { a.keep(keepers) })
	}
	if err := s.allServe(ctx, time.Minute); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.say("all agents serve")
	if err := s.soak(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err := s.judge(ctx); err != nil {
		return err
	}
	s.table()
	if len(s.defects) > 0 {
		return fmt.Errorf("%d defects; again with -seed %d", len(s.defects), s.seed)
	}
	return nil
}

// close ends the agents and frees their disks. Everything else goes with the namespaces.
func (s *soak) close() error {
	var errs []error
	for _, a := range s.agents {
		a.want(false)
	}
	for _, a := range s.agents {
		a.http.CloseIdleConnections()
		errs = append(errs, a.api.Close(), a.disk.Unmount())
	}
	return errors.Join(errs...)
}

// allServe waits until every agent does.
func (s *soak) allServe(ctx context.Context, limit time.Duration) error {
	for _, a := range s.agents {
		if err := wires.Until(ctx, limit, 20*time.Millisecond, func() error { return a.serves(ctx) }); err != nil {
			return fmt.Errorf("%s does not serve: %w; its log ends with: %s", a.name, err, wires.LastLine(a.log()))
		}
	}
	return nil
}

// prepare makes the tags, and the writers.
func (s *soak) prepare(ctx context.Context) error {
	// An agent that has just come may want to know first how the clocks of the others go.
	create := func(a *agent, id string) error {
		return wires.Until(ctx, time.Minute, 200*time.Millisecond, func() error {
			_, err := a.api.Put(ctx, id, []byte("{}"), "before the run")
			return err
		})
	}
	id := 0
	for _, a := range s.agents {
		for range homesPerAgent {
			s.writers = append(s.writers, &writer{soak: s, id: id, home: a})
			id++
		}
	}
	for i := range roamers {
		s.writers = append(s.writers, &writer{soak: s, id: id, next: i})
		id++
	}
	for _, w := range s.writers {
		w.rng = rand.New(rand.NewPCG(s.seed, uint64(w.id)+1))
		if w.home == nil {
			continue
		}
		for t := range homeTags {
			if err := create(w.home, "tags/"+w.tag(t)); err != nil {
				return err
			}
		}
	}
	for t := range sharedTags {
		if err := create(s.agents[0], "tags/"+sharedTag(t)); err != nil {
			return err
		}
	}
	return nil
}

// soak writes and breaks things for as long as it was told, and ends with everything healed and all answers heard.
func (s *soak) soak(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	turns := make(chan struct{}, s.rate/4+1)
	var busy, watching sync.WaitGroup
	for _, w := range s.writers {
		busy.Go(func() { w.run(ctx, turns) })
	}
	busy.Go(func() { s.pace(ctx, turns) })
	sampling, endSampling := context.WithCancel(context.WithoutCancel(ctx))
	watching.Go(func() { s.sampling(sampling) })
	watching.Go(func() { s.progress(sampling) })
	n := &nemesis{soak: s, rng: rand.New(rand.NewPCG(s.seed, 0)), wires: s.wires, under: map[string]bool{}, victims: map[*agent]bool{}, done: map[string]int{}}
	err := n.run(ctx)
	<-ctx.Done()
	busy.Wait()
	endSampling()
	watching.Wait()
	var done []string
	for _, f := range n.faults() {
		done = append(done, fmt.Sprintf("%s %d", f.name, n.done[f.name]))
	}
	s.say("writers and faults are done: %s", strings.Join(done, ", "))
	return err
}

// pace gives turns to the writers: those that none of them takes in time are given up.
func (s *soak) pace(ctx context.Context, turns chan<- struct{}) {
	defer close(turns)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begin, given := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begin).Seconds()*float64(s.rate)) + int(s.moot.Load()); given < due; given++ {
			select {
			case turns <- struct{}{}:
			default:
				s.unsent.Add(1)
			}
		}
	}
}

func (s *soak) sampling(ctx context.Context) {
	for wires.Pause(ctx, min(3*time.Second, s.length/50)) {
		for i, a := range s.agents {
			if one, ok := a.measure(ctx); ok {
				s.mu.Lock()
				s.samples[i] = append(s.samples[i], one)
				s.mu.Unlock()
			}
		}
	}
}

func (s *soak) progress(ctx context.Context) {
	for wires.Pause(ctx, 10*time.Second) {
		s.mu.Lock()
		what := "all is well"
		if len(s.under) > 0 {
			what = strings.Join(s.under, "; ")
		}
		s.sayLocked("%s — %s", s.figures(), what)
		s.mu.Unlock()
	}
}

func (s *soak) figures() string {
	return fmt.Sprintf("acknowledged %d, nothing to change %d, refused %d, unknown %d, not sent %d",
		s.ackedN.Load(), s.idleN.Load(), s.refusedN.Load(), s.unknownN.Load(), s.unsent.Load())
}
