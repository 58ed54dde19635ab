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
	gone   map[string]bool    // boxes that are not in HostDB any more
	// lands: what was sent to a host that does not answer arrives when it does, though nobody waits for it any more. echoes: orders arrive twice.
	lands, echoes bool
	byHand        map[int]bool // writes that a person has dropped from a relay log
	rec           records
	// ledger are ids of writes that a client was told of; sent those that were tried.
	ledger map[int]bool
	nextID int
	// journal is what was done since began; atFault the part before the first fault.
	journal, atFault []string
	began            time.Time
	faults           []string                // violations of invariants
	both             map[[2]string]time.Time // who have the address at the same time, and since when
	hook             func(host, what string)
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
	// unlogged is how much of log came with a copy, so that the binary log has nothing of it; inherited is what that says instead.
	unlogged  int
	inherited map[uint32]uint64
	// lasts are the last of each server in the binary log, up to stateAt.
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
	unserved              bool            // no new connection is served
	strangers             int             // replicas that acknowledge, and are no boxes
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
	lastCut   map[string]mysqlha.Order // by source, the last order to cut or to uncut
	lastRun   mysqlha.Order            // the last one to start or to end the server
	copy      *mysqlha.Unverified      // nil = none, or found right
	tenure    *mysqlha.Tenure
	endTenure context.CancelFunc
	refusing  bool
	left      time.Time       // until when the address is here without an agent; zero = it is not
	away      bool            // no agent runs
	cloning   bool            // a copy is made of another here
	heedless  bool            // its receiving thread goes on though it was stopped
	rules     map[string]bool // what nft is to have, on disk; nft is what the kernel has
	shut      bool            // the server's port is to be, on disk; closed says that it is, in the kernel
	closed    bool
	here      bool      // the address is to be here, on disk
	kept      time.Time // until when the kernel keeps the address, without an agent
	tended    time.Time
	putBack   time.Time // when the agent, if there is one, puts back the rules that somebody took away; zero = nobody did
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
	w := &World{Tag: tag, Strict: strict, boxes: map[string]*box{}, cut: map[[2]string]bool{}, oneWay: map[[2]string]bool{}, unread: map[string]bool{}, gone: map[string]bool{}, ledger: map[int]bool{}, byHand: map[int]bool{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	now := time.Now()
	w.began = now
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
		if !w.gone[b.name] {
			out = append(out, mysqlha.Member{Host: b.name, Addr: b.addr, Port: 3306})
		}
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

func (w *World) names() []string { return w.sorted }

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
