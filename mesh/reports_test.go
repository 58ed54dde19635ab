package mesh_test

import (
	"testing"

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
