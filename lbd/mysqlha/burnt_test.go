package mysqlha_test

import (
	"errors"
	"fmt"
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

// The only replica is gone for good, and writes wait for it. A new member takes its place; where a person decides, when that asks for it.
func TestTheOnlyReplicaIsReplacedByAnother(t *testing.T) {
	for _, how := range []section.Failover{section.Auto, section.Manual} {
		for _, stays := range []bool{true, false} { // the old one keeps the tag
			for _, wait := range []time.Duration{0, 5 * time.Second} { // a copy is begun before it is known that writes hang, or not
				t.Run(fmt.Sprintf("%s, it keeps the tag %v, after %s", how, stays, wait), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { onlyReplicaIsReplaced(t, how, stays, wait) })
				})
			}
		}
	}
}

func onlyReplicaIsReplaced(t *testing.T, how section.Failover, stays bool, wait time.Duration) {
	w := mysqlhatest.New("shop-db", 3, true)
	defer w.Close()
	all := w.Members()
	w.Empty("c")
	var members atomic.Pointer[[]mysqlha.Member]
	two := slices.Clone(all[:2])
	members.Store(&two)
	h := w.Hold("watcher", func() section.MySQL { s := w.Section(); s.Failover = how; return s }, func() []mysqlha.Member { return *members.Load() }, logger())
	settle(t, w, time.Minute, "a whole cluster", func() bool {
		return slices.Equal(w.Record().Ackers, []string{"b"}) && slices.Equal(w.Writable(), []string{"a"})
	})
	c := write(t, w)
	time.Sleep(time.Second)
	w.PurgeLogs("a") // else it could receive all that was ever written, in place of a copy
	w.Agent("b", false)
	w.Freeze("b", true)
	time.Sleep(wait)
	next := []mysqlha.Member{all[0], all[2]}
	if stays {
		next = all
	}
	members.Store(&next)
	if how == section.Manual {
		time.Sleep(max(0, 5*time.Second-wait))
		if _, err := h.Clone(t.Context(), "", "c", "somebody"); !errors.Is(err, mysqlha.ErrState) || !strings.Contains(err.Error(), "or has been away for 10s") {
			t.Errorf("a copy is made while b may come back: %v", err)
		}
		time.Sleep(30 * time.Second)
		if d := h.Picture().Diagnoses; len(w.Record().Ackers) != 1 || w.Record().Epoch != 1 {
			t.Errorf("it is done without being asked for: %+v, %+v", w.Record(), d)
		}
		done, err := h.Clone(t.Context(), "", "c", "somebody")
		if err != nil || !strings.Contains(strings.Join(done.Lines, "\n"), "a is ended, and starts again, read-only") {
			t.Fatalf("%q, %v", done.Lines, err)
		}
	}
	before := w.Acknowledged()
	settle(t, w, time.Minute, "writes go on", func() bool { return w.Acknowledged() > before+5 })
	if r := w.Record(); r.Primary != "a" || !slices.Equal(r.Ackers, []string{"c"}) {
		t.Errorf("%+v", r)
	}
	// What it missed it gets; nobody takes its acknowledgement for one before it counts.
	w.Freeze("b", false)
	w.Agent("b", true)
	if stays {
		settle(t, w, 2*time.Minute, "a whole cluster", whole(w, 3))
	} else {
		time.Sleep(30 * time.Second)
		if w.Acknowledges("b") {
			t.Error("b is no member, and acknowledges")
		}
	}
	c.end()
	nothingLost(t, w)
	if faults := w.Faults(); len(faults) > 0 {
		t.Errorf("never to be: %v", faults)
	}
}
