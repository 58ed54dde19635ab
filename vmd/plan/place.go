package plan

import (
	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// Input is what a machine's place follows from.
type Input struct {
	DB   hostdb.View
	Mesh mesh.View
	// Index is a Planner that holds DB; nil: one is made, at the cost of all hosts.
	Index *Planner
	// Reports gives the report of a node; nil: Mesh.Report.
	Reports func(node string) (report.Report, bool)
	// InFlight are offers to boxes that may not be in their reports yet. What a report or HostDB has already is not counted twice.
	InFlight []Offer
	// LeftOut are boxes that a machine must not be given to, each with the reason: UUID -> box (key or node id) -> reason.
	LeftOut map[string]map[string]string
	// Drained are nodes that are to hold nothing: node id -> reason.
	Drained map[string]string
	// Images are the known base images by name. nil: none is checked, as where the catalogue could not be read.
	Images map[string]Image
}

// Offer is a place on a box that was given to a machine.
type Offer struct {
	UUID, Name string
	Box        string // key or node id
	CPUs       int
	// Memory and Disk are bytes.
	Memory, Disk int64
}

// Image is what placing needs to know of a base image.
type Image struct {
	SHA256 string // hex
	// Size is what it takes on a box, Disk what a machine's disk has at least; bytes.
	Size, Disk int64
	// URL says that it can be fetched without a peer that has it.
	URL bool
}

// Decision is where a machine goes, and why.
type Decision struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	// Box is the key of the box, Node its node id; "" = nowhere.
	Box  string `json:"box,omitempty"`
	Node string `json:"node,omitempty"`
	// Reason sums it up for people.
	Reason string `json:"reason"`
	// Verdicts are of all boxes: those that fit first, by score, then the others by name. Only Place and Explain fill it.
	Verdicts []Verdict `json:"verdicts,omitempty"`
}

// Verdict is what is said of one box for one machine.
type Verdict struct {
	Box   string  `json:"box"`
	Node  string  `json:"node,omitempty"`
	OK    bool    `json:"ok"`
	Score float64 `json:"score"`
	// Parts make up Score.
	Parts []Part `json:"parts,omitempty"`
	// Reason says why it does not fit, or what speaks for it.
	Reason string `json:"reason"`
}

// Part is one share of a score.
type Part struct {
	Name   string  `json:"name"` // memory, cpu, spread, apart, together, image
	Score  float64 `json:"score"`
	Reason string  `json:"reason"`
}

// Place decides where one machine goes, with the verdict on every box.
func Place(in Input, w Wish) Decision { panic("plan: to be written") }

// PlaceAll decides for many, in this order; each counts for those after it. Verdicts are left out.
func PlaceAll(in Input, wishes []Wish) []Decision { panic("plan: to be written") }

// Fleet is all boxes with what is free on them. It keeps what it gave, so that many machines cost one look at the views. It is
// not safe for concurrent use.
type Fleet struct{}

// NewFleet looks at the views.
func NewFleet(in Input) *Fleet { panic("plan: to be written") }

// Place decides where a machine goes, without verdicts, and counts it there.
func (f *Fleet) Place(w Wish) Decision { panic("plan: to be written") }

// Explain is Place with verdicts; it counts nothing.
func (f *Fleet) Explain(w Wish) Decision { panic("plan: to be written") }

// Release takes back what Place counted for a machine. It is harmless for one that was not placed.
func (f *Fleet) Release(uuid string) { panic("plan: to be written") }
