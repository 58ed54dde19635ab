package mysqlha_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// grown runs a cluster of three in virtual time, to which an empty fourth, d, comes.
func grown(t *testing.T, f func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder, join func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		w.Empty("d")
		var mu sync.Mutex
		members := w.Members()[:3]
		h := w.Hold("watcher", nil, func() []mysqlha.Member { mu.Lock(); defer mu.Unlock(); return members }, logger())
		settle(t, w, 10*time.Second, "three", func() bool { r := w.Record(); return len(r.Ackers) == 2 && w.Address() == "a" })
		f(t, w, h, func() {
			mu.Lock()
			members = w.Members()
			mu.Unlock()
		})
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}

// acting notes what is done with whom.
type acting struct {
	mu   sync.Mutex
	done []string
}

func (c *acting) note(host, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, host+" "+what)
}

func (c *acting) of(host, what string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.done {
		if d == host+" "+what {
			n++
		}
	}
	return n
}

func remembered(w *mysqlhatest.World, text string) bool {
	return slices.ContainsFunc(w.Record().History, func(e mysqlha.Event) bool { return strings.Contains(e.What, text) })
}

// same reports whether servers have the same writes, told of or not.
func same(w *mysqlhatest.World, hosts ...string) func() bool {
	return func() bool {
		for _, h := range hosts[1:] {
			if !slices.Equal(w.Writes(h), w.Writes(hosts[0])) {
				return false
			}
		}
		return true
	}
}

// A copy is compared once, under constant writes, and counts then.
func TestACopyCountsWhenItWasCompared(t *testing.T) {
	grown(t, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder, join func()) {
		var n acting
		w.OnEffect(n.note)
		c := write(t, w)
		time.Sleep(time.Second)
		join()
		settle(t, w, 30*time.Second, "a copy that nobody has compared", func() bool { return w.Copy("d") != nil })
		settle(t, w, 60*time.Second, "a fourth that counts", whole(w, 4))
		if u := w.Copy("d"); u != nil {
			t.Errorf("it counts, and is remembered as %+v", u)
		}
		settle(t, w, 30*time.Second, "the history says so", func() bool { return remembered(w, "d is a copy of b, and was found right") })
		if n.of("d", "clone") != 1 || n.of("b", "checksum") != 1 || n.of("d", "checksum") != 1 || n.of("a", "checksum") != 0 {
			t.Errorf("it was done: %q", n.done)
		}
		c.end()
		nothingLost(t, w)
	})
}

// Who made a copy is gone before it has said of it what it has: the next one does. Else all would seem to have transactions of their own when the copy is the primary.
func TestACopyWhoseMakerIsGoneKnowsWhatItHas(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		if _, err := h.Switchover(t.Context(), "b", "somebody", "a test"); err != nil { // so that two have written
			t.Fatal(err)
		}
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		time.Sleep(time.Second)
		if _, err := h.Clone(t.Context(), "", "c", "somebody"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		if w.Copy("c") == nil {
			t.Fatal("no copy is made")
		}
		h.Kill()
		h = w.Hold("another", nil, nil, logger())
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		settle(t, w, time.Minute, "c takes the writes", func() bool { _, err := h.Switchover(t.Context(), "c", "somebody", "a test"); return err == nil })
		settle(t, w, time.Minute, "a whole cluster", whole(w, 3))
		time.Sleep(time.Second)
		if d := h.Picture().Diagnoses; d[0].Name != mysqlha.Well {
			t.Errorf("it is said: %+v", d)
		}
		c.end()
		nothingLost(t, w)
	})
}

