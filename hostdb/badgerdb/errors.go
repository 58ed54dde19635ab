package badgerdb

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
)

// classify adds the sentinel that tells a caller what to do. Badger formats the causes of its errors into text, so the
// text is all there is to go by.
func classify(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat), errors.Is(err, hostdb.ErrStorageFull):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT),
		strings.Contains(err.Error(), unix.ENOSPC.Error()), strings.Contains(err.Error(), unix.EDQUOT.Error()):
		return fmt.Errorf("%w: %w", hostdb.ErrStorageFull, err)
	case strings.Contains(err.Error(), "manifest has unsupported version"):
		return fmt.Errorf("%w, it needs a newer hostmesh: %w", ErrFormat, err)
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	for _, s := range []string{"checksum", "manifest has", "MANIFEST", "corrupt", "file does not exist for table",
		"failed to read index", "failed to initialize", "unmarshal", "Invalid read", "EOF", "datakey id",
		"Encryption key mismatch", "Level validation"} {
		if strings.Contains(err.Error(), s) {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return err
}

// guard is used as "defer guard(&err)()" around calls of Badger. It turns a panic on damaged files into ErrCorrupt,
// and so a fault in a memory map, as a bad sector or a file cut short makes it. It cannot help where Badger
// ends the process, nor in Badger's own goroutines: checkFiles looks for what leads there.
func guard(err *error) func() { return guardUnless(new(bool), err) }

// guardUnless is guard, but for panics while off is true.
func guardUnless(off *bool, err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if *off {
			return
		}
		if r := recover(); r != nil {
			text, _, _ := strings.Cut(fmt.Sprint(r), "\n")
			*err = fmt.Errorf("%w: %s", ErrCorrupt, text)
		}
	}
}
