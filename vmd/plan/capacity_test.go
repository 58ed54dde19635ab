package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hostmesh/mesh"
)

// cellar is four boxes in two racks with machines, one box in maintenance and one silent.
func cellar(t fataler) *hall {
	h := newHall(t, 4)
	h.members[3].State = mesh.StateFailed
	docs := map[string]string{
		"hosts/" + boxName(3): "{Box: {CPUs: 16}, Status: maintenance, Physical Location: {Datacenter: dc2, Rack Number: r9}}",
		"hosts/other":         "Box: {}",
		"tags/web":            "Placement: {Spread: box, Strict: on}", "tags/web/members": "vm1\nvm2",
	}
	for i, at := range []int{1, 2, 1, 1, 3} {
		more := ""
		if i == 3 {
			more = ", OnBoxLoss: recreate"
		}
		docs[fmt.Sprintf("hosts/vm%d", i+1)] = strings.Replace(vm(i+1, fmt.Sprintf("%s, Box: %s", more, boxName(at))), "4GiB", "16GiB", 1)
	}
	h.store.write(docs)
	h.box(2).UsedMemory = 10 * gib // a machine that somebody made by hand, too
	return h
}

func TestCapacity(t *testing.T) {
	h := cellar(t)
	defer h.store.Close()
	c := Capacity(h.input())
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "capacity.json", string(text)+"\n")
	var boxes, racks, sites Usage
	for _, x := range []struct {
		list []Usage
		sum  *Usage
	}{{c.Boxes, &boxes}, {c.Racks, &racks}, {c.Datacenters, &sites}} {
		for _, u := range x.list {
			x.sum.add(u)
		}
	}
	if boxes != c.Total || racks != c.Total || sites != c.Total {
		t.Errorf("boxes %+v, racks %+v, datacenters %+v, in all %+v", boxes, racks, sites, c.Total)
	}
}

func TestWhatIf(t *testing.T) {
	h := cellar(t)
	defer h.store.Close()
	in := h.input()
	in.Mesh = in.Mesh.WithMassSuspicion(true) // what would be is asked then more than ever
	var b strings.Builder
	for _, lost := range [][]string{{boxName(1)}, {boxName(2), boxName(2)}, {boxName(1), boxName(2)}, {"other"}, {"no such box"}, nil} {
		loss := WhatIf(in, lost)
		fmt.Fprintf(&b, "%v: %s\n", loss.Boxes, loss.Reason)
		homeless := 0
		for _, m := range loss.Machines {
			fmt.Fprintf(&b, "  %s on %s, recreate %t -> %s (%s)\n", m.Name, m.Box, m.Recreate, m.To, m.Reason)
			if m.To == "" {
				homeless++
			} else if slices.Contains(lost, m.To) {
				t.Errorf("%s would go to a box that is lost", m.Name)
			}
		}
		if homeless != loss.Homeless {
			t.Errorf("%d have no place, not %d", homeless, loss.Homeless)
		}
	}
	golden(t, "whatif.txt", b.String())
	if have := fmt.Sprint(BoxesOf(in, "dc1", "r1"), BoxesOf(in, "dc1", ""), BoxesOf(in, "dc2", ""), BoxesOf(in, "dc3", "")); have !=
		"[box1.example.com box2.example.com] [box1.example.com box2.example.com box4.example.com] [box3.example.com] []" {
		t.Error(have)
	}
}
