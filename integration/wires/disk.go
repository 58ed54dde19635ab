package wires

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a small file system in a sparse file.
type Disk struct {
	Image string // the sparse file
	Dir   string // where it is mounted
	Size  int64
}

// Mount makes the file system, and mounts it.
func (d Disk) Mount() error {
	if _, err := Output(exec.Command("truncate", "-s", fmt.Sprint(d.Size), d.Image)); err != nil {
		return err
	}
	if _, err := Output(exec.Command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.Image)); err != nil {
		return err
	}
	_, err := Output(exec.Command("mount", "-o", "loop", d.Image, d.Dir))
	return err
}

// Unmount is for after the end of what uses it. It frees the loop device.
func (d Disk) Unmount() error {
	_, err := Output(exec.Command("umount", d.Dir))
	return err
}

// Free is what is free, in bytes.
func (d Disk) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", d.Dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func (d Disk) foreign() string { return filepath.Join(d.Dir, "foreign") }

// Take makes the foreign file n bytes longer, and reports whether the file system is full: nothing is left.
func (d Disk) Take(n int64) (full bool, err error) {
	fd, err := unix.Open(d.foreign(), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return true, nil
		}
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	for n >= 4096 {
		err := unix.Fallocate(fd, 0, st.Size, n)
		if err == nil {
			return false, nil
		}
		if !errors.Is(err, unix.ENOSPC) {
			return false, fmt.Errorf("fill %s: %w", d.Dir, err)
		}
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		n /= 2
	}
	return true, nil
}

// Give removes the foreign file.
func (d Disk) Give() error {
	err := unix.Unlink(d.foreign())
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// FreeDisks waits until the kernel has given the loop devices of a directory's images back, and removes the images.
func FreeDisks(dir string) error {
	images, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		// The last mount took its loop device along, but the kernel may need a moment for that.
		for range 100 {
			out, err := Output(exec.Command("losetup", "-j", image))
			if err != nil || strings.TrimSpace(out) == "" {
				break
			}
			if dev, _, ok := strings.Cut(out, ":"); ok {
				_, _ = Output(exec.Command("losetup", "-d", dev)) // it frees itself as soon as nobody uses it
			}
			time.Sleep(50 * time.Millisecond)
		}
		errs = append(errs, os.Remove(image))
	}
	return errors.Join(errs...)
}
