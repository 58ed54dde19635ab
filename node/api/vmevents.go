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
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// EventVM is an event of a machine: how it stands now.
const EventVM = "vm"

// VMEvent is what a watcher of machines hears. There is no cursor: who comes again hears first how all stand.
type VMEvent struct {
	Kind string    `json:"-"`
	At   time.Time `json:"at" doc:"When the answering node learnt of it"`
	VM   *VM       `json:"vm,omitempty" doc:"How the machine stands"`
	Gone string    `json:"gone,omitempty" doc:"Name of a machine that neither HostDB wants nor a box has"`
	UUID string    `json:"uuid,omitempty" doc:"With gone: of that machine"`
	// Reason is with EventBye.
	Reason string `json:"reason,omitempty" doc:"With bye: why the connection ends"`
}

// Name is that of the machine.
func (e VMEvent) Name() string {
	if e.VM != nil {
		return e.VM.Name
	}
	return e.Gone
}

// ID is the machine's UUID.
func (e VMEvent) ID() string {
	if e.VM != nil {
		return e.VM.UUID
	}
	return e.UUID
}

// maxWatchedVMs bounds the names in one request.
const maxWatchedVMs = 200

func registerVMEvents(a huma.API, m VMs, w *Watchers) {
	event := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[VMEvent](), true, "")
	huma.Register(a, huma.Operation{
		OperationID: "watch-vms", Method: http.MethodGet, Path: "/api/v1/vmevents", Summary: "Hear of virtual machines as they change", Tags: []string{"vms"},
		Description: "Server-sent events: the name of an event is vm, synced or bye, its data is the object below. First comes how each machine stands, then synced once, " +
			"then each change. A machine that changes faster than the reader reads is told of as it stands then. bye comes before the agent stops.",
		Responses: map[string]*huma.Response{"200": {
			Description: "Events, without end",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: event}},
		}},
		Errors: []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Name []string `query:"name" maxItems:"200" doc:"Only these machines, divided by commas"`
	}) (*huma.StreamResponse, error) {
		if n := w.watching.Add(1); n > MaxWatchers {
			w.watching.Add(-1)
			return nil, problem(http.StatusServiceUnavailable, fmt.Sprintf("%d readers watch this agent already: watch another one", n-1))
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer w.watching.Add(-1)
			r, rw := humago.Unwrap(hc)
			w.serveVMs(rw, r, m, in.Name)
		}}, nil
	})
}

// serveVMs tells of machines until the reader goes or the agent stops.
func (w *Watchers) serveVMs(rw http.ResponseWriter, r *http.Request, m VMs, names []string) {
	rc := http.NewResponseController(rw)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	_ = rc.SetReadDeadline(time.Time{}) // the deadline of the request would end the stream
	var mu sync.Mutex                   // one writes at a time: events, or what keeps the connection alive
	write := func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		_ = rc.SetWriteDeadline(time.Now().Add(writeStall))
		if _, err := io.WriteString(rw, text); err != nil {
			return err
		}
		return rc.Flush()
	}
	tell := func(e VMEvent) error {
		text, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
		w.events.Add(1)
		return write("event: " + e.Kind + "\ndata: " + string(text) + "\n\n")
	}
	if write(": hostmesh\n\n") != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.WatchVMs(ctx, names, tell) }()
	beat := time.NewTicker(keepAlive)
	defer beat.Stop()
	for {
		select {
		case <-ended:
			return
		case <-w.stop:
			cancel()
			<-ended
			_ = tell(VMEvent{Kind: EventBye, At: time.Now().UTC(), Reason: "the agent stops"}) // who is gone needs no farewell
			return
		case <-beat.C:
			if write(": alive\n\n") != nil {
				cancel()
				<-ended
				return
			}
		}
	}
}

// WatchVMs yields how machines stand: all, or those with these names; then EventSynced; then each change, until ctx ends or
// the loop is left. When the connection ends it connects again after a pause, and tells all from the beginning; reconnecting,
// when it is not nil, is told why. It yields an error, and ends, when it is refused.
func (c *Client) WatchVMs(ctx context.Context, names []string, reconnecting func(why error)) iter.Seq2[VMEvent, error] {
	return func(yield func(VMEvent, error) bool) {
		if len(names) > maxWatchedVMs {
			names = nil // all; the caller knows which it means
		}
		for pause := firstPause; ; pause = min(2*pause, maxPause) {
			heard, more, err := c.watchVMsOnce(ctx, names, yield)
			switch {
			case !more || ctx.Err() != nil:
				return
			case err != nil && refused(err):
				yield(VMEvent{}, err)
				return
			case heard:
				pause = firstPause
			}
			if reconnecting != nil {
				reconnecting(err)
			}
			timer := time.NewTimer(pause/2 + rand.N(pause))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}
}

func (c *Client) watchVMsOnce(ctx context.Context, names []string, yield func(VMEvent, error) bool) (heard, more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q := url.Values{}
	setUnlessEmpty(q, "name", strings.Join(names, ","))
	resp, err := c.doWith(ctx, http.MethodGet, "/api/v1/vmevents", q, "", nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return false, true, err
	}
	defer resp.Body.Close()
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing was heard for %s", silence)) })
	defer quiet.Stop()
	in := bufio.NewReader(resp.Body)
	for {
		e, err := readVMEvent(in, func() { quiet.Reset(silence) })
		switch {
		case err != nil && ctx.Err() != nil:
			return heard, true, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return heard, true, fmt.Errorf("%s: %w", c.Where(), errEnded)
		case err != nil:
			return heard, true, fmt.Errorf("read events of %s: %w", c.Where(), err)
		case e.Kind == EventBye:
			return heard, true, fmt.Errorf("%s: %s", c.Where(), e.Reason)
		}
		heard = true
		quiet.Stop() // the loop's body may take its time
		if !yield(e, nil) {
			return heard, false, nil
		}
		quiet.Reset(silence)
	}
}

// readVMEvent reads the next event. beat is called for each line.
func readVMEvent(in *bufio.Reader, beat func()) (VMEvent, error) {
	var e VMEvent
	var data strings.Builder
	for {
		line, err := readLine(in)
		if err != nil {
			return VMEvent{}, err
		}
		beat()
		if line == "" {
			if data.Len() == 0 {
				continue
			}
			if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
				return VMEvent{}, fmt.Errorf("not an event of an agent: %w", err)
			}
			return e, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Kind = value
		case "data":
			data.WriteString(value)
		}
	}
}
