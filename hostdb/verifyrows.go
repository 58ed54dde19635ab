package hostdb

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

func (v *verifier) applyLine(key, value []byte) {
	if len(key) != 9 || len(value) != 24 {
		v.find(fmt.Sprintf("line %x of the apply log", key[1:]), remedyReplica, "it has another form")
		return
	}
	number := binary.BigEndian.Uint64(key[1:])
	op := opID{binary.BigEndian.Uint64(value[8:]), binary.BigEndian.Uint64(value[16:])}
	v.number = number // numbers may be left out: a restamp takes operations out
	if op.origin == 0 {
		v.joined = true
		return
	}
	if number > v.base {
		v.tail[op] = &tailOp{number: number}
	}
	if op.seq > v.low(op.origin) {
		v.seenA.add(sumOf('a', op, nil))
	}
}

// sumOf is a row as an element of a set.
func sumOf(kind byte, op opID, rest []byte) sum256 {
	b := make([]byte, 0, 17+len(rest))
	b = binary.BigEndian.AppendUint64(append(b, kind), op.origin)
	b = append(binary.BigEndian.AppendUint64(b, op.seq), rest...)
	sum := sha256.Sum256(b)
	var s sum256
	for i := range s {
		s[i] = binary.BigEndian.Uint64(sum[8*i:])
	}
	return s
}

func (v *verifier) memberRow(key, value []byte) {
	var row memberRow
	if err := decodeRow(key, value, &row); err != nil {
		v.find(rowName(key), remedyReplica, "the member cannot be read: %v", err)
		return
	}
	if string(key[1:]) != id(row.NS, row.Key)+"\x00"+row.Name {
		v.find(rowName(key), remedyReplica, "it holds a member of %s/%s", row.NS, row.Key)
		return
	}
	v.report.Members++
	m := memberRegister{row.R.register(), row.Member, row.Order, row.Text}
	e := entry{ns: row.NS, key: row.Key, deleted: row.Base}
	meaning := appendMember(nil, &e, row.Name, &m)
	if !bytes.Equal(plainRow(value), meaning) {
		v.find(rowName(key), remedyReplica, "its row has a form that nobody writes")
	}
	v.memberRows[string(key)] = memberSum{row.NS, row.Key, row.Base, short(meaning)}
}

// plainRow is what a row that can be read holds, behind its first byte.
func plainRow(value []byte) []byte {
	if value[0] == rowPlain {
		return value[1:]
	}
	plain, _ := io.ReadAll(flate.NewReader(bytes.NewReader(value[1:]))) // it was read before
	return plain
}

