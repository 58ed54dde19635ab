package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"hostmesh/integration/dutybox"
	"hostmesh/mesh/lease/leasetest"
)

// tenure is all that one process did for a duty under one number.
type tenure struct {
	duty         string
	fence        uint64
	box          int
	who          string // the process
	asked        time.Duration
	from, fromBy time.Duration // around its first act
	to, toBy     time.Duration // around its last
	acts         int
}

func (t *tenure) String() string {
	return fmt.Sprintf("%s under %d: %s acted %d times, first in [%s, %s], last in [%s, %s]", t.duty, t.fence, t.who, t.acts, t.from, t.fromBy, t.to, t.toBy)
}

// call is a call on records, from when it was told.
type call struct {
	in    leasetest.Call
	out   leasetest.Seen
	began time.Duration
	ended time.Duration // 0 = it did not come back
	none  bool          // nothing was done
}

// book is all that the processes reported.
type book struct {
	mu       sync.Mutex // guards the fields below
	tenures  map[string]map[uint64][]*tenure
	latest   map[string]*tenure // by duty: that of the highest number
	open     map[string]*call
	calls    []*call
	why      map[string]int
	versions leasetest.Versions
}

func newBook() *book {
	return &book{
		tenures: map[string]map[uint64][]*tenure{}, latest: map[string]*tenure{}, open: map[string]*call{},
		why: map[string]int{}, versions: leasetest.Versions{},
	}
}

func (b *book) hear(box int, who string, e dutybox.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range e.Acts {
		b.act(box, who, a)
	}
	if o := e.Began; o != nil {
		c := &call{in: o.Call, began: o.At}
		b.calls = append(b.calls, c)
		b.open[fmt.Sprintf("%s/%d", who, o.Client)] = c // a client makes one call at a time
	}
	if o := e.Ended; o != nil {
		c := b.open[fmt.Sprintf("%s/%d", who, o.Client)]
		if c == nil {
			return
		}
		c.out, c.ended, c.none = o.Seen, o.At, o.Nothing
		if o.Call.Kind == leasetest.Get && o.Seen.Version > 0 {
			b.versions[o.Seen.Value] = o.Seen.Version
		}
	}
}

func (b *book) act(box int, who string, a dutybox.Act) {
	byFence := b.tenures[a.Duty]
	if byFence == nil {
		byFence = map[uint64][]*tenure{}
		b.tenures[a.Duty] = byFence
	}
	var t *tenure
	if i := slices.IndexFunc(byFence[a.Fence], func(t *tenure) bool { return t.who == who }); i >= 0 {
		t = byFence[a.Fence][i]
	} else {
		t = &tenure{duty: a.Duty, fence: a.Fence, box: box, who: who, asked: a.Asked, from: a.From, fromBy: a.FromBy}
		byFence[a.Fence] = append(byFence[a.Fence], t)
	}
	t.to, t.toBy = a.To, a.ToBy
	t.acts += a.Count
	if l := b.latest[a.Duty]; l == nil || l.fence <= a.Fence {
		b.latest[a.Duty] = t
	}
}

// holder is who acted last under the highest number, as far as it was heard; ok is false when nobody did within the time.
func (b *book) holder(duty string, within time.Duration) (t tenure, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.latest[duty]
	if l == nil || dutybox.Now()-l.to > within {
		return tenure{}, false
	}
	return *l, true
}

// byDuty are copies of a duty's tenures, sorted by number.
func (b *book) byDuty(duty string) (list []tenure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ts := range b.tenures[duty] {
		for _, t := range ts {
			list = append(list, *t)
		}
	}
	slices.SortFunc(list, func(x, y tenure) int {
		switch {
		case x.fence != y.fence && x.fence < y.fence:
			return -1
		case x.fence != y.fence:
			return 1
		}
		return int(x.from - y.from)
	})
	return list
}