// So does a failover that comes before that, and has the copy follow another.
func TestACopyThatFollowsAnotherPrimaryKnowsWhatItHas(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		c := write(t, w)
		time.Sleep(time.Second)
		for _, to := range []string{"d", "b"} { // d writes no more
			if _, err := h.Switchover(t.Context(), to, "somebody", "a test"); err != nil {
				t.Fatal(err)
			}
			settle(t, w, time.Minute, "a whole cluster", whole(w, 4))
			time.Sleep(time.Second)
		}
		if _, err := h.Clone(t.Context(), "", "c", "somebody"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		if w.Copy("c") == nil {
			t.Fatal("no copy is made")
		}
		h.Kill()
		time.Sleep(20 * time.Second) // its host goes on
		w.Agent("b", false)
		w.Kill("b")
		h = w.Hold("another", nil, nil, logger())
		settle(t, w, time.Minute, "another primary", func() bool { return w.Record().Primary != "b" && w.Record().Intent == nil })
		w.Agent("b", true)
		settle(t, w, time.Minute, "a whole cluster", whole(w, 4))
		settle(t, w, time.Minute, "c takes the writes", func() bool { _, err := h.Switchover(t.Context(), "c", "somebody", "a test"); return err == nil })
		settle(t, w, time.Minute, "a whole cluster", whole(w, 4))
		time.Sleep(time.Second)
		if d := h.Picture().Diagnoses; d[0].Name != mysqlha.Well {
			t.Errorf("it is said: %+v", d)
		}
		c.end()
		nothingLost(t, w)
	})
}

