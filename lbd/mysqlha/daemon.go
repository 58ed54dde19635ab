package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// Grant is a duty that this node holds.
type Grant interface {
	Valid() bool
	// Number is its fencing number.
	Number() uint64
}

// Lease is what grants duties; it is that of package lease.
type Lease interface {
	Campaign(ctx context.Context, duty string, hold func(ctx context.Context, g Grant) error) error
	Decline(duty, reason string)
	// Avoid has this node get the duty only when nobody else takes it; "" takes that back.
	Avoid(duty, reason string)
	// Home reports whether this node's datacenter is the one that holds what belongs to none.
	Home() (home, known bool)
}

// Mesh is what this node knows of others.
type Mesh interface {
	View() mesh.View
	// WatchMembers tells of changes of the view, reports among them.
	WatchMembers() (changed <-chan struct{}, stop func())
}

// Effects is a World that was opened for one cluster.
type Effects interface {
	World
	// Close ends its connections.
	Close() error
}

// Config is what a Daemon needs.
type Config struct {
	// Node is this node's id; Name its host name, its key in hosts; Datacenter that of its lease group.
	Node, Name, Datacenter string
	// Lease is nil where this node takes no part in duties: Unfit says why.
	Lease Lease
	Mesh  Mesh
	// Open reaches the servers of a cluster, and the agents on their hosts, with the accounts of a name in credentials.d.
	Open func(tag, credentials string) (Effects, error)
	// Usable tells why the accounts of a name cannot be used here; "" = they can.
	Usable func(credentials string) string
	// Records read and write under a grant; nil = they only read.
	Records func(g Grant) Records
	// Unfit is why this node watches over no cluster at all; "" = it may.
	Unfit string
	// Observe: no duty is asked for and nothing is touched; servers are looked at, and what would be done is told.
	Observe bool
	Times   Times        // zero = the defaults
	Clock   Clock        // nil = the real one
	Logger  *slog.Logger // nil = slog.Default()
}

// Daemon watches over the clusters whose duty this node holds. It is safe for concurrent use.
type Daemon struct {
	cfg   Config
	log   *slog.Logger
	clock Clock

	mu       sync.Mutex // guards the fields below
	clusters clusters
	mesh     mesh.View
	heard    map[string]map[string]hearing // tag -> host
	posts    map[string]*post
	run      context.Context // of Run; nil when it does not run
	wg       sync.WaitGroup
}

// post is this node's part in one cluster. Its fields are guarded by Daemon.mu.
type post struct {
	tag     string
	def     *definition
	refusal string // why this node does not offer itself
	said    string // to the lease, and avoided what else
	avoided string
	cancel  context.CancelCauseFunc // of the campaign; nil = it does not run
	ended   chan struct{}
	watch   *Watch // nil = the duty is not held
	grant   Grant
	since   time.Time
}

var (
	errGone     = errors.New("the cluster is none any more")
	errChanged  = errors.New("its accounts have another name")
	errStopping = errors.New("the agent stops")
	errUnfit    = errors.New("this node cannot watch over it any more")
)

// ErrElsewhere is returned for a cluster that this node does not watch over.
var ErrElsewhere = errors.New("another node watches over the cluster, or none does")

// Open makes a daemon. It touches nothing yet.
func Open(cfg Config) (*Daemon, error) {
	if cfg.Node == "" || cfg.Mesh == nil || cfg.Open == nil || cfg.Usable == nil || cfg.Records == nil {
		return nil, errors.New("mysqlha: a node, a mesh, accounts and records are needed")
	}
	d := &Daemon{cfg: cfg, log: cfg.Logger, clock: cfg.Clock, clusters: newClusters(), heard: map[string]map[string]hearing{}, posts: map[string]*post{}}
	if d.log == nil {
		d.log = slog.Default()
	}
	if d.clock == nil {
		d.clock = wallClock{}
	}
	return d, nil
}

// Name implements node.Daemon.
func (d *Daemon) Name() string { return "mysql" }

// Reconcile implements node.Daemon.
func (d *Daemon) Reconcile(_ context.Context, db hostdb.View, m mesh.View) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clusters.follow(db)
	d.mesh = m
	d.offer()
	return nil
}

// Plan implements node.Planner: which clusters it would offer itself for, and what it sees of those that it looks at. It touches nothing.
func (d *Daemon) Plan(_ context.Context, db hostdb.View, m mesh.View) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clusters.follow(db)
	d.mesh = m
	d.offer()
	var b strings.Builder
	for _, tag := range d.clusters.tags() {
		if why := d.why(d.clusters.byTag[tag]); why != "" {
			fmt.Fprintf(&b, "not offer for %s: %s\n", DutyOf(tag), why)
			continue
		}
		fmt.Fprintf(&b, "offer for %s\n", DutyOf(tag))
		if p := d.posts[tag]; p != nil && p.watch != nil {
			if pic := p.watch.Picture(); pic != nil {
				fmt.Fprintf(&b, "  %s: %s; %s %s\n", pic.Diagnoses[0].Name, pic.Diagnoses[0].Text, pic.Action.Act, pic.Action.Host)
			}
		}
	}
	return b.String(), nil
}

