package mysqlha_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// A replica whose agent is silent cannot be cut by its host: then its thread is stopped, and that is a cut.
func TestAReplicaIsCutByItsThread(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Silence("b", true)
		w.Silence("a", true)
		w.Freeze("a", true)
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
		w.Freeze("a", false)
		time.Sleep(5 * time.Second)
		for _, host := range []string{"a", "b"} {
			w.Silence(host, false)
		}
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// A change that is taken back, or begins anew with another, has another epoch: what was ordered for it is refused from then on.
func TestWhatIsTakenBackHasAnotherEpoch(t *testing.T) {
	t.Run("switchover", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.OnEffect(func(host, what string) {
				if host == "c" && what == "leave" {
					w.OnEffect(nil)
					w.Kill("c")
				}
			})
			if _, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err == nil {
				t.Fatal("a switchover to a dead server")
			}
			if r := w.Record(); r.Primary != "a" || r.Epoch != 3 {
				t.Errorf("the primary is %s, and the epoch %d; want a, and 3", r.Primary, r.Epoch)
			}
		})
	})
	t.Run("failover, chosen again", func(t *testing.T) {
		in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			c := write(t, w)
			time.Sleep(time.Second)
			w.OnEffect(func(host, what string) {
				if host == "b" && what == "leave" {
					w.OnEffect(nil)
					w.Kill("b")
					w.Silence("b", true)
				}
			})
			w.Kill("a")
			// b, which has acknowledged, is gone as well; what must not be lost was found out before, and others have it.
			settle(t, w, 60*time.Second, "another primary", func() bool { return w.Record().Intent == nil && w.Record().Epoch > 1 })
			if r := w.Record(); r.Epoch != 3 || r.Primary == "a" || r.Primary == "b" {
				t.Errorf("the primary is %s, and the epoch %d; want c or d, and 3", r.Primary, r.Epoch)
			}
			w.Silence("b", false)
			settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
			c.end()
			nothingLost(t, w)
		})
	})
	t.Run("failover, taken back", func(t *testing.T) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.OnEffect(func(host, what string) {
				if what == "kill" {
					w.OnEffect(nil)
					w.Isolate("c", true)
				}
			})
			w.Freeze("a", true)
			settle(t, w, 60*time.Second, "it is taken back", func() bool { return w.Record().Intent == nil && w.Record().Epoch > 1 })
			if r := w.Record(); r.Primary != "a" || r.Epoch != 3 {
				t.Errorf("the primary is %s, and the epoch %d; want a, and 3", r.Primary, r.Epoch)
			}
			w.Isolate("c", false)
		})
	})
}

// Whoever opens reads the record again first: what another has decided since counts.
func TestWhoOpensReadsTheRecordAgain(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		var opened atomic.Bool
		var altered atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "writable" && altered.Load() {
				opened.Store(true)
			}
		})
		go func() {
			for w.Context().Err() == nil && !altered.Load() {
				if i := w.Record().Intent; i != nil && i.Step == mysqlha.StepOpen {
					altered.Store(true)
					w.Alter(func(r *mysqlha.Record) {
						r.Epoch++
						r.Primary, r.Intent, r.Ackers = "c", nil, []string{"b"}
						r.Fenced = map[string]string{"a": "a test", "b": "a test"}
					})
				}
				time.Sleep(time.Millisecond)
			}
		}()
		w.Kill("a")
		settle(t, w, 30*time.Second, "it was altered", altered.Load)
		time.Sleep(500 * time.Millisecond)
		if opened.Load() {
			t.Error("b was opened, and the record names c by now")
		}
	})
}

// What opens a server arrives when another runner has made it a replica: it takes no writes.
func TestWhatOpensIsRefusedByOneThatWaitsForNobody(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		var seen atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "writable" {
				w.OnEffect(nil)
				w.Demote("b")
				go func() {
					time.Sleep(20 * time.Millisecond)
					if slices.Contains(w.Writable(), "b") {
						t.Error("b takes writes, and waits for nobody")
					}
					seen.Store(true)
				}()
			}
		})
		w.Kill("a")
		settle(t, w, 30*time.Second, "it was tried", seen.Load)
	})
}

