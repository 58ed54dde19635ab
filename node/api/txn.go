package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

// The bounds of a transaction.
const (
	maxTxnEffects = 1000
	maxTxnBody    = 4 << 20
)

// Txn is a transaction: first all compares, then all effects, as one operation that is visible as a whole.
type Txn struct {
	Log      string    `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
	DryRun   bool      `json:"dry_run,omitempty" doc:"Make all checks, say what would change, and write nothing"`
	Override string    `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of hosts is lifted by this write"`
	Compares []Compare `json:"compare,omitempty" maxItems:"1000" doc:"What must hold on the replica that takes the write"`
	Effects  []Effect  `json:"effects" maxItems:"1000" nullable:"false" doc:"What to do, in order; each sees what those before it did"`
}

// Compare is one thing that must hold. Exactly one of ETag, Revision, Exists and Equals is set.
type Compare struct {
	ID       string          `json:"id" doc:"NAMESPACE/KEY; with exists and equals also NAMESPACE/KEY/PATH in the data" example:"tags/web"`
	Path     []string        `json:"path,omitempty" doc:"The path, for mapping keys that have slashes; then id is NAMESPACE/KEY"`
	ETag     string          `json:"etag,omitempty" doc:"The key has this ETag: of its data and perms, or of its members"`
	Revision string          `json:"revision,omitempty" doc:"The newest write of its data is this"`
	Exists   *bool           `json:"exists,omitempty" doc:"It is there, or is not"`
	Equals   json.RawMessage `json:"equals,omitempty" doc:"The data, or what stands at the path, is this"`
}

// Effect is one write of a transaction.
type Effect struct {
	Op      string          `json:"op" enum:"put,put_path,delete,delete_path,rename,rename_path,set_members,add_member,remove_member,rename_member,set_perms"`
	ID      string          `json:"id" doc:"NAMESPACE/KEY; of the path operations NAMESPACE/KEY/PATH; of those of one member NAMESPACE/KEY/members/NAME" example:"hosts/web1.dc1.example.com"`
	Path    []string        `json:"path,omitempty" doc:"The path, for mapping keys that have slashes; then id is NAMESPACE/KEY"`
	Value   json.RawMessage `json:"value,omitempty" doc:"What to put, or the access list"`
	YAML    *string         `json:"yaml,omitempty" doc:"The same as YAML, where spelling matters (0755)"`
	NewName string          `json:"newname,omitempty" doc:"Of the renames: the name alone"`
	Members []ObjectMember  `json:"members,omitempty" doc:"Of set_members: the whole list"`
}

// compare is a Compare that was understood.
type compare struct {
	Compare
	ns, key string
	path    []string
	equals  any
}

// effect is an Effect that was understood.
type effect struct {
	Effect
	ns, key string
	path    []string // in the data
	member  string
	doc     hostdb.Document
	list    []hostdb.Member
	acl     hostdb.ACL
}

// splitID is an id of a transaction in parts; rest is what follows the key.
func splitID(id string) (ns, key string, rest []string, err error) {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if len(parts) < 2 {
		return "", "", nil, fmt.Errorf("%w: id %q: expected NAMESPACE/KEY", hostdb.ErrInvalid, id)
	}
	ns, key, rest = parts[0], parts[1], parts[2:]
	if err := hostdb.CheckName(ns); err != nil { // .system is none
		return "", "", nil, fmt.Errorf("id %q: %w", id, err)
	}
	if err := hostdb.CheckName(key); err != nil && key != hostdb.DefaultKey {
		return "", "", nil, fmt.Errorf("id %q: %w", id, err)
	}
	if slices.Contains(rest, "") {
		return "", "", nil, fmt.Errorf("%w: id %q: an empty step of the path", hostdb.ErrInvalid, id)
	}
	return ns, key, rest, nil
}

