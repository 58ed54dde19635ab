package vmd_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/vmdtest"
)

// TestTypoLeavesTheSize: what HostDB says of a machine that was made cannot be understood. It "stays as it is".
func TestTypoLeavesTheSize(t *testing.T) {
	for _, c := range []struct{ value, path string }{{"lots", "Memory"}, {"many", "CPUs"}} {
		t.Run(c.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1")
				w.place("elsewhere", newTripwire(0, false))
				id := uuidOf(1)
				w.write("hosts/web1", "VM: {UUID: "+id+", Image: debian, CPUs: 4, Memory: 4GiB, Disk: 2GiB, Subnet: prod}\n")
				w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
				was, _ := w.boxes["box1"].hv.Defined(id)
				w.set("web1", c.value, "VM", c.path)
				time.Sleep(2 * time.Minute)
				is, _ := w.boxes["box1"].hv.Defined(id)
				if is.CPUs != was.CPUs || is.Memory != was.Memory {
					t.Errorf("VM/%s: %s: it is defined with %d CPUs and %d bytes, was %d and %d", c.path, c.value, is.CPUs, is.Memory, was.CPUs, was.Memory)
				}
				if vm := w.reported(id); vm.Reason == "" {
					t.Errorf("the report says nothing of it: %+v", vm)
				}
			})
		})
	}
}

// TestTypoLeavesThePower: Power cannot be understood, and the machine is off.
func TestTypoLeavesThePower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.set("web1", "off", "VM", "Power")
		w.until("it is off", 5*time.Minute, func() bool { return w.phase(id) == report.Stopped })
		w.set("web1", "offf", "VM", "Power")
		time.Sleep(time.Minute)
		if list := w.runningOn(id); len(list) != 0 {
			t.Errorf("VM/Power: offf: it was started")
		}
	})
}

// TestNameOfARemovedBox: the box of a machine is gone for good, its entry is deleted, and another machine of the name is made.
func TestNameOfARemovedBox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.place("elsewhere", newTripwire(0, false))
		old, id := uuidOf(1), uuidOf(2)
		w.vm("web1", old, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(old) == report.Running })
		on := w.runs(old, "web1")
		w.boxes[on].stop()
		w.wires.mu.Lock()
		w.wires.cut[on] = true
		w.wires.mu.Unlock()
		w.delete("web1")
		w.delete(on) // hostmesh node remove, and its host
		w.write(".system/removed", on+": {reason: burnt}\n")
		time.Sleep(time.Hour)
		w.mu.Lock()
		delete(w.reports, on)
		w.mu.Unlock()
		w.vm("web1", id, "")
		time.Sleep(3 * time.Hour) // w.keep is 10 minutes
		if w.phase(id) != report.Running {
			t.Fatalf("after three hours: %+v", w.reported(id))
		}
	})
}

// TestComesBackToATakenAddress: a machine with an address entered by hand is deleted; another host gets the address, which
// HostDB allows; the first one's entry comes back (db undo, a restore, an old git branch).
func TestComesBackToATakenAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.keep = time.Hour
		w.place("elsewhere", newTripwire(0, false))
		a, b := uuidOf(1), uuidOf(2)
		w.vm("web1", a, "Network: {IP: 10.1.0.9}\n")
		w.until("it runs", time.Minute, func() bool { return w.phase(a) == report.Running })
		doc := w.store.View().Data(hostdb.Hosts, "web1")
		w.delete("web1")
		w.until("it is deleted", 5*time.Minute, func() bool { return w.phase(a) == report.Deleted })
		w.vm("web2", b, "Network: {IP: 10.1.0.9}\n")
		w.until("the other runs", time.Minute, func() bool { return w.phase(b) == report.Running })
		w.update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, "web1", doc) })
		time.Sleep(2 * time.Minute)
		if len(w.runningOn(a)) > 0 && len(w.runningOn(b)) > 0 {
			t.Errorf("two machines run with 10.1.0.9: %+v, %+v", w.reported(a), w.reported(b))
		}
		if vm := w.reported(a); vm.Phase != report.Failed || !strings.Contains(vm.Reason, "10.1.0.9") {
			t.Errorf("it says %+v", vm)
		}
		// The other goes, and this one has its address again.
		w.delete("web2")
		w.until("it runs again", 10*time.Minute, func() bool { return w.phase(a) == report.Running })
		w.group.mu.Lock()
		owner := string(w.group.records["name/addr/10.1.0.9"].Value)
		w.group.mu.Unlock()
		if owner != a {
			t.Errorf("the address belongs to %q", owner)
		}
	})
}

