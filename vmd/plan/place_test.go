package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// TestExplain shows each verdict and each part of a score as people read it.
func TestExplain(t *testing.T) {
	cases := []struct {
		name  string
		boxes int
		docs  map[string]string
		edit  func(*hall)
		in    func(*Input)
	}{
		{"balance", 3, nil, func(h *hall) {
			h.box(1).UsedMemory, h.box(1).UsedCPUs = 32*gib, 4
			h.box(3).Images = nil
		}, nil},
		{"verdicts", 12, map[string]string{
			"hosts/" + boxName(1):  "{Box: {}, Status: maintenance, Physical Location: {Datacenter: dc1}}",
			"hosts/" + boxName(2):  "{Box: {}, Status: retired, Physical Location: {Datacenter: dc1}}",
			"hosts/" + boxName(8):  "{Box: {}, Physical Location: {Datacenter: dc2}}",
			"hosts/nobody":         "Box: {}",
			"hosts/" + boxName(12): "Status: active",
		}, func(h *hall) {
			h.members[2].State = mesh.StateFailed
			h.reports[3].Node = "" // none
			h.reports[4].Box = nil
			h.box(6).Unfit = "libvirtd cannot be reached"
			h.box(7).Bridges = []string{"virbr0"}
			h.box(9).UsedMemory = 62 * gib
			h.box(10).UsedCPUs = 15
			h.box(11).UsedDisk = 990 * gib
		}, nil},
		{"few", 3, map[string]string{
			"hosts/" + boxName(3): "{Box: {}, Status: maintenance}",
			"hosts/web1":          strings.Replace(vm(1, ""), "4GiB", "8GiB", 1),
		}, func(h *hall) {
			h.box(1).UsedMemory, h.box(2).UsedMemory = 61*gib, 62*gib
		}, nil},
		{"out", 3, nil, nil, func(in *Input) {
			in.Drained = map[string]string{nodeID(1): "new disks"}
			in.LeftOut = map[string]map[string]string{uuid(1): {boxName(2): "it refused: no space left on device", nodeID(3): ""}}
		}},
		{"flight", 2, nil, nil, func(in *Input) {
			in.InFlight = []Offer{{UUID: uuid(7), Name: "web7", Box: nodeID(1), CPUs: 15, Memory: gib, Disk: gib}}
		}},
		{"block", 3, map[string]string{"hosts/web1": vm(1, "") + "\nNetwork: {IP: 10.1.128.5}"}, nil, func(in *Input) {
			in.Blocks = map[string]map[string]string{"prod": {"10.1.128.32/27": nodeID(1), "10.1.128.0/27": nodeID(3)}}
		}},
		{"block-free", 2, map[string]string{"hosts/web1": vm(1, "") + "\nNetwork: {IP: 10.1.128.5}"}, nil, func(in *Input) {
			in.Blocks = map[string]map[string]string{"prod": {"10.1.128.32/27": nodeID(1)}}
		}},
		{"block-none", 2, map[string]string{"hosts/web1": vm(1, "") + "\nNetwork: {IP: 10.1.0.5}"}, nil, func(in *Input) {
			in.Blocks = map[string]map[string]string{}
		}},
		{"image-unknown", 1, map[string]string{"hosts/web1": strings.Replace(vm(1, ""), "debian-12", "debain", 1)}, nil, nil},
		{"image-orphan", 1, map[string]string{"hosts/web1": strings.Replace(vm(1, ""), "debian-12", "orphan", 1)}, nil, nil},
		{"image-peer", 2, map[string]string{"hosts/web1": strings.Replace(vm(1, ""), "debian-12", "orphan", 1)}, func(h *hall) {
			h.box(2).Images = map[string]string{"orphan": sum2}
			h.box(1).Disk = 20 * gib // room for the disk, not for the image
		}, nil},
		{"tag", 4, map[string]string{
			"tags/web/members": "web1\nweb2\nweb3", "tags/web": "{}",
			"hosts/web2": vm(2, ", Box: "+boxName(1)), "hosts/web3": vm(3, ", Box: "+boxName(3)),
		}, nil, nil},
		{"group", 4, map[string]string{
			"tags/web/members": "web1\nweb2\nweb3", "tags/web": "Group: {Min: 3, Max: 3, Name: web%d, Spread: rack, Template: {Image: debian-12, Subnet: prod}}",
			"hosts/web2": vm(2, ", Box: "+boxName(1)), "hosts/web3": vm(3, ", Box: "+boxName(1)),
		}, func(h *hall) { h.box(3).UsedMemory, h.box(4).UsedMemory = 55*gib, 56*gib }, nil},
		{"rules", 6, map[string]string{
			"tags/web/members": "web1", "tags/web": "Placement: {Spread: none, Apart: {db: box}, Together: {cache: rack}}",
			"tags/db/members": "db1", "tags/db": "{}", "hosts/db1": vm(2, ", Box: "+boxName(3)),
			"tags/cache/members": "cache1", "tags/cache": "{}", "hosts/cache1": vm(3, ", Box: "+boxName(4)),
		}, nil, nil},
		{"strict", 2, map[string]string{
			"tags/web/members": "web1\nweb2", "tags/web": "Placement: {Spread: box, Apart: {db: box}, Strict: on}",
			"tags/db/members": "db1", "tags/db": "{}", "hosts/db1": vm(2, ", Box: "+boxName(1)), "hosts/web2": vm(3, ", Box: "+boxName(2)),
		}, nil, nil},
		{"placed", 2, map[string]string{"hosts/web1": vm(1, ", Box: "+boxName(1))}, func(h *hall) {
			h.box(1).UsedMemory = 64 * gib // its own 4 among them
			h.reports[0].VMs[uuid(1)] = report.VM{Name: "web1", Phase: report.Running, CPUs: 2, Memory: 4 * gib, Disk: 20 * gib}
		}, nil},
		{"paused", 2, nil, nil, func(in *Input) { in.Mesh = in.Mesh.WithMassSuspicion(true) }},
		{"maintenance", 2, map[string]string{"hosts/web1": vm(1, "") + "\nStatus: maintenance"}, nil, nil},
		{"none", 0, nil, nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHall(t, c.boxes)
			defer h.store.Close()
			docs := map[string]string{"hosts/web1": vm(1, "")}
			maps.Copy(docs, c.docs)
			h.store.write(docs)
			if c.edit != nil {
				c.edit(h)
			}
			in := h.input()
			if c.in != nil {
				c.in(&in)
			}
			w := wish(t, in.DB, "web1")
			d := Place(in, w)
			golden(t, "explain-"+c.name+".txt", show(d))
			if e := Place(in, w); show(e) != show(d) {
				t.Errorf("a second look says:\n%s", show(e))
			}
			if e := PlaceAll(in, []Wish{w})[0]; e.Box != d.Box || e.Reason != d.Reason {
				t.Errorf("in a batch it goes to %q (%s), alone to %q (%s)", e.Box, e.Reason, d.Box, d.Reason)
			}
		})
	}
}

