package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/query"
)

// Headers of the answer to a query.
const (
	HeaderMatched = "Hostmesh-Matched" // how many keys the expression holds for, whatever the limit
	HeaderMore    = "Hostmesh-More"    // true when rows are missing because of the limit
)

const (
	// queryTime bounds one query. Ten thousand hosts take some milliseconds.
	queryTime = 10 * time.Second
	// queriesAtOnce bounds how many run: they must leave processors to DNS.
	queriesAtOnce = 4
)

// Views gives the replica that queries read.
type Views interface {
	// View is the replica as it is now.
	View() hostdb.View
}

// Query is what is asked of GET /api/v1/query. The zero value asks for all hosts.
type Query struct {
	Where  string // expression; empty = all
	Select string // columns; empty = the usual ones
	As     string // table, csv, json or yaml; empty = json
	In     string // namespace; empty = hosts
	Sort   string // column, - before it for the highest first; empty = name
	After  string // names up to this one are left out
	Limit  int    // rows; 0 = query.DefaultLimit
	Count  bool   // answer only how many there are
}

// Found is the answer to a Query.
type Found struct {
	Body     []byte   // in the form that was asked for
	Matched  int      // how many keys the expression holds for
	More     bool     // whether rows are missing because of the limit
	Warnings []string // what may have made the answer other than it was meant
}

func registerQuery(a huma.API, v Views) {
	type input struct {
		Where  string `query:"where" doc:"Expression; see docs/query.md. Empty: everything" example:"bytes(VM.Memory) >= size(\"24GB\") and \"shipping-search\" in tags"`
		Select string `query:"select" doc:"Columns divided by commas: paths, names, NAME=EXPRESSION" example:"name,Network.IP,mem=bytes(VM.Memory)"`
		As     string `query:"as" default:"json" doc:"Form of the answer: table, csv, json or yaml"`
		In     string `query:"in" default:"hosts" doc:"Namespace: hosts, tags or another"`
		Sort   string `query:"sort" doc:"Column to sort by, with - before it for the highest first. Empty: the name"`
		After  string `query:"after" doc:"Leave out all names up to this one, for the next page"`
		Limit  int    `query:"limit" doc:"Most rows of the answer. 0: 1000"`
		Count  bool   `query:"count" doc:"Answer only how many there are"`
	}
	type output struct {
		ContentType string   `header:"Content-Type"`
		Length      int      `header:"Content-Length"`
		Matched     int      `header:"Hostmesh-Matched" doc:"How many there are, whatever the limit"`
		More        string   `header:"Hostmesh-More" doc:"true when rows are missing because of the limit; ask again with after"`
		Warning     []string `header:"Hostmesh-Warning" doc:"What may have made the answer other than it was meant"`
		Body        []byte
	}
	content := map[string]*huma.MediaType{}
	for _, form := range query.Forms() {
		media, _ := query.MediaType(form)
		content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	content["application/json"].Schema = &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}
	running := make(chan struct{}, queriesAtOnce)
	huma.Register(a, huma.Operation{
		OperationID: "query", Method: http.MethodGet, Path: "/api/v1/query",
		Summary: "Find hosts, tags and keys by an expression", Tags: []string{"hostdb"},
		Description: "A bad expression is a 400 that names line and column in errors[].location.",
		Responses:   map[string]*huma.Response{"200": {Description: "One row for each that the expression holds for", Content: content}},
	}, func(ctx context.Context, in *input) (*output, error) {
		if err := query.CheckForm(in.As); err != nil {
			return nil, problem(http.StatusBadRequest, "as: "+err.Error())
		}
		q, err := query.Compile(in.Where, query.Options{In: in.In, Select: in.Select, Sort: in.Sort, After: in.After, Limit: in.Limit, CountOnly: in.Count})
		if err != nil {
			return nil, queryProblem(err)
		}
		ctx, cancel := context.WithTimeoutCause(ctx, queryTime, fmt.Errorf("one may take %s: ask for less, or for fewer hosts by a tag", queryTime))
		defer cancel()
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
		case <-ctx.Done():
			return nil, problem(http.StatusServiceUnavailable, fmt.Sprintf("%d other queries are running: try again later", queriesAtOnce))
		}
		result, err := q.Run(ctx, v.View())
		if err != nil {
			return nil, queryProblem(err)
		}
		var b bytes.Buffer
		if err := query.Write(&b, in.As, result); err != nil {
			return nil, problemOf(err)
		}
		media, _ := query.MediaType(in.As)
		return &output{ContentType: media, Length: b.Len(), Matched: result.Matched, More: strconv.FormatBool(result.More), Warning: result.Warnings, Body: b.Bytes()}, nil
	})
}

// queryProblem tells what is wrong with a query, and where.
func queryProblem(err error) *huma.ErrorModel {
	var e *query.Error
	switch {
	case errors.As(err, &e):
		p := problem(http.StatusBadRequest, "the query is not understood")
		p.Errors = []*huma.ErrorDetail{{Message: e.Error(), Location: "query." + e.Location(), Value: e.Caret()}}
		return p
	case errors.Is(err, query.ErrTooMuch):
		return problem(http.StatusBadRequest, err.Error())
	case errors.Is(err, query.ErrTooSlow):
		return problem(http.StatusServiceUnavailable, err.Error())
	}
	return problemOf(err)
}

// Query finds hosts, tags and keys by an expression. The answer comes in the form that was asked for.
func (c *Client) Query(ctx context.Context, q Query) (Found, error) {
	values := url.Values{}
	for name, value := range map[string]string{"where": q.Where, "select": q.Select, "as": q.As, "in": q.In, "sort": q.Sort, "after": q.After} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Count {
		values.Set("count", "true")
	}
	body, header, err := c.roundTrip(ctx, http.MethodGet, "/api/v1/query", values, "", nil)
	if err != nil {
		return Found{}, err
	}
	matched, _ := strconv.Atoi(header.Get(HeaderMatched)) // absent is 0: an agent that does not tell
	return Found{Body: body, Matched: matched, More: header.Get(HeaderMore) == "true", Warnings: header.Values(HeaderWarning)}, nil
}
