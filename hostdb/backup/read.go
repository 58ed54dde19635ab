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
	"io"

	"github.com/klauspost/compress/zstd"

	"hostmesh/hostdb"
)

// Reader reads a backup once, from its beginning to its end.
type Reader struct {
	r      *bufio.Reader
	sum    hash.Hash
	at     int64 // bytes read
	blocks uint64
	header Header
}

// NewReader reads the header. Errors wrap ErrNotBackup, ErrNewer or ErrDamaged where one of them is the reason.
func NewReader(r io.Reader) (*Reader, error) {
	in := &Reader{r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(in.r, start); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	if string(start) != magic {
		return nil, fmt.Errorf("read backup: %w: it does not begin as one; backups are made by hostmesh db backup", ErrNotBackup)
	}
	in.sum.Write(start)
	in.at = int64(len(magic))
	kind, content, err := in.record(nil)
	if err == nil && kind != kindHeader {
		err = in.damaged("there is no header")
	}
	if err == nil {
		if jerr := json.Unmarshal(content, &in.header); jerr != nil {
			err = in.damaged("the header is not what it should be: %v", jerr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	if in.header.Format > Format {
		return nil, fmt.Errorf("read backup: %w: it has form %d, this build knows up to %d: use the hostmesh that wrote it, %s, or a newer one",
			ErrNewer, in.header.Format, Format, in.header.Build)
	}
	return in, nil
}

// Header is what the backup is of.
func (in *Reader) Header() Header { return in.header }

// Rows calls fn for each row, in order, and returns the trailer once all of the file has been found to be whole. Until then rows
// may be those of a damaged file: whoever stores them throws them away after an error. Errors of fn come back as they are.
func (in *Reader) Rows(ctx context.Context, fn func(key, value []byte) error) (Trailer, error) {
	t, err := in.rows(ctx, fn)
	if err != nil {
		return Trailer{}, fmt.Errorf("read backup: %w", err)
	}
	return t, nil
}

func (in *Reader) rows(ctx context.Context, fn func(key, value []byte) error) (Trailer, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*maxContent))
	if err != nil {
		return Trailer{}, err
	}
	defer dec.Close()
	var seen Trailer
	var content, block []byte
	for {
		if err := ctx.Err(); err != nil {
			return Trailer{}, err
		}
		before := hex.EncodeToString(in.sum.Sum(nil))
		var kind byte
		if kind, content, err = in.record(content); err != nil {
			return Trailer{}, err
		}
		switch kind {
		case kindBlock:
			in.blocks++
			if block, err = dec.DecodeAll(content, block[:0]); err != nil {
				return Trailer{}, in.damaged("block %d cannot be unpacked: %v", in.blocks, err)
			}
			if err := in.unpack(block, &seen, fn); err != nil {
				return Trailer{}, err
			}
		case kindTrailer:
			var t Trailer
			if err := json.Unmarshal(content, &t); err != nil {
				return Trailer{}, in.damaged("the trailer is not what it should be: %v", err)
			}
			seen.Blocks, seen.SHA256 = in.blocks, before
			if t != seen {
				return Trailer{}, in.damaged("the trailer says %d rows in %d blocks, SHA-256 %s; there are %d in %d, %s",
					t.Rows, t.Blocks, t.SHA256, seen.Rows, seen.Blocks, seen.SHA256)
			}
			if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
				return Trailer{}, in.damaged("something follows the trailer")
			}
			return t, nil
		default:
			return Trailer{}, in.damaged("a record of kind %q", kind)
		}
	}
}

func (in *Reader) unpack(block []byte, seen *Trailer, fn func(key, value []byte) error) error {
	for len(block) > 0 {
		k, n := binary.Uvarint(block)
		if n <= 0 || k > uint64(len(block)) {
			return in.damaged("block %d has a row without a length", in.blocks)
		}
		block = block[n:]
		v, n := binary.Uvarint(block)
		if n <= 0 || v > uint64(len(block)) || k+v > uint64(len(block)-n) {
			return in.damaged("block %d ends in the middle of a row", in.blocks)
		}
		block = block[n:]
		key, value := block[:k:k], block[k:k+v:k+v]
		block = block[k+v:]
		seen.Rows++
		seen.Bytes += k + v
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// record reads the next record; its content is in buf if it fits.
func (in *Reader) record(buf []byte) (kind byte, content []byte, err error) {
	var head [recordHead]byte
	if err := in.full(head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxContent {
		return 0, nil, in.damaged("a record claims %d bytes", n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if err := in.full(buf); err != nil {
		return 0, nil, err
	}
	if binary.BigEndian.Uint32(head[5:]) != checksum(head[:5], buf) {
		return 0, nil, in.damaged("a record's checksum is not that of its content")
	}
	return head[0], buf, nil
}

func (in *Reader) full(b []byte) error {
	n, err := io.ReadFull(in.r, b)
	in.at += int64(n)
	in.sum.Write(b[:n])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return in.damaged("it is cut off")
	}
	return err
}

// damaged names the place: before which byte, behind which block.
func (in *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w before byte %d, behind block %d: %s; use another backup", ErrDamaged, in.at, in.blocks, fmt.Sprintf(format, args...))
}

// Restore puts the rows into a storage that holds none, in batches that it takes. After an error the storage holds a part, and is
// to be thrown away. progress, which may be nil, is called for each batch with the rows so far.
func (in *Reader) Restore(ctx context.Context, st hostdb.Storage, progress func(rows uint64)) (Trailer, error) {
	maxBytes, maxPuts := st.MaxBatch()
	var batch []hostdb.Put
	size, rows := 0, uint64(0)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := st.Commit(batch); err != nil {
			return err
		}
		batch, size = batch[:0], 0
		if progress != nil {
			progress(rows)
		}
		return nil
	}
	t, err := in.Rows(ctx, func(key, value []byte) error {
		if n := len(key) + len(value) + 32; size+n > maxBytes || len(batch) == maxPuts {
			if err := flush(); err != nil {
				return err
			}
			size = n
		} else {
			size += n
		}
		rows++
		both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
		batch = append(batch, hostdb.Put{Key: both[:len(key):len(key)], Value: both[len(key):]})
		return nil
	})
	if err != nil {
		return Trailer{}, err
	}
	return t, flush()
}
