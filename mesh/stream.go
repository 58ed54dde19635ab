package mesh

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/mesh/door"
)

var (
	errConnClosed = errors.New("connection closed")
	errIdle       = errors.New("connection was idle")
	errNotSent    = errors.New("request was not sent")
	errBackoff    = errors.New("not tried again yet")
	errNoLabel    = errors.New("gossip without a label, or cut short")
	errTooMany    = errors.New("too many streams of this node")
)

// Bounds of what neighbours hold here.
const (
	maxHandshakes   = 64 // that are not finished, at a time
	maxHandshakesOf = 16 // of them, from one source
	maxConnsOf      = 8  // incoming streams of one node in one lane; a live one has one, and some that are not known to be dead yet
)

// streams is the peer streams of this node, in both directions.
type streams struct {
	cfg    *Config
	log    *slog.Logger
	id     *identity
	refuse *refusals
	lis    net.Listener
	member func(id string) (Member, bool)
	banned func(id string) bool
	known  func(netip.Addr) bool // whether an address is a member's

	castOut atomic.Bool // another member refused this node, because it was removed

	ctx    context.Context // ends handlers and dials
	cancel context.CancelFunc
	wg     sync.WaitGroup

	callsIn, callsOut   atomic.Uint64
	errorsIn, errorsOut atomic.Uint64
	bytesIn, bytesOut   atomic.Uint64
	lanes               [2]laneCounts // ordinary, urgent
	made                atomic.Uint64 // connections
	handlers            sync.Map      // name -> Handler
	handshakes          *door.Door

	mu     sync.Mutex // guards the fields below
	meshID string     // "" while not known
	links  map[way]*link
	conns  map[*conn]bool
	opened map[net.Conn]bool // handshakes under way
	inConn int
	over   bool
}

func newStreams(cfg *Config, id *identity, refuse *refusals, lis net.Listener) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	s := &streams{
		cfg: cfg, log: cfg.Logger, id: id, refuse: refuse, lis: lis, ctx: ctx, cancel: cancel, meshID: cfg.MeshID,
		links: make(map[way]*link), conns: make(map[*conn]bool), opened: make(map[net.Conn]bool),
	}
	s.handshakes = door.New(door.Config{
		Name: "streams", Max: maxHandshakes, PerSource: maxHandshakesOf, Logger: s.log, Now: cfg.Clock.Now,
		Trusted: func(a netip.Addr) bool { return s.known(a) },
	})
	return s
}

func (s *streams) handler(name string) Handler {
	h, ok := s.handlers.Load(name)
	if !ok {
		return nil
	}
	return h.(Handler)
}

func (s *streams) mesh() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meshID
}

func (s *streams) setMesh(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meshID = id
}

// accept takes connections until the listener is closed.
func (s *streams) accept() {
	var pause time.Duration
	for {
		nc, err := s.lis.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
				return
			}
			// Mostly no file descriptors are left: others will be closed.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("accept peer stream", "err", err, "pause", pause)
			select {
			case <-s.cfg.Clock.After(pause):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		pause = 0
		in := s.handshakes.Enter(nc)
		if in == nil {
			continue
		}
		if !s.track(nc) {
			_ = in.Close()
			continue
		}
		go func() {
			defer s.wg.Done()
			defer in.Leave()
			defer s.untrack(nc)
			s.welcome(nc)
		}()
	}
}

// track notes a connection whose handshake begins, and refuses when all places are taken or the mesh closes. It counts
// into wg.
func (s *streams) track(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	if s.inConn+len(s.opened) >= s.cfg.MaxConns {
		s.refuse.overload.Add(1)
		return false
	}
	s.opened[nc] = true
	s.wg.Add(1)
	return true
}

func (s *streams) untrack(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.opened, nc)
}

// welcome does the acceptor's half of a handshake, and starts the connection.
func (s *streams) welcome(nc net.Conn) {
	from := peerAddr(nc.RemoteAddr())
	_ = nc.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	tc := tls.Server(nc, s.id.server())
	if err := tc.HandshakeContext(s.ctx); err != nil {
		_ = nc.Close()
		s.strange(from, err)
		return
	}
	node, err := s.id.verify(tc.ConnectionState())
	if err != nil {
		_ = nc.Close()
		s.strange(from, err)
		return
	}
	cc := &countingConn{Conn: tc, s: s}
	r := bufio.NewReader(cc)
	f, err := readFrame(r, helloMax)
	if err == nil && f.kind != helloKind {
		err = fmt.Errorf("%w: kind %d instead of a hello", errFrame, f.kind)
	}
	if err != nil {
		_ = nc.Close()
		s.strange(from, err)
		return
	}
	version, code, text := s.judge(from, node, f.hello)
	if code != "" {
		answer := frame{version: ProtocolMax, kind: refuseKind, code: code, text: text}
		_, _ = tc.Write(answer.append(nil))
		_ = tc.Close()
		return
	}
	answer := frame{version: version, kind: welcomeKind, hello: s.hello(s.mesh(), ordinary)}
	if _, err := tc.Write(answer.append(nil)); err != nil {
		_ = nc.Close()
		return
	}
	_ = nc.SetDeadline(time.Time{})
	cc.live = true
	c := newConn(s, tc, r, version, Caller{ID: node, Name: f.hello.name, Addr: from}, f.hello.lane, false)
	if !s.opens(c) {
		c.close(ErrClosed)
	}
}

