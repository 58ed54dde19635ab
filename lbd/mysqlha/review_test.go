package mysqlha_test

import (
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// One that was away during a failover was told nothing: it must not acknowledge what the new primary writes before it is counted.
func TestReviewOneThatComesBackDoesNotAcknowledgeUncounted(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		w.OnEffect(func(host, what string) {
			if what == "promote" || host == "b" && what == "leave" {
				w.OnEffect(nil)
				w.Isolate("c", true)
			}
		})
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		if slices.Contains(w.Record().Ackers, "c") {
			t.Fatalf("c was told: %v", w.Record().Ackers)
		}
		w.Isolate("c", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
	})
}
