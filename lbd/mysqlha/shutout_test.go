package mysqlha_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// One that is shut out is deleted from HostDB. The primary takes writes after its next start all the same, hears nothing of that one, and lets it in when it is back.
func TestOneThatIsShutOutIsDeleted(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		w.Power("c", false)
		settle(t, w, time.Minute, "c is shut out", func() bool {
			r := w.Record()
			return slices.Equal(r.Ackers, []string{"b"}) && slices.Equal(r.Shut, []string{"c"})
		})
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

// One that acknowledges loses the tag while it is away for good, or is deleted as well: another has all, so that it counts no more, and the next failover does not wait for it.
func TestOneThatIsGoneForGoodLosesTheTag(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprintf("deleted %v", deleted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := mysqlhatest.New("shop-db", 4, true)
				defer w.Close()
				var members atomic.Pointer[[]mysqlha.Member]
				all := w.Members()
				members.Store(&all)
				w.Hold("watcher", nil, func() []mysqlha.Member { return *members.Load() }, logger())
				settle(t, w, 10*time.Second, "a whole cluster", whole(w, 4))
				c := write(t, w)
				time.Sleep(time.Second)
				w.Power("d", false)
				w.Delete("d", deleted)
				three := all[:3]
				members.Store(&three)
				settle(t, w, 30*time.Second, "b and c are counted", func() bool { return slices.Equal(w.Record().Ackers, []string{"b", "c"}) })
				w.Kill("a")
				settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
				settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
				if !deleted {
					w.Power("d", true)
					time.Sleep(10 * time.Second)
					if w.Acknowledges("d") {
						t.Error("d is no member, and acknowledges")
					}
				}
				c.end()
				nothingLost(t, w)
				if faults := w.Faults(); len(faults) > 0 {
					t.Errorf("never to be: %v", faults)
				}
			})
		})
	}
}
