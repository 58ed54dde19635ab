package mysqlha_test

import (
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// What a primary was kept from hearing it hears again once it is one again, though nobody told it meanwhile: a copy is compared there, and a replica follows.
func TestAFormerPrimaryHearsWhoWasShutOut(t *testing.T) {
	for _, x := range []struct {
		name string
		mind func(w *mysqlhatest.World) // what happens while b is the primary
	}{
		{"a new disk", func(w *mysqlhatest.World) { w.Wipe("c") }},
		{"as it was", func(*mysqlhatest.World) {}},
	} {
		t.Run(x.name, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				c := write(t, w)
				time.Sleep(time.Second)
				w.Power("c", false)
				settle(t, w, 60*time.Second, "c is shut out", func() bool { return slices.Equal(w.Record().Shut, []string{"c"}) })
				settle(t, w, 10*time.Second, "and not counted", func() bool { return slices.Equal(w.Record().Ackers, []string{"b"}) })
				for _, to := range []string{"b", "a"} {
					if _, err := h.Switchover(t.Context(), to, "somebody", "a test"); err != nil {
						t.Fatal(err)
					}
					settle(t, w, 30*time.Second, "the other counts", func() bool { return len(w.Record().Starts) == 1 })
				}
				x.mind(w)
				w.Power("c", true)
				settle(t, w, 120*time.Second, "a whole cluster", whole(w, 3))
				c.end()
				nothingLost(t, w)
			})
		})
	}
}

// The same where the former primary's host did not take that at once.
func TestAFormerPrimaryThatWasNotToldHears(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Power("c", false)
		settle(t, w, 60*time.Second, "c is shut out", func() bool {
			return slices.Equal(w.Record().Shut, []string{"c"}) && slices.Equal(w.Record().Ackers, []string{"b"})
		})
		w.OnEffect(func(host, what string) {
			if host == "a" && what == "uncut" {
				time.Sleep(time.Second)
			}
		})
		for _, to := range []string{"b", "a"} {
			if _, err := h.Switchover(t.Context(), to, "somebody", "a test"); err != nil {
				t.Fatal(err)
			}
			settle(t, w, 30*time.Second, "the other counts", func() bool { return len(w.Record().Starts) == 1 })
		}
		w.OnEffect(nil)
		w.Wipe("c")
		w.Power("c", true)
		settle(t, w, 120*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}
