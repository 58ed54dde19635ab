package wires

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs this program again, with other arguments, in namespaces for network and mounts of its own, and cleans up after it,
// whatever became of it: dir, which the run was told to use, is removed but for its logs (see Logs) when the run failed. An end of
// ctx is passed on as SIGTERM.
func Run(ctx context.Context, dir string, args ...string) (err error) {
	if os.Getuid() != 0 {
		return errors.Join(errors.New("it makes network namespaces and mounts file systems: run it as root, for example with sudo"), os.RemoveAll(dir))
	}
	for _, tool := range []string{"ip", "tc", "mkfs.ext4", "mount", "umount", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			return errors.Join(fmt.Errorf("%w: install iproute2, e2fsprogs and mount", err), os.RemoveAll(dir))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// An interrupt is for this process, which passes it on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("namespaces for network and mounts: %w", err), os.RemoveAll(dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		fmt.Println("interrupted: cleaning up")
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended this moment
		select {
		case err = <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			err = errors.Join(errors.New("it did not stop when it was told to"), <-ended)
		}
	}
	switch {
	case ctx.Err() != nil:
		return errors.Join(errors.New("interrupted"), FreeDisks(dir), os.RemoveAll(dir))
	case err != nil:
		return errors.Join(fmt.Errorf("the run failed (%w); the logs stay in %s", err, Logs(dir)), FreeDisks(dir), removeAllButLogs(dir))
	}
	return errors.Join(FreeDisks(dir), os.RemoveAll(dir))
}

// Logs is where a run keeps what must outlive its failure.
func Logs(dir string) string { return filepath.Join(dir, "logs") }

func removeAllButLogs(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range list {
		if path := filepath.Join(dir, entry.Name()); path != Logs(dir) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// Output is what a command prints; its error has what it complained of.
func Output(cmd *exec.Cmd) (string, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return string(out), nil
}

// Pause waits, and reports whether ctx goes on.
func Pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Until asks until there is no error. The error is the last.
func Until(ctx context.Context, limit, every time.Duration, ok func() error) error {
	begin := time.Now()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Since(begin) > limit || !Pause(ctx, every) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
	}
}

// LastLine is that of a file, or why there is none.
func LastLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// Alone runs f, and what processes f starts itself, in a network namespace that has nothing but a loopback of its own. It needs root.
// Goroutines that f starts are not in it.
func Alone(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and with it the namespace's last user
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("a network namespace: %w", err)
			return
		}
		if err := ip("link", "set", "lo", "up"); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}
