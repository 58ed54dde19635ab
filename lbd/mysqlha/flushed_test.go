package mysqlha_test

import (
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// shutOut has c be away until it counts no more, and the host of the primary hears nothing of it.
func shutOut(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	w.Freeze("c", true)
	settle(t, w, time.Minute, "c is shut out", func() bool {
		r := w.Record()
		return slices.Equal(r.Ackers, []string{"b"}) && slices.Equal(r.Shut, []string{"c"})
	})
}

// TestWhoIsLetInAgainAcknowledgesNoMore: somebody takes away what shuts a replica out, a moment before it answers again. So it receives, as one that acknowledges, when it is told not to.
func TestWhoIsLetInAgainAcknowledgesNoMore(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		for before := range 10 {
			settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
			shutOut(t, w)
			w.Freeze("c", false)
			time.Sleep(time.Duration(before) * 10 * time.Millisecond)
			w.Flush("a")
		}
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// TestWhoIsShutOutAndHeardIsCounted: no agent is there to put back what shuts a replica out, and it acknowledges. A failover must wait for its cut.
func TestWhoIsShutOutAndHeardIsCounted(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		shutOut(t, w)
		w.Agent("a", false)
		time.Sleep(time.Second)
		w.Flush("a")
		w.Freeze("c", false)
		settle(t, w, 2*time.Second, "c is counted", func() bool { return slices.Contains(w.Record().Ackers, "c") })
		w.Agent("a", true)
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}
