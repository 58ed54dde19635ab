package hostdb

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Rows of a Storage. The operation rows are the truth; registers are made from them and redone if a crash left them behind.
//
//	o origin seq            an operation: 0 and its bytes, or 1 and the number of its chunks
//	c origin seq index      a chunk of an operation that is larger than a batch
//	a number                apply log: wall time, origin, seq, in the order of this replica
//	t stamp                 all operations in the order of their stamps: the seq (its origin is in the stamp)
//	h ns NUL key NUL stamp  history of a key: the seq of the operation that touched it (its origin is in the stamp)
//	v origin                the newest operation of an origin: seq, time, hash, node
//	l origin                where the log of an origin begins, if it does not begin with its first operation
//	f origin seq hash       an operation that does not belong to the chain held here, kept aside
//	k ns NUL key            a key's registers but for its members
//	e ns NUL key NUL member one member register
//	p hash index            a part of a k row that is too large for one batch
//	u origin seq            an operation with effects that this build does not know
//	m name                  "format": version of these rows; "applied": the apply number that registers stand at;
//	                        "joining": a state that is being taken from another replica, see join.go;
//	                        "horizon": where history begins, see base.go; "plan": see plan.go
//	b, d, q                 as k, e and p, of the state that dropped history is folded into, see base.go
//	w number                a step of a plan, see plan.go
//	x time index            what a restamp did, see restamp.go
//
// Numbers in keys are big endian, so that rows sort by them. Each value of k, e and v begins with its own version.
//
// A line of the apply log whose origin is 0 stands for a state that was taken as a whole.
//
// Format 2 has the t rows. An older replica gets them when it is opened. In format 3 the log of an origin need not begin
// with its first operation, which an older build would not see.
const storageFormat = 3

