package integration

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVirtualMachine takes a real guest through the whole chain: from a wish at one agent to a host that answers under its name, and
// back to nothing.
func TestVirtualMachine(t *testing.T) {
	if !withOwnNet(t) {
		return
	}
	s := newVMSite(t, 2, "")
	s.open()
	first := s.boxes[0]
	s.addImage(first)

	const name = "web7.lab.test"
	vm := s.create(first, name)
	at := s.carrier(vm)
	t.Logf("%s is placed on %s at %s", name, vm.Box, vm.IP)
	if pool := netip.MustParsePrefix(guestPool); !pool.Contains(netip.MustParseAddr(vm.IP)) {
		t.Errorf("address %s is not of the pool", vm.IP)
	}
	for _, b := range s.boxes {
		b.answers(name, vm.IP)
	}
	s.named(vm.IP, "web.tag.mesh.internal")
	// It is a host like others: the page is of the guest that HostDB names, and its disk grew from the image's.
	s.serves(at, name, "web7 "+vm.IP+" ", "disk=16777216", "starts=42 ")
	s.console(first, name, "guest: ready web7 "+vm.IP, 1)
	volume := filepath.Join(s.vmDir(at), vm.UUID+".qcow2")
	has(t, s.must(exec.Command("qemu-img", "info", "-U", volume)), "backing file", s.vmDir(at))
	xml, err := s.carries[at].Virsh(t.Context(), "dumpxml", vm.UUID)
	if err != nil {
		t.Fatal(err)
	}
	has(t, xml, "uuid="+vm.UUID, vm.MAC, "bridge='"+guestBridge+"'")
	first.says([]string{"unchanged"}, createArgs(name)...)

	s.console(first, name, "guest: button /dev", 1) // it hears its button from now on
	first.says(nil, "vm", "reboot", name)
	s.serves(first, name, "starts=43 ")
	s.phase(first, name, "running")

	s.console(first, name, "guest: button /dev", 2)
	first.says([]string{name + ": to be destroyed"}, "vm", "destroy", name, "--wait", "--timeout", "4m")
	s.named("", name, "web.tag.mesh.internal")
	if got := s.of(at); len(got) == 0 || strings.Contains(fmt.Sprint(got), "domain") || !strings.Contains(fmt.Sprint(got), volume) {
		t.Errorf("of a destroyed machine there is %q, want its disk", got)
	}
	if n := s.records("vm/machine"); n != 1 {
		t.Errorf("%v machine records, want 1: its name is kept for it", n)
	}

	first.says(nil, "vm", "undelete", name, "--wait", "--timeout", "4m")
	back := s.phase(first, name, "running")
	if back.UUID != vm.UUID || back.IP != vm.IP || back.MAC != vm.MAC || back.Box != vm.Box {
		t.Errorf("it came back as another:\n%+v\n%+v", back, vm)
	}
	s.named(vm.IP, name, "web.tag.mesh.internal")
	s.serves(first, name, "web7 "+vm.IP+" ", "starts=44 ")

	s.console(first, name, "guest: button /dev", 3)
	first.says(nil, "vm", "destroy", name, "--wait", "--timeout", "4m")
	first.says(nil, "vm", "purge", name, "--yes")
	s.nothingLeft()
	if !s.rests(at, vm.IP) {
		t.Errorf("address %s does not rest", vm.IP)
	}
	for _, b := range s.boxes {
		out, errs, code := b.hostmesh("status")
		if code != 0 {
			t.Errorf("%s: status: exit code %d\n%s%s", b.name, code, out, errs)
		}
	}
}