func TestPlaceAllSpreadsEvenly(t *testing.T) {
	h := newHall(t, 10)
	defer h.store.Close()
	docs := map[string]string{}
	for i := range 50 {
		docs[fmt.Sprintf("hosts/web%d", i)] = vm(i+1, "")
	}
	h.store.write(docs)
	in := h.input()
	on := map[string]int{}
	for _, d := range PlaceAll(in, NewPlanner(in.DB).Unplaced("dc1")) {
		if d.Box == "" {
			t.Fatalf("%s: %s", d.Name, d.Reason)
		}
		on[d.Box]++
	}
	for box, n := range on {
		if n != 5 {
			t.Errorf("%s got %d of 50, want 5", box, n)
		}
	}
}

// TestReleaseTakesBack says that a Fleet that gave and took back is as before.
func TestReleaseTakesBack(t *testing.T) {
	h := newHall(t, 4)
	defer h.store.Close()
	h.store.write(map[string]string{
		"hosts/web1": vm(1, ""), "hosts/web2": vm(2, ""), "tags/web": "Placement: {Spread: rack}", "tags/web/members": "web1\nweb2",
	})
	in := h.input()
	f := NewFleet(in)
	w1, w2 := wish(t, in.DB, "web1"), wish(t, in.DB, "web2")
	before := show(f.Explain(w2))
	if d := f.Place(w1); d.Box == "" {
		t.Fatal(d.Reason)
	}
	if after := show(f.Explain(w2)); after == before {
		t.Fatal("a machine of the same tag does not count")
	}
	f.Release("web1")
	f.Release("web1")
	if after := show(f.Explain(w2)); after != before {
		t.Errorf("after Release:\n%s\nbefore:\n%s", after, before)
	}
}

