package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/integration/libvirtd"
)

// moment is a state of the world in which somebody is killed. It is looked for in files, so that it is met within a millisecond.
type moment struct {
	name string
	is   func(k *killing, name, uuid string) bool
}

// killing has one box that carries machines, whose agent and libvirtd are killed.
type killing struct {
	*vmSite
	b      *box
	daemon *libvirtd.Daemon
	seen   int // bytes of the agent's log that are of the past
	// destroys is how many machines were destroyed so far.
	destroys int
}

func (k *killing) there(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

func (k *killing) defined(name string) bool {
	return k.there(k.daemon.Dir, "etc/qemu", name+".xml")
}

// ledger reports whether the entry of a machine has a text.
func (k *killing) ledger(uuid, text string) bool {
	b, err := os.ReadFile(filepath.Join(k.b.dir, "vms", uuid+".vm"))
	return err == nil && strings.Contains(string(b), text)
}

// says reports whether the agent logged something of a machine since the last kill.
func (k *killing) says(uuid, text string) bool {
	log := k.b.log()
	for line := range strings.Lines(log[min(k.seen, len(log)):]) {
		if strings.Contains(line, text) && strings.Contains(line, "uuid="+uuid) {
			return true
		}
	}
	return false
}

var (
	creating = []moment{
		{"its place is kept", func(k *killing, _, uuid string) bool { return k.ledger(uuid, "") }},
		{"its disk is made", func(k *killing, _, uuid string) bool { return k.there(k.vmDir(k.b), uuid+".qcow2") }},
		{"it is defined", func(k *killing, name, _ string) bool { return k.defined(name) }},
		{"it is started", func(k *killing, name, _ string) bool { return k.there(k.daemon.Dir, "run/libvirt/qemu", name+".xml") }},
		{"it runs, and is not reported", func(k *killing, _, uuid string) bool { return k.says(uuid, `msg="vm running"`) }},
	}
	destroying = []moment{
		{"its ticket is taken", func(k *killing, _, uuid string) bool { return k.ledger(uuid, `"destroying"`) }},
		{"it stops", func(k *killing, _, uuid string) bool { return k.says(uuid, `msg="vm stopping"`) }},
		{"its domain is gone", func(k *killing, name, _ string) bool { return !k.defined(name) }},
		{"its disk is kept", func(k *killing, _, uuid string) bool { return k.ledger(uuid, `"kept"`) }},
		{"it is deleted", func(k *killing, _, uuid string) bool { return k.says(uuid, `msg="vm deleted"`) }},
	}
	purging = []moment{
		{"it is to go", func(k *killing, _, uuid string) bool { return k.ledger(uuid, `"purging"`) }},
		{"its disk is gone", func(k *killing, _, uuid string) bool { return !k.there(k.vmDir(k.b), uuid+".qcow2") }},
		{"its entry is gone", func(k *killing, _, uuid string) bool { return !k.ledger(uuid, "") }},
	}
)

// at waits for a moment.
func (k *killing) at(m moment, name, uuid string) {
	k.t.Helper()
	for begin := time.Now(); !m.is(k, name, uuid); time.Sleep(200 * time.Microsecond) {
		if time.Since(begin) > guestPatience {
			vm, err := k.boxes[0].api.VM(k.t.Context(), name)
			k.t.Fatalf("%s: not within %s: %s; it is %+v, %v", name, guestPatience, m.name, vm, err)
		}
	}
}

// crash kills the agent, and starts it again.
func (k *killing) crash() {
	k.t.Helper()
	k.b.kill()
	k.seen = len(k.b.log())
	k.b.start()
}

// enter enters a machine, and does not wait.
func (k *killing) enter(name string) (uuid string) {
	k.t.Helper()
	k.boxes[0].says([]string{"entered"}, createArgs(name)...)
	return k.wanted(name)
}

func (k *killing) wanted(name string) string {
	k.t.Helper()
	uuid, err := k.boxes[0].get("hosts/" + name + "/VM/UUID")
	if err != nil {
		k.t.Fatal(err)
	}
	return uuid
}

// one checks that a machine runs, once, and that all that there is is its own.
func (k *killing) one(name, uuid string) {
	k.t.Helper()
	vm := k.phase(k.boxes[0], name, "running")
	if vm.UUID != uuid || vm.Box != k.b.name || vm.IP == "" || k.wanted(name) != uuid {
		k.t.Errorf("%s runs as %+v, want %s", name, vm, uuid)
	}
	want := []string{"domain " + name, "file " + filepath.Join(k.vmDir(k.b), uuid+".qcow2"),
		"file " + filepath.Join(k.vmDir(k.b), "consoles", uuid+".log"), "file " + filepath.Join(k.b.dir, "vms", uuid+".vm")}
	k.wait("all there is is its own", func() error {
		if got := k.of(k.b); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("there is %q, want %q", got, want)
		}
		return nil
	})
	if m, n := k.records("vm/machine"), k.records("name/vm"); m != 1 || n != 1 {
		k.t.Errorf("%v machine records and %v names, want one of each", m, n)
	}
	k.boxes[0].answers(name, vm.IP)
}

