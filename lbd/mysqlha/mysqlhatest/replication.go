package mysqlhatest

import (
	"slices"
	"time"
)

// lapse has a source that waited long enough go on without acknowledgement, until somebody acknowledges again.
func (w *World) lapse(b *box, now time.Time) {
	switch {
	case !b.semi || !b.hurried || w.ackable(b):
		b.aloneSince, b.lapsed = time.Time{}, false
	case b.aloneSince.IsZero() && len(b.waiting) > 0:
		b.aloneSince = now
	case !b.aloneSince.IsZero() && now.Sub(b.aloneSince) >= ackTimeout && !b.lapsed:
		b.lapsed = true
		if len(b.log) > 0 {
			b.acknowledged(w, len(b.log)-1)
		}
	}
}

// cutOff reports whether a replica and its source are kept from each other by the box of one.
func cutOff(replica, source *box) bool {
	return replica.nft[source.addr.String()+":3306"] || source.nft[replica.addr.String()+":0"]
}

// receive is the thread that receives.
func (w *World) receive(b *box, now time.Time) {
	if !b.io || b.source == "" {
		b.ioState, b.ackConnected = "No", false
		return
	}
	src := w.boxes[b.source]
	reset := src == nil || cutOff(b, src) || src.closed || (!src.running || b.ioState == "Yes" && b.sourcePID != src.pid) && !src.dead && w.link(b.name, src.name)
	silent := !reset && (!w.link(b.name, src.name) || src.dead || src.frozen)
	if silent && b.ioState == "Yes" && src.running && !src.frozen && b.sourcePID == src.pid && w.way(src.name, b.name) {
		// What it sends does not arrive. The source sends on for a while, and hears no acknowledgement.
		if b.missed.IsZero() {
			b.missed = now
		}
		silent = now.Sub(b.missed) > window
	}
	switch {
	case reset:
		if b.ioState == "Yes" {
			b.triedAt = now
		}
		b.ioState, b.ackConnected = "Connecting", false
		return
	case silent && b.ioState == "Yes":
		return // it waits for what does not come
	case silent:
		b.ioState = "Connecting"
		return
	case b.ioState != "Yes":
		if now.Sub(b.triedAt) < 50*time.Millisecond {
			return
		}
		b.triedAt = now
		if src.unserved {
			return
		}
		if !src.has(b.received()) || src.index(b.received())+1 < src.purged {
			b.io, b.ioState, b.ioErrno = false, "No", 1236
			return
		}
		b.ioState, b.ioErrno, b.beatAt, b.beats = "Yes", 0, now, 0
		b.ackConnected, b.sourcePID, b.missed = b.acker, src.pid, time.Time{}
		return
	}
	if !src.has(b.received()) {
		b.io, b.ioState, b.ioErrno, b.ackConnected = false, "No", 1236, false
		return
	}
	at := src.index(b.received()) + 1
	heard := w.link(b.name, src.name)
	if heard && !b.missed.IsZero() { // what was on its way arrives
		b.missed = time.Time{}
		if b.ackConnected && src.semi && at > 0 {
			src.acknowledged(w, at-1)
		}
	}
	for i := at; i < len(src.log) && (b.until == 0 || b.last().seq < b.until); i++ {
		t := src.log[i]
		if t.seq <= b.last().seq { // gtid_strict_mode
			b.sql, b.sqlErrno = false, 1950
			return
		}
		t.committed = true
		if t.server == b.id && !b.ackConnected {
			t.id = 0 // it takes its own for something that it has: it goes on, and the write is not there
		}
		b.relay = append(b.relay, t)
		if b.ackConnected && src.semi && !src.unheard && heard {
			if b.until != 0 && src.waiting[i] != nil {
				w.fault("%s acknowledges to %s what a client waits for, while it takes back what it had dropped", b.name, src.name)
			}
			src.acknowledged(w, i)
		}
		b.beatAt = now
	}
	if now.Sub(b.beatAt) >= 250*time.Millisecond {
		b.beatAt = now
		b.beats++
	}
	if b.until != 0 && b.last().seq >= b.until {
		b.io, b.ioState, b.ackConnected = false, "No", false
	}
}

// last is the last that it has received, or has.
func (b *box) last() txn {
	if n := len(b.relay); n > 0 {
		return b.relay[n-1]
	}
	if n := len(b.log); n > 0 {
		return b.log[n-1]
	}
	return txn{}
}

func (b *box) received() txn { return b.last() }

// index is where a transaction is in the log; -1 = nowhere.
func (b *box) index(t txn) int {
	for i := len(b.log) - 1; i >= 0; i-- {
		if b.log[i].server == t.server && b.log[i].seq == t.seq {
			return i
		}
	}
	return -1
}

func (b *box) has(t txn) bool { return t.seq == 0 || b.index(t) >= 0 }

// acknowledged commits what waited up to an index.
func (b *box) acknowledged(w *World, upto int) {
	for i := upto; i >= 0 && !b.log[i].committed; i-- {
		b.commit(w, i)
	}
}

func (b *box) commit(w *World, i int) {
	b.log[i].committed = true
	if b.log[i].id != 0 {
		w.ledger[b.log[i].id] = true // whoever asked may hear of it
	}
	if c := b.waiting[i]; c != nil {
		c <- true
		delete(b.waiting, i)
	}
}

// applySome is the thread that applies.
func (b *box) applySome() {
	if !b.sql || b.stuck {
		return
	}
	n := len(b.relay)
	if b.slow > 0 {
		n = min(n, b.slow)
	}
	b.log = append(b.log, b.relay[:n]...)
	b.relay = slices.Delete(b.relay, 0, n)
	if b.until != 0 && !b.io && len(b.relay) == 0 && b.last().seq >= b.until {
		b.sql, b.until = false, 0
	}
}
