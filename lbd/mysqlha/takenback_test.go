package mysqlha_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// stopsAtTheGate has the primary crash, and a replica that counts go away amid the failover.
func stopsAtTheGate(t *testing.T, w *mysqlhatest.World, crash func()) {
	t.Helper()
	w.OnEffect(func(_, what string) {
		if what == "kill" {
			w.OnEffect(nil)
			w.Isolate("c", true)
		}
	})
	crash()
	settle(t, w, 30*time.Second, "the gate stops", func() bool { i := w.Record().Intent; return i != nil && i.Stopped != "" })
}

// step reports whether a failover is at a step.
func step(w *mysqlhatest.World, s mysqlha.Step) func() bool {
	return func() bool {
		i := w.Record().Intent
		return i != nil && i.Kind == mysqlha.Failover && i.Step == s
	}
}

// took reports whether another than a is the primary, and takes writes.
func took(w *mysqlhatest.World) func() bool {
	return func() bool {
		r := w.Record()
		return r.Primary != "a" && r.Intent == nil && slices.Equal(w.Writable(), []string{r.Primary})
	}
}

// A failover that has stopped goes on when who was missing answers, also where the agent of the old primary says that its server has ended: that may never start again.
func TestTheGateIsTriedBeforeAFailoverIsTakenBack(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		stopsAtTheGate(t, w, func() { w.Spoil("a") })
		w.Isolate("c", false)
		settle(t, w, 5*time.Second, "another primary", took(w))
		if e := w.Record().Epoch; e != 2 {
			t.Errorf("epoch %d: it was taken back, and begun anew", e)
		}
		settle(t, w, 60*time.Second, "a whole cluster again", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// A failover that is taken back, and whose old primary never serves again, is made after all: by itself when who was missing answers, and when a person forces it.
func TestTakenBackToOneThatNeverServes(t *testing.T) {
	for _, x := range []struct {
		name  string
		crash func(w *mysqlhatest.World)
		gone  func(w *mysqlhatest.World)
	}{
		{"it cannot start", func(w *mysqlhatest.World) { w.Spoil("a") }, func(*mysqlhatest.World) {}},
		{"its host is gone", func(w *mysqlhatest.World) { w.Kill("a") }, func(w *mysqlhatest.World) { w.Power("a", false) }},
	} {
		begun := func(t *testing.T, f func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder, c *clients)) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				c := write(t, w)
				time.Sleep(time.Second)
				stopsAtTheGate(t, w, func() { x.crash(w) })
				w.OnEffect(func(host, what string) {
					if host == "a" && what == "start-server" {
						w.OnEffect(nil)
						x.gone(w)
					}
				})
				settle(t, w, 30*time.Second, "it is taken back", step(w, mysqlha.StepWithdraw))
				f(t, w, h, c)
			})
		}
		t.Run(x.name+", the replica is back", func(t *testing.T) {
			begun(t, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder, c *clients) {
				time.Sleep(5 * time.Second)
				w.Isolate("c", false)
				settle(t, w, 60*time.Second, "another primary", took(w))
				w.Power("a", true)
				settle(t, w, 90*time.Second, "a whole cluster again", whole(w, 3))
				c.end()
				nothingLost(t, w)
			})
		})
		t.Run(x.name+", forced", func(t *testing.T) {
			begun(t, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder, c *clients) {
				time.Sleep(5 * time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if done, err := h.Failover(ctx, true, "somebody", "a test"); err != nil || done.Primary != "b" || done.Loss == "" {
					t.Errorf("forced: %+v, %v", done, err)
				}
				settle(t, w, 5*time.Second, "b is the primary", func() bool { return w.Record().Primary == "b" })
				c.end()
			})
		})
	}
}

