package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// GitHistories takes commits into HostDB and gives revisions out.
type GitHistories interface {
	// GitState tells which histories were imported.
	GitState() GitState
	// ImportGit takes a stream of commits, as layout.GitRepo.Send writes it. The caller has checked that who is an
	// administrator. progress is called by one goroutine. The report is valid with an error, too.
	ImportGit(ctx context.Context, who Identity, stream io.Reader, log string, progress func(ImportProgress)) (GitImportReport, error)
	// WriteGit writes the revisions after a state, "" for all, as input of git fast-import. An error from before the first
	// byte says why there is nothing to read.
	WriteGit(ctx context.Context, w io.Writer, after string) error
	// WriteDirectory writes HostDB as it is, or was at a revision or time, as a tar of Flipkart's directory layout.
	WriteDirectory(ctx context.Context, w io.Writer, asOf string) error
}

// GitState is how far Git histories were imported.
type GitState struct {
	Keys      int          `json:"keys" doc:"Keys in HostDB: an import into an empty one replays nothing over what is there"`
	Histories []GitHistory `json:"histories" nullable:"false"`
}

// GitHistory is one branch that was imported.
type GitHistory struct {
	ID      string   `json:"id" doc:"Names the history in any clone: BRANCH@FIRST-COMMIT"`
	Commit  string   `json:"commit" doc:"The last commit that was imported"`
	Waiting []string `json:"waiting,omitempty" doc:"Member lists that name hosts or keys which were not there"`
}

// GitImportReport is what became of an import of commits.
type GitImportReport struct {
	Commits    int          `json:"commits" doc:"Commits read"`
	Operations int          `json:"operations" doc:"Revisions made: one for each commit that changed something"`
	Merges     int          `json:"merges,omitempty" doc:"Commits with several parents; what they change is told against the first"`
	Last       string       `json:"last,omitempty" doc:"The commit up to which HostDB has the history now"`
	Acks       int          `json:"acks,omitempty" doc:"The fewest boxes that held one of the revisions durably when it was answered"`
	Version    string       `json:"version,omitempty" doc:"HostDB version at or after which all of it is visible on the answering node"`
	Problems   []GitProblem `json:"problems" nullable:"false" doc:"What could not be taken of some commit, whether or not a later one mended it"`
	More       int          `json:"more_problems,omitempty" doc:"Problems beyond those listed"`
	Millis     int64        `json:"ms" doc:"Duration in milliseconds"`
}

// GitProblem is one thing that could not be taken of a commit.
type GitProblem struct {
	Commit string `json:"commit"`
	File   string `json:"file"`
	Line   int    `json:"line,omitempty" doc:"1 = the first; 0 = the file as a whole"`
	Text   string `json:"text"`
}

// GitImportReportOf is the wire form of what layout reports.
func GitImportReportOf(r layout.GitReport) GitImportReport {
	out := GitImportReport{
		Commits: r.Commits, Operations: r.Operations, Merges: r.Merges, Last: r.Last, Acks: r.Acks,
		Version: r.Version.String(), Problems: make([]GitProblem, 0, len(r.Problems)), More: r.More,
	}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, GitProblem{p.Commit, p.File, p.Line, p.Message})
	}
	return out
}

// GitImportRecord is one line of the answer to an import of commits.
type GitImportRecord struct {
	Progress *ImportProgress  `json:"progress,omitempty"`
	Report   *GitImportReport `json:"report,omitempty"`
	Error    *huma.ErrorModel `json:"error,omitempty"`
}

const (
	gitCommitsType = "application/vnd.hostmesh.commits"
	fastImportType = "application/x-git-fast-import"
)

