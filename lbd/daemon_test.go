package lbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/lbd/check"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
)

var vip1 = netip.MustParseAddr("10.0.0.100")

// bench is a daemon with all that it touches, in memory and in virtual time.
type bench struct {
	t     *testing.T
	store *hostdb.Store
	box   *viptest.Box
	table *vip.Table
	d     *Daemon
	stop  func() error

	mu       sync.Mutex // guards the fields below
	events   []string
	nat      nft.Table
	natErr   error
	fitErr   error
	fitAsked int // how often
	proxied  []*plan.Service
	checks   map[string]report.Check
	specs    []check.Spec
	report   report.Report
	declined map[string]string
	hold     func(context.Context, Grant) error // of the campaign that runs
	offered  bool
}

type virtualClock struct{ began time.Time }

func (virtualClock) Now() time.Time        { return time.Now() }
func (c virtualClock) Boot() time.Duration { return time.Since(c.began) + time.Hour }

const self = "00000000000000000000000000000001"

func inBench(t *testing.T, docs map[string]string, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		mem := hostdbtest.NewMemory()
		s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: self})
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, store: s, declined: map[string]string{}}
		b.box = viptest.NewSegment(1).Box(netip.MustParsePrefix("10.0.0.1/24"))
		log := slog.New(slog.DiscardHandler)
		b.table, err = vip.Open(vip.Config{Dir: t.TempDir(), Kernel: b.box, Announcer: b.box, Clock: virtualClock{time.Now()}, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		b.d, err = Open(Config{
			Node: self, Datacenter: "dc1", Dir: t.TempDir(), Lease: benchLease{b}, Addresses: b.table, NAT: benchNAT{b}, Proxy: benchProxy{b},
			Probes: benchProbes{b}, Report: b.reports, Logger: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- b.d.Run(ctx) }()
		b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
		defer func() {
			if err := errors.Join(b.stop(), b.table.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		}()
		b.write(docs)
		test(b)
	})
}

var balanced = map[string]string{
	"hosts/w1": "Network: {IP: 10.0.0.51}", "hosts/w2": "Network: {IP: 10.0.0.52}",
	"tags/net": "Subnet: {CIDR: 10.0.0.0/24, VIPs: 10.0.0.96/27, Datacenter: dc1}",
	"tags/web": "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8080}}", "tags/web/members": "w1 w2",
}

func (b *bench) write(docs map[string]string) {
	b.t.Helper()
	_, err := b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test", Lenient: true}, func(tx *hostdb.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(docs)) {
			ns, key, _ := strings.Cut(id, "/")
			if key, ok := strings.CutSuffix(key, "/members"); ok {
				list, err := hostdb.ParseMembers(strings.ReplaceAll(docs[id], " ", "\n"))
				if err == nil {
					err = tx.SetMembers(ns, key, list)
				}
				if err != nil {
					return err
				}
				continue
			}
			doc, err := hostdb.ParseDocument([]byte(docs[id]))
			if err == nil {
				err = tx.Put(ns, key, doc)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.reconcile(); err != nil && b.natErr == nil {
		b.t.Fatal(err)
	}
}

func (b *bench) reconcile() error {
	m := mesh.NewView(self, []mesh.Member{{ID: self, Name: "a1", State: mesh.StateAlive}})
	err := b.d.Reconcile(context.Background(), b.store.View(), m)
	synctest.Wait()
	return err
}

// say notes an event.
func (b *bench) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

type benchLease struct{ b *bench }

func (l benchLease) Home() (home, known bool) { return true, true }

func (l benchLease) Decline(duty, reason string) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.b.declined[duty] = reason
}

func (l benchLease) Campaign(ctx context.Context, _ string, hold func(context.Context, Grant) error) error {
	l.b.mu.Lock()
	l.b.hold, l.b.offered = func(held context.Context, g Grant) error {
		held, stop := context.WithCancelCause(held)
		defer context.AfterFunc(ctx, func() { stop(lease.ErrReleased) })()
		return hold(held, g)
	}, true
	l.b.mu.Unlock()
	<-ctx.Done()
	l.b.mu.Lock()
	l.b.offered = false
	l.b.mu.Unlock()
	return nil
}

type benchGrant struct {
	*viptest.Lease
	n uint64
}

func (g benchGrant) Number() uint64 { return g.n }

// grant gives the duty to the node: end tells it to stop, for a reason; ended has what hold returned.
func (b *bench) grant(n uint64) (l *viptest.Lease, end context.CancelCauseFunc, ended chan error) {
	b.t.Helper()
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold == nil {
		b.t.Fatal("it does not offer itself")
	}
	l = viptest.NewLease()
	ctx, end := context.WithCancelCause(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- hold(ctx, benchGrant{l, n}) }()
	return l, end, ended
}

type benchNAT struct{ b *bench }

func (n benchNAT) Check() error {
	n.b.mu.Lock()
	defer n.b.mu.Unlock()
	n.b.fitAsked++
	return n.b.fitErr
}

func (n benchNAT) Apply(_ context.Context, t nft.Table) error {
	if n.b.natErr != nil {
		return n.b.natErr
	}
	if len(t.Services)+len(n.b.nat.Services) > 0 {
		n.b.say("%d services, address here: %v", len(t.Services), n.b.box.Has(vip1))
	}
	n.b.nat = t
	return nil
}

type benchProxy struct{ b *bench }

func (benchProxy) Check() error { return errors.New("there is no haproxy") }

func (p benchProxy) Apply(_ context.Context, list []*plan.Service) error {
	p.b.proxied = list
	return nil
}

func (benchProxy) Carries() []string { return nil }

type benchProbes struct{ b *bench }

func (p benchProbes) Set(specs []check.Spec) error {
	p.b.specs = specs
	return nil
}

func (p benchProbes) Checks() map[string]report.Check { return p.b.checks }
func (benchProbes) Changed() <-chan struct{}          { return nil }

func (b *bench) reports(edit func(*report.Report)) {
	r := report.Report{Checks: map[string]report.Check{}}
	edit(&r)
	b.report = r
}

// until waits, in virtual time.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for range 600 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("never: %s", what)
}

