package mysqlha_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// A primary whose disk was replaced starts with nothing, as if all was well. It takes no writes, nothing is made like it, and another takes over, by itself or when a person says so.
func TestAPrimaryThatLosesItsData(t *testing.T) {
	for _, how := range []section.Failover{section.Auto, section.Manual} {
		for _, members := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, %d members", how, members), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := mysqlhatest.New("shop-db", members, true)
					defer w.Close()
					h := w.Hold("watcher", func() section.MySQL { s := w.Section(); s.Failover = how; return s }, nil, logger())
					settle(t, w, 10*time.Second, "a whole cluster", whole(w, members))
					c := write(t, w)
					time.Sleep(time.Second)
					w.Kill("a")
					w.Wipe("a")
					w.Restart("a") // sooner than anybody sees that it is gone
					if how == section.Manual {
						settle(t, w, 10*time.Second, "it is said", func() bool { d := h.Picture().Diagnoses[0]; return d.Name == mysqlha.PrimaryLost && d.Host == "a" })
						time.Sleep(time.Minute)
						if w.Record().Primary != "a" || len(w.Writable()) > 0 || len(w.Writes("a")) > 0 || len(w.Writes("b")) == 0 {
							t.Log(strings.Join(w.Journal()[max(0, len(w.Journal())-40):], "\n"))
							t.Log(strings.Join(mysqlha.Explain(h.Picture()), "\n"))
							t.Errorf("the primary is %s, %v take writes, a has %d writes and b %d", w.Record().Primary, w.Writable(), len(w.Writes("a")), len(w.Writes("b")))
						}
						for i := range 300 { // at any moment between two looks, of which none begins and ends as another does
							time.Sleep(time.Duration(i%17) * 7 * time.Millisecond)
							if _, err := h.Clone(t.Context(), "a", "b", "somebody"); !errors.Is(err, mysqlha.ErrState) || !strings.Contains(err.Error(), "has lost data") {
								t.Errorf("a copy of a is made: %v", err)
							}
						}
						if _, err := h.Failover(t.Context(), false, "somebody", "a disk was replaced"); err != nil {
							t.Fatal(err)
						}
					}
					settle(t, w, 2*time.Minute, "another is the primary", func() bool { return w.Record().Primary != "a" && w.Record().Intent == nil })
					settle(t, w, 2*time.Minute, "a whole cluster", whole(w, members))
					c.end()
					nothingLost(t, w)
					if faults := w.Faults(); len(faults) > 0 {
						t.Errorf("never to be: %v", faults)
					}
				})
			})
		}
	}
}

// What a primary has that was set back on purpose is kept when a person says so; replicas keep what they have beyond that until somebody has them copied.
func TestAPrimaryThatWasSetBackOnPurpose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		h := w.Hold("watcher", func() section.MySQL { s := w.Section(); s.Failover = section.Manual; return s }, nil, logger())
		settle(t, w, 10*time.Second, "a whole cluster", whole(w, 3))
		c := write(t, w)
		time.Sleep(time.Second)
		c.end()
		w.Kill("a")
		w.Wipe("a")
		w.Restart("a")
		settle(t, w, 10*time.Second, "it is said", func() bool { return h.Picture().Diagnoses[0].Name == mysqlha.PrimaryLost })
		if _, err := h.Setup(t.Context(), "", true, "somebody"); err != nil || h.Picture().Diagnoses[0].Name != mysqlha.PrimaryLost {
			t.Errorf("settings were set, and it is said: %+v, %v", h.Picture().Diagnoses[0], err)
		}
		done, err := h.Setup(t.Context(), "a", true, "somebody")
		if err != nil || !strings.Contains(strings.Join(done.Lines, "\n"), "a has lost data") {
			t.Fatalf("%q %v", done.Lines, err)
		}
		time.Sleep(time.Minute)
		if len(w.Writes("b")) == 0 || len(w.Writes("c")) == 0 {
			t.Error("replicas were replaced, and nobody has asked for that")
		}
		for tries, left := 0, []string{"b", "c"}; len(left) > 0; tries++ { // one of them may acknowledge: then the other first
			host := left[0]
			left = left[1:]
			if _, err := h.Clone(t.Context(), "a", host, "somebody"); err != nil {
				if left = append(left, host); tries > 10 {
					t.Fatal(err)
				}
			}
			time.Sleep(30 * time.Second)
		}
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 3))
		if faults := w.Faults(); len(faults) > 0 || w.Record().Primary != "a" {
			t.Errorf("%s is the primary; never to be: %v", w.Record().Primary, faults)
		}
	})
}

// One that was set back to what it had before the present replicas were found to have all is known by the record alone.
func TestAPrimaryThatWasSetBackIsKnownByTheRecord(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		if _, err := h.Switchover(t.Context(), "b", "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		c.end()
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		for _, host := range []string{"a", "c"} { // nobody is there who would say so
			w.Agent(host, false)
			w.Freeze(host, true)
		}
		w.Kill("b")
		w.Wipe("b")
		time.Sleep(2 * time.Minute)
		if d := h.Picture().Diagnoses[0]; d.Name != mysqlha.PrimaryLost || len(w.Writable()) > 0 {
			t.Errorf("%v take writes, and it is said: %+v", w.Writable(), d)
		}
		for _, host := range []string{"a", "c"} {
			w.Agent(host, true)
			w.Freeze(host, false)
		}
		if _, err := h.Ack(t.Context(), "somebody", "seen"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 3))
		if w.Record().Primary == "b" {
			t.Log(strings.Join(w.Journal()[max(0, len(w.Journal())-40):], "\n"))
			t.Log(strings.Join(mysqlha.Explain(h.Picture()), "\n"))
			t.Error("b is the primary, and had lost its data")
		}
		nothingLost(t, w)
	})
}
