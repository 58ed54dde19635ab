package main

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"hostmesh/integration/dutybox"
	"hostmesh/mesh/lease/leasetest"
)

// told has processes report acts, each [t1, t2] of the first and of the last.
func told(b *book, who string, fence uint64, from, fromBy, to, toBy time.Duration) {
	b.hear(0, who, dutybox.Event{Acts: []dutybox.Act{{Duty: "d", Fence: fence, From: from, FromBy: fromBy, To: to, ToBy: toBy, Count: 2}}})
}

func TestTheJudgeSeesTenures(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(b *book)
		want []string // beginnings of the violations
	}{
		"one after the other": {func(b *book) {
			told(b, "a", 1, 10, 11, 50, 51)
			told(b, "b", 2, 52, 53, 90, 91)
			told(b, "a", 2<<44, 92, 93, 99, 99)
		}, nil},
		"frozen between t1 and t2": {func(b *book) {
			told(b, "a", 1, 10, 11, 50, 80)
			told(b, "b", 2, 52, 53, 90, 91)
		}, nil},
		"a former one acts": {func(b *book) {
			told(b, "a", 1, 10, 11, 12, 13)
			told(b, "b", 2, 52, 53, 90, 91)
			told(b, "a", 1, 54, 54, 60, 61)
		}, []string{"a former holder acted"}},
		"one before the former acts": {func(b *book) {
			told(b, "a", 1, 10, 11, 60, 61)
			told(b, "b", 2, 61, 62, 63, 64)
			told(b, "c", 3, 55, 56, 90, 91)
		}, []string{"a former holder acted", "a former holder acted"}},
		"one number twice": {func(b *book) {
			told(b, "a", 1, 10, 11, 12, 13)
			told(b, "b", 1, 52, 53, 90, 91)
		}, []string{"two processes hold one number"}},
		"one number twice, and a former one": {func(b *book) {
			told(b, "x", 1, 1, 2, 60, 61)
			told(b, "a", 2, 62, 63, 64, 65)
			told(b, "b", 2, 52, 53, 90, 91)
		}, []string{"two processes hold one number", "a former holder acted"}},
	} {
		b := newBook()
		c.tell(b)
		list := b.byDuty("d")
		got := judgeTenures(list)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s: %q", name, got[i])
			}
		}
		if ok := porcupine.CheckOperations(leasetest.Duty(), dutyHistory(list)); ok != (len(c.want) == 0) {
			t.Errorf("%s: porcupine says %v", name, ok)
		}
	}
}

// calls has a process report calls, one client each.
type calls struct {
	b *book
	n int
}

func (c *calls) tell(from, to time.Duration, in leasetest.Call, out leasetest.Seen) {
	c.n++
	c.b.hear(0, "p", dutybox.Event{Began: &dutybox.Op{Client: c.n, Call: in, At: from}})
	if to > 0 {
		c.b.hear(0, "p", dutybox.Event{Ended: &dutybox.Op{Client: c.n, Call: in, Seen: out, At: to}})
	}
}

func TestTheJudgeSeesRecords(t *testing.T) {
	put := func(value string, on uint64) leasetest.Call {
		return leasetest.Call{Kind: leasetest.Put, Key: "k", Value: value, Version: on}
	}
	get := leasetest.Call{Key: "k"}
	good := func(c *calls) {
		c.tell(1, 2, put("a", 0), leasetest.Seen{OK: true, Version: 5})
		c.tell(3, 0, put("b", 5), leasetest.Seen{}) // its process was killed
		c.tell(4, 0, get, leasetest.Seen{})
		c.tell(5, 6, get, leasetest.Seen{OK: true, Value: "b", Version: 6})
		c.tell(7, 8, put("c", 5), leasetest.Seen{})
		c.tell(9, 10, put("d", 6), leasetest.Seen{OK: true, Version: 7})
	}
	c := &calls{b: newBook()}
	good(c)
	histories, n := c.b.records()
	if n != (counted{done: 3, refused: 1, unknown: 1, none: 1}) {
		t.Errorf("%+v", n)
	}
	if v := judgeRecords("k", histories["k"], c.b.versions, time.Minute); v != "" {
		t.Error(v)
	}
	c.tell(11, 12, get, leasetest.Seen{OK: true, Value: "b", Version: 6}) // of before
	for i := time.Duration(20); i < 100; i += 2 {
		c.tell(i, i+1, get, leasetest.Seen{OK: true, Value: "d", Version: 7})
	}
	histories, _ = c.b.records()
	v := judgeRecords("k", histories["k"], c.b.versions, time.Minute)
	if !strings.Contains(v, "the shortest beginning that is not has 6,") || !strings.Contains(v, "[11ns, 12ns]") || strings.Contains(v, "[20ns") {
		t.Error(v)
	}
}

func TestFaultNames(t *testing.T) {
	if list, err := (&proof{only: "kill,disk"}).faults(); err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	if _, err := (&proof{only: "kill,dusk"}).faults(); err == nil || !strings.Contains(err.Error(), "kill-both") {
		t.Error(err)
	}
}
