package dnsd

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"hostmesh/mesh/door"
)

const (
	tcpIn  = 4096                     // of the buffer for questions: some fifty of them
	tcpOut = 16 << 10                 // of a buffer for answers
	tcpTop = tcpOut - plainTCP - 1024 // above, it is sent before the next answer is made
)

// tcpConn answers the plain questions of a connection as they come, all that are there with one write. The DNS library
// reads from it, and sees the rest.
type tcpConn struct {
	*door.Conn
	server   *Server
	patience time.Duration // with a client that does not take its answer
	from     netip.Addr

	// The reading goroutine's own.
	reader    reader
	buf       []byte // nil until the first read
	r, w      int    // what of buf was read and not looked at
	pass      int    // bytes of a message that go to the library
	questions int
}

func newTCPConn(s *Server, c *door.Conn, patience time.Duration) *tcpConn {
	t := &tcpConn{Conn: c, server: s, patience: patience, from: addrOf(c.RemoteAddr())}
	t.reader.seed = rand.Uint64()
	return t
}

var tcpBuffers = sync.Pool{New: func() any { b := make([]byte, 0, tcpOut); return &b }}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	c.server.tcp.forget(c)
	return c.Conn.Close()
}

// Read implements net.Conn for the DNS library: it gets what is not plain.
func (c *tcpConn) Read(b []byte) (int, error) {
	if c.buf == nil {
		c.buf = make([]byte, tcpIn)
	}
	for c.pass == 0 {
		answered, err := c.answer()
		switch {
		case err != nil:
			return 0, err
		case c.spent():
			return 0, io.EOF
		case c.pass > 0:
			c.questions++
			continue
		}
		if answered {
			if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
				return 0, err
			}
			if c.server.ending.Load() { // after it: whoever ends us may have set another deadline before
				return 0, io.EOF
			}
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		n, err := c.Conn.Read(c.buf[c.w:])
		if c.w += n; err != nil && n == 0 {
			return 0, err
		}
	}
	n := min(len(b), c.pass)
	var err error
	if c.r < c.w {
		n = copy(b[:n], c.buf[c.r:c.w])
		c.r += n
	} else {
		n, err = c.Conn.Read(b[:n])
	}
	c.pass -= n
	return n, err
}

// answer answers the plain questions that are there, up to one that is not, which it marks to be passed on.
func (c *tcpConn) answer() (answered bool, err error) {
	if c.w-c.r < 2 {
		return false, nil
	}
	buffer := tcpBuffers.Get().(*[]byte)
	defer tcpBuffers.Put(buffer)
	for c.pass == 0 && err == nil {
		out := c.fill((*buffer)[:0])
		if len(out) == 0 {
			break
		}
		answered = true
		_, err = c.Write(out)
	}
	return answered, err
}

// spent reports whether the connection had as many questions as it may have.
func (c *tcpConn) spent() bool {
	most := c.server.cfg.MaxQueriesPerConn
	return most > 0 && c.questions >= most
}

// counted is how many answers are made before they are counted: what one write has, nearly always.
const counted = 64

// fill answers as many questions as out has room for, and counts them.
func (c *tcpConn) fill(out []byte) []byte {
	var buf [counted]said
	start := time.Now()
	out, what := c.plain(out, buf[:0])
	if len(what) > 0 {
		c.count(what, time.Since(start))
	}
	return out
}

// count counts answers that were made in some time. The lock is that of all connections, so nothing else is done under it.
func (c *tcpConn) count(what []said, took time.Duration) {
	defer func() {
		if p := recover(); p != nil {
			c.server.panicked("count answers over tcp", "", p)
		}
	}()
	t := &c.server.tcpTally
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range what {
		t.count(s)
	}
	t.latency.observe(took, len(what))
	t.askers.add(c.from, len(what))
}

// plain appends the answers to plain questions, and what they were, until there is no room for one of the two. A question
// that makes us panic is answered with SERVFAIL.
func (c *tcpConn) plain(before []byte, none []said) (out []byte, what []said) {
	out, what = before, none
	whole := len(out)
	defer func() {
		if p := recover(); p != nil {
			size := 2 + int(binary.BigEndian.Uint16(c.buf[c.r:]))
			wire := c.buf[c.r+2 : c.r+size]
			c.server.panicked("answer over tcp", fmt.Sprintf("%x", wire), p)
			out = appendRefusal(binary.BigEndian.AppendUint16(out[:whole], headerSize), wire, rcodeServFail)
			what = append(what, said{rcode: rcodeServFail})
			c.r += size
			c.questions++
		}
	}()
	z := c.server.zones.Load()
	for len(out) <= tcpTop && len(what) < cap(what) && !c.spent() && c.w-c.r >= 2 {
		size := 2 + int(binary.BigEndian.Uint16(c.buf[c.r:]))
		if size > len(c.buf) {
			c.pass = size // it does not fit here, and is not plain
			break
		}
		if size > c.w-c.r {
			break
		}
		at := len(out) + 2
		wire := c.buf[c.r+2 : c.r+size]
		reply, s, ok := c.reader.answer(z, wire, out[at:at], c.from, false)
		switch {
		case ok || len(wire) < headerSize || wire[2]&bitQR != 0:
		case foreign(wire):
			reply, s, ok = appendForeign(out[at:at], wire), said{rcode: rcodeNotImp}, true
		case cutOff(wire):
			c.server.metrics.garbageTCP.Inc()
			reply, s, ok = appendRefusal(out[at:at], wire, rcodeFormErr), said{rcode: rcodeFormErr}, true
		}
		if !ok {
			c.pass = size
			break
		}
		out = out[:at+len(reply)]
		binary.BigEndian.PutUint16(out[at-2:], uint16(len(reply)))
		whole = len(out)
		what = append(what, s)
		c.r += size
		c.questions++
	}
	return out, what
}

// Write bounds how long a client may take for an answer, and ends with one that does not take it: the DNS library does
// neither. A client that took it whole goes last when room is made.
func (c *tcpConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close() // what is left of the answer would be taken for the next one
		return n, err
	}
	c.Busy()
	c.Waiting()
	return n, nil
}
