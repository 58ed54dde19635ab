package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// Names of the requests. A change that an older node cannot understand gets a new name.
const (
	pushName    = "hostdb.push.1"
	pullName    = "hostdb.pull.1"
	stateName   = "hostdb.state.1"
	historyName = "hostdb.history.1"
)

// protocol is the newest dialect of the messages that this build speaks; it stands in every request and answer. Messages
// without one are of the builds before there were dialects: oldProtocol.
const (
	protocol    = 2
	oldProtocol = 1
)

// pushRequest carries operations, in order within each origin.
type pushRequest struct {
	Ops [][]byte `cbor:"1,keyasint"`
	// Held says to who may be empty how many operations the sender's state is made of; 0 when that is not said. Partial says that
	// not all of them are held one by one.
	Held    uint64 `cbor:"2,keyasint,omitempty"`
	Partial bool   `cbor:"3,keyasint,omitempty"`
}

// pushAnswer says what the receiver holds durably of the origins in the request.
type pushAnswer struct {
	Have     map[uint64]uint64 `cbor:"1,keyasint"`
	Reason   string            `cbor:"2,keyasint,omitempty"` // why not everything was taken; for people
	Protocol int               `cbor:"3,keyasint,omitempty"`
	Wall     int64             `cbor:"4,keyasint,omitempty"` // the answerer's clock, nanoseconds since 1970
	Forked   []uint64          `cbor:"5,keyasint,omitempty"` // origins of which another chain is held here
	Early    bool              `cbor:"6,keyasint,omitempty"` // the receiver is empty, and takes the state of another before it takes operations
}

// pullRequest says what the asker holds, and asks what it lacks. There are three forms: of the old protocol, with Vector;
// a comparison, with Version, Retired, and Heads or Sums; and one for operations, with Want.
type pullRequest struct {
	Vector   map[uint64]uint64 `cbor:"1,keyasint"` // everything; only for who does not know the new protocol, or may not
	Bytes    int               `cbor:"2,keyasint"` // of operations in the answer, about; 0: none, in the new protocol
	Protocol int               `cbor:"3,keyasint,omitempty"`
	Version  string            `cbor:"4,keyasint,omitempty"`
	Retired  string            `cbor:"5,keyasint,omitempty"`
	Heads    []byte            `cbor:"6,keyasint,omitempty"` // all heads that were not retired, packed, when they are few
	Sums     []uint64          `cbor:"7,keyasint,omitempty"` // else a sum for each bucket of them
	Want     []byte            `cbor:"8,keyasint,omitempty"` // packed pairs: operations of these origins after these
}

// pullAnswer carries operations that the asker lacks, and what the answerer holds.
type pullAnswer struct {
	Ops       [][]byte          `cbor:"1,keyasint,omitempty"`
	More      bool              `cbor:"2,keyasint,omitempty"`
	Version   string            `cbor:"3,keyasint"`
	Algorithm int               `cbor:"4,keyasint"`
	Digests   map[string]string `cbor:"5,keyasint"`
	Vector    map[uint64]uint64 `cbor:"6,keyasint"`           // only in the old protocol
	Busy      bool              `cbor:"7,keyasint,omitempty"` // nothing was looked at; try later
	Floor     hostdb.Time       `cbor:"8,keyasint,omitempty"` // the answerer will write nothing with a lower stamp from now on
	Protocol  int               `cbor:"9,keyasint,omitempty"`
	Wall      int64             `cbor:"10,keyasint,omitempty"` // the answerer's clock, nanoseconds since 1970
	RetryMS   int               `cbor:"11,keyasint,omitempty"` // with Busy: not before so many milliseconds
	Retired   string            `cbor:"12,keyasint,omitempty"`
	Mask      uint64            `cbor:"13,keyasint,omitempty"` // buckets that differ; the others are equal
	All       bool              `cbor:"14,keyasint,omitempty"` // Heads are all heads, retired ones included
	Heads     []byte            `cbor:"15,keyasint,omitempty"` // the answerer's heads in those buckets, packed
	Held      uint64            `cbor:"16,keyasint,omitempty"` // how many operations its state is made of
	Late      bool              `cbor:"17,keyasint,omitempty"` // it holds operations that it cannot fold
	Partial   bool              `cbor:"18,keyasint,omitempty"` // its log does not begin at the beginning
	Gone      []uint64          `cbor:"19,keyasint,omitempty"` // wanted origins of which it lacks what comes next
}

