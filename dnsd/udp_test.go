package dnsd

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// The scheduler is told of full batches, after which nobody waits, and of no others.
func TestSchedulerIsToldOfFullBatches(t *testing.T) {
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
	for range 3 {
		for n := 1; n < batchSize; n++ { // the first after a full one, too
			if ask(n); u.tell {
				t.Fatalf("told of a batch of at most %d", n)
			}
		}
		for tries := 0; !u.tell; tries++ {
			if ask(batchSize); tries == 20 { // it may come in two parts, but not always
				t.Fatal("not told of full batches")
			}
		}
	}
}
