package dnsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/door"
)

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("dns server is closed")

// Config says where to answer and how. Begin with DefaultConfig.
type Config struct {
	// Listen is host:port, for UDP and TCP. Port 0 takes a free one.
	Listen string
	// Zone says where live names stand.
	Zone zone.Options
	// Dir is where dns-serials.json is kept. Empty: serials begin anew at each start, from the clock or the peers.
	Dir string
	// Peers agree with this node on serials. nil: none.
	Peers Peers
	// Transfers answers AXFR, IXFR, NOTIFY and signed requests. nil: the first two are refused, NOTIFY is not implemented,
	// and no key is known.
	Transfers Transfers
	// Publishing is told of zones before they are served, and Published right after they began to be: one at a time and in
	// order. nil: nobody is.
	Publishing, Published func(*zone.Zones)
	// Version and Hostname answer version.bind and hostname.bind (CHAOS, RFC 4892); Hostname is the identifier of RFC 5001
	// (NSID), too. Empty: refused, and no identifier.
	Version, Hostname string
	// MaxConns bounds open TCP connections, a quarter of it those of one source. For each that comes beyond it the longest
	// quiet one is closed, of the source that has the most.
	MaxConns int
	// IdleTimeout is how long a TCP connection may be quiet (RFC 7766 section 6.2.3), a question may take to come, and an
	// answer to be taken.
	IdleTimeout time.Duration
	// MaxQueriesPerConn ends a TCP connection after that many questions. 0: never; who crowds others out is closed anyway.
	MaxQueriesPerConn int
	// Logger is nil for slog.Default().
	Logger *slog.Logger
}

// DefaultConfig returns the defaults; Listen must be set.
func DefaultConfig() Config {
	return Config{
		Zone:        zone.DefaultOptions(),
		MaxConns:    512,              // each costs two buffers of 64 KiB at worst
		IdleTimeout: 10 * time.Second, // resolvers keep a connection for a burst, not for long
	}
}

// Server answers DNS queries from what Reconcile compiled last. Before the first Reconcile it answers SERVFAIL.
// It is a node Daemon. All methods are safe for concurrent use.
type Server struct {
	cfg     Config
	udp     []*udpSocket
	slow    *slowPath
	tcp     *doorListener
	ending  atomic.Bool // no more questions over TCP
	zones   atomic.Pointer[zone.Zones]
	serials *Serials
	file    serialFile
	changed chan struct{} // one slot: a serial changed
	metrics *metrics

	slowTally, tcpTally sharedTally // beside those of the sockets

	noted atomic.Int64 // when a panic was, in ns of the Unix time

	mu       sync.Mutex // one compilation at a time; guards the fields below
	compiled time.Duration
	fileErr  error
	lastErr  error

	life    sync.Mutex // guards the fields below
	closed  bool
	running bool
	stop    context.CancelFunc
	done    chan struct{}
}

// Open binds the sockets and reads the serials of earlier runs. Queries wait until Run.
func Open(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, serials: NewSerials(nil), changed: make(chan struct{}, 1)}
	s.slow, s.slowTally.tally, s.tcpTally.tally = newSlowPath(s), newTally(), newTally()
	if cfg.Dir != "" {
		s.file.path = filepath.Join(cfg.Dir, serialFileName)
		if err := s.file.load(s.serials); err != nil {
			// Serials from the clock and the peers are most likely right too; no DNS would be worse.
			cfg.Logger.Warn("zone serials of the last run are lost, they begin anew", slog.Any("error", err))
			s.fileErr = err
		}
	}
	var err error
	if s.udp, s.tcp, err = listen(cfg); err != nil {
		return nil, err
	}
	s.tcp.server = s
	for _, u := range s.udp {
		u.server = s
	}
	s.metrics = newMetrics(s)
	if cfg.Peers != nil {
		cfg.Peers.Handle(callSerials, s.serveExchange)
	}
	return s, nil
}

