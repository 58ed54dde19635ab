package vmd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// TestGivenUpSoon: the next box is tried when the one before has given a machine up, and not some time later.
func TestGivenUpSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2", "box3")
		w.place("box1", newTripwire(0, false))
		for _, b := range w.boxes {
			b.images.fault["debian"] = vmd.ErrBadImage
		}
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("three boxes tried it", 30*time.Second, func() bool {
			r, _ := w.record(id)
			return len(r.Tried) == 3
		})
	})
}

// TestWhatFails: a machine that cannot be made on a box leaves nothing there, its record has the reason, and another box is
// tried, three at most.
func TestWhatFails(t *testing.T) {
	onAll := func(w *world, f func(b *boxRun)) {
		for _, b := range w.boxes {
			f(b)
		}
	}
	inject := func(method string, err error) func(w *world) {
		return func(w *world) {
			onAll(w, func(b *boxRun) { b.hv.Inject(&vmdtest.Fault{Method: method, Times: -1, Err: err}) })
		}
	}
	image := func(err error) func(w *world) {
		return func(w *world) { onAll(w, func(b *boxRun) { b.images.fault["debian"] = err }) }
	}
	for _, c := range []struct {
		name  string
		spoil func(w *world)
		extra string // of the entry
		want  string // in the reason
	}{
		{"image missing", image(vmd.ErrNoImage), "", "image: the image cannot be had"},
		{"wrong checksum", image(fmt.Errorf("%w: SHA-256 differs", vmd.ErrBadImage)), "", "SHA-256 differs"},
		{"disk full", inject("CreateVolume", syscall.ENOSPC), "", "no space left"},
		{"seed cannot be written", inject("WriteVolume", syscall.EIO), "", "seed: "},
		{"define refused", inject("Define", fmt.Errorf("%w: unsupported machine", vmd.ErrRefused)), "", "unsupported machine"},
		{"does not start", inject("Start", errors.New("cannot allocate memory")), "", "start: "},
		{"foreign domain of that name", func(w *world) {
			onAll(w, func(b *boxRun) {
				b.hv.AddForeign(plan.Domain{Name: "web1", UUID: uuidOf(77), CPUs: 1, Memory: 1 << 20}, plan.Off)
			})
		}, "", "which hostmesh did not make"},
		{"foreign domain of that UUID", func(w *world) {
			onAll(w, func(b *boxRun) {
				b.hv.AddForeign(plan.Domain{Name: "other", UUID: uuidOf(1), CPUs: 1, Memory: 1 << 20}, plan.Off)
			})
		}, "", "somebody else made has its UUID"},
		{"MAC of another host", func(w *world) { w.write("hosts/old", "Network: {MAC: \"52:00:00:00:00:01\"}\n") },
			"Network: {MAC: \"52:00:00:00:00:01\"}\n", "it is that of hosts/old"},
		{"address of another host", func(w *world) { w.write("hosts/old", "Network: {IP: 10.1.0.9}\n") }, "Network: {IP: 10.1.0.9}\n", "it is that of hosts/old"},
		{"address in the pool", func(*world) {}, "Network: {IP: 10.1.129.99}\n", "in a block that this box does not own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1", "box2", "box3", "box4")
				w.place("box1", newTripwire(0, false))
				c.spoil(w)
				id := uuidOf(1)
				w.vm("web1", id, c.extra)
				w.until("three boxes tried it", 10*time.Minute, func() bool {
					r, _ := w.record(id)
					return len(r.Tried) == 3 && (w.phase(id) == report.Failed || w.phase(id) == report.Foreign)
				})
				time.Sleep(time.Minute)
				r, _ := w.record(id)
				if r.State != vmd.Refused || len(r.Tried) != 3 {
					t.Fatalf("record %+v", r)
				}
				seen := map[string]bool{}
				for _, a := range r.Tried {
					if seen[a.Node] || !strings.Contains(a.Reason, c.want) {
						t.Errorf("%s: reason %q, want %q", a.Box, a.Reason, c.want)
					}
					seen[a.Node] = true
				}
				if vm := w.reported(id); !strings.Contains(vm.Reason, c.want) || !strings.Contains(vm.Reason, "hostmesh vm retry") || vm.Step != "place" {
					if vm.Phase == report.Foreign {
						return // whoever made that is told of it first
					}
					t.Errorf("reported %+v", vm)
				}
				for name, b := range w.boxes {
					if len(b.Entries()) > 0 || len(w.volumes(name)) > 0 {
						t.Fatalf("left on %s: %v %v", name, b.Entries(), w.volumes(name))
					}
				}
				doc := w.store.View().Data(hostdb.Hosts, "web1")
				if doc.Text("VM", "Box") != "" || c.extra == "" && doc.Text("Network", "IP") != "" {
					t.Errorf("HostDB has %s", doc.YAML())
				}
				// A person mends it, and asks again.
				if c.extra != "" {
					w.update(func(tx *hostdb.Tx) error { return tx.DeletePath(hostdb.Hosts, "web1", []string{"Network"}) })
				} else {
					for _, b := range w.boxes {
						b.hv.Clear()
						delete(b.images.fault, "debian")
					}
					if strings.Contains(c.name, "foreign") {
						return // it goes on being there
					}
					w.call("box1", vmd.CallRetry, vmd.Retry{UUID: id}, &vmd.Done{})
					time.Sleep(11 * time.Minute) // the boxes are left out for a while
				}
				w.until("it runs", 15*time.Minute, func() bool { return w.phase(id) == report.Running })
				w.runs(id, "web1")
			})
		})
	}
}

