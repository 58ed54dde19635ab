package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	vmguest "hostmesh/integration/guest"
	"hostmesh/integration/libvirtd"
	"hostmesh/node/api"
)

// The network of guests: hand-entered addresses are outside of the pool.
const (
	guestBridge  = "br0"
	guestGateway = "10.66.0.1"
	guestNet     = "10.66.0.0/16"
	guestPool    = "10.66.128.0/24"
)

// vmSite is a mesh some of whose boxes carry virtual machines.
type vmSite struct {
	*site
	dir     string // of what emulators must read
	carries map[*box]*libvirtd.Daemon
	foreign string // what is not looked at: somebody made it by hand
	// patience bounds what is waited for of guests.
	patience time.Duration
}

// withOwnNet runs the test again in a process with a network and mounts of its own, in which all its agents, daemons and guests are, and
// reports whether this is that process.
func withOwnNet(t *testing.T) bool {
	t.Helper()
	return withOwnNetAnd(t, func() error {
		_, err := vmguest.FetchKernel()
		return err
	})
}

// withOwnNetAnd is withOwnNet of a test that needs more tools, or something else that is fetched where there is a network.
func withOwnNetAnd(t *testing.T, fetch func() error, tools ...string) bool {
	t.Helper()
	if os.Getenv(inNamespaces) == "" {
		t.Parallel()
		if os.Getuid() != 0 {
			t.Fatal("libvirtd starts as root alone: run the tests as root")
		}
		if err := fetch(); err != nil {
			t.Fatal(err)
		}
		inOwnNamespaces(t, append(tools, "ip", "virsh", "qemu-img", "curl", "dig")...)
		return false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("private mounts: %v", err)
	}
	if err := unix.Mount("none", "/sys", "sysfs", 0, ""); err != nil { // which shows the interfaces of this network
		t.Fatalf("own /sys: %v", err)
	}
	wires{t}.ip("link", "set", "lo", "up")
	return true
}

// newVMSite has boxes that keep images: the first carries no machines, each of the others has a libvirtd, and more in its vm section. All
// share one bridge.
func newVMSite(t *testing.T, carrying int, more string) *vmSite {
	t.Helper()
	s := emptyVMSite(t, 1+carrying)
	for _, b := range s.boxes[1:] {
		s.carry(b, s.libvirtd(b, ""), more)
	}
	return s
}

// emptyVMSite has a bridge, and boxes none of which carries machines yet; the first keeps images.
func emptyVMSite(t *testing.T, n int) *vmSite {
	t.Helper()
	w := wires{t}
	w.ip("link", "add", guestBridge, "type", "bridge")
	w.ip("address", "add", guestGateway+"/16", "dev", guestBridge)
	w.ip("link", "set", guestBridge, "up")
	s := &vmSite{site: newSite(t, n), carries: map[*box]*libvirtd.Daemon{}, patience: guestPatience}
	s.newDir()
	s.keep(s.boxes[0])
	return s
}

// newDir makes the directory of what emulators read.
func (s *vmSite) newDir() {
	s.t.Helper()
	var err error
	if s.dir, err = os.MkdirTemp("", "hmvm-"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			s.t.Error(err)
		}
	})
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // the emulator is another user
		s.t.Fatal(err)
	}
}

// libvirtd starts the one of a box, in a network namespace.
func (s *vmSite) libvirtd(b *box, netns string) *libvirtd.Daemon {
	s.t.Helper()
	d, err := libvirtd.Start(netns)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		b.kill() // else it would tell its log that the daemon is away
		if s.t.Failed() {
			s.t.Logf("libvirtd of %s:\n%s", b.name, lastLines(d.Log(), 15))
		}
		if err := d.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return d
}

// keep has a box keep images.
func (s *vmSite) keep(b *box) {
	b.settings = append(b.settings, "vm: {local_urls: true, dir: "+s.vmDir(b)+"}")
}

// carry has a box carry machines with a libvirtd.
func (s *vmSite) carry(b *box, d *libvirtd.Daemon, more string) {
	s.carries[b] = d
	b.settings = append(b.settings, fmt.Sprintf("libvirt: '%s'", d.URI()), fmt.Sprintf("vm: {local_urls: true, dir: %s%s}", s.vmDir(b), more))
}

