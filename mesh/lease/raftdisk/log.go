package raftdisk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	logPrefix = "log-" // and the segment's number, 16 hex digits

	minSegment = 4096
)

// logStore is raft's LogStore. See Disk.Logs.
type logStore struct {
	fs     FS
	dir    string
	size   int64
	log    *slog.Logger
	health *health
	free   func() error                // may be nil
	newest func() (index, term uint64) // of the newest snapshot
	poke   func()                      // something for keep to do

	write   sync.Mutex // guards the fields below, and is held over writes
	file    File       // the active segment
	header  header
	at, cap int64
	failed  bool   // what stands behind at is unknown: the next write goes to the spare
	spare   File   // nil when there is none
	room    int64  // of the spare
	oldest  uint64 // number of the first segment that is on disk
	head    uint64 // see replayed.Head
	closed  bool

	mu      sync.RWMutex // guards the field below
	entries []entry
}

// covered is the index up to which a snapshot has everything.
func (l *logStore) covered() uint64 {
	index, _ := l.newest()
	return index
}

func segmentName(seq uint64) string { return fmt.Sprintf("%s%016x", logPrefix, seq) }

// createLog makes the first segment of new state.
func createLog(fsys FS, dir string, size int64) error {
	f, err := fsys.Create(filepath.Join(dir, segmentName(1)))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := zeroFill(f, size); err != nil {
		return err
	}
	inode, err := f.Inode()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(encodeHeader(header{Seq: 1, Salt: rand.Uint64(), Inode: inode, Head: 1}), 0); err != nil {
		return err
	}
	return f.Sync()
}

// load reads the log that is there, cuts off what was not written whole, and opens it for writing.
func (l *logStore) load() (err error) {
	names, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var segments []segment
	var files []File
	defer func() {
		for i, f := range files {
			if f != l.file && f != l.spare || err != nil {
				err = errors.Join(err, files[i].Close())
			}
		}
	}()
	for _, name := range names {
		number, is := strings.CutPrefix(name, logPrefix)
		if strings.HasSuffix(name, tmpSuffix) {
			if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
				return err
			}
			continue
		}
		seq, err := strconv.ParseUint(number, 16, 64)
		if !is || err != nil {
			continue // not ours, or not of the log
		}
		path := filepath.Join(l.dir, name)
		f, err := l.fs.Open(path)
		if err != nil {
			return err
		}
		files = append(files, f)
		data, err := readAll(f)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		inode, err := f.Inode()
		if err != nil {
			return err
		}
		segments = append(segments, segment{path, seq, inode, data})
	}
	slices.SortFunc(segments, func(a, b segment) int { return strings.Compare(a.Name, b.Name) })
	found, err := replay(segments)
	if err != nil {
		return err
	}
	active := segments[found.Active]
	l.file, l.header, l.at, l.cap = files[found.Active], found.Header, found.End, int64(len(active.Data))
	l.oldest, l.head, l.entries, l.failed = segments[0].Seq, found.Head, found.Entries, found.Torn
	// The last batch may be of a process that was killed before it was synced. From here on raft acts on it.
	start := found.Start
	if start == headerSize {
		start = 0 // the header came with it
	}
	if _, err := l.file.WriteAt(active.Data[start:l.at], start); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	if found.Spare {
		l.spare, l.room = files[len(files)-1], int64(len(segments[len(segments)-1].Data))
	}
	if found.Torn {
		l.log.Info("raft log: the end of the last write was cut off; it was never acknowledged", "file", active.Name, "offset", l.at)
	}
	return nil
}

// IsMonotonic implements raft.MonotonicLogStore: the log has no gaps. raft then empties it after it took in a snapshot from elsewhere,
// rather than leaving entries that may contradict it, and a gap behind them.
func (l *logStore) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (l *logStore) FirstIndex() (uint64, error) {
	first, _ := l.bounds()
	return first, nil
}

// LastIndex implements raft.LogStore.
func (l *logStore) LastIndex() (uint64, error) {
	_, last := l.bounds()
	return last, nil
}

