package vmd_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// runs checks that a machine runs on exactly one box, and that every trace of it says the same.
func (w *world) runs(uuid, name string) string {
	w.t.Helper()
	on := w.carriers(uuid)
	if len(on) != 1 {
		w.t.Fatalf("%s is defined on %v, want one box\n%s", name, on, w.describe())
	}
	b := w.boxes[on[0]]
	doc := w.store.View().Data(hostdb.Hosts, name)
	d, _ := b.hv.Defined(uuid)
	e := b.Entries()[uuid]
	r, _ := w.record(uuid)
	want := []string{uuid + "-seed.iso", uuid + ".qcow2"}
	has := slices.DeleteFunc(w.volumes(on[0]), func(v string) bool { return v[:36] != uuid })
	m := slices.DeleteFunc(w.domains(on[0]), func(m plan.Machine) bool { return m.UUID != uuid })
	switch {
	case len(m) != 1 || m[0].State != plan.Running:
		w.t.Fatalf("domains %+v", m)
	case doc.Text("VM", "Box") != on[0] || doc.Text("Network", "IP") != d.IP.String() || doc.Text("Network", "MAC") != d.MAC.String():
		w.t.Fatalf("HostDB says %s, the domain is %+v", doc.YAML(), d)
	case e.Stage != vmd.Held || !e.Ran || e.IP != d.IP || e.Name != name:
		w.t.Fatalf("entry %+v of domain %+v", e, d)
	case r.State != vmd.Taken || r.Node != on[0]:
		w.t.Fatalf("record %+v, on %s", r, on[0])
	case w.claims()[name] != uuid:
		w.t.Fatalf("names %v", w.claims())
	case !slices.Equal(has, want):
		w.t.Fatalf("volumes %v, want %v", has, want)
	}
	for other := range w.boxes {
		if other == on[0] {
			continue
		}
		left := slices.DeleteFunc(w.volumes(other), func(v string) bool { return v[:36] != uuid })
		if _, has := w.boxes[other].Entries()[uuid]; has || len(left) > 0 {
			w.t.Fatalf("%s has left-overs: %v\n%s", other, left, w.describe())
		}
	}
	return on[0]
}

// nothing checks that no trace of a machine is left.
func (w *world) nothing(uuid string) {
	w.t.Helper()
	_, record := w.record(uuid)
	for name, b := range w.boxes {
		left := slices.DeleteFunc(w.volumes(name), func(v string) bool { return v[:36] != uuid })
		if _, entry := b.Entries()[uuid]; entry || len(left) > 0 || len(w.carriers(uuid)) > 0 || record {
			w.t.Fatalf("left on %s: entry %t, volumes %v, domains %v, record %t\n%s", name, entry, left, w.carriers(uuid), record, w.describe())
		}
	}
	for name, owner := range w.claims() {
		if owner == uuid {
			w.t.Fatalf("name %s is left", name)
		}
	}
}

func TestOneMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		w.place("box1", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		on := w.runs(id, "web1")
		ip := w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP")
		doc := w.store.View().Data(hostdb.Hosts, "web1")

		w.delete("web1")
		w.until("it is deleted", 5*time.Minute, func() bool { return w.phase(id) == report.Deleted })
		if v := w.volumes(on); len(v) != 2 || len(w.carriers(id)) != 0 {
			t.Fatalf("volumes %v, domains %v", v, w.carriers(id))
		}
		if vm := w.reported(id); time.Until(time.UnixMilli(vm.Until)) < w.keep-5*time.Minute {
			t.Errorf("kept until %v", time.UnixMilli(vm.Until))
		}
		// Undeleted, with the same disk and address.
		w.update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, "web1", doc) })
		w.until("it runs again", time.Minute, func() bool { return w.phase(id) == report.Running })
		if is := w.runs(id, "web1"); is != on || w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP") != ip {
			t.Errorf("on %s with %s, was on %s with %s", is, w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP"), on, ip)
		}
		if n := w.boxes[on].hv.Count()["CreateVolume"]; n > 2 {
			t.Errorf("%d CreateVolume: the disk was made anew", n)
		}
		w.delete("web1")
		w.until("its time passes", w.keep+time.Hour, func() bool { _, there := w.boxes[on].Entries()[id]; return !there })
		w.nothing(id)
	})
}

// TestKilledWhileCreating: an agent that dies right before or right after any effect of a creation leaves nothing that the next
// one does not finish.
func TestKilledWhileCreating(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			died, what := false, ""
			t.Run(fmt.Sprintf("after=%t/%d", after, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "box1")
					trip := newTripwire(k, after)
					w.restart("box1", trip)
					w.place("elsewhere", newTripwire(0, false))
					id := uuidOf(1)
					w.vm("web1", id, "")
					w.until("it runs, or the agent died", 5*time.Minute, func() bool { return trip.isDead() || w.phase(id) == report.Running })
					if died = trip.isDead(); !died {
						return
					}
					what = trip.names[len(trip.names)-1]
					time.Sleep(3 * time.Second)
					w.restart("box1", newTripwire(0, false))
					w.until("it runs after "+what, 30*time.Minute, func() bool {
						return w.phase(id) == report.Running && w.store.View().Data(hostdb.Hosts, "web1").Text("Network", "IP") != ""
					})
					time.Sleep(2 * time.Minute)
					w.runs(id, "web1")
				})
			})
			t.Logf("after=%t %d: %s", after, k, what)
			if !died || t.Failed() {
				if k < 12 && !t.Failed() {
					t.Errorf("only %d effects", k)
				}
				break
			}
		}
	}
}

// TestKilledWhileDestroying is the same of destroy and purge.
func TestKilledWhileDestroying(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			died, what := false, ""
			t.Run(fmt.Sprintf("after=%t/%d", after, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "box1", "box2")
					w.place("elsewhere", newTripwire(0, false))
					id := uuidOf(1)
					w.vm("web1", id, "")
					w.until("it runs", 5*time.Minute, func() bool { return w.phase(id) == report.Running })
					on := w.runs(id, "web1")
					trip := newTripwire(k, after)
					w.restart(on, trip)
					time.Sleep(time.Second)
					w.delete("web1")
					gone := func() bool { _, there := w.boxes[on].Entries()[id]; return !there }
					w.until("it is gone, or the agent died", w.keep+time.Hour, func() bool { return trip.isDead() || gone() })
					if died = trip.isDead(); !died {
						w.nothing(id)
						return
					}
					what = trip.names[len(trip.names)-1]
					time.Sleep(3 * time.Second)
					w.restart(on, newTripwire(0, false))
					w.until("it is gone after "+what, 2*w.keep+time.Hour, gone)
					w.nothing(id)
					var d vmd.Destroys
					if err := vmd.Decode(w.group.records[vmd.DestroysKey].Value, &d); err != nil || len(d.Recent) != 1 {
						t.Errorf("tickets %+v, %v: want one", d, err)
					}
				})
			})
			t.Logf("after=%t %d: %s", after, k, what)
			if !died || t.Failed() {
				if k < 8 && !t.Failed() {
					t.Errorf("only %d effects", k)
				}
				break
			}
		}
	}
}
