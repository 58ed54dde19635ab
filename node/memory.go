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
	trimAgain = 3        // so often after a burst
)

// How much garbage may lie about, in percent of what lives. The process says atRest (see cmd/hostmesh): that is right for
// a trickle of writes. But at it a third of what an import computes is collecting garbage, for memory that is given back
// a moment later. So a burst may leave some garbage of a fixed size, which is more in percent the smaller the replica is.
const (
	atRest      = 50
	inBurst     = 150       // at least
	mostInBurst = 400       // at most
	burstFrom   = 64 << 20  // bytes allocated between two ticks, after which a write begins a burst
	burstLeaves = 192 << 20 // bytes of garbage
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
	collect := collector{percent: atRest}
	collect.at(burstPercent(sample("/gc/heap/live:bytes")))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if p.write(allocated()) {
				collect.at(burstPercent(sample("/gc/heap/live:bytes")))
			}
			continue
		case <-tick.C:
		}
		still, ended := p.tick(a.store.View().Applied(), allocated())
		switch {
		case ended:
			collect.at(atRest)
		case p.burst:
			collect.at(burstPercent(sample("/gc/heap/live:bytes"))) // it may hold much more by now
		}
		if !still {
			quiet = 0
			continue
		}
		quiet++
		switch {
		case allocated()-trimmed > trimAfter:
			again = trimAgain
		case again == trimAgain:
			again-- // what lies in pools lives through one collection
		case again > 0 && quiet%6 == 0:
			again-- // the storage lets go of its buffers one by one, for a minute
		default:
			continue
		}
		debug.FreeOSMemory()
		trimmed = allocated()
	}
}

// burstPercent is how much garbage a burst may leave where so many bytes live.
func burstPercent(live uint64) int {
	return int(min(max(burstLeaves*100/max(live, 1), inBurst), mostInBurst))
}

// pace tells a burst of writes from a trickle.
type pace struct {
	applied   uint64 // operations at the last tick
	allocated uint64 // bytes at the last tick
	burst     bool
}

// write is called when something was written and so much has ever been allocated; it reports whether a burst begins.
func (p *pace) write(allocated uint64) (begins bool) {
	begins = !p.burst && allocated-p.allocated >= burstFrom
	p.burst = p.burst || begins
	return begins
}

// tick is called now and then; it reports whether nothing was written since the last time, and whether a burst is over.
func (p *pace) tick(applied, allocated uint64) (still, ended bool) {
	still = applied == p.applied
	ended = p.burst && (still || allocated-p.allocated < burstFrom)
	p.applied, p.allocated, p.burst = applied, allocated, p.burst && !ended
	return still, ended
}

// collector changes when garbage is collected, unless somebody wants something else than the process does by itself, as
// GOGC or a test.
type collector struct{ percent int }

func (c *collector) at(percent int) {
	if percent != c.percent && sample("/gc/gogc:percent") == uint64(c.percent) {
		debug.SetGCPercent(percent)
		c.percent = percent
	}
}

// allocated is the total of bytes ever allocated on the heap.
func allocated() uint64 { return sample("/gc/heap/allocs:bytes") }

// sample is a figure of the runtime.
func sample(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
