package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/dnsd"
	"hostmesh/dnsd/transfer"
	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/hostdb/replica"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/node/api"
	"hostmesh/vmd"
	"hostmesh/vmd/libvirt"
)

// ErrClosed is returned by Run of an agent that is closed.
var ErrClosed = errors.New("agent is closed")

// Agent is hostmesh on one box. Its methods are safe for concurrent use.
type Agent struct {
	cfg   Config
	log   *slog.Logger
	clock hostdb.Clock
	key   mesh.Key
	// keyless: key is one that nobody else has, and that ends with the agent.
	keyless bool

	dir     *dataDir
	store   *hostdb.Store
	disk    atomic.Pointer[badgerdb.DB] // the open storage, for metrics
	auth    *auth.Auth
	mesh    *mesh.Mesh
	replica *replica.Replica
	lease   *lease.Lease // nil when it cannot be opened: leaseErr says why
	loop    *loop
	dns     *dnsd.Server // nil when DNS is not served
	// transfers answers zone transfers and tells secondaries; nil when DNS is not served.
	transfers *transfer.Service
	sealer    *auth.Sealer // of secrets in HostDB; nil without a mesh key
	mirror    *mirror      // nil when no Git repository is kept
	keeper    *keeper
	images    *images
	vms       *vmd.Box
	virt      *libvirt.Hypervisor // nil where there is none
	lb        balancing
	mysql     databases
	placer    *vmd.Placer
	// retention drops old history, where the configuration says so.
	retention *retention
	web       []*webServer
	webCA     *webCA
	metrics   *prometheus.Registry
	// watchers are those who hear of every change.
	watchers *api.Watchers
	// hadData: this replica held something when the agent started, so it serves that, however stale.
	hadData    bool
	founder    bool // this directory founded its mesh
	knewPeers  bool // the mesh had other members before the agent started
	hypervisor atomic.Pointer[hypervisor]

	joined chan struct{} // closed when a node that knew no mesh has learnt its id

	leaseErr error
	closers  []func() error // what Open made, in its order

	mu      sync.Mutex // guards the fields below
	started time.Time
	closed  bool
	cancel  context.CancelFunc // of Run; nil when it does not run
	done    chan struct{}      // closed when Run has returned
}

// hypervisor is what was found behind the libvirt knob.
type hypervisor struct {
	info libvirt.Info
	err  error
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// meshClock is an injected wall for the mesh, whose timers stay real.
type meshClock struct{ hostdb.Clock }

func (meshClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Open makes an agent: it locks the data directory, loads the replica, and binds every port. Nothing is served or sent
// before Run. The caller closes the agent. Errors of the configuration name the knob and the remedy.
func Open(cfg Config) (_ *Agent, err error) {
	if err := cfg.resolve(); err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, clock: cfg.Clock, metrics: prometheus.NewRegistry(), joined: make(chan struct{})}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.clock == nil && cfg.ClockOffset != "" {
		if a.clock, err = newOffsetClock(cfg.ClockOffset); err != nil {
			return nil, err
		}
	}
	if a.clock == nil {
		a.clock = wallClock{}
	}
	defer func() {
		if err != nil {
			_ = a.free() // err is the reason; what follows from it is not
		}
	}()
	for _, open := range []func() error{
		a.openDataDir, a.openStore, a.openAuth, a.openMesh, a.openReplica, a.openLease, a.openImages, a.openDaemons, a.openWeb,
	} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	a.register()
	// Loading the replica, and the password that auth verifies for names that are not there, leave tens of megabytes
	// behind that nothing needs again. A quiet agent would keep them for minutes.
	debug.FreeOSMemory()
	return a, nil
}

// openDataDir locks the data directory, finds its mesh or makes one for --dev, and reads the key.
func (a *Agent) openDataDir() error {
	// A refusal leaves nothing behind: no directory that only looks like one.
	if err := a.cfg.checkStart(); err != nil {
		return err
	}
	key, found, err := a.cfg.loadKey()
	if err != nil {
		return err
	}
	if err := a.cfg.checkKey(found); err != nil {
		return err
	}
	if a.cfg.Dev && len(a.cfg.Join) == 0 {
		if _, err := foundMesh(InitConfig{DataDir: a.cfg.DataDir, KeyFile: a.cfg.KeyFile, Name: a.cfg.Name, Datacenter: a.cfg.Labels.Datacenter}); err == nil {
			a.log.Info("made a mesh to try things in", "data_dir", a.cfg.DataDir)
		} else if !errors.Is(err, ErrHasMesh) {
			return err
		}
		if key, found, err = a.cfg.loadKey(); err != nil {
			return err
		}
	}
	if !found {
		if key, err = mesh.NewKey(); err != nil {
			return err
		}
		a.log.Warn("no mesh key: using one until the agent stops; sessions and certificates end with it, and nobody can join", "remedy", "set key_file")
	}
	a.key, a.keyless = key, !found
	if a.dir, err = openDataDir(a.cfg.DataDir); err != nil {
		return err
	}
	a.founder = a.dir.mesh.Founder
	a.closers = append(a.closers, func() error { a.dir.close(); return nil })
	return nil
}

func (a *Agent) openStore() (err error) {
	a.store, err = hostdb.Open(hostdb.Config{
		OpenStorage: a.openStorage,
		NodeID:      a.dir.nodeID,
		Validator:   section.Validator{},
		Clock:       a.clock,
		Logger:      a.log,
		Space:       func() error { return checkSpace(a.dir.path) },
	})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, a.store.Close)
	a.hadData = a.store.View().Applied() > 0
	return nil
}

