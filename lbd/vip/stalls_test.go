package vip_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// virtual is the clock of a bubble, which may be held up as everything else.
type virtual struct {
	begin time.Time
	stall func()
}

func (v virtual) Now() time.Time { return time.Now() }
func (v virtual) Boot() time.Duration {
	v.stall()
	return time.Since(v.begin) + time.Hour
}

// TestStalls lets a holder stand still at any point, for a random while, while its lease is renewed late, badly or not at all, and its address is
// removed by hand. It checks what the package comment says.
func TestStalls(t *testing.T) {
	for name, longest := range map[string]time.Duration{"short": 350 * time.Millisecond, "long": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var held atomic.Int64 // steps with the address here
			defer func() {
				if held.Load() < 1000 {
					t.Errorf("the address was here in %d steps only: this shows nothing", held.Load())
				}
			}()
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Uint64().Draw(rt, "seed")
				var wrong []string
				synctest.Test(t, func(*testing.T) { wrong = stalls(seed, longest, longest < 400*time.Millisecond, t.TempDir(), &held) })
				if len(wrong) > 0 {
					rt.Fatalf("seed %d:\n%s", seed, strings.Join(wrong, "\n"))
				}
			})
		})
	}
}

func stalls(seed uint64, longest time.Duration, short bool, dir string, held *atomic.Int64) (wrong []string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	begin := time.Now()
	var badly sync.Mutex // guards wrong
	bad := func(format string, args ...any) {
		badly.Lock()
		defer badly.Unlock()
		wrong = append(wrong, time.Since(begin).String()+": "+fmt.Sprintf(format, args...))
	}
	addr := netip.MustParseAddr("10.0.0.100")
	often := rng.IntN(30) + 2
	calm := true
	var mu sync.Mutex        // guards calm, dead and rng
	dead := time.Duration(0) // when the process was killed; it hangs for ever then
	die := make(chan struct{})
	mayDie := rng.IntN(2) == 0
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	stall := func() {
		mu.Lock()
		var pause time.Duration
		hang := false
		switch {
		case calm:
		case rng.IntN(often) == 0:
			pause = time.Duration(rng.Int64N(int64(longest)))
		case mayDie && rng.IntN(400) == 0 && dead == 0:
			dead, hang = time.Since(begin), true
		}
		mu.Unlock()
		if hang {
			<-die
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	seg := viptest.NewSegment(seed)
	b := seg.Box(netip.MustParsePrefix("10.0.0.1/24"))
	var last atomic.Pointer[viptest.Lease] // that was read
	// Of the claim's own goroutine: how often the lease was read since the address was given a life, of which the second time decides; how long that
	// lasts; and whether it is too long.
	reads, lifeTill, tooLong := 2, time.Duration(0), false
	newLease := func() *viptest.Lease {
		l := viptest.NewLease()
		l.Reading = func(after bool) {
			if after {
				last.Store(l)
				if reads++; reads == 2 {
					ago, valid := l.Last()
					tooLong = valid && ago+lifeTill > 3*time.Second
				}
			}
			stall()
		}
		return l
	}
	lease := newLease()
	var lastSent = time.Now()                   // of what the leader heard: it may grant to another 3 s later
	looked, late := true, (*viptest.Lease)(nil) // of the claim's own goroutine alone, as its acts are
	b.Around = func(act string, after bool, of netip.Addr) {
		l := last.Load()
		ago, valid := l.Last()
		switch {
		case after && (act == "add" || strings.HasPrefix(act, "refresh")):
			// It was done at this moment, and not when it was decided.
			reads, lifeTill = 0, 1300*time.Millisecond // after which the kernel has removed it
			if act == "refresh 2s" {
				lifeTill = 2300 * time.Millisecond
			}
			if looked, late = false, nil; time.Since(l.Sent()) >= viptest.Hold && b.Has(of) {
				late = l
			}
		case !after:
			switch {
			case act == "refresh 2s" && (!valid || ago > 300*time.Millisecond), act == "add" && (!valid || ago > 1300*time.Millisecond):
				bad("%s on a renewal of %s, valid: %t", act, ago, valid)
			case act == "announce" && !valid:
				bad("announced after the lease was over")
			case late == l && !looked && act != "delete":
				bad("the kernel gave it after the lease was over, and what comes then is %s", act)
			}
			if tooLong && b.Has(of) && act != "refresh 1s" && act != "delete" {
				bad("it would outlast what the lease promises, and what comes then is %s", act)
			}
			tooLong, reads = false, 2
			looked = true
		}
		stall()
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	table, err := vip.Open(vip.Config{Dir: dir, Kernel: b, Announcer: b, Clock: virtual{begin, stall}, Logger: log})
	if err != nil {
		return []string{err.Error()}
	}
	ran := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = table.Run(ctx); close(ran) }()
	h, err := table.Claim(ctx, vip.Claim{Addr: addr, Owner: "lb/test", Lease: lease})
	if err != nil {
		return []string{err.Error()}
	}
	mu.Lock()
	calm = false
	mu.Unlock()
	next := time.Now()
	silent := time.Duration(0) // no renewal comes through until then
	for step := 0; time.Since(begin) < 20*time.Second; step++ {
		time.Sleep(10 * time.Millisecond)
		now := time.Since(begin)
		if !time.Now().Before(next) {
			next = time.Now().Add(500 * time.Millisecond)
			if chance(12) == 0 {
				silent = now + time.Duration(chance(int(2500*time.Millisecond)))
			}
			sent := time.Now()
			heard, answered := now > silent || chance(2) == 0, now > silent
			took := time.Duration(chance(int(120 * time.Millisecond)))
			if chance(10) == 0 {
				took *= 8
			}
			if heard && time.Since(lease.Sent()) < viptest.Hold {
				lastSent = sent
			}
			if time.Since(lastSent) > 4*time.Second && chance(2) == 0 {
				lease, lastSent, silent = newLease(), sent, 0
				h.Under(lease)
			}
			if answered {
				lease := lease
				time.AfterFunc(took, func() { lease.Renew(sent) })
			}
		}
		if chance(1000) == 0 {
			b.Take(netip.PrefixFrom(addr, 32), false)
		}
		has := b.Has(addr)
		if has {
			held.Add(1)
		}
		if has && time.Since(lastSent) >= 3*time.Second {
			if short {
				bad("the address is here, and another may have been granted it; killed at %s", dead)
				break
			}
		}
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	close(die)
	cancel()
	<-ran
	if err := h.Release(context.Background()); err != nil {
		bad("%v", err)
	}
	if b.Has(addr) {
		bad("released, and still here")
	}
	if err := table.Close(); err != nil {
		bad("%v", err)
	}
	time.Sleep(5 * time.Second) // lives end
	return wrong
}
