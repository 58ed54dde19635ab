package hostdb

import (
	"context"
	"errors"
)

// ErrGone is wrapped by Operations and OperationsUntil when operations are asked for that this replica does not hold, though
// its state has them: they were dropped by retention, or are not fetched yet.
var ErrGone = errors.New("operations are not held any more")

// Hole is a part of history that is folded into the state, and wanted, but not held: operations up to Until of an origin.
type Hole struct {
	Origin uint64
	Until  uint64
}

// Holes are the parts of history that a replica which joined has yet to fetch, those of the newest operations first. Until there are
// none, questions about history return ErrUnavailable.
func (s *Store) Holes() []Hole { return nil }

// OperationsUntil are raw operations of an origin up to seq, in order, the last ones that fit in about maxBytes but at least one. More says that
// this replica holds older ones; gone that there are older ones which it does not hold.
func (s *Store) OperationsUntil(origin, seq uint64, maxBytes int) (ops [][]byte, more, gone bool, err error) {
	return nil, false, false, nil
}

// Fill takes what OperationsUntil of another replica gave for a hole. Operations that are not those of our chain are refused with
// ErrFork. Gone says that nobody has older ones: the hole is closed.
func (s *Store) Fill(ctx context.Context, h Hole, ops [][]byte, gone bool) error { return nil }
