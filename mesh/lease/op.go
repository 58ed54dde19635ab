package lease

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// formatVersion is the version of log entries and snapshots. A voter that meets a later one stops voting and says so.
const formatVersion = 1

// Bounds of what a group keeps. They keep the whole state far below what fits into one snapshot message.
const (
	maxKey     = 253      // bytes of a duty's name or a record's key
	maxValue   = 64 << 10 // bytes of a record
	maxRecords = 50_000
	maxDuties  = 10_000
	maxDrained = 1000
	maxWhy     = 128       // bytes of why a node was chosen
	maxState   = 6 << 20   // bytes of keys and values of all records
	maxBatch   = 100       // duties granted in one entry
	maxEntry   = 192 << 10 // bytes of an entry: 64 of them, which raft sends at a time, fit into one message of the mesh
	maxText    = 512       // bytes of a reason
)

// opKind is what an entry of the log does. The numbers are a format: add, never change.
type opKind int

const (
	opGrant   opKind = 1  // Grants: duties that have no holder get one
	opRelease opKind = 2  // Ends: holders that stopped, each by its fence; Grants: who follows, in the same moment
	opExpire  opKind = 3  // Session: all it holds has no holder now
	opPut     opKind = 4  // Key, Value, Version: a record, if it still has that version; 0 = if it does not exist
	opDelete  opKind = 5  // Key, Version
	opAdd     opKind = 6  // Key, Count: a counter
	opDrain   opKind = 7  // Node, User, Text, Wall
	opUndrain opKind = 8  // Node
	opRecover opKind = 9  // Generation, Nodes: the group begins a new generation; these nodes must claim what they own
	opClaim   opKind = 10 // Node, Claims: what a node was granted for good, brought in again; Count: how many entries follow
	opExcuse  opKind = 11 // Node: it need not claim
	opRename  opKind = 12 // Text: the group's datacenter
	opForget  opKind = 13 // Duties: that nobody wants any more
	opFound   opKind = 14 // Nodes: the first of a group; these nodes may have been granted something by another, and must claim it
)

// op is one entry.
type op struct {
	Version    int       `cbor:"1,keyasint"`
	Kind       opKind    `cbor:"2,keyasint"`
	Wall       int64     `cbor:"3,keyasint,omitempty"` // unix ms of the leader, for people only
	Grants     []grantOp `cbor:"4,keyasint,omitempty"`
	Ends       []endOp   `cbor:"5,keyasint,omitempty"`
	Session    string    `cbor:"6,keyasint,omitempty"`
	Key        string    `cbor:"7,keyasint,omitempty"`
	Value      []byte    `cbor:"8,keyasint,omitempty"`
	If         uint64    `cbor:"9,keyasint,omitempty"`
	Count      uint64    `cbor:"10,keyasint,omitempty"`
	Node       string    `cbor:"11,keyasint,omitempty"`
	User       string    `cbor:"12,keyasint,omitempty"`
	Text       string    `cbor:"13,keyasint,omitempty"`
	Nodes      []string  `cbor:"14,keyasint,omitempty"`
	Claims     []claimOp `cbor:"15,keyasint,omitempty"`
	Generation uint64    `cbor:"16,keyasint,omitempty"`
	Duties     []string  `cbor:"17,keyasint,omitempty"`
	Duty       string    `cbor:"18,keyasint,omitempty"` // opPut: only while this duty is held under Fence
	Fence      uint64    `cbor:"19,keyasint,omitempty"`
	Term       uint64    `cbor:"20,keyasint,omitempty"` // raft\'s, of the office that decided it; in another it does nothing
}

type grantOp struct {
	Duty    string `cbor:"1,keyasint"`
	Node    string `cbor:"2,keyasint"`
	Session string `cbor:"3,keyasint"`
	Why     string `cbor:"4,keyasint,omitempty"`
}

type endOp struct {
	Duty  string `cbor:"1,keyasint"`
	Fence uint64 `cbor:"2,keyasint"`
}

type claimOp struct {
	Key   string `cbor:"1,keyasint"`
	Value []byte `cbor:"2,keyasint"`
}

var (
	encoding = must(cbor.EncOptions{Sort: cbor.SortCanonical}.EncMode())
	// What comes from disk and peers is bounded before it is decoded.
	decoding = must(cbor.DecOptions{
		MaxNestedLevels: 8, MaxArrayElements: 200_000, MaxMapPairs: 200_000, IndefLength: cbor.IndefLengthForbidden,
		DupMapKey: cbor.DupMapKeyEnforcedAPF,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that are wrong are a programmer's error
	}
	return v
}

func (o op) encode() []byte {
	o.Version = formatVersion
	return must(encoding.Marshal(o))
}

// errNewer is returned for what a later build wrote.
var errNewer = errors.New("written by a newer build of hostmesh: upgrade this node")

func decodeOp(b []byte) (op, error) {
	var o op
	if err := decoding.Unmarshal(b, &o); err != nil {
		// A later version may be of a form that this one cannot read at all.
		var head struct {
			Version int `cbor:"1,keyasint"`
		}
		if decoding.Unmarshal(b, &head) == nil && head.Version > formatVersion {
			return op{}, fmt.Errorf("entry of version %d: %w", head.Version, errNewer)
		}
		return op{}, fmt.Errorf("decode entry: %w", err)
	}
	if o.Version > formatVersion {
		return op{}, fmt.Errorf("entry of version %d: %w", o.Version, errNewer)
	}
	return o, nil
}

// checkName tells whether a name can be that of a duty or a record.
func checkName(what, s string) error {
	if s == "" || len(s) > maxKey || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s %q: want 1 to %d bytes of UTF-8", ErrInvalid, what, clip(s), maxKey)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%w: %s %q: want no control characters", ErrInvalid, what, clip(s))
		}
	}
	return nil
}

func isNewer(err error) bool { return errors.Is(err, errNewer) }
