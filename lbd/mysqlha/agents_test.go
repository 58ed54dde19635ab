package mysqlha_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// well ends a test: nothing was lost, and what must never be never was.
func well(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	nothingLost(t, w)
	if faults := w.Faults(); len(faults) > 0 {
		t.Errorf("never to be: %s", strings.Join(faults, "; "))
	}
}

// TestAgentOfThePrimaryRestarts: one that is stopped in order, and started again in time, leaves no gap, and nothing is handed over.
func TestAgentOfThePrimaryRestarts(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		for _, away := range []time.Duration{time.Second, 4 * time.Second, 9 * time.Second} {
			w.StopAgent("a")
			time.Sleep(away)
			if p := h.Picture(); p.Diagnoses[0].Name != mysqlha.PrimaryUnseen || p.Diagnoses[0].Name.Severity() != mysqlha.Notice {
				t.Errorf("after %s it has %+v", away, p.Diagnoses)
			}
			w.StartAgent("a")
			time.Sleep(15 * time.Second)
		}
		c.end()
		if c.gap > 300*time.Millisecond {
			t.Errorf("no write for %s", c.gap)
		}
		if r := w.Record(); r.Primary != "a" || r.Epoch != 1 {
			t.Errorf("%+v", r)
		}
		well(t, w)
	})
}

// TestAgentOfThePrimaryIsGone: another server takes over from one that lives, without loss, once the agent had time to be started again; the next time a person has to know of the first.
func TestAgentOfThePrimaryIsGone(t *testing.T) {
	for name, end := range map[string]func(w *mysqlhatest.World, host string){
		"killed": (*mysqlhatest.World).KillAgent, "stopped": (*mysqlhatest.World).StopAgent,
		"hangs": func(w *mysqlhatest.World, host string) { w.Silence(host, true) },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				c := write(t, w)
				time.Sleep(time.Second)
				end(w, "a")
				time.Sleep(mysqlha.RestartGrace - time.Second)
				if r := w.Record(); r.Epoch != 1 || r.Intent != nil {
					t.Fatalf("it was not waited for: %+v", r)
				}
				took := settle(t, w, 10*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary == "b" && r.Intent == nil })
				t.Logf("after %s more", took)
				settle(t, w, 10*time.Second, "writes at the address", func() bool { return w.Address() == "b" })
				r := w.Record()
				if r.LastFailover.IsZero() || !strings.HasPrefix(r.History[0].What, "switchover from a to b") || r.History[0].Loss != "" {
					t.Errorf("%+v", r)
				}
				// The old one is a replica, though nobody can order its agent anything.
				settle(t, w, 30*time.Second, "two that acknowledge", func() bool { return len(w.Record().Ackers) == 2 })
				time.Sleep(time.Second)
				w.Silence("a", false)
				settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
				// A second one within the hour is a person's.
				end(w, "b")
				time.Sleep(mysqlha.RestartGrace + 5*time.Second)
				if r := w.Record(); r.Primary != "b" {
					t.Errorf("two within the hour: %+v", r)
				}
				if p := h.Picture(); p.Action.Act != mysqlha.ActPage || !strings.Contains(p.Action.Why, "hostmesh mysql ack") {
					t.Errorf("%+v, %+v", p.Action, p.Diagnoses)
				}
				if _, err := h.Ack(t.Context(), "somebody", "seen"); err != nil {
					t.Fatal(err)
				}
				settle(t, w, 30*time.Second, "another primary again", func() bool { r := w.Record(); return r.Primary != "b" && r.Intent == nil })
				w.Silence("b", false)
				settle(t, w, 30*time.Second, "a whole cluster again", whole(w, 3))
				c.end()
				well(t, w)
			})
		})
	}
}

