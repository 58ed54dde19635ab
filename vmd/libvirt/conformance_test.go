//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"libvirt.org/go/libvirt"

	"hostmesh/integration/guest"
	"hostmesh/integration/libvirtd"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// The driver that the library brings keeps domains in the process, and has no emulator.
func TestConformanceTestDriver(t *testing.T) {
	vmdtest.Conformance(t, func(t *testing.T) *vmdtest.Box {
		box := newBox(t, "test:///default", t.TempDir())
		box.Lacks = map[vmdtest.Ability]string{
			vmdtest.Files:  "it runs nothing, and opens no file and no interface",
			vmdtest.Growth: "its volumes cannot be resized",
		}
		box.Guest = plan.Domain{CPUs: 1, Memory: 64 << 20, Kernel: "/boot/guest", Initrd: "/boot/initrd"}
		box.Bridge = "virbr0"
		return box
	})
}

func TestConformanceQEMU(t *testing.T) {
	d := daemon(t)
	g := build(t)
	vmdtest.Conformance(t, func(t *testing.T) *vmdtest.Box {
		box := newBox(t, d.URI(), dirFor(t))
		box.Guest = machine("", g)
		return box
	})
}

// daemon starts a libvirtd of the test's own.
func daemon(t *testing.T) *libvirtd.Daemon {
	t.Helper()
	d, err := libvirtd.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("libvirtd said:\n%s", d.Log())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func build(t *testing.T) guest.Guest {
	t.Helper()
	g, err := guest.Build(dirFor(t))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// dirFor makes a directory that another user can enter.
func dirFor(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil { //nolint:gosec // the emulator is another user
			t.Fatal(err)
		}
	}
	return dir
}

// machine boots the small guest.
func machine(name string, g guest.Guest) plan.Domain {
	return plan.Domain{Name: name, UUID: vmdtest.UUID(name), Mesh: vmdtest.Mesh, CPUs: 1, Memory: 128 << 20, Kernel: g.Kernel, Initrd: g.Initrd, Cmdline: guest.Cmdline(name, "", "", "")}
}

func open(t *testing.T, uri, mesh, dir string) *Hypervisor {
	t.Helper()
	h, err := Open(Config{URI: uri, Mesh: mesh, Pool: "hostmesh-" + mesh + "-" + filepath.Base(filepath.Dir(dir)), Dir: filepath.Join(dir, mesh), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newBox(t *testing.T, uri, dir string) *vmdtest.Box {
	t.Helper()
	raw, err := libvirt.NewConnect(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = raw.Close() })
	return &vmdtest.Box{
		Open: func(t *testing.T, mesh string) vmd.Hypervisor { return open(t, uri, mesh, dir) },
		Foreign: func(t *testing.T, name string) string {
			kind := "qemu"
			if strings.HasPrefix(uri, "test:") {
				kind = "test"
			}
			uuid := vmdtest.UUID(name)
			dom, err := raw.DomainDefineXML(`<domain type="` + kind + `"><name>` + name + `</name><uuid>` + uuid + `</uuid><memory>65536</memory><os><type>hvm</type></os></domain>`)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := dom.Undefine(); err != nil {
					t.Error(err)
				}
				_ = dom.Free()
			})
			return uuid
		},
		Base: func(t *testing.T, size int64) string {
			path := filepath.Join(dir, "base.raw")
			f, err := os.Create(path)
			if err == nil {
				err = f.Truncate(size)
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return path
		},
		Size: func(t *testing.T, of vmd.Hypervisor, name, path string) int64 {
			if strings.HasPrefix(uri, "test:") {
				vol, err := raw.LookupStorageVolByPath(path)
				if err != nil {
					t.Fatal(err)
				}
				info, err := vol.GetInfo()
				if err != nil {
					t.Fatal(err)
				}
				return int64(info.Capacity)
			}
			// What a real reader makes of it, also while it is in use.
			out, err := exec.Command("qemu-img", "info", "-U", "--output=json", path).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			size, err := virtualSize(path)
			if err != nil {
				t.Fatal(err)
			}
			return size
		},
		Content: func(t *testing.T, _ vmd.Hypervisor, _, path string) []byte {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return content
		},
	}
}
