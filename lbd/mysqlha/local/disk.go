package local

import (
	"fmt"

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
