package main

import (
	"sync"
	"time"
)

// tick is how finely the time is divided at which agents learn who came and went.
const tick = 50 * time.Millisecond

// gossip is what serf tells the agents, as far as replication cares: each learns of each change after a time of its own,
// drawn from the range that dissemination takes in a mesh of that size. Serf itself does not run.
type gossip struct {
	w *world

	mu      sync.Mutex // guards the fields below
	due     map[int64][]sighting
	pending int
	wake    chan struct{}
}

// sighting is what one agent learns about another.
type sighting struct {
	who, of *agent
	alive   bool
}

func newGossip(w *world) *gossip {
	return &gossip{w: w, due: map[int64][]sighting{}, wake: make(chan struct{}, 1)}
}

// tell has every agent of audience learn of a change, each after a time within s.
func (g *gossip) tell(audience []*agent, of *agent, alive bool, s span) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, who := range audience {
		if who == of {
			continue
		}
		at := now.Add(s.at(g.w.chance())).UnixNano()/int64(tick) + 1
		g.due[at] = append(g.due[at], sighting{who, of, alive})
		g.pending++
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run delivers what is due until stop is closed.
func (g *gossip) run(stop <-chan struct{}) {
	var last int64
	for {
		g.mu.Lock()
		idle := g.pending == 0
		g.mu.Unlock()
		if idle {
			select {
			case <-stop:
				return
			case <-g.wake:
				last = time.Now().UnixNano() / int64(tick)
			}
			continue
		}
		select {
		case <-stop:
			return
		case <-time.After(tick):
		}
		now := time.Now().UnixNano() / int64(tick)
		for at := last; at <= now; at++ {
			g.mu.Lock()
			list := g.due[at]
			delete(g.due, at)
			g.pending -= len(list)
			g.mu.Unlock()
			for _, s := range list {
				s.who.sees(s.of, s.alive)
			}
		}
		last = now
	}
}

// sees has an agent take note of another, and look at its list soon: at once, but no more often than model.lookEvery.
func (a *agent) sees(of *agent, alive bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.alive) <= of.id {
		a.alive = append(a.alive, false)
	}
	if a.alive[of.id] == alive {
		return
	}
	a.alive[of.id] = alive
	if alive {
		a.known++
	} else {
		a.known--
	}
	if a.looking {
		return
	}
	now := time.Now()
	if wait := a.looked.Add(a.w.model.lookEvery).Sub(now); wait > 0 {
		a.looking = true
		time.AfterFunc(wait, a.look)
		return
	}
	a.looked = now
	a.poke()
}

func (a *agent) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looking, a.looked = false, time.Now()
	a.poke()
}

func (a *agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// aliveNow are the agents that a sees as alive, by name.
func (a *agent) aliveNow() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]string, 0, a.known)
	for id, alive := range a.alive {
		if alive && id != a.id {
			out = append(out, a.w.agents[id].name)
		}
	}
	return out
}

// suspects reports mass suspicion: more than a fifth of the members, and at least three, are gone.
func (a *agent) suspects() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	members := int(a.w.started.Load()) - 1
	gone := members - a.known
	return gone >= 3 && 5*gone > members
}

// greet gives an agent that starts the list that its seed has: who is up and can be reached.
func (a *agent) greet() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alive = make([]bool, len(a.w.agents))
	a.known = 0
	for _, b := range a.w.agents {
		if b != a && b.member.Load() && b.line.side.Load() == a.line.side.Load() {
			a.alive[b.id] = true
			a.known++
		}
	}
}
