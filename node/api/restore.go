package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

// ErrChangedSince is returned by a Restorer when what it would write over was changed after the revision that the caller
// had seen.
var ErrChangedSince = errors.New("changed since")

// Restorer takes back what was written. Permission is that of writing the same by hand. Errors wrap hostdb's sentinels.
type Restorer interface {
	// Rollback makes a key, or a part of one, what it was.
	Rollback(ctx context.Context, who Identity, req Rollback) (Restored, error)
	// Undo takes back what one revision did, in all keys it touched.
	Undo(ctx context.Context, who Identity, req Undo) (Restored, error)
}

// Rollback asks to make something what it was.
type Rollback struct {
	ID               string `json:"id" maxLength:"4096" doc:"NAMESPACE/KEY for all of a key, NAMESPACE/KEY/members, NAMESPACE/KEY/perms, or NAMESPACE/KEY/PATH for a value inside the data" example:"tags/web/members"`
	To               string `json:"to" maxLength:"64" doc:"The revision or time whose state comes back"`
	Log              string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	DryRun           bool   `json:"dry_run,omitempty" doc:"Make all checks, tell what would change, and write nothing"`
	Override         string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of a host is lifted"`
	IfUnchangedSince string `json:"if_unchanged_since,omitempty" maxLength:"64" doc:"A revision: refuse when what is rolled back was changed after it"`

	Scope hostdb.Scope `json:"-"` // what ID names; the handler sets it
}

// Undo asks to take back one revision.
type Undo struct {
	Revision string `json:"revision" maxLength:"64" doc:"The revision to take back"`
	Log      string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	Force    bool   `json:"force,omitempty" doc:"Take back too what others have written over since"`
	DryRun   bool   `json:"dry_run,omitempty" doc:"Make all checks, tell what would change, and write nothing"`
	Override string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of a host is lifted"`
}

// Restored tells what a Rollback or Undo did, or would do.
type Restored struct {
	Revision string           `json:"revision,omitempty" doc:"The new revision; absent when nothing changed, and in a dry run"`
	Acks     int              `json:"acks,omitempty" doc:"Boxes that hold it durably, the answering one included; absent when nothing was written"`
	Warnings []string         `json:"warnings" nullable:"false" doc:"What a person should know"`
	Changes  []RevisionChange `json:"changes" nullable:"false" doc:"What was changed, with old and new values"`
	Omitted  int              `json:"omitted,omitempty" doc:"Number of changes beyond those told"`
}

func registerRestore(a huma.API, r Restorer) {
	type answer struct{ Body Restored }
	reply := func(out Restored, err error) (*answer, error) {
		if err != nil {
			return nil, historyProblem(err)
		}
		if out.Warnings == nil {
			out.Warnings = []string{}
		}
		if out.Changes == nil {
			out.Changes = []RevisionChange{}
		}
		return &answer{Body: out}, nil
	}
	huma.Register(a, huma.Operation{
		OperationID: "rollback", Method: http.MethodPost, Path: "/api/v1/rollback",
		Summary: "Make a key what it was", Tags: []string{"history"}, Security: writeSecurity,
		Description: "All of a key, its members, its access list, or a value inside its data. It is a write like any other: with a revision of its own, " +
			"and by the same permission. Members that do not exist any more are left out, with a warning. 412 when if_unchanged_since does not hold.",
	}, func(ctx context.Context, in *struct{ Body Rollback }) (*answer, error) {
		sc, err := keyScope(in.Body.ID)
		switch {
		case err != nil:
			return nil, err
		case strings.TrimSpace(in.Body.Log) == "":
			return nil, errNoLog()
		case strings.TrimSpace(in.Body.To) == "":
			return nil, problem(http.StatusBadRequest, "to is empty: name the revision or the time to go back to")
		}
		in.Body.Scope = sc
		return reply(r.Rollback(ctx, identityOf(ctx), in.Body))
	})
	huma.Register(a, huma.Operation{
		OperationID: "undo", Method: http.MethodPost, Path: "/api/v1/undo",
		Summary: "Take back one revision", Tags: []string{"history"}, Security: writeSecurity,
		Description: "Takes back what one revision did, in all keys it touched, in one new revision, and leaves what came after. " +
			"409 when others have written over it since: errors names the places.",
	}, func(ctx context.Context, in *struct{ Body Undo }) (*answer, error) {
		if strings.TrimSpace(in.Body.Log) == "" {
			return nil, errNoLog()
		}
		return reply(r.Undo(ctx, identityOf(ctx), in.Body))
	})
}

func asWrittenOver(err error) (*hostdb.WrittenOver, bool) {
	var over *hostdb.WrittenOver
	return over, errors.As(err, &over)
}

// Rollback makes a key, or a part of one, what it was.
func (c *Client) Rollback(ctx context.Context, req Rollback) (Restored, error) {
	var out Restored
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/rollback", req, &out)
	return out, err
}

// Undo takes back one revision. An Error with status 409 says that others have written over it since.
func (c *Client) Undo(ctx context.Context, req Undo) (Restored, error) {
	var out Restored
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/undo", req, &out)
	return out, err
}

// writeJSON sends a body and reads the answer.
func (c *Client) writeJSON(ctx context.Context, method, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	body, _, err := c.roundTrip(ctx, method, path, nil, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return c.decode(body, out)
}
