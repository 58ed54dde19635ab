package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFrozenAgents: agents that hang are no reason for the others not to write, in turn; when they go on, all are equal.
func TestFrozenAgents(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	a, b, c := s.boxes[0], s.boxes[1], s.boxes[2]

	c.signal(syscall.SIGSTOP)
	t.Logf("a frozen box is seen as failed after %s", a.sees(c, "failed"))
	for i := range 20 {
		a.mustPut(fmt.Sprintf("hosts/side-ab-%d", i), "Owner: a\n")
		b.mustPut(fmt.Sprintf("hosts/side-ba-%d", i), "Owner: b\n")
	}
	a.mustPut("hosts/both", "Owner: ab\nFrom: a\n")
	// Now the other way round: c alone has to take writes, though it has heard of nothing since.
	a.signal(syscall.SIGSTOP)
	b.signal(syscall.SIGSTOP)
	c.signal(syscall.SIGCONT)
	for i := range 20 {
		c.mustPut(fmt.Sprintf("hosts/side-c-%d", i), "Owner: c\n")
	}
	c.mustPut("hosts/both", "Owner: c\nRack: r1\n")
	c.sees(a, "failed")

	a.signal(syscall.SIGCONT)
	b.signal(syscall.SIGCONT)
	took, _ := s.equal(s.boxes...)
	t.Logf("all go on: equal %s later", took)
	for _, x := range s.boxes {
		for _, id := range []string{"hosts/side-ab-19", "hosts/side-ba-19", "hosts/side-c-19"} {
			if _, err := x.get(id); err != nil {
				t.Error(err)
			}
		}
		// Fields that only one side wrote are all there, and of the one that both wrote the later wins.
		if got, err := x.get("hosts/both"); err != nil || got != "From: a\nOwner: c\nRack: r1" {
			t.Errorf("%s: hosts/both is %q, %v", x.name, got, err)
		}
	}
	t.Logf("all see each other again %s later", s.allAlive())
}

// inNamespaces marks the process that a test runs itself in: see inOwnNamespaces.
const inNamespaces = "HOSTMESH_TEST_IN_NAMESPACES"

