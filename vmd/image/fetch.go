package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Progress is how far a fetch is, or that the last one failed.
type Progress struct {
	Image string
	ID    string
	// Done and Total are bytes of all files of the image.
	Done, Total int64
	From        string // who sends; "" = it has not begun
	Since       time.Time
	Err         error // of the last attempt; nil while it is under way
}

// flight is the one fetch of an image that is under way.
type flight struct {
	img     Image
	done    chan struct{} // closed at the end; files and err are set then
	files   Files
	err     error
	cancel  context.CancelCauseFunc
	waiters int // guarded by the store's mu

	progress Progress // guarded by the store's mu
}

// errNobodyWaits ends a fetch that nobody wants any more.
var errNobodyWaits = errors.New("nobody waits for it any more")

// Ensure makes all files of an image be here, verified, and says where. It takes them from here, else from peers, else from
// their URLs. One image is fetched once at a time: others wait for the same fetch. It ends when nobody waits any more, and
// the next one goes on where it stopped.
//
// Errors wrap ErrNoSource, ErrChecksum, ErrNoSpace or ErrBadImage where they are that, and name each source that was tried.
func (s *Store) Ensure(ctx context.Context, img Image) (Files, error) {
	if s.Has(img) {
		files, err := s.ready(img)
		if err != nil {
			return Files{}, fmt.Errorf("image %s: %w", img.Name, err)
		}
		return files, nil
	}
	f, err := s.join(img)
	if err != nil {
		return Files{}, fmt.Errorf("image %s: %w", img.Name, err)
	}
	defer s.leave(f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return Files{}, fmt.Errorf("image %s: %w", img.Name, context.Cause(ctx))
	}
	if f.err != nil {
		return Files{}, fmt.Errorf("image %s: %w", img.Name, f.err)
	}
	return f.files, nil
}

// join takes part in the fetch of an image, and begins it if there is none.
func (s *Store) join(img Image) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	// The format and the URLs count, too: entries of other names with the same bytes may differ in them.
	key := flightKey(img)
	f := s.flights[key]
	if f != nil {
		f.waiters++
		return f, nil
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	f = &flight{img: img, done: make(chan struct{}), cancel: cancel, waiters: 1}
	f.progress = Progress{Image: img.Name, ID: img.ID(), Total: img.Size(), Since: s.cfg.Clock.Now()}
	s.flights[key] = f
	s.wg.Go(func() {
		defer cancel(nil)
		f.files, f.err = s.fetch(ctx, f)
		s.mu.Lock()
		s.land(f)
		if f.err == nil {
			delete(s.failed, key)
		} else if !errors.Is(f.err, errNobodyWaits) && !errors.Is(f.err, context.Canceled) {
			p := f.progress
			p.Err = f.err
			s.failed[key] = p
		}
		s.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

func flightKey(img Image) string { return img.ID() + " " + img.Name }

// land takes a fetch off the list. The caller holds mu.
func (s *Store) land(f *flight) {
	if key := flightKey(f.img); s.flights[key] == f {
		delete(s.flights, key)
	}
}

// leave leaves a fetch; the last one ends it.
func (s *Store) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel(errNobodyWaits)
		s.land(f) // whoever comes now begins anew
	}
}

// Progress are the fetches that are under way, and the images whose last fetch failed, by name.
func (s *Store) Progress() []Progress {
	s.mu.Lock()
	var list []Progress
	for _, f := range s.flights {
		list = append(list, f.progress)
	}
	for key, p := range s.failed {
		if s.flights[key] == nil {
			list = append(list, p)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b Progress) int { return strings.Compare(a.Image+"\x00"+a.ID, b.Image+"\x00"+b.ID) })
	return list
}

// Forget drops the failures of images that keep does not want to hear of any more.
func (s *Store) Forget(keep func(Progress) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range s.failed {
		if !keep(p) {
			delete(s.failed, key)
		}
	}
}

// fetch makes the files of an image be here, one after the other.
func (s *Store) fetch(ctx context.Context, f *flight) (Files, error) {
	var done int64
	for _, file := range f.img.Files() {
		if err := s.fetchFile(ctx, f, file, done); err != nil {
			if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
				if errors.Is(cause, context.Canceled) {
					cause = ErrClosed
				}
				return Files{}, cause
			}
			s.count.failed.Add(1)
			s.log.Warn("image not fetched", "image", f.img.Name, "sha256", file.SHA256, "err", err)
			return Files{}, err
		}
		done += file.Size
	}
	return s.ready(f.img)
}

