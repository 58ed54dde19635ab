package raftdisk

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// brokenFS is the real file system until it is broken.
type brokenFS struct {
	osFS
	err   atomic.Pointer[error]
	only  string // of files with this in their name
	calls atomic.Int64
}

type brokenFile struct {
	File
	fs   *brokenFS
	name string
}

func (b *brokenFS) breaks(err error) { b.err.Store(&err) }
func (b *brokenFS) mends()           { b.err.Store(nil) }

func (b *brokenFS) now(name string) error {
	if err := b.err.Load(); err != nil && strings.Contains(name, b.only) {
		b.calls.Add(1)
		return *err
	}
	return nil
}

func (b *brokenFS) Create(name string) (File, error) {
	if err := b.now(name); err != nil {
		return nil, err
	}
	f, err := b.osFS.Create(name)
	return brokenFile{f, b, name}, err
}

func (b *brokenFS) Open(name string) (File, error) {
	f, err := b.osFS.Open(name)
	if err != nil {
		return nil, err
	}
	return brokenFile{f, b, name}, nil
}

func (f brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.now(f.name); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f brokenFile) Sync() error {
	if err := f.fs.now(f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// soon waits for a condition.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it never came about: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestVoteWaits: a vote that cannot be written waits until it can, and names it; the log tells its error, and goes on.
func TestVoteWaits(t *testing.T) {
	t.Parallel()
	b := &brokenFS{}
	d := openAt(t, t.TempDir(), func(c *Config) { c.FS = b })
	must(t, d.Stable().SetUint64([]byte("CurrentTerm"), 1))
	must(t, d.Logs().StoreLogs(entries(1, 1, 3)))
	b.breaks(unix.EIO)
	if err := d.Logs().StoreLogs(entries(1, 4, 5)); !errors.Is(err, unix.EIO) {
		t.Errorf("stored on a broken disk: %v", err)
	}
	holds(t, d.Logs(), "1:1-3")
	done := make(chan error)
	go func() { done <- d.Stable().SetUint64([]byte("CurrentTerm"), 2) }()
	soon(t, "several tries", func() bool { return b.calls.Load() > 4 })
	if n, err := d.Stable().GetUint64([]byte("CurrentTerm")); n != 1 || err != nil {
		t.Errorf("term %d, %v before it was written", n, err)
	}
	err := d.Sick()
	if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), d.cfg.Path) || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("sick: %v", err)
	}
	b.mends()
	must(t, <-done)
	soon(t, "it is well", func() bool { return d.Sick() == nil })
	must(t, d.Logs().StoreLogs(entries(2, 4, 5)))
	holds(t, d.Logs(), "1:1-3 2:4-5")
	must(t, d.Close())
	d = openAt(t, d.cfg.Path)
	holds(t, d.Logs(), "1:1-3 2:4-5")
	if n, err := d.Stable().GetUint64([]byte("CurrentTerm")); n != 2 || err != nil {
		t.Errorf("term %d, %v", n, err)
	}
}

// TestRetryRate: a vote is tried again four times a second, logged once, and ends with the directory.
func TestRetryRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		d, err := openDisk(Config{Path: "/raft", Node: "n1", FS: m})
		must(t, err)
		writes := 0
		m.fault = func(_ int, what string) fault { writes++; return fails }
		ended := make(chan bool)
		go func() {
			returned := false
			defer func() { ended <- returned }()
			_ = d.Stable().Set([]byte("k"), []byte("v"))
			returned = true
		}()
		time.Sleep(10*time.Second + 100*time.Millisecond)
		synctest.Wait()
		if writes != 41 {
			t.Errorf("%d tries in 10 s, want 41", writes)
		}
		must(t, d.Close())
		if <-ended {
			t.Error("Set returned from a directory that was closed")
		}
		go func() {
			defer func() { ended <- false }()
			_ = d.Stable().SetUint64([]byte("k"), 1)
			ended <- true
		}()
		if <-ended {
			t.Error("Set returned from a closed directory")
		}
	})
}

