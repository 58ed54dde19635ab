package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Namespaces makes namespaces.
type Namespaces interface {
	// CreateNamespace makes one; making it again changes nothing, and created is false. The caller has checked that
	// who is an administrator. Errors wrap hostdb's sentinels.
	CreateNamespace(ctx context.Context, who Identity, name, log string) (created bool, err error)
}

// NamespaceBody is the answer of POST /api/v1/namespaces/{ns}.
type NamespaceBody struct {
	Name    string `json:"name"`
	Created bool   `json:"created" doc:"False when it existed already"`
}

// errNoLog is the answer to a write that does not say why.
func errNoLog() error {
	return problem(http.StatusBadRequest, "log is blank: say why, for those who read the history")
}

func registerNamespaces(a huma.API, n Namespaces) {
	type input struct {
		NS  string `path:"ns" maxLength:"253" doc:"Name of the namespace" example:"vips"`
		Log string `query:"log" required:"true" maxLength:"4096" doc:"Why, for those who read the history"`
	}
	type output struct {
		Status int
		Body   NamespaceBody
	}
	huma.Register(a, huma.Operation{
		OperationID: "create-namespace", Method: http.MethodPost, Path: "/api/v1/namespaces/{ns}",
		Summary: "Make a namespace", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description:   "Only an administrator may. 201 when it was made, 200 when it existed already.",
		DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, in *input) (*output, error) {
		who := identityOf(ctx)
		switch {
		case strings.TrimSpace(in.Log) == "":
			return nil, errNoLog()
		case !who.Admin:
			return nil, problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may make a namespace", who.User))
		}
		created, err := n.CreateNamespace(ctx, who, in.NS, in.Log)
		if err != nil {
			return nil, problemOf(fmt.Errorf("namespace %q: %w", in.NS, err))
		}
		out := output{Status: http.StatusCreated, Body: NamespaceBody{Name: in.NS, Created: created}}
		if !created {
			out.Status = http.StatusOK
		}
		return &out, nil
	})
}

// CreateNamespace makes a namespace. created is false when it existed already.
func (c *Client) CreateNamespace(ctx context.Context, name, log string) (created bool, err error) {
	var out NamespaceBody
	err = c.postJSON(ctx, "/api/v1/namespaces/"+url.PathEscape(name), url.Values{"log": {log}}, &out)
	return out.Created, err
}
