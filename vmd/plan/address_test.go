package plan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBlocks(t *testing.T) {
	cases := []struct {
		pool        string
		count       uint64
		first, last string
	}{
		{"10.1.128.0/17", 1024, "10.1.128.0/27", "10.1.255.224/27"},
		{"0.0.0.0/0", 1 << 27, "0.0.0.0/27", "255.255.255.224/27"},
		{"10.1.16.0/20", 128, "10.1.16.0/27", "10.1.31.224/27"},
		{"10.1.8.0/21", 128, "10.1.8.0/28", "10.1.15.240/28"},
		{"10.1.8.64/26", 4, "10.1.8.64/28", "10.1.8.112/28"},
		{"10.1.8.64/27", 4, "10.1.8.64/29", "10.1.8.88/29"},
		{"10.1.8.64/30", 1, "10.1.8.64/30", "10.1.8.64/30"},
		{"10.1.8.64/32", 1, "10.1.8.64/32", "10.1.8.64/32"},
		{"2001:db8::/64", 1 << 56, "2001:db8::/120", "2001:db8::ffff:ffff:ffff:ff00/120"},
		{"2001:db8::/57", 1 << 63, "2001:db8::/120", "2001:db8:0:7f:ffff:ffff:ffff:ff00/120"},
		{"2001:db8::/32", 1 << 63, "2001:db8::/120", "2001:db8:0:7f:ffff:ffff:ffff:ff00/120"},
		{"2001:db8::40/122", 1, "2001:db8::40/122", "2001:db8::40/122"},
	}
	for _, c := range cases {
		b := Blocks(netip.MustParsePrefix(c.pool))
		if b.Count() != c.count || b.At(0).String() != c.first || b.At(c.count-1).String() != c.last {
			t.Errorf("%s is %d blocks from %s to %s, want %d from %s to %s", c.pool, b.Count(), b.At(0), b.At(b.Count()-1), c.count, c.first, c.last)
		}
	}
	if n := Blocks(netip.Prefix{}).Count(); n != 0 {
		t.Errorf("no pool is %d blocks", n)
	}
}

func pools(t *rapid.T) netip.Prefix {
	if rapid.Bool().Draw(t, "six") {
		var a [16]byte
		copy(a[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		a[0] = 0x20
		return netip.PrefixFrom(netip.AddrFrom16(a), rapid.IntRange(108, 128).Draw(t, "bits")).Masked()
	}
	var a [4]byte
	copy(a[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
	return netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(14, 32).Draw(t, "bits")).Masked()
}

// TestChoicesCoverThePool says that a node that asks on is offered each block once, and that blocks are parts of the pool that
// have nothing in common.
func TestChoicesCoverThePool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Subnet{Tag: "prod", Pool: pools(t)}
		node := nodeID(rapid.IntRange(0, 1000).Draw(t, "node"))
		blocks := Blocks(s.Pool)
		taken := map[string]bool{}
		var list []string
		for range rapid.IntRange(0, 5).Draw(t, "taken") {
			b := blocks.At(rapid.Uint64Range(0, blocks.Count()-1).Draw(t, "block")).String()
			if !taken[b] {
				taken[b] = true
				list = append(list, b)
			}
		}
		seen := map[netip.Addr]bool{}
		for page := uint64(0); ; page++ {
			choices := Choices(s, node, list, page)
			if choices == nil {
				break
			}
			if len(choices) > ChoicesPage {
				t.Fatalf("page %d has %d choices", page, len(choices))
			}
			for _, c := range choices {
				p := netip.MustParsePrefix(c)
				if !blocks.Contains(p) || seen[p.Addr()] || taken[c] {
					t.Fatalf("%s: a block %t, seen %t, taken %t", c, blocks.Contains(p), seen[p.Addr()], taken[c])
				}
				seen[p.Addr()] = true
			}
		}
		if uint64(len(seen)+len(taken)) != blocks.Count() {
			t.Fatalf("%d offered and %d taken, of %d", len(seen), len(taken), blocks.Count())
		}
	})
}

