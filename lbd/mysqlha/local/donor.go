package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"hostmesh/lbd/mysqlha"
)

// pieceSize is how much one answer of a donor holds at most: well below what the mesh carries.
const pieceSize = 2 << 20

// piecesAhead is how many a donor reads before they are asked for: one is on its way while the next is read.
const piecesAhead = 2

// donorIdle is how long a donor waits for whoever takes its copy: a disk that is busy pauses for seconds.
const donorIdle = time.Minute

// donor gives copies of the servers of this host, one at a time.
type donor struct {
	h *Host

	beginning sync.Mutex // held while one begins, which takes a while

	mu      sync.Mutex // guards session; never held for long
	session *donation
}

func (d *donor) current() *donation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session
}

// donation is a copy that is being given.
type donation struct {
	id     string
	method string
	total  int64
	order  mysqlha.Order
	s      *server
	cancel context.CancelFunc
	pieces chan []byte   // closed at the end
	exited chan struct{} // closed when the program has ended
	over   chan struct{} // closed when all is over, and err is set
	err    error

	mu     sync.Mutex // guards the fields below
	offset int64      // of held
	held   []byte     // given last, which may be asked for again
	asked  time.Time
}

// run ends copies that nobody takes any more.
func (d *donor) run(ctx context.Context) {
	d.h.wg.Go(func() {
		d.h.clear()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				d.close()
				return
			case <-tick.C:
			}
			x := d.current()
			if x != nil && x.idle() > donorIdle {
				d.h.cfg.Logger.Warn("copy of a database server is not taken any more", "tag", x.s.tag)
				d.end(x)
			}
		}
	})
}

func (x *donation) idle() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Since(x.asked)
}

func (d *donor) close() {
	d.beginning.Lock()
	defer d.beginning.Unlock()
	if x := d.current(); x != nil {
		d.end(x)
	}
}

// programEnds is how long a cut waits for a program that was killed.
const programEnds = 300 * time.Millisecond

// deposed ends a copy of a server that was begun before an epoch, and returns when its program has ended: that stops and starts what applies. Between another's look at the threads and its stopping the
// one that receives it would have both stopped, and what is started then drops what was received.
func (d *donor) deposed(ctx context.Context, s *server, epoch uint64) error {
	x := d.current()
	if x == nil || x.s.tag != s.tag || x.order.Epoch >= epoch {
		return nil
	}
	x.cancel()
	ctx, cancel := context.WithTimeout(ctx, programEnds)
	defer cancel()
	select {
	case <-x.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s, which makes a copy of the server, was killed and has not ended yet: %w", x.method, ctx.Err())
	}
}

// end ends a donation, and waits until that is done.
func (d *donor) end(x *donation) {
	x.cancel()
	<-x.over
	d.mu.Lock()
	if d.session == x {
		d.session = nil
	}
	d.mu.Unlock()
}

// begin begins a copy.
func (d *donor) begin(o mysqlha.Order, methods []string) (*donation, error) {
	s, err := d.h.of(o.Tag)
	if err != nil {
		return nil, err
	}
	s.orders.Lock()
	err = s.store.order(o, nil)
	s.orders.Unlock()
	switch {
	case err != nil:
		return nil, err
	case s.running() == nil:
		return nil, fmt.Errorf("%w: the server of this host does not run: clone from another", ErrNotServing)
	case s.clone.busy():
		return nil, fmt.Errorf("%w of its own: clone from another", ErrBusy)
	}
	if st, _ := s.store.get(); st.Copy != nil {
		return nil, fmt.Errorf("%w: the server of this host is itself a copy of %s that nobody has found right: clone from another", ErrUnverified, st.Copy.From)
	}
	d.beginning.Lock()
	defer d.beginning.Unlock()
	if x := d.current(); x != nil {
		if !isClosed(x.over) && (x.s != s || x.order.Fence >= o.Fence && x.idle() < 5*time.Second) {
			return nil, fmt.Errorf("%w: of its server, to another host: try again when that is done", ErrBusy)
		}
		x.cancel() // by an agent that was overtaken, or has gone
		<-x.over
	}
	x, err := d.h.donate(s, o, methods)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.session = x
	d.mu.Unlock()
	// Whoever was here meanwhile under a later epoch has found none that it could have ended.
	if err := s.store.admit(o); err != nil {
		d.end(x)
		return nil, err
	}
	return x, nil
}

// donate starts the program that makes the copy.
func (h *Host) donate(s *server, o mysqlha.Order, methods []string) (*donation, error) {
	m := s.get()
	private, err := os.MkdirTemp(h.cfg.Dir, "copy-") // 0700
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &donation{
		id: newID(), total: dataSize(m.Server.Datadir), order: o, s: s, cancel: cancel, asked: time.Now(),
		pieces: make(chan []byte, piecesAhead), exited: make(chan struct{}), over: make(chan struct{}),
	}
	cmd, sign, err := h.copyCommand(ctx, m, private, methods, x)
	var said end
	var out io.ReadCloser
	if err == nil {
		cmd.Stderr = &said
		if out, err = cmd.StdoutPipe(); err == nil {
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			_ = s.store.note(func(st *state) { st.Donates = true }) // an error is that of a disk which keeps nothing else either
			s.poke()
			err = cmd.Start()
		}
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(private))
	}
	h.cfg.Logger.Info("copy of a database server is given", "tag", s.tag, "method", x.method, "bytes", x.total)
	go func() {
		defer close(x.over)
		defer os.RemoveAll(private)
		x.err = x.read(ctx, out)
		if x.err != nil {
			cancel()
		}
		err := cmd.Wait()
		close(x.exited)
		switch {
		case x.err != nil && ctx.Err() == nil:
		case err != nil:
			x.err = fmt.Errorf("%s: %w: %s", x.method, err, telling(said.String()))
		case sign != "" && !strings.Contains(said.String(), sign):
			x.err = fmt.Errorf("%s did not say %q: %s", x.method, sign, telling(said.String()))
		}
		close(x.pieces)
		if x.err != nil {
			h.counts.copyErrors.Add(1)
			h.cfg.Logger.Warn("copy of a database server ended early", "tag", s.tag, "err", x.err)
		} else {
			h.counts.copies.Add(1)
		}
		s.resumeSQL(x.err != nil)
	}()
	return x, nil
}

