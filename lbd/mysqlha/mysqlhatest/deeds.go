package mysqlhatest

import (
	"context"
	"time"

	"hostmesh/lbd/mysqlha"
)

// The times of what arrives late, or again, and of what a connection carries that only goes one way.
const (
	landTime = 30 * time.Second
	echoTime = 5 * time.Second
	window   = 500 * time.Millisecond
	tendTime = 250 * time.Millisecond // how often an agent looks after its server
	// putBackTime is how long after they were taken away the rules of a host are there again.
	putBackTime = 100 * time.Millisecond
)

// tend is what the agent of a box does without an order. mu is held.
func (w *World) tend(b *box, now time.Time) {
	if b.quiet() {
		return
	}
	if !b.putBack.IsZero() && !now.Before(b.putBack) {
		b.agentBegins()
		w.say("%s puts its rules back: %s", b.name, b.stands())
	}
	if now.Sub(b.tended) < tendTime {
		return
	}
	b.tended = now
	if b.marked != "" && b.running {
		b.end(mysqlha.ProcessStopped, b.marked) // somebody started it
	}
	if b.here && b.marked == "" && b.running && (b.tenure == nil || b.tenure.Why() != "") {
		o := mysqlha.Order{Tag: w.Tag, Epoch: b.epoch, Fence: b.fence}
		l := &local{w, b.name, b.name}
		b.tended = now.Add(time.Second)
		w.wg.Go(func() {
			ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
			defer cancel()
			_ = l.claim(ctx, o) // it is tried again
		})
	}
}

// agentBegins is the begin of an agent: the kernel has the rules again. mu is held.
func (b *box) agentBegins() {
	b.putBack = time.Time{}
	b.nft = map[string]bool{}
	for k := range b.rules {
		b.nft[k] = true
	}
	b.closed = b.shut
}

// Agent ends the agent of a host, or begins one. The kernel keeps what it has: rules, and the address for as long as it was renewed for.
func (w *World) Agent(host string, on bool) {
	w.with(host, func(b *box) {
		switch {
		case on && b.away:
			b.agentBegins()
		case !on && b.tenure != nil && b.tenure.Valid():
			_, left := b.tenure.Renewal()
			refusing := b.refusing
			b.endTenureLocked("the agent has ended")
			if !refusing {
				b.kept = time.Now().Add(left)
			}
		case !on && b.tenure != nil:
			b.endTenureLocked("the agent has ended")
		}
		b.away = !on
	})
}

// Restart has the host's init end the server and start it again, or start it where none runs: as the primary, for that is what a server is by itself. The agent
// is not asked.
func (w *World) Restart(host string) {
	w.with(host, func(b *box) {
		if b.dead {
			return
		}
		b.end(mysqlha.ProcessDied, "its host has restarted it")
		b.begin(mysqlha.AsPrimary)
	})
}

// Reboot takes the power from a box for a moment. Its init starts the server, and that may serve before the agent has the rules in the kernel.
func (w *World) Reboot(host string) {
	w.Power(host, false)
	w.with(host, func(b *box) { b.dead = false })
	w.Restart(host)
	w.wg.Go(func() {
		if pass(w.ctx, 50*time.Millisecond) != nil {
			return
		}
		w.with(host, func(b *box) {
			if !b.dead && !b.away {
				b.agentBegins()
			}
		})
	})
}

// OneWay has nothing of what one sends come to another, or mends that. Either may be a node that is no box.
func (w *World) OneWay(from, to string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		delete(w.oneWay, [2]string{from, to})
	} else {
		w.oneWay[[2]string{from, to}] = true
	}
}

// Purge has a person stop and start both threads of a replica: with GTIDs that drops what it has received and not applied, and has it ask again. What was dropped so and is
// nowhere else was lost by hand, and Lost does not tell of it.
func (w *World) Purge(host string) {
	w.with(host, func(b *box) {
		if b.source == "" || !b.running {
			return
		}
		for _, t := range b.relay {
			w.byHand[t.id] = true
		}
		b.relay, b.io, b.sql, b.ioErrno, b.sqlErrno = nil, true, true, 0, 0
		b.ioState, b.ackConnected, b.triedAt = "Connecting", false, time.Time{}
	})
}

// Unread keeps a node from the quorum, or lets it reach that again.
func (w *World) Unread(node string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unread[node] = on
}

// Lands has what was sent to a host that did not answer arrive when it does, though nobody waits for it any more; Echoes has orders arrive twice.
func (w *World) Lands(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lands = on
}

// Echoes has orders arrive twice, the second time up to five seconds later.
func (w *World) Echoes(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.echoes = on
}

// Alter has somebody else write the record.
func (w *World) Alter(edit func(r *mysqlha.Record)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rec.record.Clone()
	edit(&r)
	w.rec.record = r
	w.rec.version++
}

// ReadOnly has somebody set a server read-only; Demote makes it one that is read-only and waits for nobody, as a replica is.
func (w *World) ReadOnly(host string) { w.with(host, func(b *box) { b.readOnly = true }) }

// Demote makes a server one that is read-only and waits for nobody.
func (w *World) Demote(host string) { w.with(host, func(b *box) { b.readOnly, b.semi = true, false }) }

// Acknowledges reports whether a server is set to acknowledge, and receives.
func (w *World) Acknowledges(host string) (yes bool) {
	w.with(host, func(b *box) { yes = b.acker && b.ackConnected })
	return yes
}

// Heedless has the receiving thread of a replica go on though the server says that it has stopped, or stop again.
func (w *World) Heedless(host string, on bool) { w.with(host, func(b *box) { b.heedless = on }) }

// Astray has somebody set a replica to follow another server, which drops what it has not applied.
func (w *World) Astray(host, source string) {
	w.with(host, func(b *box) {
		b.relay, b.source, b.io, b.sql = nil, source, true, true
		b.ioState, b.ackConnected, b.triedAt = "Connecting", false, time.Time{}
	})
}

// Delete takes a box out of HostDB, or puts it back; it goes on all the same.
func (w *World) Delete(host string, yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[host] = yes
}
