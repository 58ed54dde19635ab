package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// patience is how long anything may take in virtual time before it counts as failed.
const patience = 10 * time.Minute

// lengths is how long the experiments take.
type lengths struct {
	writes  int           // that are followed one by one
	rest    time.Duration // that traffic is metered at rest
	busy    time.Duration // and with writes
	cut     time.Duration // that a rack is away
	join    time.Duration // within which the joiners start
	restart time.Duration // within which all restart
}

// convergence is how long a write took until shares of the agents showed it: median and worst of the writes.
type convergence struct {
	Half, Most, All, WorstHalf, WorstMost, WorstAll time.Duration
}

// result is what came out of the experiments with n agents.
type result struct {
	N            int
	Joiners      int // 0 but for the results of a join, where N agents were there
	Write        convergence
	Rest, Busy   flow
	Slow, Mute   convergence
	SickTakeover uint64
	Rack         recovery
	Restart      recovery
	Join         joined
}

// recovery is how a mesh got over a fault.
type recovery struct {
	Took   time.Duration // until all were equal
	Flow   flow          // meanwhile
	Busy   uint64        // requests that were turned away
	Writes int           // that were made meanwhile
	Worst  time.Duration // the longest that a write took to reach all that counted
}

// joined is how a join went.
type joined struct {
	State   time.Duration // from the first start until the last joiner had the state
	Longest time.Duration // that one joiner took
	Median  time.Duration
	History time.Duration // until the last joiner had all of history
	Flow    flow          // peaks are those of the old agents
	Each    float64       // bytes for one joiner
	Busy    uint64
}

// measure makes writes at random agents, one at a time, and follows each until all of counts show it.
func (w *world) measure(writes int, counts []*agent) (convergence, error) {
	var half, most, all []time.Duration
	for range writes {
		t := w.follow(counts)
		if err := w.write(w.any(counts), t); err != nil {
			return convergence{}, err
		}
		select {
		case <-t.done:
		case <-time.After(patience):
			return convergence{}, fmt.Errorf("after %s %d of %d agents do not show a write", patience, t.left, len(counts))
		}
		half, most, all = append(half, t.after(0.5)), append(most, t.after(0.99)), append(all, t.after(1))
		time.Sleep(time.Duration(w.chance() * float64(2*time.Second)))
	}
	return convergence{median(half), median(most), median(all), slices.Max(half), slices.Max(most), slices.Max(all)}, nil
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

func (w *world) any(of []*agent) *agent { return of[int(w.chance()*float64(len(of)))] }

// load writes so often a second at random ones of writers until stop is closed.
type load struct {
	stop   chan struct{}
	done   chan struct{}
	tracks []*track
	errs   []error
}

// writesPerSecond is the load under which the mesh is looked at.
const writesPerSecond = 10

// cutWrites is how many a second there are while a rack is cut off: most of what then crosses was written before.
const cutWrites = 4

func (w *world) load(rate int, writers, counts []*agent) *load {
	l := &load{stop: make(chan struct{}), done: make(chan struct{})}
	w.wg.Go(func() {
		defer close(l.done)
		var wg sync.WaitGroup
		var mu sync.Mutex
		defer wg.Wait()
		for {
			select {
			case <-l.stop:
				return
			case <-w.over:
				return
			case <-time.After(time.Duration(w.chance() * 2 * float64(time.Second) / float64(rate))):
			}
			a := w.any(writers)
			if !a.up.Load() {
				continue
			}
			t := w.follow(counts)
			wg.Go(func() {
				err := w.write(a, t)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					l.tracks = append(l.tracks, t)
				case a.up.Load():
					l.errs = append(l.errs, err)
				}
			})
		}
	})
	return l
}

// end stops the writes.
func (l *load) end() error {
	close(l.stop)
	<-l.done
	return errors.Join(l.errs...)
}

// worst is the longest that one of the writes took. It is called when all agents are equal.
func (l *load) worst() time.Duration {
	var d time.Duration
	for _, t := range l.tracks {
		d = max(d, t.after(1))
	}
	return d
}

// writers are some of the agents: an API is used through few.
func (w *world) writers() []*agent {
	of := w.running()
	var out []*agent
	for i := range min(20, len(of)) {
		out = append(out, of[i*len(of)/min(20, len(of))])
	}
	return out
}

// traffic meters the mesh at rest and with writes.
func (w *world) traffic(still, writing time.Duration) (rest, busy flow, err error) {
	all := w.running()
	m := w.meter()
	time.Sleep(still)
	rest = m.read(all)
	l := w.load(writesPerSecond, w.writers(), all)
	time.Sleep(time.Second)
	m = w.meter()
	time.Sleep(writing)
	busy = m.read(all)
	if err := l.end(); err != nil {
		return rest, busy, err
	}
	_, err = w.settle(patience)
	return rest, busy, err
}

// sicken has one agent in twenty fall sick, measures how writes reach the others, and heals them.
func (w *world) sicken(how sickness, writes int) (convergence, error) {
	all := w.running()
	var well []*agent
	for i, a := range all {
		if i%20 == 7 {
			a.line.sick.Store(int32(how))
		} else {
			well = append(well, a)
		}
	}
	c, err := w.measure(writes, well)
	for _, a := range all {
		a.line.sick.Store(int32(healthy))
	}
	if err != nil {
		return c, err
	}
	_, err = w.settle(patience)
	return c, err
}