// Run offers this node for duties until ctx ends; then what it does is ended, and another may go on.
func (d *Daemon) Run(ctx context.Context) error {
	changed, stop := d.cfg.Mesh.WatchMembers()
	defer stop()
	d.mu.Lock()
	d.run = ctx
	d.offer()
	d.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			d.mu.Lock()
			for _, p := range d.posts {
				p.stop(errStopping)
			}
			d.mu.Unlock()
			d.wg.Wait()
			return nil
		case <-changed:
			// Sooner than Reconcile: that a process has died is to be heard at once.
			d.mu.Lock()
			d.mesh = d.cfg.Mesh.View()
			for _, p := range d.posts {
				if p.watch != nil {
					p.watch.Poke()
				}
			}
			d.mu.Unlock()
		}
	}
}

// why is why this node does not offer itself for a cluster. mu is held.
func (d *Daemon) why(def *definition) string {
	if def.problem != "" {
		return def.problem
	}
	tag, subnet := d.clusters.subnetOf(def.mysql.VIP)
	switch {
	case d.cfg.Unfit != "":
		return d.cfg.Unfit
	case d.cfg.Lease == nil && !d.cfg.Observe:
		return "this agent takes no part in duties"
	case subnet == nil:
		return fmt.Sprintf("tags/%s: MySQL/VIP %s is in the VIPs of no tag's Subnet: take an address from one, or describe the network (Subnet: {CIDR, VIPs, Datacenter})", def.tag, def.mysql.VIP)
	case subnet.Datacenter != "" && subnet.Datacenter != d.cfg.Datacenter:
		return fmt.Sprintf("this node is in datacenter %q, and tags/%s in %q", d.cfg.Datacenter, tag, subnet.Datacenter)
	}
	if subnet.Datacenter == "" && d.cfg.Lease != nil {
		if home, known := d.cfg.Lease.Home(); !known {
			return "the group that grants duties is not known yet"
		} else if !home {
			return fmt.Sprintf("tags/%s has no Subnet/Datacenter, so its databases are watched in the home datacenter: say where it is", tag)
		}
	}
	return d.cfg.Usable(def.mysql.Credentials)
}

// offer begins and ends campaigns. mu is held.
func (d *Daemon) offer() {
	for tag, p := range d.posts {
		if d.clusters.byTag[tag] == nil {
			p.stop(errGone)
			if p.over() {
				d.say(p, "", "")
				delete(d.posts, tag)
				delete(d.heard, tag)
			}
		}
	}
	for _, tag := range d.clusters.tags() {
		p := d.posts[tag]
		if p == nil {
			p = &post{tag: tag}
			d.posts[tag] = p
		}
		def := d.clusters.byTag[tag]
		if p.def != nil && p.def.mysql.Credentials != def.mysql.Credentials {
			p.stop(errChanged)
		}
		p.def = def
		if p.watch != nil {
			p.watch.Poke()
		}
		p.refusal = d.why(def)
		avoid := ""
		if r, ok := d.mesh.Report(d.cfg.Node); ok && r.MySQL[tag].Role == "primary" {
			avoid = "the primary runs on this box: what watches over it should not go with it"
		}
		d.say(p, p.refusal, avoid)
		switch {
		case p.refusal != "":
			p.stop(errUnfit)
		case p.cancel == nil && p.over() && d.run != nil && d.run.Err() == nil:
			ctx, cancel := context.WithCancelCause(d.run)
			p.cancel, p.ended = cancel, make(chan struct{})
			d.wg.Go(func() { d.campaign(ctx, p, p.ended) })
		}
	}
}

// say tells the lease, once.
func (d *Daemon) say(p *post, refusal, avoid string) {
	if d.cfg.Lease == nil || d.cfg.Observe {
		return
	}
	if p.said != refusal {
		p.said = refusal
		d.cfg.Lease.Decline(DutyOf(p.tag), refusal)
	}
	if p.avoided != avoid {
		p.avoided = avoid
		d.cfg.Lease.Avoid(DutyOf(p.tag), avoid)
	}
}

func (p *post) stop(cause error) {
	if p.cancel != nil {
		p.cancel(cause)
		p.cancel = nil
	}
}

