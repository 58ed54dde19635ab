package haproxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
)

func TestHTTP(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 3)
	port := freePort(t, vip)
	h.apply(web(port, to, 3))
	if have := who(t, url(port), 9); len(have) != 3 || have["1"] != 3 || have["2"] != 3 {
		t.Errorf("of nine requests in turn %v", have)
	}
	body, err := get(url(port))
	if err != nil || !strings.HasSuffix(body, " 127.0.0.1 http") {
		t.Errorf("what is forwarded: %q %v", body, err)
	}
	for _, name := range []string{"haproxy.cfg"} {
		info, err := os.Stat(filepath.Join(h.dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	// It goes on without the rights of root.
	if os.Geteuid() == 0 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.b.Status().Pid))
		for line := range strings.Lines(string(status)) {
			words := strings.Fields(line)
			switch words[0] {
			case "Uid:", "Gid:", "Groups:":
				if slices.Contains(words[1:], "0") {
					t.Errorf("it runs with the rights of root: %s", line)
				}
			case "CapEff:":
				if words[1] != "0000000000000000" {
					t.Errorf("it has capabilities: %s", line)
				}
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	stats, err := h.b.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var front, servers uint64
	for _, s := range stats {
		switch {
		case s.Tag != "web" || s.Port != port:
			t.Errorf("%+v", s)
		case s.Host == "":
			front += s.Total
		default:
			servers += s.Total
		}
	}
	if len(stats) != 4 || front < 10 || servers != 10 {
		t.Errorf("%d counters, %d connections, %d requests: %+v", len(stats), front, servers, stats)
	}
	text := scrape(t, h.b)
	for _, want := range []string{
		"hostmesh_lb_haproxy_up 1\n", "hostmesh_lb_haproxy_starts_total 1\n",
		fmt.Sprintf("hostmesh_lb_haproxy_connections_total{host=\"web1\",port=\"%d\",tag=\"web\"} ", port),
		fmt.Sprintf("hostmesh_lb_haproxy_received_bytes_total{host=\"\",port=\"%d\",tag=\"web\"} ", port),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// Nothing is left when it ends.
	pid := h.b.Status().Pid
	h.stop()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is there after the end: %v", pid, err)
	}
}

func scrape(t *testing.T, b *Balancer) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range b.Collectors() {
		r.MustRegister(c)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestTCP(t *testing.T) {
	h := open(t)
	port := freePort(t, vip)
	to := freePort(t, backendAddr(1), backendAddr(2))
	for i := 1; i <= 2; i++ {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", backendAddr(i), to))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					fmt.Fprintf(c, "%d\n", i)
					io.Copy(c, c)
				}()
			}
		}()
	}
	s := with(web(port, to, 2), func(s *plan.Service) { s.Mode = section.Conn })
	h.apply(s)
	dial := func() (net.Conn, byte) {
		t.Helper()
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", vip, port), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(60 * time.Second))
		buf := make([]byte, 2)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		return c, buf[0]
	}
	echo := func(c net.Conn) error {
		if _, err := io.WriteString(c, "hello"); err != nil {
			return err
		}
		buf := make([]byte, 5)
		_, err := io.ReadFull(c, buf)
		return err
	}
	c, first := dial()
	i := int(first - '1')
	pid := h.b.Status().Pid

	// Draining: who is there goes on, nobody comes.
	h.apply(with(s, func(s *plan.Service) { s.Backends[i].State, s.Backends[i].Cause = plan.Draining, plan.Drained }))
	for range 6 {
		other, who := dial()
		other.Close()
		if who == first {
			t.Fatal("a server that drains was given a connection")
		}
	}
	if err := echo(c); err != nil {
		t.Fatalf("a connection to a server that drains: %v", err)
	}
	// A reload does not cut it either.
	extra := freePort(t, vip)
	more := func(state plan.State) *plan.Service {
		return with(s, func(s *plan.Service) {
			s.Ports = append(s.Ports, plan.Forward{Port: extra, Proto: section.TCP, To: to})
			s.Backends[i].State, s.Backends[i].Cause = state, plan.Drained
		})
	}
	h.apply(more(plan.Draining))
	if h.b.Status().Pid == pid {
		t.Fatal("another port needs another process")
	}
	if err := echo(c); err != nil {
		t.Fatalf("a connection after a reload: %v", err)
	}
	if n := h.b.Status().Finishing; n != 1 {
		t.Errorf("%d processes finish", n)
	}
	c.Close()
	wait(t, "the end of the old process", func() bool { h.b.tend(context.Background()); return h.b.Status().Finishing == 0 })

	// Out after draining: connections are cut.
	h.apply(more(plan.In))
	var c2 net.Conn
	for range 10 {
		c, who := dial()
		if who == first {
			c2 = c
			break
		}
	}
	if c2 == nil {
		t.Fatal("a server that is in again was given no connection")
	}
	h.apply(more(plan.Draining))
	if err := echo(c2); err != nil {
		t.Fatal(err)
	}
	h.apply(more(plan.Out))
	if err := echo(c2); err == nil {
		_, err = c2.Read(make([]byte, 1))
		if err == nil {
			t.Error("a connection outlived the time to drain")
		}
	}
}

