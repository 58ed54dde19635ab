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

	"hostmesh/hostdb/layout"
)

// Importer takes an inventory into HostDB.
type Importer interface {
	// Import reads a tar of Flipkart's directory layout (NAMESPACE/KEY, NAMESPACE/.members/KEY,
	// NAMESPACE/.perms/KEY) and writes what differs. who is set; each write is checked against the access lists
	// unless who is an administrator, and only an administrator may make a namespace.
	//
	// progress is called by one goroutine at a time, as often as the importer likes. The report is valid with an
	// error, too: it says what was written before it. The end of ctx stops the import. An error of reading tar
	// should be wrapped, so that a body that is too long is told from one that is no tar.
	Import(ctx context.Context, who Identity, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error)
}

// ImportOptions say how to import.
type ImportOptions struct {
	// Log is the message in history; not blank.
	Log string
	// KeepGoing leaves out the keys that have problems and takes the rest. Without it, one problem stops the import
	// before anything is written.
	KeepGoing bool
	// DryRun reads and checks everything and writes nothing.
	DryRun bool
}

// ImportProgress is how far an import is.
type ImportProgress struct {
	Phase string `json:"phase" enum:"reading,writing" doc:"Nothing is written while reading"`
	Done  int    `json:"done" doc:"Keys read, or writes done"`
	Total int    `json:"total" doc:"Of how many; 0 = not known yet"`
}

// ImportReport is what became of an import. The tallies of a dry run are empty: only Read is known.
type ImportReport struct {
	DryRun     bool            `json:"dry_run,omitempty" doc:"True when nothing was to be written"`
	Complete   bool            `json:"complete" doc:"True when all that was sent, but for what was left out, is in HostDB; in a dry run, when it could be"`
	Read       int             `json:"read" doc:"Keys read"`
	Namespaces int             `json:"namespaces" doc:"Namespaces made"`
	Keys       ImportTally     `json:"keys" doc:"Documents"`
	Members    ImportTally     `json:"members" doc:"Member lists"`
	Perms      ImportTally     `json:"perms" doc:"Access lists"`
	LeftAlone  int             `json:"left_alone" doc:"Keys that HostDB has in the namespaces of the import and the import has not: they stay as they are"`
	Operations int             `json:"operations" doc:"Operations made"`
	Acks       int             `json:"acks" doc:"The fewest boxes that held one of the operations durably when it was answered, the answering one included"`
	Version    string          `json:"version,omitempty" doc:"HostDB version at or after which all of it is visible on the answering node"`
	Problems   []ImportProblem `json:"problems" nullable:"false" doc:"What is wrong with the input, by file"`
	More       int             `json:"more_problems,omitempty" doc:"Problems beyond those listed"`
	Warnings   []string        `json:"warnings" nullable:"false" doc:"What was taken although it breaks the rules for sections and facts"`
	Missing    []string        `json:"missing" nullable:"false" doc:"What an import that stopped early did not write, or may not have: ids of HostDB. All else is there"`
	Millis     int64           `json:"ms" doc:"Duration in milliseconds"`
}

// ImportTally counts what became of things.
type ImportTally struct {
	Created   int `json:"created"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged" doc:"There was nothing to write for them"`
}

// ImportProblem is one thing wrong with one place of the input.
type ImportProblem struct {
	File  string `json:"file" doc:"Path below the imported directory"`
	Line  int    `json:"line,omitempty" doc:"1 = the first; 0 = the file as a whole"`
	Text  string `json:"text" doc:"What is wrong"`
	Fatal bool   `json:"fatal,omitempty" doc:"True when it stops the import, or is left out of one that keeps going; the others are warnings"`
}

// ImportReportOf is the wire form of what layout reports; err is the error that came with it.
func ImportReportOf(r layout.Report, err error) ImportReport {
	out := ImportReport{
		Complete:   err == nil,
		Namespaces: r.Namespaces,
		Keys:       ImportTally(r.Keys),
		Members:    ImportTally(r.Members),
		Perms:      ImportTally(r.Perms),
		LeftAlone:  r.LeftAlone,
		Operations: r.Operations,
		Acks:       r.Acks,
		Version:    r.Version.String(),
		Warnings:   r.Warnings,
		Missing:    r.Missing,
	}
	out.SetProblems(r.Problems)
	return out
}

// SetProblems puts the problems of a directory into the report.
func (r *ImportReport) SetProblems(p layout.Problems) {
	r.Problems = make([]ImportProblem, 0, len(p.List))
	for _, x := range p.List {
		r.Problems = append(r.Problems, ImportProblem{File: x.File, Line: x.Line, Text: x.Message, Fatal: x.Fatal})
	}
	r.More = p.Total - len(p.List)
}

// ImportRecord is one line of the answer to an import: progress, or, last, the report. The error stands beside the
// report when the import did not reach its end.
type ImportRecord struct {
	Progress *ImportProgress  `json:"progress,omitempty"`
	Report   *ImportReport    `json:"report,omitempty"`
	Error    *huma.ErrorModel `json:"error,omitempty"`
}

const (
	tarType    = "application/x-tar"
	ndjsonType = "application/x-ndjson"

	// importIdle ends an import whose client neither sends nor reads.
	importIdle = time.Minute
	// importBuffer is how much of a body is read at once.
	importBuffer = 256 << 10
	// progressEvery is the least time between two progress records.
	progressEvery = 200 * time.Millisecond
)

