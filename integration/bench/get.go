package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const getClients = 4

// get compares the CPU that the agent takes to answer a GET of a host with that of a bare net/http handler sending
// the same bytes.
func (b *bench) get(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	cpu, rate, err := b.beside(ctx, m, "/v1/hosts/"+hostName(siteHosts/2), b.count(9, 3))
	if err != nil {
		return err
	}
	b.table.add(row{
		what:     fmt.Sprintf("GET of a host, %d clients: server CPU", getClients),
		measured: fmt.Sprintf("%s (%.0f/s)", micros(median(cpu.ours)), rate), budget: "<= 1.3 x bare net/http",
		peer: fmt.Sprintf("%.2f x bare net/http, %s", cpu.ratio(), micros(median(cpu.theirs))), met: when(cpu.ratio() <= 1.3),
	})
	return nil
}

// findCPU is the budget of one look at members, parents or derived.
const findCPU = 50 * time.Microsecond

// find measures what follows from membership, and a query over everything.
func (b *bench) find(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	host := "/v1/hosts/" + hostName(siteHosts/2)
	for _, look := range []struct{ what, path string }{
		{fmt.Sprintf("members of a tag that inherits %d", hostsPerCell), "/v1/tags/" + cellName + "/members"},
		{"parents of a host", host + "?meta=parents&from=tags"},
		{"derived of a host", host + "?meta=derived&from=tags"},
	} {
		cpu, rate, err := b.beside(ctx, m, look.path, b.count(3, 1))
		if err != nil {
			return fmt.Errorf("%s: %w", look.what, err)
		}
		b.table.add(row{
			what: look.what + ": server CPU", measured: fmt.Sprintf("%s (%.0f/s)", micros(median(cpu.ours)), rate), budget: "< 50 us",
			peer: fmt.Sprintf("%.2f x bare net/http, %s", cpu.ratio(), micros(median(cpu.theirs))),
			met:  when(median(cpu.ours) < float64(findCPU)),
		})
	}
	a := m.agents[0]
	expr := url.Values{"where": {`bytes(Hardware.OOB) == nil and Network.IP contains ".7." and "prod" in tags`}, "select": {"name,Network.IP"}, "as": {"csv"}, "limit": {"10000"}}
	t, err := load(ctx, a.addr+":"+httpPort, 1, b.pick(2*time.Second, 500*time.Millisecond), http.StatusOK,
		func(int, int) string { return getRequest("/api/v1/query?" + expr.Encode()) })
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	took := median(t.waits)
	b.table.add(row{
		what: fmt.Sprintf("query over %d hosts, its tags included", siteHosts), measured: fmt.Sprintf("p50 %s, p99 %s", ms(took), ms(quantile(t.waits, 0.99))),
		budget: "< 20 ms", met: when(took < 20*time.Millisecond),
	})
	return nil
}

// beside has clients ask the first agent of m and a bare handler that sends the same bytes, in alternating turns.
func (b *bench) beside(ctx context.Context, m *mesh, path string, turns int) (cpu pairs, rate float64, err error) {
	a := m.agents[0]
	file := filepath.Join(m.dir, "answer.json")
	if err := saveAnswer(a.url(path), file); err != nil {
		return cpu, 0, err
	}
	bare, err := b.startPeer("http", file)
	if err != nil {
		return cpu, 0, err
	}
	defer bare.end()
	var rates []float64
	request := getRequest(path)
	length := b.pick(1500*time.Millisecond, 500*time.Millisecond)
	for i := range turns + 1 {
		var perGet [2]float64
		for side, s := range []struct {
			pid  int
			addr string
		}{{a.pid(), a.addr + ":" + httpPort}, {bare.pid(), bare.addr}} {
			before, err := cpuTime(s.pid)
			if err != nil {
				return cpu, 0, err
			}
			t, err := load(ctx, s.addr, getClients, length, http.StatusOK, func(int, int) string { return request })
			if err != nil {
				return cpu, 0, err
			}
			after, err := cpuTime(s.pid)
			if err != nil {
				return cpu, 0, err
			}
			perGet[side] = float64(after-before) / float64(t.done)
			if side == 0 {
				rates = append(rates, t.rate())
			}
		}
		if i > 0 { // the first warms both
			cpu.add(perGet[0], perGet[1])
		}
	}
	return cpu, median(rates), nil
}

// saveAnswer keeps the answer of a GET for the bare handler.
func saveAnswer(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a := answer{Header: resp.Header}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
