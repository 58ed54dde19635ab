package badgerdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// Run does what need not be done at once, until ctx ends or Close is called: it frees the parts of long values that
// were replaced. A DB works without it, and grows. A failed round is logged and tried again.
func (db *DB) Run(ctx context.Context) error {
	for {
		// Half to one and a half of the mean, so that the agents of a mesh do not work in step.
		wait := db.cfg.Maintenance/2 + rand.N(db.cfg.Maintenance)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-db.done:
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if _, err := db.sweep(); err != nil && !errors.Is(err, ErrClosed) {
			db.log.Warn("cannot free replaced values, will try again", "dir", db.cfg.Dir, "err", err)
		}
	}
}

// sweep deletes parts that no head refers to. It looks for them beside the writers, and decides again in their turn.
func (db *DB) sweep() (deleted int, err error) {
	if err := db.acquire(); err != nil {
		return 0, err
	}
	defer db.users.Done()
	defer guard(&err)()

	var orphans [][]byte
	err = db.bdb.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{spacePart}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			orphan, err := db.set.isOrphan(txn, it.Item().Key())
			if err != nil {
				return err
			}
			if orphan {
				orphans = append(orphans, it.Item().KeyCopy(nil))
			}
		}
		return nil
	})
	const atOnce = 32 // writers wait meanwhile, and keys may be long
	for err == nil && len(orphans) > 0 {
		n := min(atOnce, len(orphans))
		var d int
		d, err = db.writer.deleteOrphans(orphans[:n])
		deleted += d
		orphans = orphans[n:]
	}
	return deleted, classify(err)
}

// isOrphan says whether the part belongs to no value.
func (s settings) isOrphan(txn *badger.Txn, part []byte) (bool, error) {
	key, n := part[1:len(part)-1], int(part[len(part)-1])
	item, err := txn.Get(dataKey(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if item.UserMeta() != metaParts {
		return true, nil
	}
	orphan := false
	err = item.Value(func(head []byte) error {
		if len(head) <= lengthSize {
			return fmt.Errorf("key %q: head of %d bytes: %w", key, len(head), ErrCorrupt)
		}
		// The head's own part has the size of all but the last.
		length, size := headLength(head), len(head)-lengthSize
		orphan = n > (length-1)/size
		return nil
	})
	return orphan, err
}

// deleteOrphans deletes those of the parts that still are orphans. It is not synced: what a crash brings back is
// an orphan again.
func (w *writer) deleteOrphans(parts [][]byte) (deleted int, err error) {
	w.work.Lock()
	defer w.work.Unlock()
	if w.failed != nil {
		return 0, w.failed
	}
	if err := w.space(); err != nil {
		return 0, err
	}
	err = w.bdb.Update(func(txn *badger.Txn) error {
		for _, part := range parts {
			orphan, err := w.set.isOrphan(txn, part)
			if err != nil {
				return err
			}
			if orphan {
				if err := txn.Delete(part); err != nil {
					return err
				}
				deleted++
			}
		}
		return nil
	})
	if err == nil && deleted > 0 {
		err = w.wal.wrote()
	}
	if err != nil {
		return 0, w.fail(err)
	}
	w.counts.mu.Lock()
	w.counts.sweptParts += uint64(deleted)
	w.counts.mu.Unlock()
	return deleted, nil
}

// Stats are for metrics. Counters count since Open.
type Stats struct {
	Batches      uint64        // commits that succeeded
	Puts         uint64        // their puts
	Bytes        uint64        // their keys and values, with what is stored beside them
	Transactions uint64        // Badger transactions they took
	Syncs        uint64        // fsyncs they took; Batches/Syncs is the mean group
	SyncTime     time.Duration // time in these fsyncs
	LargestGroup uint64        // most batches of one fsync
	SweptParts   uint64        // parts of replaced values that Run freed

	LSM      int64 // bytes of tables
	ValueLog int64 // bytes of the value log on disk; it holds nothing, so a few KiB
	WAL      int64 // bytes of write-ahead logs on disk
	Tables   int   // number of tables
	Level0   int   // of these not yet merged with the others, see compact.go
	Failed   bool  // a write failed, and Commit refuses until the directory is opened anew
}

// Stats returns the figures of now. After Close it returns the counters only. It reads the directory.
func (db *DB) Stats() Stats {
	c := &db.writer.counts
	c.mu.Lock()
	s := Stats{Batches: c.batches, Puts: c.puts, Bytes: c.bytes, Transactions: c.txns, Syncs: c.syncs,
		SyncTime: c.syncTime, LargestGroup: c.largestGroup, SweptParts: c.sweptParts, Failed: c.failed}
	c.mu.Unlock()
	if db.acquire() != nil {
		return s
	}
	defer db.users.Done()
	for _, l := range db.bdb.Levels() {
		s.Tables += l.NumTables
		s.LSM += l.Size
		if l.Level == 0 {
			s.Level0 = l.NumTables
		}
	}
	_ = db.walk(func(ext string, size int64) {
		switch ext {
		case ".vlog":
			s.ValueLog += size
		case logSuffix:
			s.WAL += size
		}
	})
	return s
}

// Size is how many bytes the directory takes on the disk. The files have holes, so it is less than their lengths.
func (db *DB) Size() (int64, error) {
	var sum int64
	err := db.walk(func(_ string, size int64) { sum += size })
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", db.cfg.Dir, err)
	}
	return sum, nil
}

func (db *DB) walk(fn func(ext string, size int64)) error {
	return filepath.WalkDir(db.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err) // Badger deletes files at any time
		}
		size := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			size = st.Blocks * 512
		}
		fn(filepath.Ext(path), size)
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
