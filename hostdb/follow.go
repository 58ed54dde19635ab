package hostdb

import (
	"container/heap"
	"context"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
)

// Cursor names a state by what it holds of each origin, for those who follow a replica. Its text is opaque; it is good at
// every node. The zero Cursor is that of an empty replica.
type Cursor struct{ held map[uint64]uint64 }

// Cursor is the cursor of v; that of a state of the past is the zero one.
func (v View) Cursor() Cursor {
	c := Cursor{held: make(map[uint64]uint64, v.snap().vector.len())}
	for origin, seq := range v.Vector() {
		c.held[origin] = seq
	}
	return c
}

// cursorVersion is the first byte of a cursor's bytes.
const cursorVersion = 1

// String is the cursor as text for ParseCursor: base64url without padding. Equal cursors have equal texts.
func (c Cursor) String() string {
	b := []byte{cursorVersion}
	for _, origin := range slices.Sorted(maps.Keys(c.held)) {
		b = binary.BigEndian.AppendUint64(b, origin)
		b = binary.AppendUvarint(b, c.held[origin])
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// maxCursor bounds the text of a cursor: tens of thousands of origins.
const maxCursor = 1 << 20

// ParseCursor reads what String writes.
func ParseCursor(text string) (Cursor, error) {
	bad := refuse(ErrInvalid, "not a cursor: expected what an earlier event or answer gave as one")
	if len(text) > maxCursor {
		return Cursor{}, bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != cursorVersion {
		return Cursor{}, bad
	}
	c := Cursor{held: map[uint64]uint64{}}
	for b = b[1:]; len(b) > 0; {
		if len(b) < 9 {
			return Cursor{}, bad
		}
		origin := binary.BigEndian.Uint64(b)
		seq, n := binary.Uvarint(b[8:])
		if _, twice := c.held[origin]; n <= 0 || twice || seq == 0 {
			return Cursor{}, bad
		}
		c.held[origin] = seq
		b = b[8+n:]
	}
	return c, nil
}

// Covers reports whether v holds everything that c does: only then can v be followed from c.
func (v View) Covers(c Cursor) bool {
	for origin, seq := range c.held {
		if v.Seq(origin) < seq {
			return false
		}
	}
	return true
}

// sinceBytes is about how much of an origin's operations Since reads at a time.
const sinceBytes = 256 << 10

// Since are revisions that v holds and c does not, at most max, in the order of their stamps, and the cursor after them.
// There are no more when next equals v's: then the list may be empty. v is a View of this Store.
func (s *Store) Since(ctx context.Context, c Cursor, v View, max int) (list []Revision, next Cursor, err error) {
	r, err := s.reading()
	if err != nil {
		return nil, c, err
	}
	next = Cursor{held: maps.Clone(c.held)}
	if next.held == nil {
		next.held = map[uint64]uint64{}
	}
	var queue origins
	for origin, seq := range v.Vector() {
		if seq > next.held[origin] {
			q := &originQueue{origin: origin, last: seq}
			if err := q.fill(s, next.held[origin]); err != nil {
				return nil, c, err
			}
			queue = append(queue, q)
		}
	}
	heap.Init(&queue)
	for len(queue) > 0 && len(list) < max {
		if err := ctx.Err(); err != nil {
			return nil, c, err
		}
		q := queue[0]
		op := q.ops[0]
		q.ops = q.ops[1:]
		list = append(list, r.revision(op))
		next.held[q.origin] = op.Seq
		switch {
		case op.Seq == q.last:
			heap.Pop(&queue)
			continue
		case len(q.ops) == 0:
			if err := q.fill(s, op.Seq); err != nil {
				return nil, c, err
			}
		}
		heap.Fix(&queue, 0)
	}
	return list, next, nil
}

// originQueue are the next operations of an origin.
type originQueue struct {
	origin, last uint64
	ops          []*Operation
}

func (q *originQueue) fill(s *Store, after uint64) error {
	raws, err := s.Operations(q.origin, after, sinceBytes)
	if err != nil {
		return err
	}
	for _, raw := range raws {
		op, err := ParseOperation(raw)
		if err != nil {
			return err
		}
		q.ops = append(q.ops, op)
	}
	if len(q.ops) == 0 {
		return refuse(ErrNotFound, "operations of %016x after %d are gone from this replica", q.origin, after)
	}
	return nil
}

// origins is a heap of queues by the stamp of their first operation.
type origins []*originQueue

func (o origins) Len() int           { return len(o) }
func (o origins) Less(i, j int) bool { return o[i].ops[0].Stamp().Less(o[j].ops[0].Stamp()) }
func (o origins) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *origins) Push(x any)        { *o = append(*o, x.(*originQueue)) }
func (o *origins) Pop() any {
	old := *o
	x := old[len(old)-1]
	*o = old[:len(old)-1]
	return x
}
