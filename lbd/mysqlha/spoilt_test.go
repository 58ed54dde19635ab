package mysqlha_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// A server that was killed amid a recovery may never start again: an old primary, and a replica once it is not counted, become copies of another.
func TestOneThatCannotRecoverBecomesACopy(t *testing.T) {
	for _, x := range []struct {
		host    string // a is the primary
		members int
	}{{"a", 3}, {"b", 3}, {"b", 2}} {
		host := x.host
		in(t, x.members, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			c := write(t, w)
			time.Sleep(time.Second)
			w.Spoil(host)
			time.Sleep(time.Second)
			settle(t, w, 2*time.Minute, "it acknowledges again", func() bool { return w.Acknowledges(host) })
			settle(t, w, 2*time.Minute, "a whole cluster", whole(w, x.members))
			if x.members == 2 && w.Record().Primary != "a" {
				t.Errorf("the primary is %s, and a was well", w.Record().Primary)
			}
			c.end()
			nothingLost(t, w)
		})
	}
}

// A copy is not begun that would wait for writes which wait for the one that it replaces.
func TestTheOnlyOneThatAcknowledgesIsNotReplaced(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		settle(t, w, time.Minute, "a whole cluster", whole(w, 2))
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if _, err := h.Clone(ctx, "", "b", "somebody"); !errors.Is(err, mysqlha.ErrState) || !strings.Contains(err.Error(), "b alone acknowledges") {
			t.Errorf("the only one that acknowledges is made a copy: %v", err)
		}
		if !slices.Equal(w.Record().Ackers, []string{"b"}) {
			t.Errorf("%v acknowledge", w.Record().Ackers)
		}
	})
}

// Where the only one that acknowledged loses its data, writes wait for nobody, and no copy can be made while they do: the primary is ended, once, and takes writes again when the copy acknowledges.
func TestTheOnlyOneThatAcknowledgesLosesItsData(t *testing.T) {
	in(t, 2, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		var n acting
		w.OnEffect(n.note)
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("b")
		w.Wipe("b")
		settle(t, w, time.Minute, "b counts no more", func() bool { return len(w.Record().Ackers) == 0 })
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 2))
		if got := n.of("a", "kill"); got != 1 || w.Record().Primary != "a" {
			t.Errorf("the primary is %s, and a was ended %d times", w.Record().Primary, got)
		}
		if !remembered(w, "a is ended, and starts again, read-only") {
			t.Errorf("the history does not say so: %+v", w.Record().History)
		}
		c.end()
		nothingLost(t, w)
	})
}

// A watcher that takes over while an old primary recovers, started as a replica by the one before, does not kill it.
func TestARecoveryIsNotKilled(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		kills, started := 0, false
		w.OnEffect(func(host, what string) {
			switch {
			case host == "a" && what == "start-server":
				started = true
			case host == "a" && what == "kill" && started:
				kills++
			case host == "a" && what == "follow" && kills == 0:
				w.Freeze("a", true) // it recovers: it does not answer yet
			}
		})
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
		time.Sleep(5 * time.Second)
		w.OnEffect(nil)
		w.Freeze("a", false)
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 3))
		c.end()
		nothingLost(t, w)
		if kills > 0 {
			t.Errorf("a was killed %d times while it recovered", kills)
		}
	})
}

// A replica that is counted and was started anew acknowledges from its first event on. Told later, it would have had what waits, and acknowledge nothing before the next write.
func TestOneThatIsCountedAcknowledgesFromItsStart(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		var did []string
		w.OnEffect(func(host, what string) {
			if host == "b" && (what == "acker" || what == "start") {
				did = append(did, what)
			}
		})
		w.Kill("b")
		time.Sleep(time.Second)
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		w.OnEffect(nil)
		if len(did) < 2 || did[0] != "acker" || did[1] != "start" {
			t.Errorf("what was done with b: %v", did)
		}
	})
}