// bounds are 0, 0 for an empty log.
func (l *logStore) bounds() (first, last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.entries); n > 0 {
		return l.entries[0].Index, l.entries[n-1].Index
	}
	return 0, 0
}

// GetLog implements raft.LogStore. The entry's data must not be changed.
func (l *logStore) GetLog(index uint64, out *raft.Log) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.entries) == 0 || index < l.entries[0].Index || index-l.entries[0].Index >= uint64(len(l.entries)) {
		return raft.ErrLogNotFound
	}
	*out = l.entries[index-l.entries[0].Index].Log
	return nil
}

// term is the term of an entry that is there.
func (l *logStore) term(index uint64) uint64 {
	var e raft.Log
	if l.GetLog(index, &e) != nil {
		return 0
	}
	return e.Term
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. The entries are durable when it returns nil; when it returns an error the log is as before,
// though a restart may find some of them. Entries that are there from the first one's index on go. A gap is taken only where a
// snapshot covers it; the entries before it go.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	l.write.Lock()
	defer l.write.Unlock()
	from := logs[0].Index
	batch := make([]record, 0, len(logs)+1)
	first, last := l.bounds()
	follows := last > 0 && from >= first && from <= last+1
	if !follows {
		if from < l.head || from > max(l.covered()+1, 1) {
			return fmt.Errorf("store raft log entry %d: %w: the log has %d to %d, the newest snapshot covers up to %d", from, ErrOrder, first, last, l.covered())
		}
		if from > l.head {
			batch = append(batch, record{Kind: kindHead, Log: raft.Log{Index: from}})
		}
	}
	for i, log := range logs {
		if log.Index != from+uint64(i) {
			return fmt.Errorf("store raft log entries: %w: entry %d comes after %d", ErrOrder, log.Index, from+uint64(i)-1)
		}
		batch = append(batch, record{Kind: kindEntry, Log: *log})
	}
	if err := l.append(batch); err != nil {
		return fmt.Errorf("store raft log entries %d to %d: %w", from, from+uint64(len(logs))-1, err)
	}
	return nil
}

// DeleteRange implements raft.LogStore. The range reaches the beginning or the end of the log. Segments that hold nothing any more
// are removed.
//
// Of a range that is the whole log, entries behind the newest snapshot stay if the log has that snapshot's last entry (Raft, section 7,
// InstallSnapshot step 6): raft deletes all after it took in a snapshot, which may be one that was sent twice, and behind it may
// stand what this node has acknowledged since. A conflict never begins before a snapshot's end.
func (l *logStore) DeleteRange(from, to uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	first, last := l.bounds()
	if from > to || last == 0 || to < first || from > last {
		return nil
	}
	if index, term := l.newest(); from <= first && to >= last && first <= index && index < last && l.term(index) == term {
		to = index
	}
	var r record
	switch {
	case from <= first && (to < last || l.covered() >= last):
		r = record{Kind: kindHead, Log: raft.Log{Index: min(to, last) + 1}}
	case to >= last:
		// Of all entries, too, while no snapshot has them: those that come instead begin where these did.
		r = record{Kind: kindCut, Log: raft.Log{Index: max(from, first)}}
	default:
		return fmt.Errorf("delete raft log entries %d to %d of %d to %d: %w", from, to, first, last, ErrOrder)
	}
	if err := l.append([]record{r}); err != nil {
		return fmt.Errorf("delete raft log entries %d to %d: %w", from, to, err)
	}
	l.removeOld()
	return nil
}

