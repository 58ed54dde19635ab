// Package replica keeps the replicas of a mesh equal. It owns who is sent which operations and when: pushing what was
// written here, pulling what is missing, comparing with a random peer and repairing, and counting who holds a write.
//
// It leaves to hostdb what operations mean and how they merge, and to the Peers it is given how messages travel. It
// never looks into an operation: bytes that this build does not understand are passed on all the same.
//
// # How it works
//
// A write is pushed at once, and the answer to the push is its acknowledgement: the peer holds it durably. Up to
// Config.Fanout peers the writer pushes to each of them; in a larger mesh along a tree that every node computes from
// the same list (see children), where each passes on what it received.
//
// A push may be lost, and no push reaches a node that was away. So each node also pulls: from every peer it sees
// coming up, and every few seconds from a random one. It sends its vector and gets exactly the operations it lacks,
// piece by piece. With the answer comes the peer's version and its digests: equal versions must have equal digests.
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
	// Call sends a request and returns the answer.
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	// Handle serves requests of one name.
	Handle(name string, h func(ctx context.Context, from string, req []byte) ([]byte, error))
	// Changed gives a channel that receives when Alive may have changed, until stop is called.
	Changed() (changed <-chan struct{}, stop func())
}

// Config is what a Replica needs. Begin with DefaultConfig.
type Config struct {
	Store  *hostdb.Store
	NodeID string
	Peers  Peers
	Logger *slog.Logger

	// Fanout is how many peers one node pushes to. A mesh of at most Fanout+1 nodes is one hop wide.
	Fanout int
	// RepairEvery is the mean time between two comparisons with a random peer.
	RepairEvery time.Duration
	// MessageBytes is about how many bytes of operations one message carries; one operation may be larger.
	MessageBytes int
	// CallTimeout bounds one message and its answer.
	CallTimeout time.Duration
	// ServePulls is how many pulls are answered at a time; further ones are told to try later.
	ServePulls int
}

// DefaultConfig returns the defaults; Store, NodeID and Peers must still be set.
func DefaultConfig() Config {
	return Config{
		Fanout:       64,              // a mesh of this size needs one hop, and a writer's uplink bears it
		RepairEvery:  3 * time.Second, // what a push missed is back within seconds; a comparison costs one small message
		MessageBytes: 1 << 20,         // large enough to fill a round trip, small enough not to delay others
		CallTimeout:  10 * time.Second,
		ServePulls:   4, // a mass restart must not read the whole log for everybody at once
	}
}

// Replica keeps one Store equal to those of its peers. It is safe for concurrent use.
type Replica struct {
	cfg     Config
	log     *slog.Logger
	serving chan struct{} // slots for pulls that are answered

	mu      sync.Mutex // guards the fields below
	senders map[string]*sender
	acks    chan struct{} // closed and replaced whenever a peer holds more, or fails
	synced  bool
	pulling bool      // one pull runs at a time
	turns   []*sender // that wait for theirs
	counts  Counts
	floors  map[string]hostdb.Time // node -> everything it wrote with a lower stamp is here
	alarms  map[string]time.Time   // alarms raised, by text, so that each is logged once a while
	ended   context.Context        // ends with Run; nil before it
	wg      sync.WaitGroup
}

// Counts are totals since Open.
type Counts struct {
	PushedOps     uint64 // operations sent by push, each peer counted
	PushErrors    uint64
	Pulls         uint64 // pulls that brought an answer
	PullErrors    uint64
	PulledOps     uint64 // operations that a pull brought
	ServedOps     uint64 // operations sent in answers to pulls
	Busy          uint64 // pulls turned away
	Mismatches    uint64 // equal versions with unequal digests
	HeldAside     uint64 // times an origin was held back for its clock
	Forks         uint64 // times an origin's chain did not continue ours
	BytesSent     uint64
	BytesReceived uint64
}

