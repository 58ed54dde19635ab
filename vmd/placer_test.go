package vmd_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
)

// TestPlacerDies: a placer that dies right before or right after any effect leaves a machine that the next one places, once.
func TestPlacerDies(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			died := false
			t.Run(fmt.Sprintf("after=%t/%d", after, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "box1", "box2")
					trip := newTripwire(k, after)
					p := w.place("box1", trip)
					w.write("hosts/web1", "VM: {Image: debian, CPUs: 1, Memory: 1GiB, Disk: 2GiB, Subnet: prod}\n") // it has no UUID
					uuid := func() string { return w.store.View().Data(hostdb.Hosts, "web1").Text("VM", "UUID") }
					up := func() bool { return uuid() != "" && w.phase(uuid()) == report.Running }
					w.until("it runs, or the placer died", 5*time.Minute, func() bool { return trip.isDead() || up() })
					if died = trip.isDead(); died {
						p.stop()
						w.place("box2", newTripwire(0, false))
					}
					w.until("it runs", 5*time.Minute, up)
					time.Sleep(30 * time.Second)
					w.runs(uuid(), "web1")
				})
			})
			if !died || t.Failed() {
				if k < 5 && !t.Failed() {
					t.Errorf("only %d effects", k)
				}
				break
			}
		}
	}
}

// TestTidy: a machine that was deleted before any box took it leaves nothing in the lease log.
func TestTidy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		w.place("elsewhere", newTripwire(0, false))
		w.boxes["box1"].images.fault["debian"] = vmd.ErrBadImage
		w.vm("web1", uuidOf(1), "")
		w.until("it was tried", time.Minute, func() bool { r, _ := w.record(uuidOf(1)); return len(r.Tried) > 0 })
		w.delete("web1")
		w.until("nothing is left", 5*time.Minute, func() bool { _, has := w.record(uuidOf(1)); return !has && len(w.claims()) == 0 })
		w.nothing(uuidOf(1))
	})
}

// TestMany: fifty at once on ten boxes.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var boxes []string
		for n := range 10 {
			boxes = append(boxes, fmt.Sprintf("box%d", n))
		}
		w := newWorld(t, boxes...)
		w.group.slow = 2 * time.Millisecond
		w.until("all boxes report what they have", time.Minute, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, name := range boxes {
				if b := w.reports[name].Box; b == nil || b.Unfit != "" || b.CPUs == 0 {
					return false
				}
			}
			return true
		})
		w.place("elsewhere", newTripwire(0, false))
		looks := func() (n int64) {
			for _, b := range w.boxes {
				n += b.trip.looks.Load()
			}
			return n
		}
		began, asked, looked := time.Now(), w.group.asked.Load(), looks()
		w.update(func(tx *hostdb.Tx) error {
			for n := range 50 {
				doc, _ := hostdb.ParseDocument(fmt.Appendf(nil, "VM: {UUID: %q, Image: debian, CPUs: 1, Memory: 1GiB, Disk: 2GiB, Subnet: prod}\n", uuidOf(n)))
				if err := tx.Put(hostdb.Hosts, fmt.Sprintf("web%d", n), doc); err != nil {
					return err
				}
			}
			return nil
		})
		up := func() bool {
			for n := range 50 {
				if w.phase(uuidOf(n)) != report.Running {
					return false
				}
			}
			return true
		}
		// The lease group answers in 2 ms and a view comes every 250: what takes longer is a pause that nobody needs.
		w.until("all run", 2*time.Second, up)
		asked, looked = w.group.asked.Load()-asked, looks()-looked
		t.Logf("all run after %s of virtual time, %d round trips to the lease group, %d looks at domains", time.Since(began), asked, looked)
		// A machine: its record, its name, the offer, the record as the box reads and takes it. A box: what blocks there are, one for
		// it, whether that clashes, and what it asks for besides.
		if limit := int64(50*5 + 10*6); asked > limit {
			t.Errorf("%d round trips to the lease group, %d at most", asked, limit)
		}
		// One for each step, and a few for what it hears of; none for what the other machines do.
		if limit := int64(50 * 14); looked > limit {
			t.Errorf("%d looks at domains, %d at most", looked, limit)
		}
		w.sane()
	})
}

// sane checks what holds at every moment: no box beyond its capacity, no machine on two boxes, no address twice.
func (w *world) sane() {
	w.t.Helper()
	if why := w.insane(); why != "" {
		w.t.Fatalf("%s\n%s", why, w.describe())
	}
}

