package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
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

// The pauses between two attempts to connect, before chance makes them longer or shorter by half.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second

	// silence ends a connection on which nothing comes, not even what keeps it alive.
	silence = 3 * keepAlive
	// maxEvent bounds one line of an event.
	maxEvent = 64 << 20
)

// Watch yields what happens, EventRevision and EventSynced, until ctx ends or the loop is left. When the connection ends
// it connects again, after a pause, and goes on behind the last event: nothing is lost, and nothing comes twice. It yields
// an error, and ends, when going on is of no use: what is asked for is refused (ErrUnauthenticated, ErrDenied, a status of
// 400), or what follows the cursor is not kept any more (ErrGone).
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if o.From == "" {
			o.From = "now"
		}
		pause := firstPause
		for {
			heard, more, err := c.watchOnce(ctx, &o, yield)
			switch {
			case !more || ctx.Err() != nil:
				return
			case err != nil && refused(err):
				yield(Event{}, err)
				return
			case heard:
				pause = firstPause
			}
			wait := pause/2 + rand.N(pause)
			pause = min(2*pause, maxPause)
			if o.Reconnecting != nil {
				o.Reconnecting(err, wait)
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}
}

// refused reports whether asking again would give the same answer.
func refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusConflict && e.Status != http.StatusTooManyRequests
}

// errEnded is why a connection ended on which nobody said why.
var errEnded = errors.New("the connection ended")

// watchOnce follows one connection and moves o.From along. heard says that something came; more is false when the loop
// was left. The error is why the connection ended.
func (c *Client) watchOnce(ctx context.Context, o *WatchOptions, yield func(Event, error) bool) (heard, more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.doWith(ctx, http.MethodGet, "/api/v1/watch", o.query(), "", nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return false, true, err
	}
	defer resp.Body.Close()
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing was heard for %s", silence)) })
	defer quiet.Stop()
	in := bufio.NewReader(resp.Body)
	for {
		e, err := readEvent(in, func() { quiet.Reset(silence) })
		switch {
		case err != nil && ctx.Err() != nil:
			return heard, true, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return heard, true, fmt.Errorf("%s: %w", c.Where(), errEnded)
		case err != nil:
			return heard, true, fmt.Errorf("read events of %s: %w", c.Where(), err)
		}
		heard = true
		if e.Cursor != "" {
			o.From = e.Cursor
		}
		switch e.Kind {
		case EventRevision, EventSynced:
			quiet.Stop() // the loop's body may take its time
			if !yield(e, nil) {
				return heard, false, nil
			}
			quiet.Reset(silence)
		case EventOverrun, EventBye:
			return heard, true, fmt.Errorf("%s: %s", c.Where(), e.Reason)
		}
	}
}

// readEvent reads the next event, or one without a kind that only moves the cursor. beat is called for each line.
func readEvent(in *bufio.Reader, beat func()) (Event, error) {
	var e Event
	var data strings.Builder
	for {
		line, err := readLine(in)
		if err != nil {
			return Event{}, err
		}
		beat()
		if line == "" {
			if data.Len() > 0 {
				id := e.Cursor
				if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
					return Event{}, fmt.Errorf("not an event of an agent: %w", err)
				}
				e.Cursor = id
				return e, nil
			}
			if e.Cursor != "" {
				return Event{Cursor: e.Cursor}, nil
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			e.Cursor = value
		case "event":
			e.Kind = value
		case "data":
			data.WriteString(value)
		}
	}
}

func readLine(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		part, err := in.ReadSlice('\n')
		b.Write(part)
		switch {
		case b.Len() > maxEvent:
			return "", fmt.Errorf("an event of more than %d MiB", maxEvent>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", err
		}
		return strings.TrimRight(b.String(), "\r\n"), nil
	}
}