// TestNeverOverCapacity gives each machine that a box carries to at least one of those who know: its report, HostDB, the
// offers. Then no choice, of however many, is one that the box would have to refuse.
func TestNeverOverCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "boxes")
		h := newHall(t, n)
		defer h.store.Close()
		ledger := make([]Room, n+1)
		docs := map[string]string{}
		var flight []Offer
		next := 0
		for range rapid.IntRange(0, 20).Draw(t, "there") {
			next++
			at := rapid.IntRange(1, n).Draw(t, "at")
			r := Room{rapid.IntRange(1, 6).Draw(t, "cpus"), rapid.Int64Range(1, 24).Draw(t, "memory") * gib, rapid.Int64Range(11, 300).Draw(t, "disk") * gib}
			if (Room{16, 64 * gib, 1000 * gib}).minus(ledger[at].plus(r)) != (Room{16, 64 * gib, 1000 * gib}).beyond(ledger[at].plus(r)) {
				continue
			}
			ledger[at] = ledger[at].plus(r)
			name := fmt.Sprintf("vm%d", next)
			knows := rapid.IntRange(1, 7).Draw(t, "knows")
			doc := fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: %d, Memory: %dB, Disk: %dB, Subnet: prod", uuid(next), r.CPUs, r.Memory, r.Disk)
			if knows&1 != 0 {
				b := h.box(at)
				b.UsedCPUs, b.UsedMemory, b.UsedDisk = b.UsedCPUs+r.CPUs, b.UsedMemory+r.Memory, b.UsedDisk+r.Disk
				h.reports[at-1].VMs[uuid(next)] = report.VM{Name: name, Phase: report.Reserved, CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk}
			}
			if knows&2 != 0 {
				doc += ", Box: " + boxName(at)
			}
			if knows&4 != 0 {
				flight = append(flight, Offer{UUID: uuid(next), Name: name, Box: nodeID(at), CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk})
			}
			docs["hosts/"+name] = doc + "}"
		}
		var ask []string
		for range rapid.IntRange(1, 20).Draw(t, "wishes") {
			next++
			name := fmt.Sprintf("vm%d", next)
			ask = append(ask, name)
			docs["hosts/"+name] = fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: %d, Memory: %dGiB, Disk: %dGiB, Subnet: prod}", uuid(next),
				rapid.IntRange(1, 6).Draw(t, "cpus"), rapid.IntRange(1, 24).Draw(t, "memory"), rapid.IntRange(11, 300).Draw(t, "disk"))
		}
		h.store.write(docs)
		in := h.input()
		in.InFlight = flight
		f := NewFleet(in)
		for _, name := range ask {
			w := wish(t, in.DB, name)
			d := f.Place(w)
			if rapid.Bool().Draw(t, "release") {
				f.Release(name)
				continue
			}
			if d.Box == "" {
				continue
			}
			i := slices.IndexFunc(h.members, func(m mesh.Member) bool { return m.ID == d.Node }) + 1
			ledger[i] = ledger[i].plus(w.Need())
			if have := (Room{16, 64 * gib, 1000 * gib}); have.minus(ledger[i]) != have.beyond(ledger[i]) {
				t.Fatalf("%s carries %+v of %+v", d.Box, ledger[i], have)
			}
		}
	})
}

// boxSide is the authority over one box: what it promised, by UUID.
type boxSide struct {
	fence  uint64
	ledger map[string]Room
}

func (b *boxSide) sum() (r Room) {
	for _, x := range b.ledger {
		r = r.plus(x)
	}
	return r
}

