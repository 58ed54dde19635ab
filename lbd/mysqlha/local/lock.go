package local

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A start takes time before there is a process that find knows: a wrapper, or a program that was not executed yet. Meanwhile a lock says so, which the started
// program inherits, and has until it ends: an agent that begins right after the one before was killed in a start neither starts a second server nor
// takes the first for dead. (A server that systemd runs does not inherit it; there the unit's name keeps a second from starting.)

// errStarting is returned while somebody whom an agent started has the lock, and is no process of the server yet, or not gone yet.
var errStarting = errors.New("a start of the server goes on, or its last process is not gone")

// startAgain is how often a start looks whether that is over: it may go through all processes.
const startAgain = 20 * time.Millisecond

func (s *server) startLock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.h.cfg.Dir, url.PathEscape(s.tag)+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of a start: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errStarting
	}
	return nil, fmt.Errorf("lock of a start: %w", err)
}

// starting reports whether somebody has the lock.
func (s *server) starting() bool {
	f, err := s.startLock()
	if err == nil {
		f.Close()
	}
	return errors.Is(err, errStarting)
}
