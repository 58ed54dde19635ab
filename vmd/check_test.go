package vmd

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"hostmesh/vmd/plan"
)

func TestCheckDomain(t *testing.T) {
	good := plan.Domain{Name: "web7", UUID: "6c0b8f0e-1d43-4c7e-9f5a-1b2c3d4e5f60", Mesh: "m", CPUs: 1, Memory: 64 << 20, Disk: "/d/x.qcow2",
		Bridge: "br0", MAC: net.HardwareAddr{0x52, 1, 2, 3, 4, 5}, IP: netip.MustParseAddr("10.0.0.7")}
	for _, c := range []struct {
		name   string
		change func(*plan.Domain)
		want   string // "" = it is fine
	}{
		{"as it should be", func(*plan.Domain) {}, ""},
		{"a kernel and no disk", func(d *plan.Domain) { d.Disk, d.Kernel, d.Initrd, d.Cmdline = "", "/k", "/i", "quiet <&>\"" }, ""},
		{"no interface", func(d *plan.Domain) { d.Bridge, d.MAC = "", nil }, ""},
		{"no name", func(d *plan.Domain) { d.Name = "" }, "name"},
		{"a path as a name", func(d *plan.Domain) { d.Name = "../x" }, "name"},
		{"a long name", func(d *plan.Domain) { d.Name = strings.Repeat("a", 254) }, "name"},
		{"no UUID", func(d *plan.Domain) { d.UUID = "" }, "UUID"},
		{"a UUID in upper case", func(d *plan.Domain) { d.UUID = strings.ToUpper(d.UUID) }, "lower case"},
		{"another mesh", func(d *plan.Domain) { d.Mesh = "n" }, `of mesh "n"`},
		{"no CPU", func(d *plan.Domain) { d.CPUs = 0 }, "0 CPUs"},
		{"no memory", func(d *plan.Domain) { d.Memory = 1000 }, "1000 bytes"},
		{"nothing to boot", func(d *plan.Domain) { d.Disk = "" }, "boot"},
		{"an initrd alone", func(d *plan.Domain) { d.Initrd = "/i" }, "without a kernel"},
		{"a relative disk", func(d *plan.Domain) { d.Disk = "x.qcow2" }, `disk "x.qcow2"`},
		{"a line in a path", func(d *plan.Domain) { d.Console = "/a\nb" }, "console"},
		{"a line in the command line", func(d *plan.Domain) { d.Kernel, d.Cmdline = "/k", "a\x00b" }, "control"},
		{"a MAC without a bridge", func(d *plan.Domain) { d.Bridge = "" }, "MAC"},
		{"a bridge without a MAC", func(d *plan.Domain) { d.MAC = nil }, "MAC"},
		{"a MAC of a group", func(d *plan.Domain) { d.MAC[0] = 0x53 }, "group"},
		{"a bridge that is none", func(d *plan.Domain) { d.Bridge = "a/b" }, "bridge"},
		{"a zone", func(d *plan.Domain) { d.IP = netip.MustParseAddr("fe80::1%eth0") }, "zone"},
	} {
		d := good
		d.MAC = append(net.HardwareAddr(nil), good.MAC...)
		c.change(&d)
		err := CheckDomain(d, "m")
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCheckVolume(t *testing.T) {
	for _, c := range []struct {
		name, base, format string
		size               int64
		good               bool
	}{
		{"a.qcow2", "/base", "qcow2", 1, true},
		{"a.qcow2", "/base", "raw", 0, true},
		{"a.iso", "", "", 1, true},
		{"a.iso", "", "", 0, false},
		{"", "", "", 0, false},
		{".part", "", "", 0, false},
		{"../a", "", "", 0, false},
		{"a", "base", "raw", 0, false},
		{"a", "/base", "", 0, false}, // a format that is guessed lets a guest choose its backing file
		{"a", "/base", "vmdk", 0, false},
		{"a", "", "raw", 0, false},
		{"a", "", "", -1, false},
	} {
		err := CheckVolume(c.name, c.base, c.format, c.size)
		if (err == nil) != c.good || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}
