package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/textdiff"
	"hostmesh/node/api"
)

// state is a replica at one moment.
type state struct {
	view hostdb.View
	cut  hostdb.Stamp // zero for the present
	now  bool
}

// Diff implements api.History.
func (h history) Diff(ctx context.Context, q api.DiffQuery) (api.Diff, error) {
	var out api.Diff
	from, to, err := h.states(ctx, q)
	if err != nil {
		return out, err
	}
	var cuts []hostdb.Stamp
	for _, side := range []struct {
		s   state
		out *api.DiffSide
	}{{from, &out.From}, {to, &out.To}} {
		if side.s.now {
			continue
		}
		cuts = append(cuts, side.s.cut)
		t := side.s.cut.Time.Wall().UTC()
		side.out.Time = &t
		if _, err := h.store.Revision(side.s.cut); err == nil {
			side.out.Revision = side.s.cut.String()
		}
	}
	out.Settled = h.settledAt(cuts...)
	if q.Scope.Key != "" {
		d, err := h.diffKey(ctx, q.Scope, from, to)
		if err == nil && d.Diff != "" {
			out.Keys = []api.KeyDiff{d}
		}
		return out, err
	}
	if ns := q.Scope.NS; ns != "" && !to.view.HasNamespace(ns) && !from.view.HasNamespace(ns) {
		return out, fmt.Errorf("%w: %s", hostdb.ErrNoNamespace, ns)
	}
	return diffAll(q, from, to, out)
}

// states are the two sides that a query asks for.
func (h history) states(ctx context.Context, q api.DiffQuery) (from, to state, err error) {
	to = state{view: h.store.View(), now: true}
	if q.To != "" {
		to.now = false
		if to.cut, err = h.cut(ctx, q.To); err != nil {
			return from, to, err
		}
	}
	if q.From != "" {
		if from.cut, err = h.cut(ctx, q.From); err != nil {
			return from, to, err
		}
	} else {
		last := hostdb.RevisionQuery{Scope: q.Scope, Limit: 1}
		if !to.now {
			last.Before = after(to.cut)
		}
		list, _, err := h.store.Revisions(ctx, last)
		if err != nil {
			return from, to, err
		}
		if len(list) == 0 {
			return from, to, fmt.Errorf("%w: this replica holds no revision that wrote %s", hostdb.ErrNotFound, orAnything(q.Scope))
		}
		from.cut = list[0].ID.Before()
		if to.now {
			to.cut, to.now = list[0].ID, false
		}
	}
	if from.view, err = h.store.At(ctx, from.cut); err != nil {
		return from, to, err
	}
	if !to.now {
		to.view, err = h.store.At(ctx, to.cut)
	}
	return from, to, err
}

func orAnything(sc hostdb.Scope) string {
	if sc.NS == "" {
		return "anything"
	}
	return api.ScopeID(sc)
}

// after is the stamp that follows s.
func after(s hostdb.Stamp) hostdb.Stamp {
	if s.Origin == ^uint64(0) {
		return hostdb.Stamp{Time: s.Time + 1}
	}
	return hostdb.Stamp{Time: s.Time, Origin: s.Origin + 1}
}

// named is the name that a key of today had in a state.
func (h history) named(ctx context.Context, s state, ns, key string) (string, error) {
	if s.now {
		return key, nil
	}
	name, ok, err := h.store.Formerly(ctx, s.view, s.cut, ns, key)
	if err != nil || !ok {
		return key, err
	}
	return name, nil
}

func (h history) diffKey(ctx context.Context, sc hostdb.Scope, from, to state) (api.KeyDiff, error) {
	var none api.KeyDiff
	was, is := sc, sc
	var err error
	if was.Key, err = h.named(ctx, from, sc.NS, sc.Key); err != nil {
		return none, err
	}
	if is.Key, err = h.named(ctx, to, sc.NS, sc.Key); err != nil {
		return none, err
	}
	d := diffScope(was, is, from.view, to.view)
	if d.Diff == "" && !has(from.view, was) && !has(to.view, is) {
		return none, fmt.Errorf("%w: there is no %s in either of the two states", hostdb.ErrNotFound, api.ScopeID(sc))
	}
	return d, nil
}

