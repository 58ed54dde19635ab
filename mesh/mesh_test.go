package mesh_test

import (
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		defer meshtest.CloseAll(nodes...)
		time.Sleep(10 * time.Second)
		n.Isolate(meshtest.Addr(2))
		start := time.Now()
		meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateFailed)
		t.Log(time.Since(start))
	})
}