// TestSpareRunsOut: the disk rule's check makes the disk sick while the segment in use still takes entries; without a spare they are
// refused, and it gets well by itself.
func TestSpareRunsOut(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	d := openAt(t, t.TempDir(), func(c *Config) {
		c.SegmentSize = minSegment
		c.Free = func() error {
			if full.Load() {
				return fmt.Errorf("only 5 MiB are free: %w", unix.ENOSPC)
			}
			return nil
		}
	})
	spare := func() bool {
		d.log.write.Lock()
		defer d.log.write.Unlock()
		return d.log.spare != nil
	}
	soon(t, "a spare", spare)
	full.Store(true)
	n := uint64(0)
	var err error
	warned := uint64(0)
	for err == nil {
		n++
		err = d.Logs().StoreLogs(entries(1, n, n))
		if warned == 0 && d.log.header.Seq == 2 {
			soon(t, "it is sick", func() bool { return d.Sick() != nil })
			warned = n
		}
	}
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "5 MiB") || !strings.Contains(d.Sick().Error(), "free some space") {
		t.Errorf("without a spare: %v, %v", err, d.Sick())
	}
	if warned == 0 || n < warned+10 {
		t.Errorf("sick at entry %d, refused at %d", warned, n)
	}
	holds(t, d.Logs(), fmt.Sprintf("1:1-%d", n-1))
	must(t, d.Stable().SetUint64([]byte("CurrentTerm"), 9))
	full.Store(false)
	soon(t, "it is well", func() bool { return d.Sick() == nil })
	must(t, d.Logs().StoreLogs(entries(1, n, n)))
	// Old segments go with what was in them.
	writeSnapshot(t, d, n, "state")
	must(t, d.Logs().DeleteRange(1, n-1))
	if d.log.oldest != d.log.header.Seq {
		t.Errorf("segments %d to %d are there for one entry", d.log.oldest, d.log.header.Seq)
	}
}

// counter is a state machine: the number of commands, and the last.
type counter struct {
	mu   sync.Mutex
	n    int
	last string
}

func (c *counter) Apply(l *raft.Log) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.last = string(l.Data)
	return c.n
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &counter{n: c.n, last: c.last}, nil
}

func (c *counter) Persist(sink raft.SnapshotSink) error {
	if _, err := fmt.Fprintf(sink, "%d %s", c.n, c.last); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (c *counter) Release() {}

func (c *counter) Restore(r io.ReadCloser) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := fmt.Fscanf(r, "%d %s", &c.n, &c.last)
	return errors.Join(err, r.Close())
}

// voter is a real raft on a directory.
type voter struct {
	dir   string
	fs    FS
	disk  *Disk
	trans *raft.InmemTransport
	fsm   *counter
	raft  *raft.Raft
}

func (v *voter) open(t testing.TB) {
	t.Helper()
	cfg := Config{Path: v.dir, Node: filepath.Base(v.dir), SegmentSize: minSegment, FS: v.fs}
	var err error
	v.disk, err = Open(cfg)
	must(t, err)
	_, v.trans = raft.NewInmemTransport(raft.ServerAddress(cfg.Node))
}

func (v *voter) config() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(v.disk.RaftID())
	conf.HeartbeatTimeout, conf.ElectionTimeout = 200*time.Millisecond, 200*time.Millisecond
	conf.LeaderLeaseTimeout, conf.CommitTimeout = 100*time.Millisecond, 20*time.Millisecond
	conf.SnapshotThreshold, conf.TrailingLogs, conf.SnapshotInterval = 40, 10, 50*time.Millisecond
	conf.LogOutput = io.Discard
	return conf
}

func (v *voter) start(t testing.TB) {
	t.Helper()
	v.fsm = &counter{}
	var err error
	v.raft, err = raft.NewRaft(v.config(), v.fsm, v.disk.Logs(), v.disk.Stable(), v.disk.Snapshots(), v.trans)
	must(t, err)
}

// stop ends raft while its disk goes away beneath it.
func (v *voter) stop(t testing.TB) {
	t.Helper()
	end := v.raft.Shutdown()
	must(t, v.disk.Close())
	must(t, end.Error())
}

func group(t testing.TB, n int, fs func(i int) FS) []*voter {
	t.Helper()
	var all []*voter
	var conf raft.Configuration
	base := t.TempDir()
	for i := range n {
		v := &voter{dir: filepath.Join(base, fmt.Sprint("n", i)), fs: fs(i)}
		v.open(t)
		all = append(all, v)
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(v.disk.RaftID()), Address: v.trans.LocalAddr()})
	}
	for _, v := range all {
		must(t, raft.BootstrapCluster(v.config(), v.disk.Logs(), v.disk.Stable(), v.disk.Snapshots(), v.trans, conf))
	}
	connect(all)
	for _, v := range all {
		v.start(t)
	}
	t.Cleanup(func() {
		for _, v := range all {
			v.stop(t)
		}
	})
	return all
}

func connect(all []*voter) {
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.trans.Connect(b.trans.LocalAddr(), b.trans)
			}
		}
	}
}

