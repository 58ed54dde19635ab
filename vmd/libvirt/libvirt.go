// Package libvirt speaks to the hypervisor of this box through libvirt.
//
// It owns what is libvirt's: its client library, which is loaded at run time so that one binary runs on boxes with and
// without it, its connection URIs and its versions, the XML of domains with the defaults that a server has, and the files
// of volumes. Probe looks once what there is; Open returns a vmd.Hypervisor that stays. Which machines should exist, and
// where, is package vmd's.
//
// The binding needs cgo and the tag libvirt_dlopen. A build without them, or with the tag nolibvirt, has no virtual
// machines: every call returns ErrNoLibvirt.
package libvirt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

var (
	// ErrNoLibvirt is returned by every call of a build without the binding.
	ErrNoLibvirt = errors.New("this hostmesh was built without libvirt; build it with cgo and -tags libvirt_dlopen")
	// ErrNotInstalled is returned when this box lacks libvirt's client library.
	ErrNotInstalled = errors.New("libvirt's client library is not installed; install libvirt (Debian: libvirt0, with libvirt-daemon-system for virtual machines)")
)

// Info is what a hypervisor says of itself.
type Info struct {
	URI         string   `json:"uri"`          // as libvirt completed it
	Driver      string   `json:"driver"`       // QEMU, TEST, ...
	Version     string   `json:"version"`      // of the hypervisor; empty when it does not say
	Library     string   `json:"library"`      // version of libvirt's client library here
	Hostname    string   `json:"hostname"`     // of the box the hypervisor runs on
	DomainTypes []string `json:"domain_types"` // what it can run (kvm, qemu, test, ...), sorted
	KVM         bool     `json:"kvm"`          // whether domains of type kvm would really run; see CPUHasKVM
}

// DomainType is the type to give new domains: kvm where it really runs, else what the hypervisor offers, qemu before all.
// Empty when it offers nothing.
func (i Info) DomainType() string {
	switch {
	case i.KVM:
		return "kvm"
	case slices.Contains(i.DomainTypes, "qemu"):
		return "qemu"
	}
	for _, t := range i.DomainTypes {
		if t != "kvm" {
			return t
		}
	}
	return ""
}

// CPUHasKVM reads /proc/cpuinfo and reports whether the processor can run guests by itself. /dev/kvm alone proves
// nothing on x86: it exists in virtual machines whose processor lacks vmx and svm, where libvirt offers kvm and the guest
// hangs. Other architectures list no such flag, and there the device decides.
func CPUHasKVM(arch string, cpuinfo io.Reader, device bool) bool {
	if arch != "amd64" && arch != "386" {
		return device
	}
	sc := bufio.NewScanner(cpuinfo)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		name, flags, ok := strings.Cut(sc.Text(), ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		for f := range strings.FieldsSeq(flags) {
			if f == "vmx" || f == "svm" {
				return device
			}
		}
	}
	return false
}

// version formats libvirt's numbers: 1,000,000 x major + 1,000 x minor + release.
func version(n uint32) string {
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1000%1000, n%1000)
}