// TestCutLink has each agent in a network namespace of its own, joined by a bridge, and takes a link down: both sides
// answer and accept writes, and are equal when it is back.
//
// All of it happens in a process of its own with its own namespaces for network and mounts, so that nothing is changed
// on the machine and nothing can stay behind. Without root that process gets a user namespace, too.
func TestCutLink(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		cutLink(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip")
}

// inOwnNamespaces runs the calling test again as root of network and mount namespaces of its own, marked by inNamespaces, with the tools
// that it names.
func inOwnNamespaces(t *testing.T, tools ...string) {
	t.Helper()
	inOwn(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS, tools)
}

// inOwnProcesses is inOwnNamespaces with process numbers of its own, too: whatever a test's agents start ends with it. It begins with ownProcesses.
func inOwnProcesses(t *testing.T, tools ...string) {
	t.Helper()
	inOwn(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS|syscall.CLONE_NEWPID, tools)
}

func inOwn(t *testing.T, spaces uintptr, tools []string) {
	t.Helper()
	path := binary(t)
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: packaging/deps.sh test installs it", err)
		}
	}
	limit := "-test.timeout=10m"
	if os.Getenv(lbRuns) != "" || os.Getenv(dbRuns) != "" || os.Getenv(stormFor) != "" || os.Getenv(cloudMore) != "" {
		limit = "-test.timeout=0" // by hand: for as long as it takes
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", limit)
	cmd.Env = append(os.Environ(), inNamespaces+"=1", "HOSTMESH_BINARY="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("the machine gives no namespaces for network and mounts: %v; run the tests as root, or allow user namespaces", err)
	}
	if err != nil {
		t.Fatalf("in namespaces: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// wires are namespaces joined by a bridge, in a process that has its own mounts.
type wires struct{ t *testing.T }

func (w wires) ip(args ...string) {
	w.t.Helper()
	w.run("ip", args...)
}

func (w wires) run(tool string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
}

// lay makes the bridge, here, and for each name a namespace with a link to it, the other end of which has the address.
func (w wires) lay(addrs map[string]string) {
	w.t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		w.t.Fatalf("private mounts: %v", err)
	}
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil { // where ip keeps the names of namespaces
		w.t.Fatalf("own /run: %v", err)
	}
	w.ip("link", "set", "lo", "up")
	w.ip("link", "add", "br0", "type", "bridge")
	w.ip("link", "set", "br0", "up")
	for name, addr := range addrs {
		w.ip("netns", "add", name)
		w.ip("link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", name)
		w.ip("link", "set", "to-"+name, "master", "br0", "up")
		w.ip("-n", name, "address", "add", addr+"/24", "dev", "eth0")
		w.ip("-n", name, "link", "set", "lo", "up")
		w.ip("-n", name, "link", "set", "eth0", "up")
	}
}

func cutLink(t *testing.T) {
	w := wires{t}
	addrs := map[string]string{"one": "10.77.0.1", "two": "10.77.0.2", "three": "10.77.0.3"}
	w.lay(addrs)
	s := newSite(t, 0)
	for _, name := range []string{"one", "two", "three"} {
		b := s.newBox(addrs[name])
		b.under = []string{"ip", "netns", "exec", name}
	}
	first, second, third := s.boxes[0], s.boxes[1], s.boxes[2]
	// Writes go through the socket, which no network namespace hides.
	put := func(b *box, id, value string) {
		t.Helper()
		begin := time.Now()
		done, err := b.api.Put(t.Context(), id, []byte(value), "test")
		if err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
		t.Logf("%s takes %s in %s, held by %d", b.name, id, time.Since(begin).Round(time.Millisecond), done.Acks)
	}
	first.found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+first.addr+"]")
		}
		b.start()
	}
	s.allAlive()
	put(first, "hosts/web1.lab.test", "Network: {IP: 10.9.0.1}\n")
	put(first, "tags/lab", "DNS: {Zone: lab.test, TTL: 1}\n")
	put(first, "tags/lab/members", "web1.lab.test\n")
	s.equal(s.boxes...)
	says := func(b *box, host, addr string) time.Duration {
		t.Helper()
		return s.wait(fmt.Sprintf("%s answers %s for %s", b.name, addr, host), func() error {
			if got := b.dig(host); got != addr {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	says(third, "web1.lab.test", "10.9.0.1")

	w.ip("link", "set", "to-three", "down")
	// At once, while each side still believes in the other: acknowledgement must not wait for who is not there.
	put(first, "hosts/early1.lab.test", "Owner: one\n")
	put(third, "hosts/early3.lab.test", "Owner: three\n")
	t.Logf("the cut is seen at one side after %s", first.sees(third, "failed"))
	t.Logf("and at the other after %s more", third.sees(first, "failed"))
	put(first, "hosts/web1.lab.test/Network/IP", "10.9.1.1")
	put(second, "hosts/web2.lab.test", "Network: {IP: 10.9.1.2}\n")
	put(third, "hosts/web3.lab.test", "Network: {IP: 10.9.1.3}\n")
	put(second, "tags/lab/members/web2.lab.test", "")
	put(third, "tags/lab/members/web3.lab.test", "")
	says(second, "web1.lab.test", "10.9.1.1")
	says(third, "web1.lab.test", "10.9.0.1") // what it has, and it has it at once
	says(third, "web3.lab.test", "10.9.1.3")
	if third.dig("web2.lab.test") != "" {
		t.Error("the cut is none: the other side's host is here")
	}

	w.ip("link", "set", "to-three", "up")
	took, _ := s.equal(s.boxes...)
	t.Logf("the link is back: equal %s later", took)
	for _, b := range s.boxes {
		says(b, "web1.lab.test", "10.9.1.1")
		says(b, "web2.lab.test", "10.9.1.2")
		says(b, "web3.lab.test", "10.9.1.3")
	}
	t.Logf("each sees the others alive %s later", s.allAlive())
	// The agents end before their links do; nobody else is here to end them.
	for _, b := range s.boxes {
		t.Logf("%s stops in %s", filepath.Base(b.dir), b.stop().Round(time.Millisecond))
	}
}
