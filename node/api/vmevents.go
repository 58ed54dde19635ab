package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"strings"
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
	write, ok := startStream(rw, r)
	if !ok {
		return
	}
	tell := func(e VMEvent) error {
		text, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
		w.events.Add(1)
		return write("event: " + e.Kind + "\ndata: " + string(text) + "\n\n")
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
			if write(aliveLine) != nil {
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
		once := func() (heard, more bool, err error) {
			q := url.Values{}
			setUnlessEmpty(q, "name", strings.Join(names, ","))
			return c.events(ctx, "/api/v1/vmevents", q, func(f frame) (bool, error) {
				if f.data == "" {
					return true, nil
				}
				e := VMEvent{Kind: f.kind}
				if err := json.Unmarshal([]byte(f.data), &e); err != nil {
					return true, fmt.Errorf("not an event of an agent: %w", err)
				}
				if e.Kind == EventBye {
					return true, errors.New(e.Reason)
				}
				return yield(e, nil), nil
			})
		}
		tell := func(why error, _ time.Duration) {
			if reconnecting != nil {
				reconnecting(why)
			}
		}
		if err := again(ctx, once, tell); err != nil {
			yield(VMEvent{}, err)
		}
	}
}
