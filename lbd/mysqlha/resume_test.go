package mysqlha_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// resumed runs a change in a cluster of three, and ends the runner before its kth effect; another goes on. It returns how many effects there were.
func resumed(t *testing.T, kill int, stale bool, begin func(w *mysqlhatest.World, h *mysqlhatest.Holder), wait func(w *mysqlhatest.World) bool) (effects []string) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		h := w.Hold("watcher", nil, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		c := write(t, w)
		time.Sleep(300 * time.Millisecond)
		at := make(chan struct{}, 1)
		var mu = make(chan struct{}, 1)
		mu <- struct{}{}
		began := false
		w.OnEffect(func(host, what string) {
			<-mu
			defer func() { mu <- struct{}{} }()
			if !began && what != "kill" && what != "store" {
				return
			}
			began = true
			effects = append(effects, host+" "+what)
			if len(effects) == kill+1 {
				if !stale {
					h.End()
				}
				select {
				case at <- struct{}{}:
				default:
				}
			}
		})
		begin(w, h)
		if kill >= 0 {
			select {
			case <-at:
				if stale {
					// The first does not know that its grant is over; what it says is refused.
					w.Hold("another", nil, nil, logger())
				} else {
					time.Sleep(20 * time.Millisecond)
					w.Hold("another", nil, nil, logger())
				}
			case <-time.After(10 * time.Second):
			}
		}
		if kill != 0 || effects[0] != " store" || w.Record().Epoch > 1 { // else it was never begun, and a command is not given twice
			settle(t, w, 60*time.Second, "the change", func() bool { return wait(w) })
		}
		settle(t, w, 60*time.Second, "a whole cluster again", whole(w, 3))
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
	return effects
}

func TestAnotherRunnerGoesOn(t *testing.T) {
	moved := func(w *mysqlhatest.World) bool { return w.Record().Primary == "b" }
	changes := []struct {
		name  string
		begin func(w *mysqlhatest.World, h *mysqlhatest.Holder)
		wait  func(w *mysqlhatest.World) bool
	}{
		{"failover", func(w *mysqlhatest.World, _ *mysqlhatest.Holder) { w.Kill("a") }, moved},
		{"silent", func(w *mysqlhatest.World, _ *mysqlhatest.Holder) { w.Freeze("a", true) }, moved},
		{"switchover", func(w *mysqlhatest.World, h *mysqlhatest.Holder) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				_, _ = h.Switchover(ctx, "b", "somebody", "a test") // another runner may end it
			}()
		}, func(w *mysqlhatest.World) bool { return w.Record().Epoch > 1 && w.Record().Intent == nil }},
	}
	for _, c := range changes {
		all := resumed(t, -1, false, c.begin, c.wait)
		if len(all) < 20 {
			t.Fatalf("%s: only %d effects: %q", c.name, len(all), all)
		}
		for k := range all {
			if testing.Short() && k%5 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s, before %d, %s", c.name, k, strings.TrimSpace(all[k])), func(t *testing.T) { resumed(t, k, false, c.begin, c.wait) })
			if k%3 > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s, overtaken before %d, %s", c.name, k, strings.TrimSpace(all[k])), func(t *testing.T) { resumed(t, k, true, c.begin, c.wait) })
		}
	}
}

func TestSwitchover(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		done, err := h.Switchover(t.Context(), "c", "somebody", "a test")
		if err != nil || done.Primary != "c" || done.Epoch != 2 {
			t.Fatalf("%+v, %v", done, err)
		}
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
		if c.gap > 200*time.Millisecond {
			t.Errorf("clients could not write for %s", c.gap)
		}
		t.Logf("writes stood still for %s", c.gap)
	})
}

func TestSwitchoverIsTakenBack(t *testing.T) {
	for _, at := range []string{"wait", "take-address", "leave", "source", "follow"} {
		t.Run(at, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				c := write(t, w)
				time.Sleep(time.Second)
				w.OnEffect(func(host, what string) {
					if host == "c" && what == at || at == "follow" && what == at {
						w.OnEffect(nil)
						w.Kill("c")
					}
				})
				if done, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err == nil {
					t.Fatalf("a switchover to a dead server: %+v", done)
				}
				settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
				time.Sleep(time.Second)
				c.end()
				nothingLost(t, w)
				if p := w.Record().Primary; p != "a" {
					t.Errorf("the primary is %s; it was to be as before", p)
				}
			})
		})
	}
}

func TestNeverFailsOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(w *mysqlhatest.World)
		head  mysqlha.Name
	}{
		{"saturated", func(w *mysqlhatest.World) { w.Saturate("a", true) }, ""},
		{"replicas dead", func(w *mysqlhatest.World) { w.Silence("b", true); w.Silence("c", true); w.Kill("b"); w.Kill("c") }, ""},
		{"a replica frozen", func(w *mysqlhatest.World) { w.Freeze("b", true) }, ""},
		{"replicas hang", func(w *mysqlhatest.World) { w.Stick("b", true); w.Stick("c", true) }, ""},
		{"one replica sees it, one does not", func(w *mysqlhatest.World) { w.Link("a", "b", false) }, ""},
		{"replicas do not see it, the watcher does", func(w *mysqlhatest.World) { w.Link("a", "b", false); w.Link("a", "c", false) }, ""},
		{"the watcher does not see it, replicas do", func(w *mysqlhatest.World) { w.Link("a", "watcher", false) }, mysqlha.PrimarySuspect},
		{"the watcher sees nobody", func(w *mysqlhatest.World) {
			for _, h := range []string{"a", "b", "c"} {
				w.Link(h, "watcher", false)
			}
		}, mysqlha.Blind},
		{"the agent of the primary is silent for a while", func(w *mysqlhatest.World) {
			w.Silence("a", true)
			time.Sleep(mysqlha.RestartGrace - time.Second)
			w.Silence("a", false)
		}, ""},
		{"the quorum is lost, and then the primary", func(w *mysqlhatest.World) { w.Quorum(false); time.Sleep(8 * time.Second); w.Kill("a") }, mysqlha.QuorumLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				cl := write(t, w)
				time.Sleep(time.Second)
				c.fault(w)
				time.Sleep(20 * time.Second)
				cl.end()
				if r := w.Record(); r.Epoch != 1 || r.Primary != "a" || r.Intent != nil {
					t.Errorf("it failed over: %+v", r)
				}
				if p := h.Picture(); c.head != "" && !slices.ContainsFunc(p.Diagnoses, func(d mysqlha.Diagnosis) bool { return d.Name == c.head }) {
					t.Errorf("it was not said that %q: %+v", c.head, p.Diagnoses)
				}
			})
		})
	}
}

func TestPolicies(t *testing.T) {
	manual := func(w *mysqlhatest.World) func() section.MySQL {
		return func() section.MySQL {
			s := w.Section()
			s.Failover = section.Manual
			return s
		}
	}
	t.Run("manual, and restarted as the primary", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := mysqlhatest.New("shop-db", 3, true)
			defer w.Close()
			w.Hold("watcher", manual(w), nil, logger())
			settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
			c := write(t, w)
			time.Sleep(time.Second)
			w.Kill("a")
			settle(t, w, 20*time.Second, "the same primary", func() bool { return slices.Equal(w.Writable(), []string{"a"}) })
			settle(t, w, 20*time.Second, "a whole cluster", whole(w, 3))
			c.end()
			nothingLost(t, w)
			if r := w.Record(); r.Epoch != 1 {
				t.Errorf("epoch %d", r.Epoch)
			}
		})
	})
	t.Run("one an hour, unless acknowledged", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.Kill("a")
			settle(t, w, 20*time.Second, "a whole cluster", func() bool { return w.Record().Primary == "b" && whole(w, 3)() })
			w.Isolate("b", true)
			time.Sleep(20 * time.Second)
			if r := w.Record(); r.Epoch != 2 {
				t.Fatalf("a second failover: %+v", r)
			}
			if _, err := h.Ack(t.Context(), "somebody", "seen"); err != nil {
				t.Fatal(err)
			}
			settle(t, w, 20*time.Second, "another primary", func() bool { return w.Record().Epoch == 3 && w.Record().Intent == nil })
			w.Isolate("b", false)
			settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		})
	})
	t.Run("paused", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			if _, err := h.Pause(t.Context(), "somebody", "works on it"); err != nil {
				t.Fatal(err)
			}
			w.Kill("a")
			time.Sleep(20 * time.Second)
			if r := w.Record(); r.Epoch != 1 || len(w.Writable()) > 0 {
				t.Fatalf("something was done: %+v, %v", r, w.Writable())
			}
			if _, err := h.Resume(t.Context(), "somebody", "done"); err != nil {
				t.Fatal(err)
			}
			settle(t, w, 20*time.Second, "a whole cluster", whole(w, 3))
		})
	})
	t.Run("strict stops without the position of one, and goes on when it is back", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			c := write(t, w)
			time.Sleep(time.Second)
			w.Isolate("c", true)
			w.Kill("a")
			w.Silence("a", true)
			time.Sleep(5 * time.Second)
			if p := h.Picture(); w.Record().Primary != "a" || p.Action.Act != mysqlha.ActPage {
				t.Fatalf("promoted without knowing what c has: %+v, %+v", w.Record(), p.Action)
			}
			w.Isolate("c", false)
			settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
			w.Silence("a", false)
			settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
			c.end()
			nothingLost(t, w)
		})
	})
	t.Run("available goes on, and says so", func(t *testing.T) {
		in(t, 3, false, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.Isolate("c", true)
			w.Kill("a")
			settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
			if e := w.Record().History; len(e) == 0 || !strings.Contains(e[0].Loss, "c does not answer") {
				t.Errorf("the loss was not announced: %+v", e)
			}
			w.Isolate("c", false)
			settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
		})
	})
	t.Run("forced", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.Power("c", false)
			w.Power("a", false)
			time.Sleep(5 * time.Second)
			if _, err := h.Failover(t.Context(), false, "somebody", "it is gone"); err == nil {
				t.Fatal("a failover that may lose something, without force")
			}
			done, err := h.Failover(t.Context(), true, "somebody", "it is gone")
			if err != nil || done.Primary != "b" || done.Loss == "" {
				t.Fatalf("%+v, %v", done, err)
			}
		})
	})
}

