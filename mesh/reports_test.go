package mesh_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
	"hostmesh/mesh/report"
)

// machine is what a report says of one.
func machine(name string, phase report.Phase) report.VM {
	return report.VM{Name: name, Phase: phase, Since: 1}
}

func hasPhase(m *mesh.Mesh, node, uuid string, want report.Phase) bool {
	r, ok := m.View().Report(node)
	return ok && r.VMs[uuid].Phase == want
}

// TestReportsReachAll: what a node reports is read at all others, changes come after, and a watcher is told.
func TestReportsReachAll(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 3)
		self := nodes[0].View().Self().ID
		if _, ok := nodes[0].View().Report(self); ok {
			t.Fatal("a node that said nothing has a report")
		}
		changed, stop := nodes[2].Watch()
		defer stop()
		members, stopMembers := nodes[2].WatchMembers()
		defer stopMembers()
		<-changed
		<-members
		nodes[0].Report(func(r *report.Report) { r.VMs["u1"] = machine("web1", report.Starting) })
		<-changed
		for _, m := range nodes {
			meshtest.Eventually(t, "the report is there", func() bool { return hasPhase(m, self, "u1", report.Starting) })
		}
		nodes[0].Report(func(r *report.Report) { r.VMs["u1"] = machine("web1", report.Running) })
		for _, m := range nodes {
			meshtest.Eventually(t, "the change is there", func() bool { return hasPhase(m, self, "u1", report.Running) })
		}
		select {
		case <-members:
			t.Fatal("who watches members was told of a report")
		default:
		}
		was, _ := nodes[0].View().Report(self)
		nodes[0].Report(func(r *report.Report) { r.Node, r.Boot, r.N = "x", 1, 1 })
		if now, _ := nodes[0].View().Report(self); now.N != was.N || now.Boot != was.Boot || now.Node != self {
			t.Fatalf("%v after an edit that changes nothing, %v before", now, was)
		}
	})
}

// socketMesh runs n nodes on real sockets of loopback addresses.
func socketMesh(t *testing.T, n int, edit func(i int, cfg *mesh.Config)) []*mesh.Mesh {
	t.Helper()
	var nodes []*mesh.Mesh
	var join []string
	for i := range n {
		cfg := mesh.DefaultConfig()
		cfg.NodeID, cfg.Name, cfg.MeshID, cfg.Key = meshtest.ID(i), fmt.Sprint("n", i), meshtest.MeshID, meshtest.TestKey(1)
		cfg.Addr = netip.AddrFrom4([4]byte{127, 0, 7, byte(i + 1)})
		cfg.GossipPort, cfg.StreamPort = 0, 0
		cfg.Join, cfg.LeaveTimeout, cfg.Logger = slices.Clone(join), -1, slog.New(slog.DiscardHandler)
		if edit != nil {
			edit(i, &cfg)
		}
		m := meshtest.Run(t, cfg)
		join = append(join, m.View().Self().Gossip().String())
		nodes = append(nodes, m)
	}
	meshtest.WaitAlive(t, nodes...)
	return nodes
}

