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

// trimMemory runs until ctx ends. It collects when much was allocated, be it by the start, and nothing changed since the
// tick before.
func (a *Agent) trimMemory(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	// The start was a burst as well: what loading threw away is more than what it kept.
	trimmed, applied := uint64(0), a.store.View().Applied()
	quiet, again := 0, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := a.store.View().Applied()
		if now != applied {
			applied, quiet = now, 0
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

// allocated is the total of bytes ever allocated on the heap.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
