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

// History tells what a replica remembers. What belongs to hostdb.System is never told. Errors wrap hostdb's sentinels.
type History interface {
	// Revisions are those that a query asks for, newest first.
	Revisions(ctx context.Context, q RevisionQuery) (RevisionList, error)
	// Revision is one revision with the old and new value of what it changed, at most limit changes.
	Revision(ctx context.Context, revision string, limit int) (Revision, error)
	// Diff compares two states.
	Diff(ctx context.Context, q DiffQuery) (Diff, error)
	// Blame tells who last wrote each line of a key's data, members or access list, in the state of a revision or time;
	// "" is now.
	Blame(ctx context.Context, sc hostdb.Scope, at string) (Blame, error)
}

// RevisionQuery asks for revisions.
type RevisionQuery struct {
	Scope  hostdb.Scope
	Before string // a revision: only older ones; "" for the newest
	User   string // only this one's; "" for all
	Since  string // a time, or how long ago; "" for the beginning
	Until  string // likewise; "" for now
	Limit  int    // at most so many
}

// Revision is one accepted write, as people read it.
type Revision struct {
	ID      string           `json:"id" doc:"The same on every node"`
	User    string           `json:"user" doc:"Who wrote it"`
	Time    time.Time        `json:"time" doc:"When it was written; for what was brought from elsewhere, when it was written there"`
	Log     string           `json:"log" doc:"Why, in the writer's words"`
	Node    string           `json:"node,omitempty" doc:"Id of the node that accepted it"`
	Source  *RevisionSource  `json:"source,omitempty" doc:"Where it was first made, if not here"`
	Changes []RevisionChange `json:"changes" nullable:"false" doc:"What it did, in the order of keys"`
	Omitted int              `json:"omitted,omitempty" doc:"Number of changes beyond those told"`
}

// RevisionSource is where a revision was first made.
type RevisionSource struct {
	Ref   string `json:"ref,omitempty" doc:"Its name there: the id of a Git commit"`
	Email string `json:"email,omitempty" doc:"Of its author"`
}

// Kinds of a RevisionChange.
const (
	ChangeCreate = "create" // of a key or a namespace
	ChangeDelete = "delete" // of a key
	ChangeRename = "rename" // of a key; From is its former name
	ChangeSet    = "set"    // of a value, a member or an access list
	ChangeRemove = "remove" // likewise
)

// RevisionChange is one thing that a revision did. Old and New are told of one revision, not in lists of them.
type RevisionChange struct {
	ID   string  `json:"id" doc:"What was written: NAMESPACE/KEY"`
	What string  `json:"what,omitempty" enum:"data,members,perms" doc:"The part of the key; absent for the key as a whole"`
	Path string  `json:"path,omitempty" doc:"The value inside the data, or the member"`
	Kind string  `json:"kind" enum:"create,delete,rename,set,remove"`
	From string  `json:"from,omitempty" doc:"Of a rename: the former id"`
	Old  *string `json:"old,omitempty" doc:"What stood there before; absent when nothing did"`
	New  *string `json:"new,omitempty" doc:"What stands there after; absent when nothing does"`
}

// Place is the id of what was written, down to the value or member.
func (c RevisionChange) Place() string {
	id := c.ID
	if c.What == string(hostdb.Members) || c.What == string(hostdb.Perms) {
		id += "/" + c.What
	}
	if c.Path != "" {
		id += "/" + c.Path
	}
	return id
}

// RevisionList is the answer of GET /api/v1/revisions.
type RevisionList struct {
	Revisions []Revision `json:"revisions" nullable:"false" doc:"Newest first"`
	More      bool       `json:"more" doc:"True when there may be older ones"`
	Next      string     `json:"next,omitempty" doc:"What to give as before for the next page; absent on the last"`
}

// Blame is the answer of GET /api/v1/blame.
type Blame struct {
	ID      string      `json:"id"`
	Lines   []BlameLine `json:"lines" nullable:"false"`
	Settled *bool       `json:"settled,omitempty" doc:"False when writes of before that moment may still arrive; absent for the present, or when it is not known"`
}

// BlameLine is a line of a text and who last wrote it.
type BlameLine struct {
	Revision string    `json:"revision"`
	User     string    `json:"user"`
	Time     time.Time `json:"time"`
	Text     string    `json:"text" doc:"The line, without newline"`
}

