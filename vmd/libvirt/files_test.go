package libvirt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hostmesh/vmd"
)

// A disk that is full in the middle leaves nothing, and what was there before stays.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("a small file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "seed.iso")
	small, large := bytes.Repeat([]byte("a"), 100<<10), bytes.Repeat([]byte("b"), 300<<10)
	if err := writeFile(t.Context(), path, bytes.NewReader(small), int64(len(small))); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(t.Context(), path, bytes.NewReader(large), int64(len(large))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	if err := createQcow2(t.Context(), filepath.Join(dir, "web7.qcow2"), "", "", 1<<30); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, small) {
		t.Errorf("the old file has %d bytes, %v", len(content), err)
	}
}

func TestWriteFileEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	content := io.MultiReader(strings.NewReader("begins"), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), strings.NewReader("ends"))
	if err := writeFile(ctx, filepath.Join(dir, "a"), content, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What an agent left that was killed in the middle is no volume, and goes with the next start.
func TestMakeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "vm")
	if err := makeDir(dir); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{unfinished + "1": 0o600, "whole.qcow2": 0o600, ".other": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := wholeFiles(dir); err != nil || !slices.Equal(names, []string{"whole.qcow2"}) {
		t.Errorf("volumes %q, %v", names, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // as a careful administrator
		t.Fatal(err)
	}
	if err := makeDir(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if err := makeDir(filepath.Join(dir, "whole.qcow2")); err == nil {
		t.Error("a file is no directory")
	}
}

func TestEnterable(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	inner := filepath.Join(closed, "vm")
	if err := os.MkdirAll(inner, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if err := enterable(inner); !errors.Is(err, vmd.ErrRefused) || !strings.Contains(err.Error(), closed+" has mode 0700") {
		t.Errorf("got %v", err)
	}
	if err := enterable("/usr/bin"); err != nil {
		t.Error(err)
	}
}

func TestVirtualSize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.qcow2")
	if err := createQcow2(t.Context(), path, "", "", 5<<20); err != nil {
		t.Fatal(err)
	}
	if size, err := virtualSize(path); err != nil || size != 5<<20 {
		t.Errorf("got %d, %v", size, err)
	}
	for what, content := range map[string]string{"empty": "", "short": "QFI\xfb", "another": strings.Repeat("x", 100), "absurd": "QFI\xfb" + strings.Repeat("\xff", 100)} {
		other := filepath.Join(dir, what)
		if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := virtualSize(other); !errors.Is(err, vmd.ErrRefused) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestQemuImgErrors(t *testing.T) {
	dir := t.TempDir()
	err := createQcow2(t.Context(), filepath.Join(dir, "a.qcow2"), filepath.Join(dir, "nothing"), "raw", 0)
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := createQcow2(ctx, filepath.Join(dir, "a.qcow2"), "", "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", dir)
	if err := createQcow2(t.Context(), filepath.Join(dir, "a.qcow2"), "", "", 1); !errors.Is(err, vmd.ErrUnsupported) || !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}
