// Package libvirtd starts a libvirtd of one's own: the real program, which shares nothing with one of the machine or with
// another of the same test.
//
// It owns the daemons and all they start, its directories and its end. What is asked of it is whoever's that starts one.
package libvirtd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds how long a daemon may take to come.
const patience = 2 * time.Minute

// Daemon is virtlogd and libvirtd in namespaces of their own: of mounts, so that /run and libvirt's directories are
// below Dir, and of processes, so that nothing outlives them. Its methods are not safe for concurrent use.
type Daemon struct {
	Dir    string
	netns  string
	holder *exec.Cmd
	inside string // pid of the namespace's first process
	log    *process
	virt   *process
}

// process is a daemon and the nsenter that waits for it.
type process struct {
	cmd   *exec.Cmd
	pid   int // of the daemon, as seen from here
	ended chan struct{}
}

// setup runs as the first process of the namespaces, and reaps. Where the processor cannot run guests, /dev/kvm is taken
// away: libvirt believes it and asks the emulator again what it can, for seconds, with each call.
const setup = `set -e
for d in etc run run/libvirt lib log cache; do mkdir -p "$0/$d"; done
mount --bind "$0/run" /run
for d in etc lib log cache; do
	case $d in etc) at=/etc/libvirt;; *) at=/var/$d/libvirt;; esac
	mount --bind "$0/$d" $at
done
if [ -e /dev/kvm ] && ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
	: >"$0/no-kvm"
	chmod 0 "$0/no-kvm"
	mount --bind "$0/no-kvm" /dev/kvm
fi
echo ready
while :; do sleep 1000 & wait $!; done`

// Start starts both daemons and waits until they answer. Names of network namespaces are those of ip netns; "" stands for
// the caller's. It needs root, libvirt-daemon-system and libvirt-daemon-driver-qemu.
func Start(netns string) (*Daemon, error) {
	d := &Daemon{netns: netns}
	if err := d.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start libvirtd: %w", err), d.Close())
	}
	return d, nil
}

func (d *Daemon) start() error {
	var err error
	if d.Dir, err = os.MkdirTemp("", "libvirtd-"); err != nil { // a short path: sockets' names have little room
		return err
	}
	if err := os.Chmod(d.Dir, 0o711); err != nil { //nolint:gosec // the emulator is another user
		return err
	}
	for _, at := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"} {
		if _, err := os.Stat(at); err != nil {
			return fmt.Errorf("%w; install libvirt-daemon-system", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(d.Dir, "etc"), 0o711); err != nil {
		return err
	}
	for name, text := range map[string]string{
		// Only root asks; the rest of the defaults is what people have.
		"libvirtd.conf": "auth_unix_rw = \"none\"\nunix_sock_group = \"root\"\nunix_sock_rw_perms = \"0700\"\n",
		// Control groups and profiles are the machine's, and others may use them by the same names. The emulator's own /dev
		// cannot be made where something is mounted below it, as it may be here.
		"qemu.conf":     "cgroup_controllers = []\nsecurity_driver = \"none\"\nnamespaces = []\n",
		"virtlogd.conf": "",
	} {
		if err := os.WriteFile(filepath.Join(d.Dir, "etc", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	d.holder = exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup, d.Dir)
	d.holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := d.holder.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr strings.Builder
	d.holder.Stderr = &stderr
	if err := d.holder.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("make its namespaces: %q, %w: %s", line, err, stderr.String())
	}
	inside, err := child(d.holder.Process.Pid)
	if err != nil {
		return err
	}
	d.inside = strconv.Itoa(inside)
	if d.log, err = d.run("virtlogd"); err != nil {
		return err
	}
	if err := d.answers(d.log, "virtlogd-sock"); err != nil {
		return err
	}
	return d.Restart()
}

// run starts a daemon in the namespaces.
func (d *Daemon) run(name string) (*process, error) {
	args := []string{"--target", d.inside, "--mount", "--pid"}
	if d.netns != "" {
		args = append(args, "--net=/run/netns/"+d.netns)
	}
	args = append(args, "--", name, "--pid-file", "/run/libvirt/"+name+".pid")
	p := &process{cmd: exec.Command("nsenter", args...), ended: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(d.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the daemon has its own
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	if p.pid, err = child(p.cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, d.Log())
	}
	return p, nil
}

// child waits for the only child of a process.
func child(pid int) (int, error) {
	path := fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		if f := strings.Fields(string(text)); len(f) > 0 {
			return strconv.Atoi(f[0])
		}
	}
	return 0, fmt.Errorf("process %d has no child within %s", pid, patience)
}

// answers waits for a socket that somebody listens at.
func (d *Daemon) answers(p *process, socket string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(d.Dir, "run/libvirt", socket))
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended before it listened at %s: %s", socket, d.Log())
		default:
		}
	}
	return fmt.Errorf("nobody listens at %s: %s", socket, d.Log())
}

// URI is what a client connects to.
func (d *Daemon) URI() string {
	return "qemu:///system?socket=" + filepath.Join(d.Dir, "run/libvirt/libvirt-sock")
}

// Log is what the daemons said.
func (d *Daemon) Log() string {
	var all strings.Builder
	for _, name := range []string{"virtlogd", "libvirtd"} {
		f, err := os.Open(filepath.Join(d.Dir, name+".log"))
		if err != nil {
			continue // it did not come that far
		}
		_, _ = io.Copy(&all, io.LimitReader(f, 64<<10))
		_ = f.Close()
	}
	return all.String()
}

// Kill ends libvirtd without a goodbye, and waits until it is gone. Its machines go on.
func (d *Daemon) Kill() error {
	if d.virt == nil {
		return nil
	}
	if err := syscall.Kill(d.virt.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill libvirtd: %w", err)
	}
	<-d.virt.ended
	d.virt = nil
	return nil
}

// Restart starts libvirtd, after a Kill again, and waits until it answers.
func (d *Daemon) Restart() error {
	if err := d.Kill(); err != nil {
		return err
	}
	// The socket of a killed one is still there, and nobody listens.
	var err error
	if d.virt, err = d.run("libvirtd"); err != nil {
		return err
	}
	return d.answers(d.virt, "libvirt-sock")
}

// Freeze makes libvirtd hang until Thaw.
func (d *Daemon) Freeze() error { return syscall.Kill(d.virt.pid, syscall.SIGSTOP) }

// Thaw ends Freeze.
func (d *Daemon) Thaw() error { return syscall.Kill(d.virt.pid, syscall.SIGCONT) }

// Virsh runs virsh, as somebody does by hand.
func (d *Daemon) Virsh(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "virsh", append([]string{"-q", "-c", d.URI()}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Close ends the daemons and all machines, and removes the directory.
func (d *Daemon) Close() error {
	if d.holder != nil && d.holder.Process != nil {
		_ = d.holder.Process.Kill() // the kernel ends all that is in its namespace with it
		_ = d.holder.Wait()
		for _, p := range []*process{d.log, d.virt} {
			if p != nil {
				<-p.ended
			}
		}
		d.holder = nil
	}
	if d.Dir == "" {
		return nil
	}
	return os.RemoveAll(d.Dir)
}
