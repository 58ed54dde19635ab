package hostdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// loaded is what a storage holds.
type loaded struct {
	state  *snapshot
	newest Time                // the highest stamp time
	logs   map[uint64]logStart // by origin; absent for a log that is whole
	join   *joinRow            // a join that is not finished; then there is nothing else
}

// load reads a replica from its storage and makes good what a crash left undone.
func load(st Storage) (l loaded, err error) {
	if err := checkFormat(st); err != nil {
		return l, err
	}
	if err := finishPlan(st); err != nil {
		return l, err
	}
	if l.join, err = loadJoin(st); err != nil || l.join != nil {
		l.state = emptySnapshot()
		return l, err
	}
	if l.state, l.newest, err = loadState(st); err != nil {
		return l, err
	}
	if l.logs, err = loadLogs(st); err != nil {
		return l, err
	}
	if err := l.state.redo(st); err != nil {
		return l, err
	}
	if err := dropOrphanChunks(st, l.state); err != nil {
		return l, err
	}
	return l, l.state.refold(st)
}

// loadState reads what the registers and heads say.
func loadState(st Storage) (s *snapshot, newest Time, err error) {
	s = emptySnapshot()
	if newest, err = s.loadVector(st); err != nil {
		return nil, 0, err
	}
	if err := s.loadEntries(st); err != nil {
		return nil, 0, err
	}
	if b, found, err := st.Get(textKey('m', "applied")); err != nil {
		return nil, 0, err
	} else if found {
		s.applied = binary.BigEndian.Uint64(b)
	}
	return s, newest, nil
}

func checkFormat(st Storage) error {
	key := textKey('m', "format")
	b, found, err := st.Get(key)
	if err != nil {
		return err
	}
	if !found {
		return st.Commit([]Put{{key, u64(storageFormat)}})
	}
	switch v := binary.BigEndian.Uint64(b); {
	case v > storageFormat:
		return fmt.Errorf("the replica has format %d, this build knows up to %d: install the newer hostmesh again", v, storageFormat)
	case v < 2:
		if err := addStampRows(st); err != nil {
			return fmt.Errorf("upgrade the replica from format %d: %w", v, err)
		}
		return st.Commit([]Put{{key, u64(storageFormat)}})
	case v < storageFormat:
		return st.Commit([]Put{{key, u64(storageFormat)}})
	}
	return nil
}

// addStampRows makes the t rows of every operation. A crash in between leaves some, and the next opening makes them again.
func addStampRows(st Storage) error {
	var puts []Put
	err := st.Scan([]byte{'o'}, nil, func(key, value []byte) error {
		origin, seq := binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])
		raw, err := joinOp(st, origin, seq, bytes.Clone(value))
		if err != nil {
			return err
		}
		op, err := ParseOperation(raw)
		if err != nil {
			return err
		}
		puts = append(puts, Put{stampKey(op.Stamp()), u64(seq)})
		return nil
	})
	if err != nil {
		return err
	}
	return commitSplit(st, puts, st.Commit)
}

func (s *snapshot) loadVector(st Storage) (newest Time, err error) {
	err = st.Scan([]byte{'v'}, nil, func(key, value []byte) error {
		var row headRow
		if err := decodeRow(key, value, &row); err != nil {
			return err
		}
		h := head{seq: row.Seq, time: row.Time, node: row.Node}
		copy(h.hash[:], row.Hash)
		origin := binary.BigEndian.Uint64(key[1:])
		s.vector = s.vector.set(origin, h)
		s.version += elementHash(origin, h.seq, h.hash)
		newest = max(newest, h.time)
		return nil
	})
	return newest, err
}

// storedRow is one row as it was stored.
type storedRow struct{ key, value []byte }

// scanRows calls fn for batches of the rows of one kind, in order.
func scanRows(st Storage, kind byte, fn func([]storedRow) error) error {
	const batch = 1024
	rows := make([]storedRow, 0, batch)
	err := st.Scan([]byte{kind}, nil, func(key, value []byte) error {
		rows = append(rows, storedRow{bytes.Clone(key), bytes.Clone(value)})
		if len(rows) < batch {
			return nil
		}
		err := fn(rows)
		rows = rows[:0]
		return err
	})
	if err != nil {
		return err
	}
	return fn(rows)
}

