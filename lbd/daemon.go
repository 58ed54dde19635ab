package lbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/lbd/check"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Grant is a duty that this node holds. It must be comparable.
type Grant interface {
	vip.Lease
	// Number is its fencing number.
	Number() uint64
}

// Lease is what grants duties.
type Lease interface {
	// Campaign is that of package lease: the cause of the end of hold's context is one of its errors.
	Campaign(ctx context.Context, duty string, hold func(ctx context.Context, g Grant) error) error
	Decline(duty, reason string)
	// Home reports whether this node's datacenter is the one that holds what belongs to none.
	Home() (home, known bool)
}

// NAT has the kernel divide connections. Its methods are called by one goroutine at a time.
type NAT interface {
	// Check tells why it cannot work here.
	Check() error
	// Apply makes it so. When it fails, what was there stays.
	Apply(ctx context.Context, want nft.Table) error
}

// Proxy has a program divide connections. Its methods are called by one goroutine at a time.
type Proxy interface {
	// Check tells why it cannot work here.
	Check() error
	// Apply makes it so: the services of all modes but nat whose VIP is here. None ends the program. When it fails, what was there stays.
	Apply(ctx context.Context, want []*plan.Service) error
	// Carries are the tags that it divides; none while its program does not run.
	Carries() []string
}

// Probes tries members; *check.Runner is one. Its methods are safe for concurrent use.
type Probes interface {
	// Set makes specs all that is tried. An error is of a spec that makes no sense; then nothing was changed.
	Set(specs []check.Spec) error
	// Checks is what was found, by report.CheckKey.
	Checks() map[string]report.Check
	// Changed has one slot, which is filled whenever Checks says something else.
	Changed() <-chan struct{}
}

// Clock is the wall clock.
type Clock interface{ Now() time.Time }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// Config is what a Daemon needs.
type Config struct {
	// Node is this node's id; Datacenter that of its lease group.
	Node, Datacenter string
	// Dir is where the last plan is kept; it must exist.
	Dir string
	// Lease is nil where this node takes no part in duties: Unfit says why.
	Lease     Lease
	Addresses *vip.Table
	NAT       NAT
	Proxy     Proxy
	Probes    Probes
	// Report changes this node's report.
	Report func(edit func(r *report.Report))
	// Unfit is why this node holds no address at all; "" = it may.
	Unfit string
	// Aloof: it only shows what it plans. It takes no part in the duties, not even to say why, tries no members, and counts all as working. Unfit says why.
	Aloof bool
	// Observe: only Plan is called. What this box could do is not tried, for that touches it.
	Observe bool
	// Programs are the checks of checks.d that can be run here. nil = none is judged.
	Programs map[string]bool
	Clock    Clock        // nil = the real one
	Logger   *slog.Logger // nil = slog.Default()
}

// Daemon balances. It is safe for concurrent use.
type Daemon struct {
	cfg    Config
	log    *slog.Logger
	clock  Clock
	file   string
	poke   chan struct{}
	counts counts

	mu      sync.Mutex // guards the fields below
	planner *plan.Planner
	result  plan.Result
	began   bool
	db      hostdb.View
	mesh    mesh.View
	drained map[string]string // host -> reason
	sight   sight
	targets []check.Spec
	posts   map[netip.Addr]*post
	fit     fitness
	applied applied
	// orphaned are the addresses without a holder, and since when that is seen.
	orphaned map[netip.Addr]time.Time
	run      context.Context // of Run; nil when it does not run
	closed   bool
	wg       sync.WaitGroup

	touched time.Time     // of Run: the plan's file
	cleaned string        // of Run: what was wrong with removing addresses, as it was logged
	told    report.Report // as last reported
}

// applied is what the kernel and HAProxy have.
type applied struct {
	wanted   nft.Table // what nat was made from
	nat      nft.Table
	refused  map[string]error // of tags that are not in nat as they were wanted
	proxy    []*plan.Service
	natOnce  bool // it was told at least once
	version  string
	at       time.Time
	natErr   error
	proxyErr error
}