// openStorage opens the database, at start and whenever the store opens it again. Its housekeeping ends when it is closed.
func (a *Agent) openStorage() (hostdb.Storage, error) {
	// The floor of the disk rule holds for each commit, not only where the store looks now and then.
	_, floor, err := freeSpace(a.dir.path)
	if err != nil {
		return nil, err
	}
	db, err := badgerdb.Open(badgerdb.Config{Dir: a.dir.file(replicaDir), Logger: a.log, MinFree: floor})
	if err != nil {
		return nil, err
	}
	a.disk.Store(db)
	go func() {
		if err := db.Run(context.Background()); err != nil {
			a.log.Error("housekeeping of the database ended", "err", err)
		}
	}()
	return db, nil
}

func (a *Agent) openMesh() error {
	cfg := mesh.DefaultConfig()
	cfg.NodeID, cfg.Name, cfg.MeshID, cfg.Key = a.dir.nodeID, a.cfg.Name, a.dir.mesh.ID, a.key
	cfg.Addr = netip.MustParseAddr(a.cfg.Addr)
	cfg.Join = a.cfg.Join
	cfg.Datacenter, cfg.Rack = a.cfg.Labels.Datacenter, a.cfg.Labels.Rack
	cfg.Dir, cfg.Logger = a.dir.path, a.log
	cfg.OnMeshID = func(id string) error {
		err := a.dir.setMesh(MeshRecord{ID: id, Name: a.cfg.Name, Created: a.clock.Now().UTC()})
		if err == nil {
			close(a.joined) // OnMeshID is called once
		}
		return err
	}
	if a.cfg.Clock != nil {
		cfg.Clock = meshClock{a.cfg.Clock}
	}
	m, err := mesh.Open(cfg)
	if err != nil {
		return err // it names the port, and what to do
	}
	a.mesh, a.knewPeers = m, m.View().Len() > 1
	a.closers = append(a.closers, m.Close)
	return nil
}

func (a *Agent) openReplica() error {
	cfg := replica.DefaultConfig()
	cfg.Store, cfg.NodeID, cfg.Peers, cfg.Logger = a.store, a.dir.nodeID, replicaPeers{a.mesh}, a.log
	cfg.Members, cfg.Clock, cfg.Evidence = a.memberIDs, a.clock, a.dir.keepEvidence
	cfg.Sick = func() bool { return a.mesh.View().MassSuspicion() }
	r, err := replica.Open(cfg)
	if err != nil {
		return err
	}
	a.replica = r
	a.store.SetAcker(r)
	a.store.SetGate(a.hasCopy)
	a.closers = append(a.closers, r.Close)
	return nil
}

// openDaemons makes the loop and everything that runs in it.
func (a *Agent) openDaemons() error {
	cfg := defaultLoopConfig()
	cfg.observe, cfg.log = a.cfg.Observe, a.log
	a.loop = newLoop(cfg, a.store, a.mesh)
	a.openMirror()
	a.retention = newRetention(a)
	if err := a.openVM(); err != nil {
		return err
	}
	if err := a.openAddresses(); err != nil {
		return err
	}
	if err := a.openLB(); err != nil {
		return err
	}
	if err := a.openMySQL(); err != nil {
		return err
	}
	return a.openDNS()
}

