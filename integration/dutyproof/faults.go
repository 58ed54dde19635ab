package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"hostmesh/integration/dutybox"
	"hostmesh/integration/wires"
)

// fault is one way to break something. begin breaks it and says what it did; heal puts it right.
type fault struct {
	name  string
	begin func(ctx context.Context, n *nemesis) (what string, heal func() error, err error)
}

// nemesis breaks things, one or two at a time, and heals them.
type nemesis struct {
	p       *proof
	rng     *rand.Rand
	all     []fault
	deck    []fault // to be made before any is made again
	victims map[*box]bool
	cut     bool // the links are parted: one way at a time, lest healing one mends the other
}

// faults are those that were asked for.
func (p *proof) faults() ([]fault, error) {
	all := []fault{
		{"kill", killed}, {"kill-holder", killedHolder}, {"kill-leader", killedLeader}, {"kill-both", killedBoth},
		{"freeze", frozen}, {"freeze-holder", frozenHolder}, {"freeze-leader", frozenLeader},
		{"partition", partitioned}, {"cut-holder", cutHolder}, {"cut-leader", cutLeader}, {"one-way", muted}, {"slow", slowed},
		{"replace", replaced}, {"drain", drained}, {"clock", leapt}, {"disk", filled},
	}
	if p.only == "" {
		return all, nil
	}
	var out []fault
	for _, name := range strings.Split(p.only, ",") {
		i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
		if i < 0 {
			var names []string
			for _, f := range all {
				names = append(names, f.name)
			}
			return nil, fmt.Errorf("no fault is called %q: take some of %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// errNot says that a fault cannot be made now: another one is instead.
var errNot = errors.New("not now")

// any is a box that no other fault has; the caller takes it.
func (n *nemesis) any() *box {
	for {
		if b := n.p.all[n.rng.IntN(len(n.p.all))]; !n.victims[b] {
			return b
		}
	}
}

// holder is the box that holds a duty, by chance which; nil when no one is known to, or another fault has it.
func (n *nemesis) holder() *box {
	for _, d := range n.rng.Perm(len(n.p.duties)) {
		if t, ok := n.p.book.holder(n.p.duties[d], 300*time.Millisecond); ok && !n.victims[n.p.all[t.box]] {
			return n.p.all[t.box]
		}
	}
	return nil
}

// leader is the box that leads; nil when no one is known to, or another fault has it.
func (n *nemesis) leader() *box {
	for _, b := range n.p.all {
		if b.leads() && !n.victims[b] {
			return b
		}
	}
	return nil
}

// kill kills boxes at once, and notes what they held.
func (n *nemesis) kill(what string, boxes ...*box) (string, func() error, error) {
	for _, b := range boxes {
		if b == nil {
			return "", nil, errNot
		}
	}
	k := kill{at: dutybox.Now(), held: map[string]uint64{}, alone: n.p.quiet()}
	var names []string
	serving := 0
	for _, b := range boxes {
		n.victims[b] = true
		names = append(names, b.Name)
		k.leader = k.leader || b.leads()
		serving += b.serves()
		for _, d := range n.p.duties {
			if t, ok := n.p.book.holder(d, 300*time.Millisecond); ok && n.p.all[t.box] == b {
				k.held[d] = t.fence
			}
		}
	}
	for _, b := range boxes {
		if proc := b.process(); proc != nil {
			b.mu.Lock()
			b.wanted = false
			b.mu.Unlock()
			proc.Signal(syscall.SIGKILL)
		}
	}
	for _, b := range boxes {
		b.want(false)
	}
	k.alone = k.alone && (serving < 2 || len(n.p.all) >= 7) // two of three voters are the majority
	n.p.mu.Lock()
	n.p.kills = append(n.p.kills, k)
	n.p.mu.Unlock()
	return fmt.Sprintf("kill -9 of %s: %s", what, strings.Join(names, " ")), func() error {
		for _, b := range boxes {
			b.want(true)
			delete(n.victims, b)
		}
		return nil
	}, nil
}

func killed(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.kill("any", n.any())
}

func killedHolder(_ context.Context, n *nemesis) (string, func() error, error) {
	b := n.holder()
	if b == nil || b.leads() {
		return "", nil, errNot
	}
	return n.kill("a holder", b)
}

func killedLeader(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.kill("the leader", n.leader())
}

func killedBoth(_ context.Context, n *nemesis) (string, func() error, error) {
	h, l := n.holder(), n.leader()
	if h == l || len(n.victims) > 0 {
		return "", nil, errNot
	}
	return n.kill("a holder and the leader", h, l)
}

func (n *nemesis) freeze(what string, b *box) (string, func() error, error) {
	if b == nil {
		return "", nil, errNot
	}
	proc := b.process()
	if proc == nil {
		return "", nil, errNot
	}
	n.victims[b] = true
	proc.Signal(syscall.SIGSTOP)
	return fmt.Sprintf("%s is stopped: %s", what, b.Name), func() error {
		proc.Signal(syscall.SIGCONT)
		delete(n.victims, b)
		return nil
	}, nil
}

func frozen(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.freeze("any", n.any())
}

func frozenHolder(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.freeze("a holder", n.holder())
}

func frozenLeader(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.freeze("the leader", n.leader())
}

// part puts boxes on the other side.
func (n *nemesis) part(side ...*box) (string, func() error, error) {
	if n.cut || slices.Contains(side, nil) {
		return "", nil, errNot
	}
	n.cut = true
	var a, b []*wires.Box
	for _, x := range n.p.all {
		if slices.Contains(side, x) {
			a = append(a, x.Box)
		} else {
			b = append(b, x.Box)
		}
	}
	heal := func() error { n.cut = false; return n.p.net.Join() }
	return fmt.Sprintf("partition: %s | %s", wires.Names(a), wires.Names(b)), heal, n.p.net.Split(a)
}

func partitioned(_ context.Context, n *nemesis) (string, func() error, error) {
	var side []*box
	for _, i := range n.rng.Perm(len(n.p.all))[:1+n.rng.IntN((len(n.p.all)-1)/2)] {
		side = append(side, n.p.all[i])
	}
	return n.part(side...)
}

func cutHolder(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.part(n.holder())
}
func cutLeader(_ context.Context, n *nemesis) (string, func() error, error) {
	return n.part(n.leader())
}

func muted(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.p.all[n.rng.IntN(len(n.p.all))]
	if l := n.leader(); l != nil && n.rng.IntN(2) == 0 {
		a = l
	}
	to := slices.DeleteFunc(slices.Clone(n.p.net.Boxes), func(b *wires.Box) bool { return b == a.Box })
	if n.rng.IntN(3) == 0 {
		at := n.rng.IntN(len(to))
		to = to[at : at+1]
	}
	return fmt.Sprintf("one-way cut: %s is not heard by %s", a.Name, wires.Names(to)), func() error { return n.p.net.Unmute(a.Box, to) }, n.p.net.Mute(a.Box, to)
}

func slowed(_ context.Context, n *nemesis) (string, func() error, error) {
	b := n.p.all[n.rng.IntN(len(n.p.all))].Box
	return "slow link to " + b.Name + ": 1 Mbit/s", func() error { return n.p.net.Fast(b) }, n.p.net.Slow(b)
}

// replaced takes a node out for good. Its successor in the box, with another id and an empty disk, starts when it is healed. It waits for its turn until the
// last one that went was replaced: when a majority is gone for good, nobody is to go on.
func replaced(ctx context.Context, n *nemesis) (string, func() error, error) {
	if n.p.whole(ctx, time.Second) != nil {
		return "", nil, errNot
	}
	b := n.any()
	if v := n.leader(); v != nil && n.rng.IntN(3) == 0 {
		b = v
	}
	n.victims[b] = true
	inOrder := n.rng.IntN(2) == 0
	b.mu.Lock()
	was := b.who()
	b.mu.Unlock()
	former := b.replace(inOrder)
	how := "killed"
	if inOrder {
		how = "ended in order"
	}
	return fmt.Sprintf("%s is gone for good, %s", was, how), func() error {
		// Someone removes it from the mesh, as a person would; whoever is reached and does not take it for alive any more.
		go func() {
			_ = wires.Until(n.p.keepers, recovery, time.Second, func() error {
				err := errors.New("no process runs")
				for _, o := range n.p.all {
					if _, err = o.do(n.p.keepers, 3*time.Second, dutybox.Command{Remove: former}); err == nil {
						return nil
					}
				}
				return err
			})
		}()
		b.want(true)
		delete(n.victims, b)
		return nil
	}, nil
}

// order has a command carried out by any process that can.
func (n *nemesis) order(ctx context.Context, limit time.Duration, cmd dutybox.Command) error {
	return wires.Until(ctx, limit, 100*time.Millisecond, func() error {
		_, err := n.p.all[n.rng.IntN(len(n.p.all))].do(ctx, 2*time.Second, cmd)
		return err
	})
}

func drained(ctx context.Context, n *nemesis) (string, func() error, error) {
	b := n.p.all[n.rng.IntN(len(n.p.all))]
	if h := n.holder(); h != nil && n.rng.IntN(2) == 0 {
		b = h
	}
	node := b.nodeID()
	heal := func() error {
		// Nothing is granted without a majority: it is said until it is heard.
		rng := rand.New(rand.NewPCG(n.p.seed, n.rng.Uint64())) // of its own: it runs beside
		go func() {
			_ = wires.Until(n.p.keepers, 2*recovery, 200*time.Millisecond, func() error {
				_, err := n.p.all[rng.IntN(len(n.p.all))].do(n.p.keepers, 2*time.Second, dutybox.Command{Undrain: node})
				return err
			})
		}()
		return nil
	}
	if err := n.order(ctx, 3*time.Second, dutybox.Command{Drain: node}); err != nil {
		_ = heal() // it may have been heard all the same
		return "", nil, errNot
	}
	return b.Name + " is drained", heal, nil
}

// leapt sets a process's clocks off for good: CLOCK_BOOTTIME forward, as after a sleep, or back, which it never does; and the wall clock
// by as much again, or back. Short leaps are left out: a second or two less on the leader's clock are a second or two that it did not wait.
func leapt(ctx context.Context, n *nemesis) (string, func() error, error) {
	b := n.p.all[n.rng.IntN(len(n.p.all))]
	if l := n.leader(); l != nil && n.rng.IntN(2) == 0 {
		b = l
	}
	leap := dutybox.Leap{Boot: time.Duration(2000+n.rng.IntN(18000)) * time.Millisecond, Wall: time.Duration(n.rng.IntN(7200)-3600) * time.Second}
	if n.rng.IntN(3) == 0 {
		leap.Boot = -leap.Boot
	}
	if _, err := b.do(ctx, 3*time.Second, dutybox.Command{Leap: &leap}); err != nil {
		return "", nil, errNot
	}
	return fmt.Sprintf("clocks of %s leap: boot by %s, wall by %s", b.Name, leap.Boot, leap.Wall), func() error { return nil }, nil
}

func filled(_ context.Context, n *nemesis) (string, func() error, error) {
	b := n.any()
	if l := n.leader(); l != nil && n.rng.IntN(2) == 0 {
		b = l
	}
	n.victims[b] = true
	b.sickFor(time.Hour)
	heal := func() error {
		err := b.disk.Give()
		b.sickFor(10 * time.Second)
		delete(n.victims, b)
		return err
	}
	for full := false; !full; {
		var err error
		if full, err = b.disk.Take(16 << 20); err != nil {
			return "", heal, err
		}
	}
	return "disk of " + b.Name + " full", heal, nil
}

// run breaks and heals until ctx ends; then all is healed.
func (n *nemesis) run(ctx context.Context) error {
	span := func(from, to time.Duration) time.Duration {
		if !n.p.long() {
			from, to = from/2, to/2
		}
		return from + time.Duration(n.rng.Int64N(int64(to-from)))
	}
	for ctx.Err() == nil {
		heal, err := n.one(ctx)
		if err != nil {
			return err
		}
		wires.Pause(ctx, span(1*time.Second, 12*time.Second))
		heal2 := func() error { return nil }
		if ctx.Err() == nil && n.rng.IntN(5) < 2 {
			if heal2, err = n.one(ctx); err != nil {
				return errors.Join(err, heal())
			}
			wires.Pause(ctx, span(1*time.Second, 8*time.Second))
		}
		if err := heal(); err != nil {
			return errors.Join(err, heal2())
		}
		if n.rng.IntN(2) == 0 {
			wires.Pause(ctx, span(1*time.Second, 5*time.Second))
		}
		if err := heal2(); err != nil {
			return err
		}
		wires.Pause(ctx, span(2*time.Second, 12*time.Second)) // all is well
	}
	return nil
}

// one makes the next fault that can be made. The heal that it returns also says so.
func (n *nemesis) one(ctx context.Context) (heal func() error, err error) {
	for range 3 * len(n.all) {
		if len(n.deck) == 0 {
			n.deck = slices.Clone(n.all)
			n.rng.Shuffle(len(n.deck), func(i, j int) { n.deck[i], n.deck[j] = n.deck[j], n.deck[i] })
		}
		f := n.deck[0]
		n.deck = n.deck[1:]
		what, put, err := f.begin(ctx, n)
		if errors.Is(err, errNot) {
			continue
		}
		if err != nil {
			if put != nil {
				_ = put() // the first error is the one to tell
			}
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		n.p.mu.Lock()
		n.p.done[f.name]++
		n.p.mu.Unlock()
		n.p.begun(what)
		return func() error {
			n.p.healed(what)
			if err := put(); err != nil {
				return fmt.Errorf("heal %s: %w", what, err)
			}
			return nil
		}, nil
	}
	return func() error { return nil }, nil
}