// err is why the kernel or HAProxy do not have what is planned; nil = they have.
func (a *applied) err() error { return errors.Join(a.natErr, refusals(a.refused), a.proxyErr) }

// tick is how often it is looked whether this node could hold an address: interfaces, rights and programs come and go without a poke.
const tick = 2 * time.Second

// Open makes a daemon that goes on from the plan that its directory has. It touches nothing yet.
func Open(cfg Config) (*Daemon, error) {
	if cfg.Node == "" || cfg.Dir == "" || cfg.Addresses == nil || cfg.NAT == nil || cfg.Proxy == nil || cfg.Probes == nil || cfg.Report == nil {
		return nil, errors.New("lbd: a node, a directory, addresses, NAT, a proxy, probes and a report are needed")
	}
	d := &Daemon{
		cfg: cfg, log: cfg.Logger, clock: cfg.Clock, poke: make(chan struct{}, 1), posts: map[netip.Addr]*post{}, drained: map[string]string{},
		sight: newSight(cfg.Node),
	}
	if d.log == nil {
		d.log = slog.Default()
	}
	if d.clock == nil {
		d.clock = wallClock{}
	}
	var last plan.Result
	d.file, last = openPlan(cfg.Dir, d.clock.Now(), d.log)
	d.planner, d.result = plan.NewPlanner(last), last
	d.fit = newFitness(cfg)
	return d, nil
}

// Name implements node.Daemon.
func (d *Daemon) Name() string { return "lb" }

// Reconcile implements node.Daemon.
func (d *Daemon) Reconcile(ctx context.Context, db hostdb.View, m mesh.View) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.db, d.mesh, d.began = db, m, true
	err := d.step(ctx)
	if len(d.result.Changed) > 0 {
		d.wake() // Run sleeps while nothing is balanced
	}
	return err
}

// Plan implements node.Planner: what it would balance, and which addresses it would offer itself for. It touches nothing.
func (d *Daemon) Plan(_ context.Context, db hostdb.View, m mesh.View) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.follow(db)
	d.db, d.mesh = db, m
	d.think()
	d.fit = d.fit.look(d.result.VIPs(), time.Now())
	var b strings.Builder
	for _, v := range d.result.VIPs() {
		if why := d.fit.why(v); why != "" {
			fmt.Fprintf(&b, "not offer for %s: %s\n", plan.Duty(v.Addr), why)
			continue
		}
		fmt.Fprintf(&b, "offer for %s\n", plan.Duty(v.Addr))
		for _, s := range v.Services {
			fmt.Fprintf(&b, "  tags/%s, mode %s: %d in, %d draining, %d out\n", s.Tag, s.Mode, s.Count(plan.In), s.Count(plan.Draining), s.Count(plan.Out))
		}
	}
	for _, p := range d.result.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p.Text)
	}
	return b.String(), nil
}

// Run offers this node for duties, until ctx ends: then it hands over what it holds, and its rules are gone when Run returns. Without it
// Reconcile only plans. It can be called once.
func (d *Daemon) Run(ctx context.Context) error {
	d.mu.Lock()
	d.run = ctx
	d.mu.Unlock()
	timer := time.NewTicker(tick)
	defer timer.Stop()
	awake := true
	var next <-chan time.Time
	for {
		d.step2(ctx, &next)
		switch busy := d.busy(); {
		case busy && !awake:
			timer.Reset(tick)
			awake = true
		case !busy && awake:
			timer.Stop()
			awake = false
		}
		select {
		case <-ctx.Done():
			return d.leave()
		case <-d.poke:
		case <-d.cfg.Probes.Changed():
		case <-timer.C:
			d.keepPlan()
			d.refit()
		case <-next:
		}
	}
}

// busy reports whether there is an address to be held. Where there is none this node sleeps until HostDB has one.
func (d *Daemon) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.began || len(d.result.Services) > 0
}

