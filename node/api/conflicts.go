package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Conflicts lists writes that lost to others whose writers had not seen them.
type Conflicts interface {
	// Conflicts are those of a namespace, or of all but hostdb.System for "", by key, at most limit; more says that there
	// are others. It looks at every key. Errors wrap hostdb's sentinels.
	Conflicts(ctx context.Context, ns string, limit int) (list []Conflict, more bool, err error)
}

// Conflict is a write that lost to another whose writer had not seen it.
type Conflict struct {
	ID     string       `json:"id" doc:"NAMESPACE/KEY"`
	What   string       `json:"what,omitempty" enum:"data,members,perms" doc:"The part of the key; absent when the key was deleted as a whole while somebody changed it"`
	Path   string       `json:"path,omitempty" doc:"The value inside the data, or the member"`
	Winner ConflictSide `json:"winner"`
	Loser  ConflictSide `json:"loser"`
}

// Place is the id of what is in conflict, down to the value or member.
func (c Conflict) Place() string {
	return RevisionChange{ID: c.ID, What: c.What, Path: c.Path}.Place()
}

// ConflictSide is one of the two writes of a Conflict.
type ConflictSide struct {
	Revision string    `json:"revision"`
	User     string    `json:"user,omitempty"`
	Time     time.Time `json:"time"`
	Log      string    `json:"log,omitempty"`
	Value    *string   `json:"value,omitempty" doc:"What it wrote; absent when it removed what stood there, or when this node does not hold it any more"`
	Held     bool      `json:"held" doc:"False when this node does not hold the revision"`
	Also     []string  `json:"also,omitempty" doc:"Of the loser: other keys that the same revision wrote. They are as it wrote them, unless they are listed too"`
}

// ConflictList is the answer of GET /api/v1/conflicts.
type ConflictList struct {
	Conflicts []Conflict `json:"conflicts" nullable:"false" doc:"Sorted by key"`
	More      bool       `json:"more" doc:"True when there are others"`
}

func registerConflicts(a huma.API, l Conflicts) {
	type input struct {
		NS    string `query:"ns" maxLength:"253" doc:"Only of this namespace; empty = all"`
		Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"100" doc:"At most so many"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "list-conflicts", Method: http.MethodGet, Path: "/api/v1/conflicts",
		Summary: "Writes that lost to others", Tags: []string{"history"},
		Description: "Where two people wrote the same place without having seen each other's write, one of them won, on every node the same. " +
			"Both are listed until somebody writes that place again.",
	}, func(ctx context.Context, in *input) (*bodyOf[ConflictList], error) {
		if in.NS != "" {
			sc, err := ParseScope(in.NS)
			if err != nil {
				return nil, historyProblem(err)
			}
			if sc.Key != "" {
				return nil, problem(http.StatusBadRequest, "ns is the name of a namespace alone, such as "+sc.NS)
			}
			in.NS = sc.NS
		}
		list, more, err := l.Conflicts(ctx, in.NS, in.Limit)
		if err != nil {
			return nil, historyProblem(err)
		}
		if list == nil {
			list = []Conflict{}
		}
		return &bodyOf[ConflictList]{Body: ConflictList{Conflicts: list, More: more}}, nil
	})
}

// Conflicts asks for the conflicts of a namespace, or of all for "". limit 0 is the node's default.
func (c *Client) Conflicts(ctx context.Context, ns string, limit int) (ConflictList, error) {
	query := url.Values{}
	setUnlessEmpty(query, "ns", ns)
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var out ConflictList
	err := c.queryJSON(ctx, "/api/v1/conflicts", query, &out)
	return out, err
}
