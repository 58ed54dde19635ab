package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Programs of MariaDB. Those of older and newer packages are called differently.
var (
	programBackup  = []string{"mariadb-backup", "mariabackup"}
	programStream  = []string{"mbstream"}
	programDump    = []string{"mariadb-dump", "mysqldump"}
	programClient  = []string{"mariadb", "mysql"}
	programInstall = []string{"mariadb-install-db", "mysql_install_db"}
)

// program finds one of these names.
func (h *Host) program(names []string) (string, error) {
	look := h.cfg.program
	if look == nil {
		look = exec.LookPath
	}
	for _, name := range names {
		for _, dir := range []string{"", "/usr/bin/", "/usr/sbin/"} {
			if path, err := look(dir + name); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not installed: apt-get install mariadb-backup mariadb-client mariadb-server", names[0])
}

func (h *Host) has(lists ...[]string) bool {
	return !slices.ContainsFunc(lists, func(names []string) bool { _, err := h.program(names); return err != nil })
}

// methods are those by which this host can take a copy in.
func (h *Host) methods() ([]string, error) {
	var list []string
	if h.has(programBackup, programStream) {
		list = append(list, MethodBackup)
	}
	if h.has(programClient, programInstall) {
		list = append(list, MethodDump)
	}
	if len(list) == 0 {
		_, err := h.program(programBackup)
		return nil, fmt.Errorf("%w: %w", ErrClone, err)
	}
	return list, nil
}

// gently is a command that leaves processors and disks to others.
func (h *Host) gently(ctx context.Context, program string, args ...string) *exec.Cmd {
	line := append([]string{program}, args...)
	if path, err := h.program([]string{"nice"}); err == nil {
		line = append([]string{path, "-n", "10"}, line...)
	}
	if path, err := h.program([]string{"ionice"}); err == nil {
		line = append([]string{path, "-c", "2", "-n", "7"}, line...)
	}
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to the agent's group is the agent's to handle
	return cmd
}

// end is what a program said last. It is safe for concurrent use.
type end struct {
	mu  sync.Mutex
	buf []byte
}

func (e *end) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = append(e.buf, p...)
	if n := len(e.buf); n > 2*tailRead {
		e.buf = append([]byte(nil), e.buf[n-tailRead:]...)
	}
	return len(p), nil
}

func (e *end) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.buf)
}

// pour runs a program that reads a stream.
func pour(cmd *exec.Cmd, from io.Reader) error {
	var said end
	cmd.Stdout, cmd.Stderr = &said, &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	name := filepath.Base(cmd.Args[len(cmd.Args)-1])
	for _, arg := range cmd.Args {
		if strings.HasPrefix(filepath.Base(arg), "m") {
			name = filepath.Base(arg)
			break
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, copied := io.CopyBuffer(writerOnly{in}, from, make([]byte, 256<<10))
	if copied != nil && !errors.Is(copied, syscall.EPIPE) {
		// What came is not all: the program must not take it for that.
		_ = cmd.Process.Kill()
	}
	closed := in.Close()
	err = cmd.Wait()
	switch {
	case copied != nil && !errors.Is(copied, syscall.EPIPE):
		return copied
	case err != nil:
		return fmt.Errorf("%s: %w: %s", name, err, telling(said.String()))
	case copied != nil:
		return fmt.Errorf("%s did not read to the end: %s", name, telling(said.String()))
	}
	return closed
}

// writerOnly hides ReadFrom, so that the buffer is used.
type writerOnly struct{ io.Writer }

// unpack puts the files of a stream into a directory.
func (h *Host) unpack(ctx context.Context, dir string, from io.Reader) error {
	program, err := h.program(programStream)
	if err != nil {
		return err
	}
	return pour(h.gently(ctx, program, "-x", "-C", dir), from)
}

// completed is what mariadb-backup says last when it did all.
const completed = "completed OK!"

// prepare makes data of a backup, and returns its position.
func (h *Host) prepare(ctx context.Context, dir string) (string, error) {
	program, err := h.program(programBackup)
	if err != nil {
		return "", err
	}
	var said end
	cmd := h.gently(ctx, program, "--prepare", "--target-dir="+dir, "--use-memory=128M")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("mariadb-backup --prepare: %w: %s", err, telling(said.String()))
	}
	if !strings.Contains(said.String(), completed) {
		return "", fmt.Errorf("mariadb-backup --prepare did not say %q: %s", completed, telling(said.String()))
	}
	return positionOf(dir)
}

// positionOf reads the position from the files of a backup. What a replica has is in the first; only a server that follows nobody has but the second.
func positionOf(dir string) (string, error) {
	slave, err := readOne(dir, "xtrabackup_slave_info", "mariadb_backup_slave_info")
	if err != nil {
		return "", err
	}
	if found := slavePosition.FindSubmatch(slave); found != nil {
		return clean(found[1])
	}
	log, err := readOne(dir, "xtrabackup_binlog_info", "mariadb_backup_binlog_info")
	if err != nil {
		return "", err
	}
	if log == nil {
		return "", errors.New("the backup says no position: the donor has no binary log")
	}
	fields := bytes.SplitN(bytes.TrimRight(log, "\n"), []byte("\t"), 3)
	if len(fields) < 3 {
		return "", nil // no transaction yet
	}
	return clean(fields[2])
}

// slavePosition is how mariadb-backup and mariadb-dump write a position.
var slavePosition = regexp.MustCompile(`(?i)SET\s+GLOBAL\s+gtid_slave_pos\s*=\s*'([^']*)'`)

func clean(text []byte) (string, error) {
	position := strings.Join(strings.Fields(string(text)), "")
	if !validPosition(position) {
		return "", fmt.Errorf("the backup's position is %q, which is none of MariaDB", position)
	}
	return position, nil
}

func readOne(dir string, names ...string) ([]byte, error) {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			return text, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}
