package vmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/vmdtest"
)

// TestWrongAddressOfARunningMachine: somebody spoils Network/IP of a machine that runs. Nobody can mend that but people; the box
// must not write (or try to) without end.
func TestWrongAddressOfARunningMachine(t *testing.T) {
	for _, c := range []struct{ value, path string }{{"10.1.300.4", "IP"}, {"aa-bb", "MAC"}} {
		t.Run(c.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1")
				w.place("elsewhere", newTripwire(0, false))
				id := uuidOf(1)
				w.vm("web1", id, "")
				w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
				trip := newTripwire(300, false) // lest the loop goes on for ever
				w.restart("box1", trip)
				time.Sleep(time.Minute)
				w.set("web1", c.value, "Network", c.path)
				time.Sleep(time.Minute)
				if trip.isDead() {
					t.Fatalf("300 effects within a minute, the last %q", trip.names[len(trip.names)-3:])
				}
			})
		})
	}
}

// TestRestartWithoutLibvirt: an agent is restarted while libvirt is away. Guests go on; nobody can say that they are
// stopped, and DNS leaves out those that are.
func TestRestartWithoutLibvirt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.boxes["box1"].hv.Vanish()
		w.restart("box1", newTripwire(0, false))
		time.Sleep(time.Minute)
		if p := w.phase(id); p != report.Unknown {
			t.Errorf("reported as %s: %s", p, w.reported(id).Reason)
		}
		w.boxes["box1"].hv.Return()
		w.until("it is seen again", 2*time.Minute, func() bool { return w.phase(id) == report.Running })
	})
}

// TestConsolesThatWereTurnedOver: virtlogd turns the log over, and keeps three of them beside it.
func TestConsolesThatWereTurnedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		dir := filepath.Join(w.dir, "box1-consoles")
		for _, end := range []string{"", ".0", ".1", ".2"} {
			if err := os.WriteFile(filepath.Join(dir, id+".log"+end), []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.delete("web1")
		w.until("it is purged", w.keep+time.Hour, func() bool { _, there := w.boxes["box1"].Entries()[id]; return !there })
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v %v", left, err)
		}
	})
}

// TestSlowLeaseHoldsUpNobody: the lease group does not answer, and some machines wait for it. One that ended by itself
// needs no lease.
func TestSlowLeaseHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.write("hosts/box1", "Box: {CPUs: 64, Memory: 64GiB, Disk: 1000GiB}\n")
		w.place("elsewhere", newTripwire(0, false))
		const n = 17
		for i := range n + 1 {
			w.vm("web"+string(rune('a'+i)), uuidOf(i+1), "")
		}
		w.until("they run", 5*time.Minute, func() bool {
			for i := range n + 1 {
				if w.phase(uuidOf(i+1)) != report.Running {
					return false
				}
			}
			return true
		})
		w.placer.stop()
		w.mu.Lock()
		w.placer = nil
		w.mu.Unlock()
		w.group.slowDown(59 * time.Second) // as a call that waits for a leader until its deadline
		for i := range n {
			w.delete("web" + string(rune('a'+i)))
		}
		time.Sleep(10 * time.Second)
		id := uuidOf(n + 1)
		w.boxes["box1"].hv.Crash(id)
		time.Sleep(20 * time.Second)
		if len(w.runningOn(id)) == 0 {
			t.Errorf("a machine that ended by itself was not started within 20 s, because others wait for the lease group")
		}
		w.group.slowDown(0)
	})
}

// TestNameOfOneThatJustGoes: a machine is deleted and made anew under its name. It waits a moment for the name; that is no
// failure, at which vm create --wait gives up.
func TestNameOfOneThatJustGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		w.vm("web1", uuidOf(1), "")
		w.until("it runs", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running })
		w.boxes["box1"].hv.Deaf(uuidOf(1), true) // it takes its minute
		w.delete("web1")
		w.vm("web1", uuidOf(2), "")
		for range 600 {
			time.Sleep(250 * time.Millisecond)
			switch w.phase(uuidOf(2)) {
			case report.Running:
				return
			case report.Failed:
				t.Fatalf("failed, for a reason that passes by itself: %s", w.reported(uuidOf(2)).Reason)
			}
		}
		t.Fatal(w.describe())
	})
}