func TestChoicesDiffer(t *testing.T) {
	s := Subnet{Tag: "prod", Pool: netip.MustParsePrefix("2001:db8::/64")}
	if fmt.Sprint(Choices(s, nodeID(1), nil, 0)) != fmt.Sprint(Choices(s, nodeID(1), nil, 0)) {
		t.Error("a node's choices differ from one time to the next")
	}
	first := map[string]bool{}
	s.Pool = netip.MustParsePrefix("10.1.128.0/17")
	for i := range 100 {
		first[Choices(s, nodeID(i), nil, 0)[0]] = true
	}
	if len(first) < 80 {
		t.Errorf("100 nodes begin at %d of 1024 blocks", len(first))
	}
	// A pool that was cut finer before: what overlaps is no choice.
	for _, c := range Choices(Subnet{Tag: "x", Pool: netip.MustParsePrefix("10.1.0.0/20")}, nodeID(1), []string{"10.1.0.16/28"}, 0) {
		if netip.MustParsePrefix(c).Contains(netip.MustParseAddr("10.1.0.16")) {
			t.Errorf("%s overlaps a block that is taken", c)
		}
	}
	if c := Clash("10.1.0.0/27", []string{"10.1.0.0/27", "10.1.0.32/28", "10.1.0.16/28"}); c != "10.1.0.16/28" {
		t.Errorf("the clash is %q", c)
	}
}

// TestNextAddress gives out addresses by some boxes, takes them back, and lets time pass: none is ever in use, resting, special or
// in another's block; and what is said of a full subnet is so.
func TestNextAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cidr := netip.MustParsePrefix("10.1.0.0/24")
		s := Subnet{Tag: "prod", CIDR: cidr, Gateway: netip.MustParseAddr("10.1.0.129"), VIPs: netip.MustParsePrefix("10.1.0.64/29"), Pool: netip.MustParsePrefix("10.1.0.128/25")}
		if rapid.Bool().Draw(t, "whole") { // also where gateway, VIPs and the ends lie in the pool, as imports may have it
			s.Pool = cidr
		}
		now := time.Unix(1_000_000, 0)
		used := map[netip.Addr]string{}
		for range rapid.IntRange(0, 30).Draw(t, "by hand") {
			used[Blocks(cidr).At(rapid.Uint64Range(0, 15).Draw(t, "block")).Addr()] = "somebody"
		}
		boxes := make([]AddressInput, 3)
		var taken []string
		for i := range boxes {
			boxes[i] = AddressInput{Subnet: s, InUse: func(a netip.Addr) string { return used[a] }, Resting: map[netip.Addr]time.Time{}}
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, len(boxes)-1).Draw(t, "box")
			in := &boxes[i]
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Minute, 20 * time.Minute, 2 * time.Hour}).Draw(t, "time"))
			case 1:
				for a, who := range used {
					if who == fmt.Sprint(i) {
						delete(used, a)
						in.Resting[a] = now
						break
					}
				}
			default:
				in.Now = now
				a, err := NextAddress(*in)
				switch {
				case errors.Is(err, ErrNeedBlock):
					if c := Choices(s, nodeID(i), taken, 0); len(c) > 0 {
						taken = append(taken, c[0])
						in.Blocks = append(in.Blocks, netip.MustParsePrefix(c[0]))
					} else {
						in.Last = true
					}
				case errors.Is(err, ErrFull):
					for _, b := range in.Blocks {
						for a := b.Addr(); b.Contains(a); a = a.Next() {
							if freed, rests := in.Resting[a]; used[a] == "" && s.special(a) == "" && (!rests || now.Sub(freed) >= Rest) {
								t.Fatalf("%v, but %s is free", err, a)
							}
						}
					}
				case err != nil:
					t.Fatal(err)
				default:
					freed, rests := in.Resting[a]
					if used[a] != "" || !s.Pool.Contains(a) || !owned(in.Blocks, a) || rests && now.Sub(freed) < Rest ||
						a == s.Gateway || s.VIPs.Contains(a) || a == cidr.Addr() || a.String() == "10.1.0.255" {
						t.Fatalf("box %d got %s: used by %q, resting since %v at %v", i, a, used[a], freed, now)
					}
					used[a] = fmt.Sprint(i)
					delete(in.Resting, a)
				}
			}
		}
	})
}

