package mesh

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

// board holds what is known of the members and publishes it as Views. Writers hold mu; readers take the pointer.
type board struct {
	log  *slog.Logger
	self string
	now  func() time.Time
	view atomic.Pointer[viewData]

	mu       sync.Mutex // guards the fields below
	revision uint64
	members  map[string]Member
	coords   map[string]*coordinate.Coordinate
	mass     bool
	reports  reportStore
	watchers map[chan struct{}]bool // true: of reports, too
}

func newBoard(self Member, log *slog.Logger, now func() time.Time) *board {
	b := &board{
		log: log, self: self.ID, now: now, members: map[string]Member{self.ID: self}, watchers: make(map[chan struct{}]bool),
		reports: reportStore{held: make(map[string]*held)},
	}
	b.change(func(map[string]Member) bool { return true })
	return b
}

// change runs edit on the members, and publishes a new View when it reports a change. Members passed to edit belong to
// the board.
func (b *board) change(edit func(members map[string]Member) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := edit(b.members)
	if changed {
		b.reports.prune(b.self, b.members)
	}
	b.publish(changed)
}

// publish makes the View that readers get. Watchers are told only of what matters: a coordinate that moved is no news.
// mu is held.
func (b *board) publish(changed bool) {
	d := &viewData{self: b.self, coords: b.coords, reports: b.reports.forView(), members: make([]Member, 0, len(b.members))}
	for _, m := range b.members {
		m.Self = m.ID == b.self
		d.members = append(d.members, m)
	}
	d.mass = massSuspicion(d.members, b.now())
	if d.mass != b.mass {
		b.mass, changed = d.mass, true
		if d.mass {
			b.log.Warn("mass suspicion begins: so many members failed within a minute that this node, or a switch, is the likelier cause")
		} else {
			b.log.Warn("mass suspicion ends")
		}
	}
	d.index()
	if mine := b.coords[b.self]; mine != nil {
		for i := range d.members {
			m := &d.members[i]
			if c := b.coords[m.ID]; c != nil && !m.Self && c.IsCompatibleWith(mine) {
				m.RTT = mine.DistanceTo(c)
			}
		}
	}
	if changed {
		b.revision++
	}
	d.revision = b.revision
	b.view.Store(d)
	if changed {
		for ch := range b.watchers {
			poke(ch)
		}
	}
}

// setCoords takes over new coordinates. The map is the board's afterwards.
func (b *board) setCoords(coords map[string]*coordinate.Coordinate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.coords = coords
	b.publish(false)
}

func (b *board) watch(reports bool) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[ch] = reports
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, ch)
	}
}

// poke puts a value into a one-slot channel, unless there is one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
