package hostdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// Fork is an operation that another box wrote under an origin and seq that another operation has here.
type Fork struct {
	Origin, Seq uint64
	Node        string // id of the node whose run it is
	Revision    Stamp  // of the operation that is kept aside
	Ours        Stamp  // of the operation that is part of this replica; zero when history does not hold it
	User, Log   string // of the operation that is kept aside
	Effects     []Effect
	Seen        time.Time
}

// maxForks bounds how many operations of an origin are kept aside: an endless chain must not fill the disk.
const maxForks = 1000

// KeepFork keeps an operation aside that does not belong to the chain held here, durably and unmerged, so that a person can look at
// what was written and write it again. Apply does it by itself. Of each origin the first 1,000 are kept.
func (s *Store) KeepFork(raw []byte) error {
	op, err := ParseOperation(raw)
	if err != nil {
		return fmt.Errorf("keep a forked operation: %w", err)
	}
	hash := op.Hash()
	key := append(rowKey('f', op.Origin, op.Seq), hash[:8]...)
	s.mu.Lock()
	st := s.storage
	s.mu.Unlock()
	if st == nil {
		return refuse(ErrUnavailable, "keep a forked operation: %v", s.Failure())
	}
	if _, found, err := st.Get(key); err != nil || found {
		return err
	}
	count := 0
	err = st.Scan(rowKey('f', op.Origin), nil, func(_, _ []byte) error { count++; return nil })
	if err != nil || count >= maxForks {
		return err
	}
	value := binary.BigEndian.AppendUint64(nil, uint64(s.cfg.Clock.Now().UnixMilli()))
	if err := st.Commit([]Put{{key, append(value, raw...)}}); err != nil {
		return fmt.Errorf("keep a forked operation: %w", err)
	}
	return nil
}

// Forks are the operations that are kept aside because they do not continue the chain held here, by origin and seq.
func (s *Store) Forks() ([]Fork, error) {
	s.mu.Lock()
	st := s.storage
	s.mu.Unlock()
	if st == nil {
		return nil, refuse(ErrUnavailable, "forks cannot be read: %v", s.Failure())
	}
	view := s.View()
	var forks []Fork
	err := st.Scan([]byte{'f'}, nil, func(key, value []byte) error {
		if len(value) < 8 {
			return fmt.Errorf("row %q is too short", key)
		}
		op, err := ParseOperation(bytes.Clone(value[8:]))
		if err != nil {
			return err
		}
		f := Fork{Origin: op.Origin, Seq: op.Seq, Node: view.OriginNode(op.Origin), Revision: op.Stamp(), User: op.User, Log: op.Log,
			Effects: legible(op.Effects), Seen: time.UnixMilli(int64(binary.BigEndian.Uint64(value)))}
		if raw, err := readOp(st, op.Origin, op.Seq); err != nil {
			return err
		} else if raw != nil {
			if ours, err := ParseOperation(bytes.Clone(raw)); err == nil {
				f.Ours = ours.Stamp()
			}
		}
		forks = append(forks, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read forks: %w", err)
	}
	return forks, nil
}

// SetSkew sets who tells how far this box's wall is ahead of the median of the clocks of the mesh, and how many clocks are
// known, this one included. While three are known and it is off by more than a second, Update returns ErrClock.
func (s *Store) SetSkew(f func() (ahead time.Duration, clocks int)) { s.skew.Store(&f) }

// Skew is what was set by SetSkew says; zero when nothing was.
func (s *Store) Skew() (ahead time.Duration, clocks int) {
	if f := s.skew.Load(); f != nil {
		return (*f)()
	}
	return 0, 0
}

// judges is how many clocks must be known before the median of them is trusted more than the own: of two, nobody can
// tell which is wrong.
const judges = 3

// checkSkew refuses local writes while this box's wall is wrong.
func (s *Store) checkSkew() error {
	ahead, clocks := s.Skew()
	if clocks < judges || ahead.Abs() <= maxLocalLead {
		return nil
	}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	return refuse(ErrClock, "this box's clock is %s %s the median of %d: writes wait until it is right; set it, or write at another node",
		ahead.Abs().Round(time.Millisecond), word, clocks)
}
