package plan

import (
	"net"
	"net/netip"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Wish is a virtual machine as HostDB wants it. It is immutable.
type Wish struct {
	// Name is the host's key, UUID the machine's identity in lower case; "" = nobody gave it one yet.
	Name, UUID string
	// Box is the key of the host that carries it; "" = it waits to be placed.
	Box string
	// Status is active or maintenance; a retired host is no wish.
	Status section.Status
	// Image is the name of its base image.
	Image string
	CPUs  int
	// Memory and Disk are bytes; Disk 0 = the size of the image.
	Memory, Disk int64
	// Power is whether it is meant to run.
	Power bool
	// Protected refuses to destroy, reboot or shrink it without an override.
	Protected bool
	OnBoxLoss section.OnBoxLoss
	// Subnet is what VM.Subnet names; its Tag is set even where the rest could not be read.
	Subnet Subnet
	// FQDN is its full name, that of the key when the entry has none.
	FQDN string
	// IP, IPv6 and MAC are those of Network, entered by hand or written by its box; the zero value = none yet.
	IP, IPv6 netip.Addr
	MAC      net.HardwareAddr
	// Guest is the mapping Guest of what the host gets from its own document and all its tags; not there = none.
	Guest hostdb.Document
	// Stamp is of the newest write of the entry.
	Stamp hostdb.Stamp
	// Problem says why it cannot be made, where that stands, and what to do; "" = it can. One that was made already stays as
	// it is.
	Problem string
}

// Planner is an index of the virtual machines, boxes, networks and hardware addresses of a HostDB view. Update follows the
// view at the cost of what changed. It is not safe for concurrent use; what it returns is immutable.
type Planner struct{ db hostdb.View }

// NewPlanner makes one that holds db.
func NewPlanner(db hostdb.View) *Planner {
	p := &Planner{}
	p.Update(db)
	return p
}

// Wanted are the machines that HostDB wants on a box, by name: those whose VM.Box is its key, that are not retired and have a
// UUID.
func Wanted(db hostdb.View, box string) []Wish { return NewPlanner(db).Wanted(box) }

// Unplaced are the machines without a Box that are active, oldest entry first, whose Subnet belongs to a datacenter; to that
// of no name belong Subnets without one, and wishes whose Subnet cannot be read. One without a UUID is among them.
func Unplaced(db hostdb.View, datacenter string) []Wish { return NewPlanner(db).Unplaced(datacenter) }

// Update follows to a newer view, and reports whether a wish, a box or a network changed.
func (p *Planner) Update(db hostdb.View) bool { panic("plan: to be written") }

// Wanted is Wanted of the view that the Planner holds.
func (p *Planner) Wanted(box string) []Wish { panic("plan: to be written") }

// Unplaced is Unplaced of the view that the Planner holds.
func (p *Planner) Unplaced(datacenter string) []Wish { panic("plan: to be written") }

// Wish is the machine that a host is meant to be; false when it is no machine, or is retired.
func (p *Planner) Wish(name string) (Wish, bool) { panic("plan: to be written") }

// ByUUID are the hosts with a UUID, sorted; more than one is a clash.
func (p *Planner) ByUUID(uuid string) []string { panic("plan: to be written") }

// SubnetOf is SubnetOf of the view that the Planner holds.
func (p *Planner) SubnetOf(tag string) (Subnet, error) { panic("plan: to be written") }
