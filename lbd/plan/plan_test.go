package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// TestGolden tells whole plans, step by step.
func TestGolden(t *testing.T) {
	for name, story := range map[string]func(w *world, step func(string)){
		"one-day.txt": func(w *world, step func(string)) {
			w.write(web(4))
			step("four members")
			w.members[name(2)] = mesh.StateAlive
			w.members[name(3)] = mesh.StateAlive
			step("two run agents")
			w.members[name(2)] = mesh.StateFailed
			w.members[name(3)] = mesh.StateLeft
			step("one failed, one was stopped in order and works")
			w.verdicts[name(3)], w.verdicts[name(4)] = Down, Down
			step("two fail their checks")
			w.verdicts[name(1)] = Down
			step("all do")
			clear(w.verdicts)
			w.members[name(2)] = mesh.StateAlive
			step("all are well")
			w.drained[name(1)] = "new disks"
			w.write(map[string]string{hostID(4): "{Network: {IP: 10.1.8.4}, Status: maintenance}"})
			step("one is drained, one in maintenance")
			w.after(time.Minute)
			w.write(map[string]string{"tags/web/members": "web01\nweb02\nweb04\n"})
			step("a minute later one is taken out")
			w.after(4 * time.Minute)
			step("the first two are done draining")
			w.after(time.Minute)
			step("so is the third")
			delete(w.drained, name(1))
			w.write(map[string]string{hostID(4): "{Network: {IP: 10.1.8.4}}", hostID(5): "Network: {IP: 10.1.8.5}", "tags/web/members": listOf(1, 5)})
			w.verdicts[name(3)] = Unknown
			step("all come back, with a new one; one was not checked")
			w.write(map[string]string{"tags/web": ""})
			step("the tag is deleted")
		},
		"kinds.txt": func(w *world, step func(string)) {
			docs := web(2)
			docs["tags/prod6"] = "Subnet: {CIDR: 2001:db8::/64, Bridge: br6, VIPs: 2001:db8::f0/124}"
			docs["hosts/web01"] = "Network: {IP: 10.1.8.1, IPv6: 2001:db8::1}"
			docs["tags/web6"] = "LB: {VIP: 2001:db8::f1, Ports: {443/tcp: 80, 80/tcp: 80}, Mode: http, TLS: shop, Balance: source, NoQuorum: keep, Check: {Type: check_shop, Interval: 5s}}"
			docs["tags/web6/members"] = "@web"
			docs["tags/resolvers"] = "LB: {VIP: 10.1.0.53, Ports: {53/udp: 53, 53/tcp: 53}, Masquerade: off, Check: {Type: dns, Rise: 1, Fall: 2}}"
			docs["tags/resolvers/members"] = "web02\n"
			docs["tags/empty"] = "LB: {VIP: 10.1.0.54, Ports: {53/udp: 53}}"
			w.write(docs)
			step("services of each kind")
			w.programs = map[string]bool{"check_shop": true}
			step("the box has the program")
			w.programs = map[string]bool{}
			step("it has none")
		},
		"problems.txt": func(w *world, step func(string)) {
			docs := web(2)
			docs["tags/other"], docs["tags/other/members"] = "LB: {VIP: 10.1.0.51, Ports: {80/tcp: 80, 443/tcp: 443}}", "web01"
			w.write(docs)
			step("two services")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.9.9, Ports: {80/tcp: 8080}}"})
			step("outside of VIPs")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.9.9.9, Ports: {80/tcp: 8080}}"})
			step("in no network")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.55, Ports: {80/tcp: 8080}}", "hosts/stray": "Interfaces: {eth0: {IP: 10.1.0.55}}"})
			step("the address of a host")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.51, Ports: {443/tcp: 8080}}"})
			step("a port of another tag")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.51, Ports: {444/tcp: 8080}}"})
			step("another port of the VIP of another tag")
			w.write(map[string]string{"tags/web": "LB: 5"})
			step("no mapping")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.52, Ports: {80/tcp: 8080}, Mode: fast}"})
			step("an unknown mode")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.9.9, Ports: {80/tcp: 8080}}", "tags/web/members": "web02"})
			step("members change while the section cannot be used")
			w.write(map[string]string{"tags/new": "LB: {VIP: 10.1.0.51, Ports: {444/tcp: 1}}", "tags/new/members": "web01"})
			step("another tag is given the VIP")
			w.write(map[string]string{"tags/db": "MySQL: {VIP: 10.1.0.51}"})
			step("MySQL is given one that is in use")
			w.write(map[string]string{"tags/new": "LB: {VIP: 10.1.0.1, Ports: {444/tcp: 1}}"})
			step("the gateway, and MySQL has the VIP")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 8080}}", hostID(2): "{Network: {IP: 10.1.8.1}}", "tags/web/members": listOf(1, 2) + "web03", hostID(3): "Network: {MAC: '02:00:00:00:00:01'}"})
			step("one address twice, and a member without one")
		},
		"shrink.txt": func(w *world, step func(string)) {
			w.write(web(10))
			step("ten")
			w.write(map[string]string{"tags/web/members": listOf(1, 5)})
			step("five are taken out at once")
			w.write(map[string]string{"hosts/unrelated": "Network: {IP: 10.3.0.1}"})
			step("something else is written")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 8080}, Force: rack r2 goes}"})
			step("with Force")
			w.after(time.Hour)
			w.write(map[string]string{"tags/web/members": ""})
			step("the same Force, and none is left")
			w.write(map[string]string{"tags/web": "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 8080}, Force: really}"})
			step("a new Force does not take the last")
			w.write(map[string]string{"tags/web": "{}"})
			step("the section is taken out")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			defer w.store.Close()
			var b strings.Builder
			story(w, func(what string) {
				fmt.Fprintf(&b, "# %s\n%s\n", what, show(w.plan()))
			})
			golden(t, name, b.String())
		})
	}
}

