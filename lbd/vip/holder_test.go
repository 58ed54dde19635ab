package vip_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
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
	Stop  string // it stops itself before or after an act: "before refresh 2s 4" is the fourth one
	Kill  string // it kills itself then
	Wedge string // it hangs for ever then
}

// faulty does something bad around the acts of a kernel.
type faulty struct {
	vip.Kernel
	holding
	n atomic.Int64
}

func (f *faulty) at(when, act string) {
	for what, do := range map[string]func(){
		f.Stop:  func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) },
		f.Kill:  func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} },
		f.Wedge: func() { select {} },
	} {
		if strings.HasPrefix(what, when+" "+act) {
			var n int64
			fmt.Sscan(strings.TrimPrefix(what, when+" "+act), &n)
			if f.n.Add(1) == n {
				do()
			}
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
	cmd.Stderr = testLog{t, box}
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
	return child{cmd, in}
}

// testLog makes what a process complains of part of the test's log.
type testLog struct {
	t   *testing.T
	who string
}

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s: %s", l.who, strings.TrimSpace(string(b)))
	return len(b), nil
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
				{"killed right after a refresh", holding{Kill: "after refresh 2s 6"}, nil},
				{"stopped right before a refresh", holding{Stop: "before refresh 2s 6"}, func(t *testing.T, c child) { c.stopped(t) }},
				{"wedged in the kernel", holding{Wedge: "before refresh 2s 6"}, nil},
				{"in order", holding{}, func(t *testing.T, c child) { _ = c.in.Close() }},
			} {
				addr = addr.Next()
				addr := addr
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.holding.Addr = addr
					p := start(t, "one", c.holding)
					here(t, "one", addr)
					if c.fault != nil {
						if c.Stop == "" {
							stays(t, "one", addr)
						}
						c.fault(t, p)
					}
					begin := time.Now()
					if line := ip(t, "-n", "one", "address", "show", "dev", "eth0"); c.name == "killed" {
						t.Logf("right after: %s", line[strings.Index(line, addr.String()):])
					}
					end := gone(t, "one", addr)
					if c.fault != nil {
						t.Logf("gone after %s", end.Sub(begin).Round(time.Millisecond))
					}
				})
			}
		})
	}
}
