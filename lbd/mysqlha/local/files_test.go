package local

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha/credentials"
)

// TestFilesOfTheServersUser: what the user of the server has put where the agent reads and writes has it neither wait, nor read without end, nor write elsewhere.
func TestFilesOfTheServersUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := dirsOf(filepath.Join(dir, "data"))
	mustDo(t, os.Mkdir(d.data, 0o750))
	mustDo(t, d.begin())
	elsewhere := filepath.Join(dir, "elsewhere")
	mustDo(t, os.WriteFile(elsewhere, []byte("text"), 0o600))
	same := func(what string) {
		t.Helper()
		if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "text" {
			t.Errorf("%s: the file has %q (%v)", what, text, err)
		}
	}
	pipe, device := filepath.Join(dir, "pipe"), filepath.Join(dir, "device")
	mustDo(t, unix.Mkfifo(pipe, 0o600))
	mustDo(t, os.Symlink("/dev/zero", device))
	for _, path := range []string{pipe, device} {
		if _, err := find(credentials.Server{Datadir: d.data, PIDFile: path}, false); !errors.Is(err, errNoProcess) {
			t.Errorf("a pid file that is %s: %v", path, err)
		}
		if text := markLog(path).since(); text != "" {
			t.Errorf("a log that is %s says %q", path, text)
		}
		mustDo(t, os.Symlink(path, d.file(markFile)))
		if is, err := d.swapped("id"); is || err == nil {
			t.Errorf("a mark that is %s: %t, %v", path, is, err)
		}
		mustDo(t, os.Remove(d.file(markFile)))
	}
	mustDo(t, unix.Mkfifo(d.file(markFile), 0o600))
	if is, err := d.swapped("id"); is || err == nil {
		t.Errorf("a mark that is a pipe: %t, %v", is, err)
	}
	position := filepath.Join(d.fresh, positionFile)
	mustDo(t, os.Symlink(elsewhere, position))
	if err := d.complete("id", "0-1-1", ""); err == nil {
		t.Error("the position is written to where a link leads")
	}
	same("a link for the position")
	mustDo(t, d.begin())
	mustDo(t, os.Mkdir(filepath.Join(d.fresh, "db"), 0o700))
	mustDo(t, os.WriteFile(filepath.Join(d.fresh, "db", "t.ibd"), nil, 0o600))
	mustDo(t, os.Symlink(dir, filepath.Join(d.fresh, "link")))
	me, err := user.Current()
	mustDo(t, err)
	mustDo(t, d.complete("id", "0-1-1", me.Username))
	mustDo(t, os.Remove(d.file(markFile)))
	mustDo(t, d.swap())
	if is, err := d.swapped("id"); !is || err != nil {
		t.Errorf("after the exchange: %t, %v", is, err)
	}
	if is, err := d.swapped("other"); is || err != nil {
		t.Errorf("of another: %t, %v", is, err)
	}
}

// TestLeftServer: a server that runs on what is to be removed, as one that an agent which was killed had read a dump, is ended; no other is.
func TestLeftServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, d := filepath.Join(dir, "mariadbd"), dirsOf(filepath.Join(dir, "data"))
	text, err := os.ReadFile("/bin/sleep")
	mustDo(t, err)
	mustDo(t, os.WriteFile(program, text, 0o700))
	mustDo(t, os.Mkdir(d.data, 0o700))
	mustDo(t, os.Mkdir(d.fresh, 0o700))
	run := func(dir string) chan struct{} {
		cmd := exec.Command(program, "600")
		cmd.Dir = dir
		mustDo(t, cmd.Start())
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		return ended
	}
	left, own := run(d.fresh), run(d.data)
	mustDo(t, d.begin())
	<-left
	left = run(d.fresh)
	mustDo(t, d.removeFresh())
	<-left
	if isClosed(own) || there(d.fresh) {
		t.Errorf("the server itself has ended: %t; what was left is there: %t", isClosed(own), there(d.fresh))
	}
}
