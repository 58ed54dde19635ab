// Package mysqlhatest has a world of database servers that are not real, with the semantics on which safety rests: GTIDs, semi-synchronous
// replication, relay logs that are purged, crashes, agents that are silent, networks that are cut, and a ledger of what was acknowledged.
//
// It leaves to real servers (package mariadbtest) whether these semantics are theirs.
package mysqlhatest

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"hostmesh/lbd/mysqlha"
)

// tick is how often the world moves. All that takes time in it takes a multiple.
const tick = 5 * time.Millisecond

// ackTimeout is for how long a server that is hurried waits for an acknowledgement.
const ackTimeout = 10 * time.Second

// overlap is for how long a box that was cut off may believe that it has the address: two looks, with what each may take.
const overlap = 2 * time.Second

// World is boxes with one server each, and a ledger. It is safe for concurrent use. In a bubble of testing/synctest its time is virtual.
type World struct {
	Tag    string
	Strict bool

	mu     sync.Mutex // guards everything below, and what is in boxes
	boxes  map[string]*box
	sorted []string           // their names
	cut    map[[2]string]bool // links that carry nothing, both ways; of boxes and of agents' nodes
	oneWay map[[2]string]bool // from, to: what carries nothing that way
	unread map[string]bool    // nodes that do not reach the quorum
	// lands: what was sent to a host that does not answer arrives when it does, though nobody waits for it any more. echoes: orders arrive twice.
	lands, echoes bool
	byHand        map[int]bool // writes that a person has dropped from a relay log
	rec           records
	// ledger are ids of writes that a client was told of; sent those that were tried.
	ledger map[int]bool
	nextID int
	faults []string                // violations of invariants
	both   map[[2]string]time.Time // who have the address at the same time, and since when
	hook   func(host, what string)
	// cutAgents says that what a host is cut from its agent is cut from as well.
	cutAgents bool
	stop      context.CancelFunc
	wg        sync.WaitGroup
	ctx       context.Context
}

// txn is a transaction.
type txn struct {
	server uint32
	seq    uint64
	id     int // of the write; 0 = none
	// committed is false while it is in the log alone, waiting for an acknowledgement.
	committed bool
}

func (t txn) gtid() string { return fmt.Sprintf("0-%d-%d", t.server, t.seq) }

// box is a host with a server and an agent.
type box struct {
	name string
	addr netip.Addr
	id   uint32

	dead   bool // the box has no power, or its machine was destroyed
	silent bool // its agent does not answer; the server does
	isVM   bool
	lonely bool // no network at all, but for itself
	// noQuorum says that it reaches no majority of those who have the record.
	noQuorum bool

	spoilt   bool   // the server cannot recover its data
	rejoined uint64 // the epoch in which the process was started as a replica

	// Of the server, on disk.
	log   []txn // the binary log
	relay []txn // received and not applied
	// lasts are the last of each server in log, up to stateAt.
	lasts   map[uint32]uint64
	stateAt int
	source  string
	// Of the server, in memory.
	running, frozen       bool
	died                  chan struct{} // closed when the process ends
	began                 time.Time
	pid, lastPID          int // another for each process; 0 = none runs
	readOnly, semi, acker bool
	io, sql               bool // threads are wanted
	ioState               string
	ackConnected          bool // its receiving thread was started as an acker
	ioErrno, sqlErrno     int
	beats                 uint64
	beatAt                time.Time
	triedAt               time.Time
	waiting               map[int]chan bool // by index in log
	saturated, stuck      bool
	stubborn              bool // its receiving thread does not stop
	hurried, lapsed       bool // it waits ackTimeout only; it has, and goes on without
	aloneSince            time.Time
	slow                  int // transactions applied a tick; 0 = many
	ended                 string
	held                  int             // connections of Hold
	clients               []chan struct{} // connections of clients that do nothing; closed when they are ended
	purged                int             // transactions that the log has forgotten
	until                 uint64          // the number at which both threads stop by themselves; 0 = none
	unheard               bool            // acknowledgements do not arrive
	tampered              bool            // on disk: a row is another than the log says

	// Of the agent.
	process   mysqlha.Process
	processAt time.Time
	lends     int // copies that are made of it
	marked    string
	markedAt  uint64          // epoch
	nft       map[string]bool // address:port that nothing is received from
	epoch     uint64
	fence     uint64
	copy      *mysqlha.Unverified // nil = none, or found right
	tenure    *mysqlha.Tenure
	endTenure context.CancelFunc
	refusing  bool
	left      time.Time       // until when the address is here without an agent; zero = it is not
	away      bool            // no agent runs
	heedless  bool            // its receiving thread goes on though it was stopped
	rules     map[string]bool // what nft is to have, on disk; nft is what the kernel has
	shut      bool            // the server's port is to be, on disk; closed says that it is, in the kernel
	closed    bool
	here      bool      // the address is to be here, on disk
	kept      time.Time // until when the kernel keeps the address, without an agent
	tended    time.Time
	// Of the thread that receives: the process of its source, and since when what it sends to that does not arrive.
	sourcePID int
	missed    time.Time
}

// quiet reports whether its agent says nothing.
func (b *box) quiet() bool { return b.silent || b.away || b.dead }