// TestWaitingCostsTheLeaseGroupNothing: machines that fit nowhere wait. Each must not cost a write of the lease group (a raft entry,
// fsynced by each voter) every second for as long as it waits.
func TestWaitingCostsTheLeaseGroupNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		trip := newTripwire(0, false)
		w.place("elsewhere", trip)
		for i := range 5 {
			w.write(fmt.Sprintf("hosts/web%d", i), fmt.Sprintf("VM: {UUID: %q, Image: debian, CPUs: 1, Memory: 900GiB, Disk: 2GiB, Subnet: prod}\n", uuidOf(i+1)))
		}
		time.Sleep(10 * time.Minute)
		trip.mu.Lock()
		defer trip.mu.Unlock()
		claims := 0
		for _, n := range trip.names {
			if strings.HasPrefix(n, "claim ") {
				claims++
			}
		}
		if claims > 5*30 {
			t.Errorf("5 machines that wait for a box asked for their names %d times within 10 minutes", claims)
		}
	})
}

// TestReinstalledBox: a box was installed anew under its name, with another node id; its disks, libvirt's definitions
// and the guests survived. Either the machine is taken up, or what is said names a way out.
func TestReinstalledBox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.boxes["box1"].stop()
		if err := os.RemoveAll(filepath.Join(w.dir, "box1")); err != nil {
			t.Fatal(err)
		}
		r, _ := w.record(id)
		r.Node = "the-former-id" // as the record stands: this run has another id than the box that took it
		w.group.mu.Lock()
		raw := w.group.records[vmd.RecordKey(id)]
		raw.Value = vmd.Encode(r)
		w.group.records[vmd.RecordKey(id)] = raw
		w.group.mu.Unlock()
		w.open("box1", w.boxes["box1"].hv, newTripwire(0, false))
		time.Sleep(time.Hour)
		vm := w.reported(id)
		if r, _ := w.record(id); vm.Phase != report.Running || r.Node != "box1" || r.State != vmd.Taken {
			t.Errorf("not taken up: %s, %s; record %+v", vm.Phase, vm.Reason, r)
		}
	})
}

// TestPausedForAFullDisk: a guest whose disk cannot be written is paused by the emulator (ErrorPolicy stop), and paused again
// as soon as it goes on. That must slow down, and be said, as a crash loop is.
func TestPausedForAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		hv := w.boxes["box1"].hv
		starts := hv.Count()["Start"]
		for range 6000 { // a minute
			if len(w.runningOn(id)) > 0 {
				hv.Pause(id)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := hv.Count()["Start"] - starts; n > 60 {
			t.Errorf("it was made to go on %d times within a minute; reported as %+v", n, w.reported(id))
		}
		if vm := w.reported(id); vm.Phase != report.Failed || !strings.Contains(vm.Reason, "disk full") {
			t.Errorf("reported as %+v", vm)
		}
		w.until("it goes on when there is room", 10*time.Minute, func() bool { return w.phase(id) == report.Running })
	})
}

// TestNoFailureWhileAnotherBoxIsLeft: a box cannot make a machine, and another can. "failed" is for what no box can make: hostmesh vm create
// --wait ends with exit code 1 at it (cmd/hostmesh/vmwait.go, phaseReached).
func TestNoFailureWhileAnotherBoxIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.wires.cut["box2"] = true
		w.boxes["box1"].hv.Inject(&vmdtest.Fault{Method: "Define", Times: -1, Err: vmd.ErrRefused})
		w.boxes["box1"].hv.Inject(&vmdtest.Fault{Method: "DeleteVolume", Times: 3, Err: os.ErrPermission})
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("box1 has it", time.Minute, func() bool { _, has := w.boxes["box1"].Entries()[id]; return has })
		w.wires.mu.Lock()
		w.wires.cut["box2"] = false
		w.wires.mu.Unlock()
		for range 6000 {
			time.Sleep(50 * time.Millisecond)
			switch vm := w.reported(id); vm.Phase {
			case report.Failed:
				t.Fatalf("reported as failed, which ends vm create --wait, and box2 will make it: %s", vm.Reason)
			case report.Running:
				return
			}
		}
		t.Fatal(w.describe())
	})
}

