package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Incoming is what is known of a file before it is here.
type Incoming struct {
	// Format is checked where the file can show it; Kernel stands for kernels and initrds, which are taken as they are; "" is
	// whatever of qcow2 and raw it looks like.
	Format Format
	// SHA256 is what it must have; "" = whatever it has.
	SHA256 string
	// Size is its bytes; 0 or less = not known.
	Size int64
	// Progress is called by one goroutine at a time with the bytes so far, and how many it will be, -1 = not known. nil = nobody
	// wants to know.
	Progress func(done, total int64)
}

// Taken is a file that came here.
type Taken struct {
	File
	Format      Format
	VirtualSize int64 // of a disk: the bytes that a guest sees
}

// Put takes a file from r. It stays for an hour (Grace), and then goes if the catalogue does not have it.
func (s *Store) Put(ctx context.Context, r io.Reader, in Incoming) (Taken, error) {
	return s.take(ctx, in, "", func(ctx context.Context, p *part) error {
		buf := make([]byte, copySize)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				s.count.upload.Add(int64(n))
				if _, werr := p.Write(buf[:n]); werr != nil {
					return werr
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return fmt.Errorf("read the file: %w", err)
			case ctx.Err() != nil:
				return context.Cause(ctx)
			}
		}
	})
}

// Learn fetches a URL to find out its size and checksum. The file is here afterwards, as with Put.
func (s *Store) Learn(ctx context.Context, url string, in Incoming) (Taken, error) {
	if err := CheckURL(url); err != nil {
		return Taken{}, err
	}
	size := int64(-1)
	if in.Size > 0 {
		size = in.Size
	}
	src := &urlSource{s: s, url: url, size: size}
	t, err := s.take(ctx, in, url, func(ctx context.Context, p *part) error {
		if err := src.copy(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", src.name(), err)
		}
		return nil
	})
	return t, err
}

// take writes a file whose checksum is not known into the store.
func (s *Store) take(ctx context.Context, in Incoming, url string, fill func(context.Context, *part) error) (Taken, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return Taken{}, ErrClosed
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(ErrClosed) })()
	if in.SHA256 != "" {
		in.SHA256 = strings.ToLower(in.SHA256)
		if err := CheckSHA256(in.SHA256); err != nil {
			return Taken{}, err
		}
	}
	limit := int64(-1)
	if in.Size > 0 {
		limit = in.Size
	}
	p, err := s.tempPart(limit)
	if err != nil {
		return Taken{}, err
	}
	defer p.drop()
	if err := p.reserve(); err != nil {
		return Taken{}, err
	}
	if in.Progress != nil {
		p.wrote = func(int) { in.Progress(p.size, p.limit) }
	}
	if err := fill(ctx, p); err != nil {
		return Taken{}, err
	}
	t := Taken{File: File{SHA256: p.checksum(), Size: p.size, URL: url}}
	switch {
	case p.size == 0:
		return Taken{}, fmt.Errorf("%w: the file is empty", ErrBadImage)
	case in.Size > 0 && p.size != in.Size:
		return Taken{}, fmt.Errorf("%w: %d of %d bytes came", ErrChecksum, p.size, in.Size)
	case in.SHA256 != "" && in.SHA256 != t.SHA256:
		where := ""
		if url != "" {
			where = " from " + showURL(url)
		}
		return Taken{}, fmt.Errorf("%w: expected %s, got %s%s", ErrChecksum, in.SHA256, t.SHA256, where)
	}
	if t.Format, t.VirtualSize, err = checkFormat(p.f, p.size, in.Format); err != nil {
		return Taken{}, err
	}
	unlock, err := s.lockFile(ctx, t.SHA256)
	if err != nil {
		return Taken{}, err
	}
	defer unlock()
	if s.has(t.File) {
		return t, s.touch(t.SHA256)
	}
	if err := p.finish(""); err != nil {
		return Taken{}, fmt.Errorf("keep the image: %w", err)
	}
	return t, nil
}

// touch makes a file young, so that it does not go before the catalogue has it.
func (s *Store) touch(sha string) error {
	now := s.cfg.Clock.Now()
	if err := os.Chtimes(s.path(sha), now, now); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	n, err := look(s.path(sha))
	if err != nil {
		return err
	}
	return s.keepNote(sha, "", n)
}

// checkFormat checks that a file is of a format, as far as it can show it, and says how large the disk in it is. Without a
// format it is told by the first bytes: that serves whoever adds a file; what is kept in the catalogue is always said.
func checkFormat(r io.ReaderAt, size int64, f Format) (_ Format, virtual int64, err error) {
	head := make([]byte, min(size, 8))
	if _, err := r.ReadAt(head, 0); err != nil {
		return "", 0, err
	}
	const qcow = "QFI\xfb"
	if f == "" {
		if f = Raw; strings.HasPrefix(string(head), qcow) {
			f = QCOW2
		}
	}
	switch f {
	case QCOW2:
		h, err := ReadQCOW2(r, size)
		return f, h.VirtualSize, err
	case Raw:
		for _, known := range []struct{ magic, what string }{
			{qcow, "qcow2; say --format qcow2"},
			{"\x1f\x8b", "compressed with gzip; unpack it"},
			{"\xfd7zXZ\x00", "compressed with xz; unpack it"},
			{"(\xb5/\xfd", "compressed with zstd; unpack it"},
			{"BZh", "compressed with bzip2; unpack it"},
			{"PK\x03\x04", "a zip archive; unpack it"},
			{"KDMV", "a VMDK disk; convert it: qemu-img convert -O qcow2"},
			{"vhdxfile", "a VHDX disk; convert it: qemu-img convert -O qcow2"},
		} {
			if strings.HasPrefix(string(head), known.magic) {
				return f, 0, fmt.Errorf("%w: raw: the file is %s", ErrBadImage, known.what)
			}
		}
		return f, size, nil
	case Kernel:
		return f, 0, nil
	}
	return f, 0, fmt.Errorf("%w: format %q is none; want qcow2, raw or kernel", ErrBadImage, clip(string(f)))
}

// Look is what is here of a file that Put or Learn took: its size, and that of the disk in it. Format "" is told by the
// file. ErrNotHere when it is not.
func (s *Store) Look(sha string, f Format) (Taken, error) {
	if err := CheckSHA256(sha); err != nil {
		return Taken{}, err
	}
	if !s.has(File{SHA256: sha}) {
		return Taken{}, fmt.Errorf("%w: %s", ErrNotHere, sha)
	}
	file, err := os.Open(s.path(sha))
	if err != nil {
		return Taken{}, fmt.Errorf("look at an image: %w", err)
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return Taken{}, fmt.Errorf("look at an image: %w", err)
	}
	t := Taken{File: File{SHA256: sha, Size: fi.Size()}}
	t.Format, t.VirtualSize, err = checkFormat(file, fi.Size(), f)
	return t, err
}
