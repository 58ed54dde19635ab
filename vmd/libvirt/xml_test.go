package libvirt

import (
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

var update = flag.Bool("update", false, "write testdata/*.xml anew")

// The XML of a machine is what its guest lives in: a change of it is a decision.
func TestDomainXML(t *testing.T) {
	disk := plan.Domain{Name: "web7", UUID: "6c0b8f0e-1d43-4c7e-9f5a-1b2c3d4e5f60", Mesh: `m"<1>&`, CPUs: 2, Memory: 2<<30 + 1, Disk: "/vm/web7.qcow2", Seed: "/vm/web7-seed.iso",
		Bridge: "br0", MAC: net.HardwareAddr{0x52, 1, 2, 3, 4, 5}, IP: netip.MustParseAddr("10.0.0.7"), Console: "/vm/console/web7.log"}
	kernel := plan.Domain{Name: "small", UUID: "6c0b8f0e-1d43-4c7e-9f5a-1b2c3d4e5f61", Mesh: "m", CPUs: 1, Memory: 64 << 20, Kernel: "/k", Initrd: "/i", Cmdline: `quiet a="<&>"`}
	for _, c := range []struct {
		name string
		d    plan.Domain
		p    platform
	}{
		{"disk-kvm", disk, platform{domainType: "kvm", arch: "x86_64", machine: "q35", direct: true}},
		{"kernel-qemu", kernel, platform{domainType: "qemu", arch: "x86_64", machine: "pc"}},
		{"disk-arm", disk, platform{domainType: "kvm", arch: "aarch64", machine: "virt", direct: true}},
		{"kernel-test", kernel, platform{domainType: "test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := domainXML(c.d, c.p)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.name+".xml")
			if *update {
				if err := os.WriteFile(golden, []byte(text+"\n"), 0o644); err != nil { //nolint:gosec // it is source
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if text+"\n" != string(want) {
				t.Errorf("run with -update if this is meant:\n%s", text)
			}
			seen, err := describe(text)
			if err != nil {
				t.Fatal(err)
			}
			m := seen.machine()
			files := slices.DeleteFunc([]string{c.d.Disk, c.d.Seed, c.d.Initrd, c.d.Kernel}, func(p string) bool { return p == "" })
			slices.Sort(files)
			if m.Name != c.d.Name || m.UUID != c.d.UUID || m.Mesh != c.d.Mesh || m.Version != vmd.MetadataVersion || m.CPUs != c.d.CPUs || m.Memory != (c.d.Memory+1023)/1024*1024 || !slices.Equal(m.Files, files) {
				t.Errorf("read back %+v", m)
			}
			if seen.Console.Log.File != c.d.Console {
				t.Errorf("console %q", seen.Console.Log.File)
			}
			if c.d.IP.IsValid() && seen.Ours.Address != c.d.IP.String() {
				t.Errorf("address %q", seen.Ours.Address)
			}
		})
	}
}

// Only our namespace makes a domain ours.
func TestDescribeForeign(t *testing.T) {
	for _, meta := range []string{
		``,
		`<metadata/>`,
		`<metadata><machine version="1" mesh="m"/></metadata>`,
		`<metadata><x:machine xmlns:x="urn:other" version="one" mesh="m"/></metadata>`,
		`<metadata><x:other xmlns:x="urn:hostmesh:domain" version="1" mesh="m"/></metadata>`,
		`<metadata><x:a xmlns:x="urn:other"><h:machine xmlns:h="urn:hostmesh:domain" version="1" mesh="m"/></x:a></metadata>`,
	} {
		d, err := describe(`<domain type="kvm"><name>a</name><uuid>u</uuid>` + meta + `<memory unit="KiB">1024</memory><vcpu>1</vcpu></domain>`)
		if err != nil || d.machine().Mesh != "" {
			t.Errorf("%s: %+v, %v", meta, d, err)
		}
	}
	// What others wrote beside ours is no matter.
	d, err := describe(`<domain><metadata><x:machine xmlns:x="urn:other" mesh="n"/><h:machine xmlns:h="urn:hostmesh:domain" version="2" mesh="m" new="1"/></metadata></domain>`)
	if m := d.machine(); err != nil || m.Mesh != "m" || m.Version != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := describe("<domain"); err == nil {
		t.Error("half of an XML was read")
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(`m"<>&'`)
	f.Fuzz(func(t *testing.T, mesh string) {
		if mesh == "" || !printable(mesh) {
			return
		}
		text, err := domainXML(plan.Domain{Name: "a", UUID: "u", Mesh: mesh, CPUs: 1, Memory: 1 << 20, Disk: "/d"}, platform{domainType: "qemu"})
		if err != nil {
			t.Fatal(err)
		}
		if d, err := describe(text); err != nil || d.Ours.Mesh != mesh {
			t.Errorf("%q became %q, %v", mesh, d.Ours.Mesh, err)
		}
	})
}

func printable(s string) bool {
	return strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\uFFFD' || r >= 0xFFFE })
}

func TestPlatformOf(t *testing.T) {
	guest := func(arch string, types []string, machines ...string) libvirtxml.CapsGuest {
		g := libvirtxml.CapsGuest{OSType: "hvm", Arch: libvirtxml.CapsGuestArch{Name: arch}}
		for _, d := range types {
			g.Arch.Domains = append(g.Arch.Domains, libvirtxml.CapsGuestDomain{Type: d})
		}
		for _, m := range machines {
			g.Arch.Machines = append(g.Arch.Machines, libvirtxml.CapsGuestMachine{Name: m})
		}
		return g
	}
	both := []string{"qemu", "kvm"}
	for _, c := range []struct {
		name   string
		guests []libvirtxml.CapsGuest
		kvm    bool
		want   platform
	}{
		{"q35 before pc", []libvirtxml.CapsGuest{guest("x86_64", both, "pc", "q35", "pc-q35-7.2")}, true, platform{domainType: "kvm", arch: "x86_64", machine: "q35"}},
		{"pc where there is no other", []libvirtxml.CapsGuest{guest("x86_64", both, "pc")}, false, platform{domainType: "qemu", arch: "x86_64", machine: "pc"}},
		{"others' architectures", []libvirtxml.CapsGuest{guest("aarch64", both, "virt"), guest("x86_64", []string{"qemu"}, "isapc")}, true, platform{domainType: "qemu", arch: "x86_64"}},
		{"the library's driver", []libvirtxml.CapsGuest{guest("i686", []string{"test"})}, true, platform{domainType: "test"}},
		{"nothing", nil, true, platform{}},
	} {
		if got := platformOf(libvirtxml.Caps{Guests: c.guests}, "x86_64", c.kvm); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}