// openWeb binds the socket, HTTP and HTTPS.
func (a *Agent) openWeb() error {
	allow, err := newAllowed(a.cfg.DNS.Domain, a.cfg.TLS.Allow)
	if err != nil {
		return err
	}
	if a.webCA, err = newWebCA(a.key, allow); err != nil {
		return err
	}
	if err := writeFile(a.dir.file(webCAName), a.webCA.PEM(), 0o644); err != nil {
		return err
	}
	cert := newIssuedCert(a.webCA, allow, &a.cfg, a.clock.Now, a.log).get
	if a.cfg.TLS.Cert != "" {
		own, err := newFileCert(a.cfg.TLS.Cert, a.cfg.TLS.Key)
		if err != nil {
			return err
		}
		cert = own.get(a.clock.Now, a.log)
	}
	a.openWatch()
	a.keeper = newKeeper(a)
	h := a.handler()
	ln, err := listenSocket(a.SocketPath(), a.log)
	if err != nil {
		return err
	}
	a.serve(newWebServer("socket", ln, nil, withPeer(h), a.log))
	if a.cfg.HTTP != NoListener {
		if ln, err = listenTCP("http", a.cfg.HTTP, a.log); err != nil {
			return err
		}
		a.serve(newWebServer("http", ln, nil, h, a.log))
	}
	if a.cfg.HTTPS != NoListener {
		if ln, err = listenTCP("https", a.cfg.HTTPS, a.log); err != nil {
			return err
		}
		a.serve(newWebServer("https", ln, tlsConfig(cert), h, a.log))
	}
	return nil
}

func (a *Agent) serve(s *webServer) {
	a.web = append(a.web, s)
	a.closers = append(a.closers, s.close)
}

// Run serves until ctx ends or Close is called, and then stops everything in order and returns nil. An error means that
// a part failed without which the agent is none. It can be called once.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	switch {
	case a.closed:
		a.mu.Unlock()
		return ErrClosed
	case a.done != nil:
		a.mu.Unlock()
		return errors.New("run agent: it ran already")
	}
	ctx, a.cancel = context.WithCancel(ctx)
	a.done = make(chan struct{})
	a.started = a.clock.Now()
	a.mu.Unlock()
	defer close(a.done)
	defer a.cancel()

	sys := newNotifier(os.Getenv)
	services := a.services()
	services.start(ctx)
	if a.cfg.Libvirt != "" {
		go a.probeHypervisor()
	}
	a.log.Info("agent runs", "node", a.dir.nodeID, "name", a.cfg.Name, "version", a.store.View().Version().String(), "data_dir", a.dir.path)
	if err := sys.send("READY=1"); err != nil {
		a.log.Warn("systemd does not hear us", "err", err)
	}
	go sys.keepAlive(ctx, a.alive)
	err := services.wait(ctx)
	_ = sys.send("STOPPING=1")
	a.log.Info("agent stops")
	return errors.Join(err, services.stop())
}

// services are what Run runs, in the order of start. The replica answers HTTP and DNS before the mesh is there.
func (a *Agent) services() *services {
	s := &services{log: a.log}
	s.add("memory", a.trimMemory)
	s.add("store", a.store.Run)
	if a.dns != nil {
		s.add("dns", a.runDNS)
		if !a.cfg.Observe { // an agent that only shows what it would do tells nobody anything
			s.add("transfers", a.transfers.Run)
		}
	}
	s.add("daemons", func(ctx context.Context) error { a.loop.run(ctx); return nil })
	for _, w := range a.web {
		s.add(w.name, w.run)
	}
	s.add("users", a.seedUsers)
	s.add("watch", a.runWatch) // stops before the servers do
	s.add("removals", a.removals().run)
	s.add("retention", a.retention.run)
	s.add("replica", a.replica.Run)
	s.add("images", a.images.run)
	s.add("mesh", a.mesh.Run)
	if a.lease != nil { // it hands over what is held, over the mesh
		s.add("lease", a.runLease)
	}
	if !a.cfg.Observe {
		s.add("vm", a.vms.Run)
	}
	s.add("vm-placer", a.runPlacer)
	if !a.cfg.Observe {
		s.add("addresses", a.lb.addresses.Run) // what hands addresses over ends before
	}
	s.add("mysql", a.mysql.daemon.Run)
	if b := a.mysql.beside; b != nil {
		s.add("mysql-local", b.host.Run)
	}
	if !a.cfg.Observe && a.lb.daemon != nil {
		s.add("nat", a.lb.nat.Run)
		if a.lb.proxy != nil {
			s.add("haproxy", a.lb.proxy.Run)
		}
		s.add("checks", a.lb.checks.Run)
		s.add("lb", a.runLB)
	}
	if a.mirror != nil { // and who holds a duty stops before that
		s.add("mirror", a.mirror.run)
	}
	return s
}

