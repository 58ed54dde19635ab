package hostdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// judge compares what was read with what the operations say.
func (v *verifier) judge() error {
	v.report.Whole = v.whole
	if !v.hasFormat && v.report.Rows > 0 {
		v.find("the format", remedyReplica, "its row is missing")
	}
	if v.applied > v.number && !v.report.Joining {
		v.find("the end of the apply log", remedyReplica, "%d operations are applied, and the log has %d lines", v.applied, v.number)
	}
	for at, n := range v.chunks { // of no operation
		if at.seq > v.heads[at.origin] || at.seq <= v.low(at.origin) {
			v.report.Rubbish += n
		} else {
			v.find(at.String(), remedyReplica, "it has chunks and is not there itself")
		}
	}
	for origin, c := range v.last {
		v.find(fmt.Sprintf("end of origin %016x", origin), remedyReplica, "its row is missing, and it has %d operations", c.seq)
	}
	for at := range v.late {
		v.find(at.String(), remedyUpgrade, "it has effects that this build does not know, and is not marked so")
	}
	redo := v.redo()
	if err := v.indexes(); err != nil {
		return err
	}
	if v.whole {
		v.registers(redo)
	}
	return v.ctx.Err()
}

// redo judges the operations that were applied last, and returns the keys of those whose registers are still to be made.
func (v *verifier) redo() map[string]bool {
	keys := map[string]bool{}
	for at, t := range v.tail {
		if t.number > v.applied {
			v.report.Redo++
			for _, k := range t.keys {
				keys[k] = true
			}
		} else if t.seen != t.want {
			v.seenH.add(sumOf('h', at, nil)) // makes the search below find it
		}
	}
	return keys
}

// indexes compares the sums of the rows that name operations, and looks for the rows only where they differ.
func (v *verifier) indexes() error {
	if (v.joined || v.seenA == v.wantA) && v.seenH == v.wantH && v.seenT == v.wantT {
		return nil
	}
	before := len(v.report.Findings)
	if err := v.search(); err != nil && !errors.Is(err, errStopped) {
		return err
	}
	if len(v.report.Findings) == before {
		// Another operation of these was damaged, and it is said there.
		v.find("the indexes of operations", remedyReplica, "they do not name the operations that are there")
	}
	return nil
}

// search finds the rows that name operations wrongly: it goes over them once more, and over the operations.
func (v *verifier) search() error {
	lines := map[opID]bool{}
	err := v.st.Scan([]byte{'a'}, nil, func(key, value []byte) error {
		if len(key) != 9 || len(value) != 24 {
			return nil
		}
		at := opID{binary.BigEndian.Uint64(value[8:]), binary.BigEndian.Uint64(value[16:])}
		if v.isNews(at) {
			return nil
		}
		where := fmt.Sprintf("line %d of the apply log", binary.BigEndian.Uint64(key[1:]))
		if lines[at] {
			v.find(where, remedyReplica, "it names %s, which another line names", at)
		}
		lines[at] = true
		_, err := v.operationNamed(at, where)
		return err
	})
	if err != nil {
		return err
	}
	for _, kind := range []byte{'t', 'h'} {
		err := v.st.Scan([]byte{kind}, nil, func(key, value []byte) error {
			if len(key) < 17 || len(value) != 8 {
				return nil
			}
			stamp := stampOf(key)
			at := opID{stamp.Origin, binary.BigEndian.Uint64(value)}
			if v.isNews(at) {
				return nil
			}
			where := fmt.Sprintf("%s in the order of all operations", stamp)
			if kind == 'h' {
				where = fmt.Sprintf("%s in the history of %s", stamp, rowName(key[:len(key)-16]))
			}
			op, err := v.operationNamed(at, where)
			if err != nil || op == nil {
				return err
			}
			switch {
			case op.Stamp() != stamp:
				v.find(where, remedyReplica, "it names %s, which has the stamp %s", at, op.Stamp())
			case kind == 'h' && !touches(op, key):
				v.find(where, remedyReplica, "it names %s, which does not touch the key", at)
			}
			return v.enough()
		})
		if err != nil {
			return err
		}
	}
	return v.st.Scan([]byte{'o'}, nil, func(key, value []byte) error {
		if len(key) != 17 {
			return nil
		}
		at := opID{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])}
		raw, err := joinOp(v.st, at.origin, at.seq, bytes.Clone(value))
		if err != nil || v.isNews(at) {
			return nil // said before, or newer than what is judged
		}
		op, err := ParseOperation(raw)
		if err != nil {
			return nil
		}
		if !lines[at] && !v.joined {
			v.find(at.String(), remedyReplica, "no line of the apply log names it")
		}
		return v.hasRows(at, op)
	})
}

func (v *verifier) enough() error {
	if len(v.report.Findings) >= MaxFindings {
		return errStopped
	}
	return v.ctx.Err()
}

// isNews reports whether an operation may have come after the rows were read, or need not be there.
func (v *verifier) isNews(at opID) bool {
	if at.origin == 0 || at.seq <= v.low(at.origin) {
		return true
	}
	if t := v.tail[at]; t != nil && t.number > v.applied {
		return true
	}
	if v.opt.Expect != nil {
		return at.seq > v.opt.Expect.Heads[at.origin]
	}
	return false
}