func rowKey(kind byte, numbers ...uint64) []byte {
	k := []byte{kind}
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

func opKey(origin, seq uint64) []byte { return rowKey('o', origin, seq) }

func textKey(kind byte, text string) []byte { return append([]byte{kind}, text...) }

func historyKey(ns, key string, s Stamp) []byte {
	k := textKey('h', ns+"\x00"+key+"\x00")
	k = binary.BigEndian.AppendUint64(k, uint64(s.Time))
	return binary.BigEndian.AppendUint64(k, s.Origin)
}

func stampKey(s Stamp) []byte { return rowKey('t', uint64(s.Time), s.Origin) }

// stampOf reads the stamp at the end of a t or h row's key.
func stampOf(key []byte) Stamp {
	n := len(key) - 16
	return Stamp{Time: Time(binary.BigEndian.Uint64(key[n:])), Origin: binary.BigEndian.Uint64(key[n+8:])}
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// registerRow, leafRow and entryRow are the stored forms. Fields are only ever appended.
type registerRow struct {
	_        struct{} `cbor:",toarray"`
	Stamp    Stamp
	Replaces Stamp
	Second   Stamp
}

type leafRow struct {
	_     struct{} `cbor:",toarray"`
	Path  string
	Value Value
	R     registerRow
}

type entryRow struct {
	NS          string      `cbor:"1,keyasint"`
	Key         string      `cbor:"2,keyasint,omitempty"`
	Deleted     Stamp       `cbor:"3,keyasint"`
	DeleteSaw   Stamp       `cbor:"4,keyasint"`
	DeleteKnown bool        `cbor:"5,keyasint,omitempty"`
	LateEdit    Stamp       `cbor:"6,keyasint"`
	Created     registerRow `cbor:"7,keyasint"`
	From        string      `cbor:"8,keyasint,omitempty"`
	Leaves      []leafRow   `cbor:"9,keyasint,omitempty"`
	Perms       registerRow `cbor:"10,keyasint"`
	PermsValue  Value       `cbor:"11,keyasint,omitempty"`
}

type memberRow struct {
	NS     string      `cbor:"1,keyasint"`
	Key    string      `cbor:"2,keyasint"`
	Name   string      `cbor:"3,keyasint,omitempty"`
	Base   Stamp       `cbor:"4,keyasint"` // the key's generation; rows of older ones are rubbish of a crash
	R      registerRow `cbor:"5,keyasint"`
	Member bool        `cbor:"6,keyasint,omitempty"`
	Order  string      `cbor:"7,keyasint,omitempty"`
	Text   string      `cbor:"8,keyasint,omitempty"`
}

type headRow struct {
	Seq  uint64 `cbor:"1,keyasint"`
	Time Time   `cbor:"2,keyasint"`
	Hash []byte `cbor:"3,keyasint"`
	Node string `cbor:"4,keyasint,omitempty"`
}

func (r registerRow) register() register { return register{r.Stamp, r.Replaces, r.Second} }

// A row's first byte is its version: 1 is CBOR; 2 is CBOR in deflate, for large ones, because stamps and paths compress
// well; 3 stands for a row in parts, and names them by the hash of the whole.
const (
	rowPlain     = 1
	rowDeflated  = 2
	rowInParts   = 3
	deflateAbove = 128 << 10
	partBytes    = 256 << 10
	maxRow       = 256 << 20 // far above what merges can make of documents of 1 MiB; a row of a stranger must not fill the memory
)

// closeRow makes a row's value of the CBOR that follows its first byte, which openRow left room for.
func closeRow(b []byte) ([]byte, error) {
	if len(b) <= deflateAbove {
		b[0] = rowPlain
		return b, nil
	}
	out := bytes.NewBuffer([]byte{rowDeflated})
	w, err := flate.NewWriter(out, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(b[1:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress row: %w", err)
	}
	return out.Bytes(), nil
}

// openRow is the beginning of a row's value.
func openRow(size int) []byte { return make([]byte, 1, size) }

func decodeRow(key, b []byte, v any) error {
	var plain []byte
	switch {
	case len(b) > 0 && b[0] == rowPlain:
		plain = b[1:]
	case len(b) > 0 && b[0] == rowDeflated:
		var err error
		if plain, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b[1:])), maxRow+1)); err != nil {
			return fmt.Errorf("decompress row %q: %w", key, err)
		}
		if len(plain) > maxRow {
			return fmt.Errorf("row %q is longer than %d MiB", key, maxRow>>20)
		}
	default:
		return fmt.Errorf("row %q has a version this build does not know: install the newer hostmesh again", key)
	}
	read := false
	switch row := v.(type) {
	case *entryRow:
		if read = readEntryRow(plain, row); !read {
			*row = entryRow{}
		}
	case *memberRow:
		if read = readMemberRow(plain, row); !read {
			*row = memberRow{}
		}
	}
	if read {
		return nil
	}
	if err := rowDecoder.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("decode row %q: %w", key, err)
	}
	return nil
}

// entryPuts are the register rows of a folded key, and its line of history.
func entryPuts(f *folding, op *Operation) ([]Put, error) {
	puts := []Put{{historyKey(f.ns, f.key, op.Stamp()), u64(op.Seq)}}
	if !f.dirty {
		return puts, nil
	}
	e := f.entry
	size := 256
	for i := range e.leaves {
		size += 40 + len(e.leaves[i].Path) + len(e.leaves[i].Value) // with the register of a leaf that was written once
	}
	b, err := closeRow(appendEntry(openRow(size), e))
	if err != nil {
		return nil, err
	}
	puts = appendInParts(puts, Put{textKey('k', id(e.ns, e.key)), b})
	for name := range f.memberBefore {
		key := textKey('e', id(e.ns, e.key)+"\x00"+name)
		m, ok := e.members.get(name)
		if !ok {
			puts = append(puts, Put{key, nil})
			continue
		}
		b, err := closeRow(appendMember(openRow(192), e, name, &m))
		if err != nil {
			return nil, err
		}
		puts = append(puts, Put{key, b})
	}
	return puts, nil
}

