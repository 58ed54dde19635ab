package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inMounts marks the process that the tests of the disk rule run themselves in.
const inMounts = "HOSTMESH_TEST_IN_MOUNTS"

// withOwnMounts runs the test again in a process with mounts of its own, and reports whether this is that process. With it go
// its mounts and their loop devices, however it ends.
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
	cmd.Env = append(os.Environ(), inMounts+"="+t.Name(), "HOSTMESH_BINARY="+binary(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("the machine gives no mounts of its own: %v; run the tests as root", err)
	}
	if err != nil {
		t.Fatalf("with own mounts: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return false
}

// smallDisk is a file system of 640 MiB in a file. An agent stops to write below 256 MiB.
type smallDisk struct {
	t         *testing.T
	image, at string
}

// newSmallDisk mounts one where a box will have its data directory.
func newSmallDisk(b *box) *smallDisk { return newSmallDiskAt(b.site, b.dir) }

// newSmallDiskAt mounts one at a directory, which it makes.
func newSmallDiskAt(s *site, at string) *smallDisk {
	s.t.Helper()
	d := &smallDisk{t: s.t, image: at + ".image", at: at}
	sparse(s.t, d.image, 640<<20)
	s.must(exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image))
	if err := os.Mkdir(d.at, 0o755); err != nil {
		s.t.Fatal(err)
	}
	d.mount()
	s.t.Cleanup(func() {
		if err := unix.Unmount(d.at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			s.t.Error(err)
		}
	})
	return d
}

// mount mounts it. The loop device goes with the mount.
func (d *smallDisk) mount() { d.run("mount", "-o", "loop", d.image, d.at) }

func (d *smallDisk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (d *smallDisk) free() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.at, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// fill lets a foreign file take all but so many bytes, in steps of at most step with a pause after each.
func (d *smallDisk) fill(leave, step int64, pause time.Duration) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.at, "foreign"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	for size := st.Size(); ; {
		more := min(step, d.free()-leave)
		if more < 4096 {
			return
		}
		err := unix.Fallocate(int(f.Fd()), 0, size, more)
		if errors.Is(err, unix.ENOSPC) {
			return // somebody else was faster
		}
		if err != nil {
			d.t.Fatalf("fill the disk: %v", err)
		}
		size += more
		time.Sleep(pause) // the speed of the neighbour that fills it
	}
}

func (d *smallDisk) clear() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.at, "foreign")); err != nil {
		d.t.Fatal(err)
	}
}

// refusesWrites waits until writes at b are refused with a reason that has all of these words.
func (b *box) refusesWrites(words ...string) string {
	b.site.t.Helper()
	var trace string
	b.site.wait(b.name+" refuses writes", func() error {
		req, err := http.NewRequest(http.MethodPut, b.url("/v1/hosts/refused"), strings.NewReader(
			url.Values{"value": {"Owner: me\n"}, "log": {"test"}, "session": {b.site.token}}.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := b.web.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		trace = resp.Header.Get("CallTrace")
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(trace, "5032: ") {
			return fmt.Errorf("%s %s", resp.Status, trace)
		}
		return nil
	})
	for _, w := range words {
		if !strings.Contains(trace, w) {
			b.site.t.Errorf("%s refuses a write with %q, want %q in it", b.name, trace, w)
		}
	}
	return trace
}

// serves checks that reads are served.
func (b *box) serves(id, want, host, addr string) {
	b.site.t.Helper()
	if got, err := b.get(id); err != nil || got != want {
		b.site.t.Errorf("%s: %s is %q, %v; want %q", b.name, id, got, err, want)
	}
	if got := b.dig(host); got != addr {
		b.site.t.Errorf("%s answers %q for %s, want %s", b.name, got, host, addr)
	}
}

// metric is a metric of b without labels.
func (b *box) metric(name string) float64 {
	b.site.t.Helper()
	resp, err := b.web.Get(b.url("/metrics"))
	if err != nil {
		b.site.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.site.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.site.t.Fatal(err)
			}
			return n
		}
	}
	b.site.t.Fatalf("%s has no metric %s", b.name, name)
	return 0
}

// saysWrong checks that status names what is wrong, with exit code 1.
func (b *box) saysWrong(words ...string) {
	b.site.t.Helper()
	out, _, code := b.hostmesh("status")
	if code != 1 {
		b.site.t.Errorf("status ends with %d, want 1", code)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			b.site.t.Errorf("status does not say %q:\n%s", w, out)
		}
	}
}

// takesWrites waits until a write at b is acknowledged.
func (b *box) takesWrites(id string) {
	b.site.t.Helper()
	took := b.site.wait(b.name+" takes writes again", func() error { return b.put(id, "Owner: me\n") })
	b.site.t.Logf("it takes writes again after %s", took.Round(time.Millisecond))
}