// A cut from who is the primary by now, of a failover that a copy missed, or whose order came late, keeps nobody from comparing it.
func TestACopyThatIsCutFromThePrimaryIsCompared(t *testing.T) {
	grown(t, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder, join func()) {
		c := write(t, w)
		members := w.Members()
		if err := w.At("watcher").Local(members[3]).Cut(t.Context(), mysqlha.Order{Tag: w.Tag, Epoch: 1}, members[0].Source()); err != nil {
			t.Fatal(err)
		}
		join()
		settle(t, w, 90*time.Second, "a fourth that counts", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// A copy that differs is found, is neither counted nor promoted nor copied, and stays so until it is made anew.
func TestACopyThatDiffersIsNotCounted(t *testing.T) {
	grown(t, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder, join func()) {
		c := write(t, w)
		time.Sleep(time.Second)
		w.OnEffect(func(host, what string) {
			if host == "d" && what == "follow-until" {
				w.OnEffect(nil)
				w.Falsify("d")
			}
		})
		join()
		settle(t, w, 60*time.Second, "it is found", func() bool { u := w.Copy("d"); return u != nil && u.Differs != "" })
		if u := w.Copy("d"); u.From != "b" || !strings.Contains(u.Differs, "ledger.writes is ") || !strings.Contains(u.Differs, " at b (0-1-") || !strings.Contains(u.Differs, "at d (0-1-") {
			t.Errorf("it is said: %+v", u)
		}
		settle(t, w, 10*time.Second, "it is diagnosed", func() bool {
			return slices.ContainsFunc(h.Picture().Diagnoses, func(d mysqlha.Diagnosis) bool { return d.Name == mysqlha.CopyDiffers && d.Host == "d" })
		})
		settle(t, w, 30*time.Second, "the history says so", func() bool { return remembered(w, "differs from b") })
		if _, err := h.Clone(t.Context(), "d", "c", "somebody"); err == nil || !strings.Contains(err.Error(), "differs") {
			t.Errorf("a copy of it: %v", err)
		}
		time.Sleep(30 * time.Second)
		if slices.Contains(w.Record().Ackers, "d") {
			t.Fatalf("it counts: %+v", w.Record())
		}
		w.Kill("a")
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		settle(t, w, 60*time.Second, "all but it count", func() bool { return slices.Equal(w.Record().Ackers, []string{"a", "c"}) })
		w.Kill("b") // b falls, and c
		if _, err := h.Ack(t.Context(), "somebody", "a test"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 60*time.Second, "another primary, and not d", func() bool { r := w.Record(); return r.Intent == nil && (r.Primary == "a" || r.Primary == "c") })
		settle(t, w, 60*time.Second, "all but it count again", func() bool { return len(w.Record().Ackers) == 2 && len(w.Record().Fenced) == 0 })
		if _, err := h.Clone(t.Context(), "", "d", "somebody"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 60*time.Second, "made anew it counts", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// Whoever watches is killed before each thing that is done, from the copy on until it counts; another goes on, and nothing counts that was not compared.
func TestAnotherComparesACopy(t *testing.T) {
	run := func(t *testing.T, kill int, falsify bool) (effects []string) {
		grown(t, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder, join func()) {
			c := write(t, w)
			time.Sleep(time.Second)
			var mu sync.Mutex
			at := make(chan struct{}, 1)
			w.OnEffect(func(host, what string) {
				mu.Lock()
				defer mu.Unlock()
				if host != "d" && (host != "" || len(effects) == 0) && what != "checksum" {
					return
				}
				effects = append(effects, host+" "+what)
				if falsify && host == "d" && what == "follow-until" {
					w.Falsify("d")
				}
				if len(effects) == kill+1 {
					h.End()
					at <- struct{}{}
				}
			})
			join()
			if kill >= 0 {
				select {
				case <-at:
					time.Sleep(20 * time.Millisecond)
					w.Hold("another", nil, nil, logger())
				case <-time.After(30 * time.Second):
				}
			}
			if falsify {
				settle(t, w, 120*time.Second, "it is found", func() bool { u := w.Copy("d"); return u != nil && u.Differs != "" })
				time.Sleep(10 * time.Second)
				if slices.Contains(w.Record().Ackers, "d") {
					t.Error("it counts")
				}
			} else {
				settle(t, w, 120*time.Second, "a fourth that counts", whole(w, 4))
				settle(t, w, 30*time.Second, "it has all", same(w, "b", "d"))
			}
			c.end()
			nothingLost(t, w)
		})
		return effects
	}
	for _, falsify := range []bool{false, true} {
		all := run(t, -1, falsify)
		if len(all) < 8 {
			t.Fatalf("only %d effects: %q", len(all), all)
		}
		for k := range all {
			if testing.Short() && k%3 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("before %d, %s, %t", k, strings.TrimSpace(all[k]), falsify), func(t *testing.T) { run(t, k, falsify) })
		}
	}
}

// Two new members are not copied from one donor at a time, nor from the primary while a replica can be waited for.
func TestTwoCopiesOfOneDonor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 4, true)
		defer w.Close()
		w.Empty("c")
		w.Empty("d")
		var n acting
		w.OnEffect(n.note)
		var mu sync.Mutex
		members := w.Members()[:2]
		h := w.Hold("watcher", nil, func() []mysqlha.Member { mu.Lock(); defer mu.Unlock(); return members }, logger())
		c := write(t, w)
		settle(t, w, 20*time.Second, "two", func() bool { return len(w.Record().Starts) == 1 && w.Address() == "a" })
		time.Sleep(time.Second)
		mu.Lock()
		members = w.Members()
		mu.Unlock()
		settle(t, w, 20*time.Second, "a copy is made", func() bool { return n.of("c", "clone")+n.of("d", "clone") > 0 })
		first, second := "c", "d"
		if n.of("d", "clone") > 0 {
			first, second = second, first
		}
		if _, err := h.Clone(t.Context(), "b", second, "somebody"); err == nil || !strings.Contains(err.Error(), "a copy for "+first+" is made of b") {
			t.Errorf("a second copy of b by hand: %v", err)
		}
		settle(t, w, 60*time.Second, "all four", whole(w, 4))
		if n.of("c", "clone") != 1 || n.of("d", "clone") != 1 {
			t.Errorf("c was made a copy %d times, d %d times", n.of("c", "clone"), n.of("d", "clone"))
		}
		settle(t, w, 30*time.Second, "the history", func() bool {
			return remembered(w, "c was made a copy of b") && (remembered(w, "d was made a copy of b") || remembered(w, "d was made a copy of c"))
		})
		c.end()
		nothingLost(t, w)
		if faults := w.Faults(); len(faults) > 0 {
			t.Errorf("never to be: %s", strings.Join(faults, "; "))
		}
	})
}

