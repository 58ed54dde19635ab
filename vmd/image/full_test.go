package image

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts names the test that runs in mounts of its own.
const inMounts = "HOSTMESH_TEST_MOUNTS"

// withSmallDisk runs the test again in a process with mounts of its own, where at is a file system of 4 MiB. It is "" in
// the process that only waited.
func withSmallDisk(t *testing.T, kind string) (at string) {
	t.Helper()
	if os.Getenv(inMounts) != t.Name() {
		cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), inMounts+"="+t.Name())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatalf("the machine gives no mounts of its own: %v; run the tests as root", err)
		}
		if err != nil {
			t.Fatalf("with own mounts: %v\n%s", err, out)
		}
		return ""
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	at = t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=4m"); err != nil {
			t.Fatal(err)
		}
	} else {
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 5<<20); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", file}, {"mount", "-o", "loop", file, at}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// fillDisk leaves only so many bytes free.
func fillDisk(t *testing.T, at string, leave int64) (file string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(at, "filler")
	if err := os.WriteFile(file, make([]byte, max(int64(st.Bavail)*int64(st.Bsize)-leave, 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		t.Errorf("%s is left on a full disk", e.Name())
	}
}

func TestDiskFull(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			at := withSmallDisk(t, kind)
			if at == "" {
				return
			}
			b := content(60, 3<<20)
			p := newFakePeers(map[string][]byte{"a": b})
			s := openStore(t, func(c *Config) { c.Dir = filepath.Join(at, "images"); c.Peers = p })
			img := rawImage("x", b, "")

			// Not enough from the beginning: nobody is asked for a byte.
			filler := fillDisk(t, at, 1<<20)
			_, err := s.Ensure(t.Context(), img)
			if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "3145728 more are needed") || p.reads["a"] != 0 {
				t.Fatalf("got %v after %d reads", err, p.reads["a"])
			}
			nothingLeft(t, s)

			// An upload of unknown size runs into it in the middle.
			if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw}); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("put says %v", err)
			}
			nothingLeft(t, s)

			// Space that is promised cannot be taken by others meanwhile.
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			p.before = func(string, ReadRequest) error {
				fillDisk(t, at, 0)
				return nil
			}
			files, err := s.Ensure(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			checkFile(t, files.Disk, b)
		})
	}
}

// TestDiskFullInTheMiddle is about a file system that promises nothing: what came goes, unless others have space left.
func TestDiskFullInTheMiddle(t *testing.T) {
	at := withSmallDisk(t, "tmpfs")
	if at == "" {
		return
	}
	b := content(61, 3<<20)
	s := openStore(t, func(c *Config) { c.Dir = filepath.Join(at, "images") })
	write := func() error {
		p, err := s.openPart(t.Context(), sum(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		defer p.leave()
		for rest := b[p.size:]; len(rest) > 0; rest = rest[min(len(rest), 1<<16):] {
			if _, err := p.Write(rest[:min(len(rest), 1<<16)]); err != nil {
				return err
			}
			if p.size == 1<<20 {
				fillDisk(t, at, 1<<20)
			}
		}
		return nil
	}
	if err := write(); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "more are needed") {
		t.Fatalf("got %v", err)
	}
	nothingLeft(t, s)

	// With a reserve for others, what came is kept while there is more than that.
	if err := os.Remove(filepath.Join(at, "filler")); err != nil {
		t.Fatal(err)
	}
	s.cfg.MinFree = 1 << 20
	p, err := s.openPart(t.Context(), sum(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(b[:1<<20]); err != nil {
		t.Fatal(err)
	}
	p.leave()
	if p, err = s.openPart(t.Context(), sum(b), int64(len(b))); err != nil || p.size != 1<<20 {
		t.Fatalf("kept are %d bytes, %v", p.size, err)
	}
	fillDisk(t, at, 1<<19)
	p.leave()
	if _, err := os.Stat(s.path(sum(b)) + partSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what came is kept although others lack the space: %v", err)
	}
}
