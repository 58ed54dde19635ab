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
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
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

// outside runs this program again in namespaces of its own, and cleans up after it, whatever became of it.
func (s *soak) outside(ctx context.Context, base string) (err error) {
	if os.Getuid() != 0 {
		return errors.New("it makes network namespaces and mounts file systems: run it as root, for example with sudo")
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if _, err := os.Stat(s.binary); err != nil {
		return fmt.Errorf("run it as make soak, in the top folder: %w", err)
	}
	for _, tool := range []string{"ip", "tc", "mkfs.ext4", "mount", "umount", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: install iproute2, e2fsprogs and mount", err)
		}
	}
	if s.length <= 0 || s.rate <= 0 {
		return errors.New("-for and -writes must be more than nothing")
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(base, "hmsoak"); err != nil { // short: it holds sockets, whose paths are bounded
		return err
	}
	cmd := exec.Command(self, "-hostmesh", s.binary, "-for", s.length.String(), "-seed", fmt.Sprint(s.seed),
		"-writes", fmt.Sprint(s.rate), "-faults", s.only, "-inside", s.dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// An interrupt is for this process, which passes it on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("namespaces for network and mounts: %w", err), os.RemoveAll(s.dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		fmt.Println("interrupted: cleaning up")
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended this moment
		select {
		case err = <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			err = errors.Join(errors.New("it did not stop when it was told to"), <-ended)
		}
	}
	switch {
	case ctx.Err() != nil:
		return errors.Join(errors.New("interrupted"), s.freeDisks(), os.RemoveAll(s.dir))
	case err != nil:
		return errors.Join(fmt.Errorf("the run failed (%w); the agents' logs stay in %s", err, s.logs()), s.freeDisks(), s.removeAllButLogs())
	}
	return errors.Join(s.freeDisks(), os.RemoveAll(s.dir))
}

func (s *soak) removeAllButLogs() error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range list {
		if path := filepath.Join(s.dir, entry.Name()); path != s.logs() {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// freeDisks waits until the kernel has given the loop devices back, and removes what is large.
func (s *soak) freeDisks() error {
	images, err := filepath.Glob(filepath.Join(s.dir, "*.img"))
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		// The last mount took its loop device along, but the kernel may need a moment for that.
		for range 100 {
			out, err := output(exec.Command("losetup", "-j", image))
			if err != nil || strings.TrimSpace(out) == "" {
				break
			}
			if dev, _, ok := strings.Cut(out, ":"); ok {
				_, _ = output(exec.Command("losetup", "-d", dev)) // it frees itself as soon as nobody uses it
			}
			time.Sleep(50 * time.Millisecond)
		}
		errs = append(errs, os.Remove(image))
	}
	return errors.Join(errs...)
}

func (s *soak) logs() string { return filepath.Join(s.dir, "logs") }
