// Package raftdisk keeps what hashicorp/raft must not forget in one directory: term and vote, the log, snapshots; with them the raft
// id that they belong to, the group, and whether this directory founds it.
//
// It owns the disk rule of elections. What raft was told is durable is never lost and never taken back. A disk that cannot be written
// ends no process: raft waits at its vote, and is told the errors of its log; Sick says what is wrong until it works again. State
// that is a copy, was restored, or lost something is not used: it is put aside, and the node gets a new raft id, so that no voter
// votes twice.
//
// It leaves to others: raft itself, who is in a group, when a node founds one, and what a sick disk means to elections.
//
// # What the fingerprint sees
//
// A directory knows its inode, its files' and the machine's id. So it is discarded after cp -a, a restore by tar or rsync, a move to
// another file system, on a clone with a machine-id of its own, and after a machine-id changed; a btrfs snapshot in the directory's
// place has a subvolume, and with it an identity, of its own. A rename within the file system is no copy and keeps it. Nothing can
// see that the blocks below were set back: an LVM or storage snapshot, a virtual machine reverted or cloned with its machine-id, nor
// a tool that writes old content into the same files (tar --overwrite, rsync --inplace). Backups must leave the directory out, and
// whoever sets blocks back has to discard it.
//
// # What bounds it
//
// All entries of the log are in memory as well. raft deletes old ones after each snapshot: at most SnapshotThreshold plus TrailingLogs,
// and those of one snapshot interval, are there, each with its data and some 150 bytes. On disk they take that and up to two
// segments more; there are two snapshots, and the state that was discarded last.
package raftdisk

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stateDir has what raft itself reads and writes.
const stateDir = "state"

// Config says where a Disk is and how it is used.
type Config struct {
	// Path is the directory. It is made if its parent is there.
	Path string
	// Node is this node's id. State of another node is discarded.
	Node string
	// Logger is told what an operator needs; nil = nobody.
	Logger *slog.Logger
	// SegmentSize is the size of the log's files in bytes; 0 = 1 MiB, at least 4096. A larger write gets a file of its own size.
	SegmentSize int64
	// Free is asked before room is taken for a new segment; its error makes the disk sick, and is asked for again until it is nil.
	// nil = the file system's own word.
	Free func() error
	// Discard, if not "", is why what is found must not be used: it is put aside, as after ErrDamaged.
	Discard string
	// FS is what is done to the file system; nil = the real one.
	FS FS
}

func (c *Config) defaults() error {
	if c.Path == "" || c.Node == "" {
		return errors.New("open raft directory: it needs a path and the node's id")
	}
	if strings.ContainsAny(c.Node, ". \n") {
		return fmt.Errorf("open raft directory: node id %q has a dot or a blank in it", c.Node)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SegmentSize == 0 {
		c.SegmentSize = 1 << 20 // a spare is written in some milliseconds, and holds thousands of entries
	}
	if c.SegmentSize < minSegment || c.SegmentSize > maxBatch {
		return fmt.Errorf("open raft directory: segments of %d bytes; they have %d to %d", c.SegmentSize, minSegment, maxBatch)
	}
	if c.FS == nil {
		c.FS = osFS{}
	}
	return nil
}

// Disk is an open directory. All methods may be called by any goroutine.
type Disk struct {
	cfg    Config
	health *health
	unlock func()
	poke   chan struct{} // one slot: something to keep
	stop   chan struct{}
	kept   sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	closed    bool
	raftID    string
	group     *groupRecord // nil = none
	discarded string
	votes     *stableStore
	log       *logStore
	snapshots *snapshotStore
}

// Open opens a directory, or makes it. Errors: ErrLocked, ErrFormat, ErrDamaged, those of the file system.
func Open(cfg Config) (*Disk, error) {
	d, err := openDisk(cfg)
	if err != nil {
		return nil, err
	}
	d.kept.Go(d.keeper)
	d.poked()
	return d, nil
}

// openDisk is Open without the goroutine.
func openDisk(cfg Config) (d *Disk, err error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open raft directory %s: %w", cfg.Path, err)
		}
	}()
	d = &Disk{cfg: cfg, health: newHealth(cfg.Path, cfg.Logger), poke: make(chan struct{}, 1), stop: make(chan struct{})}
	if err := cfg.FS.Mkdir(cfg.Path); err != nil {
		return nil, err
	}
	if d.unlock, err = cfg.FS.Lock(cfg.Path); err != nil {
		return nil, err
	}
	if err := d.load(cfg.Discard); err != nil {
		d.unlock()
		return nil, err
	}
	return d, nil
}

