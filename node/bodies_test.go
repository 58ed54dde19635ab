package node

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hostmesh/mesh/door"
)

func TestLargeBodiesAreBoundedTogether(t *testing.T) {
	pool := newBodies(4 * smallBody)
	held, goOn := make(chan int), make(chan struct{})
	h := pool.bound(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.Header.Get("Wait") != "" {
			held <- len(b)
			<-goOn
		}
	}))
	send := func(path string, n int, announced, wait bool) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPut, path, io.Reader(bytes.NewReader(make([]byte, n))))
		if !announced {
			r.ContentLength = -1
		}
		if wait {
			r.Header.Set("Wait", "1")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	const most = 5 * smallBody // one share of its own, and the listener's
	done := make(chan struct{})
	go func() { defer close(done); send("/v1/hosts/a", most-1, true, true) }()
	if n := <-held; n != most-1 {
		t.Errorf("%d bytes were read", n)
	}
	for _, c := range []struct {
		path      string
		n         int
		announced bool
		want      int
	}{
		{"/v1/hosts/b", smallBody, true, 200}, // small ones always
		{"/v1/hosts/b", smallBody - 1, false, 200},
		{"/v1/hosts/b", smallBody + 1, true, 503},
		{"/api/v1/objects/hosts/b", 2 * smallBody, true, 503},
		{"/v1/hosts/b", 2 * smallBody, false, 400}, // cut off
		{"/api/v1/import", 20 * smallBody, true, 200},
		{"/api/v1/import/git", 20 * smallBody, false, 200},
		{"/api/v1/images/debian-12/files", 20 * smallBody, false, 200},
		{"/api/v1/images/files", 2 * smallBody, true, 503}, // a wish for an image of that name
	} {
		w := send(c.path, c.n, c.announced, false)
		if w.Code != c.want || c.want == 503 && (w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try again")) {
			t.Errorf("%s of %d bytes: %d %s", c.path, c.n, w.Code, w.Body)
		}
	}
	close(goOn)
	<-done
	if left, refused := pool.left.Load(), pool.refused.Load(); left != 4*smallBody || refused != 4 {
		t.Errorf("%d are left, %d refused", left, refused)
	}
	if w := send("/v1/hosts/c", most-1, false, false); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// A connection that waits for its client makes room; one whose request is being served does not.
func TestServedConnectionsStay(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	asked, answer := make(chan struct{}), make(chan struct{})
	s := newWebServer("http", door.Listen(tcp, door.Config{Name: "http", Max: 2, Logger: log}), nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-answer
	}), log)
	ended := make(chan error, 1)
	go func() { ended <- s.srv.Serve(s.ln) }()
	defer func() { s.close(); <-ended }()
	dial := func(text string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		return c
	}
	busy := dial("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	slow := dial("GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	last := dial("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked // although the slow one was there first
	var timeout net.Error
	if n, err := slow.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the slow one keeps its place: %d bytes, %v", n, err)
	}
	close(answer)
	for _, c := range []net.Conn{busy, last} {
		head := make([]byte, 15)
		if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 200 OK" {
			t.Errorf("%q, %v", head, err)
		}
	}
	if st := s.door.Stats(); st.Crowded != 1 || st.Hoarded != 0 {
		t.Errorf("%+v", st)
	}
}
