package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"hostmesh/node/api"
)

// crowd is some agents, ours or serf's, with a stream of what each hears. What one is told, all hear.
type crowd interface {
	size() int
	// tell makes it known at one agent, and returns when that has accepted it.
	tell(agent int, word string) error
	// heard is what each agent's stream says.
	heard() <-chan hearing
	pids() []int
	close()
}

// hearing is a word that has come out of an agent's stream.
type hearing struct {
	agent int
	word  string
	at    time.Time
	err   error // the stream ended
}

// spreading is what a crowd did.
type spreading struct {
	seen []time.Duration // from the start of telling one until the last other one has said so
	idle float64         // cores that all agents took together, at rest
}

// spread measures how long a write at any of many agents takes to be seen at all the others, beside user events of
// Debian's serf agent, and what such a crowd takes at rest.
func (b *bench) spread(ctx context.Context) error {
	sizes := []int{10, 30, 60}
	if b.short {
		sizes = sizes[:1]
	}
	for _, n := range sizes {
		ours, err := b.spreadOf(ctx, func() (crowd, error) { return b.ourCrowd(ctx, n) })
		if err != nil {
			return fmt.Errorf("%d agents: %w", n, err)
		}
		serfs, err := b.spreadOf(ctx, func() (crowd, error) { return b.serfCrowd(ctx, n) })
		if err != nil {
			return fmt.Errorf("%d serf agents: %w", n, err)
		}
		p50, p99 := median(ours.seen), quantile(ours.seen, 0.99)
		their50, their99 := median(serfs.seen), quantile(serfs.seen, 0.99)
		r := row{
			what:     fmt.Sprintf("write at one of %d agents -> all others", n),
			measured: fmt.Sprintf("p50 %s, p99 %s (n=%d)", ms(p50), ms(p99), len(ours.seen)),
			peer: fmt.Sprintf("%.2f x serf event's p50 %s, %.2f x p99 %s",
				float64(p50)/float64(their50), ms(their50), float64(p99)/float64(their99), ms(their99)),
		}
		if n == 60 {
			r.budget, r.met = "p50 < 150 ms, p99 < 500 ms", when(p50 < 150*time.Millisecond && p99 < 500*time.Millisecond)
		}
		b.table.add(r)
		b.table.add(row{
			what:     fmt.Sprintf("%d agents at rest, CPU of all", n),
			measured: fmt.Sprintf("%.1f %% of a core, %.2f %% each", 100*ours.idle, 100*ours.idle/float64(n)), budget: "< 1 % of a core each",
			peer: fmt.Sprintf("serf %.1f %%, %.2f %% each", 100*serfs.idle, 100*serfs.idle/float64(n)), met: when(ours.idle/float64(n) < 0.01),
		})
	}
	b.table.note("spread: each agent has an address of its own on loopback and one open stream (GET /api/v1/watch; serf's RPC stream). A write is " +
		"fsynced where it is made and where it arrives, a serf event is kept nowhere; serf runs with its defaults (profile lan), events are not coalesced.")
	return nil
}

// spreadOf measures one crowd, and ends it.
func (b *bench) spreadOf(ctx context.Context, begin func() (crowd, error)) (out spreading, err error) {
	c, err := begin()
	if err != nil {
		return out, err
	}
	defer c.close()
	if out.idle, err = atRest(ctx, c.pids(), b.pick(10*time.Second, 4*time.Second)); err != nil {
		return out, err
	}
	rng := rand.New(rand.NewPCG(60, uint64(c.size())))
	for i := range b.count(200, 30) {
		// Not in step with anybody's timer.
		if err := sleep(ctx, 50*time.Millisecond+time.Duration(rng.IntN(200))*time.Millisecond); err != nil {
			return out, err
		}
		seen, err := spreadOnce(ctx, c, rng.IntN(c.size()), "word"+strconv.Itoa(i))
		if err != nil {
			return out, err
		}
		out.seen = append(out.seen, seen)
	}
	return out, nil
}

