package mysqlha_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// One that was away during a failover was told nothing: it must not acknowledge what the new primary writes before it is counted.
func TestReviewOneThatComesBackDoesNotAcknowledgeUncounted(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		w.OnEffect(func(host, what string) {
			if what == "promote" || host == "b" && what == "leave" {
				w.OnEffect(nil)
				w.Isolate("c", true)
			}
		})
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		if slices.Contains(w.Record().Ackers, "c") {
			t.Fatalf("c was told: %v", w.Record().Ackers)
		}
		w.Isolate("c", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 4))
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
	})
}

// A person has an acker made a copy of another, while the other acker is behind: what only it has acknowledged must not be forgotten.
func TestReviewAnAckerIsNotReplacedWhileItAloneHasAll(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Link("a", "b", false) // b receives nothing: all is acknowledged by c alone
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if _, err := h.Clone(ctx, "a", "c", "somebody"); err == nil {
			t.Errorf("c became a copy, and the record counts %v", w.Record().Ackers)
		}
		if !slices.Contains(w.Record().Ackers, "c") {
			t.Errorf("c is not counted any more: %v", w.Record().Ackers)
		}
		w.Link("a", "b", true)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// An acker that dies and is started again within the seconds that two starts may differ has dropped what it had not applied all the same.
func TestReviewTwoStartsWithinSecondsAreTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 2, true)
		defer w.Close()
		w.Hold("watcher", nil, nil, logger())
		time.Sleep(300 * time.Millisecond)
		c := write(t, w)
		w.Stick("b", true)
		time.Sleep(200 * time.Millisecond)
		w.Kill("b")
		w.Power("a", false)
		time.Sleep(10 * time.Second)
		if r := w.Record(); r.Primary != "a" {
			t.Errorf("promoted: %+v", r)
		}
		w.Stick("b", false)
		w.Power("a", true)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 2))
		c.end()
		nothingLost(t, w)
	})
}

// A server that became a member later waits as long for acknowledgements as its own file says: as the primary of a strict cluster it must wait for ever.
func TestReviewANewPrimaryWaitsForEver(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		w.Hurry("b")
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		settle(t, w, 60*time.Second, "b as the primary of a whole cluster", func() bool { return w.Record().Primary == "b" && whole(w, 2)() })
		w.Isolate("a", true)
		time.Sleep(time.Second)
		before := w.Acknowledged()
		time.Sleep(30 * time.Second)
		if n := w.Acknowledged() - before; n > 0 {
			t.Errorf("b has told clients of %d writes that nobody acknowledged", n)
		}
		w.Isolate("a", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 2))
		c.end()
	})
}

// Somebody whom read_only does not hold writes on the old primary after its position was taken: what that client was told of must not be left behind.
func TestReviewASwitchoverLeavesNothingBehind(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		told := make(chan bool, 1)
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "take-address" {
				w.OnEffect(nil)
				w.Stick("c", true)
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, ok := w.Override(ctx, "a")
				told <- ok
			}
		})
		_, err := h.Switchover(t.Context(), "c", "somebody", "a test")
		if !<-told {
			t.Fatal("nobody was told of anything")
		}
		if err == nil {
			t.Errorf("it handed over all the same")
		}
		w.Stick("c", false)
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
	})
}

// A planned change is being taken back, and the old primary does not answer for a moment: it is not killed for that.
func TestReviewAMomentDoesNotMakeAFailoverOfASwitchover(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		var killed atomic.Bool
		w.OnEffect(func(host, what string) {
			if host == "c" && what == "leave" {
				w.OnEffect(func(host, what string) {
					if host == "a" && what == "kill" {
						killed.Store(true)
					}
				})
				w.Kill("c")
				w.Freeze("a", true)
				go func() { time.Sleep(1500 * time.Millisecond); w.Freeze("a", false) }()
			}
		})
		if done, err := h.Switchover(t.Context(), "c", "somebody", "a test"); err == nil {
			t.Errorf("a switchover to a dead server: %+v", done)
		}
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
		if r := w.Record(); r.Primary != "a" || killed.Load() {
			t.Errorf("a was killed: %v; %+v", killed.Load(), r)
		}
	})
}

// The record is gone and made anew, as after the loss of the quorum for good: hosts remember later epochs, and must take orders all the same.
func TestReviewARecordThatIsMadeAnewIsObeyed(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		for _, to := range []string{"b", "a", "b"} {
			if _, err := h.Switchover(t.Context(), to, "somebody", "a test"); err != nil {
				t.Fatal(err)
			}
			settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		}
		w.NoRecord()
		time.Sleep(3 * time.Second)
		if _, err := h.Setup(t.Context(), "", true, "somebody"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 30*time.Second, "a whole cluster", whole(w, 3))
		w.Kill("b")
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "b" && w.Record().Intent == nil })
		settle(t, w, 60*time.Second, "a whole cluster", whole(w, 3))
	})
}

// An old primary that nobody could kill goes on without acknowledgements in durability available: that what it writes is lost is announced.
func TestReviewAvailableAnnouncesWhatAnOldPrimaryGoesOnToWrite(t *testing.T) {
	in(t, 3, false, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		w.Isolate("a", true)
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		if e := w.Record().History; len(e) == 0 || !strings.Contains(e[0].Loss, "a had not been killed") {
			t.Errorf("the loss was not announced: %+v", e)
		}
		w.Isolate("a", false)
		settle(t, w, 90*time.Second, "a whole cluster", whole(w, 3))
	})
}

// What lasts is said once, not with each look: neither in the log nor in the story that people are shown.
func TestReviewWhatLastsIsSaidOnce(t *testing.T) {
	for name, fault := range map[string]func(w *mysqlhatest.World, h *mysqlhatest.Holder){
		"stopped": func(w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.OnEffect(func(host, what string) {
				if what == "cut" {
					w.OnEffect(nil)
					w.Power("c", false)
				}
			})
			w.Power("a", false)
		},
		"one an hour": func(w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.Kill("a")
			time.Sleep(20 * time.Second)
			w.Isolate("b", true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := mysqlhatest.New("shop-db", 3, true)
				defer w.Close()
				var lines atomic.Int64
				h := w.Hold("watcher", nil, nil, slog.New(counting{&lines}))
				settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
				fault(w, h)
				time.Sleep(30 * time.Second)
				lines.Store(0)
				story := h.Picture().Story
				time.Sleep(10 * time.Minute)
				if n := lines.Load(); n > 30 {
					t.Errorf("%d lines were logged in ten minutes in which nothing happened", n)
				}
				if now := h.Picture().Story; len(now) > len(story)+15 {
					t.Errorf("the story has grown by %d lines: %+v", len(now)-len(story), now[len(now)-3:])
				}
			})
		})
	}
}

// counting counts what is logged, but for details.
type counting struct{ n *atomic.Int64 }

func (c counting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (c counting) Handle(context.Context, slog.Record) error    { c.n.Add(1); return nil }
func (c counting) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c counting) WithGroup(string) slog.Handler                { return c }

// By itself a server that has ackers may be anything: only a tenure that a read of the record has begun is extended by them.
func TestReviewATenureBeginsWithTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 2, true)
		defer w.Close()
		w.Quorum(false)
		tenure := mysqlha.NewTenure("shop-db", "a", 1, w.RecordsAt("a", 0), func(context.Context) (int, bool) { return 1, true }, logger())
		go func() { _ = tenure.Run(w.Context()) }() // it ends with the world
		time.Sleep(5 * time.Second)
		if tenure.Valid() {
			t.Error("valid without a record that says so")
		}
	})
}
