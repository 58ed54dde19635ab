package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// Feed is the replica that watchers follow. A *hostdb.Store is one.
type Feed interface {
	View() hostdb.View
	Watch() (changed <-chan struct{}, stop func())
	Since(ctx context.Context, c hostdb.Cursor, v hostdb.View, max int) ([]hostdb.Revision, hostdb.Cursor, error)
	At(ctx context.Context, cut hostdb.Stamp) (hostdb.View, error)
	Cut(ctx context.Context, text string) (hostdb.Stamp, error)
}

// Matcher tells whether a key is one that a watcher's expression asks for.
type Matcher interface {
	Match(v hostdb.View, ns, key string) (bool, error)
}

// The kinds of events.
const (
	EventRevision = "revision" // somebody wrote something
	EventSynced   = "synced"   // all that there was has been told; what comes now is new. Once for each connection
	EventOverrun  = "overrun"  // the reader is too slow, and the connection ends
	EventBye      = "bye"      // the agent stops, or cannot read its history, and the connection ends
)

// Event is what a watcher hears.
type Event struct {
	Kind      string          `json:"-"`
	Cursor    string          `json:"cursor" doc:"What from= must be to go on behind this event; good at every node"`
	Revision  string          `json:"revision,omitempty" doc:"Of the operation, the same on every node"`
	User      string          `json:"user,omitempty"`
	Time      time.Time       `json:"time,omitzero" doc:"When it was written, by its writer's clock"`
	Log       string          `json:"log,omitempty"`
	Changes   []Change        `json:"changes,omitempty" doc:"What it did that the watcher asks for"`
	More      int             `json:"more_changes,omitempty" doc:"Changes beyond those listed"`
	Documents []EventDocument `json:"documents,omitempty" doc:"With data=true: the keys whose data changed, as they stand now"`
	Version   string          `json:"version,omitempty" doc:"With synced: of the state that was reached"`
	Reason    string          `json:"reason,omitempty" doc:"With overrun and bye: why the connection ends"`
}

// EventDocument is the data of a key as the answering node has it when it sends the event.
type EventDocument struct {
	ID   string          `json:"id"`
	ETag string          `json:"etag,omitempty" doc:"Absent when the key is gone"`
	Data json.RawMessage `json:"data,omitempty" doc:"Absent when the key is gone, or when the event would be too long: read it then"`
}

// Bounds of a watcher.
const (
	followBatch = 64      // revisions that are read at once
	maxDocs     = 4 << 20 // bytes of documents in one event
	// maxBehind is how many revisions a reader that was up to date may fall behind; behindFor is how long it may be so.
	maxBehind = 1000
	behindFor = 10 * time.Second
)

// position is where a watcher stands: a cursor, and how many revisions of an origin behind it were told already. So every
// revision has a position of its own although cursors are made for many at once.
type position struct {
	cursor hostdb.Cursor
	ahead  map[uint64]uint64
}

// String is CURSOR, or CURSOR~ORIGIN:N,...
func (p position) String() string {
	text := p.cursor.String()
	for i, origin := range slices.Sorted(maps.Keys(p.ahead)) {
		sep := ","
		if i == 0 {
			sep = "~"
		}
		text += fmt.Sprintf("%s%x:%x", sep, origin, p.ahead[origin])
	}
	return text
}

func parsePosition(text string) (position, error) {
	before, rest, more := strings.Cut(text, "~")
	c, err := hostdb.ParseCursor(before)
	if err != nil || !more {
		return position{cursor: c}, err
	}
	p := position{c, map[uint64]uint64{}}
	for part := range strings.SplitSeq(rest, ",") {
		o, n, _ := strings.Cut(part, ":")
		origin, err1 := strconv.ParseUint(o, 16, 64)
		count, err2 := strconv.ParseUint(n, 16, 64)
		if err1 != nil || err2 != nil || count == 0 || len(p.ahead) >= followBatch {
			return position{}, fmt.Errorf("%w: not a cursor: expected what an earlier event or answer gave as one", hostdb.ErrInvalid)
		}
		p.ahead[origin] = count
	}
	return p, nil
}

