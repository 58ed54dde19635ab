package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/report"
)

// Clock tells the time.
type Clock interface{ Now() time.Time }

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

// Rules keep what a host is cut from in the kernel: *nft.Cuts do. Apply returns when the rules are there and connections that they forbid have ended.
type Rules interface {
	Apply(nft.Cutting) error
	// Run puts back what others take away, until ctx ends.
	Run(ctx context.Context) error
}

// Addresses have addresses on this box: *vip.Table does.
type Addresses interface {
	Claim(ctx context.Context, c vip.Claim) (*vip.Handle, error)
	// Disown removes an address that was left here for the next agent.
	Disown(addr netip.Addr) error
}

// Tenure says whether the address of a cluster's primary may be here: *mysqlha.Tenure does. Run keeps it up until ctx ends, or returns why it is over for good.
type Tenure interface {
	vip.Lease
	Run(ctx context.Context) error
	Order(epoch uint64) // it holds for a later epoch as well
	// Settled reports whether the address may stay without anybody who looks, for as long as the agent is started anew.
	Settled() bool
	End(why string)
}

// Config is what a Host needs. Begin with DefaultConfig.
type Config struct {
	// Dir has the files of clusters, and what is secret while it is used. It exists, and is the agent's alone.
	Dir string
	// Addresses, and Tenure for an epoch, are for the address of the primary; nil = it cannot be here.
	Addresses Addresses
	Tenure    func(m Member, epoch uint64) Tenure
	// Rules are those for the server that listens on a port.
	Rules func(port uint16) (Rules, error)
	// Donors give copies of other hosts' servers; nil = there are none.
	Donors Donors
	// Halting reports whether the machine goes down, and so nobody starts the agent anew.
	Halting func(ctx context.Context) bool
	// Publish makes a report known; nil = the host is no member of that cluster any more. It is called at once when a process has ended, from one goroutine a cluster.
	Publish func(tag string, r *report.MySQL)
	// StartTime is how long a server may take to serve: recovery after a crash goes through its whole log.
	StartTime time.Duration
	// Look is how often it is looked for a process, while none runs, and for what was lost.
	Look time.Duration
	// Observe is how often the own server is asked how it stands.
	Observe time.Duration
	// program finds programs; nil = exec.LookPath.
	program func(name string) (string, error)
	// point is called at points of a clone by tests.
	point  func(at string)
	Clock  Clock
	Logger *slog.Logger
}

// DefaultConfig returns what is right for most hosts.
func DefaultConfig() Config {
	return Config{
		Rules: func(port uint16) (Rules, error) {
			return nft.OpenCuts(fmt.Sprintf("hostmesh_mysql_%d", port), slog.Default())
		},
		Halting:   halting,
		Publish:   func(string, *report.MySQL) {},
		StartTime: 10 * time.Minute,       // 8 GB of redo log take some minutes on a slow disk
		Look:      250 * time.Millisecond, // a pid file is read in microseconds
		Observe:   time.Second,            // readers hear of a lag of seconds
		Clock:     realClock{},
		Logger:    slog.Default(),
	}
}

// Member is the server of a cluster on this host.
type Member struct {
	Tag string
	// Host is this host's key in hosts.
	Host string
	// VIP is the address of the primary; the zero Addr = none.
	VIP netip.Addr
	// MaxLag is how far the server may be behind and answer readers.
	MaxLag time.Duration
	// Server is how it is run, Backup the account of clones.
	Server credentials.Server
	Backup credentials.Account
	// SQL asks the own server. It is the caller's to close, after it was taken out of the members.
	SQL mysqlha.Server
}

// same reports whether two describe one server: then the later replaces the former without its being looked for anew.
func (m Member) same(n Member) bool {
	return m.Tag == n.Tag && m.Server.Port == n.Server.Port && m.Server.Datadir == n.Server.Datadir && m.Server.PIDFile == n.Server.PIDFile
}

// shares names what two servers of a host cannot both have; "" = nothing.
func (m Member) shares(n Member) string {
	switch a, b := m.Server, n.Server; {
	case a.Port == b.Port:
		return fmt.Sprintf("port, %d,", a.Port)
	case filepath.Clean(a.Datadir) == filepath.Clean(b.Datadir):
		return fmt.Sprintf("datadir, %s,", a.Datadir)
	case a.PIDFile != "" && filepath.Clean(a.PIDFile) == filepath.Clean(b.PIDFile):
		return fmt.Sprintf("pid file, %s,", a.PIDFile)
	}
	return ""
}

