package node

import "testing"

// Garbage lies about during the start and during bursts, and not while somebody writes a little all the time.
func TestBursts(t *testing.T) {
	const little = burstFrom / 8
	p := pace{applied: 100, burst: true}
	steps := []struct {
		write        uint64 // bytes allocated so far when something is written; 0 for a tick
		applied      uint64 // operations at a tick
		allocated    uint64 // bytes at a tick
		begins       bool
		still, ended bool
		burstAfter   bool
	}{
		{applied: 100, allocated: burstFrom, still: true, ended: true}, // however much the start took
		{applied: 100, allocated: burstFrom + little, still: true},
		{write: burstFrom + 2*little},
		{write: 2*burstFrom + little - 1},
		{applied: 102, allocated: 2*burstFrom + little}, // so much in one tick is no burst by itself: somebody must write
		{write: 3*burstFrom + little, begins: true, burstAfter: true},
		{write: 4*burstFrom + little, burstAfter: true},
		{applied: 104, allocated: 4*burstFrom + little, burstAfter: true},
		{applied: 105, allocated: 5 * burstFrom, ended: true}, // it writes on, but little
		{write: 7 * burstFrom, begins: true, burstAfter: true},
		{applied: 50, allocated: 8 * burstFrom, burstAfter: true}, // a repair leaves fewer operations
		{applied: 50, allocated: 10 * burstFrom, still: true, ended: true},
	}
	for i, s := range steps {
		if s.write > 0 {
			if begins := p.write(s.write); begins != s.begins {
				t.Errorf("step %d: a burst begins: %v", i, begins)
			}
		} else if still, ended := p.tick(s.applied, s.allocated); still != s.still || ended != s.ended {
			t.Errorf("step %d: still %v, ended %v, want %v and %v", i, still, ended, s.still, s.ended)
		}
		if p.burst != s.burstAfter {
			t.Errorf("step %d: burst is %v", i, p.burst)
		}
	}
}

func TestBurstPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, mostInBurst}, {20 << 20, mostInBurst}, {64 << 20, 300}, {96 << 20, 200}, {400 << 20, inBurst}} {
		if got := burstPercent(c.live); got != c.want {
			t.Errorf("with %d MiB that live: %d %%, want %d %%", c.live>>20, got, c.want)
		}
	}
}
