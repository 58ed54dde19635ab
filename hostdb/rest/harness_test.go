package rest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/hostdb/hostdbtest"
)

// md5 of "secret".
const md5Secret = "5ebe2294ecd0e0f08eab7690d2a6ee69"

var sessionKey = []byte("0123456789abcdef0123456789abcdef")

// site is a node that serves /v1 on a socket.
type site struct {
	t        testing.TB
	store    *hostdb.Store
	auth     *auth.Auth
	memory   *hostdbtest.Memory
	addr     string
	token    string // alice, who may write everything but the namespace locked
	bobToken string // bob, who may write data/DNS of tags
}

// acker pretends that others hold every write.
type acker int

func (a acker) Await(_ context.Context, _, _ uint64, want int) int { return min(int(a), want) }

// warner is a validator that refuses and warns.
type warner struct{}

func (warner) Validate(_, _ string, _, after hostdb.Document) ([]string, error) {
	if after.Text("Bad") != "" {
		return nil, fmt.Errorf("Bad: %q is no good: %w", after.Text("Bad"), hostdb.ErrInvalid)
	}
	if after.Text("Odd") != "" {
		return []string{"Odd: are you\r\nsure?"}, nil
	}
	return nil, nil
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := newSiteOf(t, "alice: {password: "+md5Secret+", allow: [127.0.0.0/8], groups: [ops]}\n"+
		"bob: {password: "+md5Secret+", allow: [127.0.0.0/8]}\n"+
		"far: {password: "+md5Secret+", allow: [192.0.2.1]}\n")
	s.seed()
	s.token, s.bobToken = s.login("alice"), s.login("bob")
	return s
}

// newSiteOf is a site with nothing in it but users.
func newSiteOf(t testing.TB, text string) *site {
	t.Helper()
	s := &site{t: t, memory: hostdbtest.NewMemory()}
	users := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	s.auth, err = auth.Open(auth.Config{UsersFile: users, SessionKey: sessionKey})
	if err != nil {
		t.Fatal(err)
	}
	s.store, err = hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return s.memory, nil }, NodeID: fmt.Sprintf("node-%p", s), Validator: warner{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.addr = s.listen(New(Config{Store: s.store, Auth: s.auth}), nil)
	return s
}

// listen serves h on a socket, which wrap may change.
func (s *site) listen(h http.Handler, wrap func(net.Listener) net.Listener) string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	addr := ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	srv := &http.Server{Handler: h, ConnContext: ConnContext, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(Listener(ln)) // it ends with ErrServerClosed
	}()
	s.t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return addr
}

func (s *site) seed() {
	s.t.Helper()
	acl := func(text string) hostdb.ACL {
		a, err := hostdb.ParseACL([]byte(text))
		if err != nil {
			s.t.Fatal(err)
		}
		return a
	}
	s.update(func(tx *hostdb.Tx) error {
		if err := tx.CreateNamespace("locked"); err != nil {
			return err
		}
		for _, p := range []struct{ ns, acl string }{
			{"hosts", "{ops: {data: RW, members: RW, perms: RW}}"},
			{"tags", "{ops: {data: RW, members: RW, perms: RW}, bob: {data/DNS: RW}}"},
		} {
			if err := tx.SetPerms(p.ns, hostdb.DefaultKey, acl(p.acl)); err != nil {
				return err
			}
		}
		return tx.Put("locked", "box", hostdb.Document{})
	})
}

func (s *site) update(fn func(*hostdb.Tx) error) {
	s.t.Helper()
	if _, err := s.store.Update(context.Background(), hostdb.Request{User: "test", Log: "seed"}, fn); err != nil {
		s.t.Fatal(err)
	}
}

// readOnly switches read-only mode.
func (s *site) readOnly(on bool, why string) {
	s.t.Helper()
	_, err := s.store.Update(context.Background(), hostdb.Request{User: "test", Log: "switch", EvenReadOnly: true},
		func(tx *hostdb.Tx) error { return tx.SetReadOnly(on, why) })
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) login(name string) string {
	s.t.Helper()
	r := s.do("POST", "/v1/auth/session", "username="+name+"&password=secret")
	if r.StatusCode != 200 {
		s.t.Fatalf("login: %s", r.Status)
	}
	return r.body
}

type response struct {
	*http.Response
	body string
}

// do sends a request with a form, as the Go client does: without Content-Type.
func (s *site) do(method, target, form string, header ...string) response {
	s.t.Helper()
	return s.raw(request(method, target, form, header...), method)
}

func request(method, target, body string, header ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", method, target)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// raw sends bytes and reads one answer.
func (s *site) raw(bytes, method string) response {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, bytes); err != nil {
		s.t.Fatal(err)
	}
	return readResponse(s.t, bufio.NewReader(c), method)
}

func readResponse(t testing.TB, r *bufio.Reader, method string) response {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no valid HTTP answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("the answer's body: %v", err)
	}
	return response{res, string(body)}
}

// as is a form of alice with a log.
func (s *site) as(fields ...string) string {
	v := url.Values{"session": {s.token}, "log": {"because"}}
	for i := 0; i+1 < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return v.Encode()
}
