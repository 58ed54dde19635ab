package vip

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

var stranger = net.HardwareAddr{2, 0, 0, 0, 0, 9}

func TestNext(t *testing.T) {
	const now = time.Hour
	up := Link{Index: 2, Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Running: true}
	down := up
	down.Running = false
	held := memory{began: now - time.Minute, recorded: true, present: true, life: 2 * time.Second, rests: now - 100*ms, touched: now - 90*ms, announced: 5, said: now - time.Second, phase: Held}
	fresh := memory{began: now - 10*ms}
	with := func(m memory, f func(*memory)) memory {
		f(&m)
		return m
	}
	valid := func(ago time.Duration) reading { return reading{true, ago, 2*time.Second - ago} }
	for _, c := range []struct {
		name  string
		m     memory
		r     reading
		l     Link
		act   act
		phase Phase
		wait  time.Duration // 0: not looked at
	}{
		{"without a lease nothing happens", fresh, reading{}, up, rest, Waiting, 250 * ms},
		{"without an interface nothing happens", fresh, valid(0), Link{}, rest, Waiting, 250 * ms},
		{"without a carrier nobody can be asked", fresh, valid(0), down, rest, Waiting, 250 * ms},
		{"it asks first", fresh, valid(0), up, probe, Probing, 0},
		{"it waits for an answer", with(fresh, func(m *memory) { m.sent, m.probed = 1, now-5*ms }), valid(0), up, rest, Probing, 20 * ms},
		{"it asks again", with(fresh, func(m *memory) { m.sent, m.probed = 2, now-25*ms }), valid(0), up, probe, Probing, 0},
		{"nobody answers, and the claim is not written down", with(fresh, func(m *memory) { m.sent, m.probed = 3, now-25*ms }), valid(0), up, rest, Probing, 240 * ms},
		{"nobody answers", with(fresh, func(m *memory) { m.sent, m.probed, m.recorded = 3, now-25*ms, true }), valid(0), up, add, Probing, 0},
		{"the disk hangs", with(fresh, func(m *memory) { m.sent, m.probed, m.began = 3, now-25*ms, now-250*ms }), valid(0), up, add, Probing, 0},
		{"a new address rests on a renewal of 1.3 s", with(fresh, func(m *memory) { m.silent, m.probed, m.recorded = true, now, true }), valid(1300 * ms), up, add, Probing, 0},
		{"and on none that is older", with(fresh, func(m *memory) { m.silent, m.probed, m.recorded = true, now, true }), valid(1301 * ms), up, rest, Waiting, 0},
		{"nobody answered long ago: it asks again", with(fresh, func(m *memory) { m.silent, m.probed, m.recorded = true, now-2*time.Second, true }), valid(0), up, rest, "", 0},
		{"a former holder answers", with(fresh, func(m *memory) { m.answered, m.heardAt, m.former, m.recorded = stranger, now-ms, true, true }), valid(0), up, add, Probing, 0},
		{"who answers first may be a former holder", with(fresh, func(m *memory) { m.answered, m.heardAt = stranger, now-ms }), valid(0), up, rest, Probing, 49 * ms},
		{"it is asked again", with(fresh, func(m *memory) { m.answered, m.heardAt = stranger, now-50*ms }), valid(0), up, probe, Probing, 0},
		{"who answers later is a stranger", with(fresh, func(m *memory) { m.answered, m.heardAt, m.began = stranger, now-ms, now-2600*ms }), valid(0), up, rest, Refused, 0},
		{"a stranger is left alone", with(fresh, func(m *memory) { m.answered, m.heardAt, m.phase = stranger, now-4900*ms, Refused }), valid(0), up, rest, Refused, 100 * ms},
		{"a stranger is asked again", with(fresh, func(m *memory) { m.answered, m.heardAt, m.phase = stranger, now-5*time.Second, Refused }), valid(0), up, probe, Refused, 0},
		{"the kernel said no a moment ago", with(fresh, func(m *memory) { m.failed = now - 10*ms }), valid(0), up, rest, "", 40 * ms},

		{"just added, the lease is read again: valid, and its life is short", with(held, func(m *memory) { m.doubt, m.life, m.announced = true, time.Second, 0 }), valid(100 * ms), up, refresh, Held, 0},
		{"just added on an older renewal: announced", with(held, func(m *memory) { m.doubt, m.life, m.announced, m.rests = true, time.Second, 0, now-600*ms }), valid(600 * ms), up, announce, Held, 0},
		{"just added, and the lease is over", with(held, func(m *memory) { m.doubt, m.announced = true, 0 }), reading{}, up, remove, Waiting, 0},
		{"refreshed late: shortened", with(held, func(m *memory) { m.doubt, m.rests = true, now-701*ms }), valid(701 * ms), up, shorten, Held, 0},
		{"refreshed late, but not too late", with(held, func(m *memory) { m.doubt, m.rests = true, now-700*ms }), valid(700 * ms), up, rest, Held, 0},
		{"refreshed far too late", with(held, func(m *memory) { m.doubt, m.rests = true, now-1701*ms }), valid(1701 * ms), up, remove, Held, 0},
		{"refreshed late long ago: nothing can be done", with(held, func(m *memory) { m.rests = now - 900*ms }), valid(900 * ms), up, rest, Held, 250 * ms},

		{"nothing to do", held, valid(100 * ms), up, rest, Held, 250 * ms},
		{"a young renewal", with(held, func(m *memory) { m.rests = now - 600*ms }), valid(300 * ms), up, refresh, Held, 0},
		{"a renewal that is too old", with(held, func(m *memory) { m.rests = now - 600*ms }), valid(301 * ms), up, rest, Held, 0},
		{"a refresh failed: a moment later", with(held, func(m *memory) { m.rests, m.failed = now-600*ms, now-10*ms }), valid(100 * ms), up, rest, Held, 50 * ms},
		{"a refresh failed: again", with(held, func(m *memory) { m.rests, m.failed = now-600*ms, now-50*ms }), valid(100 * ms), up, refresh, Held, 0},
		{"it rests no longer than the lease lasts", with(held, func(m *memory) { m.rests = now - 1900*ms }), valid(1900 * ms), up, rest, Held, 100 * ms},
		{"the lease is over", held, reading{}, up, remove, Waiting, 0},
		{"the kernel does not remove it: again", with(held, func(m *memory) { m.failed = now - 20*ms }), reading{}, up, rest, Waiting, 30 * ms},
		{"the interface is gone", held, valid(0), Link{}, rest, Waiting, 0},
		{"without a carrier nobody hears", with(held, func(m *memory) { m.announced = 0 }), valid(100 * ms), down, rest, Held, 0},
		{"the first announcement", with(held, func(m *memory) { m.announced = 0 }), valid(100 * ms), up, announce, Held, 0},
		{"the second", with(held, func(m *memory) { m.announced, m.said = 1, now-100*ms }), valid(100 * ms), up, announce, Held, 0},
		{"the third is not due", with(held, func(m *memory) { m.announced, m.said = 2, now-100*ms }), valid(100 * ms), up, rest, Held, 200 * ms},
		{"every ten seconds", with(held, func(m *memory) { m.announced, m.said = 5, now-10*time.Second }), valid(100 * ms), up, announce, Held, 0},

		{"a conflict is answered", with(held, func(m *memory) { m.conflict, m.seen = stranger, now-ms }), valid(100 * ms), up, announce, Held, 0},
		{"but not each time", with(held, func(m *memory) { m.conflict, m.seen, m.defended = stranger, now-ms, now-100*ms }), valid(100 * ms), up, rest, Held, 250 * ms},
		{"but soon", with(held, func(m *memory) { m.conflict, m.seen, m.defended = stranger, now-ms, now-500*ms }), valid(100 * ms), up, announce, Held, 0},
		{"once for each", with(held, func(m *memory) { m.conflict, m.seen, m.defended = stranger, now-time.Second, now-900*ms }), valid(100 * ms), up, rest, Held, 0},
		{"a healed conflict: announced as at first", with(held, func(m *memory) { m.conflict, m.seen, m.defended = stranger, now-2*time.Second, now-2*time.Second+ms }), valid(100 * ms), up, announce, Held, 0},

		{"kept", with(held, func(m *memory) { m.keep, m.probed = true, now-ms }), reading{}, up, rest, Kept, 250 * ms},
		{"kept: refreshed", with(held, func(m *memory) { m.keep, m.touched, m.probed = true, now-500*ms, now-ms }), reading{}, up, refresh, Kept, 0},
		{"kept: others are asked", with(held, func(m *memory) { m.keep, m.probed = true, now-time.Second }), reading{}, up, probe, Kept, 0},
		{"kept: somebody else has it", with(held, func(m *memory) { m.keep, m.conflict, m.seen = true, stranger, now-ms }), reading{}, up, remove, Waiting, 0},
		{"what was refreshed as the lease ended is not kept: it may be late", with(held, func(m *memory) { m.keep, m.doubt = true, true }), reading{}, up, remove, Waiting, 0},
		{"what is not here is not kept", with(fresh, func(m *memory) { m.keep = true }), reading{}, up, rest, Waiting, 0},

		{"handed over: it stays", with(held, func(m *memory) { m.want = toHandOver }), reading{}, up, rest, Leaving, 250 * ms},
		{"handed over: it is not refreshed", with(held, func(m *memory) { m.want, m.rests = toHandOver, now-600*ms }), valid(100 * ms), up, rest, Leaving, 250 * ms},
		{"handed over: the next one has it", with(held, func(m *memory) { m.want, m.conflict = toHandOver, stranger }), reading{}, up, remove, Leaving, 0},
		{"handed over: asked for, it says that it leaves", with(held, func(m *memory) { m.want, m.asked = toHandOver, 1 }), reading{}, up, probe, Leaving, 0},
		{"handed over: it has said so", with(held, func(m *memory) { m.want, m.asked, m.signed = toHandOver, 1, 1 }), reading{}, up, rest, Leaving, 0},
		{"handed over: its life is over", with(held, func(m *memory) { m.want, m.touched = toHandOver, now-2300*ms }), reading{}, up, remove, Leaving, 0},
		{"handed over right after a refresh, and the lease was given up", with(held, func(m *memory) { m.want, m.doubt = toHandOver, true }), reading{}, up, rest, Leaving, 0},
		{"handed over right after a refresh that came late", with(held, func(m *memory) { m.want, m.doubt, m.rests = toHandOver, true, now-701*ms }), reading{}, up, remove, Leaving, 0},
		{"handed over what is not here", with(fresh, func(m *memory) { m.want = toHandOver }), valid(0), up, finish, Finished, 0},
		{"left to the next process", with(held, func(m *memory) { m.want = toLeave }), valid(100 * ms), up, bequeath, "", 0},
		{"left: it has its last life", with(held, func(m *memory) { m.want, m.left = toLeave, true }), valid(100 * ms), up, finish, Finished, 0},
		{"left: it is told to go, and is not ours any more", with(held, func(m *memory) { m.want, m.left = toEnd, true }), reading{}, up, finish, Finished, 0},
		{"left without a lease", with(held, func(m *memory) { m.want = toLeave }), reading{}, up, remove, Leaving, 0},
		{"left, and somebody else has it", with(held, func(m *memory) { m.want, m.conflict = toLeave, stranger }), valid(100 * ms), up, remove, Leaving, 0},
		{"left, and the kernel does not want to", with(held, func(m *memory) { m.want, m.unleft = toLeave, true }), valid(100 * ms), up, remove, Leaving, 0},
		{"left what is not here", with(fresh, func(m *memory) { m.want = toLeave }), valid(0), up, finish, Finished, 0},
		{"inherited: its short life begins", with(memory{}, func(m *memory) { m.present, m.recorded, m.touched, m.began = true, true, now, now }), valid(100 * ms), up, refresh, Held, 0},
		{"inherited on an older renewal: announced", with(memory{}, func(m *memory) { m.present, m.recorded, m.touched, m.began = true, true, now, now }), valid(600 * ms), up, announce, Held, 0},
		{"who answers later may be one that was left", with(fresh, func(m *memory) {
			m.answered, m.heardAt, m.began, m.await = stranger, now-ms, now-9*time.Second, 11*time.Second
		}), valid(0), up, rest, Probing, 0},
		{"and who answers still later is a stranger", with(fresh, func(m *memory) {
			m.answered, m.heardAt, m.began, m.await = stranger, now-ms, now-11*time.Second, 11*time.Second
		}), valid(0), up, rest, Refused, 0},
		{"released", with(held, func(m *memory) { m.want = toEnd }), valid(0), up, remove, Leaving, 0},
		{"released what is not here", with(fresh, func(m *memory) { m.want = toEnd }), valid(0), up, finish, Finished, 0},
	} {
		m, a, wait := next(defaultTimes(), c.m, c.r, c.l, now)
		if a != c.act || m.phase != c.phase && c.phase != "" || wait != c.wait && c.wait != 0 {
			t.Errorf("%s: %s, %s, rests %s; want %s, %s, %s", c.name, a, m.phase, wait, c.act, c.phase, c.wait)
		}
		if a == rest && (wait < 0 || wait > 250*ms || wait == 0 && m.silent == c.m.silent && m.conflict == nil) {
			t.Errorf("%s: it rests for %s", c.name, wait)
		}
	}
}

