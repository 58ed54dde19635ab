package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/integration/dutybox"
	"hostmesh/integration/wires"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
)

// proof is one run.
type proof struct {
	length  time.Duration
	seed    uint64
	boxes   int
	only    string // names of faults; empty for all
	wrong   bool
	dir     string // of everything it makes
	self    string
	keyFile string
	start   time.Time
	zero    time.Duration // the same moment on dutybox.Now
	duties  []string
	all     []*box
	net     wires.Net
	book    *book
	keepers context.Context // boxes are kept until it ends

	mu      sync.Mutex // guards the fields below, and the terminal
	idle    bool       // nobody reads and writes any more
	under   []string   // faults that go on
	last    time.Duration
	defects []string
	kills   []kill
	moves   []handOver
	done    map[string]int
}

// kill is what a killed process held.
type kill struct {
	at     time.Duration // dutybox.Now
	held   map[string]uint64
	leader bool // the leader died with it, or it was the leader
	alone  bool // nothing else was broken, and a majority of the voters lived
}

// handOver is a planned move that was carried out.
type handOver struct {
	duty  string
	from  uint64
	alone bool
}

// times are those of the design, but that voters are replaced sooner, so that a run sees it.
func (p *proof) times() lease.Times {
	t := lease.DefaultTimes()
	t.Stable, t.Replace, t.Settle = 3*time.Second, 5*time.Second, 5*time.Second
	if p.wrong { // the leader gives away what its holder still has
		t.Session, t.Hold = t.Hold, 4*t.Session
	}
	return t
}

func (p *proof) load(box, start int) *dutybox.Load {
	return &dutybox.Load{
		Seed: p.seed + uint64(box)<<16 + uint64(start), Clients: 2, Keys: 3, Round: 20 * time.Second, Pause: 300 * time.Millisecond,
	}
}

// clock is how far into the run it is.
func (p *proof) clock() time.Duration {
	if p.start.IsZero() {
		return 0
	}
	return time.Since(p.start)
}

// say prints a line with its time.
func (p *proof) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sayLocked(format, args...)
}

func (p *proof) sayLocked(format string, args ...any) {
	at := p.clock().Truncate(time.Second)
	fmt.Printf("%02d:%02d:%02d %s\n", int(at.Hours()), int(at.Minutes())%60, int(at.Seconds())%60, fmt.Sprintf(format, args...))
}

// defect is what must not happen. The run goes on, and fails.
func (p *proof) defect(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defects = append(p.defects, fmt.Sprintf(format, args...))
	p.sayLocked("DEFECT: "+format, args...)
}

func (p *proof) begun(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under = append(p.under, what)
	p.sayLocked("fault: %s", what)
}

func (p *proof) healed(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.under, what); i >= 0 {
		p.under = slices.Delete(p.under, i, i+1)
	}
	p.last = dutybox.Now()
	p.sayLocked("healed: %s", what)
}

// quiet reports whether nothing is broken, nor was a moment ago.
func (p *proof) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.under) == 0 && dutybox.Now()-p.last > 3*time.Second
}

// long reports whether there is time for faults that last.
func (p *proof) long() bool { return p.length > 5*time.Minute }

// inside makes the boxes, breaks them, and judges what they did.
func (p *proof) inside(ctx context.Context) (err error) {
	p.book, p.done = newBook(), map[string]int{}
	if p.self, err = os.Executable(); err != nil {
		return err
	}
	for d := range 6 {
		p.duties = append(p.duties, fmt.Sprintf("duty%d", d))
	}
	p.keyFile = filepath.Join(p.dir, "mesh.key")
	key, err := mesh.NewKey()
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(p.keyFile, key.Text(), 0o600), os.Mkdir(wires.Logs(p.dir), 0o700), wires.PrivateMounts()); err != nil {
		return err
	}
	keepers, endKeepers := context.WithCancel(context.WithoutCancel(ctx))
	p.keepers = keepers
	var kept sync.WaitGroup
	defer func() {
		for _, b := range p.all {
			b.want(false)
		}
		endKeepers()
		kept.Wait()
		for _, b := range p.all {
			err = errors.Join(err, b.disk.Unmount())
		}
	}()
	for i := range p.boxes {
		b, err := p.newBox(i)
		if err != nil {
			return err
		}
		p.all = append(p.all, b)
		p.net.Boxes = append(p.net.Boxes, b.Box)
	}
	if err := p.net.Lay(); err != nil {
		return err
	}
	p.start, p.zero = time.Now(), dutybox.Now()
	fmt.Printf("%d processes, %d duties, for %s; again with -seed %d\n", p.boxes, len(p.duties), p.length, p.seed)
	for _, b := range p.all {
		b.want(true)
		kept.Go(func() { b.keep(keepers) })
	}
	if err := p.allHeld(ctx); err != nil {
		return err
	}
	if err := p.voting(ctx); err != nil {
		return err
	}
	p.say("every duty has a holder; voters: %s", p.votersText(ctx))
	if err := p.torment(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if !p.wrong {
		if err := p.allHeld(ctx); err != nil {
			p.defect("all is healed, but %v", err)
		} else if err := p.voting(ctx); err != nil {
			p.defect("all is healed, but %v", err)
		} else {
			p.say("all is healed: every duty has a holder; voters: %s", p.votersText(ctx))
		}
	}
	p.mu.Lock()
	p.idle = true
	p.mu.Unlock()
	for _, b := range p.all {
		_, _ = b.do(ctx, 5*time.Second, dutybox.Command{Idle: true})
	}
	wires.Pause(ctx, 5*time.Second) // longer than a call may take
	for _, b := range p.all {
		b.want(false) // all that they told is heard then
	}
	return p.judge()
}

