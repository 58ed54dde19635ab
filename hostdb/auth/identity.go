package auth

import (
	"context"
	"fmt"

	"hostmesh/hostdb"
)

// Identity is who a request comes from. It is a value; the zero Identity is nobody, who may do nothing.
type Identity struct {
	User   string   // as history shows it: alice, root(alice)
	Groups []string // shared: callers must not change it
	Admin  bool     // may do everything
	Via    string   // how it became known, for logs: session, socket
}

// Allow reports why id may not write a resource of ns/key, nil when it may. The error wraps hostdb.ErrDenied and names
// the rule that refused. It is meant for hostdb.Request.Allow.
func (id Identity) Allow(v hostdb.View, ns, key string, what hostdb.Resource) error {
	if id.Admin {
		return nil
	}
	d := v.Permits(ns, key, what, id.User, id.Groups)
	if d.Allowed {
		return nil
	}
	return &denial{fmt.Sprintf("User %s does not have write permission on %s of %s/%s: %s", id.User, what, ns, key, d.Rule)}
}

// denial shows people a sentence, and programs hostdb.ErrDenied.
type denial struct{ message string }

func (d *denial) Error() string { return d.message }
func (d *denial) Unwrap() error { return hostdb.ErrDenied }

type identityKey struct{}

// WithIdentity is ctx with who its request comes from. A server uses it where the connection itself tells, as a unix
// socket does; it goes before every session.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// FromContext is the identity that WithIdentity set; ok is false when none was.
func FromContext(ctx context.Context) (id Identity, ok bool) {
	id, ok = ctx.Value(identityKey{}).(Identity)
	return id, ok
}
