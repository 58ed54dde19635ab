package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hostmesh/vmd"
)

// unfinished begins the names of files that are not whole yet. They are renamed when they are, and on stable storage.
const unfinished = ".new-"

// makeDir makes the directory of volumes, and takes away what an earlier agent left half done.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make the directory of volumes: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the directory of volumes: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o111 != 0o111 { // more than asked for is the administrator's wish
		if err := os.Chmod(dir, mode|0o711); err != nil {
			return fmt.Errorf("open the directory of volumes to the emulator: %w", err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what was left half done: %w", err)
		}
	}
	return nil
}

// enterable says which directory on the way keeps the emulator's user out. The error wraps vmd.ErrRefused.
func enterable(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%w: %s has mode %04o and keeps the emulator, which runs as another user, out of %s; chmod o+x it or set vm.dir", vmd.ErrRefused, d, info.Mode().Perm(), dir)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// directIO reports whether files here can be read and written without the page cache.
func directIO(dir string) bool {
	f, err := os.CreateTemp(dir, unfinished+"direct-*")
	if err != nil {
		return false
	}
	name := f.Name()
	defer os.Remove(name) //nolint:errcheck // a later start takes it away
	if f.Close() != nil {
		return false
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

// writeFile makes a file with this content in place of what is there, all of it or nothing.
func writeFile(ctx context.Context, path string, content io.Reader, size int64) error {
	return whole(path, func(temp string) error {
		f, err := os.OpenFile(temp, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		// One byte more than announced is enough to know that there are more.
		n, err := io.Copy(f, io.LimitReader(&reader{ctx, content}, size+1))
		if e := f.Close(); err == nil {
			err = e
		}
		if err == nil && n != size {
			err = vmd.WrongSize(n, size)
		}
		return err
	})
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// whole lets fill make a file under another name, and gives it its own when it is on stable storage. Whatever goes wrong,
// nothing is left of it.
func whole(path string, fill func(temp string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished+"*")
	if err != nil {
		return err
	}
	temp := f.Name()
	if err := f.Close(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the next start tries again
		}
	}()
	if err := fill(temp); err != nil {
		return err
	}
	if err := syncPath(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncPath(filepath.Dir(path))
}

// wholeFiles lists regular files, those aside that are not whole.
func wholeFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// taken is how many bytes the whole files take on the disk, holes aside. A directory that is not there has none.
func taken(dir string) (bytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return 0, err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512 // stat(2): of 512 bytes, whatever the file system's are
		}
	}
	return bytes, nil
}

// createQcow2 makes a volume by qemu-img, whose business the format is.
func createQcow2(ctx context.Context, path, base, baseFormat string, size int64) error {
	args := []string{"create", "-q", "-f", "qcow2"}
	if base != "" {
		args = append(args, "-b", base, "-F", baseFormat) // a format that is guessed lets a guest name files of the box
	}
	return whole(path, func(temp string) error {
		args = append(args, temp)
		if size > 0 {
			args = append(args, strconv.FormatInt(size, 10))
		}
		return qemuImg(ctx, args...)
	})
}

func growQcow2(ctx context.Context, path string, size int64) error {
	if err := qemuImg(ctx, "resize", "-q", "-f", "qcow2", path, strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	return syncPath(path)
}

// qemuImg runs qemu-img. It ends with ctx, and its messages become errors of vmd and syscall where they mean such.
func qemuImg(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stderr, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err := cmd.Run()
	text := strings.TrimSpace(stderr.String())
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("qemu-img %s: %w", args[0], context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: qemu-img is not installed (Debian: qemu-utils)", vmd.ErrUnsupported)
	case strings.Contains(text, syscall.ENOSPC.Error()), strings.Contains(text, "No space left on device"):
		return fmt.Errorf("qemu-img %s: %s: %w", args[0], text, syscall.ENOSPC)
	}
	return fmt.Errorf("qemu-img %s: %w: %s", args[0], err, text)
}

// virtualSize is the size of a qcow2 volume as its guest sees it: bytes 24 to 31 of the file (QEMU, docs/interop/qcow2.txt).
// Another file is an error that wraps vmd.ErrRefused.
func virtualSize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var head [32]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != "QFI\xfb" {
		return 0, fmt.Errorf("%w: %s is there and is not a qcow2 volume", vmd.ErrRefused, path)
	}
	size := binary.BigEndian.Uint64(head[24:])
	if size > 1<<62 {
		return 0, fmt.Errorf("%w: %s says that it has %d bytes", vmd.ErrRefused, path, size)
	}
	return int64(size), nil
}