// strict, and the failover that a person forced leaves nobody who acknowledges: the new primary takes no writes, the answer says so, and it does as soon as one is back.
func TestForcedWithoutAReplica(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		w.Power("a", false)
		settle(t, w, 30*time.Second, "it is looked at", func() bool { return w.Record().Intent == nil })
		time.Sleep(3 * time.Second)
		r := w.Record()
		if r.Primary != "b" {
			if _, err := h.Failover(t.Context(), true, "somebody", "it is gone"); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, w, 30*time.Second, "b is the primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		time.Sleep(2 * time.Second)
		if len(w.Writable()) > 0 {
			t.Errorf("%v take writes, and nobody acknowledges", w.Writable())
		}
		p := h.Picture()
		if d := p.Diagnoses[0]; d.Name != mysqlha.PrimaryReadOnly || !strings.Contains(d.Text, "before a replica acknowledges") || !strings.Contains(d.Remedy, "Durability available") || len(d.Evidence) == 0 {
			t.Errorf("it is said: %+v", d)
		}
		w.Power("a", true)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 2))
	})
}

// A switchover that is taken back in a cluster where nobody acknowledges leaves the primary as a start does.
func TestTakenBackWithoutAReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 2, true)
		defer w.Close()
		w.Alter(func(r *mysqlha.Record) {
			r.Epoch, r.Ackers, r.Starts = 5, nil, nil
			r.Intent = &mysqlha.Intent{Kind: mysqlha.Switchover, Step: mysqlha.StepWithdraw, Old: "a", To: "b", Why: "a test"}
		})
		w.ReadOnly("a")
		w.Silence("b", true)
		w.Kill("b")
		h := w.Hold("watcher", nil, nil, logger())
		settle(t, w, 30*time.Second, "it is taken back", func() bool { return w.Record().Intent == nil })
		time.Sleep(time.Second)
		if len(w.Writable()) > 0 {
			t.Errorf("%v take writes, and nobody acknowledges", w.Writable())
		}
		if p := h.Picture(); p.Diagnoses[0].Name != mysqlha.PrimaryReadOnly {
			t.Errorf("%+v", p.Diagnoses)
		}
		w.Silence("b", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 2))
	})
}

// The next primary of a switchover is gone before it took writes, where a person decides: nobody else is chosen, and a person can choose.
func TestAPersonChoosesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		manual := func() section.MySQL {
			s := w.Section()
			s.Failover = section.Manual
			return s
		}
		h := w.Hold("watcher", manual, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 4))
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "writable" {
				w.OnEffect(nil)
				w.Freeze("c", true)
			}
		})
		if done, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err == nil {
			t.Fatalf("a switchover to one that stands still: %+v", done)
		}
		time.Sleep(20 * time.Second)
		if r := w.Record(); r.Primary != "c" || r.Intent == nil || r.Intent.Step != mysqlha.StepOpen {
			t.Fatalf("another was chosen: %+v, %+v", r, r.Intent)
		}
		if p := h.Picture(); p.Action.Act != mysqlha.ActPage || !strings.Contains(p.Action.Why, "hostmesh mysql failover") {
			t.Errorf("nobody is told: %+v", p.Action)
		}
		if done, err := h.Failover(t.Context(), false, "somebody", "c stands still"); err != nil || done.Primary == "c" {
			t.Fatalf("%+v, %v", done, err)
		}
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// A member that loses the tag while it alone acknowledges stays counted until another has all; what it has acknowledged is not lost with it.
func TestARemovedMemberDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		w.Empty("c")
		var members atomic.Pointer[[]mysqlha.Member]
		set := func(list ...mysqlha.Member) { members.Store(&list) }
		all := w.Members()
		set(all[:2]...)
		w.Hold("watcher", nil, func() []mysqlha.Member { return *members.Load() }, logger())
		settle(t, w, 10*time.Second, "b acknowledges", func() bool { return slices.Equal(w.Record().Ackers, []string{"b"}) && w.Address() == "a" })
		c := write(t, w)
		time.Sleep(time.Second)
		set(all[0]) // b loses the tag
		time.Sleep(20 * time.Second)
		if r := w.Record(); !slices.Equal(r.Ackers, []string{"b"}) {
			t.Fatalf("b alone acknowledges, and is counted no more: %v", r.Ackers)
		}
		before := w.Acknowledged()
		time.Sleep(time.Second)
		if w.Acknowledged() == before {
			t.Error("writes stand still, and b is there to acknowledge them")
		}
		set(all[0], all[2]) // c comes
		settle(t, w, 60*time.Second, "c alone is counted", func() bool { return slices.Equal(w.Record().Ackers, []string{"c"}) })
		time.Sleep(time.Second)
		if w.Acknowledges("b") {
			t.Error("b acknowledges still")
		}
		if at, is := w.Record().Starts["b"]; is {
			t.Errorf("b is not counted, and the record has since when it has all: %s", at)
		}
		w.Power("b", false) // it may be switched off now
		time.Sleep(time.Second)
		w.Kill("a")
		settle(t, w, 30*time.Second, "c is the primary", func() bool { return w.Record().Primary == "c" && w.Record().Intent == nil })
		settle(t, w, 60*time.Second, "a acknowledges", func() bool { return slices.Equal(w.Record().Ackers, []string{"a"}) })
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}