func registerGit(a huma.API, g GitHistories) {
	registerGitImport(a, g)
	binary := func(kind, what string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: what, Content: map[string]*huma.MediaType{
			kind: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}}
	}
	type afterInput struct {
		After string `query:"after" doc:"Where the last export ended: the State line of the note on its newest commit; empty for all"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "export-git", Method: http.MethodGet, Path: "/api/v1/export/git",
		Summary: "Revisions as input of git fast-import", Tags: []string{"hostdb"},
		Description: "A commit for each revision that changes a file, oldest first, on refs/hostmesh/export, and notes with the revisions' ids " +
			"on refs/hostmesh/notes. It ends with done: what ends without is not whole.",
		Responses: binary(fastImportType, "Input of git fast-import"),
	}, func(_ context.Context, in *afterInput) (*huma.StreamResponse, error) {
		return streamed(fastImportType, func(ctx context.Context, w io.Writer) error { return g.WriteGit(ctx, w, in.After) }), nil
	})
	type asOfInput struct {
		AsOf string `query:"as_of" doc:"A revision or a time; empty for now" example:"2026-03-01"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "export", Method: http.MethodGet, Path: "/api/v1/export",
		Summary: "HostDB as a directory", Tags: []string{"hostdb"},
		Description: "A tar of Flipkart's directory layout, which POST /api/v1/import takes.",
		Responses:   binary(tarType, "The directory"),
	}, func(_ context.Context, in *asOfInput) (*huma.StreamResponse, error) {
		return streamed(tarType, func(ctx context.Context, w io.Writer) error { return g.WriteDirectory(ctx, w, in.AsOf) }), nil
	})
}

func registerGitImport(a huma.API, g GitHistories) {
	huma.Register(a, huma.Operation{
		OperationID: "get-git-state", Method: http.MethodGet, Path: "/api/v1/import/git",
		Summary: "How far Git histories were imported", Tags: []string{"hostdb"},
	}, func(context.Context, *struct{}) (*bodyOf[GitState], error) {
		return &bodyOf[GitState]{g.GitState()}, nil
	})
	type input struct {
		ContentType string `header:"Content-Type" required:"true" doc:"application/vnd.hostmesh.commits"`
		Log         string `query:"log" required:"true" maxLength:"4096" doc:"Why, should the import have something of its own to note"`
	}
	record := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[GitImportRecord](), true, "")
	huma.Register(a, huma.Operation{
		OperationID: "import-git", Method: http.MethodPost, Path: "/api/v1/import/git",
		Summary: "Take commits of a Git repository into the host database", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "Only an administrator may: the commits name their authors. The body is what hostmesh db import --git makes of a repository. " +
			"The answer is a line of JSON for each step, and a last one with the report; its status is 200 even if the import fails: " +
			"the last line says so in error.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			gitCommitsType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		Responses: map[string]*huma.Response{"200": {
			Description: "Progress, and in the last line the report",
			Content:     map[string]*huma.MediaType{ndjsonType: {Schema: record}},
		}},
	}, func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
		who := identityOf(ctx)
		switch t, _, err := mime.ParseMediaType(in.ContentType); {
		case err != nil || t != gitCommitsType:
			return nil, problem(http.StatusUnsupportedMediaType, fmt.Sprintf("the body is %q; it must be %s", in.ContentType, gitCommitsType))
		case strings.TrimSpace(in.Log) == "":
			return nil, errNoLog()
		case !who.Admin:
			return nil, problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may import commits, which name their authors", who.User))
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			serveGitImport(w, r, g, who, in.Log)
		}}, nil
	})
}

// serveGitImport is serveImport for commits. The body has no limit as a whole, since a history has none: each item has.
func serveGitImport(w http.ResponseWriter, r *http.Request, g GitHistories, who Identity, log string) {
	rc := http.NewResponseController(w)
	body := &idleReader{r: r.Body, rc: rc}
	duplex := rc.EnableFullDuplex() == nil
	w.Header().Set("Content-Type", ndjsonType)
	if duplex {
		_ = rc.Flush() // from here on a client that hears no more knows that the import had begun
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	send := func(rec GitImportRecord) {
		// As in serveImport: a client that is gone ends the import through the request's context.
		_ = rc.SetWriteDeadline(time.Now().Add(importIdle))
		_ = enc.Encode(rec)
		_ = rc.Flush()
	}
	var last time.Time
	start := time.Now()
	report, err := g.ImportGit(r.Context(), who, bufio.NewReaderSize(body, importBuffer), log, func(p ImportProgress) {
		if now := time.Now(); (duplex || body.ended) && now.Sub(last) >= progressEvery {
			last = now
			send(GitImportRecord{Progress: &p})
		}
	})
	report.Millis = time.Since(start).Milliseconds()
	if report.Problems == nil {
		report.Problems = []GitProblem{}
	}
	rec := GitImportRecord{Report: &report}
	if err != nil {
		rec.Error = gitProblemOf(err)
	}
	send(rec)
}

// gitProblemOf is problemOf for what only Git has.
func gitProblemOf(err error) *huma.ErrorModel {
	switch {
	case errors.Is(err, layout.ErrGitMoved), errors.Is(err, layout.ErrGitAhead):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, layout.ErrBadGitStream):
		return problem(http.StatusBadRequest, err.Error())
	}
	return problemOf(err)
}

