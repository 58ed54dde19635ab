package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// ErrNotFound is what the interfaces of this package return for something that is not there, and what the client
// returns when the agent says so.
var ErrNotFound = errors.New("not found")

// ErrUpstream is wrapped by errors about a server elsewhere that was asked for somebody.
var ErrUpstream = errors.New("the other server")

// typeProtected is the type of the problem that an override solves.
const typeProtected = "urn:hostmesh:protected"

// problem is an RFC 9457 problem document, and an error to return from a handler.
func problem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

// problemOf tells a client what err means for it.
func problemOf(err error) *huma.ErrorModel {
	var tooLong *http.MaxBytesError
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	status, kind := http.StatusInternalServerError, ""
	switch {
	case is(ErrUpstream):
		status = http.StatusBadGateway
	case errors.As(err, &tooLong), is(hostdb.ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case is(hostdb.ErrProtected):
		status, kind = http.StatusForbidden, typeProtected
	case is(hostdb.ErrDenied):
		status = http.StatusForbidden
	case is(ErrNotFound, hostdb.ErrNotFound, hostdb.ErrNoNamespace, hostdb.ErrNoParent):
		status = http.StatusNotFound
	case is(hostdb.ErrDropped, hostdb.ErrGone):
		status = http.StatusGone
	case is(hostdb.ErrExists, hostdb.ErrWrittenOver):
		status = http.StatusConflict
	case is(ErrChangedSince):
		status = http.StatusPreconditionFailed
	case is(hostdb.ErrBadName, hostdb.ErrInvalid, hostdb.ErrCycle, hostdb.ErrNotMapping, hostdb.ErrNotAllowed, layout.ErrBadInventory, layout.ErrBadTar):
		status = http.StatusBadRequest
	case is(hostdb.ErrUnavailable, hostdb.ErrStorageFull, hostdb.ErrClock, hostdb.ErrBusy, hostdb.ErrClosed, hostdb.ErrReadOnly, context.Canceled):
		status = http.StatusServiceUnavailable
	case is(context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	p := problem(status, err.Error())
	p.Type = kind
	return p
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // a client that is gone reads no error either
}

// plainErrors gives the mux's own answers, for paths and methods it does not know, the form of all other errors.
func plainErrors(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := statusProbe{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(&probe, r)
		switch probe.status {
		case http.StatusMethodNotAllowed:
			allow := probe.header.Get("Allow")
			w.Header().Set("Allow", allow)
			writeProblem(w, problem(probe.status, r.Method+" is not offered at "+r.URL.Path+"; "+allow+" is"))
		default:
			writeProblem(w, problem(http.StatusNotFound, "nothing is at "+r.URL.Path+"; see /openapi.json"))
		}
	})
}

// statusProbe is a ResponseWriter that keeps status and header and drops the rest.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