// judge decides whether a peer is let in; code is empty then.
func (s *streams) judge(from netip.AddrPort, node string, h hello) (version byte, code, text string) {
	mesh := s.mesh()
	if mesh == "" {
		return 0, codeJoining, "this node does not know its mesh itself yet"
	}
	if h.nodeID != node {
		s.refuse.refuse(from, refuseIdentity, "node", node, "claims", clip(h.nodeID))
		return 0, codeWrongNode, "certificate and hello name different nodes"
	}
	if h.meshID != "" && h.meshID != mesh {
		s.refuse.refuse(from, refuseMesh, "node", node, "mesh", clip(h.meshID))
		return 0, codeOtherMesh, fmt.Sprintf("this is mesh %s, not %s", mesh, clip(h.meshID))
	}
	if s.banned(node) {
		s.refuse.refuse(from, refuseRemoved, "node", node)
		return 0, codeRemoved, "this node id was removed from the mesh: save what only this node has (hostmesh db export --unreplicated), and start with an empty data directory"
	}
	version, err := agree(h)
	if err != nil {
		s.refuse.refuse(from, refuseProtocol, "node", node, "err", err)
		return 0, codeProtocol, err.Error()
	}
	return version, "", ""
}

// strange counts and logs a handshake that came to nothing.
func (s *streams) strange(from netip.AddrPort, err error) {
	switch {
	case s.ctx.Err() != nil:
	case isForeignKey(err):
		s.refuse.refuse(from, refuseKey)
	default:
		if errors.Is(err, io.EOF) {
			err = errConnClosed
		}
		s.refuse.noise(from, err)
	}
}

func (s *streams) hello(mesh string, l lane) hello {
	return hello{min: ProtocolMin, max: ProtocolMax, meshID: mesh, nodeID: s.cfg.NodeID, name: s.cfg.Name, lane: l}
}

// opens starts a connection, unless the mesh closes.
func (s *streams) opens(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	if !c.dialled {
		s.makeRoom(c)
		s.inConn++
	}
	s.conns[c] = true
	c.start()
	return true
}

// makeRoom closes the oldest incoming stream of a node that has too many, so that no member takes the places of all. Each
// lane has its own, so that many dials of one do not cost the live stream of the other. The caller holds mu.
func (s *streams) makeRoom(next *conn) {
	var oldest *conn
	n := 0
	for c := range s.conns {
		if c.dialled || c.peer.ID != next.peer.ID || c.urgent() != next.urgent() {
			continue
		}
		n++
		if oldest == nil || c.number < oldest.number {
			oldest = c
		}
	}
	if n >= maxConnsOf {
		delete(s.conns, oldest)
		s.inConn--
		s.refuse.overload.Add(1)
		s.wg.Go(func() { oldest.close(errTooMany) })
	}
}

func (s *streams) closed(c *conn) {
	s.mu.Lock()
	if s.conns[c] {
		delete(s.conns, c)
		if !c.dialled {
			s.inConn--
		}
	}
	s.mu.Unlock()
	if c.dialled {
		if l := s.link(way{c.peer.ID, c.lane}, false); l != nil {
			l.mu.Lock()
			if l.c == c {
				l.c = nil
			}
			l.mu.Unlock()
		}
	}
}

// close ends everything. Handlers get until patience to return: one that ignores its context cannot hold the agent.
func (s *streams) close(patience time.Duration) {
	s.mu.Lock()
	s.over = true
	s.cancel()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	for nc := range s.opened {
		_ = nc.SetDeadline(time.Now())
	}
	s.mu.Unlock()
	_ = s.lis.Close()
	for _, c := range conns {
		c.close(ErrClosed)
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-s.cfg.Clock.After(patience):
		s.log.Warn("handlers still run at close", "running", s.lanes[0].serving.Load()+s.lanes[1].serving.Load())
	}
}
