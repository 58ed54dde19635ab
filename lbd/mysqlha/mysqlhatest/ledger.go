package mysqlhatest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Write has a client try a write on the server of a host, and returns its id and whether the client was told that it is written. It waits until ctx ends.
func (w *World) Write(ctx context.Context, host string) (id int, ok bool) {
	return w.try(ctx, host, false)
}

// Override is Write by an account that read_only does not hold, at the server's own address.
func (w *World) Override(ctx context.Context, host string) (id int, ok bool) {
	return w.try(ctx, host, true)
}

func (w *World) try(ctx context.Context, host string, anyway bool) (id int, ok bool) {
	w.mu.Lock()
	w.nextID++
	id = w.nextID
	w.mu.Unlock()
	return id, w.write(ctx, host, id, anyway)
}

func (w *World) write(ctx context.Context, host string, id int, anyway bool) (ok bool) {
	w.mu.Lock()
	b := w.boxes[host]
	for { // one group of transactions waits to be acknowledged, the next is in the log behind it; others are not written before
		if b == nil || !b.running || b.frozen || b.dead || b.closed || (b.readOnly || b.refusing) && !anyway {
			w.mu.Unlock()
			return false
		}
		if !b.semi || b.lapsed || len(b.waiting) < 2 {
			break
		}
		w.mu.Unlock()
		if err := pass(ctx, tick); err != nil {
			return false
		}
		w.mu.Lock()
	}
	b.log = append(b.log, txn{server: b.id, seq: b.last().seq + 1, id: id})
	i := len(b.log) - 1
	if !b.semi || b.lapsed || !w.Strict && !w.ackable(b) {
		b.commit(w, i)
		w.mu.Unlock()
		return true
	}
	c := make(chan bool, 1)
	b.waiting[i] = c
	died := b.died
	w.mu.Unlock()
	select {
	case ok = <-c:
	case <-died:
	case <-ctx.Done():
	}
	return ok
}

// ackable reports whether somebody could acknowledge what a server writes. mu is held.
func (w *World) ackable(b *box) bool {
	for _, x := range w.boxes {
		if x.running && !x.frozen && x.source == b.name && x.ioState == "Yes" && x.ackConnected && x.until == 0 && w.link(x.name, b.name) && !cutOff(x, b) {
			return true
		}
	}
	return false
}

// judge looks for what must never be. mu is held.
func (w *World) judge() {
	if !w.Strict {
		return
	}
	var able []string
	for _, name := range w.names() {
		b := w.boxes[name]
		if b.running && !b.readOnly && !b.dead && (!b.semi || b.lapsed || w.ackable(b)) {
			able = append(able, name)
		}
	}
	if len(able) > 1 {
		w.fault("%v take writes that can be acknowledged, at the same time", able)
	}
	// Whoever can acknowledge must be counted: a failover waits for nobody else's cut. That holds by what hosts are cut from. Where a person has taken that away, an agent that is there puts it back within
	// a moment, in which nobody could have done anything; that nothing is lost by it is demanded all the same.
	if r := w.rec.record; !w.rec.none {
		if p := w.boxes[r.Primary]; p != nil && p.running && !p.readOnly && !p.dead && p.semi {
			for _, name := range w.names() {
				x := w.boxes[name]
				if x.running && !x.frozen && x.source == p.name && x.ioState == "Yes" && x.ackConnected && x.until == 0 && w.link(x.name, p.name) && !cutOff(x, p) && !flushed(x, p) && !slices.Contains(r.Ackers, name) {
					w.fault("%s acknowledges what %s writes, and is not counted", name, p.name)
				}
			}
		}
	}
	// Nor is one counted whose data nobody has found right, or is it the primary.
	if r := w.rec.record; !w.rec.none && r.Intent == nil {
		for _, name := range w.names() {
			if x := w.boxes[name]; x.copy != nil && slices.Contains(r.Ackers, name) && r.Starts[name] != (time.Time{}) {
				w.fault("%s counts, and is a copy that nobody has compared", name)
			}
		}
	}
	var holders []string
	for _, name := range w.names() {
		b := w.boxes[name]
		if b.holds() {
			holders = append(holders, name)
		}
	}
	// One that comes back from isolation has the address until its next look at the record, at most. Real boxes notice the other's announcement besides.
	both := map[[2]string]time.Time{}
	for i, x := range holders {
		for _, y := range holders[i+1:] {
			if !w.link(x, y) {
				continue
			}
			since, was := w.both[pair(x, y)]
			if !was {
				since = time.Now()
			}
			both[pair(x, y)] = since
			if time.Since(since) > overlap {
				w.fault("%s and %s both have the address, for %s", x, y, overlap)
			}
		}
	}
	w.both = both
}

func (w *World) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(w.faults, text) && len(w.faults) < 20 {
		w.say("never to be: %s", text)
		for _, name := range w.names() {
			w.say("%s: %s", name, w.boxes[name].stands())
		}
		if w.atFault == nil {
			w.atFault = slices.Clone(w.journal[max(0, len(w.journal)-journalLength):])
		}
		w.faults = append(w.faults, text)
	}
}

// Faults are the violations of invariants so far.
func (w *World) Faults() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.faults)
}

// Lost are the ids that a client was told of and that the server of a host has not got, applied or not.
func (w *World) Lost(host string) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.boxes[host]
	has := map[int]bool{}
	for _, t := range slices.Concat(b.log, b.relay) {
		has[t.id] = true
	}
	var out []int
	for id := range w.ledger {
		if !has[id] && !w.byHand[id] {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Writes are the ids that the server of a host has, in order, told of or not.
func (w *World) Writes(host string) (out []int) {
	w.with(host, func(b *box) {
		for _, t := range b.log {
			out = append(out, t.id)
		}
	})
	return out
}

// Acknowledged is how many writes clients were told of.
func (w *World) Acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ledger)
}

// Writable are the hosts whose servers take writes.
func (w *World) Writable() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, name := range w.names() {
		if b := w.boxes[name]; b.running && !b.readOnly && !b.dead {
			out = append(out, name)
		}
	}
	return out
}
