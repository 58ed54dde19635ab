package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// secondaries are name servers that take what they are told, if they hear it.
type secondaries struct {
	mu     sync.Mutex
	deaf   map[netip.AddrPort]bool // does not answer
	slow   bool                    // acknowledges, and fetches nothing
	has    map[target]uint32       //
	told   map[target][]uint32     // serials of NOTIFY that were heard
	tried  map[target][]time.Time  // NOTIFY, heard or not
	key    map[target]string       // they were signed with
	looked map[netip.AddrPort]int  //
}

func newSecondaries() *secondaries {
	return &secondaries{deaf: map[netip.AddrPort]bool{}, has: map[target]uint32{}, told: map[target][]uint32{}, tried: map[target][]time.Time{},
		key: map[target]string{}, looked: map[netip.AddrPort]int{}}
}

func (s *secondaries) notify(_ context.Context, to target, key string, soa *dns.SOA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried[to] = append(s.tried[to], time.Now())
	if s.deaf[to.addr] {
		return errors.New("timeout")
	}
	s.told[to] = append(s.told[to], soa.Serial)
	s.key[to] = key
	if !s.slow {
		s.has[to] = soa.Serial
	}
	return nil
}

func (s *secondaries) serial(_ context.Context, to target, _ string) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked[to.addr]++
	if s.deaf[to.addr] {
		return 0, errors.New("timeout")
	}
	return s.has[to], nil
}

func (s *secondaries) count(to target) (told, tried int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.told[to]), len(s.tried[to])
}

// notifying is a source that tells secondaries, in a bubble of synctest.
func notifying(t *testing.T, transfer string, view func() mesh.View, as ...func(*secondaries)) (*source, *secondaries) {
	s := newSource(t, transfer, func(c *Config) { c.View = view })
	heard := newSecondaries()
	for _, fn := range as {
		fn(heard)
	}
	s.service.notify.teller = heard
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = s.service.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, heard
}

var (
	ns1 = target{testZone, netip.MustParseAddrPort("10.0.0.53:53")}
	ns2 = target{testZone, netip.MustParseAddrPort("10.0.0.54:5353")}
)

func TestNotifyUntilAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, heard := notifying(t, "{Allow: [10.0.0.53], Notify: [10.0.0.53, '10.0.0.54:5353'], Key: xfer}", nil,
			func(x *secondaries) { x.deaf[ns2.addr] = true })
		time.Sleep(time.Minute)
		synctest.Wait()
		if told, tried := heard.count(ns1); told != 1 || tried != 1 {
			t.Errorf("one that acknowledges was told %d times of %d", told, tried)
		}
		if _, tried := heard.count(ns2); tried < 4 || tried > 12 {
			t.Errorf("one that is silent was told %d times in a minute", tried)
		}
		list := s.service.Secondaries()
		if len(list) != 2 || list[0].State != SecondaryCurrent || list[1].State != SecondarySilent || list[1].Error == "" || !s.service.Late(list[1]) || s.service.Late(list[0]) {
			t.Errorf("%+v", list)
		}
		heard.mu.Lock()
		heard.deaf[ns2.addr] = false
		heard.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if told, _ := heard.count(ns2); told != 1 {
			t.Errorf("one that is back was told %d times", told)
		}
		if list := s.service.Secondaries(); list[1].State != SecondaryCurrent {
			t.Errorf("%+v", list)
		}
		if heard.key[ns1] != "xfer." {
			t.Errorf("signed with %q", heard.key[ns1])
		}
		// A change is told at once; a burst of them, as the last one, some times a second.
		s.put("hosts/a.lab.test", "Network: {IP: 10.0.1.1}")
		s.publish()
		synctest.Wait()
		if told, _ := heard.count(ns1); told != 2 {
			t.Errorf("a change was told %d times", told-1)
		}
		for i := range 100 {
			s.put("hosts/a.lab.test", fmt.Sprintf("Network: {IP: 10.0.2.%d}", i))
			s.publish()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		heard.mu.Lock()
		defer heard.mu.Unlock()
		if told := heard.told[ns1]; len(told) < 3 || len(told) > 6 || told[len(told)-1] != s.serial {
			t.Errorf("a burst up to %d was told as %v", s.serial, told)
		}
	})
}

// A secondary that acknowledges and does not fetch is behind, is told again, and is a problem after a while.
func TestSecondaryThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, heard := notifying(t, "{Allow: [10.0.0.53], Notify: [10.0.0.53]}", nil, func(x *secondaries) { x.slow = true })
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if told, _ := heard.count(ns1); told < 3 || told > 10 {
			t.Errorf("it was told %d times in five minutes", told)
		}
		if list := s.service.Secondaries(); list[0].State != SecondaryBehind || !s.service.Late(list[0]) {
			t.Errorf("%+v", list)
		}
	})
}

// One live member tells, and when it dies another one does, though nothing changes.
func TestOneMemberTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dead := map[string]bool{}
		ids := []string{fmt.Sprintf("%032x", 1), fmt.Sprintf("%032x", 2), fmt.Sprintf("%032x", 3)}
		view := func(self string) func() mesh.View {
			return func() mesh.View {
				mu.Lock()
				defer mu.Unlock()
				var ms []mesh.Member
				for _, id := range ids {
					m := mesh.Member{ID: id, Name: id, State: mesh.StateAlive}
					if dead[id] {
						m.State = mesh.StateFailed
					}
					ms = append(ms, m)
				}
				return mesh.NewView(self, ms)
			}
		}
		var all []*secondaries
		for _, id := range ids {
			_, heard := notifying(t, "{Allow: [10.0.0.53], Notify: [10.0.0.53]}", view(id))
			all = append(all, heard)
		}
		tellers := func() (out []int) {
			synctest.Wait()
			for i, heard := range all {
				if told, _ := heard.count(ns1); told > 0 {
					out = append(out, i)
				}
			}
			return out
		}
		time.Sleep(10 * time.Second)
		first := tellers()
		if len(first) != 1 {
			t.Fatalf("%v tell", first)
		}
		mu.Lock()
		dead[ids[first[0]]] = true
		mu.Unlock()
		time.Sleep(10 * time.Second)
		if now := tellers(); len(now) != 2 {
			t.Errorf("after %v died, %v told", first, now)
		}
	})
}

// The choice is even, and moves only the zones of who comes or goes.
func TestChoiceIsEvenAndSteady(t *testing.T) {
	who := chosen
	load := map[string]int{}
	var ten []string
	for i := range 10 {
		ten = append(ten, fmt.Sprintf("%032x", i+1))
	}
	for i := range 1000 {
		origin := fmt.Sprintf("zone%d.test.", i)
		w := who(origin, ten)
		load[w]++
		if rest := slices.DeleteFunc(slices.Clone(ten), func(id string) bool { return id == ten[3] }); w != ten[3] && who(origin, rest) != w {
			t.Fatalf("%s moved though its member stayed", origin)
		}
	}
	for id, n := range load {
		if n < 60 || n > 150 {
			t.Errorf("%s tells for %d of 1000 zones", id, n)
		}
	}
}
