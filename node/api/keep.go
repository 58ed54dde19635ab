package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hostmesh/hostdb"
)

// Keeper looks after the answering node's replica. The caller has checked that an administrator asks. Each of its methods runs
// once at a time: errors wrap hostdb.ErrBusy while it runs for somebody else.
type Keeper interface {
	// WriteBackup writes a backup of the replica, as package backup does. An error from before the first byte says why there is
	// nothing to read.
	WriteBackup(ctx context.Context, w io.Writer) error
	// WriteUnreplicated writes the operations that no other member is known to hold, as lines of ExportedOperation.
	WriteUnreplicated(ctx context.Context, w io.Writer) error
	// Verify holds the rows of the replica against each other.
	Verify(ctx context.Context, progress func(KeepProgress)) (VerifyReport, error)
	// Compact makes the database as small as it can be.
	Compact(ctx context.Context, progress func(KeepProgress)) (CompactReport, error)
}

// KeepProgress is how far a long task is.
type KeepProgress struct {
	Phase string `json:"phase" doc:"What is being done"`
	Done  uint64 `json:"done" doc:"Rows done; 0 = not counted"`
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Sound      bool              `json:"sound" doc:"True when nothing is damaged"`
	Rows       uint64            `json:"rows" doc:"Rows read: all there are"`
	Bytes      uint64            `json:"bytes" doc:"Bytes of their keys and values"`
	Operations uint64            `json:"operations"`
	Origins    uint64            `json:"origins" doc:"Runs of nodes that operations are of"`
	Keys       uint64            `json:"keys" doc:"Keys with registers, deleted ones included"`
	Members    uint64            `json:"members" doc:"Member registers, removed ones included"`
	Whole      bool              `json:"whole" doc:"True when every operation is held, so that the registers were compared with a fold of all of them"`
	Joining    bool              `json:"joining,omitempty" doc:"True while a state is being taken from another replica"`
	Rubbish    uint64            `json:"rubbish" doc:"Rows that nothing refers to; the next start of the agent removes them"`
	Redo       uint64            `json:"redo" doc:"Operations whose registers a crash left behind; the next start of the agent makes them"`
	Late       uint64            `json:"late" doc:"Operations of a newer hostmesh, kept but not understood"`
	Forks      uint64            `json:"forks" doc:"Operations kept aside because two boxes wrote under one origin"`
	Unknown    uint64            `json:"unknown" doc:"Rows of a newer hostmesh, which were not judged"`
	Digests    map[string]string `json:"digests,omitempty" doc:"What the operations make, by namespace; absent when not all are held"`
	Findings   []VerifyFinding   `json:"findings" nullable:"false" doc:"What is damaged"`
	More       uint64            `json:"more_findings,omitempty" doc:"Findings beyond those listed"`
	Millis     int64             `json:"ms" doc:"Duration in milliseconds"`
}

