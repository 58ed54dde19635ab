// Command dutyproof proves package mesh/lease on real processes: each with its mesh and its part in a lease group in a network
// namespace and on a small disk of its own, each a candidate for every duty and a client of records. It kills and freezes them,
// cuts their links, fills their disks, sets their clocks off and replaces them for good, and checks what they report:
//
//   - A holder acts every few milliseconds. Around each act it reads a clock that all processes of the machine share (CLOCK_BOOTTIME): t1,
//     then it asks its grant whether it is valid, then t2. No act under one fencing number may have its t1 after the t2 of the first
//     act under a higher one, and no two processes may act under the same. So a process that is frozen between t1 and t2 does not
//     count as a violation, whatever it sees when it wakes; what a holder does after it was told that it may act, and was then frozen,
//     no lease can prevent: that is what fencing numbers are for.
//   - Records and counters, and the tenures of each duty, are linearizable, by porcupine.
//
// What a killed process did not report any more makes the checks weaker, never wrong: acts that are missing convict nobody, and a call
// is reported before it is sent, so that one without an answer counts as perhaps done.
//
// At the end all is healed; then every duty has a holder again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"hostmesh/integration/dutybox"
	"hostmesh/integration/wires"
)

func main() {
	var p proof
	flag.DurationVar(&p.length, "for", 20*time.Minute, "how `long` to break things")
	flag.Uint64Var(&p.seed, "seed", 0, "what the faults follow from; 0 takes one by chance and prints it")
	flag.IntVar(&p.boxes, "boxes", 5, "how `many` processes; five voters from seven on")
	flag.StringVar(&p.only, "faults", "", "the `names` of the faults to make, divided by commas (default: all)")
	flag.BoolVar(&p.wrong, "wrong", false, "give the processes times that are not safe: the checks must find it, and the run ends when they do")
	base := flag.String("dir", os.TempDir(), "the `directory` for disks and logs; the disks are sparse files")
	flag.StringVar(&p.dir, "inside", "", "for its own use: the `directory` of a run, in namespaces of its own")
	child := flag.Bool("child", false, "for its own use: be one of the processes")
	flag.Parse()
	var err error
	switch {
	case *child:
		err = dutybox.Child(os.Stdin, os.Stdout)
	case p.dir == "":
		err = p.outside(*base)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = p.inside(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dutyproof:", err)
		os.Exit(1)
	}
}

// outside runs this program again in namespaces of its own.
func (p *proof) outside(base string) (err error) {
	if p.length <= 0 || p.boxes < 3 || p.boxes > 20 {
		return errors.New("-for must be more than nothing, and -boxes 3 to 20")
	}
	if _, err := p.faults(); err != nil {
		return err
	}
	if p.seed == 0 {
		p.seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if p.dir, err = os.MkdirTemp(base, "hmprove"); err != nil {
		return err
	}
	return wires.Run(ctx, p.dir, "-for", p.length.String(), "-seed", fmt.Sprint(p.seed), "-boxes", fmt.Sprint(p.boxes),
		"-faults", p.only, fmt.Sprintf("-wrong=%v", p.wrong), "-inside", p.dir)
}
