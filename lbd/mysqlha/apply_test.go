package mysqlha_test

import (
	"context"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// hang has the primary die while both replicas have something to apply, and do not.
func hang(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	w.Stick("b", true)
	w.Stick("c", true)
	c := write(t, w)
	time.Sleep(100 * time.Millisecond)
	c.end()
	w.Kill("a")
	w.Silence("a", true)
	settle(t, w, 30*time.Second, "b is to apply what it has received", step(w, mysqlha.StepApply))
}

// While the one that was chosen applies, who watches looks at all, and does what a person asks for.
func TestWhileItAppliesPeopleAreHeard(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		hang(t, w)
		time.Sleep(time.Minute)
		if old := time.Since(h.Picture().At); old > 10*time.Second {
			t.Errorf("the picture is %s old", old)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := h.Ack(ctx, "somebody", "seen"); err != nil {
			t.Error(err)
		}
		if i := w.Record().Intent; i == nil || i.Step != mysqlha.StepApply || i.To != "b" {
			t.Errorf("it was not waited for: %+v", w.Record())
		}
		w.Stick("b", false)
		settle(t, w, 10*time.Second, "b is the primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		w.Stick("c", false)
		w.Silence("a", false)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
		nothingLost(t, w)
	})
}

// One that applies nothing is not waited for when another has as much, and applies it.
func TestAnotherIsChosenThatApplies(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
		hang(t, w)
		w.Stick("c", false)
		settle(t, w, 20*time.Second, "c is the primary", func() bool { return w.Record().Primary == "c" && w.Record().Intent == nil })
		w.Stick("b", false)
		w.Silence("a", false)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
		nothingLost(t, w)
	})
}

// One at which a step fails again and again is not chosen again, as long as another has as much; and who watches is not held up.
func TestOneThatCannotIsNotChosenAgain(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "leave" {
				time.Sleep(4 * time.Second) // it does not answer that in time
			}
		})
		w.Kill("a")
		w.Silence("a", true)
		settle(t, w, 30*time.Second, "c is the primary", func() bool { return w.Record().Primary == "c" && w.Record().Intent == nil })
		w.OnEffect(nil)
		w.Silence("a", false)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}
