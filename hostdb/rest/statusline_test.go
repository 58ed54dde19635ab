package rest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func (s *site) dial(addr string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// exact sends requests in one piece on one connection and returns all bytes that come until the server closes it.
func exact(t *testing.T, c net.Conn, requests ...string) string {
	t.Helper()
	if _, err := io.WriteString(c, strings.Join(requests, "")); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// statusLines are the lines of a stream that begin an answer.
func statusLines(stream string) []string {
	var lines []string
	for line := range strings.SplitSeq(stream, "\r\n") {
		if i := strings.Index(line, "HTTP/1."); i >= 0 { // after a body without a newline
			lines = append(lines, line[i:])
		}
	}
	return lines
}

func TestPipelining(t *testing.T) {
	s := newSite(t)
	stream := exact(t, s.dial(s.addr),
		request("PUT", "/v1/hosts/a", s.as("value", "x: "+strings.Repeat("HTTP/1.1 201 no ", 1000))),
		request("GET", "/v1/hosts/a", ""),
		request("HEAD", "/v1/hosts/a", ""),
		request("HEAD", "/v1/hosts/b", ""),
		request("GET", "/v1/hosts/b", ""),
		request("GET", "/v1/hosts", ""),
		request("DELETE", "/v1/hosts/a?"+s.as(), ""),
		request("POST", "/v1/hosts/a", s.as("newname", "b")),
		request("GET", "/v1/hosts", "", "Connection: close"))
	want := []string{
		"HTTP/1.1 201 Object created", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK",
		"HTTP/1.1 404 Resource hosts/b does not exist", "HTTP/1.1 404 Resource hosts/b does not exist", "HTTP/1.1 200 OK",
		"HTTP/1.1 200 Object deleted", "HTTP/1.1 404 hosts/a does not exist", "HTTP/1.1 200 OK",
	}
	r := bufio.NewReader(strings.NewReader(stream))
	for i, method := range []string{"PUT", "GET", "HEAD", "HEAD", "GET", "GET", "DELETE", "POST", "GET"} {
		if res := readResponse(t, r, method); res.Proto+" "+res.Status != want[i] {
			t.Errorf("answer %d is %s, want %s", i, res.Status, want[i])
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q is left", rest)
	}
	if !strings.Contains(stream, "\r\nCallTrace: 4041: Resource hosts/b does not exist\r\n") {
		t.Error("CallTrace is not spelled as clients know it")
	}
}

func TestExpectContinueAndHTTP10(t *testing.T) {
	s := newSite(t)
	form := s.as("value", "1")
	stream := exact(t, s.dial(s.addr), request("PUT", "/v1/hosts/a", form, "Expect: 100-continue", "Connection: close"))
	if got := strings.Join(statusLines(stream), "|"); got != "HTTP/1.1 100 Continue|HTTP/1.1 201 Object created" {
		t.Errorf("with Expect: %s", got)
	}
	old := strings.Replace(request("PUT", "/v1/hosts/a", form), "HTTP/1.1", "HTTP/1.0", 1)
	if got := statusLines(exact(t, s.dial(s.addr), old)); len(got) != 1 || got[0] != "HTTP/1.0 201 Object created" {
		t.Errorf("HTTP/1.0: %q", got)
	}
	// What net/http refuses by itself passes as it is.
	bad := exact(t, s.dial(s.addr), "GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(bad, "HTTP/1.1 400 Bad Request\r\n") {
		t.Errorf("a bad escape: %q", bad)
	}
}

func TestMessagesCannotInject(t *testing.T) {
	s := newSite(t)
	for _, target := range []string{
		"/v1/hosts/a%0d%0aX-Evil:%201", "/v1/hosts/a?meta=%0d%0aX-Evil:%201%0d%0a%0d%0abody", "/v1/hosts?search=(%0d%0aX-Evil:1",
		"/v1/hosts/a?foreach=x%00%0aX-Evil:1", "/v1/hosts/a?meta=%ff%c2%85%e2%80%a8X-Evil:1", "/v1/hosts/a?meta=" + strings.Repeat("%C3%A4", 2000),
	} {
		stream := exact(t, s.dial(s.addr), request("GET", target, "", "Connection: close"))
		head, body, _ := strings.Cut(stream, "\r\n\r\n")
		line, _, _ := strings.Cut(head, "\r\n")
		if strings.Contains(head, "\nX-Evil") || body != "" || strings.ContainsAny(line, "\r\n\x00") || len(line) > maxPhrase+20 ||
			!strings.HasPrefix(line, "HTTP/1.1 400 ") {
			t.Errorf("%s: %q", target, stream)
		}
	}
}

func TestStandardPhrasesWithoutListener(t *testing.T) {
	s := newSite(t)
	h := New(Config{Store: s.store, Auth: s.auth})
	srv := httptest.NewServer(h)
	defer srv.Close()
	for target, want := range map[string]string{"/v1/hosts": "200 OK", "/v1/hosts/a": "404 Not Found"} {
		res, err := http.Get(srv.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.Status != want {
			t.Errorf("%s: %s, want %s", target, res.Status, want)
		}
	}
}

// A phrase is for the answer that set it: another handler of the same connection must not get it.
func TestAPhraseIsUsedOnce(t *testing.T) {
	s := newSite(t)
	addr := s.listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/lost": // a middleware that changes the code after the handler
			c := r.Context().Value(connKey{}).(*conn)
			c.phrase.Store(&phrase{404, "Lost"})
			w.WriteHeader(200)
		case "/early":
			writeHeader(w, r, 103, "Early")
			writeHeader(w, r, 404, "Late")
		default:
			w.WriteHeader(404)
		}
	}), nil)
	stream := exact(t, s.dial(addr), request("GET", "/lost", ""), request("GET", "/other", ""), request("GET", "/early", ""),
		request("GET", "/other", "", "Connection: close"))
	want := "HTTP/1.1 200 OK|HTTP/1.1 404 Not Found|HTTP/1.1 103 Early Hints|HTTP/1.1 404 Late|HTTP/1.1 404 Not Found"
	if got := strings.Join(statusLines(stream), "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// shortConn takes a bounded number of bytes.
type shortConn struct {
	net.Conn
	left int
	buf  bytes.Buffer
}

func (c *shortConn) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	c.buf.Write(b[:n])
	if n < len(b) {
		return n, errors.New("broken")
	}
	return n, nil
}

// However much of a rewritten line arrives, Write counts bytes of what it was given.
func TestWriteCounts(t *testing.T) {
	in := []byte("HTTP/1.1 201 Created\r\nA: b\r\n\r\n")
	for _, text := range []string{"X", "Created", "A much longer phrase than that"} {
		full := len(in) - len("Created") + len(text)
		for left := range full + 1 {
			sc := &shortConn{left: left}
			c := &conn{Conn: sc}
			c.phrase.Store(&phrase{201, text})
			n, err := c.Write(in)
			if n < 0 || n > len(in) || (n == len(in)) != (left == full) || (err == nil) != (left == full) {
				t.Errorf("%q, %d of %d bytes taken: Write gives %d, %v", text, left, full, n, err)
			}
			if left == full && sc.buf.String() != "HTTP/1.1 201 "+text+"\r\nA: b\r\n\r\n" {
				t.Errorf("wrote %q", sc.buf.String())
			}
		}
	}
}

func TestTLS(t *testing.T) {
	s := newSite(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"http/1.1"}}
	h := New(Config{Store: s.store, Auth: s.auth})
	encrypted := true
	addr := s.listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		encrypted = encrypted && r.TLS != nil
		h.ServeHTTP(w, r)
	}), func(ln net.Listener) net.Listener { return tls.NewListener(ln, cfg) })
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for range 3 { // on one connection
		for _, c := range []struct{ method, target, body, want string }{
			{"PUT", "/v1/hosts/a", s.as("value", "1"), created},
			{"GET", "/v1/hosts/b", "", "404 Resource hosts/b does not exist"},
			{"GET", "/v1/hosts/a", "", found},
		} {
			req, err := http.NewRequest(c.method, "https://"+addr+c.target, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.Status != c.want || res.Proto != "HTTP/1.1" {
				t.Errorf("%s %s: %s %s, want %s", c.method, c.target, res.Proto, res.Status, c.want)
			}
		}
	}
	if !encrypted {
		t.Error("Request.TLS is nil on an encrypted connection")
	}
}
