package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got), -update rewrites it:\n%s", name, diff)
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fake is an agent without an agent.
type fake struct {
	status     Status
	namespaces map[string]string // name to who made it
	imported   func(ctx context.Context, who Identity, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error)
}

func (f *fake) Members() []Member {
	return []Member{
		{ID: strings.Repeat("a", 32), Name: "box1", Addr: "10.1.0.11", GossipPort: 7946, StreamPort: 7947, Datacenter: "dc1", Rack: "r1", Protocol: 1, State: "alive", Since: start, Self: true},
		{ID: strings.Repeat("b", 32), Name: "box2", Addr: "10.1.0.12", GossipPort: 7946, StreamPort: 7947, Protocol: 1, State: "failed", Since: start, RTTMillis: 0.4},
	}
}

func (f *fake) Status() Status { return f.status }

func (f *fake) Digests() Digests {
	return Digests{Version: "v1", Algorithm: 1, Namespaces: map[string]string{"hosts": "00ff", "tags": "aa"}}
}

func (f *fake) DNSTop() DNSTop {
	return DNSTop{Queries: []DNSQueryCount{{"dc1.example.com", "A", "NOERROR", 7}}, Askers: []DNSAsker{{"10.1.0.9", 7, 0}}}
}

func (f *fake) Zones() []Zone { return []Zone{{Name: "dc1.example.com", Serial: 7, Records: 3}} }

func (f *fake) WriteZone(w io.Writer, name string) error {
	if name != "dc1.example.com" {
		return fmt.Errorf("not served here: %w", ErrNotFound)
	}
	_, err := io.WriteString(w, "$ORIGIN dc1.example.com.\n")
	return err
}

func (f *fake) CreateNamespace(_ context.Context, who Identity, name, _ string) (bool, error) {
	if err := hostdb.CheckName(name); err != nil {
		return false, err
	}
	_, there := f.namespaces[name]
	f.namespaces[name] = who.User
	return !there, nil
}

func (f *fake) Import(ctx context.Context, who Identity, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error) {
	return f.imported(ctx, who, tar, opts, progress)
}

// identify knows two tokens.
func identify(r *http.Request) (Identity, bool, error) {
	c, err := r.Cookie(SessionCookie)
	if err != nil {
		return Identity{}, false, nil
	}
	switch c.Value {
	case "root":
		return Identity{User: "root(alice)", Admin: true}, true, nil
	case "bob":
		return Identity{User: "bob", Groups: []string{"ops"}}, true, nil
	}
	return Identity{}, false, errors.New("the session is over")
}

func (f *fake) config() Config {
	f.namespaces = map[string]string{}
	return Config{
		Build:      Build{Version: "1.2.3", Go: "go1.26"},
		Membership: f, Status: f, Importer: f, Digester: f, Zones: f, DNSQueries: f, Namespaces: f, Duties: &fakeDuties{},
		VMs: &fakeVMs{}, VMCommands: &fakeVMs{}, VMPlanner: &fakeVMs{}, LB: &fakeLB{}, MySQL: &fakeMySQL{},
		DNSKeys: fakeKeys{}, DNSDesk: fakeDesk{}, Images: fakeImages{},
		Identify:       identify,
		ReplicaVersion: func() string { return "v1" },
	}
}

