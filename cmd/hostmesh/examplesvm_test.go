package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/node/api"
)

// guests bring virtual machines into the state in which an example finds them, on an agent with libvirt's test driver.
type guests struct {
	t    *testing.T
	dir  string
	do   func(args ...string) (code int, stdout, stderr string)
	must func(args ...string) string
}

// prepare makes a box of the agent, a network, and images.
func (g guests) prepare() {
	g.t.Helper()
	disk := filepath.Join(g.dir, "debian-12-genericcloud-amd64.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M").CombinedOutput(); err != nil {
		g.t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	for _, name := range []string{"vmlinuz", "tiny.cpio.gz"} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte("not really "+name), 0o644); err != nil {
			g.t.Fatal(err)
		}
	}
	g.must("db", "set", "hosts/box1.dc1.example.com", "Box: {CPUs: 64, Memory: 256GiB, Disk: 4TiB}", "-m", "carries machines")
	g.must("db", "set", "tags/prod", "Subnet: {CIDR: 10.77.0.0/16, Gateway: 10.77.0.1, Bridge: virbr0, Pool: 10.77.128.0/17}", "-m", "network")
	for _, name := range []string{"debian-12", "debian-12-nginx", "unbound"} { // groups of the inventory name them
		g.must("image", "add", name, disk, "-m", "what machines grow from")
	}
}

// list are the machines of these names.
func (g guests) list(names ...string) (out []api.VM) {
	g.t.Helper()
	var all api.VMList
	if err := json.Unmarshal([]byte(g.must("vm", "list", "-o", "json")), &all); err != nil {
		g.t.Fatal(err)
	}
	for _, vm := range all.VMs {
		for _, name := range names {
			if vm.Name == name {
				out = append(out, vm)
			}
		}
	}
	return out
}

// until waits for all machines of these names to be in a phase.
func (g guests) until(phase string, names ...string) {
	g.t.Helper()
	for end := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		list := g.list(names...)
		ready := len(list) >= len(names)
		for _, vm := range list {
			ready = ready && vm.Phase == phase
		}
		if ready {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%v are not %s: %+v", names, phase, list)
		}
	}
}

// run makes machines unless they run. Their wish is that of the first example.
func (g guests) run(names ...string) {
	g.t.Helper()
	for _, name := range names {
		if list := g.list(name); len(list) == 1 && list[0].Wanted {
			g.must("vm", "start", name, "--wait")
			continue
		}
		g.gone(name)
		g.must("vm", "create", name, "--image", "debian-12", "--subnet", "prod", "--tag", "web", "--wait")
	}
}

// deleted makes machines whose disks are kept.
func (g guests) deleted(names ...string) {
	g.t.Helper()
	for _, name := range names {
		g.run(name)
		g.must("vm", "destroy", name)
		for end := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
			switch list := g.list(name); {
			case len(list) == 1 && list[0].Phase == "deleted":
			case time.Now().After(end):
				g.t.Fatalf("%s is not deleted: %+v", name, list)
			case len(list) == 1 && list[0].Phase == "waiting":
				g.do("approve", name) // it may be on its way meanwhile
				continue
			default:
				continue
			}
			break
		}
	}
}

// gone takes away all there is of a machine.
func (g guests) gone(name string) {
	g.t.Helper()
	list := g.list(name)
	if len(list) == 0 {
		return
	}
	if list[0].Phase != "deleted" {
		g.deleted(name)
	}
	g.do("vm", "purge", name, "--yes") // an example may have had it purged, and it goes meanwhile
	g.must("vm", "wait", name, "--for", "gone")
}

// before brings about what an example needs.
func (g guests) before(line string) {
	g.t.Helper()
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.HasPrefix(line, "hostmesh "+w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("vm create"):
		g.gone("web7")
	case has("vm destroy db1"):
		g.must("vm", "create", "db1", "--image", "debian-12", "--subnet", "prod", "--protected", "--off", "--wait")
	case has("vm undelete", "vm purge"):
		g.deleted("web7")
	case has("vm wait") && strings.Contains(line, "--for gone"):
		g.gone("web7")
	case has("approve web7"):
		g.run("web7", "web8")
		for n := range 5 { // most were destroyed already
			var d api.VMDestroys
			if err := json.Unmarshal([]byte(g.must("approve", "-o", "json")), &d); err != nil {
				g.t.Fatal(err)
			}
			if len(d.Recent) >= d.Limit {
				break
			}
			g.deleted(fmt.Sprint("out", n))
		}
		g.must("vm", "destroy", "web7", "web8")
		g.until("waiting", "web7", "web8")
	case has("vm ") && !has("vm list", "vm capacity"):
		g.run("web7", "web8")
	}
}