// A replica whose applying thread is stopped, and the primary dies: that thread is started before the other is stopped, for with both stopped what it has received would go with the next start.
func TestWhatIsReceivedIsAppliedBeforeTheOtherThreadIsStopped(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.StopSQL("b")
		time.Sleep(7 * time.Millisecond) // nobody has seen it yet, and something was received
		w.Kill("a")
		w.Silence("a", true)
		settle(t, w, 30*time.Second, "b is the primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		w.Silence("a", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 2))
		c.end()
		nothingLost(t, w)
	})
}

// A replica that could be cut neither by its host nor by its thread is none that is cut: the failover stops, and goes on when it is.
func TestWhoIsNotCutIsNotCounted(t *testing.T) {
	for name, c := range map[string]struct{ fault, mend func(w *mysqlhatest.World) }{
		"it answers nobody":  {func(w *mysqlhatest.World) { w.Isolate("c", true) }, func(w *mysqlhatest.World) { w.Isolate("c", false) }},
		"its thread goes on": {func(w *mysqlhatest.World) { w.Silence("c", true); w.Heedless("c", true) }, func(w *mysqlhatest.World) { w.Heedless("c", false) }},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
				cl := write(t, w)
				time.Sleep(time.Second)
				w.Silence("a", true)
				w.OnEffect(func(host, what string) {
					if what == "kill" {
						w.OnEffect(nil)
						c.fault(w)
					}
				})
				w.Freeze("a", true)
				settle(t, w, 30*time.Second, "it has stopped", func() bool { i := w.Record().Intent; return i != nil && i.Stopped != "" })
				if i := w.Record().Intent; !slices.Equal(i.Cut, []string{"b"}) || !strings.Contains(i.Stopped, "c") {
					t.Errorf("cut are %v, and it has stopped because %s", i.Cut, i.Stopped)
				}
				time.Sleep(5 * time.Second)
				if r := w.Record(); r.Primary != "a" {
					t.Errorf("the primary is %s", r.Primary)
				}
				c.mend(w)
				settle(t, w, 30*time.Second, "it goes on", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
				w.Silence("a", false)
				w.Silence("c", false)
				settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
				cl.end()
				nothingLost(t, w)
			})
		})
	}
}

// A host whose agent is silent, and that is a machine, has its power cut.
func TestAMachineIsDestroyedWhoseAgentIsSilent(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		var destroyed atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "a" && what == "destroy" {
				destroyed.Store(true)
			}
		})
		w.VM("a", true)
		w.Silence("a", true)
		w.Freeze("a", true)
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
		settle(t, w, 30*time.Second, "its power is cut", destroyed.Load)
		time.Sleep(time.Second)
		w.Silence("a", false)
		w.Power("a", true)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
	})
}

// The one that was chosen drops what it has received before it was applied: it is not waited for, another is chosen.
func TestOneThatDropsWhatItHasIsNotWaitedFor(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Stick("b", true)
		w.Stick("c", true)
		time.Sleep(50 * time.Millisecond)
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "wait" {
				w.OnEffect(nil)
				w.Purge("b")
				w.Stick("c", false)
			}
		})
		w.Kill("a")
		settle(t, w, 30*time.Second, "c is the primary", func() bool { return w.Record().Primary == "c" && w.Record().Intent == nil })
		w.Stick("b", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// Somebody opens the one that was chosen before the record names it: it does not become the primary like that.
func TestOneThatSomebodyOpensIsNotTakenAsItIs(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "follow" {
				w.OnEffect(nil)
				w.Open("b")
			}
		})
		w.Kill("a")
		settle(t, w, 60*time.Second, "a whole cluster", func() bool { return w.Record().Epoch > 1 && whole(w, 3)() })
		if r := w.Record(); r.Epoch < 3 {
			t.Errorf("the epoch is %d, as if nothing had happened", r.Epoch)
		}
	})
}

// The old primary of a planned change that could not be told to follow is one that has to rejoin.
func TestAnOldPrimaryThatIsAwayRejoins(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "leave" {
				w.OnEffect(nil)
				w.Isolate("a", true)
			}
		})
		if done, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err != nil || done.Primary != "c" {
			t.Fatalf("%+v, %v", done, err)
		}
		if w.Record().Fenced["a"] == "" {
			t.Errorf("a may be a primary still: %+v", w.Record())
		}
		w.Isolate("a", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// Whoever opens a primary that was started anew reads the record again first, too.
func TestWhoOpensAfterAStartReadsTheRecordAgain(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		time.Sleep(300 * time.Millisecond)
		var opened atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "a" && what == "writable" {
				opened.Store(true)
			}
		})
		w.Alter(func(r *mysqlha.Record) {
			r.Epoch++
			r.Primary, r.Ackers, r.Starts = "b", []string{"c"}, nil
			r.Fenced = map[string]string{"a": "a test"}
		})
		w.Restart("a")
		time.Sleep(3 * time.Second)
		if opened.Load() {
			t.Error("a was opened, and the record names b by now")
		}
	})
}