// holds reports whether clients find the address of the primary here.
func (b *box) holds() bool {
	return !b.refusing && !b.dead && !b.lonely && (b.tenure != nil && b.tenure.Valid() || time.Now().Before(b.kept) || b.leaves())
}

// New makes a world with boxes; they are a, b, c and so on, and a is the primary of a record that is at epoch 1.
func New(tag string, n int, strict bool) *World {
	w := &World{Tag: tag, Strict: strict, boxes: map[string]*box{}, cut: map[[2]string]bool{}, oneWay: map[[2]string]bool{}, unread: map[string]bool{}, ledger: map[int]bool{}, byHand: map[int]bool{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	now := time.Now()
	durability := "available"
	if strict {
		durability = "strict"
	}
	r := mysqlha.Record{Format: mysqlha.RecordFormat, Epoch: 1, Primary: "a", Durability: durability, Starts: map[string]time.Time{}}
	for i := range n {
		b := &box{
			name: string(rune('a' + i)), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), id: uint32(i + 1), running: true, died: make(chan struct{}), began: now,
			readOnly: i > 0, waiting: map[int]chan bool{}, process: mysqlha.ProcessRuns, processAt: now, pid: i + 1, nft: map[string]bool{}, rules: map[string]bool{}, ioState: "No",
		}
		if i == 0 {
			b.semi = true
		} else {
			b.source, b.io, b.sql, b.acker = "a", true, true, true
			r.Ackers = append(r.Ackers, b.name)
			r.Starts[b.name] = now.Truncate(time.Second)
		}
		w.boxes[b.name] = b
		w.sorted = append(w.sorted, b.name)
	}
	w.rec.record, w.rec.version = r, 1
	w.wg.Go(w.run)
	return w
}

// Close ends the world.
func (w *World) Close() {
	w.stop()
	w.wg.Wait()
}

// Members are the boxes as HostDB would have them.
func (w *World) Members() []mysqlha.Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []mysqlha.Member
	for _, b := range w.boxes {
		out = append(out, mysqlha.Member{Host: b.name, Addr: b.addr, Port: 3306})
	}
	slices.SortFunc(out, func(a, b mysqlha.Member) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// Agents are what node's part of the mesh has heard of the agents: a report comes some time after what it says.
func (w *World) Agents(node string) map[string]mysqlha.Agent {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]mysqlha.Agent{}
	for _, b := range w.boxes {
		a := mysqlha.Agent{Alive: !b.quiet() && w.link(node, b.name), Reported: true, Process: b.process, Since: b.processAt, Seen: b.processAt, Epoch: b.epoch}
		if b.tenure != nil && b.tenure.Valid() {
			a.VIP = "held"
		}
		if b.copy != nil {
			a.Copy, a.Differs = b.copy.From, b.copy.Differs
		}
		a.Lends = b.lends > 0
		if !a.Alive {
			a.Process = mysqlha.ProcessRuns // as it was last said
		}
		out[b.name] = a
	}
	return out
}

// link reports whether two carry something to each other. mu is held.
func (w *World) link(a, b string) bool { return w.way(a, b) && w.way(b, a) }

// way reports whether what one sends comes to another. mu is held.
func (w *World) way(a, b string) bool {
	if a == b {
		return true
	}
	for _, name := range []string{a, b} {
		if x := w.boxes[name]; x != nil && (x.dead || x.lonely) {
			return false
		}
	}
	return !w.cut[pair(a, b)] && !w.oneWay[[2]string{a, b}]
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

func (w *World) run() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-w.ctx.Done():
			w.mu.Lock()
			for _, b := range w.boxes {
				b.endTenureLocked("the world ends")
			}
			w.mu.Unlock()
			return
		case <-t.C:
			w.mu.Lock()
			w.move()
			w.mu.Unlock()
		}
	}
}

// move is one tick. mu is held.
func (w *World) move() {
	now := time.Now()
	for _, name := range w.names() {
		b := w.boxes[name]
		w.tend(b, now)
		if !b.running || b.frozen {
			continue
		}
		w.receive(b, now)
		b.applySome()
		w.lapse(b, now)
	}
	w.judge()
}

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

func (w *World) names() []string { return w.sorted }

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
	if b == nil || !b.running || b.frozen || b.dead || b.closed || (b.readOnly || b.refusing) && !anyway {
		w.mu.Unlock()
		return false
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
	// Whoever can acknowledge must be counted: a failover waits for nobody else's cut.
	if r := w.rec.record; !w.rec.none {
		if p := w.boxes[r.Primary]; p != nil && p.running && !p.readOnly && !p.dead && p.semi {
			for _, name := range w.names() {
				x := w.boxes[name]
				if x.running && !x.frozen && x.source == p.name && x.ioState == "Yes" && x.ackConnected && x.until == 0 && w.link(x.name, p.name) && !cutOff(x, p) && !slices.Contains(r.Ackers, name) {
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

// Address is the host that has the address of the primary, and takes connections at it; "" = none.
func (w *World) Address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names() {
		if b := w.boxes[name]; b.holds() {
			return name
		}
	}
	return ""
}

// leaves reports whether the address is here without an agent.
func (b *box) leaves() bool { return time.Now().Before(b.left) }

// Record is the record as it is.
func (w *World) Record() mysqlha.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rec.record.Clone()
}

// Context ends with the world.
func (w *World) Context() context.Context { return w.ctx }
