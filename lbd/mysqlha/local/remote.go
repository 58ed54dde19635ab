package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"hostmesh/lbd/mysqlha"
)

// CallLocal is the name of the handler that carries out orders. Requests and answers are JSON.
const CallLocal = "mysql.local.1"

// Mesh reaches the agents of hosts. Both calls are those of mesh.Mesh, but that a host is named by its key in hosts; an error is about the way there, or of the handler.
type Mesh interface {
	Call(ctx context.Context, host, name string, req []byte) ([]byte, error)
	CallUrgent(ctx context.Context, host, name string, req []byte) ([]byte, error)
}

// request is an order, or a question (what = state).
type request struct {
	What   string          `json:"what"`
	Order  mysqlha.Order   `json:"order"`
	Source *mysqlha.Source `json:"source,omitempty"`
	Why    string          `json:"why,omitempty"`
	As     mysqlha.Role    `json:"as,omitempty"`
	From   string          `json:"from,omitempty"`
}

// answer is what came of it. Code and Text are an error, see codeOf.
type answer struct {
	Code     string                 `json:"code,omitempty"`
	Text     string                 `json:"text,omitempty"`
	State    *mysqlha.LocalState    `json:"state,omitempty"`
	Progress *mysqlha.CloneProgress `json:"progress,omitempty"` // of a clone that goes on: ask again
	Position string                 `json:"position,omitempty"`
}

// The words of request.What.
const (
	askState    = "state"
	askCut      = "cut"
	askUncut    = "uncut"
	askKill     = "kill"
	askStart    = "start"
	askStop     = "stop"
	askTake     = "take"
	askDrop     = "drop"
	askHandOver = "hand_over"
	askClone    = "clone"
	askCompared = "compared"
)

// codes are the errors that cross. Those that name something special come before those that others wrap.
var codes = []struct {
	code string
	err  error
}{
	{"overtaken", mysqlha.ErrOvertaken}, {"not_here", mysqlha.ErrNotHere}, {"marked", mysqlha.ErrMarked}, {"silent", mysqlha.ErrSilent},
	{"unrecoverable", mysqlha.ErrUnrecoverable}, {"damaged", ErrDamaged}, {"space", ErrSpace}, {"writable", ErrWritable}, {"unverified", ErrUnverified}, {"busy", ErrBusy}, {"not_serving", ErrNotServing}, {"address", ErrAddress}, {"clone", ErrClone},
	{"closed", ErrClosed}, {"deadline", context.DeadlineExceeded}, {"canceled", context.Canceled},
}

func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "error"
}

// remoteError is an error of another host, which has said all of it.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func errorOf(code, text string) error {
	for _, c := range codes {
		if c.code == code {
			return &remoteError{text, c.err}
		}
	}
	return &remoteError{text, nil}
}

// silent is an error of the way to a host.
func silent(host string, err error) error {
	return fmt.Errorf("%w: %s: %w", mysqlha.ErrSilent, host, err)
}

// cloneWait is how long a host works on a clone before it tells how far it is.
const cloneWait = time.Second

// ServeLocal answers CallLocal of a peer. Peers of the mesh alone reach it.
func (h *Host) ServeLocal(ctx context.Context, req []byte) ([]byte, error) {
	var q request
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", CallLocal, err)
	}
	a, err := h.serve(ctx, q)
	if err != nil {
		a.Code, a.Text = codeOf(err), err.Error()
	}
	return json.Marshal(a)
}

func (h *Host) serve(ctx context.Context, q request) (a answer, err error) {
	switch q.What {
	case askState:
		var st mysqlha.LocalState
		if st, err = h.State(ctx, q.Order.Tag); err == nil {
			a.State = &st
		}
	case askCut, askUncut:
		if q.Source == nil {
			return a, fmt.Errorf("%s: it names no source", q.What)
		}
		do := h.Cut
		if q.What == askUncut {
			do = h.Uncut
		}
		err = do(ctx, q.Order, *q.Source)
	case askKill:
		err = h.Kill(ctx, q.Order, q.Why)
	case askStart:
		err = h.Start(ctx, q.Order, q.As)
	case askStop:
		err = h.Stop(ctx, q.Order)
	case askTake:
		err = h.TakeVIP(ctx, q.Order)
	case askDrop:
		err = h.DropVIP(ctx, q.Order)
	case askHandOver:
		err = h.HandOverVIP(ctx, q.Order)
	case askClone:
		return h.serveClone(ctx, q)
	case askCompared:
		err = h.Compared(ctx, q.Order, q.Why)
	default:
		err = fmt.Errorf("%q is no order that this build knows: make all agents of the cluster the same version", q.What)
	}
	return a, err
}

// serveClone begins a clone, or joins it, and tells after a while how far it is.
func (h *Host) serveClone(ctx context.Context, q request) (a answer, err error) {
	s, err := h.of(q.Order.Tag)
	if err != nil {
		return a, err
	}
	r, err := s.clone.begin(q.Order, q.From)
	if err != nil {
		return a, err
	}
	select {
	case <-r.done:
		r.told.Store(true)
		return answer{Position: r.position}, r.err
	case <-time.After(cloneWait):
	case <-ctx.Done():
	}
	far := r.far()
	return answer{Progress: &far}, nil
}