// stateRequest asks for a piece of the whole state.
type stateRequest struct {
	Version  string `cbor:"1,keyasint,omitempty"` // of the state; "" takes any
	After    []byte `cbor:"2,keyasint,omitempty"` // place after which to begin; none begins
	Bytes    int    `cbor:"3,keyasint"`
	Protocol int    `cbor:"4,keyasint"`
}

// stateAnswer is a piece of the whole state.
type stateAnswer struct {
	Version   string            `cbor:"1,keyasint,omitempty"`
	Heads     []byte            `cbor:"2,keyasint,omitempty"` // with the first piece
	Piece     []byte            `cbor:"3,keyasint,omitempty"`
	Last      []byte            `cbor:"4,keyasint,omitempty"` // place after the piece; none when it is the last
	Digests   map[string]string `cbor:"5,keyasint,omitempty"` // with the last piece
	Algorithm int               `cbor:"6,keyasint,omitempty"`
	Busy      bool              `cbor:"7,keyasint,omitempty"`
	RetryMS   int               `cbor:"8,keyasint,omitempty"`
	Gone      string            `cbor:"9,keyasint,omitempty"` // why there is no such state here
	Keys      int               `cbor:"10,keyasint,omitempty"`
	Wall      int64             `cbor:"11,keyasint,omitempty"`
	Protocol  int               `cbor:"12,keyasint,omitempty"`
}

// historyRequest asks for operations of an origin, backwards.
type historyRequest struct {
	Origin   uint64 `cbor:"1,keyasint"`
	Until    uint64 `cbor:"2,keyasint"`
	Bytes    int    `cbor:"3,keyasint"`
	Protocol int    `cbor:"4,keyasint"`
}

// historyAnswer are the last operations of an origin up to a seq.
type historyAnswer struct {
	Ops      [][]byte `cbor:"1,keyasint,omitempty"`
	More     bool     `cbor:"2,keyasint,omitempty"` // the answerer holds older ones
	Gone     bool     `cbor:"3,keyasint,omitempty"` // it dropped older ones
	NotHere  bool     `cbor:"4,keyasint,omitempty"` // it has yet to fetch them itself
	Busy     bool     `cbor:"5,keyasint,omitempty"`
	RetryMS  int      `cbor:"6,keyasint,omitempty"`
	Wall     int64    `cbor:"7,keyasint,omitempty"`
	Protocol int      `cbor:"8,keyasint,omitempty"`
}

// Bounds of what a neighbour's message may hold. A mesh has one run, maybe a few, for each node.
const (
	maxOrigins  = 1 << 17
	maxOps      = 1 << 18 // in one message
	maxText     = 1 << 10 // of names and reasons
	maxRetry    = 30 * time.Second
	packedHead  = 24 // bytes: origin, seq, the beginning of the hash
	packedPair  = 16 // bytes: origin, seq
	bucketCount = 64
)

// ErrMessage is wrapped by errors about a neighbour's message that breaks the rules of the exchange.
var ErrMessage = errors.New("message breaks the rules")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, args...))
}

// decoding bounds what a neighbour's message may ask of us.
var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxArrayElements: maxOps,
		MaxMapPairs:      maxOrigins,
		MaxNestedLevels:  8,
		IndefLength:      cbor.IndefLengthForbidden,
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func encode(v any) ([]byte, error) {
	b, err := cbor.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return b, nil
}

// checked is a message that has rules beyond its form.
type checked interface{ check() error }

func decode(b []byte, v checked) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	if err := v.check(); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}

