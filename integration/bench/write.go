package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// writers is the most clients that write at a time; each changes a host of its own.
const writers = 64

// write compares the rate of durable writes on one node with that of a one-node etcd on the same disk: the same
// client, the same value under a key of the same name, both by HTTP/1.1.
func (b *bench) write(ctx context.Context) error {
	m, err := b.newMesh(ctx, 1)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.fill(ctx, writers); err != nil {
		return err
	}
	e, err := b.startEtcd(ctx)
	if err != nil {
		return err
	}
	defer e.end()

	value := func(client, n int) (key, text string) {
		return "hosts/" + hostName(client) + "/Network/IP", fmt.Sprintf("10.%d.%d.%d", 100+client, n/250%250, 1+n%250)
	}
	start := 0 // of the values of a turn: one that is there already would not be written
	ours := func(client, n int) string {
		key, text := value(client, start+n)
		return m.putRequest(key, text)
	}
	theirs := func(client, n int) string {
		key, text := value(client, start+n)
		return bodyRequest("POST", "/v3/kv/put", "application/json", etcdPut(key, text))
	}
	length := b.pick(4*time.Second, time.Second)
	for _, clients := range []int{1, writers} {
		var rates pairs
		var waits [2][]time.Duration
		for range b.count(5, 2) {
			start += 100_000
			t, err := load(ctx, m.agents[0].addr+":"+httpPort, clients, length, http.StatusCreated, ours)
			if err != nil {
				return fmt.Errorf("hostmesh: %w", err)
			}
			u, err := load(ctx, e.addr, clients, length, http.StatusOK, theirs)
			if err != nil {
				return fmt.Errorf("etcd: %w", err)
			}
			rates.add(t.rate(), u.rate())
			waits[0], waits[1] = append(waits[0], t.waits...), append(waits[1], u.waits...)
		}
		b.table.add(row{
			what:     fmt.Sprintf("write with fsync, one node, clients: %d", clients),
			measured: fmt.Sprintf("%.0f/s (p50 %s, p99 %s)", median(rates.ours), ms(median(waits[0])), ms(quantile(waits[0], 0.99))), budget: ">= 1 x etcd",
			peer: fmt.Sprintf("%.2f x etcd, %.0f/s (p50 %s, p99 %s)", rates.ratio(), median(rates.theirs), ms(median(waits[1])), ms(quantile(waits[1], 0.99))),
			met:  when(rates.ratio() >= 1),
		})
	}
	b.table.note("The etcd beside the writes is %s.", e.version)
	return nil
}

func etcdPut(key, value string) string {
	text, err := json.Marshal(map[string]string{
		"key": base64.StdEncoding.EncodeToString([]byte(key)), "value": base64.StdEncoding.EncodeToString([]byte(value)),
	})
	if err != nil {
		panic(err) // a map of strings
	}
	return string(text)
}