// TestDiskRule: an agent whose disk has too little room, or is read-only, serves reads, says why it refuses writes, and goes on by
// itself when the disk does; what was acknowledged meanwhile elsewhere reaches it then.
func TestDiskRule(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	s := newSite(t, 2)
	b, other := s.boxes[1], s.boxes[0]
	d := newSmallDisk(b)
	s.start()
	s.lab()
	for i := range 20 {
		b.mustPut(fmt.Sprintf("hosts/before-%d", i), fmt.Sprintf("Owner: o%d\n", i))
	}
	s.equal(s.boxes...)
	answered := func() { b.serves("hosts/before-7", "Owner: o7", "web1.lab.test", "10.9.0.1") }
	answered()

	t.Log("too little room")
	d.fill(200<<20, 1<<30, 0)
	t.Log(b.refusesWrites("MiB are free", d.at, "writes need 256 MiB", "free some space", "data_dir"))
	answered()
	b.saysWrong("disk", "hostdb", "MiB")
	if free, floor := b.metric("hostmesh_hostdb_disk_free_bytes"), b.metric("hostmesh_hostdb_disk_floor_bytes"); free >= floor || floor != 256<<20 {
		t.Errorf("metrics say %v free, floor %v", free, floor)
	}
	if w, n := b.metric("hostmesh_hostdb_writable"), b.metric("hostmesh_hostdb_storage_failures_total"); w != 0 || n != 1 {
		t.Errorf("metrics say writable %v after %v failures", w, n)
	}
	for i := range 20 {
		other.mustPut(fmt.Sprintf("hosts/full-%d", i), "Owner: me\n")
	}
	if _, err := b.get("hosts/full-19"); err == nil {
		t.Error("it took what others pushed though its disk has no room")
	}
	d.clear()
	b.takesWrites("hosts/after-full")
	s.equal(s.boxes...)
	if w := b.metric("hostmesh_hostdb_writable"); w != 1 {
		t.Errorf("metrics say writable %v", w)
	}
	answered()

	t.Log("read-only")
	ro := d.readOnly()
	t.Log(b.refusesWrites("read-only", d.at))
	answered()
	b.saysWrong("hostdb", "read-only")
	for i := range 20 {
		other.mustPut(fmt.Sprintf("hosts/ro-%d", i), "Owner: me\n")
	}
	ro()
	b.takesWrites("hosts/after-ro")
	s.equal(s.boxes...)
	answered()

	t.Log("killed, and started on a full disk")
	b.kill()
	d.fill(100<<20, 1<<30, 0)
	b.refusesToStart("MiB are free", "writes need 256 MiB", "free some space", "data_dir")
	d.clear()
	ro = d.readOnly()
	b.refusesToStart("read-only", "data_dir")
	ro()
	b.start()
	s.allAlive()
	s.equal(s.boxes...)
	answered()
}

// refusesToStart starts the agent, which has to end with an error that has all of these words.
func (b *box) refusesToStart(words ...string) {
	b.site.t.Helper()
	was := len(b.log())
	b.launch()
	b.gone()
	text := b.log()[was:]
	if code := b.cmd.ProcessState.ExitCode(); code != 1 {
		b.site.t.Errorf("%s ended with %d, want 1: %s", b.name, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.site.t.Errorf("%s ends without saying %q:\n%s", b.name, w, text)
		}
	}
}

// readOnly lays a read-only mount of the same file system over it, and returns what takes it away. What the agent has open stays
// writable to it, and nothing else is: a real remount is refused while a file is open for writing.
func (d *smallDisk) readOnly() (writable func()) {
	d.t.Helper()
	d.run("mount", "--bind", d.at, d.at)
	d.run("mount", "-o", "remount,ro,bind", d.at)
	return func() { d.run("umount", d.at) }
}

// TestDiskGoes: a neighbour fills the disk faster than the agent looks while four clients write, and later the kernel takes the
// file system from all, as after an error of the disk. The agent lives on and serves reads, and nothing that was
// acknowledged is lost.
func TestDiskGoes(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	s := newSite(t, 1)
	b := s.boxes[0]
	d := newSmallDisk(b)
	s.start()
	s.lab()
	l := newAckedWrites(b)
	check := func() {
		t.Helper()
		if !b.running() {
			t.Fatalf("the agent did not live through it: %s", b.cmd.ProcessState)
		}
		b.serves("hosts/web1.lab.test/Network/IP", "10.9.0.1", "web1.lab.test", "10.9.0.1")
		l.check(b)
	}
	d.fill(280<<20, 1<<30, 0)
	l.write(4, nil, func() { d.fill(0, 8<<20, 20*time.Millisecond) })
	t.Log(b.refusesWrites("MiB are free", "need", "free some space"))
	check()
	d.clear()
	b.takesWrites("hosts/after-full")
	t.Logf("%d writes were acknowledged while the disk filled up", l.len())

	l.write(4, nil, func() { l.atLeast(l.len() + 50) })
	// The writers are done: a kernel that takes a file system away in the middle of an fsync may report that as a success.
	d.run("mount", "-o", "remount,abort", d.at)
	t.Log(b.refusesWrites("read-only", "file system"))
	check()
	b.saysWrong("read-only")
	t.Logf("%d writes were acknowledged until the file system was gone", l.len())
	b.kill()
	d.run("umount", d.at)
	// 1: errors were corrected, which the journal and the kernel's note of the error are.
	if out, err := exec.Command("e2fsck", "-fy", d.image).CombinedOutput(); err != nil && !strings.Contains(err.Error(), "status 1") {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	d.mount()
	b.start()
	b.takesWrites("hosts/after-error")
	check()
}