func (p *post) over() bool {
	if p.ended == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (d *Daemon) campaign(ctx context.Context, p *post, ended chan struct{}) {
	defer close(ended)
	var err error
	if d.cfg.Observe {
		err = d.hold(ctx, p, nil)
	} else {
		err = d.cfg.Lease.Campaign(ctx, DutyOf(p.tag), func(held context.Context, g Grant) error { return d.hold(held, p, g) })
	}
	if err != nil && ctx.Err() == nil {
		d.log.Error("this node does not watch over a database cluster; it tries again", "tag", p.tag, "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.ended == ended && p.cancel != nil {
		p.cancel(nil)
		p.cancel = nil
	}
}

// hold is the duty. g is nil where it is only observed.
func (d *Daemon) hold(ctx context.Context, p *post, g Grant) error {
	d.mu.Lock()
	credentials := p.def.mysql.Credentials
	d.mu.Unlock()
	effects, err := d.cfg.Open(p.tag, credentials)
	if err != nil {
		return fmt.Errorf("reach the servers of %s: %w", p.tag, err)
	}
	defer func() {
		if err := effects.Close(); err != nil {
			d.log.Debug("connections to database servers do not end in order", "tag", p.tag, "err", err)
		}
	}()
	cfg := WatchConfig{
		Tag: p.tag, World: effects, Records: d.cfg.Records(g), Valid: func() bool { return false }, Observe: d.cfg.Observe, Times: d.cfg.Times, Clock: d.cfg.Clock, Logger: d.log,
		Scene: func() Scene { return d.scene(p.tag) },
	}
	if g != nil {
		cfg.Fence, cfg.Valid = g.Number(), g.Valid
	}
	w := NewWatch(cfg)
	d.mu.Lock()
	p.watch, p.grant, p.since = w, g, d.clock.Now()
	d.mu.Unlock()
	d.log.Info("this node watches over a database cluster", "tag", p.tag, "fence", cfg.Fence, "observe", d.cfg.Observe)
	defer func() {
		d.mu.Lock()
		p.watch, p.grant = nil, nil
		d.mu.Unlock()
		d.log.Info("this node watches over a database cluster no more", "tag", p.tag, "fence", cfg.Fence, "cause", fmt.Sprint(context.Cause(ctx)))
	}()
	return w.Run(ctx)
}

// scene is what a Watch asks for.
func (d *Daemon) scene(tag string) Scene {
	d.mu.Lock()
	defer d.mu.Unlock()
	def := d.clusters.byTag[tag]
	if def == nil {
		return Scene{}
	}
	s := Scene{MySQL: def.mysql, Members: d.clusters.members(def, d.mesh), Known: map[string]Member{}, Mass: d.mesh.MassSuspicion()}
	hosts := make([]string, 0, len(s.Members))
	for _, m := range s.Members {
		hosts = append(hosts, m.Host)
	}
	if p := d.posts[tag]; p != nil && p.watch != nil {
		for _, host := range p.watch.related() {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
				s.Known[host] = d.clusters.member(def, host, d.mesh)
			}
		}
	}
	if d.heard[tag] == nil {
		d.heard[tag] = map[string]hearing{}
	}
	s.Agents = agents(tag, hosts, d.mesh, d.heard[tag], time.Now())
	return s
}

// Watching is what watches over a cluster here, for commands: ErrElsewhere.
func (d *Daemon) Watching(tag string) (*Watch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch p := d.posts[tag]; {
	case d.clusters.byTag[tag] == nil:
		return nil, fmt.Errorf("tags/%s has no section MySQL", tag)
	case p == nil || p.watch == nil:
		return nil, fmt.Errorf("%s: %w", tag, ErrElsewhere)
	default:
		return p.watch, nil
	}
}

// State is how one cluster stands, as this node has it.
type State struct {
	Tag string
	// Problem is why the section cannot be used; Refusal why this node does not offer itself.
	Problem, Refusal string
	// Held says that this node watches over it, under Fence, since Since.
	Held  bool
	Fence uint64
	Since time.Time
	// Members are as HostDB has them.
	Members []Member
	// Picture is how it stood when it was last decided about; nil = it is not watched here, or was not looked at yet.
	Picture *Picture
}

// State tells how all clusters stand, by tag.
func (d *Daemon) State() []State {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []State
	for _, tag := range d.clusters.tags() {
		def := d.clusters.byTag[tag]
		s := State{Tag: tag, Problem: def.problem, Members: d.clusters.members(def, d.mesh)}
		if p := d.posts[tag]; p != nil {
			s.Refusal = p.refusal
			if p.watch != nil {
				s.Held, s.Since, s.Picture = true, p.since, p.watch.Picture()
			}
			if p.grant != nil {
				s.Fence = p.grant.Number()
			}
		}
		out = append(out, s)
	}
	return out
}
