package lbd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
)

var keeping = func() map[string]string {
	docs := maps.Clone(balanced)
	docs["tags/web"] = "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8080}, NoQuorum: keep}"
	return docs
}()

// keptAndLost is a bench whose address is kept without a lease, until somebody else has it: it comes back with out.
func keptAndLost(b *bench) (out func()) {
	end, stop, ended := b.held(1)
	stop()
	time.Sleep(2 * time.Second)
	end(lease.ErrExpired)
	if err := <-ended; err != nil {
		b.t.Fatal(err)
	}
	time.Sleep(time.Second)
	if !b.here() {
		b.t.Fatal("it is not kept")
	}
	b.other.Take(netip.PrefixFrom(vip1, 32), true)
	b.until("it gives way", func() bool { return !b.here() })
	time.Sleep(time.Second)
	return func() { b.other.Take(netip.PrefixFrom(vip1, 32), false) }
}

// TestReviewKeptIsTakenAgain: a node that kept an address, and lost it to somebody else, takes it again when it is granted it.
func TestReviewKeptIsTakenAgain(t *testing.T) {
	inBench(t, keeping, func(b *bench) {
		keptAndLost(b)()
		l, _, ended := b.grant(2)
		defer l.Keep()()
		for range 300 {
			select {
			case err := <-ended:
				t.Fatalf("it gave the duty up: %v", err)
			default:
			}
			if b.here() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("it holds the duty, and the address is not here")
	})
}

// TestReviewKeptAndLostEnds: what is left of a kept address ends with the agent, and with the tag.
func TestReviewKeptAndLostEnds(t *testing.T) {
	inBench(t, keeping, func(b *bench) {
		keptAndLost(b)()
		b.write(map[string]string{"tags/web": "{}"})
		b.until("the rules are gone", func() bool { return len(b.nat.Services) == 0 })
		b.d.mu.Lock()
		claims := 0
		for _, p := range b.d.posts {
			claims += p.claims
		}
		b.d.mu.Unlock()
		if claims != 0 {
			t.Error("the claim goes on")
		}
	})
	inBench(t, keeping, func(b *bench) {
		keptAndLost(b)()
		ended := make(chan error, 1)
		go func() { ended <- b.stop() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("the agent does not end")
			_ = b.table.Close() // so that the test does
		}
	})
}

// TestReviewAddressThatCannotBeAdded: a holder whose kernel refuses the address gives the duty to others, whatever phase the claim is in.
func TestReviewAddressThatCannotBeAdded(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		b.kernel.refuse = errors.New("no memory")
		l, _, ended := b.grant(1)
		defer l.Keep()()
		select {
		case err := <-ended:
			if err == nil || b.here() {
				t.Errorf("%v, here: %v", err, b.here())
			}
		case <-time.After(time.Minute):
			t.Error("it holds the duty without the address")
		}
		b.kernel.refuse = nil
	})
}

// TestReviewClaimThatWaits: a claim that must wait for a former one, which does not end, does not keep the duty from others.
func TestReviewClaimThatWaits(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		end, stop, ended := b.held(1)
		b.kernel.stuck = make(chan struct{})
		stop()
		end(lease.ErrExpired)
		<-ended
		l, _, again := b.grant(2)
		defer l.Keep()()
		select {
		case err := <-again:
			if !errors.Is(err, vip.ErrClaimed) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("it holds the duty, and waits")
		}
		close(b.kernel.stuck)
	})
}

// found has this node's checks say something of members: "w1 10.0.0.51": state.
func (b *bench) found(checks map[string]report.CheckState) {
	b.t.Helper()
	b.checks = map[string]report.Check{}
	for who, state := range checks {
		host, addr, _ := strings.Cut(who, " ")
		b.checks[report.CheckKey("web", host, 8080, "tcp")] = report.Check{State: state, Addr: addr, Bad: map[report.CheckState]int{report.CheckDown: 3}[state], Reason: "refused"}
	}
	if err := b.reconcile(); err != nil {
		b.t.Fatal(err)
	}
}

// plans are the backends of tag web as planned.
func (b *bench) plans() string {
	var out []string
	for _, x := range b.d.State().Services[0].Backends {
		out = append(out, x.Host+" "+x.Addr.String()+" "+string(x.State))
	}
	return strings.Join(out, ", ")
}

