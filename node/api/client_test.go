package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb/section"
)

func TestClientReads(t *testing.T) {
	f := &fake{status: Status{Time: start, Node: NodeStatus{Started: start}, Mesh: MeshStatus{ID: "m", Members: 1, Alive: 1}}}
	c := serve(t, NewHandler(f.config()), "") // on the socket reads need no session
	ctx := t.Context()

	members, err := c.Members(ctx)
	if diff := cmp.Diff(f.Members(), members); err != nil || diff != "" {
		t.Errorf("members: %v\n%s", err, diff)
	}
	status, err := c.Status(ctx)
	if err != nil || status.Mesh != f.status.Mesh || len(status.Problems) != 0 {
		t.Errorf("status: %+v %v", status, err)
	}
	digests, err := c.Digest(ctx)
	if diff := cmp.Diff(f.Digests(), digests); err != nil || diff != "" {
		t.Errorf("digest: %v\n%s", err, diff)
	}
	zones, err := c.Zones(ctx)
	if diff := cmp.Diff(f.Zones(), zones); err != nil || diff != "" {
		t.Errorf("zones: %v\n%s", err, diff)
	}
	sections, err := c.Sections(ctx)
	if diff := cmp.Diff(section.Schema(), sections); err != nil || diff != "" {
		t.Errorf("sections: %v\n%s", err, diff)
	}
	build, err := c.Version(ctx)
	if err != nil || build.Version != "1.2.3" {
		t.Errorf("version: %+v %v", build, err)
	}
	var zone bytes.Buffer
	if err := c.WriteZone(ctx, &zone, "DC1.example.com."); err != nil || zone.String() != "$ORIGIN dc1.example.com.\n" {
		t.Errorf("zone: %q %v", zone.String(), err)
	}
	if err := c.WriteZone(ctx, io.Discard, "example.org"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "example.org") {
		t.Errorf("unknown zone: %v", err)
	}
	if _, err := c.CreateNamespace(ctx, "vips", "x"); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a write without a session: %v", err)
	}
}

func TestClientNamespaces(t *testing.T) {
	cfg := (&fake{}).config()
	root, bob := serve(t, NewHandler(cfg), "root"), serve(t, NewHandler(cfg), "bob")
	for _, want := range []bool{true, false} {
		if created, err := root.CreateNamespace(t.Context(), "vips", "x"); err != nil || created != want {
			t.Errorf("created %t, %v; want %t", created, err, want)
		}
	}
	if _, err := bob.CreateNamespace(t.Context(), "vips", "x"); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "bob") {
		t.Errorf("by bob: %v", err)
	}
}

func TestImport(t *testing.T) {
	f := &fake{}
	f.imported = func(_ context.Context, who Identity, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error) {
		if who.User != "bob" || opts.Log != "a&b" || !opts.KeepGoing || opts.DryRun {
			return ImportReport{}, fmt.Errorf("got %+v %+v", who, opts)
		}
		n, err := io.Copy(io.Discard, tar)
		progress(ImportProgress{Phase: "writing", Done: 1, Total: 2})
		return ImportReport{Read: int(n), Complete: err == nil}, err
	}
	cfg := f.config()
	cfg.MaxImport = 1 << 20
	c := serve(t, NewHandler(cfg), "bob")
	opts := ImportOptions{Log: "a&b", KeepGoing: true}

	var seen []ImportProgress
	report, err := c.Import(t.Context(), strings.NewReader("tarball"), opts, func(p ImportProgress) { seen = append(seen, p) })
	if err != nil || report.Read != 7 || !report.Complete || report.Problems == nil {
		t.Errorf("report %+v %v", report, err)
	}
	if diff := cmp.Diff([]ImportProgress{{Phase: "writing", Done: 1, Total: 2}}, seen); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}

	report, err = c.Import(t.Context(), bytes.NewReader(make([]byte, 1<<20+1)), opts, nil)
	var answer *Error
	if !errors.As(err, &answer) || answer.Status != http.StatusRequestEntityTooLarge || report.Complete {
		t.Errorf("too long a body: %+v %v", report, err)
	}
	if _, err = c.Import(t.Context(), strings.NewReader("x"), ImportOptions{Log: " "}, nil); err == nil || !strings.Contains(err.Error(), "log is blank") {
		t.Errorf("a blank log: %v", err)
	}
}