func leader(t testing.TB, all []*voter) (l *voter) {
	t.Helper()
	soon(t, "a leader", func() bool {
		for _, v := range all {
			if v.raft.State() == raft.Leader && v.raft.VerifyLeader().Error() == nil {
				l = v
				return true
			}
		}
		return false
	})
	return l
}

// TestThreeVoters: a group lives on while its voters restart one after another, and all at once, with snapshots and truncation
// between; what was acknowledged is there at the end.
func TestThreeVoters(t *testing.T) {
	t.Parallel()
	all := group(t, 3, func(int) FS { return nil })
	acked, sent := 0, 0
	write := func(n int) {
		t.Helper()
		for range n {
			soon(t, "a write", func() bool {
				sent++
				f := leader(t, all).raft.Apply(fmt.Appendf(nil, "c%d", sent), 5*time.Second)
				if f.Error() != nil {
					return false
				}
				acked++
				return true
			})
		}
	}
	unlike := ""
	t.Cleanup(func() {
		if unlike != "" {
			t.Error(unlike)
		}
	})
	same := func() {
		t.Helper()
		soon(t, "all have the same", func() bool {
			l := leader(t, all)
			for _, v := range all {
				if v.raft.AppliedIndex() != l.raft.LastIndex() {
					return false
				}
			}
			has := func(v *voter) (int, string) {
				v.fsm.mu.Lock()
				defer v.fsm.mu.Unlock()
				return v.fsm.n, v.fsm.last
			}
			want, wantLast := has(all[0])
			for _, v := range all {
				n, last := has(v)
				// What is handed to the machine counts as applied a moment before it is.
				if unlike = ""; n < acked || n > sent || n != want || last != wantLast {
					unlike = fmt.Sprintf("%s has %d commands up to %s; %d were acknowledged of %d", v.disk.RaftID(), n, last, acked, sent)
					return false
				}
			}
			return true
		})
	}
	write(60)
	for round := range 6 {
		v := all[round%3]
		v.stop(t)
		rest := append(append([]*voter{}, all[:round%3]...), all[round%3+1:]...)
		leader(t, rest)
		whole := all
		all = rest
		write(30)
		all = whole
		v.open(t)
		connect(all)
		v.start(t)
		write(5)
	}
	same()
	for _, v := range all {
		v.stop(t)
	}
	for _, v := range all {
		v.open(t)
	}
	connect(all)
	for _, v := range all {
		v.start(t)
	}
	write(5)
	same()
	first, err := all[0].disk.Logs().FirstIndex()
	must(t, err)
	if first < 20 {
		t.Errorf("the log begins with %d: nothing was ever deleted", first)
	}
}

// TestVoterWithSickDisk: a raft whose vote cannot be written ends neither itself nor the process, its group goes on, it stops cleanly
// while it waits, and it has not voted.
func TestVoterWithSickDisk(t *testing.T) {
	broken := make([]*brokenFS, 3)
	all := group(t, 3, func(i int) FS {
		broken[i] = &brokenFS{only: voteFile}
		return broken[i]
	})
	before := runtime.NumGoroutine()
	l := leader(t, all)
	must(t, l.raft.Apply([]byte("one"), 10*time.Second).Error())
	sick := 0
	for i, v := range all {
		if v == l {
			sick = (i + 1) % 3
		}
	}
	v := all[sick]
	term := v.raft.CurrentTerm()
	broken[sick].breaks(unix.EROFS)
	// The leader goes; to vote or to stand, the sick one has to write a new term.
	l.stop(t)
	soon(t, "its vote waits", func() bool { return v.disk.Sick() != nil })
	if err := v.disk.Sick(); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("sick: %v", err)
	}
	v.stop(t)
	broken[sick].mends()
	v.open(t)
	if n, err := v.disk.Stable().GetUint64([]byte("CurrentTerm")); n != term || err != nil {
		t.Errorf("the term became %d, %v, from %d", n, err, term)
	}
	l.open(t)
	connect(all)
	v.start(t)
	l.start(t)
	must(t, leader(t, all).raft.Apply([]byte("two"), 10*time.Second).Error())
	t.Logf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

// TestNoGoroutinesLeft: what Open starts ends with Close.
func TestNoGoroutinesLeft(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	d, err := Open(Config{Path: t.TempDir(), Node: "n1"})
	must(t, err)
	must(t, d.Close())
	must(t, d.Close())
	goleak.VerifyNone(t, ignore)
	if err := d.Logs().StoreLogs(entries(1, 1, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := d.SetGroup(Group{ID: "g"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := d.Reset("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