func registerImport(a huma.API, im Importer, maxBytes int64) {
	type input struct {
		ContentType string `header:"Content-Type" required:"true" doc:"application/x-tar"`
		Log         string `query:"log" required:"true" maxLength:"4096" doc:"Why, for those who read the history"`
		KeepGoing   bool   `query:"keep_going" doc:"Leave out the keys that have problems and take the rest"`
		DryRun      bool   `query:"dry_run" doc:"Read and check everything, write nothing"`
	}
	record := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ImportRecord](), true, "")
	huma.Register(a, huma.Operation{
		OperationID: "import", Method: http.MethodPost, Path: "/api/v1/import",
		Summary: "Take an inventory into the host database", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "The body is a tar of Flipkart's directory layout: NAMESPACE/KEY, NAMESPACE/.members/KEY, NAMESPACE/.perms/KEY. " +
			"The answer is a line of JSON for each step, and a last one with the report. Because the answer begins before the import " +
			"ends, its status is 200 even if the import fails: the last line says so in error. An answer without a report broke off.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			tarType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		Responses: map[string]*huma.Response{"200": {
			Description: "Progress, and in the last line the report",
			Content:     map[string]*huma.MediaType{ndjsonType: {Schema: record}},
		}},
	}, func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
		if t, _, err := mime.ParseMediaType(in.ContentType); err != nil || t != tarType {
			return nil, problem(http.StatusUnsupportedMediaType, fmt.Sprintf("the body is %q; it must be %s", in.ContentType, tarType))
		}
		if strings.TrimSpace(in.Log) == "" {
			return nil, errNoLog()
		}
		opts := ImportOptions{Log: in.Log, KeepGoing: in.KeepGoing, DryRun: in.DryRun}
		who := identityOf(ctx)
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			serveImport(w, r, im, who, opts, maxBytes)
		}}, nil
	})
}

func serveImport(w http.ResponseWriter, r *http.Request, im Importer, who Identity, opts ImportOptions, maxBytes int64) {
	rc := http.NewResponseController(w)
	body := &idleReader{r: http.MaxBytesReader(w, r.Body, maxBytes), rc: rc}
	// Without full duplex the server reads the rest of the body before it sends a byte: then progress waits for its end.
	duplex := rc.EnableFullDuplex() == nil

	w.Header().Set("Content-Type", ndjsonType)
	if duplex {
		// From here on a client that hears no more knows that the import had begun.
		_ = rc.Flush()
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	send := func(rec ImportRecord) {
		// Errors of a deadline mean that the server has none; errors of sending mean that the client is gone, and then
		// the request's context ends the import.
		_ = rc.SetWriteDeadline(time.Now().Add(importIdle))
		_ = enc.Encode(rec)
		_ = rc.Flush()
	}
	var last time.Time
	start := time.Now()
	// A tar is read header by header; the connection, which gets a new deadline each time, is not.
	report, err := im.Import(r.Context(), who, bufio.NewReaderSize(body, importBuffer), opts, func(p ImportProgress) {
		if now := time.Now(); (duplex || body.ended) && now.Sub(last) >= progressEvery {
			last = now
			send(ImportRecord{Progress: &p})
		}
	})
	var bad *layout.BadInventoryError
	if report.Problems == nil && errors.As(err, &bad) {
		report.SetProblems(bad.Problems)
	}
	report.DryRun = opts.DryRun
	report.Millis = time.Since(start).Milliseconds()
	if report.Problems == nil {
		report.Problems = []ImportProblem{}
	}
	if report.Warnings == nil {
		report.Warnings = []string{}
	}
	if report.Missing == nil {
		report.Missing = []string{}
	}
	rec := ImportRecord{Report: &report}
	if err != nil {
		rec.Error = problemOf(err)
	}
	send(rec)
}

// idleReader gives each read of the body its own deadline, instead of one for the whole.
type idleReader struct {
	r     io.Reader
	rc    *http.ResponseController
	ended bool
}

func (b *idleReader) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(importIdle))
	n, err := b.r.Read(p)
	if err != nil {
		b.ended = true
		// The server watches the connection by reading on; a deadline there would end the import.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// ErrBrokeOff is returned when the answer to an import ended before its report: what was written is not known. Importing
// again is safe; it writes only what is missing.
var ErrBrokeOff = errors.New("the import broke off without a report")

// Import sends a tar and waits for the report; progress may be nil. An error beside a report comes from the importer,
// and the report then says what was written. The zero report comes with errors from before the import began, and with
// ErrBrokeOff.
func (c *Client) Import(ctx context.Context, tar io.Reader, opts ImportOptions, progress func(ImportProgress)) (ImportReport, error) {
	query := url.Values{"log": {opts.Log}}
	if opts.KeepGoing {
		query.Set("keep_going", "true")
	}
	if opts.DryRun {
		query.Set("dry_run", "true")
	}
	resp, err := c.do(ctx, http.MethodPost, "/api/v1/import", query, tarType, tar)
	if err != nil {
		return ImportReport{}, err
	}
	defer resp.Body.Close()
	return readReport[ImportReport](resp.Body, progress)
}

// readReport reads the records of an import's answer up to its report. Those of all imports have one form.
func readReport[R any](answer io.Reader, progress func(ImportProgress)) (R, error) {
	dec := json.NewDecoder(answer)
	for {
		var rec struct {
			Progress *ImportProgress
			Report   *R
			Error    *huma.ErrorModel
		}
		if err := dec.Decode(&rec); err != nil {
			var none R
			return none, fmt.Errorf("%w: %w", ErrBrokeOff, err)
		}
		if rec.Progress != nil && progress != nil {
			progress(*rec.Progress)
		}
		switch {
		case rec.Report == nil:
		case rec.Error != nil:
			return *rec.Report, &Error{Status: rec.Error.Status, Message: problemText(rec.Error)}
		default:
			return *rec.Report, nil
		}
	}
}
