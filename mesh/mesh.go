package mesh

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"hostmesh/mesh/door"
)

// Caller is who sent a request.
type Caller struct {
	ID   string         // node id, proved by its certificate
	Name string         // host name it gave
	Addr netip.AddrPort // where the connection comes from
}

// Handler serves requests of one name. It runs in a goroutine of its own; ctx ends at the caller's deadline, when the
// caller gives up, or when its connection breaks. A panic is recovered, logged, and returned to the caller as an error.
// req is the handler's to keep.
type Handler func(ctx context.Context, from Caller, req []byte) ([]byte, error)

// Mesh is this node's part in the mesh. All methods are safe for concurrent use.
type Mesh struct {
	cfg       Config
	log       *slog.Logger
	label     string
	joinPort  uint16 // of join addresses that have none
	transport memberlist.NodeAwareTransport
	guard     *guard // the same
	gossipLog *log.Logger
	refuse    *refusals
	clones    *conflicts
	peers     *peerList
	board     *board
	streams   *streams
	reports   *reportSync
	serf      atomic.Pointer[serf.Serf]

	redialPoke chan struct{}
	closing    chan struct{}
	closeOnce  sync.Once
	mu         sync.Mutex // guards started
	started    bool
	finished   chan struct{} // closed when all is freed
}

// Open checks the configuration and binds the ports. Nothing is sent before Run.
func Open(cfg Config) (*Mesh, error) {
	complete(&cfg)
	if err := check(&cfg); err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	peers, err := loadPeerList(cfg.Dir, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	switch {
	case cfg.MeshID == "":
		cfg.MeshID = peers.mesh // learnt before, but the owner did not come to write it down
	case peers.mesh != "" && peers.mesh != cfg.MeshID:
		return nil, fmt.Errorf("open mesh: %w: this node is configured for mesh %s, but %s is of mesh %s; use the data directory that belongs to the mesh", ErrOtherMesh, cfg.MeshID, peers.path, peers.mesh)
	}
	if cfg.MeshID == "" && len(cfg.Join) == 0 {
		return nil, fmt.Errorf("open mesh: %w: set join to some members of the mesh, or found a new one with: hostmesh init", ErrNoJoin)
	}
	if peers.isRemoved(cfg.NodeID) {
		return nil, fmt.Errorf("open mesh: node %s: %w; start with an empty data directory", cfg.NodeID, ErrRemoved)
	}
	id, err := newIdentity(cfg.Key, cfg.NodeID)
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}

	m := &Mesh{
		log: cfg.Logger, peers: peers,
		label:    "hostmesh-" + hex.EncodeToString(cfg.Key.Derive(LabelNetwork, 16)),
		refuse:   newRefusals(cfg.Logger, cfg.Clock.Now),
		clones:   newConflicts(cfg.Logger, cfg.Clock.Now),
		joinPort: cfg.GossipPort,

		redialPoke: make(chan struct{}, 1), closing: make(chan struct{}), finished: make(chan struct{}),
	}
	if m.joinPort == 0 {
		m.joinPort = DefaultConfig().GossipPort
	}
	m.gossipLog = newGossipLogger(m.log, m.refuse, m.clones, cfg.Clock.Now)
	transport, bound, err := cfg.Network.Gossip(netip.AddrPortFrom(cfg.Addr, cfg.GossipPort), m.gossipLog)
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	m.guard = newGuard(transport, m.refuse, door.Config{
		Name: "gossip", Max: maxGossipConns, PerSource: maxGossipConnsOf, Logger: m.log, Now: cfg.Clock.Now, Trusted: m.known,
	})
	transport = m.guard
	m.transport, cfg.GossipPort = transport, bound.Port()
	lis, err := cfg.Network.Listen(netip.AddrPortFrom(cfg.Addr, cfg.StreamPort))
	if err != nil {
		_ = transport.Shutdown()
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	cfg.StreamPort = peerAddr(lis.Addr()).Port()

	m.cfg = cfg
	self := Member{
		ID: cfg.NodeID, Name: cfg.Name, Addr: cfg.Addr, GossipPort: cfg.GossipPort, StreamPort: cfg.StreamPort,
		Datacenter: cfg.Datacenter, Rack: cfg.Rack, Protocol: ProtocolMax, State: StateAlive, Since: cfg.Clock.Now(),
	}
	m.board = newBoard(self, m.log, cfg.Clock.Now)
	m.board.change(func(members map[string]Member) bool {
		for _, p := range peers.all() {
			if p.ID != cfg.NodeID {
				members[p.ID] = Member{
					ID: p.ID, Name: p.Name, Addr: p.Addr, GossipPort: p.GossipPort, StreamPort: p.StreamPort,
					Datacenter: p.Datacenter, Rack: p.Rack, Protocol: p.Protocol,
				}
			}
		}
		return true
	})
	m.streams = newStreams(&m.cfg, id, m.refuse, lis)
	m.streams.banned, m.streams.known = peers.isRemoved, m.known
	m.streams.member = func(id string) (Member, bool) { return m.View().Get(id) }
	m.openReports()
	m.guard.open()
	return m, nil
}

// complete fills in what may be left out.
func complete(cfg *Config) {
	d := DefaultConfig()
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	setTime := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&cfg.MaxFrame, d.MaxFrame)
	set(&cfg.MaxConns, d.MaxConns)
	set(&cfg.MaxRequests, d.MaxRequests)
	set(&cfg.MaxRequestsPerConn, d.MaxRequestsPerConn)
	setTime(&cfg.HandshakeTimeout, d.HandshakeTimeout)
	setTime(&cfg.KeepAlive, d.KeepAlive)
	setTime(&cfg.IdleTimeout, d.IdleTimeout)
	setTime(&cfg.RedialMax, d.RedialMax)
	if cfg.LeaveTimeout == 0 {
		cfg.LeaveTimeout = d.LeaveTimeout
	}
	cfg.Addr = cfg.Addr.Unmap()
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = realClock{}
	}
	if cfg.Network == nil {
		cfg.Network = sockets{cfg.Addr}
	}
}