// inParallel calls fn for each index below n on all processors and returns the first error.
func inParallel(n int, fn func(i int) error) error {
	var g sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n)
	errs := make([]error, workers)
	for w := range workers {
		g.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = fn(i)
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

// readEntry makes an entry of its row; its members come from rows of their own. named collects the parts it uses.
func readEntry(st Storage, r storedRow, named *sync.Map) (*folding, error) {
	f := &folding{}
	if err := new(entryReader).entry(st, r, named, f); err != nil {
		return nil, err
	}
	return f, nil
}

// stateBuilder makes the entries of a state from the rows of registers, which may come in any order but for members, which come
// after their key.
type stateBuilder struct {
	folds map[string]*folding
	order []*folding
}

func newStateBuilder() *stateBuilder { return &stateBuilder{folds: map[string]*folding{}} }

func (b *stateBuilder) entry(f *folding) {
	b.folds[id(f.ns, f.key)] = f
	b.order = append(b.order, f)
}

// member takes a member's row; used is false when no key has it, or one of another generation: rubbish of a crash.
func (b *stateBuilder) member(key, value []byte) (used bool, err error) {
	var row memberRow
	if err := decodeRow(key, value, &row); err != nil {
		return false, err
	}
	f := b.folds[id(row.NS, row.Key)]
	if f == nil || f.deleted != row.Base {
		return false, nil
	}
	f.rememberMember(row.Name, memberRegister{})
	f.members = f.members.set(row.Name, memberRegister{row.R.register(), row.Member, row.Order, row.Text})
	f.membersStamp = maxStamp(f.membersStamp, row.R.Stamp)
	if row.Name != "" {
		f.maxOrder = max(f.maxOrder, row.Order)
		if row.Member {
			f.memberCount++
		}
	}
	return true, nil
}

// into puts the entries into s, which nobody else sees yet.
func (b *stateBuilder) into(s *snapshot) error {
	err := inParallel(len(b.order), func(i int) error { b.order[i].finish(); return nil })
	if err != nil {
		return err
	}
	entries := make(map[string]*entry, len(b.order))
	for _, f := range b.order {
		entries[id(f.ns, f.key)] = f.entry
	}
	s.entries = s.entries.with(treeOfMap(entries))
	s.reindex(b.order...)
	return nil
}

// loadEntries reads the registers: the entries, then their members.
func (s *snapshot) loadEntries(st Storage) error {
	var l loading
	var named sync.Map // names of the parts that rows use
	if err := l.read(st, &named); err != nil {
		return err
	}
	var rubbish []Put
	err := st.Scan([]byte{'p'}, nil, func(key, _ []byte) error {
		if _, used := named.Load(string(key[:17])); !used {
			rubbish = append(rubbish, Put{bytes.Clone(key), nil})
		}
		return nil
	})
	if err != nil {
		return err
	}
	members := memberLoader{loading: l, names: hostNames(l.order)}
	err = st.Scan([]byte{'e'}, nil, func(key, value []byte) error {
		used, err := members.add(key, value)
		if err == nil && !used {
			rubbish = append(rubbish, Put{bytes.Clone(key), nil})
		}
		return err
	})
	if err != nil {
		return err
	}
	members.finish()
	if err := l.finish(); err != nil {
		return err
	}
	s.index(l.order, l.ids)
	return commitSplit(st, rubbish, st.Commit)
}

// redo folds the operations of the apply log whose registers a crash left behind, and stores them.
func (s *snapshot) redo(st Storage) error {
	type line struct{ number, origin, seq uint64 }
	var lines []line
	err := st.Scan([]byte{'a'}, rowKey('a', s.applied+1), func(key, value []byte) error {
		lines = append(lines, line{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(value[8:]), binary.BigEndian.Uint64(value[16:])})
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range lines {
		if err := s.foldStored(st, l.origin, l.seq, appliedPut(l.number)); err != nil {
			return fmt.Errorf("redo operation %d: %w", l.number, err)
		}
		s.applied = l.number
	}
	return nil
}

// refold folds operations that an older build stored without understanding them.
func (s *snapshot) refold(st Storage) error {
	var keys [][]byte
	err := st.Scan([]byte{'u'}, nil, func(key, _ []byte) error {
		keys = append(keys, append([]byte(nil), key...))
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		origin, seq := binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint64(k[9:])
		raw, err := readOp(st, origin, seq)
		if err != nil {
			return err
		}
		if op, err := ParseOperation(raw); err != nil || !op.known() {
			s.lateOps++
			continue
		}
		if err := s.foldStored(st, origin, seq, Put{k, nil}); err != nil {
			return fmt.Errorf("fold operation %016x/%d after an upgrade: %w", origin, seq, err)
		}
	}
	return nil
}

// foldStored folds a stored operation into s, which nobody else sees yet, and stores its registers and then last.
func (s *snapshot) foldStored(st Storage, origin, seq uint64, last Put) error {
	raw, err := readOp(st, origin, seq)
	if err != nil {
		return err
	}
	op, err := ParseOperation(raw)
	if err != nil {
		return err
	}
	var puts []Put
	for _, f := range s.effects(op) {
		rows, err := entryPuts(f, op)
		if err != nil {
			return err
		}
		puts = append(puts, rows...)
	}
	if err := commitSplit(st, puts, st.Commit); err != nil {
		return err
	}
	return st.Commit([]Put{last})
}

// dropOrphanChunks removes chunks of operations that a crash kept from being recorded.
func dropOrphanChunks(st Storage, s *snapshot) error {
	var drop []Put
	err := st.Scan([]byte{'c'}, nil, func(key, _ []byte) error {
		h, _ := s.vector.get(binary.BigEndian.Uint64(key[1:]))
		if binary.BigEndian.Uint64(key[9:]) > h.seq {
			drop = append(drop, Put{append([]byte(nil), key...), nil})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return commitSplit(st, drop, st.Commit)
}
