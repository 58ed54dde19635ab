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
type Cursor struct {
	held map[uint64]uint64
	// runs is the newest retirement known: what was retired until then is held, though it is not named.
	runs Stamp
}

// Cursor is the cursor of v; that of a state of the past is the zero one.
func (v View) Cursor() Cursor {
	c := Cursor{held: map[uint64]uint64{}}
	for h := range v.Heads() {
		c.held[h.Origin] = h.Seq
	}
	for _, r := range v.snap().retired.all() {
		c.runs = maxStamp(c.runs, r.at)
	}
	return c
}

// holds is how many operations of an origin c holds, of those that v knows.
func (c Cursor) holds(v View, origin uint64) uint64 {
	if seq, named := c.held[origin]; named {
		return seq
	}
	if r, ok := v.snap().retired.get(origin); ok && r.at.Compare(c.runs) <= 0 {
		return r.seq
	}
	return 0
}

// A cursor's first byte: 1 is followed by origins and seqs, 2 has the newest retirement before them.
const (
	cursorPlain   = 1
	cursorRetired = 2
)

// String is the cursor as text for ParseCursor: base64url without padding. Equal cursors have equal texts.
func (c Cursor) String() string {
	b := []byte{cursorPlain}
	if !c.runs.IsZero() {
		b = append([]byte{cursorRetired}, stampKey(c.runs)[1:]...)
	}
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
	if err != nil || len(b) == 0 || b[0] != cursorPlain && b[0] != cursorRetired {
		return Cursor{}, bad
	}
	c := Cursor{held: map[uint64]uint64{}}
	if b[0] == cursorRetired {
		if len(b) < 17 {
			return Cursor{}, bad
		}
		c.runs = stampOf(b[:17])
		b = b[16:]
	}
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
	next = Cursor{held: maps.Clone(c.held), runs: c.runs}
	if next.held == nil {
		next.held = map[uint64]uint64{}
	}
	var queue origins
	for origin, seq := range v.Vector() {
		if held := c.holds(v, origin); seq > held {
			q := &originQueue{origin: origin, last: seq}
			if err := q.fill(s, held); err != nil {
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
	if len(queue) == 0 && v.Covers(c) {
		next = v.Cursor()
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
