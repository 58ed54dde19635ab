package mysqlha_test

import (
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// A primary that serves no new connection goes on with those that are there. It is not replaced while a replica receives from it, and its replicas are seen to as ever; when all have lost it another takes over.
func TestAPrimaryThatServesNoNewConnection(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Unserve("a", true)
		settle(t, w, 10*time.Second, "it is told", func() bool { return h.Picture().Diagnoses[0].Name == mysqlha.PrimarySuspect })
		w.Power("d", false)
		settle(t, w, time.Minute, "one that is gone counts no more", func() bool { return len(w.Record().Ackers) == 2 })
		if r := w.Record(); r.Primary != "a" || r.Epoch != 1 || h.Picture().Diagnoses[0].Name != mysqlha.PrimarySuspect {
			t.Errorf("it is replaced, and b and c receive: %+v; %+v", r, h.Picture().Diagnoses[0])
		}
		w.Link("a", "b", false)
		w.Link("a", "c", false)
		settle(t, w, 10*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
		w.Unserve("a", false)
		w.Link("a", "b", true)
		w.Link("a", "c", true)
		w.Power("d", true)
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}
