package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const host = "web1.dc1.example.com"

func title(n int, text string) { fmt.Printf("\n%d. %s\n", n, text) }

func fact(what string, args ...any) { fmt.Printf("   "+what+"\n", args...) }

func timed(d time.Duration, what string, args ...any) {
	fmt.Printf("   %-66s %8s\n", fmt.Sprintf(what, args...), d.Round(time.Millisecond/10))
}

// run is the show, step by step.
func (d *demo) run(ctx context.Context) error {
	if err := d.place(); err != nil {
		return err
	}
	begin := time.Now()
	fmt.Println("hostmesh: three agents, one database, no server")
	for _, step := range []func(context.Context) error{
		d.formMesh, d.importInventory, d.askEach, d.writeOnce, d.lookBack, d.loseOne, d.bringBack, d.oneMachine,
		d.showResolvers,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nAll of it took %s.\n", time.Since(begin).Round(100*time.Millisecond))
	return nil
}

func (d *demo) formMesh(ctx context.Context) error {
	title(1, "A mesh of three")
	first := d.agents[0]
	begin := time.Now()
	if _, err := first.hostmesh(ctx, "init", "--data-dir", first.dir, "--key-file", d.keyFile, "--name", first.name); err != nil {
		return err
	}
	timed(time.Since(begin), "hostmesh init made the key and the mesh")
	for i, a := range d.agents {
		join := ""
		if i > 0 {
			join = first.addr
		}
		took, err := a.start(ctx, join)
		if err != nil {
			return err
		}
		timed(took, "%s at %s serves", a.name, a.addr)
	}
	begin = time.Now()
	for _, a := range d.agents {
		err := a.until(ctx, 20*time.Second, "see three members", func() (bool, error) {
			text, err := a.curl(ctx, "/api/v1/members")
			return strings.Count(text, `"alive"`) >= 3, err
		})
		if err != nil {
			return err
		}
	}
	timed(time.Since(begin), "each sees the other two alive")
	return nil
}

func (d *demo) importInventory(ctx context.Context) error {
	title(2, "An inventory in Flipkart's layout, imported through one agent")
	begin := time.Now()
	out, err := d.agents[0].hostmesh(ctx, "db", "import", d.inventory, "-m", "import the example")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[max(0, len(lines)-6):] {
		fact("  %s", line)
	}
	timed(time.Since(begin), "imported")
	return d.showEqual(ctx)
}

// showEqual waits until all running agents have the same digest and prints it.
func (d *demo) showEqual(ctx context.Context) error {
	begin := time.Now()
	var lines []string
	err := d.agents[0].until(ctx, 30*time.Second, "agree with the others", func() (bool, error) {
		lines = lines[:0]
		for _, a := range d.agents {
			if !a.running() {
				continue
			}
			line, err := a.digest(ctx)
			if err != nil {
				return false, err
			}
			lines = append(lines, line)
		}
		for _, line := range lines {
			if line != lines[0] {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
	}
	timed(time.Since(begin), "%d agents have the same digest:", len(lines))
	fact("  %s", lines[0])
	return nil
}

func (d *demo) askEach(ctx context.Context) error {
	title(3, "Each answers from its own replica")
	for _, a := range d.agents {
		addr, err := a.dig(ctx, host)
		if err != nil {
			return err
		}
		ip, err := a.curl(ctx, "/v1/hosts/"+host+"/Network/IP")
		if err != nil {
			return err
		}
		ip = strings.TrimSpace(ip)
		if addr != ip || ip == "" {
			return fmt.Errorf("%s: dig says %q, HostDB says %q", a.name, addr, ip)
		}
		fact("dig  @%s %s        %s", a.addr, host, addr)
		fact("curl  %s/v1/hosts/%s/Network/IP   %s", a.addr, host, ip)
	}
	last := d.agents[2]
	for _, q := range [][]string{{"-x", "10.1.0.1"}, {"mx", "dc1.example.com"}, {"shipping-web-dc1.tag.mesh.internal"}, {"node1.node.mesh.internal"}} {
		if q[0] == "-x" {
			ip, err := last.get("hosts/" + host + "/Network/IP")
			if err != nil {
				return err
			}
			q[1] = ip
		}
		answer, err := last.dig(ctx, q...)
		if err != nil {
			return err
		}
		if answer == "" {
			return fmt.Errorf("dig %s at %s: no answer", strings.Join(q, " "), last.name)
		}
		fact("dig  @%s %-42s %s", last.addr, strings.Join(q, " "), strings.ReplaceAll(answer, "\n", "  "))
	}
	parents, err := last.curl(ctx, "/v1/hosts/"+host+"?meta=parents&from=tags")
	if err != nil {
		return err
	}
	fact("%s is in the tags  %s", host, strings.ReplaceAll(parents, "\n", " "))
	return nil
}

func (d *demo) writeOnce(ctx context.Context) error {
	title(4, "One write, and when the others answer it")
	first := d.agents[0]
	var err error
	if first.token, err = first.login(ctx); err != nil {
		return err
	}
	for _, addr := range []string{"10.1.99.1", "10.1.99.2", "10.1.99.3"} {
		began := time.Now()
		if err := first.put("hosts/"+host+"/Network/IP", addr, "the demo moves it"); err != nil {
			return err
		}
		acked := time.Since(began)
		line := fmt.Sprintf("PUT %s at node1: acknowledged %s", addr, acked.Round(time.Millisecond/10))
		for _, a := range d.agents[1:] {
			var over [2]time.Duration
			err := a.until(ctx, 10*time.Second, "answer HTTP with the new address", func() (bool, error) {
				got, err := a.get("hosts/" + host + "/Network/IP")
				over[0] = time.Since(began)
				return got == addr, err
			})
			if err != nil {
				return err
			}
			err = a.until(ctx, 10*time.Second, "answer DNS with the new address", func() (bool, error) {
				got, err := lookup(ctx, a.addr+":"+d.dnsPort, host)
				over[1] = time.Since(began)
				return got == addr, err
			})
			if err != nil {
				return err
			}
			line += fmt.Sprintf("; %s HTTP %s DNS %s", strings.TrimSuffix(a.name, ".demo"), over[0].Round(time.Millisecond/10), over[1].Round(time.Millisecond/10))
		}
		fact("%s", line)
	}
	answer, err := d.agents[2].dig(ctx, host)
	if err != nil {
		return err
	}
	fact("dig  @%s %s        %s", d.agents[2].addr, host, answer)
	if answer != "10.1.99.3" {
		return fmt.Errorf("dig at %s says %q", d.agents[2].name, answer)
	}
	return nil
}

func (d *demo) loseOne(ctx context.Context) error {
	title(6, "One is killed with -9; the others go on")
	dead := d.agents[1]
	if err := dead.kill(); err != nil {
		return err
	}
	begin := time.Now()
	for _, a := range []*agent{d.agents[0], d.agents[2]} {
		token, err := a.login(ctx)
		if err != nil {
			return err
		}
		a.token = token
		began := time.Now()
		if err := a.put("hosts/written-at-"+strings.TrimSuffix(a.name, ".demo")+".dc1.example.com", "Network: {IP: 10.1.98."+a.addr[len(a.addr)-1:]+"}", "written while node2 is dead"); err != nil {
			return err
		}
		timed(time.Since(began), "%s takes a write", a.name)
	}
	err := d.agents[2].until(ctx, 20*time.Second, "notice the death", func() (bool, error) {
		text, err := d.agents[2].curl(ctx, "/api/v1/members")
		return strings.Contains(text, `"failed"`), err
	})
	if err != nil {
		return err
	}
	timed(time.Since(begin), "%s sees that %s is gone", d.agents[2].name, dead.name)
	return d.showEqual(ctx)
}

func (d *demo) bringBack(ctx context.Context) error {
	title(7, "It comes back and catches up")
	took, err := d.agents[1].start(ctx, d.agents[0].addr)
	if err != nil {
		return err
	}
	timed(took, "%s serves again", d.agents[1].name)
	return d.showEqual(ctx)
}

func (d *demo) printWhatToTry() {
	var pids []string
	for _, a := range d.agents {
		pids = append(pids, fmt.Sprint(a.cmd.Process.Pid))
	}
	port := ""
	if d.dnsPort != "53" {
		port = " -p " + d.dnsPort
	}
	bin := d.binary
	if rel, err := filepath.Rel(mustGetwd(), bin); err == nil && !strings.HasPrefix(rel, "..") {
		bin = rel
	}
	fmt.Printf(`
The three agents are left running. To try:

  export HOSTMESH_SOCKET=%[1]s/agent.sock
  %[2]s status
  %[2]s members
  %[2]s db get hosts/%[3]s
  %[2]s db set hosts/%[3]s/Network/IP 10.1.97.1 -m "try it"
  dig @%[7]s%[4]s %[3]s
  curl http://%[8]s:7950/v1/tags/web/members
  %[2]s dns zone dc1.example.com
  %[2]s vm create web8.demo.example.com --image demo --subnet demo-net --tag demo-web --tag demo-zone --wait
  %[2]s vm list

To stop them and remove their data:

  kill %[5]s; rm -rf %[6]s
`, d.agents[0].dir, bin, host, port, strings.Join(pids, " "), d.dir, d.agents[2].addr, d.agents[1].addr)
}

func mustGetwd() string {
	dir, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return dir
}
