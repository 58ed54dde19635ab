package meshtest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/mesh"
)

// Bubble runs a test in a testing/synctest bubble: time passes at once while all its goroutines wait. Nodes that Run or
// Start made in it are closed at its end, and what memberlist leaves behind for some seconds may run out.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // the first registered runs last, after the nodes were closed
		f(t)
	})
}

// Addr returns the address of the i-th node, from 0: 10.0.0.1 and so on.
func Addr(i int) netip.Addr {
	i++
	return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
}

// ID returns the node id of the i-th node, from 0. Ids sort as the nodes do.
func ID(i int) string { return fmt.Sprintf("%032x", i+1) }

// MeshID is the mesh of nodes whose configuration says nothing else.
const MeshID = "feedfacefeedfacefeedfacefeedface"

// TestKey returns a key for tests: the same for the same seed.
func TestKey(seed byte) mesh.Key {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	text := make([]byte, 43) // base64 of 32 bytes
	for i := range text {
		text[i] = 'A'
	}
	text[0] = 'Q'
	text[1] = digits[seed%26]
	k, err := mesh.ParseKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

// Config returns the configuration of the i-th node on the network: id, name (node1, node2, ...), address and key are
// set, the others' addresses are not.
func (n *Net) Config(i int) mesh.Config {
	cfg := mesh.DefaultConfig()
	cfg.NodeID = ID(i)
	cfg.Name = fmt.Sprintf("node%d", i+1)
	cfg.MeshID = MeshID
	cfg.Key = TestKey(1)
	cfg.Addr = Addr(i)
	cfg.Network = n.Node(cfg.Addr)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.LeaveTimeout = -1 // saves a second for each node; a test of leaving sets it
	return cfg
}

// Start starts k nodes on a network of their own and waits until each sees all alive. They are closed when the test ends.
func Start(t testing.TB, k int) []*mesh.Mesh {
	t.Helper()
	return StartOn(t, New(1), k)
}

// StartOn is Start on a network of the test's own, whose links it may then cut. Each edit may change the configurations.
func StartOn(t testing.TB, n *Net, k int, edit ...func(i int, cfg *mesh.Config)) []*mesh.Mesh {
	t.Helper()
	nodes := make([]*mesh.Mesh, k)
	for i := range nodes {
		cfg := n.Config(i)
		if i > 0 {
			cfg.Join = []string{Addr(0).String()}
		}
		for _, e := range edit {
			e(i, &cfg)
		}
		nodes[i] = Run(t, cfg)
	}
	WaitAlive(t, nodes...)
	return nodes
}

// Run opens and runs one node. It is closed when the test ends. In a synctest bubble that was not made by Bubble sleep
// some seconds (of the bubble's) after closing: goroutines of the bubble must end in it.
func Run(t testing.TB, cfg mesh.Config) *mesh.Mesh {
	t.Helper()
	m, err := mesh.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(context.Background()); err != nil {
			t.Errorf("node %s: %v", cfg.Name, err)
		}
	}()
	t.Cleanup(func() {
		m.Close()
		<-done
	})
	return m
}

// CloseAll closes nodes side by side.
func CloseAll(nodes ...*mesh.Mesh) {
	var wg sync.WaitGroup
	for _, m := range nodes {
		wg.Go(func() { m.Close() })
	}
	wg.Wait()
}

// WaitAlive waits until each of the nodes sees all of them alive.
func WaitAlive(t testing.TB, nodes ...*mesh.Mesh) {
	t.Helper()
	Eventually(t, "all nodes see each other", func() bool {
		for _, a := range nodes {
			for _, b := range nodes {
				if x, ok := a.View().Get(b.View().Self().ID); !ok || x.State != mesh.StateAlive {
					return false
				}
			}
		}
		return true
	})
}

// WaitState waits until a node sees another in a state.
func WaitState(t testing.TB, m *mesh.Mesh, id string, want mesh.State) {
	t.Helper()
	Eventually(t, fmt.Sprintf("node %s sees %s %v", m.View().Self().Name, id, want), func() bool {
		x, ok := m.View().Get(id)
		return ok && x.State == want
	})
}

// Eventually waits, for a minute at most, until ok reports true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	if !ok() {
		t.Fatalf("did not happen: %s", what)
	}
}
