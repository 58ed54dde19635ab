package raftdisk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// Some tests need a process to kill, or one beside this. They run the test binary again with these set.
const (
	childTask = "RAFTDISK_TEST_CHILD"
	childDir  = "RAFTDISK_TEST_DIR"
	childAt   = "RAFTDISK_TEST_AT"
	inMounts  = "RAFTDISK_TEST_IN_MOUNTS"
)

func TestMain(m *testing.M) {
	tasks := map[string]func(dir string) error{"write": writeChild, "hold": holdChild}
	if task := tasks[os.Getenv(childTask)]; task != nil {
		if err := task(os.Getenv(childDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t testing.TB, task, dir string) (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	return cmd, bufio.NewReader(out), &stderr
}

// holdChild opens a directory and waits until its input ends.
func holdChild(dir string) error {
	d, err := Open(Config{Path: dir, Node: "n1"})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, d.Close())
}

// TestTwoProcesses: a directory is one process's.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, out, stderr := child(t, "hold", dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := out.ReadString('\n'); line != "open\n" {
		t.Fatalf("%q, %v, %s", line, err, stderr)
	}
	refuses(t, dir, ErrLocked, dir, fmt.Sprint("process ", cmd.Process.Pid), "stop it")
	must(t, in.Close())
	must(t, cmd.Wait())
	d := openAt(t, dir)
	refuses(t, dir, ErrLocked, fmt.Sprint("process ", os.Getpid()))
	must(t, d.Close())
	openAt(t, dir)
}

// killingFS is the real file system, in a process that ends at one of its steps.
type killingFS struct {
	osFS
	at    int64
	steps atomic.Int64
}

type killingFile struct {
	File
	fs *killingFS
}

func (k *killingFS) step() {
	if k.steps.Add(1) == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
}

func (k *killingFS) Create(name string) (File, error) {
	k.step()
	f, err := k.osFS.Create(name)
	k.step()
	return killingFile{f, k}, err
}

func (k *killingFS) Open(name string) (File, error) {
	f, err := k.osFS.Open(name)
	if err != nil {
		return nil, err
	}
	return killingFile{f, k}, nil
}

func (k *killingFS) Rename(from, to string) error {
	k.step()
	err := k.osFS.Rename(from, to)
	k.step()
	return err
}

func (k *killingFS) Remove(name string) error {
	k.step()
	err := k.osFS.Remove(name)
	k.step()
	return err
}

func (f killingFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.step()
	n, err := f.File.WriteAt(p, off)
	f.fs.step()
	return n, err
}

func (f killingFile) Sync() error {
	f.fs.step()
	err := f.File.Sync()
	f.fs.step()
	return err
}

// saying is what the child says it is about to do, and that it was acknowledged.
type saying struct {
	Done bool
	// First and Last bound the log after it, Term is of the last entry and the vote's.
	First, Last, Term uint64
}

// writeChild appends, truncates, votes and snapshots, and says so. It ends when it is killed.
func writeChild(dir string) error {
	at, err := strconv.ParseInt(os.Getenv(childAt), 10, 64)
	if err != nil {
		return err
	}
	d, err := Open(Config{Path: dir, Node: "n1", SegmentSize: minSegment, FS: &killingFS{at: at}})
	if err != nil {
		return err
	}
	s := d.Logs()
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	term, err := d.Stable().GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	say := func(done bool) error {
		text, err := json.Marshal(saying{done, first, last, term})
		if err == nil {
			_, err = os.Stdout.Write(append(text, '\n')) // one write
		}
		return err
	}
	for n := 0; ; n++ {
		var op func() error
		term++
		if err := say(false); err != nil {
			return err
		}
		if err := d.Stable().SetUint64([]byte("CurrentTerm"), term); err != nil {
			return err
		}
		if err := say(true); err != nil {
			return err
		}
		switch {
		case n%7 == 3 && last > first+2:
			last -= 2
			op = func() error { return s.DeleteRange(last+1, last+2) }
		case n%7 == 5 && last > first+20:
			was := first
			first = last - 10
			op = func() error {
				sink, err := d.Snapshots().Create(1, last, term, raft.Configuration{}, 1, nil)
				if err != nil {
					return err
				}
				if err := sink.Close(); err != nil {
					return err
				}
				return s.DeleteRange(was, first-1)
			}
		default:
			var batch []*raft.Log
			for range 1 + n%4 {
				last++
				batch = append(batch, &raft.Log{Index: last, Term: term, Data: bytes.Repeat([]byte{'x'}, n*97%900)})
			}
			first = max(first, 1)
			op = func() error { return s.StoreLogs(batch) }
		}
		if err := say(false); err != nil {
			return err
		}
		if err := op(); err != nil {
			return err
		}
		if err := say(true); err != nil {
			return err
		}
	}
}

