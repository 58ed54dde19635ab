package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// A joiner of a mesh where retention dropped old history gets what the rest is built on, and answers questions about history as the
// others do.
func TestJoinerGetsTheBaseOfHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 1000, MessageBytes: 3000}
		a := loaded(t, f, "a", 100, cfg)
		defer func() { a.stop() }()
		cut := put(t, a, "web1", "{v: middle}").Revision
		time.Sleep(time.Second)
		for range 20 {
			put(t, a, "web2", "{v: "+time.Now().Format("150405.000000000")+"}")
			time.Sleep(time.Millisecond)
		}
		if n, err := a.store.Retain(t.Context(), hostdb.Retention{Until: cut}); err != nil || n == 0 {
			t.Fatalf("%d operations were dropped: %v", n, err)
		}
		b := &member{name: "b"}
		start(t, f, b, cfg) // fewer operations than a state is taken for: but they are not all held
		defer func() { b.stop() }()
		until(t, "history is whole", func() bool { _, _, err := b.store.Horizon(); return b.replica.Synced() && err == nil })
		equal(t, a, b)
		at, ok, err := b.store.Horizon()
		want, _, _ := a.store.Horizon()
		if err != nil || !ok || at != want {
			t.Errorf("history begins at %s, %v, %v; want %s", at, ok, err, want)
		}
		then, err := b.store.At(t.Context(), want)
		if err != nil || then.Data(hostdb.Hosts, "web1").Text("v") != "middle" {
			t.Errorf("the state then: %v, %v", then.Data(hostdb.Hosts, "web1"), err)
		}
	})
}