// TestShrink is the rule of 30 %, as a table: of ten members, what becomes of them.
func TestShrink(t *testing.T) {
	lb := func(more string) string { return "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 8080}" + more + "}" }
	for _, c := range []struct {
		name    string
		n       int
		change  func(w *world)
		want    string
		problem ProblemName
	}{
		{"three of ten may leave", 10, func(w *world) { w.write(map[string]string{"tags/web/members": listOf(4, 10)}) }, "1d 2d 3d 4i 5i 6i 7i 8i 9i web10i", ""},
		{"four of ten may not", 10, func(w *world) { w.write(map[string]string{"tags/web/members": listOf(5, 10)}) }, "1i+ 2i+ 3i+ 4i+ 5i 6i 7i 8i 9i web10i", ShrinkHeld},
		{"nor may they with Force as it was", 10, func(w *world) {
			w.write(map[string]string{"tags/web": lb(", Force: x")})
			w.plan()
			w.write(map[string]string{"tags/web/members": listOf(5, 10)})
		}, "1i+ 2i+ 3i+ 4i+ 5i 6i 7i 8i 9i web10i", ShrinkHeld},
		{"with a new Force they may", 10, func(w *world) {
			w.write(map[string]string{"tags/web/members": listOf(5, 10), "tags/web": lb(", Force: y")})
		}, "1d 2d 3d 4d 5i 6i 7i 8i 9i web10i", ""},
		{"Force that is taken out is none", 5, func(w *world) {
			w.write(map[string]string{"tags/web": lb(", Force: x")})
			w.plan()
			w.write(map[string]string{"tags/web/members": listOf(3, 5), "tags/web": lb("")})
		}, "1i+ 2i+ 3i 4i 5i", ShrinkHeld},
		{"one of two may", 2, func(w *world) { w.write(map[string]string{"tags/web/members": listOf(2, 2)}) }, "1d 2i", ""},
		{"the last may not", 1, func(w *world) { w.write(map[string]string{"tags/web/members": ""}) }, "1i+", LastHeld},
		{"the last may not retire", 1, func(w *world) {
			w.write(map[string]string{hostID(1): "{Network: {IP: 10.1.8.1}, Status: retired}"})
		}, "1i+", LastHeld},
		{"nor be deleted", 1, func(w *world) { w.write(map[string]string{hostID(1): ""}) }, "1i+", LastHeld},
		{"nor be in maintenance", 1, func(w *world) {
			w.write(map[string]string{hostID(1): "{Network: {IP: 10.1.8.1}, Status: maintenance}"})
		}, "1i+", LastHeld},
		{"the last that works may not", 2, func(w *world) {
			w.verdicts[name(1)] = Down
			w.plan()
			w.write(map[string]string{"tags/web/members": listOf(1, 1)})
		}, "1o 2i+", LastHeld},
		{"one that does not work may", 2, func(w *world) {
			w.verdicts[name(1)] = Down
			w.plan()
			w.write(map[string]string{"tags/web/members": listOf(2, 2)})
		}, "2i", ""},
		{"newcomers that work make up for others", 4, func(w *world) {
			w.write(map[string]string{"tags/web/members": listOf(3, 6), hostID(5): "Network: {IP: 10.1.8.5}", hostID(6): "Network: {IP: 10.1.8.6}"})
		}, "1d 2d 3i 4i 5i 6i", ""},
		{"those that were not checked do not", 4, func(w *world) {
			w.unjudged = true
			w.write(map[string]string{"tags/web/members": listOf(3, 6), hostID(5): "Network: {IP: 10.1.8.5}", hostID(6): "Network: {IP: 10.1.8.6}"})
		}, "1i+ 2i+ 3i 4i 5o 6o", ShrinkHeld},
		{"another address is another backend", 1, func(w *world) {
			w.verdicts[name(1)] = Unknown
			w.write(map[string]string{hostID(1): "Network: {IP: 10.1.9.1}"})
		}, "1i+ 1o", LastHeld},
		{"and takes over when it works", 1, func(w *world) { w.write(map[string]string{hostID(1): "Network: {IP: 10.1.9.1}"}) }, "1d 1i", ""},
		{"half of them in maintenance is too much", 4, func(w *world) {
			w.write(map[string]string{hostID(1): "{Network: {IP: 10.1.8.1}, Status: maintenance}", hostID(2): "{Network: {IP: 10.1.8.2}, Status: Maintenance}"})
		}, "1i+ 2i+ 3i 4i", ShrinkHeld},
		{"a person may drain what is held", 4, func(w *world) {
			w.write(map[string]string{"tags/web/members": listOf(3, 4)})
			w.plan()
			w.drained[name(1)] = ""
		}, "1d 2i+ 3i 4i", ShrinkHeld},
		{"and the rest may leave then", 4, func(w *world) {
			w.write(map[string]string{"tags/web/members": listOf(3, 4)})
			w.plan()
			w.drained[name(1)] = ""
			w.plan()
		}, "1d 2d 3i 4i", ""},
		{"putting some back lets the others go", 5, func(w *world) {
			w.write(map[string]string{"tags/web/members": listOf(3, 5)})
			w.plan()
			w.write(map[string]string{"tags/web/members": listOf(2, 5)})
		}, "1d 2i 3i 4i 5i", ""},
		{"a person drains all but the last", 3, func(w *world) {
			w.drained[name(1)] = ""
			w.plan()
			w.drained[name(2)], w.drained[name(3)] = "", ""
		}, "1d 2i+ 3i+", LastHeld},
		{"nothing restrains what is observed", 10, func(w *world) {
			for i := 2; i <= 10; i++ {
				w.verdicts[name(i)] = Down
			}
		}, "1i 2o 3o 4o 5o 6o 7o 8o 9o web10o", ""},
		{"but that all fail", 2, func(w *world) { w.verdicts[name(1)], w.verdicts[name(2)] = Down, Down }, "1i 2i", AllFail},
		{"all that nobody takes out", 3, func(w *world) {
			w.verdicts[name(1)], w.verdicts[name(2)] = Down, Down
			w.drained[name(3)] = "x"
		}, "1i 2i 3d", AllFail},
		{"who fell stays out while nobody reports", 2, func(w *world) {
			w.verdicts[name(1)] = Down
			w.plan()
			w.verdicts[name(1)] = Unknown
		}, "1o 2i", ""},
		{"a newcomer waits for its check", 2, func(w *world) {
			w.verdicts[name(3)] = Unknown
			w.write(map[string]string{"tags/web/members": listOf(1, 3), hostID(3): "Network: {IP: 10.1.8.3}"})
		}, "1i 2i 3o", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			defer w.store.Close()
			w.write(web(c.n))
			w.plan()
			c.change(w)
			r := w.plan()
			if have := states(r, "web"); have != c.want {
				t.Errorf("%s, want %s\n%s", have, c.want, show(r))
			}
			if c.problem != "" && !hasProblem(r, "web", c.problem) || c.problem == "" && len(r.Problems) > 0 {
				t.Errorf("problems %v, want %q", r.Problems, c.problem)
			}
			// What follows from the same again is the same.
			if again := w.plan(); c.name != "and the rest may leave then" && c.name != "a person may drain what is held" && states(again, "web") != c.want {
				t.Errorf("again: %s, want %s", states(again, "web"), c.want)
			}
		})
	}
}