// TestKilledAtEveryStep: a process that is killed at a step of its storage, which the rounds go through, leaves what it had
// acknowledged, or what it was about to.
//
// HOSTMESH_TEST_CRASHES sets how many rounds there are; without it 40.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	rounds := 40
	if text := os.Getenv("HOSTMESH_TEST_CRASHES"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		must(t, err)
	}
	dir := t.TempDir()
	total := 0
	for round := range rounds {
		at := round + 1
		if round > 24 {
			at = 20 + rand.IntN(400)
		}
		cmd, out, stderr := child(t, "write", dir)
		cmd.Env = append(cmd.Env, fmt.Sprint(childAt, "=", at))
		must(t, cmd.Start())
		var acked, about *saying
		for {
			text, err := out.ReadBytes('\n')
			if err == io.EOF {
				break
			}
			must(t, err)
			s := new(saying)
			must(t, json.Unmarshal(text, s))
			if about = s; s.Done {
				acked = s
				total++
			}
		}
		_ = cmd.Wait() // it was killed
		if cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("round %d: the child ended by itself: %s", round, stderr)
		}
		d, err := Open(Config{Path: dir, Node: "n1", SegmentSize: minSegment})
		if err != nil {
			t.Fatalf("round %d, killed at step %d: %v", round, at, err)
		}
		logs := readLogs(t, d.Logs())
		term, err := d.Stable().GetUint64([]byte("CurrentTerm"))
		must(t, err)
		if about != nil {
			low := saying{}
			if acked != nil {
				low = *acked
			}
			var first, last uint64
			if len(logs) > 0 {
				first, last = logs[0].Index, logs[len(logs)-1].Index
			}
			// In the first step of a round nothing was acknowledged yet: what was there before is not known here.
			if acked != nil && (first < min(low.First, about.First) || first > max(low.First, about.First) ||
				last < min(low.Last, about.Last) || last > max(low.Last, about.Last)) || term < low.Term || term > about.Term {
				t.Fatalf("round %d, killed at step %d: log %d to %d, term %d; acknowledged %+v, about to %+v", round, at, first, last, term, low, *about)
			}
		}
		must(t, d.Close())
	}
	t.Logf("%d operations were acknowledged in %d rounds", total, rounds)
	if total < rounds {
		t.Error("that shows nothing")
	}
}