// load reads the directory, or makes it anew. why is a reason to do so whatever it holds. mu is held, or nobody knows d.
func (d *Disk) load(why string) error {
	fsys, dir := d.cfg.FS, d.cfg.Path
	had, err := readFingerprint(fsys, dir)
	switch {
	case errors.Is(err, ErrDamaged) && why != "":
		// What it says does not matter any more.
	case err != nil:
		return err
	case had == nil:
		if why, err = interrupted(fsys, dir); err != nil {
			return err
		}
	case why == "":
		if why, err = d.changed(had); err != nil {
			return err
		}
		if why == "" {
			err := d.openState(had)
			if !errors.Is(err, errCopied) {
				return err
			}
			why = "it is a copy or was restored"
		}
	default:
		// A newer form is refused, not discarded.
		if err := d.openState(had); err == nil {
			err = d.closeState()
			if err != nil {
				return err
			}
		} else if errors.Is(err, ErrFormat) {
			return err
		}
	}
	if why != "" {
		if err := discard(fsys, dir, why); err != nil {
			return fmt.Errorf("put raft state aside: %w", err)
		}
		d.cfg.Logger.Warn("raft state was discarded; this node gets a new raft id", "dir", dir, "reason", why, "kept_in", filepath.Join(dir, asideDir))
	} else if err := removeTree(fsys, filepath.Join(dir, stateDir)); err != nil { // the beginning of state that was never used
		return err
	}
	if err := createState(fsys, dir, d.cfg.Node, d.cfg.SegmentSize); err != nil {
		return fmt.Errorf("make raft state: %w", err)
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	made, err := readFingerprint(fsys, dir)
	if err != nil {
		return err
	}
	if made == nil {
		return damaged(filepath.Join(dir, fingerprintFile), 0, "it was written and is gone")
	}
	d.discarded = why
	return d.openState(made)
}

// changed says why the state must not be used here.
func (d *Disk) changed(had *fingerprint) (string, error) {
	dir := d.cfg.Path
	there, err := exists(d.cfg.FS, dir, stateDir)
	if err == nil && there {
		there, err = exists(d.cfg.FS, filepath.Join(dir, stateDir), voteFile)
	}
	if err != nil {
		return "", err
	}
	if !there {
		return "", damaged(filepath.Join(dir, stateDir, voteFile), 0, "it is gone")
	}
	now, err := measure(d.cfg.FS, dir, d.cfg.Node, filepath.Join(dir, fingerprintFile))
	if err != nil {
		return "", err
	}
	return had.differs(now), nil
}

// openState opens what is there.
func (d *Disk) openState(of *fingerprint) (err error) {
	fsys, state := d.cfg.FS, filepath.Join(d.cfg.Path, stateDir)
	group, err := readGroup(fsys, d.cfg.Path)
	if err != nil {
		return err
	}
	if there, err := exists(fsys, state, snapshotDir); err != nil {
		return err
	} else if !there {
		return damaged(filepath.Join(state, snapshotDir), 0, "it is gone")
	}
	// Names may be as a process left them that could not sync them. From here on raft acts on what they lead to.
	for _, dir := range []string{d.cfg.Path, state, filepath.Join(state, snapshotDir)} {
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	snapshots := &snapshotStore{fs: fsys, dir: filepath.Join(state, snapshotDir), log: d.cfg.Logger}
	if err := snapshots.load(); err != nil {
		return err
	}
	votes, err := openVotes(fsys, filepath.Join(state, voteFile), d.health)
	if err != nil {
		return err
	}
	log := &logStore{
		fs: fsys, dir: state, size: d.cfg.SegmentSize, log: d.cfg.Logger, health: d.health, free: d.cfg.Free,
		newest: snapshots.newest, poke: d.poked,
	}
	if err := log.load(); err != nil {
		return errors.Join(err, votes.close())
	}
	if err := joins(snapshots, log); err != nil {
		return errors.Join(err, votes.close(), log.close())
	}
	log.removeOld()
	d.raftID, d.group, d.votes, d.log, d.snapshots = of.RaftID, group, votes, log, snapshots
	return nil
}

// joins checks that snapshots and log are one story.
func joins(s *snapshotStore, l *logStore) error {
	covered, _ := s.newest()
	_, last := l.bounds()
	if l.head > covered+1 {
		return damaged(s.dir, 0, "the log begins with entry %d, and the newest snapshot that can be read ends with %d", l.head, covered)
	}
	if s.bad > max(covered, last) {
		return damaged(s.dir, 0, "a snapshot up to entry %d cannot be read, and snapshots and log that can end with %d", s.bad, max(covered, last))
	}
	return nil
}

// closeState closes what openState opened.
func (d *Disk) closeState() error {
	if d.log == nil {
		return nil
	}
	d.snapshots.close()
	return errors.Join(d.votes.close(), d.log.close())
}

// keeper makes spare segments ahead, and looks whether a sick disk can be written again.
func (d *Disk) keeper() {
	again := time.NewTimer(retryEvery)
	defer again.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-d.poke:
		case <-again.C:
		}
		d.keep()
		again.Stop()
		if d.health.err() != nil {
			again.Reset(retryEvery)
		}
	}
}