// TestReviewMovedHost: what checks found at a host's former address says nothing of its new one, which is tried, even while the former one is held.
func TestReviewMovedHost(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		b.found(map[string]report.CheckState{"w1 10.0.0.51": report.CheckUp, "w2 10.0.0.52": report.CheckUp})
		b.write(map[string]string{"hosts/w1": "Network: {IP: 10.0.0.61}"})
		if got, want := b.plans(), "w1 10.0.0.51 draining, w1 10.0.0.61 out, w2 10.0.0.52 in"; got != want {
			t.Errorf("nobody tried it: %s, want %s", got, want)
		}
		b.found(map[string]report.CheckState{"w1 10.0.0.61": report.CheckUp, "w2 10.0.0.52": report.CheckUp})
		if got, want := b.plans(), "w1 10.0.0.51 draining, w1 10.0.0.61 in, w2 10.0.0.52 in"; got != want {
			t.Errorf("it works: %s, want %s", got, want)
		}
	})
	docs := maps.Clone(balanced)
	docs["tags/web/members"] = "w1"
	inBench(t, docs, func(b *bench) {
		// The box got its new address first, and HostDB hears of it later.
		b.found(map[string]report.CheckState{"w1 10.0.0.51": report.CheckDown})
		b.write(map[string]string{"hosts/w1": "Network: {IP: 10.0.0.61}"})
		if len(b.specs) != 1 || b.specs[0].Target.Addr != netip.MustParseAddr("10.0.0.61") {
			t.Errorf("it tries %+v", b.specs)
		}
		b.found(map[string]report.CheckState{"w1 10.0.0.61": report.CheckUp})
		if got, want := b.plans(), "w1 10.0.0.61 in"; got != want && got != "w1 10.0.0.51 draining, "+want {
			t.Errorf("it works: %s, want %s", got, want)
		}
	})
}

// TestReviewOneBadTagStopsNoOther: a member or a tag that the kernel cannot have is left out alone, and said; nobody else's change waits for it.
func TestReviewOneBadTagStopsNoOther(t *testing.T) {
	docs := maps.Clone(balanced)
	docs["hosts/odd"], docs["tags/odd"], docs["tags/odd/members"] = "Network: {IP: 10.0.0.60}", "LB: {VIP: 10.0.0.101, Ports: {53/udp: 53}}", "odd w2"
	inBench(t, docs, func(b *bench) {
		_, stop, _ := b.held(1)
		defer stop()
		b.d.mu.Lock()
		odd := b.d.posts[netip.MustParseAddr("10.0.0.101")]
		odd.claims++ // as if it were held, too
		b.d.mu.Unlock()
		defer func() { b.d.mu.Lock(); odd.claims--; b.d.mu.Unlock() }()
		kernel := func() string {
			var out []string
			for _, x := range b.nat.Services {
				out = append(out, fmt.Sprint(x, len(x.Backends)))
			}
			return strings.Join(out, ", ")
		}
		bad := func(docs map[string]string) string {
			b.patient = true
			b.write(docs)
			if err := b.reconcile(); err != nil {
				s := b.d.State()
				if s.Error != "" || len(s.Refused) != 1 {
					t.Errorf("it is said of others, too: %q, %q", s.Error, s.Refused)
				}
				return err.Error()
			}
			return ""
		}
		if err := bad(map[string]string{"hosts/odd": "Network: {IP: 224.0.0.5}", "tags/web": "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8081}}"}); !strings.Contains(err, "tags/odd") || !strings.Contains(err, "224.0.0.5") {
			t.Errorf("it does not say what is wrong: %q", err)
		}
		if got, want := kernel(), "10.0.0.101:53/udp 2, 10.0.0.100:80/tcp 2"; got != want || b.nat.Services[1].Backends[0].Port != 8081 {
			t.Errorf("got %s to %d, want %s to 8081", got, b.nat.Services[1].Backends[0].Port, want)
		}
		many := map[string]string{"hosts/odd": "Network: {IP: 10.0.0.60}", "tags/odd/members": "odd w2"}
		for i := range nft.MaxBackends {
			name := fmt.Sprintf("m%d", i)
			many["hosts/"+name] = fmt.Sprintf("Network: {IP: 10.0.%d.%d}", 1+i/250, 1+i%250)
			many["tags/odd/members"] += " " + name
		}
		for key := range many {
			if host, ok := strings.CutPrefix(key, "hosts/"); ok {
				addr := strings.TrimSuffix(strings.TrimPrefix(many[key], "Network: {IP: "), "}")
				if b.checks == nil {
					b.checks = map[string]report.Check{}
				}
				b.checks[report.CheckKey("odd", host, 53, "udp")] = report.Check{State: report.CheckUp, Addr: addr}
			}
		}
		many["tags/odd"] = "LB: {VIP: 10.0.0.101, Ports: {53/udp: 53}, Check: {Type: dns}}"
		many["tags/web"] = "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8082}}"
		if err := bad(many); !strings.Contains(err, "tags/odd: it stays as it was") {
			t.Errorf("it does not say what is wrong: %q", err)
		}
		if got, want := kernel(), "10.0.0.101:53/udp 2, 10.0.0.100:80/tcp 2"; got != want || b.nat.Services[1].Backends[0].Port != 8082 {
			t.Errorf("got %s to %d, want %s to 8082", got, b.nat.Services[1].Backends[0].Port, want)
		}
	})
}

