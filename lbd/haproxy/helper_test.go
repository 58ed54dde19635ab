package haproxy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, have string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != have {
		t.Errorf("%s is not current (%v): look at what changed, then run go test ./lbd/haproxy -update\n%s", file, err, have)
	}
}

// house is a Balancer with backends on loopback addresses.
type house struct {
	t    *testing.T
	b    *Balancer
	tls  string
	dir  string
	log  *lockedBuffer
	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shortDir is a directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// open makes a house whose Balancer runs.
func open(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: shortDir(t), tls: t.TempDir(), log: &lockedBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.log.String())
		}
	})
	h.begin(Config{})
	return h
}

func (h *house) begin(cfg Config) {
	h.t.Helper()
	cfg.Dir, cfg.TLSDir = h.dir, h.tls
	cfg.Logger = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := Open(context.Background(), cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	var once sync.Once
	h.b = b
	h.stop = func() { once.Do(func() { cancel(); <-done }) }
	h.t.Cleanup(h.stop)
}

func (h *house) apply(services ...*plan.Service) {
	h.t.Helper()
	if err := h.b.Apply(context.Background(), services); err != nil {
		h.t.Fatal(err)
	}
}

// wait waits for a condition, for as long as a busy machine may need.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

// freePort is a port that is free on these addresses at the moment.
func freePort(t *testing.T, hosts ...string) uint16 {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", net.JoinHostPort(hosts[0], "0"))
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		ok := true
		for _, host := range hosts[1:] {
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
			if ok = err == nil; !ok {
				break
			}
			l.Close()
		}
		if ok {
			return uint16(port)
		}
	}
	t.Fatal("no port is free")
	return 0
}

const vip = "127.0.91.1"

func backendAddr(i int) string { return fmt.Sprintf("127.0.92.%d", i) }

// webs are n HTTP servers on one port, which answer with their number and what they were sent as X-Forwarded-*.
func webs(t *testing.T, n int) (port uint16, hits []*atomic.Int64) {
	t.Helper()
	var addrs []string
	for i := 1; i <= n; i++ {
		addrs = append(addrs, backendAddr(i))
	}
	port = freePort(t, addrs...)
	for i := 1; i <= n; i++ {
		hit := &atomic.Int64{}
		hits = append(hits, hit)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", backendAddr(i), port))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hit.Add(1)
			if r.URL.Path == "/slow" {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			fmt.Fprintf(w, "%d %s %s", i, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
		})}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	return port, hits
}

// web is a service of mode http before n backends.
func web(port, to uint16, n int) *plan.Service {
	s := &plan.Service{
		Tag: "web", VIP: netip.MustParseAddr(vip), Mode: section.HTTP, Balance: section.RoundRobin, Drain: 5 * time.Minute, Version: "v1",
		Ports: []plan.Forward{{Port: port, Proto: section.TCP, To: to}},
	}
	for i := 1; i <= n; i++ {
		s.Backends = append(s.Backends, plan.Backend{Host: fmt.Sprintf("web%d", i), Addr: netip.MustParseAddr(backendAddr(i)), Weight: 1, State: plan.In})
	}
	return s
}

// with is a copy that can be changed.
func with(s *plan.Service, change func(s *plan.Service)) *plan.Service {
	c := *s
	c.Backends = append([]plan.Backend(nil), s.Backends...)
	c.Ports = append([]plan.Forward(nil), s.Ports...)
	change(&c)
	return &c
}

func url(port uint16) string { return fmt.Sprintf("http://%s:%d/", vip, port) }

// get asks once, on a connection of its own.
func get(u string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	r, err := c.Get(u)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != 200 {
		err = fmt.Errorf("status %d: %s", r.StatusCode, body)
	}
	return string(body), err
}

// load asks all the time until it is stopped, half of it on connections that are kept, and tells what failed.
func load(t *testing.T, urls ...string) (asked *atomic.Int64, stop func()) {
	t.Helper()
	asked = &atomic.Int64{}
	end := make(chan struct{})
	var group sync.WaitGroup
	for i := range 6 {
		transport := &http.Transport{DisableKeepAlives: i%2 == 0}
		c := http.Client{Transport: transport, Timeout: 60 * time.Second}
		group.Go(func() {
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				r, err := c.Get(urls[n%len(urls)])
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				body, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != 200 {
					t.Errorf("request %d: %d %s %v", n, r.StatusCode, body, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { close(end); group.Wait() }) }
	t.Cleanup(stop)
	return asked, stop
}

// who is how often each backend answered, of n requests.
func who(t *testing.T, u string, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		body, err := get(u)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(body, " ")
		out[name]++
	}
	return out
}
