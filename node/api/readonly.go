package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// ReadOnlySwitch switches the mesh's read-only mode.
type ReadOnlySwitch interface {
	// ReadOnly is the present state of the replica.
	ReadOnly() ReadOnly
	// SetReadOnly switches it. Switching to what it is changes nothing, but for another reason. The caller has checked
	// that who is an administrator. Errors wrap hostdb's sentinels.
	SetReadOnly(ctx context.Context, who Identity, on bool, reason string) (ReadOnly, error)
}

// ReadOnly is the mesh's read-only mode, as the answering node knows it.
type ReadOnly struct {
	On     bool       `json:"on" doc:"True while writes are refused"`
	Reason string     `json:"reason,omitempty" doc:"What whoever switched it on said"`
	Since  *time.Time `json:"since,omitempty" doc:"When it was switched; absent when it never was"`
}

// SetReadOnlyBody is what PUT /api/v1/read-only is sent.
type SetReadOnlyBody struct {
	On     bool   `json:"on"`
	Reason string `json:"reason,omitempty" maxLength:"1024" doc:"Shown to everybody whose write is refused; needed to switch it on"`
}

func registerReadOnly(a huma.API, s ReadOnlySwitch) {
	huma.Register(a, huma.Operation{
		OperationID: "get-read-only", Method: http.MethodGet, Path: "/api/v1/read-only",
		Summary: "Whether writes are refused", Tags: []string{"hostdb"},
		Description: "Read-only mode is of the whole mesh; each node follows it from when it hears of it.",
	}, func(context.Context, *struct{}) (*bodyOf[ReadOnly], error) {
		return &bodyOf[ReadOnly]{Body: s.ReadOnly()}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "set-read-only", Method: http.MethodPut, Path: "/api/v1/read-only",
		Summary: "Switch read-only mode", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "Only an administrator may. While it is on, every write and login is refused on every node that has heard of it; " +
			"reads go on, and sessions live through it.",
	}, func(ctx context.Context, in *struct{ Body SetReadOnlyBody }) (*bodyOf[ReadOnly], error) {
		who, reason := identityOf(ctx), strings.TrimSpace(in.Body.Reason)
		switch {
		case !who.Admin:
			return nil, problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may switch read-only mode", who.User))
		case in.Body.On && reason == "":
			return nil, problem(http.StatusBadRequest, "reason is blank: say why, it is what everybody whose write is refused gets to read")
		}
		out, err := s.SetReadOnly(ctx, who, in.Body.On, reason)
		if err != nil {
			return nil, problemOf(err)
		}
		return &bodyOf[ReadOnly]{Body: out}, nil
	})
}

// ReadOnly asks whether the mesh is in read-only mode.
func (c *Client) ReadOnly(ctx context.Context) (ReadOnly, error) {
	var out ReadOnly
	err := c.getJSON(ctx, "/api/v1/read-only", &out)
	return out, err
}

// SetReadOnly switches the mesh's read-only mode. To switch it on, reason must say why.
func (c *Client) SetReadOnly(ctx context.Context, on bool, reason string) (ReadOnly, error) {
	var out ReadOnly
	err := c.writeJSON(ctx, http.MethodPut, "/api/v1/read-only", SetReadOnlyBody{On: on, Reason: reason}, &out)
	return out, err
}
