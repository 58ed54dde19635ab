package badgerdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile names the holder of the lock to people, as Badger's own file of this name does.
const pidFile = "LOCK"

// dirLock is Badger's lock, an flock of the directory itself, so that Badger's tools respect it too.
type dirLock struct{ dir *os.File }

func lockDir(dir string) (*dirLock, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, pidFile)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		who := "another process"
		if pid, err := os.ReadFile(name); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
				who = fmt.Sprintf("process %d", n)
			}
		}
		return nil, fmt.Errorf("%w by %s: stop it, or give this agent a data directory of its own", ErrLocked, who)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		f.Close()
		return nil, classify(err)
	}
	return &dirLock{f}, nil
}

// release removes the pid file before it lets go, so that it never removes the next holder's.
func (l *dirLock) release() {
	_ = os.Remove(filepath.Join(l.dir.Name(), pidFile)) // only a note to people
	// A child that this process is just starting has the directory open too, and with it the lock, until its program begins.
	_ = unix.Flock(int(l.dir.Fd()), unix.LOCK_UN)
	_ = l.dir.Close()
}