// TestReviewDeadProxy: a holder whose HAProxy died gives it a moment to come back, and then the duty to others.
func TestReviewDeadProxy(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		b.carries = &atomic.Pointer[[]string]{}
		b.carries.Store(&[]string{"web"})
		b.write(map[string]string{"tags/web": "LB: {VIP: 10.0.0.100, Ports: {80/tcp: 8080}, Mode: http}"})
		time.Sleep(2 * tryAgain)
		if err := b.reconcile(); err != nil {
			t.Fatal(err)
		}
		_, stop, ended := b.held(1)
		defer stop()
		b.carries.Store(&[]string{})
		time.Sleep(patience - time.Second)
		b.carries.Store(&[]string{"web"})
		time.Sleep(time.Minute)
		if !b.here() {
			t.Fatal("it has no patience")
		}
		b.carries.Store(&[]string{})
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "HAProxy") || b.here() {
				t.Errorf("%v, here: %v", err, b.here())
			}
		case <-time.After(time.Minute):
			t.Error("it holds the address, and nobody answers at it")
		}
	})
}

// TestReviewNewHolderUnderMassSuspicion: a rack dies, with the holder and some members in it. What the next holder finds counts at once, against
// what the dead one said, although nothing else is believed of the mesh then.
func TestReviewNewHolderUnderMassSuspicion(t *testing.T) {
	const dead = "00000000000000000000000000000002"
	inBench(t, balanced, func(b *bench) {
		members := func(state mesh.State) mesh.View {
			return mesh.NewView(self, []mesh.Member{{ID: self, Name: "a1", State: mesh.StateAlive}, {ID: dead, Name: "a2", State: state}})
		}
		said := report.Report{
			Node: dead, Boot: 1, N: 1, LB: &report.LB{VIPs: map[string]report.VIP{"10.0.0.100": {Fence: 1, Phase: "held"}}},
			Checks: map[string]report.Check{report.CheckKey("web", "w1", 8080, "tcp"): {State: report.CheckUp}, report.CheckKey("web", "w2", 8080, "tcp"): {State: report.CheckUp}},
		}
		before := members(mesh.StateAlive).WithReport(said)
		b.mesh = &before
		b.found(map[string]report.CheckState{"w1 10.0.0.51": report.CheckUp, "w2 10.0.0.52": report.CheckUp})
		if v := b.d.State().VIPs[0]; v.Holder != dead {
			t.Fatalf("the holder is %q", v.Holder)
		}
		after := members(mesh.StateFailed).WithReport(said).WithMassSuspicion(true)
		b.mesh = &after
		_, stop, _ := b.held(2)
		defer stop()
		b.found(map[string]report.CheckState{"w1 10.0.0.51": report.CheckUp, "w2 10.0.0.52": report.CheckDown})
		if got, want := b.plans(), "w1 10.0.0.51 in, w2 10.0.0.52 out"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if v := b.d.State().VIPs[0]; v.Holder != self {
			t.Errorf("the holder is %q", v.Holder)
		}
	})
}