// short is a hash long enough to tell rows apart.
func short(b []byte) [16]byte {
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// rowName names a row of a key for people.
func rowName(key []byte) string {
	parts := bytes.SplitN(key[1:], []byte{0}, 3)
	switch {
	case len(parts) < 2:
		return fmt.Sprintf("row %q", key)
	case len(parts) == 3 && key[0] == 'e':
		return fmt.Sprintf("member %s of %s/%s", parts[2], parts[0], parts[1])
	}
	return fmt.Sprintf("key %s/%s", parts[0], parts[1])
}

func (v *verifier) historyRow(key, value []byte) {
	if len(key) < 19 || len(value) != 8 {
		v.find(fmt.Sprintf("row %q", key), remedyReplica, "it is no line of a key's history")
		return
	}
	op := opID{stampOf(key).Origin, binary.BigEndian.Uint64(value)}
	sum := sumOf('h', op, key)
	if t := v.tail[op]; t != nil {
		t.seen.add(sum)
	} else if op.seq > v.low(op.origin) {
		v.seenH.add(sum)
	}
}

// keyRow reads the registers of a key. An error is one of the storage.
func (v *verifier) keyRow(key, value []byte) error {
	f, err := readEntry(v.st, storedRow{bytes.Clone(key), bytes.Clone(value)}, &v.named)
	if err != nil {
		v.find(rowName(key), remedyReplica, "its registers cannot be read: %v", err)
		return nil
	}
	if string(key[1:]) != id(f.ns, f.key) {
		v.find(rowName(key), remedyReplica, "it holds the registers of %s/%s", f.ns, f.key)
		return nil
	}
	row := value
	if value[0] == rowInParts { // named by its content
		if row, err = joinParts(v.st, key, value, &v.named); err != nil {
			return err
		}
		if sum := sha256.Sum256(row); !bytes.Equal(sum[:16], value[1:17]) {
			v.find(rowName(key), remedyReplica, "the parts of its registers are not those it names")
			return nil
		}
	}
	meaning := appendEntry(nil, f.entry)
	if !bytes.Equal(plainRow(row), meaning) {
		v.find(rowName(key), remedyReplica, "its row has a form that nobody writes")
	}
	v.report.Keys++
	v.keyRows[string(key)] = short(meaning)
	return nil
}

func (v *verifier) metaRow(key, value []byte) {
	switch string(key[1:]) {
	case "format":
		v.hasFormat = true
		if len(value) != 8 {
			v.find("the format", remedyReplica, "its row has another form")
		} else if n := binary.BigEndian.Uint64(value); n > storageFormat {
			v.find("the format", remedyUpgrade, "it is %d, this build knows up to %d", n, storageFormat)
		}
	case string(joinKey[1:]), string(horizonKey[1:]), string(planKey[1:]):
	case "applied":
		if len(value) != 8 {
			v.find("the end of the apply log", remedyReplica, "its row has another form")
			return
		}
		v.applied = binary.BigEndian.Uint64(value)
	default:
		v.report.Unknown++
	}
}

// operation reads an operation and continues its chain.
func (v *verifier) operation(key, value []byte) error {
	if len(key) != 17 {
		v.find(fmt.Sprintf("row %q", key), remedyReplica, "it is no operation")
		return nil
	}
	at := opID{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])}
	if len(value) == 9 && value[0] == 1 {
		if n := binary.BigEndian.Uint64(value[1:]); n > v.chunks[at] { // read no more than there are
			v.find(at.String(), remedyReplica, "it has %d chunks, and %d are there", n, v.chunks[at])
			return nil
		}
		delete(v.chunks, at)
	}
	raw, err := joinOp(v.st, at.origin, at.seq, bytes.Clone(value))
	if err != nil {
		v.find(at.String(), remedyReplica, "it cannot be read: %v", err)
		return nil
	}
	op, err := ParseOperation(raw)
	if err != nil {
		v.find(at.String(), remedyReplica, "it cannot be read: %v", err)
		return nil
	}
	if op.Origin != at.origin || op.Seq != at.seq {
		v.find(at.String(), remedyReplica, "it says that it is operation %016x/%d", op.Origin, op.Seq)
		return nil
	}
	v.report.Operations++
	v.chain(at, op)
	v.expectRows(at, op)
	if e := v.opt.Expect; e != nil && op.Seq > e.Heads[op.Origin] {
		v.later = append(v.later, op)
		return nil
	}
	v.fold(op)
	return nil
}

// chain holds an operation against the one before it.
func (v *verifier) chain(at opID, op *Operation) {
	c, low := v.last[at.origin], v.low(at.origin)
	if c == nil {
		c = &chainEnd{first: at.seq, prev: op.Prev, after: op.After}
		v.last[at.origin] = c
		v.report.Origins++
		if at.seq > low+1 {
			v.find(at.String(), remedyReplica, "the operations from %d to %d before it are missing", low+1, at.seq-1)
		}
		if l := v.logs[at.origin]; low > 0 && at.seq == low+1 && !bytes.Equal(op.After, l.hash[:]) {
			v.find(at.String(), remedyReplica, "it does not continue the operation before it, which is not held")
		}
	} else if at.seq != c.seq+1 {
		v.find(at.String(), remedyReplica, "the operations from %d to %d before it are missing", c.seq+1, at.seq-1)
	} else if !bytes.Equal(op.After, c.hash[:]) {
		v.find(at.String(), remedyReplica, "it does not continue operation %d: one of the two is damaged, or two boxes wrote under one origin", c.seq)
	}
	c.seq, c.time, c.hash = op.Seq, op.Time, op.Hash()
	if op.Seq == 1 {
		c.node = op.Node
	}
}