// TestVolumesOfALostLedger: the ledger of a box is lost (its file system, not that of the volumes) while a deleted machine is
// kept, and what runs is adopted by its record. The volumes of the deleted one must go some day, or somebody must be able to make
// them go: image.Unused tells which they are, and nobody calls it.
func TestVolumesOfALostLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		w.delete("web1")
		w.until("it is deleted", 5*time.Minute, func() bool { return w.phase(id) == report.Deleted })
		w.boxes["box1"].stop()
		if err := os.RemoveAll(filepath.Join(w.dir, "box1")); err != nil {
			t.Fatal(err)
		}
		w.open("box1", w.boxes["box1"].hv, newTripwire(0, false))
		time.Sleep(w.keep + 2*time.Hour)
		if err := w.tryCall("box1", vmd.CallPurge, vmd.Purge{UUID: id}, &vmd.Done{}); err != nil {
			t.Logf("purge: %v", err)
		}
		time.Sleep(time.Minute)
		_, record := w.record(id)
		if v := w.volumes("box1"); len(v) > 0 || record {
			t.Errorf("left for ever: volumes %v, record %t, names %v; reported %q", v, record, w.claims(), w.reported(id).Reason)
		}
	})
}

// TestLostLedgerAndDisk: what the report tells people to do must lead somewhere.
func TestLostLedgerAndDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		on := w.runs(id, "web1")
		w.boxes[on].stop()
		if err := os.RemoveAll(filepath.Join(w.dir, on)); err != nil { // the disk of the box was replaced
			t.Fatal(err)
		}
		hv := vmdtest.New()
		w.open(on, hv, newTripwire(0, false))
		w.until("it says so", 5*time.Minute, func() bool { return strings.Contains(w.reported(id).Reason, "its ledger was lost") })
		if why := w.reported(id).Reason; !strings.Contains(why, "hostmesh db delete hosts/web1/VM/Box") {
			t.Errorf("reported: %s", why)
		}
		if err := w.tryCall(on, vmd.CallPurge, vmd.Purge{UUID: id}, &vmd.Done{}); err == nil {
			t.Error("purged, though HostDB wants it")
		}
		w.update(func(tx *hostdb.Tx) error { return tx.DeletePath(hostdb.Hosts, "web1", []string{"VM", "Box"}) })
		time.Sleep(30 * time.Minute)
		if w.phase(id) != report.Running {
			r, _ := w.record(id)
			t.Fatalf("it is not made anew: %+v, record %s of %s", w.reported(id), r.State, r.Box)
		}
	})
}

// TestVolumesThatNothingRefersTo: a box finds volumes that are named as a machine's, and nothing has that machine. They are told
// of, and go when disks that are kept would. Those of other names, and of machines that HostDB wants or the ledger keeps, stay.
func TestVolumesThatNothingRefersTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.keep = time.Hour
		w.restart("box1", newTripwire(0, false))
		w.place("elsewhere", newTripwire(0, false))
		kept, lost := uuidOf(1), uuidOf(2)
		w.vm("web1", kept, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(kept) == report.Running })
		hv := w.boxes["box1"].hv
		for _, name := range []string{lost + ".qcow2", lost + "-seed.iso", "mine.qcow2"} {
			if _, err := hv.WriteVolume(w.ctx, name, strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}
		w.until("they are told of", 2*time.Minute, func() bool { return w.phase(lost) == report.Deleted })
		if vm := w.reported(lost); vm.Step != vmd.StepLost || !strings.Contains(vm.Reason, "hostmesh vm purge "+lost) || vm.Until == 0 {
			t.Errorf("reported: %+v", vm)
		}
		time.Sleep(50 * time.Minute)
		if got := w.volumes("box1"); len(got) != 5 {
			t.Errorf("before its time: %v", got)
		}
		time.Sleep(20 * time.Minute)
		got := w.volumes("box1")
		slices.Sort(got)
		if want := []string{kept + "-seed.iso", kept + ".qcow2", "mine.qcow2"}; !slices.Equal(got, want) {
			t.Errorf("left: %v, want %v", got, want)
		}
		if p := w.phase(lost); p != "" {
			t.Errorf("reported as %s", p)
		}
	})
}