// appendInParts appends a row, in parts if it is large: concurrent writes may merge to a document that no single
// write could have made. The parts come first, under a name that no other content has, so that a crash between two
// commits leaves the old row whole. Parts that no row names any more are removed at the next load.
func appendInParts(puts []Put, row Put) []Put {
	if len(row.Value) <= 2*partBytes {
		return append(puts, row)
	}
	sum := sha256.Sum256(row.Value)
	name := append([]byte{'p'}, sum[:16]...)
	count := uint64(0)
	for part := range slices.Chunk(row.Value, partBytes) {
		puts = append(puts, Put{binary.BigEndian.AppendUint64(slices.Clone(name), count), part})
		count++
	}
	head := append([]byte{rowInParts}, sum[:16]...)
	return append(puts, Put{row.Key, binary.BigEndian.AppendUint64(head, count)})
}

// joinParts reads a row's parts, and marks them as named.
func joinParts(st Storage, key, row []byte, named *sync.Map) ([]byte, error) {
	if len(row) != 25 {
		return nil, fmt.Errorf("row %q names its parts wrongly", key)
	}
	name := append([]byte{'p'}, row[1:17]...)
	named.Store(string(name), true)
	var whole []byte
	for i := range binary.BigEndian.Uint64(row[17:]) {
		part, found, err := st.Get(binary.BigEndian.AppendUint64(slices.Clone(name), i))
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("part %d of row %q is missing", i, key)
		}
		whole = append(whole, part...)
	}
	return whole, nil
}

// headPut is where logPuts has the row of the origin's newest operation.
const headPut = 2

// logPuts are the rows that make an operation part of this replica, without its registers.
func logPuts(op *Operation, hash Hash, node string, applied uint64, wall time.Time) ([]Put, error) {
	h, err := closeRow(appendHeadRow(openRow(96), headRow{Seq: op.Seq, Time: op.Time, Hash: hash[:], Node: node}))
	if err != nil {
		return nil, err
	}
	line := binary.BigEndian.AppendUint64(nil, uint64(wall.UnixMilli()))
	line = binary.BigEndian.AppendUint64(line, op.Origin)
	line = binary.BigEndian.AppendUint64(line, op.Seq)
	puts := []Put{
		{opKey(op.Origin, op.Seq), append([]byte{0}, op.raw...)},
		{rowKey('a', applied), line},
		{rowKey('v', op.Origin), h},
		{stampKey(op.Stamp()), u64(op.Seq)},
	}
	if !op.known() {
		puts = append(puts, Put{rowKey('u', op.Origin, op.Seq), []byte{1}})
	}
	return puts, nil
}

func appliedPut(n uint64) Put { return Put{textKey('m', "applied"), u64(n)} }

// readOp reads an operation back; nil when it is not held.
func readOp(st Storage, origin, seq uint64) ([]byte, error) {
	row, found, err := st.Get(opKey(origin, seq))
	if err != nil || !found {
		return nil, err
	}
	return joinOp(st, origin, seq, row)
}

// joinOp makes an operation's bytes of its row.
func joinOp(st Storage, origin, seq uint64, row []byte) ([]byte, error) {
	switch {
	case len(row) > 1 && row[0] == 0:
		return row[1:], nil
	case len(row) == 9 && row[0] == 1:
		var raw []byte
		chunks := binary.BigEndian.Uint64(row[1:])
		for i := range chunks {
			c, ok, err := st.Get(rowKey('c', origin, seq, i))
			if err != nil {
				return nil, fmt.Errorf("operation %016x/%d: %w", origin, seq, err)
			}
			if !ok {
				return nil, fmt.Errorf("operation %016x/%d: chunk %d of %d is missing", origin, seq, i, chunks)
			}
			raw = append(raw, c...)
		}
		return raw, nil
	}
	return nil, fmt.Errorf("operation %016x/%d: its row has an unknown form", origin, seq)
}