// TestAgentOfThePrimaryIsGoneAndAPersonDecides: with Failover manual nothing is done, and that is told; the command works without the agent.
func TestAgentOfThePrimaryIsGoneAndAPersonDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		h := w.Hold("watcher", func() section.MySQL { s := w.Section(); s.Failover = section.Manual; return s }, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		c := write(t, w)
		time.Sleep(time.Second)
		w.KillAgent("a")
		time.Sleep(mysqlha.RestartGrace + 20*time.Second)
		if p := h.Picture(); w.Record().Epoch != 1 || p.Action.Act != mysqlha.ActPage || !strings.Contains(p.Action.Why, "hostmesh mysql switchover shop-db") || p.Diagnoses[0].Name.Severity() != mysqlha.Grave {
			t.Errorf("%+v, %+v", p.Action, p.Diagnoses)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := h.Switchover(ctx, "", "somebody", "the agent is gone"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
		if r := w.Record(); r.Primary == "a" || !r.LastFailover.IsZero() {
			t.Errorf("%+v", r)
		}
		settle(t, w, 10*time.Second, "the address", func() bool { return w.Address() == w.Record().Primary })
		w.Silence("a", false)
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		well(t, w)
		h.Kill()
	})
}

// TestPrimaryDiesWhileItsAgentIsAway: the server of an agent that was stopped in order dies: the failover does not wait, and the address comes when the old box has it no more.
func TestPrimaryDiesWhileItsAgentIsAway(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.StopAgent("a")
		time.Sleep(2 * time.Second)
		w.Kill("a")
		took := settle(t, w, 10*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary != "a" && r.Intent == nil })
		if took > 5*time.Second {
			t.Errorf("a failover waited %s", took)
		}
		next := w.Record().Primary
		settle(t, w, mysqlha.RestartGrace+2*time.Second, "the address", func() bool { return w.Address() == next })
		w.StartAgent("a")
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		well(t, w)
	})
}

// TestCutsThatWereFlushedDoNotCount: a failover has stopped, and the host of one that was cut is set back by hand: it is cut again before anybody is promoted.
func TestCutsThatWereFlushedDoNotCount(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		// c alone is away when the gate is reached: strict stops.
		began, flushed := false, false
		w.OnEffect(func(host, what string) {
			switch {
			case what == "kill" && !began:
				began = true
				w.Isolate("c", true)
			case what == "take-address" && flushed && (w.Reaches("b", "a") || w.Reaches("c", "a")):
				t.Errorf("%s is promoted while somebody receives from a", host)
			}
		})
		w.Silence("a", true)
		w.Freeze("a", true)
		settle(t, w, 30*time.Second, "a change that has stopped", func() bool { i := w.Record().Intent; return i != nil && i.Stopped != "" })
		// The old primary goes on, where the watcher does not see it, and somebody has b receive from it.
		w.Link("a", "watcher", false)
		w.Freeze("a", false)
		w.Flush("b")
		flushed = true
		w.Silence("b", true)
		w.Stubborn("b", true) // it can be asked, and its thread does not stop
		w.Isolate("c", false)
		time.Sleep(20 * time.Second)
		if i := w.Record().Intent; i == nil || i.Stopped == "" || !strings.Contains(i.Stopped, "b could not be cut from a") {
			t.Fatalf("%+v", i)
		}
		w.Silence("b", false)
		w.Stubborn("b", false)
		settle(t, w, 60*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary != "a" && r.Intent == nil })
		w.Silence("a", false)
		w.Link("a", "watcher", true)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		well(t, w)
	})
}

// TestRejoinSeenFromAHostThatWasCut: who watches is on the host of a replica that was cut from the old primary, and its own connections are cut with that, as in builds before: the old one rejoins all the same.
func TestRejoinSeenFromAHostThatWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		w.CutAgents()
		h := w.Hold("c", nil, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		settle(t, w, 10*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary == "b" && r.Intent == nil })
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		well(t, w)
		h.Kill()
	})
}