// call calls a handler of a box.
func (w *world) call(node, name string, req, answer any) {
	w.t.Helper()
	if err := w.tryCall(node, name, req, answer); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryCall(node, name string, req, answer any) error {
	raw, err := wire{w.wires, "person", newTripwire(0, false)}.Call(context.Background(), node, name, vmd.Encode(req))
	if err != nil {
		return err
	}
	return vmd.Decode(raw, answer)
}

// TestAnotherBoxIsTried: one bad box costs a machine some seconds.
func TestAnotherBoxIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.boxes["box1"].hv.Inject(&vmdtest.Fault{Method: "Start", Times: -1, Err: errors.New("no memory")})
		w.place("elsewhere", newTripwire(0, false))
		for n := range 4 {
			w.vm(fmt.Sprintf("web%d", n), uuidOf(n), "")
		}
		for n := range 4 {
			w.until("it runs", 5*time.Minute, func() bool { return w.phase(uuidOf(n)) == report.Running })
			if on := w.runs(uuidOf(n), fmt.Sprintf("web%d", n)); on != "box2" {
				t.Errorf("runs on %s", on)
			}
		}
	})
}

// TestKilledWhileRollingBack: the same as for creations, of giving a machine up.
func TestKilledWhileRollingBack(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 14; ; k++ { // what comes before is in TestKilledWhileCreating
			died, what := false, ""
			t.Run(fmt.Sprintf("after=%t/%d", after, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "box1")
					bad := w.boxes["box1"].hv
					bad.Inject(&vmdtest.Fault{Method: "Start", Times: -1, Err: errors.New("no memory")})
					trip := newTripwire(k, after)
					w.restart("box1", trip)
					w.place("elsewhere", newTripwire(0, false))
					id := uuidOf(1)
					w.vm("web1", id, "")
					w.until("it is offered", time.Minute, func() bool { r, ok := w.record(id); return ok && r.State == vmd.Taken || trip.isDead() })
					w.open("box2", vmdtest.New(), newTripwire(0, false))
					w.write("hosts/box2", hostsYAML)
					w.until("another box runs it, or the agent died", 10*time.Minute, func() bool { return trip.isDead() || w.phase(id) == report.Running })
					if died = trip.isDead(); died {
						what = trip.names[len(trip.names)-1]
						time.Sleep(3 * time.Second)
						if w.restart("box1", newTripwire(0, false)).Entries()[id].Ran { // whether it ran is not known any more: it stays, and a person mends the box
							bad.Clear()
						}
					}
					w.until("it runs after "+what, 30*time.Minute, func() bool { return w.phase(id) == report.Running && len(w.carriers(id)) == 1 })
					time.Sleep(time.Minute)
					w.runs(id, "web1")
				})
			})
			t.Logf("after=%t %d: %s", after, k, what)
			if !died || t.Failed() {
				break
			}
		}
	}
}

