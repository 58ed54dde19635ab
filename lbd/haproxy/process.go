package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one HAProxy. Its fields do not change.
type process struct {
	cmd    *exec.Cmd
	pid    int
	socket string
	began  time.Time
	done   chan struct{} // closed when it is gone
	said   *tail
}

// tail keeps the end of what a program says, and tells the log each line.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	line []byte
	log  *slog.Logger
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailSize:]...)
	}
	t.line = append(t.line, p...)
	for {
		line, rest, found := bytes.Cut(t.line, []byte("\n"))
		if !found {
			break
		}
		t.line = rest
		if text := strings.TrimSpace(string(line)); text != "" {
			level := slog.LevelDebug
			if strings.HasPrefix(text, "[ALERT]") {
				level = slog.LevelWarn
			}
			t.log.Log(context.Background(), level, "haproxy says", "text", short(text))
		}
	}
	if len(t.line) > tailSize {
		t.line = nil
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// alerts are the reasons among what HAProxy said, on one line: its alerts, or all where there is none.
func alerts(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "[ALERT]"); ok {
			if _, reason, ok := strings.Cut(rest, " : "); ok {
				rest = reason
			}
			rest = strings.TrimSpace(rest)
			if !strings.Contains(rest, "Fatal errors found in configuration") && !strings.Contains(rest, "Error(s) found in configuration file") {
				out = append(out, rest)
			}
		}
	}
	if len(out) == 0 {
		return short(text)
	}
	return short(strings.Join(out, "; "))
}

// tryFile asks haproxy -c about a file.
func (b *Balancer) tryFile(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, *b.program.Load(), "-c", "-f", file)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("haproxy -c: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("haproxy -c: %w", err)
	}
	return fmt.Errorf("%w: %s", ErrRefused, alerts(said.String()))
}

// startTime bounds a start: reading a file of many thousand servers takes a second or two on a busy box.
const startTime = 30 * time.Second

// start runs a file that names the socket, and returns when the process answers there. old, if there is one, hands its listening
// sockets over and is told to finish, by the new process itself, once that is ready; where start fails, old was told nothing.
func (b *Balancer) start(ctx context.Context, file, socket string, old *process) (*process, error) {
	args := []string{"-db", "-f", file}
	if old != nil {
		args = append(args, "-x", old.socket, "-sf", strconv.Itoa(old.pid))
	}
	p := &process{cmd: exec.Command(*b.program.Load(), args...), socket: socket, began: b.cfg.Clock.Now(), done: make(chan struct{}), said: &tail{log: b.log}}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"} // the agent's may hold secrets
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to the agent's group, as by ^C, is the agent's to handle
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.cmd.Path, err)
	}
	p.pid = p.cmd.Process.Pid
	go func() {
		p.cmd.Wait() // why is in what it said
		close(p.done)
		b.poke()
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if pid, err := pidOf(ctx, socket); err == nil && pid == p.pid {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%w to start: %s", ErrRefused, alerts(p.said.String()))
		case <-ctx.Done():
			p.end(time.Second)
			return nil, fmt.Errorf("haproxy does not answer at its socket: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// alive reports whether it runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end ends it at once: connections are cut. It returns when it is gone.
func (p *process) end(patience time.Duration) {
	if !p.alive() {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it is gone
	select {
	case <-p.done:
		return
	case <-time.After(patience):
	}
	p.cmd.Process.Kill()
	<-p.done
}

// endStale ends what a killed agent left: processes of ours whose file is in our directory. It returns how many.
func endStale(ctx context.Context, dir string, users []int, log *slog.Logger) (int, error) {
	found := 0
	for _, pid := range ownProcesses(dir, users) {
		found++
		log.Warn("a haproxy of an agent that was killed is ended", "pid", pid)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return found, fmt.Errorf("end haproxy of an agent before, process %d: %w", pid, err)
		}
	}
	if found == 0 {
		return 0, nil
	}
	patience := time.Now().Add(2 * time.Second)
	for {
		left := ownProcesses(dir, users)
		if len(left) == 0 {
			return found, nil
		}
		if time.Now().After(patience) {
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL) // it is gone, or goes
			}
		}
		if time.Now().After(patience.Add(5 * time.Second)) {
			return found, fmt.Errorf("haproxy of an agent before, process %d, does not end: end it by hand", left[0])
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ownProcesses are those that run a file of dir, as one of users, out of a program named haproxy. Their number alone would say
// nothing: numbers are used again.
func ownProcesses(dir string, users []int) []int {
	var out []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // gone
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if len(args) < 4 || args[1] != "-db" || args[2] != "-f" || filepath.Dir(args[3]) != dir {
			continue
		}
		info, err := os.Stat(filepath.Join("/proc", e.Name()))
		if err != nil {
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil {
			continue // a zombie, or somebody else's
		}
		name := strings.TrimSuffix(filepath.Base(exe), " (deleted)")
		for _, uid := range users {
			if int(stat.Uid) == uid && strings.HasPrefix(name, "haproxy") {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}