// pathOf is the path of an id, from one of the two places where it may stand.
func pathOf(id string, rest, given []string) ([]string, error) {
	if len(rest) > 0 && len(given) > 0 {
		return nil, fmt.Errorf("%w: id %q has a path, and path is given too: one of them is enough", hostdb.ErrInvalid, id)
	}
	if len(given) > 0 {
		return given, nil
	}
	return rest, nil
}

func (c Compare) parse() (compare, error) {
	out := compare{Compare: c}
	var rest []string
	var err error
	if out.ns, out.key, rest, err = splitID(c.ID); err != nil {
		return out, err
	}
	if out.path, err = pathOf(c.ID, rest, c.Path); err != nil {
		return out, err
	}
	n := 0
	for _, given := range []bool{c.ETag != "", c.Revision != "", c.Exists != nil, c.Equals != nil} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return out, fmt.Errorf("%w: exactly one of etag, revision, exists and equals must be given", hostdb.ErrInvalid)
	case len(out.path) > 0 && (c.ETag != "" || c.Revision != ""):
		return out, fmt.Errorf("%w: id %q: etag and revision are of a key, not of a path in it", hostdb.ErrInvalid, c.ID)
	case c.Equals != nil:
		doc, err := documentOfJSON(c.Equals)
		if err != nil {
			return out, fmt.Errorf("equals: %w", err)
		}
		out.equals = doc.Any()
	}
	return out, nil
}

// holds reports whether it does in v.
func (c *compare) holds(v hostdb.View) bool {
	item, exists := v.Get(c.ns, c.key)
	switch {
	case c.ETag != "":
		return exists && (c.ETag == item.ETag(hostdb.Data) || c.ETag == item.ETag(hostdb.Members))
	case c.Revision != "":
		return exists && c.Revision == item.Revision().String()
	}
	at := item.Data().At(c.path...)
	there := exists && (len(c.path) == 0 || at.Exists())
	if c.Exists != nil {
		return *c.Exists == there
	}
	return there && reflect.DeepEqual(at.Any(), c.equals)
}

func (e Effect) parse() (effect, error) {
	out := effect{Effect: e}
	var rest []string
	var err error
	if out.ns, out.key, rest, err = splitID(e.ID); err != nil {
		return out, err
	}
	if out.key == hostdb.DefaultKey && e.Op != "set_perms" {
		return out, fmt.Errorf("%w: id %q: %s has perms only", hostdb.ErrInvalid, e.ID, hostdb.DefaultKey)
	}
	bad := func(format string, args ...any) (effect, error) {
		return out, fmt.Errorf("%w: "+format, append([]any{hostdb.ErrInvalid}, args...)...)
	}
	inData := strings.HasSuffix(e.Op, "_path")
	if inData {
		if out.path, err = pathOf(e.ID, rest, e.Path); err != nil {
			return out, err
		}
		if len(out.path) == 0 {
			return bad("id %q: a path is missing: NAMESPACE/KEY/PATH", e.ID)
		}
		rest = nil
	} else if len(e.Path) > 0 {
		return bad("%s takes no path", e.Op)
	}
	switch {
	case strings.HasSuffix(e.Op, "_member"):
		if len(rest) != 2 || rest[0] != "members" {
			return bad("id %q: expected NAMESPACE/KEY/members/NAME", e.ID)
		}
		out.member, rest = rest[1], nil
	case e.Op == "set_members" && len(rest) == 1 && rest[0] == "members", e.Op == "set_perms" && len(rest) == 1 && rest[0] == "perms":
		rest = nil // as /v1 writes them
	}
	if len(rest) > 0 {
		return bad("id %q: %s takes NAMESPACE/KEY", e.ID, e.Op)
	}
	if strings.HasPrefix(e.Op, "rename") != (e.NewName != "") {
		return bad("newname must be given with the renames, and only there")
	}
	if e.Members != nil && e.Op != "set_members" {
		return bad("members is given with set_members only")
	}
	takes := e.Op == "put" || e.Op == "put_path" || e.Op == "set_perms"
	switch {
	case !takes && (e.Value != nil || e.YAML != nil):
		return bad("%s takes no value", e.Op)
	case takes && (e.Value != nil) == (e.YAML != nil):
		return bad("either value or yaml must be given")
	case e.YAML != nil:
		out.doc, err = hostdb.ParseDocument([]byte(*e.YAML))
	case e.Value != nil:
		out.doc, err = documentOfJSON(e.Value)
	}
	if err == nil && e.Op == "set_perms" {
		out.acl, err = hostdb.ParseACL([]byte(out.doc.YAML()))
	}
	if err == nil && e.Op == "set_members" {
		out.list, err = membersOf(e.Members)
	}
	return out, err
}

