// Package replica keeps the replicas of a mesh equal. It owns who is sent which operations and when: pushing what was
// written here, pulling what is missing, comparing with a random peer and repairing, counting who holds a write, taking a
// whole state when a replica is empty, fetching history behind it, and what is done where replicas turn out to differ.
//
// It leaves to hostdb what operations mean and how they merge, and to the Peers it is given how messages travel. It
// never looks into an operation: bytes that this build does not understand are passed on all the same.
//
// # How it works
//
// A write is pushed at once, and the answer to the push is its acknowledgement: the peer holds it durably. Up to
// Config.Fanout peers the writer pushes to each of them; in a larger mesh along a tree that every node computes from
// the same list (see children), where each passes on what it received. Who pushes to a node that fails, or does not answer
// within a second, pushes to that node's children as well, so that a sick box does not cut off those behind it.
//
// A push may be lost, and no push reaches a node that was away. So each node also pulls: from peers it sees coming up, and
// every few seconds from a random one. It compares versions, then what is held of each origin, and gets exactly the
// operations it lacks, piece by piece. With the answer comes the peer's version and its digests: equal versions must have
// equal digests.
//
// An empty replica that meets a large one takes its state in pieces instead, then the operations since, and fetches the
// history behind it while it serves already. What nobody waits for is under a budget of bytes per second, and a peer that
// has too much to do says when to come again.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// Peers are the other nodes of the mesh, by node id. Calls go to mutually authenticated peers only.
type Peers interface {
	// Alive are the ids of the other nodes that can be reached, as far as is known.
	Alive() []string
	// Call sends a request and returns the answer. The error of a peer that does not know the name has a method
	// ErrorCode() string that returns "no_handler".
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	// Handle serves requests of one name.
	Handle(name string, h func(ctx context.Context, from string, req []byte) ([]byte, error))
	// Changed gives a channel that receives when Alive may have changed, until stop is called.
	Changed() (changed <-chan struct{}, stop func())
}

// Replica keeps one Store equal to those of its peers. It is safe for concurrent use.
type Replica struct {
	cfg     Config
	log     *slog.Logger
	serving chan struct{} // slots for requests that are answered
	fast    chan struct{} // slots for pushes
	slow    chan struct{} // slots for pushes that were not answered within pushPatience
	budget  *budget
	clocks  clocks

	mu       sync.Mutex // guards the fields below
	roster   *roster
	peers    map[string]*peer // those that were spoken to, and are alive or members
	vectors  vectors
	picked   *picture      // of the newest version that was compared
	acks     chan struct{} // closed and replaced whenever a peer holds more, or fails; nil while nobody waits
	acked    acked
	synced   bool
	looking  bool          // another peer will be asked soon
	looked   int           // how often that was
	caught   chan struct{} // closed when synced
	wanted   []string      // peers to pull from
	pullers  int
	fetch    fetching
	join     joining
	fill     filling
	forks    map[uint64]*fork
	forkAsks map[forkAsk]*patience
	aside    map[uint64]Aside
	lost     map[uint64]lost // by origin
	doubt    doubt
	pins     []pin
	basePin  basePin
	// tookOver is when the second began in which takeovers counts subtrees taken over.
	tookOver  time.Time
	takeovers int
	retired   time.Time // when this node retired runs last
	counts    Counts
	alarms    map[string]time.Time // alarms raised, by text, so that each is logged once a while
	ctx       context.Context      // of Run; nil before it
	over      bool                 // Run ends: nothing is started any more
	wg        sync.WaitGroup
}