// TestHypervisorAway: machines stay as they are, and nothing is given up.
func TestHypervisorAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.place("elsewhere", newTripwire(0, false))
		w.vm("web1", uuidOf(1), "")
		w.until("it runs", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running })
		on := w.runs(uuidOf(1), "web1")
		b := w.boxes[on]
		b.hv.Vanish()
		w.until("it says so", time.Minute, func() bool { return strings.Contains(w.reported(uuidOf(1)).Reason, "hypervisor is away") })
		if w.phase(uuidOf(1)) != report.Running {
			t.Errorf("phase %s, want the last known", w.phase(uuidOf(1)))
		}
		// In the middle of a creation.
		other := map[string]string{"box1": "box2", "box2": "box1"}[on]
		w.boxes[other].hv.Inject(&vmdtest.Fault{Method: "Define", Do: w.boxes[other].hv.Vanish})
		w.vm("web2", uuidOf(2), "")
		w.until("the other is away, too", time.Minute, func() bool { return strings.Contains(w.reported(uuidOf(2)).Reason, "cannot be reached") })
		w.vm("web3", uuidOf(3), "")
		time.Sleep(20 * time.Minute)
		if n := len(w.carriers(uuidOf(1))); n != 1 {
			t.Errorf("on %d boxes", n)
		}
		if r, _ := w.record(uuidOf(3)); r.State == vmd.Taken {
			t.Errorf("a box without a hypervisor took a machine: %+v", r)
		}
		b.hv.Return()
		w.boxes[other].hv.Return()
		for n := 1; n <= 3; n++ {
			w.until("all run", 10*time.Minute, func() bool { return w.phase(uuidOf(n)) == report.Running })
			w.runs(uuidOf(n), fmt.Sprintf("web%d", n))
		}
	})
}

// TestSubnetFull: the machine waits or fails with the reason, and runs when an address has rested.
func TestSubnetFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.write("tags/prod", "Subnet: {CIDR: 10.1.0.0/24, Gateway: 10.1.0.1, Bridge: br0, Datacenter: dc1, Pool: 10.1.0.64/31}\n")
		w.place("elsewhere", newTripwire(0, false))
		for n := range 3 {
			w.vm(fmt.Sprintf("web%d", n), uuidOf(n), "")
		}
		count := func() (up int, reason string) {
			for n := range 3 {
				if vm := w.reported(uuidOf(n)); vm.Phase == report.Running {
					up++
				} else {
					reason = vm.Reason
				}
			}
			return up, reason
		}
		w.until("two run", 5*time.Minute, func() bool { up, reason := count(); return up == 2 && strings.Contains(reason, "full") })
	})
}

