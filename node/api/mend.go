package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Mender is for replicas that a person must help: forks, and operations stamped by a clock that ran ahead.
type Mender interface {
	// Forks are the operations that are kept aside because they do not continue the chain that this node holds.
	Forks(ctx context.Context) ([]Fork, error)
	// Restamp takes this node's operations that nobody else holds and whose stamps are ahead of its clock, all that nobody else holds
	// with all, and makes them anew under the clock as it is now. Errors wrap hostdb's sentinels.
	Restamp(ctx context.Context, all bool) (Restamped, error)
}

// Fork is an operation that is kept aside.
type Fork struct {
	Origin   string           `json:"origin" doc:"The run under which it was written"`
	Seq      uint64           `json:"seq" doc:"Its number there, which another operation has here"`
	Node     string           `json:"node,omitempty" doc:"Whose run it is"`
	Revision string           `json:"revision"`
	Ours     string           `json:"ours,omitempty" doc:"The revision that has its number here; absent when history does not hold it"`
	User     string           `json:"user,omitempty"`
	Log      string           `json:"log,omitempty"`
	Seen     time.Time        `json:"seen" doc:"When it came to this node"`
	Changes  []RevisionChange `json:"changes" nullable:"false" doc:"What it would have done"`
	Omitted  int              `json:"omitted,omitempty" doc:"Changes that are not listed"`
}

// ForkList is the answer of GET /api/v1/forks.
type ForkList struct {
	Forks []Fork `json:"forks" nullable:"false" doc:"By run and number"`
}

// RestampBody is what POST /api/v1/restamp is sent.
type RestampBody struct {
	All bool `json:"all,omitempty" doc:"Also take operations that are not stamped ahead of the clock"`
}

// Restamped tells what a restamp did.
type Restamped struct {
	Moved []RestampedRevision `json:"moved" nullable:"false" doc:"Operations that were made anew, in order"`
	Left  []RestampedLeft     `json:"left" nullable:"false" doc:"What was left out, because others wrote there meanwhile"`
}

// RestampedRevision is an operation that was made anew.
type RestampedRevision struct {
	Old  string `json:"old"`
	New  string `json:"new,omitempty" doc:"Absent when nothing of it was kept"`
	User string `json:"user,omitempty"`
	Log  string `json:"log,omitempty"`
}

// RestampedLeft is a change that was left out.
type RestampedLeft struct {
	Revision string         `json:"revision" doc:"Of the operation that was taken out"`
	Change   RevisionChange `json:"change"`
	Why      string         `json:"why"`
}

func registerMend(a huma.API, m Mender) {
	huma.Register(a, huma.Operation{
		OperationID: "list-forks", Method: http.MethodGet, Path: "/api/v1/forks",
		Summary: "Operations that are kept aside", Tags: []string{"history"}, Security: writeSecurity,
		Description: "Two boxes that write under one identity, as a machine does that was copied while it ran, make two chains of operations. " +
			"A replica keeps the one that it heard of first; what it hears of the other is kept aside, and not merged. Administrators only.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[ForkList], error) {
		if who := identityOf(ctx); !who.Admin {
			return nil, problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may look at what is kept aside", who.User))
		}
		list, err := m.Forks(ctx)
		if err != nil {
			return nil, problemOf(err)
		}
		if list == nil {
			list = []Fork{}
		}
		return &bodyOf[ForkList]{Body: ForkList{list}}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "restamp", Method: http.MethodPost, Path: "/api/v1/restamp",
		Summary: "Write this node's waiting operations anew", Tags: []string{"history"}, Security: writeSecurity,
		Description: "For a box whose clock ran ahead while it was cut off: the others hold its operations aside until their clocks have passed the stamps. " +
			"Once its clock is right, this takes the operations that nobody else holds out of its replica and writes each again. " +
			"What others wrote meanwhile stands; what is left out is told, and kept. Administrators only.",
	}, func(ctx context.Context, in *struct{ Body RestampBody }) (*bodyOf[Restamped], error) {
		if who := identityOf(ctx); !who.Admin {
			return nil, problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may restamp", who.User))
		}
		out, err := m.Restamp(ctx, in.Body.All)
		if err != nil {
			return nil, problemOf(err)
		}
		if out.Moved == nil {
			out.Moved = []RestampedRevision{}
		}
		if out.Left == nil {
			out.Left = []RestampedLeft{}
		}
		return &bodyOf[Restamped]{Body: out}, nil
	})
}

// Forks asks for the operations that a node keeps aside.
func (c *Client) Forks(ctx context.Context) ([]Fork, error) {
	var out ForkList
	err := c.getJSON(ctx, "/api/v1/forks", &out)
	return out.Forks, err
}

// Restamp makes a node write its waiting operations anew.
func (c *Client) Restamp(ctx context.Context, all bool) (Restamped, error) {
	var out Restamped
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/restamp", RestampBody{All: all}, &out)
	return out, err
}