func get(h http.Handler, method, path, from, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = from
	if token != "" {
		r.AddCookie(&http.Cookie{Name: SessionCookie, Value: token})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	near = "127.0.0.1:4711"
	far  = "10.1.0.9:4711"
)

func TestAccess(t *testing.T) {
	f := &fake{}
	h := NewHandler(f.config())
	for _, c := range []struct {
		name, method, path, from, token string
		status                          int
	}{
		{"a read on loopback", "GET", "/api/v1/members", near, "", 200},
		{"a read on loopback, IPv6", "GET", "/api/v1/status", "[::1]:9", "", 200},
		{"a read on loopback, mapped", "GET", "/api/v1/status", "[::ffff:127.0.0.1]:9", "", 200},
		{"a read from elsewhere", "GET", "/api/v1/members", far, "", 401},
		{"a read from nowhere that is no socket", "GET", "/api/v1/members", "", "", 401},
		{"a read from elsewhere with a session", "GET", "/api/v1/members", far, "bob", 200},
		{"a session that is over, even near", "GET", "/api/v1/members", near, "stale", 401},
		{"a write without identity", "POST", "/api/v1/namespaces/vips?log=x", near, "", 401},
		{"a namespace by somebody", "POST", "/api/v1/namespaces/vips?log=x", near, "bob", 403},
		{"a namespace by an administrator", "POST", "/api/v1/namespaces/vips?log=x", far, "root", 201},
		{"the same again", "POST", "/api/v1/namespaces/vips?log=x", far, "root", 200},
		{"a bad name", "POST", "/api/v1/namespaces/.vips?log=x", far, "root", 400},
		{"a blank log", "POST", "/api/v1/namespaces/vips?log=+", far, "root", 400},
		{"no log", "POST", "/api/v1/namespaces/vips", far, "root", 422},
		{"an import without identity", "POST", "/api/v1/import?log=x", near, "", 401},
		{"an unknown path", "GET", "/api/v1/nothing", near, "", 404},
		{"an unknown method", "DELETE", "/api/v1/members", near, "", 405},
		{"an unknown zone", "GET", "/api/v1/dns/zones/example.org", near, "", 404},
		{"the description is open", "GET", "/openapi.json", far, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := get(h, c.method, c.path, c.from, c.token)
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if v := w.Header().Get(HeaderVersion); v != "v1" {
				t.Errorf("the answer names version %q, want v1", v)
			}
			if c.status < 400 {
				return
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			var p struct {
				Status        int
				Title, Detail string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != c.status || p.Title == "" || p.Detail == "" {
				t.Errorf("no problem document: %v: %s", err, w.Body)
			}
		})
	}
	if diff := cmp.Diff(map[string]string{"vips": "root(alice)"}, f.namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

func TestForeignPage(t *testing.T) {
	h := NewHandler((&fake{}).config())
	r := httptest.NewRequest("POST", "/api/v1/namespaces/vips?log=x", nil)
	r.RemoteAddr = near
	r.AddCookie(&http.Cookie{Name: SessionCookie, Value: "root"})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("a write of another site's page: %d %s", w.Code, w.Body)
	}
}

func TestNilAreasAreLeftOut(t *testing.T) {
	h := NewHandler(Config{Build: Build{Version: "1"}})
	if w := get(h, "GET", "/api/v1/version", near, ""); w.Code != 200 {
		t.Errorf("version: %d", w.Code)
	}
	for _, path := range []string{"/api/v1/members", "/api/v1/status", "/api/v1/digest", "/api/v1/dns/zones"} {
		if w := get(h, "GET", path, near, ""); w.Code != 404 {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
}

// TestAnswers fixes what goes over the wire: clients in other languages read it.
func TestAnswers(t *testing.T) {
	f := &fake{status: Status{
		Time:   start.Add(time.Hour),
		Node:   NodeStatus{ID: strings.Repeat("a", 32), Name: "box1", Started: start, DiskFree: -1},
		Mesh:   MeshStatus{ID: "m", Members: 2, Alive: 1, Failed: 1},
		HostDB: HostDBStatus{Version: "v1"},
	}}
	h := NewHandler(f.config())
	var b bytes.Buffer
	for _, path := range []string{"members", "status", "digest", "dns/zones", "dns/zones/DC1.Example.com.", "version"} {
		w := get(h, "GET", "/api/v1/"+path, near, "")
		fmt.Fprintf(&b, "GET /api/v1/%s: %d %s\n", path, w.Code, w.Header().Get("Content-Type"))
		if json.Valid(w.Body.Bytes()) {
			if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
				t.Fatal(err)
			}
		} else {
			b.Write(w.Body.Bytes())
		}
	}
	golden(t, "answers.txt", b.Bytes())
}

func TestOpenAPI(t *testing.T) {
	w := get(NewHandler((&fake{}).config()), "GET", "/openapi.json", far, "")
	var b bytes.Buffer
	if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "openapi.json", b.Bytes())
}

// serve runs a handler behind a unix socket and returns a client of it.
func serve(t *testing.T, h http.Handler, token string) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := NewClient(ClientConfig{Socket: path, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
