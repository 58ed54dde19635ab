package viptest

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"hostmesh/lbd/vip"
)

// TestKernel tests a Kernel on an interface that has no address of these.
func TestKernel(t *testing.T, k vip.Kernel, link string) {
	if err := k.Check(); err != nil {
		t.Fatalf("check: %v", err)
	}
	links, err := k.Links()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(l vip.Link) bool { return l.Name == link })
	if i < 0 || !links[i].Running || len(links[i].MAC) != 6 {
		t.Fatalf("%s is not there, or does not run: %+v", link, links)
	}
	l := links[i]
	for _, prefix := range []string{"192.0.2.7/32", "2001:db8::7/128", "192.0.2.8/24"} {
		p := netip.MustParsePrefix(prefix)
		a := vip.Address{Link: l.Index, Prefix: p, Lifetime: time.Second}
		here := func() (vip.Address, bool) {
			t.Helper()
			list, err := k.Addresses()
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(list, func(a vip.Address) bool { return a.Link == l.Index && a.Prefix == p })
			if i < 0 {
				return vip.Address{}, false
			}
			return list[i], true
		}
		want := func(what string, got, want error) {
			t.Helper()
			if want == nil && got != nil || !errors.Is(got, want) {
				t.Fatalf("%s: %s: %v, want %v", prefix, what, got, want)
			}
		}
		want("refresh what does not exist", k.Refresh(a), vip.ErrGone)
		if _, ok := here(); ok {
			t.Fatalf("%s: a refresh made it", prefix)
		}
		want("delete what does not exist", k.Delete(a), nil)
		elsewhere := a
		elsewhere.Link = 1 << 20
		want("add to no interface", k.Add(elsewhere), vip.ErrNoLink)
		want("delete from no interface", k.Delete(elsewhere), nil)

		changed, stop, err := k.Watch()
		want("watch", err, nil)
		want("add", k.Add(a), nil)
		got, ok := here()
		if !ok || got.Lifetime <= 0 || got.Lifetime > time.Second {
			t.Fatalf("%s: after it was added: %v, %+v", prefix, ok, got)
		}
		want("add again", k.Add(a), vip.ErrExists)
		begin := time.Now()
		a.Lifetime = 4 * time.Second
		want("refresh", k.Refresh(a), nil)
		for time.Since(begin) < 1500*time.Millisecond {
			time.Sleep(50 * time.Millisecond)
		}
		if _, ok := here(); !ok && time.Since(begin) < 4*time.Second {
			t.Fatalf("%s: its life was begun anew, and it ended with the old one", prefix)
		}
		a.Lifetime = time.Second
		want("make the life shorter", k.Refresh(a), nil)
		begin = time.Now()
		drain(changed)
		for {
			if _, ok := here(); !ok {
				break
			}
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("%s: it does not end by itself", prefix)
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("%s: a life of 1 s ended after %s", prefix, time.Since(begin).Round(time.Millisecond))
		if lived := time.Since(begin); lived < 900*time.Millisecond {
			t.Errorf("%s: it lived for %s only", prefix, lived)
		}
		told(t, changed, prefix+": its end")
		want("refresh what has ended", k.Refresh(a), vip.ErrGone)
		want("add", k.Add(a), nil)
		drain(changed)
		want("delete", k.Delete(a), nil)
		if _, ok := here(); ok {
			t.Fatalf("%s: it is still there after it was deleted", prefix)
		}
		told(t, changed, prefix+": its removal")
		stop()
		stop()
		for range changed { // closed
		}
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func told(t *testing.T, changed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s is not told", what)
	}
}

// Node is a kernel and an announcer on an interface.
type Node struct {
	Kernel    vip.Kernel
	Announcer vip.Announcer
	Link      string
}

func (n Node) link(t *testing.T) vip.Link {
	t.Helper()
	links, err := n.Kernel.Links()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(l vip.Link) bool { return l.Name == n.Link })
	if i < 0 {
		t.Fatalf("no %s in %+v", n.Link, links)
	}
	return links[i]
}

// TestAnnouncer tests the announcers of two nodes on one link.
func TestAnnouncer(t *testing.T, one, two Node) {
	for _, n := range []Node{one, two} {
		if err := n.Announcer.Check(); err != nil {
			t.Fatal(err)
		}
	}
	first, second := one.link(t), two.link(t)
	for _, prefix := range []string{"192.0.2.7/32", "2001:db8::7/128"} {
		p := netip.MustParsePrefix(prefix)
		addr := p.Addr()
		heard1, heard2, other := make(chan vip.Sighting, 64), make(chan vip.Sighting, 64), make(chan vip.Sighting, 64)
		listen := func(n Node, l vip.Link, addr netip.Addr, to chan vip.Sighting) func() {
			stop, err := n.Announcer.Listen(l, addr, func(s vip.Sighting) { to <- s })
			if err != nil {
				t.Fatal(err)
			}
			return stop
		}
		stop1, stop2 := listen(one, first, addr, heard1), listen(two, second, addr, heard2)
		stopOther := listen(one, first, addr.Next(), other)
		until := func(what string, heard chan vip.Sighting, from vip.Link, asks bool, do func() error) {
			t.Helper()
			limit := time.After(20 * time.Second)
			for {
				if err := do(); err != nil {
					t.Fatalf("%s: %s: %v", prefix, what, err)
				}
				again := time.After(200 * time.Millisecond)
			hearing:
				for {
					select {
					case s := <-heard:
						if !bytes.Equal(s.From, from.MAC) {
							t.Fatalf("%s: %s: heard of %s, which is not %s", prefix, what, s.From, from.MAC)
						}
						if s.Asks == asks {
							return
						}
					case <-again:
						break hearing
					case <-limit:
						t.Fatalf("%s: %s: not heard", prefix, what)
					}
				}
			}
		}
		until("a probe of the first, at the second", heard2, first, true, func() error { return one.Announcer.Probe(first, addr) })
		select {
		case s := <-heard1:
			t.Fatalf("%s: nobody has it, and somebody answers: %+v", prefix, s)
		case <-time.After(300 * time.Millisecond):
		}
		a := vip.Address{Link: second.Index, Prefix: p, Lifetime: 60 * time.Second}
		if err := two.Kernel.Add(a); err != nil {
			t.Fatal(err)
		}
		until("the answer of the second", heard1, second, false, func() error { return one.Announcer.Probe(first, addr) })
		until("an announcement of the second", heard1, second, false, func() error { return two.Announcer.Announce(second, addr) })
		until("the second answers who announces its address", heard1, second, false, func() error { return one.Announcer.Announce(first, addr) })
		if err := two.Announcer.Withdraw(second, addr); err != nil {
			t.Fatal(err)
		}
		if err := two.Kernel.Delete(a); err != nil {
			t.Fatal(err)
		}
		stop1()
		for len(heard1) > 0 {
			<-heard1
		}
		for len(heard2) > 0 {
			<-heard2
		}
		until("an announcement of the first", heard2, first, false, func() error { return one.Announcer.Announce(first, addr) })
		stop2()
		stopOther()
		if len(heard1) > 0 || len(other) > 0 {
			t.Errorf("%s: who does not listen, or listens to another address, hears", prefix)
		}
	}
}