// Open makes a Replica of a Store and serves its peers' requests. Nothing is sent before Run.
func Open(cfg Config) (*Replica, error) {
	if cfg.Store == nil || cfg.Peers == nil || cfg.NodeID == "" {
		return nil, errors.New("replica: Store, NodeID and Peers are required")
	}
	def := DefaultConfig()
	if cfg.Fanout == 0 {
		cfg.Fanout = def.Fanout
	}
	if cfg.RepairEvery == 0 {
		cfg.RepairEvery = def.RepairEvery
	}
	if cfg.MessageBytes == 0 {
		cfg.MessageBytes = def.MessageBytes
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = def.CallTimeout
	}
	if cfg.ServePulls == 0 {
		cfg.ServePulls = def.ServePulls
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Replica{
		cfg:     cfg,
		log:     cfg.Logger,
		serving: make(chan struct{}, cfg.ServePulls),
		senders: map[string]*sender{},
		acks:    make(chan struct{}),
		floors:  map[string]hostdb.Time{},
		alarms:  map[string]time.Time{},
	}
	cfg.Peers.Handle(pushName, r.servePush)
	cfg.Peers.Handle(pullName, r.servePull)
	cfg.Store.SetAcker(r)
	return r, nil
}

// Run pushes and pulls until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.wg.Wait()
	defer cancel()
	r.mu.Lock()
	r.ended = ctx
	r.mu.Unlock()

	written, stopWritten := r.cfg.Store.Watch()
	defer stopWritten()
	changed, stopChanged := r.cfg.Peers.Changed()
	defer stopChanged()
	repair := time.NewTimer(jitter(r.cfg.RepairEvery))
	defer repair.Stop()

	r.meet(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			r.meet(ctx)
		case <-written:
			r.pushOwn()
		case <-repair.C:
			r.repair(ctx)
			repair.Reset(jitter(r.cfg.RepairEvery))
		}
	}
}

// Close is idempotent; what runs ends with Run's context.
func (r *Replica) Close() error { return nil }

// jitter is a random time around d, so that nodes that started together do not stay in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// meet begins to send to peers that came up, pulls from them once, and forgets those that went.
func (r *Replica) meet(ctx context.Context) {
	alive := map[string]bool{}
	for _, node := range r.cfg.Peers.Alive() {
		alive[node] = true
	}
	var fresh []*sender
	r.mu.Lock()
	for node, s := range r.senders {
		if !alive[node] {
			s.stop()
			delete(r.senders, node)
		}
	}
	for node := range alive {
		if r.senders[node] == nil {
			s := newSender(r, node)
			r.senders[node] = s
			fresh = append(fresh, s)
		}
	}
	r.wakeLocked()
	r.mu.Unlock()
	for _, s := range fresh {
		sctx, stop := context.WithCancel(ctx)
		s.stop = stop
		r.wg.Go(func() { s.run(sctx) })
	}
}

// wakeLocked lets those who await acknowledgements look again.
func (r *Replica) wakeLocked() {
	close(r.acks)
	r.acks = make(chan struct{})
}

// repair compares with a random peer and pulls what is missing.
func (r *Replica) repair(ctx context.Context) {
	alive := r.cfg.Peers.Alive()
	if len(alive) == 0 {
		return
	}
	node := alive[rand.N(len(alive))]
	r.mu.Lock()
	s := r.senders[node]
	r.mu.Unlock()
	if s != nil {
		s.wantPull()
	}
}

// Synced reports whether a peer's state was reached at least once since Open.
func (r *Replica) Synced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.synced
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
		if r.floors[node] <= cut.Time {
			return false
		}
	}
	return true
}

// Await implements hostdb.Acker. It returns at once when nobody can be reached.
func (r *Replica) Await(ctx context.Context, origin, seq uint64, want int) int {
	for {
		r.mu.Lock()
		held, hopeful := 0, 0
		for _, s := range r.senders {
			switch {
			case s.have[origin] >= seq:
				held++
			case !s.failing:
				hopeful++
			}
		}
		wake, ended := r.acks, r.ended == nil || r.ended.Err() != nil
		r.mu.Unlock()
		if held >= want || hopeful == 0 || ended {
			return held
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return held
		}
	}
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
