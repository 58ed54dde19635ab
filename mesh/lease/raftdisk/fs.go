package raftdisk

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is what a Disk does to a file system, so that tests can let each step fail or be the last. All files are made with mode 0600 and
// all directories with 0700. Errors wrap those of the system: fs.ErrNotExist, ENOSPC, EROFS.
type FS interface {
	// Lock takes the directory for this process until unlock is called; ErrLocked when another has it.
	Lock(dir string) (unlock func(), err error)
	// Mkdir makes a directory, or makes one that is there private.
	Mkdir(name string) error
	// ReadDir returns the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	// Create makes an empty file; one that is there is emptied.
	Create(name string) (File, error)
	// Open opens a file that is there for reading and writing.
	Open(name string) (File, error)
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// SyncDir makes durable what was created in, renamed in or out of, and removed from a directory.
	SyncDir(name string) error
	// Identity tells a file or a directory from all others, whatever its name, across reboots: a copy has another one.
	Identity(name string) (string, error)
	// MachineID tells this machine from others; "" when it has no such id.
	MachineID() (string, error)
}

// File is an open file. Sync makes all that was written durable (fdatasync).
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Size() (int64, error)
	// Inode is the file's number in its file system.
	Inode() (uint64, error)
	Sync() error
	Close() error
}

// pidFile names the holder of the lock to people. The lock itself is an flock of the directory.
const pidFile = "LOCK"

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) Lock(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	name := filepath.Join(dir, pidFile)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		who := "another process"
		if text, err := os.ReadFile(name); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				who = fmt.Sprintf("process %d", pid)
			}
		}
		return nil, fmt.Errorf("%w by %s: stop it, or give this agent a data directory of its own", ErrLocked, who)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		_ = os.Remove(name) // a note to people; removed before the lock goes, so never the next holder's
		// A child that this process is just starting has the directory open too, and with it the lock, until its program begins.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close()
	}, nil
}

func (osFS) Mkdir(name string) error {
	err := os.Mkdir(name, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
	}
	if st.Mode().Perm() != 0o700 {
		return os.Chmod(name, 0o700)
	}
	return nil
}

func (osFS) ReadDir(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Identity is made of the file system's own id, where that comes from its UUID, and the file's handle, which has the inode and its
// generation. Device numbers are not in it: they may change with each boot.
func (osFS) Identity(name string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	id := fmt.Sprintf("inode-%d", st.Ino)
	if h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, name, 0); err == nil {
		id = fmt.Sprintf("handle-%d-%s", h.Type(), hex.EncodeToString(h.Bytes()))
	} // not every file system has handles; the inode is what is left
	var sfs unix.Statfs_t
	if err := unix.Statfs(name, &sfs); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	switch sfs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC: // others, as XFS, put the device's number there
		id = fmt.Sprintf("fs-%08x%08x-%s", uint32(sfs.Fsid.Val[0]), uint32(sfs.Fsid.Val[1]), id)
	}
	return id, nil
}

func (osFS) MachineID() (string, error) {
	text, err := os.ReadFile("/etc/machine-id")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// exists reports whether a name is there.
func exists(fsys FS, dir, name string) (bool, error) {
	names, err := fsys.ReadDir(dir)
	return slices.Contains(names, name), err
}

// removeTree removes a file or a directory with all that is in it. None there is no error.
func removeTree(fsys FS, name string) error {
	names, err := fsys.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	for _, n := range names {
		if err := removeTree(fsys, filepath.Join(name, n)); err != nil {
			return err
		}
	}
	return fsys.Remove(name)
}

// readFile reads a whole file.
func readFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	return data, errors.Join(err, f.Close())
}

func readAll(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if size == 0 {
		return data, nil
	}
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil // io.EOF comes along with the last byte
	}
	return data[:n], err
}

// zeroFill gives a new file its full size in written, synced blocks: later writes into it need no room and no metadata.
func zeroFill(f File, size int64) error {
	zero := make([]byte, min(size, 64<<10))
	for at := int64(0); at < size; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero[:min(int64(len(zero)), size-at)], at); err != nil {
			return err
		}
	}
	return f.Sync()
}

const tmpSuffix = ".tmp"

// replaceFile writes a file anew: another one is written, synced and renamed, and the directory synced. identify, which may be nil,
// makes the content from what the new file is.
func replaceFile(fsys FS, name string, content func(tmp string) ([]byte, error)) (err error) {
	tmp := name + tmpSuffix
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = fsys.Remove(tmp) // the next one writes it anew
		}
	}()
	data, err := content(tmp)
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