func check(cfg *Config) error {
	switch {
	case cfg.Key.IsZero():
		return fmt.Errorf("%w: there is none; make one with: hostmesh keygen, and set key_file", ErrBadKey)
	case !validID(cfg.NodeID):
		return fmt.Errorf("node id %q: want 32 lower-case hex digits", cfg.NodeID)
	case cfg.MeshID != "" && !validID(cfg.MeshID):
		return fmt.Errorf("mesh id %q: want 32 lower-case hex digits", cfg.MeshID)
	case !cfg.Addr.IsValid() || cfg.Addr.IsUnspecified() || cfg.Addr.IsMulticast() || cfg.Addr.Zone() != "":
		return fmt.Errorf("addr %q: set it to the one address of this host that the other members reach", cfg.Addr)
	case cfg.MaxFrame > 1<<30:
		return fmt.Errorf("longest frame of %d bytes: at most %d are possible", cfg.MaxFrame, 1<<30)
	case cfg.GossipPort != 0 && cfg.GossipPort == cfg.StreamPort:
		return fmt.Errorf("gossip and stream port are both %d: they must differ", cfg.GossipPort)
	}
	for what, text := range map[string]string{"name": cfg.Name, "datacenter": cfg.Datacenter, "rack": cfg.Rack} {
		if !utf8.ValidString(text) || len(text) > 253 {
			return fmt.Errorf("%s: want at most 253 bytes of UTF-8", what)
		}
		for _, r := range text {
			if !unicode.IsPrint(r) {
				return fmt.Errorf("%s %q: want printable characters", what, text)
			}
		}
	}
	if cfg.Name == "" {
		return errors.New("name: set it to the host's name")
	}
	for _, j := range cfg.Join {
		if _, _, err := splitJoin(j, 1); err != nil {
			return err
		}
	}
	return checkTags(cfg)
}

