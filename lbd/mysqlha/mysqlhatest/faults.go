package mysqlhatest

import (
	"context"
	"time"

	"hostmesh/lbd/mysqlha"
)

func (w *World) with(host string, f func(b *box)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.boxes[host]; b != nil {
		f(b)
	}
}

// Reaches reports whether a program on one host is served by the server of another.
func (w *World) Reaches(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, b := w.boxes[from], w.boxes[to]
	return b != nil && b.running && !b.frozen && !b.closed && w.link(from, to) && (a == nil || !cutOff(a, b))
}

// Position is what the server of a host has.
func (w *World) Position(host string) (p string) {
	w.with(host, func(b *box) { p = position(b.log) })
	return p
}

// Kill ends the server of a host, as SIGKILL or a crash does. Its agent notices at once.
func (w *World) Kill(host string) {
	w.with(host, func(b *box) { b.end(mysqlha.ProcessDied, "killed") })
}

// end ends a process. What waits for an acknowledgement stays in the log. mu is held.
func (b *box) end(as mysqlha.Process, why string) {
	if !b.running {
		return
	}
	b.running, b.frozen, b.lastPID, b.pid = false, false, b.pid, 0
	close(b.died)
	b.waiting = map[int]chan bool{}
	b.io, b.sql, b.ioState, b.ackConnected = false, false, "No", false
	b.process, b.processAt, b.ended = as, time.Now(), why
}

// begin starts a process. As a replica it drops what was not acknowledged. A relay log does not survive: nothing starts by itself, and then it is purged.
func (b *box) begin(as mysqlha.Role) {
	if b.running {
		return
	}
	b.relay, b.lasts, b.rejoined = nil, nil, 0
	if as == mysqlha.AsReplica {
		for n := len(b.log); n > 0 && !b.log[n-1].committed; n-- {
			b.log = b.log[:n-1]
		}
	}
	for i := range b.log {
		b.log[i].committed = true // recovery commits what is in the log; nobody was told
	}
	b.running, b.frozen, b.readOnly, b.semi, b.acker, b.stuck = true, false, true, false, false, false
	b.io, b.sql, b.ioState, b.ackConnected, b.ioErrno, b.sqlErrno = false, false, "No", false, 0, 0
	b.until = 0
	b.pid, b.ended = b.lastPID+100, ""
	b.died, b.began, b.beats, b.lapsed, b.aloneSince = make(chan struct{}), time.Now(), 0, false, time.Time{}
	b.process, b.processAt = mysqlha.ProcessRuns, time.Now()
}

// Spoil has the server of a host, which is killed, not recover its data any more: each start ends until they are made anew.
func (w *World) Spoil(host string) {
	w.with(host, func(b *box) { b.spoilt = true; b.end(mysqlha.ProcessDied, "killed amid its recovery") })
}

// Freeze stops the server's process (SIGSTOP), or lets it go on.
func (w *World) Freeze(host string, on bool) {
	w.with(host, func(b *box) { b.frozen = on && b.running })
}

// Silence has the agent of a host answer nobody, or answer again. Its server works.
func (w *World) Silence(host string, on bool) { w.with(host, func(b *box) { b.silent = on }) }

// KillAgent ends the agent of a host. Its server works; the address goes.
func (w *World) KillAgent(host string) {
	w.with(host, func(b *box) {
		b.silent = true
		b.endTenureLocked("its agent was killed")
	})
}

// StopAgent ends the agent of a host in order: the address stays for a while, for the next one.
func (w *World) StopAgent(host string) {
	w.with(host, func(b *box) {
		b.silent = true
		if b.tenure != nil && b.tenure.Settled() && b.running && !b.refusing {
			b.left = time.Now().Add(mysqlha.RestartGrace)
		}
		b.endTenureLocked("its agent ends")
	})
}

// StartAgent starts the agent of a host, which goes on with what was left to it.
func (w *World) StartAgent(host string) {
	var o mysqlha.Order
	left := false
	w.with(host, func(b *box) {
		b.silent = false
		o, left = mysqlha.Order{Tag: w.Tag, Epoch: b.epoch, Fence: b.fence}, time.Now().Before(b.left)
	})
	if !left {
		return
	}
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		defer cancel()
		_ = (&local{w, host, host}).TakeVIP(ctx, o) // the record may say that it is another's
		w.with(host, func(b *box) { b.left = time.Time{} })
	})
}

// CutAgents has the connections of agents be cut with those of their hosts, as builds before did.
func (w *World) CutAgents() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutAgents = true
}

// Flush takes away what a host is cut from, and starts the threads of its server, as somebody does by hand. An agent that is there puts it back (nft.Cuts.Run).
func (w *World) Flush(host string) {
	w.with(host, func(b *box) {
		b.nft, b.io, b.sql = map[string]bool{}, b.source != "", true
		b.putBack = time.Now().Add(putBackTime)
	})
}

// PurgeLogs has a server forget the log of what it has done so far, as it does by and by.
func (w *World) PurgeLogs(host string) { w.with(host, func(b *box) { b.purged = len(b.log) }) }

