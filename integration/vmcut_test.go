package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	vmguest "hostmesh/integration/guest"
	"hostmesh/integration/libvirtd"
)

// TestVirtualMachineOnCutBox cuts a box off. Its machine goes on and serves who is near it; the others show it as unreachable, and place
// new machines, but never this one again.
func TestVirtualMachineOnCutBox(t *testing.T) {
	if os.Getenv(inNamespaces) == "" {
		t.Parallel()
		if _, err := vmguest.FetchKernel(); err != nil { // where there is a network
			t.Fatal(err)
		}
		inOwnNamespaces(t, "ip", "virsh", "qemu-img", "curl", "dig")
		return
	}
	w := wires{t}
	addrs := map[string]string{"one": "10.77.0.1", "two": "10.77.0.2", "three": "10.77.0.3"}
	w.lay(addrs)
	s := &vmSite{site: newSite(t, 0), carries: map[*box]*libvirtd.Daemon{}, patience: guestPatience}
	s.newDir()
	for _, name := range []string{"one", "two", "three"} {
		b := s.newBox(addrs[name])
		b.under = []string{"ip", "netns", "exec", name}
		if name == "one" {
			s.keep(b)
			continue
		}
		w.ip("-n", name, "link", "add", guestBridge, "type", "bridge")
		w.ip("-n", name, "address", "add", guestGateway+"/16", "dev", guestBridge)
		w.ip("-n", name, "link", "set", guestBridge, "up")
		s.carry(b, s.libvirtd(b, name), "")
	}
	one, two, three := s.boxes[0], s.boxes[1], s.boxes[2]
	one.found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+one.addr+"]")
		}
		b.start()
	}
	s.allAlive()
	put := func(id, text string) {
		t.Helper()
		if _, err := one.api.Put(t.Context(), id, []byte(text), "test"); err != nil {
			t.Fatal(err)
		}
	}
	put("hosts/"+three.name, "Box: {Memory: 1GiB, CPUs: 8}\n")
	s.enterNetwork(put)
	s.equal(s.boxes...)
	s.addImage(one)

	const name, later = "web7.lab.test", "web8.lab.test"
	vm := s.create(one, name)
	if s.carrier(vm) != three {
		t.Fatalf("it is on %s", vm.Box)
	}
	answers := func() {
		t.Helper()
		s.patiently("the guest answers who is near it", func() error {
			cmd := append(append([]string{}, three.under...), "curl", "-sS", "-m", "3", "http://"+vm.IP+"/")
			out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "web7 "+vm.IP+" ") || !strings.Contains(string(out), "starts=42 ") {
				return fmt.Errorf("%s, %w", out, err)
			}
			return nil
		})
	}
	answers()
	put("hosts/"+two.name, "Box: {Memory: 1GiB, CPUs: 8}\n") // from now on there is another place

	w.ip("link", "set", "to-three", "down")
	one.sees(three, "failed")
	three.sees(one, "failed")
	s.phase(one, name, "unreachable")
	s.phase(two, name, "unreachable")
	s.phase(three, name, "running")
	// Whoever places works on: it looks at all machines, and makes a new one.
	if other := s.create(one, later); s.carrier(other) != two {
		t.Errorf("%s is on %s", later, other.Box)
	}
	answers()
	only := func(b *box, name string) {
		t.Helper()
		if got := strings.Join(s.domains(b), " "); got != "domain "+name {
			t.Errorf("%s has %q, want %s alone", b.name, got, name)
		}
	}
	only(two, later)
	only(three, name)
	// Nor is it made anew when somebody asks for it once more, or for its destruction.
	one.says([]string{"unchanged"}, createArgs(name)...)
	s.phase(one, name, "unreachable")

	w.ip("link", "set", "to-three", "up")
	s.allAlive()
	s.equal(s.boxes...)
	for _, b := range s.boxes {
		if back := s.phase(b, name, "running"); back.UUID != vm.UUID || back.IP != vm.IP || back.Box != vm.Box {
			t.Errorf("%s shows %+v, it was %+v", b.name, back, vm)
		}
		s.phase(b, later, "running")
	}
	answers()
	only(two, later)
	only(three, name)
	s.named(vm.IP, name)
	for _, b := range s.boxes {
		b.stop() // before their links end
	}
}