// judgeTenures holds a duty's tenures, sorted by number, to the promise.
func judgeTenures(list []tenure) (violations []string) {
	var next *tenure // of those with a higher number than the one looked at, that which began first
	var ahead []*tenure
	for i := len(list) - 1; i >= 0; i-- {
		t := &list[i]
		if i+1 < len(list) && list[i+1].fence == t.fence {
			violations = append(violations, fmt.Sprintf("two processes hold one number:\n    %s\n    %s", t, &list[i+1]))
		} else {
			for _, a := range ahead { // those of the number before, in this order of going through them
				if next == nil || a.fromBy < next.fromBy {
					next = a
				}
			}
			ahead = ahead[:0]
		}
		if next != nil && t.to > next.fromBy {
			violations = append(violations, fmt.Sprintf("a former holder acted %s after the next one had begun:\n    %s\n    %s", t.to-next.fromBy, t, next))
		}
		ahead = append(ahead, t)
	}
	return violations
}

// forever is when a call that did not come back ends, for the checker.
const forever = math.MaxInt64

// dutyHistory is what porcupine is told of a duty.
func dutyHistory(list []tenure) (out []porcupine.Operation) {
	for _, t := range list {
		out = append(out,
			porcupine.Operation{ClientId: t.box, Input: leasetest.Tenure{Begin: true, Fence: t.fence}, Call: int64(min(t.asked, t.from)), Return: int64(t.fromBy)},
			porcupine.Operation{ClientId: t.box, Input: leasetest.Tenure{Fence: t.fence}, Call: int64(t.to), Return: forever})
	}
	return out
}

// counted is what became of calls.
type counted struct{ done, refused, unknown, none int }

// records are the histories that porcupine is told, by key.
func (b *book) records() (byKey map[string][]porcupine.Operation, n counted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	byKey = map[string][]porcupine.Operation{}
	for i, c := range b.calls {
		writes := c.in.Kind == leasetest.Put || c.in.Kind == leasetest.Delete
		o := porcupine.Operation{ClientId: i, Input: c.in, Output: c.out, Call: int64(c.began), Return: int64(c.ended)}
		switch {
		case c.none, c.ended == 0 && !writes:
			n.none++
			continue
		case c.ended == 0 || c.out.Unknown: // it may happen at any later time
			n.unknown++
			o.Output, o.Return = leasetest.Seen{Unknown: true}, forever
		case c.out.OK:
			n.done++
		default:
			n.refused++
		}
		byKey[c.in.Key] = append(byKey[c.in.Key], o)
	}
	return byKey, n
}

// until is the part of a history that had begun at a moment; what had not come back by then is left open.
func until(history []porcupine.Operation, at int64) (out []porcupine.Operation) {
	for _, o := range history {
		if o.Call > at {
			continue
		}
		if o.Return > at {
			c := o.Input.(leasetest.Call)
			if c.Kind != leasetest.Put && c.Kind != leasetest.Delete {
				continue
			}
			if seen := o.Output.(leasetest.Seen); !seen.OK && !seen.Unknown {
				continue
			}
			o.Output, o.Return = leasetest.Seen{Unknown: true}, forever
		}
		out = append(out, o)
	}
	return out
}

// judgeRecords checks the history of one key. What it says of one that is not linearizable is the shortest beginning that is not.
func judgeRecords(key string, history []porcupine.Operation, versions leasetest.Versions, limit time.Duration) string {
	model := leasetest.Records(versions)
	switch porcupine.CheckOperationsTimeout(model, history, limit) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("whether the %d calls on %s are linearizable was not found out within %s", len(history), key, limit)
	}
	var ends []int64
	for _, o := range history {
		if o.Return < forever {
			ends = append(ends, o.Return)
		}
	}
	slices.Sort(ends)
	at, _ := slices.BinarySearchFunc(ends, true, func(end int64, _ bool) int {
		if porcupine.CheckOperationsTimeout(model, until(history, end), limit) == porcupine.Illegal {
			return 1
		}
		return -1
	})
	short := history
	if at < len(ends) {
		short = until(history, ends[at])
	}
	slices.SortFunc(short, func(x, y porcupine.Operation) int { return int(x.Call - y.Call) })
	const most = 16
	text := fmt.Sprintf("the calls on %s are not linearizable; the shortest beginning that is not has %d, of which the last are:", key, len(short))
	for _, o := range short[max(0, len(short)-most):] {
		end := "open"
		if o.Return < forever {
			end = time.Duration(o.Return).String()
		}
		text += fmt.Sprintf("\n    [%s, %s] %+v -> %+v", time.Duration(o.Call), end, o.Input, o.Output)
	}
	return text
}