// An acker that somebody set to follow another may have dropped what it had received: before it is set to follow the primary again it is written that it is not counted on.
func TestAnAckerThatFollowedAnotherIsNotCountedOn(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		var followed atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "follow" {
				if at, is := w.Record().Starts["c"]; is {
					t.Errorf("c has all since %s by the record", at)
				}
				followed.Store(true)
			}
		})
		w.Astray("c", "b")
		settle(t, w, 30*time.Second, "it follows again", followed.Load)
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
	})
}

// A former member is counted until another has what it acknowledged last, also when the other fell behind meanwhile.
func TestAMemberIsDismissedWhenAnotherHasAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		var members atomic.Pointer[[]mysqlha.Member]
		all := w.Members()
		members.Store(&all)
		w.Hold("watcher", nil, func() []mysqlha.Member { return *members.Load() }, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		c := write(t, w)
		time.Sleep(time.Second)
		told := make(chan bool, 1)
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "acker" {
				w.OnEffect(nil)
				w.Link("a", "b", false)
				told <- true
			}
		})
		two := all[:2]
		members.Store(&two)
		<-told
		time.Sleep(4 * time.Second)
		// Where nothing was written in that moment b has all, and c may go.
		if r, lacks := w.Record(), w.Lost("b"); len(lacks) > 0 && !slices.Contains(r.Ackers, "c") {
			t.Errorf("b has not got %v, which c acknowledged, and counted are %v", lacks, r.Ackers)
		}
		w.Link("a", "b", true)
		settle(t, w, 60*time.Second, "b alone is counted", func() bool { return slices.Equal(w.Record().Ackers, []string{"b"}) })
		c.end()
		nothingLost(t, w)
	})
}

// A failover that a person asked for is that person's when another has to be chosen at its end: it is none that was made by itself.
func TestTheEndOfAFailoverIsWhoseItsBeginWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		manual := func() section.MySQL {
			s := w.Section()
			s.Failover = section.Manual
			return s
		}
		h := w.Hold("watcher", manual, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 4))
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if host == "b" && what == "writable" {
				w.OnEffect(nil)
				w.Freeze("b", true)
			}
		})
		w.Freeze("a", true)
		time.Sleep(3 * time.Second)
		_, _ = h.Failover(t.Context(), false, "somebody", "a stands still") // b does not answer at its end
		settle(t, w, 60*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary != "a" && r.Primary != "b" && r.Intent == nil })
		if r := w.Record(); !r.LastFailover.IsZero() || len(r.History) == 0 || !slices.ContainsFunc(r.History, func(e mysqlha.Event) bool { return e.Took > 0 && e.By == "somebody" }) {
			t.Errorf("the record is %+v", r)
		}
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// A failover that a person has forced, and that nobody is left for, is taken back to the server that it has killed.
func TestForcedAndNobodyIsLeft(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if what == "kill" {
				w.OnEffect(nil)
				w.Power("b", false)
			}
		})
		if done, err := h.Failover(t.Context(), true, "somebody", "a test"); err == nil {
			t.Fatalf("a failover to nobody: %+v", done)
		}
		settle(t, w, 60*time.Second, "it is taken back", func() bool { return w.Record().Primary == "a" && w.Record().Intent == nil })
		if _, err := h.Failover(t.Context(), true, "somebody", "again"); err == nil || !strings.Contains(err.Error(), "no replica could take over") {
			t.Errorf("another one: %v", err)
		}
		w.Power("b", true)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 2))
		c.end()
		nothingLost(t, w)
	})
}

// A former primary that has not rejoined is told nothing by a change: what it has is looked at first.
func TestOneThatHasNotRejoinedIsToldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		h := w.Hold("watcher", nil, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 4))
		if _, err := h.Pause(t.Context(), "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		w.Alter(func(r *mysqlha.Record) {
			r.Fenced = map[string]string{"d": "a test"}
			r.Ackers = []string{"b", "c"}
			delete(r.Starts, "d")
		})
		time.Sleep(2 * time.Second)
		var told atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "d" && what == "follow" {
				told.Store(true)
			}
		})
		if _, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		if told.Load() {
			t.Error("d was told to follow")
		}
		if _, err := h.Resume(t.Context(), "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
	})
}
