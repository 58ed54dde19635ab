package mesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	writeTimeout = 15 * time.Second // without any progress
	writeChunk   = 256 << 10        // what must get out within writeTimeout
	outQueue     = 16               // frames that wait for the writer
)

// conn is one peer stream after its handshake. The side that dialled sends requests and pings, the other answers. One
// goroutine reads, one writes; each request that is served has its own.
type conn struct {
	s       *streams
	nc      net.Conn // TLS
	r       *bufio.Reader
	version byte
	peer    Caller
	lane    lane
	dialled bool
	number  uint64 // in the order of handshakes

	out  chan []byte
	done chan struct{} // closed when the connection is over; err is set then
	once sync.Once
	err  error

	slots   chan struct{} // dialled: a token for each request in flight
	lastUse atomic.Int64  // dialled: unix nanoseconds of the last request's end
	heard   atomic.Int64  // when something came last, as asked
	mu      sync.Mutex    // guards the fields below
	asked   int64         // dialled, urgent: unix nanoseconds, real time, of the first request since something came
	nextID  uint64
	retired bool                               // dialled: takes no more requests
	pending map[uint64]chan frame              // dialled: who waits
	running map[uint64]context.CancelCauseFunc // accepted: what is being served
}

func newConn(s *streams, nc net.Conn, r *bufio.Reader, version byte, peer Caller, in lane, dialled bool) *conn {
	c := &conn{
		s: s, nc: nc, r: r, version: version, peer: peer, lane: in, dialled: dialled,
		out:  make(chan []byte, outQueue),
		done: make(chan struct{}),

		number: s.made.Add(1),
	}
	if dialled {
		c.slots = make(chan struct{}, s.cfg.MaxRequestsPerConn)
		c.pending = make(map[uint64]chan frame)
		c.lastUse.Store(s.cfg.Clock.Now().UnixNano())
	} else {
		c.running = make(map[uint64]context.CancelCauseFunc)
	}
	return c
}

// start runs the connection until it breaks.
func (c *conn) start() {
	c.s.wg.Add(2)
	go func() {
		defer c.s.wg.Done()
		c.close(c.writeLoop())
	}()
	go func() {
		defer c.s.wg.Done()
		c.close(c.readLoop())
	}()
	if c.dialled {
		c.s.wg.Add(1)
		go func() {
			defer c.s.wg.Done()
			c.tend()
		}()
	}
}

// close ends the connection; the first reason is kept. All who wait get it.
func (c *conn) close(err error) {
	c.once.Do(func() {
		if err == nil || errors.Is(err, io.EOF) {
			err = errConnClosed
		}
		c.err = err
		close(c.done)
		// Closing TLS sends an alert, for which a dead peer's socket has no room. This is the last write, so it may be short.
		_ = c.nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_ = c.nc.Close()
		c.mu.Lock()
		for _, cancel := range c.running {
			cancel(errConnClosed)
		}
		c.mu.Unlock()
		c.s.closed(c)
	})
}

func (c *conn) writeLoop() error {
	for {
		select {
		case b := <-c.out:
			for len(b) > 0 {
				n := min(len(b), writeChunk)
				if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
					return err
				}
				if _, err := c.nc.Write(b[:n]); err != nil {
					return err
				}
				c.s.bytesOut.Add(uint64(n))
				b = b[n:]
			}
		case <-c.done:
			return nil
		}
	}
}

