package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/node/api"
)

// transferSection is a tag's DNS with transfers to these servers.
func transferSection(zone, key string, servers map[string]serverConfig) string {
	var allow, notify []string
	for _, c := range servers {
		allow, notify = append(allow, c.Addr), append(notify, "'"+c.Listen+":"+c.Port+"'")
	}
	if key != "" {
		key = ", Key: " + key
	}
	return fmt.Sprintf("DNS: {Zone: %s, TTL: 5, Reverse: [10.9.0.0/16], NS: [ns1.%s.], Records: {ns1: {A: 10.9.9.9}}, Transfer: {Allow: [%s], Notify: [%s]%s}}\n",
		zone, zone, strings.Join(allow, ", "), strings.Join(notify, ", "), key)
}

// TestSecondaries: NSD, Knot and BIND have our zones, signed, and follow each change by its difference, wherever it was made
// and whoever of the agents is left to tell them; unbound resolves through a stub.
func TestSecondaries(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	a, b, c := s.boxes[0], s.boxes[1], s.boxes[2]
	key, err := a.api.AddDNSKey(t.Context(), "xfer", api.DNSKeyChange{}, "for the secondaries")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{"nsd", "knot", "bind"}
	servers := map[string]serverConfig{}
	for _, kind := range kinds {
		servers[kind] = answersAt(t, kind, loopback(t))
	}
	zones := []string{"lab.test", "9.10.in-addr.arpa"}
	var hosts strings.Builder
	for i := range 40 { // so that a difference is shorter than the zone
		name := fmt.Sprintf("web%d.lab.test", i)
		a.mustPut("hosts/"+name, fmt.Sprintf("Network: {IP: 10.9.1.%d}\n", i))
		fmt.Fprintln(&hosts, name)
	}
	a.mustPut("tags/lab", transferSection("lab.test", "xfer", servers))
	a.mustPut("tags/lab/members", hosts.String())
	s.equal(s.boxes...)
	primaries := []string{a.addr, b.addr, c.addr}
	var all []*nameserver
	for _, kind := range kinds {
		c := servers[kind]
		c.Primaries, c.Zones, c.Key = primaries, zones, &key
		all = append(all, startServer(t, kind, c))
	}
	for _, n := range all {
		for _, zone := range zones {
			took := s.wait(n.kind+" has "+zone, func() error { return same(n.records(zone), b.fileRecords(zone)) })
			t.Logf("%s has %s after %s", n.kind, zone, took.Round(time.Millisecond))
		}
	}

	// incrementally: what the agents that run logged of differences to a server, up to now.
	incrementally := func(n *nameserver, zone string) (count int) {
		for _, x := range s.boxes {
			count += len(x.logged(`msg="zone transferred"`, "zone="+zone+". ", "kind=difference", "to="+n.Addr+":"))
		}
		return count
	}
	change := func(by *box, i int, addr string) {
		t.Helper()
		before := map[*nameserver]int{}
		for _, n := range all {
			before[n] = incrementally(n, "lab.test")
		}
		name := fmt.Sprintf("web%d.lab.test", i)
		begin := time.Now()
		by.mustPut("hosts/"+name+"/Network/IP", addr)
		var took []string
		left := slices.Clone(all)
		s.wait("every secondary has the change", func() error {
			left = slices.DeleteFunc(left, func(n *nameserver) bool {
				has := n.dig("+short", name) == addr
				if has {
					took = append(took, n.kind+" after "+time.Since(begin).Round(time.Millisecond).String())
				}
				return has
			})
			if len(left) > 0 {
				return fmt.Errorf("%s has not", left[0].kind)
			}
			return nil
		})
		t.Logf("what %s was told is at %s", by.name, strings.Join(took, ", "))
		for _, n := range all {
			s.wait(n.kind+" has all of it", func() error {
				for _, zone := range zones {
					if err := same(n.records(zone), by.fileRecords(zone)); err != nil {
						return err
					}
				}
				return nil
			})
			if incrementally(n, "lab.test") == before[n] {
				t.Errorf("%s has the change, and not by IXFR", n.kind)
			}
		}
	}
	for round := range 3 {
		change(a, round, fmt.Sprintf("10.9.2.%d", round))
		change(b, 10+round, fmt.Sprintf("10.9.3.%d", round))
		change(c, 20+round, fmt.Sprintf("10.9.4.%d", round))
	}
	for i, x := range s.boxes {
		if x.status().Problems != nil && strings.Contains(fmt.Sprint(x.status().Problems), "secondary") {
			t.Errorf("box %d: %v", i, x.status().Problems)
		}
	}

	// Who tells dies, whoever that is; another one goes on, and says so where it cannot.
	a.kill()
	b.sees(a, "failed")
	b.mustPut("hosts/web30.lab.test/Network/IP", "10.9.5.1")
	for _, n := range all {
		s.wait(n.kind+" hears of it from those that are left", func() error {
			if got := n.dig("+short", "web30.lab.test"); got != "10.9.5.1" {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	a.start()
	s.allAlive()

	// What we have is what they have, by their own word; and one that is behind differs.
	for _, n := range all {
		s.wait("no difference from "+n.kind, func() error {
			if out, errs, code := b.hostmesh("dns", "diff", "--against", n.Listen+":"+n.Port, "lab.test"); code != 0 {
				return fmt.Errorf("%s%s", out, errs)
			}
			return nil
		})
	}
	if out, errs, code := b.hostmesh("dns", "diff", "--against", c.addr+":7953", "--key", "xfer", "lab.test"); code != 1 || !strings.Contains(errs, "REFUSED") {
		t.Errorf("a transfer that is refused: %d %s%s", code, out, errs)
	}

	// A resolver that has the mesh as stub.
	stub := answersAt(t, "unbound", loopback(t))
	stub.Primaries, stub.Zones = primaries, append(zones, "mesh.internal")
	resolver := startServer(t, "unbound", stub)
	for name, want := range map[string]string{"web30.lab.test": "10.9.5.1", "-x 10.9.5.1": "web30.lab.test.", "ns1.lab.test": "10.9.9.9"} {
		s.wait("unbound resolves "+name, func() error {
			if got := resolver.dig(append([]string{"+short"}, strings.Fields(name)...)...); got != want {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	if got := resolver.dig("+short", "box2.node.mesh.internal"); got != b.addr {
		t.Errorf("unbound: box2.node.mesh.internal is %q", got)
	}

	// Who is not allowed is refused, and the log says by which rule.
	if out := b.dig("lab.test", "AXFR"); !strings.Contains(out, "Transfer failed") {
		t.Errorf("an AXFR by somebody: %s", out)
	}
	if len(b.logged("zone transfer refused", "rule=address")) == 0 {
		t.Error("the refusal is not in the log")
	}
	// A secondary that is gone is a problem of the agent that tells it.
	all[0].stop()
	b.mustPut("hosts/web31.lab.test/Network/IP", "10.9.5.2")
	s.wait("an agent says that a secondary does not follow", func() error {
		for _, x := range s.boxes {
			for _, p := range x.status().Problems {
				if strings.Contains(p.Text, "secondary "+all[0].Addr) && strings.Contains(p.Text, "has not acknowledged") {
					return nil
				}
			}
		}
		return fmt.Errorf("nobody does")
	})
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("it has\n%s\nwant\n%s", got, want)
	}
	return nil
}

// TestSecondariesOfCutMesh: two agents that cannot reach each other, while the secondaries reach both, count the same serials
// for different contents. When they are together again every secondary has what both have.
func TestSecondariesOfCutMesh(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		cutSecondaries(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip", "bridge")
}

func cutSecondaries(t *testing.T) {
	w := wires{t}
	addrs := map[string]string{"one": "10.77.0.1", "two": "10.77.0.2", "nsd": "10.77.0.11", "knot": "10.77.0.12", "bind": "10.77.0.13"}
	w.lay(addrs)
	kinds := []string{"nsd", "knot", "bind"}
	s := newSite(t, 0)
	for _, name := range []string{"one", "two"} {
		s.newBox(addrs[name]).under = []string{"ip", "netns", "exec", name}
	}
	one, two := s.boxes[0], s.boxes[1]
	put := func(b *box, id, value string) {
		t.Helper()
		if _, err := b.api.Put(t.Context(), id, []byte(value), "test"); err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
	}
	one.found()
	one.start()
	two.settings = append(two.settings, "join: ["+one.addr+"]")
	two.start()
	s.allAlive()
	servers := map[string]serverConfig{}
	for _, kind := range kinds {
		servers[kind] = answersAt(t, kind, addrs[kind])
	}
	var hosts strings.Builder
	for i := range 30 {
		name := fmt.Sprintf("web%d.lab.test", i)
		put(one, "hosts/"+name, fmt.Sprintf("Network: {IP: 10.9.1.%d}\n", i))
		fmt.Fprintln(&hosts, name)
	}
	put(one, "tags/lab", transferSection("lab.test", "", servers))
	put(one, "tags/lab/members", hosts.String())
	s.equal(s.boxes...)
	var all []*nameserver
	for _, kind := range kinds {
		c := servers[kind]
		c.Primaries, c.Zones = []string{one.addr, two.addr}, []string{"lab.test"}
		all = append(all, startServer(t, kind, c, "ip", "netns", "exec", kind))
	}
	right := func(when string) {
		t.Helper()
		for _, n := range all {
			took := s.wait(when+", "+n.kind+" is right", func() error {
				if err := same(one.fileRecords("lab.test"), two.fileRecords("lab.test")); err != nil {
					return fmt.Errorf("the agents differ: %w", err)
				}
				return same(n.records("lab.test"), one.fileRecords("lab.test"))
			})
			t.Logf("%s, %s is right after %s", when, n.kind, took.Round(time.Millisecond))
		}
	}
	right("before the cut")
	for round := range 2 {
		for _, name := range []string{"one", "two"} { // ports that are isolated reach all but each other
			w.bridge("link", "set", "dev", "to-"+name, "isolated", "on")
		}
		one.sees(two, "failed")
		two.sees(one, "failed")
		// The first changes of both sides have one serial, and different contents; then one side goes further.
		put(one, "hosts/web1.lab.test/Network/IP", fmt.Sprintf("10.9.2.%d", round))
		put(two, "hosts/web2.lab.test/Network/IP", fmt.Sprintf("10.9.3.%d", round))
		if x, y := one.serial("lab.test"), two.serial("lab.test"); x != y {
			t.Logf("serials %d and %d", x, y) // the same when nothing else happened, which is not promised
		}
		if same(one.fileRecords("lab.test"), two.fileRecords("lab.test")) == nil {
			t.Fatal("the cut is none")
		}
		for i := range 1 + round {
			put(two, "hosts/web3.lab.test/Network/IP", fmt.Sprintf("10.9.4.%d", 10*round+i))
		}
		// Each secondary follows one side or the other, and answers all the time.
		for _, n := range all {
			s.wait(n.kind+" has followed one side", func() error {
				got := n.records("lab.test")
				if same(got, one.fileRecords("lab.test")) == nil || same(got, two.fileRecords("lab.test")) == nil {
					return nil
				}
				return fmt.Errorf("it has\n%s", got)
			})
		}
		for _, name := range []string{"one", "two"} {
			w.bridge("link", "set", "dev", "to-"+name, "isolated", "off")
		}
		s.equal(s.boxes...)
		right(fmt.Sprintf("after cut %d", round+1))
	}
	for _, n := range all {
		n.stop()
	}
	for _, b := range s.boxes {
		b.stop()
	}
}

// bridge sets ports of the bridge.
func (w wires) bridge(args ...string) {
	w.t.Helper()
	w.run("bridge", args...)
}
