package hostdb

import (
	"context"
	"time"
)

// Revision is one operation as people read it.
type Revision struct {
	ID     Stamp  // the same on every node
	Node   string // id of the node that accepted it; "" when its run's first operation is not held
	User   string
	Log    string
	At     time.Time // when it was written: by its stamp, or what Source says
	Source *Source   // nil for what was written here and not brought from elsewhere
	// Effects are what it did, in the order of keys. Values of System are among them: callers that show effects to people
	// leave that namespace out.
	Effects []Effect
}

// Scope is what a reader of history asks about. The zero Scope is everything but System.
type Scope struct {
	NS, Key string   // "" for all
	What    Resource // Data, Members or Perms; "" for all of the key
	Path    []string // with Data: below this path only
	Member  string   // with Members: this one only
}

// RevisionQuery asks for revisions, newest first.
type RevisionQuery struct {
	Scope
	Before Stamp // only older ones; zero for the newest
	Limit  int   // at most so many; 0 is 50
}

// Revisions are those that a query asks for, newest first; more says that there are older ones. The history of a key
// follows its renames.
func (s *Store) Revisions(ctx context.Context, q RevisionQuery) (list []Revision, more bool, err error) {
	panic("not yet")
}

// Revision is the operation with an id; ErrNotFound when this replica does not hold it.
func (s *Store) Revision(id Stamp) (Revision, error) { panic("not yet") }

// EachRevision calls fn for each revision after a stamp, oldest first, those of System included. It stops at fn's error.
func (s *Store) EachRevision(ctx context.Context, after Stamp, fn func(Revision) error) error {
	panic("not yet")
}

// At is the state as of a stamp: the fold of all operations now known with stamps up to it. The zero Stamp gives an empty
// replica. It costs what has changed since; recent results are kept.
func (s *Store) At(ctx context.Context, cut Stamp) (View, error) { panic("not yet") }

// Before is the newest stamp below s: At(ctx, id.Before()) is the state that an operation found, as far as is known now.
func (s Stamp) Before() Stamp { panic("not yet") }

// Cut understands what people give for a moment: a revision, or a time (RFC 3339, "2006-01-02 15:04:05", "2006-01-02", in
// UTC; or a Go duration ago, as "90m"). It is the stamp for At.
func (s *Store) Cut(ctx context.Context, text string) (Stamp, error) { panic("not yet") }

// Formerly is the name that ns/key had in the state then, following renames backwards; ok is false when it was not there
// under any name. A key that existed under its present name then is itself.
func (s *Store) Formerly(ctx context.Context, then View, cut Stamp, ns, key string) (name string, ok bool, err error) {
	panic("not yet")
}

// BlameLine is one line of a text and who last wrote it.
type BlameLine struct {
	Revision Stamp
	User     string
	At       time.Time
	Text     string // without newline
}

// Blame tells who last wrote each line of the data (at a path, if any), the raw members or the perms of a key in v, which
// At may have made.
func (s *Store) Blame(ctx context.Context, v View, scope Scope) ([]BlameLine, error) {
	panic("not yet")
}

// Side is one of the two writes of a conflict.
type Side struct {
	Revision Revision
	Value    string // canonical YAML of a value, the text of perms; "" when Gone
	Gone     bool   // it removed what stood there
}

// Sides are the two writes of a conflict. The loser's value is in history alone.
func (s *Store) Sides(c Conflict) (winner, loser Side, err error) { panic("not yet") }

// Cursor names a state by what it holds of each origin, for those who follow the replica. Its text is opaque; it is good at
// every node.
type Cursor struct{ held map[uint64]uint64 }

// Cursor is the cursor of v.
func (v View) Cursor() Cursor { panic("not yet") }

// String is the cursor as text for ParseCursor: base64url.
func (c Cursor) String() string { panic("not yet") }

// ParseCursor reads what String writes.
func ParseCursor(text string) (Cursor, error) { panic("not yet") }

// Since are revisions that v holds and c does not, at most max, oldest first, and the cursor after them. There are no more
// when next equals v's.
func (s *Store) Since(ctx context.Context, c Cursor, v View, max int) (list []Revision, next Cursor, err error) {
	panic("not yet")
}
