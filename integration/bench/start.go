package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// start kills an agent and measures until it serves again, from its data directory alone.
func (b *bench) start(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	a := m.agents[1]
	var bare, ready, resolved []time.Duration
	for range b.count(5, 2) {
		begin := time.Now()
		if _, err := output(exec.CommandContext(ctx, b.binary, "version")); err != nil {
			return err
		}
		bare = append(bare, time.Since(begin))
		a.kill()
		begin = time.Now()
		if err := a.start(ctx); err != nil {
			return err
		}
		answered := make(chan error, 1)
		go func() {
			err := a.resolves(ctx, hostName(siteHosts-1), hostAddr(siteHosts-1))
			resolved = append(resolved, time.Since(begin))
			answered <- err
		}()
		if err := a.ready(ctx); err != nil {
			<-answered
			return err
		}
		ready = append(ready, time.Since(begin))
		if err := <-answered; err != nil {
			return err
		}
		if err := m.equal(ctx, m.agents...); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		what  string
		times []time.Duration
	}{{"/readyz", ready}, {"a DNS answer", resolved}} {
		b.table.add(row{
			what:     fmt.Sprintf("start after kill -9, %d hosts: to %s", siteHosts, x.what),
			measured: fmt.Sprintf("%s, worst %s (n=%d)", ms(median(x.times)), ms(quantile(x.times, 1)), len(x.times)), budget: "< 1 s",
			peer: fmt.Sprintf("%.1f x hostmesh version, %s", float64(median(x.times))/float64(median(bare)), ms(median(bare))), met: when(median(x.times) < time.Second),
		})
	}
	return nil
}

// join measures from the start of an agent with an empty directory until it holds what the mesh holds.
func (b *bench) join(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	var times, ready []time.Duration
	for range b.count(3, 1) {
		a, err := m.newAgent()
		if err != nil {
			return err
		}
		err = func() error {
			begin := time.Now()
			if err := a.start(ctx); err != nil {
				return err
			}
			if err := a.ready(ctx); err != nil {
				return err
			}
			ready = append(ready, time.Since(begin))
			if err := m.equal(ctx, m.agents[0], a); err != nil {
				return err
			}
			times = append(times, time.Since(begin))
			return nil
		}()
		a.remove()
		m.agents = m.agents[:len(m.agents)-1]
		if err != nil {
			return err
		}
		if err := os.RemoveAll(a.dir); err != nil {
			return err
		}
	}
	b.table.add(row{
		what:     fmt.Sprintf("joiner, %d hosts: start to equal digests", siteHosts),
		measured: fmt.Sprintf("%s, worst %s (n=%d); /readyz %s", ms(median(times)), ms(quantile(times, 1)), len(times), ms(median(ready))), budget: "< 3 s",
		met: when(median(times) < 3*time.Second),
	})
	return nil
}