// Remote is the agent on another host, as mysqlha.Local. Its methods are safe for concurrent use.
type Remote struct {
	mesh Mesh
	host string
}

var _ mysqlha.Local = (*Remote)(nil)

// NewRemote makes one for a host, by its key in hosts.
func NewRemote(m Mesh, host string) *Remote { return &Remote{m, host} }

// Where ctx has no deadline of its own.
const (
	remoteShort = 10 * time.Second
	remoteLong  = 15 * time.Minute // a server that recovers
)

// ask calls, with what a decision waits for before everything else. Any failure on the way is ErrSilent: what was asked may have happened.
func (r *Remote) ask(ctx context.Context, q request) (a answer, err error) {
	req, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	call, limit := r.mesh.CallUrgent, remoteShort
	switch q.What {
	case askStart, askStop:
		call, limit = r.mesh.Call, remoteLong
	case askClone:
		call = r.mesh.Call
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	text, err := call(ctx, r.host, CallLocal, req)
	if err != nil {
		return a, silent(r.host, err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("answer of %s: %w", r.host, err)
	}
	if a.Code != "" {
		return a, fmt.Errorf("%s: %w", r.host, errorOf(a.Code, a.Text))
	}
	return a, nil
}

func (r *Remote) order(ctx context.Context, q request) error {
	_, err := r.ask(ctx, q)
	return err
}

// State implements mysqlha.Local.
func (r *Remote) State(ctx context.Context, tag string) (mysqlha.LocalState, error) {
	a, err := r.ask(ctx, request{What: askState, Order: mysqlha.Order{Tag: tag}})
	if err != nil {
		return mysqlha.LocalState{}, err
	}
	if a.State == nil {
		return mysqlha.LocalState{}, fmt.Errorf("answer of %s: it has no state", r.host)
	}
	return *a.State, nil
}

// Cut implements mysqlha.Local.
func (r *Remote) Cut(ctx context.Context, o mysqlha.Order, source mysqlha.Source) error {
	return r.order(ctx, request{What: askCut, Order: o, Source: &source})
}

// Uncut implements mysqlha.Local.
func (r *Remote) Uncut(ctx context.Context, o mysqlha.Order, source mysqlha.Source) error {
	return r.order(ctx, request{What: askUncut, Order: o, Source: &source})
}

// Kill implements mysqlha.Local.
func (r *Remote) Kill(ctx context.Context, o mysqlha.Order, why string) error {
	return r.order(ctx, request{What: askKill, Order: o, Why: why})
}

// Start implements mysqlha.Local.
func (r *Remote) Start(ctx context.Context, o mysqlha.Order, as mysqlha.Role) error {
	return r.order(ctx, request{What: askStart, Order: o, As: as})
}

// Stop implements mysqlha.Local.
func (r *Remote) Stop(ctx context.Context, o mysqlha.Order) error {
	return r.order(ctx, request{What: askStop, Order: o})
}

// TakeVIP implements mysqlha.Local.
func (r *Remote) TakeVIP(ctx context.Context, o mysqlha.Order) error {
	return r.order(ctx, request{What: askTake, Order: o})
}

// DropVIP implements mysqlha.Local.
func (r *Remote) DropVIP(ctx context.Context, o mysqlha.Order) error {
	return r.order(ctx, request{What: askDrop, Order: o})
}

// HandOverVIP implements mysqlha.Local.
func (r *Remote) HandOverVIP(ctx context.Context, o mysqlha.Order) error {
	return r.order(ctx, request{What: askHandOver, Order: o})
}

// Compared implements mysqlha.Local.
func (r *Remote) Compared(ctx context.Context, o mysqlha.Order, differs string) error {
	return r.order(ctx, request{What: askCompared, Order: o, Why: differs})
}

// Clone implements mysqlha.Local. A host that is silent for a while is asked again: the clone goes on there, and whoever asks joins it.
func (r *Remote) Clone(ctx context.Context, o mysqlha.Order, from string, progress func(mysqlha.CloneProgress)) (string, error) {
	if progress != nil {
		progress(mysqlha.CloneProgress{Step: stepBackup})
	}
	for tries := 1; ; {
		asked, cancel := context.WithTimeout(ctx, cloneWait+remoteShort)
		a, err := r.ask(asked, request{What: askClone, Order: o, From: from})
		cancel()
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("%w: %w", mysqlha.ErrSilent, ctx.Err())
		case errors.Is(err, mysqlha.ErrSilent) && tries < pieceTries:
			tries++
			continue
		case err != nil:
			return "", err
		case a.Progress == nil:
			return a.Position, nil
		}
		tries = 1
		if progress != nil {
			progress(*a.Progress)
		}
	}
}
