package hostdb

import (
	"context"
	"iter"
)

// Head is what a replica holds of one origin, which is one run of one node.
type Head struct {
	Origin uint64
	Seq    uint64 // the newest operation held
	Time   Time   // of that operation
	Hash   Hash   // of that operation
	Node   string // id of the node that made the run; "" when its first operation did not say
	// Low is where the log begins: operations up to it are folded into the state, but not held one by one.
	Low uint64
	// Filling says that those up to Low are wanted and will be fetched; else retention dropped them.
	Filling bool
}

// Heads yields what v holds of each origin that was not retired, by origin.
func (v View) Heads() iter.Seq[Head] { return func(func(Head) bool) {} }

// AllHeads yields what v holds of each origin, retired ones included.
func (v View) AllHeads() iter.Seq[Head] { return func(func(Head) bool) {} }

// Retired is a digest of the runs that were retired: equal texts are equal sets.
func (v View) Retired() string { return "" }

// RetireRuns says to the whole mesh that runs are closed and held by every member, so that nobody need name them any
// more when replicas are compared. It is the caller's to know that. It is one operation, which replicates as any other.
func (s *Store) RetireRuns(ctx context.Context, runs []Head) (Commit, error) { return Commit{}, nil }
