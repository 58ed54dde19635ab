package hostdb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the clock rules.
const (
	maxLocalLead  = time.Second     // local writes are refused while our readings run further ahead of the wall
	maxRemoteLead = 5 * time.Second // operations stamped further ahead are held aside
)

// maxQueued bounds the bytes of operations that wait for the disk.
const maxQueued = 64 << 20

// Acker tells how many other boxes hold an operation durably. hostdb/replica implements it.
type Acker interface {
	// Await blocks until want others hold the operation, or until nothing more is to be expected soon, or ctx ends;
	// it returns how many hold it.
	Await(ctx context.Context, origin, seq uint64, want int) int
}

// Validator looks at documents before a local write is accepted. hostdb/section implements it.
type Validator interface {
	// Validate returns what a person should know about the new document of ns/key, and an error if it must not be written.
	// Of a key that is deleted after is not there; of one that is made before is not. An error that wraps ErrProtected is
	// lifted by Request.Override.
	Validate(ns, key string, before, after Document) (warnings []string, err error)
}

// Config is what a Store needs.
type Config struct {
	// OpenStorage opens the storage; it is called at Open, and again after the storage failed. Required.
	OpenStorage func() (Storage, error)
	// NodeID is written into the first operation of each run. Required.
	NodeID string
	// Validator may be nil: everything that parses is accepted.
	Validator Validator
	// Clock is the wall; nil is the system's.
	Clock Clock
	// Logger is nil for none.
	Logger *slog.Logger
	// Space reports why the disk must not be written, nil when it may; nil func: never asked. Run asks four times a second.
	Space func() error
	// AckTimeout bounds how long a write waits for another box; 0 is 250 ms.
	AckTimeout time.Duration
}

// Store is one replica: it accepts writes, makes them durable, applies what other replicas wrote, and shows the state
// as Views. All methods are safe for concurrent use.
type Store struct {
	cfg   Config
	view  atomic.Pointer[snapshot]
	acker atomic.Pointer[Acker]
	skew  atomic.Pointer[func() (time.Duration, int)]
	gate  atomic.Pointer[func() error]

	mu       sync.Mutex    // guards the fields below
	storage  Storage       // nil while it has failed or is closed
	failure  error         // why storage is nil
	closing  chan struct{} // closed when the storage that failed has closed; nil when none is closing
	head     *snapshot     // newest state, maybe not durable yet
	clock    hybridClock
	run      run
	queue    []*pending
	queued   int // bytes of raw operations in queue and under way
	flushing bool
	idle     sync.Cond // on mu: flushing became false, or alone 0
	alone    int       // who waits to write alone, or does
	closed   bool
	watchers map[chan struct{}]struct{}
	counts   Counts
	pasts    []past              // states asked for lately, oldest first
	logs     map[uint64]logStart // where the log of an origin begins, if not with its first operation
	join     *joinRow            // a state that is being taken from another replica; nil when none is

	pastTurn chan struct{} // a slot for who makes a state of the past
	filling  sync.Mutex    // held by Fill and by what else changes where logs begin; taken before mu
}

// run is our own chain of operations since the storage was opened.
type run struct {
	origin uint64 // 0 until the first write
	seq    uint64
	hash   Hash
}

// Counts are totals since Open, for metrics.
type Counts struct {
	LocalOps    uint64 // operations made here
	RemoteOps   uint64 // operations of others applied
	Flushes     uint64 // commits of the storage; operations per flush shows how well writers share an fsync
	HeldAside   uint64 // operations refused for a stamp too far ahead
	Forks       uint64 // operations whose predecessor is not the one we hold
	StorageDown uint64 // times the storage failed
}

