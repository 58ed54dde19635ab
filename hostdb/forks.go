package hostdb

import "time"

// Fork is an operation that another box wrote under an origin and seq that is taken here by another operation.
type Fork struct {
	Origin, Seq uint64
	Node        string // id of the node whose run it is
	Revision    Stamp  // of the operation that is kept aside
	Ours        Stamp  // of the operation that is part of this replica; zero when history does not hold it any more
	User, Log   string // of the operation that is kept aside
	Seen        time.Time
}

// Forks are the operations that are kept aside because they do not continue the chain held here, at most the first 1,000 of each
// origin. They are stored, and not merged.
func (s *Store) Forks() ([]Fork, error) { return nil, nil }

// KeepFork keeps an operation aside that does not belong to the chain held here. Apply does it by itself.
func (s *Store) KeepFork(raw []byte) error { return nil }

// SetSkew sets who tells how far this box's wall is ahead of the median of the clocks of the mesh, and how many clocks are
// known, this one included. While three are known and it is off by more than a second, Update returns ErrClock.
func (s *Store) SetSkew(func() (ahead time.Duration, clocks int)) {}