// listen binds one address for UDP and TCP.
func listen(cfg Config) ([]*udpSocket, *doorListener, error) {
	addr := cfg.Listen
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("dns.listen must be host:port, such as 10.1.0.12:53: %w", err)
	}
	for attempt := 0; ; attempt++ {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, listenError("tcp", addr, err)
		}
		udp, err := listenUDP(net.JoinHostPort(host, fmt.Sprint(tcp.Addr().(*net.TCPAddr).Port)), udpSockets())
		if err == nil {
			return udp, newDoorListener(tcp, cfg.MaxConns, cfg.IdleTimeout, cfg.Logger), nil
		}
		tcp.Close()
		if port != "0" || attempt == 16 { // a free port for TCP need not be free for UDP
			return nil, nil, listenError("udp", addr, err)
		}
	}
}

func listenError(network, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(addr)
		return fmt.Errorf("dns.listen %s (%s): another process has this port (ss -lntup 'sport = :%s' names it): stop it, or choose another address with dns.listen or --dns: %w", addr, network, port, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("dns.listen %s (%s): ports below 1024 need root or CAP_NET_BIND_SERVICE: grant it, or choose another port with dns.listen or --dns: %w", addr, network, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("dns.listen %s (%s): no interface of this box has this address: correct dns.listen or --dns: %w", addr, network, err)
	}
	return fmt.Errorf("dns.listen %s (%s): %w", addr, network, err)
}

// Addr is the address that is answered on, UDP and TCP.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Run answers until ctx ends or Close is called, and returns nil then. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.life.Lock()
	if s.closed || s.running {
		s.life.Unlock()
		return ErrClosed
	}
	s.running, s.stop, s.done = true, cancel, make(chan struct{})
	s.life.Unlock()
	defer close(s.done)

	tcp := &dns.Server{Listener: s.tcp, MsgInvalidFunc: func([]byte, error) { s.metrics.garbageTCP.Inc() },
		Handler:       dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) { s.serve(w, req, time.Now()) }),
		MaxTCPQueries: -1, // tcpConn counts them
		ReadTimeout:   s.cfg.IdleTimeout, WriteTimeout: s.cfg.IdleTimeout, IdleTimeout: func() time.Duration { return s.cfg.IdleTimeout }}
	if s.cfg.Transfers != nil {
		tcp.TsigProvider = s.cfg.Transfers
	}
	failed := make(chan error, 1+len(s.udp))
	var started, ended, readers, workers sync.WaitGroup
	started.Add(1)
	tcp.NotifyStartedFunc = sync.OnceFunc(started.Done)
	ended.Go(func() {
		defer tcp.NotifyStartedFunc()
		if err := tcp.ActivateAndServe(); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("serve dns over tcp: %w", err)
		}
	})
	for _, u := range s.udp {
		readers.Go(func() {
			if err := u.run(); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("serve dns over udp: %w", err)
			}
		})
	}
	for range slowWorkers {
		workers.Go(s.slow.run)
	}
	ended.Go(func() { s.agree(ctx) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	started.Wait() // Shutdown knows only servers that started
	s.ending.Store(true)
	for _, u := range s.udp {
		_ = u.conn.SetReadDeadline(time.Unix(1, 0)) // what was read is answered
	}
	readers.Wait()
	close(s.slow.queue)
	grace, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	_ = tcp.ShutdownContext(grace) // queries under way get a second; then what is open is closed all the same
	s.tcp.endAll()
	workers.Wait()
	s.closeSockets()
	ended.Wait()
	s.keepSerials(s.file.settle(s.serials))
	return err
}

func (s *Server) closeSockets() {
	closeUDP(s.udp)
	_ = s.tcp.Close() // it may be closed already
}

// Close ends Run, waits for it, and frees the sockets. It is idempotent.
func (s *Server) Close() error {
	s.life.Lock()
	s.closed = true
	stop, done := s.stop, s.done
	s.life.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	s.closeSockets()
	if s.cfg.Peers != nil {
		s.cfg.Peers.Handle(callSerials, nil)
	}
	return nil
}

// Name is the daemon's name.
func (s *Server) Name() string { return "dns" }

// Reconcile compiles two views and answers from the result. After an error the last good answers stay.
func (s *Server) Reconcile(_ context.Context, db hostdb.View, m mesh.View) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compile zones of HostDB version %s: panic: %v\n%s", db.Version(), p, debug.Stack())
		}
		s.lastErr = err
	}()
	start := time.Now()
	var z *zone.Zones
	if old := s.zones.Load(); old == nil {
		z = zone.Compile(db, m, s.cfg.Zone)
	} else {
		z = old.Update(db, m)
	}
	s.publish(z)
	s.compiled = time.Since(start)
	s.metrics.compile.Observe(s.compiled.Seconds())
	return nil
}

