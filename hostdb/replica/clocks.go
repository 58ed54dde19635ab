package replica

import (
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxClocks  = 64
	clockFor   = 10 * time.Minute // how long what was heard of a clock counts
	clockTries = 4                // of one peer that are kept; the one of the shortest round trip counts
	// clockOff is how far off the median a clock is called wrong: hostdb refuses local writes beyond the same.
	clockOff = time.Second
	// maxTrip is how long an answer may take to tell anything of a clock: half of it is what the reading may be wrong by, and a mesh
	// whose disks are slow must not take that for a wrong clock.
	maxTrip = clockOff
)

// ClockStatus is what is known of one peer's clock.
type ClockStatus struct {
	Node   string
	Offset time.Duration // how far it is ahead of this box's
	Error  time.Duration // at most so much of that is the way there and back
	Off    time.Duration // how far it is ahead of the median
	Wrong  bool          // over a second off the median, of three clocks or more
	Heard  time.Time
}

// ClocksStatus is how the clocks of the mesh stand, as seen from here.
type ClocksStatus struct {
	Known int           // clocks that are known, this box's included
	Ahead time.Duration // how far this box's clock is ahead of the median
	Wrong bool          // this box's is over a second off, of three clocks or more
	// Differ says that two clocks are known and over a second apart: nobody can tell which is right.
	Differ bool
	Peers  []ClockStatus
}

// reading is one estimate of a peer's clock.
type reading struct {
	offset, trip time.Duration
	at           time.Time
}

// clocks are those of the peers that were heard lately.
type clocks struct {
	mu sync.Mutex // guards the fields below
	by map[string][]reading
	// judged is what was made of them at judgedAt: every write asks, and every answer tells.
	judged   ClocksStatus
	judgedAt time.Time
}

// judgeEvery is how long a judgement of the clocks holds. They do not drift a second meanwhile.
const judgeEvery = 250 * time.Millisecond

// heardClock takes note of a peer's clock: wall is what it showed between our sending, at sent, and trip later.
func (r *Replica) heardClock(node string, wall int64, sent time.Time, trip time.Duration) {
	if trip > maxTrip {
		return
	}
	now := time.Now()
	in := reading{offset: time.Unix(0, wall).Sub(sent.Add(trip / 2)), trip: trip, at: now}
	c := &r.clocks
	c.mu.Lock()
	if c.by == nil {
		c.by = map[string][]reading{}
	}
	list := append(c.by[node], in)
	if len(list) > clockTries {
		list = slices.Delete(list, 0, len(list)-clockTries)
	}
	c.by[node] = list
	if len(c.by) > maxClocks {
		c.forgetOldest()
	}
	fresh := now.Sub(c.judgedAt) < judgeEvery
	c.mu.Unlock()
	if fresh {
		return
	}
	st := r.clocksNow()
	if st.Wrong {
		r.alarm("this box's clock is off the median of the mesh", "clocks", st.Known, "ahead", st.Ahead.Round(time.Millisecond))
	}
	for _, p := range st.Peers {
		if p.Wrong {
			r.alarm("a peer's clock is off the median of the mesh", "peer", p.Node, "ahead", p.Off.Round(time.Millisecond))
		}
	}
}

func (c *clocks) forgetOldest() {
	oldest, at := "", time.Time{}
	for node, list := range c.by {
		if t := list[len(list)-1].at; oldest == "" || t.Before(at) {
			oldest, at = node, t
		}
	}
	delete(c.by, oldest)
}

// bestLocked are the peers' clocks as far as they count, by node.
func (c *clocks) bestLocked(now time.Time) []ClockStatus {
	var out []ClockStatus
	for node, list := range c.by {
		list = slices.DeleteFunc(list, func(r reading) bool { return now.Sub(r.at) > clockFor })
		if len(list) == 0 {
			delete(c.by, node)
			continue
		}
		c.by[node] = list
		best := list[0]
		for _, r := range list {
			// What is much older says less: the clock may have been put right since.
			if r.at.Sub(best.at) > clockFor/10 || r.trip <= best.trip {
				best = r
			}
		}
		if last := list[len(list)-1]; (last.offset - best.offset).Abs() > last.trip+best.trip {
			best = last // it was set meanwhile
		}
		out = append(out, ClockStatus{Node: node, Offset: best.offset, Error: best.trip / 2, Heard: best.at})
	}
	slices.SortFunc(out, func(a, b ClockStatus) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// clocksNow is how the clocks stand. What it gives is shared: nobody may change it.
func (r *Replica) clocksNow() ClocksStatus {
	c, now := &r.clocks, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.judgedAt.IsZero() || now.Sub(c.judgedAt) >= judgeEvery {
		c.judged, c.judgedAt = judgeClocks(c.bestLocked(now)), now
	}
	return c.judged
}

// judgeClocks says who is off. Offsets are from this box's clock, which counts as well.
func judgeClocks(peers []ClockStatus) ClocksStatus {
	offsets := []time.Duration{0}
	for _, p := range peers {
		offsets = append(offsets, p.Offset)
	}
	slices.Sort(offsets)
	n := len(offsets)
	median := offsets[n/2]
	if n%2 == 0 {
		median = offsets[n/2-1] + (offsets[n/2]-offsets[n/2-1])/2
	}
	st := ClocksStatus{Known: n, Ahead: -median, Peers: peers}
	for i := range peers {
		p := &peers[i]
		p.Off = p.Offset - median
		p.Wrong = n >= 3 && (p.Off.Abs()-p.Error) > clockOff
	}
	st.Wrong = n >= 3 && st.Ahead.Abs() > clockOff
	st.Differ = n == 2 && (peers[0].Offset.Abs()-peers[0].Error) > clockOff
	return st
}

// Skew is how far this box's wall is ahead of the median of the clocks that are known, and how many those are, this one
// included. With fewer than three nobody can tell who is wrong.
func (r *Replica) Skew() (ahead time.Duration, clocks int) {
	st := r.clocksNow()
	return st.Ahead, st.Known
}
