// Package rest serves HostDB over HTTP as /v1, so that Flipkart HostDB's clients work unchanged against any node.
//
// It owns ids, parameters, the order of checks, status codes, headers and reason phrases. It leaves the meaning of writes
// to hostdb, who somebody is to hostdb/auth, and listening, TLS and the unix socket to the server that mounts it.
//
// # What it adds to upstream
//
// Every answer has Hostmesh-Version, the version of the replica it came from. A write answers with Hostmesh-Acks (the
// boxes that hold it durably, this one included), Hostmesh-Revision when it changed something, and Hostmesh-Warning for
// what the validator wants a person to know. ?acks=N asks for that Hostmesh-Acks, and is 5040 (504) when it is not
// reached in time; the write stands. ?dry_run=true makes all checks and writes nothing. ETag and If-Match guard a
// read-modify-write (4120, 412), If-None-Match: * a creation. "Accept: application/json" gives data, lists and history as
// JSON. A PUT may have its value as the body, as YAML, JSON or plain text by Content-Type, with log and session in the
// query. Reads take as-of=TIME beside revision=; such answers say whether they are Settled, and what a key that was renamed
// since was called then (Hostmesh-Formerly). Sorted lists come in pages of limit= after after=, revisions in pages before
// before=; Hostmesh-More tells that there is more.
package rest

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// Config is what a handler needs.
type Config struct {
	// Store is the replica that is read and written. Required.
	Store *hostdb.Store
	// Auth verifies passwords and sessions. Required. An identity that auth.WithIdentity put into a request's context goes
	// before every session.
	Auth *auth.Auth
	// Settled reports whether nothing can come any more that changes the state as of a stamp: whether every node is known
	// to have sent what it wrote up to it. nil leaves the header Settled out.
	Settled func(hostdb.Stamp) bool
	// Logger is nil for none.
	Logger *slog.Logger
	// Registerer takes the collectors of the handler; nil is none.
	Registerer prometheus.Registerer
}

// New makes the handler of /v<digits>/... It looks at the path of the request as it was sent, so it must not stand behind
// an http.ServeMux, which redirects paths with "//" and "..". Reason phrases need [Listener].
//
// New panics without Store or Auth, and when Registerer has the collectors already.
func New(cfg Config) http.Handler {
	if cfg.Store == nil || cfg.Auth == nil {
		panic("rest: Store and Auth are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{Config: cfg, metrics: newMetrics(cfg.Registerer), foreign: http.NewCrossOriginProtection()}
}

type handler struct {
	Config
	metrics *metrics
	foreign *http.CrossOriginProtection
	lists   lists
	version atomic.Pointer[versionHeader]
}

// versionHeader is the Hostmesh-Version of a view, so that it is not formatted for each request. It names the state by
// its number: a hostdb.Version would keep what the replica has long left behind.
type versionHeader struct {
	applied uint64
	header  []string
}

// call is one request.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	view   hostdb.View
	cut    hostdb.Stamp // what view is as of; zero when it is the newest
	target target
	params params
	body   body
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := call{handler: h, w: w, r: r, view: h.Store.View()}
	w.Header()["Hostmesh-Version"] = h.versionHeader(c.view)
	err := c.serve()
	if err == nil {
		h.metrics.done(r.Method, c.target.kind, time.Since(start))
		return
	}
	f, foreseen := asFailure(err)
	if !foreseen {
		h.Logger.Error("request failed", "method", r.Method, "id", c.target.String(), "err", err)
	}
	writeError(w, r, f)
	h.metrics.failed(r.Method, c.target.kind, f.code, time.Since(start))
}

func (h *handler) versionHeader(v hostdb.View) []string {
	applied := v.Applied()
	if p := h.version.Load(); p != nil && p.applied == applied {
		return p.header
	}
	p := &versionHeader{applied, []string{v.Version().String()}}
	h.version.Store(p)
	return p.header
}

func (c *call) serve() error {
	var err error
	c.target, err = parseURLPath(c.r.URL.EscapedPath())
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
	default:
		c.w.Header()["Allow"] = allowed
		return fail(codeMethod, "Method not allowed: "+c.r.Method)
	}
	read := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	if !read || c.target.kind == kindCanModify {
		if err := c.readOnly(); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	switch {
	case c.target.kind == kindSession && read:
		return c.whoami()
	case c.target.kind == kindSession && c.r.Method == http.MethodPost:
		return c.login()
	case c.target.kind == kindCanModify && read:
		return c.canModify()
	case c.target.kind == kindSession || c.target.kind == kindCanModify:
		return fail(codeNotAllowed, c.r.Method+" is not allowed on auth/"+c.target.kind.String())
	case read:
		return c.get()
	}
	return write{call: *c}.serve()
}

// readOnly is why the mesh takes no writes, nor logins; nil when it does.
func (c *call) readOnly() error {
	on, why := c.view.ReadOnly()
	switch {
	case !on:
		return nil
	case why == "":
		return fail(codeReadOnly, "HostDB is in read-only mode")
	}
	return fail(codeReadOnly, "HostDB is in read-only mode: "+why)
}

var allowed = []string{"GET, HEAD, PUT, POST, DELETE"}

// identity is who the request comes from.
func (c *call) identity() (auth.Identity, error) {
	if id, ok := auth.FromContext(c.r.Context()); ok {
		return id, nil
	}
	token, ok := c.params.lookup("session")
	if !ok { // an empty parameter goes before the cookie too
		token = c.cookie()
		// SameSite keeps the cookie from other sites' pages, but not from those of another port or a neighbouring name.
		if err := c.foreign.Check(c.r); err != nil && token != "" {
			return auth.Identity{}, fail(codeDenied, "The request comes from a page of another site")
		}
	}
	return c.Auth.Identify(token, c.clientAddr())
}

func (c *call) cookie() string {
	cookie, err := c.r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// clientAddr is the address of the client; the zero Addr when it has none.
func (c *call) clientAddr() netip.Addr {
	ap, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}