// recovers has a failover taken back to a server that starts, and does not come to answer.
func recovers(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	stopsAtTheGate(t, w, func() { w.Kill("a") })
	w.OnEffect(func(host, what string) {
		if host == "a" && what == "start-server" {
			w.OnEffect(nil)
			go func() {
				time.Sleep(20 * time.Millisecond)
				w.Freeze("a", true)
			}()
		}
	})
	settle(t, w, 30*time.Second, "it is taken back", step(w, mysqlha.StepWithdraw))
	time.Sleep(time.Minute)
}

// While its server runs and does not answer, as while it recovers, nothing else is begun: it has all, and to kill it amid that could cost what it has.
func TestTakenBackToOneThatRecovers(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		recovers(t, w)
		w.OnEffect(func(host, what string) {
			if host == "a" && what == "kill" {
				t.Error("it was killed amid its recovery")
			}
		})
		time.Sleep(time.Minute)
		if i := w.Record().Intent; i == nil || i.Step != mysqlha.StepWithdraw {
			t.Errorf("it was not waited for: %+v", w.Record())
		}
		if d := h.Picture().Diagnoses[0]; d.Name != mysqlha.IntentOpen || !strings.Contains(d.Remedy, "hostmesh mysql failover shop-db --force") {
			t.Errorf("what to do is not said: %+v", d)
		}
		w.Freeze("a", false)
		settle(t, w, 30*time.Second, "a takes writes again", func() bool { return slices.Equal(w.Writable(), []string{"a"}) })
		w.Isolate("c", false)
		settle(t, w, 60*time.Second, "a whole cluster again", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// A person who does not want to wait for that has another take over.
func TestForcedWhileItIsTakenBack(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		write(t, w)
		time.Sleep(time.Second)
		recovers(t, w)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if done, err := h.Failover(ctx, true, "somebody", "a test"); err != nil || done.Primary != "b" || done.Loss == "" {
			t.Errorf("forced: %+v, %v", done, err)
		}
	})
}

// A replica that was set to follow the one that a planned change went to has dropped what it had received and not applied. When the change is taken back it is not counted on before it has that again.
func TestWhoFollowsAnewIsProvedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		var out, drained atomic.Bool // c acknowledges no more, and can be the primary all the same
		h := w.Hold("watcher", nil, func() []mysqlha.Member {
			list := w.Members()
			if drained.Load() {
				list[2].Drained = "a test"
			}
			return list[:map[bool]int{true: 2, false: 3}[out.Load()]]
		}, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		out.Store(true)
		settle(t, w, 60*time.Second, "c does not count", func() bool { return slices.Equal(w.Record().Ackers, []string{"b"}) && !w.Acknowledges("c") })
		drained.Store(true)
		out.Store(false)
		time.Sleep(2 * time.Second)
		w.Stick("b", true) // it receives, and does not apply
		c := write(t, w)
		time.Sleep(100 * time.Millisecond)
		c.end()
		// b follows c when that dies, and gets nothing of the old primary when it follows that again.
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "follow" {
				w.OnEffect(func(host, what string) {
					if host == "c" && what == "take-address" {
						w.OnEffect(nil)
						w.Kill("c")
						w.Silence("c", true)
						w.Link("a", "b", false)
					}
				})
			}
		})
		if done, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err == nil {
			t.Fatalf("a switchover to a dead server: %+v", done)
		}
		settle(t, w, 30*time.Second, "it is taken back", func() bool { return w.Record().Intent == nil })
		if r := w.Record(); r.Primary != "a" || w.Behind("b") > 0 || len(w.Lost("b")) == 0 {
			t.Fatalf("the record is %+v; b has not dropped what it had acknowledged", r)
		}
		w.Power("a", false)
		w.Link("a", "b", true)
		time.Sleep(20 * time.Second)
		if r := w.Record(); r.Primary != "a" {
			t.Errorf("%s was promoted: %+v", r.Primary, r)
		}
		w.Stick("b", false)
		w.Silence("c", false)
		w.Power("a", true)
		drained.Store(false)
		settle(t, w, 60*time.Second, "a whole cluster again", whole(w, 3))
		nothingLost(t, w)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}