// Open loads a replica from its storage. A storage of a newer format is refused.
func Open(cfg Config) (*Store, error) {
	if cfg.OpenStorage == nil || cfg.NodeID == "" {
		return nil, errors.New("hostdb: OpenStorage and NodeID are required")
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.AckTimeout == 0 {
		cfg.AckTimeout = 250 * time.Millisecond
	}
	s := &Store{cfg: cfg, watchers: map[chan struct{}]struct{}{}, pastTurn: make(chan struct{}, 1)}
	s.idle.L = &s.mu
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return nil, err
	}
	return s, nil
}

// openLocked opens the storage and loads the state. The caller holds mu.
func (s *Store) openLocked() error {
	if s.cfg.Space != nil {
		if err := s.cfg.Space(); err != nil {
			return fmt.Errorf("open replica: %w: %w", ErrUnavailable, err)
		}
	}
	st, err := s.cfg.OpenStorage()
	if err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	l, err := load(st)
	if err != nil {
		return errors.Join(fmt.Errorf("load replica: %w", err), st.Close())
	}
	s.storage, s.failure = st, nil
	s.takeLocked(l)
	return nil
}

// takeLocked makes what a storage holds the state of this replica.
func (s *Store) takeLocked(l loaded) {
	s.head, s.logs, s.join = l.state, l.logs, l.join
	s.clock.see(max(l.newest, TimeOf(s.cfg.Clock.Now())))
	s.run = run{}
	s.pasts = nil
	s.view.Store(l.state)
	s.pokeLocked()
}

// View is what the replica holds now, durably. It takes no lock.
func (s *Store) View() View { return View{s.view.Load()} }

// Watch gives a channel that receives whenever there is a new View; values coalesce, the latest view wins. stop
// releases it.
func (s *Store) Watch() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.watchers[ch] = struct{}{}
	s.mu.Unlock()
	return ch, func() {
		s.mu.Lock()
		delete(s.watchers, ch)
		s.mu.Unlock()
	}
}

func (s *Store) pokeLocked() {
	for ch := range s.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// SetAcker sets who is asked for acknowledgements of other boxes. Without one a write is acknowledged alone.
func (s *Store) SetAcker(a Acker) { s.acker.Store(&a) }

// SetGate sets who says why this replica must take no local writes yet; nil when it may. A replica that has not heard of what the others
// hold would write as if nothing existed, and could then not take their state.
func (s *Store) SetGate(g func() error) { s.gate.Store(&g) }

// Counts are totals since Open.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Failure is why local and remote writes are refused at the moment; nil when they are not.
func (s *Store) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writableLocked()
}

// writableLocked reports why nothing can be stored now.
func (s *Store) writableLocked() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.storage == nil:
		return refuse(ErrUnavailable, "the store cannot be written: %v", s.failure)
	case s.join != nil:
		return refuse(ErrUnavailable, "this node is taking its first copy of HostDB from another one: write there, or wait")
	}
	return nil
}

// ClockLead is how far our stamps run ahead of the wall, because of a neighbour's clock or of our own set back.
func (s *Store) ClockLead() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.ahead(s.cfg.Clock.Now())
}

// Floor is a reading at or below which this replica will show no operation of its own that View does not show already,
// unless its clock is set back while it does not run.
func (s *Store) Floor() Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storage == nil && !s.closed {
		return 0 // what could not be written may be there all the same when the storage is opened again
	}
	if s.head != s.view.Load() { // something is on its way to the disk
		h, _ := s.view.Load().vector.get(s.run.origin)
		return h.time
	}
	return max(s.clock.last, TimeOf(s.cfg.Clock.Now()))
}

// Origin is the origin of this run's operations, 0 before its first.
func (s *Store) Origin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run.origin
}

// lookEvery is how often the disk is looked at: the room that Space keeps must last until the storage is closed, however fast somebody fills
// the disk, and a look is one system call.
const lookEvery = 250 * time.Millisecond

// Run looks after the storage until ctx ends: closes it when the disk must not be written, and opens it again when
// the reason is gone. Reads are served all the while.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.checkStorage()
		}
	}
}

