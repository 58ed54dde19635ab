package dnsd

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tally counts what one goroutine answers. Others may read it at any time; the writer takes no lock and, but for the first
// of a kind, allocates nothing.
type tally struct {
	counters map[said]*counter // the writer's own
	last     *counter          // most answers are like the one before
	list     atomic.Pointer[[]*counter]
	latency  latency
	askers   askers
}

type counter struct {
	said
	n atomic.Uint64
}

func newTally() *tally { return &tally{counters: map[said]*counter{}} }

// count adds one answer.
func (t *tally) count(s said) {
	c := t.last
	if c == nil || c.said != s {
		if c = t.counters[s]; c == nil {
			c = t.add(s)
		}
		t.last = c
	}
	c.n.Add(1)
}

func (t *tally) add(s said) *counter {
	c := &counter{said: s}
	t.counters[s] = c
	var all []*counter
	if was := t.list.Load(); was != nil {
		all = *was
	}
	all = append(all, c) // who reads the list before does not see beyond its end
	t.list.Store(&all)
	return c
}

// each yields what was counted.
func (t *tally) each(yield func(said, uint64)) {
	if list := t.list.Load(); list != nil {
		for _, c := range *list {
			yield(c.said, c.n.Load())
		}
	}
}

// sharedTally is for goroutines that come and go.
type sharedTally struct {
	mu sync.Mutex
	*tally
}

func (t *sharedTally) answered(s said, from netip.Addr, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(s)
	t.latency.observe(took, 1)
	t.askers.add(from, 1)
}

// latencyBounds are the upper bounds of the histogram's buckets: from one microsecond on, each four times the last.
var latencyBounds = func() (b [10]time.Duration) {
	b[0] = time.Microsecond
	for i := range b[1:] {
		b[i+1] = 4 * b[i]
	}
	return b
}()

// latency is a histogram with one writer.
type latency struct {
	buckets [len(latencyBounds) + 1]atomic.Uint64
	sum     atomic.Int64 // ns
}

// observe adds n answers that took d each.
func (l *latency) observe(d time.Duration, n int) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.buckets[i].Add(uint64(n))
	l.sum.Add(int64(d) * int64(n))
}

// mostAskers bounds the addresses that an askers keeps.
const mostAskers = 128

// askers finds out who asks most, in bounded memory: the space-saving sketch of Metwally, Agrawal and El Abbadi (2005). An
// address that is not kept takes the place, and the count, of the one that was seen least; so a count is too high by
// at most that, which is at most all questions divided by mostAskers.
type askers struct {
	mu    sync.Mutex // the writer does not wait for it
	index map[[16]byte]int
	heap  []asker // the least first
}

type asker struct {
	addr   [16]byte
	n, err uint64
}

// add counts n questions of an address. While somebody reads they are not counted.
func (a *askers) add(addr netip.Addr, n int) {
	if !addr.IsValid() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if a.index == nil {
		a.index, a.heap = make(map[[16]byte]int, mostAskers), make([]asker, 0, mostAskers)
	}
	key := addr.As16()
	i, known := a.index[key]
	switch {
	case known:
	case len(a.heap) < mostAskers:
		i = len(a.heap)
		a.heap = append(a.heap, asker{addr: key})
		a.index[key] = i
		a.up(i)
		i = a.index[key]
	default:
		i = 0
		delete(a.index, a.heap[0].addr)
		a.heap[0].addr, a.heap[0].err = key, a.heap[0].n
		a.index[key] = 0
	}
	a.heap[i].n += uint64(n)
	a.down(i)
}

func (a *askers) swap(i, j int) {
	a.heap[i], a.heap[j] = a.heap[j], a.heap[i]
	a.index[a.heap[i].addr], a.index[a.heap[j].addr] = i, j
}

func (a *askers) up(i int) {
	for i > 0 && a.heap[i].n < a.heap[(i-1)/2].n {
		a.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (a *askers) down(i int) {
	for {
		least := i
		for _, c := range [...]int{2*i + 1, 2*i + 2} {
			if c < len(a.heap) && a.heap[c].n < a.heap[least].n {
				least = c
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}

func (a *askers) snapshot() []asker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.heap)
}

// Asker is an address and about how many questions it asked since the start.
type Asker struct {
	Addr netip.Addr `json:"addr"`
	// Questions is at most Error too high, and off by chance: of questions that come together one is looked at.
	Questions uint64 `json:"questions"`
	Error     uint64 `json:"error"`
}

// merge adds up what several have seen, most first.
func merge(lists ...[]asker) []Asker {
	sum := map[[16]byte]asker{}
	for _, list := range lists {
		for _, a := range list {
			s := sum[a.addr]
			sum[a.addr] = asker{a.addr, s.n + a.n, s.err + a.err}
		}
	}
	out := make([]Asker, 0, len(sum))
	for _, a := range sum {
		out = append(out, Asker{netip.AddrFrom16(a.addr).Unmap(), a.n, a.err})
	}
	slices.SortFunc(out, func(a, b Asker) int { return cmp.Or(cmp.Compare(b.Questions, a.Questions), a.Addr.Compare(b.Addr)) })
	return out
}
