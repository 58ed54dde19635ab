package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
)

// Donors give copies of the servers of other hosts.
type Donors interface {
	// OpenDonor begins a copy of the server on a host. methods are those that the caller can unpack, the best first.
	OpenDonor(ctx context.Context, host string, o mysqlha.Order, methods []string) (Copy, error)
}

// Copy is the stream of a copy. Read returns io.EOF only when the donor has said that the copy is complete. Close ends what the donor does.
type Copy interface {
	io.ReadCloser
	// Method is how it was made, Total an estimate of its bytes, of which the data will need about as many.
	Method() string
	Total() int64
}

// The ways to make a copy.
const (
	MethodBackup = "backup" // mariadb-backup, as a stream of mbstream
	MethodDump   = "dump"   // mariadb-dump, as text
)

// journal is a clone that has not ended. It is written before each step that a next start has to know of.
type journal struct {
	ID    string        `json:"id"` // also in the new data
	From  string        `json:"from"`
	Order mysqlha.Order `json:"order"`
	// Runs says that the server ran before: where the clone fails it runs again.
	Runs bool `json:"runs,omitempty"`
	// Was is what was known of the former data.
	Was *mysqlha.Unverified `json:"was,omitempty"`
}

// The steps of a clone, as CloneProgress names them.
const (
	stepBackup  = "backup"
	stepPrepare = "prepare"
	stepMove    = "move"
	stepStart   = "start"
)

// Points at which tests end an agent.
const (
	pointStopped = "stopped"
	pointFilled  = "filled"
	pointReady   = "ready"
	pointSwapped = "swapped"
	pointStarted = "started"
	pointServed  = "served"
)

func (s *server) point(at string) {
	if s.h.cfg.point != nil {
		s.h.cfg.point(at)
	}
}

// cloning are the clones to one server: one at a time.
type cloning struct {
	s *server

	mu  sync.Mutex // guards the fields below
	run *cloneRun  // the last one; nil = there was none
	// resumed is when it was last tried to end one that was interrupted.
	resumed time.Time
	wg      sync.WaitGroup
}

// cloneRun is one clone.
type cloneRun struct {
	from   string
	order  mysqlha.Order
	cancel context.CancelCauseFunc
	done   chan struct{}

	mu       sync.Mutex // guards progress
	progress mysqlha.CloneProgress

	told atomic.Bool // that it has ended, to somebody

	// Of whoever waited for done.
	position string
	err      error
	ended    time.Time
}

// resultKept is how long the end of a clone is told to whoever asks for the same: an agent that asks for progress may be replaced by another, and an answer may be lost.
const resultKept = 30 * time.Second

// joins reports whether an order for a clone is about this one. Whoever was told of its end asks for another one, unless it succeeded and the order is the very same: then the
// answer was lost.
func (r *cloneRun) joins(o mysqlha.Order, from string) bool {
	switch {
	case r.from != from:
		return false
	case !isClosed(r.done):
		return true
	}
	return time.Since(r.ended) < resultKept && (!r.told.Load() || r.err == nil && o.Seq != 0 && o == r.order)
}

func (r *cloneRun) at(step string, n, total int64) {
	r.mu.Lock()
	r.progress = mysqlha.CloneProgress{Step: step, Bytes: n, Total: total}
	r.mu.Unlock()
}

func (r *cloneRun) far() mysqlha.CloneProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress
}

// busy reports whether a clone goes on.
func (c *cloning) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run != nil && !isClosed(c.run.done)
}

// stop ends a clone, which rolls back in the background. why is what it ends with.
func (c *cloning) stop(why error) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r != nil {
		r.cancel(why)
	}
}

// cloneReport is how often a caller hears of progress.
const cloneReport = 250 * time.Millisecond