func (c *conn) readLoop() error {
	limit := c.s.cfg.MaxFrame + frameSlack // a member that knows no lanes may answer with as much
	if !c.dialled {
		limit = c.s.maxFrame(c.lane) + frameSlack
	}
	for {
		f, err := readFrame(c.r, limit)
		if err != nil {
			return err
		}
		if c.urgent() {
			c.heard.Store(time.Now().UnixNano())
		}
		if f.version != c.version {
			return fmt.Errorf("%w: frame of version %d on a stream of version %d", errFrame, f.version, c.version)
		}
		switch {
		case c.dialled && (f.kind == answerKind || f.kind == errorKind):
			c.mu.Lock()
			w := c.pending[f.id]
			delete(c.pending, f.id)
			c.mu.Unlock()
			if w != nil { // else the caller gave up
				w <- f
			}
		case c.dialled && f.kind == pongKind:
		case !c.dialled && f.kind == pingKind:
			c.send(&frame{version: c.version, kind: pongKind, id: f.id})
		case !c.dialled && f.kind == requestKind:
			c.serve(f)
		case !c.dialled && f.kind == cancelKind:
			c.mu.Lock()
			cancel := c.running[f.id]
			c.mu.Unlock()
			if cancel != nil {
				cancel(context.Canceled)
			}
		default:
			return fmt.Errorf("%w: kind %d from this side", errFrame, f.kind)
		}
	}
}

// send queues a frame, and reports whether the connection took it.
func (c *conn) send(f *frame) bool {
	b := f.append(make([]byte, 0, frameHead+frameFixed+8+len(f.name)+len(f.code)+len(f.text)+len(f.body)))
	select {
	case c.out <- b:
		return true
	case <-c.done:
		return false
	}
}

// tend pings, and closes a connection that nobody uses.
func (c *conn) tend() {
	for {
		select {
		case <-c.done:
			return
		case <-c.s.cfg.Clock.After(c.s.cfg.KeepAlive):
		}
		idle := c.s.cfg.Clock.Now().Sub(time.Unix(0, c.lastUse.Load()))
		c.mu.Lock()
		c.retired = len(c.pending) == 0 && idle >= c.s.cfg.IdleTimeout
		retired := c.retired
		c.mu.Unlock()
		if retired {
			c.close(errIdle)
			return
		}
		if !c.send(&frame{version: c.version, kind: pingKind}) {
			return
		}
	}
}

// call sends one request and waits. errNotSent means that it never left, so that the caller may try another connection.
func (c *conn) call(ctx context.Context, name string, req []byte) ([]byte, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, c.unanswered(ctx)
	case <-c.done:
		return nil, errNotSent
	}
	f := frame{version: c.version, kind: requestKind, name: name, body: req}
	if deadline, ok := ctx.Deadline(); ok {
		// ctx runs on the real time, whatever Clock is given. What is left crosses, not the time: clocks differ.
		if f.timeout = time.Until(deadline); f.timeout <= 0 {
			return nil, context.DeadlineExceeded
		}
	}
	wait := make(chan frame, 1)
	c.mu.Lock()
	if c.retired {
		c.mu.Unlock()
		return nil, errNotSent
	}
	if now := time.Now().UnixNano(); c.asked <= c.heard.Load() {
		c.asked = now
	}
	c.nextID++
	f.id = c.nextID
	c.pending[f.id] = wait
	c.mu.Unlock()
	defer func() {
		c.lastUse.Store(c.s.cfg.Clock.Now().UnixNano())
		c.mu.Lock()
		delete(c.pending, f.id)
		c.mu.Unlock()
	}()

	b := f.append(make([]byte, 0, frameHead+frameFixed+8+len(name)+len(req)))
	select {
	case c.out <- b:
	case <-ctx.Done():
		return nil, c.unanswered(ctx)
	case <-c.done:
		return nil, errNotSent
	}
	var probe <-chan time.Time
	if c.urgent() && f.timeout > 0 {
		t := time.NewTimer(f.timeout / 2)
		defer t.Stop()
		probe = t.C
	}
	for {
		select {
		case a := <-wait:
			return c.answer(name, a)
		case <-probe:
			// Whatever the handler does, the pong tells that the way there and back is open.
			c.trySend(&frame{version: c.version, kind: pingKind})
		case <-ctx.Done():
			c.trySend(&frame{version: c.version, kind: cancelKind, id: f.id})
			return nil, c.unanswered(ctx)
		case <-c.done:
			select {
			case a := <-wait: // it came before the end
				return c.answer(name, a)
			default:
			}
			return nil, fmt.Errorf("%w: connection broke: %w", ErrUnreachable, c.err)
		}
	}
}