// TestReportsOverSockets: three nodes on real sockets; every change of each is at the others, in the end and at little cost.
func TestReportsOverSockets(t *testing.T) {
	nodes := socketMesh(t, 3, nil)
	for i, m := range nodes {
		m.Report(func(r *report.Report) {
			r.Box = &report.Box{CPUs: 16, Memory: 64 << 30, Bridges: []string{"br0"}, Images: map[string]string{"debian-12": "00"}}
			for k := range 20 {
				r.VMs[fmt.Sprintf("0acfbcca-161e-427c-8423-ef788bb4%02d%02d", i, k)] = machine("web1.dc1.example.com", report.Running)
			}
		})
	}
	all := func(node int, ok func(r report.Report) bool) func() bool {
		return func() bool {
			return !slices.ContainsFunc(nodes, func(m *mesh.Mesh) bool {
				r, known := m.View().Report(meshtest.ID(node))
				return !known || !ok(r)
			})
		}
	}
	for i := range nodes {
		meshtest.Eventually(t, "all reports are everywhere", all(i, func(r report.Report) bool { return len(r.VMs) == 20 }))
	}
	const changes = 50
	total := func() (calls, bytes uint64) {
		for _, m := range nodes {
			st := m.Stats().Reports
			calls, bytes = calls+st.CallsOut, bytes+st.BytesOut
		}
		return calls, bytes
	}
	var took []time.Duration
	calls, bytes := total()
	for k := range changes {
		i := k % len(nodes)
		began := time.Now()
		watch := nodes[(i+1)%3]
		changed, stop := watch.Watch()
		other, stopOther := nodes[(i+2)%3].Watch()
		nodes[i].Report(func(r *report.Report) {
			r.VMs[fmt.Sprintf("0acfbcca-161e-427c-8423-ef788bb4%02d%02d", i, 3)] = report.VM{Name: "web1.dc1.example.com", Phase: report.Failed, Since: int64(k)}
		})
		there := all(i, func(r report.Report) bool {
			return r.VMs[fmt.Sprintf("0acfbcca-161e-427c-8423-ef788bb4%02d%02d", i, 3)].Since == int64(k)
		})
		for limit := time.After(time.Minute); !there(); {
			select {
			case <-changed:
			case <-other:
			case <-limit:
				t.Fatal("a change does not arrive")
			}
		}
		took = append(took, time.Since(began))
		stop()
		stopOther()
		time.Sleep(50 * time.Millisecond) // apart, so that each has messages of its own
	}
	calls2, bytes2 := total()
	slices.Sort(took)
	t.Logf("a change of one machine of 20: %.1f messages, %.0f bytes in all; at all three after %v (median), %v (most)",
		float64(calls2-calls)/changes, float64(bytes2-bytes)/changes, took[changes/2], took[changes-1])
	// Four for each change: to both others, and between them. Whoever compares meanwhile may find the others on their way.
	if most := uint64(changes * 6); calls2-calls > most {
		t.Errorf("%d changes took %d messages, at most %d are expected", changes, calls2-calls, most)
	}
	if most := uint64(changes * 6 * 300); bytes2-bytes > most {
		t.Errorf("%d changes took %d bytes, at most %d are expected", changes, bytes2-bytes, most)
	}
	for _, m := range nodes {
		if st := m.Stats().Reports; st.Nodes != 3 || st.Refused != 0 {
			t.Errorf("stands at %+v", st)
		}
	}
}

// TestReportBootGrows: a run is numbered above the one before, from the directory where the clock fell, and from what the
// others say where the directory is lost, too; and a node that reports no more ends its former report.
func TestReportBootGrows(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		dir := t.TempDir()
		self := meshtest.ID(2)
		start := func(dir string, clock mesh.Clock) *mesh.Mesh {
			cfg := n.Config(2)
			cfg.Join, cfg.Dir, cfg.Clock = []string{meshtest.Addr(0).String()}, dir, clock
			return meshtest.Run(t, cfg)
		}
		others := meshtest.StartOn(t, n, 2)
		seen := func(boot uint64, phase report.Phase) {
			t.Helper()
			for _, m := range others {
				meshtest.Eventually(t, "the later run's report is there", func() bool {
					r, ok := m.View().Report(self)
					return ok && r.Boot > boot && r.VMs["u"].Phase == phase
				})
			}
		}
		boot := func() uint64 { r, _ := others[0].View().Report(self); return r.Boot }

		m := start(dir, nil)
		m.Report(func(r *report.Report) { r.VMs["u"] = machine("a", report.Running) })
		seen(0, report.Running)
		first := boot()
		m.Close()

		m = start(dir, fallen{})
		m.Report(func(r *report.Report) { r.VMs["u"] = machine("a", report.Stopped) })
		seen(first, report.Stopped)
		if second := boot(); second != first+1 {
			t.Errorf("run %d after %d with a clock that fell", second, first)
		}
		m.Close()

		second := boot()
		m = start("", fallen{})
		m.Report(func(r *report.Report) { r.VMs["u"] = machine("a", report.Failed) })
		seen(second, report.Failed)
		m.Close()

		third := boot()
		m = start("", fallen{})
		seen(third, "")
		m.Close()
	})
}

// fallen is a clock that begins a year too early.
type fallen struct{}

func (fallen) Now() time.Time                         { return time.Now().AddDate(-1, 0, 0) }
func (fallen) After(d time.Duration) <-chan time.Time { return time.After(d) }
