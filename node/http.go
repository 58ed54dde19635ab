package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hostmesh/hostdb/rest"
	"hostmesh/mesh/door"
	"hostmesh/node/api"
)

// Limits of every web server.
const (
	headerTimeout = 10 * time.Second // also bounds the TLS handshake
	readTimeout   = time.Minute      // the largest document over a slow line; an import extends it as it goes
	writeTimeout  = 2 * time.Minute  // the same, and its answer
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // HostDB's clients put whole values into the query
	drainTimeout  = 3 * time.Second
)

// routes is the table of what is served, the same on every listener. There is no ServeMux in front: it answers doubled
// slashes with a redirect, which HostDB's clients do not follow.
type routes struct {
	hostdb  http.Handler // /v<digits>
	api     http.Handler // /api/, /openapi
	metrics http.Handler
	version func() string
	ready   func() []string // why the node is not ready; empty when it is
}

func (s *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if isHostDBPath(path) { // it names the version itself, and is the one path that must cost nothing more
		s.hostdb.ServeHTTP(w, r)
		return
	}
	w.Header().Set(api.HeaderVersion, s.version())
	switch {
	case strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/openapi"):
		s.api.ServeHTTP(w, r)
	case path == "/metrics":
		s.metrics.ServeHTTP(w, r)
	case path == "/healthz":
		text(w, http.StatusOK, "ok\n")
	case path == "/readyz":
		if why := s.ready(); len(why) > 0 {
			text(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(why, "; ")+"\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	default:
		text(w, http.StatusNotFound, "not found; there are /v1, /api/v1, /openapi.json, /metrics, /healthz and /readyz\n")
	}
}

// isHostDBPath reports whether a path is /v<digits> or below, whatever the number of slashes before it.
func isHostDBPath(path string) bool {
	for len(path) > 1 && path[1] == '/' {
		path = path[1:]
	}
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return false
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	return n > 0 && (n == len(rest) || rest[n] == '/')
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the client may be gone
}

// webServer is one listener with its server.
type webServer struct {
	name   string // socket, http or https
	ln     net.Listener
	srv    *http.Server
	door   *door.Door
	bodies *bodies
}

// newWebServer serves h on ln: plain, or with TLS when tlsConf is set.
func newWebServer(name string, ln *door.Listener, tlsConf *tls.Config, h http.Handler, log *slog.Logger) *webServer {
	pool := newBodies(maxBodies)
	srv := &http.Server{
		Handler:           served(pool.bound(h)),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.With("listener", name).Handler(), slog.LevelDebug), // mostly scanners
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(rest.ConnContext(peerContext(ctx, c), c), doorKey{}, door.Of(c))
		},
		Protocols: new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true) // reason phrases carry HostDB's messages, and HTTP/2 has none
	below := net.Listener(ln)
	if tlsConf != nil {
		below = tls.NewListener(ln, tlsConf)
	}
	return &webServer{name, rest.Listener(below), srv, ln.Door, pool}
}

type doorKey struct{}

// served lets no connection be closed to make room for others while its request is being served.
func served(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(doorKey{}).(*door.Conn); ok && c != nil {
			c.Busy()
			defer c.Waiting()
		}
		next.ServeHTTP(w, r)
	})
}

// tlsConfig is that of every HTTPS server.
func tlsConfig(get func(*tls.ClientHelloInfo) (*leafCert, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: get}
}

// run serves until ctx ends, and then lets requests under way finish for a while.
func (s *webServer) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.srv.Serve(s.ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.name, err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := s.srv.Shutdown(drain); err != nil {
		_ = s.srv.Close() // those who watch for ever are cut off
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.name, err)
	}
	return nil
}

// close frees the listener of a server that never ran. It is harmless after run.
func (s *webServer) close() error {
	_ = s.srv.Close()
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.name, err)
	}
	return nil
}

// metricsHandler serves a registry. One collector that fails does not hide the others.
func metricsHandler(reg *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError,
		// A scrape that comes while three others are under way adds nothing but load.
		MaxRequestsInFlight: 4,
	})
}
