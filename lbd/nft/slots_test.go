package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawBackends(t *rapid.T) []Backend {
	n := rapid.IntRange(1, 40).Draw(t, "n")
	var list []Backend
	for i := range n {
		list = append(list, Backend{Addr: netip.AddrFrom4([4]byte{10, 1, byte(i), byte(rapid.IntRange(1, 3).Draw(t, "host"))}), Port: 80, State: In,
			Weight: rapid.IntRange(0, 5).Draw(t, "weight")})
	}
	return list
}

// TestLeavingMovesOnlyItsOwn: by source, the slots of those who stay never move when one leaves or comes.
func TestLeavingMovesOnlyItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawBackends(t)
		if len(list) < 2 {
			return
		}
		gone := rapid.IntRange(0, len(list)-1).Draw(t, "gone")
		rest := slices.Delete(slices.Clone(list), gone, gone+1)
		before, after := assign(Source, list), assign(Source, rest)
		for slot := range before {
			if was, is := list[before[slot]], rest[after[slot]]; before[slot] != gone && was != is {
				t.Fatalf("slot %d went from %s to %s when %s left", slot, was, is, list[gone])
			}
		}
	})
}

// TestTurnsAreEven: in turn, each has its share of slots but for one, and none waits for longer than its share asks.
func TestTurnsAreEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawBackends(t)
		total, got := 0, make([]int, len(list))
		for _, b := range list {
			total += b.weight()
		}
		for _, i := range assign(RoundRobin, list) {
			got[i]++
		}
		for i, b := range list {
			share := float64(Slots) * float64(b.weight()) / float64(total)
			if d := float64(got[i]) - share; d < -1.5 || d > 1.5 {
				t.Fatalf("%s of weight %d in %d has %d slots, its share is %.1f", b, b.weight(), total, got[i], share)
			}
		}
	})
	three := assign(RoundRobin, []Backend{{Port: 1}, {Port: 2}, {Port: 3}})
	if fmt.Sprint(three[:6]) != "[0 1 2 0 1 2]" {
		t.Errorf("three in turn begin with %v", three[:6])
	}
}

// TestSourceShares: by source, shares follow the weights as closely as the documentation says.
func TestSourceShares(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 30} {
		worst := 0.0
		var list []Backend
		total := 0
		for i := range n {
			b := Backend{Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), Port: 53, Weight: 1 + i%2}
			list, total = append(list, b), total+b.weight()
		}
		got := make([]int, n)
		for _, i := range assign(Source, list) {
			got[i]++
		}
		for i, b := range list {
			share := float64(Slots) * float64(b.weight()) / float64(total)
			worst = max(worst, max(float64(got[i])/share, share/float64(got[i])))
		}
		// Four standard deviations of the smallest share.
		if limit := 1.15 + 0.02*float64(n); worst > limit {
			t.Errorf("%d backends: a share is off by the factor %.2f, at most %.2f was thought of", n, worst, limit)
		}
	}
}
