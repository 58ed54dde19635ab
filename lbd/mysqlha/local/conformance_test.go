package local

import (
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/localtest"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestConformance has a Host keep the contract on a real server, and TestRemoteConformance as another agent asks for it.
func TestConformance(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	conformance(t, func(b *box) mysqlha.Local { return b.local() })
}

func TestRemoteConformance(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	conformance(t, func(b *box) mysqlha.Local { return NewRemote(b.w, b.name()) })
}

func conformance(t *testing.T, local func(*box) mysqlha.Local) {
	// All parts share the boxes, and each has files and a server as new.
	w := newWorld(t, 2, true)
	w.boxes[1].server.Exec("CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1), (2)")
	donor, b := w.boxes[1], w.boxes[2]
	fresh := b.dir
	localtest.Test(t, func(t *testing.T) *localtest.World {
		b.clean()
		b.dir = t.TempDir()
		mustDo(t, chmodPrivate(b.dir))
		t.Cleanup(func() { b.clean(); b.dir = fresh })
		until(t, "the former server is gone", func() bool {
			_, err := find(*b.server.Accounts.Server, true)
			return err != nil && !b.server.Running()
		})
		mustDo(t, rulesOfBox(b))
		b.server.Restart("--read-only=1", "--skip-slave-start")
		b.open()
		return &localtest.World{
			Local: local(b), Tag: tag, Host: b.name(), Donor: donor.name(),
			Die:      func(t *testing.T) { t.Helper(); b.die() },
			Reopen:   func(*testing.T) mysqlha.Local { b.reopen(); return local(b) },
			Source:   donor.source(),
			Reaches:  func() bool { return b.reaches(donor) },
			Heard:    func() bool { return donor.reaches(b) },
			Served:   b.served,
			Here:     func() bool { return b.seg.Has(b.member().VIP) },
			Position: func() string { return donor.server.Text("SELECT @@gtid_current_pos") },
		}
	})
}