func (s *vmSite) vmDir(b *box) string { return filepath.Join(s.dir, filepath.Base(b.dir)) }

// open starts the mesh, and enters boxes, a network and a zone.
func (s *vmSite) open() {
	s.t.Helper()
	s.start()
	first := s.boxes[0]
	for b := range s.carries {
		first.mustPut("hosts/"+b.name, "Box: {Memory: 1GiB, CPUs: 8}\n")
	}
	s.enterNetwork(first.mustPut)
	s.equal(s.boxes...)
}

func (s *vmSite) enterNetwork(put func(id, text string)) {
	put("tags/lab", "DNS: {Zone: lab.test, TTL: 1}\n")
	put("tags/prod", fmt.Sprintf("Subnet: {CIDR: %s, Gateway: %s, Bridge: %s, Pool: %s}\n", guestNet, guestGateway, guestBridge, guestPool))
	put("tags/web", "{}\n")
}

// addImage adds the small guest at a box, with a disk whose guest believes that it started 41 times.
func (s *vmSite) addImage(at *box) {
	s.t.Helper()
	g, err := vmguest.Build(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, disk := filepath.Join(s.dir, "base.raw"), filepath.Join(s.dir, "base.qcow2")
	content := make([]byte, 4<<20)
	copy(content[2048*512:], "41\n")
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.must(exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk))
	at.says([]string{"image tiny added"}, "image", "add", "tiny", disk, "--kernel", g.Kernel, "--initrd", g.Initrd,
		"--cmdline", "console=ttyS0 quiet panic=-1 ip={ip}::{gateway}:{netmask}:{hostname}:eth0:off uuid={uuid}", "-m", "a small guest")
	s.equal(s.boxes...)
}