// step2 is a step between those of Reconcile, on the views that this had. Errors are Reconcile's to tell: it comes at the latest with its slow timer.
func (d *Daemon) step2(ctx context.Context, next *<-chan time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.began {
		return
	}
	if err := d.step(ctx); err != nil && ctx.Err() == nil {
		d.counts.failed.Add(1)
		d.log.Debug("load balancing failed between two runs", "err", err)
	}
	*next = nil
	if at := d.result.Next; !at.IsZero() {
		*next = time.After(max(at.Sub(d.clock.Now()), 10*time.Millisecond))
	}
}

// keepPlan marks the plan as one that an agent goes on from.
func (d *Daemon) keepPlan() {
	if now := d.clock.Now(); now.Sub(d.touched) >= planTouch {
		d.touched = now
		_ = os.Chtimes(d.file, now, now) // there may be none yet; what cannot be written was told when it was
	}
}

// refit looks anew at what this box can do.
func (d *Daemon) refit() {
	d.mu.Lock()
	was, vips := d.fit, d.result.VIPs()
	var free []netip.Addr
	for _, v := range vips {
		if p := d.posts[v.Addr]; p == nil || p.claims == 0 { // one that is claimed right now is left alone by Clean
			free = append(free, v.Addr)
		}
	}
	d.mu.Unlock()
	seen := was.look(vips, time.Now()) // it asks the kernel: not under the lock
	if seen.removes {
		// What somebody added by hand, or another program. Those that are claimed are left alone.
		_, err := d.cfg.Addresses.Clean(free)
		if text := textOf(err); text != d.cleaned {
			d.cleaned = text
			if err != nil {
				d.log.Error("virtual addresses that nobody holds here are not removed", "err", err)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fit.covers(d.result.VIPs()) && !seen.covers(d.result.VIPs()) {
		return // they changed meanwhile
	}
	d.fit = seen
}

// leave ends everything, in order.
func (d *Daemon) leave() error {
	d.mu.Lock()
	d.closed = true
	for _, p := range d.posts {
		p.stop(true)
	}
	d.mu.Unlock()
	d.wg.Wait() // addresses are handed over, or the kernel has them gone
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.cfg.Probes.Set(nil) // no spec, no error
	d.apply(ctx)
	return d.applied.err()
}

// step plans, offers this node or takes that back, and tells the kernel and HAProxy. mu is held.
func (d *Daemon) step(ctx context.Context) error {
	if d.closed {
		return nil
	}
	d.follow(d.db)
	d.think()
	if len(d.result.Changed) > 0 {
		if err := savePlan(d.file, d.result); err != nil {
			d.log.Warn("the plan of load balancing is not kept: after a restart more members may leave at once than 30 %", "err", err)
		}
	}
	if vips := d.result.VIPs(); !d.fit.covers(vips) {
		d.fit = d.fit.look(vips, time.Now())
	}
	d.offer()
	d.probe()
	d.apply(ctx)
	d.tell()
	return d.applied.err()
}

// follow notes whom people have drained.
func (d *Daemon) follow(db hostdb.View) {
	old := d.sight.db
	d.sight.db = db
	for c := range db.Changes(old) {
		if c.NS != hostdb.Hosts || !c.Data {
			continue
		}
		delete(d.drained, c.Key)
		if reason := strings.TrimSpace(db.Data(hostdb.Hosts, c.Key).Text(DrainKey)); reason != "" {
			d.drained[c.Key] = reason
		}
	}
}

// DrainKey is the fact of a host that takes it out of all balanced tags. Its text is the reason.
const DrainKey = "Drain"

// think makes the plan.
func (d *Daemon) think() {
	mine := map[netip.Addr]uint64{}
	for addr, p := range d.posts {
		if p.grant != nil {
			mine[addr] = p.fence
		}
	}
	judged := d.sight.look(d.mesh, d.cfg.Probes.Checks(), mine)
	in := plan.Input{Now: d.clock.Now(), Verdict: d.sight.verdict, Judged: judged, Drained: d.drained, Programs: d.cfg.Programs}
	if d.cfg.Aloof {
		in.Verdict = nil
	}
	d.result = d.planner.Plan(d.db, d.mesh, in)
	d.sight.services(d.result)
	d.orphans()
}

// orphans notes since when addresses have no holder.
func (d *Daemon) orphans() {
	vips := map[netip.Addr]time.Time{}
	for _, s := range d.result.Services {
		if d.sight.holder(s.VIP) != "" {
			continue
		}
		since, was := d.orphaned[s.VIP]
		if !was {
			since = d.clock.Now()
		}
		vips[s.VIP] = since
	}
	d.orphaned = vips
}

// probe has those members tried that are this node's to try.
func (d *Daemon) probe() {
	if d.cfg.Aloof {
		return
	}
	targets := d.sight.targets(d.result)
	if slices.Equal(targets, d.targets) {
		return
	}
	d.targets = targets
	if err := d.cfg.Probes.Set(targets); err != nil {
		d.log.Error("members are not tried", "err", err)
	}
}

// offer has a post for each address that this node could hold.
func (d *Daemon) offer() {
	if d.run == nil || d.run.Err() != nil || d.cfg.Aloof {
		return
	}
	vips := d.result.VIPs()
	wanted := make(map[netip.Addr]bool, len(vips))
	for _, v := range vips {
		wanted[v.Addr] = true
		p := d.posts[v.Addr]
		if p == nil {
			p = d.newPost(v)
			d.posts[v.Addr] = p
		}
		p.vip = v
		p.want(d.fit.why(v))
	}
	for addr, p := range d.posts {
		if !wanted[addr] {
			p.stop(false)
			if p.idle() {
				p.decline("")
				delete(d.posts, addr)
			}
		}
	}
}

// apply tells the kernel and HAProxy what they should divide, if that changed. mu is held.
func (d *Daemon) apply(ctx context.Context) {
	var here []*plan.Service
	for _, s := range d.result.Services {
		if p := d.posts[s.VIP]; p != nil && p.claims > 0 {
			here = append(here, s)
		}
	}
	a := &d.applied
	nat, proxy := tableOf(here), proxied(here)
	changed := false
	if !a.natOnce || a.natErr != nil || !sameTable(nat, a.wanted) {
		if len(nat.Services) == 0 && !a.natOnce && d.cfg.NAT.Check() != nil {
			a.natErr, a.wanted, a.nat, a.refused, a.natOnce = nil, nat, nat, nil, true // nothing is wanted, and nothing can be there
		} else {
			table, refused := nat, map[string]error(nil)
			err := d.cfg.NAT.Apply(ctx, table)
			if errors.Is(err, nft.ErrTable) {
				table, refused = usable(nat, a.nat)
				err = d.cfg.NAT.Apply(ctx, table)
			}
			if a.natErr = err; err == nil {
				a.wanted, a.nat, a.refused, a.natOnce, changed = nat, table, refused, true, true
			} else {
				a.natErr = fmt.Errorf("the kernel's rules: %w", err)
			}
		}
	}
	if a.proxyErr != nil || !slices.Equal(proxy, a.proxy) {
		if a.proxyErr = d.cfg.Proxy.Apply(ctx, proxy); a.proxyErr == nil {
			a.proxy, changed = proxy, true
		} else {
			a.proxyErr = fmt.Errorf("haproxy: %w", a.proxyErr)
		}
	}
	if a.err() == nil {
		a.version = d.result.Version
	}
	if changed {
		d.counts.applies.Add(1)
		a.at = d.clock.Now()
		d.log.Info("balanced services are in force", "services", len(here), "version", d.result.Version)
	}
}

// tell reports what this node holds and has found.
func (d *Daemon) tell() {
	vips := map[string]report.VIP{}
	for addr, p := range d.posts {
		if p.grant != nil {
			vips[addr.String()] = p.report()
		}
	}
	now := report.Report{LB: &report.LB{VIPs: vips}, Checks: d.sight.own}
	if report.Equal(now, d.told) {
		return
	}
	d.told = report.Clone(now)
	d.cfg.Report(func(r *report.Report) {
		r.LB = now.LB
		clear(r.Checks)
		maps.Copy(r.Checks, now.Checks)
	})
}

// wake has Run make a step.
func (d *Daemon) wake() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}