// Counts are totals since Open.
type Counts struct {
	PushedOps     uint64 // operations sent by push, each peer counted
	PushErrors    uint64
	TakenOver     uint64 // times the children of a peer that failed or was slow were pushed to in its place
	Pulls         uint64 // pulls that brought an answer
	PullErrors    uint64
	PulledOps     uint64 // operations that a pull brought
	ServedOps     uint64 // operations sent in answers to pulls
	Busy          uint64 // requests turned away: too many ran, or the budget was spent
	TurnedAway    uint64 // times a peer turned us away
	Mismatches    uint64 // equal versions with unequal digests
	Repairs       uint64 // registers made good after that
	HeldAside     uint64 // times an origin was held back for its clock
	Forks         uint64 // times an origin's chain did not continue ours
	Refused       uint64 // messages of peers that broke the rules
	JoinPieces    uint64 // pieces of a state that were taken
	ServedPieces  uint64 // pieces of our state that were sent
	JoinFailures  uint64 // states that were given up
	FilledOps     uint64 // operations of history that were fetched behind a state
	ServedHistory uint64 // operations of history that were sent
	RetiredRuns   uint64 // runs that this node retired
	BytesSent     uint64
	BytesReceived uint64
}

// Open makes a Replica of a Store and serves its peers' requests. Nothing is sent before Run.
func Open(cfg Config) (*Replica, error) {
	if cfg.Store == nil || cfg.Peers == nil || cfg.NodeID == "" {
		return nil, errors.New("replica: Store, NodeID and Peers are required")
	}
	cfg.fill()
	r := &Replica{
		cfg:      cfg,
		log:      cfg.Logger,
		serving:  make(chan struct{}, cfg.ServePulls),
		fast:     make(chan struct{}, cfg.Pushes),
		slow:     make(chan struct{}, cfg.Pushes),
		budget:   newBudget(cfg.BytesPerSecond),
		roster:   newRoster(cfg.NodeID, nil),
		peers:    map[string]*peer{},
		caught:   make(chan struct{}),
		forks:    map[uint64]*fork{},
		forkAsks: map[forkAsk]*patience{},
		aside:    map[uint64]Aside{},
		alarms:   map[string]time.Time{},
	}
	if err := r.recallForks(); err != nil {
		return nil, err
	}
	cfg.Peers.Handle(pushName, r.servePush)
	cfg.Peers.Handle(pullName, r.servePull)
	cfg.Peers.Handle(stateName, r.serveState)
	cfg.Peers.Handle(historyName, r.serveHistory)
	cfg.Peers.Handle(baseName, r.serveBase)
	cfg.Store.SetAcker(r)
	cfg.Store.SetSkew(r.Skew)
	return r, nil
}

// Run pushes and pulls until ctx ends. It is called once.
func (r *Replica) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.end(cancel)
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()

	written, stopWritten := r.cfg.Store.Watch()
	defer stopWritten()
	changed, stopChanged := r.cfg.Peers.Changed()
	defer stopChanged()
	repair := time.NewTimer(jitter(r.cfg.RepairEvery))
	defer repair.Stop()
	chores := time.NewTicker(choresEvery)
	defer chores.Stop()

	r.meet()
	r.resumeJoin()
	r.fillHistory()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			r.meet()
		case <-written:
			r.pushOwn()
		case <-repair.C:
			r.repair()
			repair.Reset(jitter(r.cfg.RepairEvery))
		case <-chores.C:
			r.fillHistory()
			r.retire(ctx)
			r.forgetAside()
			r.forgetLost()
		}
	}
}

// choresEvery is how often that is looked at which may wait.
const choresEvery = 20 * time.Second

// end waits for everything that Run started.
func (r *Replica) end(cancel context.CancelFunc) {
	r.mu.Lock()
	r.over = true
	r.wakeLocked()
	r.mu.Unlock()
	cancel()
	r.wg.Wait()
}

// Close is idempotent; what runs ends with Run's context.
func (r *Replica) Close() error { return nil }

// goLocked starts fn under Run's context, unless Run is not running. The caller holds mu.
func (r *Replica) goLocked(fn func(ctx context.Context)) bool {
	if r.over || r.ctx == nil {
		return false
	}
	ctx := r.ctx
	r.wg.Go(func() { fn(ctx) })
	return true
}

// largeMeet is how many peers that came up at once are pulled from in a mesh that is wider than one hop.
const largeMeet = 3

