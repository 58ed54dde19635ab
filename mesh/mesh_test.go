package mesh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

// logBuffer is a log that a test can read while nodes write to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// A killed member is seen by the others within the time that the package comment promises.
func TestKilledIsSeen(t *testing.T) {
	var took []time.Duration
	for seed := range uint64(5) {
		meshtest.Bubble(t, func(t *testing.T) {
			n := meshtest.New(seed)
			nodes := meshtest.StartOn(t, n, 3)
			time.Sleep(10*time.Second + time.Duration(seed)*70*time.Millisecond)
			n.Isolate(meshtest.Addr(2))
			start := time.Now()
			meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateFailed)
			meshtest.WaitState(t, nodes[1], meshtest.ID(2), mesh.StateFailed)
			d := time.Since(start) // the bubble's time: no load of the machine is in it
			took = append(took, d)
			if d > 4*time.Second {
				t.Errorf("seen only after %v", d)
			}
			if nodes[0].View().MassSuspicion() {
				t.Error("one of three is no mass suspicion")
			}
		})
	}
	t.Logf("seen by both others after %v", took)
}

// Of a larger mesh, too; and no partition is for ever.
func TestPartitionHeals(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 7)
		var a, b []netip.Addr
		for i := range nodes {
			if i < 3 {
				a = append(a, meshtest.Addr(i))
			} else {
				b = append(b, meshtest.Addr(i))
			}
		}
		n.Split(a, b)
		meshtest.Eventually(t, "both sides see the other failed", func() bool {
			return nodes[0].Stats().Failed == 4 && nodes[2].Stats().Failed == 4 && nodes[3].Stats().Failed == 3 && nodes[6].Stats().Failed == 3
		})
		if !nodes[0].View().MassSuspicion() || !nodes[6].View().MassSuspicion() {
			t.Error("no mass suspicion although half of the mesh is gone")
		}
		time.Sleep(2 * time.Minute)
		if nodes[0].View().MassSuspicion() {
			t.Error("mass suspicion does not calm")
		}
		time.Sleep(10 * time.Minute) // far beyond what memberlist remembers by itself
		n.Heal()
		start := time.Now()
		meshtest.WaitAlive(t, nodes...)
		t.Logf("healed after %v", time.Since(start))
	})
}

// Loss is no death.
func TestLossIsNoDeath(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 4)
		failed := 0
		for i := range nodes {
			for j := range i {
				n.Loss(meshtest.Addr(i), meshtest.Addr(j), 0.1)
				n.Delay(meshtest.Addr(i), meshtest.Addr(j), 20*time.Millisecond)
			}
		}
		changed, stop := nodes[0].Watch()
		defer stop()
		end := time.After(10 * time.Minute)
		for over := false; !over; {
			select {
			case <-changed:
				failed += nodes[0].Stats().Failed
			case <-end:
				over = true
			}
		}
		if failed > 0 {
			t.Errorf("false alarms: %d", failed)
		}
		d, ok := nodes[0].View().Distance(meshtest.ID(1), meshtest.ID(2))
		if !ok || d < 20*time.Millisecond || d > 100*time.Millisecond {
			t.Errorf("distance %v %v, round trips take 40 ms", d, ok)
		}
		if m, _ := nodes[0].View().Get(meshtest.ID(3)); m.RTT < 20*time.Millisecond || m.RTT > 100*time.Millisecond {
			t.Errorf("RTT %v", m.RTT)
		}
	})
}

// A node that cannot be heard by one other only is kept alive by those that hear it.
func TestOneWayCut(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 4)
		n.CutOneWay(meshtest.Addr(1), meshtest.Addr(0))
		time.Sleep(2 * time.Minute)
		for i, m := range nodes {
			if f := m.Stats().Failed; f != 0 {
				t.Errorf("node %d sees %d failed", i, f)
			}
		}
	})
}

