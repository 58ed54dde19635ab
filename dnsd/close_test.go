package dnsd

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// endlessTransfers answers as long as somebody reads.
type endlessTransfers struct {
	dns.TsigProvider
	begun chan struct{}
}

func (t endlessTransfers) Serve(w dns.ResponseWriter, _ *dns.Msg, _ func() *dns.Msg) {
	close(t.begun)
	buf := make([]byte, 16000)
	for {
		if _, err := w.Write(buf); err != nil {
			return
		}
	}
}

// Close does not wait for a secondary that reads steadily.
func TestCloseDuringATransfer(t *testing.T) {
	transfers := endlessTransfers{keyed, make(chan struct{})}
	s := startServer(t, func(c *Config) { c.Transfers = transfers })
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := (&dns.Conn{Conn: c}).WriteMsg(question("x.test.", dns.TypeAXFR)); err != nil {
		t.Fatal(err)
	}
	<-transfers.begun
	go func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	done := make(chan struct{})
	go func() { s.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		c.Close()
		t.Fatal("Close waits for the transfer, however long that takes")
	}
	if n := len(s.tcp.conns); n != 0 {
		t.Errorf("%d connections are not forgotten", n)
	}
}
