package mariadbtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the process that a test runs itself in: see InNamespaces.
const inside = "HOSTMESH_TEST_MARIADB_INSIDE"

// InNamespaces runs the calling test again in a process with namespaces for network and mounts of its own, so that nothing is changed on
// the machine and nothing stays behind; it needs root. A test begins with:
//
//	if !mariadbtest.InNamespaces(t) { return }
func InNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("%v: packaging/deps.sh test installs it", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("the machine gives no namespaces for network and mounts: %v; run the test as root", err)
	}
	if err != nil {
		t.Fatalf("in namespaces: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return false
}

// Boxes are network namespaces, each with a link to a bridge, at which the test itself is, too.
type Boxes struct{ t testing.TB }

// The network of boxes. The test is at HostAddr.
const (
	bridge     = "hmdb0"
	HostAddr   = "10.78.0.254"
	boxAddress = "10.78.0.%d"
)

// NewBoxes makes n boxes, db1 to dbN, in a test that is InNamespaces.
func NewBoxes(t testing.TB, n int) *Boxes {
	t.Helper()
	b := &Boxes{t}
	if os.Getenv(inside) == "" {
		t.Fatal("boxes are made by tests that are InNamespaces")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("private mounts: %v", err)
	}
	// The names of the namespaces lie there.
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatalf("a /run of its own: %v", err)
	}
	b.ip("link", "set", "lo", "up")
	b.ip("link", "add", bridge, "type", "bridge")
	b.ip("address", "add", HostAddr+"/24", "dev", bridge)
	b.ip("link", "set", bridge, "up")
	for i := 1; i <= n; i++ {
		space := b.Space(i)
		b.ip("netns", "add", space)
		b.ip("link", "add", "to-"+space, "type", "veth", "peer", "name", "eth0", "netns", space)
		b.ip("link", "set", "to-"+space, "master", bridge, "up")
		b.ip("-n", space, "link", "set", "lo", "up")
		b.ip("-n", space, "address", "add", b.Addr(i)+"/24", "dev", "eth0")
		b.ip("-n", space, "link", "set", "eth0", "up")
	}
	return b
}

func (b *Boxes) ip(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Space is the namespace of the i-th box, from 1; Addr its address.
func (*Boxes) Space(i int) string { return fmt.Sprintf("db%d", i) }

// Addr is the address of the i-th box.
func (*Boxes) Addr(i int) string { return fmt.Sprintf(boxAddress, i) }

// Start starts a server in the i-th box, with id i and port 3306.
func (b *Boxes) Start(i int, o Options) *Server {
	b.t.Helper()
	o.ID, o.Name, o.Space, o.Addr = uint32(i), b.Space(i), b.Space(i), b.Addr(i)
	return Start(b.t, o)
}

// Down takes the link of the i-th box away: nothing that it sends arrives, and nobody is told. Up gives it back.
func (b *Boxes) Down(i int) { b.t.Helper(); b.ip("link", "set", "to-"+b.Space(i), "down") }

// Up undoes Down.
func (b *Boxes) Up(i int) { b.t.Helper(); b.ip("link", "set", "to-"+b.Space(i), "up") }

// Command is a program in the i-th box.
func (b *Boxes) Command(i int, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", b.Space(i), program}, args...)...)
}