// fetchFile makes one file be here.
func (s *Store) fetchFile(ctx context.Context, f *flight, file File, before int64) error {
	unlock, err := s.lockFile(ctx, file.SHA256)
	if err != nil {
		return err
	}
	defer unlock()
	told := func(done int64, from string) {
		s.mu.Lock()
		f.progress.Done, f.progress.From = before+done, from
		s.mu.Unlock()
	}
	if s.has(file) {
		told(file.Size, "here")
		return s.named(file, f.img.Name)
	}
	if _, err := os.Stat(s.path(file.SHA256)); err == nil { // it may only look different
		told(0, "here")
		err := s.verify(ctx, file, f.img.Name, func(done int64) { told(done, "here") })
		if err == nil {
			told(file.Size, "here")
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		s.log.Warn("image on this box is not what it was", "image", f.img.Name, "err", err)
	}
	start := s.cfg.Clock.Now()
	from, err := s.download(ctx, f.img, file, told)
	if err != nil {
		return err
	}
	s.count.fetched.Add(1)
	s.log.Info("image fetched", "image", f.img.Name, "sha256", file.SHA256, "bytes", file.Size, "from", from, "duration", s.cfg.Clock.Now().Sub(start))
	return nil
}

// named keeps that a file is of an image of this name.
func (s *Store) named(file File, name string) error {
	now, err := look(s.path(file.SHA256))
	if err != nil {
		return err
	}
	return s.keepNote(file.SHA256, name, now)
}

// ready is where the files of an image are, which are here: what they claim to be is looked at once more, because one entry
// of the catalogue may say raw and another qcow2 of the same bytes.
func (s *Store) ready(img Image) (Files, error) {
	if img.Format == QCOW2 {
		if err := checkDisk(s.path(img.Disk.SHA256), img); err != nil {
			return Files{}, err
		}
	}
	at := func(f File) string {
		if f.IsZero() {
			return ""
		}
		return s.path(f.SHA256)
	}
	for _, f := range img.Files() {
		if err := s.named(f, img.Name); err != nil {
			return Files{}, err
		}
	}
	return Files{Disk: at(img.Disk), Kernel: at(img.Kernel), Initrd: at(img.Initrd)}, nil
}

// checkDisk checks the header of a qcow2 file. A virtual size that was guessed from the file's is not held against it.
func checkDisk(path string, img Image) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := ReadQCOW2(f, fi.Size())
	if err != nil {
		return err
	}
	if img.VirtualSize != h.VirtualSize && img.VirtualSize != img.Disk.Size {
		return fmt.Errorf("%w: %s/%s/VirtualSize: %d, but the file's header says %d", ErrBadImage, Namespace, img.Name, img.VirtualSize, h.VirtualSize)
	}
	return nil
}

// source is somebody who may have a file.
type source interface {
	name() string
	// copy appends the rest of the file to p. When the source cannot begin in the middle, it resets p first; whole forbids
	// to keep what others sent. An error leaves in p what came before it.
	copy(ctx context.Context, p *part) error
}

// liarFor is how long a peer that sent wrong bytes is not asked again.
const liarFor = time.Hour

