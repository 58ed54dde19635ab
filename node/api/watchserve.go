package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hostmesh/hostdb"
)

// Bounds of watching.
const (
	// MaxWatchers is how many may watch one agent at a time.
	MaxWatchers = 256

	// coverWait is how long a reader waits whose cursor names what has not arrived here yet.
	coverWait = 10 * time.Second
)

// WatchConfig is what Watchers need.
type WatchConfig struct {
	// Feed is the replica. Required.
	Feed Feed
	// Compile understands an expression over the keys of a namespace. nil = expressions are refused.
	Compile func(where, ns string) (Matcher, error)
}

// Watchers tells readers what happens to the host database. It is safe for concurrent use.
type Watchers struct {
	cfg      WatchConfig
	stop     chan struct{}
	once     sync.Once
	watching atomic.Int64
	events   atomic.Uint64
	overruns atomic.Uint64
}

// NewWatchers makes one without readers. The caller closes it before the servers, which wait for readers to end.
func NewWatchers(cfg WatchConfig) *Watchers { return &Watchers{cfg: cfg, stop: make(chan struct{})} }

// Close says bye to every reader. It is idempotent and does not wait.
func (w *Watchers) Close() error {
	w.once.Do(func() { close(w.stop) })
	return nil
}

// WatchStats are the figures of Watchers, for metrics.
type WatchStats struct {
	Watching int    // readers now
	Events   uint64 // events sent since the start
	Overruns uint64 // readers that were closed because they were too slow
}

// Stats are the figures now.
func (w *Watchers) Stats() WatchStats {
	return WatchStats{int(w.watching.Load()), w.events.Load(), w.overruns.Load()}
}

type watchInput struct {
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that was heard; goes before from"`
	From        string `query:"from" doc:"now; 0 for all there is; a cursor, of an event or a list; or a moment: a revision, a time, how long ago (90m). Empty = now"`
	NS          string `query:"ns" doc:"Only keys of this namespace"`
	Prefix      string `query:"prefix" doc:"Only keys that begin so"`
	Where       string `query:"where" doc:"Only keys for which this expression holds, before or after: see query. Of ns, which is hosts if it is empty"`
	What        string `query:"what" doc:"Only these parts of keys, divided by commas: data, members, perms" example:"data,members"`
	Data        bool   `query:"data" doc:"Send the documents that changed with the event"`
}

func registerWatch(a huma.API, w *Watchers) {
	event := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Event](), true, "")
	huma.Register(a, huma.Operation{
		OperationID: "watch", Method: http.MethodGet, Path: "/api/v1/watch",
		Summary: "Hear of every change as it happens", Tags: []string{"hostdb"},
		Description: "Server-sent events: the name of an event is revision, synced, overrun or bye; its id is the cursor to go on from, at any " +
			"node; its data is the object below. Revisions come in the order of their stamps within what has arrived; what was written behind a " +
			"partition comes when it heals, with its own stamp. synced comes once, when all there was has been told. Nothing else is an event: " +
			"who is slow is told so by overrun and closed, and bye comes before the agent stops. 409: the cursor names what has not arrived " +
			"here yet. 410: what follows the cursor is not kept any more: read everything, and watch from there.",
		Responses: map[string]*huma.Response{"200": {
			Description: "Events, without end",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: event}},
		}},
		Errors: []int{http.StatusBadRequest, http.StatusConflict, http.StatusGone, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *watchInput) (*huma.StreamResponse, error) {
		f, err := w.filterOf(in)
		if err != nil {
			return nil, err
		}
		if n := w.watching.Add(1); n > MaxWatchers {
			w.watching.Add(-1)
			return nil, problem(http.StatusServiceUnavailable, fmt.Sprintf("%d readers watch this agent already: watch another one", n-1))
		}
		from, err := w.start(ctx, in)
		if err != nil {
			w.watching.Add(-1)
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer w.watching.Add(-1)
			r, rw := humago.Unwrap(hc)
			w.serve(rw, r, watcher{feed: w.cfg.Feed, filter: f, from: from, beat: keepAlive, stop: w.stop})
		}}, nil
	})
}

