package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hostmesh/lbd/mysqlha"
)

// start starts the server, unless it runs.
func (s *server) start(ctx context.Context, o mysqlha.Order, as mysqlha.Role) error {
	if as != mysqlha.AsPrimary && as != mysqlha.AsReplica {
		return fmt.Errorf("role %q is neither %s nor %s", as, mysqlha.AsPrimary, mysqlha.AsReplica)
	}
	ctx, cancel := context.WithTimeout(ctx, s.h.cfg.StartTime)
	defer cancel()
	l, err := s.retried(ctx, func() (*launch, error) { return s.startLocked(ctx, o, as) })
	if err != nil {
		return err
	}
	return s.serve(ctx, l)
}

func (s *server) startLocked(ctx context.Context, o mysqlha.Order, as mysqlha.Role) (*launch, error) {
	if err := s.admitRun(o); err != nil {
		return nil, err
	}
	st, _ := s.store.get()
	// A later epoch: the change for which it was killed was taken back, and nobody else was promoted.
	if as == mysqlha.AsPrimary && st.Marked != "" && o.Epoch <= st.MarkedAt {
		return nil, fmt.Errorf("%w: %s: hostmesh mysql rejoin makes it a replica", mysqlha.ErrMarked, st.Marked)
	}
	if err := s.clone.ended(); err != nil {
		return nil, fmt.Errorf("the server starts when its data are there: %w", err)
	}
	return s.startAs(ctx, o, as, nil)
}

// startAs is what start does for whoever has the lock of orders. extra are arguments for this start alone.
func (s *server) startAs(ctx context.Context, o mysqlha.Order, as mysqlha.Role, extra []string) (*launch, error) {
	st, _ := s.store.get()
	p := s.running()
	if p == nil {
		if found, err := s.look(true); err == nil {
			s.adopt(found)
			p = s.running()
		} else if !errors.Is(err, errNoProcess) {
			return nil, err
		}
	}
	if p != nil && st.Marked != "" {
		// It was fenced, and the kill was lost: what it has must not become reachable again.
		if err := p.signal(syscall.SIGKILL); err != nil {
			return nil, fmt.Errorf("kill process %d: %w", p.pid, err)
		}
		if err := s.wait(ctx, p); err != nil {
			return nil, err
		}
		p = nil
	}
	open := func(st *state) {
		st.Marked, st.MarkedAt, st.Ended, st.Shut = "", 0, "", false
		if p == nil {
			st.Role = as
		}
	}
	if err := s.store.order(o, open); err != nil {
		return nil, err
	}
	st, _ = s.store.get()
	if err := s.applyRules(st); err != nil {
		return nil, err
	}
	if p != nil {
		return &launch{}, nil
	}
	l, err := s.launch(as, extra)
	if err == nil {
		s.mu.Lock()
		s.started = started{pid: l.pid, as: as, epoch: o.Epoch}
		s.mu.Unlock()
	}
	return l, err
}

// retried does f with the lock of orders until nothing of a start before is in its way. A kill is not kept waiting.
func (s *server) retried(ctx context.Context, f func() (*launch, error)) (*launch, error) {
	for {
		s.orders.Lock()
		l, err := f()
		s.orders.Unlock()
		if !errors.Is(err, errStarting) || ctx.Err() != nil {
			return l, err
		}
		select {
		case <-time.After(startAgain):
		case <-ctx.Done():
		}
	}
}

// roleArguments are what is appended to the command of the file of credentials. They come last, so that no file can say otherwise.
func roleArguments(as mysqlha.Role) []string {
	role := "SLAVE"
	if as == mysqlha.AsPrimary {
		role = "MASTER"
	}
	return []string{"--init-rpl-role=" + role, "--read-only=1", "--skip-slave-start"}
}

// launch is a start whose process may not be known yet. The zero launch is of a process that ran before.
type launch struct {
	exited <-chan error // of the command; nil for the zero launch
	pid    int          // of the command, which is the server, unless that hands over to systemd or the like
	began  bool
	logs   []logMark
}

// launch runs the command, in a session of its own: it outlives this process.
func (s *server) launch(as mysqlha.Role, extra []string) (*launch, error) {
	if isClosed(s.stopped) {
		return nil, ErrClosed
	}
	if s.departing() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotServing, errStarting)
	}
	lock, err := s.startLock()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotServing, err)
	}
	defer lock.Close()
	m := s.get()
	args := slices.Concat(m.Server.Start, roleArguments(as), extra)
	own := filepath.Join(s.h.cfg.Dir, url.PathEscape(s.tag)+".log")
	out, err := os.OpenFile(own, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of a start: %w", err)
	}
	defer out.Close()
	l := &launch{logs: []logMark{markLog(own), markLog(m.Server.Log)}, began: true}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} // the agent's may hold secrets
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{lock}
	if cmd.SysProcAttr.Credential, err = credentialOf(m.Server.User, args[0]); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotServing, args[0], err)
	}
	s.h.counts.starts.Add(1)
	s.h.cfg.Logger.Info("database server starts", "tag", s.tag, "role", string(as), "pid", cmd.Process.Pid)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // which also reaps it, whenever it ends
	l.exited, l.pid = exited, cmd.Process.Pid
	return l, nil
}

// credentialOf is that of the user whom the server runs as; nil = the agent's own. systemd-run itself must be run by root.
func credentialOf(name, program string) (*syscall.Credential, error) {
	if name == "" || filepath.Base(program) == "systemd-run" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user of the server: %w: name another as server.user in the file of credentials", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	if int(uid) == os.Geteuid() {
		return nil, nil
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of the user of the server: %w", err)
	}
	for _, g := range groups {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(id))
		}
	}
	return c, nil
}

