package mysqlhatest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"hostmesh/lbd/mysqlha"
)

// journalLength is how much of what was done is kept.
const journalLength = 400

// say keeps what was done, for whoever wants to know how it came to something that must never be. mu is held.
func (w *World) say(format string, args ...any) {
	if len(w.journal) >= 2*journalLength {
		w.journal = slices.Delete(w.journal, 0, journalLength)
	}
	w.journal = append(w.journal, fmt.Sprintf("%9.4f ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// Say keeps a line among those of what was done.
func (w *World) Say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say("%s", text)
}

// Journal is what was done, with how long after the begin: what came before the first fault, or else what came last.
func (w *World) Journal() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.atFault != nil {
		return slices.Clone(w.atFault)
	}
	return slices.Clone(w.journal[max(0, len(w.journal)-journalLength):])
}

// stands is how the server of a box stands, in short. mu is held.
func (b *box) stands() string {
	text := fmt.Sprintf("at %s", b.last().gtid())
	for _, x := range []struct {
		name string
		yes  bool
	}{
		{"no power", b.dead}, {"frozen", b.frozen}, {"takes writes", b.running && !b.readOnly}, {"waits", b.semi}, {"to acknowledge", b.acker}, {"acknowledges", b.ackConnected}, {"is slow", b.slow > 0},
		{"hangs", b.stuck}, {"does not apply", b.source != "" && !b.sql}, {"shut", b.closed}, {"fenced", b.marked != ""}, {"a copy", b.copy != nil},
	} {
		if x.yes {
			text += ", " + x.name
		}
	}
	if !b.running {
		text += ", down"
	}
	if b.source != "" {
		text += fmt.Sprintf(", follows %s (%s)", b.source, b.ioState)
	}
	if len(b.nft) > 0 {
		text += fmt.Sprintf(", hears nothing from %v", slices.Sorted(maps.Keys(b.nft)))
	}
	if n := len(b.relay); n > 0 {
		text += fmt.Sprintf(", %d not applied", n)
	}
	return text
}

// brief is a record in short.
func brief(r mysqlha.Record) string {
	text := fmt.Sprintf("epoch %d, primary %s, ackers %v, of which %v have all, shut %v, fenced %v", r.Epoch, r.Primary, r.Ackers, slices.Sorted(maps.Keys(r.Starts)), r.Shut, slices.Sorted(maps.Keys(r.Fenced)))
	if i := r.Intent; i != nil {
		text += fmt.Sprintf(", %s from %s to %q at %s, position %s, cut %v, killed %q, stopped %q, loss %q", i.Kind, i.Old, i.To, i.Step, i.Position, i.Cut, i.FenceConfirmed, i.Stopped, i.Loss)
	}
	return text
}