// TestLeaverIsKnown: who has the address and asks for it is about to go, in whichever order that is heard.
func TestLeaverIsKnown(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 8}
	has := func(mac net.HardwareAddr) Sighting { return Sighting{From: mac} }
	asks := func(mac net.HardwareAddr) Sighting { return Sighting{From: mac, Asks: true} }
	for _, c := range []struct {
		heard []Sighting
		pause time.Duration
		want  bool
	}{
		{[]Sighting{has(stranger)}, ms, false},
		{[]Sighting{asks(stranger)}, ms, false},
		{[]Sighting{has(stranger), asks(stranger)}, ms, true},
		{[]Sighting{asks(stranger), has(stranger)}, ms, true},
		{[]Sighting{asks(stranger), has(stranger)}, 2 * time.Second, false},
		{[]Sighting{has(stranger), asks(stranger)}, 2 * time.Second, false},
		{[]Sighting{has(stranger), asks(other)}, ms, false},
		{[]Sighting{asks(stranger), has(stranger), has(other)}, ms, false},
	} {
		var m memory
		now := time.Hour
		for _, s := range c.heard {
			m = m.hears(s, now)
			now += c.pause
		}
		if m.former != c.want {
			t.Errorf("%+v, each after %s: %t", c.heard, c.pause, m.former)
		}
	}
}