// handOver is how long a command that ended in order may take to have somebody else start the server.
const handOver = 15 * time.Second

// serve waits until the server serves. A process that is found on the way is watched from then on.
func (s *server) serve(ctx context.Context, l *launch) error {
	var late <-chan time.Time
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var p *process
	var refused error
	for n := 0; ; n++ {
		if p == nil {
			if p = s.running(); p == nil {
				if found, err := s.lookFor(l, n); err == nil {
					s.adopt(found)
					p = s.running()
				}
			}
		}
		if p != nil {
			s.found(l, p)
			if refused = s.greets(ctx); refused == nil {
				return nil
			}
		}
		var gone <-chan struct{}
		if p != nil {
			gone = p.gone
		}
		select {
		case <-gone:
			return fmt.Errorf("%w: process %d ended: %s", l.failure(), p.pid, l.tail())
		case err := <-l.exited:
			l.exited = nil
			if p != nil {
				continue // it is the process, or whoever started it
			}
			if err != nil {
				return fmt.Errorf("%w: its command: %w: %s", l.failure(), err, l.tail())
			}
			late = time.After(handOver)
		case <-late:
			if p == nil {
				return fmt.Errorf("%w: its command ended in order, and no process runs in %s after %s: %s", ErrNotServing, s.get().Server.Datadir, handOver, l.tail())
			}
			late = nil
		case <-s.stopped:
			return ErrClosed
		case <-ctx.Done():
			if p == nil {
				return fmt.Errorf("%w: no process runs in %s yet: %w: %s", ErrNotServing, s.get().Server.Datadir, ctx.Err(), l.tail())
			}
			return fmt.Errorf("%w: process %d runs, and does not answer yet (%w): %w: %s", ErrNotServing, p.pid, refused, ctx.Err(), l.tail())
		case <-tick.C:
		}
	}
}

// found takes note of the process of a launch.
func (s *server) found(l *launch, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.began && s.started.pid == l.pid && s.started.began == 0 {
		s.started.pid, s.started.began = p.pid, p.began
	}
}

// lookFor looks for the process of a launch, seldom through all processes.
func (s *server) lookFor(l *launch, n int) (*process, error) {
	m := s.get()
	if l.pid != 0 && runs(m.Server, l.pid) {
		return watch(m.Server, l.pid)
	}
	return s.look(n%40 == 39)
}

// greets reports that the server answers a new connection with its greeting, or with an error of its own: it accepts none before it has recovered.
func (s *server) greets(ctx context.Context) error {
	m := s.get()
	network, at := "unix", m.Server.Socket
	if at == "" {
		network, at = "tcp", fmt.Sprintf("127.0.0.1:%d", m.Server.Port)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, at)
	if err != nil {
		return err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(t)
	}
	var head [5]byte // length, number, and what it is
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if head[4] != 10 && head[4] != 0xff { // protocol version, or an error such as too many connections
		return fmt.Errorf("it speaks protocol %d", head[4])
	}
	return nil
}

// logMark is how long a log was before a start.
type logMark struct {
	path string
	size int64
}

func markLog(path string) logMark {
	m := logMark{path: path}
	if info, err := os.Stat(path); err == nil {
		m.size = info.Size()
	}
	return m
}

// tailRead is how much of a log is looked at, and shown at most.
const (
	tailRead  = 64 << 10
	tailLines = 6 // errors
	tailLast  = 2 // lines, where there are none
	tailShown = 1200
)

// tail is what the logs say since the start, on one line: errors, or else the last lines.
func (l *launch) tail() string {
	var text string
	for _, m := range l.logs {
		text += m.since()
	}
	if said := telling(text); said != "" {
		return "its log says: " + said
	}
	return "its log says nothing"
}

// unrecoverable is what MariaDB says that finds transactions which are prepared, and a binary log that was closed in order: one that cuts off the end of its log in a
// recovery, as a replica, marks it so before it has rolled back what it cut off.
const unrecoverable = "prepared transactions! It means that server was not shut down properly last time"

// failure is what became of a start whose process has ended.
func (l *launch) failure() error {
	for _, m := range l.logs {
		if strings.Contains(m.since(), unrecoverable) {
			return fmt.Errorf("%w: %w", ErrNotServing, mysqlha.ErrUnrecoverable)
		}
	}
	return ErrNotServing
}

func (m logMark) since() string {
	f, err := openFile(m.path, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := m.size
	if info.Size() < from {
		from = 0 // it was rotated
	}
	from = max(from, info.Size()-tailRead)
	text, _ := io.ReadAll(io.NewSectionReader(f, from, tailRead))
	return string(text)
}

// telling are the lines of a log that tell why something failed.
func telling(text string) string {
	var errs, all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		all = append(all, line)
		if strings.Contains(line, "[ERROR]") || strings.Contains(line, "error:") || strings.Contains(line, "Error:") || strings.Contains(line, "FATAL") || strings.Contains(line, "Error ") {
			errs = append(errs, line)
		}
	}
	if len(errs) == 0 {
		errs = all[max(0, len(all)-tailLast):]
	}
	said := strings.Join(errs[max(0, len(errs)-tailLines):], "; ")
	said = strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, said)
	if len(said) > tailShown {
		said = "…" + strings.ToValidUTF8(said[len(said)-tailShown:], "")
	}
	return said
}
