package mesh

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errConnClosed = errors.New("connection closed")
	errIdle       = errors.New("connection was idle")
	errNotSent    = errors.New("request was not sent")
	errBackoff    = errors.New("not tried again yet")
	errNoLabel    = errors.New("gossip without a label")
)

const (
	dialBackoffMin = 100 * time.Millisecond
	dialBackoffMax = 10 * time.Second
	maxHandshakes  = 64 // that are not finished, at a time
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

	ctx    context.Context // ends handlers and dials
	cancel context.CancelFunc
	wg     sync.WaitGroup

	callsIn, callsOut   atomic.Uint64
	errorsIn, errorsOut atomic.Uint64
	bytesIn, bytesOut   atomic.Uint64
	serving             atomic.Int64
	handlers            sync.Map // name -> Handler
	handshakes          chan struct{}

	mu     sync.Mutex // guards the fields below
	meshID string     // "" while not known
	links  map[string]*link
	conns  map[*conn]bool
	opened map[net.Conn]bool // handshakes under way
	inConn int
	over   bool
}

// link is the way to one member. It outlives its connections.
type link struct {
	mu      sync.Mutex // guards the fields below
	c       *conn
	dialing chan struct{} // closed when the dial under way is over; nil = none
	fails   int
	next    time.Time // no dial before
	err     error     // of the last dial
}

func newStreams(cfg *Config, id *identity, refuse *refusals, lis net.Listener) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{
		cfg: cfg, log: cfg.Logger, id: id, refuse: refuse, lis: lis, ctx: ctx, cancel: cancel, meshID: cfg.MeshID,
		links: make(map[string]*link), conns: make(map[*conn]bool), opened: make(map[net.Conn]bool),
		handshakes: make(chan struct{}, maxHandshakes),
	}
}

func (s *streams) handler(name string) Handler {
	h, ok := s.handlers.Load(name)
	if !ok {
		return nil
	}
	return h.(Handler)
}

func (s *streams) begin() bool {
	if s.serving.Add(1) > int64(s.cfg.MaxRequests) {
		s.serving.Add(-1)
		return false
	}
	return true
}

func (s *streams) end() { s.serving.Add(-1) }

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
		select {
		case s.handshakes <- struct{}{}:
		default:
			s.refuse.overload.Add(1)
			_ = nc.Close()
			continue
		}
		if !s.track(nc) {
			<-s.handshakes
			_ = nc.Close()
			continue
		}
		go func() {
			defer s.wg.Done()
			defer func() { <-s.handshakes }()
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
	answer := frame{version: version, kind: welcomeKind, hello: s.hello(s.mesh())}
	if _, err := tc.Write(answer.append(nil)); err != nil {
		_ = nc.Close()
		return
	}
	_ = nc.SetDeadline(time.Time{})
	cc.live = true
	c := newConn(s, tc, r, version, Caller{ID: node, Name: f.hello.name, Addr: from}, false)
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
		return 0, codeRemoved, "this node id was removed from the mesh; start with an empty data directory"
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

func (s *streams) hello(mesh string) hello {
	return hello{min: ProtocolMin, max: ProtocolMax, meshID: mesh, nodeID: s.cfg.NodeID, name: s.cfg.Name}
}

// opens starts a connection, unless the mesh closes.
func (s *streams) opens(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.conns[c] = true
	if !c.dialled {
		s.inConn++
	}
	c.start()
	return true
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
		if l := s.link(c.peer.ID, false); l != nil {
			l.mu.Lock()
			if l.c == c {
				l.c = nil
			}
			l.mu.Unlock()
		}
	}
}