// TestTimes: what the package comment says.
func TestTimes(t *testing.T) {
	d := defaultTimes()
	if d.fresh(d.life) != 300*ms || d.fresh(d.trial) != 1300*ms || d.gone+d.resumed != 3*time.Second || d.fresh(d.life)+d.life+d.late != d.gone {
		t.Errorf("%+v", d)
	}
}

func TestInterfaceFor(t *testing.T) {
	mac := stranger
	links := []Link{
		{Index: 1, Name: "lo", MAC: nobody, Running: true}, {Index: 2, Name: "eth0", MAC: mac, Running: true}, {Index: 3, Name: "eth1", MAC: mac}, {Index: 4, Name: "eth2", MAC: mac, Running: true},
		{Index: 5, Name: "eth3", MAC: mac, Running: true}, {Index: 6, Name: "wg0", Running: true},
	}
	has := func(link int, prefix string) Address {
		return Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}
	}
	all := []Address{has(1, "127.0.0.1/8"), has(2, "10.0.0.1/8"), has(4, "10.1.0.1/16"), has(3, "10.1.2.1/24"), has(5, "10.1.9.9/32"), has(2, "fd00::1/64"), has(5, "10.8.0.1/24"), has(4, "10.8.0.2/24"), has(6, "10.8.0.3/25"), has(6, "172.16.0.1/24"), has(1, "172.17.0.1/24")}
	for _, c := range []struct {
		addr string
		bits int
		want string
	}{
		{"10.9.0.1", 0, "eth0"}, {"10.1.7.1", 0, "eth2"}, {"10.1.2.9", 0, "eth2"}, {"fd00::9", 0, "eth0"}, {"10.8.0.9", 0, "eth2"},
		{"10.1.7.1", 16, "eth2"}, {"10.1.2.9", 24, "eth1"}, {"10.1.9.9", 0, "eth2"},
		{"10.9.9.9", 24, ""}, {"192.0.2.1", 0, ""}, {"fd01::1", 0, ""}, {"127.0.0.9", 0, ""}, {"172.16.0.9", 0, ""}, {"172.17.0.9", 0, ""},
	} {
		l, err := interfaceFor(links, all, netip.MustParseAddr(c.addr), c.bits)
		if l.Name != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrNoInterface) {
			t.Errorf("%s in a subnet of %d bits: %q, %v; want %q", c.addr, c.bits, l.Name, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "eth0 has ") {
			t.Errorf("the error does not say what there is: %v", err)
		}
		if err != nil && c.addr == "172.16.0.9" && !strings.Contains(err.Error(), "wg0 has 172.16.0.1/24, but no Ethernet address") {
			t.Errorf("the error does not say that nobody can be told there: %v", err)
		}
	}
}

