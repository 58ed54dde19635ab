package raftdisk

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrLocked is returned by Open when another process has the directory open.
	ErrLocked = errors.New("raft directory is in use")
	// ErrFormat is returned by Open for files of a newer version. Nothing is changed then.
	ErrFormat = errors.New("written by a newer hostmesh; upgrade this one")
	// ErrDamaged is returned by Open for state that lost something it once had acknowledged. A voter must not go on with it: it might
	// vote against what it promised. Open with Config.Discard, or Reset, begins anew under another raft id.
	ErrDamaged = errors.New("raft state is damaged")
	// ErrClosed is returned by what is used after Close or Reset.
	ErrClosed = errors.New("raft directory is closed")
	// ErrFounded is returned by Found in a directory that belongs to a group, or has raft state, already.
	ErrFounded = errors.New("directory belongs to a group already")
	// ErrOrder is returned for entries that do not follow what is in the log, and for ranges in its middle. raft asks for neither.
	ErrOrder = errors.New("log has no such order")
	// ErrTooLarge is returned for what no file here has room for.
	ErrTooLarge = errors.New("too large")
)

// damaged names the place and the remedy.
func damaged(file string, offset int64, format string, args ...any) error {
	return fmt.Errorf("%w: %s at byte %d: %s; this node must not vote with it: discard it, and it rejoins its group with a new raft id",
		ErrDamaged, file, offset, fmt.Sprintf(format, args...))
}

// remedy says what to do about an error of the disk.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some space on its file system"
	case errors.Is(err, unix.EROFS):
		return "the file system is read-only: look into the kernel's log, repair it and mount it writable"
	case errors.Is(err, unix.EIO):
		return "look into the kernel's log and replace the disk"
	}
	return "it is tried again until it works"
}

// What may be wrong with a disk, one at a time each.
const (
	sickVote  = "vote"
	sickLog   = "log"
	sickSpare = "spare segment"
	sickReset = "reset"
)

// health is what cannot be written now.
type health struct {
	path string
	log  *slog.Logger

	epoch time.Time    // of began
	began atomic.Int64 // when the write under way began; 0 = none is

	mu  sync.Mutex // guards the field below
	why map[string]error
}

// hangsAfter is how long a write may take before the disk counts as one that does not write: longer than a busy disk needs, and
// shorter than anybody would wait for a leader.
const hangsAfter = 2 * time.Second

// writing notes that a write begins, and over that it has come back.
func (h *health) writing() (over func()) {
	h.began.Store(int64(time.Since(h.epoch)) + 1)
	return func() { h.began.Store(0) }
}

func newHealth(path string, log *slog.Logger) *health {
	return &health{path: path, log: log, epoch: time.Now(), why: map[string]error{}}
}

// set notes that something failed. Only the first time is logged.
func (h *health) set(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why[what] == nil {
		h.log.Error("raft directory cannot be written; this node takes no duties until it can", "dir", h.path, "what", what, "err", err, "remedy", remedy(err))
	}
	h.why[what] = err
}

// clear notes that it works again.
func (h *health) clear(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why[what] != nil {
		h.log.Info("raft directory can be written again", "dir", h.path, "what", what)
		delete(h.why, what)
	}
}

func (h *health) is(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why[what] != nil
}

// err is nil, or why the disk cannot be written.
func (h *health) err() error {
	if began := h.began.Load(); began != 0 {
		if since := time.Since(h.epoch) - time.Duration(began); since > hangsAfter {
			return fmt.Errorf("raft directory %s cannot be written: a write does not come back since %s; look into the kernel's log and at what else uses the disk",
				h.path, since.Truncate(100*time.Millisecond))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(h.why)) {
		err := h.why[what]
		return fmt.Errorf("raft directory %s cannot be written: %s: %w; %s", h.path, what, err, remedy(err))
	}
	return nil
}
