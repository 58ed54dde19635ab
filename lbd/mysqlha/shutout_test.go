package mysqlha_test

import (
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// One that is shut out is deleted from HostDB. The primary takes writes after its next start all the same, hears nothing of that one, and lets it in when it is back.
func TestOneThatIsShutOutIsDeleted(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		w.Power("c", false)
		settle(t, w, time.Minute, "c is shut out", func() bool { r := w.Record(); return slices.Equal(r.Ackers, []string{"b"}) && slices.Equal(r.Shut, []string{"c"}) })
		w.Delete("c", true)
		w.Link("b", "a", false) // so that a is not replaced
		time.Sleep(time.Second)
		w.Kill("a")
		w.Restart("a")
		w.Link("b", "a", true)
		settle(t, w, time.Minute, "it takes writes again", func() bool { return slices.Equal(w.Writable(), []string{"a"}) })
		w.Power("c", true)
		time.Sleep(30 * time.Second)
		if w.Acknowledges("c") {
			t.Error("c is not in HostDB, and acknowledges")
		}
		w.Delete("c", false)
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}