// TestChangesUnderLoad adds, drains and removes servers while requests run: no reload, and none fails.
func TestChangesUnderLoad(t *testing.T) {
	h := open(t)
	to, hits := webs(t, 4)
	port := freePort(t, vip)
	s := web(port, to, 4)
	some := func(n int) *plan.Service { return with(s, func(s *plan.Service) { s.Backends = s.Backends[:n] }) }
	h.apply(some(2))
	pid := h.b.Status().Pid
	asked, stop := load(t, url(port))
	more := func() {
		t.Helper()
		n := asked.Load()
		wait(t, "some requests", func() bool { return t.Failed() || asked.Load() > n+50 })
	}
	for range 5 {
		more()
		before := hits[3].Load()
		h.apply(s)
		wait(t, "requests to the new server", func() bool { return t.Failed() || hits[3].Load() > before+10 })
		h.apply(with(s, func(s *plan.Service) {
			for i := 2; i < 4; i++ {
				s.Backends[i].State, s.Backends[i].Cause = plan.Draining, plan.Gone
			}
		}))
		more() // what ran on them is done
		wait(t, "idle servers", func() bool {
			stats, err := h.b.Stats(context.Background())
			return t.Failed() || err == nil && !slices.ContainsFunc(stats, func(x Stat) bool {
				return (x.Host == "web3" || x.Host == "web4") && x.Connections > 0
			})
		})
		h.apply(some(2))
		gone := hits[3].Load()
		more()
		if n := hits[3].Load(); n != gone {
			t.Errorf("%d requests to a server that was removed", n-gone)
		}
	}
	stop()
	if now := h.b.Status(); now.Pid != pid || now.Finishing != 0 {
		t.Errorf("it was reloaded: %+v, and was %d", now, pid)
	}
	wait(t, "the servers' end", func() bool {
		h.apply(some(2))
		list, err := servers(context.Background(), h.b.seen.Load().now.socket)
		return err == nil && len(list) == 2
	})
}

// TestReloadUnderLoad changes what only a new process can have.
func TestReloadUnderLoad(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 3)
	port, other := freePort(t, vip), freePort(t, vip)
	s := web(port, to, 3)
	h.apply(s)
	asked, stop := load(t, url(port))
	pids := map[int]bool{h.b.Status().Pid: true}
	for i := range 5 {
		n := asked.Load()
		wait(t, "some requests", func() bool { return t.Failed() || asked.Load() > n+30 })
		h.apply(with(s, func(s *plan.Service) {
			s.Balance = section.RoundRobin
			if i%2 == 0 {
				s.Balance = section.BySource
				s.Ports = append(s.Ports, plan.Forward{Port: other, Proto: section.TCP, To: to})
			}
		}))
		pids[h.b.Status().Pid] = true
	}
	n := asked.Load()
	wait(t, "some requests", func() bool { return t.Failed() || asked.Load() > n+30 })
	stop()
	if len(pids) != 6 {
		t.Errorf("%d processes for 5 reloads", len(pids))
	}
}

