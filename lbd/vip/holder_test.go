package vip_test

import (
	"context"
	"encoding/json"
	"fmt"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// holding is what a holder, a process of its own, is told. Its lease is renewed by itself, as by a leader that always answers, and is over for good
// once it was not: which is what a stopped process finds.
type holding struct {
	Addr  netip.Addr
	Dir   string
	Stop  string   // it stops itself before or after an act: "before refresh 2s 4" is the fourth one
	Kill  string   // it kills itself then
	Mesh  *meshing // its lease is a real one, of a group
	Wedge string   // it hangs for ever then
}

// faulty does something bad around the acts of a kernel.
type faulty struct {
	vip.Kernel
	holding
	n [3]atomic.Int64 // of Stop, Kill, Wedge
}

func (f *faulty) at(when, act string) {
	for i, what := range []string{f.Stop, f.Kill, f.Wedge} {
		count, ok := strings.CutPrefix(what, when+" "+act)
		if !ok {
			continue
		}
		var n int64
		fmt.Sscan(count, &n)
		if f.n[i].Add(1) != n {
			continue
		}
		switch i {
		case 0:
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			// A signal to oneself is delivered before the call returns, but to another thread perhaps.
			time.Sleep(20 * time.Millisecond)
		case 1:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case 2:
			select {}
		}
	}
}

func (f *faulty) Add(a vip.Address) error {
	f.at("before", "add")
	defer f.at("after", "add")
	return f.Kernel.Add(a)
}

func (f *faulty) Refresh(a vip.Address) error {
	act := fmt.Sprintf("refresh %s", a.Lifetime)
	f.at("before", act)
	defer f.at("after", act)
	return f.Kernel.Refresh(a)
}

// holder is the child's main.
func holder(cfg string) error {
	var c holding
	if err := json.Unmarshal([]byte(cfg), &c); err != nil {
		return err
	}
	k, err := vip.OpenLinux(nil)
	if err != nil {
		return err
	}
	t, err := vip.Open(vip.Config{Dir: c.Dir, Kernel: &faulty{Kernel: k, holding: c}, Announcer: vip.OpenNeighbours(nil, nil)})
	if err != nil {
		return err
	}
	go t.Run(context.Background())
	if c.Mesh != nil {
		return campaign(t, c)
	}
	lease := viptest.NewLease()
	lease.Keep()
	if _, err := t.Claim(context.Background(), vip.Claim{Addr: c.Addr, Owner: "lb/test", Lease: lease}); err != nil {
		return err
	}
	// Its parent ends it.
	_, _ = os.Stdin.Read(make([]byte, 1))
	return t.Close()
}

// child is a holder, seen from its parent.
type child struct {
	cmd *exec.Cmd
	in  interface{ Close() error }
	log *testLog
}

func (c child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// stopped waits until it is.
func (c child) stopped(t *testing.T) {
	t.Helper()
	eventually(t, "the holder stops itself", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		return err == nil && strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+2:]), "T")
	})
}

func start(t *testing.T, box string, c holding) child {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", box, os.Args[0])
	cmd.Env = append(os.Environ(), asHolder+"="+string(text))
	log := &testLog{t: t, who: box}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		eventually(t, "the address goes after the test", func() bool { return !has(t, box, c.Addr) })
	})
	return child{cmd, in, log}
}

// testLog makes what a process complains of part of the test's log.
type testLog struct {
	t   *testing.T
	who string

	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s: %s", l.who, strings.TrimSpace(string(b)))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *testLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// journal notes when the kernel of a box begins and ends lives of addresses.
type journal struct {
	mu    sync.Mutex // guards the fields below
	began map[netip.Addr]time.Time
	ended map[netip.Addr]time.Time
}

func keepJournal(t *testing.T, box string) *journal {
	t.Helper()
	ns, err := netns.GetFromName(box)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{began: map[netip.Addr]time.Time{}, ended: map[netip.Addr]time.Time{}}
	updates, done := make(chan netlink.AddrUpdate, 1024), make(chan struct{})
	if err := netlink.AddrSubscribeAt(ns, updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(done)
		ns.Close()
	})
	go func() {
		for u := range updates {
			addr, _ := netip.AddrFromSlice(u.LinkAddress.IP)
			j.mu.Lock()
			if addr = addr.Unmap(); u.NewAddr {
				j.began[addr] = time.Now()
			} else {
				j.ended[addr] = time.Now()
			}
			j.mu.Unlock()
		}
	}()
	return j
}

// last is when an address last began to live anew, and when it ended; both is false when one of them did not happen, or in another order.
func (j *journal) last(addr netip.Addr) (began, ended time.Time, both bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	began, ended = j.began[addr], j.ended[addr]
	return began, ended, !began.IsZero() && ended.After(began)
}

// gone waits until a box's address is, and returns when.
func gone(t *testing.T, box string, addr netip.Addr) time.Time {
	t.Helper()
	eventually(t, addr.String()+" goes from "+box, func() bool { return !has(t, box, addr) })
	return time.Now()
}

func here(t *testing.T, box string, addr netip.Addr) {
	t.Helper()
	eventually(t, addr.String()+" comes to "+box, func() bool { return has(t, box, addr) })
}

// stays sees that an address stays for longer than one life of it.
func stays(t *testing.T, box string, addr netip.Addr) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 2700*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		if !has(t, box, addr) {
			t.Fatalf("%s went from %s", addr, box)
		}
	}
}

// TestHolderDies: whatever becomes of a holder, the kernel removes its address.
func TestHolderDies(t *testing.T) {
	j := keepJournal(t, "one")
	for family, addr := range families {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct {
				name string
				holding
				fault func(*testing.T, child)
			}{
				{"killed", holding{}, func(t *testing.T, c child) { c.signal(t, syscall.SIGKILL) }},
				{"stopped", holding{}, func(t *testing.T, c child) { c.signal(t, syscall.SIGSTOP) }},
				{"killed right after a refresh", holding{Kill: "after refresh 2s 6"}, func(*testing.T, child) {}},
				{"stopped right before a refresh", holding{Stop: "before refresh 2s 6"}, func(t *testing.T, c child) { c.stopped(t) }},
				{"wedged in the kernel", holding{Wedge: "before refresh 2s 6"}, func(*testing.T, child) {}},
				{"in order", holding{}, nil},
			} {
				addr = addr.Next()
				addr := addr
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.holding.Addr = addr
					p := start(t, "one", c.holding)
					here(t, "one", addr)
					if c.fault != nil {
						if c.Stop+c.Kill+c.Wedge == "" {
							stays(t, "one", addr)
						}
						c.fault(t, p)
					} else {
						_ = p.in.Close()
					}
					if line := ip(t, "-n", "one", "address", "show", "dev", "eth0"); c.name == "killed" {
						line = line[strings.Index(line, addr.String()):]
						t.Logf("right after: %s", strings.Join(strings.Fields(line)[:8], " "))
					}
					gone(t, "one", addr)
					var lived time.Duration
					eventually(t, "the kernel tells", func() bool {
						began, ended, both := j.last(addr)
						lived = ended.Sub(began)
						return both
					})
					t.Logf("gone %s after it was last refreshed", lived.Round(time.Millisecond))
					if lived < 1500*time.Millisecond && c.fault != nil { // what the kernel tells may come late
						t.Errorf("it lived for %s only", lived)
					}
				})
			}
		})
	}
}