func TestClaimFile(t *testing.T) {
	dir := t.TempDir()
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	f := &claimFile{dir: dir}
	for _, err := range []error{f.read(), f.remember(one), f.remember(two), f.remember(one), f.forget(one), f.forget(one)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f = &claimFile{dir: dir}
	if err := f.read(); err != nil || !slices.Equal(f.addresses(), []netip.Addr{two}) {
		t.Fatalf("read again: %v, %v", f.addresses(), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, fileName))
	if diff := cmp.Diff("{\"version\":1,\"addresses\":[\"fd00::1\"]}\n", string(text)); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files stay behind: %v, %v", left, err)
	}
}

func FuzzHeard(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, addr := range []string{"10.0.0.1", "fd00::1"} {
		a := netip.MustParseAddr(addr)
		ask, err := probeFrames(mac, a)
		if err != nil {
			f.Fatal(err)
		}
		tell, err := announceFrames(mac, a, true)
		if err != nil {
			f.Fatal(err)
		}
		for i, b := range append(ask, tell...) {
			f.Add(b)
			got, s, err := heard(b)
			asks := i == 0 || a.Is6() && i == 2
			if err != nil || got != a || s.Asks != asks || !slices.Equal(s.From, mac) {
				f.Errorf("frame %d of %s: %s, %+v, %v", i, addr, got, s, err)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if addr, s, err := heard(b); err == nil && (!addr.IsValid() || len(s.From) != 6) {
			t.Errorf("%x: %s, %+v", b, addr, s)
		}
	})
}