// TestReviewOldPlan: a box that was away for long takes what HostDB says, and holds nobody who left meanwhile; one that was restarted goes on.
func TestReviewOldPlan(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		time.Sleep(3 * planAge) // it runs, and nothing changes
		for away, want := range map[time.Duration]int{0: 1, planAge - planTouch - time.Second: 1, planAge + time.Second: 0} {
			_, last := openPlan(b.d.cfg.Dir, time.Now().Add(away), b.d.log)
			if len(last.Services) != want {
				t.Errorf("away for %s: %d services, want %d", away, len(last.Services), want)
			}
		}
	})
}

// TestReviewLostIsReleased: who lost its lease removes the address, and does not leave it to the next holder or to the kernel.
func TestReviewLostIsReleased(t *testing.T) {
	for _, cause := range []error{lease.ErrLost, lease.ErrExpired} {
		inBench(t, balanced, func(b *bench) {
			end, stop, ended := b.held(1)
			defer stop() // the claim hears of it from its owner alone
			end(cause)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if b.here() {
				t.Errorf("%v: the address is here", cause)
			}
		})
	}
}

// TestReviewEndIsAtOnce: where nothing is balanced on an address any more nobody is waited for.
func TestReviewEndIsAtOnce(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		_, stop, _ := b.held(1)
		defer stop()
		b.write(map[string]string{"tags/web": "{}"})
		time.Sleep(300 * time.Millisecond)
		if b.here() {
			t.Error("the address is here")
		}
	})
}

// TestReviewStrayAddress: an address that is balanced on, and that somebody added here by hand, goes; other addresses stay.
func TestReviewStrayAddress(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		other := netip.MustParseAddr("10.0.0.105")
		b.box.Take(netip.PrefixFrom(vip1, 32), true)
		b.box.Take(netip.PrefixFrom(other, 32), true)
		b.until("it goes", func() bool { return !b.here() })
		if !b.box.Has(other) || !b.box.Has(netip.MustParseAddr("10.0.0.1")) {
			t.Error("an address that nobody balances on is gone")
		}
	})
}

// TestReviewOtherDatacenter: a node does not offer itself for an address of another datacenter's network, and says why.
func TestReviewOtherDatacenter(t *testing.T) {
	docs := maps.Clone(balanced)
	docs["tags/net"] = strings.ReplaceAll(docs["tags/net"], "dc1", "dc2")
	inBench(t, docs, func(b *bench) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.offered || !strings.Contains(b.declined["lb/10.0.0.100"], "dc2") {
			t.Errorf("it offers itself: %v, or says %q", b.offered, b.declined)
		}
	})
}

// untouched fails where anything of a box is tried or changed.
type untouched struct{ t *testing.T }

func (u untouched) Check() error {
	u.t.Error("it tries what the box can do")
	return nil
}

func (u untouched) Apply(context.Context, nft.Table) error {
	u.t.Error("it changes the kernel's rules")
	return nil
}

type untouchedProxy struct{ untouched }

func (u untouchedProxy) Apply(context.Context, []*plan.Service) error {
	u.t.Error("it changes HAProxy")
	return nil
}

func (untouchedProxy) Carries() []string { return nil }

// TestReviewObserve: who only shows what it would do does not try what the box can do, for that touches it.
func TestReviewObserve(t *testing.T) {
	inBench(t, balanced, func(b *bench) {
		cfg := b.d.cfg
		cfg.Dir, cfg.Observe, cfg.NAT, cfg.Proxy = t.TempDir(), true, untouched{t}, untouchedProxy{untouched{t}}
		d, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.Plan(context.Background(), b.store.View(), mesh.NewView(self, []mesh.Member{{ID: self, Name: "a1", State: mesh.StateAlive}}))
		if err != nil || !strings.Contains(text, "offer for lb/10.0.0.100\n  tags/web, mode nat: 2 in") {
			t.Errorf("%v, %q", err, text)
		}
		if b.here() {
			t.Error("the address is here")
		}
	})
}
