// Package plan decides about virtual machines: which should exist on a box, where a new one goes, which addresses a box
// may give out. All of it is a pure function of views. What is done about it is package vmd's.
package plan

import (
	"net"
	"net/netip"
)

// Domain is a virtual machine as the hypervisor is to make it. All paths are of files on the box.
type Domain struct {
	Name string // of the domain: the host's key
	UUID string
	Mesh string // mesh id, written into the domain's metadata: who owns it
	// CPUs are virtual processors, Memory is bytes.
	CPUs   int
	Memory int64
	// Disk is the volume that the machine boots from, qcow2; "" for a machine that lives in its initrd.
	Disk string
	// Seed is an image with cloud-init's data, attached as a CD; "" = none.
	Seed string
	// Kernel, Initrd and Cmdline boot a kernel directly; Kernel "" = boot from Disk.
	Kernel, Initrd, Cmdline string
	// Bridge is what its interface is connected to; "" = it has none.
	Bridge string
	MAC    net.HardwareAddr
	IP     netip.Addr // for people, in the metadata
	// Console is the file that the serial console is written to; "" = not kept.
	Console string
}

// Machine is a domain as the hypervisor has it.
type Machine struct {
	Name  string
	UUID  string
	Mesh  string // mesh id in its metadata; "" = it is not ours
	State State
	CPUs  int
	// Memory is bytes.
	Memory int64
	// Files are the paths of all disks, kernels and initrds it refers to, now or when it is started again, their backing
	// files not included, sorted.
	Files []string
	// Version is the format of the metadata, 0 when it is not ours.
	Version int
}

// State is what a domain does.
type State string

// The states of a domain.
const (
	Off     State = "off"
	Running State = "running"
	Paused  State = "paused"
	Dying   State = "dying"   // it is being shut down
	Crashed State = "crashed" // and off
)
