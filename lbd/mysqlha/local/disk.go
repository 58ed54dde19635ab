package local

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// When a server's disk counts as full, and when as roomy again: writers of large transactions, and the log that is begun anew, need some at once. Between the two it is
// what it was before, so that a disk at the limit does not come and go.
const (
	diskFull  = 64 << 20
	diskRoomy = 256 << 20
)

// full tells what is the matter with the disk of a directory, when it was was; "" = it has room. The text has no figures that move: a report is sent when it changes.
func full(was, dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return was // a datadir that is being replaced says nothing
	}
	free := int64(fs.Bavail) * fs.Bsize
	switch {
	case fs.Files > 0 && fs.Ffree == 0:
		return "no file can be made in " + dir + ": its file system has no inode left"
	case free < diskFull, was != "" && free < diskRoomy:
		return fmt.Sprintf("%s has, or had, less than %d MB of room, and has not got %d MB again", dir, diskFull>>20, diskRoomy>>20)
	}
	return ""
}

// unwritten is how much of a copy may wait in memory for the disk. What waits there is written at once, one day: then whoever commits on the same disk waits for all of it.
const unwritten = 16 << 20

// steady has what comes into a directory written to its disk as it comes.
type steady struct {
	dir string
	n   int
}

// wrote tells of n bytes more, and waits for the disk when that is due.
func (s *steady) wrote(n int) error {
	if s.n += n; s.n < unwritten {
		return nil
	}
	s.n = 0
	f, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("have the copy written to the disk: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("have the copy in %s written to the disk: %w", s.dir, err)
	}
	return nil
}