// follower reads what a replica gets, in the order of stamps within what is there.
type follower struct {
	feed  Feed
	at    position // where the batch begins
	next  hostdb.Cursor
	batch []hostdb.Revision
	seen  map[uint64]uint64 // revisions of the batch that were taken, by origin
}

// take is the next revision that v holds; ok is false when there is none.
func (f *follower) take(ctx context.Context, v hostdb.View) (rev hostdb.Revision, ok bool, err error) {
	for {
		if len(f.batch) == 0 {
			f.settle()
			list, next, err := f.feed.Since(ctx, f.at.cursor, v, followBatch)
			if err != nil {
				return hostdb.Revision{}, false, err
			}
			if len(list) == 0 {
				return hostdb.Revision{}, false, nil
			}
			f.batch, f.next, f.seen = list, next, map[uint64]uint64{}
		}
		rev, f.batch = f.batch[0], f.batch[1:]
		f.seen[rev.ID.Origin]++
		told := f.seen[rev.ID.Origin] <= f.at.ahead[rev.ID.Origin]
		if len(f.batch) == 0 {
			f.settle()
		}
		if !told {
			return rev, true, nil
		}
	}
}

// settle makes the end of a batch the new beginning.
func (f *follower) settle() {
	if f.seen == nil {
		return
	}
	ahead := map[uint64]uint64{}
	for origin, n := range f.at.ahead {
		if n > f.seen[origin] {
			ahead[origin] = n - f.seen[origin]
		}
	}
	f.at, f.batch, f.seen = position{f.next, ahead}, nil, nil
}

// position is behind what was taken last.
func (f *follower) position() position {
	if len(f.seen) == 0 {
		return f.at
	}
	ahead := maps.Clone(f.at.ahead)
	if ahead == nil {
		ahead = map[uint64]uint64{}
	}
	for origin, n := range f.seen {
		ahead[origin] = max(ahead[origin], n)
	}
	return position{f.at.cursor, ahead}
}

// beginning is the position behind everything up to a stamp. It reads the history from its start.
func beginning(ctx context.Context, feed Feed, v hostdb.View, cut hostdb.Stamp) (position, error) {
	f := follower{feed: feed}
	for {
		was := f.position()
		rev, ok, err := f.take(ctx, v)
		if err != nil {
			return position{}, err
		}
		if !ok {
			return f.position(), nil
		}
		if cut.Less(rev.ID) {
			return was, nil
		}
	}
}

// filter is what a watcher asks for.
type filter struct {
	ns, prefix string
	what       []hostdb.Resource // nil = all
	where      Matcher           // nil = all
	data       bool
}

// keyID names a key.
type keyID struct{ ns, key string }

// event is a revision as the watcher hears of it; ok is false when nothing in it is asked for. was and v are the states
// before and after what arrived last; backlog says that was is not known.
func (f *filter) event(ctx context.Context, feed Feed, rev hostdb.Revision, was, v hostdb.View, backlog bool) (e Event, ok bool) {
	matched := map[keyID]bool{}
	matches := func(x hostdb.Effect) bool {
		if f.where == nil {
			return true
		}
		id := keyID{x.NS, x.Key}
		if yes, known := matched[id]; known {
			return yes
		}
		// A value that the expression cannot be asked of is no match, as in a query.
		yes, _ := f.where.Match(v, x.NS, x.Key)
		if !yes && !backlog {
			yes, _ = f.where.Match(was, x.NS, x.Key)
		}
		for _, cut := range []hostdb.Stamp{rev.ID, rev.ID.Before()} {
			if yes || !backlog || v.Exists(x.NS, x.Key) {
				break
			}
			if then, err := feed.At(ctx, cut); err == nil { // else it is told of too little, not of what is nobody's business
				yes, _ = f.where.Match(then, x.NS, x.Key)
			}
		}
		matched[id] = yes
		return yes
	}
	changes, more := changesOf(rev.Effects, func(x hostdb.Effect) bool {
		switch {
		case f.ns != "" && x.NS != f.ns, !strings.HasPrefix(x.Key, f.prefix):
			return false
		case f.what != nil && !slices.Contains(f.what, partOf(x.Kind)) && x.Kind != hostdb.DeleteKey && x.From == "":
			return false // a key that goes or is renamed takes all its parts along
		}
		return matches(x)
	})
	if len(changes) == 0 {
		return Event{}, false
	}
	e = Event{Kind: EventRevision, Revision: rev.ID.String(), User: rev.User, Time: rev.At.UTC(), Log: rev.Log, Changes: changes, More: more}
	if f.data {
		e.Documents = documentsOf(changes, v)
	}
	return e, true
}