// TestManyDestroys: of seven five go, two wait for somebody; without a quorum none goes.
func TestManyDestroys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		for n := range 7 {
			w.vm(fmt.Sprintf("web%d", n), uuidOf(n), "")
		}
		count := func(p report.Phase) (n int) {
			for i := range 7 {
				if w.phase(uuidOf(i)) == p {
					n++
				}
			}
			return n
		}
		w.until("all run", 5*time.Minute, func() bool { return count(report.Running) == 7 })
		w.group.mu.Lock()
		w.group.down["box1"] = true
		w.group.mu.Unlock()
		w.update(func(tx *hostdb.Tx) error {
			for n := range 7 {
				if err := tx.Delete(hostdb.Hosts, fmt.Sprintf("web%d", n)); err != nil {
					return err
				}
			}
			return nil
		})
		time.Sleep(10 * time.Minute)
		for n := range 7 {
			if m, err := w.boxes["box1"].hv.Get(context.Background(), uuidOf(n)); err != nil || m.State != plan.Running {
				t.Fatalf("without a quorum %d is %+v, %v", n, m, err)
			}
		}
		w.group.mu.Lock()
		w.group.down["box1"] = false
		w.group.mu.Unlock()
		w.until("five are gone and two wait", 9*time.Minute, func() bool { return count(report.Waiting) == 2 && len(w.domains("box1")) == 2 })
		time.Sleep(20 * time.Minute)
		if count(report.Waiting) != 2 || len(w.domains("box1")) != 2 {
			t.Fatalf("%d wait, %d are there\n%s", count(report.Waiting), len(w.domains("box1")), w.describe())
		}
		var waits []string
		for n := range 7 {
			if vm := w.reported(uuidOf(n)); vm.Phase == report.Waiting {
				waits = append(waits, uuidOf(n))
				if !strings.Contains(vm.Reason, "hostmesh approve "+vm.Name) {
					t.Errorf("reason %q", vm.Reason)
				}
			}
		}
		records := leases{w.group, "box1", newTripwire(0, false)}
		if err := vmd.Approve(t.Context(), records, waits[:1], "alice", time.Now()); err != nil {
			t.Fatal(err)
		}
		w.until("the approved one goes", 2*time.Minute, func() bool { return len(w.domains("box1")) == 1 })
		w.until("the last goes when the hour is over", time.Hour, func() bool { return len(w.domains("box1")) == 0 })
	})
}

// TestCutOff: a box that is cut off keeps its machines and makes none that it could not take; nobody makes them elsewhere.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		p := w.place("elsewhere", newTripwire(0, false))
		w.vm("web1", uuidOf(1), "")
		w.until("it runs", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running })
		on := w.runs(uuidOf(1), "web1")
		cut := func(is bool) {
			w.group.mu.Lock()
			w.group.down[on] = is
			w.group.mu.Unlock()
			w.wires.mu.Lock()
			w.wires.cut[on] = is
			w.wires.mu.Unlock()
			w.mu.Lock()
			if delete(w.frozen, on); is {
				w.frozen[on] = w.store.View()
			}
			w.mu.Unlock()
		}
		cut(true)
		w.vm("web2", uuidOf(2), "")
		w.until("the other is placed elsewhere", 5*time.Minute, func() bool { return w.phase(uuidOf(2)) == report.Running })
		if is := w.runs(uuidOf(2), "web2"); is == on {
			t.Errorf("on %s, which is cut off", is)
		}
		w.boxes[on].hv.PowerOff(uuidOf(1)) // it is started again without asking anybody
		time.Sleep(10 * time.Minute)
		if is := w.runs(uuidOf(1), "web1"); is != on {
			t.Errorf("moved to %s", is)
		}
		// An offer that reaches it while it cannot take the record.
		err := w.tryCall(on, vmd.CallReserve, vmd.Offer{UUID: uuidOf(9), Name: "web9", Group: "g", Fence: 1, CPUs: 1, Memory: 1 << 30, Disk: 1 << 30, Image: "debian",
			Expires: time.Now().Add(5 * time.Second).UnixMilli()}, &vmd.Reserved{})
		if err == nil {
			t.Error("an offer was taken without the record")
		}
		cut(false)
		p.stop()
		w.place("elsewhere", newTripwire(0, false))
		w.until("the reservation is dropped", 5*time.Minute, func() bool { _, has := w.boxes[on].Entries()[uuidOf(9)]; return !has })
		time.Sleep(time.Minute)
		w.runs(uuidOf(1), "web1")
		w.runs(uuidOf(2), "web2")
		w.nothing(uuidOf(9))
	})
}

