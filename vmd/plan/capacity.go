package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"hostmesh/hostdb/section"
)

// Room is an amount of what boxes give. Memory and Disk are bytes.
type Room struct {
	CPUs   int   `json:"cpus"`
	Memory int64 `json:"memory"`
	Disk   int64 `json:"disk"`
}

// Usage is what a place has, and what of it is used. Free is never below 0.
type Usage struct {
	Datacenter string `json:"datacenter,omitempty"`
	Rack       string `json:"rack,omitempty"`
	Box        string `json:"box,omitempty"`
	// Boxes are those that report a capacity; Out those of them that take no machines now.
	Boxes    int  `json:"boxes"`
	Out      int  `json:"out,omitempty"`
	Machines int  `json:"machines"`
	Total    Room `json:"total"`
	Used     Room `json:"used"`
	// Free is what machines can be given: nothing on boxes that are Out.
	Free Room `json:"free"`
	// Problem is why a box takes no machines; "" = it does.
	Problem string `json:"problem,omitempty"`
}

// Capacities is what there is, by box, rack and datacenter, each sorted.
type Capacities struct {
	Boxes       []Usage `json:"boxes"`
	Racks       []Usage `json:"racks"`
	Datacenters []Usage `json:"datacenters"`
	Total       Usage   `json:"total"`
}

// Capacity sums up the boxes that HostDB names.
func Capacity(in Input) Capacities {
	f := NewFleet(in)
	out := Capacities{Boxes: []Usage{}, Racks: []Usage{}, Datacenters: []Usage{}}
	racks, sites := map[string]*Usage{}, map[string]*Usage{}
	sum := func(into map[string]*Usage, key string, u Usage, at Usage) {
		if into[key] == nil {
			into[key] = &at
		}
		into[key].add(u)
	}
	for _, s := range f.sites {
		u := Usage{Datacenter: s.datacenter, Rack: s.rack, Box: s.key, Machines: s.machines, Total: s.total, Used: s.used}
		if s.report.Box != nil {
			u.Boxes = 1
		}
		if s.class == fits {
			u.Free = s.total.beyond(s.used)
		} else {
			u.Problem = s.why
			u.Out = u.Boxes
		}
		out.Boxes = append(out.Boxes, u)
		sum(racks, s.datacenter+"\x00"+s.rack, u, Usage{Datacenter: s.datacenter, Rack: s.rack})
		sum(sites, s.datacenter, u, Usage{Datacenter: s.datacenter})
		out.Total.add(u)
	}
	for _, key := range slices.Sorted(maps.Keys(racks)) {
		out.Racks = append(out.Racks, *racks[key])
	}
	for _, key := range slices.Sorted(maps.Keys(sites)) {
		out.Datacenters = append(out.Datacenters, *sites[key])
	}
	return out
}

func (u *Usage) add(o Usage) {
	u.Boxes += o.Boxes
	u.Out += o.Out
	u.Machines += o.Machines
	u.Total, u.Used, u.Free = u.Total.plus(o.Total), u.Used.plus(o.Used), u.Free.plus(o.Free)
}

// Loss is what would become of the machines of boxes that are gone.
type Loss struct {
	Boxes []string `json:"boxes"` // that are lost, sorted
	// Machines are all on them: those that would be made anew first, then by age of their entries.
	Machines []Lost `json:"machines"`
	// Homeless counts those that fit nowhere else.
	Homeless int `json:"homeless"`
	// Reason sums it up for people.
	Reason string `json:"reason"`
}

// Lost is a machine of a lost box.
type Lost struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	Box  string `json:"box"`
	// Recreate says that it would be made anew (VM.OnBoxLoss); else it waits for its box.
	Recreate bool `json:"recreate"`
	// To is the box that it would fit on; "" = none, and Reason says why.
	To     string `json:"to,omitempty"`
	Reason string `json:"reason"`
}

// WhatIf says what the loss of boxes (keys) would do: which machines would be gone, and whether they fit on the rest. Those that
// would be made anew are given room first, each by age.
func WhatIf(in Input, boxes []string) Loss {
	f := NewFleet(in)
	out := Loss{Boxes: slices.Compact(slices.Sorted(slices.Values(boxes))), Machines: []Lost{}}
	var gone []Wish
	for _, key := range out.Boxes {
		if s := f.byKey[key]; s != nil {
			s.class, s.why = lost, "it is lost"
		}
		for _, m := range f.index.byBox[key] {
			gone = append(gone, f.index.wishOf(m))
		}
	}
	slices.SortFunc(gone, func(a, b Wish) int {
		return cmp.Or(cmp.Compare(b2i(a.OnBoxLoss != section.RecreateVM), b2i(b.OnBoxLoss != section.RecreateVM)), byStamp(a, b))
	})
	for _, w := range gone {
		m := Lost{Name: w.Name, UUID: w.UUID, Box: w.Box, Recreate: w.OnBoxLoss == section.RecreateVM, Reason: w.Problem}
		if w.Problem == "" {
			if w.Subnet.Pool.IsValid() && w.Subnet.Pool.Contains(w.IP) {
				w.IP = netip.Addr{} // another box gives it another
			}
			d := f.place(w)
			m.To, m.Reason = d.Box, d.Reason
		}
		if m.To == "" {
			out.Homeless++
		}
		out.Machines = append(out.Machines, m)
	}
	recreate := 0
	for _, m := range out.Machines {
		recreate += b2i(m.Recreate)
	}
	n := len(gone)
	switch {
	case n == 0:
		out.Reason = "no machine would be lost"
	case out.Homeless == 0:
		out.Reason = fmt.Sprintf("%s would be lost; the rest has room for all of them", count(n, "machine", "machines"))
	default:
		out.Reason = fmt.Sprintf("%s would be lost; the rest has no room for %d of them", count(n, "machine", "machines"), out.Homeless)
	}
	if n > 0 {
		out.Reason += fmt.Sprintf("; by VM/OnBoxLoss %d would be made anew, of %d", recreate, n)
	}
	return out
}

// BoxesOf are the boxes of a rack, or of a datacenter when rack is "", sorted.
func BoxesOf(in Input, datacenter, rack string) []string {
	var out []string
	for _, s := range NewFleet(in).sites {
		if s.datacenter == datacenter && (rack == "" || s.rack == rack) {
			out = append(out, s.key)
		}
	}
	return out
}
