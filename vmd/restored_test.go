package vmd_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// TestRestoredLedgerMakesNoSecondCopy: a box whose data directory was restored from a backup has a Held entry of a machine
// that it gave up since, and that another box took. The record says so, and must be believed.
func TestRestoredLedgerMakesNoSecondCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.wires.cutOff("box1", true) // so that box2 takes it
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		if on := w.runs(id, "web1"); on != "box2" {
			t.Fatal(on)
		}
		time.Sleep(5 * time.Minute)
		w.boxes["box1"].stop()
		w.entryFile("box1", vmd.Entry{UUID: id, Name: "web1", Stage: vmd.Held, Group: "g", Fence: 1, At: time.Now().Add(-24 * time.Hour).UnixMilli(),
			CPUs: 1, Memory: 1 << 30, Disk: 2 << 30, Subnet: "prod", IP: netip.MustParseAddr("10.1.128.20"), MAC: plan.MAC(vmdtest.Mesh, id).String(), Seen: true})
		w.wires.mu.Lock()
		w.wires.cut["box1"] = false
		w.wires.mu.Unlock()
		w.open("box1", w.boxes["box1"].hv, newTripwire(0, false))
		time.Sleep(5 * time.Minute)
		if on := w.runningOn(id); len(on) != 1 {
			t.Fatalf("one machine runs on %v; HostDB says %s", on, w.store.View().Data(hostdb.Hosts, "web1").Text("VM", "Box"))
		}
	})
}

// TestRestoredLedgerPurgesNoRunningMachine: a data directory of last week is put back. Then web1 was deleted and kept; since,
// it was undeleted and runs. The old HostDB in that directory counts as whole at once (hasCopy: it had data), so until the first
// exchange with a peer web1 is gone, and the time of its disks has passed. A machine that runs is not one whose disks are kept.
func TestRestoredLedgerPurgesNoRunningMachine(t *testing.T) {
	for _, stage := range []vmd.Stage{vmd.Kept, vmd.Purging} {
		t.Run(string(stage), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1")
				w.place("elsewhere", newTripwire(0, false))
				id := uuidOf(1)
				w.vm("web1", id, "")
				w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
				old := w.boxes["box1"]
				e := old.Entries()[id]
				doc := w.store.View().Data(hostdb.Hosts, "web1")
				time.Sleep(5 * time.Minute)
				old.stop()
				e.Stage, e.Until = stage, time.Now().Add(-24*time.Hour).UnixMilli()
				w.entryFile("box1", e)
				w.delete("web1") // as the restored replica has it
				w.open("box1", old.hv, newTripwire(0, false))
				time.Sleep(2 * time.Second)
				w.update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, "web1", doc) }) // and now it has caught up
				time.Sleep(time.Minute)
				if v := w.volumes("box1"); len(v) == 0 {
					t.Errorf("the disk of a running machine was deleted within two seconds of the start; domains %+v", w.domains("box1"))
				}
			})
		})
	}
}