func registerHistory(a huma.API, h History) {
	type listInput struct {
		ID     string `query:"id" maxLength:"4096" doc:"Only what wrote this: NAMESPACE, NAMESPACE/KEY, or a part of a key. The history of a key follows its renames. Empty = everything" example:"hosts/web1.dc1.example.com/Network"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"At most so many"`
		Before string `query:"before" maxLength:"64" doc:"A revision: only older ones. For the next page, give next of the one before"`
		User   string `query:"user" maxLength:"512" doc:"Only those of this user"`
		Since  string `query:"since" maxLength:"64" doc:"Only those from this time on: 2026-01-31, \"2026-01-31 12:00:05\" (UTC), RFC 3339, or how long ago, as 90m"`
		Until  string `query:"until" maxLength:"64" doc:"Only those up to this time, in the same forms"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "list-revisions", Method: http.MethodGet, Path: "/api/v1/revisions",
		Summary: "Who wrote what, when and why", Tags: []string{"history"},
		Description: "Revisions, newest first, without the values they wrote. A revision is the same on every node, but a node can only tell of those that it holds.",
	}, func(ctx context.Context, in *listInput) (*bodyOf[RevisionList], error) {
		sc, err := ParseScope(in.ID)
		if err != nil {
			return nil, historyProblem(err)
		}
		out, err := h.Revisions(ctx, RevisionQuery{Scope: sc, Before: in.Before, User: in.User, Since: in.Since, Until: in.Until, Limit: in.Limit})
		if err != nil {
			return nil, historyProblem(err)
		}
		if out.Revisions == nil {
			out.Revisions = []Revision{}
		}
		return &bodyOf[RevisionList]{Body: out}, nil
	})

	type oneInput struct {
		Revision string `path:"revision" maxLength:"64" doc:"The id of a revision"`
		Limit    int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"At most so many changes"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "get-revision", Method: http.MethodGet, Path: "/api/v1/revisions/{revision}",
		Summary: "One revision, with old and new values", Tags: []string{"history"},
		Description: "404 when this node does not hold it; another one may.",
	}, func(ctx context.Context, in *oneInput) (*bodyOf[Revision], error) {
		out, err := h.Revision(ctx, in.Revision, in.Limit)
		if err != nil {
			return nil, historyProblem(err)
		}
		return &bodyOf[Revision]{Body: out}, nil
	})

	type blameInput struct {
		ID       string `query:"id" required:"true" maxLength:"4096" doc:"NAMESPACE/KEY[/PATH], NAMESPACE/KEY/members or NAMESPACE/KEY/perms" example:"tags/web/members"`
		Revision string `query:"revision" maxLength:"64" doc:"The state of this revision or time; empty = now"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "blame", Method: http.MethodGet, Path: "/api/v1/blame",
		Summary: "Who last wrote each line", Tags: []string{"history"},
		Description: "Of a key's data, member list or access list.",
	}, func(ctx context.Context, in *blameInput) (*bodyOf[Blame], error) {
		sc, err := keyScope(in.ID)
		if err != nil {
			return nil, err
		}
		if sc.Member != "" {
			return nil, problem(http.StatusBadRequest, "one member has no lines: ask for "+sc.NS+"/"+sc.Key+"/members")
		}
		out, err := h.Blame(ctx, sc, in.Revision)
		if err != nil {
			return nil, historyProblem(err)
		}
		if out.Lines == nil {
			out.Lines = []BlameLine{}
		}
		return &bodyOf[Blame]{Body: out}, nil
	})
	registerDiff(a, h)
}

// Revisions asks for revisions, newest first. id is what ParseScope reads; q.Scope is not looked at.
func (c *Client) Revisions(ctx context.Context, id string, q RevisionQuery) (RevisionList, error) {
	query := url.Values{"id": {id}}
	setUnlessEmpty(query, "before", q.Before)
	setUnlessEmpty(query, "user", q.User)
	setUnlessEmpty(query, "since", q.Since)
	setUnlessEmpty(query, "until", q.Until)
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	var out RevisionList
	err := c.queryJSON(ctx, "/api/v1/revisions", query, &out)
	return out, err
}

// Revision asks for one revision with the values it changed; ErrNotFound when the node does not hold it. limit bounds the
// changes; 0 is the node's default.
func (c *Client) Revision(ctx context.Context, revision string, limit int) (Revision, error) {
	query := url.Values{}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var out Revision
	err := c.queryJSON(ctx, "/api/v1/revisions/"+url.PathEscape(revision), query, &out)
	return out, err
}

// Blame asks who last wrote each line of what an id names, in the state of a revision or time; "" is now.
func (c *Client) Blame(ctx context.Context, id, at string) (Blame, error) {
	query := url.Values{"id": {id}}
	setUnlessEmpty(query, "revision", at)
	var out Blame
	err := c.queryJSON(ctx, "/api/v1/blame", query, &out)
	return out, err
}

// GetAsOf is Get in the state of a revision or time. settled is false when the answering replica may still learn of writes
// of before that moment.
func (c *Client) GetAsOf(ctx context.Context, id, at string) (value []byte, settled bool, err error) {
	value, header, err := c.roundTrip(ctx, http.MethodGet, v1Path(id), url.Values{"as-of": {at}}, "", nil)
	return value, header.Get("Settled") != "no", err
}

func (c *Client) queryJSON(ctx context.Context, path string, query url.Values, out any) error {
	body, err := c.get(ctx, path, query)
	if err != nil {
		return err
	}
	return c.decode(body, out)
}

func setUnlessEmpty(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}