// Host has the servers of this host. It implements mysqlha.Local, and is safe for concurrent use.
type Host struct {
	cfg    Config
	counts counts
	cloner chan struct{} // one clone at a time
	donor  donor

	mu      sync.Mutex // guards the fields below
	servers map[string]*server
	ctx     context.Context // of Run; nil before
	closed  bool
	wg      sync.WaitGroup
}

var _ mysqlha.Local = (*Host)(nil)

// Open makes a Host without members.
func Open(cfg Config) (*Host, error) {
	info, err := os.Stat(cfg.Dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("directory for servers of databases: %w", err)
	case !info.IsDir() || info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("directory for servers of databases: %s is not a directory of mode 0700: chmod 0700 %[1]s", cfg.Dir)
	case cfg.Rules == nil || cfg.Publish == nil || cfg.Halting == nil || cfg.Clock == nil || cfg.Logger == nil || cfg.StartTime <= 0 || cfg.Look <= 0 || cfg.Observe <= 0:
		return nil, errors.New("mysqlha/local: the settings are not complete: begin with DefaultConfig")
	}
	h := &Host{cfg: cfg, cloner: make(chan struct{}, 1), servers: map[string]*server{}}
	h.donor.h = h
	return h, nil
}

// Apply has these members and no others. Of new ones it finds the process, and puts the rules into the kernel, before it returns. The errors are of single members, which are there all the same, and tell why they refuse.
func (h *Host) Apply(members []Member) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	members, errs := h.distinctLocked(members)
	stay := map[string]bool{}
	for _, m := range members {
		stay[m.Tag] = true
		if s := h.servers[m.Tag]; s != nil {
			if s.replace(m) {
				continue
			}
			h.dropLocked(s)
		}
		s, err := openServer(h, m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Tag, err))
		}
		if s == nil {
			continue
		}
		h.servers[m.Tag] = s
		if h.ctx != nil {
			h.wg.Go(func() { s.run(h.ctx) })
		}
	}
	for tag, s := range h.servers {
		if !stay[tag] {
			h.dropLocked(s)
			h.cfg.Publish(tag, nil)
		}
	}
	return errors.Join(errs...)
}

// distinctLocked is the members without those whose server is another's: two would each kill, start and replace what is the other's. Those that are here already stay, of others the first by name does.
func (h *Host) distinctLocked(members []Member) (distinct []Member, errs []error) {
	members = slices.Clone(members)
	here := func(m Member) int {
		if s := h.servers[m.Tag]; s != nil && s.get().same(m) {
			return 0
		}
		return 1
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Or(here(a)-here(b), strings.Compare(a.Tag, b.Tag)) })
	for _, m := range members {
		i := slices.IndexFunc(distinct, func(n Member) bool { return m.shares(n) != "" })
		if i < 0 {
			distinct = append(distinct, m)
			continue
		}
		errs = append(errs, fmt.Errorf("%s: its server on this host has the %s of the one of %s, and is not led: a host has one server for each of its clusters; correct the part server of one of their files in credentials.d, or take a tag from the host", m.Tag, m.shares(distinct[i]), distinct[i].Tag))
	}
	return distinct, errs
}

func (h *Host) dropLocked(s *server) {
	delete(h.servers, s.tag)
	s.close()
	// A report that is on its way would come after the one of the next, or after what says that there is none.
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if st, _ := s.store.get(); st.Shut || len(st.Cuts) > 0 {
		h.cfg.Logger.Warn("host is no member of the database cluster any more; what it was cut from stays cut: nft delete table ends that", "tag", s.tag, "table", fmt.Sprintf("inet hostmesh_mysql_%d", s.get().Server.Port))
	}
}

// Run watches the servers until ctx ends. They go on, and the address of a primary stays for mysqlha.RestartGrace.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.ctx = ctx
	for _, s := range h.servers {
		h.wg.Go(func() { s.run(ctx) })
	}
	h.mu.Unlock()
	h.donor.run(ctx)
	<-ctx.Done()
	h.wg.Wait()
	h.leave()
	return nil
}

// leave leaves the addresses of primaries here to the agent that follows this one, as after an upgrade. One that has no right to that goes at once, with Close.
func (h *Host) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	h.mu.Lock()
	all := h.listLocked()
	h.mu.Unlock()
	for _, s := range all {
		s.vip.leave(ctx)
	}
}

// leaveTime bounds what an agent does for addresses when it ends.
const leaveTime = 2 * time.Second

// halting asks systemd; where there is none, the answer is no.
func halting(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaveTime/2)
	defer cancel()
	said, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // it fails unless all is well, and says what is
	return strings.TrimSpace(string(said)) == "stopping"
}