// append writes a batch and syncs it. write is held.
func (l *logStore) append(batch []record) error {
	if l.closed {
		return ErrClosed
	}
	var size int64
	for i := range batch {
		size += batch[i].size()
	}
	if headerSize+size > maxBatch {
		return fmt.Errorf("%w: %d bytes in one write", ErrTooLarge, size)
	}
	file, h, start := l.file, l.header, l.at
	buf := make([]byte, 0, headerSize+size)
	next := l.failed || l.at+size > l.cap
	if next {
		if err := l.makeSpare(headerSize + size); err != nil {
			l.health.set(sickLog, err)
			l.poke()
			return err
		}
		inode, err := l.spare.Inode()
		if err != nil {
			return err
		}
		file, start = l.spare, headerSize
		h = header{Seq: l.header.Seq + 1, PrevEnd: l.at, Salt: rand.Uint64(), Inode: inode, Head: l.head}
		buf = append(buf, encodeHeader(h)...)
	}
	at := start
	for i := range batch {
		buf = appendRecord(buf, &batch[i], h.Salt, at, start)
		at += batch[i].size()
	}
	over := l.health.writing()
	_, err := file.WriteAt(buf, at-int64(len(buf)))
	if err == nil {
		err = file.Sync()
	}
	over()
	if err != nil {
		l.failed = true
		l.health.set(sickLog, err)
		l.poke()
		return err
	}
	if next {
		if err := l.file.Close(); err != nil {
			l.log.Warn("raft log: close a segment", "err", err) // all in it was synced
		}
		l.file, l.header, l.cap = file, h, l.room
		l.spare, l.room, l.failed = nil, 0, false
		l.poke()
	}
	l.at = at
	l.health.clear(sickLog)
	l.publish(batch, h.Seq)
	return nil
}

// publish applies a batch that is durable. The data is copied, for the caller's may change.
func (l *logStore) publish(batch []record, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := replayed{Entries: l.entries, Head: l.head}
	for i := range batch {
		r := batch[i]
		r.Log.Data, r.Log.Extensions = slices.Clone(r.Log.Data), slices.Clone(r.Log.Extensions)
		state.apply(&r, seq)
	}
	if len(state.Entries) < len(l.entries) {
		state.Entries = slices.Clone(state.Entries) // lets go of what was deleted
	}
	l.entries, l.head = state.Entries, state.Head
}

// makeSpare sees to it that there is a spare segment with so much room. write is held.
func (l *logStore) makeSpare(room int64) error {
	if l.spare != nil && l.room >= room {
		return nil
	}
	if l.free != nil {
		if err := l.free(); err != nil {
			return err
		}
	}
	room = max(room, l.size)
	path := filepath.Join(l.dir, segmentName(l.header.Seq+1))
	f, err := l.fs.Create(path + tmpSuffix)
	if err != nil {
		return err
	}
	err = zeroFill(f, room)
	if err == nil {
		err = l.fs.Rename(path+tmpSuffix, path)
	}
	if err != nil {
		_ = l.fs.Remove(path + tmpSuffix) // gives the room back
		return errors.Join(err, f.Close())
	}
	if l.spare != nil {
		_ = l.spare.Close() // it was replaced
	}
	// From here on the file stands in its place, and a failed sync is tried again with the next one.
	l.spare, l.room = nil, 0
	if err := l.fs.SyncDir(l.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	l.spare, l.room = f, room
	return nil
}

// removeOld removes segments that hold nothing, the oldest first and one by one, so that there is never a gap. write is held.
func (l *logStore) removeOld() {
	l.mu.RLock()
	keep := l.header.Seq
	if len(l.entries) > 0 {
		keep = l.entries[0].seq
	}
	l.mu.RUnlock()
	for l.oldest < keep {
		path := filepath.Join(l.dir, segmentName(l.oldest))
		err := l.fs.Remove(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = l.fs.SyncDir(l.dir)
		}
		if err != nil {
			l.log.Warn("raft log: remove a segment; it is tried again with the next", "file", path, "err", err)
			return
		}
		l.oldest++
	}
}

// keep does what can be done ahead: the spare segment.
func (l *logStore) keep() {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return
	}
	if err := l.makeSpare(minSegment); err != nil {
		l.health.set(sickSpare, err)
		return
	}
	l.health.clear(sickSpare)
}

func (l *logStore) close() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	err := l.file.Close()
	if l.spare != nil {
		err = errors.Join(err, l.spare.Close())
	}
	return err
}
