package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"hostmesh/integration/wires"
)

// fault is one way to break something. begin breaks it and says what it did; heal puts it right.
type fault struct {
	name  string
	begin func(ctx context.Context, n *nemesis) (what string, heal func() error, err error)
}

// nemesis breaks things, one or two at a time, and heals them.
type nemesis struct {
	soak    *soak
	rng     *rand.Rand
	wires   wires.Net
	deck    []fault         // to be made before any is made again
	under   map[string]bool // names of those that go on
	victims map[*agent]bool // whose process or disk a fault has now
	done    map[string]int
	made    int // faults so far
}

func (n *nemesis) faults() []fault {
	all := []fault{
		{"kill", killed}, {"freeze", frozen}, {"partition", partitioned}, {"one-way", muted}, {"slow link", slowed},
		{"disk full", filled}, {"clock", skewed}, {"clock far off", farOff},
	}
	return slices.DeleteFunc(all, func(f fault) bool {
		return strings.HasPrefix(f.name, "clock") && !n.soak.clocks ||
			n.soak.only != "" && !strings.Contains(","+n.soak.only+",", ","+f.name+",")
	})
}

// victim is an agent whose process no other fault has.
func (n *nemesis) victim() *agent {
	for {
		a := n.soak.agents[n.rng.IntN(len(n.soak.agents))]
		if !n.victims[a] {
			n.victims[a] = true
			return a
		}
	}
}

func killed(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.victim()
	a.want(false)
	return "kill -9 of " + a.short, func() error { a.want(true); delete(n.victims, a); return nil }, nil
}

func frozen(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.victim()
	a.signal(syscall.SIGSTOP)
	return a.short + " is stopped", func() error { a.signal(syscall.SIGCONT); delete(n.victims, a); return nil }, nil
}

func partitioned(_ context.Context, n *nemesis) (string, func() error, error) {
	order := n.rng.Perm(len(n.soak.agents))
	size := 1 + n.rng.IntN(2)
	var side, rest []*wires.Box
	for i, at := range order {
		if i < size {
			side = append(side, n.soak.agents[at].box)
		} else {
			rest = append(rest, n.soak.agents[at].box)
		}
	}
	what := fmt.Sprintf("partition: %s | %s", wires.Names(side), wires.Names(rest))
	return what, n.wires.Join, n.wires.Split(side)
}

func muted(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.soak.agents[n.rng.IntN(len(n.soak.agents))].box
	to := slices.DeleteFunc(slices.Clone(n.wires.Boxes), func(b *wires.Box) bool { return b == a })
	if n.rng.IntN(2) == 0 {
		at := n.rng.IntN(len(to))
		to = to[at : at+1]
	}
	return fmt.Sprintf("one-way cut: %s is not heard by %s", a.Name, wires.Names(to)), func() error { return n.wires.Unmute(a, to) }, n.wires.Mute(a, to)
}

func slowed(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.soak.agents[n.rng.IntN(len(n.soak.agents))]
	return "slow link to " + a.short + ": 1 Mbit/s", func() error { return n.wires.Fast(a.box) }, n.wires.Slow(a.box)
}

// How fast the foreign file grows, 160 MiB/s: an agent has to notice on the way from its floor of 256 MiB to nothing.
const (
	fillStep  = 32 << 20
	fillEvery = 200 * time.Millisecond
	diskFloor = 256 << 20
)

func filled(ctx context.Context, n *nemesis) (string, func() error, error) {
	a := n.victim()
	leave := int64(0) // sometimes it is really full, sometimes just below the floor
	if n.rng.IntN(3) == 0 {
		leave = 64 << 20
	}
	heal := func() error {
		err := a.disk.Give()
		a.full.Store(false)
		delete(n.victims, a)
		return err
	}
	// What is far above the floor goes at once.
	free, err := a.disk.Free()
	if err != nil {
		return "", heal, err
	}
	if at := free - diskFloor - 64<<20; at > 0 {
		if _, err := a.disk.Take(at); err != nil {
			return "", heal, err
		}
	}
	a.full.Store(true)
	for full := false; !full; {
		if free, err = a.disk.Free(); err != nil {
			return "", heal, err
		}
		if free <= leave {
			break
		}
		if full, err = a.disk.Take(min(fillStep, free-leave)); err != nil {
			return "", heal, err
		}
		if !wires.Pause(ctx, fillEvery) {
			break
		}
	}
	free, err = a.disk.Free()
	return fmt.Sprintf("disk of %s full: %d MiB free", a.short, free>>20), heal, err
}