// A comparison for which a copy follows a primary that dies ends with its epoch, and is made with the next one.
func TestAComparisonEndsWithItsPrimary(t *testing.T) {
	in(t, 4, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
		settle(t, w, time.Minute, "a whole cluster", whole(w, 4))
		c := write(t, w)
		w.OnEffect(func(host, what string) {
			if host == "d" && what == "follow-until" {
				w.OnEffect(nil)
				w.Power("a", false)
			}
		})
		if _, err := h.Clone(t.Context(), "c", "d", "somebody"); err != nil {
			t.Fatal(err)
		}
		settle(t, w, 90*time.Second, "d counts beside another primary", func() bool {
			r := w.Record()
			return r.Primary != "a" && slices.Contains(r.Ackers, "d") && w.Copy("d") == nil
		})
		w.Power("a", true)
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 4))
		c.end()
		nothingLost(t, w)
	})
}

// dropping has the primary of a cluster of three die with writes that others have, and of which it heard no acknowledgement: as a replica it drops them.
func dropping(t *testing.T, w *mysqlhatest.World) {
	t.Helper()
	w.Unheard("a", true)
	for range 3 {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			w.Write(ctx, "a")
		}()
	}
	time.Sleep(100 * time.Millisecond)
	w.Kill("a")
	w.Unheard("a", false)
}

// An old primary that has dropped what others have takes it back, and rejoins without a copy.
func TestRejoinsWithoutACopy(t *testing.T) {
	in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, _ *mysqlhatest.Holder) {
		var n acting
		w.OnEffect(n.note)
		c := write(t, w)
		time.Sleep(time.Second)
		dropping(t, w)
		settle(t, w, 30*time.Second, "another primary", func() bool { return w.Record().Primary == "b" && w.Record().Intent == nil })
		settle(t, w, 60*time.Second, "the old primary among the others", whole(w, 3))
		settle(t, w, 30*time.Second, "it has all", same(w, "a", "b", "c"))
		if n.of("a", "clone") != 0 || n.of("a", "follow-until") == 0 {
			t.Errorf("it was done: %q", n.done)
		}
		settle(t, w, 30*time.Second, "the history says so", func() bool { return remembered(w, "a rejoined without a copy: it has taken back") })
		time.Sleep(time.Second)
		c.end()
		nothingLost(t, w)
	})
}

// Whoever watches is killed before each thing that is done until the old primary is back: it never comes to skip what it had dropped.
func TestAnotherHasItRejoin(t *testing.T) {
	run := func(t *testing.T, kill int) (effects []string) {
		in(t, 3, true, func(t *testing.T, w *mysqlhatest.World, h *mysqlhatest.Holder) {
			c := write(t, w)
			time.Sleep(time.Second)
			var mu sync.Mutex
			at := make(chan struct{}, 1)
			w.OnEffect(func(host, what string) {
				mu.Lock()
				defer mu.Unlock()
				if len(effects) == 0 && (host != "a" || what != "start-server") {
					return
				}
				effects = append(effects, host+" "+what)
				if len(effects) == kill+1 {
					h.End()
					at <- struct{}{}
				}
			})
			dropping(t, w)
			if kill >= 0 {
				select {
				case <-at:
					time.Sleep(20 * time.Millisecond)
					w.Hold("another", nil, nil, logger())
				case <-time.After(30 * time.Second):
				}
			}
			settle(t, w, 90*time.Second, "the old primary among the others", whole(w, 3))
			time.Sleep(time.Second)
			c.end()
			nothingLost(t, w)
			settle(t, w, 30*time.Second, "all have the same", same(w, "a", "b", "c"))
		})
		return effects
	}
	all := run(t, -1)
	if len(all) < 8 {
		t.Fatalf("only %d effects: %q", len(all), all)
	}
	for k := range min(len(all), 40) {
		if testing.Short() && k%3 != 0 {
			continue
		}
		t.Run(fmt.Sprintf("before %d, %s", k, strings.TrimSpace(all[k])), func(t *testing.T) { run(t, k) })
	}
}
