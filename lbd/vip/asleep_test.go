package vip_test

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// asked counts what a kernel is asked.
type asked struct {
	*viptest.Box
	n atomic.Int64
}

func (k *asked) Links() ([]vip.Link, error) {
	k.n.Add(1)
	return k.Box.Links()
}

func (k *asked) Addresses() ([]vip.Address, error) {
	k.n.Add(1)
	return k.Box.Addresses()
}

func (k *asked) Watch() (<-chan struct{}, func(), error) {
	k.n.Add(1)
	return k.Box.Watch()
}

// TestAsleep: the kernel is asked nothing while nothing is claimed.
func TestAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &asked{Box: viptest.NewSegment(1).Box(netip.MustParsePrefix("10.0.0.1/24"))}
		table, err := vip.Open(vip.Config{Dir: t.TempDir(), Kernel: box, Announcer: box, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- table.Run(ctx) }()
		quiet := func(when string) {
			t.Helper()
			before := box.n.Load()
			time.Sleep(time.Hour)
			if n := box.n.Load() - before; n > 0 {
				t.Errorf("%s: the kernel was asked %d times in an hour", when, n)
			}
		}
		quiet("no claim")
		for range 2 {
			l := viptest.NewLease()
			stop := l.Keep()
			h, err := table.Claim(t.Context(), vip.Claim{Addr: netip.MustParseAddr("10.0.0.100"), Owner: "lb/x", Lease: l})
			if err != nil {
				t.Fatal(err)
			}
			before := box.n.Load()
			time.Sleep(time.Minute)
			if n := box.n.Load() - before; n < 6 {
				t.Errorf("with a claim it was asked %d times in a minute", n)
			}
			if err := h.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			stop()
			time.Sleep(time.Minute)
			quiet("released")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
}
