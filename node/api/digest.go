package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Digester tells what this node's replica holds, in a form that can be compared.
type Digester interface {
	// Digests is of one view: all its parts belong together.
	Digests() Digests
}

// Digests are the digests of a replica's namespaces. Two replicas with equal versions and equal algorithms have equal
// digests; with other versions the comparison says nothing.
type Digests struct {
	Version    string            `json:"version" doc:"Names the state: equal versions hold the same operations"`
	Algorithm  int               `json:"algorithm" doc:"How the digests are made; only digests of one algorithm can be compared"`
	Namespaces map[string]string `json:"namespaces" doc:"Namespace to digest, in hexadecimal"`
}

func registerDigest(a huma.API, d Digester) {
	huma.Register(a, huma.Operation{
		OperationID: "get-digest", Method: http.MethodGet, Path: "/api/v1/digest",
		Summary: "Digests of the replica", Tags: []string{"hostdb"},
		Description: "One digest for each namespace, with the version they are of. Equal versions must have equal digests on every node.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[Digests], error) {
		return &bodyOf[Digests]{Body: d.Digests()}, nil
	})
}

// Digest asks a node for the digests of its replica.
func (c *Client) Digest(ctx context.Context) (Digests, error) {
	var out Digests
	err := c.getJSON(ctx, "/api/v1/digest", &out)
	return out, err
}