// Run takes part in the mesh until ctx ends or Close is called; then it leaves in order and returns nil. It can be called
// once.
func (m *Mesh) Run(ctx context.Context) error {
	m.mu.Lock()
	select {
	case <-m.closing:
		m.mu.Unlock()
		return ErrClosed
	default:
	}
	if m.started {
		m.mu.Unlock()
		return errors.New("run mesh: it runs already")
	}
	m.started = true
	m.mu.Unlock()
	defer close(m.finished)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	spawn := func(f func()) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f()
		}()
	}
	spawn(func() {
		select {
		case <-m.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	spawn(m.streams.accept)
	spawn(func() { m.keepPeers(ctx) })
	err := m.participate(ctx, spawn)
	// A second Run, or calls after an error, must not wait for ever.
	m.closeOnce.Do(func() { close(m.closing) })
	cancel()
	m.leave()
	m.streams.close(time.Second)
	wg.Wait()
	if serr := m.peers.save(); serr != nil {
		m.log.Error("peer list is not kept", "err", serr)
	}
	return err
}

// participate learns the mesh's id if need be, starts serf, and returns when ctx ends.
func (m *Mesh) participate(ctx context.Context, spawn func(func())) error {
	if m.cfg.MeshID == "" {
		id, err := m.learn(ctx)
		if err != nil {
			return nil // ctx ended
		}
		// The owner writes it down first: a node that lost it could join another mesh with the same data.
		if m.cfg.OnMeshID != nil {
			if err := m.cfg.OnMeshID(id); err != nil {
				return fmt.Errorf("keep the mesh id: %w", err)
			}
		}
		m.setMeshID(id)
	}
	m.peers.setMesh(m.cfg.MeshID)
	events := make(chan serf.Event, eventQueue)
	spawn(func() { m.follow(ctx, events) })
	s, err := serf.Create(m.serfConfig(events))
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	m.serf.Store(s)
	m.log.Info("mesh runs", "node", m.cfg.NodeID, "mesh", m.cfg.MeshID, "gossip", m.self().Gossip().String(), "stream", m.self().Stream().String(), "known", m.View().Len())
	spawn(func() { m.redial(ctx, s) })
	spawn(func() { m.measure(ctx, s) })
	spawn(func() { m.reports.run(ctx) })
	<-ctx.Done()
	return nil
}

// setMeshID is called once, before serf starts: until then only the streams read the id, and they have their own copy.
func (m *Mesh) setMeshID(id string) {
	m.cfg.MeshID = id
	m.streams.setMesh(id)
}

// leave says goodbye within LeaveTimeout and stops the gossip.
func (m *Mesh) leave() {
	s := m.serf.Load()
	if s == nil {
		_ = m.transport.Shutdown()
		return
	}
	if m.cfg.LeaveTimeout > 0 {
		if err := s.Leave(); err != nil {
			m.log.Warn("leave the mesh", "err", err)
		}
	}
	if err := s.Shutdown(); err != nil {
		m.log.Warn("stop gossip", "err", err)
	}
}

// Close leaves the mesh in order, within about Config.LeaveTimeout, and frees everything. It is idempotent, and waits
// until Run is over.
func (m *Mesh) Close() error {
	m.mu.Lock()
	m.closeOnce.Do(func() {
		close(m.closing)
		if !m.started {
			_ = m.transport.Shutdown()
			m.streams.close(time.Second)
			close(m.finished)
		}
	})
	m.mu.Unlock()
	<-m.finished
	return nil
}

// peersSettle is how long the peer list gathers changes before it is written. What a killed node saw last is lost to it,
// and one that was killed right after it joined has nothing else to find the mesh by.
const peersSettle = 100 * time.Millisecond

// keepPeers writes the peer list soon after it changed.
func (m *Mesh) keepPeers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.peers.poke:
		}
		// Changes come in bursts: one write for each.
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.Clock.After(peersSettle):
		}
		if err := m.peers.save(); err != nil {
			m.log.Error("peer list is not kept; trying again in a minute", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-m.cfg.Clock.After(time.Minute):
				poke(m.peers.poke)
			}
		}
	}
}

