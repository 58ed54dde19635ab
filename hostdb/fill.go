package hostdb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrGone is wrapped by Operations and OperationsUntil when operations are asked for that this replica does not hold, though
// its state has them: they were dropped by retention, or are not fetched yet.
var ErrGone = errors.New("operations are not held one by one")

// Hole is a part of history that is folded into the state, and wanted, but not held: the operations up to Until of an origin.
type Hole struct {
	Origin uint64
	Until  uint64
}

// Holes are the parts of history that a replica which joined has yet to fetch, those of the origins that wrote last first. Until there
// are none, questions about history return ErrUnavailable.
func (s *Store) Holes() []Hole {
	s.mu.Lock()
	defer s.mu.Unlock()
	var holes []Hole
	for origin, l := range s.logs {
		if l.filling {
			holes = append(holes, Hole{origin, l.low})
		}
	}
	age := func(h Hole) Time { is, _ := s.head.vector.get(h.Origin); return is.time }
	slices.SortFunc(holes, func(a, b Hole) int {
		return cmp.Or(cmp.Compare(age(b), age(a)), cmp.Compare(a.Origin, b.Origin))
	})
	return holes
}

// LogStart is the newest operation of an origin that is folded into the state and not held one by one, with all before it: retention
// dropped them, or they are yet to be fetched. 0 when the log is whole.
func (s *Store) LogStart(origin uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs[origin].low
}

// Missing is the number of operations of history that are wanted and not held yet.
func (s *Store) Missing() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fillingLocked()
}

// OperationsUntil are raw operations of an origin up to seq, in order: the last ones that fit in about maxBytes, but at least one. More
// says that older ones are held here, gone that there were older ones and retention dropped them here. ErrGone when not even
// the one at seq is held.
func (s *Store) OperationsUntil(origin, seq uint64, maxBytes int) (ops [][]byte, more, gone bool, err error) {
	s.mu.Lock()
	st, start := s.storage, s.logs[origin]
	s.mu.Unlock()
	switch {
	case st == nil:
		return nil, false, false, refuse(ErrUnavailable, "the store cannot be read for others: %v", s.Failure())
	case seq <= start.low:
		return nil, false, !start.filling && start.low > 0, refuse(ErrGone, "operations of %016x up to %d are not held here", origin, seq)
	case seq > s.View().Seq(origin):
		return nil, false, false, refuse(ErrGap, "operation %d of %016x is not held here", seq, origin)
	}
	type row struct {
		seq   uint64
		value []byte
	}
	var rows []row
	err = st.ScanBack(rowKey('o', origin), opKey(origin, seq), func(key, value []byte) error {
		n := binary.BigEndian.Uint64(key[9:])
		if n <= start.low {
			return errEnough
		}
		rows = append(rows, row{n, bytes.Clone(value)})
		if maxBytes -= len(value); maxBytes <= 0 || len(value) > 0 && value[0] != 0 {
			return errEnough // an operation in chunks is large
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, false, fmt.Errorf("read operations of %016x up to %d: %w", origin, seq, err)
	}
	for i, r := range slices.Backward(rows) {
		if want := seq - uint64(i); r.seq != want {
			return nil, false, false, fmt.Errorf("read operations of %016x: %d is missing", origin, want)
		}
		raw, err := joinOp(st, origin, r.seq, r.value)
		if err != nil {
			return nil, false, false, fmt.Errorf("read operations: %w", err)
		}
		ops = append(ops, raw)
	}
	if len(ops) == 0 {
		return nil, false, false, refuse(ErrGone, "operation %d of %016x is not held here", seq, origin)
	}
	first := seq - uint64(len(ops)) + 1
	more = first > start.low+1
	return ops, more, !more && start.low > 0 && !start.filling, nil
}

// Fill takes what OperationsUntil of another replica gave for a hole. Operations that are not those of our chain are refused with
// ErrFork. Gone says that nobody holds older ones: what is missing then is taken for dropped, and the hole is closed.
func (s *Store) Fill(ctx context.Context, h Hole, raws [][]byte, gone bool) error {
	s.filling.Lock() // one at a time: each goes on where the one before ended
	defer s.filling.Unlock()
	s.mu.Lock()
	st, start, failed := s.storage, s.logs[h.Origin], s.writableLocked()
	s.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case !start.filling || start.low != h.Until:
		return nil // filled meanwhile
	}
	var puts []Put
	for i, raw := range slices.Backward(raws) {
		op, err := ParseOperation(raw)
		if err != nil {
			return fmt.Errorf("fill history: %w", err)
		}
		want := h.Until - uint64(len(raws)-1-i)
		if op.Origin != h.Origin || op.Seq != want || want == 0 || op.Hash() != start.hash {
			return refuse(ErrFork, "operation %d of origin %016x is not the one that the state held here was made of", want, h.Origin)
		}
		rows, err := s.fillRows(st, op)
		if err != nil {
			return fmt.Errorf("fill history: %w", err)
		}
		puts = append(puts, rows...)
		start.low, start.hash = op.Seq-1, Hash{}
		if op.Seq > 1 {
			copy(start.hash[:], op.After)
		}
	}
	start.filling = start.low > 0 && !gone
	// The log reaches further down only when all of it is there.
	err := commitSplit(st, puts, func(batch []Put) error { return s.commit(st, batch) })
	if err == nil {
		err = s.commit(st, []Put{start.put(h.Origin)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storage != st {
		return refuse(ErrUnavailable, "the storage was closed while history was filled")
	}
	if err != nil {
		s.failLocked(err)
		return refuse(ErrUnavailable, "fill history: %v", err)
	}
	s.setLogLocked(h.Origin, start)
	if s.fillingLocked() == 0 {
		s.cfg.Logger.Info("history is whole")
	}
	return nil
}

// fillRows are the rows of an operation that is in the state already: those of the log and of history, without registers and without
// a line of the apply log, because it was not served here then.
func (s *Store) fillRows(st Storage, op *Operation) ([]Put, error) {
	maxBytes, _ := st.MaxBatch()
	puts, row := chunked(op, maxBytes/2)
	puts = append(puts, row)
	puts = append(puts, Put{stampKey(op.Stamp()), u64(op.Seq)})
	if !op.known() {
		puts = append(puts, Put{rowKey('u', op.Origin, op.Seq), []byte{1}})
	}
	last := ""
	for i := range op.Effects {
		if x := &op.Effects[i]; x.foldable() && id(x.NS, x.Key) != last {
			last = id(x.NS, x.Key)
			puts = append(puts, Put{historyKey(x.NS, x.Key, op.Stamp()), u64(op.Seq)})
		}
	}
	return puts, nil
}