// trySend sends a frame that may as well be lost.
func (c *conn) trySend(f *frame) {
	select {
	case c.out <- f.append(nil):
	default:
	}
}

func (c *conn) answer(name string, a frame) ([]byte, error) {
	if a.kind == errorKind {
		return nil, &RemoteError{Node: c.peer.ID, Name: name, Code: a.code, Text: a.text}
	}
	return a.body, nil
}

// serve starts a handler, or says why not.
func (c *conn) serve(f frame) {
	refuse := func(code, text string) {
		c.s.errorsIn.Add(1)
		c.s.lane(c.lane).errorsIn.Add(1)
		c.send(&frame{version: c.version, kind: errorKind, id: f.id, code: code, text: text})
	}
	c.s.callsIn.Add(1)
	c.s.lane(c.lane).callsIn.Add(1)
	h := c.s.handler(f.name)
	if h == nil {
		refuse(codeNoHandler, fmt.Sprintf("no handler %q here", clip(f.name)))
		return
	}
	c.mu.Lock()
	// Twice the caller's own bound: those it gave up on may still run.
	full := len(c.running) >= 2*c.s.cfg.MaxRequestsPerConn
	c.mu.Unlock()
	if full || !c.s.begin(c.lane) {
		c.s.refuse.overload.Add(1)
		refuse(codeBusy, "too many requests at a time")
		return
	}
	ctx, cancel := context.WithCancelCause(c.s.ctx)
	stop := func() {}
	if f.timeout > 0 {
		ctx, stop = context.WithTimeout(ctx, f.timeout)
	}
	c.mu.Lock()
	c.running[f.id] = cancel
	c.mu.Unlock()
	select {
	case <-c.done: // it closed before the entry was there to be cancelled
		cancel(errConnClosed)
	default:
	}
	c.s.wg.Add(1)
	go func() {
		defer c.s.wg.Done()
		defer c.s.end(c.lane)
		answer, err := c.s.dispatch(ctx, h, c.peer, c.lane, f.name, f.body)
		stop()
		cancel(nil)
		c.mu.Lock()
		delete(c.running, f.id)
		c.mu.Unlock()
		if err != nil {
			refuse(errorCode(err), clip(err.Error()))
			return
		}
		c.send(&frame{version: c.version, kind: answerKind, id: f.id, body: answer})
	}()
}

// dispatch runs a handler and catches its panic.
func (s *streams) dispatch(ctx context.Context, h Handler, from Caller, in lane, name string, req []byte) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", "name", name, "peer", from.ID, "err", p, "stack", string(debug.Stack()))
			answer, err = nil, &panicError{fmt.Sprintf("handler %s panicked: %v", name, p)}
		}
	}()
	answer, err = h(ctx, from, req)
	if most := s.maxFrame(in); err == nil && len(answer) > most {
		return nil, fmt.Errorf("answer of %d bytes, at most %d are possible: %w", len(answer), most, ErrTooLarge)
	}
	return answer, err
}

type panicError struct{ text string }

func (e *panicError) Error() string     { return e.text }
func (e *panicError) ErrorCode() string { return codePanic }

// countingConn counts what is read, and gives each read its own deadline: a large frame may take its time as long as it
// moves, and a half-open connection ends.
type countingConn struct {
	net.Conn
	s    *streams
	live bool // after the handshake, which has one deadline for all
}

func (c *countingConn) Read(b []byte) (int, error) {
	if c.live {
		if err := c.Conn.SetReadDeadline(time.Now().Add(3 * c.s.cfg.KeepAlive)); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(b)
	c.s.bytesIn.Add(uint64(n))
	return n, err
}