// Close ends watching, clones and claims of addresses, but for those that Run has left; servers and what is cut stay as they are. It is idempotent.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	all := h.listLocked()
	h.mu.Unlock()
	h.donor.close()
	for _, s := range all {
		s.close()
	}
	return nil
}

func (h *Host) listLocked() []*server {
	var all []*server
	for _, s := range h.servers {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *server) int {
		if a.tag < b.tag {
			return -1
		}
		return 1
	})
	return all
}

func (h *Host) of(tag string) (*server, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	s := h.servers[tag]
	if s == nil {
		return nil, fmt.Errorf("%w: %q: a file of credentials.d that says server, on a host that has the tag, makes one", mysqlha.ErrNotHere, tag)
	}
	return s, nil
}

// State implements mysqlha.Local.
func (h *Host) State(_ context.Context, tag string) (mysqlha.LocalState, error) {
	s, err := h.of(tag)
	if err != nil {
		return mysqlha.LocalState{}, err
	}
	return s.localState(), nil
}

// Cut implements mysqlha.Local.
func (h *Host) Cut(ctx context.Context, o mysqlha.Order, source mysqlha.Source) error {
	return h.do(o, "cut from "+source.Name, func(s *server) error {
		return errors.Join(s.cut(o, source, true), h.donor.deposed(ctx, s, o.Epoch))
	})
}

// Uncut implements mysqlha.Local.
func (h *Host) Uncut(_ context.Context, o mysqlha.Order, source mysqlha.Source) error {
	return h.do(o, "uncut from "+source.Name, func(s *server) error { return s.cut(o, source, false) })
}

// Kill implements mysqlha.Local. The address of the primary goes from here, too.
func (h *Host) Kill(ctx context.Context, o mysqlha.Order, why string) error {
	return h.do(o, "kill", func(s *server) error { return s.kill(ctx, o, why) })
}

// Start implements mysqlha.Local. It takes back the shutting of the network, but never for a process that runs while it is marked: that is killed first.
func (h *Host) Start(ctx context.Context, o mysqlha.Order, as mysqlha.Role) error {
	return h.do(o, "start as "+string(as), func(s *server) error { return s.start(ctx, o, as) })
}

// Stop implements mysqlha.Local.
func (h *Host) Stop(ctx context.Context, o mysqlha.Order) error {
	return h.do(o, "stop", func(s *server) error { return s.stop(ctx, o) })
}

// TakeVIP implements mysqlha.Local.
func (h *Host) TakeVIP(ctx context.Context, o mysqlha.Order) error {
	return h.do(o, "take the address", func(s *server) error { return s.takeVIP(ctx, o) })
}

// DropVIP implements mysqlha.Local.
func (h *Host) DropVIP(ctx context.Context, o mysqlha.Order) error {
	return h.do(o, "drop the address", func(s *server) error { return s.dropVIP(ctx, o) })
}

// HandOverVIP implements mysqlha.Local.
func (h *Host) HandOverVIP(_ context.Context, o mysqlha.Order) error {
	return h.do(o, "hand over the address", func(s *server) error { return s.handOverVIP(o) })
}

// Clone implements mysqlha.Local. A clone that was asked for, from the same host, and has not been told of yet, is not begun again; nor is one that succeeded when the very same order comes once more.
func (h *Host) Clone(ctx context.Context, o mysqlha.Order, from string, progress func(mysqlha.CloneProgress)) (position string, err error) {
	err = h.do(o, "clone from "+from, func(s *server) error {
		position, err = s.cloneFrom(ctx, o, from, progress)
		return err
	})
	return position, err
}

// Compared implements mysqlha.Local.
func (h *Host) Compared(_ context.Context, o mysqlha.Order, differs string) error {
	return h.do(o, "take note of a comparison", func(s *server) error { return s.compared(o, differs) })
}

func (h *Host) do(o mysqlha.Order, what string, f func(*server) error) error {
	s, err := h.of(o.Tag)
	if err == nil {
		began := h.cfg.Clock.Now()
		err = f(s)
		args := []any{"tag", o.Tag, "order", what, "epoch", o.Epoch, "fence", o.Fence, "took", h.cfg.Clock.Now().Sub(began)}
		if err != nil {
			h.cfg.Logger.Warn("order for a database server was not carried out", append(args, "err", err)...)
		} else {
			h.cfg.Logger.Info("order for a database server carried out", args...)
		}
	}
	if err != nil {
		h.counts.refused.Add(1)
		return fmt.Errorf("%s: %w", what, err)
	}
	h.counts.orders.Add(1)
	return nil
}
