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

// WriteResult tells what became of a write, or what would of a dry run.
type WriteResult struct {
	DryRun      bool     `json:"dry_run,omitempty" doc:"True when nothing was to be written"`
	Revision    string   `json:"revision,omitempty" doc:"Of the operation; absent when there was nothing to change, and in a dry run"`
	Version     string   `json:"version" doc:"At or after which the write is visible on the answering node"`
	Acks        int      `json:"acks" doc:"Boxes that hold it durably, the answering one included"`
	ETag        string   `json:"etag,omitempty" doc:"Of data and perms of the key after the write; absent when it is gone, after a transaction, and in a dry run"`
	MembersETag string   `json:"members_etag,omitempty" doc:"Of its member list"`
	Warnings    []string `json:"warnings" nullable:"false" doc:"What breaks the rules for facts of hosts, which is allowed, but worth a look"`
	Changes     []Change `json:"changes" nullable:"false" doc:"What the operation does. Empty when everything was so already"`
	More        int      `json:"more_changes,omitempty" doc:"Changes beyond those listed"`
}

// Change is one thing that an operation does.
type Change struct {
	ID     string   `json:"id" doc:"NAMESPACE/KEY; NAMESPACE alone when a namespace is made"`
	What   string   `json:"what" enum:"data,members,perms" doc:"The part of the key"`
	Kind   string   `json:"kind" enum:"create,rename,delete,set,unset" doc:"create, rename and delete are of the key as a whole"`
	Path   []string `json:"path,omitempty" doc:"Where in the data; absent for all of it"`
	Member string   `json:"member,omitempty" doc:"Which member; absent for the text after the last"`
	From   string   `json:"from,omitempty" doc:"With rename: the key's former name"`
}

// maxChanges bounds the changes in one answer or event.
const maxChanges = 10_000

// changesOf are the effects that keep lets through, as JSON shows them, and how many are left out for length.
func changesOf(effects []hostdb.Effect, keep func(hostdb.Effect) bool) (list []Change, more int) {
	list = []Change{}
	for _, e := range effects {
		if e.NS == hostdb.System || keep != nil && !keep(e) {
			continue
		}
		if len(list) == maxChanges {
			more++
			continue
		}
		c := Change{ID: e.NS, What: string(partOf(e.Kind)), Path: e.Path, Member: e.Member, From: e.From}
		if e.Key != "" {
			c.ID += "/" + e.Key
		}
		switch e.Kind {
		case hostdb.CreateKey:
			c.Kind = "create"
			if e.From != "" {
				c.Kind = "rename"
			}
		case hostdb.DeleteKey:
			c.Kind = "delete"
		case hostdb.UnsetLeaf, hostdb.RemoveMember:
			c.Kind = "unset"
		case hostdb.SetLeaf, hostdb.PutMember:
			c.Kind = "set"
		case hostdb.SetPerms:
			c.Kind = "set"
			if e.Value.IsNull() {
				c.Kind = "unset"
			}
		default:
			continue // of a newer version: this build does not know what it does
		}
		list = append(list, c)
	}
	return list, more
}

// partOf is the part of a key that an effect changes.
func partOf(k hostdb.Kind) hostdb.Resource {
	switch k {
	case hostdb.PutMember, hostdb.RemoveMember:
		return hostdb.Members
	case hostdb.SetPerms:
		return hostdb.Perms
	}
	return hostdb.Data
}

// Current is how a key stands that a write found changed.
type Current struct {
	ID          string `json:"id"`
	Compare     int    `json:"compare" doc:"Which compare of a transaction failed, 0 = the first"`
	Exists      bool   `json:"exists"`
	ETag        string `json:"etag,omitempty"`
	MembersETag string `json:"members_etag,omitempty"`
	Revision    string `json:"revision,omitempty"`
}

// changedProblem is a 412: what stands there is not what the writer saw.
type changedProblem struct {
	huma.ErrorModel
	Current []Current `json:"current" nullable:"false" doc:"How the keys stand now"`
}

