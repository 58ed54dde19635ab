package hostdb

import (
	"context"
	"errors"
)

// ErrJoined is returned by BeginJoin when the replica holds something already.
var ErrJoined = errors.New("replica is not empty")

// ErrMoved is returned by Repair when the state that is offered lacks operations that this replica holds and has no log of,
// or has some that are missing here.
var ErrMoved = errors.New("states are of different operations")

// EncodeHeads are v's heads, retired ones included, as bytes for BeginJoin and for StateOf.
func (v View) EncodeHeads() []byte { return nil }

// Piece are registers of v after a place, which is "" at first, in at most about maxBytes but at least one register; last is the place
// after them. It is "" when there are no more.
func (v View) Piece(after string, maxBytes int) (piece []byte, last string) { return nil, "" }

// Join is an unfinished join.
type Join struct {
	Version string // of the state that is being taken
	After   string // place of the last piece that is stored
}

// Joining tells of a join that was begun, here or before a crash, and not finished.
func (s *Store) Joining() (j Join, ok bool) { return Join{}, false }

// BeginJoin begins to take the whole state of another replica into this empty one. Until FinishJoin the View is empty, and
// Update and Apply return ErrUnavailable. Version is that of the state, heads what EncodeHeads gave for it. A join begun before
// is forgotten.
func (s *Store) BeginJoin(ctx context.Context, version string, heads []byte) error { return nil }

// AddPiece stores a piece of the state durably; after is the place that it was asked for, last the one that came with it.
func (s *Store) AddPiece(ctx context.Context, piece []byte, after, last string) error { return nil }

// FinishJoin makes the state that was taken this replica's own. Its digests must be those given, by namespace, else it is
// dropped and the error wraps ErrInvalid. The log is empty then; see Holes.
func (s *Store) FinishJoin(ctx context.Context, digests map[string]string) error { return nil }

// AbandonJoin drops what was taken.
func (s *Store) AbandonJoin(ctx context.Context) error { return nil }

// StateOf is the state that heads and pieces of another replica describe, for Repair.
func StateOf(heads []byte, pieces [][]byte) (View, error) { return View{}, nil }

// Refold is the state that the log of this replica describes: what its registers should be. It costs all of history.
func (s *Store) Refold(ctx context.Context) (View, error) { return View{}, nil }

// Difference is a key of which Repair found other registers than it was given.
type Difference struct {
	NS, Key string
	Had     []byte // the rows as they were
	Has     []byte // the rows as they are now
}

// Repair replaces the registers of this replica by those of right, where they differ: those of a state of the same operations
// from StateOf or Refold, with operations that came meanwhile folded into it. ErrMoved when right lacks or has others.
func (s *Store) Repair(ctx context.Context, right View) ([]Difference, error) { return nil, nil }