// TestMachines looks at machines as their boxes report them.
func TestMachines(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	docs := web(2)
	docs[hostID(1)] = "{Network: {IP: 10.1.8.1}, VM: {UUID: 0ACFBCCA-161e-427c-8423-ef788bb47f00, Box: box}}"
	w.write(docs)
	w.members["box"] = mesh.StateAlive
	phase := report.Running
	mass := false
	w.edit = func(v mesh.View) mesh.View {
		box, _ := v.ByName("box")
		return v.WithReport(report.Report{Node: box.ID, Boot: 1, N: 1, VMs: map[string]report.VM{"0acfbcca-161e-427c-8423-ef788bb47f00": {Name: name(1), Phase: phase}}}).WithMassSuspicion(mass)
	}
	expect := func(want string) {
		t.Helper()
		if r := w.plan(); states(r, "web") != want {
			t.Fatalf("%s, want %s\n%s", states(r, "web"), want, show(r))
		}
	}
	expect("1i 2i")
	phase = report.Stopped
	expect("1o 2i")
	w.members["box"] = mesh.StateFailed // nobody knows any more
	expect("1i 2i")
	w.members["box"] = mesh.StateAlive
	phase = report.Foreign
	expect("1i 2i")
	w.members[name(2)] = mesh.StateAlive
	expect("1i 2i")
	w.members[name(2)], mass = mesh.StateFailed, true
	expect("1i 2i") // frozen
	mass = false
	expect("1i 2o")
}

