package badgerdb

import (
	"encoding/binary"
	"fmt"

	badger "github.com/dgraph-io/badger/v4"

	"hostmesh/hostdb"
)

// How pairs are laid out. The first byte of a key is its space, which also keeps Badger's "!badger!" keys out of ours
// and lets a key be empty.
//
//	d KEY       value                              user meta metaWhole
//	d KEY       length of the value, first part    user meta metaParts
//	p KEY n     part n of the value, from 1
//
// All parts of a value are written by one transaction, so a head never refers to parts of another value. Replacing a
// long value by a shorter one leaves parts behind that nothing refers to; DB.sweep removes them.
const (
	spaceData = 'd'
	spacePart = 'p'

	metaWhole = 0
	metaParts = 1

	lengthSize = 4 // big endian
)

// What Badger counts for an entry beside its key and value (2), and for the version it appends to the key (10).
const entryOverhead = 12

func dataKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), spaceData), key...)
}

func partKey(key []byte, n int) []byte {
	return append(append(append(make([]byte, 0, 2+len(key)), spacePart), key...), byte(n))
}

// parts is how many part keys a value of this length has. A batch is short enough that it fits a byte.
func (s settings) parts(length int) int {
	if length <= s.part {
		return 0
	}
	return (length - 1) / s.part
}

// cost is what Badger counts for the batch, at most: the sum of sizes and the number of entries.
func (s settings) cost(batch []hostdb.Put) (bytes, entries int) {
	for _, p := range batch {
		n := s.parts(len(p.Value))
		bytes += len(p.Value) + (n+1)*(len(p.Key)+2+entryOverhead) + lengthSize
		entries += n + 1
	}
	return bytes, entries
}

// write adds one put to the transaction.
func (s settings) write(txn *badger.Txn, p hostdb.Put) error {
	key := dataKey(p.Key)
	if p.Value == nil {
		return txn.Delete(key)
	}
	if len(p.Value) <= s.part {
		return txn.SetEntry(badger.NewEntry(key, p.Value))
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, lengthSize+s.part), uint32(len(p.Value)))
	head = append(head, p.Value[:s.part]...)
	if err := txn.SetEntry(badger.NewEntry(key, head).WithMeta(metaParts)); err != nil {
		return err
	}
	rest := p.Value[s.part:]
	for n := 1; len(rest) > 0; n++ {
		part := rest[:min(s.part, len(rest))]
		rest = rest[len(part):]
		if err := txn.Set(partKey(p.Key, n), part); err != nil {
			return err
		}
	}
	return nil
}

// value calls fn with the value of an item of the data space. The slice is valid during fn.
func (s settings) value(txn *badger.Txn, item *badger.Item, fn func([]byte) error) error {
	return item.Value(func(b []byte) error {
		switch item.UserMeta() {
		case metaWhole:
			return fn(b)
		case metaParts:
			whole, err := s.assemble(txn, item.Key()[1:], b)
			if err != nil {
				return err
			}
			return fn(whole)
		}
		return fmt.Errorf("key %q: unknown kind of value %d: %w", item.Key()[1:], item.UserMeta(), ErrFormat)
	})
}

func headLength(head []byte) int { return int(binary.BigEndian.Uint32(head)) }

func (s settings) assemble(txn *badger.Txn, key, head []byte) ([]byte, error) {
	if len(head) < lengthSize {
		return nil, fmt.Errorf("key %q: head of %d bytes: %w", key, len(head), ErrCorrupt)
	}
	length := headLength(head)
	// The size of a part is a matter of the writer: a release with a larger memtable writes larger parts.
	whole := append(make([]byte, 0, min(length, 1<<30)), head[lengthSize:]...)
	for n := 1; len(whole) < length; n++ {
		item, err := txn.Get(partKey(key, n))
		if err != nil {
			return nil, fmt.Errorf("key %q, part %d: %w (%w)", key, n, ErrCorrupt, err)
		}
		if err := item.Value(func(b []byte) error { whole = append(whole, b...); return nil }); err != nil {
			return nil, fmt.Errorf("key %q, part %d: %w", key, n, err)
		}
	}
	if len(whole) != length {
		return nil, fmt.Errorf("key %q: %d bytes in its parts, not %d: %w", key, len(whole), length, ErrCorrupt)
	}
	return whole, nil
}
