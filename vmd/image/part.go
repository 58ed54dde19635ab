package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// spaceEvery is how many bytes are written between two looks at the free space.
const spaceEvery = 16 << 20

// part is a file that is being written, and hashed on the way.
type part struct {
	s     *Store
	f     *os.File
	limit int64 // of the whole file; -1 = not known
	size  int64
	next  int64 // size at which to look at the space
	// reserved: the file system has promised the space of the whole.
	reserved bool
	resets   int
	sum      hash.Hash
	wrote    func(n int) // told of each write
}

// openPart opens the file of a fetch, at the end of what an earlier one has left. limit is the size of the whole.
func (s *Store) openPart(ctx context.Context, sha string, limit int64) (*part, error) {
	f, err := os.OpenFile(s.path(sha)+partSuffix, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("fetch an image: %w", err)
	}
	p := &part{s: s, f: f, limit: limit, sum: sha256.New(), wrote: func(int) {}}
	n, err := io.Copy(p.sum, &readerThrough{ctx: ctx, r: f}) // what is there counts only as far as it is hashed
	if err == nil && n > limit {
		err = p.reset()
		n = 0
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("fetch an image: %w", err)
	}
	p.size, p.next = n, n
	return p, nil
}

// tempPart opens a file for bytes whose checksum is not known yet. limit is their number, -1 when that is not known.
func (s *Store) tempPart(limit int64) (*part, error) {
	f, err := os.CreateTemp(s.dir, "new-*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("take an image: %w", err)
	}
	return &part{s: s, f: f, limit: limit, sum: sha256.New(), wrote: func(int) {}}, nil
}

// reserve asks the file system for the space of the whole, so that it cannot run out on the way where it can promise that.
func (p *part) reserve() error {
	need := p.limit - p.size
	if p.limit < 0 || need <= 0 {
		return nil
	}
	room, _, err := p.s.room()
	if err != nil {
		return err
	}
	if room < need {
		return p.s.noSpace(need)
	}
	err = unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, p.limit)
	if isFull(err) {
		return p.s.noSpace(need)
	}
	p.reserved = err == nil // what cannot promise is looked at on the way
	return nil
}

// Write appends. It refuses more than the whole has, and stops before others lack space.
func (p *part) Write(b []byte) (int, error) {
	if p.limit >= 0 && int64(len(b)) > p.limit-p.size {
		return 0, fmt.Errorf("%w: it sends more than the %d bytes that it should have", ErrChecksum, p.limit)
	}
	if !p.reserved && p.size >= p.next {
		p.next = p.size + spaceEvery
		if room, _, err := p.s.room(); err == nil && room < int64(len(b)) {
			return 0, p.s.noSpace(max(p.limit-p.size, int64(len(b))))
		}
	}
	n, err := p.f.WriteAt(b, p.size)
	p.sum.Write(b[:n]) // a hash never fails
	p.size += int64(n)
	p.wrote(n)
	if isFull(err) {
		err = p.s.noSpace(max(p.limit-p.size, int64(len(b)-n)))
	}
	return n, err
}

// reset forgets what was written.
func (p *part) reset() error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	p.size, p.next, p.reserved = 0, 0, false // cutting it off gave the space back
	p.resets++
	p.sum.Reset()
	return nil
}

// checksum is the SHA-256 of what was written so far, in hex.
func (p *part) checksum() string { return hex.EncodeToString(p.sum.Sum(nil)) }

// finish makes the part the file of its checksum, durably, after the format was checked.
func (p *part) finish(name string) error {
	sha := p.checksum()
	if err := p.f.Chmod(0o644); err != nil {
		return err
	}
	// What a longer, earlier fetch has left, and what was reserved beyond the end, goes.
	if err := p.f.Truncate(p.size); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", p.f.Name(), err)
	}
	n, err := look(p.f.Name())
	if err != nil {
		return err
	}
	if err := os.Rename(p.f.Name(), p.s.path(sha)); err != nil {
		return err
	}
	if err := syncDir(p.s.dir); err != nil {
		return err
	}
	return errors.Join(p.f.Close(), p.s.keepNote(sha, name, n))
}

// close closes the part and leaves it to be resumed.
func (p *part) close() { _ = p.f.Close() } // after finish it is closed; before, only a whole file counts

// drop removes the part.
func (p *part) drop() {
	_ = p.f.Close()
	_ = os.Remove(p.f.Name()) // what stays is found by the next start or Prune
}

// leave ends a fetch that failed: what there is stays to be resumed, unless others lack the space.
func (p *part) leave() {
	// What was reserved and not written is given back.
	if err := p.f.Truncate(p.size); err != nil {
		p.drop()
		return
	}
	if room, _, err := p.s.room(); err != nil || room <= 0 || p.size == 0 {
		p.drop()
		return
	}
	p.close()
}

func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