// notAsSeen makes a 412.
func notAsSeen(detail string, now ...Current) *changedProblem {
	return &changedProblem{ErrorModel: *problem(http.StatusPreconditionFailed, detail), Current: now}
}

// currentOf is how a key stands in v.
func currentOf(v hostdb.View, ns, key string) Current {
	c := Current{ID: ns + "/" + key}
	if item, ok := v.Get(ns, key); ok {
		c.Exists, c.ETag, c.MembersETag, c.Revision = true, item.ETag(hostdb.Data), item.ETag(hostdb.Members), item.Revision().String()
	}
	return c
}

// WriteQuery are the parameters of every write.
type WriteQuery struct {
	DryRun   bool   `query:"dry_run" doc:"Make all checks, say what would change, and write nothing"`
	Override string `query:"override" maxLength:"1000" doc:"Why the protection of a host is lifted by this write; without it, a Protected host is neither deleted nor made smaller"`
	Acks     int    `query:"acks" minimum:"0" maximum:"10000" doc:"How many boxes must hold the write, this one included. 504 when they do not in time; the write stands"`
}

// WriteGuard are the conditions of a write of one key.
type WriteGuard struct {
	IfMatch     string `header:"If-Match" doc:"Write only if the key has one of these ETags; * = if it exists"`
	IfNoneMatch string `header:"If-None-Match" doc:"* = write only if the key does not exist"`
}

// holds refuses the write when the key is not as the conditions say.
func (g *WriteGuard) holds(v hostdb.View, ns, key string, what hostdb.Resource) error {
	item, exists := v.Get(ns, key)
	if g.IfMatch != "" {
		ok := false
		for tag := range strings.SplitSeq(g.IfMatch, ",") {
			tag = strings.TrimSpace(tag)
			ok = ok || exists && (tag == "*" || tag == item.ETag(what))
		}
		if !ok {
			return notAsSeen(ns+"/"+key+" is not as If-Match says: read it again", currentOf(v, ns, key))
		}
	}
	if g.IfNoneMatch == "*" && exists {
		return notAsSeen(ns+"/"+key+" exists already", currentOf(v, ns, key))
	}
	return nil
}

func (g *WriteGuard) check() error {
	if g.IfNoneMatch != "" && g.IfNoneMatch != "*" {
		return problem(http.StatusBadRequest, "If-None-Match of a write is * or nothing")
	}
	return nil
}

// objectWrite is a write of one key.
type objectWrite struct {
	ObjectPath
	WriteGuard
	WriteQuery
	log  string
	what hostdb.Resource
	// allow decides about the part what of the key; nil asks the access list as it stands.
	allow func(v hostdb.View) error
	do    func(tx *hostdb.Tx) error
	key   string // what the key is called afterwards
}

type writeOutput struct {
	ETag string `header:"ETag"`
	Body WriteResult
}

// run makes the write: what is given, the log, then in one step permission, the conditions and the change itself.
func (w *objectWrite) run(ctx context.Context, o Objects) (*writeOutput, error) {
	if err := w.ObjectPath.check(); err != nil {
		return nil, err
	}
	if err := w.WriteGuard.check(); err != nil {
		return nil, err
	}
	who := identityOf(ctx)
	allow := func(v hostdb.View, ns, key string, what hostdb.Resource) error {
		if w.allow != nil && ns == w.NS && key == w.Key && what == w.what {
			return w.allow(v)
		}
		return who.Allow(v, ns, key, what)
	}
	result, err := commit(ctx, o, hostdb.Request{User: who.User, Log: w.log, Allow: allow}, w.WriteQuery, func(tx *hostdb.Tx) error {
		v := tx.View()
		if (w.IfMatch != "" || w.IfNoneMatch != "") && v.HasNamespace(w.NS) {
			if err := allow(v, w.NS, w.Key, w.what); err != nil {
				return err
			}
			if err := w.holds(v, w.NS, w.Key, w.what); err != nil {
				return err
			}
		}
		return w.do(tx)
	})
	if err != nil {
		return nil, err
	}
	out := writeOutput{Body: result}
	if item, ok := o.View().Get(w.NS, w.key); ok && !w.DryRun {
		out.Body.ETag, out.Body.MembersETag = item.ETag(hostdb.Data), item.ETag(hostdb.Members)
		out.ETag = item.ETag(w.what)
	}
	return &out, nil
}

