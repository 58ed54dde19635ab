package nft

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// sample has one of everything, in both families.
func sample() Table {
	return Table{[]Service{
		{Key: "resolvers", VIP: addr("10.1.0.53"), Port: 53, Proto: UDP, Balance: Source, Masquerade: true, Backends: []Backend{
			{Addr: addr("10.1.0.7"), Port: 5353, State: In}, {Addr: addr("10.1.0.8"), Port: 53, State: In, Weight: 3}, {Addr: addr("10.1.0.9"), Port: 53, State: Draining},
		}},
		{Key: "resolvers", VIP: addr("10.1.0.53"), Port: 53, Proto: TCP, Balance: RoundRobin, Backends: []Backend{{Addr: addr("10.1.0.7"), Port: 5353, State: In}}},
		{Key: "empty", VIP: addr("10.1.0.54"), Port: 80, Proto: TCP, Balance: RoundRobin, Masquerade: true},
		{Key: "six", VIP: addr("fd01::53"), Port: 53, Proto: UDP, Balance: Source, Masquerade: true, Backends: []Backend{{Addr: addr("fd01::7"), Port: 53, State: In}}},
		{Key: "six", VIP: addr("fd01::53"), Port: 80, Proto: TCP, Balance: RoundRobin, Masquerade: true, Backends: []Backend{{Addr: addr("fd01::7"), Port: 8080, State: In}, {Addr: addr("fd01::8"), Port: 8080, State: In}}},
	}}
}

func normal(t *testing.T, tab Table) Table {
	t.Helper()
	n, err := tab.Normal()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func nft(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %q: %v: %s", args, err, out)
	}
	return string(out)
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got, -update writes it anew):\n%s", file, d)
	}
}

// TestEncoding: what a table becomes, as data, stands in a file; and the kernel, given it, says that it has just that.
func TestEncoding(t *testing.T) {
	k := kernel{TableName}
	tab := normal(t, sample())
	steps, text := map[family][]step{}, ""
	for _, f := range []family{ip4, ip6} {
		r := encode(tab, f)
		steps[f] = diff(nil, r)
		text += "table " + string(f) + "\n" + r.dump()
	}
	slot := regexp.MustCompile(`(?m)^\t([0-9a-f]{4}0000) .*\n`) // of 1024 each, the first 16 tell enough: the division has tests of its own
	short := slot.ReplaceAllStringFunc(text, func(line string) string {
		if strings.HasPrefix(line[2:], "?") || line[1] == '0' && line[3:5] == "00" {
			return line
		}
		return ""
	})
	golden(t, "testdata/sample.ruleset", short)
	if err := k.commit(steps); err != nil {
		t.Fatal(err)
	}
	defer nft(t, "delete table ip hostmesh; delete table ip6 hostmesh")
	for _, f := range []family{ip4, ip6} {
		have, err := k.read(f)
		if err != nil {
			t.Fatal(err)
		}
		want := encode(tab, f)
		if d := cmp.Diff(want.dump(), have.dump()); d != "" {
			t.Errorf("%s: the kernel has something else (-want +got):\n%s", f, d)
		}
		if left := diff(have, want); len(left) > 0 {
			t.Errorf("%s: still to do: %v", f, left)
		}
	}
}

