package node

import (
	"context"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// Daemon makes one part of this box match what HostDB wants.
// Reconcile is idempotent and may be called with unchanged views.
type Daemon interface {
	Name() string
	Reconcile(ctx context.Context, db hostdb.View, m mesh.View) error
}

// Planner is a Daemon that can tell what Reconcile would do. Under --observe it is called instead, so it must touch
// nothing. diff is for people, one change a line; empty means that nothing would be done.
type Planner interface {
	Plan(ctx context.Context, db hostdb.View, m mesh.View) (diff string, err error)
}
