//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// first orders the calls that load the library: the binding does it with the first call of all, and two threads that come
// at once may see it half done. The functions in it are looked up one by one later; see patient.
var first sync.Mutex

// LibraryVersion is the version of libvirt's client library on this box, such as 9.0.0.
func LibraryVersion() (string, error) {
	first.Lock()
	defer first.Unlock()
	n, err := libvirt.GetVersion()
	if err != nil {
		return "", classify(err)
	}
	return version(n), nil
}

// classify tells a missing library from what libvirt itself reports. The binding knows a missing library only by the
// text of the dynamic linker.
func classify(err error) error {
	var lv libvirt.Error
	if errors.As(err, &lv) && lv.Domain == libvirt.FROM_NONE && strings.Contains(lv.Message, "libvirt.so") {
		return fmt.Errorf("%w: %s", ErrNotInstalled, lv.Message)
	}
	return err
}

// Probe connects to a hypervisor, asks what it is, and disconnects. It blocks as long as libvirt does: for a local URI
// that is short, also when the daemon is away. Errors wrap ErrNoLibvirt or ErrNotInstalled where one is the reason.
func Probe(uri string) (Info, error) {
	library, err := LibraryVersion()
	if err != nil {
		return Info{}, fmt.Errorf("libvirt %q: %w", uri, err)
	}
	info := Info{Library: library}
	if err := probe(uri, &info); err != nil {
		return Info{Library: library}, fmt.Errorf("libvirt %q: %w", uri, err)
	}
	return info, nil
}

func probe(uri string, info *Info) error {
	conn, err := patient(func() (*libvirt.Connect, error) { return libvirt.NewConnect(uri) })
	if err != nil {
		return err
	}
	defer conn.Close()
	if info.URI, err = patient(conn.GetURI); err != nil {
		return err
	}
	if info.Driver, err = patient(conn.GetType); err != nil {
		return err
	}
	if info.Hostname, err = patient(conn.GetHostname); err != nil {
		return err
	}
	if n, err := patient(conn.GetVersion); err == nil {
		info.Version = version(n)
	}
	text, err := patient(conn.GetCapabilities)
	if err != nil {
		return err
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, g := range caps.Guests {
		for _, d := range g.Arch.Domains {
			info.DomainTypes = append(info.DomainTypes, d.Type)
		}
	}
	slices.Sort(info.DomainTypes)
	info.DomainTypes = slices.Compact(info.DomainTypes)
	info.KVM = slices.Contains(info.DomainTypes, "kvm") && kvmHere()
	return nil
}

// kvmHere reports CPUHasKVM of this box.
func kvmHere() bool {
	_, err := os.Stat("/dev/kvm")
	f, ferr := os.Open("/proc/cpuinfo")
	if ferr != nil {
		return false
	}
	defer f.Close()
	return CPUHasKVM(runtime.GOARCH, f, err == nil)
}
