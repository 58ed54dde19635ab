package hostdb

import (
	"crypto/sha256"
	"strings"
)

// OperationVersion is the newest operation format this build writes. The format only grows: fields and effect kinds
// are added, never changed; a reader keeps and forwards what it does not know (the bytes are the operation).
const OperationVersion = 1

// maxOperationName bounds namespaces, keys and members in the operation format.
const maxOperationName = 4096

// Hash is the SHA-256 of an operation's bytes.
type Hash [sha256.Size]byte

// Operation is one accepted write: atomic, immutable, the unit of replication and of history. Its bytes are CBOR in
// core deterministic encoding (RFC 8949, 4.2.1) with integer keys.
type Operation struct {
	Version int      `cbor:"1,keyasint"`
	Origin  uint64   `cbor:"2,keyasint"`           // random, of one opening of one data directory
	Seq     uint64   `cbor:"3,keyasint"`           // 1, 2, 3... within the origin
	After   []byte   `cbor:"4,keyasint,omitempty"` // hash of the predecessor; none for a directory's very first
	Prev    *Link    `cbor:"5,keyasint,omitempty"` // only Seq 1: the predecessor, the last of the run before
	Time    Time     `cbor:"6,keyasint"`
	User    string   `cbor:"7,keyasint,omitempty"`
	Log     string   `cbor:"8,keyasint,omitempty"`
	Effects []Effect `cbor:"9,keyasint"`
	Node    string   `cbor:"10,keyasint,omitempty"` // only Seq 1: the node id that made this run
	Source  *Source  `cbor:"11,keyasint,omitempty"` // only what was brought from elsewhere

	raw []byte
}

// Source says where a write came from that was first made elsewhere, such as a commit of a Git repository.
type Source struct {
	Seconds int64  `cbor:"1,keyasint"`           // when it was made, unix
	Zone    int    `cbor:"2,keyasint,omitempty"` // minutes east of UTC, as its author's clock showed
	Email   string `cbor:"3,keyasint,omitempty"` // of its author
	Ref     string `cbor:"4,keyasint,omitempty"` // its name there: a commit's id
}

// Link names an operation of another run.
type Link struct {
	_      struct{} `cbor:",toarray"`
	Origin uint64
	Seq    uint64
}

// Kind says what an effect does. Numbers are part of the format.
type Kind uint8

// The kinds of effects. All but DeleteKey carry Base and are live only while Base is the newest delete of their key.
const (
	CreateKey    Kind = 1 // the key exists from here on; From is its old name in a rename. Key "" creates the namespace.
	DeleteKey    Kind = 2 // the key with data, members and perms is gone; Replaces is the newest stamp its writer saw in it
	SetLeaf      Kind = 3 // Path has Value
	UnsetLeaf    Kind = 4 // nothing stands at Path
	PutMember    Kind = 5 // Member is in the list at place Order, after the lines of Text
	RemoveMember Kind = 6 // Member is not in the list
	SetPerms     Kind = 7 // Value is the access list as canonical YAML, as a string; the null value removes it
)

// Effect is one change of one register. Fields that a Kind does not name are absent.
type Effect struct {
	Kind     Kind     `cbor:"1,keyasint"`
	NS       string   `cbor:"2,keyasint"`
	Key      string   `cbor:"3,keyasint,omitempty"`
	Path     []string `cbor:"4,keyasint,omitempty"`
	Value    Value    `cbor:"5,keyasint,omitempty"`
	Member   string   `cbor:"6,keyasint,omitempty"`
	Order    string   `cbor:"7,keyasint,omitempty"`
	Text     string   `cbor:"8,keyasint,omitempty"`
	Base     *Stamp   `cbor:"9,keyasint,omitempty"`  // newest delete of the key that the writer had seen; absent: none
	Replaces *Stamp   `cbor:"10,keyasint,omitempty"` // stamp of what stood in the register; absent: nothing did
	From     string   `cbor:"11,keyasint,omitempty"`
}

