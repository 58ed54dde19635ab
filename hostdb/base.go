package hostdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The base is what remains of the operations that retention dropped: their fold, for the keys that they touched. Its rows have the
// values that registers have:
//
//	b ns NUL key             a key's registers as of the horizon, but for its members
//	d ns NUL key NUL member  one member register as of the horizon
//	q hash index             a part of a b row that is too large for one batch
//	m "horizon"              the horizon, and how far the retention that moved it has come
//
// A state of the past is the fold of the base and of the operations that are held. The merge is a semilattice, so an operation that is
// folded twice, because it is in the base and still held, changes nothing: that is why a retention may be interrupted anywhere and
// begin anew, and why it is right to read the past meanwhile.

// ErrDropped is returned for questions about a time whose history was dropped by retention.
var ErrDropped = errors.New("history was dropped by retention")

// horizon is where history begins.
type horizon struct {
	at    Stamp // nothing before this moment can be answered; zero: all can
	phase byte
}

// The phases of a retention.
const (
	retained     byte = iota // nothing is left to do
	foldingPhase             // operations up to the horizon are being folded into the base; all are held yet
	dropping                 // they are in the base, and are being removed from the log
)

var horizonKey = textKey('m', "horizon")

func (h horizon) put() Put {
	return Put{horizonKey, append(append([]byte{rowPlain}, stampKey(h.at)[1:]...), h.phase)}
}

// loadHorizon reads where history begins. ErrUnavailable when operations were dropped elsewhere and their fold is not here yet.
func loadHorizon(st Storage) (horizon, error) {
	b, found, err := st.Get(horizonKey)
	switch {
	case err != nil:
		return horizon{}, err
	case found && (len(b) != 18 || b[0] != rowPlain || b[17] > dropping):
		return horizon{}, fmt.Errorf("row %q has a form this build does not know: install the newer hostmesh again", horizonKey)
	case found:
		return horizon{stampOf(b[:17]), b[17]}, nil
	}
	logs, err := loadLogs(st)
	if err != nil {
		return horizon{}, err
	}
	for _, l := range logs {
		if l.low > 0 && !l.filling {
			return horizon{}, refuse(ErrUnavailable, "this node joined after retention had dropped old history, and has not fetched yet what the "+
				"rest is built on: ask another node, or again later")
		}
	}
	return horizon{}, nil
}

// dropped is the error for a question about a moment before the horizon.
func (h horizon) dropped(what string) error {
	return refuse(ErrDropped, "%s: history before %s was dropped by retention; the oldest state that can be shown is revision %s",
		what, h.at.Time.Wall().UTC().Format("2006-01-02 15:04:05 UTC"), h.at)
}

// missing is the error for a revision that is not held.
func (r reading) missing(id Stamp) error {
	h, err := loadHorizon(r.st)
	switch {
	case err != nil:
		return err
	case h.at.Less(id):
		return refuse(ErrNotFound, "this replica holds no revision %s", id)
	}
	return h.dropped("revision " + id.String() + " is not held")
}

// Horizon is where history begins: the state as of that stamp is the oldest that can be shown, and the revisions after it are held. ok
// is false when all of history is held.
func (s *Store) Horizon() (at Stamp, ok bool, err error) {
	r, err := s.reading()
	if err != nil {
		return Stamp{}, false, err
	}
	h, err := loadHorizon(r.st)
	if err != nil {
		return Stamp{}, false, fmt.Errorf("read where history begins: %w", err)
	}
	return h.at, !h.at.IsZero(), nil
}