// alive is what the watchdog asks: whether the daemons answer for themselves. A store that cannot be written is no
// reason to be killed.
func (a *Agent) alive() bool {
	_ = a.loop.states() // takes every lock that a wedged agent would hold
	return true
}

// probeHypervisor asks the hypervisor what it is, for status.
func (a *Agent) probeHypervisor() {
	info, err := libvirt.Probe(a.cfg.Libvirt)
	if err != nil {
		a.log.Error("hypervisor cannot be used", "uri", a.cfg.Libvirt, "err", err)
	} else {
		a.log.Info("hypervisor", "uri", info.URI, "driver", info.Driver, "version", info.Version, "library", info.Library, "kvm", info.KVM, "domain_type", info.DomainType())
	}
	a.hypervisor.Store(&hypervisor{info, err})
}

// Close stops Run if it runs, waits for it, and frees everything. It is idempotent.
func (a *Agent) Close() error {
	a.mu.Lock()
	again := a.closed
	a.closed = true
	cancel, done := a.cancel, a.done
	a.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
	if again {
		return nil
	}
	return a.free()
}

// free closes what Open made, the last first.
func (a *Agent) free() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// foundersPatience is how long a founder that lost its database waits for a member it knows. A mesh of which only it is
// left serves after that: its HostDB is then what it has.
const foundersPatience = 10 * time.Second

// notReady tells why the node is not ready; nil when it is. A node that has data is ready, be it stale; one that has
// none waits for its first peer. A founder that knows no other member has nobody to wait for; with others, it has lost
// its database and would answer that nothing exists, so it waits, for as long as one of them is alive.
func (a *Agent) notReady() []string {
	var why []string
	if err := a.hasCopy(); err != nil {
		why = append(why, err.Error())
	}
	if !a.loop.ready() {
		why = append(why, "not every daemon has had its first good run")
	}
	return why
}

// errNoCopy is what keeps an agent from being ready, and from taking writes.
var errNoCopy = errors.New("no copy of HostDB yet: no member of the mesh has been reached")

// hasCopy is errNoCopy until this node has a copy of HostDB, or is the one to begin it.
func (a *Agent) hasCopy() error {
	if a.hadData || a.replica.Synced() || a.founder && a.aloneWithIt() {
		return nil
	}
	return errNoCopy
}

// caughtUp reports whether this node's copy of HostDB is as new as that of another, as far as it can know: it was compared with
// one in this run, or there was nobody to compare it with for a while. What was put back from a backup is whole, and old.
func (a *Agent) caughtUp() bool {
	if a.hasCopy() != nil {
		return false
	}
	return a.replica.Synced() || a.aloneWithIt() && len(replicaPeers{a.mesh}.Alive()) == 0
}

// aloneWithIt reports whether nobody else has a copy of HostDB, as far as a founder can know.
func (a *Agent) aloneWithIt() bool {
	if !a.knewPeers {
		return true
	}
	a.mu.Lock()
	started := a.started
	a.mu.Unlock()
	return a.clock.Now().Sub(started) >= foundersPatience && len(replicaPeers{a.mesh}.Alive()) == 0
}

// SocketPath is the local socket.
func (a *Agent) SocketPath() string { return filepath.Join(a.cfg.DataDir, socketName) }

// NodeID is the node's permanent id.
func (a *Agent) NodeID() string { return a.dir.nodeID }

// Config is the effective configuration.
func (a *Agent) Config() Config { return a.cfg }

// Addr is where a listener listens: socket, http, https or dns; "" when it is not served. Ports that were 0 are real here.
func (a *Agent) Addr(listener string) string {
	if listener == "dns" && a.dns != nil {
		return a.dns.Addr().String()
	}
	for _, w := range a.web {
		if w.name == listener {
			return w.ln.Addr().String()
		}
	}
	return ""
}

// WebCA is the certificate under which the mesh's nodes serve HTTPS, in PEM, for clients to trust.
func (a *Agent) WebCA() []byte { return a.webCA.PEM() }

// build is what the executable was made from.
func (a *Agent) build() api.Build { return a.cfg.Build }
