package dnsd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t testing.TB) *hostdb.Store {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *hostdb.Store, id, yaml string, members ...string) {
	t.Helper()
	ns, key, _ := strings.Cut(id, "/")
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	list, err := hostdb.ParseMembers(strings.Join(members, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		if err := tx.Put(ns, key, doc); err != nil || len(list) == 0 {
			return err
		}
		return tx.SetMembers(ns, key, list)
	}); err != nil {
		t.Fatal(err)
	}
}

// startServer runs a server on a free port of 127.0.0.53.
func startServer(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.Version = "127.0.0.53:0", "hostmesh test"
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil && !errors.Is(err, ErrClosed) { // Close may come before Run
			t.Error(err)
		}
	})
	return s
}

func reconcile(t testing.TB, s *Server, db *hostdb.Store, m mesh.View) {
	t.Helper()
	if err := s.Reconcile(context.Background(), db.View(), m); err != nil {
		t.Fatal(err)
	}
}

func query(t testing.TB, s *Server, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: 4096}
	r, _, err := c.Exchange(m, s.Addr().String())
	if err != nil {
		t.Fatalf("%v: %v", m.Question, err)
	}
	return r
}

func question(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	return m
}

// smallSite has a zone with a host, and a tag of n hosts.
func smallSite(t testing.TB, n int) *hostdb.Store {
	db := openStore(t)
	names := []string{}
	for i := range n {
		name := fmt.Sprintf("h%d.x.test", i)
		put(t, db, "hosts/"+name, fmt.Sprintf("Network: {IP: 10.0.%d.%d, cname: c%d}", i>>8, i&255, i))
		names = append(names, name)
	}
	put(t, db, "tags/x", "DNS: {Zone: x.test, Reverse: [10.0.0.0/16], Records: {'@': {NS: h0, MX: 10 h0}}}", names...)
	return db
}

func TestAnswersOverBothProtocols(t *testing.T) {
	db, s := smallSite(t, 60), startServer(t, nil)
	if r := query(t, s, "udp", question("h1.x.test.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first reconcile: %v", r)
	}
	reconcile(t, s, db, mesh.View{})
	for _, network := range []string{"udp", "tcp"} {
		r := query(t, s, network, question("H1.x.Test.", dns.TypeA))
		if len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != "10.0.0.1" || !r.Authoritative || r.RecursionAvailable || r.Question[0].Name != "H1.x.Test." {
			t.Errorf("%s: %v", network, r)
		}
		if r.IsEdns0() != nil {
			t.Errorf("%s: an OPT that was not asked for", network)
		}
		if r := query(t, s, network, question("www.elsewhere.test.", dns.TypeA)); r.Rcode != dns.RcodeRefused || r.Authoritative {
			t.Errorf("%s: outside: %v", network, r)
		}
	}

	big := query(t, s, "udp", question("x.tag.mesh.internal.", dns.TypeA))
	big.Compress = true // as it was sent
	if !big.Truncated || big.Len() > 512 || len(big.Answer) == 0 {
		t.Errorf("60 addresses in 512 bytes: truncated %v, %d bytes", big.Truncated, big.Len())
	}
	m := question("x.tag.mesh.internal.", dns.TypeA)
	m.SetEdns0(4096, true)
	if r := query(t, s, "udp", m); r.Truncated || len(r.Answer) != 60 || r.IsEdns0() == nil || r.IsEdns0().UDPSize() != udpSize || !r.IsEdns0().Do() {
		t.Errorf("60 addresses with EDNS: %d, truncated %v, %v", len(r.Answer), r.Truncated, r.IsEdns0())
	}
	if r := query(t, s, "tcp", question("x.tag.mesh.internal.", dns.TypeA)); r.Truncated || len(r.Answer) != 60 {
		t.Errorf("60 addresses by tcp: %d", len(r.Answer))
	}
	first := map[string]bool{}
	for range 200 {
		first[query(t, s, "tcp", question("x.tag.mesh.internal.", dns.TypeA)).Answer[0].String()] = true
	}
	if len(first) < 10 {
		t.Errorf("of 60 addresses only %d come first in 200 answers", len(first))
	}
}

