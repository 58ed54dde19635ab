package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

const (
	// listedChanges is how many changes of a revision are told in a list of revisions.
	listedChanges = 100
	// restoredChanges is how many are told of a rollback or undo.
	restoredChanges = 1000
	// scannedRevisions bounds how many revisions one request reads to find those that a user or a time asks for.
	scannedRevisions = 50_000
)

// history implements api.History, api.Restorer, api.Conflicts and api.ReadOnlySwitch on a store.
type history struct {
	store *hostdb.Store
	now   func() time.Time
	// settled reports whether no write of before a stamp can arrive any more; nil when nobody can say.
	settled func(hostdb.Stamp) bool
}

// history is the agent's.
func (a *Agent) history() history {
	return history{store: a.store, now: a.clock.Now, settled: a.settled}
}

// errNotHeld makes it clear that a revision that is not here may be elsewhere.
func errNotHeld(err error) error {
	if errors.Is(err, hostdb.ErrNotFound) {
		return fmt.Errorf("%w; another node may: revisions of a node that is away arrive when it is back", err)
	}
	return err
}

// cut is the stamp of a revision or time.
func (h history) cut(ctx context.Context, text string) (hostdb.Stamp, error) {
	cut, err := h.store.Cut(ctx, text)
	return cut, errNotHeld(err)
}

// revision reads one revision that people may see.
func (h history) revision(text string) (hostdb.Revision, error) {
	id, err := hostdb.ParseStamp(strings.TrimSpace(text))
	if err != nil {
		return hostdb.Revision{}, err
	}
	rev, err := h.store.Revision(id)
	if err == nil && !(hostdb.Scope{}).Touches(rev) {
		err = fmt.Errorf("revision %s is none of the host database's own keys: %w", id, hostdb.ErrNotFound)
		return hostdb.Revision{}, err
	}
	return rev, errNotHeld(err)
}

func (h history) settledAt(cuts ...hostdb.Stamp) *bool {
	if h.settled == nil || len(cuts) == 0 {
		return nil
	}
	all := true
	for _, c := range cuts {
		all = all && h.settled(c)
	}
	return &all
}

// Revisions implements api.History.
func (h history) Revisions(ctx context.Context, q api.RevisionQuery) (api.RevisionList, error) {
	var out api.RevisionList
	var before hostdb.Stamp
	var since, until time.Time
	var err error
	if q.Before != "" {
		if before, err = hostdb.ParseStamp(q.Before); err != nil {
			return out, err
		}
	}
	if q.Since != "" {
		if since, _, err = h.span(q.Since); err != nil {
			return out, err
		}
	}
	if q.Until != "" {
		if _, until, err = h.span(q.Until); err != nil {
			return out, err
		}
	}
	if q.Scope.NS != "" && !h.store.View().HasNamespace(q.Scope.NS) {
		return out, fmt.Errorf("%w: %s", hostdb.ErrNoNamespace, q.Scope.NS)
	}
	page := q.Limit + 1
	if q.User != "" || q.Since != "" || q.Until != "" {
		page = max(page, 500)
	}
	for scanned := 0; ; {
		list, more, err := h.store.Revisions(ctx, hostdb.RevisionQuery{Scope: q.Scope, Before: before, Limit: page})
		if err != nil {
			return api.RevisionList{}, err
		}
		for _, r := range list {
			// What was brought from elsewhere is older than its stamp, never younger.
			if r.ID.Time.Wall().Before(since) {
				return out, nil
			}
			before = r.ID
			if !r.At.Before(since) && (until.IsZero() || !r.At.After(until)) && (q.User == "" || isUser(r.User, q.User)) {
				if len(out.Revisions) == q.Limit {
					out.More, out.Next = true, out.Revisions[q.Limit-1].ID
					return out, nil
				}
				out.Revisions = append(out.Revisions, listed(r, q.Scope))
			}
		}
		if !more {
			return out, nil
		}
		if scanned += len(list); scanned >= scannedRevisions {
			out.More, out.Next = true, before.String()
			return out, nil
		}
	}
}

// isUser reports whether a revision's user is the one asked for: alice wrote as root(alice), too.
func isUser(user, asked string) bool {
	return user == asked || strings.HasSuffix(user, "("+asked+")")
}