// do makes the write.
func (e *effect) do(tx *hostdb.Tx) error {
	switch e.Op {
	case "put":
		return tx.Put(e.ns, e.key, e.doc)
	case "put_path":
		return tx.PutPath(e.ns, e.key, e.path, e.doc)
	case "delete":
		return tx.Delete(e.ns, e.key)
	case "delete_path":
		return tx.DeletePath(e.ns, e.key, e.path)
	case "rename":
		return tx.Rename(e.ns, e.key, e.NewName)
	case "rename_path":
		return tx.RenamePath(e.ns, e.key, e.path, e.NewName)
	case "set_members":
		return tx.SetMembers(e.ns, e.key, e.list)
	case "add_member":
		return tx.AddMember(e.ns, e.key, e.member)
	case "remove_member":
		return tx.RemoveMember(e.ns, e.key, e.member)
	case "rename_member":
		return tx.RenameMember(e.ns, e.key, e.member, e.NewName)
	case "set_perms":
		return tx.SetPerms(e.ns, e.key, e.acl)
	}
	return fmt.Errorf("%w: there is no op %q", hostdb.ErrInvalid, e.Op)
}

// allow decides about the data of the effect's own key, which was called key before the transaction. Each effect is held
// against the state before the transaction: what an earlier one changed of the access lists does not count yet, and a
// section that is put back has not changed.
func (e *effect) allow(who Identity, v hostdb.View, key string) error {
	switch e.Op {
	case "put":
		return who.AllowChange(v, e.ns, key, v.Data(e.ns, key), e.doc)
	case "delete":
		return who.AllowChange(v, e.ns, key, v.Data(e.ns, key), hostdb.Document{})
	case "put_path", "delete_path", "rename_path":
		return who.AllowPath(v, e.ns, key, e.path, e.NewName)
	}
	return who.Allow(v, e.ns, key, hostdb.Data)
}

// formerKeys are the names that keys had before the transaction that renames them, by namespace and new name. An access
// list goes with its key: under the new name, too, it decides.
type formerKeys map[[2]string]string

func (f formerKeys) of(ns, key string) string {
	if former, ok := f[[2]string{ns, key}]; ok {
		return former
	}
	return key
}

// note takes in an effect that was made.
func (f formerKeys) note(e *effect) {
	switch e.Op {
	case "rename":
		f[[2]string{e.ns, e.NewName}] = f.of(e.ns, e.key)
		delete(f, [2]string{e.ns, e.key})
	case "delete":
		// What is made anew under the name has no list of its own, so the namespace's decides.
		f[[2]string{e.ns, e.key}] = hostdb.DefaultKey
	}
}

// plan understands a transaction as a whole before anything is looked up.
func (t *Txn) plan() (compares []compare, effects []effect, err error) {
	if len(t.Effects) == 0 {
		return nil, nil, problem(http.StatusBadRequest, "effects is empty: there is nothing to do")
	}
	for i, c := range t.Compares {
		parsed, err := c.parse()
		if err != nil {
			return nil, nil, located(err, "body.compare", i, c.ID)
		}
		compares = append(compares, parsed)
	}
	for i, e := range t.Effects {
		parsed, err := e.parse()
		if err != nil {
			return nil, nil, located(err, "body.effects", i, e.Op+" "+e.ID)
		}
		effects = append(effects, parsed)
	}
	return compares, effects, nil
}