// TestNothingIsLeftInTheEntry: a box that gives a machine up takes what it wrote out of HostDB, and leaves no empty mapping; what a
// person wrote stays.
func TestNothingIsLeftInTheEntry(t *testing.T) {
	for _, c := range []struct{ extra, want string }{{"", ""}, {"Network: {FQDN: web1.example.com}\n", "web1.example.com"}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "box1")
			w.boxes["box1"].hv.Inject(&vmdtest.Fault{Method: "Define", Times: -1, Err: vmd.ErrRefused})
			w.place("elsewhere", newTripwire(0, false))
			id := uuidOf(1)
			w.vm("web1", id, c.extra)
			w.until("box1 gave it up", time.Minute, func() bool { r, ok := w.record(id); return ok && r.State == vmd.Refused })
			doc := w.store.View().Data(hostdb.Hosts, "web1")
			if doc.At("Network").Exists() != (c.extra != "") || doc.Text("Network", "FQDN") != c.want || doc.Text("VM", "Box") != "" {
				t.Errorf("left: %s", doc.YAML())
			}
		})
	}
}

// TestStraysThatAreNotTakenUp: a domain that a record gives to another node is taken up when the record names this box, that node is
// gone, and HostDB has it here; before that, what is said names the way.
func TestStraysThatAreNotTakenUp(t *testing.T) {
	for _, c := range []struct {
		name, node, box, says string
		change                func(w *world)
	}{
		{"taken by another box", "the-former-id", "box9", "box9 took it", nil},
		{"the former node is a member", "box2", "box1", "hostmesh node remove box2", nil},
		{"deleted meanwhile", "the-former-id", "box1", "hostmesh vm undelete web1", func(w *world) { w.delete("web1") }},
		{"HostDB has it elsewhere", "the-former-id", "box1", "set VM/Box of hosts/web1 to box1", func(w *world) { w.set("web1", "box2", "VM", "Box") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1", "box2")
				w.wires.cutOff("box2", true)
				w.place("elsewhere", newTripwire(0, false))
				id := uuidOf(1)
				w.vm("web1", id, "")
				w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
				w.boxes["box1"].stop()
				if err := os.RemoveAll(filepath.Join(w.dir, "box1")); err != nil {
					t.Fatal(err)
				}
				r, _ := w.record(id)
				r.Node, r.Box = c.node, c.box
				w.group.mu.Lock()
				raw := w.group.records[vmd.RecordKey(id)]
				raw.Value = vmd.Encode(r)
				w.group.records[vmd.RecordKey(id)] = raw
				w.group.mu.Unlock()
				if c.change != nil {
					c.change(w)
				}
				w.open("box1", w.boxes["box1"].hv, newTripwire(0, false))
				w.until("it says what to do", 5*time.Minute, func() bool { return strings.Contains(w.reported(id).Reason, c.says) })
				time.Sleep(5 * time.Minute)
				if r, _ := w.record(id); r.Node != c.node || len(w.boxes["box1"].Entries()) > 0 {
					t.Errorf("taken up: %+v, %+v", r, w.boxes["box1"].Entries())
				}
				if on := w.runningOn(id); len(on) != 1 {
					t.Errorf("it runs on %v", on)
				}
			})
		})
	}
}
