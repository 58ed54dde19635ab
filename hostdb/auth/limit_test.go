package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLimitOfAPair(t *testing.T) {
	c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	l := newLimiter(c)
	fail := func(user string, addr netip.Addr) time.Duration {
		_, wait := l.begin(user, addr)
		return wait
	}
	for range pairAllowance.burst {
		if wait := fail("alice", inside); wait != 0 {
			t.Fatalf("held back by %s within the allowance", wait)
		}
	}
	if wait := fail("alice", inside); wait != pairAllowance.interval {
		t.Errorf("after the allowance: wait %s, want %s", wait, pairAllowance.interval)
	}
	if wait := fail("alice", inside2); wait != 0 {
		t.Errorf("alice is locked out of her other place: %s", wait)
	}
	if wait := fail("bob", inside); wait != 0 {
		t.Errorf("bob is held back for alice: %s", wait)
	}
	c.now = c.now.Add(pairAllowance.interval - time.Second)
	if wait := fail("alice", inside); wait != time.Second {
		t.Errorf("a second before: wait %s", wait)
	}
	c.now = c.now.Add(time.Second)
	a, wait := l.begin("alice", inside)
	if wait != 0 {
		t.Errorf("after waiting as told: wait %s", wait)
	}
	a.undecided()
	if a, wait = l.begin("alice", inside); wait != 0 {
		t.Errorf("an attempt that was taken back counts: %s", wait)
	}
	a.succeeded()
	for i := range pairAllowance.burst {
		if wait := fail("alice", inside); wait != 0 {
			t.Fatalf("after a success, failure %d: wait %s", i+1, wait)
		}
	}
	c.now = c.now.Add(-24 * time.Hour)
	if wait := fail("alice", inside); wait > pairAllowance.interval {
		t.Errorf("the clock was set back: wait %s", wait)
	}
}

func TestLimitOfABlock(t *testing.T) {
	c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, x := range []struct{ first, other, foreign string }{
		{"10.0.0.1", "10.0.0.1", "10.0.0.2"},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "2001:db8:0:2::1"},
	} {
		l := newLimiter(c)
		for i := range blockAllowance.burst {
			if _, wait := l.begin(fmt.Sprint("user", i), netip.MustParseAddr(x.first)); wait != 0 {
				t.Fatalf("%s, failure %d: wait %s", x.first, i+1, wait)
			}
		}
		if _, wait := l.begin("alice", netip.MustParseAddr(x.other)); wait != blockAllowance.interval {
			t.Errorf("%s after %s: wait %s, want %s", x.other, x.first, wait, blockAllowance.interval)
		}
		if got := l.pairs.order.Len(); got != blockAllowance.burst {
			t.Errorf("a block that is held back has %d pairs, want %d", got, blockAllowance.burst)
		}
		if _, wait := l.begin("alice", netip.MustParseAddr(x.foreign)); wait != 0 {
			t.Errorf("%s is held back for %s: %s", x.foreign, x.first, wait)
		}
	}
}

// TestLimitModel: no order of attempts gets more failures through than the allowance, and memory stays bounded.
func TestLimitModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		l := newLimiter(c)
		begin := c.now
		failed := map[pair]int{}
		for range rapid.IntRange(1, 200).Draw(rt, "attempts") {
			c.now = c.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			user := rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "user")
			addr := rapid.SampledFrom([]netip.Addr{inside, inside2, {}}).Draw(rt, "addr")
			a, wait := l.begin(user, addr)
			p := pair{user, blockOf(addr)}
			if wait > 0 {
				continue
			}
			switch rapid.IntRange(0, 9).Draw(rt, "outcome") {
			case 0:
				a.succeeded()
				delete(failed, p)
			case 1:
				a.undecided()
			default:
				failed[p]++
			}
			if most := pairAllowance.burst + int(c.now.Sub(begin)/pairAllowance.interval); failed[p] > most {
				rt.Fatalf("%d failures of %v within %s", failed[p], p, c.now.Sub(begin))
			}
		}
	})
	l := newLimiter(&clock{})
	for i := range 2 * maxTracked {
		l.begin("alice", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if p, b := l.pairs, l.blocks; len(p.at) != maxTracked || p.order.Len() != maxTracked || len(b.at) != maxTracked {
		t.Errorf("%d pairs and %d blocks are remembered", len(p.at), len(b.at))
	}
}
