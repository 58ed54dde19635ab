package lease

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// state is what the log folds into: pure, the same on every voter that applied the same entries. It is not safe for concurrent
// use; machine guards it.
type state struct {
	Index      uint64              // of the last entry
	Generation uint64              // see fenceOf
	Datacenter string              // the group's, once it was renamed; "" = as it was founded
	Duties     map[string]*duty    //
	Records    map[string]*record  //
	Drained    map[string]drain    // by node
	Owing      map[string]bool     // nodes that must claim what they own before names and grants are made
	Gone       []gone              // the records deleted last, oldest first, for watchers
	Forgot     uint64              // a watcher that saw less than this fence must begin anew
	size       int                 // of keys and values of Records
	bySession  map[string][]string // session -> duties it holds, unordered
}

// duty is one duty that somebody holds or held.
type duty struct {
	Node    string `cbor:"1,keyasint"` // "" = nobody
	Session string `cbor:"2,keyasint"`
	Fence   uint64 `cbor:"3,keyasint"` // of the holder, or of the last one
	Since   int64  `cbor:"4,keyasint"` // unix ms of the leader, of the grant or its end
	Why     string `cbor:"5,keyasint"` // this node was chosen, or the last one lost it
	Last    string `cbor:"6,keyasint"` // the node that held it before
}

// record is one compare-and-set record.
type record struct {
	Value   []byte `cbor:"1,keyasint"`
	Version uint64 `cbor:"2,keyasint"` // the fence of the entry that wrote it
}