// TestCrashLoop: a guest that ends at once is started again with growing pauses, then rarely, and the report says so.
func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		hv := w.boxes["box1"].hv
		for n := range 5 {
			w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
			time.Sleep(time.Second)
			hv.Crash(id)
			time.Sleep(time.Duration(n+1) * 100 * time.Millisecond)
		}
		w.until("it fails", time.Minute, func() bool { return w.phase(id) == report.Failed })
		if r := w.reported(id).Reason; !strings.Contains(r, "5 times") || !strings.Contains(r, "console") {
			t.Errorf("reason %q", r)
		}
		starts := hv.Starts(id)
		time.Sleep(4 * time.Minute)
		if hv.Starts(id) != starts {
			t.Errorf("started %d times within its rest", hv.Starts(id)-starts)
		}
		w.until("it is tried again", 3*time.Minute, func() bool { return w.phase(id) == report.Running })
	})
}

// TestPowerAndChanges: power, more memory, a reboot of the box, a new name.
func TestPowerAndChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "Protected: true\n")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		hv := w.boxes["box1"].hv

		err := w.tryCall("box1", vmd.CallReboot, vmd.Reboot{UUID: id}, &vmd.Done{})
		var coded mesh.CodedError
		if !errors.As(err, &coded) || coded.ErrorCode() != vmd.CodeProtected {
			t.Errorf("reboot of a protected machine: %v", err)
		}
		w.call("box1", vmd.CallReboot, vmd.Reboot{UUID: id, Override: "kernel"}, &vmd.Done{})
		if err := w.tryCall("box1", vmd.CallPurge, vmd.Purge{UUID: id, Override: "x"}, &vmd.Done{}); !errors.As(err, &coded) || coded.ErrorCode() != vmd.CodeState {
			t.Errorf("purge of a machine that runs: %v", err)
		}

		hv.Deaf(id, true)
		w.set("web1", "off", "VM", "Power")
		w.until("it is off", 3*time.Minute, func() bool { return w.phase(id) == report.Stopped })
		w.set("web1", "3GiB", "VM", "Memory")
		w.set("web1", "on", "VM", "Power")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		if m, _ := hv.Get(t.Context(), id); m.Memory != 3<<30 {
			t.Errorf("memory %d", m.Memory)
		}
		w.set("web1", "4", "VM", "CPUs")
		w.until("it says that it needs a restart", 2*time.Minute, func() bool { return w.reported(id).Restart && w.phase(id) == report.Running })
		hv.Reset() // the box lost its power
		w.until("it runs with what it is to have", 2*time.Minute, func() bool {
			m, _ := hv.Get(t.Context(), id)
			return m.State == plan.Running && m.CPUs == 4 && w.phase(id) == report.Running && !w.reported(id).Restart
		})
		w.set("web1", "900GiB", "VM", "Disk")
		w.until("there is no room", 2*time.Minute, func() bool { return w.reported(id).Restart || strings.Contains(w.reported(id).Reason, "no room") })
		if w.phase(id) != report.Running {
			t.Errorf("phase %s", w.phase(id))
		}
		w.set("web1", "false", "Protected")
		w.set("web1", "2GiB", "VM", "Disk")

		w.update(func(tx *hostdb.Tx) error { return tx.Rename(hostdb.Hosts, "web1", "shop1") })
		w.until("the new name is claimed", time.Minute, func() bool { return w.claims()["shop1"] == id })
		starts := hv.Starts(id)
		w.runs(id, "shop1")
		w.vm("web1", uuidOf(2), "") // the old name is free, and the domain still has it
		w.until("another has the old name", time.Minute, func() bool { return w.phase(uuidOf(2)) == report.Running })
		w.runs(uuidOf(2), "web1")
		if hv.Starts(id) != starts {
			t.Error("a rename started it anew")
		}
	})
}

