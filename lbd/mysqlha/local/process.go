package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha/credentials"
)

// errNoProcess is returned by find when no process runs the server.
var errNoProcess = errors.New("no process runs the server")

// process is a server's process that is watched. It need not be a child of this one.
type process struct {
	pid   int
	began uint64        // ticks after boot, which with pid make it unique
	dying chan struct{} // closed when it does nothing any more
	gone  chan struct{} // closed when it has ended: its memory is free, and its files and sockets are closed
	fd    *os.File      // pidfd
	once  sync.Once
}

// watch begins to watch a process that find has found, and that has not become another one since.
func watch(s credentials.Server, pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errNoProcess
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that no thread waits for it
		unix.Close(fd)
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p := &process{pid: pid, dying: make(chan struct{}), gone: make(chan struct{}), fd: os.NewFile(uintptr(fd), "pidfd")}
	// The number may have been given to another between find and now; what the pidfd means does not change any more.
	if !runs(s, pid) {
		p.close()
		return nil, errNoProcess
	}
	if p.began, err = began(pid); err != nil {
		p.close()
		return nil, errNoProcess
	}
	raw, err := p.fd.SyscallConn()
	if err != nil {
		p.close()
		return nil, err
	}
	over := make(chan struct{})
	die := sync.OnceFunc(func() { close(p.dying) })
	go func() {
		defer close(over)
		if raw.Read(func(fd uintptr) bool { return ended(int(fd)) }) != nil {
			return // nobody watches any more
		}
		die()
		close(p.gone)
		p.close()
	}()
	go func() {
		tick := time.NewTicker(dyingLook)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if exiting(pid) {
				die()
				return
			}
		}
	}()
	return p, nil
}

// dyingLook is how often it is looked whether a process is dying. A process that was killed ends only when its memory is free: 70 to 190 ms for each
// GB, and only then does a pidfd tell. That its main thread has ended can be seen at once, for some microseconds each time.
const dyingLook = 10 * time.Millisecond

// exiting reports whether the main thread of a process runs no more: by its state, or the kernel's PF_EXITING, fields 3 and 9 of proc(5). The number is still that of
// the process which is watched, or of none: the watcher ends when it is given back.
func exiting(pid int) bool {
	fields, err := statOf(pid)
	if err != nil {
		return false // gone
	}
	const pfExiting = 4
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return fields[0] == "Z" || fields[0] == "X" || err == nil && flags&pfExiting != 0
}

// ended asks a pidfd: it can be read when its process has ended.
func ended(fd int) bool {
	list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(list, 0)
	return err == nil && n == 1
}

// signal sends one to this very process. That it is gone is no error.
func (p *process) signal(sig unix.Signal) error {
	if isClosed(p.gone) {
		return nil
	}
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		if isClosed(p.gone) {
			return nil // meanwhile
		}
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// alive reports whether it may still do something.
func (p *process) alive() bool {
	select {
	case <-p.dying:
		return false
	default:
		return true
	}
}

// close ends watching. gone is not closed by it.
func (p *process) close() { p.once.Do(func() { _ = p.fd.Close() }) }

// find returns the process that runs a server: that of its pid file, or else, when scan is set, one that runs in its datadir. errNoProcess.
func find(s credentials.Server, scan bool) (int, error) {
	text, err := readFile(s.PIDFile, 0)
	if err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 && runs(s, pid) {
			return pid, nil
		}
	}
	if !scan {
		return 0, errNoProcess
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		if pid, err := strconv.Atoi(e.Name()); err == nil && runs(s, pid) {
			return pid, nil
		}
	}
	return 0, errNoProcess
}

// runs reports whether a process is the server: a program of that name whose directory is the datadir. A pid file alone says nothing: numbers are used
// again. A zombie has no program any more.
func runs(s credentials.Server, pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		return false
	}
	name := strings.TrimSuffix(filepath.Base(exe), " (deleted)") // by an upgrade
	if name != "mariadbd" && name != "mysqld" && !strings.HasPrefix(name, "mysqld-") {
		return false
	}
	is, err := os.Stat(filepath.Join(dir, "cwd"))
	if err != nil {
		return false
	}
	want, err := os.Stat(s.Datadir)
	return err == nil && os.SameFile(is, want)
}

// began is when a process began, in ticks after boot: field 22 of /proc/PID/stat, proc(5).
func began(pid int) (uint64, error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// statOf are the fields of /proc/PID/stat from the third on.
func statOf(pid int) ([]string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, err
	}
	i := bytes.LastIndexByte(text, ')') // the name before may contain anything
	fields := strings.Fields(string(text[i+1:]))
	if i < 0 || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// since is when it began by the wall clock.
func (p *process) since(now time.Time) time.Time {
	const ticks = 100 // USER_HZ, the same on all that Linux runs on
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return now
	}
	age := time.Duration(ts.Nano()) - time.Duration(p.began)*(time.Second/ticks)
	return now.Add(-max(age, 0))
}
