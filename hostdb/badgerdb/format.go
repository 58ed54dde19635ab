package badgerdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
)

const (
	formatFile    = "FORMAT"
	formatVersion = 1
)

// settleFormat reads the format file, or writes it into a new directory, and returns the memtable size to use: the
// largest this directory was ever used with. The file is two lines of text:
//
//	hostmesh-badgerdb 1
//	memtable 12582912
func settleFormat(dir string, memTable int64) (int64, error) {
	name := filepath.Join(dir, formatFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); err == nil {
			return 0, fmt.Errorf("%w: a Badger database without the file %s, so not one of hostmesh: choose another data directory",
				ErrFormat, formatFile)
		}
		return memTable, writeFormat(name, memTable)
	}
	if err != nil {
		return 0, err
	}
	var version int
	if _, err := fmt.Sscanf(string(text), "hostmesh-badgerdb %d\n", &version); err != nil {
		return 0, fmt.Errorf("%w: cannot read %s", ErrCorrupt, formatFile)
	}
	if version > formatVersion {
		return 0, fmt.Errorf("%w: version %d, and this hostmesh knows up to %d: install the newer release again",
			ErrFormat, version, formatVersion)
	}
	var used int64
	if _, err := fmt.Sscanf(string(text), "hostmesh-badgerdb %d\nmemtable %d\n", &version, &used); err != nil || used <= 0 {
		return 0, fmt.Errorf("%w: cannot read %s", ErrCorrupt, formatFile)
	}
	if used >= memTable {
		return used, nil
	}
	return memTable, writeFormat(name, memTable)
}

// writeFormat replaces the file as a whole, so that a crash leaves the old or the new.
func writeFormat(name string, memTable int64) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return classify(err)
	}
	_, err = fmt.Fprintf(f, "hostmesh-badgerdb %d\nmemtable %d\n", formatVersion, memTable)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	return classify(err)
}

// withRoom is MinFree and so much more; negative is no check still.
func withRoom(minFree, more int64) int64 {
	if minFree < 0 {
		return minFree
	}
	return minFree + more
}

// checkSpace says whether the file system has room for what one group of commits may set off.
func checkSpace(dir string, minFree int64) error {
	if minFree < 0 {
		return nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < minFree {
		return fmt.Errorf("%w: %d MiB are free where %s lies, and %d MiB are needed: free some space",
			hostdb.ErrStorageFull, free>>20, dir, minFree>>20)
	}
	return nil
}