// withOwnMounts runs the test again in a process with mounts of its own, and reports whether this is that process.
func withOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inMounts) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatalf("private mounts: %v", err)
		}
		return true
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), inMounts+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("the machine gives no mounts of its own: %v; run the tests as root", err)
	}
	if err != nil {
		t.Fatalf("with own mounts: %v\n%s", err, out)
	}
	return false
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestRealDisk: a small file system is filled by somebody else, is read-only, and is taken away by the kernel. Votes are written on
// a full one; entries until the spare is used up; what was acknowledged is there afterwards.
func TestRealDisk(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	base := t.TempDir()
	image, at := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	must(t, os.Mkdir(at, 0o755))
	touch(t, image)
	must(t, os.Truncate(image, 24<<20))
	run(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	mount := func() { run(t, "mount", "-o", "loop", image, at) }
	mount()
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
	dir := filepath.Join(at, "raft")
	d := openAt(t, dir)
	term, last := uint64(1), uint64(0)
	vote := func() {
		t.Helper()
		term++
		must(t, d.Stable().SetUint64([]byte("CurrentTerm"), term))
	}
	store := func() error {
		err := d.Logs().StoreLogs([]*raft.Log{{Index: last + 1, Term: 1, Data: make([]byte, 1000)}})
		if err == nil {
			last++
		}
		return err
	}
	vote()
	for range 100 {
		must(t, store())
	}
	soon(t, "it is well", func() bool { return d.Sick() == nil })

	foreign := filepath.Join(at, "foreign")
	f, err := os.Create(foreign)
	must(t, err)
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
	must(t, f.Close())
	n := 0
	for err = nil; err == nil; n++ {
		err = store()
		vote()
	}
	if !errors.Is(err, unix.ENOSPC) || n < 30 || d.Sick() == nil || !strings.Contains(d.Sick().Error(), "free some space") {
		t.Errorf("after %d entries on the full disk: %v; sick: %v", n, err, d.Sick())
	}
	t.Logf("the full disk took %d entries; %v", n-1, d.Sick())
	holds(t, d.Logs(), fmt.Sprintf("1:1-%d", last))
	sink, err := d.Snapshots().Create(1, 50, 1, raft.Configuration{}, 1, nil)
	if err == nil { // a name has room, in its directory's block
		if _, err = sink.Write(make([]byte, 1<<20)); err == nil {
			err = sink.Close()
		} else if err := sink.Cancel(); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a snapshot on the full disk: %v", err)
	}
	if metas, err := d.Snapshots().List(); len(metas) > 0 || err != nil {
		t.Errorf("it is there: %+v, %v", metas, err)
	}
	must(t, d.Close())
	d = openAt(t, dir) // an agent that restarts on a full disk
	holds(t, d.Logs(), fmt.Sprintf("1:1-%d", last))
	vote()
	soon(t, "it is sick", func() bool { return d.Sick() != nil })
	must(t, os.Remove(foreign))
	soon(t, "it is well", func() bool { return d.Sick() == nil })
	must(t, store())

	// The kernel takes it: votes wait, entries fail, and Close ends both.
	run(t, "mount", "-o", "remount,abort", at)
	if err := store(); err == nil {
		t.Error("an entry was stored on a file system that is gone")
	}
	acked := last
	returned := make(chan bool)
	go func() {
		back := false
		defer func() { returned <- back }()
		_ = d.Stable().SetUint64([]byte("CurrentTerm"), term+1)
		back = true
	}()
	soon(t, "its vote waits", func() bool { return d.health.is(sickVote) })
	t.Logf("sick: %v", d.Sick())
	if err := d.Sick(); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EIO) {
		t.Errorf("sick: %v", err)
	}
	must(t, d.Close())
	if <-returned {
		t.Error("a vote was acknowledged")
	}
	run(t, "umount", at)
	// 1: errors were corrected, which the journal and the kernel's note of the error are.
	if out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput(); err != nil && !strings.Contains(err.Error(), "status 1") {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	mount()
	d = openAt(t, dir) // with the fingerprint of before
	holds(t, d.Logs(), fmt.Sprintf("1:1-%d", acked))
	if n, err := d.Stable().GetUint64([]byte("CurrentTerm")); n != term || err != nil || d.Discarded() != "" {
		t.Errorf("term %d, %v, want %d; %q", n, err, term, d.Discarded())
	}
	must(t, d.Close())

	run(t, "mount", "-o", "remount,ro", at)
	refuses(t, dir, unix.EROFS, dir)
	run(t, "mount", "-o", "remount,rw", at)
	d = openAt(t, dir)
	must(t, store())
	must(t, d.Close())
}
