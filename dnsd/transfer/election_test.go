package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// phones are what a mesh is to a Service: members that call each other.
type phones struct {
	mu       sync.Mutex
	handlers map[string]mesh.Handler // by id and name
	calls    int
}

type phone struct {
	*phones
	self string
}

func (p phone) Handle(name string, h mesh.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h == nil {
		delete(p.handlers, p.self+name)
		return
	}
	p.handlers[p.self+name] = h
}

func (p phone) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	p.mu.Lock()
	h := p.handlers[node+name]
	p.calls++
	p.mu.Unlock()
	if h == nil {
		return nil, mesh.ErrNoHandler
	}
	return h(ctx, mesh.Caller{ID: p.self}, req)
}

func (p *phones) called() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

var _ Peers = (*mesh.Mesh)(nil)

// Members that tell nobody, for they only observe or are of an older build, are not chosen, whoever the hash names; and when
// they begin to tell they are.
func TestWhoTellsNobodyIsNotChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members = 8
		net := &phones{handlers: map[string]mesh.Handler{}}
		var ids []string
		var ms []mesh.Member
		for i := range members {
			id := fmt.Sprintf("%032x", i+1)
			ids = append(ids, id)
			ms = append(ms, mesh.Member{ID: id, Name: id, State: mesh.StateAlive})
		}
		slices.SortFunc(ids, func(a, b string) int {
			if weight(testZone, a) > weight(testZone, b) {
				return -1
			}
			return 1
		})
		if chosen(testZone, ids) != ids[0] {
			t.Fatal("the order of the test is not that of the choice")
		}
		start := func(id string) *secondaries {
			s := newSource(t, "{Allow: [10.0.0.53], Notify: [10.0.0.53]}", func(c *Config) {
				c.View = func() mesh.View { return mesh.NewView(id, ms) }
				c.Peers = phone{net, id}
			})
			heard := newSecondaries()
			s.service.notify.teller = heard
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { _ = s.service.Run(ctx); close(done) }()
			t.Cleanup(func() { cancel(); <-done })
			return heard
		}
		// The last two tell; the six before them, which the hash prefers, do not.
		sixth, seventh := start(ids[6]), start(ids[7])
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if told, _ := sixth.count(ns1); told != 1 {
			t.Errorf("the chosen one of those that tell told %d times", told)
		}
		if told, _ := seventh.count(ns1); told != 0 {
			t.Errorf("another one told %d times", told)
		}
		// It stays so, and costs little.
		before := net.called()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if told, _ := sixth.count(ns1); told != 1 {
			t.Errorf("nothing changed, and it told %d times", told)
		}
		if n := net.called() - before; n > 10*2*members {
			t.Errorf("%d calls in ten minutes", n)
		}
		// One that is preferred begins to tell: it takes over.
		first := start(ids[0])
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if told, _ := first.count(ns1); told != 1 {
			t.Errorf("one that is preferred told %d times", told)
		}
	})
}

// Members of all builds must name the same one.
func TestTheHashOfTheChoice(t *testing.T) {
	for i := range 100 {
		id, origin := fmt.Sprintf("%032x", i*7919), fmt.Sprintf("zone%d.test.", i)
		h := fnv.New64a()
		fmt.Fprintf(h, "%s\x00%s", id, origin)
		if weight(origin, id) != mix(h.Sum64()) {
			t.Fatalf("%s, %s", id, origin)
		}
	}
	if a, b := chosen("Lab.Test.", []string{"1", "2", "3"}), chosen("lab.test.", []string{"1", "2", "3"}); a != b {
		t.Errorf("%s and %s of one zone", a, b)
	}
}

