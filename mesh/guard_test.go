package mesh

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"hostmesh/mesh/door"
)

// port is a gossip port whose streams a test gives.
type port struct {
	memberlist.NodeAwareTransport
	streams chan net.Conn
	down    bool
}

func (p *port) StreamCh() <-chan net.Conn { return p.streams }
func (p *port) Shutdown() error           { p.down = true; return nil }

// sender is a stream that sends so many bytes and then waits.
type sender struct {
	net.Conn
	addr   string
	left   int
	closed chan struct{}
	end    func()
}

func (s *sender) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s.addr))
}

func (s *sender) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), s.left)
	s.left -= n
	return n, nil
}

func (s *sender) Close() error { s.end(); return nil }

func send(addr string, n int) *sender {
	s := &sender{addr: addr, left: n, closed: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.closed) })
	return s
}

func TestGossipStreamsAreBounded(t *testing.T) {
	p := &port{streams: make(chan net.Conn)}
	r := newRefusals(slog.New(slog.DiscardHandler), time.Now)
	g := newGuard(p, r, door.Config{Name: "gossip", Max: 3, Logger: r.log})
	g.open()
	var held []net.Conn
	take := func(addr string, n int) (net.Conn, *sender) {
		s := send(addr, n)
		p.streams <- s
		c := <-g.StreamCh()
		held = append(held, c)
		return c, s
	}
	_, first := take("10.0.0.1:1", 0)
	for range 3 {
		take("10.0.0.1:2", 0)
	}
	<-first.closed // it made room
	if g.closed() != 1 {
		t.Errorf("%d were turned away", g.closed())
	}
	for _, c := range held[1:] {
		c.Close()
	}

	// What one sends is bounded by what all may; what is given back can be used again.
	for range 3 {
		big, _ := take("10.0.0.2:1", 2*gossipPool)
		n, err := io.Copy(io.Discard, big)
		if !errors.Is(err, errGossipFull) || n != gossipPool+gossipFree {
			t.Errorf("%d bytes, %v", n, err)
		}
		small, _ := take("10.0.0.3:1", gossipFree-1)
		if n, err := io.Copy(io.Discard, small); err != nil || n != gossipFree-1 {
			t.Errorf("a small exchange beside it: %d bytes, %v", n, err)
		}
		big.Close()
		big.Close()
		small.Close()
	}
	if left := g.left.Load(); left != gossipPool || r.overload.Load() != 3 {
		t.Errorf("%d of the pool are left, %d turned away", left, r.overload.Load())
	}
	waiting := send("10.0.0.4:1", 0)
	p.streams <- waiting // nobody takes it
	g.Shutdown()
	<-waiting.closed
	g.Shutdown()
	if !p.down {
		t.Error("the port is not closed")
	}
}

// Strangers who give themselves another address each time do not fill the log.
func TestLinesAboutStrangersAreBounded(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1e9, 0)
	r := newRefusals(slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	for i := range 100_000 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		r.noise(a, errors.New("x"))
		r.refuse(a, refuseKey)
		now = now.Add(time.Millisecond)
	}
	if n, most := strings.Count(log.String(), "\n"), linesAtOnce+100/5; n < linesAtOnce || n > most+1 {
		t.Errorf("%d lines within 100 s, at most %d are allowed", n, most)
	}
	if r.garbage.Load() != 100_000 || r.key.Load() != 100_000 {
		t.Error("not all are counted")
	}
	now = now.Add(time.Hour)
	log.Reset()
	r.refuse(netip.MustParseAddrPort("10.200.0.1:1"), refuseKey)
	if !strings.Contains(log.String(), "unlogged=") {
		t.Errorf("nothing says what was left out: %s", &log)
	}
}

// Nobody is let in, and nobody asked who is known, before the guard is open; and it ends without that, too.
func TestGuardBeforeOpen(t *testing.T) {
	r := newRefusals(slog.New(slog.DiscardHandler), time.Now)
	p := &port{streams: make(chan net.Conn, 1)}
	var ready atomic.Bool
	g := newGuard(p, r, door.Config{Name: "gossip", Max: 1, Logger: r.log, Trusted: func(netip.Addr) bool {
		if !ready.Load() {
			t.Error("asked too early")
		}
		return true
	}})
	p.streams <- send("10.0.0.9:1000", 1)
	time.Sleep(10 * time.Millisecond) // for a guard that would not wait to show it
	ready.Store(true)
	g.open()
	c := <-g.StreamCh()
	c.Close()
	if err := g.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := newGuard(p, r, door.Config{Name: "gossip", Max: 1, Logger: r.log}).Shutdown(); err != nil {
		t.Error(err)
	}
}
