// Command demo starts three agents on this machine, lets them do what hostmesh is for, and prints what happened with
// real times. It leaves nothing running, unless it is asked to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var d demo
	binary := flag.String("hostmesh", "bin/hostmesh", "the `binary` to show")
	inventory := flag.String("inventory", "examples/inventory", "the `directory` to import")
	flag.BoolVar(&d.keep, "keep", false, "leave the agents running, and say what to try")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()

	err := d.open(*binary, *inventory)
	switch {
	case err != nil:
	case os.Getenv(sceneVariable) != "":
		err = playResolvers(ctx, &d)
	default:
		err = d.run(ctx)
	}
	err = errors.Join(err, d.close(err))
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// demo is one run of the show.
type demo struct {
	binary, inventory string
	keep              bool
	dir               string // of everything it makes
	keyFile           string
	users             string
	password          string
	dnsPort           string
	agents            []*agent
}

func (d *demo) open(binary, inventory string) (err error) {
	if d.binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if d.inventory, err = filepath.Abs(inventory); err != nil {
		return err
	}
	for _, path := range []string{d.binary, d.inventory} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("run it as make demo, in the top folder: %w", err)
		}
	}
	if d.dir, err = os.MkdirTemp("", "hostmesh-demo-"); err != nil {
		return err
	}
	d.keyFile = filepath.Join(d.dir, "mesh.key")
	return d.writeUsers()
}

// place says where the agents are to be.
func (d *demo) place() error {
	addrs, err := freeAddresses()
	if err != nil {
		return err
	}
	d.dnsPort = freeDNSPort(addrs[0])
	for i, addr := range addrs {
		name := fmt.Sprintf("node%d.demo", i+1)
		d.agents = append(d.agents, &agent{demo: d, name: name, addr: addr, dir: filepath.Join(d.dir, name)})
	}
	return nil
}

// close ends what was started; the logs stay if something went wrong.
func (d *demo) close(failed error) error {
	if d.keep && failed == nil {
		d.printWhatToTry()
		return nil
	}
	var errs []error
	for _, a := range d.agents {
		errs = append(errs, a.end())
	}
	switch {
	case d.dir == "":
	case failed != nil:
		fmt.Fprintln(os.Stderr, "\nthe agents' logs and data stay in", d.dir)
		for _, a := range d.agents {
			a.printLogTail(os.Stderr)
		}
	default:
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