func skewed(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.soak.agents[n.rng.IntN(len(n.soak.agents))]
	by := time.Duration(100+n.rng.IntN(400)) * time.Millisecond
	if n.rng.IntN(2) == 0 {
		by = -by
	}
	return fmt.Sprintf("clock of %s off by %s", a.short, by), func() error { return a.setClock(0) }, a.setClock(by)
}

// noticed is how long an agent has to see that its clock is far off.
const noticed = 10 * time.Second

// farOff sets a clock wrong by minutes. The agent must not write then: what it wrote would win over whatever others
// write for minutes, or lose to it. Cut off from the others it cannot know; so nothing is said of what it does under
// another fault.
func farOff(_ context.Context, n *nemesis) (string, func() error, error) {
	a := n.soak.agents[n.rng.IntN(len(n.soak.agents))]
	by := time.Minute + rand64(n.rng, 2*time.Minute)
	if !n.soak.long() {
		by /= 3
	}
	by = by.Round(time.Second)
	if n.rng.IntN(2) == 0 {
		by = -by
	}
	alone, made := len(n.under) == 0, n.made
	begin, before := n.soak.clock(), a.acked.Load()
	var late atomic.Int64 // what it had acknowledged when it had to have noticed
	late.Store(-1)
	timer := time.AfterFunc(noticed, func() { late.Store(a.acked.Load()) })
	return fmt.Sprintf("clock of %s off by %s", a.short, by), func() error {
		timer.Stop()
		n.soak.say("%s acknowledged %d writes in the %s that its clock was off by %s", a.short, a.acked.Load()-before, round(n.soak.clock()-begin), by)
		if from := late.Load(); alone && n.made == made+1 && from >= 0 && a.acked.Load() > from {
			n.soak.defect("%s acknowledged %d writes although its clock had been off by %s for %s", a.name, a.acked.Load()-from, by, noticed)
		}
		return a.setClock(0)
	}, a.setClock(by)
}

// run breaks and heals until ctx ends; then all is healed.
func (n *nemesis) run(ctx context.Context) error {
	span := func(from, to time.Duration) time.Duration {
		if !n.soak.long() {
			from, to = from/3, to/5
		}
		return from + rand64(n.rng, to-from)
	}
	if !wires.Pause(ctx, span(6*time.Second, 10*time.Second)) {
		return nil
	}
	for ctx.Err() == nil {
		heal, err := n.one(ctx)
		if err != nil {
			return err
		}
		wires.Pause(ctx, span(6*time.Second, 25*time.Second))
		heal2 := func() error { return nil }
		if ctx.Err() == nil && n.rng.IntN(5) < 2 {
			if heal2, err = n.one(ctx); err != nil {
				return err
			}
			wires.Pause(ctx, span(6*time.Second, 15*time.Second))
		}
		if err := heal(); err != nil {
			return err
		}
		if n.rng.IntN(2) == 0 {
			wires.Pause(ctx, span(3*time.Second, 5*time.Second))
		}
		if err := heal2(); err != nil {
			return err
		}
		wires.Pause(ctx, span(6*time.Second, 20*time.Second)) // all is well
	}
	return nil
}

func rand64(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(max(d, 1))))
}

// one makes the next fault. The heal that it returns also says so.
func (n *nemesis) one(ctx context.Context) (heal func() error, err error) {
	for i := 0; ; i++ {
		if len(n.deck) == 0 {
			n.deck = n.faults()
			n.rng.Shuffle(len(n.deck), func(i, j int) { n.deck[i], n.deck[j] = n.deck[j], n.deck[i] })
		}
		at := slices.IndexFunc(n.deck, func(f fault) bool { return !n.under[strings.TrimSuffix(f.name, " far off")] })
		if at < 0 {
			n.deck = nil
			if i > 0 {
				return func() error { return nil }, nil // it is the only one that was asked for
			}
			continue
		}
		f := n.deck[at]
		n.deck = slices.Delete(n.deck, at, at+1)
		what, put, err := f.begin(ctx, n)
		if err != nil {
			if put != nil {
				_ = put() // the first error is the one to tell
			}
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		family := strings.TrimSuffix(f.name, " far off")
		n.under[family] = true
		n.done[f.name]++
		n.made++
		n.soak.begun(what)
		return func() error {
			delete(n.under, family)
			n.soak.healed(what)
			if err := put(); err != nil {
				return fmt.Errorf("heal %s: %w", what, err)
			}
			return nil
		}, nil
	}
}
