// Package guest makes the smallest machine that a test can boot: Debian's kernel for virtual machines, and an initramfs.
//
// It owns the kernel, which is fetched once for an account, the archive format, and a guest of busybox that answers HTTP
// and its power button. What runs it is whoever's that wants one.
package guest

import (
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
)

// Modules of the kernel, in the order of what needs what.
var (
	// DiskModules let it see a virtio disk.
	DiskModules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"}
	// Modules are all that a guest of hostmesh may need.
	Modules = append(slices.Clone(DiskModules), "failover", "net_failover", "virtio_net", "scsi_common", "scsi_mod", "virtio_scsi", "cdrom", "sr_mod", "isofs",
		"virtio-rng", "virtio_balloon", "virtio_console", "pvpanic", "pvpanic-mmio", "evdev", "button")
)

//go:embed kernel.sh
var kernelScript string

//go:embed init.sh
var initScript string

// Kernel is a kernel and its modules, as files.
type Kernel struct {
	Image string
	dir   string
}

// FetchKernel returns Debian's newest kernel as of the first call on this account. It needs apt and the network once.
func FetchKernel() (Kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // an account without a home
	}
	dir := filepath.Join(cache, "hostmesh-test", "guest-kernel")
	args := append([]string{"-c", kernelScript, "kernel.sh", dir}, Modules...)
	if out, err := exec.Command("bash", args...).CombinedOutput(); err != nil {
		return Kernel{}, fmt.Errorf("fetch a kernel for guests: %w\n%s", err, out)
	}
	return Kernel{Image: filepath.Join(dir, "vmlinuz"), dir: dir}, nil
}

// Files returns modules for an archive: modules/NN-NAME.ko, so that their names sort as they must be loaded. What is built in is left out.
func (k Kernel) Files(modules []string) map[string]string {
	files := map[string]string{}
	for i, m := range modules {
		path := filepath.Join(k.dir, "modules", m+".ko")
		if _, err := os.Stat(path); err == nil {
			files[fmt.Sprintf("modules/%02d-%s.ko", i, m)] = path
		}
	}
	return files
}

// Archive is what the kernel unpacks as its first file system (the newc form of cpio): files by the name they get, all
// executable, and the directories bin, dev, modules and proc.
func Archive(files map[string]string) ([]byte, error) {
	var out bytes.Buffer
	inode := 0
	add := func(name string, mode fs.FileMode, content []byte) {
		inode++
		fmt.Fprintf(&out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			inode, uint32(mode), 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		out.WriteString(name + "\x00")
		out.Write(make([]byte, -out.Len()&3))
		out.Write(content)
		out.Write(make([]byte, -out.Len()&3))
	}
	for _, dir := range []string{"bin", "dev", "modules", "proc"} {
		add(dir, syscall.S_IFDIR|0o755, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content, err := os.ReadFile(files[name])
		if err != nil {
			return nil, fmt.Errorf("archive %s: %w", name, err)
		}
		add(name, syscall.S_IFREG|0o755, content)
	}
	add("TRAILER!!!", 0, nil)
	return out.Bytes(), nil
}

// Guest is a machine that lives in its initrd. On its serial port it says
//
//	guest: ready NAME ADDRESS disk=BYTES starts=N cd=mounted
//	guest: power button
//
// The first line stands at / of its HTTP server, port 80, too; what its CD holds is below /seed/. disk and cd may be none. starts counts on the
// disk, in its sector 2048. It is off a moment after its power button was pressed.
type Guest struct {
	Kernel, Initrd string
}

// Build writes the guest's initrd into dir. It needs busybox-static.
func Build(dir string) (Guest, error) {
	k, err := FetchKernel()
	if err != nil {
		return Guest{}, err
	}
	start := filepath.Join(dir, "guest-init")
	if err := os.WriteFile(start, []byte(initScript), 0o700); err != nil {
		return Guest{}, fmt.Errorf("build a guest: %w", err)
	}
	files := k.Files(Modules)
	files["init"], files["bin/busybox"] = start, "/bin/busybox"
	image, err := Archive(files)
	if err != nil {
		return Guest{}, fmt.Errorf("build a guest: %w", err)
	}
	g := Guest{Kernel: filepath.Join(dir, "guest-vmlinuz"), Initrd: filepath.Join(dir, "guest-initrd")}
	kernel, err := os.ReadFile(k.Image)
	if err != nil {
		return Guest{}, fmt.Errorf("build a guest: %w", err)
	}
	// Copies: libvirt gives the files of a machine to its emulator, and these belong to one test.
	for path, content := range map[string][]byte{g.Initrd: image, g.Kernel: kernel} {
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // the emulator is another user
			return Guest{}, fmt.Errorf("build a guest: %w", err)
		}
	}
	return g, nil
}

// Cmdline is the kernel's command line for a guest of this name; address and the rest may be empty.
func Cmdline(name, address, gateway, mask string) string {
	line := "console=ttyS0 quiet panic=-1"
	if address == "" {
		address = "none"
	}
	return fmt.Sprintf("%s ip=%s::%s:%s:%s:eth0:off", line, address, gateway, mask, name)
}
