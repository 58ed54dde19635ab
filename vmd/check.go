package vmd

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"hostmesh/vmd/plan"
)

var (
	uuidShape   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	nameShape   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	bridgeShape = regexp.MustCompile(`^[^/\s:]{1,15}$`) // as the kernel has it, IFNAMSIZ
)

// CheckDomain says what is wrong with a domain before any hypervisor sees it; its errors wrap ErrRefused. Each Hypervisor
// calls it in Define with the mesh that it works for.
func CheckDomain(d plan.Domain, mesh string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("domain %q: %w: %s", d.Name, ErrRefused, fmt.Sprintf(format, args...))
	}
	switch {
	case !nameShape.MatchString(d.Name) || len(d.Name) > 253:
		return bad("a name is at most 253 letters, digits, dots, dashes and underscores, and begins with a letter or digit")
	case !uuidShape.MatchString(d.UUID):
		return bad("UUID %q is not 8-4-4-4-12 hexadecimal digits in lower case", d.UUID)
	case d.Mesh == "" || d.Mesh != mesh:
		return bad("it is of mesh %q, and this agent is of %q", d.Mesh, mesh)
	case d.CPUs < 1:
		return bad("%d CPUs: it needs one at least", d.CPUs)
	case d.Memory < 1<<20:
		return bad("%d bytes of memory: it needs a MiB at least", d.Memory)
	case d.Kernel == "" && d.Disk == "":
		return bad("it has neither a disk nor a kernel to boot from")
	case d.Kernel == "" && (d.Initrd != "" || d.Cmdline != ""):
		return bad("an initrd or a command line without a kernel")
	case d.Bridge == "" && len(d.MAC) > 0:
		return bad("it has a MAC and no bridge to connect its interface to")
	case d.Bridge != "" && !bridgeShape.MatchString(d.Bridge):
		return bad("bridge %q is not the name of an interface", d.Bridge)
	case d.Bridge != "" && (len(d.MAC) != 6 || d.MAC[0]&1 != 0):
		return bad("MAC %q: an interface needs one of 6 bytes that is not a group's", d.MAC)
	case d.IP != netip.Addr{} && d.IP.Zone() != "":
		return bad("address %s has a zone", d.IP)
	}
	for what, path := range map[string]string{"disk": d.Disk, "seed": d.Seed, "kernel": d.Kernel, "initrd": d.Initrd, "console": d.Console} {
		if path != "" && (!filepath.IsAbs(path) || !printable(path)) {
			return bad("%s %q is not an absolute path", what, path)
		}
	}
	if !printable(d.Cmdline) {
		return bad("command line %q has control characters", d.Cmdline)
	}
	return nil
}

// printable reports whether XML 1.0 can hold a string on one line.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' || r == '\uFFFE' || r == '\uFFFF' })
}

// CheckVolume says what is wrong with a volume that is to be made; its errors wrap ErrRefused. A name that begins with a
// dot is kept for files that are not whole yet.
func CheckVolume(name, base, baseFormat string, size int64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	switch {
	case !nameShape.MatchString(name) || len(name) > 200:
		return bad("the name of volume %q is not at most 200 letters, digits, dots, dashes and underscores that begin with a letter or digit", name)
	case size < 0, size == 0 && base == "":
		return bad("volume %q cannot have %d bytes", name, size)
	case base == "" && baseFormat != "":
		return bad("volume %q has the format %q of a base, and no base", name, baseFormat)
	case base != "" && (!filepath.IsAbs(base) || !printable(base)):
		return bad("base %q of volume %q is not an absolute path", base, name)
	case base != "" && baseFormat != "qcow2" && baseFormat != "raw":
		return bad("base %q of volume %q: format %q is neither qcow2 nor raw", base, name, baseFormat)
	}
	return nil
}

// WrongSize is the error of a WriteVolume whose content has more or less bytes than it was told: nothing is written.
func WrongSize(got, want int64) error {
	if got > want {
		return fmt.Errorf("the content has more than the %d bytes that were announced", want)
	}
	return fmt.Errorf("the content ended after %d of %d bytes: %w", got, want, io.ErrUnexpectedEOF)
}