// TestListed: people can read our tables with nft.
func TestListed(t *testing.T) {
	b, _ := open(t)
	if err := b.Apply(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, f := range []string{"ip", "ip6"} {
		text += nft(t, "list", "table", f, TableName)
	}
	// The kernel tells elements in an order of its own.
	text = regexp.MustCompile(`(?s)\t\telements = \{.*?\}\n`).ReplaceAllString(text, "\t\telements = ...\n")
	golden(t, "testdata/sample.nft", text)
}

const foreign = `
table ip filter {
	counter mine { packets 7 bytes 700 }
	set bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
	chain FORWARD { type filter hook forward priority filter; policy accept; ip saddr @bad counter packets 1 bytes 2 drop; }
	chain POST { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
}
table inet hostmesh {
	map m { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept } }
	chain x { type filter hook input priority 0; policy accept; tcp dport 22 accept comment "not ours, whatever its name"; }
}
table bridge other { chain y { type filter hook forward priority 0; policy accept; }; }
`

// TestForeignRulesStay: rules of others are byte for byte as they were, while ours come, change and go.
func TestForeignRulesStay(t *testing.T) {
	file := t.TempDir() + "/foreign.nft"
	if err := os.WriteFile(file, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	nft(t, "-f", file)
	defer nft(t, "flush ruleset")
	list := func() string {
		return nft(t, "-a", "list", "table", "ip", "filter") + nft(t, "-a", "list", "table", "inet", "hostmesh") + nft(t, "-a", "list", "table", "bridge", "other")
	}
	before, all := list(), nft(t, "-a", "list", "ruleset")
	b, _ := open(t)
	for _, tab := range []Table{sample(), {sample().Services[1:2]}, {}, sample()} {
		if err := b.Apply(t.Context(), tab); err != nil {
			t.Fatal(err)
		}
		if now := list(); now != before {
			t.Fatalf("foreign rules changed: %s", cmp.Diff(before, now))
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if now := nft(t, "-a", "list", "ruleset"); now != all {
		t.Fatalf("after Close there is something else than before: %s", cmp.Diff(all, now))
	}
}

// TestSameTableNoTransaction: what is as it should be is not written, whether it is in another order or somebody else changed rules of theirs.
func TestSameTableNoTransaction(t *testing.T) {
	b, _ := open(t)
	if err := b.Apply(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	before, _ := b.kernel.generation()
	again := sample()
	again.Services[0], again.Services[3] = again.Services[3], again.Services[0]
	for range 3 {
		if err := b.Apply(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if err := b.tick(); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := b.kernel.generation(); after != before {
		t.Fatalf("the kernel's rules went from generation %d to %d", before, after)
	}
	nft(t, "add table ip stranger")
	defer nft(t, "delete table ip stranger")
	if err := b.tick(); err != nil {
		t.Fatal(err)
	}
	if n := b.Status(); n.Transactions != 1 || n.Repairs != 0 {
		t.Errorf("%+v", n)
	}
}

// TestDriftIsRepaired: whatever somebody does to our table, the next look puts it right and keeps what was counted.
func TestDriftIsRepaired(t *testing.T) {
	b, _ := open(t)
	if err := b.Apply(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	want := map[family]string{ip4: encode(b.table, ip4).dump(), ip6: encode(b.table, ip6).dump()}
	counter := b.table.Services[1].counter(b.table.Services[1].Backends[0])
	for i, change := range []string{
		"flush table ip hostmesh",
		"delete table ip hostmesh",
		"delete table ip6 hostmesh; flush chain ip hostmesh prerouting",
		"flush map ip hostmesh services",
		"delete element ip hostmesh slots_udp_10.1.0.53_53 { 5 }",
		"delete element ip hostmesh refused { 10.1.0.54 . tcp . 80 }",
		"add rule ip hostmesh input tcp dport 22 drop",
		"insert rule ip hostmesh prerouting counter",
		"flush chain ip hostmesh back_10.1.0.53; add rule ip hostmesh back_10.1.0.53 meta l4proto tcp ct original proto-dst 53 jump count_udp_10.1.0.53_53",
		"add chain ip hostmesh mine { type filter hook forward priority 0; policy drop; }",
		"add chain ip hostmesh mine; add rule ip hostmesh mine ip daddr { 10.0.0.1, 10.0.0.2 } drop; add rule ip hostmesh output jump mine",
		"add set ip hostmesh s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }",
		"add chain ip hostmesh prerouting { policy drop; }",
		"delete table ip hostmesh; add table ip hostmesh; add chain ip hostmesh prerouting { type filter hook prerouting priority 7; }",
		"add quota ip hostmesh q { over 10 mbytes }",
	} {
		if i == 5 {
			// Counted is what somebody set, too.
			nft(t, "delete table ip hostmesh; add table ip hostmesh; add counter ip hostmesh "+counter+" { packets 41 bytes 4100 }")
			if err := b.tick(); err != nil {
				t.Fatal(err)
			}
		}
		nft(t, change)
		repairs := b.Status().Repairs
		if err := b.tick(); err != nil {
			t.Errorf("after %q: %v", change, err)
			continue
		}
		if n := b.Status().Repairs; n != repairs+1 {
			t.Errorf("after %q: %d repairs", change, n-repairs)
		}
		for f, text := range want {
			have, err := b.kernel.read(f)
			if err != nil {
				t.Errorf("after %q: %v", change, err)
			} else if d := cmp.Diff(text, have.dump()); d != "" {
				t.Errorf("after %q it is not as before:\n%s", change, d)
			}
		}
		if n, err := b.kernel.count(ip4); err != nil || i >= 5 && i < 13 && n[counter].packets != 41 {
			t.Errorf("after %q the counter says %d: %v", change, n[counter].packets, err)
		}
	}
}

// TestStaleTableIsTakenOver: an agent that comes after one that was killed finds its table, goes on from it, and removes what is over.
func TestStaleTableIsTakenOver(t *testing.T) {
	killed, _ := open(t)
	if err := killed.Apply(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	killed.closed = true
	b, _ := open(t)
	next := Table{sample().Services[1:3]}
	if err := b.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	have, err := b.kernel.read(ip4)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(encode(normal(t, next), ip4).dump(), have.dump()); d != "" {
		t.Error(d)
	}
	if have, err := b.kernel.read(ip6); err != nil || have != nil {
		t.Errorf("a table without services stays: %v", err)
	}
}

// TestCheck: a box that can says so and is as before; without the capability the error says which.
func TestCheck(t *testing.T) {
	before := nft(t, "list", "ruleset")
	if err := Check(); err != nil {
		t.Fatal(err)
	}
	if after := nft(t, "list", "ruleset"); after != before {
		t.Error(cmp.Diff(before, after))
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread that lacks it ends
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&head, &data[0]); err != nil {
			done <- err
			return
		}
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&head, &data[0]); err != nil {
			done <- err
			return
		}
		done <- Check()
	}()
	if err := <-done; !errors.Is(err, ErrNotEligible) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Error(err)
	}
}

// TestSettings: only what is needed is set, interfaces go on listening to routers, and a box that cannot forward says so.
func TestSettings(t *testing.T) {
	root := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		dir := root + "/" + name[:strings.LastIndex(name, "/")]
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(root+"/"+name, []byte(value+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	s := settings{root}
	if err := check(s); !errors.Is(err, ErrNotEligible) || !strings.Contains(err.Error(), "net.ipv4.ip_forward") {
		t.Error(err)
	}
	if _, err := s.need(ip4); err == nil {
		t.Error("a box without the setting can forward")
	}
	write("net/ipv4/ip_forward", "1")
	write("net/ipv6/conf/all/forwarding", "0")
	for name, v := range map[string]string{"eth0": "1", "eth1": "0", "eth2": "2"} {
		write("net/ipv6/conf/"+name+"/accept_ra", v)
	}
	if changed, err := s.need(ip4); err != nil || changed != nil {
		t.Error(changed, err)
	}
	changed, err := s.need(ip6)
	if got, want := strings.Join(changed, " "), "net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.all.forwarding=1"; err != nil || got != want {
		t.Errorf("%s: %v", got, err)
	}
	if changed, err := s.need(ip6); err != nil || changed != nil {
		t.Error(changed, err)
	}
	if err := check(s); err != nil {
		t.Error(err)
	}
}

func drawTable(t *rapid.T) Table {
	var tab Table
	for _, six := range []bool{false, true} {
		for port := range uint16(3) {
			if !rapid.Bool().Draw(t, "there") {
				continue
			}
			s := service(TCP, six, rapid.SampledFrom([]Balance{Source, RoundRobin}).Draw(t, "balance"), 10+port)
			s.Masquerade = rapid.Bool().Draw(t, "masquerade")
			if rapid.Bool().Draw(t, "udp") {
				s.Proto = UDP
			}
			for i := range 3 {
				switch rapid.IntRange(0, 2).Draw(t, "state") {
				case 1:
					s.Backends = append(s.Backends, Backend{Addr: backendAddr(i, six), Port: 80, State: In, Weight: rapid.IntRange(0, 2).Draw(t, "weight")})
				case 2:
					s.Backends = append(s.Backends, Backend{Addr: backendAddr(i, six), Port: 80, State: Draining})
				}
			}
			tab.Services = append(tab.Services, s)
		}
	}
	return tab
}

// TestAnyTableAfterAnyOther: the kernel takes every change from one table to another as one transaction, and then has what it should; with what
// is known of it, and with what is read anew.
func TestAnyTableAfterAnyOther(t *testing.T) {
	b, _ := open(t)
	rapid.Check(t, func(t *rapid.T) {
		tab := drawTable(t)
		if rapid.Bool().Draw(t, "forget") {
			b.have = nil
		}
		before := b.counts.transactions
		if err := b.Apply(context.Background(), tab); err != nil {
			t.Fatal(err)
		}
		if n := b.counts.transactions - before; n > 1 {
			t.Fatalf("it took %d transactions", n)
		}
		for _, f := range []family{ip4, ip6} {
			have, err := b.kernel.read(f)
			if err != nil {
				t.Fatal(err)
			}
			if left := diff(have, b.divisions.encode(b.table, f)); len(left) > 0 {
				t.Fatalf("still to do: %v", left)
			}
		}
	})
	if b.counts.repairs+b.counts.errors > 0 {
		t.Errorf("%+v", b.counts)
	}
}

// TestAsleep: the kernel is asked nothing while there is no service.
func TestAsleep(t *testing.T) {
	b, _ := open(t)
	is := func(idle bool, when string) {
		t.Helper()
		if b.idle() != idle {
			t.Errorf("%s: idle is %t", when, !idle)
		}
	}
	is(true, "nothing was applied")
	for range 2 {
		if err := b.Apply(t.Context(), Table{}); err != nil {
			t.Fatal(err)
		}
		if err := b.tick(); err != nil {
			t.Fatal(err)
		}
		is(true, "no service")
		if err := b.Apply(t.Context(), sample()); err != nil {
			t.Fatal(err)
		}
		is(false, "services")
		if err := b.Apply(t.Context(), Table{}); err != nil {
			t.Fatal(err)
		}
		is(false, "flows of what was there are gone through once more")
		if err := b.tick(); err != nil {
			t.Fatal(err)
		}
	}
	is(true, "no service any more")
}