func TestKilled(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 2)
	port := freePort(t, vip)
	h.apply(web(port, to, 2))
	for range 2 {
		pid := h.b.Status().Pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, "another process", func() bool { p := h.b.Status().Pid; return p != 0 && p != pid })
		if have := who(t, url(port), 4); len(have) != 2 {
			t.Errorf("after kill -9 %v answer", have)
		}
	}
	if !strings.Contains(h.log.String(), "haproxy died") || !strings.Contains(scrape(t, h.b), "hostmesh_lb_haproxy_deaths_total 2\n") {
		t.Error("nothing is told of it")
	}
	// Nothing to carry: it ends, and is not started again.
	h.apply()
	wait(t, "the end", func() bool { h.b.tend(context.Background()); s := h.b.Status(); return s.Pid == 0 && s.Finishing == 0 })
	if _, err := get(url(port)); err == nil {
		t.Error("it serves without a service")
	}
}

// TestStale finds what a killed agent left.
func TestStale(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 1)
	port := freePort(t, vip)
	s := web(port, to, 1)
	h.apply(s)
	pid := h.b.Status().Pid
	// An agent that is killed does not end its child: a second one comes to its directory.
	stopFirst := h.stop
	h.b.mu.Lock() // the first does nothing any more
	first := h.b
	defer func() { first.mu.Unlock(); stopFirst() }()
	h.begin(Config{})
	if err := syscall.Kill(pid, 0); err == nil && len(ownProcesses(h.dir, h.b.users)) > 0 {
		t.Errorf("process %d runs on", pid)
	}
	h.apply(s)
	if _, err := get(url(port)); err != nil {
		t.Error(err)
	}
	// One of another directory is nobody's business.
	if list := ownProcesses("/nowhere", h.b.users); len(list) != 0 {
		t.Errorf("%v are taken for ours", list)
	}
	if list := ownProcesses(h.dir, []int{54321}); len(list) != 0 {
		t.Errorf("%v of another user are taken for ours", list)
	}
	if list := ownProcesses(h.dir, h.b.users); len(list) != 1 || list[0] != h.b.Status().Pid {
		t.Errorf("%v are ours", list)
	}
}

