package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// etcd is a one-node etcd with its defaults.
type etcd struct {
	addr, version string
	mark          net.PacketConn
	cmd           *exec.Cmd
	ended         chan struct{}
}

// debian finds a program, and installs the Debian package that has it when it may.
func debian(ctx context.Context, program, pkg string) (string, error) {
	path, err := exec.LookPath(program)
	if !errors.Is(err, exec.ErrNotFound) {
		return path, err
	}
	if os.Getuid() != 0 {
		return "", fmt.Errorf("%s is not there: install it with apt-get install %s", program, pkg)
	}
	fmt.Fprintf(os.Stderr, " (installing %s)", pkg)
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", pkg}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if _, err := output(cmd); err != nil {
			return "", err
		}
	}
	return exec.LookPath(program)
}

func (b *bench) startEtcd(ctx context.Context) (_ *etcd, err error) {
	binary, err := debian(ctx, "etcd", "etcd-server")
	if err != nil {
		return nil, err
	}
	version, err := output(exec.CommandContext(ctx, binary, "--version"))
	if err != nil {
		return nil, err
	}
	version, _, _ = strings.Cut(strings.TrimSpace(version), "\n")
	e := &etcd{version: version, ended: make(chan struct{})}
	addr, mark, err := loopback()
	if err != nil {
		return nil, err
	}
	e.addr, e.mark = addr+":2379", mark
	client, peers := "http://"+addr+":2379", "http://"+addr+":2380"
	dir := filepath.Join(b.dir, "etcd")
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	defer log.Close()
	e.cmd = exec.Command(binary, "--name", "bench", "--data-dir", dir, "--logger", "zap", "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "bench="+peers)
	e.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // ETCD_* would change it
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	go func() { _ = e.cmd.Wait(); close(e.ended) }()
	err = until(ctx, 20*time.Second, 20*time.Millisecond, "etcd serves", func() (bool, error) {
		select {
		case <-e.ended:
			text, _ := os.ReadFile(dir + ".log") // whatever it left
			return false, fmt.Errorf("etcd ended by itself: %s\n%.500s", e.cmd.ProcessState, text)
		default:
		}
		resp, err := http.Get(client + "/health")
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		e.end()
		return nil, err
	}
	return e, nil
}

func (e *etcd) end() {
	if e.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-e.ended:
		case <-time.After(5 * time.Second):
			_ = e.cmd.Process.Kill()
			<-e.ended
		}
	}
	_ = e.mark.Close()
}
