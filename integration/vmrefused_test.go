package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	vmdisk "hostmesh/integration/wires"
)

// TestVirtualMachineRefused: what cannot be made says why, where one looks for it, and nothing of it stays.
func TestVirtualMachineRefused(t *testing.T) {
	if !withOwnNet(t) {
		return
	}
	// One box, whose disk is small. It keeps 256 MiB free.
	s := emptyVMSite(t, 2)
	b, first := s.boxes[1], s.boxes[0]
	disk := vmdisk.Disk{Image: filepath.Join(s.site.dir, "vm.img"), Dir: s.vmDir(b), Size: 512 << 20}
	if err := os.Mkdir(disk.Dir, 0o711); err != nil { //nolint:gosec // the emulator is another user
		t.Fatal(err)
	}
	if err := disk.Mount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.kill()
		s.wait("its disk is free", disk.Unmount)
		if err := vmdisk.FreeDisks(s.site.dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(disk.Dir, 0o711); err != nil { //nolint:gosec // the emulator is another user
		t.Fatal(err)
	}
	s.carry(b, s.libvirtd(b, ""), ", shutdown: 2s") // which sees the mounts that there were when it started
	s.open()
	s.addImage(first)

	// fails waits until a machine that was entered shows why it is not there, and takes its entry away again.
	fails := func(name, phase string, words ...string) {
		t.Helper()
		s.patiently(name+" shows why it is not made", func() error {
			out, errs, code := first.hostmesh("vm", "show", name)
			if code != 0 {
				return fmt.Errorf("exit code %d: %s", code, errs)
			}
			for _, w := range append(words, phase) {
				if !strings.Contains(out, w) {
					return fmt.Errorf("no %q in\n%s", w, out)
				}
			}
			return nil
		})
		for _, what := range s.of(b) {
			t.Errorf("%s is not made, and there is %s", name, what)
		}
		if n := len(s.parts(b)); n > 0 {
			t.Errorf("%s is not made, and %d parts of images are there: %q", name, n, s.parts(b))
		}
		first.says(nil, "vm", "destroy", name)
		s.noMachine()
	}

	first.refuses([]string{"debain"}, append(createArgs("web1.lab.test"), "--image", "debain")...)
	first.mustPut("hosts/web1.lab.test", "VM: {Image: debain, CPUs: 1, Memory: 128MiB, Subnet: prod}\n") // by hand
	fails("web1.lab.test", "pending", `no image is named "debain"`)

	// An image that is not what the catalogue says, and one whose disk is filled in the middle of it by somebody else.
	content := []byte(strings.Repeat("hostmesh", 16<<20/8))
	half := make(chan struct{}, 16)
	var mu sync.Mutex
	var stall chan struct{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		wait := stall
		mu.Unlock()
		if wait == nil || r.Method != http.MethodGet {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		half <- struct{}{}
		select {
		case <-wait:
		case <-r.Context().Done():
		}
		_, _ = w.Write(content[len(content)/2:])
	}))
	defer srv.Close()
	sum := sha256.Sum256(content)
	image := func(name, sum string) {
		t.Helper()
		first.says(nil, "db", "set", "images/"+name, fmt.Sprintf("{Format: raw, Size: %d, VirtualSize: %d, SHA256: %s, URL: '%s/disk.raw'}", len(content), len(content), sum, srv.URL), "-m", "by hand")
	}
	image("forged", strings.Repeat("0", 64))
	first.says(nil, append(createArgs("web2.lab.test"), "--image", "forged", "--disk", "32MiB")...)
	fails("web2.lab.test", "failed", "checksum", strings.Repeat("0", 64), b.name)

	mu.Lock()
	stall = make(chan struct{})
	mu.Unlock()
	image("large", hex.EncodeToString(sum[:]))
	first.says(nil, append(createArgs("web3.lab.test"), "--image", "large", "--disk", "32MiB")...)
	<-half
	full, err := disk.Take(disk.Size)
	if err != nil || !full {
		t.Fatalf("the disk is not full: %v", err)
	}
	mu.Lock()
	close(stall)
	stall = nil
	mu.Unlock()
	s.patiently("the machine shows that the disk is full", func() error {
		out, errs, code := first.hostmesh("vm", "show", "web3.lab.test")
		if code != 0 || !strings.Contains(out, "space") {
			return fmt.Errorf("exit code %d: %s%s", code, out, errs)
		}
		return nil
	})
	if err := disk.Give(); err != nil {
		t.Fatal(err)
	}
	first.says(nil, "vm", "destroy", "web3.lab.test")
	s.noMachine()

	// One address, two machines.
	first.mustPut("tags/narrow", fmt.Sprintf("Subnet: {CIDR: %s, Gateway: %s, Bridge: %s, Pool: 10.66.200.9/32}\n", guestNet, guestGateway, guestBridge))
	vm := s.create(first, "web4.lab.test", "--subnet", "narrow")
	if vm.IP != "10.66.200.9" {
		t.Errorf("it has %s", vm.IP)
	}
	first.says(nil, append(createArgs("web5.lab.test"), "--subnet", "narrow")...)
	s.patiently("the second shows that the pool is used up", func() error {
		out, errs, code := first.hostmesh("vm", "show", "web5.lab.test")
		if code != 0 || !strings.Contains(out, "10.66.200.9/32") {
			return fmt.Errorf("exit code %d: %s%s", code, out, errs)
		}
		return nil
	})
	first.says(nil, "vm", "destroy", "web5.lab.test")
	s.patiently("only the first is left", func() error {
		if got := s.of(b); len(got) != 4 {
			return fmt.Errorf("there is %q", got)
		}
		return nil
	})
	first.says(nil, "vm", "destroy", "web4.lab.test", "--wait", "--timeout", "4m")
	first.says(nil, "vm", "purge", "web4.lab.test", "--yes")
	s.nothingLeft()
}

// parts are files of images at a box that are not whole.
func (s *vmSite) parts(b *box) []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.vmDir(b), "images", "*.part*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}
