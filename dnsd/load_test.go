package dnsd

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// While HostDB takes a thousand writes, at best in a second, each question is answered, and rightly: with what stood there
// between question and answer. That a name once had another address, or a tag another member, is never seen again.
func TestNoWrongAnswerUnderWrites(t *testing.T) {
	const writes, hosts = 1000, 20
	db := richSite(t)
	put(t, db, "tags/moving", "Service: {Port: 80}", "h3.x.test", "h4.x.test")
	s := startServer(t, nil)
	reconcile(t, s, db, mesh.View{})
	var begun, done [hosts]atomic.Int64 // of each host: the last write that began, and that is served
	address := func(n int64) string { return fmt.Sprintf("10.77.%d.%d", n>>8, n&255) }
	number := func(rr dns.RR) int64 {
		a := rr.(*dns.A).A.To4()
		if a[1] != 77 {
			return 0 // from before the first write
		}
		return int64(a[2])<<8 | int64(a[3])
	}
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var asked atomic.Int64
	for c := range 4 {
		network := []string{"udp", "tcp"}[c%2]
		clients.Go(func() {
			conn, err := net.Dial(network, s.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			co := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
			for i := c; ctx.Err() == nil && !t.Failed(); i++ {
				h := i % hosts
				name := fmt.Sprintf("h%d.x.test.", h)
				if i%7 == 0 {
					name = fmt.Sprintf("c%d.x.test.", h) // its alias
				}
				atLeast := done[h].Load()
				m := question(name, dns.TypeA)
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				if err := co.WriteMsg(m); err != nil {
					t.Error(err)
					return
				}
				r, err := co.ReadMsg()
				if err != nil || r.Id != m.Id || r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 {
					t.Errorf("%s by %s: %v, %v", name, network, r, err)
					return
				}
				asked.Add(1)
				got := number(r.Answer[len(r.Answer)-1])
				if atMost := begun[h].Load(); got < atLeast || got > atMost {
					t.Errorf("%s by %s: write %d, but it is between %d and %d", name, network, got, atLeast, atMost)
				}
			}
		})
	}
	begin := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := int64(1); n <= writes && !t.Failed(); n++ {
		<-tick.C
		h := int(n % hosts)
		begun[h].Store(n)
		put(t, db, fmt.Sprintf("hosts/h%d.x.test", h), fmt.Sprintf("Network: {IP: %s, cname: c%d}", address(n), h))
		reconcile(t, s, db, mesh.View{})
		done[h].Store(n)
	}
	took := time.Since(begin)
	stop()
	clients.Wait()
	t.Logf("%.0f writes/s, %.0f questions/s", writes/took.Seconds(), float64(asked.Load())/took.Seconds())
	if asked.Load() == 0 {
		t.Error("nothing was asked")
	}
}
