package node

import (
	"context"
	"fmt"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// Rollback implements api.Restorer.
func (h history) Rollback(ctx context.Context, who api.Identity, req api.Rollback) (api.Restored, error) {
	sc := req.Scope
	cut, err := h.cut(ctx, req.To)
	if err != nil {
		return api.Restored{}, err
	}
	then, err := h.store.At(ctx, cut)
	if err != nil {
		return api.Restored{}, err
	}
	former, err := h.named(ctx, state{view: then, cut: cut}, sc.NS, sc.Key)
	if err != nil {
		return api.Restored{}, err
	}
	unchanged, err := h.unchangedSince(ctx, sc, req.IfUnchangedSince)
	if err != nil {
		return api.Restored{}, err
	}
	out, err := h.restore(ctx, restoreRequest(who, req.Log, req.DryRun, req.Override), func(tx *hostdb.Tx) error {
		if err := unchanged(tx.View()); err != nil {
			return err
		}
		return rollback(tx, then, former, sc)
	})
	if err == nil && sc.What == "" && sc.Key != hostdb.DefaultKey && !then.Exists(sc.NS, former) && len(out.Changes) > 0 {
		out.Warnings = append(out.Warnings, api.ScopeID(sc)+" did not exist then: going back there deletes it")
	}
	return out, err
}

// unchangedSince makes a test of whether something is what it was at a revision.
func (h history) unchangedSince(ctx context.Context, sc hostdb.Scope, since string) (func(hostdb.View) error, error) {
	if since == "" {
		return func(hostdb.View) error { return nil }, nil
	}
	cut, err := h.cut(ctx, since)
	if err != nil {
		return nil, fmt.Errorf("if_unchanged_since: %w", err)
	}
	then, err := h.store.At(ctx, cut)
	if err != nil {
		return nil, err
	}
	was := sc
	if was.Key, err = h.named(ctx, state{view: then, cut: cut}, sc.NS, sc.Key); err != nil {
		return nil, err
	}
	return func(now hostdb.View) error {
		if was.Key != sc.Key || diffScope(was, sc, then, now).Diff != "" {
			return fmt.Errorf("%s was %w %s: look at what it is now, and name a revision after that", api.ScopeID(sc), api.ErrChangedSince, since)
		}
		return nil
	}, nil
}

// rollback makes what a scope with a key names what it was in then, where the key was called former.
func rollback(tx *hostdb.Tx, then hostdb.View, former string, sc hostdb.Scope) error {
	was := sc
	was.Key = former
	if !has(then, was) && !has(tx.View(), sc) && !then.Exists(sc.NS, former) && !tx.View().Exists(sc.NS, sc.Key) {
		return fmt.Errorf("%w: there is no %s, neither now nor then", hostdb.ErrNotFound, api.ScopeID(sc))
	}
	switch {
	case sc.Member != "":
		if then.HasMember(sc.NS, former, sc.Member) {
			return tx.AddMember(sc.NS, sc.Key, sc.Member)
		}
		return tx.RemoveMember(sc.NS, sc.Key, sc.Member)
	case len(sc.Path) > 0:
		return rollbackPath(tx, then.Data(sc.NS, former).At(sc.Path...), sc)
	}
	return tx.RestoreFrom(then, sc.NS, former, sc.Key, sc.What)
}

// rollbackPath makes a value inside the data what it was.
func rollbackPath(tx *hostdb.Tx, was hostdb.Document, sc hostdb.Scope) error {
	now := tx.View().Data(sc.NS, sc.Key)
	for i := range sc.Path {
		if v, leaf := now.At(sc.Path[:i]...).Value(); leaf && v.IsSequence() { // a path below a list means its items
			above := hostdb.Scope{NS: sc.NS, Key: sc.Key, What: hostdb.Data, Path: sc.Path[:i]}
			return fmt.Errorf("%w: %s is a list now: roll that back as a whole", hostdb.ErrNotMapping, api.ScopeID(above))
		}
	}
	if was.Exists() {
		return tx.PutPath(sc.NS, sc.Key, sc.Path, was)
	}
	if !now.At(sc.Path...).Exists() {
		return fmt.Errorf("%w: there is no %s, neither now nor then", hostdb.ErrNotFound, api.ScopeID(sc))
	}
	return tx.DeletePath(sc.NS, sc.Key, sc.Path)
}

// Undo implements api.Restorer.
func (h history) Undo(ctx context.Context, who api.Identity, req api.Undo) (api.Restored, error) {
	rev, err := h.revision(req.Revision)
	if err != nil {
		return api.Restored{}, err
	}
	before, err := h.store.At(ctx, rev.ID.Before())
	if err != nil {
		return api.Restored{}, err
	}
	after, err := h.store.At(ctx, rev.ID)
	if err != nil {
		return api.Restored{}, err
	}
	return h.restore(ctx, restoreRequest(who, req.Log, req.DryRun, req.Override), func(tx *hostdb.Tx) error { return tx.Undo(rev, before, after, req.Force) })
}

func restoreRequest(who api.Identity, log string, dry bool, override string) hostdb.Request {
	req := request(who, log)
	req.DryRun, req.Override = dry, override
	return req
}

// restore runs one write that takes something back, and tells what it did.
func (h history) restore(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (api.Restored, error) {
	var before hostdb.View
	c, err := h.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		before = tx.View()
		return fn(tx)
	})
	if err != nil {
		return api.Restored{}, err
	}
	out := api.Restored{Revision: c.Revision.String(), Warnings: c.Warnings}
	if c.Changed() {
		out.Acks = c.Acks
	}
	out.Changes, out.Omitted = changesOf(c.Effects, &before, restoredChanges)
	return out, nil
}

// ReadOnly implements api.ReadOnlySwitch.
func (h history) ReadOnly() api.ReadOnly {
	v := h.store.View()
	var out api.ReadOnly
	if out.On, out.Reason = v.ReadOnly(); out.On {
		item, _ := v.Get(hostdb.System, hostdb.SettingsKey)
		out.Since = wall(item.Modified())
	}
	return out
}

// SetReadOnly implements api.ReadOnlySwitch.
func (h history) SetReadOnly(ctx context.Context, who api.Identity, on bool, reason string) (api.ReadOnly, error) {
	log := "read-only mode off"
	if on {
		log = "read-only mode on"
	}
	if reason != "" {
		log += ": " + reason
	}
	req := request(who, log)
	req.EvenReadOnly = true
	_, err := h.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		if is, why := tx.View().ReadOnly(); is == on && (!on || why == reason) {
			return nil
		}
		return tx.SetReadOnly(on, reason)
	})
	if err != nil {
		return api.ReadOnly{}, err
	}
	return h.ReadOnly(), nil
}
