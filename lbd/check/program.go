package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrProgram is returned for a program that must not be run, or is not there.
var ErrProgram = errors.New("program for checks")

// Program is good when a program in Dir ends with 0. HostDB names the program; its content lies on the box, and only root can have put it there. It
// is run without a shell, without arguments, with an environment of PATH and HOSTMESH_ADDR, _PORT, _PROTO, _HOST, _TAG and _VIP, in Dir, in a
// process group of its own that is killed when time is up, and with what is left of it when the program ends. The first line that it prints is
// the reason of a bad answer.
//
// One that cannot be killed, because the kernel holds it (state D), is bad after a second more, and is not run again for that target before it is gone.
type Program struct {
	Dir  string // checks.d
	Name string
	// held are the runs that the kernel holds, of all programs; nil = they are not known.
	held *held
}

// held are runs that could not be ended. It is safe for concurrent use.
type held struct {
	// gone waits until a process is a zombie; nil = it asks the kernel. Tests have others.
	gone func(pid int)

	mu   sync.Mutex // guards runs
	runs map[run]time.Time
}

// run is of which a second one is not begun.
type run struct {
	name   string
	target Target
}

// since is since when such a run is held; zero = it is not.
func (h *held) since(r run) time.Time {
	if h == nil {
		return time.Time{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[r]
}

// note remembers a run until it is gone.
func (h *held) note(r run, gone <-chan struct{}) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[r] = time.Now()
	go func() {
		<-gone
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.runs, r)
	}()
}

// killTime is how long a program that was killed may take to be gone.
const killTime = time.Second

// outputMax is how much of what a program prints is looked at.
const outputMax = 4 << 10

// Fit says whether the program may be run at all.
func (p Program) Fit() (path string, err error) {
	if p.Name == "" || p.Name != filepath.Base(p.Name) || strings.HasPrefix(p.Name, ".") || strings.ContainsRune(p.Name, 0) {
		return "", fmt.Errorf("%w: %q is no name of a file in %s", ErrProgram, p.Name, p.Dir)
	}
	path = filepath.Join(p.Dir, p.Name)
	for _, name := range []string{p.Dir, path} {
		var st unix.Stat_t
		err := unix.Lstat(name, &st)
		switch {
		case errors.Is(err, unix.ENOENT):
			return "", fmt.Errorf("%w: %s is not there: put it on every box that may balance", ErrProgram, name)
		case err != nil:
			return "", fmt.Errorf("%w: %s: %w", ErrProgram, name, err)
		case name == p.Dir && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return "", fmt.Errorf("%w: %s is no directory", ErrProgram, name)
		case name == path && st.Mode&unix.S_IFMT != unix.S_IFREG:
			return "", fmt.Errorf("%w: %s is no regular file; links are not followed", ErrProgram, name)
		case st.Uid != 0:
			return "", fmt.Errorf("%w: %s belongs to user %d and not to root: chown root %s", ErrProgram, name, st.Uid, name)
		case st.Mode&0o022 != 0:
			return "", fmt.Errorf("%w: others than root may write %s: chmod go-w %s", ErrProgram, name, name)
		case name == path && st.Mode&0o111 == 0:
			return "", fmt.Errorf("%w: %s cannot be executed: chmod +x %s", ErrProgram, name, name)
		}
	}
	return path, nil
}

// Probe implements Prober.
func (p Program) Probe(ctx context.Context, t Target) error {
	path, err := p.Fit()
	if err != nil {
		return err
	}
	this := run{p.Name, t}
	if since := p.held.since(this); !since.IsZero() {
		return fmt.Errorf("%w: a run of %s ago cannot be killed (state D: it waits for a disk or a network file system)", ErrBad, time.Since(since).Round(time.Second))
	}
	out := &head{}
	cmd := exec.Command(path)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, out, out
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTMESH_ADDR=" + t.Addr.String(), "HOSTMESH_PORT=" + strconv.Itoa(int(t.Port)), "HOSTMESH_PROTO=" + t.Proto,
		"HOSTMESH_HOST=" + t.Host, "HOSTMESH_TAG=" + t.Tag, "HOSTMESH_VIP=" + t.VIP.String(),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A process that left the group may hold the pipe; the answer does not wait for it.
	cmd.WaitDelay = 100 * time.Millisecond
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: start %s: %w", ErrProgram, path, err)
	}
	pid := cmd.Process.Pid
	ended := make(chan struct{})
	gone := awaitZombie
	if p.held != nil && p.held.gone != nil {
		gone = p.held.gone
	}
	go func() {
		gone(pid)
		close(ended)
	}()
	late := false
	select {
	case <-ended:
	case <-ctx.Done():
		late = true
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // with all that it started
	select {
	case <-ended:
	case <-time.After(killTime):
		reaped := make(chan struct{})
		p.held.note(this, reaped)
		go func() {
			defer close(reaped)
			<-ended
			_ = cmd.Wait() // it is only reaped
		}()
		return fmt.Errorf("%w: no answer in time, and it cannot be killed (state D: it waits for a disk or a network file system)", ErrBad)
	}
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	var exit *exec.ExitError
	switch {
	case late:
		return errors.New("no answer in time; it was killed")
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("%w: %s: %s", ErrBad, exit.ProcessState, out.line())
	}
	return fmt.Errorf("%w: run %s: %w", ErrProgram, path, err)
}

// awaitZombie waits until a child has ended. That is seen but not taken: as long as the program is a zombie, its group's number is nobody else's.
func awaitZombie(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// head keeps the beginning of what is written to it.
type head struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer, and takes everything.
func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, b[:min(len(b), outputMax-len(h.b))]...)
	return len(b), nil
}

func (h *head) line() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, _, _ := bytes.Cut(bytes.TrimSpace(h.b), []byte("\n"))
	if len(first) == 0 {
		return "it printed nothing"
	}
	return printable(string(first))
}

// Types makes probers by the names that HostDB uses: tcp, http, dns, mysql, and else a program in dir.
func Types(dir string) func(kind string) Prober {
	all := &held{runs: map[run]time.Time{}}
	return func(kind string) Prober {
		switch kind {
		case "tcp":
			return TCP{}
		case "http":
			return HTTP{}
		case "dns":
			return DNS{}
		case "mysql":
			return MySQL{}
		}
		return Program{Dir: dir, Name: kind, held: all}
	}
}