// greet dials an address and does the dialler's half of a handshake. want is the node id that must answer, "" for any.
// The caller owns the connection; it is not started.
func (s *streams) greet(ctx context.Context, addr netip.AddrPort, want string) (*conn, hello, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	nc, err := s.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, hello{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	c, h, err := s.introduce(ctx, nc, addr, want)
	if err != nil {
		_ = nc.Close()
		switch {
		case errors.Is(err, ErrWrongKey):
			s.refuse.refuse(addr, refuseKey)
		case errors.Is(err, ErrOtherMesh):
			s.refuse.refuse(addr, refuseMesh, "err", err)
		case errors.Is(err, errVersion):
			s.refuse.refuse(addr, refuseProtocol, "err", err)
		case errors.Is(err, ErrRemoved):
			s.refuse.refuse(addr, refuseRemoved, "err", err)
		}
		return nil, hello{}, err
	}
	return c, h, nil
}

func (s *streams) introduce(ctx context.Context, nc net.Conn, addr netip.AddrPort, want string) (*conn, hello, error) {
	_ = nc.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	tc := tls.Client(nc, s.id.client(want))
	tell := func(err error) error {
		switch {
		case errors.Is(err, ErrWrongNode):
			return err
		case isForeignKey(err):
			return fmt.Errorf("greet %s: %w", addr, ErrWrongKey)
		}
		return fmt.Errorf("%w: greet %s: %w", ErrUnreachable, addr, err)
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, hello{}, tell(err)
	}
	node, err := s.id.verify(tc.ConnectionState())
	if err != nil {
		return nil, hello{}, tell(err)
	}
	mesh := s.mesh()
	f := frame{version: ProtocolMax, kind: helloKind, hello: s.hello(mesh)}
	if _, err := tc.Write(f.append(nil)); err != nil {
		return nil, hello{}, tell(err)
	}
	cc := &countingConn{Conn: tc, s: s}
	r := bufio.NewReader(cc)
	if f, err = readFrame(r, helloMax); err != nil {
		return nil, hello{}, tell(err)
	}
	switch {
	case f.kind == refuseKind && f.code == codeProtocol:
		return nil, hello{}, fmt.Errorf("greet %s: %w: %s", addr, errVersion, f.text)
	case f.kind == refuseKind && f.code == codeWrongNode, f.kind == refuseKind && codeSentinels(f.code) == nil:
		return nil, hello{}, fmt.Errorf("%w: greet %s: refused: %s", ErrUnreachable, addr, f.text)
	case f.kind == refuseKind:
		return nil, hello{}, fmt.Errorf("greet %s: %w: %s", addr, codeSentinels(f.code), f.text)
	case f.kind != welcomeKind:
		return nil, hello{}, tell(fmt.Errorf("%w: kind %d instead of a welcome", errFrame, f.kind))
	}
	h := f.hello
	if h.nodeID != node {
		return nil, hello{}, fmt.Errorf("greet %s: %w: it calls itself %s", addr, ErrWrongNode, clip(h.nodeID))
	}
	if !validID(h.meshID) || mesh != "" && h.meshID != mesh {
		return nil, hello{}, fmt.Errorf("greet %s: %w: %s", addr, ErrOtherMesh, clip(h.meshID))
	}
	version, err := agree(h)
	if err != nil {
		return nil, hello{}, fmt.Errorf("greet %s: %w", addr, err)
	}
	_ = nc.SetDeadline(time.Time{})
	cc.live = true
	return newConn(s, tc, r, version, Caller{ID: node, Name: h.name, Addr: addr}, true), h, nil
}

func (s *streams) link(id string, make bool) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[id]
	if l == nil && make {
		l = new(link)
		s.links[id] = l
	}
	return l
}

// connect returns the connection to a member, dialling when there is none. Callers that come meanwhile share the dial.
func (s *streams) connect(ctx context.Context, m Member) (*conn, error) {
	l := s.link(m.ID, true)
	for {
		l.mu.Lock()
		if c := l.c; c != nil {
			select {
			case <-c.done:
				l.c = nil
			default:
				l.mu.Unlock()
				return c, nil
			}
		}
		if l.dialing == nil {
			if s.ctx.Err() != nil {
				l.mu.Unlock()
				return nil, ErrClosed
			}
			if wait := l.next.Sub(s.cfg.Clock.Now()); wait > 0 {
				err := l.err
				l.mu.Unlock()
				return nil, fmt.Errorf("%w: %w: %w", ErrUnreachable, errBackoff, err)
			}
			l.dialing = make(chan struct{})
			s.mu.Lock()
			if s.over {
				s.mu.Unlock()
				close(l.dialing)
				l.dialing = nil
				l.mu.Unlock()
				return nil, ErrClosed
			}
			s.wg.Add(1)
			s.mu.Unlock()
			go func() {
				defer s.wg.Done()
				s.dial(l, m)
			}()
		}
		wait, before := l.dialing, l.fails
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		}
		l.mu.Lock()
		failed, err := l.c == nil && l.fails > before, l.err
		l.mu.Unlock()
		if failed {
			return nil, err
		}
		// Connected, or connected and lost again: look once more.
	}
}

