package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
)

// Config says how a store is opened.
type Config struct {
	// Dir is where the files are; it is made if it does not exist. Others may pass through it and read the files, because
	// emulators run as another user, but not list it.
	Dir    string
	Logger *slog.Logger // nil = slog.Default()
	Clock  hostdb.Clock // nil = the system's
	// Peers are the other nodes. nil = there are none.
	Peers Peers
	// HTTP fetches URLs. nil = a client that follows five redirects and keeps to what the environment says of proxies.
	HTTP *http.Client
	// AllowLocal lets URLs lead to this box itself and to addresses that mean another thing on each box: without it, who may
	// write an image could read what only the box may, such as the credentials that clouds serve at 169.254.169.254.
	AllowLocal bool
	// MinFree is how many bytes of the file system stay free for others. 0 = 256 MiB, or 2 % where that is more; negative =
	// none.
	MinFree int64
	// Stall is how long a source may send nothing before it is given up. 0 = a minute.
	Stall time.Duration
	// Retry is the wait before a source that broke off is asked again. 0 = a second.
	Retry time.Duration
}

// Peers are the other nodes, some of which have files.
type Peers interface {
	// Holders are ids of nodes that have the image with this ID, by their own account, the best first.
	Holders(ctx context.Context, img Image) []string
	// Call sends a request to the handler of a node and waits for the answer.
	Call(ctx context.Context, node, handler string, req []byte) ([]byte, error)
}

// Files are where the parts of an image are on this box. A part that the image has not is "".
type Files struct{ Disk, Kernel, Initrd string }

// Store keeps the files of images on this box, named by their SHA-256. Its methods are safe for concurrent use.
type Store struct {
	cfg   Config
	log   *slog.Logger
	dir   string
	ctx   context.Context // ends fetches
	stop  context.CancelFunc
	wg    sync.WaitGroup
	count counters

	mu      sync.Mutex // guards the fields below
	closed  bool
	notes   map[string]note // of complete files, by SHA-256
	flights map[string]*flight
	files   map[string]*fileLock
	failed  map[string]Progress // the last failure of an image, by ID, until it succeeds
	liars   map[string]time.Time
	checks  map[string]*check // that other nodes asked for
}

// counters are what the metrics tell.
type counters struct {
	peer, url, upload     atomic.Int64 // bytes
	served                atomic.Int64 // bytes
	fetched, failed, lies atomic.Int64
	good, damaged         atomic.Int64 // files read through
}

// note is what is kept beside each file: how it looked when it was verified, and the images it was of.
type note struct {
	Size  int64    `json:"size"`
	MTime int64    `json:"mtime_ns"`
	Inode uint64   `json:"inode"`
	Names []string `json:"names,omitempty"`
}

func (n note) looksLike(o note) bool {
	return n.Size == o.Size && n.MTime == o.MTime && n.Inode == o.Inode
}

// Suffixes of what lies beside the files.
const (
	noteSuffix = ".json"
	partSuffix = ".part" // a fetch that is under way, or broke off
	tempSuffix = ".tmp"
)

