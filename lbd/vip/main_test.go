package vip_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hostmesh/integration/wires"
	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

const inNamespaces, asHolder = "HOSTMESH_TEST_IN_NAMESPACES", "HOSTMESH_TEST_VIP_HOLDER"

// TestMain runs all tests in namespaces for network and mounts of their own, so that nothing is changed on the machine and nothing can stay
// behind. Without root that is in a user namespace, too.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asHolder) != "":
		if err := holder(os.Getenv(asHolder)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case os.Getenv(inNamespaces) == "":
		os.Exit(again())
	}
	if err := lay(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func again() int {
	runtime.LockOSThread() // the death of the thread that started it would end it
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintf(os.Stderr, "the machine gives no namespaces for network and mounts: %v; run the tests as root, or allow user namespaces\n", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// boxes are namespaces with a link, eth0, to a bridge: one and two may hold addresses, observer sees what they do, and stranger does as it likes.
var boxes = []string{"one", "two", "observer", "stranger"}

func subnet(i int) (v4, v6 string) {
	return fmt.Sprintf("10.77.0.%d/24", i+1), fmt.Sprintf("fd77::%d/64", i+1)
}

func lay() error {
	if err := wires.PrivateMounts(); err != nil {
		return err
	}
	steps := [][]string{{"link", "set", "lo", "up"}, {"link", "add", "br0", "type", "bridge"}, {"link", "set", "br0", "up"}}
	for i, name := range boxes {
		v4, v6 := subnet(i)
		steps = append(steps, [][]string{
			{"netns", "add", name},
			{"link", "add", "to-" + name, "type", "veth", "peer", "name", "eth0", "netns", name},
			{"link", "set", "to-" + name, "master", "br0", "up"},
			// A box that forwards would hide that clients do not know where an address is.
			{"netns", "exec", name, "sh", "-c", "echo 0 | tee /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"},
			{"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "address", "add", v4, "dev", "eth0"},
			{"-n", name, "-6", "address", "add", v6, "dev", "eth0", "nodad"},
			{"-n", name, "link", "set", "eth0", "up"},
		}...)
	}
	for _, args := range steps {
		if _, err := wires.Output(exec.Command("ip", args...)); err != nil {
			return err
		}
	}
	return nil
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := wires.Output(exec.Command("ip", args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// box is a namespace of boxes, entered by this process.
type box struct {
	name string
	node viptest.Node
	mac  net.HardwareAddr
}

func enter(t *testing.T, name string) box {
	t.Helper()
	ns, err := vip.OpenNamespace(name)
	if err != nil {
		t.Fatal(err)
	}
	k, err := vip.OpenLinux(ns)
	if err != nil {
		t.Fatal(err)
	}
	n := vip.OpenNeighbours(ns, nil)
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{n, k, ns} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	b := box{name: name, node: viptest.Node{Kernel: k, Announcer: n, Link: "eth0"}}
	b.mac = b.link(t).MAC
	return b
}

func (b box) link(t *testing.T) vip.Link {
	t.Helper()
	links, err := b.node.Kernel.Links()
	if err != nil {
		t.Fatal(err)
	}
	return links[slices.IndexFunc(links, func(l vip.Link) bool { return l.Name == "eth0" })]
}

// has reports what ip address shows of an address.
func has(t *testing.T, box string, addr netip.Addr) bool {
	t.Helper()
	return strings.Contains(ip(t, "-n", box, "address", "show", "dev", "eth0"), " "+addr.String()+"/")
}

// eventually waits for what comes in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

var families = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.77.0.100"), "IPv6": netip.MustParseAddr("fd77::100")}

func TestLinuxConforms(t *testing.T) {
	viptest.TestKernel(t, enter(t, "stranger").node.Kernel, "eth0")
}

func TestNeighboursConform(t *testing.T) {
	viptest.TestAnnouncer(t, enter(t, "one").node, enter(t, "stranger").node)
}

func TestFakesConform(t *testing.T) {
	s := viptest.NewSegment(1)
	one, two := s.Box(netip.MustParsePrefix("10.0.0.1/24")), s.Box(netip.MustParsePrefix("10.0.0.2/24"))
	viptest.TestKernel(t, one, "eth0")
	viptest.TestAnnouncer(t, viptest.Node{Kernel: one, Announcer: one, Link: "eth0"}, viptest.Node{Kernel: two, Announcer: two, Link: "eth0"})
}

// watcher asks for an address all the time, from the observer, and notes who answers when.
type watcher struct {
	stop  chan struct{}
	ended chan struct{}
	heard chan answer
	last  atomic.Pointer[answer]
}

type answer struct {
	from net.HardwareAddr
	at   time.Time
}

func watch(t *testing.T, addr netip.Addr) *watcher {
	t.Helper()
	o := enter(t, "observer")
	l := o.link(t)
	w := &watcher{stop: make(chan struct{}), ended: make(chan struct{}), heard: make(chan answer, 1<<20)}
	unlisten, err := o.node.Announcer.Listen(l, addr, func(s vip.Sighting) {
		if !s.Asks {
			a := answer{s.From, time.Now()}
			w.last.Store(&a)
			w.heard <- a
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		defer unlisten()
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(2 * time.Millisecond):
				_ = o.node.Announcer.(*vip.Neighbours).Ask(l, netip.MustParseAddr("10.77.0.3"), addr) // the link may be down
			}
		}
	}()
	return w
}

// answers waits until a box does.
func (w *watcher) answers(t *testing.T, b box) {
	t.Helper()
	eventually(t, b.name+" answers", func() bool {
		a := w.last.Load()
		return a != nil && bytes.Equal(a.from, b.mac)
	})
}

// end ends it, and returns all that was heard.
func (w *watcher) end() []answer {
	close(w.stop)
	<-w.ended
	var all []answer
	for len(w.heard) > 0 {
		all = append(all, <-w.heard)
	}
	return all
}

// handOver is for how long one went on answering after the other had begun, and gap for how long nobody did.
func handOver(all []answer, from, to net.HardwareAddr) (both, gap time.Duration, err error) {
	var last, first time.Time
	for _, a := range all {
		switch {
		case bytes.Equal(a.from, from):
			last = a.at
		case bytes.Equal(a.from, to) && first.IsZero():
			first = a.at
		case !bytes.Equal(a.from, to):
			return 0, 0, fmt.Errorf("%s answers as well", a.from)
		}
	}
	if last.IsZero() || first.IsZero() {
		return 0, 0, fmt.Errorf("one of them never answered, of %d answers", len(all))
	}
	return max(last.Sub(first), 0), max(first.Sub(last), 0), nil
}
