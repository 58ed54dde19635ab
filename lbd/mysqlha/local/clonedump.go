package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dumped is what mariadb-dump says last when it did all.
const dumped = "-- Dump completed"

// restoreDump makes data of a dump: an empty database, in which a server without network, and without a binary log, reads it.
func (h *Host) restoreDump(ctx context.Context, m Member, dir string, from io.Reader) (string, error) {
	install, err := h.program(programInstall)
	if err != nil {
		return "", err
	}
	client, err := h.program(programClient)
	if err != nil {
		return "", err
	}
	uid, gid, err := ids(m.Server.User)
	if err != nil {
		return "", err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return "", err
	}
	config := defaultsOf(m.Server.Start)
	args := []string{"--no-defaults"}
	if config != "" {
		args = []string{"--defaults-file=" + config}
	}
	var said end
	cmd := h.gently(ctx, install, append(args, "--datadir="+dir, "--auth-root-authentication-method=normal", "--skip-test-db", "--user="+m.Server.User)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("mariadb-install-db: %w: %s", err, telling(said.String()))
	}
	private, err := os.MkdirTemp("", "hostmesh-restore-") // the path of a socket is short
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(private)
	if err := os.Chown(private, uid, gid); err != nil {
		return "", err
	}
	server, err := serverProgram(m.Server.Start)
	if err != nil {
		return "", err
	}
	socket := filepath.Join(private, "s")
	var log end
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	daemon := h.gently(run, server, append(args, "--datadir="+dir, "--skip-networking", "--socket="+socket, "--pid-file="+filepath.Join(private, "pid"), "--skip-log-bin",
		"--log-error="+filepath.Join(private, "log"), "--skip-slave-start", "--skip-grant-tables", "--read-only=0", "--rpl-semi-sync-master-enabled=0", "--tmpdir="+private, "--user="+m.Server.User)...)
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		return "", err
	}
	gone := make(chan error, 1)
	go func() { gone <- daemon.Wait() }()
	ended := false
	defer func() {
		if !ended {
			cancel()
			<-gone
		}
	}()
	why := func() string {
		text, _ := readFile(filepath.Join(private, "log"), unix.O_NOFOLLOW) // it says at least nothing
		return telling(string(text) + log.String())
	}
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			break
		}
		select {
		case err := <-gone:
			ended = true
			return "", fmt.Errorf("a server for the dump ended: %w: %s", err, why())
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	w := &dumpWatch{from: bufio.NewReaderSize(from, 256<<10)}
	// Their tables are there; what stands in them is the dump's.
	if err := pour(h.gently(ctx, client, "--no-defaults", "--socket="+socket, "--user=root", "--binary-mode", "--init-command=SET sql_log_bin=0"), w); err != nil {
		return "", fmt.Errorf("%w: %s", err, why())
	}
	position, err := w.position()
	if err != nil {
		return "", err
	}
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return "", err
	}
	select {
	case err := <-gone:
		ended = true
		if err != nil {
			return "", fmt.Errorf("a server for the dump ended: %w: %s", err, why())
		}
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return position, nil
}

// dumpWatch reads a dump and keeps its beginning and its end: the position is in one of them, by version.
type dumpWatch struct {
	from       io.Reader
	head, last []byte
}

const (
	dumpHead = 64 << 10
	dumpLast = 16 << 10
)

func (w *dumpWatch) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if len(w.head) < dumpHead {
		w.head = append(w.head, p[:n]...)
	}
	w.last = append(w.last, p[:n]...)
	if len(w.last) > 2*dumpLast {
		w.last = append([]byte(nil), w.last[len(w.last)-dumpLast:]...)
	}
	return n, err
}

// dumpPosition is how mariadb-dump writes the position: at the beginning of a line, where no row can stand.
var dumpPosition = regexp.MustCompile(`(?m)^(?:-- )?SET GLOBAL gtid_slave_pos='([^'\n]*)'`)

// position is what the dump says at its beginning, or its end.
func (w *dumpWatch) position() (string, error) {
	if !bytes.Contains(w.last, []byte(dumped)) {
		return "", fmt.Errorf("the dump does not end with %q", dumped)
	}
	for _, part := range [][]byte{w.head, w.last} {
		if m := dumpPosition.FindSubmatch(part); m != nil {
			return clean(m[1])
		}
	}
	return "", errors.New("the dump says no position: the donor has no binary log")
}

// defaultsOf is the file that a command of a server names; "" = those of the system.
func defaultsOf(start []string) string {
	for _, arg := range start {
		if file, ok := strings.CutPrefix(arg, "--defaults-file="); ok {
			return file
		}
	}
	return ""
}

// serverProgram is the server in a command that may begin with others.
func serverProgram(start []string) (string, error) {
	for _, arg := range start {
		if name := filepath.Base(arg); (name == "mariadbd" || name == "mysqld") && !strings.HasPrefix(arg, "-") {
			return arg, nil
		}
	}
	return "", fmt.Errorf("the command that starts the server names neither mariadbd nor mysqld: %q", start)
}
