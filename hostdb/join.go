package hostdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// A replica that is empty takes the whole state of another one instead of all its history. The rows of registers and heads are stored as
// they come, under a row that says that they do not count yet; that row's removal makes them count, all at once. History is fetched
// later: see fill.go.

// ErrJoined is returned by BeginJoin when the replica holds something already.
var ErrJoined = errors.New("replica is not empty")

// Join is a join that was begun and not finished.
type Join struct {
	Version string // of the state that is being taken
	After   string // place of the last piece that is stored, for View.Piece
}

// joinRow says how far a join has come.
type joinRow struct {
	Version string `cbor:"1,keyasint"`
	After   []byte `cbor:"2,keyasint,omitempty"`
	Ready   bool   `cbor:"3,keyasint,omitempty"` // the heads are stored; else what is stored is rubbish
	Bytes   uint64 `cbor:"4,keyasint,omitempty"` // of the pieces that are stored
}

var joinKey = textKey('m', "joining")

func (j *joinRow) put() (Put, error) {
	b, err := cbor.Marshal(j)
	if err != nil {
		return Put{}, fmt.Errorf("encode the progress of a join: %w", err)
	}
	return Put{joinKey, append([]byte{rowPlain}, b...)}, nil
}

// loadJoin finds a join that was not finished; one that had not got as far as its heads is cleared away.
func loadJoin(st Storage) (*joinRow, error) {
	b, found, err := st.Get(joinKey)
	if err != nil || !found {
		return nil, err
	}
	var j joinRow
	if err := decodeRow(joinKey, b, &j); err != nil {
		return nil, err
	}
	if !j.Ready {
		return nil, clearJoin(st)
	}
	return &j, nil
}

// clearJoin removes what a join has stored. The storage held nothing else.
func clearJoin(st Storage) error {
	p, err := (&joinRow{}).put()
	if err != nil {
		return err
	}
	if err := st.Commit([]Put{p}); err != nil {
		return err
	}
	for _, kind := range []byte("kepvl") {
		err := scanRows(st, kind, func(rows []storedRow) error {
			drop := make([]Put, len(rows))
			for i, r := range rows {
				drop[i] = Put{r.key, nil}
			}
			return commitSplit(st, drop, st.Commit)
		})
		if err != nil {
			return err
		}
	}
	return st.Commit([]Put{{joinKey, nil}})
}

// Joining tells of a join that was begun, here or before the replica was opened, and not finished.
func (s *Store) Joining() (j Join, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.join == nil {
		return Join{}, false
	}
	return Join{s.join.Version, string(s.join.After)}, true
}

// joinStorage is the storage for a step of a join.
func (s *Store) joinStorage() (Storage, *joinRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	if s.storage == nil {
		return nil, nil, refuse(ErrUnavailable, "the store cannot be written: %v", s.failure)
	}
	return s.storage, s.join, nil
}

// joinStep settles what a step of a join has done to the storage.
func (s *Store) joinStep(st Storage, next *joinRow, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storage != st {
		return refuse(ErrUnavailable, "the storage was closed meanwhile")
	}
	if err != nil {
		s.failLocked(err)
		return refuse(ErrUnavailable, "store a state: %v", err)
	}
	s.join = next
	return nil
}

