package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/hostdb"
)

const benchHost = `Hardware: {Model: R640, Serial: ABC123, CPUs: 32, Memory: 256GiB}
Network: {FQDN: web1.dc1.example.com, IP: 10.1.0.17, IPv6: "2001:db8::17", MAC: 00:11:22:33:44:55, cname: [www, shop]}
Physical Location: {Datacenter: dc1, Rack Number: r12, U Number: 17}
Status: active
Owner: shop
Comment: "` + "delivered with the second batch, replaces the old frontends of the shop" + `"
`

// cpu is the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGetHost compares the GET of a host with a bare net/http handler that sends the same bytes, over sockets with
// keep-alive, in alternating slices of one run. x-bare is the ratio of the CPU that this process takes for one and the
// other; its client, which is small, is in both.
func BenchmarkGetHost(b *testing.B) {
	s := newSite(b)
	if r := s.do("PUT", "/v1/hosts/web1", s.as("value", benchHost)); r.StatusCode != 201 {
		b.Fatal(r.Status)
	}
	body := []byte(s.do("GET", "/v1/hosts/web1", "").body)
	bareAddr := s.listenBare(bare(body))
	var ours, theirs time.Duration
	const slice = 200
	a, z := newGetter(b, s.addr), newGetter(b, bareAddr)
	a.get(b, slice)
	z.get(b, slice)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += slice {
		n := min(slice, b.N-done)
		t0 := cpu(b)
		a.get(b, n)
		t1 := cpu(b)
		b.StopTimer()
		z.get(b, n)
		theirs += cpu(b) - t1
		ours += t1 - t0
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x-bare")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkHandler is the same without sockets.
func BenchmarkHandler(b *testing.B) {
	s := newSite(b)
	if r := s.do("PUT", "/v1/hosts/web1", s.as("value", benchHost)); r.StatusCode != 201 {
		b.Fatal(r.Status)
	}
	body := []byte(s.do("GET", "/v1/hosts/web1", "").body)
	for name, h := range map[string]http.Handler{"hostdb": New(Config{Store: s.store, Auth: s.auth}), "bare": bare(body)} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/v1/hosts/web1", nil)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&sink{h: make(http.Header)}, r)
			}
		})
	}
}

// BenchmarkLists reads the lists of 10,000 hosts.
func BenchmarkLists(b *testing.B) {
	s := newSite(b)
	s.update(func(tx *hostdb.Tx) error {
		for i := range 10_000 {
			doc, err := hostdb.ParseDocument(fmt.Appendf(nil, "Network: {IP: 10.1.%d.%d, MAC: 00:11:22:33:44:55}\nStatus: active\n", i/250, i%250))
			if err != nil {
				return err
			}
			if err := tx.Put(hostdb.Hosts, fmt.Sprintf("host%05d.dc1.example.com", i), doc); err != nil {
				return err
			}
		}
		return nil
	})
	h := New(Config{Store: s.store, Auth: s.auth})
	for _, target := range []string{"/v1", "/v1/hosts", "/v1/tags/all/members", "/v1/hosts/*/Network/IP?foreach=hosts"} {
		b.Run(target, func(b *testing.B) {
			r := httptest.NewRequest("GET", target, nil)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&sink{h: make(http.Header)}, r)
			}
		})
	}
}

func bare(body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}

func (s *site) listenBare(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // it ends with ErrServerClosed
	}()
	s.t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return ln.Addr().String()
}

type sink struct{ h http.Header }

func (s *sink) Header() http.Header               { return s.h }
func (s *sink) WriteHeader(int)                   {}
func (s *sink) Write(b []byte) (int, error)       { return len(b), nil }
func (s *sink) WriteString(b string) (int, error) { return len(b), nil }

// getter is a client that costs next to nothing.
type getter struct {
	conn net.Conn
	r    *bufio.Reader
}

func newGetter(b *testing.B, addr string) *getter {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return &getter{c, bufio.NewReaderSize(c, 16<<10)}
}

const benchRequest = "GET /v1/hosts/web1 HTTP/1.1\r\nHost: 127.0.0.1:7950\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"

func (g *getter) get(b *testing.B, n int) {
	for range n {
		if _, err := io.WriteString(g.conn, benchRequest); err != nil {
			b.Fatal(err)
		}
		length := -1
		for {
			line, err := g.r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) <= 2 {
				break
			}
			if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(v))
			}
		}
		if _, err := g.r.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
}