// filterOf understands what a reader asks for.
func (w *Watchers) filterOf(in *watchInput) (f filter, err error) {
	f = filter{ns: in.NS, prefix: in.Prefix, data: in.Data}
	if in.NS != "" {
		if err := checkNamespace(in.NS); err != nil {
			return f, err
		}
	}
	if in.What != "" {
		for part := range strings.SplitSeq(in.What, ",") {
			switch r := hostdb.Resource(strings.TrimSpace(part)); r {
			case hostdb.Data, hostdb.Members, hostdb.Perms:
				f.what = append(f.what, r)
			default:
				return f, problem(http.StatusBadRequest, fmt.Sprintf("what=%s: expected data, members and perms, divided by commas", in.What))
			}
		}
	}
	if strings.TrimSpace(in.Where) == "" {
		return f, nil
	}
	if w.cfg.Compile == nil {
		return f, problem(http.StatusBadRequest, "where is not understood by this agent")
	}
	if f.ns == "" {
		f.ns = hostdb.Hosts
	}
	if f.where, err = w.cfg.Compile(in.Where, f.ns); err != nil {
		return f, problem(http.StatusBadRequest, fmt.Sprintf("where: %v", err))
	}
	return f, nil
}

// start is where a reader begins, once the replica has all that lies before.
func (w *Watchers) start(ctx context.Context, in *watchInput) (position, error) {
	text := in.LastEventID
	if text == "" {
		text = in.From
	}
	v := w.cfg.Feed.View()
	switch text {
	case "", "now", v.Version().String():
		return position{cursor: v.Cursor()}, nil
	case "0":
		return position{}, nil
	}
	p, err := parsePosition(text)
	if err != nil {
		cut, cutErr := w.cfg.Feed.Cut(ctx, text)
		if cutErr != nil {
			return position{}, problem(http.StatusBadRequest, fmt.Sprintf("from=%s: expected now, 0, the cursor of an event or a list, a revision or a time: %v", text, cutErr))
		}
		if p, err = beginning(ctx, w.cfg.Feed, v, cut); err != nil {
			return position{}, goneOr(err)
		}
		return p, nil
	}
	if err := w.await(ctx, p.cursor); err != nil {
		return position{}, err
	}
	// Whether what follows is still kept must be known while the status can say so.
	f := follower{feed: w.cfg.Feed, at: p}
	if _, _, err := f.take(ctx, w.cfg.Feed.View()); err != nil {
		return position{}, goneOr(err)
	}
	return p, nil
}

// goneOr is the problem of a history that cannot be read.
func goneOr(err error) error {
	if errors.Is(err, hostdb.ErrNotFound) {
		return problem(http.StatusGone, fmt.Sprintf("what follows the cursor is not kept any more (%v): read everything, and watch from there", err))
	}
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		p = problem(http.StatusServiceUnavailable, "the history cannot be read now: "+err.Error())
	}
	return p
}

// await waits for a while until the replica holds what a cursor names.
func (w *Watchers) await(ctx context.Context, c hostdb.Cursor) error {
	changed, release := w.cfg.Feed.Watch()
	defer release()
	late := time.NewTimer(coverWait)
	defer late.Stop()
	for !w.cfg.Feed.View().Covers(c) {
		select {
		case <-changed:
		case <-ctx.Done():
			return problemOf(ctx.Err())
		case <-w.stop:
			return problem(http.StatusServiceUnavailable, "the agent stops")
		case <-late.C:
			return problem(http.StatusConflict, "the cursor names writes that have not arrived at this node yet: try again, or watch another node")
		}
	}
	return nil
}

// serve writes events until the reader goes, is too slow, or the agent stops.
func (w *Watchers) serve(rw http.ResponseWriter, r *http.Request, x watcher) {
	write, ok := startStream(rw, r)
	if !ok {
		return
	}
	last := x.from.String()
	x.send = func(e Event) error {
		text, err := sseFrame(e)
		if err != nil {
			return err
		}
		w.events.Add(1) // before anybody can have heard of it
		if err := write(text); err != nil {
			return err
		}
		last = e.Cursor
		return nil
	}
	x.idle = func(p position) error {
		// Where what happens is not asked for, the reader still gets on.
		if now := p.String(); now != last {
			last = now
			return write(": alive\nid: " + now + "\n\n")
		}
		return write(aliveLine)
	}
	if err := x.run(r.Context()); errors.Is(err, errSlow) {
		w.overruns.Add(1)
	}
}

// sseFrame is an event as it is sent.
func sseFrame(e Event) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: ", e.Cursor, e.Kind)
	enc := json.NewEncoder(&b) // it ends the line
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return "", fmt.Errorf("write an event: %w", err)
	}
	b.WriteByte('\n')
	return b.String(), nil
}