// Open opens a store, and removes what an earlier run left unfinished and nobody can use. The caller closes it.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = wallClock{}
	}
	if cfg.HTTP == nil {
		cfg.HTTP = newHTTPClient(cfg.AllowLocal)
	}
	if cfg.Stall == 0 {
		cfg.Stall = time.Minute
	}
	if cfg.Retry == 0 {
		cfg.Retry = time.Second
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("open image store: directory %q: want an absolute path", cfg.Dir)
	}
	_, missing := os.Stat(cfg.Dir)
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if errors.Is(missing, fs.ErrNotExist) {
		if err := os.Chmod(cfg.Dir, 0o711); err != nil { // whatever the umask is
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger, dir: cfg.Dir,
		notes: map[string]note{}, flights: map[string]*flight{}, files: map[string]*fileLock{},
		failed: map[string]Progress{}, liars: map[string]time.Time{}, checks: map[string]*check{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	list, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	for _, e := range list {
		name := e.Name()
		switch sha, isNote := strings.CutSuffix(name, noteSuffix); {
		case strings.HasSuffix(name, tempSuffix):
			_ = os.Remove(filepath.Join(cfg.Dir, name)) // if it stays, the next start tries again
		case isNote && shaForm.MatchString(sha):
			if n, err := readNote(filepath.Join(cfg.Dir, name)); err == nil { // else the file is verified again
				s.notes[sha] = n
			}
		}
	}
	return s, nil
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// Close ends all fetches, keeping what they have, and waits for them. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return nil
}

func (s *Store) path(sha string) string { return filepath.Join(s.dir, sha) }

func readNote(name string) (n note, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(text, &n)
}

// look is how a file looks now.
func look(name string) (note, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return note{}, err
	}
	if !fi.Mode().IsRegular() {
		return note{}, fmt.Errorf("%s is no regular file", name)
	}
	st, _ := fi.Sys().(*syscall.Stat_t)
	n := note{Size: fi.Size(), MTime: fi.ModTime().UnixNano()}
	if st != nil {
		n.Inode = st.Ino
	}
	return n, nil
}

// has reports whether a file is here and looks as when it was verified. It costs a stat.
func (s *Store) has(f File) bool {
	now, err := look(s.path(f.SHA256))
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.notes[f.SHA256]
	return known && n.looksLike(now) && (f.Size == 0 || f.Size == now.Size)
}

// Has reports whether all files of an image are here and look as when they were verified.
func (s *Store) Has(img Image) bool {
	for _, f := range img.Files() {
		if !s.has(f) {
			return false
		}
	}
	return true
}

// Here are the images of a catalogue that are here: ID by name, as a report has them.
func (s *Store) Here(catalogue map[string]Image) map[string]string {
	here := map[string]string{}
	for name, img := range catalogue {
		if s.Has(img) {
			here[name] = img.ID()
		}
	}
	return here
}

// keepNote keeps how a verified file looks, and that it was of an image of this name; "" = of none yet.
func (s *Store) keepNote(sha, name string, n note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.notes[sha]
	n.Names = slices.Clone(old.Names)
	if name != "" && !slices.Contains(n.Names, name) {
		n.Names = append(n.Names, name)
	}
	if old.looksLike(n) && len(old.Names) == len(n.Names) {
		return nil
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	s.notes[sha] = n
	// Without its note a file is verified again after the next start: that is no reason to refuse it, and no fsync is needed.
	temp := s.path(sha) + noteSuffix + tempSuffix
	if err = os.WriteFile(temp, text, 0o644); err == nil {
		err = os.Rename(temp, s.path(sha)+noteSuffix)
	}
	if err != nil {
		_ = os.Remove(temp) // it may not be there
		s.log.Warn("note on an image not kept; it will be verified again after the next start", "sha256", sha, "err", err)
	}
	return nil
}

// fileLock lets one goroutine at a time make or check one file.
type fileLock struct {
	slot  chan struct{}
	users int
}

// lockFile waits for the lock of a file, or the end of ctx.
func (s *Store) lockFile(ctx context.Context, sha string) (unlock func(), err error) {
	s.mu.Lock()
	l := s.files[sha]
	if l == nil {
		l = &fileLock{slot: make(chan struct{}, 1)}
		s.files[sha] = l
	}
	l.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.files, sha)
		}
	}
	select {
	case l.slot <- struct{}{}:
		return func() { <-l.slot; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// Stored are the complete files that are here, by name.
func (s *Store) Stored() ([]Stored, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []Stored
	for _, e := range list {
		if !shaForm.MatchString(e.Name()) {
			continue
		}
		if fi, err := e.Info(); err == nil { // else it was removed meanwhile
			out = append(out, Stored{Name: e.Name(), Path: s.path(e.Name()), Size: fi.Size(), Since: fi.ModTime()})
		}
	}
	return out, nil
}

// Prune removes the files to which nothing refers (see Removable), and what is left of fetches that nobody took up again.
// The store fills in Known and Fetching of use.
func (s *Store) Prune(use Use) ([]Stored, error) {
	stored, err := s.Stored()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	use.Known, use.Fetching = map[string][]string{}, nil
	for sha, n := range s.notes {
		for _, name := range n.Names {
			use.Known[name] = append(use.Known[name], sha)
		}
	}
	for sha := range s.files {
		use.Fetching = append(use.Fetching, sha)
	}
	for _, f := range s.flights {
		for _, x := range f.img.Files() {
			use.Fetching = append(use.Fetching, x.SHA256)
		}
	}
	s.mu.Unlock()
	now := s.cfg.Clock.Now()
	var errs []error
	var gone []Stored
	for _, f := range Removable(stored, use, now) {
		if err := s.remove(f.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		s.log.Info("base image removed: nothing refers to it", "sha256", f.Name, "bytes", f.Size)
		gone = append(gone, f)
	}
	return gone, errors.Join(append(errs, s.pruneParts(use, now))...)
}

// remove deletes a file that nobody makes or checks at present.
func (s *Store) remove(sha string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[sha] != nil {
		return nil // somebody wants it after all
	}
	if err := os.Remove(s.path(sha)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an image: %w", err)
	}
	delete(s.notes, sha)
	if err := os.Remove(s.path(sha) + noteSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an image: %w", err)
	}
	return nil
}

// partKeep is how long the rest of a fetch that broke off is kept to be resumed.
const partKeep = 24 * time.Hour

func (s *Store) pruneParts(use Use, now time.Time) error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	wanted := map[string]bool{}
	for _, i := range use.Catalogue {
		for _, f := range i.Files() {
			wanted[f.SHA256] = true
		}
	}
	var errs []error
	for _, e := range list {
		sha, is := strings.CutSuffix(e.Name(), partSuffix)
		if !is || slices.Contains(use.Fetching, sha) {
			continue
		}
		keep := Grace
		if wanted[sha] {
			keep = partKeep
		}
		if fi, err := e.Info(); err == nil && now.Sub(fi.ModTime()) >= keep {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove the rest of a fetch: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// room is how much may be written before others lack space, and how much is kept for them.
func (s *Store) room() (room, reserve int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, 0, fmt.Errorf("look at the file system of %s: %w", s.dir, err)
	}
	switch reserve = s.cfg.MinFree; {
	case reserve == 0:
		reserve = max(256<<20, int64(st.Blocks)*int64(st.Bsize)/50)
	case reserve < 0:
		reserve = 0
	}
	return int64(st.Bavail)*int64(st.Bsize) - reserve, reserve, nil
}

// noSpace says how much is missing.
func (s *Store) noSpace(need int64) error {
	room, reserve, err := s.room()
	if err != nil {
		return errors.Join(ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %s has room for %d bytes beside the %d that stay free for others, and %d more are needed: free some, or move vm.dir",
		ErrNoSpace, s.dir, max(room, 0), reserve, need)
}

// isFull reports whether an error is that of a full file system.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, ErrNoSpace)
}
