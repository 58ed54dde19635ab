package mysqlha_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// A replica that was started anew, and is counted, is told to acknowledge before it receives anything: MariaDB never asks again for the acknowledgement of what it
// received before, and if nobody else gives it writes wait for ever.
func TestOneThatIsCountedAcknowledgesFromTheFirst(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		var mu sync.Mutex
		did := map[string][]string{}
		w.OnEffect(func(host, what string) {
			mu.Lock()
			defer mu.Unlock()
			if what == "acker" || what == "start" || what == "follow" {
				did[host] = append(did[host], what)
			}
		})
		w.Power("b", false)
		w.Power("c", false)
		time.Sleep(2 * time.Second)
		w.Power("b", true)
		w.Power("c", true)
		time.Sleep(10 * time.Second)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
		w.OnEffect(nil)
		c.end()
		nothingLost(t, w)
		mu.Lock()
		defer mu.Unlock()
		for _, h := range []string{"b", "c"} {
			if list := did[h]; !slices.Contains(list, "acker") || list[0] != "acker" {
				t.Errorf("%s: %v", h, list)
			}
		}
	})
}
