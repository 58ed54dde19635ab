package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/lease/raftdisk"
)

// Mesh is what a group needs of the mesh: *mesh.Mesh.
type Mesh interface {
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	CallUrgent(ctx context.Context, node, name string, req []byte) ([]byte, error)
	Handle(name string, h mesh.Handler)
	View() mesh.View
	WatchMembers() (changed <-chan struct{}, stop func())
}

// Config says who this node is. Begin with DefaultConfig.
type Config struct {
	// NodeID is this node's id in the mesh; Name its host name, for people.
	NodeID, Name string
	// Datacenter is this node's, as the mesh has it. Its group is that of the datacenter.
	Datacenter string
	// Dir is where raft's files are kept. It is made when it is not there.
	Dir string
	// Founder is set where the mesh was founded: when the directory says nothing of a group, as after an upgrade, and no
	// other node knows one, the home group is founded here.
	Founder bool
	// Mesh carries the messages.
	Mesh Mesh
	// Space tells why the disk takes no more, by the rule that holds for all of the agent; nil = it is not asked.
	Space func() error
	// Unfit tells why this node should not be a voter now; nil or "" = no reason.
	Unfit func() string
	// Apart tells why another node should lead the group while one can, as when what the group decides about most urgently would die together with this node: an election takes a
	// second more. It may vote. nil or "" = no reason.
	Apart func() string
	// Clock is the source of time; nil = the real one.
	Clock Clock
	// Logger gets all messages; nil = slog.Default().
	Logger *slog.Logger
	// Times are those of the whole group.
	Times Times
}

// DefaultConfig returns the defaults; who the node is, Dir and Mesh must be set.
func DefaultConfig() Config { return Config{Times: DefaultTimes()} }

// Lease is this node's part in its datacenter's group. All methods are safe for concurrent use.
type Lease struct {
	cfg   Config
	log   *slog.Logger
	clock Clock
	times Times

	disk    *raftdisk.Disk
	server  *part // of raft
	client  *client
	own     *ownings // what was granted to this node for good
	counts  counts
	commits histogram
	// watching bounds who waits here for changes of records.
	watching limiter
	// following is set while a later generation that was heard of is looked into.
	following atomic.Bool
	// unsettled are records whose last change may be on its way.
	unsettled keys
	begun     time.Time // of Run
	missed    int       // rounds in which the leader did not count this node in; watchGroup's own

	mu      sync.Mutex // guards the fields below
	known   Group      // zero while none is known
	home    *Group     // the home group, once heard of
	pending bool       // this node is to found the group
	alarm   string     // what a person should know of this node's directory
	split   string     // there are two groups of this datacenter
	late    map[string]time.Time
	started bool
	closed  bool
	cancel  context.CancelFunc
	done    chan struct{}
}

// counts are for metrics.
type counts struct {
	granted, expired, offices, renewals, lost, overruns, restarts atomic.Uint64
}

// Open reads the directory and registers with the mesh. Nothing is sent before Run.
func Open(cfg Config) (*Lease, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = bootClock{}
	}
	if cfg.Times == (Times{}) {
		cfg.Times = DefaultTimes()
	}
	l := &Lease{commits: newHistogram(), cfg: cfg, log: cfg.Logger, clock: cfg.Clock, times: cfg.Times, late: map[string]time.Time{}, done: make(chan struct{})}
	dc := raftdisk.Config{Path: cfg.Dir, Node: cfg.NodeID, Logger: cfg.Logger, Free: cfg.Space}
	var err error
	if l.disk, err = raftdisk.Open(dc); errors.Is(err, raftdisk.ErrDamaged) {
		// It must not vote with that, but everything else of the agent goes on.
		l.log.Error("lease: raft's files are damaged", "err", err)
		dc.Discard = err.Error()
		l.disk, err = raftdisk.Open(dc)
	}
	if err != nil {
		return nil, fmt.Errorf("open lease: %w", err)
	}
	if why := l.disk.Discarded(); why != "" {
		l.alarm = "what raft had written here was discarded: " + why
		l.log.Warn("lease: what raft had written here was discarded; this node takes part as a new one", "reason", why)
	}
	if l.own, err = openOwnings(cfg.Dir); err != nil {
		_ = l.disk.Close()
		return nil, fmt.Errorf("open lease: %w", err)
	}
	l.known = l.own.group // whatever became of raft's files: it is no reason to found another
	if g, ok := l.disk.Group(); ok {
		l.known = Group(g)
	}
	if l.pending = l.disk.Pending(); l.pending && l.known.Datacenter != cfg.Datacenter {
		// Where the mesh was founded nobody knew yet in which datacenter its first box is.
		l.known.Datacenter = cfg.Datacenter
		if err := l.disk.SetGroup(raftdisk.Group(l.known)); err != nil {
			_ = l.disk.Close()
			return nil, fmt.Errorf("open lease: %w", err)
		}
	}
	l.server = newPart(l)
	l.client = newClient(l)
	for name, h := range map[string]mesh.Handler{
		callAsk: l.serveAsk, callWhere: l.serveWhere, callServe: l.server.serveServe, callConfirm: l.server.serveConfirm, callPoke: l.servePoke,
	} {
		cfg.Mesh.Handle(name, h)
	}
	return l, nil
}

// Found marks a directory as the one where the home group of a new mesh begins, when its agent starts for the first time. The
// agent must not run.
func Found(dir, node, datacenter string) error {
	d, err := raftdisk.Open(raftdisk.Config{Path: dir, Node: node})
	if err != nil {
		return fmt.Errorf("found lease group: %w", err)
	}
	defer d.Close()
	if g, ok := d.Group(); ok {
		return fmt.Errorf("found lease group: %w: %s in %s", ErrHasGroup, g.ID, dir)
	}
	if err := d.Found(raftdisk.Group(newGroup(datacenter, true))); err != nil {
		return fmt.Errorf("found lease group: %w", err)
	}
	return nil
}

