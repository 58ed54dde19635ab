// Command soak runs five agents for as long as it is told, each in a network namespace and on a small disk of its own,
// writes to all of them all the time, and breaks things: agents are killed and frozen, links cut, disks filled, a clock
// set wrong. At the end it heals everything and holds the agents to what they promised: every acknowledged write is in
// the history of every agent, what must stand stands, all are equal, and nothing grows but by what was written.
//
// Everything happens in namespaces for network and mounts that end with it. It needs root for them, and for the file
// systems.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"hostmesh/integration/wires"
)

func main() {
	var s soak
	flag.StringVar(&s.binary, "hostmesh", "bin/hostmesh", "the `binary` to soak")
	flag.DurationVar(&s.length, "for", time.Hour, "how `long` to write and break things")
	flag.Uint64Var(&s.seed, "seed", 0, "what the faults and writes follow from; 0 takes one by chance and prints it")
	flag.IntVar(&s.rate, "writes", 200, "writes a `second`, over all agents")
	flag.StringVar(&s.only, "faults", "", "the `names` of the faults to make, divided by commas (default: all)")
	base := flag.String("dir", os.TempDir(), "the `directory` for disks and logs; the disks are sparse files")
	flag.StringVar(&s.dir, "inside", "", "for its own use: the `directory` of a run, in namespaces of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if s.dir == "" {
		err = s.outside(ctx, *base)
	} else {
		err = s.inside(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// outside runs this program again in namespaces of its own.
func (s *soak) outside(ctx context.Context, base string) (err error) {
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if _, err := os.Stat(s.binary); err != nil {
		return fmt.Errorf("run it as make soak, in the top folder: %w", err)
	}
	if s.length <= 0 || s.rate <= 0 {
		return errors.New("-for and -writes must be more than nothing")
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	if s.dir, err = os.MkdirTemp(base, "hmsoak"); err != nil { // short: it holds sockets, whose paths are bounded
		return err
	}
	return wires.Run(ctx, s.dir, "-hostmesh", s.binary, "-for", s.length.String(), "-seed", fmt.Sprint(s.seed),
		"-writes", fmt.Sprint(s.rate), "-faults", s.only, "-inside", s.dir)
}

func (s *soak) logs() string { return wires.Logs(s.dir) }
