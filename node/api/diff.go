package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

// DiffQuery asks how two states differ.
type DiffQuery struct {
	Scope hostdb.Scope
	From  string // a revision or time; "" = before the last change of the scope, up to To
	To    string // a revision or time; "" = now, or after the last change when From is empty too
	Limit int    // at most so many keys
	After string // only keys after this one, NAMESPACE/KEY; "" for the first
}

// Diff is how two states differ, key by key.
type Diff struct {
	From    DiffSide  `json:"from"`
	To      DiffSide  `json:"to"`
	Keys    []KeyDiff `json:"keys" nullable:"false" doc:"The keys that differ, sorted"`
	More    bool      `json:"more" doc:"True when more keys may differ"`
	Next    string    `json:"next,omitempty" doc:"What to give as after for the next page; absent on the last"`
	Settled *bool     `json:"settled,omitempty" doc:"False when writes of before one of the two moments may still arrive; absent when it is not known"`
}

// DiffSide is one of the two states of a Diff.
type DiffSide struct {
	Revision string     `json:"revision,omitempty" doc:"The newest revision that the state may hold; absent for the present and for the empty state"`
	Time     *time.Time `json:"time,omitempty" doc:"The moment of the state; absent likewise"`
}

// KeyDiff is how one key differs.
type KeyDiff struct {
	ID   string `json:"id" doc:"NAMESPACE/KEY"`
	Kind string `json:"kind" enum:"create,delete,rename,set"`
	From string `json:"from,omitempty" doc:"Of a rename: the former id"`
	Diff string `json:"diff" doc:"Unified differences of the data in YAML, the member list as it was written, and the access list"`
}

func registerDiff(a huma.API, h History) {
	type input struct {
		ID    string `query:"id" maxLength:"4096" doc:"NAMESPACE, NAMESPACE/KEY or a part of a key; empty = everything" example:"hosts/web1.dc1.example.com"`
		From  string `query:"from" maxLength:"64" doc:"A revision or time; empty = before the last change"`
		To    string `query:"to" maxLength:"64" doc:"A revision or time; empty = now, or, when from is empty too, after the last change"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many keys"`
		After string `query:"after" maxLength:"1024" doc:"Only keys after this one. For the next page, give next of the one before"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "diff", Method: http.MethodGet, Path: "/api/v1/diff",
		Summary: "How two states differ", Tags: []string{"history"},
		Description: "Of one key, a part of one, a namespace or everything. A state is named by a revision, which it includes, or by a time.",
	}, func(ctx context.Context, in *input) (*bodyOf[Diff], error) {
		sc, err := ParseScope(in.ID)
		if err != nil {
			return nil, historyProblem(err)
		}
		out, err := h.Diff(ctx, DiffQuery{Scope: sc, From: in.From, To: in.To, Limit: in.Limit, After: in.After})
		if err != nil {
			return nil, historyProblem(err)
		}
		if out.Keys == nil {
			out.Keys = []KeyDiff{}
		}
		return &bodyOf[Diff]{Body: out}, nil
	})
}

// Diff asks how two states differ. id is what ParseScope reads; q.Scope is not looked at.
func (c *Client) Diff(ctx context.Context, id string, q DiffQuery) (Diff, error) {
	query := url.Values{"id": {id}}
	setUnlessEmpty(query, "from", q.From)
	setUnlessEmpty(query, "to", q.To)
	setUnlessEmpty(query, "after", q.After)
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	var out Diff
	err := c.queryJSON(ctx, "/api/v1/diff", query, &out)
	return out, err
}
