package mysqlha

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// full is a world with one server, which is full to clients and has so many connections left for us.
type full struct {
	broken
	mu         sync.Mutex
	left       int
	kept, held bool
	lost       chan struct{} // ends the connection that is held
}

func (f *full) Server(Member) Server                           { return f }
func (f *full) Local(Member) Local                             { return nil }
func (f *full) DestroyVM(context.Context, string, Order) error { return ErrNoVM }

func (f *full) take(b *bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *b {
		return nil
	}
	if f.left == 0 {
		return ErrSaturated
	}
	f.left--
	*b = true
	return nil
}

func (f *full) give(b *bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *b {
		*b = false
		f.left++
	}
}

func (f *full) Observe(context.Context) (Facts, error) {
	time.Sleep(time.Millisecond)
	return Facts{Flavour: MariaDB}, f.take(&f.kept)
}

func (f *full) Ping(context.Context) error {
	var one bool
	defer f.give(&one)
	return f.take(&one)
}

func (f *full) Hold(ctx context.Context) error {
	if err := f.take(&f.held); err != nil {
		return err
	}
	defer f.give(&f.held)
	select {
	case <-ctx.Done():
		return nil
	case <-f.lost:
		return ErrUnreachable
	}
}

// stands is what is connected.
func (f *full) stands() (kept, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept, f.held
}

// TestTheLastConnectionIsForWhoLooks: where a server has one connection left it is not held, but asked how it stands.
func TestTheLastConnectionIsForWhoLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &full{broken: broken{errors.New("no such thing")}, left: 1, lost: make(chan struct{})}
		m := newMonitor(f, DefaultTimes(), func() {})
		defer m.close()
		defer cancel()
		m.watch(ctx, []Member{{Host: "db1", Addr: netip.MustParseAddr("10.1.0.11"), Port: 3306}}, "db1")
		well := func(what string, wantHeld bool) {
			t.Helper()
			s := m.seen()["db1"]
			if kept, held := f.stands(); !kept || held != wantHeld || s.Cause != "" || !s.HoldLost.IsZero() {
				t.Errorf("%s: asked %v, held %v, %+v", what, kept, held, s)
			}
		}
		time.Sleep(2 * time.Second)
		well("one is left from the start", false)
		f.mu.Lock()
		f.left = 2
		f.mu.Unlock()
		time.Sleep(time.Second)
		well("there are more", true)
		f.mu.Lock()
		f.left, f.kept = 0, false // somebody takes what it was asked over
		f.mu.Unlock()
		time.Sleep(time.Second)
		well("the one that is left was held", false)
		f.mu.Lock()
		f.left = 2
		f.mu.Unlock()
		time.Sleep(time.Second)
		well("there are more again", true)
		close(f.lost)
		time.Sleep(50 * time.Millisecond)
		if s := m.seen()["db1"]; s.HoldLost.IsZero() {
			t.Error("the end of the connection is not told")
		}
	})
}