// flushed reports whether a person has taken away what keeps a primary from hearing a replica. mu is held.
func flushed(replica, source *box) bool {
	key := replica.addr.String() + ":0"
	return source.rules[key] && !source.nft[key]
}

// Isolate takes all network from a host, or gives it back.
func (w *World) Isolate(host string, on bool) { w.with(host, func(b *box) { b.lonely = on }) }

// Power takes the power from a box, or gives it back: then its agent starts, and its server does not.
func (w *World) Power(host string, on bool) {
	w.with(host, func(b *box) {
		switch {
		case !on:
			b.off("no power")
		case !b.dead:
			return
		case !b.away:
			b.agentBegins()
		}
		b.dead = !on
		b.processAt = time.Now()
	})
}

// off ends all that a box has but its disk: processes, and what the kernel has. mu is held.
func (b *box) off(why string) {
	b.end(mysqlha.ProcessStopped, why)
	b.endTenureLocked(why)
	b.left, b.kept, b.putBack = time.Time{}, time.Time{}, time.Time{}
	b.nft, b.closed, b.refusing, b.dead = map[string]bool{}, false, false, true
}

// VM says whether a host is a machine that can be destroyed.
func (w *World) VM(host string, on bool) { w.with(host, func(b *box) { b.isVM = on }) }

// Link cuts what two carry to each other, or mends it. Either may be a node that is no box.
func (w *World) Link(a, b string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		delete(w.cut, pair(a, b))
	} else {
		w.cut[pair(a, b)] = true
	}
}

// StopSQL stops the thread that applies on a host.
func (w *World) StopSQL(host string) { w.with(host, func(b *box) { b.sql = false }) }

// Stick has the thread that applies hang, or go on.
func (w *World) Stick(host string, on bool) { w.with(host, func(b *box) { b.stuck = on }) }

// Slow has a replica apply so many transactions a tick; 0 = as many as there are.
func (w *World) Slow(host string, n int) { w.with(host, func(b *box) { b.slow = n }) }

// Stubborn has the receiving thread of a server not stop when it is told to, or stop again.
func (w *World) Stubborn(host string, on bool) { w.with(host, func(b *box) { b.stubborn = on }) }

// Saturate has a server refuse new connections because it has too many (error 1040).
func (w *World) Saturate(host string, on bool) { w.with(host, func(b *box) { b.saturated = on }) }

// Unserve has a server serve no new connection, as one that gets no thread for it, or serve them again. Those that are there go on.
func (w *World) Unserve(host string, on bool) { w.with(host, func(b *box) { b.unserved = on }) }

// Strangers has so many replicas acknowledge to a server that are no boxes.
func (w *World) Strangers(host string, n int) { w.with(host, func(b *box) { b.strangers = n }) }

// Hurry has a server wait for acknowledgements for ten seconds only, as its file says, once it is a source.
func (w *World) Hurry(host string) { w.with(host, func(b *box) { b.hurried = true }) }

// Unheard has no acknowledgement arrive at the server of a host, though others receive what it writes; or has them arrive again, of what comes then.
func (w *World) Unheard(host string, on bool) { w.with(host, func(b *box) { b.unheard = on }) }

// Falsify changes a row on a host, which no log has: a copy that is not right. A clone of it has the row, too.
func (w *World) Falsify(host string) { w.with(host, func(b *box) { b.tampered = true }) }

// Copy is what a host remembers of its data; nil = they are no copy, or one that was found right.
func (w *World) Copy(host string) (u *mysqlha.Unverified) {
	w.with(host, func(b *box) {
		if b.copy != nil {
			c := *b.copy
			u = &c
		}
	})
	return u
}

// Open has somebody clear read_only on a host.
func (w *World) Open(host string) { w.with(host, func(b *box) { b.readOnly = false }) }

// Empty makes the server of a host one that was just installed.
func (w *World) Empty(host string) {
	w.Wipe(host)
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rec.record.Clone()
	for i, h := range r.Ackers {
		if h == host {
			r.Ackers = append(r.Ackers[:i], r.Ackers[i+1:]...)
			break
		}
	}
	delete(r.Starts, host)
	w.rec.record = r
	w.rec.version++
}

// Wipe has the server of a host have no data, as after its disk was replaced. The record does not know.
func (w *World) Wipe(host string) {
	w.with(host, func(b *box) {
		b.unlogged, b.inherited = 0, nil
		b.log, b.lasts, b.relay, b.source, b.io, b.sql, b.acker, b.ioState, b.copy, b.tampered = nil, nil, nil, "", false, false, false, "No", nil, false
	})
}

// OnEffect has f told of each effect of a runner before it happens: what is "kill", "read-only" and so on.
func (w *World) OnEffect(f func(host, what string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = f
}

// Behind is how many transactions a host has received and not applied.
func (w *World) Behind(host string) (n int) {
	w.with(host, func(b *box) { n = len(b.relay) })
	return n
}
