package local

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// In directories of the server's user that user may have put anything under a name. What the agent, who is root, opens there is a regular file, and no pipe that it would wait for or device that never ends.

// openFile opens a regular file for reading. flags are further ones: O_NOFOLLOW where nobody has a reason for a link.
func openFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	// What is asked is what was opened: the name could be another file by then.
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// smallFile is how much is read of a file of which nobody needs more.
const smallFile = 1 << 20

// readFile reads the beginning of a regular file.
func readFile(path string, flags int) ([]byte, error) {
	f, err := openFile(path, flags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, smallFile))
}