// Whoever leaves in order has left, at once, and can come back.
func TestLeaveAndReturn(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3, func(i int, cfg *mesh.Config) { cfg.LeaveTimeout = 3 * time.Second })
		start := time.Now()
		if err := nodes[2].Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("leaving took %v", d)
		}
		meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateLeft)
		meshtest.WaitState(t, nodes[1], meshtest.ID(2), mesh.StateLeft)
		if err := nodes[2].Close(); err != nil {
			t.Error(err)
		}
		if err := nodes[2].Run(context.Background()); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("run after close: %v", err)
		}
		// It joins nobody: the others dial it.
		back := meshtest.Run(t, n.Config(2))
		meshtest.WaitAlive(t, nodes[0], nodes[1], back)
	})
}

// After a power cut all nodes find each other by their peer lists, without join addresses and DNS.
func TestRestartByPeerList(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
		nodes := meshtest.StartOn(t, n, 3, func(i int, cfg *mesh.Config) { cfg.Dir = dirs[i] })
		time.Sleep(5 * time.Second)
		meshtest.CloseAll(nodes...)
		time.Sleep(time.Hour)
		again := make([]*mesh.Mesh, 3)
		for i := range again {
			cfg := n.Config(i)
			cfg.Dir, cfg.MeshID = dirs[i], "" // the peer list knows it
			again[i] = meshtest.Run(t, cfg)
			if i == 0 {
				time.Sleep(time.Minute) // the first is alone for a while
				v := again[0].View()
				if v.Len() != 3 || v.Self().State != mesh.StateAlive {
					t.Errorf("alone: %+v", v.Members())
				}
				if m, _ := v.Get(meshtest.ID(1)); m.State != mesh.StateUnknown || m.Name != "node2" {
					t.Errorf("alone: %+v", m)
				}
			}
		}
		meshtest.WaitAlive(t, again...)
	})
}

// A node that is killed right after it joined remembers whom it joined.
func TestPeersAreKeptAtOnce(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
		meshtest.StartOn(t, n, 3, func(i int, cfg *mesh.Config) { cfg.Dir = dirs[i] }) // returns when all see each other
		time.Sleep(200 * time.Millisecond)
		for i, dir := range dirs {
			text, err := os.ReadFile(filepath.Join(dir, "peers.json"))
			if err != nil {
				t.Error(err)
			}
			for j := range dirs {
				if j != i && !strings.Contains(string(text), meshtest.ID(j)) {
					t.Errorf("node %d would not remember node %d: %s", i, j, text)
				}
			}
		}
	})
}

// A member that was removed is removed everywhere, and not let in again.
func TestRemove(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		var log logBuffer
		dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
		nodes := meshtest.StartOn(t, n, 3, func(i int, cfg *mesh.Config) { cfg.Dir = dirs[i]; cfg.Logger = log.logger() })
		if err := nodes[0].Remove(meshtest.ID(2)); !errors.Is(err, mesh.ErrAlive) {
			t.Errorf("remove of a member that is alive: %v", err)
		}
		if err := nodes[0].Remove("x"); err == nil {
			t.Error("x is no id")
		}
		nodes[2].Close()
		meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateFailed)
		meshtest.WaitState(t, nodes[1], meshtest.ID(2), mesh.StateFailed)
		if err := nodes[0].Remove(meshtest.ID(2)); err != nil {
			t.Fatal(err)
		}
		meshtest.Eventually(t, "all forget it", func() bool { return nodes[0].View().Len() == 2 && nodes[1].View().Len() == 2 })
		if err := nodes[0].Remove(meshtest.ID(2)); err != nil {
			t.Errorf("once more: %v", err)
		}
		// It comes back with its old directory.
		back := meshtest.Run(t, func() mesh.Config { c := n.Config(2); c.Dir = dirs[2]; return c }())
		time.Sleep(2 * time.Minute)
		if a, b := nodes[0].View().Len(), nodes[1].View().Len(); a != 2 || b != 2 {
			t.Errorf("it is back: %d, %d", a, b)
		}
		if c := log.count("reason=\"removed node\""); c < 1 || c > 3 {
			t.Errorf("refusal logged %d times:\n%s", c, log.String())
		}
		if _, err := back.Call(t.Context(), meshtest.ID(0), "x", nil); !errors.Is(err, mesh.ErrRemoved) {
			t.Errorf("call of a removed node: %v", err)
		}
		// The bar survives a restart.
		nodes[0].Close()
		text, err := os.ReadFile(filepath.Join(dirs[0], "peers.json"))
		if err != nil || !json.Valid(text) || !strings.Contains(string(text), "removed") {
			t.Errorf("peer list: %s %v", text, err)
		}
	})
}