// base is the state that the base rows describe, on which operations that are held are folded.
func (r reading) base(ctx context.Context) (*snapshot, error) {
	n := pastOf(empty)
	h, err := loadHorizon(r.st)
	if err != nil || h.at.IsZero() {
		return n, err
	}
	build := newStateBuilder()
	err = scanRows(r.st, 'b', func(rows []storedRow) error {
		for _, row := range rows {
			f, err := readBase(r.st, row)
			if err != nil {
				return err
			}
			build.entry(f)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	err = r.st.Scan([]byte{'d'}, nil, func(key, value []byte) error {
		if _, err := build.member(key, value); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return n, build.into(n)
}

func readBase(st Storage, r storedRow) (*folding, error) {
	value, err := joinBase(st, r.value)
	if err != nil {
		return nil, fmt.Errorf("row %q: %w", r.key, err)
	}
	var named sync.Map
	return readEntry(st, storedRow{r.key, value}, &named)
}

// baseOf is a fold of a key that begins with its registers in the base; members are touched as a fold from nothing would touch them.
func baseOf(st Storage, key string) (*folding, error) {
	row, found, err := st.Get(textKey('b', key))
	if err != nil {
		return nil, err
	}
	if !found {
		i := bytes.IndexByte([]byte(key), 0)
		return beginFold(nil, key[:i], key[i+1:]), nil
	}
	f, err := readBase(st, storedRow{textKey('b', key), row})
	if err != nil {
		return nil, err
	}
	build := newStateBuilder()
	build.entry(f)
	err = st.Scan(textKey('d', key+"\x00"), nil, func(key, value []byte) error {
		_, err := build.member(key, value)
		return err
	})
	return f, err
}

// baseWriter makes the base rows of keys.
type baseWriter struct {
	st     Storage
	commit func([]Put) error
	puts   []Put
	bytes  int
}

// put writes the registers of a key whose members named in f.memberBefore have changed.
func (w *baseWriter) put(f *folding) error {
	key := id(f.ns, f.key)
	value, err := closeRow(appendEntry(openRow(256), f.entry))
	if err != nil {
		return err
	}
	parts, row := splitBase(Put{textKey('b', key), value})
	w.puts = append(w.puts, parts...)
	for name := range f.memberBefore {
		at := textKey('d', key+"\x00"+name)
		m, ok := f.members.get(name)
		if !ok {
			w.puts = append(w.puts, Put{at, nil})
			continue
		}
		value, err := closeRow(appendMember(openRow(192), f.entry, name, &m))
		if err != nil {
			return err
		}
		w.puts = append(w.puts, Put{at, value})
	}
	w.puts = append(w.puts, row)
	w.bytes += putBytes(w.puts[max(0, len(w.puts)-1-len(parts)-len(f.memberBefore)):])
	if maxBytes, _ := w.st.MaxBatch(); w.bytes > maxBytes/2 {
		return w.flush()
	}
	return nil
}

func (w *baseWriter) flush() error {
	err := commitSplit(w.st, w.puts, w.commit)
	w.puts, w.bytes = nil, 0
	return err
}

// splitBase puts a large row into parts that are named by its content, so that a crash between two commits leaves the old row whole.
func splitBase(row Put) (parts []Put, head Put) {
	if len(row.Value) <= 2*partBytes {
		return nil, row
	}
	sum := sha256.Sum256(row.Value)
	name := append([]byte{'q'}, sum[:16]...)
	for part := range slices.Chunk(row.Value, partBytes) {
		parts = append(parts, Put{binary.BigEndian.AppendUint64(slices.Clone(name), uint64(len(parts))), part})
	}
	value := append([]byte{rowInParts}, sum[:16]...)
	return parts, Put{row.Key, binary.BigEndian.AppendUint64(value, uint64(len(parts)))}
}

func joinBase(st Storage, value []byte) ([]byte, error) {
	if len(value) == 0 || value[0] != rowInParts {
		return value, nil
	}
	if len(value) != 25 {
		return nil, errors.New("it names its parts wrongly")
	}
	name := append([]byte{'q'}, value[1:17]...)
	var whole []byte
	for i := range binary.BigEndian.Uint64(value[17:]) {
		part, found, err := st.Get(binary.BigEndian.AppendUint64(slices.Clone(name), i))
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("part %d is missing", i)
		}
		whole = append(whole, part...)
	}
	return whole, nil
}

// dropParts removes parts that no base row names.
func dropParts(st Storage, commit func([]Put) error) error {
	parts := map[string][]Put{}
	err := st.Scan([]byte{'q'}, nil, func(key, _ []byte) error {
		name := string(key[1:17])
		parts[name] = append(parts[name], Put{bytes.Clone(key), nil})
		return nil
	})
	if err != nil || len(parts) == 0 {
		return err
	}
	err = st.Scan([]byte{'b'}, nil, func(_, value []byte) error {
		if len(value) == 25 && value[0] == rowInParts {
			delete(parts, string(value[1:17]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	var puts []Put
	for _, p := range parts {
		puts = append(puts, p...)
	}
	return commitSplit(st, puts, commit)
}

// Base is the state as of the horizon, for a replica that joined: its heads name the operations that were dropped here, and its
// registers are those that View.Piece gives. horizon is zero when all of history is held. ErrUnavailable while a retention folds.
func (s *Store) Base(ctx context.Context) (base View, at Stamp, err error) {
	r, err := s.reading()
	if err != nil {
		return View{}, Stamp{}, err
	}
	h, err := loadHorizon(r.st)
	switch {
	case err != nil:
		return View{}, Stamp{}, fmt.Errorf("read the base of history: %w", err)
	case h.at.IsZero():
		return View{}, Stamp{}, nil
	case h.phase == foldingPhase:
		return View{}, Stamp{}, refuse(ErrUnavailable, "a retention is under way: ask again later")
	}
	v, err := s.At(ctx, h.at)
	if err != nil {
		return View{}, Stamp{}, err
	}
	n := pastOf(v.snap())
	s.mu.Lock()
	defer s.mu.Unlock()
	for origin, l := range s.logs {
		if l.low > 0 && !l.filling {
			is, _ := s.head.vector.get(origin)
			n.vector = n.vector.set(origin, head{seq: l.low, time: h.at.Time, hash: l.hash, node: is.node})
			n.version += elementHash(origin, l.low, l.hash)
		}
	}
	return View{n}, h.at, nil
}

// TakeBase gives a replica that joined what its history is built on: the Base of another replica, of which StateOf makes a View. It is
// needed once, after the last hole is closed, where retention had dropped something; it does nothing where nothing is missing.
// ErrMoved when the base lacks operations that are not held here either: then another replica must be asked.
func (s *Store) TakeBase(ctx context.Context, at Stamp, base View) error {
	s.filling.Lock()
	defer s.filling.Unlock()
	s.mu.Lock()
	st, logs, failed := s.storage, map[uint64]logStart{}, s.writableLocked()
	for origin, l := range s.logs {
		logs[origin] = l
	}
	missing := s.fillingLocked()
	s.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case missing > 0:
		return refuse(ErrUnavailable, "this node still fetches history: %d operations to go", missing)
	case len(logs) == 0:
		return nil
	case at.IsZero():
		return refuse(ErrInvalid, "a base without its horizon")
	}
	if _, found, err := st.Get(horizonKey); err != nil || found {
		return err
	}
	for origin, l := range logs {
		h, _ := base.Head(origin)
		switch {
		case h.Seq < l.low:
			return refuse(ErrMoved, "the base has %d operations of origin %016x, and %d are not held here", h.Seq, origin, l.low)
		case h.Seq == l.low && h.Hash != l.hash:
			return refuse(ErrFork, "the base was made of another operation %d of origin %016x than the state held here", l.low, origin)
		}
	}
	return s.settleStep(st, s.storeBase(ctx, st, at, base), "take the base of history")
}

func (s *Store) storeBase(ctx context.Context, st Storage, at Stamp, base View) error {
	commit := func(puts []Put) error { return s.commitSure(st, puts) }
	for _, kind := range []byte("bdq") { // what an earlier attempt left
		err := scanRows(st, kind, func(rows []storedRow) error {
			drop := make([]Put, len(rows))
			for i, r := range rows {
				drop[i] = Put{r.key, nil}
			}
			return commitSplit(st, drop, commit)
		})
		if err != nil {
			return err
		}
	}
	w := &baseWriter{st: st, commit: commit}
	for _, e := range base.snap().entries.all() {
		f := beginFold(e, e.ns, e.key)
		for name, r := range e.members.all() {
			f.rememberMember(name, r)
		}
		if err := w.put(f); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	return commit([]Put{horizon{at: at}.put()})
}

// settleStep gives the storage up when a step failed on it: what is durable is learnt by opening it anew.
func (s *Store) settleStep(st Storage, err error, what string) error {
	var failed *commitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &failed):
		return fmt.Errorf("%s: %w", what, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storage == st {
		s.failLocked(err)
	}
	return refuse(ErrUnavailable, "%s: %v", what, err)
}

// commitError is that of a commit of which nobody knows whether it is durable.
type commitError struct{ error }

func (e *commitError) Unwrap() error { return e.error }

// commitSure is commit with errors that settleStep understands.
func (s *Store) commitSure(st Storage, puts []Put) error {
	if err := s.commit(st, puts); err != nil {
		return &commitError{err}
	}
	return nil
}

// Policy says how much of history to keep. The zero Policy keeps all.
type Policy struct {
	Age   time.Duration // keep everything that is younger; 0: age does not matter
	Count uint64        // keep at least so many of the newest operations; 0: the number does not matter
}

// Until is the newest stamp that the policy lets go: zero for none. An operation goes only when it is both old and beyond the count,
// where both are set. newest gives the stamp of the n-th newest operation, zero when there are fewer; it is asked at most once.
func (p Policy) Until(now time.Time, newest func(n uint64) (Stamp, error)) (until Stamp, err error) {
	if p.Age <= 0 && p.Count == 0 {
		return Stamp{}, nil
	}
	until = latest
	if p.Age > 0 {
		until = Stamp{Time: TimeOf(now.Add(-p.Age))}.Before()
	}
	if p.Count > 0 {
		first, err := newest(p.Count)
		if err != nil {
			return Stamp{}, err
		}
		if kept := first.Before(); kept.Less(until) {
			until = kept
		}
	}
	return until, nil
}

// Newest is the stamp of the n-th newest operation that is held, counted from 1; zero when there are fewer. It reads n rows.
func (s *Store) Newest(ctx context.Context, n uint64) (at Stamp, err error) {
	r, err := s.reading()
	if err != nil {
		return Stamp{}, err
	}
	err = r.st.ScanBack([]byte{'t'}, nil, func(key, seq []byte) error {
		if !r.holds(stampOf(key), seq) {
			return ctx.Err()
		}
		if n--; n == 0 {
			at = stampOf(key)
			return errEnough
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Stamp{}, fmt.Errorf("count revisions: %w", err)
	}
	return at, nil
}