type drain struct {
	By     string `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
	At     int64  `cbor:"3,keyasint"`
}

type gone struct {
	Key   string `cbor:"1,keyasint"`
	Fence uint64 `cbor:"2,keyasint"` // of the entry that deleted it
}

const maxGone = 4096 // deletions that a watcher may lag behind

// fenceOf is the fencing number of an entry. It grows with the log, and with every generation, whose log may begin before
// the end of the one that was lost.
func fenceOf(generation, index uint64) uint64 { return generation<<44 | index&(1<<44-1) }

func newState() *state {
	return &state{
		Generation: 1, Duties: map[string]*duty{}, Records: map[string]*record{}, Drained: map[string]drain{}, Owing: map[string]bool{},
		bySession: map[string][]string{},
	}
}

// outcome is what an entry came to.
type outcome struct {
	Err     error
	Version uint64   // Put: the new version; Add: the counter
	Granted []string // of opGrant and opRelease: the duties that were granted
}

// apply folds one entry. An entry that no longer fits what is there does nothing, and says so.
func (s *state) apply(index uint64, o op) outcome {
	s.Index = index
	fence := fenceOf(s.Generation, index)
	switch o.Kind {
	case opGrant:
		return outcome{Granted: s.grant(o.Grants, fence, o.Wall)}
	case opRelease:
		for _, e := range o.Ends {
			if d := s.Duties[e.Duty]; d != nil && d.Node != "" && d.Fence == e.Fence && d.Session == o.Session {
				s.end(e.Duty, d, o.Wall, "released")
			}
		}
		return outcome{Granted: s.grant(o.Grants, fence, o.Wall)}
	case opExpire:
		for _, name := range slices.Clone(s.bySession[o.Session]) {
			s.end(name, s.Duties[name], o.Wall, "its session ended")
		}
	case opPut:
		return s.put(fence, o)
	case opDelete:
		r := s.Records[o.Key]
		switch {
		case r == nil:
			return outcome{Err: fmt.Errorf("record %q: %w", o.Key, ErrNotFound)}
		case r.Version != o.If:
			return outcome{Err: conflictOf(o.Key, o.If, r)}
		}
		s.drop(fence, o.Key)
	case opAdd:
		return s.add(fence, o)
	case opDrain:
		if _, ok := s.Drained[o.Node]; !ok && len(s.Drained) >= maxDrained {
			return outcome{Err: fmt.Errorf("drain node %s: %w: %d nodes are drained", o.Node, ErrFull, len(s.Drained))}
		}
		s.Drained[o.Node] = drain{By: o.User, Reason: o.Text, At: o.Wall}
	case opUndrain:
		if _, ok := s.Drained[o.Node]; !ok {
			return outcome{Err: fmt.Errorf("node %s: %w: it is not drained", o.Node, ErrNotFound)}
		}
		delete(s.Drained, o.Node)
	case opRecover:
		s.recover(index, o)
	case opClaim:
		return s.claim(fence, o)
	case opExcuse:
		if !s.Owing[o.Node] {
			return outcome{Err: fmt.Errorf("node %s: %w: it owes no claim", o.Node, ErrNotFound)}
		}
		delete(s.Owing, o.Node)
	case opRename:
		s.Datacenter = o.Text
	case opFound:
		for _, n := range o.Nodes {
			s.Owing[n] = true
		}
	case opForget:
		for _, name := range o.Duties {
			if d := s.Duties[name]; d != nil && d.Node == "" {
				delete(s.Duties, name)
			}
		}
	default:
		return outcome{Err: fmt.Errorf("entry of kind %d: %w", o.Kind, errNewer)}
	}
	return outcome{}
}

// grant gives each duty that has no holder to the node named. Who has it already keeps it: a leader that proposed twice,
// or that was deposed meanwhile, changes nothing.
func (s *state) grant(grants []grantOp, fence uint64, wall int64) (granted []string) {
	for _, g := range grants {
		d := s.Duties[g.Duty]
		switch {
		case d == nil && len(s.Duties) >= maxDuties:
			continue
		case d == nil:
			d = &duty{}
			s.Duties[g.Duty] = d
		case d.Node != "":
			continue
		}
		d.Node, d.Session, d.Fence, d.Since, d.Why = g.Node, g.Session, fence, wall, g.Why
		s.bySession[g.Session] = append(s.bySession[g.Session], g.Duty)
		granted = append(granted, g.Duty)
	}
	return granted
}

func (s *state) end(name string, d *duty, wall int64, why string) {
	held := s.bySession[d.Session]
	if i := slices.Index(held, name); i >= 0 {
		held[i] = held[len(held)-1]
		if held = held[:len(held)-1]; len(held) == 0 {
			delete(s.bySession, d.Session)
		} else {
			s.bySession[d.Session] = held
		}
	}
	d.Last, d.Node, d.Session, d.Since, d.Why = d.Node, "", "", wall, why
}

func conflictOf(key string, want uint64, r *record) error {
	have := uint64(0)
	if r != nil {
		have = r.Version
	}
	return fmt.Errorf("record %q: %w: it has version %d, not %d; read it again", key, ErrConflict, have, want)
}

func (s *state) put(fence uint64, o op) outcome {
	r := s.Records[o.Key]
	have := uint64(0)
	if r != nil {
		have = r.Version
	}
	switch {
	case have != o.If:
		return outcome{Err: conflictOf(o.Key, o.If, r)}
	case o.Duty != "" && (s.Duties[o.Duty] == nil || s.Duties[o.Duty].Node == "" || s.Duties[o.Duty].Fence != o.Fence):
		return outcome{Err: fmt.Errorf("record %q: %w: duty %q is not held under %d any more", o.Key, ErrLost, o.Duty, o.Fence)}
	case r == nil && owned(o.Key) && len(s.Owing) > 0:
		return outcome{Err: fmt.Errorf("%q: %w: %s", o.Key, ErrRecovering, s.owingText())}
	}
	if err := s.set(fence, o.Key, o.Value); err != nil {
		return outcome{Err: err}
	}
	return outcome{Version: fence}
}

func (s *state) set(fence uint64, key string, value []byte) error {
	r := s.Records[key]
	more := len(value)
	if r == nil {
		more += len(key)
	} else {
		more -= len(r.Value)
	}
	if r == nil && (len(s.Records) >= maxRecords || s.size+more > maxState) || r != nil && more > 16 && s.size+more > maxState {
		return fmt.Errorf("record %q: %w: %d records of %d bytes", key, ErrFull, len(s.Records), s.size)
	}
	s.size += more
	s.Records[key] = &record{Value: value, Version: fence}
	return nil
}

func (s *state) drop(fence uint64, key string) {
	s.size -= len(key) + len(s.Records[key].Value)
	delete(s.Records, key)
	s.Gone = append(s.Gone, gone{key, fence})
	if n := len(s.Gone) - maxGone; n > 0 {
		s.Forgot = s.Gone[n-1].Fence
		s.Gone = slices.Delete(s.Gone, 0, n)
	}
}

func (s *state) add(fence uint64, o op) outcome {
	n, err := s.counter(o.Key)
	if err != nil {
		return outcome{Err: err}
	}
	if n+o.Count < n {
		return outcome{Err: fmt.Errorf("counter %q: %w: it cannot grow by %d", o.Key, ErrFull, o.Count)}
	}
	n += o.Count
	if err := s.set(fence, o.Key, fmt.Append(nil, n)); err != nil {
		return outcome{Err: err}
	}
	return outcome{Version: n}
}

func (s *state) counter(key string) (n uint64, err error) {
	if r := s.Records[key]; r != nil {
		if _, err := fmt.Sscan(string(r.Value), &n); err != nil {
			return 0, fmt.Errorf("record %q: %w: it is no counter", key, ErrInvalid)
		}
	}
	return n, nil
}

// The prefixes of records that have a meaning here.
const (
	namePrefix    = "name/"    // a unique name: its value is the owner
	grantPrefix   = "grant/"   // a permanent grant: its value is the owner
	counterPrefix = "counter/" // a number
)

// owned reports whether a record must not be made while somebody may own it who has not claimed it yet.
func owned(key string) bool {
	return strings.HasPrefix(key, namePrefix) || strings.HasPrefix(key, grantPrefix)
}

// counterLeap is what each counter jumps by in a new generation: more than what was counted and lost.
const counterLeap = 1 << 32

// recover begins a generation. Holders of the former one are told by their fence that they are none.
func (s *state) recover(index uint64, o op) {
	if o.Generation <= s.Generation {
		return
	}
	s.Generation = o.Generation
	for name, d := range s.Duties {
		if d.Node != "" {
			s.end(name, d, o.Wall, "the group was recovered")
		}
	}
	for key := range s.Records {
		if n, err := s.counter(key); err == nil && strings.HasPrefix(key, counterPrefix) {
			_ = s.set(fenceOf(s.Generation, index), key, fmt.Append(nil, n+counterLeap)) // ten bytes more, which maxState has room for
		}
	}
	clear(s.Owing)
	for _, n := range o.Nodes {
		s.Owing[n] = true
	}
}

// claim takes in what a node was granted for good. What belongs to another stays with that one, and both are named.
func (s *state) claim(fence uint64, o op) outcome {
	var err error
	for _, c := range o.Claims {
		if !owned(c.Key) {
			continue
		}
		if r := s.Records[c.Key]; r != nil {
			if string(r.Value) != string(c.Value) && err == nil {
				err = fmt.Errorf("%q: %w: it belongs to %q here, %q claims it", c.Key, ErrTaken, clip(string(r.Value)), clip(string(c.Value)))
			}
			continue
		}
		if e := s.set(fence, c.Key, c.Value); e != nil && err == nil {
			err = e
		}
	}
	if o.Count == 0 {
		delete(s.Owing, o.Node)
	}
	return outcome{Err: err}
}

func (s *state) owingText() string {
	nodes := slices.Sorted(maps.Keys(s.Owing))
	text := strings.Join(nodes[:min(len(nodes), 3)], ", ")
	if len(nodes) > 3 {
		text += fmt.Sprintf(" and %d more", len(nodes)-3)
	}
	return "waiting for " + text
}

// snapshot is how a state is kept and sent.
type snapshot struct {
	Version    int                `cbor:"1,keyasint"`
	Index      uint64             `cbor:"2,keyasint"`
	Generation uint64             `cbor:"3,keyasint"`
	Duties     map[string]*duty   `cbor:"4,keyasint"`
	Records    map[string]*record `cbor:"5,keyasint"`
	Drained    map[string]drain   `cbor:"6,keyasint"`
	Owing      map[string]bool    `cbor:"7,keyasint"`
	Gone       []gone             `cbor:"8,keyasint"`
	Forgot     uint64             `cbor:"9,keyasint"`
	Datacenter string             `cbor:"10,keyasint"`
}

func (s *state) encode() []byte {
	return must(encoding.Marshal(snapshot{
		formatVersion, s.Index, s.Generation, s.Duties, s.Records, s.Drained, s.Owing, s.Gone, s.Forgot, s.Datacenter,
	}))
}

func decodeState(r io.Reader) (*state, error) {
	b, err := io.ReadAll(io.LimitReader(r, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	var in snapshot
	if err := decoding.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	if in.Version > formatVersion {
		return nil, fmt.Errorf("snapshot of version %d: %w", in.Version, errNewer)
	}
	s := newState()
	s.Index, s.Generation, s.Forgot, s.Gone, s.Datacenter = in.Index, max(in.Generation, 1), in.Forgot, in.Gone, in.Datacenter
	for name, d := range in.Duties {
		if d == nil {
			continue
		}
		s.Duties[name] = d
		if d.Node != "" {
			s.bySession[d.Session] = append(s.bySession[d.Session], name)
		}
	}
	for key, rec := range in.Records {
		if rec != nil {
			s.Records[key] = rec
			s.size += len(key) + len(rec.Value)
		}
	}
	maps.Copy(s.Drained, in.Drained)
	maps.Copy(s.Owing, in.Owing)
	return s, nil
}

// asOf names the state, for watchers and holders: it grows with each entry, and with each generation.
func (s *state) asOf() uint64 { return fenceOf(s.Generation, s.Index) }

func millis(t time.Time) int64 { return t.UnixMilli() }