// commit makes one operation and says what became of it. Its errors are problems.
func commit(ctx context.Context, o Objects, req hostdb.Request, in WriteQuery, fn func(*hostdb.Tx) error) (WriteResult, error) {
	if strings.TrimSpace(req.Log) == "" {
		return WriteResult{}, errNoLog()
	}
	req.Acks, req.DryRun, req.Override = max(0, in.Acks-1), in.DryRun, in.Override
	c, err := o.Update(ctx, req, fn)
	if err != nil {
		if se, ok := err.(huma.StatusError); ok { // it is one of ours
			return WriteResult{}, se
		}
		return WriteResult{}, problemOf(err)
	}
	out := WriteResult{DryRun: in.DryRun, Revision: c.Revision.String(), Version: c.Version.String(), Acks: c.Acks, Warnings: c.Warnings}
	if in.DryRun {
		out.Revision = ""
	}
	if out.Warnings == nil {
		out.Warnings = []string{}
	}
	out.Changes, out.More = changesOf(c.Effects, nil)
	// Nothing that changed nothing can be waited for: others hold what stands here, or get it with the write that made it.
	if !in.DryRun && c.Changed() && c.Acks < in.Acks {
		return WriteResult{}, problem(http.StatusGatewayTimeout, fmt.Sprintf(
			"written as revision %s and held by %d of %d boxes in time; the write stands", c.Revision, c.Acks, in.Acks))
	}
	return out, nil
}

