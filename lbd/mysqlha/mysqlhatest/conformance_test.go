package mysqlhatest_test

import (
	"testing"

	"hostmesh/lbd/mysqlha/localtest"
	"hostmesh/lbd/mysqlha/mysqlhatest"
	"hostmesh/lbd/mysqlha/servertest"
)

// singles make servers of one fake world.
type singles struct{ w *mysqlhatest.World }

func (s singles) Add(*testing.T) servertest.Member { return s.w.Add() }

// TestServerContract has the servers of the fake world do what real ones do.
func TestServerContract(t *testing.T) {
	servertest.Run(t, func(t *testing.T) servertest.World {
		w := mysqlhatest.New("shop-db", 0, true)
		w.Lands(true) // as it may in a real one
		t.Cleanup(w.Close)
		return singles{w}
	})
}

// TestLocalContract has the agents of the fake world keep what those of real servers do.
func TestLocalContract(t *testing.T) {
	localtest.Test(t, func(t *testing.T) *localtest.World {
		w := mysqlhatest.New("shop-db", 2, false)
		t.Cleanup(w.Close)
		members := w.Members()
		return &localtest.World{
			Local: w.At("watcher").Local(members[0]), Tag: w.Tag, Host: "a", Donor: "b",
			Die:      func(*testing.T) { w.Kill("a") },
			Source:   members[1].Source(),
			Reaches:  func() bool { return w.Reaches("a", "b") },
			Heard:    func() bool { return w.Reaches("b", "a") },
			Served:   func() bool { return w.Reaches("watcher", "a") },
			Here:     func() bool { return w.Address() == "a" },
			Position: func() string { return w.Position("b") },
		}
	})
}
