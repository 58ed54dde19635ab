package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// model is what the simulated machines and wires are like. Begin with defaultModel.
type model struct {
	sameRack, otherRack, otherSite span          // one way
	uplink                         float64       // bits a second that a node sends
	overhead                       int           // bytes a message takes besides its payload: TLS, TCP, IP and Ethernet
	loss                           float64       // share of messages of which a packet is lost
	resend                         time.Duration // what a loss costs
	service                        time.Duration // CPU time of a message, of one core
	servicePerKB                   time.Duration
	fsync                          time.Duration // of one commit
	slowAnswer                     time.Duration // of a sick node that still answers
	failureSeen                    span          // after what time others see a node as failed
	joinSeen                       span          // after what time others see a node as alive
	lookEvery                      time.Duration // how often an agent looks at its member list at most
	rackSize                       int
}

// span is a range that times are drawn from evenly.
type span struct{ from, to time.Duration }

func (s span) at(share float64) time.Duration {
	return s.from + time.Duration(share*float64(s.to-s.from))
}

func defaultModel() model {
	return model{
		sameRack:     span{100 * time.Microsecond, 300 * time.Microsecond}, // a switch and two kernels
		otherRack:    span{300 * time.Microsecond, time.Millisecond},
		otherSite:    span{5 * time.Millisecond, 20 * time.Millisecond},
		uplink:       1e9,
		overhead:     120, // a TLS record, a stream's frame, and the headers of one segment
		loss:         0.001,
		resend:       200 * time.Millisecond, // Linux's smallest retransmission timeout
		service:      100 * time.Microsecond, // decode, merge, encode, and the kernel's share
		servicePerKB: time.Microsecond,       // AES-GCM and copies
		fsync:        2 * time.Millisecond,   // a server's SSD
		slowAnswer:   5 * time.Second,
		failureSeen:  span{6 * time.Second, 10 * time.Second}, // SWIM's probe, suspicion and gossip in a large mesh
		joinSeen:     span{200 * time.Millisecond, time.Second},
		lookEvery:    time.Second,
		rackSize:     40,
	}
}

// sickness is how an agent behaves that the others still take for alive.
type sickness int32

const (
	healthy sickness = iota
	slow             // it answers after model.slowAnswer
	mute             // it never answers
)

var errRefused = errors.New("connection refused")

type handler = func(ctx context.Context, from string, req []byte) ([]byte, error)

// link is an agent's place in the fabric: its uplink, its one core and what is counted of both.
type link struct {
	mu       sync.Mutex // guards the fields below
	rand     *rand.Rand
	uplink   time.Time // when it is free
	core     time.Time // when it is free
	handlers map[string]handler

	sick     atomic.Int32
	side     atomic.Int32 // nodes on different sides of a cut do not reach each other
	sent     atomic.Int64
	received atomic.Int64
	serving  atomic.Int32
	most     atomic.Int32 // of serving
	messages atomic.Int64 // that were served
}

// port is one agent's Peers.
type port struct {
	w *world
	a *agent
}

func (p port) Alive() []string { return p.a.aliveNow() }

func (p port) Changed() (<-chan struct{}, func()) { return p.a.changed, func() {} }

func (p port) Handle(name string, h func(ctx context.Context, from string, req []byte) ([]byte, error)) {
	p.a.line.mu.Lock()
	defer p.a.line.mu.Unlock()
	p.a.line.handlers[name] = h
}

// Call carries a request to an agent and its answer back: each occupies the sender's uplink, travels, may be lost once, and
// waits for the receiver's core. The handler gets and gives the bytes that an agent would send.
func (p port) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	w, to := p.w, p.w.byName[node]
	if to == nil {
		return nil, fmt.Errorf("nobody is called %s", node)
	}
	if err := w.carry(ctx, p.a, to, len(req)); err != nil {
		return nil, err
	}
	if to.line.side.Load() != p.a.line.side.Load() {
		<-ctx.Done() // nothing comes back, as from behind a dead switch
		return nil, ctx.Err()
	}
	if !to.up.Load() {
		return nil, fmt.Errorf("call %s: %w", node, errRefused)
	}
	switch sickness(to.line.sick.Load()) {
	case mute:
		<-ctx.Done()
		return nil, ctx.Err()
	case slow:
		if err := sleep(ctx, w.model.slowAnswer); err != nil {
			return nil, err
		}
	}
	answer, err := to.serve(ctx, w, p.a.name, name, req)
	if err != nil {
		return nil, err
	}
	if err := w.carry(ctx, to, p.a, len(answer)); err != nil {
		return nil, err
	}
	if err := sleep(ctx, p.a.compute(w, len(answer))); err != nil {
		return nil, err
	}
	return answer, nil
}

func (a *agent) serve(ctx context.Context, w *world, from, name string, req []byte) ([]byte, error) {
	n := a.line.serving.Add(1)
	defer a.line.serving.Add(-1)
	for was := a.line.most.Load(); n > was && !a.line.most.CompareAndSwap(was, n); was = a.line.most.Load() {
	}
	a.line.messages.Add(1)
	if err := sleep(ctx, a.compute(w, len(req))); err != nil {
		return nil, err
	}
	a.line.mu.Lock()
	h := a.line.handlers[name]
	a.line.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("call %s at %s: %w", name, a.name, errRefused)
	}
	return h(ctx, from, slices.Clone(req))
}

// carry takes as long as a message of n bytes does from one agent to another.
func (w *world) carry(ctx context.Context, from, to *agent, n int) error {
	m, l := &w.model, &from.line
	n += m.overhead
	now := time.Now()
	l.mu.Lock()
	start := now
	if l.uplink.After(now) {
		start = l.uplink
	}
	l.uplink = start.Add(time.Duration(float64(n) * 8 / m.uplink * 1e9))
	arrive := l.uplink.Add(w.distance(from, to).at(l.rand.Float64()))
	if l.rand.Float64() < m.loss {
		arrive = arrive.Add(m.resend)
	}
	l.mu.Unlock()
	l.sent.Add(int64(n))
	if err := sleep(ctx, arrive.Sub(now)); err != nil {
		return err
	}
	to.line.received.Add(int64(n))
	return nil
}

func (w *world) distance(a, b *agent) span {
	switch {
	case a.site != b.site:
		return w.model.otherSite
	case a.rack != b.rack:
		return w.model.otherRack
	}
	return w.model.sameRack
}

// compute is how long it takes until the agent's core has dealt with a message of n bytes, after those before it.
func (a *agent) compute(w *world, n int) time.Duration {
	now := time.Now()
	a.line.mu.Lock()
	defer a.line.mu.Unlock()
	start := now
	if a.line.core.After(now) {
		start = a.line.core
	}
	a.line.core = start.Add(w.model.service + time.Duration(n)*w.model.servicePerKB/1024)
	return a.line.core.Sub(now)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