// VerifyFinding is one thing that is damaged.
type VerifyFinding struct {
	Where  string `json:"where"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// VerifyReportOf is the wire form of what hostdb reports.
func VerifyReportOf(r hostdb.VerifyReport, took time.Duration) VerifyReport {
	out := VerifyReport{
		Sound: !r.Damaged(), Rows: r.Rows, Bytes: r.Bytes, Operations: r.Operations, Origins: r.Origins, Keys: r.Keys, Members: r.Members,
		Whole: r.Whole, Joining: r.Joining, Rubbish: r.Rubbish, Redo: r.Redo, Late: r.Late, Forks: r.Forks, Unknown: r.Unknown,
		Digests: r.Digests, Findings: make([]VerifyFinding, 0, len(r.Findings)), More: r.More, Millis: took.Milliseconds(),
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, VerifyFinding{Where: f.Where, What: f.What, Remedy: f.Remedy})
	}
	return out
}

// CompactReport is what a compaction did.
type CompactReport struct {
	Before int64 `json:"before" doc:"Bytes of the database on the disk before"`
	After  int64 `json:"after" doc:"And after"`
	Millis int64 `json:"ms" doc:"Duration in milliseconds"`
}

// KeepRecord is one line of the answer to a long task: progress, or, last, the report.
type KeepRecord[R any] struct {
	Progress *KeepProgress    `json:"progress,omitempty"`
	Report   *R               `json:"report,omitempty"`
	Error    *huma.ErrorModel `json:"error,omitempty"`
}

// backupType is the media type of a backup.
const backupType = "application/vnd.hostmesh.backup"

func registerKeep(a huma.API, k Keeper) {
	huma.Register(a, huma.Operation{
		OperationID: "backup", Method: http.MethodGet, Path: "/api/v1/db/backup",
		Summary: "All of the replica as one file", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "Only an administrator may: it holds every operation ever made, and the users, sealed with the mesh key. It is one snapshot; " +
			"writes go on. A file that does not end with its trailer is not whole.",
		Responses: map[string]*huma.Response{"200": {Description: "The backup", Content: map[string]*huma.MediaType{
			backupType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
	}, func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
		if err := onlyAdmin(ctx, "make a backup"); err != nil {
			return nil, err
		}
		return streamed(backupType, k.WriteBackup), nil
	})
	registerUnreplicated(a, k)
	registerTask(a, huma.Operation{
		OperationID: "verify", Path: "/api/v1/db/verify", Summary: "Hold the rows of the replica against each other",
		Description: "Only an administrator may. It reads everything and takes the memory of a second replica.",
	}, "verify the replica", k.Verify)
	registerTask(a, huma.Operation{
		OperationID: "compact", Path: "/api/v1/db/compact", Summary: "Make the database small",
		Description: "Only an administrator may. It merges all tables, and so drops what was replaced and deleted.",
	}, "compact the database", k.Compact)
}

// onlyAdmin refuses everybody else.
func onlyAdmin(ctx context.Context, what string) error {
	switch who := identityOf(ctx); {
	case who.User == "":
		return problem(http.StatusUnauthorized, "nobody is logged in: only an administrator may "+what)
	case !who.Admin:
		return problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may %s", who.User, what))
	}
	return nil
}

// registerTask offers a task whose answer is lines of JSON: progress, and last the report.
func registerTask[R any](a huma.API, op huma.Operation, what string, run func(context.Context, func(KeepProgress)) (R, error)) {
	record := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[KeepRecord[R]](), true, "")
	op.Method, op.Tags, op.Security = http.MethodPost, []string{"hostdb"}, writeSecurity
	op.Description += " The answer is a line of JSON for each step, and a last one with the report; its status is 200 even if the task " +
		"fails: the last line says so in error."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Progress, and in the last line the report",
		Content:     map[string]*huma.MediaType{ndjsonType: {Schema: record}},
	}}
	huma.Register(a, op, func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
		if err := onlyAdmin(ctx, what); err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			serveTask(w, r, run)
		}}, nil
	})
}

func serveTask[R any](w http.ResponseWriter, r *http.Request, run func(context.Context, func(KeepProgress)) (R, error)) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // the server watches the connection by reading on
	w.Header().Set("Content-Type", ndjsonType)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	send := func(rec KeepRecord[R]) {
		// As in serveImport: a client that is gone ends the task through the request's context.
		_ = rc.SetWriteDeadline(time.Now().Add(importIdle))
		_ = enc.Encode(rec)
		_ = rc.Flush()
	}
	var last time.Time
	phase := ""
	report, err := run(r.Context(), func(p KeepProgress) {
		if now := time.Now(); p.Phase != phase || now.Sub(last) >= progressEvery {
			last, phase = now, p.Phase
			send(KeepRecord[R]{Progress: &p})
		}
	})
	rec := KeepRecord[R]{Report: &report}
	if err != nil {
		rec = KeepRecord[R]{Error: problemOf(err)}
	}
	send(rec)
}

// ErrNoReport is returned when the answer of a task ended before its report.
var ErrNoReport = errors.New("the answer broke off without a report")

// Backup is a stream with a backup of the agent's replica. The caller closes it. It takes an administrator.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, "/api/v1/db/backup", "", "")
}

// Verify has the agent verify its replica; progress may be nil. It takes an administrator.
func (c *Client) Verify(ctx context.Context, progress func(KeepProgress)) (VerifyReport, error) {
	return runTask[VerifyReport](ctx, c, "/api/v1/db/verify", progress)
}

// Compact has the agent compact its database; progress may be nil. It takes an administrator.
func (c *Client) Compact(ctx context.Context, progress func(KeepProgress)) (CompactReport, error) {
	return runTask[CompactReport](ctx, c, "/api/v1/db/compact", progress)
}

func runTask[R any](ctx context.Context, c *Client, path string, progress func(KeepProgress)) (R, error) {
	var none R
	resp, err := c.do(ctx, http.MethodPost, path, nil, "", nil)
	if err != nil {
		return none, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var rec KeepRecord[R]
		if err := dec.Decode(&rec); err != nil {
			return none, fmt.Errorf("%w: %w", ErrNoReport, err)
		}
		switch {
		case rec.Error != nil:
			return none, &Error{Status: rec.Error.Status, Message: problemText(rec.Error)}
		case rec.Report != nil:
			return *rec.Report, nil
		case rec.Progress != nil && progress != nil:
			progress(*rec.Progress)
		}
	}
}