// TestStable checks that a plan of what did not change is the same, to the pointer.
func TestStable(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	w.write(web(3))
	a := w.plan()
	w.write(map[string]string{"hosts/other": "Network: {IP: 10.9.9.9}", "tags/plain": "{}", "tags/plain/members": "web01"})
	b := w.plan()
	if a.Services[0] != b.Services[0] || len(b.Changed) != 0 || b.Services[0].Version != a.Version || b.Version == a.Version {
		t.Errorf("what did not change is %+v", b)
	}
	w.write(map[string]string{hostID(1): "{Network: {IP: 10.1.8.1}, Owner: shop}"})
	if c := w.plan(); c.Services[0] != a.Services[0] || len(c.Changed) != 0 {
		t.Errorf("an owner made another service: %+v", c)
	}
	w.write(map[string]string{"tags/web/members": listOf(1, 2)})
	if c := w.plan(); fmt.Sprint(c.Changed) != "[web]" || c.Services[0].Version != c.Version {
		t.Errorf("%+v", c)
	}
	w.write(map[string]string{"tags/web": ""})
	if c := w.plan(); fmt.Sprint(c.Changed) != "[web]" || len(c.Services) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestInherited follows members that come through other tags, and through all.
func TestInherited(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	docs := web(2)
	w.write(docs)
	w.write(map[string]string{"tags/two": "{}", "tags/two/members": "web01\n"})
	w.write(map[string]string{"tags/one": "{}", "tags/one/members": "@two\n"})
	w.write(map[string]string{"tags/web/members": "@one"})
	w.write(map[string]string{"tags/everybody": "LB: {VIP: 10.1.0.60, Ports: {80/tcp: 80}}", "tags/everybody/members": "@all"})
	if r := w.plan(); states(r, "web") != "1i" || states(r, "everybody") != "1i 2i" {
		t.Fatal(show(r))
	}
	w.write(map[string]string{"tags/two/members": "web01\nweb02\n"})
	if r := w.plan(); states(r, "web") != "1i 2i" {
		t.Fatal(show(r))
	}
	w.write(map[string]string{hostID(3): "Network: {IP: 10.1.8.3}"})
	if r := w.plan(); states(r, "everybody") != "1i 2i 3i" {
		t.Fatal(show(r))
	}
	w.write(map[string]string{hostID(3): "{Network: {IP: 10.1.8.3}, Status: retired}"})
	if r := w.plan(); states(r, "everybody") != "1i 2i 3d" {
		t.Fatal(show(r))
	}
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	docs := web(3)
	docs["hosts/bare"], docs["hosts/old"], docs["hosts/twin"] = "{}", "{Network: {IP: 10.1.8.9}, Status: retired}", "Network: {IP: 10.1.8.1}"
	docs["tags/web/members"] += "bare\nold\ntwin\n"
	docs["tags/plain"] = "{}"
	docs["tags/broken"], docs["tags/broken/members"] = "LB: {VIP: 10.7.7.7, Ports: {80/tcp: 80}}", name(1)
	w.write(docs)
	w.drained[name(2)] = "new disks"
	w.verdicts[name(3)] = Down
	w.plan()
	var b strings.Builder
	for _, q := range [][2]string{{"web", name(1)}, {"web", name(2)}, {"web", name(3)}, {"web", "bare"}, {"web", "old"}, {"web", "twin"}, {"web", "ghost"}, {"web", "stranger"}, {"web", "other"}, {"plain", name(1)}, {"none", name(1)}, {"broken", name(1)}} {
		if q[1] == "other" {
			w.write(map[string]string{"hosts/other": "{}"})
			w.plan()
		}
		e := w.planner.Explain(q[0], q[1])
		fmt.Fprintf(&b, "# %s/%s: %q\n", e.Tag, e.Host, e.State)
		for _, line := range e.Lines {
			if i := strings.Index(line, "; of HostDB "); i >= 0 {
				line = line[:i]
			}
			b.WriteString(line + "\n")
		}
	}
	golden(t, "explain.txt", b.String())
}

func TestVIPs(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	docs := web(1)
	docs["tags/a"], docs["tags/a/members"] = "LB: {VIP: 10.1.0.50, Ports: {443/tcp: 80}, Mode: http, NoQuorum: keep}", name(1)
	docs["tags/b"], docs["tags/b/members"] = "LB: {VIP: 10.1.0.49, Ports: {53/udp: 53}, NoQuorum: keep}", name(1)
	w.write(docs)
	have := ""
	for _, v := range w.plan().VIPs() {
		have += fmt.Sprintf("%s %s %s %s keep=%t nat=%t haproxy=%t %d\n", v.Addr, v.CIDR, v.Interface, v.Datacenter, v.Keep, v.NAT, v.HAProxy, len(v.Services))
	}
	if want := "10.1.0.49 10.1.0.0/16 br0 dc1 keep=true nat=true haproxy=false 1\n10.1.0.50 10.1.0.0/16 br0 dc1 keep=false nat=true haproxy=true 2\n"; have != want {
		t.Errorf("%s", have)
	}
}

func TestHoldersAndObservers(t *testing.T) {
	var nodes []Node
	for i := range 9 {
		nodes = append(nodes, Node{ID: fmt.Sprint("id", i), Name: fmt.Sprint("box", i), Datacenter: "dc1", Alive: true, Configured: true})
	}
	nodes[0].Datacenter = "dc2"
	nodes[1].Alive = false
	nodes[2].Unfit = "nft is missing: apt-get install nftables"
	nodes[3].Drained = "new disks"
	nodes[4].Configured = false
	vip := VIP{Addr: netip.MustParseAddr("10.1.0.50"), Datacenter: "dc1", Subnet: "prod"}
	ranked := Holders(vip, nodes)
	have := ""
	for _, c := range ranked {
		if c.OK {
			have += c.ID + " "
		} else {
			have += c.ID + ": " + c.Why + "\n"
		}
	}
	for _, want := range []string{"id0: it is in datacenter \"dc2\", and tags/prod in \"dc1\"\n", "id1: it does not answer\n", "id2: nft is missing", "id3: it is drained: new disks\n", "id4: its configuration"} {
		if !strings.Contains(have, want) {
			t.Errorf("no %q in\n%s", want, have)
		}
	}
	// Whoever goes does not change the order of the others.
	first := ranked[0].ID
	var without []Node
	for _, n := range nodes {
		if n.ID != first {
			without = append(without, n)
		}
	}
	if again := Holders(vip, without); again[0].ID != ranked[1].ID || again[1].ID != ranked[2].ID {
		t.Errorf("after %s went the order is %v", first, again)
	}
	counts := map[string]int{}
	for i := range 400 {
		v := vip
		v.Addr = netip.AddrFrom4([4]byte{10, 1, byte(i / 200), byte(i % 200)})
		counts[Holders(v, nodes)[0].ID]++
	}
	for id, n := range counts {
		if n < 40 || len(counts) != 4 {
			t.Errorf("%s holds %d of 400: %v", id, n, counts)
		}
	}

	s := &Service{Tag: "web", VIP: vip.Addr, Datacenter: "dc1", Backends: []Backend{{Host: "box5"}, {Host: "box6"}}}
	for _, c := range []struct {
		holder string
		nodes  []Node
		allow  string
		n      int
	}{
		{"id8", nodes, "id2 id3 id4 id7", 2},
		{"", nodes, "id2 id3 id4 id7 id8", 2},
		{"id8", []Node{nodes[8], nodes[5], nodes[0]}, "id5", 2},
		{"id8", []Node{nodes[8], nodes[0], nodes[1]}, "id0", 2},
		{"id8", []Node{nodes[8]}, "", 1},
		{"", nil, "", 0},
	} {
		have := Observers(s, c.holder, c.nodes)
		if len(have) != c.n || c.holder != "" && have[0] != c.holder || len(have) == 2 && (have[1] == have[0] || !strings.Contains(c.allow, have[1])) {
			t.Errorf("holder %q: %v, want one of %s", c.holder, have, c.allow)
		}
	}
}
