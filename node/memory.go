package node

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What the agent took during a burst is given back to the system once it is quiet: the box's memory belongs to its
// guests. The runtime alone would keep up to half as much again until the next collection, which in a quiet agent is far
// away.
const (
	trimEvery = 5 * time.Second
	trimAfter = 32 << 20 // bytes allocated since the last time; an idle agent comes to that in tens of minutes
)

// How much garbage may lie about, in percent of what lives. The process says atRest (see cmd/hostmesh): that is right for
// a trickle of writes. But at it a quarter of what an import computes is collecting garbage, for memory that is given back
// a moment later.
const (
	atRest    = 50
	inBurst   = 150
	burstFrom = 2000 // operations between two ticks
)

// trimMemory runs until ctx ends. It collects when much was allocated, be it by the start, and nothing changed since the
// tick before; and it lets garbage lie while there is a burst.
func (a *Agent) trimMemory(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	changed, stop := a.store.Watch()
	defer stop()
	// The start was a burst as well: what loading threw away is more than what it kept.
	trimmed, p := uint64(0), pace{applied: a.store.View().Applied(), burst: true}
	quiet, again := 0, 0
	collectAt(inBurst)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if p.write(a.store.View().Applied()) {
				collectAt(inBurst)
			}
			continue
		case <-tick.C:
		}
		still, ended := p.tick(a.store.View().Applied())
		if ended {
			collectAt(atRest)
		}
		if !still {
			quiet = 0
			continue
		}
		quiet++
		switch {
		case allocated()-trimmed > trimAfter:
			again = 2 // the storage lets go of its buffers one by one, for a minute
		case again > 0 && quiet%6 == 0:
			again--
		default:
			continue
		}
		debug.FreeOSMemory()
		trimmed = allocated()
	}
}

// pace tells a burst of writes from a trickle.
type pace struct {
	applied uint64 // operations at the last tick
	burst   bool
}

// write is called when there are now so many operations; it reports whether a burst begins.
func (p *pace) write(now uint64) (begins bool) {
	// After a repair there may be fewer.
	begins = !p.burst && now > p.applied && now-p.applied >= burstFrom
	p.burst = p.burst || begins
	return begins
}

// tick is called now and then; it reports whether nothing was written since the last time, and whether a burst is over.
func (p *pace) tick(now uint64) (still, ended bool) {
	still = now == p.applied
	ended = p.burst && (now <= p.applied || now-p.applied < burstFrom)
	p.applied, p.burst = now, p.burst && !ended
	return still, ended
}

// collectAt changes when garbage is collected, unless somebody wants something else than the process does by itself, as
// GOGC or a test.
func collectAt(percent int) {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	if now := s[0].Value.Uint64(); now == atRest || now == inBurst {
		debug.SetGCPercent(percent)
	}
}

// allocated is the total of bytes ever allocated on the heap.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