// spreadOnce tells one agent and waits until all others have said so.
func spreadOnce(ctx context.Context, c crowd, at int, word string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	told := make(chan error, 1)
	accepted := told // nil when it was heard
	begin := time.Now()
	go func() { told <- c.tell(at, word) }()
	missing := map[int]bool{}
	for i := range c.size() {
		missing[i] = i != at
	}
	last := begin
	for left := c.size() - 1; left > 0; {
		select {
		case err := <-accepted:
			if err != nil {
				return 0, err
			}
			accepted = nil
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d agents have not heard of %s: %w", left, c.size(), word, ctx.Err())
		case h := <-c.heard():
			if h.err != nil {
				return 0, fmt.Errorf("the stream of agent %d: %w", h.agent+1, h.err)
			}
			if h.word == word && missing[h.agent] {
				missing[h.agent] = false
				left--
				if h.at.After(last) {
					last = h.at
				}
			}
		}
	}
	if accepted != nil {
		return last.Sub(begin), <-accepted
	}
	return last.Sub(begin), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// atRest is how many cores some processes take together while nothing is asked of them.
func atRest(ctx context.Context, pids []int, d time.Duration) (cores float64, err error) {
	if err := sleep(ctx, 3*time.Second); err != nil { // what follows a start
		return 0, err
	}
	total := func() (sum time.Duration, err error) {
		for _, pid := range pids {
			took, err := cpuTime(pid)
			if err != nil {
				return 0, err
			}
			sum += took
		}
		return sum, nil
	}
	before, err := total()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := sleep(ctx, d); err != nil {
		return 0, err
	}
	after, err := total()
	return (after - before).Seconds() / time.Since(begin).Seconds(), err
}

// ourCrowd is a mesh of hostmesh agents.
type ourCrowd struct {
	mesh    *mesh
	hear    chan hearing
	end     context.CancelFunc
	streams sync.WaitGroup
}

const spreadHost = "hosts/spread.bench"

func (b *bench) ourCrowd(ctx context.Context, n int) (_ crowd, err error) {
	m, err := b.newMesh(ctx, n)
	if err != nil {
		return nil, err
	}
	streams, end := context.WithCancel(ctx)
	c := &ourCrowd{mesh: m, hear: make(chan hearing, 4*n), end: end}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := m.fill(ctx, writers); err != nil { // with the access list that lets the bench write
		return nil, err
	}
	if err := c.tell(0, "none"); err != nil {
		return nil, err
	}
	if err := m.equal(ctx, m.agents...); err != nil {
		return nil, err
	}
	synced := make(chan error, n)
	for i, a := range m.agents {
		client, err := api.NewClient(api.ClientConfig{Server: "http://" + a.addr + ":" + httpPort, Token: m.token})
		if err != nil {
			return nil, err
		}
		c.streams.Go(func() {
			defer client.Close()
			for e, err := range client.Watch(streams, api.WatchOptions{NS: "hosts", Prefix: "spread"}) {
				switch {
				case err != nil:
					synced <- err
					return
				case e.Kind == api.EventSynced:
					select {
					case synced <- nil:
					default: // it came back after a break, which the next word will show
					}
				default:
					c.hear <- hearing{agent: i, word: e.Log, at: time.Now()}
				}
			}
		})
	}
	for range m.agents {
		select {
		case err := <-synced:
			if err != nil {
				return nil, err
			}
		case <-time.After(30 * time.Second):
			return nil, errors.New("not every agent's watch begins within 30 s")
		}
	}
	return c, nil
}

func (c *ourCrowd) size() int             { return len(c.mesh.agents) }
func (c *ourCrowd) heard() <-chan hearing { return c.hear }

func (c *ourCrowd) pids() []int {
	var out []int
	for _, a := range c.mesh.agents {
		out = append(out, a.pid())
	}
	return out
}

func (c *ourCrowd) tell(agent int, word string) error {
	// A connection of its own: one that was kept would be closed in between.
	w, err := dial(context.Background(), c.mesh.agents[agent].addr+":"+httpPort)
	if err != nil {
		return err
	}
	defer w.close()
	form := url.Values{"value": {"{Word: " + word + "}"}, "log": {word}, "session": {c.mesh.token}}
	status, body, err := w.do(bodyRequest("PUT", "/v1/"+spreadHost, "application/x-www-form-urlencoded", form.Encode()))
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("answered with %d: %.200s", status, body)
	}
	if err != nil {
		return fmt.Errorf("write at agent %d: %w", agent+1, err)
	}
	return nil
}

func (c *ourCrowd) close() {
	c.end()
	// A stream may be about to say something.
	ended := make(chan struct{})
	go func() { c.streams.Wait(); close(ended) }()
	for done := false; !done; {
		select {
		case <-c.hear:
		case <-ended:
			done = true
		}
	}
	c.mesh.close()
}
