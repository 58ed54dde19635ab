package mysqlha_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// logger is silent, but for whoever looks for what went wrong.
func logger() *slog.Logger {
	if os.Getenv("MYSQLHA_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// clients write at the address of the primary, all the time.
type clients struct {
	stop context.CancelFunc
	done chan struct{}
	// last is when a write was last told to be done; gap the longest time between two.
	last, gapAt time.Time
	gap         time.Duration
}

func write(t *testing.T, w *mysqlhatest.World) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{stop: cancel, done: make(chan struct{}), last: time.Now()}
	t.Cleanup(cancel)
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			host := w.Address()
			ok := false
			if host != "" {
				one, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				_, ok = w.Write(one, host)
				cancel()
			}
			if ok {
				if d := time.Since(c.last); d > c.gap {
					c.gap, c.gapAt = d, time.Now()
				}
				c.last = time.Now()
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return c
}

func (c *clients) end() {
	c.stop()
	<-c.done
}

// settle waits until a condition holds, in virtual time.
func settle(t *testing.T, w *mysqlhatest.World, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("after %s not yet: %s; record %+v, intent %+v, writable %v, address %q, faults %v", limit, what, w.Record(), w.Record().Intent, w.Writable(), w.Address(), w.Faults())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// whole reports whether a cluster is as it should be: one primary with the address, and all others acknowledge.
func whole(w *mysqlhatest.World, n int) func() bool {
	return func() bool {
		r := w.Record()
		return r.Intent == nil && len(r.Fenced) == 0 && len(r.Ackers) == n-1 && len(r.Starts) == n-1 && len(r.Shut) == 0 && slices.Equal(w.Writable(), []string{r.Primary}) && w.Address() == r.Primary
	}
}

// in runs a world of n servers in virtual time, with a holder, until it is whole.
func in(t *testing.T, n int, strict bool, f func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", n, strict)
		defer w.Close()
		h := w.Hold("watcher", nil, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, n))
		f(t, w, h)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}

// nothingLost looks for what clients were told of, on the primary.
func nothingLost(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	if lost := w.Lost(w.Record().Primary); len(lost) > 0 {
		t.Errorf("%s has not got %d of %d writes that clients were told of: %v", w.Record().Primary, len(lost), w.Acknowledged(), lost[:min(len(lost), 10)])
	}
	if w.Acknowledged() == 0 {
		t.Error("nothing was written at all")
	}
}

func TestFailsOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit time.Duration // from the fault to the first write
		fault func(w *mysqlhatest.World)
		mend  func(w *mysqlhatest.World)
	}{
		{"killed", 300 * time.Millisecond, func(w *mysqlhatest.World) { w.Kill("a") }, nil},
		{"killed, its agent too", 2500 * time.Millisecond, func(w *mysqlhatest.World) { w.Silence("a", true); w.Kill("a") }, func(w *mysqlhatest.World) { w.Silence("a", false) }},
		{"stopped", 1500 * time.Millisecond, func(w *mysqlhatest.World) { w.Freeze("a", true) }, nil},
		{"no network", 1500 * time.Millisecond, func(w *mysqlhatest.World) { w.Isolate("a", true) }, func(w *mysqlhatest.World) { w.Isolate("a", false) }},
		{"no power", 1500 * time.Millisecond, func(w *mysqlhatest.World) { w.Power("a", false) }, func(w *mysqlhatest.World) { w.Power("a", true) }},
	} {
		for _, n := range []int{2, 3, 5} {
			t.Run(fmt.Sprintf("%s, %d", c.name, n), func(t *testing.T) {
				in(t, n, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
					cl := write(t, w)
					time.Sleep(time.Second)
					before := w.Acknowledged()
					c.fault(w)
					took := settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
					if n > 2 {
						settle(t, w, 30*time.Second, "writes", func() bool { return w.Acknowledged() > before+10 })
						if cl.gap > c.limit {
							t.Errorf("clients could not write for %s; at most %s", cl.gap, c.limit)
						}
					}
					t.Logf("promoted after %s, writes stood still for %s", took, cl.gap)
					if c.mend != nil {
						c.mend(w)
					}
					settle(t, w, 60*time.Second, "the old primary among the others", whole(w, n))
					time.Sleep(time.Second)
					cl.end()
					nothingLost(t, w)
				})
			})
		}
	}
}