func (s *Store) checkStorage() {
	if s.cfg.Space != nil {
		if err := s.cfg.Space(); err != nil {
			s.mu.Lock()
			if s.storage != nil && !s.flushing && !s.closed {
				s.cfg.Logger.Error("storage closed, serving reads only", "err", err)
				s.failLocked(err)
			} else if s.storage == nil && !s.closed {
				s.failure = err // what keeps it closed now, with the remedy, not what closed it
			}
			s.mu.Unlock()
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storage != nil || s.closed || s.flushing {
		return
	}
	if s.closing != nil {
		select {
		case <-s.closing:
			s.closing = nil
		default:
			return // it still holds its directory
		}
	}
	if err := s.openLocked(); err != nil {
		s.failure = err
		return
	}
	s.cfg.Logger.Info("storage opened again", "version", View{s.head}.Version())
}

// failLocked gives up the storage: what is not durable is forgotten, and what may be durable is learnt by opening anew.
func (s *Store) failLocked(err error) {
	if s.storage != nil {
		s.closing = s.closeStorage(s.storage)
		s.counts.StorageDown++
	}
	s.storage, s.failure = nil, err
	s.head = s.view.Load()
	s.run = run{}
}

// closeStorage closes a storage aside: one whose disk is gone may retry for ever, and nobody shall wait for that.
func (s *Store) closeStorage(st Storage) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		if err := st.Close(); err != nil {
			s.cfg.Logger.Warn("close storage", "err", err)
		}
	}()
	return done
}

// closeTimeout bounds how long Close waits for the storage. What was acknowledged is on disk already.
const closeTimeout = 10 * time.Second

// Close refuses further writes, waits for those under way, and closes the storage. It is idempotent; views stay valid.
// A storage that does not close in time is left behind, and the error says so; nothing acknowledged is lost.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	for s.flushing {
		s.idle.Wait()
	}
	if s.storage != nil {
		s.closing = s.closeStorage(s.storage)
		s.storage, s.failure = nil, ErrClosed
	}
	closing := s.closing
	s.mu.Unlock()
	if closing == nil {
		return nil
	}
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closing:
		return nil
	case <-timer.C:
		return fmt.Errorf("close replica: the storage does not close within %s; is its disk gone?", closeTimeout)
	}
}

// Operations are the raw operations of an origin after seq, in order, up to about maxBytes but at least one; none
// when there is nothing newer or it is not durable yet. ErrGone when the log held here begins later.
func (s *Store) Operations(origin, after uint64, maxBytes int) ([][]byte, error) {
	s.mu.Lock()
	st := s.storage
	low := s.logs[origin].low
	s.mu.Unlock()
	switch {
	case st == nil:
		return nil, refuse(ErrUnavailable, "the store cannot be read for others: %v", s.Failure())
	case after < low:
		return nil, refuse(ErrGone, "operations of %016x after %d: the log held here begins after %d", origin, after, low)
	}
	var out [][]byte
	end := errors.New("enough")
	last := s.View().Seq(origin)
	err := st.Scan(rowKey('o', origin), opKey(origin, after+1), func(key, value []byte) error {
		seq := binary.BigEndian.Uint64(key[9:])
		if seq > last {
			return end
		}
		out = append(out, append([]byte(nil), value...))
		if maxBytes -= len(value); maxBytes <= 0 || len(value) > 0 && value[0] != 0 {
			return end // an operation in chunks comes last: it is large
		}
		return nil
	})
	if err != nil && !errors.Is(err, end) {
		return nil, fmt.Errorf("read operations of %016x after %d: %w", origin, after, err)
	}
	for i, row := range out {
		if out[i], err = joinOp(st, origin, after+1+uint64(i), row); err != nil {
			return nil, fmt.Errorf("read operations: %w", err)
		}
	}
	return out, nil
}

// newOrigin is a random id that is not 0.
func newOrigin() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}