// download gets a file from the first source that has it whole and right. Sources continue what others began. If the result is
// wrong then, nobody can tell who sent the wrong bytes: so each is then asked for all of it, and the one that lies is known.
func (s *Store) download(ctx context.Context, img Image, file File, told func(int64, string)) (from string, err error) {
	sources := s.sources(ctx, img, file)
	if len(sources) == 0 {
		return "", fmt.Errorf("%w: no member that is reached has it, and it has no URL: add it again from a file with: hostmesh image add %s FILE --replace", ErrNoSource, img.Name)
	}
	p, err := s.openPart(ctx, file.SHA256, file.Size)
	if err != nil {
		return "", err
	}
	done := false
	defer func() {
		if !done {
			p.leave()
		}
	}()
	if err := p.reserve(); err != nil {
		return "", err
	}
	var givers []string // of what is in p
	if p.size > 0 {
		givers = []string{"an earlier fetch"}
	}
	var errs []error
	mixed := false // whether wrong bytes came from several
	for whole := false; ; whole = true {
		for _, src := range sources {
			if whole {
				if err := p.reset(); err != nil {
					return "", err
				}
			}
			if p.size < file.Size {
				told(p.size, src.name())
				p.wrote = func(int) { told(p.size, src.name()) }
				had, resets := p.size, p.resets
				err := src.copy(ctx, p)
				if ctx.Err() != nil {
					return "", context.Cause(ctx)
				}
				if isFull(err) {
					return "", err
				}
				if p.resets != resets || had == 0 {
					givers = nil // nothing of what others sent is left
				}
				if (len(givers) == 0 || p.size > had) && p.size > 0 {
					givers = append(givers, src.name())
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", src.name(), err))
					if errors.Is(err, ErrChecksum) {
						s.distrust(src, err)
					}
				}
				if p.size < file.Size {
					continue
				}
			}
			got := p.checksum()
			if got == file.SHA256 {
				if img.Format == QCOW2 && file == img.Disk {
					if _, err := ReadQCOW2(p.f, p.size); err != nil {
						done = true
						p.drop()
						return "", err
					}
				}
				done = true
				if err := p.finish(img.Name); err != nil {
					p.drop()
					return "", fmt.Errorf("keep the image: %w", err)
				}
				return strings.Join(givers, ", "), nil
			}
			wrong := fmt.Errorf("%w: expected %s, got %s", ErrChecksum, file.SHA256, got)
			errs = append(errs, fmt.Errorf("%s: %w", strings.Join(givers, ", "), wrong))
			if err := p.reset(); err != nil {
				return "", err
			}
			if len(givers) != 1 || givers[0] != src.name() {
				mixed = true
				break
			}
			s.distrust(src, wrong)
		}
		sources = s.trusted(sources)
		if whole || !mixed || len(sources) == 0 {
			return "", fmt.Errorf("%w: %w", ErrNoSource, errors.Join(errs...))
		}
	}
}

// sources are who may have a file, in the order to ask them.
func (s *Store) sources(ctx context.Context, img Image, file File) []source {
	var list []source
	if s.cfg.Peers != nil {
		for _, node := range s.cfg.Peers.Holders(ctx, img) {
			list = append(list, &peerSource{s: s, node: node, file: file})
		}
	}
	list = s.trusted(list)
	if file.URL != "" {
		list = append(list, &urlSource{s: s, url: file.URL, size: file.Size})
	}
	return list
}

// trusted are the sources that did not send wrong bytes of late. A URL is always asked again: its owner may have mended it.
func (s *Store) trusted(list []source) []source {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(list), func(src source) bool {
		p, is := src.(*peerSource)
		if !is {
			return false
		}
		until, lied := s.liars[p.node]
		return lied && now.Before(until)
	})
}

// distrust leaves a peer out for a while.
func (s *Store) distrust(src source, err error) {
	s.count.lies.Add(1)
	s.log.Error("source sends wrong bytes of an image", "from", src.name(), "err", err)
	if p, is := src.(*peerSource); is {
		s.mu.Lock()
		s.liars[p.node] = s.cfg.Clock.Now().Add(liarFor)
		s.mu.Unlock()
	}
}
