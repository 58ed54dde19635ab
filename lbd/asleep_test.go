package lbd

import (
	"context"
	"testing"
	"time"
)

// TestAsleep: while nothing is balanced this node does nothing at all, and it wakes when something is; after the last tag it sleeps again.
func TestAsleep(t *testing.T) {
	inBench(t, nil, func(b *bench) {
		looks := func(span time.Duration) int {
			b.mu.Lock()
			before := b.fitAsked
			b.mu.Unlock()
			time.Sleep(span)
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.fitAsked - before
		}
		offers := func(what bool) {
			t.Helper()
			b.until("it offers itself, or does not any more", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.offered == what
			})
		}
		for range 2 {
			if n := looks(time.Hour); n > 0 || b.d.busy() {
				t.Errorf("without a tag the box was looked at %d times in an hour; awake: %t", n, b.d.busy())
			}
			b.write(balanced)
			offers(true)
			if n := looks(time.Hour); n < 50 {
				t.Errorf("with a tag the box was looked at %d times in an hour", n)
			}
			b.write(map[string]string{"tags/web": "{}"})
			offers(false)
		}
	})
}

// TestOrphaned: since when an address has no holder is known.
func TestOrphaned(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		began := time.Now()
		time.Sleep(time.Minute)
		if v := b.d.State().VIPs[0]; !v.Orphaned.Equal(began) || v.Holder != "" {
			t.Errorf("%+v", v)
		}
		b.mu.Lock()
		b.fitErr = context.Canceled
		b.mu.Unlock()
		b.until("what it lacks is told", func() bool {
			time.Sleep(time.Second)
			v := b.d.State().VIPs[0]
			return v.Lacking && v.Refusal == "context canceled"
		})
	})
}

// TestAloof: a node on loopback plans, and does nothing else.
func TestAloof(t *testing.T) {
	inBench(t, nil, func(b *bench) {
		b.d.cfg.Aloof, b.d.fit.cfg.Unfit = true, "on loopback"
		b.write(balanced)
		time.Sleep(time.Minute)
		s := b.d.State()
		if !s.Aloof || len(s.Services) != 1 || s.Services[0].Count("in") != 2 || s.VIPs[0].Refusal != "on loopback" || s.VIPs[0].Lacking {
			t.Errorf("%+v", s)
		}
		if b.offered || len(b.declined) > 0 || len(b.specs) > 0 {
			t.Errorf("it offers itself (%t), says %v, or tries %v", b.offered, b.declined, b.specs)
		}
	})
}