// destroy enters that a machine is not to be, and approves where that is asked for.
func (k *killing) destroy(name string, meanwhile func()) {
	k.t.Helper()
	first := k.boxes[0]
	first.says(nil, "vm", "destroy", name)
	if k.destroys++; k.destroys > 5 {
		k.phase(first, name, "waiting")
		first.says([]string{name}, "approve", name)
	}
	meanwhile()
	k.phase(first, name, "deleted")
	for _, what := range k.of(k.b) {
		if strings.HasPrefix(what, "domain") {
			k.t.Errorf("destroyed, and there is %s", what)
		}
	}
}

// purge has a machine go, as soon as its box can be asked again.
func (k *killing) purge(name string) {
	k.t.Helper()
	k.patiently(name+" is purged", func() error {
		if out, errs, code := k.boxes[0].hostmesh("vm", "purge", name, "--yes"); code != 0 {
			return fmt.Errorf("exit code %d: %s%s", code, out, errs)
		}
		return nil
	})
}

// TestVirtualMachineKilled kills the agent of a box at each step of a machine's way, then its libvirtd: the way is gone to its end all
// the same, once, and nothing is left behind. What somebody made by hand is never touched.
func TestVirtualMachineKilled(t *testing.T) {
	if !withOwnNet(t) {
		return
	}
	s := newVMSite(t, 1, ", shutdown: 2s")
	k := &killing{vmSite: s, b: s.boxes[1]}
	k.daemon = s.carries[k.b]
	s.open()
	first := s.boxes[0]
	s.addImage(first)

	const foreign = `<domain type='qemu'><name>byhand</name><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os></domain>`
	xml := filepath.Join(s.dir, "byhand.xml")
	if err := os.WriteFile(xml, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	k.virsh("define", xml)
	k.virsh("start", "byhand")
	byhand := strings.TrimSpace(k.virsh("domuuid", "byhand"))
	for _, b := range s.boxes {
		s.phase(b, "byhand", "foreign")
	}
	first.refuses(nil, "vm", "destroy", "byhand")
	k.foreign = "domain byhand"

	for i, m := range creating {
		name := fmt.Sprintf("killed%d.lab.test", i)
		uuid := k.enter(name)
		k.at(m, name, uuid)
		k.crash()
		k.one(name, uuid)
		d := destroying[i%len(destroying)]
		k.destroy(name, func() {
			k.at(d, name, uuid)
			k.crash()
		})
		p := purging[i%len(purging)]
		k.purge(name)
		k.at(p, name, uuid)
		k.crash()
		s.nothingLeft()
		t.Logf("killed when %s, when %s and when %s", m.name, d.name, p.name)
	}

	for i, m := range creating[:3] {
		name := fmt.Sprintf("away%d.lab.test", i)
		uuid := k.enter(name)
		k.at(m, name, uuid)
		if err := k.daemon.Kill(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.patiently("the box says that its hypervisor is away", func() error {
				out, _, _ := k.b.hostmesh("status")
				if !strings.Contains(out, "hypervisor is away") {
					return fmt.Errorf("status is\n%s", out)
				}
				return nil
			})
		}
		if err := k.daemon.Restart(); err != nil {
			t.Fatal(err)
		}
		k.one(name, uuid)
		k.destroy(name, func() {})
		k.purge(name)
		s.nothingLeft()
		t.Logf("libvirtd killed when %s", m.name)
	}
	if is := strings.TrimSpace(k.virsh("domuuid", "byhand")); is != byhand || strings.TrimSpace(k.virsh("domstate", "byhand")) != "running" {
		t.Errorf("what was made by hand is %s and %s", is, k.virsh("domstate", "byhand"))
	}
}

func (k *killing) virsh(args ...string) string {
	k.t.Helper()
	out, err := k.daemon.Virsh(k.t.Context(), args...)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}
