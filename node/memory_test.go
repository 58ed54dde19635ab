package node

import "testing"

// Garbage lies about during the start and during bursts, and not while somebody writes a little all the time.
func TestBursts(t *testing.T) {
	p := pace{applied: 100, burst: true}
	steps := []struct {
		write, tick  uint64 // one of them: operations so far
		begins       bool
		still, ended bool
		burstAfter   bool
	}{
		{tick: 100, still: true, ended: true},
		{tick: 100, still: true},
		{write: 101},
		{write: 100 + burstFrom - 1},
		{tick: 100 + burstFrom - 1}, // 2,000 in five seconds are no burst yet
		{write: 100 + 2*burstFrom, begins: true, burstAfter: true},
		{write: 100 + 3*burstFrom, burstAfter: true},
		{tick: 100 + 3*burstFrom, burstAfter: true},
		{tick: 101 + 3*burstFrom, ended: true},
		{write: 50}, // a repair
		{tick: 50},
		{tick: 50, still: true},
	}
	for i, s := range steps {
		if s.write > 0 {
			if begins := p.write(s.write); begins != s.begins {
				t.Errorf("step %d: a burst begins: %v", i, begins)
			}
		} else if still, ended := p.tick(s.tick); still != s.still || ended != s.ended {
			t.Errorf("step %d: still %v, ended %v, want %v and %v", i, still, ended, s.still, s.ended)
		}
		if p.burst != s.burstAfter {
			t.Errorf("step %d: burst is %v", i, p.burst)
		}
	}
}