func (b *bench) here() bool { return b.box.Has(vip1) }

// held grants the duty and waits until the address is here.
func (b *bench) held(n uint64) (end context.CancelCauseFunc, stop func(), ended chan error) {
	b.t.Helper()
	l, end, ended := b.grant(n)
	stop = l.Keep()
	b.until("the address is here", b.here)
	return end, stop, ended
}

// TestHeldAndHandedOver: rules are there before the address, and until it is gone.
func TestHeldAndHandedOver(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		if len(b.nat.Services) != 0 || b.here() {
			t.Fatal("who holds nothing has rules or an address")
		}
		end, stop, ended := b.held(7)
		defer stop()
		if got := b.report.LB.VIPs["10.0.0.100"]; got.Fence != 7 {
			t.Errorf("it reports %+v", got)
		}
		end(fmt.Errorf("%w: moved", lease.ErrHandOver))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if !b.here() || len(b.nat.Services) != 1 {
			t.Error("what was handed over is gone before anybody has it")
		}
		b.until("the address is gone", func() bool { return !b.here() })
		b.until("the rules are gone", func() bool { return len(b.nat.Services) == 0 })
		b.mu.Lock()
		defer b.mu.Unlock()
		if got, want := strings.Join(b.events, "; "), "1 services, address here: false; 0 services, address here: false"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if len(b.report.LB.VIPs) != 0 {
			t.Errorf("it reports %+v", b.report.LB)
		}
	})
}

// TestLostLease: what is not renewed goes, and comes with the next grant.
func TestLostLease(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		end, stop, ended := b.held(1)
		stop()
		time.Sleep(2 * time.Second)
		end(lease.ErrExpired)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if b.here() {
			t.Error("the address outlives the lease")
		}
		b.until("the rules are gone", func() bool { return len(b.nat.Services) == 0 })
		_, stop, _ = b.held(2)
		stop()
	})
}

// TestKept: what is to be kept outlives the lease, and goes on under the next grant.
func TestKept(t *testing.T) {
	docs := maps.Clone(balanced)
	docs["tags/web"] = "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8080}, NoQuorum: keep}"
	inBench(t, docs, func(b *bench) {
		end, stop, ended := b.held(1)
		stop()
		time.Sleep(2 * time.Second)
		end(lease.ErrExpired)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if !b.here() || len(b.nat.Services) != 1 {
			t.Fatal("it is not kept")
		}
		if v := b.d.State().VIPs[0]; v.Held || v.Claim == nil || v.Claim.Phase != vip.Kept {
			t.Errorf("state %+v", v)
		}
		l, _, _ := b.grant(2)
		defer l.Keep()()
		b.until("it is held again", func() bool {
			v := b.d.State().VIPs[0]
			return v.Held && v.Claim != nil && v.Claim.Phase == vip.Held && v.Fence == 2
		})
	})
}