func TestWholeClusterComesBackInAnyOrder(t *testing.T) {
	for _, order := range []string{"abc", "acb", "bac", "bca", "cab", "cba"} {
		t.Run(order, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
				c := write(t, w)
				time.Sleep(time.Second)
				for _, h := range []string{"c", "a", "b"} {
					w.Power(h, false)
				}
				time.Sleep(5 * time.Second)
				for _, h := range order {
					w.Power(string(h), true)
					time.Sleep(4 * time.Second)
				}
				settle(t, w, 120*time.Second, "a whole cluster", whole(w, 3))
				time.Sleep(time.Second)
				c.end()
				nothingLost(t, w)
			})
		})
	}
}

func TestMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		w.Empty("d")
		members := w.Members()[:3]
		w.Hold("watcher", nil, func() []mysqlha.Member { return members }, logger())
		three := func() bool { r := w.Record(); return len(r.Ackers) == 2 && w.Address() == "a" }
		settle(t, w, 10*time.Second, "three", three)
		c := write(t, w)
		time.Sleep(time.Second)
		members = w.Members() // d gets the tag
		settle(t, w, 30*time.Second, "a new member that acknowledges", whole(w, 4))
		members = slices.Concat(w.Members()[:1], w.Members()[2:]) // b loses it
		settle(t, w, 30*time.Second, "one less", func() bool { return slices.Equal(w.Record().Ackers, []string{"c", "d"}) })
		w.Isolate("d", true)
		settle(t, w, 60*time.Second, "an acker that is away does not count", func() bool { return slices.Equal(w.Record().Ackers, []string{"c"}) && len(w.Record().Shut) == 1 })
		w.Kill("a")
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "c" && w.Record().Intent == nil })
		w.Isolate("d", false)
		settle(t, w, 60*time.Second, "d and a acknowledge", func() bool { return slices.Equal(w.Record().Ackers, []string{"a", "d"}) && len(w.Record().Starts) == 2 })
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}

// TestTakenBackBeside: a failover that stops, because a replica that acknowledges went away meanwhile, goes back to the server that it has killed. That is
// started beside: whoever watches goes on watching, as recovery may take long.
func TestTakenBackBeside(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		var starts []time.Time // when it was begun, of the picture
		w.OnEffect(func(host, what string) {
			if what == "kill" {
				w.Isolate("c", true)
			}
			if host == "a" && what == "start-server" {
				starts = append(starts, h.Picture().At)
			}
		})
		w.Freeze("a", true)
		settle(t, w, 60*time.Second, "it was stopped, and is taken back", func() bool {
			i := w.Record().Intent
			return i != nil && i.Step == mysqlha.StepWithdraw
		})
		busy := map[time.Time]bool{}
		settle(t, w, 60*time.Second, "a takes writes again", func() bool {
			if p := h.Picture(); p.Observations.Busy["a"] != "" {
				busy[p.At] = true
			}
			return slices.Equal(w.Writable(), []string{"a"})
		})
		if len(busy) < 2 {
			t.Errorf("while a was started, it was looked %d times: who watches waited for it", len(busy))
		}
		if len(starts) != 1 {
			t.Errorf("a was started %d times", len(starts))
		}
		w.Isolate("c", false)
		settle(t, w, 60*time.Second, "a whole cluster again", whole(w, 3))
		c.end()
		nothingLost(t, w)
		if r := w.Record(); r.Primary != "a" || !r.LastFailover.IsZero() {
			t.Errorf("the record is %+v", r)
		}
	})
}