// torment breaks things and moves duties for as long as it was told, or with wrong times until that is seen.
func (p *proof) torment(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.length)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { p.moving(ctx) })
	wg.Go(func() {
		for wires.Pause(ctx, 2*time.Second) {
			if len(p.judgeDuties()) > 0 && p.wrong {
				cancel()
			}
		}
	})
	faults, err := p.faults()
	if err != nil {
		return err
	}
	n := &nemesis{p: p, rng: rand.New(rand.NewPCG(p.seed, 1)), all: faults, victims: map[*box]bool{}}
	err = n.run(ctx)
	cancel()
	wg.Wait()
	return err
}

// moving moves duties to other nodes, as people do.
func (p *proof) moving(ctx context.Context) {
	rng := rand.New(rand.NewPCG(p.seed, 2))
	for wires.Pause(ctx, time.Duration(1000+rng.IntN(3000))*time.Millisecond) {
		duty, by, to := p.duties[rng.IntN(len(p.duties))], p.all[rng.IntN(len(p.all))], p.all[rng.IntN(len(p.all))]
		alone := p.quiet()
		from, held := p.book.holder(duty, 200*time.Millisecond)
		if !held || from.box == to.i {
			continue
		}
		to.mu.Lock()
		node := to.node
		to.mu.Unlock()
		if _, err := by.do(ctx, 3*time.Second, dutybox.Command{Move: &dutybox.Move{Duty: duty, Node: node}}); err == nil {
			p.mu.Lock()
			p.moves = append(p.moves, handOver{duty, from.fence, alone && len(p.under) == 0})
			p.mu.Unlock()
		}
	}
}

// recovery is how long what is healed has to become whole again; generous, as nothing rests on it.
const recovery = 3 * time.Minute

// allHeld waits until every duty has a holder that acts.
func (p *proof) allHeld(ctx context.Context) error {
	return wires.Until(ctx, recovery, 100*time.Millisecond, func() error {
		for _, d := range p.duties {
			if _, ok := p.book.holder(d, time.Second); !ok {
				return fmt.Errorf("%s has no holder", d)
			}
		}
		return nil
	})
}

// voters asks any process that answers.
func (p *proof) voters(ctx context.Context, limit time.Duration) (*lease.Voters, error) {
	err := errors.New("no process runs")
	for _, b := range p.all {
		var e dutybox.Event
		if e, err = b.do(ctx, limit, dutybox.Command{Voters: true}); err == nil {
			return e.Voters, nil
		}
	}
	return nil, err
}

// voting waits until the group is whole.
func (p *proof) voting(ctx context.Context) error {
	return wires.Until(ctx, recovery, 200*time.Millisecond, func() error { return p.whole(ctx, 3*time.Second) })
}

// whole asks once whether there are as many voters as there should be, all of nodes that are not gone for good.
func (p *proof) whole(ctx context.Context, limit time.Duration) error {
	want := 3
	if p.boxes >= 7 {
		want = 5
	}
	v, err := p.voters(ctx, limit)
	if err != nil {
		return fmt.Errorf("the voters are not told: %w", err)
	}
	n := 0
	for _, s := range v.Servers {
		if s.Voter {
			n++
		}
		if !slices.ContainsFunc(p.all, func(b *box) bool { return b.nodeID() == s.Node }) {
			return fmt.Errorf("a node that is gone is still of the group: %s", s.Node)
		}
	}
	if n != want {
		return fmt.Errorf("there are %d voters, not %d (next: %q)", n, want, v.Want)
	}
	return nil
}

func (b *box) nodeID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.node
}

func (p *proof) votersText(ctx context.Context) string {
	v, err := p.voters(ctx, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, s := range v.Servers {
		for _, b := range p.all {
			if b.nodeID() == s.Node && s.Voter {
				b.mu.Lock()
				out = append(out, b.who())
				b.mu.Unlock()
			}
		}
	}
	return strings.Join(out, " ")
}

// judgeDuties are the violations so far.
func (p *proof) judgeDuties() (violations []string) {
	for _, d := range p.duties {
		violations = append(violations, judgeTenures(p.book.byDuty(d))...)
	}
	return violations
}
