package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Budgets of an agent at rest.
const (
	restMemory = 80 << 20 // bytes
	restCPU    = 1.0      // percent of a core
)

// rest looks at agents that have nothing to do, after all that they did before: one took the import, one was started
// from its disk, one got everything from the others.
func (b *bench) rest(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.pick(30*time.Second, 5*time.Second)); err != nil {
		return err
	}
	did := []string{"imported", "started", "received"}
	var rss, peak int64
	var each, kinds, peaks, busy []string
	before := make([]time.Duration, len(m.agents))
	for i, a := range m.agents {
		now, err := memory(a.pid(), "VmRSS")
		if err != nil {
			return err
		}
		of, err := resident(a.pid())
		if err != nil {
			return err
		}
		kinds = append(kinds, fmt.Sprintf("%s %s, %s, %s, %s", did[i], mib(of.anonymous), mib(of.binary), mib(of.libraries), mib(of.files)))
		most, err := memory(a.pid(), "VmHWM")
		if err != nil {
			return err
		}
		rss, peak = max(rss, now), max(peak, most)
		each, peaks = append(each, did[i]+" "+mib(now)), append(peaks, did[i]+" "+mib(most))
		if before[i], err = cpuTime(a.pid()); err != nil {
			return err
		}
	}
	idle := b.pick(20*time.Second, 5*time.Second)
	began := time.Now()
	if err := pause(ctx, idle); err != nil {
		return err
	}
	worst := 0.0
	for i, a := range m.agents {
		now, err := cpuTime(a.pid())
		if err != nil {
			return err
		}
		percent := 100 * float64(now-before[i]) / float64(time.Since(began))
		worst = max(worst, percent)
		busy = append(busy, fmt.Sprintf("%s %.2f %%", did[i], percent))
	}
	b.table.add(row{
		what: fmt.Sprintf("agent at rest, %d hosts: RSS", siteHosts), measured: mib(rss), budget: "< 80 MiB",
		peer: strings.Join(each, ", "), met: when(rss < restMemory),
	})
	// The libraries are libvirt's and what it needs: its Go binding loads them when a process begins, on every box that has them.
	b.table.add(row{what: "of it heap and stacks, binary, libraries, storage's files", measured: "-", peer: strings.Join(kinds, "; ")})
	b.table.add(row{what: "its peak (VmHWM)", measured: mib(peak), peer: strings.Join(peaks, ", ")})
	b.table.add(row{
		what: "its CPU", measured: fmt.Sprintf("%.2f %% of a core", worst), budget: "< 1 %", peer: strings.Join(busy, ", "), met: when(worst < restCPU),
	})
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
