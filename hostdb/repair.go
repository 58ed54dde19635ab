package hostdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// ErrMoved is returned by Repair when the state that is offered is not one of the operations held here.
var ErrMoved = errors.New("states are of different operations")

// StateOf is the state that heads and pieces of another replica describe, for Repair.
func StateOf(heads []byte, pieces [][]byte) (View, error) {
	list, err := DecodeHeads(heads)
	if err != nil {
		return View{}, fmt.Errorf("read a state: %w", err)
	}
	s := emptySnapshot()
	for _, h := range list {
		s.vector = s.vector.set(h.Origin, head{h.Seq, h.Time, h.Hash, h.Node})
		s.version += elementHash(h.Origin, h.Seq, h.Hash)
	}
	build := newStateBuilder()
	for _, piece := range pieces {
		rows, err := readPiece(piece)
		if err != nil {
			return View{}, fmt.Errorf("read a state: %w", err)
		}
		for _, r := range rows {
			if r.key[0] == 'k' {
				f, err := readEntry(nil, r, nil)
				if err != nil {
					return View{}, fmt.Errorf("read a state: %w", err)
				}
				build.entry(f)
			} else if _, err := build.member(r.key, r.value); err != nil {
				return View{}, fmt.Errorf("read a state: %w", err)
			}
		}
	}
	if err := build.into(s); err != nil {
		return View{}, fmt.Errorf("read a state: %w", err)
	}
	return View{s}, nil
}

// Refold is the state that the log of this replica describes: what its registers should be. It costs all of history.
func (s *Store) Refold(ctx context.Context) (View, error) {
	r, err := s.reading()
	if err != nil {
		return View{}, err
	}
	n, err := r.forward(ctx, past{state: pastOf(empty)}, latest)
	if err != nil {
		return View{}, fmt.Errorf("fold the log anew: %w", err)
	}
	now := r.view.snap()
	n.vector, n.version, n.applied, n.lateOps, n.retiredSum = now.vector, now.version, now.applied, now.lateOps, now.retiredSum
	return View{n}, nil
}

// Difference is a key whose registers Repair has replaced.
type Difference struct {
	NS, Key string
	Had     [][]byte // its rows as they were made from the registers: the key's, then those of members that differ; nil for none
	Has     [][]byte // the rows that stand there now
}

// Repair replaces the registers of this replica by those of right where they differ. Right is a state of the same operations, from
// StateOf or Refold; operations that came meanwhile are folded into it from the log. ErrMoved when right has or lacks others.
// Writes wait until it is done.
func (s *Store) Repair(ctx context.Context, right View) ([]Difference, error) {
	s.lockAlone()
	defer s.unlockAlone()
	if err := s.writableLocked(); err != nil {
		return nil, err
	}
	n, err := s.followLocked(*right.snap())
	if err != nil {
		return nil, err
	}
	diffs, puts, err := differences(s.head, n)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	// What is in memory may be wrong where the rows are right: it is replaced in any case.
	if err := commitSplit(s.storage, puts, s.storage.Commit); err != nil {
		s.failLocked(err)
		return nil, refuse(ErrUnavailable, "repair: %v", err)
	}
	s.head, s.pasts = n, nil
	s.view.Store(n)
	s.pokeLocked()
	return diffs, nil
}

// followLocked is n with the operations folded in that this replica holds and n does not.
func (s *Store) followLocked(n snapshot) (*snapshot, error) {
	for origin, h := range n.vector.all() {
		if is, _ := s.head.vector.get(origin); is.seq < h.seq || is.seq == h.seq && is.hash != h.hash {
			return nil, ErrMoved
		}
	}
	for origin, is := range s.head.vector.all() {
		h, _ := n.vector.get(origin)
		if h.seq < s.logs[origin].low && h.seq < is.seq {
			return nil, ErrMoved
		}
		for seq := h.seq + 1; seq <= is.seq; seq++ {
			raw, err := readOp(s.storage, origin, seq)
			if err != nil {
				return nil, fmt.Errorf("repair: %w", err)
			}
			op, err := ParseOperation(raw)
			if err != nil {
				return nil, fmt.Errorf("repair: %w", err)
			}
			n.effects(op)
		}
	}
	n.vector, n.version, n.applied, n.lateOps, n.retiredSum = s.head.vector, s.head.version, s.head.applied, s.head.lateOps, s.head.retiredSum
	return &n, nil
}

// differences are the keys in which two states differ, and what makes the rows of the first those of the second.
func differences(was, is *snapshot) (diffs []Difference, puts []Put, err error) {
	names := map[string]bool{}
	for name := range was.entries.all() {
		names[name] = true
	}
	for name := range is.entries.all() {
		names[name] = true
	}
	for name := range names {
		a, _ := was.entries.get(name)
		b, _ := is.entries.get(name)
		if a == b {
			continue
		}
		var d Difference
		one := func(key, had, has []byte) {
			if bytes.Equal(had, has) {
				return
			}
			d.Had, d.Has = append(d.Had, had), append(d.Has, has)
			if has == nil {
				puts = append(puts, Put{key, nil})
			} else {
				puts = appendInParts(puts, Put{key, has})
			}
		}
		rows := [2][]byte{}
		members := map[string]bool{}
		for i, e := range []*entry{a, b} {
			if e == nil {
				continue
			}
			d.NS, d.Key = e.ns, e.key
			if rows[i], err = closeRow(appendEntry(openRow(256), e)); err != nil {
				return nil, nil, err
			}
			for m := range e.members.all() {
				members[m] = true
			}
		}
		one(textKey('k', name), rows[0], rows[1])
		for m := range members {
			var rows [2][]byte
			for i, e := range []*entry{a, b} {
				if e == nil {
					continue
				}
				if r, ok := e.members.get(m); ok {
					if rows[i], err = closeRow(appendMember(openRow(192), e, m, &r)); err != nil {
						return nil, nil, err
					}
				}
			}
			one(textKey('e', name+"\x00"+m), rows[0], rows[1])
		}
		if len(d.Had) > 0 {
			diffs = append(diffs, d)
		}
	}
	return diffs, puts, nil
}
