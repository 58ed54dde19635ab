package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// wires are the network: a namespace an agent, each with a link to a bridge of this process's namespace. A second bridge
// is the other side of a partition.
//
// The addresses are of 127.0.0.0/8, but on the links: so that agents take them for loopback, which --dev asks for, and
// still each packet goes over a link that can be cut.
type wires struct{ agents []*agent }

const (
	bridge    = "hmbr0"
	otherSide = "hmbr1"
)

func ip(args ...string) error {
	_, err := output(exec.Command("ip", args...))
	return err
}

func addrOf(i int) string { return fmt.Sprintf("127.77.0.%d", i+1) }

// privateMounts makes what this process mounts its own, and gives it a /run for the names of namespaces.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("a /run of its own: %w", err)
	}
	return nil
}

// lay makes the bridges, and for each agent its namespace and link.
func (w wires) lay() error {
	steps := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridge, "type", "bridge"}, {"link", "set", bridge, "up"},
		{"link", "add", otherSide, "type", "bridge"}, {"link", "set", otherSide, "up"},
	}
	for _, a := range w.agents {
		steps = append(steps, [][]string{
			{"netns", "add", a.space},
			{"link", "add", a.port(), "type", "veth", "peer", "name", "eth0", "netns", a.space},
			{"link", "set", a.port(), "master", bridge, "up"},
			{"netns", "exec", a.space, "sh", "-c", "echo 1 | tee /proc/sys/net/ipv4/conf/all/route_localnet /proc/sys/net/ipv4/conf/eth0/route_localnet"},
			{"-n", a.space, "link", "set", "lo", "up"},
			// All of 127.0.0.0/8 but this address is reached over the link.
			{"-n", a.space, "address", "del", "127.0.0.1/8", "dev", "lo"},
			{"-n", a.space, "address", "add", "127.0.0.1/32", "dev", "lo"},
			{"-n", a.space, "address", "add", a.addr + "/24", "dev", "eth0"},
			{"-n", a.space, "link", "set", "eth0", "up"},
		}...)
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// split puts some agents on the other side.
func (w wires) split(side []*agent) error {
	for _, a := range side {
		if err := ip("link", "set", a.port(), "master", otherSide); err != nil {
			return err
		}
	}
	return nil
}

// join puts all on one side.
func (w wires) join() error {
	var errs []error
	for _, a := range w.agents {
		errs = append(errs, ip("link", "set", a.port(), "master", bridge))
	}
	return errors.Join(errs...)
}

// mute lets what a sends to the others get lost, silently: it hears, and is not heard. It takes them for neighbours at a
// hardware address that nobody has.
func (w wires) mute(a *agent, to []*agent) error {
	for _, b := range to {
		if err := ip("-n", a.space, "neigh", "replace", b.addr, "lladdr", "02:00:00:00:de:ad", "dev", "eth0", "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}

func (w wires) unmute(a *agent, to []*agent) error {
	var errs []error
	for _, b := range to {
		errs = append(errs, ip("-n", a.space, "neigh", "del", b.addr, "dev", "eth0"))
	}
	return errors.Join(errs...)
}

// slow lets an agent hear at no more than 1 Mbit/s; what is too much waits, and some of it is lost.
func (w wires) slow(a *agent) error {
	_, err := output(exec.Command("tc", "qdisc", "replace", "dev", a.port(), "root", "tbf", "rate", "1mbit", "burst", "16kb", "latency", "300ms"))
	return err
}

func (w wires) fast(a *agent) error {
	_, err := output(exec.Command("tc", "qdisc", "del", "dev", a.port(), "root"))
	return err
}

// disk is a small file system in a sparse file.
type disk struct {
	image, dir string
	size       int64
}

func (d disk) mount() error {
	if _, err := output(exec.Command("truncate", "-s", fmt.Sprint(d.size), d.image)); err != nil {
		return err
	}
	if _, err := output(exec.Command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image)); err != nil {
		return err
	}
	_, err := output(exec.Command("mount", "-o", "loop", d.image, d.dir))
	return err
}

// unmount is for after the agent's end. It frees the loop device.
func (d disk) unmount() error {
	_, err := output(exec.Command("umount", d.dir))
	return err
}

// free is what is free, in bytes.
func (d disk) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", d.dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func (d disk) foreign() string { return filepath.Join(d.dir, "foreign") }

// take makes the foreign file n bytes longer, and reports whether the file system is full: nothing is left.
func (d disk) take(n int64) (full bool, err error) {
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
			return false, fmt.Errorf("fill %s: %w", d.dir, err)
		}
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		n /= 2
	}
	return true, nil
}

func (d disk) give() error {
	err := unix.Unlink(d.foreign())
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func names(list []*agent) string {
	var out []string
	for _, a := range list {
		out = append(out, a.short)
	}
	return strings.Join(out, " ")
}
