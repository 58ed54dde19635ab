package meshtest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how much a stream holds that was not read yet.
const window = 256 << 10

// half is one direction of a stream.
type half struct {
	net  *Net
	path path

	mu       sync.Mutex // guards the fields below
	cond     *sync.Cond
	queue    []segment
	size     int
	finished bool // the writer closed
	broken   bool // the reader closed
	readBy   deadline
	writeBy  deadline
}

// segment is what one Write brought, and when it arrives.
type segment struct {
	data []byte
	at   time.Time
}

// deadline wakes a half when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed(now time.Time) bool { return !d.at.IsZero() && !now.Before(d.at) }

func (d *deadline) set(at time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

// pipe makes both ends of a stream. n.mu is held.
func (n *Net) pipe(a, b netip.AddrPort) (net.Conn, net.Conn) {
	mk := func(from, to netip.AddrPort) *half {
		h := &half{net: n, path: path{from.Addr(), to.Addr()}}
		h.cond = sync.NewCond(&h.mu)
		n.halves[h] = true
		return h
	}
	ab, ba := mk(a, b), mk(b, a)
	return &conn{in: ba, out: ab, local: a, remote: b}, &conn{in: ab, out: ba, local: b, remote: a}
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case h.broken:
			return 0, net.ErrClosed
		case h.readBy.passed(now):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case h.net.isCut(h.path):
		case len(h.queue) > 0 && !h.queue[0].at.After(now):
			s := &h.queue[0]
			k := copy(b, s.data)
			s.data = s.data[k:]
			h.size -= k
			if len(s.data) == 0 {
				h.queue[0] = segment{}
				h.queue = h.queue[1:]
			}
			h.cond.Broadcast()
			return k, nil
		case len(h.queue) == 0 && h.finished:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		now := time.Now()
		switch {
		case h.finished:
			return n, net.ErrClosed
		case h.broken && !h.net.isCut(h.path): // in a partition nobody says so
			return n, syscall.EPIPE
		case h.writeBy.passed(now):
			return n, os.ErrDeadlineExceeded
		case h.size < window:
			k := min(len(b), window-h.size)
			d := h.net.delayOf(h.path)
			at := now.Add(d)
			if l := len(h.queue); l > 0 && h.queue[l-1].at.After(at) {
				at = h.queue[l-1].at // bytes do not overtake each other
			}
			h.queue = append(h.queue, segment{append([]byte(nil), b[:k]...), at})
			h.size += k
			n, b = n+k, b[k:]
			if d > 0 {
				time.AfterFunc(time.Until(at), h.wake)
			}
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
	return n, nil
}

// finish is the writer's close: what was written still arrives.
func (h *half) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finished = true
	h.writeBy.set(time.Time{}, nil)
	h.cond.Broadcast()
	h.end()
}

// abandon is the reader's close.
func (h *half) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = true
	h.queue, h.size = nil, 0
	h.readBy.set(time.Time{}, nil)
	h.cond.Broadcast()
	h.end()
}

// end lets the network forget a half that both sides closed. mu is held.
func (h *half) end() {
	if h.finished && h.broken {
		h.net.mu.Lock()
		delete(h.net.halves, h)
		h.net.mu.Unlock()
	}
}

// conn is one end of a stream.
type conn struct {
	in, out       *half
	local, remote netip.AddrPort
}

func (c *conn) Read(b []byte) (int, error)  { n, err := c.in.read(b); return n, c.wrap("read", err) }
func (c *conn) Write(b []byte) (int, error) { n, err := c.out.write(b); return n, c.wrap("write", err) }

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *conn) Close() error {
	c.out.finish()
	c.in.abandon()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	return firstError(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (c *conn) SetReadDeadline(t time.Time) error {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken {
		return net.ErrClosed
	}
	h.readBy.set(t, h.wake)
	h.cond.Broadcast()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.finished {
		return net.ErrClosed
	}
	h.writeBy.set(t, h.wake)
	h.cond.Broadcast()
	return nil
}