// BeginJoin begins to take the whole state of another replica into this empty one. Until FinishJoin the View is empty, and
// Update and Apply return ErrUnavailable. Version is that of the state, heads what EncodeHeads gave for it. A join that was begun
// before is forgotten. ErrJoined when this replica is not empty. One step of a join runs at a time: that is the caller's to see to.
func (s *Store) BeginJoin(ctx context.Context, version string, heads []byte) error {
	list, err := DecodeHeads(heads)
	if err != nil {
		return fmt.Errorf("begin to take a state: %w", err)
	}
	if sum := versionOf(list); sum != version || len(list) == 0 {
		return refuse(ErrInvalid, "the heads are those of version %s, not of %s", sum, version)
	}
	if err := s.AbandonJoin(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.head.vector.len() > 0 || s.flushing || len(s.queue) > 0 {
		s.mu.Unlock()
		return ErrJoined
	}
	if err := s.writableLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	j := &joinRow{Version: version}
	s.join = j // from here on nothing else is written
	st := s.storage
	s.mu.Unlock()
	return s.joinStep(st, j, j.begin(st, list))
}

func (j *joinRow) begin(st Storage, list []Head) error {
	mark, err := j.put()
	if err != nil {
		return err
	}
	if err := st.Commit([]Put{mark}); err != nil {
		return err
	}
	var puts []Put
	for _, h := range list {
		b, err := closeRow(appendHeadRow(openRow(96), headRow{Seq: h.Seq, Time: h.Time, Hash: h.Hash[:], Node: h.Node}))
		if err != nil {
			return err
		}
		puts = append(puts, Put{rowKey('v', h.Origin), b}, logStart{h.Seq, h.Hash, true}.put(h.Origin))
	}
	if err := commitSplit(st, puts, st.Commit); err != nil {
		return err
	}
	j.Ready = true
	if mark, err = j.put(); err != nil {
		return err
	}
	return st.Commit([]Put{mark})
}

// versionOf is the version of the state that has heads.
func versionOf(heads []Head) string {
	var s snapshot
	for _, h := range heads {
		s.version += elementHash(h.Origin, h.Seq, h.Hash)
	}
	return Version{&s}.String()
}

// AddPiece stores a piece of the state durably; after is the place that it was asked for, last the one that came with it. The last
// piece may be empty. ErrInvalid when it is no piece, or not the next.
func (s *Store) AddPiece(ctx context.Context, piece []byte, after, last string) error {
	st, j, err := s.joinStorage()
	if err != nil {
		return err
	}
	if j == nil || !j.Ready || string(j.After) != after {
		return refuse(ErrInvalid, "not the piece of a state that comes next")
	}
	rows, err := readPiece(piece)
	if err != nil {
		return fmt.Errorf("take a piece of a state: %w", err)
	}
	next := &joinRow{Version: j.Version, After: []byte(last), Ready: true, Bytes: j.Bytes + uint64(len(piece))}
	if last == "" {
		next.After = j.After // all is here: FinishJoin comes next
	}
	mark, err := next.put()
	if err != nil {
		return err
	}
	var puts []Put
	for _, r := range rows {
		puts = appendInParts(puts, Put{r.key, r.value})
	}
	return s.joinStep(st, next, commitSplit(st, append(puts, mark), st.Commit))
}

// FinishJoin makes the state that was taken this replica's own. Its digests must be those given, by namespace; else it is
// dropped, and the error wraps ErrInvalid. History is still to be fetched then: see Holes.
func (s *Store) FinishJoin(ctx context.Context, digests map[string]string) error {
	st, j, err := s.joinStorage()
	if err != nil {
		return err
	}
	if j == nil || !j.Ready {
		return refuse(ErrInvalid, "no state is being taken")
	}
	state, _, err := loadState(st)
	if err == nil {
		err = checkTaken(state, j.Version, digests)
	}
	if errors.Is(err, ErrInvalid) {
		return errors.Join(err, s.AbandonJoin(ctx))
	}
	var l loaded
	if err == nil {
		line := binary.BigEndian.AppendUint64(nil, uint64(s.cfg.Clock.Now().UnixMilli()))
		line = binary.BigEndian.AppendUint64(line, 0)
		line = binary.BigEndian.AppendUint64(line, 0)
		err = st.Commit([]Put{{rowKey('a', 1), line}, appliedPut(1), {joinKey, nil}})
	}
	if err == nil {
		l, err = load(st)
	}
	if err := s.joinStep(st, j, err); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeLocked(l)
	s.cfg.Logger.Info("took the state of another replica", "version", j.Version, "bytes", j.Bytes, "history", s.fillingLocked())
	return nil
}

// checkTaken reports whether a state that was taken is the one that was promised.
func checkTaken(s *snapshot, version string, digests map[string]string) error {
	v := View{s}
	if is := v.Version().String(); is != version {
		return refuse(ErrInvalid, "the state that was taken has version %s, not %s", is, version)
	}
	for _, ns := range v.Namespaces() {
		if digests[ns] != v.Digest(ns) {
			return refuse(ErrInvalid, "the state that was taken has another digest of %s than its replica: %s, not %s", ns, v.Digest(ns), digests[ns])
		}
	}
	for ns := range digests {
		if !v.HasNamespace(ns) {
			return refuse(ErrInvalid, "the state that was taken lacks the namespace %s", ns)
		}
	}
	return nil
}

// AbandonJoin drops what was taken, if anything was.
func (s *Store) AbandonJoin(ctx context.Context) error {
	st, j, err := s.joinStorage()
	if err != nil || j == nil {
		return err
	}
	return s.joinStep(st, nil, clearJoin(st))
}