// loseRack cuts one rack off while writes go on everywhere, and joins it again.
func (w *world) loseRack(cut time.Duration) (recovery, error) {
	var r recovery
	all := w.running()
	rack := all[len(all)/2].rack
	var in, out []*agent
	for _, a := range all {
		if a.rack == rack {
			in = append(in, a)
		} else {
			out = append(out, a)
		}
	}
	l := w.load(cutWrites, all, all)
	time.Sleep(2 * time.Second)
	for _, a := range in {
		a.line.side.Store(1)
	}
	w.divide(in, out, false, w.model.failureSeen)
	time.Sleep(cut)
	if err := l.end(); err != nil {
		return r, err
	}
	busy := w.counts().Busy
	m := w.meter()
	for _, a := range in {
		a.line.side.Store(0)
	}
	w.divide(in, out, true, span{w.model.joinSeen.from, w.model.joinSeen.to + 4*time.Second}) // the first must be dialled again
	took, err := w.settle(patience)
	r = recovery{Took: took, Writes: len(l.tracks)}
	if err == nil {
		time.Sleep(2 * time.Second)
		r.Flow = m.read(all)
		r.Busy = w.counts().Busy - busy
	}
	time.Sleep(5 * time.Second)
	return r, err
}

// divide has two parts of the mesh lose each other, or find each other again.
func (w *world) divide(in, out []*agent, alive bool, s span) {
	for _, a := range in {
		w.gossip.tell(out, a, alive, s)
	}
	for _, a := range out {
		w.gossip.tell(in, a, alive, s)
	}
}

// restartAll restarts every agent within a time, at random, while writes go on. Each is away for one to three seconds, which
// the others do not notice.
func (w *world) restartAll(within time.Duration) (recovery, error) {
	var r recovery
	all := w.running()
	busy := w.counts().Busy
	l := w.load(writesPerSecond, all, all)
	time.Sleep(2 * time.Second)
	m := w.meter()
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, a := range all {
		at := time.Duration(w.chance() * float64(within))
		away := time.Second + time.Duration(w.chance()*float64(2*time.Second))
		wg.Go(func() {
			time.Sleep(at)
			a.kill()
			time.Sleep(away)
			errs[i] = a.start()
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, l.end())...); err != nil {
		return r, err
	}
	took, err := w.settle(patience)
	r = recovery{Took: took, Writes: len(l.tracks)}
	if err == nil {
		time.Sleep(2 * time.Second)
		r.Flow = m.read(all)
		r.Worst = l.worst()
		r.Busy = w.counts().Busy - busy
	}
	return r, err
}

// joinAll starts all that did not run yet, within a time and with empty storages.
func (w *world) joinAll(within time.Duration) (joined, error) {
	var j joined
	old := w.running()
	var fresh []*agent
	for _, a := range w.agents {
		if !a.up.Load() {
			fresh = append(fresh, a)
		}
	}
	state := maps.Collect(old[0].store.View().Vector())
	began := time.Now()
	m := w.meter()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	var took []time.Duration
	for _, a := range fresh {
		at := time.Duration(w.chance() * float64(within))
		wg.Go(func() {
			time.Sleep(at)
			d, err := w.join(a, state)
			mu.Lock()
			defer mu.Unlock()
			took, errs = append(took, d), append(errs, err)
			j.State = max(j.State, time.Since(began))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return j, err
	}
	for _, a := range fresh {
		for a.store.Missing() > 0 {
			time.Sleep(50 * time.Millisecond)
			if time.Since(began) > patience {
				return j, fmt.Errorf("after %s %s lacks %d operations of history", patience, a.name, a.store.Missing())
			}
		}
	}
	j.History = time.Since(began)
	j.Longest, j.Median = slices.Max(took), median(took)
	j.Flow = m.read(old)
	j.Each = j.Flow.Total / float64(len(fresh))
	j.Busy = w.counts().Busy
	_, err := w.settle(patience)
	return j, err
}

// join starts an agent and waits until it shows a state: so many operations of each origin.
func (w *world) join(a *agent, state map[uint64]uint64) (time.Duration, error) {
	began := time.Now()
	w.joined(a)
	if err := a.start(); err != nil {
		return 0, err
	}
	var others []*agent
	for _, b := range w.agents {
		if b.member.Load() {
			others = append(others, b)
		}
	}
	a.member.Store(true)
	w.gossip.tell(others, a, true, w.model.joinSeen)
	changed, stop := a.store.Watch()
	defer stop()
	end := time.After(patience)
	for !shows(a.store.View(), state) {
		select {
		case <-changed:
		case <-end:
			return 0, fmt.Errorf("%s has not the state after %s", a.name, patience)
		}
	}
	return time.Since(began), nil
}

func shows(v hostdb.View, state map[uint64]uint64) bool {
	for origin, seq := range state {
		if v.Seq(origin) < seq {
			return false
		}
	}
	return true
}
