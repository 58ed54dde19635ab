package hostdb

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Pieces carry the registers of a state as the rows a storage has of them: each the length of its key, the key, the length of its
// value, the value. Rows carry a version of their own, so a piece needs none.

// Piece are registers of v after a place, which is "" at first: about maxBytes of them, but at least one row. Last is the place after
// them; it is "" when there are no more. Of one View the same place gives the same piece, at every replica of its Version.
func (v View) Piece(after string, maxBytes int) (piece []byte, last string) {
	entry, member := placeOf(after)
	add := func(key, value []byte) (full bool) {
		piece = binary.AppendUvarint(piece, uint64(len(key)))
		piece = append(piece, key...)
		piece = binary.AppendUvarint(piece, uint64(len(value)))
		piece = append(piece, value...)
		last = string(key)
		return len(piece) >= maxBytes
	}
	for name, e := range v.snap().entries.from(entry) {
		if name != entry || after == "" {
			row, err := closeRow(appendEntry(openRow(256), e))
			if err != nil {
				return nil, "" // compressing into memory does not fail
			}
			if add(textKey('k', name), row) {
				return piece, last
			}
			member = ""
		}
		prefix := textKey('e', name+"\x00")
		begun := after != "" && name == entry && strings.HasPrefix(after, string(prefix))
		for m, r := range e.members.from(member) {
			if begun && m == member {
				continue
			}
			row, err := closeRow(appendMember(openRow(192), e, m, &r))
			if err != nil {
				return nil, ""
			}
			if add(append(slices.Clone(prefix), m...), row) {
				return piece, last
			}
		}
		member = ""
	}
	return piece, ""
}

// placeOf is the entry of a place and, where the place is among its members, the member.
func placeOf(after string) (entry, member string) {
	if after == "" {
		return "", ""
	}
	rest := after[1:]
	if after[0] != 'e' {
		return rest, ""
	}
	if i := strings.LastIndexByte(rest, 0); i >= 0 { // a member's name has no NUL
		return rest[:i], rest[i+1:]
	}
	return rest, ""
}

// readPiece reads a piece and looks at each row: it must be one of a register, and of the key that it names.
func readPiece(piece []byte) ([]storedRow, error) {
	bad := refuse(ErrInvalid, "not a piece of a state")
	take := func() ([]byte, bool) {
		size, n := binary.Uvarint(piece)
		if n <= 0 || size > uint64(len(piece)-n) {
			return nil, false
		}
		part := piece[n : n+int(size)]
		piece = piece[n+int(size):]
		return part, true
	}
	var rows []storedRow
	for len(piece) > 0 {
		key, ok1 := take()
		value, ok2 := take()
		if !ok1 || !ok2 || len(key) < 2 || len(key) > 3*maxOperationName {
			return nil, bad
		}
		if err := checkRow(key, value); err != nil {
			return nil, err
		}
		rows = append(rows, storedRow{key, value})
	}
	return rows, nil
}

// checkRow reports whether a row of another replica is what its key says.
func checkRow(key, value []byte) error {
	var want []byte
	switch key[0] {
	case 'k':
		var row entryRow
		if err := decodeRow(key, value, &row); err != nil {
			return refuse(ErrInvalid, "a state that cannot be read: %v", err)
		}
		want = textKey('k', id(row.NS, row.Key))
	case 'e':
		var row memberRow
		if err := decodeRow(key, value, &row); err != nil {
			return refuse(ErrInvalid, "a state that cannot be read: %v", err)
		}
		want = textKey('e', id(row.NS, row.Key)+"\x00"+row.Name)
	}
	if !bytes.Equal(key, want) {
		return refuse(ErrInvalid, "not a piece of a state: row %q is of another key", key)
	}
	return nil
}
