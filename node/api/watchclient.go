package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"
)

// WatchOptions say what to hear of.
type WatchOptions struct {
	From   string   // "" or "now"; "0" for all there is; a cursor; a revision, a time, or how long ago
	NS     string   // only keys of this namespace
	Prefix string   // only keys that begin so
	Where  string   // only keys for which this expression holds
	What   []string // only these parts: data, members, perms
	Data   bool     // with the documents that changed
	// Reconnecting is told why the connection ended and how long the pause will be; nil = nobody is.
	Reconnecting func(why error, pause time.Duration)
}

func (o *WatchOptions) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"from": o.From, "ns": o.NS, "prefix": o.Prefix, "where": o.Where, "what": strings.Join(o.What, ",")} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if o.Data {
		q.Set("data", "true")
	}
	return q
}

// Watch yields what happens, EventRevision and EventSynced, until ctx ends or the loop is left. When the connection ends
// it connects again, after a pause, and goes on behind the last event: nothing is lost, and nothing comes twice. It yields
// an error, and ends, when going on is of no use: what is asked for is refused (ErrUnauthenticated, ErrDenied, a status of
// 400), or what follows the cursor is not kept any more (ErrGone).
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if o.From == "" {
			o.From = "now"
		}
		if err := again(ctx, func() (heard, more bool, err error) { return c.watchOnce(ctx, &o, yield) }, o.Reconnecting); err != nil {
			yield(Event{}, err)
		}
	}
}

// watchOnce follows one connection and moves o.From along; see events.
func (c *Client) watchOnce(ctx context.Context, o *WatchOptions, yield func(Event, error) bool) (heard, more bool, err error) {
	return c.events(ctx, "/api/v1/watch", o.query(), func(f frame) (bool, error) {
		e, err := eventOf(f)
		if err != nil {
			return true, err
		}
		if e.Cursor != "" {
			o.From = e.Cursor
		}
		switch e.Kind {
		case EventRevision, EventSynced:
			return yield(e, nil), nil
		case EventOverrun, EventBye:
			return true, errors.New(e.Reason)
		}
		return true, nil
	})
}

// eventOf is the event in a frame, or one without a kind that only moves the cursor.
func eventOf(f frame) (Event, error) {
	var e Event
	if f.data != "" {
		if err := json.Unmarshal([]byte(f.data), &e); err != nil {
			return Event{}, fmt.Errorf("not an event of an agent: %w", err)
		}
		e.Kind = f.kind
	}
	e.Cursor = f.id
	return e, nil
}