// TestTwoPlacers lets two placers, of whom one was lost and does not know, give out a nearly full mesh by views of different age.
// Boxes refuse; no box is ever over capacity, no machine is on two, and in the end each machine has its place or a fresh look
// finds none.
func TestTwoPlacers(t *testing.T) {
	total := Room{4, 16 * gib, 200 * gib}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(t, "boxes")
		h := newHall(t, n)
		defer h.store.Close()
		sides := map[string]*boxSide{}
		for i := range n {
			sides[nodeID(i+1)] = &boxSide{ledger: map[string]Room{}}
			*h.box(i + 1) = report.Box{CPUs: total.CPUs, Memory: total.Memory, Disk: total.Disk, Bridges: []string{"br0"}, Images: map[string]string{"debian-12": sum1}}
		}
		count := rapid.IntRange(n, 5*n).Draw(t, "machines")
		docs := map[string]string{}
		for i := 1; i <= count; i++ {
			docs[fmt.Sprintf("hosts/vm%d", i)] = fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: %d, Memory: %dGiB, Disk: 20GiB, Subnet: prod}",
				uuid(i), rapid.IntRange(1, 2).Draw(t, "cpus"), rapid.IntRange(1, 8).Draw(t, "memory"))
		}
		h.store.write(docs)
		record := map[string]string{} // UUID -> node that took it, by compare-and-set
		look := func() Input {
			for i := range h.reports {
				side := sides[h.reports[i].Node]
				used := side.sum()
				b := *h.reports[i].Box
				b.UsedCPUs, b.UsedMemory, b.UsedDisk = used.CPUs, used.Memory, used.Disk
				vms := map[string]report.VM{}
				for u, r := range side.ledger {
					vms[u] = report.VM{Phase: report.Reserved, CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk}
				}
				h.reports[i].Box, h.reports[i].VMs = &b, vms
			}
			return h.input()
		}
		offer := func(fence uint64, w Wish, d Decision) bool {
			side := sides[d.Node]
			if d.Box == "" || fence < side.fence || record[w.UUID] != "" {
				return false
			}
			side.fence = fence
			sum := side.sum().plus(w.Need())
			if total.minus(sum) != total.beyond(sum) {
				return false
			}
			side.ledger[w.UUID] = w.Need()
			record[w.UUID] = d.Node
			return true
		}
		views := []Input{look(), look()}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			who := rapid.IntRange(0, 1).Draw(t, "placer")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				views[who] = look()
			case 1: // a machine goes
				u := uuid(rapid.IntRange(1, count).Draw(t, "gone"))
				if at := record[u]; at != "" {
					delete(sides[at].ledger, u)
					delete(record, u)
				}
			default:
				w := wish(t, views[who].DB, fmt.Sprintf("vm%d", rapid.IntRange(1, count).Draw(t, "machine")))
				offer(uint64(who), w, NewFleet(views[who]).Place(w))
			}
			on := map[string]string{}
			for node, side := range sides {
				if sum := side.sum(); total.minus(sum) != total.beyond(sum) {
					t.Fatalf("%s carries %+v of %+v", node, sum, total)
				}
				for u := range side.ledger {
					if on[u] != "" {
						t.Fatalf("%s is on %s and %s", u, on[u], node)
					}
					on[u] = node
				}
			}
		}
		for i := 1; i <= count; i++ {
			in := look()
			w := wish(t, in.DB, fmt.Sprintf("vm%d", i))
			if record[w.UUID] != "" {
				continue
			}
			if d := NewFleet(in).Place(w); d.Box != "" && !offer(1, w, d) {
				t.Fatalf("%s is refused by %s, by a fresh look: %s", w.Name, d.Box, d.Reason)
			}
		}
	})
}

// TestImageOfANodeThatIsNoBox: a node that keeps an image and carries no machines gives it to boxes.
func TestImageOfANodeThatIsNoBox(t *testing.T) {
	h := newHall(t, 2)
	h.store.write(map[string]string{"hosts/web1": "VM: {UUID: " + uuid(1) + ", Image: orphan, CPUs: 1, Memory: 1GiB, Disk: 2GiB, Subnet: prod}"})
	if d := Place(h.input(), wish(t, h.store.View(), "web1")); d.Box != "" {
		t.Errorf("it is placed on %s without a way to its image", d.Box)
	}
	h.members = append(h.members, mesh.Member{ID: nodeID(9), Name: "keeper.example.com", State: mesh.StateAlive})
	h.reports = append(h.reports, report.Report{Node: nodeID(9), Boot: 1, N: 1, Box: &report.Box{Unfit: "no hypervisor", Images: map[string]string{"orphan": sum2}}})
	if d := Place(h.input(), wish(t, h.store.View(), "web1")); d.Box == "" {
		t.Errorf("it is not placed: %s", d.Reason)
	}
}
