package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// ListOptions choose a page of keys or namespaces.
type ListOptions struct {
	Limit  int    // at most so many; 0 = 1,000
	After  string // only what sorts behind it
	Prefix string // only keys that begin so
	AsOf   string // the state then: a revision, a time, or how long ago; "" = now
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	for name, value := range map[string]string{"after": o.After, "prefix": o.Prefix, "as-of": o.AsOf} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// WriteOptions say how to write. The zero value has no log, which every write needs.
type WriteOptions struct {
	Log      string // why, for those who read the history
	IfMatch  string // write only if the key has this ETag (of members: this MembersETag); "" = whatever it has
	Create   bool   // write only if the key does not exist
	DryRun   bool   // make all checks, write nothing
	Override string // why the protection of a host is lifted; "" lifts none
	Acks     int    // how many boxes must hold it; 0 = whatever it is
}

func (o WriteOptions) query() url.Values {
	q := url.Values{}
	if o.DryRun {
		q.Set("dry_run", "true")
	}
	if o.Override != "" {
		q.Set("override", o.Override)
	}
	if o.Acks > 0 {
		q.Set("acks", strconv.Itoa(o.Acks))
	}
	return q
}

func (o WriteOptions) header() http.Header {
	h := http.Header{}
	if o.IfMatch != "" {
		h.Set("If-Match", o.IfMatch)
	}
	if o.Create {
		h.Set("If-None-Match", "*")
	}
	return h
}

// Namespaces reads a page of namespaces.
func (c *Client) Namespaces(ctx context.Context, o ListOptions) (NamespacePage, error) {
	var out NamespacePage
	err := c.readJSON(ctx, "/api/v1/namespaces", o.query(), &out)
	return out, err
}

// Keys reads a page of the keys of a namespace.
func (c *Client) Keys(ctx context.Context, ns string, o ListOptions) (KeyPage, error) {
	var out KeyPage
	err := c.readJSON(ctx, "/api/v1/db/"+url.PathEscape(ns), o.query(), &out)
	return out, err
}

// AllKeys reads page after page. An error ends it.
func (c *Client) AllKeys(ctx context.Context, ns string, o ListOptions) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		for {
			page, err := c.Keys(ctx, ns, o)
			if err != nil {
				yield(KeyInfo{}, err)
				return
			}
			for _, k := range page.Keys {
				if !yield(k, nil) {
					return
				}
			}
			if o.After = page.Next; o.After == "" {
				return
			}
		}
	}
}

// ObjectOptions say how to read a key.
type ObjectOptions struct {
	Expand bool   // add the hosts that the member list leads to
	AsOf   string // the state then: a revision, a time, or how long ago; "" = now
}

// Object reads a key with data, members and access list.
func (c *Client) Object(ctx context.Context, ns, key string, o ObjectOptions) (Object, error) {
	q := url.Values{}
	if o.Expand {
		q.Set("expand", "members")
	}
	if o.AsOf != "" {
		q.Set("as-of", o.AsOf)
	}
	var out Object
	err := c.readJSON(ctx, objectPath(ns, key), q, &out)
	return out, err
}

// PutObject creates or replaces the data of a key. data is what encoding/json makes of it; a json.RawMessage is sent as it is.
func (c *Client) PutObject(ctx context.Context, ns, key string, data any, o WriteOptions) (WriteResult, error) {
	return c.writeObject(ctx, http.MethodPut, ns, key, "", o, map[string]any{"data": data, "log": o.Log})
}

// PatchObject changes some of the data of a key by a JSON merge patch (RFC 7396).
func (c *Client) PatchObject(ctx context.Context, ns, key string, patch any, o WriteOptions) (WriteResult, error) {
	return c.writeObject(ctx, http.MethodPatch, ns, key, "", o, map[string]any{"patch": patch, "log": o.Log})
}

// RenameObject gives a key another name, and carries it through every member list.
func (c *Client) RenameObject(ctx context.Context, ns, key, newname string, o WriteOptions) (WriteResult, error) {
	return c.writeObject(ctx, http.MethodPost, ns, key, "/rename", o, map[string]any{"newname": newname, "log": o.Log})
}

// PutMembers replaces the member list of a key.
func (c *Client) PutMembers(ctx context.Context, ns, key string, list []ObjectMember, o WriteOptions) (WriteResult, error) {
	if list == nil {
		list = []ObjectMember{}
	}
	return c.writeObject(ctx, http.MethodPut, ns, key, "/members", o, map[string]any{"members": list, "log": o.Log})
}

// DeleteObject deletes a key with its members and access list, and takes it out of every member list.
func (c *Client) DeleteObject(ctx context.Context, ns, key string, o WriteOptions) (WriteResult, error) {
	q := o.query()
	q.Set("log", o.Log)
	var out WriteResult
	err := c.sendJSON(ctx, http.MethodDelete, objectPath(ns, key), q, o.header(), nil, &out)
	return out, err
}

func (c *Client) writeObject(ctx context.Context, method, ns, key, below string, o WriteOptions, body any) (WriteResult, error) {
	var out WriteResult
	err := c.sendJSON(ctx, method, objectPath(ns, key)+below, o.query(), o.header(), body, &out)
	return out, err
}

func objectPath(ns, key string) string {
	return "/api/v1/db/" + url.PathEscape(ns) + "/" + url.PathEscape(key)
}

// readJSON reads JSON at a path.
func (c *Client) readJSON(ctx context.Context, path string, query url.Values, out any) error {
	body, err := c.get(ctx, path, query)
	if err != nil {
		return err
	}
	return c.decode(body, out)
}

// sendJSON sends body, nil for none, and reads the answer.
func (c *Client) sendJSON(ctx context.Context, method, path string, query url.Values, header http.Header, body, out any) error {
	var text io.Reader
	contentType := ""
	if body != nil {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(body); err != nil {
			return fmt.Errorf("write the request as JSON: %w", err)
		}
		contentType, text = "application/json", &b
	}
	resp, err := c.doWith(ctx, method, path, query, contentType, text, header)
	if err != nil {
		return err
	}
	answer, _, err := c.readAll(resp)
	if err != nil {
		return err
	}
	return c.decode(answer, out)
}
