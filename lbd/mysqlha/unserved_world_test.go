package mysqlha_test

import (
	"slices"
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

// A server acknowledges that nobody watches. It is told while it lasts, and not for what a replica that died has left behind.
func TestAStrangerAcknowledges(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		told := func() bool {
			return slices.ContainsFunc(h.Picture().Diagnoses, func(d mysqlha.Diagnosis) bool { return d.Name == mysqlha.AckerStray && d.Host == "" })
		}
		w.Strangers("a", 1)
		time.Sleep(20 * time.Second)
		if told() {
			t.Error("it is told at once")
		}
		settle(t, w, 20*time.Second, "it is told", told)
		if r := w.Record(); !slices.Equal(r.Ackers, []string{"b", "c"}) {
			t.Errorf("counted are %v", r.Ackers)
		}
		w.Strangers("a", 0)
		settle(t, w, time.Second, "it is told no more", func() bool { return !told() })
		w.Power("c", false)
		w.Strangers("a", 1)
		time.Sleep(time.Minute)
		if told() {
			t.Error("what c has left behind is taken for another")
		}
		w.Strangers("a", 0)
		w.Power("c", true)
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
	})
}