// A joiner learns the mesh's id and says so before it takes part.
func TestJoinerLearns(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		joined := ""
		cfg := n.Config(1)
		cfg.MeshID = ""
		cfg.Join = []string{"nowhere.example.com", "seed.example.com"}
		cfg.OnMeshID = func(id string) error { joined += id; return nil }
		joiner := meshtest.Run(t, cfg)
		time.Sleep(3 * time.Minute) // nobody is there yet
		if joined != "" || joiner.Stats().MeshID != "" {
			t.Fatal("learned from nobody")
		}
		n.Host("seed.example.com", meshtest.Addr(0))
		founder := meshtest.Run(t, n.Config(0))
		meshtest.WaitAlive(t, founder, joiner)
		if joined != meshtest.MeshID || joiner.Stats().MeshID != meshtest.MeshID {
			t.Errorf("learned %q", joined)
		}
	})
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		meshtest.Run(t, n.Config(0))
		cfg := n.Config(1)
		cfg.MeshID, cfg.Join = "", []string{meshtest.Addr(0).String()}
		full := errors.New("disk full")
		cfg.OnMeshID = func(string) error { return full }
		m, err := mesh.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Run(t.Context()); !errors.Is(err, full) {
			t.Errorf("Run: %v", err)
		}
		m.Close()
	})
}

// Meshes with different keys keep apart, and say so once on both sides.
func TestWrongKey(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		var la, lb logBuffer
		ca, cb := n.Config(0), n.Config(1)
		ca.Logger, cb.Logger = la.logger(), lb.logger()
		cb.Key = meshtest.TestKey(2)
		cb.Join = []string{ca.Addr.String()}
		a, b := meshtest.Run(t, ca), meshtest.Run(t, cb)
		time.Sleep(10 * time.Minute)
		if a.View().Len() != 1 || b.View().Len() != 1 {
			t.Error("they met")
		}
		if a.Stats().RefusedKey < 2 || b.Stats().RefusedKey < 2 {
			t.Errorf("counted %d, %d", a.Stats().RefusedKey, b.Stats().RefusedKey)
		}
		for addr, l := range map[netip.Addr]*logBuffer{cb.Addr: &la, ca.Addr: &lb} {
			if c := l.count("reason=\"wrong mesh key\""); c != 1 || l.count("addr="+addr.String()) != 1 {
				t.Errorf("logged %d times:\n%s", c, l.String())
			}
		}
	})
}

// Gossip alone, where the stream port is closed, tells a wrong key too.
func TestWrongKeyByGossip(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		var la logBuffer
		ca, cb := n.Config(0), n.Config(1)
		ca.Logger = la.logger()
		ca.StreamPort = 9999
		cb.Key = meshtest.TestKey(2)
		cb.Join = []string{ca.Addr.String()}
		a, b := meshtest.Run(t, ca), meshtest.Run(t, cb)
		time.Sleep(10 * time.Minute)
		if a.View().Len() != 1 || b.View().Len() != 1 {
			t.Error("they met")
		}
		if c := la.count("reason=\"wrong mesh key\""); c != 1 {
			t.Errorf("logged %d times:\n%s", c, la.String())
		}
	})
}

// Where the stream port is closed (or unknown) gossip alone still joins.
func TestJoinByGossip(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		meshtest.StartOn(t, n, 3, func(i int, cfg *mesh.Config) { cfg.StreamPort = uint16(9000 + i) })
	})
}

