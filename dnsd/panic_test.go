package dnsd

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/mesh"
)

// breakTally makes counting panic for all answers but those of one kind.
func breakTally(t *tally, good said) { t.counters, t.last = nil, &counter{said: good} }

// panics is how many are counted.
func panics(t *testing.T, s *Server) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.metrics.panics)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// A question that makes us panic costs its own answer at most: those beside it and after it are answered, and it is counted.
func TestPanicsAreOutlived(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	good := said{zone: "x.test.", typ: dns.TypeA}
	for _, tally := range s.tallies() {
		breakTally(tally, good)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() { s.Close(); <-ended })
	reconcile(t, s, smallSite(t, 2), mesh.View{})

	// The fast path: what panics is not answered; what comes with it is.
	c, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	co := &dns.Conn{Conn: c}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	for range 20 {
		ask := question("h1.x.test.", dns.TypeA)
		for _, m := range []*dns.Msg{question("h1.x.test.", dns.TypeAAAA), ask} {
			if err := co.WriteMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := co.ReadMsg(); err != nil || r.Id != ask.Id || len(r.Answer) != 1 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	if n := panics(t, s); n < 20 {
		t.Errorf("%v panics are counted, 20 were made", n)
	}
	// The other one: more of them than there are workers.
	for range 2 * slowWorkers {
		query(t, s, "udp", question("x.test.", dns.TypeMX))
	}
	// A connection goes on.
	tc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	_ = tc.SetDeadline(time.Now().Add(30 * time.Second))
	co = &dns.Conn{Conn: tc}
	for _, typ := range []uint16{dns.TypeAAAA, dns.TypeA, dns.TypeTXT, dns.TypeA} {
		m := question("h1.x.test.", typ)
		if err := co.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		if r, err := co.ReadMsg(); err != nil || r.Id != m.Id || r.Rcode != dns.RcodeSuccess {
			t.Fatalf("%v, %v", r, err)
		}
	}
}

// Within a stream of questions the one that makes us panic is answered with SERVFAIL, and the next one as ever.
func TestPanicWithinAStream(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	c := &tcpConn{server: s}
	for _, name := range []string{"h1.x.test.", "h0.x.test."} {
		wire, err := question(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		c.buf = append(append(c.buf, 0, byte(len(wire))), wire...)
	}
	c.w = len(c.buf)
	// A buffer that is too small by contract makes the first one panic.
	out, what := c.plain(make([]byte, 0, 2+headerSize), make([]said, 0, 8))
	if len(what) != 1 || what[0].rcode != rcodeServFail || len(out) != 2+headerSize || out[2+3]&15 != rcodeServFail || c.r == 0 || c.r == c.w {
		t.Fatalf("%+v, %x", what, out)
	}
	out, what = c.plain(make([]byte, 0, tcpOut), what)
	r := new(dns.Msg)
	if err := r.Unpack(out[2:]); err != nil || len(what) != 2 || len(r.Answer) != 1 || r.Question[0].Name != "h0.x.test." {
		t.Errorf("%v, %+v, %v", err, what, r)
	}
	if n := panics(t, s); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
}