// read reads the program's output into pieces.
func (x *donation) read(ctx context.Context, out io.Reader) error {
	for {
		piece := make([]byte, pieceSize)
		n, err := io.ReadFull(out, piece)
		if n > 0 {
			select {
			case x.pieces <- piece[:n]:
				x.s.h.counts.given.Add(uint64(n))
			case <-ctx.Done():
				return fmt.Errorf("nobody takes it: %w", ctx.Err())
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// copyCommand is the program that makes a copy, and what it says at the end when it did all.
func (h *Host) copyCommand(ctx context.Context, m Member, private string, methods []string, x *donation) (*exec.Cmd, string, error) {
	backup, err := h.program(programBackup)
	if err == nil && slices.Contains(methods, MethodBackup) {
		defaults, err := secretFile(private, m, "mariadb-backup")
		if err != nil {
			return nil, "", err
		}
		x.method = MethodBackup
		return h.gently(ctx, backup, append(defaults, "--backup", "--stream=xbstream", "--slave-info", "--safe-slave-backup", "--safe-slave-backup-timeout=60",
			"--target-dir="+private, "--datadir="+m.Server.Datadir)...), completed, nil
	}
	dump, err2 := h.program(programDump)
	if err2 == nil && slices.Contains(methods, MethodDump) {
		defaults, err := secretFile(private, m, "client")
		if err != nil {
			return nil, "", err
		}
		h.cfg.Logger.Warn("copy of a database server by mariadb-dump, which takes many times longer: install mariadb-backup on both hosts", "tag", m.Tag)
		x.method = MethodDump
		return h.gently(ctx, dump, append(defaults, "--all-databases", "--single-transaction", "--quick", "--gtid", "--master-data=2", "--routines", "--events", "--triggers", "--hex-blob",
			"--flush-privileges")...), "", nil
	}
	return nil, "", fmt.Errorf("%w: no program for a copy that the other host can take in (%q): %w", ErrClone, methods, errors.Join(err, err2))
}

// secretFile has the account and the socket in a file that only the agent reads, and returns the arguments that name it.
func secretFile(private string, m Member, group string) ([]string, error) {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`)
	var text strings.Builder
	option := "--defaults-extra-file="
	if config := defaultsOf(m.Server.Start); config != "" {
		// An extra file counts only beside those of the system.
		fmt.Fprintf(&text, "!include %s\n", config)
		option = "--defaults-file="
	}
	fmt.Fprintf(&text, "[%s]\nuser=\"%s\"\npassword=\"%s\"\n", group, quote.Replace(m.Backup.User), quote.Replace(m.Backup.Password.Reveal()))
	if m.Server.Socket != "" {
		fmt.Fprintf(&text, "socket=\"%s\"\n", quote.Replace(m.Server.Socket))
	} else {
		fmt.Fprintf(&text, "host=127.0.0.1\nport=%d\n", m.Server.Port)
	}
	path := filepath.Join(private, "account.cnf")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return []string{option + path}, nil
}

// dataSize is about how much the data of a server is, without what a copy does not have: its binary and relay logs.
func dataSize(datadir string) int64 {
	sum := used(datadir)
	logs, _ := filepath.Glob(filepath.Join(datadir, "*.[0-9][0-9][0-9][0-9][0-9][0-9]"))
	for _, path := range logs {
		sum -= used(path)
	}
	return max(sum, 0)
}

// clear removes what copies have left that were given when an agent before this one ended.
func (h *Host) clear() {
	if left, err := filepath.Glob(filepath.Join(h.cfg.Dir, "copy-*")); err == nil {
		for _, dir := range left {
			_ = os.RemoveAll(dir) // it has a password, and is the agent's alone
		}
	}
}

// resume has a server apply again whose copy was given when an agent before this one ended, and take note that none is.
func (s *server) resume() {
	d := &s.h.donor
	d.beginning.Lock()
	x := d.current()
	gives := x != nil && x.s.tag == s.tag
	d.beginning.Unlock()
	if st, err := s.store.get(); err == nil && st.Donates && !gives {
		s.resumeSQL(true)
	}
}

// resumeSQL has a replica apply again whose thread the program of a copy has stopped, and not started.
func (s *server) resumeSQL(broken bool) {
	m := s.get()
	if broken && m.SQL != nil && s.running() != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		f, err := m.SQL.Observe(ctx)
		if err == nil && f.Replica != nil && !f.Replica.SQL && f.Replica.SQLErrno == 0 {
			err = m.SQL.StartSQL(ctx)
		}
		cancel()
		if err != nil {
			s.h.cfg.Logger.Error("a replica may not apply any more, for a copy of it ended early: look at hostmesh mysql status", "tag", s.tag, "err", err)
		}
	}
	_ = s.store.note(func(st *state) { st.Donates = false }) // tried again with the next write
	s.poke()
}
