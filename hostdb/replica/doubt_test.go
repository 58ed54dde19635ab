package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// Two replicas that took their state from one that was wrong outvote nobody whose whole log says otherwise.
func TestMajorityDoesNotOverruleAWholeLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 10, MessageBytes: 5000}
		a := loaded(t, f, "a", 100, cfg)
		defer func() { a.stop() }()
		f.set(func() { f.hook = noHistory })
		b, c := &member{name: "b"}, &member{name: "c"}
		for _, m := range []*member{b, c} {
			start(t, f, m, cfg)
			defer func() { m.stop() }()
			until(t, m.name+" is synced", m.replica.Synced)
		}
		for _, m := range []*member{b, c} {
			m.kill()
			spoil(t, m, "web7")
		}
		for _, m := range []*member{b, c} {
			start(t, f, m, cfg)
		}
		until(t, "a looks into it", func() bool { return a.replica.Status().Verdict != "" })
		time.Sleep(10 * time.Minute)
		if !a.store.View().Exists(hostdb.Hosts, "web7") {
			t.Fatal("the only good replica was made bad")
		}
		if v := a.replica.Status().Verdict; v != verdictVouched {
			t.Errorf("verdict %q", v)
		}
		f.set(func() { f.hook = nil })
		until(t, "the others are made good from their own logs", func() bool {
			return b.store.View().Exists(hostdb.Hosts, "web7") && c.store.View().Exists(hostdb.Hosts, "web7")
		})
		equal(t, a, b, c)
	})
}

func TestNamespaceThatOneSideLacksDiffers(t *testing.T) {
	got := differing(map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"a": "1", "c": "4", "d": "5"})
	if len(got) != 3 || got[0] != "b" || got[1] != "c" || got[2] != "d" {
		t.Errorf("%q", got)
	}
}

// An answer that took long says nothing of a clock: where all disks are slow, no clock is called wrong.
func TestSlowAnswersAreNoClocks(t *testing.T) {
	r := &Replica{alarms: map[string]time.Time{}}
	sent := time.Now()
	for _, n := range []string{"a", "b", "c", "d"} {
		r.heardClock(n, sent.Add(4*time.Second).UnixNano(), sent, 4*time.Second) // read at the end of four seconds
	}
	if ahead, known := r.Skew(); known != 1 || ahead != 0 {
		t.Errorf("%s ahead of %d clocks", ahead, known)
	}
}

// What is forgotten of a peer because it is too much must not be taken for held.
func TestForgottenIsNotHeld(t *testing.T) {
	var p peer
	p.told = true
	p.over = []pair{{1, 5}}
	if n := p.heldOf(1, 10, true); n != 5 {
		t.Fatalf("holds %d", n)
	}
	p.set(2, 7, 1)
	if n := p.heldOf(1, 10, true); n > 5 {
		t.Errorf("a peer that holds 5 is taken to hold %d", n)
	}
}

// A member that was away may come back with an older directory: nothing is dropped, nor stamped anew, on the strength of what it
// held before.
func TestWhoWasAwayIsAskedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		names := []string{"node000", "node001", "node002"}
		ms := mesh(t, f, 3, Config{Members: func() []string { return names }})
		defer stopAll(ms)
		put(t, ms[0], "web1", "1")
		old := ms[2].storage.Snapshot()
		a, origin := ms[0], ms[0].store.Origin()
		put(t, a, "web2", "1")
		until(t, "all hold it", func() bool { return a.replica.HeldByAll(origin) == 2 && a.replica.Sounded(true) })
		ms[2].stop()
		time.Sleep(10 * time.Second)
		if n := a.replica.HeldByAll(origin); n != 0 {
			t.Errorf("%d operations are held by all, while one is away", n)
		}
		if a.replica.Sounded(true) || !a.replica.Sounded(false) {
			t.Error("who is away was heard, or who is alive was not")
		}
		ms[2].storage = old
		start(t, f, ms[2], Config{})
		until(t, "all hold it again", func() bool { return a.replica.HeldByAll(origin) == 2 })
		equal(t, ms...)
	})
}