func (s *streams) dial(l *link, m Member) {
	c, _, err := s.greet(s.ctx, m.Stream(), m.ID)
	if err == nil && !s.opens(c) {
		c.close(ErrClosed)
		err = ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.dialing)
	l.dialing = nil
	if err != nil {
		l.fails++
		d := min(dialBackoffMin<<min(l.fails-1, 10), dialBackoffMax)
		l.next = s.cfg.Clock.Now().Add(d/2 + rand.N(d/2))
		l.err = err
		return
	}
	l.fails, l.err = 0, nil
	select {
	case <-c.done: // it broke before it could be entered
	default:
		l.c = c
	}
}

// drop closes the streams with a member that is away, so that calls do not wait for a box that is off.
func (s *streams) drop(id string) {
	s.mu.Lock()
	var gone []*conn
	for c := range s.conns {
		if c.peer.ID == id {
			gone = append(gone, c)
		}
	}
	s.mu.Unlock()
	for _, c := range gone {
		c.close(errors.New("member is away"))
	}
}

// back forgets the failures of a member that is alive again.
func (s *streams) back(id string) {
	if l := s.link(id, false); l != nil {
		l.mu.Lock()
		l.fails, l.next = 0, time.Time{}
		l.mu.Unlock()
	}
}

// forget drops all that is known of a member that was removed.
func (s *streams) forget(id string) {
	s.drop(id)
	s.mu.Lock()
	delete(s.links, id)
	s.mu.Unlock()
}

// call is Mesh.Call.
func (s *streams) call(ctx context.Context, node, name string, req []byte) (answer []byte, err error) {
	s.callsOut.Add(1)
	defer func() {
		if err != nil {
			s.errorsOut.Add(1)
			var remote *RemoteError
			if !errors.As(err, &remote) {
				err = fmt.Errorf("call %s on node %s: %w", name, node, err)
			}
		}
	}()
	switch {
	case s.ctx.Err() != nil:
		return nil, ErrClosed
	case len(req) > s.cfg.MaxFrame:
		return nil, fmt.Errorf("request of %d bytes, at most %d are possible: %w", len(req), s.cfg.MaxFrame, ErrTooLarge)
	case len(name) > maxName || name == "":
		return nil, fmt.Errorf("name of %d bytes, want 1 to %d: %w", len(name), maxName, ErrNoHandler)
	case node == s.cfg.NodeID:
		return s.callSelf(ctx, name, req)
	}
	m, ok := s.member(node)
	if !ok {
		return nil, ErrNotMember
	}
	// A connection that is lost before the request left is no reason to fail; one that is lost twice is.
	for range 2 {
		var c *conn
		if c, err = s.connect(ctx, m); err != nil {
			return nil, err
		}
		if answer, err = c.call(ctx, name, req); !errors.Is(err, errNotSent) {
			return answer, err
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// callSelf serves a request of this node to itself, in the same way as one from elsewhere.
func (s *streams) callSelf(ctx context.Context, name string, req []byte) ([]byte, error) {
	s.callsIn.Add(1)
	fail := func(code, text string) ([]byte, error) {
		s.errorsIn.Add(1)
		return nil, &RemoteError{Node: s.cfg.NodeID, Name: name, Code: code, Text: text}
	}
	h := s.handler(name)
	if h == nil {
		return fail(codeNoHandler, fmt.Sprintf("no handler %q here", name))
	}
	if !s.begin() {
		s.refuse.overload.Add(1)
		return fail(codeBusy, "too many requests at a time")
	}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		s.end()
		return nil, ErrClosed
	}
	s.wg.Add(1)
	s.mu.Unlock()
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	from := Caller{ID: s.cfg.NodeID, Name: s.cfg.Name, Addr: netip.AddrPortFrom(s.cfg.Addr, s.cfg.StreamPort)}
	body := append([]byte(nil), req...)
	go func() {
		defer s.wg.Done()
		defer s.end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		answer, err := s.dispatch(ctx, h, from, name, body)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return fail(errorCode(r.err), r.err.Error())
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
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
		s.log.Warn("handlers still run at close", "running", s.serving.Load())
	}
}