// listed is a revision as lists show it: with what it did in the scope, and the number of its other changes.
func listed(r hostdb.Revision, sc hostdb.Scope) api.Revision {
	effects := r.Effects
	if sc.NS != "" {
		var own []hostdb.Effect
		for i := range effects {
			if sc.Touches(hostdb.Revision{Effects: effects[i : i+1]}) {
				own = append(own, effects[i])
			}
		}
		if len(own) > 0 { // none when the key had another name then
			effects = own
		}
	}
	rev := readable(r)
	rev.Changes, rev.Omitted = changesOf(effects, nil, listedChanges)
	if len(effects) < len(r.Effects) {
		all, more := changesOf(r.Effects, nil, listedChanges)
		rev.Omitted = max(rev.Omitted, len(all)+more-len(rev.Changes))
	}
	if rev.Changes == nil {
		rev.Changes = []api.RevisionChange{}
	}
	return rev
}

// readable is a revision without its changes.
func readable(r hostdb.Revision) api.Revision {
	rev := api.Revision{ID: r.ID.String(), User: r.User, Time: r.At, Log: r.Log, Node: r.Node}
	if r.Source != nil {
		rev.Source = &api.RevisionSource{Ref: r.Source.Ref, Email: r.Source.Email}
	} else {
		rev.Time = r.At.UTC()
	}
	return rev
}

// Revision implements api.History.
func (h history) Revision(ctx context.Context, revision string, limit int) (api.Revision, error) {
	r, err := h.revision(revision)
	if err != nil {
		return api.Revision{}, err
	}
	before, err := h.store.At(ctx, r.ID.Before())
	if err != nil {
		return api.Revision{}, err
	}
	rev := readable(r)
	rev.Changes, rev.Omitted = changesOf(r.Effects, &before, limit)
	if rev.Changes == nil {
		rev.Changes = []api.RevisionChange{}
	}
	return rev, nil
}

// Blame implements api.History.
func (h history) Blame(ctx context.Context, sc hostdb.Scope, at string) (api.Blame, error) {
	out := api.Blame{ID: api.ScopeID(sc)}
	view := h.store.View()
	if at != "" {
		cut, err := h.cut(ctx, at)
		if err != nil {
			return out, err
		}
		if view, err = h.store.At(ctx, cut); err != nil {
			return out, err
		}
		name, ok, err := h.store.Formerly(ctx, view, cut, sc.NS, sc.Key)
		if err != nil {
			return out, err
		}
		if ok {
			sc.Key = name
		}
		out.Settled = h.settledAt(cut)
	}
	lines, err := h.store.Blame(ctx, view, sc)
	if err != nil {
		return out, err
	}
	for _, l := range lines {
		out.Lines = append(out.Lines, api.BlameLine{Revision: l.Revision.String(), User: l.User, Time: l.At.UTC(), Text: l.Text})
	}
	return out, nil
}

// spans are the forms of a time in a filter, and how much of it each names.
var spans = []struct {
	layout string
	long   time.Duration
}{
	{time.RFC3339Nano, time.Millisecond},
	{"2006-01-02 15:04:05 -0700", time.Second},
	{"2006-01-02 15:04:05", time.Second},
	{"2006-01-02T15:04:05", time.Second},
	{"2006-01-02 15:04", time.Minute},
	{"2006-01-02", 24 * time.Hour},
}

// span is the first and the last millisecond of what people name: a time, a day, a revision, or how long ago it is.
func (h history) span(text string) (first, last time.Time, err error) {
	text = strings.TrimSpace(text)
	if id, err := hostdb.ParseStamp(text); err == nil {
		return id.Time.Wall(), id.Time.Wall(), nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		t := h.now().Add(-ago)
		return t, t, nil
	}
	for _, s := range spans {
		if t, err := time.Parse(s.layout, text); err == nil {
			return t, t.Add(s.long - time.Millisecond), nil
		}
	}
	return first, last, fmt.Errorf(`%w: %q is not a time: expected 2026-01-31, "2026-01-31 12:00:05" (UTC), 2026-01-31T12:00:05Z, or how long ago it is, as 90m`,
		hostdb.ErrInvalid, text)
}
