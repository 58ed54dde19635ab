package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

// Objects is the replica behind the structured access to the host database. A *hostdb.Store is one.
type Objects interface {
	View() hostdb.View
	// At is the state as of a stamp, and Cut the stamp of what people give for a moment.
	At(ctx context.Context, cut hostdb.Stamp) (hostdb.View, error)
	Cut(ctx context.Context, text string) (hostdb.Stamp, error)
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// Object is one key of the host database.
type Object struct {
	ID          string          `json:"id" doc:"NAMESPACE/KEY"`
	Data        json.RawMessage `json:"data" doc:"The document. Scalars that JSON has no spelling for (0755, 2024-01-01) are strings"`
	Members     []ObjectMember  `json:"members" nullable:"false" doc:"The member list as it was written: in order, with its comments"`
	Expanded    []string        `json:"expanded,omitempty" doc:"With expand=members: the hosts that the list leads to, inherited ones included, sorted"`
	Perms       json.RawMessage `json:"perms,omitempty" doc:"The access list; absent when there is none"`
	ETag        string          `json:"etag" doc:"Of data and perms, for If-Match; the same on every node"`
	MembersETag string          `json:"members_etag" doc:"Of the member list, for If-Match"`
	Revision    string          `json:"revision,omitempty" doc:"The newest write of the data"`
	Modified    *time.Time      `json:"modified,omitempty" doc:"When that was, by its writer's clock"`
}

// ObjectMember is one entry of a member list.
type ObjectMember struct {
	Name    string `json:"name" maxLength:"254" doc:"A host, or @KEY of the same namespace; empty only at the end, for text after the last member"`
	Comment string `json:"comment,omitempty" doc:"The lines before it, each blank or begun with #"`
}

// KeyInfo is one key in a page of them.
type KeyInfo struct {
	Key      string     `json:"key"`
	ETag     string     `json:"etag" doc:"Of data and perms"`
	Revision string     `json:"revision,omitempty" doc:"The newest write of the data"`
	Modified *time.Time `json:"modified,omitempty" doc:"When that was"`
}

// KeyPage is the answer of GET /api/v1/db/{ns}.
type KeyPage struct {
	Keys    []KeyInfo `json:"keys" nullable:"false" doc:"Sorted by byte"`
	Next    string    `json:"next,omitempty" doc:"What after= must be for the next page; absent on the last"`
	Total   int       `json:"total" doc:"Keys of the namespace, whatever prefix says"`
	Version string    `json:"version" doc:"Of the state that was read; pages of one version make one list"`
	Cursor  string    `json:"cursor,omitempty" doc:"What from= must be to watch what happens after this state; absent with as-of"`
}

// NamespaceInfo is one namespace in a page of them.
type NamespaceInfo struct {
	Name     string     `json:"name"`
	Keys     int        `json:"keys" doc:"How many it has"`
	Modified *time.Time `json:"modified,omitempty" doc:"When data of any of its keys was last written or deleted"`
}

// NamespacePage is the answer of GET /api/v1/namespaces.
type NamespacePage struct {
	Namespaces []NamespaceInfo `json:"namespaces" nullable:"false"`
	Next       string          `json:"next,omitempty" doc:"What after= must be for the next page; absent on the last"`
	Version    string          `json:"version" doc:"Of the state that was read"`
}

// PageQuery are the parameters of every list.
type PageQuery struct {
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"At most so many"`
	After string `query:"after" doc:"Only what sorts behind it: next of the page before"`
	AsOf  string `query:"as-of" doc:"The state then: a revision, a time (RFC 3339, or a date), or how long ago (90m)" example:"90m"`
}

// ObjectPath names a key.
type ObjectPath struct {
	NS  string `path:"ns" doc:"Namespace" example:"hosts"`
	Key string `path:"key" doc:"Key" example:"web1.dc1.example.com"`
}

// check refuses names that cannot be: .system among them, which nothing serves.
func (in *ObjectPath) check() error {
	if err := checkNamespace(in.NS); err != nil {
		return err
	}
	if err := hostdb.CheckName(in.Key); err != nil {
		return problemOf(fmt.Errorf("key: %w", err))
	}
	return nil
}

func checkNamespace(ns string) error {
	if err := hostdb.CheckName(ns); err != nil {
		return problemOf(fmt.Errorf("namespace: %w", err))
	}
	return nil
}

func (in *ObjectPath) id() string { return in.NS + "/" + in.Key }

// stateAt is the newest state, or that as of a moment that a person gave.
func stateAt(ctx context.Context, o Objects, asOf string) (hostdb.View, error) {
	if asOf == "" {
		return o.View(), nil
	}
	cut, err := o.Cut(ctx, asOf)
	if err != nil {
		return hostdb.View{}, problemOf(fmt.Errorf("as-of %q: %w", asOf, err))
	}
	v, err := o.At(ctx, cut)
	if err != nil {
		return hostdb.View{}, problemOf(fmt.Errorf("read the state as of %s: %w", asOf, err))
	}
	return v, nil
}

func registerObjects(a huma.API, o Objects) {
	registerObjectReads(a, o)
	registerObjectWrites(a, o)
}

func registerObjectReads(a huma.API, o Objects) {
	huma.Register(a, huma.Operation{
		OperationID: "list-namespaces", Method: http.MethodGet, Path: "/api/v1/namespaces",
		Summary: "Namespaces of the host database", Tags: []string{"hostdb"},
	}, func(ctx context.Context, in *struct{ PageQuery }) (*bodyOf[NamespacePage], error) {
		v, err := stateAt(ctx, o, in.AsOf)
		if err != nil {
			return nil, err
		}
		return &bodyOf[NamespacePage]{Body: namespacePage(v, in.After, in.Limit)}, nil
	})

	type keysInput struct {
		NS     string `path:"ns" doc:"Namespace" example:"hosts"`
		Prefix string `query:"prefix" doc:"Only keys that begin so"`
		PageQuery
	}
	huma.Register(a, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: "/api/v1/db/{ns}",
		Summary: "Keys of a namespace", Tags: []string{"hostdb"},
		Description: "Pages are read from the newest state each: give as-of to walk through one. The cursor of a page is where to watch from.",
	}, func(ctx context.Context, in *keysInput) (*bodyOf[KeyPage], error) {
		if err := checkNamespace(in.NS); err != nil {
			return nil, err
		}
		v, err := stateAt(ctx, o, in.AsOf)
		if err != nil {
			return nil, err
		}
		if !v.HasNamespace(in.NS) {
			return nil, problem(http.StatusNotFound, "there is no namespace "+in.NS)
		}
		page := keyPage(v, in.NS, in.Prefix, in.After, in.Limit)
		if in.AsOf == "" {
			page.Cursor = v.Cursor().String()
		}
		return &bodyOf[KeyPage]{Body: page}, nil
	})

	type getInput struct {
		ObjectPath
		Expand string `query:"expand" enum:"members" doc:"members adds the hosts that the list leads to"`
		AsOf   string `query:"as-of" doc:"The state then: a revision, a time (RFC 3339, or a date), or how long ago (90m)" example:"90m"`
	}
	type getOutput struct {
		ETag string `header:"ETag"`
		Body Object
	}
	huma.Register(a, huma.Operation{
		OperationID: "get-object", Method: http.MethodGet, Path: "/api/v1/db/{ns}/{key}",
		Summary: "A key with data, members and access list", Tags: []string{"hostdb"},
	}, func(ctx context.Context, in *getInput) (*getOutput, error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		v, err := stateAt(ctx, o, in.AsOf)
		if err != nil {
			return nil, err
		}
		obj, err := objectOf(v, in.NS, in.Key, in.Expand != "")
		if err != nil {
			return nil, problemOf(err)
		}
		return &getOutput{ETag: obj.ETag, Body: obj}, nil
	})
}

func namespacePage(v hostdb.View, after string, limit int) NamespacePage {
	page := NamespacePage{Namespaces: []NamespaceInfo{}, Version: v.Version().String()}
	for _, ns := range v.Namespaces() {
		if ns == hostdb.System || ns <= after {
			continue
		}
		if len(page.Namespaces) == limit {
			page.Next = page.Namespaces[limit-1].Name
			break
		}
		page.Namespaces = append(page.Namespaces, NamespaceInfo{ns, v.Len(ns), momentOf(v.Modified(ns))})
	}
	return page
}

func keyPage(v hostdb.View, ns, prefix, after string, limit int) KeyPage {
	page := KeyPage{Keys: []KeyInfo{}, Total: v.Len(ns), Version: v.Version().String()}
	for key := range v.Keys(ns) {
		if !strings.HasPrefix(key, prefix) {
			if key > prefix {
				break
			}
			continue
		}
		if key <= after {
			continue
		}
		if len(page.Keys) == limit {
			page.Next = page.Keys[limit-1].Key
			break
		}
		item, _ := v.Get(ns, key)
		page.Keys = append(page.Keys, KeyInfo{key, item.ETag(hostdb.Data), item.Revision().String(), momentOf(item.Modified())})
	}
	return page
}

// objectOf is a key as JSON shows it.
func objectOf(v hostdb.View, ns, key string, expand bool) (Object, error) {
	item, ok := v.Get(ns, key)
	if !ok {
		return Object{}, fmt.Errorf("%s/%s: %w", ns, key, ErrNotFound)
	}
	obj := Object{
		ID:          ns + "/" + key,
		Members:     []ObjectMember{},
		ETag:        item.ETag(hostdb.Data),
		MembersETag: item.ETag(hostdb.Members),
		Revision:    item.Revision().String(),
		Modified:    momentOf(item.Modified()),
	}
	var err error
	if obj.Data, err = jsonOf(item.Data()); err != nil {
		return Object{}, err
	}
	for _, m := range v.DirectMembers(ns, key) {
		obj.Members = append(obj.Members, ObjectMember{m.Name, m.Text})
	}
	if expand {
		obj.Expanded = v.Members(ns, key)
	}
	if acl, ok := v.Perms(ns, key); ok {
		doc, err := hostdb.ParseDocument([]byte(acl.YAML()))
		if err != nil {
			return Object{}, fmt.Errorf("read the access list of %s: %w", obj.ID, err)
		}
		if obj.Perms, err = jsonOf(doc); err != nil {
			return Object{}, err
		}
	}
	return obj, nil
}

func momentOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// membersOf reads a member list.
func membersOf(list []ObjectMember) ([]hostdb.Member, error) {
	out := make([]hostdb.Member, 0, len(list))
	seen := make(map[string]bool, len(list))
	for i, m := range list {
		text := strings.ReplaceAll(m.Comment, "\r\n", "\n")
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				return nil, fmt.Errorf("%w: the comment of member %d: the line %q must begin with #", hostdb.ErrInvalid, i+1, line)
			}
		}
		switch {
		case m.Name == "" && i < len(list)-1:
			return nil, fmt.Errorf("%w: member %d has no name: only the last may have none, for text after the list", hostdb.ErrBadName, i+1)
		case m.Name != "":
			if err := hostdb.CheckName(strings.TrimPrefix(m.Name, "@")); err != nil {
				return nil, fmt.Errorf("member %d: %w", i+1, err)
			}
		}
		if seen[m.Name] {
			return nil, fmt.Errorf("%w: %s stands twice in the list", hostdb.ErrInvalid, m.Name)
		}
		seen[m.Name] = true
		if m.Name != "" || text != "" {
			out = append(out, hostdb.Member{Name: m.Name, Text: text})
		}
	}
	return out, nil
}