func TestUnusualQueries(t *testing.T) {
	db, s := smallSite(t, 2), startServer(t, nil)
	reconcile(t, s, db, mesh.View{})
	with := func(m *dns.Msg, change func(*dns.Msg)) *dns.Msg { change(m); return m }
	ask := func() *dns.Msg { return question("h1.x.test.", dns.TypeA) }
	for _, c := range []struct {
		name  string
		m     *dns.Msg
		rcode int
	}{
		{"AXFR", question("x.test.", dns.TypeAXFR), dns.RcodeRefused},
		{"IXFR", with(ask(), func(m *dns.Msg) { m.SetIxfr("x.test.", 1, ".", ".") }), dns.RcodeRefused},
		{"update", with(ask(), func(m *dns.Msg) { m.SetUpdate("x.test.") }), dns.RcodeNotImplemented},
		{"notify", with(ask(), func(m *dns.Msg) { m.SetNotify("x.test.") }), dns.RcodeNotImplemented},
		{"status", with(ask(), func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), dns.RcodeNotImplemented},
		{"class HESIOD", with(ask(), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassHESIOD }), dns.RcodeRefused},
		{"type MAILB", question("x.test.", dns.TypeMAILB), dns.RcodeNotImplemented},
		{"type OPT", question("x.test.", dns.TypeOPT), dns.RcodeFormatError},
		{"EDNS version 1", with(ask(), func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		{"two OPT", with(ask(), func(m *dns.Msg) { m.SetEdns0(1232, false); m.SetEdns0(1232, false) }), dns.RcodeFormatError},
		{"two questions", with(ask(), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"a small EDNS size", with(ask(), func(m *dns.Msg) { m.SetEdns0(12, false) }), dns.RcodeSuccess},
		{"a missing name", question("nobody.x.test.", dns.TypeA), dns.RcodeNameError},
		{"an unknown type", question("h1.x.test.", 65280), dns.RcodeSuccess},
		{"hostname.bind when off", with(ask(), func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "hostname.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), dns.RcodeRefused},
	} {
		if r := query(t, s, "udp", c.m); r.Rcode != c.rcode {
			t.Errorf("%s: %s, want %s", c.name, dns.RcodeToString[r.Rcode], dns.RcodeToString[c.rcode])
		}
	}
	v := question("version.bind.", dns.TypeTXT)
	v.Question[0].Qclass = dns.ClassCHAOS
	if r := query(t, s, "udp", v); len(r.Answer) != 1 || !strings.Contains(r.Answer[0].String(), "hostmesh test") {
		t.Errorf("version.bind: %v", r)
	}
	neg := query(t, s, "udp", question("nobody.x.test.", dns.TypeA))
	if len(neg.Ns) != 1 || neg.Ns[0].Header().Rrtype != dns.TypeSOA || neg.Ns[0].(*dns.SOA).Serial == 0 {
		t.Errorf("negative answer without a right SOA: %v", neg)
	}

	// Bytes that are no message: silence or FORMERR, and the next query is answered.
	conn, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, garbage := range [][]byte{{}, {1}, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 12), append(make([]byte, 12), 0xc0, 0x0c)} {
		if _, err := conn.Write(garbage); err != nil {
			t.Fatal(err)
		}
	}
	if r := query(t, s, "udp", ask()); r.Rcode != dns.RcodeSuccess {
		t.Errorf("after garbage: %v", r)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Error(err)
	}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	if series["hostmesh_dns_queries_total"] < 5 || series["hostmesh_dns_zone_serial"] != 3 || series["hostmesh_dns_problems"] != 1 {
		t.Errorf("series: %v", series)
	}
	if st := s.Status(); st.Version != db.View().Version().String() || len(st.Zones) != 3 || st.Error != "" || len(st.Problems) != 0 {
		t.Errorf("status: %+v", st)
	}
}

func TestTCPLimits(t *testing.T) {
	s := startServer(t, func(c *Config) { c.MaxConns = 2; c.IdleTimeout = 200 * time.Millisecond })
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	pipelined, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer pipelined.Close()
	var batch []byte
	for i := range 3 {
		m := question("h1.x.test.", dns.TypeA)
		m.Id = uint16(i)
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch = append(binary.BigEndian.AppendUint16(batch, uint16(len(wire))), wire...)
	}
	if _, err := pipelined.Write(batch); err != nil {
		t.Fatal(err)
	}
	co := &dns.Conn{Conn: pipelined}
	for i := range 3 {
		if r, err := co.ReadMsg(); err != nil || int(r.Id) != i || len(r.Answer) != 1 {
			t.Fatalf("pipelined query %d: %v %v", i, r, err)
		}
	}
	one := make([]byte, 1)
	_ = pipelined.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := pipelined.Read(one); err == nil || isTimeout(err) {
		t.Errorf("a quiet connection stays open: %v", err)
	}

	var conns []net.Conn
	refused := 0
	for range 5 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(one); err != nil && !isTimeout(err) {
			refused++
		}
	}
	if refused != 5 { // three at once, two when they were idle
		t.Errorf("%d of 5 connections were closed", refused)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestPortInUse(t *testing.T) {
	s := startServer(t, nil)
	cfg := DefaultConfig()
	cfg.Listen = s.Addr().String()
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), cfg.Listen) || !strings.Contains(err.Error(), "dns.listen or --dns") {
		t.Errorf("port in use: %v", err)
	}
	cfg.Listen = "10.1.0.12"
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("no port: %v", err)
	}
}

func TestLifeCycle(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.53:0"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("Run after Close")
	}
	s, err = Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Serials grow with each change, and a restart goes on where the last run ended.
func TestSerialsOverRestart(t *testing.T) {
	dir, db := t.TempDir(), smallSite(t, 2)
	cfg := DefaultConfig()
	cfg.Listen, cfg.Dir = "127.0.0.53:0", dir
	serial := func(s *Server) uint32 { i, _ := s.Zones().Info("x.test"); return i.Serial }
	var last uint32
	for range 3 {
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		reconcile(t, s, db, mesh.View{})
		if last != 0 && serial(s) != last {
			t.Errorf("after a restart %d, before it %d", serial(s), last)
		}
		for i := range 3 {
			was := serial(s)
			put(t, db, "hosts/h1.x.test", fmt.Sprintf("Network: {IP: 10.0.9.%d}", i))
			reconcile(t, s, db, mesh.View{})
			if serial(s) != was+1 {
				t.Errorf("a change: %d, then %d", was, serial(s))
			}
		}
		last = serial(s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// peerNet is what a mesh is to dnsd: nodes that call each other.
type peerNet struct {
	self     string
	view     mesh.View
	handlers map[string]mesh.Handler // of all nodes, by id
}

func (p peerNet) View() mesh.View                    { return p.view }
func (p peerNet) Handle(name string, h mesh.Handler) { p.handlers[p.self+name] = h }
func (p peerNet) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	return p.handlers[node+name](ctx, mesh.Caller{ID: p.self}, req)
}

var _ Peers = (*mesh.Mesh)(nil)

func TestServersAgreeOnSerials(t *testing.T) {
	db := smallSite(t, 2)
	handlers := map[string]mesh.Handler{}
	ids := []string{strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("c", 32)}
	var ms []mesh.Member
	for i, id := range ids {
		ms = append(ms, mesh.Member{ID: id, Name: fmt.Sprintf("n%d", i), Addr: netip.MustParseAddr("127.0.0.1"), State: mesh.StateAlive})
	}
	var servers []*Server
	for i, id := range ids {
		cfg := DefaultConfig()
		cfg.Listen, cfg.Peers = "127.0.0.53:0", peerNet{id, mesh.NewView(id, ms), handlers}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.serials.now = clockAt(int64(1000 * (i + 1)))
		reconcile(t, s, db, mesh.NewView(id, ms))
		servers = append(servers, s)
	}
	servers[0].exchange(context.Background(), len(ids))
	servers[2].exchange(context.Background(), len(ids))
	for i, s := range servers {
		if info, _ := s.Zones().Info("x.test."); info.Serial != 3000 {
			t.Errorf("server %d serves serial %d", i, info.Serial)
		}
		if r := s.Zones().Lookup("x.test.", dns.TypeSOA); r.Answer[0].(*dns.SOA).Serial != 3000 {
			t.Errorf("server %d: %v", i, r.Answer[0])
		}
	}
	if _, err := servers[0].serveExchange(context.Background(), mesh.Caller{}, []byte("garbage")); err == nil {
		t.Error("garbage from a peer was taken")
	}
}

func TestDig(t *testing.T) {
	bin, err := exec.LookPath("dig")
	if err != nil {
		t.Fatalf("dig is needed (Debian: bind9-dnsutils): %v", err)
	}
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	addr := s.Addr().(*net.TCPAddr)
	for want, args := range map[string][]string{
		"10.0.0.1\n":              {"+short", "h1.x.test"},
		"h1.x.test.\n10.0.0.1\n":  {"+short", "c1.x.test"},
		"h1.x.test.\n":            {"+short", "-x", "10.0.0.1"},
		"10 h0.x.test.\n":         {"+short", "+tcp", "x.test", "MX"},
		"10.0.0.0\n":              {"+short", "+nocookie", "+bufsize=512", "h0.x.test"},
		"; Transfer failed.\n":    {"x.test", "AXFR", "+nocmd", "+nostats"},
		"status: NXDOMAIN":        {"h9.x.test"},
		"flags: qr aa rd; QUERY:": {"h1.x.test"},
	} {
		args = append([]string{"@" + addr.IP.String(), "-p", fmt.Sprint(addr.Port)}, args...)
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("dig %v: %v\n%s\nwant %q", args, err, out, want)
		}
	}
}

// A client that asks on and on and takes no answer holds its place no longer than one that is silent.
func TestAnswersThatAreNotTaken(t *testing.T) {
	s := startServer(t, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond; c.MaxQueriesPerConn = 1 << 30 })
	reconcile(t, s, smallSite(t, 60), mesh.View{})
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wire, err := question("x.tag.mesh.internal.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	many := bytes.Repeat(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...), 1000)
	_ = c.SetWriteDeadline(time.Now().Add(30 * time.Second))
	for err == nil {
		_, err = c.Write(many)
	}
	if isTimeout(err) {
		t.Errorf("it keeps its place: %v", err)
	}
}

func TestGarbageIsCounted(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	tcp, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	half := append(binary.BigEndian.AppendUint16(nil, 14), 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 40, 'x') // a question that is cut off
	if _, err := tcp.Write(half); err != nil {
		t.Fatal(err)
	}
	_ = tcp.SetReadDeadline(time.Now().Add(30 * time.Second))
	if r, err := (&dns.Conn{Conn: tcp}).ReadMsg(); err != nil || r.Rcode != dns.RcodeFormatError || r.Id != 7 {
		t.Errorf("%v, %v", r, err)
	}
	udp, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write(half[2:]); err != nil {
		t.Fatal(err)
	}
	_ = udp.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := udp.Read(make([]byte, 512)); err != nil {
		t.Error(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		if f.GetName() == "hostmesh_dns_garbage_total" {
			for _, m := range f.GetMetric() {
				counted += m.GetCounter().GetValue()
			}
		}
	}
	if counted != 2 {
		t.Errorf("%v counted, want one of each protocol", counted)
	}
}
