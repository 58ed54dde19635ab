package badgerdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const logSuffix = ".mem"

// wal makes Badger's write-ahead logs durable. Each memtable has a log, DIR/00001.mem and so on, which Badger fills
// through a memory map and deletes after the memtable was written to a synced table. When a memtable is full Badger
// begins the next number, before it writes the transaction that found it full; the old log is not synced then, and
// DB.Sync would sync only the new one. So after each transaction wal looks whether the next log has appeared.
// The fsync of a file covers what was written to it through any memory map.
//
// It is used by one goroutine at a time.
type wal struct {
	dir     string
	id      int
	cur     *os.File   // log number id, which Badger writes to
	next    string     // path of log number id+1
	dirty   bool       // cur was written to since its last sync
	rotated []*os.File // older logs that were dirty when Badger left them
	newFile bool       // the entry of cur in the directory is not yet durable

	rotating func()               // called when Badger has begun the next log
	syncFile func(*os.File) error // replaced by tests
}

// openWAL finds the log that Badger has just begun: opening a directory always begins a new one.
func openWAL(dir string) (*wal, error) {
	ids, err := logIDs(dir)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("no write-ahead log after opening: this version of Badger names it in another way")
	}
	w := &wal{dir: dir, rotating: func() {}, syncFile: datasync}
	for _, id := range ids {
		w.id = max(w.id, id)
	}
	if w.cur, err = os.Open(w.path(w.id)); err != nil {
		return nil, err
	}
	w.next = w.path(w.id + 1)
	w.newFile = true
	return w, nil
}

func (w *wal) path(id int) string { return filepath.Join(w.dir, fmt.Sprintf("%05d%s", id, logSuffix)) }

// wrote notes that a transaction was written. It must be called after each one, because it follows the rotation.
func (w *wal) wrote() error {
	for {
		// Asking first is cheaper than an error of os.Open, and this happens on each transaction.
		if unix.Access(w.next, unix.F_OK) == unix.ENOENT {
			w.dirty = true
			return nil
		}
		f, err := os.Open(w.next)
		if err != nil {
			return err
		}
		if w.dirty {
			w.rotated = append(w.rotated, w.cur)
		} else {
			_ = w.cur.Close() // read only, and all of it is durable
		}
		w.cur, w.dirty, w.newFile = f, false, true
		w.id++
		w.rotating()
		w.next = w.path(w.id + 1)
	}
}

// sync makes everything that was written durable: one fsync, and three after a rotation.
func (w *wal) sync() error {
	for _, f := range w.rotated {
		// Badger may have deleted the file by now, which it does after syncing the table made of it.
		if err := w.syncFile(f); err != nil {
			return fmt.Errorf("sync %s: %w", f.Name(), err)
		}
		_ = f.Close()
	}
	w.rotated = w.rotated[:0]
	if w.newFile {
		if err := syncDir(w.dir); err != nil {
			return err
		}
		w.newFile = false
	}
	if w.dirty {
		if err := w.syncFile(w.cur); err != nil {
			return fmt.Errorf("sync %s: %w", w.cur.Name(), err)
		}
		w.dirty = false
	}
	return nil
}

func (w *wal) close() {
	for _, f := range append(w.rotated, w.cur) {
		_ = f.Close()
	}
}

// syncLogs makes the logs that a killed process left durable.
func syncLogs(dir string) error {
	ids, err := logIDs(dir)
	if err != nil {
		return err
	}
	w := wal{dir: dir}
	for _, id := range ids {
		f, err := os.Open(w.path(id))
		if err != nil {
			return err
		}
		err = datasync(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("sync %s: %w", f.Name(), err)
		}
	}
	return nil
}

func logIDs(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), logSuffix); ok {
			if id, err := strconv.Atoi(name); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// datasync is fsync without the file's times, which nobody reads.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	_ = d.Close()
	if err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}
