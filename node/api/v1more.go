package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Lookup says how an id of HostDB is read. The zero value reads it as it is now.
type Lookup struct {
	// Revision reads it as it was then. "" = now.
	Revision string
	// Raw reads a member list as it was written, with @tags and comments. Other ids do not mind.
	Raw bool
	// Foreach reads the id once for each entry of this list, in place of its second part. "" = once.
	Foreach string
	// Meta reads about the id: parents, derived or revisions. "" = the id itself.
	Meta string
	// From is the namespace of parents and derived.
	From string
	// Limit bounds a list of revisions. 0 = as many as the agent gives unasked.
	Limit int
}

func (l Lookup) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"revision": l.Revision, "foreach": l.Foreach, "meta": l.Meta, "from": l.From} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if l.Raw {
		q.Set("raw", "true")
	}
	if l.Limit != 0 {
		q.Set("limit", strconv.Itoa(l.Limit))
	}
	return q
}

// Text is what an id was read as. ETag names the state it was read from; it is empty for what has none.
type Text struct {
	Text string
	ETag string
}

// Lookup reads an id of HostDB as /v1 gives it.
func (c *Client) Lookup(ctx context.Context, id string, l Lookup) (Text, error) {
	out, header, err := c.roundTrip(ctx, http.MethodGet, v1Path(id), l.query(), "", nil)
	if err != nil {
		return Text{}, err
	}
	return Text{Text: string(out), ETag: header.Get("ETag")}, nil
}

// PutIf is Put on condition that the id is still in the state that etag names; "" = without condition. When it is not,
// Changed is true for the error.
func (c *Client) PutIf(ctx context.Context, id string, value []byte, log, etag string) (Written, error) {
	header := http.Header{}
	if etag != "" {
		header.Set("If-Match", etag)
	}
	return c.putWith(ctx, id, value, log, header)
}

// PutNew is Put on condition that there is nothing yet. When there is, Changed is true for the error.
func (c *Client) PutNew(ctx context.Context, id string, value []byte, log string) (Written, error) {
	return c.putWith(ctx, id, value, log, http.Header{"If-None-Match": {"*"}})
}

func (c *Client) putWith(ctx context.Context, id string, value []byte, log string, header http.Header) (Written, error) {
	form := url.Values{"value": {string(value)}, "log": {log}}
	resp, err := c.doWith(ctx, http.MethodPut, v1Path(id), nil, formType, strings.NewReader(form.Encode()), header)
	if err != nil {
		return Written{}, err
	}
	_, answered, err := c.readAll(resp)
	if err != nil {
		return Written{}, err
	}
	return written(answered), nil
}

const formType = "application/x-www-form-urlencoded"

// Changed reports whether a write was refused because somebody else has written since.
func Changed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusPreconditionFailed
}

// Login makes a session and returns its token. It is valid at every node, from this client's address.
func (c *Client) Login(ctx context.Context, user, password string) (token string, err error) {
	form := url.Values{"username": {user}, "password": {password}}
	out, _, err := c.roundTrip(ctx, http.MethodPost, "/v1/auth/session", nil, formType, strings.NewReader(form.Encode()))
	return strings.TrimSpace(string(out)), err
}

// WhoAmI is the user the agent takes this client for: that of the session, or on a socket that of the process.
func (c *Client) WhoAmI(ctx context.Context) (string, error) {
	out, err := c.get(ctx, "/v1/auth/session", nil)
	return strings.TrimSpace(string(out)), err
}
