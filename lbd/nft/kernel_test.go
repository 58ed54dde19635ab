package nft

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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

func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %q: %v: %s", args, err, out)
	}
	return string(out)
}

// TestKernelTakesAndTellsTheSame: what was encoded is what the kernel says it has.
func TestKernelTakesAndTellsTheSame(t *testing.T) {
	k := kernel{TableName}
	tab := normal(t, sample())
	want := map[family]*ruleset{ip4: encode(tab, ip4), ip6: encode(tab, ip6)}
	steps := map[family][]step{}
	for f, r := range want {
		steps[f] = diff(nil, r)
	}
	if err := k.commit(steps); err != nil {
		t.Fatal(err)
	}
	for f, r := range want {
		have, err := k.read(f)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r.dump(), have.dump()); d != "" {
			t.Errorf("%s: the kernel has something else (-want +got):\n%s", f, d)
		}
		if left := diff(have, r); len(left) > 0 {
			t.Errorf("%s: still to do: %v", f, left)
		}
	}
	t.Log(nft(t, "list", "table", "ip", "hostmesh"))
	t.Log(nft(t, "list", "table", "ip6", "hostmesh"))
}
