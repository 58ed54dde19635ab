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
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// sim is what the command was asked for.
type sim struct {
	agents, joiners, only int
	seed                  uint64
	short, draw           bool
	out, page             string
}

func main() {
	var s sim
	testing.Init()
	flag.IntVar(&s.agents, "agents", 1000, "how many agents the largest mesh has; more than 1000 take hours and over 10 GB")
	flag.IntVar(&s.joiners, "joiners", 900, "how many agents join in the largest join; a third of that is there before")
	flag.IntVar(&s.only, "only", 0, "measure only the mesh of so many agents, and leave what was measured of others")
	flag.Uint64Var(&s.seed, "seed", 1, "what the wires and the choice of writers follow from")
	flag.BoolVar(&s.short, "short", false, "fewer writes and shorter experiments")
	flag.BoolVar(&s.draw, "draw", false, "draw what was measured before, and measure nothing")
	flag.StringVar(&s.out, "out", "docs/sim", "the `folder` for plots and results")
	flag.StringVar(&s.page, "page", "docs/simulation.md", "the `file` whose tables are filled in; \"\" for none")
	flag.Parse()
	if flag.NArg() > 0 || s.agents < 10 {
		fmt.Fprintln(os.Stderr, "sim: it takes no arguments, and -agents of 10 or more")
		os.Exit(2)
	}
	debug.SetGCPercent(300) // most of what is allocated is garbage soon
	debug.SetMemoryLimit(14 << 30)
	// Virtual time exists in tests only, so the whole is one. Main exits, with 1 when it failed.
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "sim", F: func(t *testing.T) {
		if err := s.run(t); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

// sizes are those of the meshes, and old those that are joined.
func (s *sim) sizes() (sizes, old []int) {
	for _, n := range []int{10, 30, 100, 300, 1000, 3000, 5000} {
		if n <= s.agents && (s.only == 0 || s.only == n) {
			sizes = append(sizes, n)
		}
		if 3*n <= s.joiners && s.only == 0 {
			old = append(old, n)
		}
	}
	return sizes, old
}

func (s *sim) lengths(n int) lengths {
	l := lengths{writes: 20, rest: 30 * time.Second, busy: 20 * time.Second, cut: 30 * time.Second, join: time.Minute, restart: 10 * time.Second}
	if s.short || n >= 1000 {
		l.rest, l.busy, l.cut = 15*time.Second, 10*time.Second, 15*time.Second
	}
	if s.short {
		l.writes = 8
	}
	return l
}

// run measures, and writes down after each mesh what is known.
func (s *sim) run(t *testing.T) error {
	sizes, old := s.sizes()
	if s.draw {
		return s.report(nil)
	}
	for _, n := range sizes {
		began := time.Now()
		r, err := experiment(t, n, s.seed, s.lengths(n))
		if err != nil {
			return fmt.Errorf("%d agents: %w", n, err)
		}
		fmt.Printf("%d agents: a write reaches all after %s, a rack is back after %s, all are after %s; measured in %s\n",
			n, short(r.Write.All), short(r.Rack.Took), short(r.Restart.Took), short(time.Since(began)))
		if err := s.report([]result{r}); err != nil {
			return err
		}
	}
	for _, n := range old {
		began := time.Now()
		j, err := join(t, n, 3*n, s.seed, s.lengths(n))
		if err != nil {
			return fmt.Errorf("%d agents join %d: %w", 3*n, n, err)
		}
		fmt.Printf("%d agents join %d: the longest takes %s; measured in %s\n", 3*n, n, short(j.Longest), short(time.Since(began)))
		if err := s.report([]result{{N: n, Joiners: 3 * n, Join: j}}); err != nil {
			return err
		}
	}
	return nil
}

// report adds to the results, and draws and writes all of them.
func (s *sim) report(fresh []result) error {
	all, err := save(s.out, fresh)
	if err != nil {
		return err
	}
	if err := draw(s.out, all, defaultModel()); err != nil {
		return err
	}
	if s.page == "" {
		return nil
	}
	return fillPage(s.page, tables(all, defaultModel()))
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
		step("traffic", func() (err error) { r.Rest, r.Busy, err = w.traffic(l.rest, l.busy); return err })
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
