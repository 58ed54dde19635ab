package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// ExportedOperation is one line of what GET /api/v1/db/unreplicated gives: an operation, or the end.
type ExportedOperation struct {
	Revision string    `json:"revision,omitempty"`
	User     string    `json:"user,omitempty"`
	Log      string    `json:"log,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Raw      []byte    `json:"raw,omitempty"` // the operation's bytes, in base64

	End   bool `json:"end,omitempty"` // in the last line: all that comes before it is whole
	Count int  `json:"count,omitempty"`
}

func registerUnreplicated(a huma.API, k Keeper) {
	huma.Register(a, huma.Operation{
		OperationID: "export-unreplicated", Method: http.MethodGet, Path: "/api/v1/db/unreplicated",
		Summary: "Operations that no other member is known to hold", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "Only an administrator may. A line of JSON for each operation, and a last one with end: what ends without is not whole.",
		Responses: map[string]*huma.Response{"200": {Description: "The operations", Content: map[string]*huma.MediaType{
			ndjsonType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
	}, func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
		if err := onlyAdmin(ctx, "export operations"); err != nil {
			return nil, err
		}
		return streamed(ndjsonType, k.WriteUnreplicated), nil
	})
}

// ExportUnreplicated is a stream with the operations that no other member is known to hold. The caller closes it. It takes an administrator.
func (c *Client) ExportUnreplicated(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, "/api/v1/db/unreplicated", "", "")
}
