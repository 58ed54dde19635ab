package vip_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// open opens a Table in a box and runs it until the test's end.
func (b box) open(t *testing.T, dir string) *vip.Table {
	t.Helper()
	table, err := vip.Open(vip.Config{Dir: dir, Kernel: b.node.Kernel, Announcer: b.node.Announcer})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- table.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(table.Close(), <-ran, table.Close()); err != nil {
			t.Error(err)
		}
	})
	return table
}

func claim(t *testing.T, table *vip.Table, c vip.Claim) *vip.Handle {
	t.Helper()
	if c.Owner == "" {
		c.Owner = "lb/test"
	}
	h, err := table.Claim(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func phase(t *testing.T, h *vip.Handle, want vip.Phase) {
	t.Helper()
	eventually(t, "it is "+string(want), func() bool { return h.State().Phase == want })
}

func release(t *testing.T, h *vip.Handle) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Release(ctx); err != nil {
		t.Fatal(err)
	}
}

// knows sees that the observer, whose memory has another place for an address and who sends nothing, learns where it is.
func knows(t *testing.T, addr netip.Addr, b box, do func()) {
	t.Helper()
	wrong := "02:00:00:00:00:99"
	ip(t, "-n", "observer", "neigh", "replace", addr.String(), "lladdr", wrong, "dev", "eth0", "nud", "stale")
	do()
	eventually(t, "the observer learns where "+addr.String()+" is", func() bool {
		return strings.Contains(ip(t, "-n", "observer", "neigh", "show", addr.String()), b.mac.String())
	})
}

// TestClaim follows a claim through what happens to a box.
func TestClaim(t *testing.T) {
	for family, addr := range families {
		t.Run(family, func(t *testing.T) {
			one := enter(t, "one")
			dir := t.TempDir()
			table := one.open(t, dir)
			if err := table.Check(); err != nil {
				t.Fatal(err)
			}
			l := viptest.NewLease()
			stop := l.Keep()
			defer stop()
			var h *vip.Handle
			knows(t, addr, one, func() { h = claim(t, table, vip.Claim{Addr: addr, Lease: l}) })
			if err := h.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			line := ip(t, "-n", "one", "address", "show", "dev", "eth0", "to", addr.String())
			if !strings.Contains(line, "valid_lft 2sec") && !strings.Contains(line, "valid_lft 1sec") || strings.Contains(line, "tentative") {
				t.Errorf("it has no short life, or is not usable: %s", line)
			}
			stays(t, "one", addr)

			if _, err := table.Claim(t.Context(), vip.Claim{Addr: addr, Owner: "mysql/other", Lease: l}); !errors.Is(err, vip.ErrClaimed) || !strings.Contains(err.Error(), "lb/test") {
				t.Errorf("two owners: %v", err)
			}
			if removed, err := table.Clean([]netip.Addr{addr}); len(removed) > 0 || err != nil {
				t.Errorf("what is claimed is cleaned away: %v, %v", removed, err)
			}

			begin := time.Now()
			ip(t, "-n", "one", "address", "del", addr.String(), "dev", "eth0")
			here(t, "one", addr)
			t.Logf("removed by hand: back after %s", time.Since(begin).Round(time.Millisecond))

			before := h.State().Announced
			ip(t, "link", "set", "to-one", "down")
			eventually(t, "the carrier is missed", func() bool { return h.State().Why == "the interface has no carrier" })
			ip(t, "link", "set", "to-one", "up")
			knows(t, addr, one, func() {})
			if h.State().Announced == before {
				t.Error("it was not announced again when the carrier came back")
			}
			// Linux removes the IPv6 addresses of an interface that is taken down.
			ip(t, "-n", "one", "link", "set", "eth0", "down")
			ip(t, "-n", "one", "link", "set", "eth0", "up")
			_, v6 := subnet(0)
			ip(t, "-n", "one", "-6", "address", "replace", v6, "dev", "eth0", "nodad")
			phase(t, h, vip.Held)
			here(t, "one", addr)

			text, err := os.ReadFile(dir + "/vips.json")
			if err != nil || !strings.Contains(string(text), addr.String()) {
				t.Errorf("the claim file: %s, %v", text, err)
			}
			begin = time.Now()
			l.End()
			gone(t, "one", addr)
			t.Logf("the lease is over: gone %s later", time.Since(begin).Round(time.Millisecond))
			phase(t, h, vip.Waiting)
			if err := h.Wait(t.Context()); !errors.Is(err, vip.ErrLost) {
				t.Errorf("wait without a lease: %v", err)
			}
			next := viptest.NewLease()
			defer next.Keep()()
			h.Under(next)
			phase(t, h, vip.Held)
			release(t, h)
			if has(t, "one", addr) {
				t.Error("it was released, and is here")
			}
			if err := h.Wait(t.Context()); !errors.Is(err, vip.ErrReleased) {
				t.Errorf("wait after the release: %v", err)
			}
			if text, err = os.ReadFile(dir + "/vips.json"); err != nil || strings.Contains(string(text), addr.String()) {
				t.Errorf("the claim file after the release: %s, %v", text, err)
			}
			metrics(t, table)
		})
	}
}

func metrics(t *testing.T, table *vip.Table) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(table.Collector())
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hostmesh_vip_announcements_total", "hostmesh_vip_refreshes_total", "hostmesh_vip_vanished_total"} {
		if !slices.ContainsFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == want && f.Metric[0].GetCounter().GetValue() > 0 }) {
			t.Errorf("%s is not above 0", want)
		}
	}
}

