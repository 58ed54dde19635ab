package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Headers of the answer to a write on /v1.
const (
	HeaderAcks     = "Hostmesh-Acks"     // how many boxes hold it durably
	HeaderRevision = "Hostmesh-Revision" // of the operation
	HeaderWarning  = "Hostmesh-Warning"  // one for each thing a person should know
)

// Written tells what became of a write.
type Written struct {
	Acks     int      // boxes that hold it durably, the answering one included; 0 = not told
	Revision string   // of the operation; empty when there was nothing to change
	Version  string   // of the answering replica
	Warnings []string // what breaks the rules for facts of hosts, which is allowed, but worth a look
}

// WithOverride is a client like c whose Put, Delete and other writes on /v1 lift the protection of hosts, for a reason that
// the history keeps. It shares c's connections.
func (c *Client) WithOverride(reason string) *Client {
	other := *c
	other.override = reason
	return &other
}

// Get reads what an id of HostDB names: namespaces (""), keys ("hosts"), data ("hosts/web1"), a value inside
// ("hosts/web1/Network/IP"), expanded members ("tags/web/members"), an access list ("tags/web/perms").
func (c *Client) Get(ctx context.Context, id string) ([]byte, error) {
	return c.get(ctx, v1Path(id), nil)
}

// RawMembers reads a member list as it was written: in order, with @tags and comments.
func (c *Client) RawMembers(ctx context.Context, id string) (string, error) {
	out, err := c.get(ctx, v1Path(id)+"/members", url.Values{"raw": {"true"}})
	return string(out), err
}

// MembersOf lists the hosts a key's list leads to, inherited ones included, sorted.
func (c *Client) MembersOf(ctx context.Context, id string) ([]string, error) {
	return c.List(ctx, id+"/members")
}

// List reads an id that names a list: namespaces, keys or members.
func (c *Client) List(ctx context.Context, id string) ([]string, error) {
	out, err := c.Get(ctx, id)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), nil
}

// Put creates or replaces what an id names. value is YAML for data, and lines for members.
func (c *Client) Put(ctx context.Context, id string, value []byte, log string) (Written, error) {
	return c.write(ctx, http.MethodPut, id, url.Values{"value": {string(value)}, "log": {log}})
}

// Rename gives what an id names another name, and carries it through every member list.
func (c *Client) Rename(ctx context.Context, id, newname, log string) (Written, error) {
	return c.write(ctx, http.MethodPost, id, url.Values{"newname": {newname}, "log": {log}})
}

// Delete removes what an id names, and a key from every member list.
func (c *Client) Delete(ctx context.Context, id, log string) (Written, error) {
	return c.write(ctx, http.MethodDelete, id, url.Values{"log": {log}})
}

// AddMember adds a host or @tag to a key's list. Adding what is there changes nothing.
func (c *Client) AddMember(ctx context.Context, id, member, log string) (Written, error) {
	return c.write(ctx, http.MethodPut, id+"/members/"+member, url.Values{"log": {log}})
}

// RemoveMember takes a host or @tag out of a key's list. Removing what is not there changes nothing.
func (c *Client) RemoveMember(ctx context.Context, id, member, log string) (Written, error) {
	return c.write(ctx, http.MethodDelete, id+"/members/"+member, url.Values{"log": {log}})
}

// SetMembers makes a key's list what raw says, all or nothing: a host or @tag a line.
func (c *Client) SetMembers(ctx context.Context, id, raw, log string) (Written, error) {
	return c.Put(ctx, id+"/members", []byte(raw), log)
}

func (c *Client) write(ctx context.Context, method, id string, form url.Values) (Written, error) {
	var (
		query       url.Values
		contentType string
		body        io.Reader
	)
	if c.override != "" {
		form.Set("override", c.override)
	}
	if method == http.MethodDelete { // servers may drop the body of a DELETE
		query = form
	} else {
		contentType = formType
		body = bytes.NewReader([]byte(form.Encode()))
	}
	_, header, err := c.roundTrip(ctx, method, v1Path(id), query, contentType, body)
	if err != nil {
		return Written{}, err
	}
	return written(header), nil
}

// written is what the header of an answer tells of a write.
func written(header http.Header) Written {
	acks, _ := strconv.Atoi(header.Get(HeaderAcks)) // absent is 0: not told
	return Written{
		Acks:     acks,
		Revision: header.Get(HeaderRevision),
		Version:  header.Get(HeaderVersion),
		Warnings: header.Values(HeaderWarning),
	}
}

// v1Path is the path of an id. Each part is escaped, so that no name is taken for a query.
func v1Path(id string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for part := range strings.SplitSeq(id, "/") {
		if part != "" {
			b.WriteByte('/')
			b.WriteString(url.PathEscape(part))
		}
	}
	return b.String()
}