// The choice is made anew when who may be chosen changes, and not at each look.
func TestTheChoiceIsKept(t *testing.T) {
	var ms []mesh.Member
	for i := range 300 {
		ms = append(ms, mesh.Member{ID: fmt.Sprintf("%032x", i+1), Name: fmt.Sprint("n", i), State: mesh.StateAlive})
	}
	view := mesh.NewView(ms[0].ID, ms)
	e := newElection(nil, func() {})
	var under sync.WaitGroup
	e.begin(t.Context(), &under, view)
	e.mine(t.Context(), &under, testZone, ms[0].ID)
	if n := testing.AllocsPerRun(10, func() { e.mine(t.Context(), &under, testZone, ms[0].ID) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(e.winners) != 1 {
		t.Errorf("%v", e.winners)
	}
	e.winners[testZone] = ms[0].ID
	e.begin(t.Context(), &under, view)
	if !e.mine(t.Context(), &under, testZone, ms[0].ID) {
		t.Error("nothing changed, and the choice was made anew")
	}
	e.begin(t.Context(), &under, mesh.NewView(ms[0].ID, ms[:299]))
	if len(e.winners) != 0 {
		t.Error("a member went, and the choice stays")
	}
}

// silentServers answer nothing and take their time for it, but for one.
type silentServers struct {
	mu    sync.Mutex
	alive netip.AddrPort
	told  time.Time
	tried map[target][]time.Time
	most  int
	under int
}

func (s *silentServers) notify(_ context.Context, to target, _ string, _ *dns.SOA) error {
	s.mu.Lock()
	if to.addr == s.alive {
		if s.told.IsZero() {
			s.told = time.Now()
		}
		s.mu.Unlock()
		return nil
	}
	s.tried[to] = append(s.tried[to], time.Now())
	s.under++
	s.most = max(s.most, s.under)
	s.mu.Unlock()
	time.Sleep(2 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under--
	return errors.New("timeout")
}

func (s *silentServers) serial(context.Context, target, string) (uint32, error) {
	return 0, errors.New("timeout")
}

// A secondary that is silent, with however many zones, does not keep the others waiting.
func TestSilentSecondariesTakeNotAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []string
		for i := range 200 {
			list = append(list, fmt.Sprintf("192.0.2.1:%d", 1000+i))
		}
		s := newSource(t, "{Allow: [10.0.0.1], Notify: ["+strings.Join(append(list, "'[fd00::1]:53'", "10.0.0.1:53"), ", ")+"]}")
		dead := &silentServers{alive: netip.MustParseAddrPort("10.0.0.1:53"), tried: map[target][]time.Time{}}
		s.service.notify.teller = dead
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		done := make(chan struct{})
		go func() { _ = s.service.Run(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		dead.mu.Lock()
		defer dead.mu.Unlock()
		if took := dead.told.Sub(start); took > time.Second {
			t.Errorf("the living secondary was told after %v", took)
		}
		if dead.most > exchangesEach+1 {
			t.Errorf("%d exchanges with silent ones at a time", dead.most)
		}
		if len(dead.tried) != 201 { // the oldest first: each had its turn
			t.Errorf("%d of 201 were tried", len(dead.tried))
		}
	})
}

// One address is silent for all its zones, new content or not.
func TestBackOffIsOfTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, heard := notifying(t, "{Allow: [10.0.0.53], Notify: [10.0.0.53]}", nil, func(x *secondaries) { x.deaf[ns1.addr] = true })
		s.put("tags/two", "DNS: {Zone: two.test, Transfer: {Allow: [10.0.0.53], Notify: [10.0.0.53]}}")
		s.publish()
		for i := range 240 { // four minutes of a change a second
			s.put("hosts/a.lab.test", fmt.Sprintf("Network: {IP: 10.0.2.%d}", i))
			s.publish()
			time.Sleep(time.Second)
		}
		synctest.Wait()
		two := target{"two.test.", ns1.addr}
		_, one := heard.count(ns1)
		_, other := heard.count(two)
		if one == 0 || other == 0 || one+other > 16 {
			t.Errorf("in four minutes %d and %d NOTIFY to one address that is silent", one, other)
		}
		for _, x := range s.service.Secondaries() {
			if x.State != SecondarySilent || x.Error == "" {
				t.Errorf("%+v", x)
			}
		}
		heard.mu.Lock()
		heard.deaf[ns1.addr] = false
		heard.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		a, _ := heard.count(ns1)
		b, _ := heard.count(two)
		if a != 1 || b != 1 {
			t.Errorf("when it is back it is told %d and %d times", a, b)
		}
	})
}

// One zone that a server does not want says nothing of the others.
func TestAnErrorOfOneZone(t *testing.T) {
	now := time.Now()
	v := &server{}
	v.took(answered(zoneError{errors.New("it answers NOTAUTH")}), nil, now, now, DefaultNotifyTimes())
	if !v.room() || v.silent != 0 {
		t.Errorf("%+v", v)
	}
	err := errors.New("timeout")
	for range 4 { // at one time
		v.took(answered(err), err, now, now.Add(2*time.Second), DefaultNotifyTimes())
	}
	if v.silent != 1 || v.err == "" {
		t.Errorf("%+v", v)
	}
	v.under = 1
	if v.room() {
		t.Error("two at a time with a server that is silent")
	}
	v.took(true, nil, now, now, DefaultNotifyTimes())
	if v.silent != 0 || v.err != "" || !v.room() {
		t.Errorf("%+v", v)
	}
}
