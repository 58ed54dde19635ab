package mysqlha_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// TestWhatNobodyAcknowledgedIsAnnounced: where the only replica stands still the primary goes on without, after a while, as Durability "available" has it. It is started anew since, and looks like one that waited
// all the time. Whoever takes over then lacks what clients were told of.
func TestWhatNobodyAcknowledgedIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 2, true) // as real servers: it waits, for ten seconds
		defer w.Close()
		available := func() section.MySQL {
			s := w.Section()
			s.Durability = section.Available
			return s
		}
		w.Hold("watcher", available, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 2))
		c := write(t, w)
		time.Sleep(time.Second)
		w.Freeze("b", true)
		time.Sleep(15 * time.Second)
		before := w.Acknowledged()
		time.Sleep(time.Second)
		if w.Acknowledged() == before {
			t.Fatal("it does not go on without")
		}
		w.Kill("a")
		settle(t, w, 30*time.Second, "a takes writes again", func() bool { return slices.Equal(w.Writable(), []string{"a"}) })
		time.Sleep(time.Second)
		w.Isolate("a", true)
		w.Freeze("b", false)
		settle(t, w, 60*time.Second, "another primary", func() bool { r := w.Record(); return r.Primary == "b" && r.Intent == nil })
		c.end()
		if len(w.Lost("b")) == 0 {
			t.Fatal("nothing was lost: this tests nothing")
		}
		if !slices.ContainsFunc(w.Record().History, func(e mysqlha.Event) bool {
			return strings.Contains(e.Loss, "b was started anew, and has not caught up since")
		}) {
			t.Errorf("%d writes are lost, and it was not announced: %+v", len(w.Lost("b")), w.Record().History)
		}
	})
}

// TestOneThatMayAcknowledgeIsNotReplaced: a replica that whoever watches does not reach, and that acknowledges, is not made a copy, for which it would count no more: in available, too.
func TestOneThatMayAcknowledgeIsNotReplaced(t *testing.T) {
	for _, strict := range []bool{true, false} {
		in(t, 3, strict, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			w.OneWay("watcher", "c", false)
			time.Sleep(5 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := h.Clone(ctx, "", "c", "somebody"); err == nil || !strings.Contains(err.Error(), "stop its server first") {
				t.Errorf("strict %t: %v", strict, err)
			}
			if !slices.Contains(w.Record().Ackers, "c") {
				t.Errorf("strict %t: c counts no more", strict)
			}
		})
	}
}