// has reports whether a view has what a scope with a key names.
func has(v hostdb.View, sc hostdb.Scope) bool {
	for _, part := range parts(v, sc) {
		if part.text != "" {
			return true
		}
	}
	return false
}

// part is a text that a scope names.
type part struct{ id, text string }

// parts are the data, the members and the access list that a scope with a key names, always the same ones in the same
// order; what is not there is "".
func parts(v hostdb.View, sc hostdb.Scope) []part {
	var list []part
	id := sc.NS + "/" + sc.Key
	line := func(text string) string {
		if text == "" || strings.HasSuffix(text, "\n") {
			return text
		}
		return text + "\n"
	}
	if sc.What == "" || sc.What == hostdb.Data {
		p := part{id: api.ScopeID(hostdb.Scope{NS: sc.NS, Key: sc.Key, What: hostdb.Data, Path: sc.Path})}
		if d := v.Data(sc.NS, sc.Key).At(sc.Path...); d.Exists() {
			p.text = d.YAML()
		}
		list = append(list, p)
	}
	switch {
	case sc.Member != "":
		p := part{id: api.ScopeID(sc)}
		if v.HasMember(sc.NS, sc.Key, sc.Member) {
			p.text = sc.Member + "\n"
		}
		list = append(list, p)
	case sc.What == "" || sc.What == hostdb.Members:
		list = append(list, part{id + "/members", line(v.RawMembers(sc.NS, sc.Key))})
	}
	if sc.What == "" || sc.What == hostdb.Perms {
		acl, _ := v.Perms(sc.NS, sc.Key)
		list = append(list, part{id + "/perms", line(acl.YAML())})
	}
	return list
}

// diffScope compares what two scopes of the same form name in two views. Diff is "" when it is the same.
func diffScope(was, is hostdb.Scope, from, to hostdb.View) api.KeyDiff {
	d := api.KeyDiff{ID: is.NS + "/" + is.Key, Kind: api.ChangeSet}
	switch had, has := from.Exists(was.NS, was.Key), to.Exists(is.NS, is.Key); {
	case is.Key == hostdb.DefaultKey:
	case !had && has:
		d.Kind = api.ChangeCreate
	case had && !has:
		d.Kind = api.ChangeDelete
	case was.Key != is.Key:
		d.Kind, d.From = api.ChangeRename, was.NS+"/"+was.Key
	}
	a, b := parts(from, was), parts(to, is)
	var text strings.Builder
	for i := range a {
		if a[i].text == "" {
			a[i].id = "/dev/null"
		}
		if b[i].text == "" {
			b[i].id = "/dev/null"
		}
		text.WriteString(textdiff.Unified(a[i].id, b[i].id, a[i].text, b[i].text, textdiff.Context))
	}
	if d.Diff = text.String(); d.Diff == "" && d.Kind == api.ChangeRename {
		d.Diff = fmt.Sprintf("rename from %s\nrename to %s\n", d.From, d.ID)
	}
	return d
}

// diffAll compares all keys of a namespace, or all keys.
func diffAll(q api.DiffQuery, from, to state, out api.Diff) (api.Diff, error) {
	ns, key, _ := strings.Cut(q.After, "/")
	last := hostdb.Change{NS: ns, Key: key}
	size := 0
	for c := range to.view.Changes(from.view) {
		switch {
		case c.NS == hostdb.System || c.Key == "":
			continue
		case q.Scope.NS != "" && c.NS != q.Scope.NS:
			continue
		case c.NS+"\x00"+c.Key <= last.NS+"\x00"+last.Key && q.After != "":
			continue
		}
		sc := hostdb.Scope{NS: c.NS, Key: c.Key}
		d := diffScope(sc, sc, from.view, to.view)
		if d.Diff == "" { // written, with what was there
			continue
		}
		if size += len(d.Diff); len(out.Keys) > 0 && (len(out.Keys) == q.Limit || size > maxShown) {
			out.More, out.Next = true, out.Keys[len(out.Keys)-1].ID
			return out, nil
		}
		out.Keys = append(out.Keys, d)
	}
	return out, nil
}

// wall is a time for the wire; nil for none.
func wall(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