// cloneFrom begins a clone, or joins one, and waits for it. When ctx ends the clone goes on: whoever asks again joins.
func (s *server) cloneFrom(ctx context.Context, o mysqlha.Order, from string, progress func(mysqlha.CloneProgress)) (string, error) {
	r, err := s.clone.begin(o, from)
	if err != nil {
		return "", err
	}
	tick := time.NewTicker(cloneReport)
	defer tick.Stop()
	for {
		if progress != nil {
			progress(r.far())
		}
		select {
		case <-r.done:
			r.told.Store(true)
			return r.position, r.err
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *cloning) begin(o mysqlha.Order, from string) (*cloneRun, error) {
	s := c.s
	s.orders.Lock()
	defer s.orders.Unlock()
	if err := s.admitRun(o); err != nil {
		return nil, err
	}
	if s.h.cfg.Donors == nil {
		return nil, fmt.Errorf("%w: this agent reaches no other", ErrClone)
	}
	m := s.get()
	if from == m.Host {
		return nil, fmt.Errorf("%w: a server is no copy of itself: name another host", ErrClone)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.run; r != nil {
		if r.joins(o, from) {
			return r, nil
		}
		if !isClosed(r.done) {
			return nil, fmt.Errorf("%w: from %s: hostmesh mysql status tells how far it is", ErrBusy, r.from)
		}
	}
	// A further one would have its own journal, and remove the former data.
	if st, _ := s.store.get(); st.Clone != nil {
		return nil, interrupted(*st.Clone)
	}
	return c.spawn(o, from, func(ctx context.Context, r *cloneRun) (string, error) { return s.makeClone(ctx, r) })
}

// spawn begins one; c.mu is held.
func (c *cloning) spawn(o mysqlha.Order, from string, make func(context.Context, *cloneRun) (string, error)) (*cloneRun, error) {
	if isClosed(c.s.stopped) {
		return nil, ErrClosed
	}
	select {
	case c.s.h.cloner <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w, of another cluster: try again when it is done", ErrBusy)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &cloneRun{from: from, order: o, cancel: cancel, done: closing()}
	r.progress.Step = stepBackup
	c.run = r
	c.wg.Go(func() {
		defer func() {
			cancel(nil)
			<-c.s.h.cloner
			r.ended = time.Now()
			close(r.done)
			c.s.poke()
		}()
		began := c.s.h.cfg.Clock.Now()
		r.position, r.err = make(ctx, r)
		args := []any{"tag", c.s.tag, "from", from, "took", c.s.h.cfg.Clock.Now().Sub(began)}
		if r.err != nil {
			c.s.h.counts.cloneErrors.Add(1)
			c.s.h.cfg.Logger.Error("clone of a database server failed", append(args, "err", r.err)...)
			return
		}
		c.s.h.counts.clones.Add(1)
		c.s.h.cfg.Logger.Info("database server is a clone", append(args, "position", r.position)...)
	})
	return r, nil
}

func closing() chan struct{} { return make(chan struct{}) }

// cause adds why ctx ended, when it has, to what failed.
func cause(ctx context.Context, err error) error {
	switch why := context.Cause(ctx); {
	case why == nil || errors.Is(err, why):
		return err
	case errors.Is(err, context.Canceled):
		return why
	default:
		return fmt.Errorf("%w: %w", why, err)
	}
}

// endTime is how long a server may take to end in order before it is killed: its data goes away, and is recovered where it stays.
const endTime = 2 * time.Minute

// makeClone makes the clone, or has everything as it was.
func (s *server) makeClone(ctx context.Context, r *cloneRun) (position string, err error) {
	m := s.get()
	d := dirsOf(m.Server.Datadir)
	if err := d.check(); err != nil {
		return "", err
	}
	if err := s.refuseOutside(ctx, d); err != nil {
		return "", err
	}
	if err := s.refuseWritable(ctx); err != nil {
		return "", err
	}
	methods, err := s.h.methods()
	if err != nil {
		return "", err
	}
	cp, err := s.h.cfg.Donors.OpenDonor(ctx, r.from, r.order, methods)
	if err != nil {
		return "", fmt.Errorf("%w: %s gives no copy: %w", ErrClone, r.from, cause(ctx, err))
	}
	defer cp.Close()
	r.at(stepBackup, 0, cp.Total())
	if err := d.space(cp.Total()); err != nil {
		return "", err
	}
	j := journal{ID: newID(), From: r.from, Order: r.order, Runs: s.running() != nil}
	if err := s.store.order(r.order, func(st *state) {
		j.Was = st.Copy
		// From here on, whatever ends here: the data count only when somebody has compared them.
		st.Clone, st.Copy = &j, &mysqlha.Unverified{From: r.from}
	}); err != nil {
		return "", err
	}
	s.poke()
	if err = s.endFor(ctx, r); err == nil {
		s.point(pointStopped)
		position, err = s.fill(ctx, r, d, cp, j)
	}
	if err == nil {
		s.point(pointReady)
		err = s.move(ctx, r, d)
	}
	if err == nil {
		s.point(pointServed)
	} else {
		err = fmt.Errorf("%w: %w", ErrClone, cause(ctx, err))
		s.back(d, j)
		return "", err
	}
	s.finish(d)
	return position, nil
}

func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// refuseWritable refuses to replace a server that takes writes. One that runs and cannot be asked is no replica that anybody misses.
func (s *server) refuseWritable(ctx context.Context) error {
	m := s.get()
	if m.SQL == nil || s.running() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	f, err := m.SQL.Observe(ctx)
	if err == nil && !f.ReadOnly {
		return fmt.Errorf("%w: it is not replaced: hostmesh mysql switchover makes another one the primary", ErrWritable)
	}
	return nil
}

// endFor ends the server for a clone.
func (s *server) endFor(ctx context.Context, r *cloneRun) error {
	s.orders.Lock()
	err := s.store.order(r.order, func(st *state) {
		if st.Ended == "" {
			st.Ended = "it is replaced by a clone"
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	p := s.running()
	if err == nil && p != nil {
		err = p.signal(unix.SIGTERM)
	}
	s.orders.Unlock()
	if err != nil || p == nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	if s.wait(patient, p) == nil {
		return nil
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	return s.wait(ctx, p)
}

// fill makes the new data, beside the old.
func (s *server) fill(ctx context.Context, r *cloneRun, d dirs, cp Copy, j journal) (string, error) {
	m := s.get()
	if err := d.begin(); err != nil {
		return "", err
	}
	disk := &steady{dir: d.fresh}
	counted := &counter{from: cp, told: func(all int64, n int) error {
		r.at(stepBackup, all, cp.Total())
		s.h.counts.received.Add(uint64(n))
		return disk.wrote(n)
	}}
	var position string
	var err error
	switch cp.Method() {
	case MethodBackup:
		if err = s.h.unpack(ctx, d.fresh, counted); err == nil {
			err = refuseLinks(d.fresh) // preparing them would write to where they lead
		}
		if err == nil {
			r.at(stepPrepare, 0, 0)
			position, err = s.h.prepare(ctx, d.fresh)
		}
	case MethodDump:
		position, err = s.h.restoreDump(ctx, m, d.fresh, counted)
	default:
		err = fmt.Errorf("the donor made the copy by %q, which this build does not know", cp.Method())
	}
	if err != nil {
		return "", err
	}
	s.point(pointFilled)
	r.at(stepMove, 0, 0)
	return position, d.complete(j.ID, position, m.Server.User)
}

// move has the new data in place, and the server serve it.
func (s *server) move(ctx context.Context, r *cloneRun, d dirs) error {
	swapped := false
	l, err := s.retried(ctx, func() (*launch, error) {
		switch {
		case isClosed(s.stopped):
			return nil, ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		if err := s.store.admit(r.order); err != nil {
			return nil, err
		}
		if !swapped {
			if s.running() != nil {
				return nil, errors.New("somebody started the server meanwhile: let nothing else than the agent start it")
			}
			if err := d.swap(); err != nil {
				return nil, err
			}
			swapped = true
			r.at(stepStart, 0, 0)
			s.point(pointSwapped)
		}
		return s.startAs(ctx, r.order, mysqlha.AsReplica, d.arguments())
	})
	if err != nil {
		return err
	}
	s.point(pointStarted)
	return s.confirm(ctx, l, d)
}

// confirmTime is how long a new copy may not answer a question: it has no clients yet.
const confirmTime = time.Minute

// confirm waits until the new data is served, at its position.
func (s *server) confirm(ctx context.Context, l *launch, d dirs) error {
	ctx, cancel := context.WithTimeout(ctx, s.h.cfg.StartTime)
	defer cancel()
	if err := s.serve(ctx, l); err != nil {
		return err
	}
	m := s.get()
	want, err := d.position()
	if err != nil || m.SQL == nil || want == "" {
		return err
	}
	ctx, cancel2 := context.WithTimeout(ctx, confirmTime)
	defer cancel2()
	for {
		f, err := m.SQL.Observe(ctx)
		switch {
		case err == nil && samePosition(f.Current, want):
			return nil
		case err == nil:
			return fmt.Errorf("the copy is at %s, and the server says %s: where its binary log lies outside of the datadir, remove the old one", want, f.Current)
		case errors.Is(err, mysqlha.ErrDenied):
			return fmt.Errorf("the copy does not know our account: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the copy cannot be asked: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// finish forgets the old data.
func (s *server) finish(d dirs) {
	if isClosed(s.stopped) {
		return // the next start finds it done
	}
	if err := s.store.note(func(st *state) { st.Clone = nil }); err != nil {
		s.h.cfg.Logger.Warn("that a clone is done cannot be written down", "tag", s.tag, "err", err)
		return // the next start finds it done
	}
	d.forget()
	if err := d.removeFresh(); err != nil {
		s.h.cfg.Logger.Warn("the former data of a database server is not removed", "tag", s.tag, "dir", d.fresh, "err", err)
	}
}

// counter tells how much was read.
type counter struct {
	from io.Reader
	n    int64
	told func(all int64, n int) error // an error ends the reading
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	if stop := c.told(c.n, n); stop != nil {
		return n, stop
	}
	return n, err
}

// dirs are the datadir, and the new one beside it. After swap fresh has the old data.
type dirs struct{ data, fresh, third string }

func dirsOf(datadir string) dirs {
	data := filepath.Clean(datadir)
	return dirs{data: data, fresh: data + ".hostmesh-clone", third: data + ".hostmesh-swap"}
}

func (d dirs) file(name string) string { return filepath.Join(d.data, name) }

// Files of ours in the new data. Position is SQL, which the server runs at its first start.
const (
	markFile     = "hostmesh-clone"
	positionFile = "hostmesh-position.sql"
)

// swapped reports whether the new data of a clone is in place. That it cannot be told, as while the file system is not mounted, is an error: what would be removed as new may be the former data.
func (d dirs) swapped(id string) (bool, error) {
	_, err := os.Stat(d.data) // first: a mark that is not there says something of a directory that is
	var text []byte
	if err == nil {
		text, err = readFile(d.file(markFile), unix.O_NOFOLLOW)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("find out whether the new data is in place: %w", err)
	}
	return len(text) > len(id) && string(text[:len(id)]) == id, nil
}
