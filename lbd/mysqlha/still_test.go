package mysqlha_test

import (
	"context"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// TestOneWhoseClockStandsStillTakesNothingBack: two take back a switchover whose old primary died, and wait for that: the one with the grant gives up, makes a failover of it, and has the old one rejoin. The other
// takes its own grant for valid. When the old one answers, it must not make a primary of it again.
func TestOneWhoseClockStandsStillTakesNothingBack(t *testing.T) {
	for later := time.Duration(0); later < 2*time.Second; later += 200 * time.Millisecond {
		t.Run(later.String(), func(t *testing.T) {
			in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, still *mysqlhatest.Holder) {
				still.BelieveStill()
				h := w.Hold("another", nil, nil, logger())
				c := write(t, w)
				time.Sleep(time.Second + later)
				w.OnEffect(func(host, what string) {
					if host == "a" && what == "hand-over" {
						w.OnEffect(nil)
						w.Kill("a")
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, _ = h.Switchover(ctx, "b", "somebody", "a test") // b is the primary in the end, one way or the other
				settle(t, w, time.Minute, "a whole cluster", whole(w, 2))
				c.end()
				nothingLost(t, w)
			})
		})
	}
}