// Bodies of the writes.
type (
	objectPutBody struct {
		Data json.RawMessage `json:"data" doc:"The document. Numbers keep their spelling"`
		Log  string          `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	}
	objectPatchBody struct {
		Patch json.RawMessage `json:"patch" doc:"A JSON merge patch (RFC 7396): null removes, objects are merged, all else replaces"`
		Log   string          `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	}
	objectRenameBody struct {
		NewName string `json:"newname" doc:"The name alone, without the namespace"`
		Log     string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	}
	objectMembersBody struct {
		Members []ObjectMember `json:"members" nullable:"false" doc:"The whole list, in order"`
		Log     string         `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	}
)

// maxObjectBody bounds the body of a write: a document of MaxData may take more in JSON, and a list of 100,000 members
// takes several MiB.
const maxObjectBody = 16 << 20

// writeErrors are the statuses that every write may answer with, besides those of every request.
var writeErrors = []int{http.StatusForbidden, http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
	http.StatusServiceUnavailable, http.StatusGatewayTimeout}

func registerObjectWrites(a huma.API, o Objects) {
	op := func(id, method, path, summary, description string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: "/api/v1/db/{ns}/{key}" + path, Summary: summary, Description: description,
			Tags: []string{"hostdb"}, Security: writeSecurity, MaxBodyBytes: maxObjectBody, BodyReadTimeout: time.Minute, Errors: writeErrors,
		}
	}
	type put struct {
		ObjectPath
		WriteGuard
		WriteQuery
		Body objectPutBody
	}
	huma.Register(a, op("put-object", http.MethodPut, "", "Create or replace the data of a key",
		"Fields that are as they were are not written, so that somebody else's change of another field survives."),
		func(ctx context.Context, in *put) (*writeOutput, error) {
			doc, err := documentOfJSON(in.Body.Data)
			if err != nil {
				return nil, problemOf(fmt.Errorf("data: %w", err))
			}
			w := objectWrite{ObjectPath: in.ObjectPath, WriteGuard: in.WriteGuard, WriteQuery: in.WriteQuery, log: in.Body.Log, what: hostdb.Data, key: in.Key}
			w.allow = func(v hostdb.View) error {
				return identityOf(ctx).AllowChange(v, in.NS, in.Key, v.Data(in.NS, in.Key), doc)
			}
			w.do = func(tx *hostdb.Tx) error { return tx.Put(in.NS, in.Key, doc) }
			return w.run(ctx, o)
		})

	type patch struct {
		ObjectPath
		WriteGuard
		WriteQuery
		Body objectPatchBody
	}
	huma.Register(a, op("patch-object", http.MethodPatch, "", "Change some of the data of a key",
		"What the patch does not name stays as it is, in its spelling."),
		func(ctx context.Context, in *patch) (*writeOutput, error) {
			change, err := documentOfJSON(in.Body.Patch)
			if err != nil {
				return nil, problemOf(fmt.Errorf("patch: %w", err))
			}
			after := func(v hostdb.View) hostdb.Document { return mergePatch(v.Data(in.NS, in.Key), change) }
			w := objectWrite{ObjectPath: in.ObjectPath, WriteGuard: in.WriteGuard, WriteQuery: in.WriteQuery, log: in.Body.Log, what: hostdb.Data, key: in.Key}
			w.allow = func(v hostdb.View) error {
				return identityOf(ctx).AllowChange(v, in.NS, in.Key, v.Data(in.NS, in.Key), after(v))
			}
			w.do = func(tx *hostdb.Tx) error {
				v := tx.View()
				if v.HasNamespace(in.NS) && !v.Exists(in.NS, in.Key) {
					if err := w.allow(v); err != nil {
						return err
					}
					return fmt.Errorf("%s: %w: a patch changes what is there; create it with PUT", in.id(), ErrNotFound)
				}
				return tx.Put(in.NS, in.Key, after(v))
			}
			return w.run(ctx, o)
		})

	type remove struct {
		ObjectPath
		WriteGuard
		WriteQuery
		Log string `query:"log" required:"true" maxLength:"4096" doc:"Why, for those who read the history"`
	}
	huma.Register(a, op("delete-object", http.MethodDelete, "", "Delete a key",
		"Its data, members and access list go, and it is taken out of every member list."),
		func(ctx context.Context, in *remove) (*writeOutput, error) {
			w := objectWrite{ObjectPath: in.ObjectPath, WriteGuard: in.WriteGuard, WriteQuery: in.WriteQuery, log: in.Log, what: hostdb.Data, key: in.Key}
			w.allow = func(v hostdb.View) error {
				return identityOf(ctx).AllowChange(v, in.NS, in.Key, v.Data(in.NS, in.Key), hostdb.Document{})
			}
			w.do = func(tx *hostdb.Tx) error { return tx.Delete(in.NS, in.Key) }
			return w.run(ctx, o)
		})

	type rename struct {
		ObjectPath
		WriteGuard
		WriteQuery
		Body objectRenameBody
	}
	huma.Register(a, op("rename-object", http.MethodPost, "/rename", "Give a key another name",
		"Data, members and access list go along, and so does its place in every member list."),
		func(ctx context.Context, in *rename) (*writeOutput, error) {
			w := objectWrite{ObjectPath: in.ObjectPath, WriteGuard: in.WriteGuard, WriteQuery: in.WriteQuery, log: in.Body.Log, what: hostdb.Data, key: in.Body.NewName}
			w.do = func(tx *hostdb.Tx) error { return tx.Rename(in.NS, in.Key, in.Body.NewName) }
			return w.run(ctx, o)
		})

	type setMembers struct {
		ObjectPath
		WriteGuard
		WriteQuery
		Body objectMembersBody
	}
	huma.Register(a, op("put-members", http.MethodPut, "/members", "Replace the member list of a key",
		"All or nothing. If-Match compares members_etag. Members that keep their place are not written, so that somebody else's addition survives."),
		func(ctx context.Context, in *setMembers) (*writeOutput, error) {
			list, err := membersOf(in.Body.Members)
			if err != nil {
				return nil, problemOf(err)
			}
			w := objectWrite{ObjectPath: in.ObjectPath, WriteGuard: in.WriteGuard, WriteQuery: in.WriteQuery, log: in.Body.Log, what: hostdb.Members, key: in.Key}
			w.do = func(tx *hostdb.Tx) error { return tx.SetMembers(in.NS, in.Key, list) }
			return w.run(ctx, o)
		})
}