func (m *pushRequest) check() error { return nil }

func (m *pushAnswer) check() error {
	if len(m.Forked) > maxOrigins {
		return broken("%d origins", len(m.Forked))
	}
	m.Reason = clip(m.Reason)
	return nil
}

func (m *pullRequest) check() error {
	switch {
	case len(m.Sums) != 0 && len(m.Sums) != bucketCount:
		return broken("%d sums, %d expected", len(m.Sums), bucketCount)
	case len(m.Version) > maxText || len(m.Retired) > maxText:
		return broken("a version is too long")
	case len(m.Want) > maxOrigins*packedPair || len(m.Want)%packedPair != 0:
		return broken("%d bytes of wanted origins", len(m.Want))
	}
	return checkHeads(m.Heads)
}

func (m *pullAnswer) check() error {
	if len(m.Version) > maxText || len(m.Retired) > maxText {
		return broken("a version is too long")
	}
	if len(m.Gone) > maxOrigins {
		return broken("%d origins", len(m.Gone))
	}
	if err := checkDigests(m.Digests); err != nil {
		return err
	}
	return checkHeads(m.Heads)
}

func (m *stateRequest) check() error {
	if len(m.Version) > maxText || len(m.After) > 64*maxText {
		return broken("a version or place is too long")
	}
	return nil
}

func (m *stateAnswer) check() error {
	if len(m.Version) > maxText || len(m.Last) > 64*maxText {
		return broken("a version or place is too long")
	}
	m.Gone = clip(m.Gone)
	return checkDigests(m.Digests)
}

func (m *historyRequest) check() error { return nil }

func (m *historyAnswer) check() error { return nil }

// checkDigests bounds what is kept of digests: they go into logs and evidence.
func checkDigests(digests map[string]string) error {
	for ns, d := range digests {
		if len(ns) > 4*maxText || len(d) > maxText {
			return broken("a digest is too long")
		}
	}
	return nil
}

func checkHeads(b []byte) error {
	if len(b) > maxOrigins*packedHead || len(b)%packedHead != 0 {
		return broken("%d bytes of heads", len(b))
	}
	for last := uint64(0); len(b) > 0; b = b[packedHead:] {
		origin := binary.BigEndian.Uint64(b)
		if origin <= last {
			return broken("heads are not in order")
		}
		last = origin
	}
	return nil
}

func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}

// retryAfter is how long a busy peer wants to be left alone.
func retryAfter(ms int) time.Duration {
	return min(max(time.Duration(min(max(ms, 0), 1<<20))*time.Millisecond, 50*time.Millisecond), maxRetry)
}

// shortHead is what is compared of a head.
type shortHead struct {
	origin, seq, hash uint64 // the beginning of the hash
}

func packHeads(heads []shortHead) []byte {
	b := make([]byte, 0, len(heads)*packedHead)
	for _, h := range heads {
		b = binary.BigEndian.AppendUint64(b, h.origin)
		b = binary.BigEndian.AppendUint64(b, h.seq)
		b = binary.BigEndian.AppendUint64(b, h.hash)
	}
	return b
}

// unpackHeads reads what passed checkHeads.
func unpackHeads(b []byte) []shortHead {
	heads := make([]shortHead, 0, len(b)/packedHead)
	for ; len(b) >= packedHead; b = b[packedHead:] {
		heads = append(heads, shortHead{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])})
	}
	return heads
}

func packPairs(pairs []pair) []byte {
	b := make([]byte, 0, len(pairs)*packedPair)
	for _, p := range pairs {
		b = binary.BigEndian.AppendUint64(b, p.origin)
		b = binary.BigEndian.AppendUint64(b, p.seq)
	}
	return b
}

func unpackPairs(b []byte) []pair {
	pairs := make([]pair, 0, len(b)/packedPair)
	for ; len(b) >= packedPair; b = b[packedPair:] {
		pairs = append(pairs, pair{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])})
	}
	return pairs
}