// Stamp is the operation's id.
func (o *Operation) Stamp() Stamp { return Stamp{Time: o.Time, Origin: o.Origin} }

// Raw is the operation's bytes: what is stored, hashed and sent. Callers must not change them.
func (o *Operation) Raw() []byte { return o.raw }

// Hash is the hash of Raw.
func (o *Operation) Hash() Hash { return sha256.Sum256(o.raw) }

// known reports whether this build can fold every effect of o.
func (o *Operation) known() bool {
	for _, e := range o.Effects {
		if e.Kind < CreateKey || e.Kind > SetPerms {
			return false
		}
	}
	return true
}

// maxSteps bounds the paths that are folded, and the nesting of values: twice what anybody may write, because text that is
// indented by its depth grows with its square.
const maxSteps = 2 * MaxDepth

// foldable reports whether the effect changes anything here: its kind is known, and what it names can be kept and shown. No two
// keys, members or paths may share a row, and no value may be too deep to be written out. Nobody writes others; where they come
// all the same they stay in history and mean nothing, the same on every node.
func (e *Effect) foldable() bool {
	switch {
	case e.Kind < CreateKey || e.Kind > SetPerms, strings.IndexByte(e.NS, 0) >= 0, strings.IndexByte(e.Key, 0) >= 0,
		strings.IndexByte(e.Member, 0) >= 0, len(e.Path) > maxSteps:
		return false
	}
	for _, step := range e.Path {
		if strings.IndexByte(step, 0) >= 0 {
			return false
		}
	}
	return e.Kind != SetLeaf || e.Value.sound(0)
}

// seal fixes the operation's bytes. Nothing may change afterwards.
func (o *Operation) seal() {
	size := 128 + len(o.User) + len(o.Log)
	for i := range o.Effects {
		e := &o.Effects[i]
		size += 64 + len(e.Key) + len(e.Value) + len(e.Member) + len(e.Text)
	}
	o.raw = appendOperation(make([]byte, 0, size), o)
}

// ParseOperation reads an operation's bytes and keeps them as they are. It accepts versions and effects it does not
// know and refuses only what is no operation at all.
func ParseOperation(raw []byte) (*Operation, error) {
	o, ok := readOperation(raw)
	if !ok {
		o = &Operation{}
		if err := codec.dec.Unmarshal(raw, o); err != nil {
			return nil, refuse(ErrInvalid, "not an operation: %s", err)
		}
	}
	if o.Version < 1 || o.Origin == 0 || o.Seq == 0 || o.Time == 0 {
		return nil, refuse(ErrInvalid, "not an operation: version %d, origin %x, seq %d, time %d", o.Version, o.Origin, o.Seq, o.Time)
	}
	if len(o.After) != 0 && len(o.After) != sha256.Size {
		return nil, refuse(ErrInvalid, "not an operation: predecessor's hash has %d bytes", len(o.After))
	}
	for i := range o.Effects {
		// Not a limit of HostDB, which binds at the origin alone, but of the format: names become keys of a Storage.
		if e := &o.Effects[i]; len(e.NS) > maxOperationName || len(e.Key) > maxOperationName || len(e.Member) > maxOperationName {
			return nil, refuse(ErrInvalid, "not an operation: a name is longer than %d bytes", maxOperationName)
		}
	}
	o.raw = raw
	return o, nil
}

// PeekOperation reads the origin and the seq of an operation's bytes without the rest of it: who already holds it need
// not read on.
func PeekOperation(raw []byte) (origin, seq uint64, err error) {
	r := cborReader{rest: raw}
	fields := r.count(cborMap)
	version, origin, seq := r.field(1), r.field(2), r.field(3)
	if r.bad || fields < 4 || version == 0 || origin == 0 || seq == 0 {
		return 0, 0, refuse(ErrInvalid, "not an operation: it does not begin with version, origin and seq")
	}
	return origin, seq, nil
}

// field reads the unsigned value of an integer key, which must come next.
func (r *cborReader) field(key uint64) uint64 {
	if r.uint() != key {
		r.bad = true
	}
	return r.uint()
}
