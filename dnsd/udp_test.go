package dnsd

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// The scheduler is not told of small batches, but of one in so many: else nobody would make a reader that never waits let
// others run. It is told of full batches.
func TestSchedulerIsToldSeldom(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	sockets, err := listenUDP("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	u := sockets[0]
	u.server = s
	t.Cleanup(func() { closeUDP(sockets) })
	c, err := net.Dial("udp", u.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	wire, err := question("h1.x.test.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	// ask sends n questions, and serves until all are answered.
	ask := func(n int) {
		t.Helper()
		for range n {
			if _, err := c.Write(wire); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(30 * time.Second); n > 0; {
			if err := u.raw.Control(func(fd uintptr) { u.serve(fd) }); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // the kernel may be slow to hand a datagram over
			for n > 0 {
				if _, err := c.Read(make([]byte, udpSize)); err != nil {
					break
				}
				n--
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d answers are missing", n)
			}
		}
	}
	told := 0
	for range 4 * untold {
		if ask(1); u.tell {
			told++
		}
	}
	if told != 4 {
		t.Errorf("told of %d of %d batches of one question, want 4", told, 4*untold)
	}
	ask(1)
	if u.tell {
		t.Error("told of two batches in succession")
	}
	for range 20 { // it may come in two parts
		if ask(batchSize); u.tell {
			return
		}
	}
	t.Error("not told of full batches")
}
