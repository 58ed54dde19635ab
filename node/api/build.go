package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Build says what an executable was made from.
type Build struct {
	Version  string `json:"version" doc:"Release, or devel"`
	Revision string `json:"revision,omitempty" doc:"Commit it was built from, with + when the tree was changed"`
	Time     string `json:"time,omitempty" doc:"Time of that commit, RFC 3339"`
	Go       string `json:"go" doc:"Go release it was built with"`
	Libvirt  bool   `json:"libvirt" doc:"True when it can run virtual machines"`
}

func registerBuild(a huma.API, b Build) {
	huma.Register(a, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/api/v1/version",
		Summary: "What the agent was built from", Tags: []string{"node"},
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[Build], error) {
		return &bodyOf[Build]{Body: b}, nil
	})
}

// Version asks a node what it was built from.
func (c *Client) Version(ctx context.Context) (Build, error) {
	var out Build
	err := c.getJSON(ctx, "/api/v1/version", &out)
	return out, err
}