// TestAvailableSideOfACut: the primary is cut off from the quorum together with one of two that acknowledge, and the other side promotes somebody: the address does not stay where it was.
func TestAvailableSideOfACut(t *testing.T) {
	in(t, 3, false, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		time.Sleep(time.Second)
		for _, side := range []string{"a", "b"} {
			w.Link(side, "c", false)
			w.Link(side, "watcher", false)
			w.NoQuorumAt(side, true)
		}
		settle(t, w, 30*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary == "c" && r.Intent == nil })
		time.Sleep(5 * time.Second)
		if at := w.Address(); at != "c" {
			t.Errorf("the address is at %q", at)
		}
		if w.Has("a") {
			t.Error("the side without the quorum has the address still")
		}
	})
}

// TestStrictSideOfACut: in durability strict the same cut promotes nobody, for one that acknowledges is on the other side: the address stays where writes are acknowledged.
func TestStrictSideOfACut(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		time.Sleep(time.Second)
		for _, side := range []string{"a", "b"} {
			w.Link(side, "c", false)
			w.Link(side, "watcher", false)
			w.NoQuorumAt(side, true)
		}
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			if r := w.Record(); r.Primary != "a" || !w.Has("a") {
				t.Fatalf("%+v, the address is at %q", r, w.Address())
			}
		}
	})
}

// TestRecordThatWasLost: the record is an older one, as after the group that grants duties was recovered from who lacked the last: nothing is done, for the primary may be another, until a person has it made anew.
func TestRecordThatWasLost(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		old := w.Record()
		c := write(t, w)
		defer c.end()
		for _, to := range []string{"b", "c"} {
			if _, err := h.Switchover(t.Context(), to, "somebody", "a test"); err != nil {
				t.Fatal(err)
			}
			if r := h.Picture().Cluster.Record; r.Primary != to || r.Intent != nil { // who asked for it, and looks then
				t.Errorf("a switchover to %s is done, and what is shown is %+v", to, r)
			}
			settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		}
		w.Lose(old)
		time.Sleep(5 * time.Second)
		p := h.Picture()
		if p.Diagnoses[0].Name != mysqlha.RecordBehind || p.Action.Act != mysqlha.ActNone || len(w.Writable()) != 1 || w.Writable()[0] != "c" {
			t.Fatalf("%+v, %+v, %v take writes", p.Diagnoses[0], p.Action, w.Writable())
		}
		plan, err := h.Setup(t.Context(), "", false, "somebody")
		if err != nil || !strings.Contains(strings.Join(plan.Lines, "\n"), "c is the primary") || !strings.Contains(plan.Lines[0], "made anew") {
			t.Fatalf("%+v, %v", plan, err)
		}
		if _, err := h.Setup(t.Context(), "", true, "somebody"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		if r := w.Record(); r.Primary != "c" || r.Epoch <= 3 {
			t.Errorf("%+v", r)
		}
		w.Kill("c")
		settle(t, w, 30*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary != "c" && r.Intent == nil })
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		well(t, w)
	})
}

// TestNumbersThatBeginAnew: the group that grants duties was founded anew, and so numbers are lower than hosts have seen: a record that is made then is obeyed, and whoever has the old numbers is not.
func TestNumbersThatBeginAnew(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		h.Kill()
		c := write(t, w)
		defer c.end()
		for range 7 {
			w.Grant()
		}
		late := w.Hold("watcher", nil, nil, logger())
		if _, err := late.Switchover(t.Context(), "b", "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		w.NoRecord()
		w.Found()
		next := w.Hold("another", nil, nil, logger())
		if next.Fence >= late.Fence {
			t.Fatalf("numbers %d and %d", next.Fence, late.Fence)
		}
		time.Sleep(2 * time.Second)
		if _, err := next.Setup(t.Context(), "", true, "somebody"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		w.Kill("b")
		settle(t, w, 30*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary != "b" && r.Intent == nil })
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		well(t, w)
	})
}
