// Command bench measures hostmesh against its budgets and prints one table. What can be compared is measured in
// alternating turns with a peer, in the same run: a ratio survives another machine, a time does not. It talks to
// loopback only and leaves nothing running. A missed budget is a line of the table; only a measurement that could not
// be made is a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	var b bench
	binary := flag.String("hostmesh", "bin/hostmesh", "the `binary` to measure")
	base := flag.String("dir", os.TempDir(), "the `directory` for data; its disk is what is measured")
	only := flag.String("only", "", "the `names` of the measurements to make, separated by commas (default: all)")
	child := flag.String("child", "", "for its own use: the peer `process` to be")
	flag.BoolVar(&b.short, "short", false, "a quick look: fewer and shorter turns")
	flag.Parse()
	if *child != "" {
		exit(runChild(*child, flag.Args()))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, b.pick(20*time.Minute, 4*time.Minute))
	defer cancel()

	err := b.open(*binary, *base)
	if err == nil {
		err = b.run(ctx, *only)
	}
	exit(errors.Join(err, b.close()))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench is one run.
type bench struct {
	short        bool
	binary, self string // hostmesh, and this program for its peers
	dir          string // of everything that is written
	table        table
	agentLines   string // of the configuration of agents, beside what all have
	mesh         *mesh  // the three agents that most measurements share; nil until one needs them
}

// pick is the figure for this length of a run.
func (b *bench) pick(full, short time.Duration) time.Duration {
	if b.short {
		return short
	}
	return full
}

func (b *bench) count(full, short int) int {
	if b.short {
		return short
	}
	return full
}

func (b *bench) open(binary, base string) (err error) {
	if b.binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("run it as make bench, in the top folder: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if base, err = filepath.Abs(base); err != nil {
		return err
	}
	b.dir, err = os.MkdirTemp(base, "hmbench") // short: it holds sockets, whose paths are bounded
	return err
}

// measurements are in the order in which they are made: an import fills the mesh that the others look at, and what
// needs quiet comes when nothing else runs.
func (b *bench) measurements() []measurement {
	return []measurement{
		{"import", b.importing},
		{"converge", b.converge},
		{"get", b.get},
		{"find", b.find},
		{"dns", b.dns},
		{"start", b.start},
		{"join", b.join},
		{"rest", b.rest},
		{"spread", b.spread},
		{"write", b.write},
		{"takeover", b.takeover},
		{"commit", b.commit},
		{"duties", b.dutiesAtRest},
		{"growth", b.growth},
		{"vmcreate", b.vmCreate},
		{"vmplace", b.vmPlace},
		{"vmname", b.vmName},
		{"lbchange", b.lbChange},
		{"lbforward", b.lbForward},
		{"nameservers", b.nameservers}, // this and what follows only when asked for: make bench-dns
		{"dnsload", b.underLoad},
	}
}

type measurement struct {
	name string
	run  func(context.Context) error
}

func (b *bench) run(ctx context.Context, only string) error {
	head, err := machine(b.dir)
	if err != nil {
		return err
	}
	begin := time.Now()
	var failed []string
	for _, m := range b.measurements() {
		if only == "" && (m.name == "nameservers" || m.name == "dnsload") || only != "" && !strings.Contains(","+only+",", ","+m.name+",") {
			continue
		}
		if ctx.Err() != nil { // interrupted, or out of time
			b.table.failed(m.name, ctx.Err())
			failed = append(failed, m.name)
			continue
		}
		if m.name == "spread" || m.name == "write" {
			b.endMesh() // from here on no agent that is not measured runs
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%-9s", m.name)
		if err := m.run(ctx); err != nil {
			fmt.Fprintf(os.Stderr, " could not be made: %v\n", err)
			b.table.failed(m.name, err)
			failed = append(failed, m.name)
			continue
		}
		fmt.Fprintf(os.Stderr, " %s\n", time.Since(began).Round(100*time.Millisecond))
	}
	b.endMesh()
	length := "full"
	if b.short {
		length = "short"
	}
	fmt.Printf("\nhostmesh bench, %s run of %s\n%s\n\n", length, time.Since(begin).Round(time.Second), head)
	b.table.print(os.Stdout)
	if failed != nil {
		return fmt.Errorf("these measurements could not be made: %s", strings.Join(failed, ", "))
	}
	return nil
}

func (b *bench) endMesh() {
	if b.mesh != nil {
		b.mesh.close()
		b.mesh = nil
	}
}

func (b *bench) close() error {
	b.endMesh()
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}
