package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// Verify reads every byte of an image's files here. It returns ErrNotHere or ErrChecksum, and no longer trusts a file that
// is not what it should be: the next Ensure fetches it again. progress is called by one goroutine at a time with the bytes
// that were read, of img.Size(); nil = nobody wants to know.
func (s *Store) Verify(ctx context.Context, img Image, progress func(done int64)) error {
	var done int64
	for _, f := range img.Files() {
		unlock, err := s.lockFile(ctx, f.SHA256)
		if err != nil {
			return err
		}
		err = s.verify(ctx, f, img.Name, func(n int64) {
			if progress != nil {
				progress(done + n)
			}
		})
		unlock()
		if err != nil {
			return fmt.Errorf("verify image %s: %w", img.Name, err)
		}
		done += f.Size
	}
	return nil
}

// verify reads a file through. The caller holds its lock.
func (s *Store) verify(ctx context.Context, f File, name string, progress func(done int64)) error {
	file, err := os.Open(s.path(f.SHA256))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotHere, s.path(f.SHA256))
	}
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := look(file.Name())
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, &readerThrough{ctx: ctx, r: file, progress: progress})
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	got := hex.EncodeToString(h.Sum(nil))
	if got != f.SHA256 || f.Size != 0 && n != f.Size {
		s.count.damaged.Add(1)
		s.mu.Lock()
		delete(s.notes, f.SHA256)
		s.mu.Unlock()
		_ = os.Remove(s.path(f.SHA256) + noteSuffix)
		return fmt.Errorf("%w: %s has %s, %d bytes; it was changed or is damaged, and is fetched again when it is needed", ErrChecksum, file.Name(), got, n)
	}
	s.count.good.Add(1)
	return s.keepNote(f.SHA256, name, before)
}

// readerThrough ends a long read with its context, and tells how far it is.
type readerThrough struct {
	ctx      context.Context
	r        io.Reader
	done     int64
	progress func(done int64)
}

func (c *readerThrough) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.progress != nil {
		c.progress(c.done)
	}
	return n, err
}

// HandlerVerify is the name of the handler by which a node is told to read an image through.
const HandlerVerify = "image.verify"

// VerifyRequest tells a node to read an image of the catalogue through. It is sent again and again, until the answer says how that
// ended: a node reads as long as somebody asks.
type VerifyRequest struct {
	Name string `cbor:"1,keyasint"`
	ID   string `cbor:"2,keyasint"` // what the asking node means by the name
	// Run is one reading: another Run has all read once more.
	Run string `cbor:"3,keyasint"`
}

// VerifyAnswer says how far it is, or how it ended: one of Good, Missing and Failed.
type VerifyAnswer struct {
	Good    bool   `cbor:"1,keyasint,omitempty"`
	Missing bool   `cbor:"2,keyasint,omitempty"` // it is not there
	Failed  string `cbor:"3,keyasint,omitempty"` // what is wrong with it, or why it cannot be read
	Done    int64  `cbor:"4,keyasint,omitempty"` // bytes
	Total   int64  `cbor:"5,keyasint,omitempty"`
}

// maxChecks bounds the readings that others have begun here: each goes through gigabytes.
const maxChecks = 16

// check is one reading that another node asked for. It ends when nobody has asked for fetchLinger, and is forgotten then.
type check struct {
	done   chan struct{} // closed at the end; err is set then
	err    error
	read   atomic.Int64
	linger *time.Timer
}

// ServeVerify answers a VerifyRequest. view is the present HostDB.
func (s *Store) ServeVerify(ctx context.Context, req []byte, view hostdb.View) ([]byte, error) {
	var q VerifyRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", HandlerVerify, err)
	}
	if q.Run == "" || len(q.Run) > 64 {
		return nil, fmt.Errorf("%s: run of %d bytes: want 1 to 64", HandlerVerify, len(q.Run))
	}
	img, err := Get(view, q.Name)
	switch {
	case errors.Is(err, hostdb.ErrNotFound) || err == nil && img.ID() != q.ID:
		return cbor.Marshal(VerifyAnswer{Failed: "its catalogue has another image of that name, or none: try it again in a moment"})
	case err != nil:
		return cbor.Marshal(VerifyAnswer{Failed: err.Error()})
	}
	return cbor.Marshal(s.checkFor(ctx, q.Run, img, fetchAnswer))
}

// checkFor reads for a while and tells how far it is. It goes on in the background, until nobody has asked for fetchLinger.
func (s *Store) checkFor(ctx context.Context, run string, img Image, d time.Duration) VerifyAnswer {
	c, err := s.check(run+" "+flightKey(img), img)
	if err != nil {
		return VerifyAnswer{Failed: err.Error()}
	}
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	a := VerifyAnswer{Total: img.Size()}
	select {
	case <-c.done:
		switch {
		case c.err == nil:
			a.Good = true
		case errors.Is(c.err, ErrNotHere):
			a.Missing = true
		default:
			a.Failed = c.err.Error()
		}
	case <-short.Done():
	}
	a.Done = c.read.Load()
	return a
}

// check takes part in a reading, and begins it if there is none.
func (s *Store) check(key string, img Image) (*check, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if c := s.checks[key]; c != nil {
		c.linger.Reset(fetchLinger)
		return c, nil
	}
	if len(s.checks) >= maxChecks {
		return nil, fmt.Errorf("%d images are read through for others already: try it again when they are done", len(s.checks))
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	c := &check{done: make(chan struct{})}
	c.linger = time.AfterFunc(fetchLinger, func() {
		cancel(errNobodyWaits)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.checks[key] == c {
			delete(s.checks, key)
		}
	})
	s.checks[key] = c
	s.wg.Go(func() {
		defer close(c.done)
		defer cancel(nil)
		begun := s.cfg.Clock.Now()
		c.err = s.Verify(ctx, img, func(done int64) { c.read.Store(done) })
		switch took := s.cfg.Clock.Now().Sub(begun); {
		case c.err == nil:
			s.log.Info("image read through: it is what it should be", "image", img.Name, "bytes", img.Size(), "duration", took)
		case errors.Is(c.err, ErrChecksum):
			s.log.Error("image on this box is not what it was", "image", img.Name, "err", c.err, "remedy", "hostmesh image push "+img.Name+" fetches it again")
		}
	})
	return c, nil
}

// AskVerify has a node read an image through, and tells how far that is. Ask again, with the same run, until the answer says how it ended.
func AskVerify(ctx context.Context, p Peers, node, run string, img Image) (a VerifyAnswer, err error) {
	req, err := cbor.Marshal(VerifyRequest{Name: img.Name, ID: img.ID(), Run: run})
	if err != nil {
		return a, err
	}
	answer, err := p.Call(ctx, node, HandlerVerify, req)
	if err != nil {
		return a, err
	}
	if err := cbor.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("answer to %s: %w", HandlerVerify, err)
	}
	return a, nil
}
