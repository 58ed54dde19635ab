package plan

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

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
	// Tags count for its place beside those that it is in, for one whose entry is not written yet.
	Tags []string
	// Problem says why it cannot be made, where that stands, and what to do; "" = it can. One that was made already stays as
	// it is.
	Problem string
	// Twin: the Problem is only that another entry has the same UUID. PowerUnknown: Power is not what somebody said, for that
	// cannot be read.
	Twin, PowerUnknown bool
}

// Need is what the machine takes, but for the disk of one that is as large as its image.
func (w Wish) Need() Room { return Room{w.CPUs, w.Memory, w.Disk} }

// Wanted are the machines that HostDB wants on a box, by name: those whose VM.Box is its key, that are not retired and have a
// UUID. Who follows a view keeps a Planner.
func Wanted(db hostdb.View, box string) []Wish { return NewPlanner(db).Wanted(box) }

// Unplaced are the machines without a Box that are active, oldest entry first, whose Subnet belongs to a datacenter; to that
// of no name belong Subnets without one, and wishes whose Subnet cannot be read. One without a UUID is among them.
func Unplaced(db hostdb.View, datacenter string) []Wish { return NewPlanner(db).Unplaced(datacenter) }

// hardFields are those of VM that a machine must not be made without: a default in the place of what somebody meant is another
// machine.
var hardFields = []hostdb.Path{
	hostdb.PathOf("VM"), hostdb.PathOf("VM", "Box"), hostdb.PathOf("VM", "UUID"), hostdb.PathOf("VM", "Image"), hostdb.PathOf("VM", "CPUs"),
	hostdb.PathOf("VM", "Memory"), hostdb.PathOf("VM", "Disk"), hostdb.PathOf("VM", "Subnet"), hostdb.PathOf("VM", "Power"),
	hostdb.PathOf("Network"), hostdb.PathOf("Network", "IP"), hostdb.PathOf("Network", "IPv6"), hostdb.PathOf("Network", "MAC"),
}

// wishOf reads a host as a machine; false when it is none, or retired. Subnet, Guest, and what is wrong with them, is left out.
func wishOf(name string, item hostdb.Item) (Wish, bool) {
	doc := item.Data()
	vm, problems := section.VMOf(doc)
	status := section.StatusOf(doc)
	if status == section.Retired || vm == nil && len(problems) == 0 {
		return Wish{}, false
	}
	if vm == nil { // a VM that is no mapping: somebody wants a machine, and has to be told
		vm = &section.VM{}
	}
	nw, more := section.NetworkOf(doc)
	w := Wish{
		Name: name, UUID: strings.ToLower(vm.UUID), Box: vm.Box, Status: status, Image: vm.Image, CPUs: vm.CPUs,
		Memory: int64(vm.Memory), Disk: int64(vm.Disk), Power: vm.Power, Protected: section.ProtectedOf(doc), OnBoxLoss: vm.OnBoxLoss,
		Subnet: Subnet{Tag: vm.Subnet}, FQDN: cmp.Or(nw.FQDN, name), IP: nw.IP, IPv6: nw.IPv6, MAC: nw.MAC, Stamp: item.Revision(),
	}
	for _, p := range append(problems, more...) {
		if slices.Contains(hardFields, p.Path) {
			if w.Problem == "" {
				w.Problem = fmt.Sprintf("hosts/%s: %s", name, p)
			}
			w.PowerUnknown = w.PowerUnknown || p.Path == hostdb.PathOf("VM") || p.Path == hostdb.PathOf("VM", "Power")
		}
	}
	switch {
	case w.Problem != "":
	case w.Image == "":
		w.Problem = fmt.Sprintf("hosts/%s: VM/Image is missing: name a base image (hostmesh image list)", name)
	case w.MAC != nil && badMAC(w.MAC) != "":
		w.Problem = fmt.Sprintf("hosts/%s: Network/MAC %s: %s", name, w.MAC, badMAC(w.MAC))
	}
	return w, true
}

// resolve adds the network to a wish, and what is wrong with it.
func (w *Wish) resolve(db hostdb.View, n networks) {
	s, err := n.of(db, w.Subnet.Tag)
	w.Subnet = s
	if w.Problem != "" {
		return
	}
	if err != nil {
		w.Problem = fmt.Sprintf("hosts/%s: VM/Subnet: %v", w.Name, err)
		return
	}
	if w.IP.IsValid() {
		if reason := s.unusable(w.IP); reason != "" {
			w.Problem = fmt.Sprintf("hosts/%s: Network/IP %s: %s", w.Name, w.IP, reason)
		}
	}
}

// byStamp orders wishes by the age of their entries.
func byStamp(a, b Wish) int {
	return cmp.Or(a.Stamp.Compare(b.Stamp), strings.Compare(a.Name, b.Name))
}