func (w *world) insane() string {
	on := map[string]string{}
	ips := map[string]string{}
	for name, b := range w.boxes {
		cpus, usedCPUs, memory, usedMemory := b.Room()
		if cpus > 0 && (usedCPUs > cpus || usedMemory > memory) { // 0: it has not seen HostDB yet
			return fmt.Sprintf("%s is over capacity: %d of %d CPUs, %d of %d bytes", name, usedCPUs, cpus, usedMemory, memory)
		}
		for uuid, e := range b.Entries() {
			if e.Stage != vmd.Reserving {
				if other := on[uuid]; other != "" {
					return fmt.Sprintf("%s is held by %s and %s", uuid, other, name)
				}
				on[uuid] = name
			}
			if !e.IP.IsValid() {
				continue
			}
			if other := ips[e.IP.String()]; other != "" {
				return fmt.Sprintf("%s and %s have %s", other, uuid, e.IP)
			}
			ips[e.IP.String()] = uuid
		}
	}
	return ""
}

// fullAtHome reports whether a machine is back whose disk is on a box that has no room for it, and says so.
func (w *world) fullAtHome(uuid string) bool {
	r, has := w.record(uuid)
	if !has || r.State != vmd.Taken {
		return false
	}
	e, held := w.boxes[r.Box].Entries()[uuid]
	cpus, usedCPUs, memory, usedMemory := w.boxes[r.Box].Room()
	w.mu.Lock()
	said := w.reports[r.Box].VMs[uuid]
	w.mu.Unlock()
	return held && e.Stage == vmd.Kept && e.Ran && (usedCPUs+e.CPUs > cpus || usedMemory+e.Memory > memory) &&
		said.Phase == report.Failed && strings.Contains(said.Reason, "no room")
}

// TestTwoPlacers: whatever two placers with old views do at once, while boxes die, are cut off and come back, and machines come
// and go on a mesh that is nearly full: no box is over its capacity, no machine on two boxes, no address given twice; and when
// all is well again everything that fits runs.
func TestTwoPlacers(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		type step struct{ kind, x int }
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{rapid.IntRange(0, 7).Draw(r, "kind"), rapid.IntRange(0, 11).Draw(r, "x")}
		}), 4, 14).Draw(r, "steps")
		first := rapid.IntRange(4, 11).Draw(r, "machines")
		failed := ""
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "box1", "box2", "box3")
			w.group.slow = 3 * time.Millisecond
			check := func() {
				if why := w.insane(); why != "" && failed == "" {
					failed = why + "\n" + w.describe()
				}
			}
			a := w.place("p1", newTripwire(0, false))
			wanted := map[int]bool{}
			enter := func(n int) {
				if !wanted[n] {
					w.write(fmt.Sprintf("hosts/web%d", n), fmt.Sprintf("VM: {UUID: %q, Image: debian, CPUs: 2, Memory: 2GiB, Disk: 2GiB, Subnet: prod}\n", uuidOf(n)))
					wanted[n] = true
				}
			}
			for n := range first {
				enter(n)
			}
			for _, s := range steps {
				box := fmt.Sprintf("box%d", s.x%3+1)
				switch s.kind {
				case 0: // another placer, and the first does not hear of it at once
					old := a
					a = w.place(fmt.Sprintf("p%d", s.x), newTripwire(0, false))
					time.Sleep(time.Duration(s.x) * 50 * time.Millisecond)
					old.stop()
				case 1:
					enter(s.x)
				case 2:
					if wanted[s.x] {
						w.delete(fmt.Sprintf("web%d", s.x))
						delete(wanted, s.x)
					}
				case 3: // dies at its n-th effect
					w.restart(box, newTripwire(s.x+1, s.x%2 == 0))
				case 4:
					w.restart(box, newTripwire(0, false))
				case 5:
					w.group.mu.Lock()
					w.group.down[box] = s.x%2 == 0
					w.group.mu.Unlock()
				case 6:
					w.mu.Lock()
					w.frozen[a.node] = w.store.View()
					w.mu.Unlock()
				case 7:
					time.Sleep(time.Duration(s.x) * time.Second)
				}
				check()
				time.Sleep(100 * time.Millisecond)
				check()
			}
			w.mu.Lock()
			clear(w.frozen)
			w.mu.Unlock()
			w.group.mu.Lock()
			clear(w.group.down)
			w.group.mu.Unlock()
			for _, name := range []string{"box1", "box2", "box3"} {
				w.restart(name, newTripwire(0, false))
			}
			up := func() (n int) {
				for x := range wanted {
					if w.phase(uuidOf(x)) == report.Running || w.fullAtHome(uuidOf(x)) {
						n++
					}
				}
				return n
			}
			for range 60 {
				if up() == len(wanted) || failed != "" {
					break
				}
				time.Sleep(30 * time.Second)
				check()
			}
			// Three boxes of 8 CPUs carry twelve of 2; those that were destroyed keep their disks only. One that was wanted again after
			// that is bound to the box that has its disk, whose room others may have by now.
			if failed == "" && up() != len(wanted) {
				failed = fmt.Sprintf("%d of %d run: %v\n%s", up(), len(wanted), slices.Sorted(maps.Keys(wanted)), w.describe())
			}
		})
		if failed != "" {
			r.Fatal(failed)
		}
	})
}
