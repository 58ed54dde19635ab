package raftdisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// The log is a row of segments, files of a fixed size that are written from the front and never rewritten:
//
//	header, 64 bytes      see encodeHeader
//	record, record, ...   each at a multiple of 8; the rest is zero
//
// A header is written together with the segment's first records: a file without one is the spare. All integers are little endian.
//
// Records of one write are a batch, and each names where its batch begins. A batch is synced before the next is written, so a record
// that is bad while one of a later batch is good was once acknowledged: that is damage. Otherwise the last write was torn.
const (
	segmentVersion = 1 // of header and records

	headerSize = 64
	recordSize = 72 // without data and extensions

	// maxBatch bounds one write, and with it what is believed of a length on disk.
	maxBatch = 1 << 30
)

var (
	segmentMagic = []byte("HMRAFTLG")
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// header is the beginning of a segment.
type header struct {
	Seq     uint64
	PrevEnd int64  // where the records of the segment before end; what is behind was never acknowledged
	Salt    uint64 // stands in each record, so that what a failed write left is not taken for one
	Inode   uint64 // of the file; a copy has another one
	Head    uint64 // entries below were deleted from the log when this segment began
}

func encodeHeader(h header) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, 0) // the checksum
	for _, v := range []uint64{h.Seq, uint64(h.PrevEnd), h.Salt, h.Inode, h.Head} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = b[:headerSize]
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

// decodeHeader reads the header of a segment. ok is false when there is none, or half of one. The error is ErrFormat.
func decodeHeader(b []byte) (h header, ok bool, err error) {
	if len(b) < headerSize || !bytes.Equal(b[:8], segmentMagic) {
		return header{}, false, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > segmentVersion {
		return header{}, false, fmt.Errorf("%w: log segments of version %d, this build reads up to %d", ErrFormat, v, segmentVersion)
	}
	if binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[16:headerSize], castagnoli) {
		return header{}, false, nil
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[16+8*i:]) }
	h = header{Seq: u(0), PrevEnd: int64(u(1)), Salt: u(2), Inode: u(3), Head: u(4)}
	return h, h.PrevEnd >= 0, nil
}

// What a record does to the log.
const (
	kindEntry = 1 // append it; what is there from its index on goes
	kindCut   = 2 // drop the entries from Index on
	kindHead  = 3 // drop the entries before Index
)

// record is one change of the log. For cuts and heads only the Index of Log means anything.
type record struct {
	Kind byte
	Log  raft.Log
}

// size is what a record takes on disk.
func (r *record) size() int64 {
	return (recordSize + int64(len(r.Log.Data)) + int64(len(r.Log.Extensions)) + 7) &^ 7
}

const hasTime = 1

// appendRecord encodes a record that will stand at offset at of a segment, in a batch that begins at start.
func appendRecord(b []byte, r *record, salt uint64, at, start int64) []byte {
	from := len(b)
	le := binary.LittleEndian
	b = le.AppendUint32(b, 0) // the checksum
	b = le.AppendUint32(b, uint32(len(r.Log.Data)+len(r.Log.Extensions)))
	b = le.AppendUint64(b, salt)
	b = le.AppendUint32(b, uint32(at))
	b = le.AppendUint32(b, uint32(start))
	b = append(b, r.Kind, byte(r.Log.Type), 0, 0)
	b = le.AppendUint32(b, uint32(len(r.Log.Data)))
	b = le.AppendUint64(b, r.Log.Index)
	b = le.AppendUint64(b, r.Log.Term)
	if r.Log.AppendedAt.IsZero() {
		b = append(b, make([]byte, 24)...)
	} else {
		b = le.AppendUint64(b, uint64(r.Log.AppendedAt.Unix()))
		b = le.AppendUint32(b, uint32(r.Log.AppendedAt.Nanosecond()))
		b = le.AppendUint32(b, hasTime)
		b = le.AppendUint64(b, 0)
	}
	b = append(b, r.Log.Data...)
	b = append(b, r.Log.Extensions...)
	le.PutUint32(b[from:], crc32.Checksum(b[from+4:], castagnoli))
	for (len(b)-from)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// decodeRecord reads the record at offset at of a segment. Its data is a part of b. ok is false when there is none.
func decodeRecord(b []byte, at int64, salt uint64) (r record, start int64, ok bool) {
	if at < headerSize || at%8 != 0 || int64(len(b)) < at+recordSize {
		return r, 0, false
	}
	le := binary.LittleEndian
	h := b[at : at+recordSize]
	length, data := int64(le.Uint32(h[4:])), int64(le.Uint32(h[28:]))
	start = int64(le.Uint32(h[20:]))
	if le.Uint64(h[8:]) != salt || int64(le.Uint32(h[16:])) != at || start > at || start < headerSize ||
		data > length || at+recordSize+length > int64(len(b)) {
		return r, 0, false
	}
	all := b[at : at+recordSize+length]
	if le.Uint32(h) != crc32.Checksum(all[4:], castagnoli) {
		return r, 0, false
	}
	r.Kind = h[24]
	r.Log = raft.Log{Type: raft.LogType(h[25]), Index: le.Uint64(h[32:]), Term: le.Uint64(h[40:])}
	if le.Uint32(h[60:])&hasTime != 0 {
		r.Log.AppendedAt = time.Unix(int64(le.Uint64(h[48:])), int64(le.Uint32(h[56:])))
	}
	if data > 0 {
		r.Log.Data = all[recordSize : recordSize+data : recordSize+data]
	}
	if length > data {
		r.Log.Extensions = all[recordSize+data:]
	}
	return r, start, r.Kind >= kindEntry && r.Kind <= kindHead && r.Log.Index > 0
}

// saltOf is what the bytes at an offset have for a salt, for a segment whose header is lost.
func saltOf(b []byte, at int64) uint64 {
	if int64(len(b)) < at+recordSize {
		return 0
	}
	return binary.LittleEndian.Uint64(b[at+8:])
}
