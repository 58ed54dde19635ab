package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grown is an agent whose replica has a given size, and what was measured of it.
type grown struct {
	replicaSize
	mesh       *mesh
	agent      *agent
	disk       int64
	wall, cpu  []time.Duration // of each start until /readyz
	rss, peak  int64           // at rest after a start, and on the way there
	change     pairs           // CPU in ns for one write: this size's and the smallest one's
	visible    pairs           // ns from the request until DNS answers with the new address, as above
	written    int             // values so far, so that no write says what is there already
	waitedMost time.Duration
}

// growth shows what an agent takes as its HostDB grows, in hosts and in history: each size in an agent of its own, whose
// replica is written into its directory before it starts.
func (b *bench) growth(ctx context.Context) error {
	sizes := []replicaSize{{hosts: 1_000}, {hosts: 10_000}}
	if !b.short {
		sizes = append(sizes, replicaSize{hosts: 100_000}, replicaSize{hosts: 10_000, history: 1_000_000})
	}
	fmt.Fprintln(os.Stderr)
	var all []*grown
	for _, size := range sizes {
		g, err := b.grow(ctx, size)
		if err != nil {
			return fmt.Errorf("%s: %w", size, err)
		}
		defer g.mesh.close()
		if err := g.starts(ctx, b.count(3, 1)); err != nil {
			return fmt.Errorf("%s: %w", size, err)
		}
		progress("%s: serves after %s", size, ms(median(g.wall)))
		all = append(all, g)
	}
	// The agent gives back what its start took at the first quiet tick, and its storage lets go of buffers for a minute.
	if err := pause(ctx, b.pick(75*time.Second, 6*time.Second)); err != nil {
		return err
	}
	for _, g := range all {
		if err := g.atRest(ctx); err != nil {
			return fmt.Errorf("%s: %w", g, err)
		}
	}
	progress("one change")
	for range b.count(7, 1) {
		var cpu, visible []float64
		for _, g := range all {
			c, v, err := g.changes(ctx, 200, b.count(40, 20))
			if err != nil {
				return fmt.Errorf("%s: %w", g, err)
			}
			cpu, visible = append(cpu, c), append(visible, v)
			g.change.add(c, cpu[0])
			g.visible.add(v, visible[0])
		}
	}
	b.growthRows(all)
	return nil
}

// grow makes a mesh of one agent with a replica, and does not start it.
func (b *bench) grow(ctx context.Context, size replicaSize) (_ *grown, err error) {
	g := &grown{replicaSize: size}
	if g.mesh, err = b.newMesh(ctx, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.mesh.close()
		}
	}()
	if g.agent, err = g.mesh.newAgent(); err != nil {
		return nil, err
	}
	dir := g.agent.dir
	if _, err := output(exec.CommandContext(ctx, b.binary, "init", "--data-dir", dir, "--key-file", g.mesh.keyFile, "--name", g.agent.name)); err != nil {
		return nil, err
	}
	id, err := os.ReadFile(filepath.Join(dir, "node-id"))
	if err != nil {
		return nil, err
	}
	replica := filepath.Join(dir, "hostdb")
	if err := writeReplica(ctx, replica, strings.TrimSpace(string(id)), size); err != nil {
		return nil, err
	}
	g.disk, err = diskUse(replica)
	return g, err
}

// starts starts the agent n times from its disk; the last time it stays.
func (g *grown) starts(ctx context.Context, n int) error {
	a := g.agent
	for range n {
		a.kill()
		begin := time.Now()
		if err := a.start(ctx); err != nil {
			return err
		}
		if err := a.ready(ctx); err != nil {
			return err
		}
		g.wall = append(g.wall, time.Since(begin))
		cpu, err := processCPU(a.pid())
		if err != nil {
			return err
		}
		g.cpu = append(g.cpu, cpu)
	}
	return nil
}

// atRest looks at the memory of an agent that had nothing to do for a while, and prepares for writing to it.
func (g *grown) atRest(ctx context.Context) (err error) {
	if g.rss, err = memory(g.agent.pid(), "VmRSS"); err != nil {
		return err
	}
	if g.peak, err = memory(g.agent.pid(), "VmHWM"); err != nil {
		return err
	}
	return g.mesh.login(ctx)
}

