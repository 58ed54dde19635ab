package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Schemas describes the sections of tags and the facts of hosts.
type Schemas interface {
	// Schemas are sorted by kind, then name.
	Schemas() []Schema
}

// Kinds of a Schema.
const (
	KindTagSection = "tag"  // acts on the members of the tag it stands in
	KindHostFact   = "host" // says what is so about one host
)

// Schema describes one section of a tag or fact of a host.
type Schema struct {
	Name    string  `json:"name" doc:"The key in the document"`
	Kind    string  `json:"kind" enum:"tag,host" doc:"Where it belongs: the document of a tag or of a host"`
	Doc     string  `json:"doc" doc:"What it is for"`
	Fields  []Field `json:"fields" nullable:"false"`
	Example string  `json:"example,omitempty" doc:"YAML"`
}

// Field describes one field of a section.
type Field struct {
	Path    string `json:"path" doc:"From the section down, with slashes; <name> stands for any key"`
	Type    string `json:"type" doc:"What may stand there, in words"`
	Default string `json:"default,omitempty" doc:"What holds when it is absent"`
	Doc     string `json:"doc,omitempty" doc:"What it means"`
}

// SchemasBody is the answer of GET /api/v1/schema.
type SchemasBody struct {
	Schemas []Schema `json:"schemas" nullable:"false"`
}

func registerSchema(a huma.API, s Schemas) {
	huma.Register(a, huma.Operation{
		OperationID: "list-schemas", Method: http.MethodGet, Path: "/api/v1/schema",
		Summary: "Sections of tags and facts of hosts", Tags: []string{"hostdb"},
		Description: "What this agent understands. An agent of another version may understand more or less.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[SchemasBody], error) {
		list := s.Schemas()
		if list == nil {
			list = []Schema{}
		}
		return &bodyOf[SchemasBody]{Body: SchemasBody{Schemas: list}}, nil
	})
}

// Schemas asks a node which sections it understands.
func (c *Client) Schemas(ctx context.Context) ([]Schema, error) {
	var out SchemasBody
	err := c.getJSON(ctx, "/api/v1/schema", &out)
	return out.Schemas, err
}