// certificate writes NAME.pem, and returns who trusts it.
func certificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(vip)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestTLS(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 1)
	port, plain := freePort(t, vip), freePort(t, vip)
	s := with(web(port, to, 1), func(s *plan.Service) { s.TLS, s.Tag = "shop", "shop" })
	other := web(plain, to, 1)
	secure := func(pool *x509.CertPool) error {
		c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true, ForceAttemptHTTP2: true}, Timeout: 30 * time.Second}
		r, err := c.Get(fmt.Sprintf("https://%s:%d/", vip, port))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasSuffix(string(body), " https") || r.ProtoMajor != 2 {
			return fmt.Errorf("%s %q %v", r.Proto, body, err)
		}
		return nil
	}
	refused := func(want string) {
		t.Helper()
		err := h.b.Apply(context.Background(), []*plan.Service{s, other})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "tags/shop: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := get(url(plain)); err != nil {
			t.Errorf("the other service: %v", err)
		}
		clear(h.b.bad)
	}
	refused("no such file")
	file := filepath.Join(h.tls, "shop.pem")
	if err := os.WriteFile(file, []byte("SECRET"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("chmod 0600")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("shop.pem")
	if strings.Contains(h.log.String(), "SECRET") {
		t.Error("the file's content is in the log")
	}
	pool := certificate(t, h.tls, "shop")
	h.apply(s, other)
	if err := secure(pool); err != nil {
		t.Fatal(err)
	}
	// A renewed one is taken at the next turn.
	pool = certificate(t, h.tls, "shop")
	h.apply(s, other)
	if err := secure(pool); err != nil {
		t.Fatal(err)
	}
	// One that is gone does not end what runs.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	refused("no such file")
	if err := secure(pool); err != nil {
		t.Fatal(err)
	}
}

// TestRefused has HAProxy refuse one service of several, at its file and at its start.
func TestRefused(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 2)
	port, taken := freePort(t, vip), freePort(t, vip)
	good := web(port, to, 2)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", vip, taken))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bad := with(web(taken, to, 2), func(s *plan.Service) { s.Tag = "bad;tag\n" })
	h.apply(good)
	pid := h.b.Status().Pid
	err = h.b.Apply(context.Background(), []*plan.Service{bad, good})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a port that is taken: %v", err)
	}
	if s := h.b.Status(); s.Pid != pid || len(s.Services) != 1 || s.Refused[bad.Tag] == "" {
		t.Errorf("%+v, and the process was %d", s, pid)
	}
	if have := who(t, url(port), 4); len(have) != 2 {
		t.Errorf("%v answer", have)
	}
	// The good one is changed beside it all the same; and the bad one is not tried again at once.
	n := h.b.seen.Load().counts.refusals
	err = h.b.Apply(context.Background(), []*plan.Service{bad, with(good, func(s *plan.Service) { s.Backends = s.Backends[:1] })})
	if !errors.Is(err, ErrRefused) || h.b.seen.Load().counts.refusals != n {
		t.Errorf("%v after %d refusals, and there were %d", err, h.b.seen.Load().counts.refusals, n)
	}
	if have := who(t, url(port), 4); len(have) != 1 {
		t.Errorf("%v answer", have)
	}
	// When the port is free it is carried.
	l.Close()
	clear(h.b.bad)
	h.apply(bad, good)
	if have := who(t, url(taken), 4); len(have) != 2 {
		t.Errorf("%v answer", have)
	}
	// What was carried is kept as it was when it is changed to something bad.
	worse := with(bad, func(s *plan.Service) { s.Ports[0].Proto = section.UDP; s.Backends = s.Backends[1:] })
	err = h.b.Apply(context.Background(), []*plan.Service{worse, good})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "stays as it was") || !strings.Contains(err.Error(), "only mode nat") {
		t.Errorf("%v", err)
	}
	if have := who(t, url(taken), 4); have["2"] != 4 {
		t.Errorf("%v answer: its backends are those of now", have)
	}
}