// TestDestroyedAndMadeAnew: a name is free as soon as its machine is destroyed, and an undelete of the first waits for it.
func TestDestroyedAndMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		w.vm("web1", uuidOf(1), "")
		w.until("it runs", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running })
		first := w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP")
		w.vm("web1", uuidOf(2), "") // another UUID is another machine
		w.until("the first is deleted, the second runs", 5*time.Minute, func() bool {
			return w.phase(uuidOf(1)) == report.Deleted && w.phase(uuidOf(2)) == report.Running
		})
		w.runs(uuidOf(2), "web1")
		if ip := w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP"); ip == first {
			t.Errorf("the second has the address of the first, whose disk is kept")
		}
		w.call("box1", vmd.CallPurge, vmd.Purge{UUID: uuidOf(1)}, &vmd.Done{})
		w.until("the first is purged", time.Minute, func() bool { _, has := w.boxes["box1"].Entries()[uuidOf(1)]; return !has })
		w.nothing(uuidOf(1))
		w.runs(uuidOf(2), "web1")
		w.vm("web3", uuidOf(3), "")
		w.until("a third runs", time.Minute, func() bool { return w.phase(uuidOf(3)) == report.Running })
		if ip := w.store.View().Data(hostdb.Hosts, "web3").Text("Network", "IP"); ip == first {
			t.Error("an address was given again without a rest")
		}
	})
}

// TestFewBoxes: where no other box is left, a machine that could not be made has failed, with the reason and when it is tried again. It is
// tried ever more slowly, and runs by itself when what was wrong is mended; at once after a change of the box's entry, or of the image.
func TestFewBoxes(t *testing.T) {
	for _, c := range []struct {
		name  string
		mend  func(w *world)
		limit time.Duration
	}{
		{"by itself", func(*world) {}, 45 * time.Minute},
		{"the box's entry", func(w *world) { w.set("box1", "64GiB", "Box", "Memory") }, 2 * time.Minute},
		{"the image", func(w *world) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.image = "another"
		}, 2 * time.Minute},
		{"a person", func(w *world) { w.call("box1", vmd.CallRetry, vmd.Retry{UUID: uuidOf(1)}, &vmd.Done{}) }, 2 * time.Minute},
		{"another box", func(w *world) {
			w.write("hosts/box2", hostsYAML)
			w.open("box2", vmdtest.New(), newTripwire(0, false))
		}, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "box1")
				w.place("box1", newTripwire(0, false))
				w.boxes["box1"].images.fault["debian"] = fmt.Errorf("%w: SHA-256 differs", vmd.ErrBadImage)
				id := uuidOf(1)
				w.vm("web1", id, "")
				said := func() report.VM { return w.reported(id) }
				w.until("it failed", time.Minute, func() bool { return said().Phase == report.Failed && said().Step == "place" })
				for _, want := range []string{"box1 could not make it, and no other can have it", "It is tried again at 20", "hostmesh vm retry web1", "SHA-256 differs"} {
					if !strings.Contains(said().Reason, want) {
						t.Errorf("%q is not said: %s", want, said().Reason)
					}
				}
				if c.name == "by itself" {
					w.until("it is tried again, and again", 3*time.Hour, func() bool { r, _ := w.record(id); return len(r.Tried) == 5 })
					r, _ := w.record(id)
					for i, least := range []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute, 20 * time.Minute} {
						if gap := time.Duration(r.Tried[i+1].At-r.Tried[i].At) * time.Millisecond; gap < least || gap > least+3*time.Minute {
							t.Errorf("attempt %d came %s after the one before, want %s", i+2, gap, least)
						}
					}
					w.until("it failed again", time.Minute, func() bool { return said().Phase == report.Failed && said().Step == "place" })
				}
				if c.name != "another box" {
					delete(w.boxes["box1"].images.fault, "debian")
				}
				time.Sleep(time.Minute)
				c.mend(w)
				w.until("it runs", c.limit, func() bool { return w.phase(id) == report.Running })
				w.runs(id, "web1")
			})
		})
	}
}