// keep is one round of it.
func (d *Disk) keep() {
	d.mu.Lock()
	log, votes := d.log, d.votes
	d.mu.Unlock()
	log.keep()
	if d.health.is(sickLog) && votes.probe() == nil {
		d.health.clear(sickLog)
	}
}

func (d *Disk) poked() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// RaftID is "<node>.<16 hex>". It is made with new state and goes with it.
func (d *Disk) RaftID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raftID
}

// Logs is the log, a raft.MonotonicLogStore, until Reset or Close. An error of StoreLogs or DeleteRange leaves the log as it was.
//
// After a failed StoreLogs that followed a DeleteRange, raft v1.8.0 has a wrong idea of its last index, which ends only with a new
// raft.Raft on the same Disk.
func (d *Disk) Logs() raft.LogStore {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log
}

// Stable is term and vote, until Reset or Close.
//
// Set and SetUint64 return when the value is durable. On an error of the disk they try again until it works. Once the Disk is closed
// they end the calling goroutine by runtime.Goexit, having written nothing: raft's own goroutines end well that way, but whoever
// calls Set or raft.BootstrapCluster in a goroutine of his own has to expect it, and a handler of heartbeats that calls into raft
// must keep its own house in deferred functions. Values that have no room in 4 KiB together are refused with ErrTooLarge.
func (d *Disk) Stable() raft.StableStore {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.votes
}

// Snapshots are two at most, until Reset or Close.
func (d *Disk) Snapshots() raft.SnapshotStore {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshots
}

// HasState reports whether raft has ever run, or was bootstrapped, with this state.
func (d *Disk) HasState() (bool, error) {
	d.mu.Lock()
	log, votes, snapshots := d.log, d.votes, d.snapshots
	d.mu.Unlock()
	return raft.HasExistingState(log, votes, snapshots)
}

// Sick is nil, or why the disk cannot be written now, with the path and what to do. It gets well by itself.
func (d *Disk) Sick() error { return d.health.err() }

// Discarded is why Open or Reset discarded the state that was there; "" when none was.
func (d *Disk) Discarded() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.discarded
}

// Reset puts raft state, group and founding aside and begins anew with a new raft id. raft must have been stopped. The stores have to
// be asked for anew. After an error the old ones are closed, the disk is sick, and Reset can be called again; so can Open.
func (d *Disk) Reset(reason string) error {
	if reason == "" {
		return fmt.Errorf("reset %s: a reason must be given", d.cfg.Path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	err := d.closeState()
	if err == nil {
		err = d.load(reason)
	}
	if err != nil {
		err = fmt.Errorf("reset %s: %w", d.cfg.Path, err)
		d.health.set(sickReset, err)
		return err
	}
	for _, what := range []string{sickVote, sickLog, sickSpare, sickReset} {
		d.health.clear(what)
	}
	d.poked()
	return nil
}

// Close closes the directory and lets others have it. Who waits in Stable is released, see there. Call it after raft.Shutdown and
// before waiting for what that returns.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	close(d.stop)
	err := d.closeState()
	// The keeper may want mu once more.
	d.mu.Unlock()
	d.kept.Wait()
	d.mu.Lock()
	d.unlock()
	return err
}
