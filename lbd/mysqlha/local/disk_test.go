package local

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestDiskFull: a server's report says when its disk has no room, and only when there is some to spare that it has again.
func TestDiskFull(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w := newWorld(t, 1, true)
	b := w.boxes[1]
	until(t, "the server has a role", func() bool { return b.last().Role == "primary" })
	if full := b.last().Full; full != "" {
		t.Fatal("the disk of this machine has no room itself: " + full)
	}
	// The data are where they were; what is asked is the file system over them.
	disk := b.server.Datadir
	b.close()
	b.server.Stop()
	mustDo(t, os.Rename(disk, disk+"-moved"))
	mustDo(t, os.Mkdir(disk, 0o700))
	mustDo(t, unix.Mount("none", disk, "tmpfs", 0, "size=400m"))
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	mustDo(t, os.CopyFS(disk, os.DirFS(disk+"-moved")))
	b.server.Restart("--read-only=0")
	b.open()
	says := func(what string, want bool) {
		t.Helper()
		until(t, what, func() bool { r := b.last(); return (r.Full != "") == want && r.Process == "running" })
	}
	ballast := filepath.Join(disk, "ballast")
	// The ballast grows and shrinks in place: if it went first, there would be room for a moment, and the agent might see it.
	leave := func(free int64) {
		t.Helper()
		f, err := os.OpenFile(ballast, os.O_RDWR|os.O_CREATE, 0o600)
		mustDo(t, err)
		defer f.Close()
		var fs unix.Statfs_t
		mustDo(t, unix.Statfs(disk, &fs))
		info, err := f.Stat()
		mustDo(t, err)
		size := info.Size() + int64(fs.Bavail)*fs.Bsize - free
		if size < info.Size() {
			mustDo(t, f.Truncate(size))
			return
		}
		mustDo(t, unix.Fallocate(int(f.Fd()), 0, 0, size))
	}
	says("there is room", false)
	leave(100 << 20)
	if text := full("", disk); text != "" {
		t.Errorf("with 100 MB it is said to be full: %s", text)
	}
	leave(8 << 20)
	says("the disk is full", true)
	leave(100 << 20)
	if full(b.last().Full, disk) == "" {
		t.Error("a disk at the limit comes and goes")
	}
	mustDo(t, os.Remove(ballast))
	says("there is room again", false)
}