// located is a problem that says which part of the body caused it.
func located(err error, list string, i int, what string) error {
	p := problemOf(fmt.Errorf("%s: %w", what, err))
	p.Errors = []*huma.ErrorDetail{{Message: err.Error(), Location: fmt.Sprintf("%s[%d]", list, i)}}
	p.Detail = fmt.Sprintf("%s (number %d): nothing was written", what, i+1)
	return p
}

func registerTxn(a huma.API, o Objects) {
	type input struct {
		WriteQuery
		Body Txn
	}
	huma.Register(a, huma.Operation{
		OperationID: "transaction", Method: http.MethodPost, Path: "/api/v1/txn",
		Summary: "Change several keys at once, if things are as you saw them", Tags: []string{"hostdb"}, Security: writeSecurity,
		Description: "All compares are made, then all effects, in one operation: one revision, visible together, on every node. When a compare " +
			"fails the answer is 412 and lists each key that is not as said, with its present ETag. Compares hold on the replica that takes the " +
			"write: two nodes that are cut off from each other may both accept.",
		MaxBodyBytes: maxTxnBody, BodyReadTimeout: time.Minute, Errors: writeErrors,
	}, func(ctx context.Context, in *input) (*bodyOf[WriteResult], error) {
		compares, effects, err := in.Body.plan()
		if err != nil {
			return nil, err
		}
		who := identityOf(ctx)
		var now *effect
		former := formerKeys{}
		allow := func(v hostdb.View, ns, key string, what hostdb.Resource) error {
			was := former.of(ns, key)
			if what == hostdb.Data && ns == now.ns && key == now.key {
				return now.allow(who, v, was)
			}
			return who.Allow(v, ns, was, what)
		}
		result, err := commit(ctx, o, hostdb.Request{User: who.User, Log: in.Body.Log, Allow: allow},
			WriteQuery{DryRun: in.DryRun || in.Body.DryRun, Acks: in.Acks, Override: cmp.Or(in.Override, in.Body.Override)}, func(tx *hostdb.Tx) error {
				if err := compareAll(tx.View(), compares); err != nil {
					return err
				}
				for i := range effects {
					now = &effects[i]
					if err := now.do(tx); err != nil {
						return located(err, "body.effects", i, now.Op+" "+now.ID)
					}
					former.note(now)
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
		return &bodyOf[WriteResult]{Body: result}, nil
	})
}

// compareAll is the problem that lists what does not hold in v; nil when all does.
func compareAll(v hostdb.View, compares []compare) error {
	var failed []Current
	for i := range compares {
		if c := &compares[i]; !c.holds(v) {
			now := currentOf(v, c.ns, c.key)
			now.Compare = i
			failed = append(failed, now)
		}
	}
	if failed == nil {
		return nil
	}
	ids := make([]string, 0, 3)
	for _, f := range failed[:min(3, len(failed))] {
		ids = append(ids, f.ID)
	}
	text := strings.Join(ids, ", ")
	if n := len(failed) - len(ids); n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return notAsSeen("not as compared: "+text+"; nothing was written", failed...)
}

// Txn makes a transaction; acks is how many boxes must hold it, 0 = whatever it is. When a compare fails the error is
// ErrChanged, and its Error lists how the keys stand.
func (c *Client) Txn(ctx context.Context, t Txn, acks int) (WriteResult, error) {
	if len(t.Effects) == 0 {
		return WriteResult{}, errors.New("a transaction without effects")
	}
	var out WriteResult
	err := c.sendJSON(ctx, http.MethodPost, "/api/v1/txn", WriteOptions{Acks: acks}.query(), nil, t, &out)
	return out, err
}
