package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	a := m.agents[0]
	path := "/v1/hosts/" + hostName(siteHosts/2)
	file := filepath.Join(m.dir, "answer.json")
	if err := saveAnswer(a.url(path), file); err != nil {
		return err
	}
	bare, err := b.startPeer("http", file)
	if err != nil {
		return err
	}
	defer bare.end()

	var cpu pairs
	var rates []float64
	request := getRequest(path)
	length := b.pick(1500*time.Millisecond, 500*time.Millisecond)
	for i := range b.count(9, 3) + 1 {
		var perGet [2]float64
		for side, s := range []struct {
			pid  int
			addr string
		}{{a.pid(), a.addr + ":" + httpPort}, {bare.pid(), bare.addr}} {
			before, err := cpuTime(s.pid)
			if err != nil {
				return err
			}
			t, err := load(ctx, s.addr, getClients, length, http.StatusOK, func(int, int) string { return request })
			if err != nil {
				return err
			}
			after, err := cpuTime(s.pid)
			if err != nil {
				return err
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
	b.table.add(row{
		what:     fmt.Sprintf("GET of a host, %d clients: server CPU", getClients),
		measured: fmt.Sprintf("%s (%.0f/s)", micros(median(cpu.ours)), median(rates)), budget: "<= 1.3 x bare net/http",
		peer: fmt.Sprintf("%.2f x bare net/http, %s", cpu.ratio(), micros(median(cpu.theirs))), met: when(cpu.ratio() <= 1.3),
	})
	return nil
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