// TestFirstStart is that of a box which takes an address over: one program is started while clients wait, and not three. A file that is no good is
// refused all the same, for the reason that haproxy -c has.
func TestFirstStart(t *testing.T) {
	h := &house{t: t, dir: shortDir(t), tls: t.TempDir(), log: &lockedBuffer{}}
	dir := t.TempDir()
	calls, program := filepath.Join(dir, "calls"), filepath.Join(dir, "haproxy")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$1\" >> "+calls+"\nexec haproxy \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	called := func() string {
		b, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(calls)
		return strings.Join(strings.Fields(string(b)), " ")
	}
	h.begin(Config{Program: program})
	to, _ := webs(t, 2)
	port := freePort(t, vip)
	if err := h.b.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	called()
	h.apply(web(port, to, 2))
	if got := called(); got != "-db" {
		t.Errorf("called with %s", got)
	}
	if have := who(t, url(port), 4); len(have) != 2 {
		t.Errorf("%v answer", have)
	}
	h.apply(web(port, to, 2), with(web(freePort(t, vip), to, 2), func(s *plan.Service) { s.Tag = "more" }))
	if got := called(); got != "-c -db" {
		t.Errorf("a reload is tried first: called with %s", got)
	}
	h.apply()
	bad := with(web(port, to, 2), func(s *plan.Service) { s.TLS = "bad" })
	if err := os.WriteFile(filepath.Join(h.tls, "bad.pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := h.b.Apply(context.Background(), []*plan.Service{bad})
	if s := h.b.Status(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "bad.pem") || s.Pid != 0 {
		t.Errorf("%v, %+v", err, s)
	}
}

// TestSource checks that a client has one backend, and the same on boxes with another past.
func TestSource(t *testing.T) {
	const n = 4
	to, _ := webs(t, n)
	ask := func(port uint16) []string {
		var out []string
		for i := 1; i <= 20; i++ {
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.0.93.%d", i))}, Timeout: 30 * time.Second}
			c := http.Client{Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
			r, err := c.Get(url(port))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(body[:1]))
		}
		return out
	}
	one, two := open(t), open(t)
	port := freePort(t, vip)
	s := with(web(port, to, n), func(s *plan.Service) { s.Balance = section.BySource })
	one.apply(s)
	want := ask(port)
	if again := ask(port); !slices.Equal(again, want) {
		t.Errorf("clients moved: %v, %v", want, again)
	}
	one.apply()
	wait(t, "the end", func() bool { one.b.tend(context.Background()); return one.b.Status().Finishing == 0 })
	// Two begins with other servers, and is changed while it runs.
	two.apply(with(s, func(s *plan.Service) { s.Backends = s.Backends[2:] }))
	two.apply(with(s, func(s *plan.Service) { s.Backends = s.Backends[1:] }))
	two.apply(s)
	if have := ask(port); !slices.Equal(have, want) {
		t.Errorf("on another box %v, and on the first %v", have, want)
	}
	// Who loses a server goes elsewhere, and the others stay.
	two.apply(with(s, func(s *plan.Service) { s.Backends[0].State, s.Backends[0].Cause = plan.Out, plan.Failing }))
	for i, have := range ask(port) {
		if have == "1" || want[i] != "1" && have != want[i] {
			t.Errorf("client %d had %s and has %s", i, want[i], have)
		}
	}
}

func TestNotThere(t *testing.T) {
	h := &house{t: t, dir: shortDir(t), tls: t.TempDir(), log: &lockedBuffer{}}
	h.begin(Config{Program: "/nonexistent/haproxy"})
	err := h.b.Apply(context.Background(), []*plan.Service{web(80, 80, 1)})
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "apt-get install haproxy") {
		t.Errorf("%v", err)
	}
	if err := h.b.Apply(context.Background(), nil); err != nil {
		t.Errorf("with nothing to carry it is not needed: %v", err)
	}
	if _, err := Open(context.Background(), Config{Dir: "/tmp/" + strings.Repeat("x", 100)}); err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	v, err := Check(context.Background(), "")
	if err != nil || v.less(Oldest) {
		t.Errorf("%v %v", v, err)
	}
	dir := t.TempDir()
	for _, c := range []struct{ text, want string }{
		{"echo 'HA-Proxy version 1.8.19-1 2019/02/11 - https://haproxy.org/'", "version 1.8, and 2.6"},
		{"echo 'HAProxy version 2.4.22'", "version 2.4, and 2.6"},
		{"echo 'HAProxy version 2.6.12-1+deb12u4'", ""},
		{"echo 'HAProxy version 3.0-dev1'", ""},
		{"echo something", "names no version"},
		{"exit 3", "exit status 3"},
	} {
		file := filepath.Join(dir, "haproxy")
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+c.text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := Check(context.Background(), file)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

// TestTransparent has it ready for an address that this box does not have.
func TestTransparent(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 1)
	port := freePort(t, vip)
	h.apply(web(port, to, 1), with(web(port, to, 1), func(s *plan.Service) {
		s.Tag, s.VIP = "far", netip.MustParseAddr("192.0.2.77")
	}), with(web(port, to, 1), func(s *plan.Service) {
		s.Tag, s.VIP = "far6", netip.MustParseAddr("2001:db8::77")
		s.Backends[0].Addr = netip.MustParseAddr("2001:db8::1")
	}))
	if _, err := get(url(port)); err != nil {
		t.Error(err)
	}
}

// TestDeadBackend has a backend die that nobody noticed yet: no client hears of it.
func TestDeadBackend(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 2)
	port := freePort(t, vip)
	h.apply(web(port, to, 3)) // nothing listens at the third
	if have := who(t, url(port), 12); have["1"] == 0 || have["2"] == 0 || have["1"]+have["2"] != 12 {
		t.Errorf("%v answer", have)
	}
	stats, err := h.b.Stats(context.Background())
	i := slices.IndexFunc(stats, func(s Stat) bool { return s.Host == "web3" })
	if err != nil || i < 0 || stats[i].ConnectErrors == 0 {
		t.Errorf("%+v %v", stats, err)
	}
}