// changes makes writes one after the other, each of which changes an address. It returns the agent's CPU for one of
// count writes, DNS included, and the median time until DNS answers with what one of more others wrote, in ns.
func (g *grown) changes(ctx context.Context, count, more int) (cpu, visible float64, err error) {
	c, err := dial(ctx, g.agent.addr+":"+httpPort)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	d, err := dialDNS(g.agent.addr + ":" + dnsPort)
	if err != nil {
		return 0, 0, err
	}
	defer d.close()
	write := func() (host, addr string, err error) {
		n := g.written
		g.written++
		host, addr = hostName(n*7919%g.hosts), fmt.Sprintf("10.%d.%d.%d", 100+n/62500, n/250%250, 1+n%250)
		return host, addr, g.mesh.put(c, "hosts/"+host+"/Network/IP", addr)
	}
	answered := func(host, addr string) error {
		for begin := time.Now(); ; {
			got, err := d.lookup(host)
			if err != nil || got == addr {
				return err
			}
			if time.Since(begin) > 10*time.Second {
				return fmt.Errorf("DNS answers %s with %q, not with the %s that was written", host, got, addr)
			}
		}
	}
	before, err := processCPU(g.agent.pid())
	if err != nil {
		return 0, 0, err
	}
	var host, addr string
	for range count {
		if host, addr, err = write(); err != nil {
			return 0, 0, err
		}
	}
	if err := answered(host, addr); err != nil {
		return 0, 0, err
	}
	after, err := processCPU(g.agent.pid())
	if err != nil {
		return 0, 0, err
	}
	var waits []time.Duration
	for range more {
		begin := time.Now()
		if host, addr, err = write(); err != nil {
			return 0, 0, err
		}
		if err := answered(host, addr); err != nil {
			return 0, 0, err
		}
		waits = append(waits, time.Since(begin))
	}
	g.waitedMost = max(g.waitedMost, quantile(waits, 1))
	return float64(after-before) / float64(count), float64(median(waits)), ctx.Err()
}

func (b *bench) growthRows(all []*grown) {
	for _, g := range all {
		budgeted := g.hosts == siteHosts && g.history == 0
		b.table.add(row{what: g.String() + ": replica on disk", measured: mib(g.disk),
			peer: fmt.Sprintf("%.1f kB a host", float64(g.disk)/1e3/float64(g.hosts))})
		start := row{what: g.String() + ": start to /readyz", measured: fmt.Sprintf("%s, CPU %s (n=%d)", ms(median(g.wall)), ms(median(g.cpu)), len(g.wall))}
		rest := row{what: g.String() + ": RSS at rest after it", measured: mib(g.rss), peer: "peak " + mib(g.peak)}
		if budgeted {
			start.budget, start.met = "< 1 s", when(median(g.wall) < time.Second)
			rest.budget, rest.met = "< 80 MiB", when(g.rss < restMemory)
		}
		b.table.add(start)
		b.table.add(rest)
		cpu := row{what: g.String() + ": one change, CPU of the agent", measured: micros(median(g.change.ours))}
		seen := row{what: g.String() + ": one change, PUT to DNS", measured: fmt.Sprintf("%s, worst %s", ms(time.Duration(median(g.visible.ours))), ms(g.waitedMost))}
		if g != all[0] {
			for _, x := range []struct {
				r *row
				p pairs
			}{{&cpu, g.change}, {&seen, g.visible}} {
				x.r.budget = fmt.Sprintf("<= 2 x %s", all[0])
				x.r.peer, x.r.met = fmt.Sprintf("%.2f x", x.p.ratio()), when(x.p.ratio() <= 2)
			}
		}
		b.table.add(cpu)
		b.table.add(seen)
	}
}

// processCPU is what a process has computed, by its own clock: far finer than the ticks of /proc.
func processCPU(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED: user and kernel mode of all threads, see clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// diskUse is what the files below a directory take on the disk; those of a replica are sparse.
func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += s.Blocks * 512 // st_blocks counts these, whatever the file system's own are
		}
		return nil
	})
	return bytes, err
}

// progress is a line about a preparation that takes long.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "          "+format+"\n", args...)
}
