package local

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// asBig makes a process of the test binary that has much memory.
const asBig = "HOSTMESH_TEST_BIG"

func big() {
	mem, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		os.Exit(1)
	}
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	os.Stdout.WriteString("ready\n")
	select {}
}

// TestDying: that a process with much memory was killed is seen before it is gone; what is not the server is not taken for it.
func TestDying(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("/proc/self/exe")
	mustDo(t, err)
	program, data := filepath.Join(dir, "mariadbd"), filepath.Join(dir, "data")
	mustDo(t, os.WriteFile(program, text, 0o700))
	mustDo(t, os.Mkdir(data, 0o700))
	c := credentials.Server{Datadir: data, PIDFile: filepath.Join(dir, "pid")}
	cmd := exec.Command(program)
	cmd.Dir, cmd.Env = data, append(os.Environ(), asBig+"=1")
	out, err := cmd.StdoutPipe()
	mustDo(t, err)
	mustDo(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	pid, err := find(c, true)
	if err != nil || pid != cmd.Process.Pid {
		t.Fatalf("found %d, %v", pid, err)
	}
	mustDo(t, os.WriteFile(c.PIDFile, []byte("1\n"), 0o600))
	for _, other := range []credentials.Server{{Datadir: dir, PIDFile: c.PIDFile}, {Datadir: filepath.Join(dir, "none"), PIDFile: c.PIDFile}} {
		if pid, err := find(other, true); err == nil {
			t.Errorf("process %d is taken for the server of %s", pid, other.Datadir)
		}
	}
	p, err := watch(c, pid)
	mustDo(t, err)
	defer p.close()
	if !p.alive() || p.since(time.Now()).After(time.Now()) {
		t.Error("it is dead, or of the future")
	}
	began := time.Now()
	mustDo(t, p.signal(syscall.SIGKILL))
	<-p.dying
	dying := time.Since(began)
	<-p.gone
	t.Logf("1 GB: dying is seen after %s, its end after %s", dying, time.Since(began))
	if p.alive() {
		t.Error("it is alive")
	}
	if _, err := find(c, true); err == nil {
		t.Error("it is found")
	}
	mustDo(t, p.signal(syscall.SIGKILL)) // it is gone, which is no error
}

// TestFailureOfAStart tells a server that cannot recover from one that ended for another reason.
func TestFailureOfAStart(t *testing.T) {
	t.Parallel()
	for text, spoilt := range map[string]bool{
		"2026-11-30  0:23:54 0 [ERROR] Found 2 prepared transactions! It means that server was not shut down properly last time and critical recovery information (last binlog or tc.log file) was manually deleted after a crash.\n": true,
		"2026-11-30  0:23:54 0 [Note] Found 2 prepared transaction(s) in InnoDB\n2026-11-30  0:23:54 0 [ERROR] Can't start server: Bind on TCP/IP port: Address already in use\n":                                                     false,
	} {
		log := filepath.Join(t.TempDir(), "error.log")
		if err := os.WriteFile(log, []byte("[ERROR] Found 1 prepared transactions! It means that server was not shut down properly last time: of a start before\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := &launch{logs: []logMark{markLog(log)}}
		f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := l.failure(); errors.Is(err, mysqlha.ErrUnrecoverable) != spoilt || !errors.Is(err, ErrNotServing) || spoilt && codeOf(err) != "unrecoverable" {
			t.Errorf("%q: %v, which crosses as %s", text, err, codeOf(err))
		}
	}
}

// TestKillBeforeTheDisk: a disk that hangs does not keep a server alive that is to be killed; what it ended by is known all the same.
func TestKillBeforeTheDisk(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	b := newWorld(t, 1, true).boxes[1]
	s := b.local().servers[tag]
	until(t, "it runs", func() bool { return b.state().Process == mysqlha.ProcessRuns })
	s.store.writing.Lock() // as one does whose write does not return
	done := make(chan error, 1)
	go func() { done <- b.local().Kill(context.Background(), order(2, 2), "a failover") }()
	until(t, "the server is gone", func() bool { return !b.server.Running() })
	until(t, "that is known", func() bool { return b.state().Process != mysqlha.ProcessRuns })
	if st := b.state(); st.Process != mysqlha.ProcessStopped || st.Why != "a failover" || b.served() {
		t.Errorf("while the disk hangs: %+v", st)
	}
	select {
	case err := <-done:
		t.Errorf("Kill returns before the disk has the mark: %v", err)
	default:
	}
	s.store.writing.Unlock()
	mustDo(t, <-done)
	if st, err := openStore(b.dir, tag).get(); err != nil || st.Marked != "a failover" || !st.Shut || b.state().Process != mysqlha.ProcessStopped {
		t.Errorf("afterwards: %+v (%v), %+v", st, err, b.state())
	}
}
