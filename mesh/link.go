package mesh

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// way is who is called, and in which lane.
type way struct {
	node string
	lane lane
}

// link holds the connection of one way. It outlives its connections.
type link struct {
	mu      sync.Mutex // guards the fields below
	c       *conn
	dialing chan struct{} // closed when the dial under way is over; nil = none
	fails   int
	next    time.Time // no dial before
	err     error     // of the last dial
}

// greet dials an address and does the dialler's half of a handshake. want is the node id that must answer, "" for any.
// The caller owns the connection; it is not started.
func (s *streams) greet(ctx context.Context, addr netip.AddrPort, want string, l lane) (*conn, hello, error) {
	timeout := min(s.cfg.HandshakeTimeout, l.limits().dial)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := s.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, hello{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	_ = nc.SetDeadline(time.Now().Add(timeout))
	c, h, err := s.introduce(ctx, nc, addr, want, l)
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
			s.castOut.Store(true)
			s.refuse.refuse(addr, refuseRemoved, "err", err)
		}
		return nil, hello{}, err
	}
	return c, h, nil
}

func (s *streams) introduce(ctx context.Context, nc net.Conn, addr netip.AddrPort, want string, l lane) (*conn, hello, error) {
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
	f := frame{version: ProtocolMax, kind: helloKind, hello: s.hello(mesh, l)}
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
	return newConn(s, tc, r, version, Caller{ID: node, Name: h.name, Addr: addr}, l, true), h, nil
}

func (s *streams) link(w way, make bool) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[w]
	if l == nil && make {
		l = new(link)
		s.links[w] = l
	}
	return l
}

// connect returns the connection to a member, dialling when there is none. Callers that come meanwhile share the dial.
func (s *streams) connect(ctx context.Context, m Member, in lane) (*conn, error) {
	l := s.link(way{m.ID, in}, true)
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
				s.dial(l, m, in)
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

func (s *streams) dial(l *link, m Member, in lane) {
	began := s.cfg.Clock.Now()
	c, _, err := s.greet(s.ctx, m.Stream(), m.ID, in)
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
		l.next, l.err = in.limits().after(l.fails, began, s.cfg.Clock.Now()), err
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
	for _, in := range lanes {
		if l := s.link(way{id, in}, false); l != nil {
			l.mu.Lock()
			l.fails, l.next = 0, time.Time{}
			l.mu.Unlock()
		}
	}
}

// forget drops all that is known of a member that was removed.
func (s *streams) forget(id string) {
	s.drop(id)
	s.mu.Lock()
	for _, in := range lanes {
		delete(s.links, way{id, in})
	}
	s.mu.Unlock()
}

// call is Mesh.Call and Mesh.CallUrgent.
func (s *streams) call(ctx context.Context, in lane, node, name string, req []byte) (answer []byte, err error) {
	s.callsOut.Add(1)
	s.lane(in).callsOut.Add(1)
	defer func() {
		if err != nil {
			s.errorsOut.Add(1)
			s.lane(in).errorsOut.Add(1)
			var remote *RemoteError
			if !errors.As(err, &remote) {
				err = fmt.Errorf("call %s on node %s: %w", name, node, err)
			}
		}
	}()
	switch {
	case s.ctx.Err() != nil:
		return nil, ErrClosed
	case len(req) > s.maxFrame(in):
		return nil, fmt.Errorf("request of %d bytes, at most %d are possible: %w", len(req), s.maxFrame(in), ErrTooLarge)
	case len(name) > maxName || name == "":
		return nil, fmt.Errorf("name of %d bytes, want 1 to %d: %w", len(name), maxName, ErrNoHandler)
	case node == s.cfg.NodeID:
		return s.callSelf(ctx, in, name, req)
	}
	m, ok := s.member(node)
	if !ok {
		return nil, ErrNotMember
	}
	// A connection that is lost before the request left is no reason to fail; one that is lost twice is.
	for range 2 {
		var c *conn
		if c, err = s.connect(ctx, m, in); err != nil {
			return nil, err
		}
		if answer, err = c.call(ctx, name, req); !errors.Is(err, errNotSent) {
			return answer, err
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// callSelf serves a request of this node to itself, in the same way as one from elsewhere.
func (s *streams) callSelf(ctx context.Context, in lane, name string, req []byte) ([]byte, error) {
	s.callsIn.Add(1)
	s.lane(in).callsIn.Add(1)
	fail := func(code, text string) ([]byte, error) {
		s.errorsIn.Add(1)
		s.lane(in).errorsIn.Add(1)
		return nil, &RemoteError{Node: s.cfg.NodeID, Name: name, Code: code, Text: text}
	}
	h := s.handler(name)
	if h == nil {
		return fail(codeNoHandler, fmt.Sprintf("no handler %q here", name))
	}
	if !s.begin(in) {
		s.refuse.overload.Add(1)
		return fail(codeBusy, "too many requests at a time")
	}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		s.end(in)
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
		defer s.end(in)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		answer, err := s.dispatch(ctx, h, from, in, name, body)
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
