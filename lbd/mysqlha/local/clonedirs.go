package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha/credentials"
)

// check says why no clone can be put in the datadir's place.
func (d dirs) check() error {
	data, err := os.Lstat(d.data)
	if err != nil {
		return fmt.Errorf("%w: the datadir: %w", ErrClone, err)
	}
	if !data.IsDir() {
		return fmt.Errorf("%w: the datadir %s is no directory itself: name in the file of credentials what it leads to", ErrClone, d.data)
	}
	parent, err := os.Stat(filepath.Dir(d.data))
	if err != nil {
		return fmt.Errorf("%w: the datadir: %w", ErrClone, err)
	}
	if data.Sys().(*syscall.Stat_t).Dev != parent.Sys().(*syscall.Stat_t).Dev {
		return fmt.Errorf("%w: the datadir %s is a file system of its own, so that no other data can be put in its place: use a directory in it as the datadir", ErrClone, d.data)
	}
	return nil
}

// space is what a clone needs beside the estimate: redo that is applied, and files that grow.
func spaceFor(total int64) int64 { return total + total/8 + 64<<20 }

func (d dirs) space(total int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(d.data), &fs); err != nil {
		return fmt.Errorf("%w: space beside the datadir: %w", ErrClone, err)
	}
	free, old := int64(fs.Bavail)*fs.Bsize, used(d.fresh) // what an attempt before left goes first
	if want := spaceFor(total); free+old < want {
		return fmt.Errorf("%w: %s has %d MB, and %d MB are needed, for the old data stays until the new serves: make room, or enlarge the file system", ErrSpace, filepath.Dir(d.data), free>>20, want>>20)
	}
	return nil
}

// used is how much a directory takes on disk.
func used(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // files come and go while a server runs
		}
		if info, err := e.Info(); err == nil {
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += sys.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// begin makes the new directory, empty.
func (d dirs) begin() error {
	if err := d.removeFresh(); err != nil {
		return fmt.Errorf("remove what a clone before has left: %w", err)
	}
	return os.Mkdir(d.fresh, 0o700)
}

// complete has everything in the new data as the server needs it, and on disk.
func (d dirs) complete(id, position, owner string) error {
	if !validPosition(position) {
		return fmt.Errorf("the copy's position is %q, which is none of MariaDB", position)
	}
	// The log is a new one, also where it lies outside of the datadir; what came before is the position.
	sql := "RESET MASTER;\nSET GLOBAL gtid_slave_pos = '" + position + "';\n"
	// The user of the server may have been there already, with the one that read a dump: nothing is followed out of the directory, and its files are none that were there.
	root, err := os.OpenRoot(d.fresh)
	if err != nil {
		return err
	}
	defer root.Close()
	for name, text := range map[string]string{positionFile: sql, markFile: id + " " + position + "\n"} {
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	data, err := os.Stat(d.data)
	if err != nil {
		return err
	}
	uid, gid, err := ids(owner)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err // the directory itself is the last: then they may come in
		}
		return root.Lchown(path, uid, gid)
	})
	if err == nil {
		err = os.Lchown(d.fresh, uid, gid)
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(d.fresh, data.Mode().Perm()); err != nil {
		return err
	}
	f, err := os.Open(d.fresh)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// ids of a user; -1 leaves files to the agent's.
func ids(name string) (uid, gid int, err error) {
	if name == "" {
		return -1, -1, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("user of the server: %w: name another as server.user in the file of credentials", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// swap exchanges the two, at once where the file system can.
func (d dirs) swap() error {
	err := unix.Renameat2(unix.AT_FDCWD, d.data, unix.AT_FDCWD, d.fresh, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if err = os.Rename(d.data, d.third); err == nil {
			err = errors.Join(syncDir(filepath.Dir(d.data)), d.mendWith(false))
		}
	}
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", d.data, d.fresh, err)
	}
	return syncDir(filepath.Dir(d.data))
}

// mend ends an exchange by three names in which the process ended: backwards, unless it was nearly done.
func (d dirs) mend() error { return d.mendWith(true) }

func (d dirs) mendWith(back bool) error {
	if !there(d.third) {
		return nil
	}
	if !there(d.data) {
		from := d.fresh
		if back {
			from = d.third
		}
		if err := os.Rename(from, d.data); err != nil || back {
			return err
		}
	}
	return os.Rename(d.third, d.fresh)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// arguments are those of the first start on the new data.
func (d dirs) arguments() []string { return []string{"--init-file=" + d.file(positionFile)} }

// position is that of the new data, once it is in place; "" = it has none.
func (d dirs) position() (string, error) {
	text, err := readFile(d.file(markFile), unix.O_NOFOLLOW)
	if err != nil {
		return "", fmt.Errorf("position of the new data: %w", err)
	}
	_, position, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return position, nil
}

// forget removes our files from the data.
func (d dirs) forget() {
	for _, name := range []string{markFile, positionFile} {
		_ = os.Remove(d.file(name)) // they say nothing any more
	}
}

// removeFresh removes what is beside the datadir, and ends who runs on it: a server that reads a dump outlives an agent that is killed, and nobody else would end it.
func (d dirs) removeFresh() error {
	on := credentials.Server{Datadir: d.fresh}
	for there(d.fresh) {
		pid, err := find(on, true)
		if errors.Is(err, errNoProcess) {
			break
		}
		var p *process
		if err == nil {
			p, err = watch(on, pid)
		}
		if errors.Is(err, errNoProcess) {
			continue // it has ended
		}
		if err == nil {
			err = p.signal(unix.SIGKILL)
		}
		if err != nil {
			return err
		}
		select {
		case <-p.gone:
		case <-time.After(leftEnds):
			p.close()
			return fmt.Errorf("process %d, which runs on it, was killed and has not ended yet", pid)
		}
	}
	return os.RemoveAll(d.fresh)
}

// leftEnds is how long such a server may take to end.
const leftEnds = 10 * time.Second

// validPosition reports whether a text is a GTID position of MariaDB: domain-server-number, by commas. "" is that of a server without transactions.
func validPosition(text string) bool {
	if text == "" {
		return true
	}
	for _, one := range strings.Split(text, ",") {
		parts := strings.Split(one, "-")
		if len(parts) != 3 {
			return false
		}
		for i, n := range parts {
			if _, err := strconv.ParseUint(n, 10, []int{32, 32, 64}[i]); err != nil {
				return false
			}
		}
	}
	return true
}

// samePosition compares two, whose domains may stand in any order.
func samePosition(a, b string) bool {
	split := func(s string) []string {
		s = strings.ReplaceAll(s, " ", "")
		if s == "" {
			return nil
		}
		list := strings.Split(s, ",")
		slices.Sort(list)
		return list
	}
	return slices.Equal(split(a), split(b))
}