// Two meshes with one key keep apart as well.
func TestOtherMesh(t *testing.T) {
	for _, port := range []uint16{7947, 9999} { // 9999: the joiner finds no stream port, and tries gossip alone
		meshtest.Bubble(t, func(t *testing.T) {
			n := meshtest.New(1)
			var la, lb logBuffer
			ca, cb := n.Config(0), n.Config(1)
			ca.Logger, cb.Logger = la.logger(), lb.logger()
			ca.StreamPort = port
			cb.MeshID = "0123456789abcdef0123456789abcdef"
			cb.Join = []string{ca.Addr.String()}
			a, b := meshtest.Run(t, ca), meshtest.Run(t, cb)
			time.Sleep(10 * time.Minute)
			if a.View().Len() != 1 || b.View().Len() != 1 {
				t.Error("they met")
			}
			if a.Stats().RefusedMesh < 1 || b.Stats().RefusedMesh < 1 {
				t.Errorf("counted %d, %d", a.Stats().RefusedMesh, b.Stats().RefusedMesh)
			}
			if c, d := la.count("reason=\"other mesh\""), lb.count("reason=\"other mesh\""); c != 1 || d != 1 {
				t.Errorf("logged %d, %d times:\n%s\n%s", c, d, la.String(), lb.String())
			}
		})
	}
}

// Several failures at once are more likely our own trouble.
func TestMassSuspicionLive(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		var log logBuffer
		nodes := meshtest.StartOn(t, n, 6, func(i int, cfg *mesh.Config) {
			if i == 0 {
				cfg.Logger = log.logger()
			}
		})
		changed, stop := nodes[0].Watch()
		defer stop()
		for i := 3; i < 6; i++ {
			n.Isolate(meshtest.Addr(i))
		}
		meshtest.Eventually(t, "mass suspicion", func() bool { return nodes[0].View().MassSuspicion() })
		<-changed
		time.Sleep(5 * time.Second)
		select {
		case <-changed:
		default:
		}
		time.Sleep(time.Minute)
		if nodes[0].View().MassSuspicion() {
			t.Error("it does not end")
		}
		select {
		case <-changed:
		default:
			t.Error("watchers are not told of the end")
		}
		if log.count("mass suspicion begins") != 1 || log.count("mass suspicion ends") != 1 {
			t.Error(log.String())
		}
	})
}

// A watcher is told of changes, and of nothing else.
func TestWatch(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2)
		changed, stop := nodes[0].Watch()
		<-changed
		time.Sleep(5 * time.Minute)
		before := nodes[0].View()
		select {
		case <-changed:
			t.Error("told of nothing")
		default:
		}
		third := n.Config(2)
		third.Join = []string{meshtest.Addr(0).String()}
		third.Datacenter, third.Rack = "dc1", "r1"
		m := meshtest.Run(t, third)
		<-changed
		meshtest.WaitAlive(t, nodes[0], m)
		if x, ok := nodes[0].View().ByName("node3"); !ok || x.Datacenter != "dc1" || x.Rack != "r1" || x.Protocol != mesh.ProtocolMax {
			t.Errorf("third: %+v", x)
		}
		if before.Len() != 2 || nodes[0].View().Revision() <= before.Revision() {
			t.Error("an old view changed")
		}
		stop()
		stop()
		if real, foretold := mesh.MetaSize(m); real != foretold {
			t.Errorf("metadata takes %d bytes, foretold %d", real, foretold)
		}
	})
}

// A box that was set up anew has a new id at the old address.
func TestSetUpAnew(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		nodes[2].Close()
		cfg := n.Config(2)
		cfg.NodeID = meshtest.ID(99)
		cfg.Join = []string{meshtest.Addr(0).String()}
		anew := meshtest.Run(t, cfg)
		meshtest.WaitAlive(t, nodes[0], nodes[1], anew)
		meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateFailed)
		if x, ok := nodes[0].View().ByName("node3"); !ok || x.ID != meshtest.ID(99) {
			t.Errorf("by name: %+v", x)
		}
		// Whoever calls the old id is not given the new one.
		_, err := nodes[0].Call(t.Context(), meshtest.ID(2), "x", nil)
		if !errors.Is(err, mesh.ErrWrongNode) {
			t.Errorf("call of the old id: %v", err)
		}
	})
}