// Progress must reach the client while it is still sending: a large import would else look dead.
func TestImportProgressWhileSending(t *testing.T) {
	f := &fake{}
	f.imported = func(_ context.Context, _ Identity, tar io.Reader, _ ImportOptions, progress func(ImportProgress)) (ImportReport, error) {
		one := make([]byte, 1)
		if _, err := io.ReadFull(tar, one); err != nil {
			return ImportReport{}, err
		}
		progress(ImportProgress{Phase: "reading", Done: 1})
		_, err := io.Copy(io.Discard, tar)
		return ImportReport{Complete: true}, err
	}
	c := serve(t, NewHandler(f.config()), "bob")
	body, send := io.Pipe()
	defer send.Close()
	go send.Write([]byte("x"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	report, err := c.Import(ctx, body, ImportOptions{Log: "x"}, func(ImportProgress) { send.Close() })
	if err != nil || !report.Complete {
		t.Errorf("report %+v %v", report, err)
	}
}

func TestImportThatBreaksOff(t *testing.T) {
	f := &fake{}
	f.imported = func(_ context.Context, _ Identity, tar io.Reader, _ ImportOptions, progress func(ImportProgress)) (ImportReport, error) {
		io.Copy(io.Discard, tar)
		progress(ImportProgress{Phase: "writing", Done: 1})
		panic(http.ErrAbortHandler)
	}
	_, err := serve(t, NewHandler(f.config()), "bob").Import(t.Context(), strings.NewReader("x"), ImportOptions{Log: "x"}, nil)
	if !errors.Is(err, ErrBrokeOff) {
		t.Errorf("got %v, want ErrBrokeOff", err)
	}
}

// v1Request is what a server of /v1 sees.
type v1Request struct {
	Method, Path string
	Query, Form  url.Values
}

func TestClientV1(t *testing.T) {
	var got v1Request
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		got = v1Request{r.Method, r.URL.EscapedPath(), r.URL.Query(), r.PostForm}
		w.Header().Set(HeaderAcks, "2")
		if r.Method == http.MethodGet {
			io.WriteString(w, "a\nb")
		}
	}), "")
	ctx := t.Context()
	written := func(_ Written, err error) error { return err }
	read := func(_ any, err error) error { return err }
	log := url.Values{"log": {"100% a&b"}}
	with := func(k, v string) url.Values { return url.Values{"log": log["log"], k: {v}} }
	for _, x := range []struct {
		name string
		do   func() error
		want v1Request
	}{
		{"get", func() error { return read(c.Get(ctx, "//hosts/a b?/x%/")) }, v1Request{Method: "GET", Path: "/v1/hosts/a%20b%3F/x%25"}},
		{"namespaces", func() error { return read(c.List(ctx, "")) }, v1Request{Method: "GET", Path: "/v1"}},
		{"members", func() error { return read(c.MembersOf(ctx, "tags/w")) }, v1Request{Method: "GET", Path: "/v1/tags/w/members"}},
		{"raw", func() error { return read(c.RawMembers(ctx, "tags/w")) }, v1Request{Method: "GET", Path: "/v1/tags/w/members", Query: url.Values{"raw": {"true"}}}},
		{"put", func() error { return written(c.Put(ctx, "hosts/a", []byte("x: 1\n"), log.Get("log"))) }, v1Request{Method: "PUT", Path: "/v1/hosts/a", Form: with("value", "x: 1\n")}},
		{"rename", func() error { return written(c.Rename(ctx, "hosts/a", "b", log.Get("log"))) }, v1Request{Method: "POST", Path: "/v1/hosts/a", Form: with("newname", "b")}},
		{"delete", func() error { return written(c.Delete(ctx, "hosts/a", log.Get("log"))) }, v1Request{Method: "DELETE", Path: "/v1/hosts/a", Query: log}},
		{"add", func() error { return written(c.AddMember(ctx, "tags/w", "@x", log.Get("log"))) }, v1Request{Method: "PUT", Path: "/v1/tags/w/members/@x", Form: log}},
		{"remove", func() error { return written(c.RemoveMember(ctx, "tags/w", "a", log.Get("log"))) }, v1Request{Method: "DELETE", Path: "/v1/tags/w/members/a", Query: log}},
		{"set", func() error { return written(c.SetMembers(ctx, "tags/w", "a\n@b", log.Get("log"))) }, v1Request{Method: "PUT", Path: "/v1/tags/w/members", Form: with("value", "a\n@b")}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if err := x.do(); err != nil {
				t.Fatal(err)
			}
			for _, v := range []*url.Values{&got.Query, &got.Form} {
				if len(*v) == 0 {
					*v = nil
				}
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
	if list, err := c.List(ctx, "hosts"); err != nil || cmp.Diff([]string{"a", "b"}, list) != "" {
		t.Errorf("list: %q %v", list, err)
	}
	if done, err := c.Put(ctx, "hosts/a", nil, "x"); err != nil || done.Acks != 2 {
		t.Errorf("acks: %+v %v", done, err)
	}
}

func TestClientErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		is     error
		text   string
	}{
		{"CallTrace", func(w http.ResponseWriter) {
			w.Header().Set("CallTrace", "4041: hosts/x not found")
			w.WriteHeader(404)
		}, ErrNotFound, "hosts/x not found (4041)"},
		{"a reason phrase", func(w http.ResponseWriter) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			buf.WriteString("HTTP/1.1 403 alice may not write hosts/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			buf.Flush()
			conn.Close()
		}, ErrDenied, "alice may not write hosts/x"},
		{"a problem document", func(w http.ResponseWriter) { writeProblem(w, problem(503, "disk is full")) }, ErrUnavailable, "disk is full"},
		{"a redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(301) }, nil, "Moved Permanently"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }), "")
			_, err := client.Get(t.Context(), "hosts/x")
			if err == nil || err.Error() != c.text {
				t.Errorf("got %v, want %q", err, c.text)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v does not match %v", err, c.is)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	tls.Config.ErrorLog = nil
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()

	for _, c := range []struct {
		name string
		cfg  ClientConfig
		want string
	}{
		{"no socket", ClientConfig{Socket: filepath.Join(dir, "none")}, "is the agent running? If its data directory is not the default, name the socket with --socket"},
		{"nobody listens", ClientConfig{Socket: stale}, "the agent has stopped"},
		{"closed port", ClientConfig{Server: closed.URL}, "is the agent running there"},
		{"unknown authority", ClientConfig{Server: tls.URL}, "--ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := NewClient(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Members(t.Context())
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), client.Where()) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestConnectionBreaks(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "")
	_, err := c.Put(t.Context(), "hosts/x", nil, "x")
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "may have been carried out") {
		t.Errorf("got %v", err)
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, cfg := range []ClientConfig{
		{}, {Socket: "/x", Server: "https://x:1"}, {Server: "x:7951"}, {Server: "ftp://x"}, {Server: "https://x:1/v1"}, {Server: "https://"},
	} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
