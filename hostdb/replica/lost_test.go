package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// A member that was set back to an older copy of its directory, and lacks what the others have dropped meanwhile, says so.
func TestReplicaThatLacksWhatWasDroppedSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a := loaded(t, f, "a", 10, Config{})
		defer func() { a.stop() }()
		b := &member{name: "b"}
		start(t, f, b, Config{})
		defer func() { b.stop() }()
		until(t, "b has it all", func() bool { return b.store.View().Version().String() == a.store.View().Version().String() })
		b.kill()
		put(t, a, "late", "1")
		put(t, a, "later", "1")
		at, err := a.store.Newest(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		put(t, a, "latest", "1")
		if n, err := a.store.Retain(t.Context(), hostdb.Retention{Until: at}); err != nil || n < 12 {
			t.Fatalf("%d dropped: %v", n, err)
		}
		start(t, f, b, Config{})
		time.Sleep(lostAfter / 2)
		if n := b.replica.Status().Lost; n != 0 {
			t.Errorf("%d origins are given up already", n)
		}
		time.Sleep(lostAfter)
		if n := b.replica.Status().Lost; n != 1 {
			t.Errorf("%d origins are given up", n)
		}
		if n := a.replica.Status().Lost; n != 0 {
			t.Errorf("the other one gives up %d", n)
		}
	})
}