// streamed is an answer that write makes as it goes. What fails before the first byte is an error like any other; what
// fails later breaks the connection off, so that nobody takes a part for the whole.
func streamed(contentType string, write func(ctx context.Context, w io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		out := &idleWriter{w: w, rc: http.NewResponseController(w), contentType: contentType}
		// The server watches the connection by reading on; the deadline of the request would end a long answer.
		_ = out.rc.SetReadDeadline(time.Time{})
		switch err := write(r.Context(), out); {
		case err != nil && !out.began:
			writeProblem(w, gitProblemOf(err))
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}}
}

// idleWriter gives each write its own deadline, instead of one for the whole answer.
type idleWriter struct {
	w           http.ResponseWriter
	rc          *http.ResponseController
	contentType string
	began       bool
}

func (o *idleWriter) Write(p []byte) (int, error) {
	if !o.began {
		o.began = true
		o.w.Header().Set("Content-Type", o.contentType)
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(importIdle)) // where there is none, nothing ends the answer
	return o.w.Write(p)
}

// GitState asks how far Git histories were imported.
func (c *Client) GitState(ctx context.Context) (GitState, error) {
	var out GitState
	err := c.getJSON(ctx, "/api/v1/import/git", &out)
	return out, err
}

// ImportGit sends commits and waits for the report; progress may be nil. An error beside a report comes from the
// importer; the zero report comes with errors from before it began, and with ErrBrokeOff.
func (c *Client) ImportGit(ctx context.Context, stream io.Reader, log string, progress func(ImportProgress)) (GitImportReport, error) {
	resp, err := c.do(ctx, http.MethodPost, "/api/v1/import/git", url.Values{"log": {log}}, gitCommitsType, stream)
	if err != nil {
		return GitImportReport{}, err
	}
	defer resp.Body.Close()
	return readReport[GitImportReport](resp.Body, progress)
}

// ExportGit is a stream for git fast-import with the revisions after a state, "" for all. The caller closes it.
func (c *Client) ExportGit(ctx context.Context, after string) (io.ReadCloser, error) {
	return c.stream(ctx, "/api/v1/export/git", "after", after)
}

// ExportDirectory is a tar of HostDB as it is, or was at a revision or time. The caller closes it.
func (c *Client) ExportDirectory(ctx context.Context, asOf string) (io.ReadCloser, error) {
	return c.stream(ctx, "/api/v1/export", "as_of", asOf)
}

func (c *Client) stream(ctx context.Context, path, name, value string) (io.ReadCloser, error) {
	query := url.Values{}
	if value != "" {
		query.Set(name, value)
	}
	resp, err := c.do(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// GitHistoriesOf is the wire form of what is noted in HostDB of imported histories.
func GitHistoriesOf(v hostdb.View) GitState {
	s := GitState{Histories: []GitHistory{}}
	for _, m := range layout.GitMarkers(v) {
		s.Histories = append(s.Histories, GitHistory{m.ID, m.Commit, m.Waiting})
	}
	for _, ns := range v.Namespaces() {
		if ns == hostdb.System {
			continue
		}
		for key := range v.Keys(ns) {
			if item, _ := v.Get(ns, key); item != (hostdb.Item{}) {
				s.Keys++
			}
		}
	}
	return s
}
