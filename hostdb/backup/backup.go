// Package backup writes all rows of a replica into one file, and reads them back.
//
// It owns the form of the file: what is in its header, how rows are packed, and how damage is found and named. What rows mean is
// package hostdb's: a backup holds them as they are, those of newer versions, too. Where the file lies, who may make one and what
// a restored directory is for are the callers'.
//
// A file is the magic, then records: one header, blocks of rows, one trailer. A record is its kind (1 byte), the length of its
// content (4 bytes, big endian), a CRC-32C of both and the content (4 bytes), and the content. The header and the trailer are JSON.
// A block is rows in zstd: for each the lengths of key and value as varints, then key and value. The trailer has the number of rows
// and the SHA-256 of all before it, so a file without its end, or with the end of another, is not taken for a whole one.
package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"hostmesh/hostdb"
)

var (
	// ErrDamaged is returned when a file is not what was written: cut off, or changed.
	ErrDamaged = errors.New("backup is damaged")
	// ErrNotBackup is returned for a file that is no backup at all.
	ErrNotBackup = errors.New("not a backup of hostmesh")
	// ErrNewer is returned for a backup of a newer hostmesh.
	ErrNewer = errors.New("backup of a newer hostmesh")
)

// Format is the version of the file's form. A reader takes its own and older ones.
const Format = 1

const (
	magic = "hostmesh backup\n"

	kindHeader  = 'H'
	kindBlock   = 'B'
	kindTrailer = 'T'

	recordHead = 9        // bytes before a record's content
	blockSize  = 1 << 20  // rows are packed in blocks of about so much
	maxContent = 64 << 20 // of a record; a row has at most a few MiB
)

// Header says what a backup is of.
type Header struct {
	Format   int       `json:"format"`  // of the file
	Storage  int       `json:"storage"` // of the rows; 0 when nobody said
	MeshID   string    `json:"mesh_id"`
	MeshName string    `json:"mesh_name,omitempty"`
	NodeID   string    `json:"node_id"` // whose replica it is
	NodeName string    `json:"node_name,omitempty"`
	Build    string    `json:"build"` // of the hostmesh that wrote it
	Created  time.Time `json:"created"`
	// Version, Heads and Digests are of the state when the backup began. The rows may hold writes that came a moment later.
	Version string            `json:"version"`
	Heads   map[string]uint64 `json:"heads"` // newest operation of each origin, by its id in hexadecimal
	Digests map[string]string `json:"digests"`
}

// Describe puts what v is into the header.
func (h *Header) Describe(v hostdb.View) {
	e := v.Expectation()
	h.Version, h.Digests, h.Heads = v.Version().String(), e.Digests, make(map[string]uint64, len(e.Heads))
	for origin, seq := range e.Heads {
		h.Heads[fmt.Sprintf("%016x", origin)] = seq
	}
}

// Expectation is what the rows must hold.
func (h *Header) Expectation() (hostdb.Expectation, error) {
	e := hostdb.Expectation{Heads: make(map[uint64]uint64, len(h.Heads)), Digests: h.Digests}
	for text, seq := range h.Heads {
		origin, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			return e, fmt.Errorf("%w: its header names an origin %q", ErrDamaged, text)
		}
		e.Heads[origin] = seq
	}
	return e, nil
}

// Trailer says what is in a backup.
type Trailer struct {
	Rows   uint64 `json:"rows"`
	Bytes  uint64 `json:"bytes"` // of keys and values
	Blocks uint64 `json:"blocks"`
	SHA256 string `json:"sha256"` // of everything before the trailer
}

// Scan calls fn for each row, over one snapshot. Slices are valid during the call.
type Scan func(fn func(key, value []byte) error) error

// Write writes a backup. Memory does not depend on its size. progress, which may be nil, is called for each block with the rows
// so far.
func Write(ctx context.Context, w io.Writer, h Header, scan Scan, progress func(rows uint64)) (Trailer, error) {
	h.Format = Format
	out := &writer{w: bufio.NewWriterSize(w, 256<<10), sum: sha256.New()}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(blockSize))
	if err != nil {
		return Trailer{}, fmt.Errorf("write backup: %w", err)
	}
	defer enc.Close()
	var t Trailer
	err = func() error {
		if err := out.raw([]byte(magic)); err != nil {
			return err
		}
		text, err := json.Marshal(h)
		if err != nil {
			return err
		}
		if err := out.record(kindHeader, text); err != nil {
			return err
		}
		block, packed := make([]byte, 0, 2*blockSize), []byte(nil)
		flush := func() error {
			if err := ctx.Err(); err != nil || len(block) == 0 {
				return err
			}
			packed = enc.EncodeAll(block, packed[:0])
			t.Blocks++
			block = block[:0]
			if progress != nil {
				progress(t.Rows)
			}
			return out.record(kindBlock, packed)
		}
		err = scan(func(key, value []byte) error {
			block = binary.AppendUvarint(block, uint64(len(key)))
			block = append(binary.AppendUvarint(block, uint64(len(value))), key...)
			block = append(block, value...)
			t.Rows++
			t.Bytes += uint64(len(key) + len(value))
			if len(block) < blockSize {
				return nil
			}
			return flush()
		})
		if err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		t.SHA256 = hex.EncodeToString(out.sum.Sum(nil))
		if text, err = json.Marshal(t); err != nil {
			return err
		}
		if err := out.record(kindTrailer, text); err != nil {
			return err
		}
		return out.w.Flush()
	}()
	if err != nil {
		return Trailer{}, fmt.Errorf("write backup: %w", err)
	}
	return t, nil
}

type writer struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (o *writer) raw(b []byte) error {
	o.sum.Write(b)
	_, err := o.w.Write(b)
	return err
}

func (o *writer) record(kind byte, content []byte) error {
	if len(content) > maxContent {
		return fmt.Errorf("a record of %d bytes: at most %d are possible", len(content), maxContent)
	}
	var head [recordHead]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(content)))
	binary.BigEndian.PutUint32(head[5:], checksum(head[:5], content))
	if err := o.raw(head[:]); err != nil {
		return err
	}
	return o.raw(content)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(head, content []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, content)
}
