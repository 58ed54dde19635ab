package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/replica"
)

// track follows one write until every agent that counts shows it.
type track struct {
	began  time.Time
	counts []bool // by agent

	origin, seq uint64
	seen        []bool          // by agent
	times       []time.Duration // in the order in which agents showed it, of those that count
	left        int
	done        chan struct{} // closed when left is 0
}

type trackKey struct{}

// follow makes a track of a write that is about to be made; agents are those that shall show it.
func (w *world) follow(agents []*agent) *track {
	t := &track{began: time.Now(), counts: make([]bool, len(w.agents)), seen: make([]bool, len(w.agents)), done: make(chan struct{})}
	for _, a := range agents {
		t.counts[a.id] = true
		t.left++
	}
	return t
}

// after is how long it took until a share of the agents showed the write.
func (t *track) after(share float64) time.Duration {
	n := max(int(share*float64(len(t.times)+t.left)+0.9999), 1)
	if n > len(t.times) {
		return -1
	}
	return t.times[n-1]
}

// tracker knows the writes under way.
type tracker struct {
	mu     sync.Mutex // guards the field below, and the tracks
	tracks []*track
}

func (tr *tracker) add(t *track) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.tracks = append(tr.tracks, t)
}

// look notes what an agent shows.
func (tr *tracker) look(a *agent, v hostdb.View) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	kept := tr.tracks[:0]
	for _, t := range tr.tracks {
		if !t.seen[a.id] && v.Seq(t.origin) >= t.seq {
			t.seen[a.id] = true
			if t.counts[a.id] {
				t.times = append(t.times, time.Since(t.began))
				t.left--
			}
			if t.left == 0 {
				close(t.done)
				continue
			}
		}
		kept = append(kept, t)
	}
	clear(tr.tracks[len(kept):])
	tr.tracks = kept
}

// acker stands between a store and its replica, to learn which operation a write became, at the moment that it is durable at
// its writer and before any other can have it.
type acker struct {
	w *world
	a *agent
	r *replica.Replica
}

// Await implements hostdb.Acker.
func (k acker) Await(ctx context.Context, origin, seq uint64, want int) int {
	if t, ok := ctx.Value(trackKey{}).(*track); ok && t != nil {
		t.origin, t.seq = origin, seq
		k.w.watch.add(t)
		k.w.watch.look(k.a, k.a.store.View())
	}
	held := k.r.Await(ctx, origin, seq, want)
	k.w.ledger.add(origin, seq)
	return held
}

// ledger is what was acknowledged: the newest operation of each run.
type ledger struct {
	mu   sync.Mutex // guards the fields below
	runs map[uint64]uint64
	n    int
}

func (l *ledger) add(origin, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.runs == nil {
		l.runs = map[uint64]uint64{}
	}
	l.runs[origin] = max(l.runs[origin], seq)
	l.n++
}

// check says which acknowledged write a view lacks.
func (l *ledger) check(name string, v hostdb.View) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for origin, seq := range l.runs {
		if got := v.Seq(origin); got < seq {
			return fmt.Errorf("%s lacks acknowledged writes: of origin %016x it holds %d of %d", name, origin, got, seq)
		}
	}
	return nil
}