// operationNamed is the operation that a row names; nil, and a finding, when it is not there.
func (v *verifier) operationNamed(at opID, where string) (*Operation, error) {
	row, found, err := v.st.Get(opKey(at.origin, at.seq))
	if err != nil {
		return nil, err
	}
	if !found {
		v.find(where, remedyReplica, "it names %s, which is not there", at)
		return nil, v.enough()
	}
	raw, err := joinOp(v.st, at.origin, at.seq, row)
	if err != nil {
		return nil, nil // said before
	}
	op, err := ParseOperation(raw)
	if err != nil {
		return nil, nil
	}
	return op, nil
}

func touches(op *Operation, key []byte) bool {
	for k := range touched(op) {
		if bytes.Equal(key, historyKey(k.ns, k.key, op.Stamp())) {
			return true
		}
	}
	return false
}

// hasRows looks whether an operation is named where it must be.
func (v *verifier) hasRows(at opID, op *Operation) error {
	seq := u64(at.seq)
	if b, _, err := v.st.Get(stampKey(op.Stamp())); err != nil {
		return err
	} else if !bytes.Equal(b, seq) {
		v.find(at.String(), remedyReplica, "it is not in the order of all operations")
	}
	for k := range touched(op) {
		if b, _, err := v.st.Get(historyKey(k.ns, k.key, op.Stamp())); err != nil {
			return err
		} else if !bytes.Equal(b, seq) {
			v.find(at.String(), remedyReplica, "it is not in the history of key %s/%s", k.ns, k.key)
		}
	}
	return v.enough()
}

// registers compares the stored registers with those that the operations make.
func (v *verifier) registers(redo map[string]bool) {
	v.finish(v.sortedFolds())
	v.report.Digests = v.digests()
	if e := v.opt.Expect; e != nil {
		for _, ns := range sortedKeys(e.Digests, v.report.Digests) {
			if have, want := orZero(v.report.Digests[ns]), orZero(e.Digests[ns]); have != want {
				v.find("namespace "+ns, remedyReplica, "its digest is %s, the operations make %s", want, have)
			}
		}
		for origin, seq := range e.Heads {
			if v.heads[origin] < seq {
				v.find(fmt.Sprintf("end of origin %016x", origin), remedyReplica, "%d operations were there when the reading began, and are not now", seq)
			}
		}
	}
	if len(v.later) > 0 {
		for _, op := range v.later {
			v.fold(op)
		}
		v.finish(v.sortedFolds())
	}
	for k, f := range v.folds {
		if redo[k] {
			delete(v.keyRows, "k"+k)
			continue
		}
		row, found := v.keyRows["k"+k]
		delete(v.keyRows, "k"+k)
		switch {
		case !found:
			v.find(fmt.Sprintf("key %s/%s", f.ns, f.key), remedyReplica, "its registers are missing")
		case row != short(appendEntry(nil, f.entry)):
			v.find(fmt.Sprintf("key %s/%s", f.ns, f.key), remedyReplica, "its registers are not what its operations make")
		}
		for name, m := range f.members.all() {
			key := "e" + k + "\x00" + name
			row, found := v.memberRows[key]
			delete(v.memberRows, key)
			if !found || row.sum != short(appendMember(nil, f.entry, name, &m)) {
				v.find(rowName([]byte(key)), remedyReplica, "its register is missing, or not what the operations make")
			}
		}
	}
	for key := range v.keyRows {
		if !redo[key[1:]] {
			v.find(rowName([]byte(key)), remedyReplica, "it has registers, and no operation wrote it")
		}
	}
	for key, m := range v.memberRows {
		k := id(m.ns, m.key)
		f := v.folds[k]
		switch {
		case redo[k]:
		case f != nil && m.base.Less(f.deleted): // a crash kept it from being deleted
			v.report.Rubbish++
		default:
			v.find(rowName([]byte(key)), remedyReplica, "it has a register, and no operation wrote it")
		}
	}
}

func (v *verifier) sortedFolds() []*folding {
	list := make([]*folding, 0, len(v.folds))
	for _, f := range v.folds {
		list = append(list, f)
	}
	return list
}

// finish makes what digests need, of what has changed since it was called last.
func (v *verifier) finish(list []*folding) {
	_ = inParallel(len(list), func(i int) error {
		f := list[i]
		f.finish()
		f.memberBefore, f.dataTouched, f.permsTouched = nil, false, false
		return nil
	})
}

// digests are those of the operations folded so far.
func (v *verifier) digests() map[string]string {
	sums := map[string]*sum256{}
	for _, f := range v.folds {
		s := sums[f.ns]
		if s == nil {
			s = &sum256{}
			sums[f.ns] = s
		}
		s.add(f.sumDoc)
		s.add(f.sumMembers)
	}
	out := make(map[string]string, len(sums))
	for ns, s := range sums {
		out[ns] = s.String()
	}
	return out
}

func orZero(digest string) string {
	if digest == "" {
		return sum256{}.String()
	}
	return digest
}

// sortedKeys are the keys of maps, each once.
func sortedKeys(maps ...map[string]string) []string {
	var keys []string
	for _, m := range maps {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