// View returns what is known now. It takes no lock and allocates nothing.
func (m *Mesh) View() View { return View{m.board.view.Load()} }

// known reports whether an address is that of a member.
func (m *Mesh) known(addr netip.Addr) bool {
	return slices.ContainsFunc(m.View().Members(), func(x Member) bool { return x.Addr == addr })
}

func (m *Mesh) self() Member { return m.View().Self() }

// Watch returns a channel that gets a value after the View changed: one slot, so that many changes may be one poke, and
// the latest View is the one to read. It holds a poke at the start. It is never closed. stop ends it, and may be called
// more than once. Distances change without a poke.
func (m *Mesh) Watch() (changed <-chan struct{}, stop func()) { return m.board.watch(true) }

// WatchMembers is Watch for those to whom reports mean nothing: they change far more often than members do.
func (m *Mesh) WatchMembers() (changed <-chan struct{}, stop func()) { return m.board.watch(false) }

// Handle registers the handler of a name of at most 255 bytes; nil removes it. It may be called at any time; register
// before Run what the others call from the start.
func (m *Mesh) Handle(name string, h Handler) {
	if name == "" || len(name) > maxName {
		panic("mesh: Handle of a name that is empty or too long")
	}
	if h == nil {
		m.streams.handlers.Delete(name)
		return
	}
	m.streams.handlers.Store(name, h)
}

// Call sends a request to the member with this id (this node itself, too) and waits for the answer, or until ctx ends.
// The deadline of ctx crosses. Nothing is retried once it was sent. req may be reused afterwards.
//
// Errors: a *RemoteError when the handler returned one, which also matches ErrNoHandler, ErrBusy, ErrTooLarge and
// context.DeadlineExceeded; ErrNotMember; ErrUnreachable; ErrWrongKey and ErrWrongNode when somebody else answers at the
// member's address; ErrClosed; and ctx's own.
func (m *Mesh) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	return m.streams.call(ctx, ordinary, node, name, req)
}

// CallUrgent is Call for small messages on which a decision waits, such as an election: they travel in a stream of their
// own, so that they never wait behind a large answer, and are served although Call's requests take all places of the member.
// A member of an older build serves them as Call's.
//
// Request and answer have at most MaxUrgent bytes (or Config.MaxFrame, if that is less). A member is dialled for a second at
// most, and again half a second after that began at the earliest; meanwhile the call fails at once with ErrUnreachable. Give
// ctx a deadline: when it passes and nothing at all came from the member meanwhile, the connection is given up, and the next
// call dials anew. That is how a cut is got over: what is sent into one is repeated by TCP ever more rarely.
func (m *Mesh) CallUrgent(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	return m.streams.call(ctx, urgent, node, name, req)
}

// Remove takes a member off the mesh for good: it leaves the peer list, is no longer dialled, and its id is not accepted
// again. All members that are alive are told; one that is away must be told when it is back, by calling Remove or Bar on it,
// which is harmless to repeat. It does not revoke the mesh key. A member that is alive is refused with ErrAlive: stop its
// agent first. An unknown id is barred as well.
func (m *Mesh) Remove(nodeID string) error {
	if !validID(nodeID) {
		return fmt.Errorf("remove node %q: want 32 lower-case hex digits", nodeID)
	}
	if x, ok := m.View().Get(nodeID); ok && x.State == StateAlive {
		return fmt.Errorf("remove node %s: %w; stop its agent first", nodeID, ErrAlive)
	}
	now := m.cfg.Clock.Now()
	m.forget(nodeID, now)
	m.board.change(func(members map[string]Member) bool {
		_, known := members[nodeID]
		delete(members, nodeID)
		return known
	})
	if s := m.serf.Load(); s != nil {
		if err := s.RemoveFailedNodePrune(nodeID); err != nil {
			return fmt.Errorf("remove node %s: it is removed here, but the others may not have heard: %w", nodeID, err)
		}
	}
	return nil
}
