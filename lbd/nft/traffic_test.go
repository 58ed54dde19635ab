package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func four(t *testing.T, f func(t *testing.T, proto Proto, six bool)) {
	for _, proto := range []Proto{TCP, UDP} {
		for _, six := range []bool{false, true} {
			name := string(proto) + "4"
			if six {
				name = string(proto) + "6"
			}
			t.Run(name, func(t *testing.T) { f(t, proto, six) })
		}
	}
}

func mustDial(t *testing.T, box string, proto Proto, from netip.Addr, to netip.AddrPort) *call {
	t.Helper()
	c, err := dial(box, proto, from, to)
	if err != nil {
		t.Fatalf("%s of %s to %s: %v", proto, box, to, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestBalance: by source, a client keeps its backend and all get clients; in turn, all get the same; the backends see this box, or the client without
// masquerade; the box itself is a client, too. Each flow is counted.
func TestBalance(t *testing.T) {
	serve(t, 1080, backends...)
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, _ := open(t)
		s := service(proto, six, Source, 80, 0, 1, 2)
		apply(t, b, s)
		got, calls := map[string]int{}, 0
		for i := range nearSources {
			first := mustDial(t, "near", proto, nearAddr(i, six), s.at())
			again := mustDial(t, "near", proto, nearAddr(i, six), s.at())
			calls += 2
			if first.name != again.name {
				t.Fatalf("%s was sent to %s, then to %s", nearAddr(i, six), first.name, again.name)
			}
			got[first.name]++
		}
		for _, name := range backends {
			if got[name] < nearSources/8 { // 20 +- 3.7 are expected
				t.Errorf("%d clients were divided into %v", nearSources, got)
				break
			}
		}
		holder := addr("10.77.0.1")
		if six {
			holder = addr("fd77::1")
		}
		if c := mustDial(t, "far", proto, netip.Addr{}, s.at()); c.sees != holder {
			t.Errorf("with masquerade the backend sees %s, not %s", c.sees, holder)
		}
		calls++
		counted := uint64(0)
		for _, x := range b.Status().Services[0].Backends {
			counted += x.Flows
		}
		// A packet that had to be sent again before its flow was known counts twice.
		if counted < uint64(calls) || counted > uint64(calls)+uint64(calls)/10 {
			t.Errorf("%d flows, %d counted", calls, counted)
		}

		s.Balance, s.Masquerade = RoundRobin, false
		apply(t, b, s)
		clear(got)
		for range 30 {
			c := mustDial(t, "far", proto, netip.Addr{}, s.at())
			if c.sees != farAddr(six) {
				t.Fatalf("without masquerade the backend sees %s", c.sees)
			}
			got[c.name]++
		}
		for _, name := range backends {
			if got[name] < 9 || got[name] > 11 {
				t.Errorf("30 in turn: %v", got)
				break
			}
		}
		s.Masquerade = true
		apply(t, b, s)
		if c := mustDial(t, "", proto, netip.Addr{}, s.at()); c.name == "" {
			t.Error("the box itself was sent nowhere")
		}
	})
}

// TestEmptyIsRefusedAtOnce: without backends clients hear so, also when something on this box listens on all addresses.
func TestEmptyIsRefusedAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", ":81")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", ":81")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	serve(t, 1081, "one")
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, _ := open(t)
		s := service(proto, six, Source, 81)
		apply(t, b, s)
		for _, box := range []string{"near", "far", ""} {
			if _, err := dial(box, proto, netip.Addr{}, s.at()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("from %q: %v", box, err)
			}
		}
		if b.Status().Refused == 0 {
			t.Error("nothing was counted")
		}
		// A client that goes on asking from one port is answered as soon as there is somebody.
		apply(t, b, service(proto, six, Source, 81, 0))
		if c := mustDial(t, "near", proto, netip.Addr{}, s.at()); c.name != "one" {
			t.Error(c.name)
		}
	})
}

// TestOneLeaves: the flows of others go on, those of the dead one end at once: TCP by a reset, UDP by an answer of another.
func TestOneLeaves(t *testing.T) {
	serve(t, 1082, backends...)
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, _ := open(t)
		apply(t, b, service(proto, six, Source, 82, 0, 1, 2))
		var calls []*call
		before := map[string]int{}
		for i := range 24 {
			c := mustDial(t, "near", proto, nearAddr(i, six), netip.AddrPortFrom(service(proto, six, Source, 82).VIP, 82))
			calls = append(calls, c)
			before[c.name]++
		}
		if before["one"] == 0 || len(before) != 3 {
			t.Fatal(before)
		}
		apply(t, b, service(proto, six, Source, 82, 1, 2))
		for i, c := range calls {
			was := c.name
			var err error
			if proto == TCP {
				err = c.echo()
			} else {
				err = c.ask()
			}
			switch {
			case was != "one" && (err != nil || c.name != was):
				t.Errorf("a flow of %s ended when one left: %v, it is %s", was, err, c.name)
			case was == "one" && proto == TCP && !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("a connection of the dead one: %v", err)
			case was == "one" && proto == UDP && (err != nil || c.name == "one"):
				t.Errorf("a client of the dead one: %v, %s", err, c.name)
			}
			// By source, who had another backend has it for new flows, too.
			if again := mustDial(t, "near", proto, nearAddr(i, six), netip.AddrPortFrom(service(proto, six, Source, 82).VIP, 82)); was != "one" && again.name != was {
				t.Errorf("%s moved from %s to %s", nearAddr(i, six), was, again.name)
			}
		}
		if b.Status().Ended == 0 {
			t.Error("no flow was counted as ended")
		}
	})
}