// Run takes part until ctx ends or Close is called. It can be called once.
func (l *Lease) Run(ctx context.Context) error {
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return ErrClosed
	case l.started:
		l.mu.Unlock()
		return errors.New("run lease: it runs already")
	}
	l.started, l.begun = true, time.Now()
	ctx, l.cancel = context.WithCancel(ctx)
	l.mu.Unlock()
	defer close(l.done)
	defer l.cancel()
	var wg sync.WaitGroup
	clients, stopClients := context.WithCancel(context.WithoutCancel(ctx))
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { l.client.run(clients) })
	wg.Go(func() { l.server.run(serverCtx) })
	wg.Go(func() { l.watchGroup(ctx) })
	<-ctx.Done()
	// First what is held is handed over, which may need this node's own part in raft; then that goes.
	l.client.leave()
	stopClients()
	l.server.leave()
	stopServer()
	wg.Wait()
	return nil
}

// Close stops Run, waits for it, and frees everything. It is idempotent.
func (l *Lease) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	cancel, started := l.cancel, l.started
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if started {
		<-l.done
	}
	if again {
		return nil
	}
	for _, name := range []string{callAsk, callWhere, callServe, callConfirm, callPoke} {
		l.cfg.Mesh.Handle(name, nil)
	}
	l.server.close()
	return l.disk.Close()
}

// Group is the group of this node's datacenter, as far as it knows.
func (l *Lease) Group() (g Group, ok bool) {
	g = l.group()
	return g, g.ID != ""
}

func (l *Lease) group() Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// Home reports whether this node is in the datacenter that holds the duties of the whole mesh; known is false while it has
// not heard of any group.
func (l *Lease) Home() (home, known bool) {
	g, ok := l.Group()
	return g.Home, ok
}

// learn takes in a group that another node knows, and reports whether it is this node's. A later generation ends this node's
// part in the earlier one. Only a leader knows the group's present name.
func (l *Lease) learn(g Group, leader bool) (ours bool) {
	if g.ID == "" || g.Generation == 0 || len(g.ID) > 64 || len(g.Datacenter) > maxKey {
		return false
	}
	l.mu.Lock()
	if g.Home && (l.home == nil || l.home.ID == g.ID) {
		l.home = &g
	}
	was := l.known
	if was.ID == g.ID && was.Generation == g.Generation && was.Branch != g.Branch ||
		was.ID != "" && was.ID != g.ID && was.Datacenter == g.Datacenter && was.Datacenter == l.cfg.Datacenter {
		l.split = fmt.Sprintf("there are two lease groups of datacenter %q: %s of generation %d (%08x), which this node is in, and %s of generation %d (%08x): "+
			"recover the one that is to stay with force; the nodes of the other then stop, and are started with an empty lease directory",
			g.Datacenter, was.ID, was.Generation, was.Branch, g.ID, g.Generation, g.Branch)
		l.mu.Unlock()
		return false
	}
	moved := was.ID != "" && was.ID != g.ID && was.Datacenter != l.cfg.Datacenter && g.Datacenter == l.cfg.Datacenter
	switch {
	case was.ID == g.ID && was.epoch() == g.epoch() && (was == g || !leader):
		l.mu.Unlock()
		return true
	case was.ID == "" && g.Datacenter != l.cfg.Datacenter,
		was.ID != "" && was.ID != g.ID && !moved,
		was.ID == g.ID && g.Generation < was.Generation:
		l.mu.Unlock()
		return false
	}
	l.known, l.pending, l.split = g, false, ""
	l.mu.Unlock()
	if was.ID != g.ID || was.epoch() != g.epoch() {
		l.log.Info("lease group", "group", g.ID, "generation", g.Generation, "datacenter", g.Datacenter, "home", g.Home)
	}
	if moved || was.ID != "" && g.Generation > was.Generation {
		l.client.find.forget()
		why := fmt.Sprintf("generation %d of the group began", g.Generation)
		if moved {
			why = "this node's datacenter has a group of its own"
		}
		l.client.dropAll(fmt.Errorf("%w: %s", ErrLost, why))
		l.server.retire(l.disk.RaftID(), why)
	}
	l.keep(g)
	l.client.hurry()
	return true
}

// keep writes down which group this node is in.
func (l *Lease) keep(g Group) {
	if err := errors.Join(l.disk.SetGroup(raftdisk.Group(g)), l.own.belong(g)); err != nil {
		l.log.Error("the lease group is not kept", "err", err)
	}
}

// pokeNode tells a node to renew now. That it may be lost only costs time.
func (l *Lease) pokeNode(node string) {
	if node == l.cfg.NodeID {
		l.client.hurry()
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), l.times.Renew)
		defer cancel()
		_, _ = l.cfg.Mesh.CallUrgent(ctx, node, callPoke, nil)
	}()
}

func (l *Lease) servePoke(context.Context, mesh.Caller, []byte) ([]byte, error) {
	l.client.hurry()
	return nil, nil
}

// stuck tells, now and then, that a holder does not hand over.
func (l *Lease) stuck(duty, node string, since time.Duration) {
	l.mu.Lock()
	fresh := time.Since(l.late[duty]) > time.Minute
	if fresh {
		if len(l.late) > 1000 {
			clear(l.late)
		}
		l.late[duty] = time.Now()
	}
	l.mu.Unlock()
	if fresh {
		l.log.Warn("a holder does not hand its duty over", "duty", duty, "node", node, "asked_ago", since.Truncate(time.Second).String(),
			"remedy", "look at that node's status; stopping its agent ends its session")
	}
}

func (l *Lease) setAlarm(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarm = text
}