// A member that comes back under another address is found there.
func TestAddressChanges(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		nodes[2].Close()
		cfg := n.Config(2)
		cfg.Addr = meshtest.Addr(50)
		cfg.Network = n.Node(cfg.Addr)
		cfg.Join = []string{meshtest.Addr(0).String()}
		moved := meshtest.Run(t, cfg)
		meshtest.Eventually(t, "it is found at its new address", func() bool {
			x, _ := nodes[1].View().Get(meshtest.ID(2))
			return x.State == mesh.StateAlive && x.Addr == cfg.Addr
		})
		moved.Handle("ping", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return []byte("pong"), nil })
		if _, err := nodes[1].Call(t.Context(), meshtest.ID(2), "ping", nil); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	n := meshtest.New(1)
	dir := t.TempDir()
	other := fmt.Sprintf(`{"version": 1, "mesh": %q}`, meshtest.ID(77))
	if err := os.WriteFile(filepath.Join(dir, "peers.json"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*mesh.Config){
		"hostmesh keygen":               func(c *mesh.Config) { c.Key = mesh.Key{} },
		"nothing to join":               func(c *mesh.Config) { c.MeshID = "" },
		"node id \"abc\"":               func(c *mesh.Config) { c.NodeID = "abc" },
		"mesh id":                       func(c *mesh.Config) { c.MeshID = strings.Repeat("A", 32) },
		"one address":                   func(c *mesh.Config) { c.Addr = netip.MustParseAddr("0.0.0.0") },
		"name: set it":                  func(c *mesh.Config) { c.Name = "" },
		"printable":                     func(c *mesh.Config) { c.Rack = "a\nb" },
		"shorten the labels":            func(c *mesh.Config) { c.Rack = strings.Repeat("r", 200); c.Datacenter = c.Rack },
		"want host or host:port":        func(c *mesh.Config) { c.Join = []string{"a b"} },
		"they must differ":              func(c *mesh.Config) { c.StreamPort = c.GossipPort },
		"is of mesh " + meshtest.ID(77): func(c *mesh.Config) { c.Dir = dir },
	} {
		cfg := n.Config(0)
		edit(&cfg)
		if m, err := mesh.Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
			if m != nil {
				m.Close()
			}
		}
	}
}

// A copied data directory, running on a second box, is seen by the box it was copied from or by another member.
func TestCopiedDataDirectory(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		cfg := n.Config(2)
		cfg.Addr = meshtest.Addr(50)
		cfg.Network = n.Node(cfg.Addr)
		cfg.Join = []string{meshtest.Addr(0).String()}
		meshtest.Run(t, cfg)
		time.Sleep(2 * time.Minute) // a claim must last
		meshtest.Eventually(t, "the mesh tells of one id at two addresses", func() bool {
			st := nodes[0].Stats()
			return st.IDConflicts > 0 && strings.Contains(strings.Join(st.ConflictAddrs, " "), cfg.Addr.String())
		})
		if x, _ := nodes[0].View().Get(meshtest.ID(2)); x.State != mesh.StateAlive || x.Addr != meshtest.Addr(2) {
			t.Errorf("the box that was there first: %+v", x)
		}
	})
}

func TestMetrics(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 2)
		r := prometheus.NewPedanticRegistry()
		for _, c := range nodes[0].Collectors() {
			if err := r.Register(c); err != nil {
				t.Fatal(err)
			}
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "hostmesh_mesh_members" {
				for _, m := range f.GetMetric() {
					if m.GetLabel()[0].GetValue() == "alive" && m.GetGauge().GetValue() != 2 {
						t.Errorf("members: %v", f)
					}
				}
				return
			}
		}
		t.Error("no hostmesh_mesh_members")
	})
}
