package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// look is how often a watcher of a change asks: what is measured is true to this.
const look = 500 * time.Microsecond

// converge measures from the start of a PUT at one agent until both others answer with the new value, over HTTP and
// over DNS.
func (b *bench) converge(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	const host = "converge." + zoneName
	writer, err := dial(ctx, m.agents[0].addr+":"+httpPort)
	if err != nil {
		return err
	}
	defer writer.close()
	for _, w := range [][2]string{{"hosts/" + host, "Network: {FQDN: " + host + ", IP: 10.250.255.1}"}, {"tags/rack-000/members/" + host, ""}} {
		if err := m.put(writer, w[0], w[1]); err != nil {
			return err
		}
	}
	var web, dns []watcher
	for _, a := range m.agents[1:] {
		c, err := dial(ctx, a.addr+":"+httpPort)
		if err != nil {
			return err
		}
		defer c.close()
		web = append(web, func() (string, error) {
			status, body, err := c.do(getRequest("/v1/hosts/" + host + "/Network/IP"))
			if err != nil || status != http.StatusOK {
				return "", err
			}
			return strings.TrimSpace(string(body)), nil
		})
		d, err := dialDNS(a.addr + ":" + dnsPort)
		if err != nil {
			return err
		}
		defer d.close()
		dns = append(dns, func() (string, error) { return d.lookup(host) })
	}
	var acked []time.Duration
	measure := func(list []watcher, n int, round byte) (seen []time.Duration, err error) {
		for i := range n {
			took, all, err := change(ctx, list, fmt.Sprintf("10.250.%d.%d", int(round)*50+i/250, 1+i%250), func(addr string) error {
				return m.put(writer, "hosts/"+host+"/Network/IP", addr)
			})
			if err != nil {
				return nil, err
			}
			acked, seen = append(acked, took), append(seen, all)
		}
		return seen, nil
	}
	n := b.count(200, 30)
	// The two are watched apart: each asks all the time, and would take the other's core.
	seen, err := measure(web, n, 1)
	if err != nil {
		return fmt.Errorf("by HTTP: %w", err)
	}
	b.addConvergence("write at one of 3 -> HTTP at both others", seen, acked)
	seen, dnsErr := measure(dns, n, 2)
	if dnsErr != nil {
		return fmt.Errorf("by DNS: %w", dnsErr)
	}
	b.addConvergence("write at one of 3 -> DNS at both others", seen, acked[n:])
	return nil
}

func (b *bench) addConvergence(what string, seen, acked []time.Duration) {
	p50, p99 := median(seen), quantile(seen, 0.99)
	b.table.add(row{
		what: what, measured: fmt.Sprintf("p50 %s, p99 %s (n=%d)", ms(p50), ms(p99), len(seen)),
		budget: "p50 < 150 ms, p99 < 500 ms (60 agents)", peer: fmt.Sprintf("%.2f x PUT acknowledged, %s", float64(p50)/float64(median(acked)), ms(median(acked))),
		met: when(p50 < 150*time.Millisecond && p99 < 500*time.Millisecond),
	})
}

// watcher asks once for a value; an empty one is none yet.
type watcher func() (string, error)

// change writes and returns when the write was acknowledged, and when all watchers saw it, both from its start.
func change(ctx context.Context, watchers []watcher, value string, write func(string) error) (acked, seen time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	begin := time.Now()
	times, errs := make([]time.Duration, len(watchers)), make([]error, len(watchers)+1)
	var wg sync.WaitGroup
	for i, ask := range watchers {
		wg.Go(func() {
			for {
				got, err := ask()
				if times[i] = time.Since(begin); err != nil || got == value {
					errs[i] = err
					return
				}
				select {
				case <-ctx.Done():
					errs[i] = fmt.Errorf("agent %d answers %q instead of %q: %w", i+2, got, value, ctx.Err())
					return
				case <-time.After(look):
				}
			}
		})
	}
	errs[len(watchers)] = write(value)
	acked = time.Since(begin)
	wg.Wait()
	for _, t := range times {
		seen = max(seen, t)
	}
	return acked, seen, errors.Join(errs...)
}
