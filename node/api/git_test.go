package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// gitFake takes streams and breaks where it is told to.
type gitFake struct {
	mu sync.Mutex // guards early and late

	got    []byte
	who    Identity
	err    error // of the import
	early  error // of an export, before its first byte
	late   error // of an export, after some
	report GitImportReport
}

func (g *gitFake) GitState() GitState {
	return GitState{Keys: 3, Histories: []GitHistory{{ID: "main@1", Commit: "2", Waiting: []string{"tags/t"}}}}
}

func (g *gitFake) ImportGit(_ context.Context, who Identity, stream io.Reader, _ string, progress func(ImportProgress)) (GitImportReport, error) {
	var err error
	if g.got, err = io.ReadAll(stream); err != nil {
		return GitImportReport{}, err
	}
	g.who = who
	progress(ImportProgress{Phase: "writing", Done: 1, Total: 2})
	return g.report, g.err
}

// fail sets how exports fail from now on: before the first byte, or after the last.
func (g *gitFake) fail(early, late error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.early, g.late = early, late
}

func (g *gitFake) export(w io.Writer, arg string) error {
	g.mu.Lock()
	early, late := g.early, g.late
	g.mu.Unlock()
	if early != nil {
		return early
	}
	if _, err := io.WriteString(w, "of "+arg); err != nil {
		return err
	}
	return late
}

func (g *gitFake) WriteGit(_ context.Context, w io.Writer, after string) error {
	return g.export(w, after)
}

func (g *gitFake) WriteDirectory(_ context.Context, w io.Writer, asOf string) error {
	return g.export(w, asOf)
}

// serveGit is a client of the fake, and of a request of who.
func serveGit(t *testing.T, g *gitFake, who Identity) *Client {
	t.Helper()
	srv := httptest.NewServer(NewHandler(Config{Git: g, Identify: func(*http.Request) (Identity, bool, error) { return who, true, nil }}))
	t.Cleanup(srv.Close)
	c, err := NewClient(ClientConfig{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestGitImportOverHTTP(t *testing.T) {
	ctx := context.Background()
	g := &gitFake{report: GitImportReport{Commits: 2, Operations: 1, Problems: []GitProblem{{Commit: "c", File: "hosts/a", Text: "bad"}}}}
	c := serveGit(t, g, Identity{User: "alice", Admin: true})
	if s, err := c.GitState(ctx); err != nil || s.Keys != 3 || len(s.Histories) != 1 || s.Histories[0].Waiting[0] != "tags/t" {
		t.Errorf("%+v, %v", s, err)
	}
	var seen []ImportProgress
	r, err := c.ImportGit(ctx, strings.NewReader("commits"), "why", func(p ImportProgress) { seen = append(seen, p) })
	if err != nil || r.Commits != 2 || len(r.Problems) != 1 || string(g.got) != "commits" || g.who.User != "alice" || len(seen) != 1 {
		t.Errorf("%+v, %v; %q of %+v; %v", r, err, g.got, g.who, seen)
	}
	for _, x := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("import: %w", layout.ErrGitMoved), http.StatusConflict},
		{layout.ErrBadGitStream, http.StatusBadRequest},
		{hostdb.ErrUnavailable, http.StatusServiceUnavailable},
	} {
		g.err = x.err
		var e *Error
		if r, err := c.ImportGit(ctx, strings.NewReader(""), "why", nil); !errors.As(err, &e) || e.Status != x.status || r.Commits != 2 {
			t.Errorf("%v becomes %v with %+v", x.err, err, r)
		}
	}
	if _, err := c.ImportGit(ctx, strings.NewReader(""), " ", nil); err == nil || !strings.Contains(err.Error(), "log is blank") {
		t.Errorf("without a message: %v", err)
	}
	if _, _, err := c.roundTrip(ctx, http.MethodPost, "/api/v1/import/git", map[string][]string{"log": {"x"}}, "text/plain", bytes.NewReader(nil)); err == nil || !strings.Contains(err.Error(), gitCommitsType) {
		t.Errorf("another type: %v", err)
	}
	g.got = nil
	if _, err := serveGit(t, g, Identity{User: "bob"}).ImportGit(ctx, strings.NewReader("commits"), "why", nil); !errors.Is(err, ErrDenied) || g.got != nil {
		t.Errorf("bob is no administrator: %v", err)
	}
}

func TestGitExportOverHTTP(t *testing.T) {
	ctx := context.Background()
	g := &gitFake{}
	c := serveGit(t, g, Identity{User: "bob"})
	for name, get := range map[string]func(context.Context, string) (io.ReadCloser, error){"git": c.ExportGit, "directory": c.ExportDirectory} {
		t.Run(name, func(t *testing.T) {
			read := func() (string, error) {
				body, err := get(ctx, "R")
				if err != nil {
					return "", err
				}
				defer body.Close()
				text, err := io.ReadAll(body)
				return string(text), err
			}
			g.fail(nil, nil)
			if text, err := read(); text != "of R" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
			g.fail(fmt.Errorf("export: %w", layout.ErrGitAhead), nil)
			var e *Error
			if _, err := read(); !errors.As(err, &e) || e.Status != http.StatusConflict {
				t.Errorf("an error before the first byte: %v", err)
			}
			g.fail(nil, errors.New("disk gone"))
			if text, err := read(); err == nil {
				t.Errorf("%q was taken for the whole", text)
			}
		})
	}
}
