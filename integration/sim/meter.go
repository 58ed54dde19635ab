package main

import (
	"slices"
	"time"
)

// meter watches what all agents send and receive.
type meter struct {
	w              *world
	began          time.Time
	sent, received []int64 // at the beginning, by agent
	peak           []int64 // most bytes an agent sent within one second
	stop           chan struct{}
	done           chan struct{}
}

func (w *world) meter() *meter {
	m := &meter{w: w, began: time.Now(), peak: make([]int64, len(w.agents)), stop: make(chan struct{}), done: make(chan struct{})}
	for _, a := range w.agents {
		m.sent = append(m.sent, a.line.sent.Load())
		m.received = append(m.received, a.line.received.Load())
		a.line.most.Store(0)
	}
	w.wg.Go(func() {
		defer close(m.done)
		last := slices.Clone(m.sent)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-w.over:
				return
			case <-tick.C:
			}
			for i, a := range w.agents {
				now := a.line.sent.Load()
				m.peak[i] = max(m.peak[i], now-last[i])
				last[i] = now
			}
		}
	})
	return m
}

// flow is what a meter saw.
type flow struct {
	Mean      float64 // bytes a second that a node sent, over all nodes
	Busiest   float64 // of the node that sent most
	Peak      float64 // most bytes that one of the agents asked about sent within one second
	Total     float64 // bytes that all nodes sent
	MostServe int     // most requests that one of them answered at a time
}

// read ends the metering; of is the agents whose peaks count.
func (m *meter) read(of []*agent) flow {
	close(m.stop)
	<-m.done
	took := time.Since(m.began).Seconds()
	var f flow
	for i, a := range m.w.agents {
		sent := float64(a.line.sent.Load() - m.sent[i])
		f.Total += sent
		f.Busiest = max(f.Busiest, sent/took)
	}
	f.Mean = f.Total / took / float64(len(of))
	for _, a := range of {
		f.Peak = max(f.Peak, float64(m.peak[a.id]))
		f.MostServe = max(f.MostServe, int(a.line.most.Load()))
	}
	return f
}