// TestDraining: no new flows; the old ones go on until the limit, and then end.
func TestDraining(t *testing.T) {
	serve(t, 1083, backends...)
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, clock := open(t)
		s := service(proto, six, RoundRobin, 83, 0, 1)
		s.DrainLimit = time.Hour
		apply(t, b, s)
		var old *call
		for old == nil || old.name != "one" {
			old = mustDial(t, "near", proto, netip.Addr{}, s.at())
		}
		alive := func() error {
			if proto == TCP {
				return old.echo()
			}
			return old.ask()
		}
		apply(t, b, s.drain(0))
		for range 6 {
			if c := mustDial(t, "near", proto, netip.Addr{}, s.at()); c.name != "two" {
				t.Fatalf("a new flow was sent to %s, which drains", c.name)
			}
		}
		look := func() BackendStatus {
			t.Helper()
			if err := b.tick(); err != nil {
				t.Fatal(err)
			}
			return b.Status().Services[0].Backends[0]
		}
		clock.forward(59 * time.Minute)
		if st := look(); st.Live == 0 || st.Drained || st.State != Draining {
			t.Fatalf("while it drains: %+v", st)
		}
		if err := alive(); err != nil || old.name != "one" {
			t.Fatalf("the old flow: %v, %s", err, old.name)
		}
		clock.forward(2 * time.Minute)
		if st := look(); !st.Drained || st.Live != 0 {
			t.Fatalf("after its time: %+v", st)
		}
		if err := alive(); proto == TCP && !errors.Is(err, syscall.ECONNRESET) || proto == UDP && (err != nil || old.name != "two") {
			t.Fatalf("after its time the old flow: %v, %s", err, old.name)
		}
		// Enabled again it gets its share.
		apply(t, b, s)
		for range 100 {
			if mustDial(t, "near", proto, netip.Addr{}, s.at()).name == "one" {
				return
			}
		}
		t.Error("it got nothing after it came back")
	})
}

// TestDrainedByItself: a backend whose flows ended is drained before its time.
func TestDrainedByItself(t *testing.T) {
	serve(t, 1084, "one", "two")
	b, _ := open(t)
	s := service(TCP, false, RoundRobin, 84, 0, 1)
	apply(t, b, s)
	c := mustDial(t, "near", TCP, netip.Addr{}, s.at())
	apply(t, b, s.drain(0), func() Service { x := s; x.Port = 184; return x }())
	c.Close()
	apply(t, b, s.drain(0))
	if err := b.tick(); err != nil {
		t.Fatal(err)
	}
	if st := b.Status().Services[0].Backends[1]; st.Drained || st.State != In {
		t.Errorf("one that is in: %+v", st)
	}
}

// TestRewriteLosesNoAttempt: while backends come and drain, services come and go and the way to choose changes, every attempt gets through.
func TestRewriteLosesNoAttempt(t *testing.T) {
	serve(t, 1085, backends...)
	four(t, func(t *testing.T, proto Proto, six bool) {
		b, _ := open(t)
		s := service(proto, six, RoundRobin, 85, 0, 1, 2)
		apply(t, b, s)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var tries atomic.Int64
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := dial("near", proto, netip.Addr{}, s.at())
					if err != nil {
						t.Errorf("an attempt while rules changed: %v", err)
						return
					}
					c.Close()
					tries.Add(1)
				}
			}()
		}
		other := service(proto, six, Source, 185, 0, 1)
		for i := 0; i < 60 || tries.Load() < 150 && i < 5000 && !t.Failed(); i++ {
			next := s
			switch i % 4 {
			case 0:
				next = s.drain(i % 3)
			case 1:
				next.Balance = Source
			case 2:
				next.Backends = append([]Backend{}, s.Backends...)
				next.Backends[0].Weight = 1 + i%5
			}
			if i%3 == 0 {
				apply(t, b, next, other)
			} else {
				apply(t, b, next)
			}
		}
		close(stop)
		wg.Wait()
		t.Logf("%d attempts during %d changes", tries.Load(), b.Status().Transactions)
	})
}

// TestManyServices: the largest table that is taken fits into one transaction, and a change of one backend into a small one.
func TestManyServices(t *testing.T) {
	b, _ := open(t)
	var tab Table
	for i := range MaxServices {
		s := service(TCP, i%2 == 1, Source, uint16(2000+i), 0, 1, 2)
		tab.Services = append(tab.Services, s)
	}
	if err := b.Apply(t.Context(), tab); err != nil {
		t.Fatal(err)
	}
	steps := b.counts.steps
	tab.Services[7] = tab.Services[7].drain(1)
	if err := b.Apply(t.Context(), tab); err != nil {
		t.Fatal(err)
	}
	if n := b.counts.steps - steps; n > 4 {
		t.Errorf("one backend that drains took %d steps", n)
	}
	if err := b.Apply(t.Context(), Table{Services: append(tab.Services, service(UDP, false, Source, 1))}); !errors.Is(err, ErrTable) {
		t.Error(fmt.Errorf("one more: %w", err))
	}
}