// TestRefusedRules: a node whose kernel refuses gives the duty up, and never has the address; where it had rules, they stay.
func TestRefusedRules(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		b.natErr = errors.New("no memory")
		_, _, ended := b.grant(1)
		if err := <-ended; err == nil || b.here() {
			t.Errorf("it took the address: %v", err)
		}
		b.natErr = nil
		_, stop, _ := b.held(2)
		defer stop()
		b.natErr = errors.New("no memory")
		b.write(map[string]string{"tags/web": "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8081}}"})
		if err := b.reconcile(); err == nil {
			t.Error("nobody hears of it")
		}
		if !b.here() || len(b.nat.Services) != 1 {
			t.Error("the last good state is gone")
		}
		b.natErr = nil
	})
}

// TestEndOfATag: what is not balanced any more is gone, and not handed over; a tag that cannot be used keeps what it had.
func TestEndOfATag(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		_, stop, _ := b.held(1)
		defer stop()
		b.write(map[string]string{"tags/web": "LB: {VIP: 10.0.0.5, Ports: {80/tcp: 8080}}"})
		time.Sleep(5 * time.Second)
		if s := b.d.State(); !b.here() || len(s.Problems) != 1 || s.Problems[0].Name != plan.OutsideVIPs {
			t.Fatalf("the last good state is gone: %+v", s.Problems)
		}
		b.write(map[string]string{"tags/web": "{}"})
		b.until("the address is gone", func() bool { return !b.here() })
		b.until("the rules are gone", func() bool { return len(b.nat.Services) == 0 })
		b.until("the offer is gone", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return !b.offered })
	})
}

// TestUnfit: a node that could not serve does not offer itself, and says why; when it cannot any more it hands over.
func TestUnfit(t *testing.T) {
	docs := maps.Clone(balanced)
	docs["tags/web"] = "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8080}, Mode: http}"
	inBench(t, docs, func(b *bench) {
		if b.hold != nil || b.declined["lb/10.0.0.100"] != "there is no haproxy" {
			t.Errorf("it offers itself, or says %q", b.declined)
		}
		b.write(map[string]string{"tags/web": balanced["tags/web"]})
		_, stop, ended := b.held(1)
		defer stop()
		b.fitErr = errors.New("no rights")
		select {
		case <-ended:
		case <-time.After(5 * time.Minute):
			t.Fatal("it goes on")
		}
		if b.declined["lb/10.0.0.100"] != "no rights" {
			t.Errorf("it says %q", b.declined)
		}
	})
}

// TestStop: an agent that stops hands over, and leaves no rules.
func TestStop(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		_, stop, _ := b.held(1)
		defer stop()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		if b.here() || len(b.nat.Services) != 0 {
			t.Errorf("it left the address (%v) or rules", b.here())
		}
	})
}

// TestDrained: a fact of the host drains it in all tags, and a check that fails takes it out.
func TestDrained(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		_, stop, _ := b.held(1)
		defer stop()
		b.write(map[string]string{"hosts/w1": "{Network: {IP: 10.0.0.51}, Drain: new memory}"})
		states := func() string {
			var out []string
			for _, x := range b.nat.Services[0].Backends {
				out = append(out, x.Addr.String()+" "+string(x.State))
			}
			return strings.Join(out, ", ")
		}
		if got := states(); got != "10.0.0.51 draining, 10.0.0.52 in" {
			t.Errorf("got %s", got)
		}
		b.write(map[string]string{"hosts/w1": "Network: {IP: 10.0.0.51}"})
		if len(b.specs) != 2 || b.specs[0].Target.Port != 8080 {
			t.Errorf("it tries %+v", b.specs)
		}
		b.checks = map[string]report.Check{report.CheckKey("web", "w2", 8080, "tcp"): {State: report.CheckDown, Reason: "refused"}}
		if err := b.reconcile(); err != nil {
			t.Fatal(err)
		}
		if got := states(); got != "10.0.0.51 in" {
			t.Errorf("got %s", got)
		}
		if r := b.report.Checks; len(r) != 1 {
			t.Errorf("it reports %+v", r)
		}
	})
}