// expectRows notes which rows an operation must have elsewhere.
func (v *verifier) expectRows(at opID, op *Operation) {
	if at.seq <= v.low(at.origin) {
		return
	}
	v.wantA.add(sumOf('a', at, nil))
	v.wantT.add(sumOf('t', at, stampKey(op.Stamp())))
	t := v.tail[at]
	for key := range touched(op) {
		sum := sumOf('h', at, historyKey(key.ns, key.key, op.Stamp()))
		if t != nil {
			t.want.add(sum)
			t.keys = append(t.keys, id(key.ns, key.key))
		} else {
			v.wantH.add(sum)
		}
	}
	if !op.known() {
		v.report.Late++
		v.late[at] = true
	}
}

type nsKey struct{ ns, key string }

// touched are the keys that an operation has a line in the history of.
func touched(op *Operation) map[nsKey]bool {
	keys := map[nsKey]bool{}
	for i := range op.Effects {
		if x := &op.Effects[i]; x.foldable() {
			keys[nsKey{x.NS, x.Key}] = true
		}
	}
	return keys
}

// fold puts an operation into the registers that are made from nothing. The order of operations does not matter to them.
func (v *verifier) fold(op *Operation) {
	if !v.whole {
		return
	}
	for i := range op.Effects {
		x := &op.Effects[i]
		if !x.foldable() {
			continue
		}
		k := id(x.NS, x.Key)
		f := v.folds[k]
		if f == nil {
			f = beginFold(nil, x.NS, x.Key)
			v.folds[k] = f
		}
		f.effect(op.Stamp(), x)
	}
}

func (v *verifier) stampRow(key, value []byte) {
	if len(key) != 17 || len(value) != 8 {
		v.find(fmt.Sprintf("row %q", key), remedyReplica, "it is no line of the order of all operations")
		return
	}
	if op := (opID{stampOf(key).Origin, binary.BigEndian.Uint64(value)}); op.seq > v.low(op.origin) {
		v.seenT.add(sumOf('t', op, key))
	}
}

func (v *verifier) lateRow(key []byte) {
	at := opID{}
	if len(key) == 17 {
		at = opID{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])}
	}
	if !v.late[at] {
		v.report.Redo++ // this build knows its effects: the next opening folds them
		return
	}
	delete(v.late, at)
}

func (v *verifier) headRow(key, value []byte) {
	if len(key) != 9 {
		v.find(fmt.Sprintf("row %q", key), remedyReplica, "it names no origin")
		return
	}
	origin := binary.BigEndian.Uint64(key[1:])
	where := fmt.Sprintf("end of origin %016x", origin)
	var h headRow
	if err := decodeRow(key, value, &h); err != nil {
		v.find(where, remedyReplica, "it cannot be read: %v", err)
		return
	}
	v.heads[origin] = h.Seq
	c := v.last[origin]
	delete(v.last, origin)
	switch {
	case c == nil && (h.Seq == v.low(origin) || v.report.Joining): // none of it is held
	case c == nil:
		v.find(where, remedyReplica, "none of its %d operations is there", h.Seq)
	case h.Seq > c.seq:
		v.find(where, remedyReplica, "the operations from %d to %d are missing", c.seq+1, h.Seq)
	case h.Seq < c.seq:
		v.find(where, remedyReplica, "it names operation %d, and there are %d", h.Seq, c.seq)
	case !bytes.Equal(h.Hash, c.hash[:]) || h.Time != c.time:
		v.find(where, remedyReplica, "operation %d is not the one that it names: it is damaged", c.seq)
	case c.first == 1 && h.Node != c.node:
		v.find(where, remedyReplica, "it names node %q, its first operation %q", h.Node, c.node)
	}
	if c != nil && c.first == 1 && c.prev != nil {
		v.previous(opID{origin, 1}, c)
	}
}

// previous holds the first operation of a run against the last of the run before, where that is held.
func (v *verifier) previous(at opID, c *chainEnd) {
	raw, err := readOp(v.st, c.prev.Origin, c.prev.Seq)
	if err != nil || raw == nil {
		return // not held, or its own row has said what is wrong
	}
	if sum := Hash(sha256.Sum256(raw)); !bytes.Equal(c.after, sum[:]) {
		v.find(at.String(), remedyReplica, "it does not continue operation %016x/%d of the run before: one of the two is damaged", c.prev.Origin, c.prev.Seq)
	}
}