func TestAddressErrors(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := Subnet{Tag: "prod", CIDR: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1"),
		VIPs: netip.MustParsePrefix("10.1.0.16/28"), Pool: netip.MustParsePrefix("10.1.0.128/25")}
	in := AddressInput{Subnet: s, Now: now, Blocks: []netip.Prefix{netip.MustParsePrefix("10.1.0.128/30")}, InUse: func(a netip.Addr) string {
		return map[string]string{"10.1.0.128": "a", "10.1.0.129": "b", "10.1.0.9": "c"}[a.String()]
	}, Resting: map[netip.Addr]time.Time{
		netip.MustParseAddr("10.1.0.130"): now.Add(-10 * time.Minute), netip.MustParseAddr("10.1.0.131"): now.Add(-20 * time.Minute),
	}}
	var b strings.Builder
	try := func(in AddressInput) {
		a, err := NextAddress(in)
		fmt.Fprintf(&b, "%v | %v\n", a, err)
	}
	try(in)
	in.Last = true
	try(in)
	in.Now = now.Add(41 * time.Minute)
	try(in) // the older one
	in.Now = now.Add(time.Hour)
	try(in)
	in.Blocks = nil
	try(in)
	none := in
	none.Subnet.Pool = netip.Prefix{}
	try(none)
	for _, want := range []string{"10.1.0.5", "10.1.0.130", "10.1.0.1", "10.1.0.0", "10.1.0.255", "10.1.0.20", "10.1.0.9", "10.1.0.200", "10.2.0.1", "2001:db8::1"} {
		in := in
		in.Blocks, in.Want = []netip.Prefix{netip.MustParsePrefix("10.1.0.128/30")}, netip.MustParseAddr(want)
		err := CheckAddress(in, in.Want)
		if err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%v is not ErrAddress", err)
		}
		if a, again := NextAddress(in); fmt.Sprint(err) != fmt.Sprint(again) || err == nil && a != in.Want || err != nil && a.IsValid() {
			t.Errorf("NextAddress of %s: %v, %v; CheckAddress: %v", want, a, again, err)
		}
		fmt.Fprintf(&b, "%s | %v\n", want, err)
	}
	golden(t, "addresses.txt", b.String())
}

func TestMAC(t *testing.T) {
	mac := MAC("mesh", "0acfbcca-161e-427c-8423-ef788bb47f00")
	if len(mac) != 6 || mac[0] != 0x52 || badMAC(mac) != "" {
		t.Errorf("%s is no address of a machine", mac)
	}
	if MAC("mesh", "0ACFBCCA-161E-427C-8423-EF788BB47F00").String() != mac.String() {
		t.Error("the case of the UUID matters")
	}
	if MAC("mesh2", "0acfbcca-161e-427c-8423-ef788bb47f00").String() == mac.String() {
		t.Error("the mesh does not matter")
	}
	if other := MAC("mesh", ""); other.String() == mac.String() {
		t.Error("the UUID does not matter")
	}
}

func TestCheckMAC(t *testing.T) {
	s := openStore(t)
	defer s.Close()
	s.write(map[string]string{
		"hosts/a": "Network: {MAC: '02:00:00:00:00:01'}", "hosts/b": "Interfaces: {eth0: {MAC: '02:00:00:00:00:02'}, eth1: {MAC: '02:00:00:00:00:02'}}",
		"hosts/c": "Network: {MAC: '02:00:00:00:00:01'}",
	})
	p := NewPlanner(s.View())
	check := func(name, mac, want string) {
		t.Helper()
		hw, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		err = p.CheckMAC(name, hw)
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s for %s: %v, want %q", mac, name, err, want)
		}
	}
	check("b", "02:00:00:00:00:02", "")
	check("x", "02-00-00-00-00-02", "hosts/b")
	check("a", "02:00:00:00:00:01", "hosts/c")
	check("x", "02:00:00:00:00:01", "hosts/a")
	check("x", "02:00:00:00:00:09", "")
	check("x", "03:00:00:00:00:09", "first byte is even")
	check("x", "02:00:00:00:00:00:00:01", "6 bytes")
	s.write(map[string]string{"hosts/a": "", "hosts/b": "Status: active"})
	p.Update(s.View())
	check("c", "02:00:00:00:00:01", "")
	check("x", "02:00:00:00:00:02", "")
}