// TestRetiredForLongAndBack: a machine is retired until its disks are gone, and set to active again. Somebody must say what
// became of it.
func TestRetiredForLongAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.set("web1", "retired", "Status")
		w.until("it is purged", w.keep+time.Hour, func() bool { _, there := w.boxes["box1"].Entries()[id]; return !there })
		w.set("web1", "active", "Status")
		time.Sleep(time.Hour)
		if vm := w.reported(id); vm.Phase != report.Failed || vm.Name != "web1" || !strings.Contains(vm.Reason, "take VM/Box out of hosts/web1") {
			t.Fatalf("HostDB wants it on box1, which is alive and has nothing of it: %+v", vm)
		}
		// What it says leads somewhere.
		w.update(func(tx *hostdb.Tx) error { return tx.DeletePath(hostdb.Hosts, "web1", []string{"VM", "Box"}) })
		w.until("it is made anew", 5*time.Minute, func() bool { return w.phase(id) == report.Running })
	})
}

// TestNotTakenOverByAnotherEntry: hosts/evil has the UUID of web1, by a slip or by ill will. When web1 is deleted, its machine,
// its disk and its console become evil's.
func TestNotTakenOverByAnotherEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.vm("evil", id, "")
		time.Sleep(time.Minute)
		// Nor does it get in the way of the one that has it.
		w.set("web1", "off", "VM", "Power")
		w.until("it is off", 5*time.Minute, func() bool { return w.phase(id) == report.Stopped })
		w.set("web1", "on", "VM", "Power")
		w.until("it runs again", 5*time.Minute, func() bool { return w.phase(id) == report.Running })
		w.delete("web1")
		time.Sleep(5 * time.Minute)
		if e := w.boxes["box1"].Entries()[id]; e.Name == "evil" && len(w.runningOn(id)) > 0 {
			t.Errorf("the machine that was deleted as web1 runs on as evil, with its disk")
		}
		if e := w.boxes["box1"].Entries()[id]; e.Stage != vmd.Kept || e.Name != "web1" {
			t.Errorf("it was deleted, and is %+v", e)
		}
	})
}

// TestAddressOfTheOtherSide: two machines with one address entered by hand are placed on two boxes, whose HostDB does not say so yet.
// The lease group has it for one of them.
func TestAddressOfTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.place("elsewhere", newTripwire(0, false))
		a, b := uuidOf(1), uuidOf(2)
		w.group.mu.Lock()
		w.group.records["name/addr/10.1.0.9"] = lease.Record{Key: "name/addr/10.1.0.9", Value: []byte(b), Version: 1}
		w.group.mu.Unlock()
		w.write("hosts/elsewhere1", "VM: {UUID: "+b+", Image: debian, Box: box9, Subnet: prod}\n") // so that its claim is not tidied
		w.vm("web1", a, "Network: {IP: 10.1.0.9}\n")
		w.until("it is refused", 5*time.Minute, func() bool { return strings.Contains(w.reported(a).Reason, "the lease log has it for another machine") })
		if on := w.runningOn(a); len(on) > 0 {
			t.Errorf("it runs on %v", on)
		}
	})
}

// TestBridgesOfAConfiguration: a network names a bridge that a box keeps from machines.
func TestBridgesOfAConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bridges = []string{"br-guests"}
		w.write("hosts/box1", "Box: {CPUs: 8, Memory: 32GiB, Disk: 100GiB}\n")
		w.open("box1", vmdtest.New(), newTripwire(0, false))
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it is refused", time.Minute, func() bool { return strings.Contains(w.reported(id).Reason, "bridge") })
		time.Sleep(time.Minute)
		if on := w.runningOn(id); len(on) > 0 {
			t.Errorf("it runs on %v", on)
		}
	})
}
