package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb/section"
)

// SchemasBody is the answer of GET /api/v1/schema.
type SchemasBody struct {
	Sections []section.Description `json:"sections" nullable:"false" doc:"The facts of a host (Host), what a tag is (Tag), and the sections of a tag"`
}

// registerSchema needs no interface: the schema is part of what the agent was built from.
func registerSchema(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "list-sections", Method: http.MethodGet, Path: "/api/v1/schema",
		Summary: "Sections of tags and facts of hosts", Tags: []string{"hostdb"},
		Description: "What this agent understands. An agent of another version may understand more or less.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[SchemasBody], error) {
		return &bodyOf[SchemasBody]{Body: SchemasBody{Sections: section.Schema()}}, nil
	})
}

// Sections asks a node which sections of tags and facts of hosts it understands.
func (c *Client) Sections(ctx context.Context) ([]section.Description, error) {
	var out SchemasBody
	err := c.getJSON(ctx, "/api/v1/schema", &out)
	return out.Sections, err
}
