// Package wires makes boxes for real processes out of the kernel's parts: network namespaces whose links can be cut in each way,
// small file systems that can be full, and namespaces for all of it, which end with the process that asked for them.
//
// It leaves to others what runs in the boxes and what is broken when. It needs root.
package wires

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Net is the network: a namespace a box, each with a link to a bridge of this process's namespace. A second bridge is the other
// side of a partition.
//
// The addresses are of 127.0.0.0/8, but on the links: so that agents take them for loopback, which --dev asks for, and
// still each packet goes over a link that can be cut.
type Net struct{ Boxes []*Box }

// Box is one box of a Net.
type Box struct {
	Name  string // short
	Space string // its network namespace
	Addr  string // its address there
}

// NewBox is the i-th box of a run; run is a short word that tells the namespaces of runs apart.
func NewBox(run string, i int) *Box {
	name := string(rune('a' + i))
	return &Box{Name: name, Space: run + "-" + name, Addr: fmt.Sprintf("127.77.0.%d", i+1)}
}

// Command runs a program in the box's network: the process is that of the program.
func (b *Box) Command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", b.Space, program}, args...)...)
}

func (b *Box) port() string { return "to-" + b.Name }

// Names are those of boxes, for people.
func Names(list []*Box) string {
	var out []string
	for _, b := range list {
		out = append(out, b.Name)
	}
	return strings.Join(out, " ")
}

const (
	bridge    = "hmbr0"
	otherSide = "hmbr1"
)

func ip(args ...string) error {
	_, err := Output(exec.Command("ip", args...))
	return err
}

// PrivateMounts makes what this process mounts its own, and gives it a /run for the names of namespaces.
func PrivateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("a /run of its own: %w", err)
	}
	return nil
}

// Lay makes the bridges, and for each box its namespace and link.
func (n Net) Lay() error {
	steps := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridge, "type", "bridge"}, {"link", "set", bridge, "up"},
		{"link", "add", otherSide, "type", "bridge"}, {"link", "set", otherSide, "up"},
	}
	for _, a := range n.Boxes {
		steps = append(steps, [][]string{
			{"netns", "add", a.Space},
			{"link", "add", a.port(), "type", "veth", "peer", "name", "eth0", "netns", a.Space},
			{"link", "set", a.port(), "master", bridge, "up"},
			{"netns", "exec", a.Space, "sh", "-c", "echo 1 | tee /proc/sys/net/ipv4/conf/all/route_localnet /proc/sys/net/ipv4/conf/eth0/route_localnet"},
			{"-n", a.Space, "link", "set", "lo", "up"},
			// All of 127.0.0.0/8 but this address is reached over the link.
			{"-n", a.Space, "address", "del", "127.0.0.1/8", "dev", "lo"},
			{"-n", a.Space, "address", "add", "127.0.0.1/32", "dev", "lo"},
			{"-n", a.Space, "address", "add", a.Addr + "/24", "dev", "eth0"},
			{"-n", a.Space, "link", "set", "eth0", "up"},
		}...)
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// Split puts some boxes on the other side.
func (n Net) Split(side []*Box) error {
	for _, a := range side {
		if err := ip("link", "set", a.port(), "master", otherSide); err != nil {
			return err
		}
	}
	return nil
}

// Join puts all on one side.
func (n Net) Join() error {
	var errs []error
	for _, a := range n.Boxes {
		errs = append(errs, ip("link", "set", a.port(), "master", bridge))
	}
	return errors.Join(errs...)
}

// Mute lets what a sends to the others get lost, silently: it hears, and is not heard. It takes them for neighbours at a
// hardware address that nobody has.
func (n Net) Mute(a *Box, to []*Box) error {
	for _, b := range to {
		if err := ip("-n", a.Space, "neigh", "replace", b.Addr, "lladdr", "02:00:00:00:de:ad", "dev", "eth0", "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}

// Unmute ends that.
func (n Net) Unmute(a *Box, to []*Box) error {
	var errs []error
	for _, b := range to {
		errs = append(errs, ip("-n", a.Space, "neigh", "del", b.Addr, "dev", "eth0"))
	}
	return errors.Join(errs...)
}

// Slow lets a box hear at no more than 1 Mbit/s; what is too much waits, and some of it is lost.
func (n Net) Slow(a *Box) error {
	_, err := Output(exec.Command("tc", "qdisc", "replace", "dev", a.port(), "root", "tbf", "rate", "1mbit", "burst", "16kb", "latency", "300ms"))
	return err
}

// Fast ends that.
func (n Net) Fast(a *Box) error {
	_, err := Output(exec.Command("tc", "qdisc", "del", "dev", a.port(), "root"))
	return err
}
