package vmd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// entryFile writes an entry as a ledger of an earlier day has it: what a data directory holds that was restored from a backup.
func (w *world) entryFile(box string, e vmd.Entry) {
	w.t.Helper()
	e.Format = 1
	body, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	text := append([]byte("hostmesh-vm-ledger 1 "+hex.EncodeToString(sum[:])+"\n"), body...)
	if err := os.WriteFile(filepath.Join(w.dir, box, e.UUID+".vm"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// runningOn are the boxes on which a machine runs.
func (w *world) runningOn(uuid string) (list []string) {
	for name := range w.boxes {
		for _, m := range w.domains(name) {
			if m.UUID == uuid && m.State == plan.Running {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}

// TestReviewRestoredLedgerMakesASecondCopy: a box whose data directory was restored from a backup has a Held entry of a machine
// that it gave up since, and that another box took. The record says so, and must be believed.
func TestReviewRestoredLedgerMakesASecondCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.wires.cut["box1"] = true // so that box2 takes it
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

// TestReviewRecoveredGroupMakesASecondCopy: the lease group is recovered from a voter that lacks the newest records; the placer's
// replica has not heard of VM.Box yet. The box that took the machine reports it as running, and the placer must not give it away.
func TestReviewRecoveredGroupMakesASecondCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		first := w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.mu.Lock()
		w.frozen["elsewhere"] = w.store.View() // it will not hear of VM.Box for a while
		w.mu.Unlock()
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		on := w.runs(id, "web1")
		first.stop()
		w.group.mu.Lock()
		delete(w.group.records, vmd.RecordKey(id)) // lost with the majority; names and grants are claimed again, this is not
		w.group.mu.Unlock()
		w.wires.mu.Lock()
		w.wires.cut[on] = true // it is on the other side of the cut
		w.wires.mu.Unlock()
		w.place("elsewhere", newTripwire(0, false))
		time.Sleep(2 * time.Minute)
		if list := w.runningOn(id); len(list) != 1 {
			t.Errorf("one machine runs on %v", list)
		}
		// The cut heals.
		w.wires.mu.Lock()
		w.wires.cut[on] = false
		w.wires.mu.Unlock()
		w.mu.Lock()
		delete(w.frozen, "elsewhere")
		w.mu.Unlock()
		time.Sleep(time.Minute)
		before := w.store.View().Version().String()
		time.Sleep(10 * time.Second)
		if after := w.store.View().Version().String(); after != before {
			t.Errorf("the two boxes write VM.Box in turns for ever: version %s -> %s in 10 s", before, after)
		}
	})
}

// TestReviewTypoShrinksAMachine: what HostDB says of a machine that was made cannot be understood. It "stays as it is".
func TestReviewTypoShrinksAMachine(t *testing.T) {
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

// TestReviewTypoStartsAMachine: Power cannot be understood, and the machine is off.
func TestReviewTypoStartsAMachine(t *testing.T) {
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

// TestReviewNameOfADeadBox: the box of a machine is gone for good, its entry is deleted, and another machine of the name is made.
func TestReviewNameOfADeadBox(t *testing.T) {
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

// TestReviewComesBackToATakenAddress: a machine with an address entered by hand is deleted; another host gets the address, which
// HostDB allows; the first one's entry comes back (db undo, a restore, an old git branch).
func TestReviewComesBackToATakenAddress(t *testing.T) {
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
	})
}

// TestReviewRetiredForLongAndBack: a machine is retired until its disks are gone, and set to active again. Somebody must say what
// became of it.
func TestReviewRetiredForLongAndBack(t *testing.T) {
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
		if vm := w.reported(id); vm.Phase == "" {
			t.Errorf("HostDB wants it on box1, which is alive and has nothing of it, and no report speaks of it")
		}
	})
}

// TestReviewRestoredLedgerPurgesARunningMachine: a data directory of last week is put back. Then web1 was deleted and kept; since,
// it was undeleted and runs. The old HostDB in that directory counts as whole at once (hasCopy: it had data), so until the first
// exchange with a peer web1 is gone, and the time of its disks has passed. A machine that runs is not one whose disks are kept.
func TestReviewRestoredLedgerPurgesARunningMachine(t *testing.T) {
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

// TestReviewTakenOverByAnotherEntry: hosts/evil has the UUID of web1, by a slip or by ill will. When web1 is deleted, its machine,
// its disk and its console become evil's.
func TestReviewTakenOverByAnotherEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.vm("evil", id, "")
		time.Sleep(time.Minute)
		w.delete("web1")
		time.Sleep(5 * time.Minute)
		if e := w.boxes["box1"].Entries()[id]; e.Name == "evil" && len(w.runningOn(id)) > 0 {
			t.Errorf("the machine that was deleted as web1 runs on as evil, with its disk")
		}
	})
}