// create enters a machine of the small guest and waits until it runs.
func (s *vmSite) create(at *box, name string, more ...string) api.VM {
	s.t.Helper()
	out, errs, code := at.hostmesh(append(createArgs(name), append(more, "--wait", "--timeout", "4m")...)...)
	if code != 0 {
		s.t.Fatalf("%s is not made: exit code %d\n%s%s", name, code, out, errs)
	}
	has(s.t, out+errs, name+": entered", name+": placed on ", name+": running at ")
	vm, err := at.api.VM(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return vm
}

func createArgs(name string) []string {
	return []string{"vm", "create", name, "--image", "tiny", "--subnet", "prod", "--memory", "128MiB", "--disk", "16MiB", "--tag", "lab", "--tag", "web"}
}

// patiently waits as long as an emulated guest may take.
func (s *vmSite) patiently(what string, ok func() error) time.Duration {
	s.t.Helper()
	begin := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > s.patience {
			s.t.Fatalf("not within %s: %s: %v", s.patience, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// phase waits until a box's agent shows a machine in a phase.
func (s *vmSite) phase(at *box, name, phase string) (vm api.VM) {
	s.t.Helper()
	s.patiently(fmt.Sprintf("%s shows %s %s", at.name, name, phase), func() (err error) {
		vm, err = at.api.VM(s.t.Context(), name)
		if err == nil && vm.Phase != phase {
			err = fmt.Errorf("it is %s (%s): %s", vm.Phase, vm.Step, vm.Reason)
		}
		return err
	})
	return vm
}

// serves waits until the guest answers under its name, at the address that a box's DNS has for it, and returns what it says.
func (s *vmSite) serves(at *box, name string, words ...string) (page string) {
	s.t.Helper()
	s.patiently(name+" answers HTTP with "+strings.Join(words, ", "), func() error {
		addr := at.dig(name)
		out, err := exec.Command("curl", "-sS", "-m", "3", "--resolve", name+":80:"+addr, "http://"+name+"/").CombinedOutput()
		page = string(out)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, w := range words {
			if !strings.Contains(page, w) {
				return fmt.Errorf("%q has no %q", page, w)
			}
		}
		return nil
	})
	return page
}

// named waits until every agent answers these names so.
func (s *vmSite) named(want string, names ...string) {
	s.t.Helper()
	for _, b := range s.running() {
		for _, name := range names {
			s.wait(fmt.Sprintf("%s answers %q for %s", b.name, want, name), func() error {
				if got := b.dig(name); got != want {
					return fmt.Errorf("it says %q", got)
				}
				return nil
			})
		}
	}
}

// console waits until a machine's console, as the command line shows it at a box, has a text so many times.
func (s *vmSite) console(at *box, name, text string, times int) {
	s.t.Helper()
	s.patiently(fmt.Sprintf("the console of %s says %q", name, text), func() error {
		out, errs, code := at.hostmesh("vm", "console", name)
		if n := strings.Count(out, text); code != 0 || n < times {
			return fmt.Errorf("%d times, exit code %d: %s\n%s", n, code, errs, lastLines(out, 5))
		}
		return nil
	})
}

// domains are those of a box, but for the foreign one.
func (s *vmSite) domains(b *box) (out []string) {
	s.t.Helper()
	names, err := s.carries[b].Virsh(s.t.Context(), "list", "--all", "--name")
	if err != nil {
		return []string{err.Error()}
	}
	for _, name := range strings.Fields(names) {
		if what := "domain " + name; what != s.foreign {
			out = append(out, what)
		}
	}
	return out
}

// of lists all that a box has of machines: domains, volumes, consoles, entries of the ledger.
func (s *vmSite) of(b *box) (out []string) {
	s.t.Helper()
	out = s.domains(b)
	for _, pattern := range []string{s.vmDir(b) + "/*.qcow2", s.vmDir(b) + "/*.iso", s.vmDir(b) + "/.*", s.vmDir(b) + "/consoles/*", b.dir + "/vms/*.vm", b.dir + "/vms/.*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range files {
			out = append(out, "file "+f)
		}
	}
	return out
}

// nothingLeft waits until no trace of any machine is there: on boxes, in any agent's list, in the lease log, where the placer tidies up
// once a minute. Permanent grants of blocks stay, as they should, and addresses rest.
func (s *vmSite) nothingLeft() {
	s.t.Helper()
	s.noMachine()
	s.patiently("nothing is left", func() error {
		var errs []error
		for _, kind := range []string{"vm/machine", "name/vm"} {
			if n := s.records(kind); n != 0 {
				errs = append(errs, fmt.Errorf("%v records of kind %s are in the lease log", n, kind))
			}
		}
		return errors.Join(errs...)
	})
}

// noMachine waits until no box has anything of any machine, and no agent shows one. A box waits for a minute before it takes an entry
// that it never saw for one that is deleted.
func (s *vmSite) noMachine() {
	s.t.Helper()
	s.patiently("no machine is left", func() error {
		var errs []error
		for b := range s.carries {
			for _, what := range s.of(b) {
				errs = append(errs, fmt.Errorf("%s has %s", b.name, what))
			}
		}
		for _, b := range s.running() {
			list, err := b.api.VMs(s.t.Context(), api.VMFilter{})
			errs = append(errs, err)
			for _, vm := range list.VMs {
				if "domain "+vm.Name == s.foreign {
					continue
				}
				errs = append(errs, fmt.Errorf("%s shows %s %s", b.name, vm.Name, vm.Phase))
			}
		}
		return errors.Join(errs...)
	})
}

// records are those of a kind that the lease group keeps, by the word of the boxes that take part in it.
func (s *vmSite) records(kind string) (n float64) {
	s.t.Helper()
	for _, b := range s.running() {
		n = max(n, b.series(`hostmesh_lease_records{kind="`+kind+`"}`))
	}
	return n
}

// rests reports whether an address rests at a box: it is given to nobody for some time.
func (s *vmSite) rests(b *box, addr string) bool {
	text, err := os.ReadFile(filepath.Join(b.dir, "vms", "box.state"))
	return err == nil && strings.Contains(string(text), `"`+addr+`"`)
}

// has checks that a text has words.
func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// carrier is the box that a machine is on.
func (s *vmSite) carrier(vm api.VM) *box {
	s.t.Helper()
	i := slices.IndexFunc(s.boxes, func(b *box) bool { return b.name == vm.Box })
	if i < 0 {
		s.t.Fatalf("%s is on %q", vm.Name, vm.Box)
	}
	return s.boxes[i]
}
