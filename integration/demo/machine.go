package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What the machine is called, and the tags that it is in.
const (
	machine = "web7.demo.example.com"
	group   = "demo-web"
)

// oneMachine makes a virtual machine, finds it everywhere, and takes it away. The hypervisor is libvirt's test driver, which is in
// the agents: it makes machines that do nothing, and takes neither root nor an emulator.
func (d *demo) oneMachine(ctx context.Context) error {
	title(8, "A virtual machine, from a wish to a name and back (libvirt's test driver: it boots nothing)")
	first, last := d.agents[0], d.agents[2]
	if err := d.prepare(ctx, first); err != nil {
		return err
	}
	fact("each box: Box: {CPUs: 8, ...}   tags/demo-net: Subnet: {...}   hostmesh image add demo disk.raw")
	begin := time.Now()
	steps, err := first.follow(ctx, "vm", "create", machine, "--image", "demo", "--subnet", "demo-net", "--tag", group, "--tag", "demo-zone",
		"--wait", "--timeout", "30s")
	if err != nil {
		return err
	}
	timed(time.Since(begin), "hostmesh vm create web7 --tag %s --wait, at %s:", group, first.name)
	facts(steps)
	if err := d.isEverywhere(ctx, time.Now()); err != nil {
		return err
	}
	begin = time.Now()
	steps, err = last.follow(ctx, "vm", "destroy", machine, "--wait", "--timeout", "30s", "-m", "the demo is over")
	if err != nil {
		return err
	}
	timed(time.Since(begin), "hostmesh vm destroy web7 --wait, at %s:", last.name)
	facts(steps)
	if err := d.isNowhere(ctx, time.Now()); err != nil {
		return err
	}
	// Without this its disks would go after 7 days.
	begin = time.Now()
	if _, err := last.follow(ctx, "vm", "purge", machine, "--yes"); err != nil {
		return err
	}
	for _, a := range d.agents {
		if _, err := a.follow(ctx, "vm", "wait", machine, "--for", "gone", "--timeout", "30s"); err != nil {
			return err
		}
	}
	timed(time.Since(begin), "hostmesh vm purge web7: its disks are gone, too; no agent knows it")
	return nil
}

// prepare writes what boxes, a network, a zone and an image are.
func (d *demo) prepare(ctx context.Context, a *agent) error {
	disk := filepath.Join(d.dir, "disk.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	commands := [][]string{
		// The test driver has one network, which is virbr0.
		{"db", "set", "tags/demo-net", "Subnet: {CIDR: 10.77.0.0/16, Gateway: 10.77.0.1, Bridge: virbr0, Pool: 10.77.128.0/17}", "-m", "the demo's network"},
		{"db", "set", "tags/demo-zone", "DNS: {Zone: demo.example.com}", "-m", "the demo's names"},
		{"db", "set", "tags/" + group, "Owner: demo", "-m", "the demo's machines"},
		{"image", "add", "demo", disk, "--format", "raw", "-m", "what the demo's machine grows from"},
	}
	for _, box := range d.agents {
		// A machine of the driver's own takes some memory.
		commands = append(commands, []string{"db", "set", "hosts/" + box.name, "Box: {CPUs: 8, Memory: 64GiB, Disk: 100GiB}", "-m", "carries machines"})
	}
	for _, args := range commands {
		if _, err := a.hostmesh(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// isEverywhere waits until each agent's DNS has the machine, by its name and among its tag, and shows what dig says.
func (d *demo) isEverywhere(ctx context.Context, began time.Time) error {
	tag := group + ".tag.mesh.internal"
	ip, err := d.agents[0].get("hosts/" + machine + "/Network/IP")
	if err != nil {
		return err
	}
	for _, a := range d.agents {
		for _, name := range []string{machine, tag} {
			if err := d.untilAnswered(ctx, a, name, ip); err != nil {
				return err
			}
		}
	}
	timed(time.Since(began), "all answer its name, and its tag's:")
	for _, a := range d.agents {
		for _, name := range []string{machine, tag} {
			answer, err := a.dig(ctx, name)
			if err != nil {
				return err
			}
			if answer != ip {
				return fmt.Errorf("dig %s at %s says %q, HostDB says %q", name, a.name, answer, ip)
			}
			fact("  dig  @%s %-35s %s", a.addr, name, answer)
		}
	}
	parents, err := d.agents[1].curl(ctx, "/v1/hosts/"+machine+"?meta=parents&from=tags")
	if err != nil {
		return err
	}
	fact("%s is in the tags  %s", machine, strings.Join(strings.Fields(parents), " "))
	return nil
}

// isNowhere waits until neither HostDB nor DNS of any agent has the machine.
func (d *demo) isNowhere(ctx context.Context, began time.Time) error {
	for _, a := range d.agents {
		for _, name := range []string{machine, group + ".tag.mesh.internal"} {
			if err := d.untilAnswered(ctx, a, name, ""); err != nil {
				return err
			}
		}
		err := a.until(ctx, 10*time.Second, "forget the machine", func() (bool, error) {
			text, err := a.get("hosts/" + machine)
			return text == "", err
		})
		if err != nil {
			return err
		}
	}
	timed(time.Since(began), "no agent's HostDB or DNS has it any more")
	return nil
}

// untilAnswered waits until a name is answered with an address; "" = with none.
func (d *demo) untilAnswered(ctx context.Context, a *agent, name, ip string) error {
	got := ""
	err := a.until(ctx, 10*time.Second, fmt.Sprintf("answer %s with %q", name, ip), func() (_ bool, err error) {
		got, err = lookup(ctx, a.addr+":"+d.dnsPort, name)
		return got == ip, err
	})
	if err != nil {
		return fmt.Errorf("%w: it says %q", err, got)
	}
	return nil
}

// facts prints the lines of a text.
func facts(text string) {
	for line := range strings.Lines(text) {
		fact("  %s", strings.TrimSpace(line))
	}
}