// meet follows a change of membership: it forgets peers that went, and pulls from such as came up. In a mesh of one hop those
// are all, since each is asked for acknowledgements; in a larger one a few, chosen at random by each node, so that nobody is
// asked by thousands at once.
func (r *Replica) meet() {
	now := newRoster(r.cfg.NodeID, r.cfg.Peers.Alive())
	keep := map[string]bool{}
	for _, node := range r.members() {
		keep[node] = true
	}
	var fresh []string
	r.mu.Lock()
	was := r.roster
	r.roster = now
	for _, node := range now.nodes {
		if node != now.self && !was.has(node) {
			fresh = append(fresh, node)
		}
	}
	for node, p := range r.peers {
		if !now.has(node) {
			p.leaveLocked()
			if !keep[node] && r.cfg.Members != nil {
				p.rebase(nil)
				delete(r.peers, node)
				delete(r.acked.by, node)
			}
		}
	}
	if now.others() > r.cfg.Fanout {
		fresh = some(fresh, now.others())
	}
	for _, node := range fresh {
		r.wantPullLocked(node)
	}
	r.wakeLocked()
	r.mu.Unlock()
	r.pushOwn() // who is a child now may lack what is ours
}

// some are a few of the peers that came up. Where one came, all the others see it: so each pulls with a chance such that
// about largeMeet of them do.
func some(fresh []string, others int) []string {
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	n := 0
	for range min(len(fresh), largeMeet) {
		if len(fresh) >= largeMeet || rand.N(others) < largeMeet {
			n++
		}
	}
	return fresh[:n]
}

// members are the ids of all nodes that were not removed; nil when that is not known.
func (r *Replica) members() []string {
	if r.cfg.Members == nil {
		return nil
	}
	return r.cfg.Members()
}

// wakeLocked lets those who await acknowledgements look again.
func (r *Replica) wakeLocked() {
	if r.acks != nil {
		close(r.acks)
		r.acks = nil
	}
}

// repair compares with a random peer and pulls what is missing.
func (r *Replica) repair() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pullAnyLocked()
}

// pullAnyLocked pulls from a random peer that is not busy.
func (r *Replica) pullAnyLocked() {
	nodes, now := r.roster.nodes, time.Now()
	for range 4 {
		node := nodes[rand.N(len(nodes))]
		if p := r.peers[node]; node == r.cfg.NodeID || p != nil && now.Before(p.busyUntil) {
			continue
		}
		r.wantPullLocked(node)
		return
	}
}

// Synced reports whether a peer's state was reached at least once since Open.
func (r *Replica) Synced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.synced
}

func (r *Replica) syncedLocked() {
	if !r.synced {
		r.synced = true
		close(r.caught)
	}
}

// Settled reports whether nothing with a stamp up to cut can arrive any more: each of members, which are all nodes but this
// one that may write or ever came back, was asked after it would write nothing so old, and everything it held is here.
func (r *Replica) Settled(cut hostdb.Stamp, members []string) bool {
	if r.cfg.Store.Floor() <= cut.Time {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, node := range members {
		if p := r.peers[node]; p == nil || p.floor <= cut.Time {
			return false
		}
	}
	return true
}

func (r *Replica) count(fn func(*Counts)) {
	r.mu.Lock()
	fn(&r.counts)
	r.mu.Unlock()
}

// alarm logs what an operator must see, once in ten minutes for each text.
func (r *Replica) alarm(msg string, args ...any) {
	key := msg
	for _, a := range args {
		if s, ok := a.(string); ok {
			key += " " + s
		}
	}
	r.mu.Lock()
	last, seen := r.alarms[key]
	now := time.Now()
	fresh := !seen || now.Sub(last) > 10*time.Minute
	if fresh {
		if len(r.alarms) > 1000 {
			clear(r.alarms)
		}
		r.alarms[key] = now
	}
	r.mu.Unlock()
	if fresh {
		r.log.Error(msg, args...)
	}
}