// documentsOf are the data of the keys whose data changed.
func documentsOf(changes []Change, v hostdb.View) []EventDocument {
	var out []EventDocument
	room := maxDocs
	last := ""
	for _, c := range changes {
		ns, key, whole := strings.Cut(c.ID, "/")
		if c.What != string(hostdb.Data) || !whole || c.ID == last {
			continue
		}
		last = c.ID // the changes of a key stand together
		d := EventDocument{ID: c.ID}
		if item, ok := v.Get(ns, key); ok {
			d.ETag = item.ETag(hostdb.Data)
			if text, err := jsonOf(item.Data()); err == nil && len(text) <= room {
				d.Data = text
				room -= len(text)
			}
		}
		out = append(out, d)
	}
	return out
}

// errSlow ends a watcher that does not keep up.
var errSlow = errors.New("the reader is too slow")

// watcher tells one reader what happens.
type watcher struct {
	feed Feed
	filter
	from position
	// send writes an event; an error ends the watcher. idle writes nothing that is heard, to see whether the reader is there.
	send func(Event) error
	idle func(position) error
	beat time.Duration   // how often idle is called
	stop <-chan struct{} // closed when the agent stops
}

// run tells until ctx ends, sending fails, or the agent stops.
func (w *watcher) run(ctx context.Context) error {
	changed, release := w.feed.Watch()
	defer release()
	beat := time.NewTicker(w.beat)
	defer beat.Stop()
	f := follower{feed: w.feed, at: w.from}
	var was hostdb.View
	synced := false
	told := uint64(0)     // once synced: how many of the revisions that the replica applied are behind us
	behind := time.Time{} // since when the reader is too far behind; zero when it is not
	for {
		v := w.feed.View()
		for {
			rev, ok, err := f.take(ctx, v)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return w.bye(f.position(), fmt.Sprintf("the history cannot be read now: %v", err))
			}
			if !ok {
				break
			}
			if e, ok := w.event(ctx, w.feed, rev, was, v, !synced); ok {
				e.Cursor = f.position().String()
				if err := w.send(e); err != nil {
					return err
				}
			}
			told++
			switch late := w.feed.View().Applied() - told; {
			case !synced || late <= maxBehind:
				behind = time.Time{}
			case behind.IsZero():
				behind = time.Now()
			case time.Since(behind) > behindFor:
				if err := w.send(Event{Kind: EventOverrun, Cursor: f.position().String(), Reason: fmt.Sprintf(
					"too slow: %d revisions behind for more than %s; go on from the cursor", late, behindFor)}); err != nil {
					return err
				}
				return errSlow
			}
			select {
			case <-w.stop:
				return w.bye(f.position(), "the agent stops")
			case <-beat.C:
				if err := w.idle(f.position()); err != nil {
					return err
				}
			default:
			}
		}
		was, told = v, v.Applied()
		if !synced {
			synced = true
			if err := w.send(Event{Kind: EventSynced, Cursor: f.position().String(), Version: v.Version().String()}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.stop:
			return w.bye(f.position(), "the agent stops")
		case <-changed:
		case <-beat.C:
			if err := w.idle(f.position()); err != nil {
				return err
			}
		}
	}
}

func (w *watcher) bye(p position, why string) error {
	return w.send(Event{Kind: EventBye, Cursor: p.String(), Reason: why})
}