// publish gives zones their serials and answers from them. The caller holds mu.
func (s *Server) publish(z *zone.Zones) {
	changed := false
	z = z.WithSerials(func(origin string, content zone.Hash) uint32 {
		serial := s.serials.Set(origin, content)
		if info, ok := z.Info(origin); !ok || info.Serial != serial {
			changed = true
		}
		return serial
	})
	if changed {
		_, err := s.file.reserve(s.serials)
		if err != nil && s.fileErr == nil {
			s.cfg.Logger.Error("zone serials cannot be kept: after a restart they begin anew", slog.Any("error", err))
		}
		s.fileErr = err
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	if s.cfg.Publishing != nil {
		s.cfg.Publishing(z)
	}
	s.zones.Store(z)
	if s.cfg.Published != nil {
		s.cfg.Published(z)
	}
}

// panicked counts a panic that was recovered from, and notes it, once a second: whoever found such a question may repeat it.
func (s *Server) panicked(doing, packet string, p any) {
	s.metrics.panics.Inc()
	now := time.Now().UnixNano()
	if last := s.noted.Load(); now-last < int64(time.Second) || !s.noted.CompareAndSwap(last, now) {
		return
	}
	s.cfg.Logger.Error("dns server panicked, and goes on", slog.String("doing", doing), slog.String("packet", packet), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// keepSerials remembers whether the file could be written.
func (s *Server) keepSerials(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.fileErr == nil {
		s.cfg.Logger.Error("zone serials cannot be kept: after a restart they begin anew", slog.Any("error", err))
	}
	s.fileErr = err
}

// Zones is what is answered from now; nil before the first Reconcile.
func (s *Server) Zones() *zone.Zones { return s.zones.Load() }

// Status is how the DNS of this node stands.
type Status struct {
	Addr     string         `json:"addr"`
	Version  string         `json:"version"` // of HostDB, that the answers come from; empty before the first Reconcile
	Zones    []zone.Info    `json:"zones"`
	Problems []zone.Problem `json:"problems"`
	Compile  time.Duration  `json:"compile"`         // what the last compilation took
	Error    string         `json:"error,omitempty"` // of the last Reconcile, or of keeping serials
}

// Status describes the server.
func (s *Server) Status() Status {
	s.mu.Lock()
	compiled, err := s.compiled, errors.Join(s.lastErr, s.fileErr)
	s.mu.Unlock()
	st := Status{Addr: s.Addr().String(), Compile: compiled}
	if err != nil {
		st.Error = err.Error()
	}
	if z := s.zones.Load(); z != nil {
		st.Version, st.Zones, st.Problems = z.Version(), z.Infos(), z.Problems()
	}
	return st
}

// Connections returns how TCP connections stand.
func (s *Server) Connections() door.Stats { return s.tcp.Stats() }

// Askers lists who asked most since the start, about; see Asker.
func (s *Server) Askers() []Asker {
	var lists [][]asker
	for _, t := range s.tallies() {
		lists = append(lists, t.askers.snapshot())
	}
	return merge(lists...)
}

// tallies are all that count, those of UDP first.
func (s *Server) tallies() []*tally {
	var out []*tally
	for _, u := range s.udp {
		out = append(out, u.tally)
	}
	return append(out, s.slowTally.tally, s.tcpTally.tally)
}

// Collectors returns the metrics, to be registered once.
func (s *Server) Collectors() []prometheus.Collector { return s.metrics.collectors() }
