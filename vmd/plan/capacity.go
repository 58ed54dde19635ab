package plan

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

// Capacity sums up the boxes.
func Capacity(in Input) Capacities { panic("plan: to be written") }

// Loss is what would become of the machines of boxes that are gone.
type Loss struct {
	Boxes []string `json:"boxes"` // that are lost, sorted
	// Machines are all on them, oldest entry first.
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

// WhatIf says what the loss of boxes (keys) would do: which machines would be gone, and whether they fit on the rest.
func WhatIf(in Input, lost []string) Loss { panic("plan: to be written") }

// BoxesOf are the boxes of a rack, or of a datacenter when rack is "", sorted.
func BoxesOf(in Input, datacenter, rack string) []string { panic("plan: to be written") }
