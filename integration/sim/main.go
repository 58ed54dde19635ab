// Command sim runs meshes of up to thousands of agents in one process and in virtual time: the real code of hostdb and
// hostdb/replica, each agent with a storage of its own in memory, over a fabric that takes as long as wires, switches, disks and
// cores would. It measures how fast writes spread, what they cost, and how the mesh gets over faults, and puts the growth beside
// the theory. At the end of each experiment all agents must be equal, and no acknowledged write may be lost.
//
// Serf does not run: what each agent knows of the others follows a model of its dissemination. docs/simulation.md says what is
// real and what is not.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// sim is what the command was asked for.
type sim struct {
	agents int
	seed   uint64
	short  bool
	out    string
	page   string
}

func main() {
	var s sim
	testing.Init()
	flag.IntVar(&s.agents, "agents", 1000, "how many agents the largest mesh has; 5000 take about 12 GB and an hour")
	flag.Uint64Var(&s.seed, "seed", 1, "what the wires and the choice of writers follow from")
	flag.BoolVar(&s.short, "short", false, "fewer writes and shorter experiments")
	flag.StringVar(&s.out, "out", "docs/sim", "the `folder` for the plots")
	flag.StringVar(&s.page, "page", "docs/simulation.md", "the `file` whose tables are replaced; \"\" for none")
	flag.Parse()
	if flag.NArg() > 0 || s.agents < 10 {
		fmt.Fprintln(os.Stderr, "sim: it takes no arguments, and -agents of 10 or more")
		os.Exit(2)
	}
	// Virtual time exists in tests only, so the whole is one.
	err := errors.New("it did not run")
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "sim", F: func(t *testing.T) {
		if err = s.run(t); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

// sizes are those of the meshes.
func (s *sim) sizes() []int {
	var out []int
	for _, n := range []int{10, 30, 100, 300, 1000, 3000, 5000} {
		if n <= s.agents {
			out = append(out, n)
		}
	}
	return out
}

func (s *sim) lengths(n int) lengths {
	l := lengths{writes: 20, rest: 60 * time.Second, cut: 60 * time.Second, join: 60 * time.Second, restart: 10 * time.Second}
	if s.short || n >= 3000 {
		l.rest, l.cut = 20*time.Second, 30*time.Second
	}
	if s.short {
		l.writes = 8
	}
	return l
}

func (s *sim) run(t *testing.T) error {
	var all []result
	for _, n := range s.sizes() {
		began := time.Now()
		r, err := experiment(t, n, s.seed, s.lengths(n))
		if err != nil {
			return fmt.Errorf("%d agents: %w", n, err)
		}
		old := n / 4
		if s.agents == n && n == 1000 {
			fmt.Fprintln(os.Stderr, "the largest join is 750 into 250; -agents 5000 has 3000 into 1000")
		}
		if r.Join, err = join(t, old, n-old, s.seed, s.lengths(n)); err != nil {
			return fmt.Errorf("%d agents join %d: %w", n-old, old, err)
		}
		r.Joiners = n - old
		r.Real = time.Since(began)
		fmt.Printf("%+v\n", r)
		all = append(all, r)
	}
	return nil
}

// inBubble runs fn in virtual time.
func inBubble(t *testing.T, fn func() error) (err error) {
	synctest.Test(t, func(*testing.T) { err = fn() })
	return err
}

// experiment makes a mesh of n agents and does to it all that needs no joiners.
func experiment(t *testing.T, n int, seed uint64, l lengths) (result, error) {
	r := result{N: n}
	return r, inBubble(t, func() (err error) {
		w, err := newWorld(n, 0, 1, seed, defaultModel())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		step := func(name string, fn func() error) {
			if err != nil {
				return
			}
			if err = fn(); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		time.Sleep(15 * time.Second) // all have compared
		step("writes", func() (err error) { r.Write, err = w.measure(l.writes, w.running()); return err })
		step("traffic", func() (err error) { r.Rest, r.Busy, err = w.traffic(l.rest); return err })
		step("slow agents", func() (err error) { r.Slow, err = w.sicken(slow, l.writes/2); return err })
		step("mute agents", func() (err error) { r.Mute, err = w.sicken(mute, l.writes/2); return err })
		r.SickTakeover = w.counts().TakenOver
		step("rack", func() (err error) { r.Rack, err = w.loseRack(l.cut); return err })
		step("restart", func() (err error) { r.Restart, err = w.restartAll(l.restart); return err })
		step("end", w.sound)
		return err
	})
}

// join makes a mesh of old agents that so many others join.
func join(t *testing.T, old, joiners int, seed uint64, l lengths) (joined, error) {
	var j joined
	return j, inBubble(t, func() (err error) {
		w, err := newWorld(old, joiners, 1, seed, defaultModel())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		time.Sleep(15 * time.Second)
		if j, err = w.joinAll(l.join); err != nil {
			return err
		}
		return w.sound()
	})
}

// sound reports what went wrong that equality does not show.
func (w *world) sound() error {
	if c := w.counts(); c.Mismatches > 0 || c.Forks > 0 || c.Refused > 0 {
		return fmt.Errorf("%d mismatches, %d forks, %d messages refused: none may be", c.Mismatches, c.Forks, c.Refused)
	}
	return w.unequal(w.running())
}
