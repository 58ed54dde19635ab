package vip_test

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// listing is a kernel that lists what its test says, and notes what is deleted.
type listing struct {
	*viptest.Box
	has     []vip.Address
	deleted []netip.Prefix
}

func (k *listing) Addresses() ([]vip.Address, error) { return k.has, nil }

func (k *listing) Delete(a vip.Address) error {
	k.deleted = append(k.deleted, a.Prefix)
	return nil
}

// TestReviewCleanLeavesTheBoxItsOwn: an address that cannot be one of ours, as it lives longer than ours do, and without which the box would have
// none, is not removed: neither because it was claimed here once, nor because somebody calls it virtual.
func TestReviewCleanLeavesTheBoxItsOwn(t *testing.T) {
	const own = "10.0.0.1"
	addr := netip.MustParseAddr(own)
	at := func(prefix string, life time.Duration) vip.Address {
		return vip.Address{Link: 2, Prefix: netip.MustParsePrefix(prefix), Lifetime: life}
	}
	for _, c := range []struct {
		name string
		has  []vip.Address
		goes bool
	}{
		{"its only address", []vip.Address{at(own+"/24", 0)}, false},
		{"its only address, by DHCP", []vip.Address{at(own+"/24", time.Hour)}, false},
		{"its first address, with which the others would go", []vip.Address{at(own+"/24", 0), at("10.0.0.2/24", 0)}, false},
		{"another one", []vip.Address{at("10.0.0.2/24", 0), at(own+"/24", 0)}, true},
		{"a host of its own beside others", []vip.Address{at(own+"/32", 0), at("10.0.0.2/24", 0)}, true},
		{"what a killed agent left", []vip.Address{at(own+"/32", time.Second)}, true},
	} {
		for _, way := range []string{"claimed once", "called virtual"} {
			dir := t.TempDir()
			k := &listing{Box: viptest.NewSegment(1).Box(netip.MustParsePrefix("10.0.0.9/24")), has: c.has}
			if way == "claimed once" {
				if err := os.WriteFile(dir+"/vips.json", []byte(`{"version":1,"addresses":["`+own+`"]}`), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			table, err := vip.Open(vip.Config{Dir: dir, Kernel: k, Announcer: k})
			if err != nil {
				t.Fatal(err)
			}
			if way == "called virtual" {
				if _, err := table.Clean([]netip.Addr{addr}); (err == nil) != c.goes {
					t.Errorf("%s, %s: %v", c.name, way, err)
				}
			} else if text, err := os.ReadFile(dir + "/vips.json"); err != nil || strings.Contains(string(text), own) {
				t.Errorf("%s, %s: it is looked for at the next start, too: %s %v", c.name, way, text, err)
			}
			if got := slices.ContainsFunc(k.deleted, func(p netip.Prefix) bool { return p.Addr() == addr }); got != c.goes {
				t.Errorf("%s, %s: removed: %v", c.name, way, got)
			}
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// mute is an announcer whose questions are not sent.
type mute struct {
	*viptest.Box
	asked atomic.Int64
}

func (m *mute) Probe(vip.Link, netip.Addr) error {
	m.asked.Add(1)
	return unix.ENOBUFS
}

// TestReviewProbeThatFailsRests: a network that takes no frames does not make a claim ask as fast as the processor can.
func TestReviewProbeThatFailsRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := viptest.NewSegment(1).Box(netip.MustParsePrefix("10.0.0.1/24"))
		m := &mute{Box: box}
		var spins atomic.Int64
		began := time.Now()
		box.Around = func(string, bool, netip.Addr) { spins.Add(1) }
		table, err := vip.Open(vip.Config{Dir: t.TempDir(), Kernel: box, Announcer: &bounded{m, 1000}, Clock: clock{began}})
		if err != nil {
			t.Fatal(err)
		}
		l := viptest.NewLease()
		defer l.Keep()()
		h, err := table.Claim(context.Background(), vip.Claim{Addr: netip.MustParseAddr("10.0.0.100"), Owner: "lb/x", Lease: l})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := m.asked.Load(); n > 50 || n < 5 {
			t.Errorf("it asked %d times within a second", n)
		}
		if h.State().Here() {
			t.Error("it is here, and nobody was asked")
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
}

// bounded lets virtual time go on: after so many questions each takes a while.
type bounded struct {
	*mute
	n int64
}

func (b *bounded) Probe(l vip.Link, a netip.Addr) error {
	if b.asked.Load() > b.n {
		time.Sleep(10 * time.Millisecond)
	}
	return b.mute.Probe(l, a)
}

type clock struct{ began time.Time }

func (clock) Now() time.Time        { return time.Now() }
func (c clock) Boot() time.Duration { return time.Since(c.began) + time.Hour }

// TestReviewHearsSolicitations: who waits for an IPv6 address must hear a former holder that asks for it, which is sent to a multicast group
// that a box joins with the address only. A network card, and a switch, keep from a box what it did not ask for.
func TestReviewHearsSolicitations(t *testing.T) {
	one := enter(t, "one")
	addr := netip.MustParseAddr("fd77::1234")
	group := "33:33:ff:00:12:34"
	if strings.Contains(ip(t, "-n", "one", "maddress", "show", "dev", "eth0"), group) {
		t.Fatal("the group is joined already")
	}
	var stops []func()
	for range 2 {
		stop, err := one.node.Announcer.Listen(one.link(t), addr, func(vip.Sighting) {})
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	other, err := one.node.Announcer.Listen(one.link(t), netip.MustParseAddr("fd77::9999"), func(vip.Sighting) {})
	if err != nil {
		t.Fatal(err)
	}
	defer other()
	for i, want := range []bool{true, true, false} {
		if got := strings.Contains(ip(t, "-n", "one", "maddress", "show", "dev", "eth0"), group); got != want {
			t.Errorf("with %d listening the interface takes what is sent to the group: %v", 2-i, got)
		}
		if i < 2 {
			stops[i]()
		}
	}
}