// TestStranger: an address that somebody else has is refused; one that somebody else takes is defended.
func TestStranger(t *testing.T) {
	for family, addr := range families {
		t.Run(family, func(t *testing.T) {
			one, other := enter(t, "one"), enter(t, "stranger")
			table := one.open(t, t.TempDir())
			l := viptest.NewLease()
			defer l.Keep()()
			put := []string{"-n", "stranger", "address", "add", addr.String(), "dev", "eth0"}
			if addr.Is6() {
				put = append(put, "nodad")
			}
			ip(t, put...)
			h := claim(t, table, vip.Claim{Addr: addr, Lease: l, Interface: "eth0"})
			phase(t, h, vip.Refused)
			if err := h.Wait(t.Context()); !errors.Is(err, vip.ErrStranger) || !strings.Contains(err.Error(), other.mac.String()) {
				t.Errorf("%v does not name %s", err, other.mac)
			}
			if has(t, "one", addr) {
				t.Error("it is refused, and here")
			}
			ip(t, "-n", "stranger", "address", "del", addr.String(), "dev", "eth0")
			phase(t, h, vip.Held)

			// Now the stranger announces it, which the observer believes.
			link := other.link(t)
			unlisten, err := other.node.Announcer.Listen(link, addr, func(vip.Sighting) {})
			if err != nil {
				t.Fatal(err)
			}
			defer unlisten()
			knows(t, addr, one, func() {
				for h.State().Conflicts == 0 {
					if err := other.node.Announcer.Announce(link, addr); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
			if s := h.State(); s.Phase != vip.Held || s.Stranger != other.mac.String() {
				t.Errorf("in a conflict: %+v", s)
			}
			knows(t, addr, one, func() {}) // it is over, and announced once more
			eventually(t, "the conflict is over", func() bool { return h.State().Stranger == "" })
			release(t, h)
		})
	}
}

// TestResumed stops a holder where it hurts, lets another have the address, and resumes it.
func TestResumed(t *testing.T) {
	base4, base6 := netip.MustParseAddr("10.77.0.120"), netip.MustParseAddr("fd77::120")
	for _, c := range []struct {
		name    string
		holding holding
		back    bool // the kernel may give it the address late
	}{
		{"between its look at the lease and a refresh", holding{Stop: "before refresh 2s 4"}, false},
		{"between a refresh and its next look", holding{Stop: "after refresh 2s 4"}, false},
		{"between its look at the lease and the first addition", holding{Stop: "before add 1"}, true},
		{"and killed right after the addition", holding{Stop: "before add 1", Kill: "after add 1"}, true},
	} {
		for family, addr := range map[string]netip.Addr{"IPv4": base4, "IPv6": base6} {
			t.Run(c.name+" "+family, func(t *testing.T) {
				t.Parallel()
				j := keepJournal(t, "one")
				c := c
				c.holding.Addr = addr
				p := start(t, "one", c.holding)
				p.stopped(t)
				gone(t, "one", addr) // as nothing is added yet it may never have been here
				two := enter(t, "two")
				l := viptest.NewLease()
				defer l.Keep()()
				time.Sleep(viptest.Hold) // by then the lease of the first is over
				h := claim(t, two.open(t, t.TempDir()), vip.Claim{Addr: addr, Lease: l})
				phase(t, h, vip.Held)
				w := watch(t, addr)
				eventually(t, "the new holder answers", func() bool { return len(w.heard) > 0 })
				resumed := time.Now()
				p.signal(t, syscall.SIGCONT)
				switch {
				case c.holding.Kill != "":
					eventually(t, "the kernel gives and takes it", func() bool {
						began, _, both := j.last(addr)
						return both && began.After(resumed)
					})
				case c.back: // the kernel does not tell of an IPv6 address that is gone at once
					eventually(t, "it is given and removed", func() bool { return p.log.has("given by the kernel after the lease was over") })
				default:
					time.Sleep(time.Second)
				}
				began, ended, _ := j.last(addr)
				one := enter(t, "one")
				var answers int
				for _, a := range w.end() {
					if bytes.Equal(a.from, one.mac) {
						answers++
					}
				}
				switch {
				case !c.back && (began.After(resumed) || answers > 0):
					t.Errorf("it came back: %s after it was resumed; %d answers", began.Sub(resumed), answers)
				case c.back && !began.After(resumed):
					t.Logf("it was there for so short that the kernel does not tell; %d answers", answers)
				case c.back:
					t.Logf("it was there for %s; %d answers", ended.Sub(began).Round(time.Microsecond), answers)
				}
				if !has(t, "two", addr) {
					t.Error("the new holder lost it")
				}
				release(t, h)
			})
		}
		base4, base6 = base4.Next(), base6.Next()
	}
}

// TestHandOver: the next holder has it before the former loses it.
func TestHandOver(t *testing.T) {
	for family, addr := range families {
		t.Run(family, func(t *testing.T) {
			nodes := []box{enter(t, "one"), enter(t, "two")}
			tables := []*vip.Table{nodes[0].open(t, t.TempDir()), nodes[1].open(t, t.TempDir())}
			l := viptest.NewLease()
			stop := l.Keep()
			h := claim(t, tables[0], vip.Claim{Addr: addr, Lease: l})
			phase(t, h, vip.Held)
			for i := range 6 {
				from, to := i%2, 1-i%2
				w := watch(t, addr)
				w.answers(t, nodes[from])
				h.HandOver()
				stop()
				l.End()
				l = viptest.NewLease()
				stop = l.Keep()
				next := claim(t, tables[to], vip.Claim{Addr: addr, Lease: l})
				phase(t, next, vip.Held)
				<-h.Done()
				w.answers(t, nodes[to])
				both, gap, err := handOver(w.end(), nodes[from].mac, nodes[to].mac)
				if err != nil || both > 2300*time.Millisecond {
					t.Errorf("both answered for %s, %v", both, err)
				}
				t.Logf("both answered for %s, none for %s", both, gap)
				h = next
			}
			// Nobody takes it: it goes by itself.
			h.HandOver()
			stop()
			l.End()
			<-h.Done()
			if has(t, "one", addr) {
				t.Error("nobody took it, and it is still here")
			}
		})
	}
}

// TestLeft: what one process leaves the next goes on with, without a gap; another box waits for it; and it goes when nobody is to have it.
func TestLeft(t *testing.T) {
	for family, addr := range families {
		t.Run(family, func(t *testing.T) {
			one, two := enter(t, "one"), enter(t, "two")
			dir := t.TempDir()
			begin := func() (*vip.Table, func()) {
				table, err := vip.Open(vip.Config{Dir: dir, Kernel: one.node.Kernel, Announcer: one.node.Announcer})
				if err != nil {
					t.Fatal(err)
				}
				ran := make(chan error, 1)
				go func() { ran <- table.Run(context.Background()) }()
				return table, func() {
					if err := errors.Join(table.Close(), <-ran); err != nil {
						t.Error(err)
					}
				}
			}
			leave := func(h *vip.Handle, life time.Duration, want bool) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if left, err := h.Leave(ctx, life); left != want || err != nil {
					t.Fatalf("left %t, %v; want %t", left, err, want)
				}
			}
			held := func(table *vip.Table) (*vip.Handle, *viptest.Lease, func()) {
				t.Helper()
				l := viptest.NewLease()
				stop := l.Keep()
				h := claim(t, table, vip.Claim{Addr: addr, Lease: l})
				phase(t, h, vip.Held)
				return h, l, stop
			}
			table, end := begin()
			h, _, stop := held(table)
			var w *watcher
			if family == "IPv4" {
				w = watch(t, addr)
				w.answers(t, one)
			}
			for range 3 {
				leave(h, 10*time.Second, true)
				stop()
				end()
				if line := ip(t, "-n", "one", "address", "show", "dev", "eth0", "to", addr.String()); !strings.Contains(line, "valid_lft 10sec") && !strings.Contains(line, "valid_lft 9sec") {
					t.Fatalf("what was left: %s", line)
				}
				table, end = begin()
				if removed, err := table.Clean([]netip.Addr{addr}); len(removed) > 0 || err != nil || !has(t, "one", addr) {
					t.Fatalf("what was left is cleaned away: %v, %v", removed, err)
				}
				h, _, stop = held(table)
				eventually(t, "it has a short life again", func() bool {
					line := ip(t, "-n", "one", "address", "show", "dev", "eth0", "to", addr.String())
					return strings.Contains(line, "valid_lft 2sec") || strings.Contains(line, "valid_lft 1sec")
				})
			}
			if w != nil {
				var last time.Time
				gap := time.Duration(0)
				for _, a := range w.end() {
					if !bytes.Equal(a.from, one.mac) {
						t.Errorf("%s answers", a.from)
					}
					if !last.IsZero() {
						gap = max(gap, a.at.Sub(last))
					}
					last = a.at
				}
				t.Logf("nobody answered for %s at most", gap)
			}
			// Nobody is to have it.
			leave(h, 10*time.Second, true)
			stop()
			if err := table.Disown(addr); err != nil || has(t, "one", addr) {
				t.Errorf("disowned: %v", err)
			}
			if err := table.Disown(addr); err != nil {
				t.Error(err)
			}
			// Nobody here claims it: another box has it when its life is over.
			h, _, stop = held(table)
			leave(h, 4*time.Second, true)
			stop()
			l := viptest.NewLease()
			defer l.Keep()()
			next := claim(t, two.open(t, t.TempDir()), vip.Claim{Addr: addr, Lease: l, Former: 30 * time.Second})
			for next.State().Phase != vip.Held {
				if s := next.State(); s.Phase == vip.Refused {
					t.Fatalf("one that was left is a stranger: %+v", s)
				}
				select {
				case <-next.Changed():
				case <-time.After(10 * time.Millisecond):
				}
			}
			if has(t, "one", addr) {
				t.Error("both have it")
			}
			release(t, next)
			// Without a lease there is no right to it.
			h, l2, stop := held(table)
			stop()
			l2.End()
			leave(h, 10*time.Second, false)
			if has(t, "one", addr) {
				t.Error("it was left without a lease")
			}
			end()
		})
	}
}

// TestKept: with Keep an address outlives its lease, until somebody else has it.
func TestKept(t *testing.T) {
	addr := families["IPv4"]
	one, two := enter(t, "one"), enter(t, "two")
	l := viptest.NewLease()
	stop := l.Keep()
	h := claim(t, one.open(t, t.TempDir()), vip.Claim{Addr: addr, Lease: l, Keep: true})
	phase(t, h, vip.Held)
	stop()
	phase(t, h, vip.Kept)
	stays(t, "one", addr)
	if s := h.State(); !s.Here() || s.Why == "" {
		t.Errorf("%+v", s)
	}
	next := viptest.NewLease()
	defer next.Keep()()
	other := claim(t, two.open(t, t.TempDir()), vip.Claim{Addr: addr, Lease: next})
	gone(t, "one", addr)
	phase(t, other, vip.Held)
	phase(t, h, vip.Waiting)
	release(t, h)
	release(t, other)
}

// TestCleaned: what a former process left goes when the next begins, and what HostDB calls virtual when it is said.
func TestCleaned(t *testing.T) {
	one := enter(t, "one")
	dir := t.TempDir()
	left, named, own := "10.77.0.60", netip.MustParseAddr("10.77.0.61"), netip.MustParseAddr("10.77.0.1")
	if err := os.WriteFile(dir+"/vips.json", []byte(`{"version":1,"addresses":["10.77.0.60"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{left, named.String()} {
		ip(t, "-n", "one", "address", "add", a+"/32", "dev", "eth0")
	}
	table := one.open(t, dir)
	if has(t, "one", netip.MustParseAddr(left)) || !has(t, "one", named) {
		t.Error("what stands in the claim file is to go, and nothing else")
	}
	removed, err := table.Clean([]netip.Addr{named, netip.MustParseAddr("10.77.0.62")})
	if err != nil || !slices.Equal(removed, []netip.Addr{named}) || has(t, "one", named) {
		t.Errorf("cleaned: %v, %v", removed, err)
	}
	if removed, err := table.Clean([]netip.Addr{own}); err == nil || len(removed) > 0 || !strings.Contains(err.Error(), "eth0") || !has(t, "one", own) {
		t.Errorf("the only address of the box: %v, %v", removed, err)
	}
	if h, err := table.Claim(t.Context(), vip.Claim{Addr: own, Owner: "lb/x", Lease: viptest.NewLease()}); h != nil || err == nil {
		t.Errorf("the box's own address is claimed: %v", err)
	}
}

func TestBadClaims(t *testing.T) {
	table := enter(t, "one").open(t, t.TempDir())
	l := viptest.NewLease()
	at := netip.MustParseAddr
	for _, c := range []struct {
		claim vip.Claim
		want  error
		says  string
	}{
		{vip.Claim{}, vip.ErrInvalid, "invalid IP"},
		{vip.Claim{Addr: at("127.0.0.1"), Owner: "x", Lease: l}, vip.ErrInvalid, "127.0.0.1"},
		{vip.Claim{Addr: at("fe80::1"), Owner: "x", Lease: l}, vip.ErrInvalid, "fe80::1"},
		{vip.Claim{Addr: at("10.77.0.9"), Bits: 33, Owner: "x", Lease: l}, vip.ErrInvalid, "0 to 32"},
		{vip.Claim{Addr: at("10.77.0.9"), Owner: "x"}, vip.ErrInvalid, "without a lease"},
		{vip.Claim{Addr: at("10.77.0.9"), Lease: l}, vip.ErrInvalid, "without an owner"},
		{vip.Claim{Addr: at("192.0.2.1"), Owner: "x", Lease: l}, vip.ErrNoInterface, "eth0 has 10.77.0.1/24"},
		{vip.Claim{Addr: at("10.77.0.9"), Interface: "eth7", Owner: "x", Lease: l}, vip.ErrNoInterface, "eth0"},
	} {
		if _, err := table.Claim(t.Context(), c.claim); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.claim, err)
		}
	}
	if name, err := table.InterfaceFor(at("10.77.0.9"), 24); name != "eth0" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Claim(t.Context(), vip.Claim{Addr: at("10.77.0.9"), Owner: "x", Lease: l}); !errors.Is(err, vip.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestNotAllowed: without the capabilities a box says what is missing.
func TestNotAllowed(t *testing.T) {
	k, err := vip.OpenLinux(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	n := vip.OpenNeighbours(nil, nil)
	defer n.Close()
	done := make(chan [2]error, 1)
	go func() {
		runtime.LockOSThread() // its thread ends with it
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- [2]error{err, err}
			return
		}
		done <- [2]error{k.Check(), n.Check()}
	}()
	for i, err := range <-done {
		if !errors.Is(err, vip.ErrNotAllowed) || !strings.Contains(err.Error(), []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}[i]) {
			t.Errorf("%v", err)
		}
	}
}

// TestOffIPv6: a box without IPv6 holds IPv4 addresses.
func TestOffIPv6(t *testing.T) {
	b := enter(t, "observer")
	sysctl := func(v string) {
		if out, err := exec.Command("ip", "netns", "exec", "observer", "sh", "-c", "echo "+v+" > /proc/sys/net/ipv6/conf/all/disable_ipv6").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sysctl("1")
	defer func() {
		sysctl("0")
		_, v6 := subnet(2)
		ip(t, "-n", "observer", "-6", "address", "replace", v6, "dev", "eth0", "nodad")
	}()
	if err := b.node.Kernel.Check(); err != nil {
		t.Error(err)
	}
}
