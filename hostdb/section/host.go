package section

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// The structs of this package are their own manual: the comment of a field says what it means, its tag gives the key
// (when that is not the field's name), an example and the bounds, the defaults method beside it the default. Schema
// and docs/sections.md are made of these three.

// Host is what the document of a host says of it. Facts are wishes and observations of people, often older than
// hostmesh: whatever is wrong in them is a warning, and other keys may stand beside them.
type Host struct {
	// Network is how the host is reached.
	Network Network
	// Interfaces are the network interfaces by name.
	Interfaces map[string]Interface `example:"{eth0: {IP: 10.1.8.11}}"`
	// Hardware is what the machine is made of.
	Hardware Hardware
	// Location is where the machine stands.
	Location Location `key:"Physical Location"`
	// Status is what the host is meant for. A retired host is no member of the tag all, and is in no zone.
	Status Status `example:"maintenance"`
	// Owner is the group or person to ask.
	Owner string `example:"shop"`
	// Expires is when the host may go: a day, to whose end it is needed, or an instant. Absent is never.
	Expires time.Time `example:"2031-12-31"`
	// Protected refuses to destroy, reboot or shrink the host without an override and a reason.
	Protected bool `example:"true"`
	// Drain takes the host out of all balanced tags while it is there: no new connections, and those that are may go on for LB/Drain.
	// Its text is the reason. Absent is in service.
	Drain string `example:"new memory"`
	// VM makes the host a virtual machine. Absent is a machine of its own.
	VM *VM
	// Box lets the host carry virtual machines. Absent is a host that carries none.
	Box *Box
}

func (h *Host) defaults() {
	h.Status = Active // entries without a status are the rule in old inventories, and they are in use
}

func (Host) example() string {
	return `Network:
  FQDN: web1.dc1.example.com
  IP: 10.1.8.11
  IPv6: 2001:db8:1:8::11
  MAC: 52:54:00:01:08:0b
  cname: [www.dc1.example.com, static.dc1.example.com]
Interfaces:
  eth0: {MAC: "52:54:00:01:08:0b", IP: 10.1.8.11, Switch: sw-r12-a, Port: ge-0/0/4}
Hardware: {Vendor: Dell, Service Tag: Q272ZJ2, OOB: 10.1.240.11}
Physical Location: {Datacenter: dc1, Rack Number: r12, U Number: 04}
Status: active
Owner: shop
Expires: 2031-12-31
Protected: true
VM:
  Box: box30.dc1.example.com
  UUID: 0acfbcca-161e-427c-8423-ef788bb47f00
  Image: debian-12
  CPUs: 4
  Memory: 8GiB
  Disk: 40GiB
  Subnet: prod
  Power: on
  OnBoxLoss: recreate
`
}

// Network is how a host is reached.
type Network struct {
	// FQDN is the full name that DNS gives the host. Absent is the host's key.
	FQDN string `format:"domain" example:"web1.dc1.example.com"`
	// IP is the main address, IPv4 or IPv6.
	IP netip.Addr `example:"10.1.8.11"`
	// IPv6 is the main IPv6 address.
	IPv6 netip.Addr `unit:"ipv6" example:"2001:db8:1:8::11"`
	// MAC is the hardware address of the main interface.
	MAC net.HardwareAddr `example:"52:54:00:01:08:0b"`
	// CNames are further names of the host: a list, or names in one text, divided by commas or blanks. A name of one
	// label is meant within the host's zone.
	CNames Names `key:"cname" format:"domain" example:"[www.dc1.example.com, static]"`
}

// Names is a list of names that may be written as one text, divided by commas or blanks.
type Names []string

func (Names) split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// Interface is one network interface.
type Interface struct {
	// MAC is its hardware address.
	MAC net.HardwareAddr `example:"52:54:00:01:08:0b"`
	// IP is its address, IPv4 or IPv6.
	IP netip.Addr `example:"10.1.8.11"`
	// IPv6 is its IPv6 address.
	IPv6 netip.Addr `unit:"ipv6" example:"2001:db8:1:8::11"`
	// Switch is the switch that its cable leads to.
	Switch string `example:"sw-r12-a"`
	// Port is the port of that switch.
	Port string `example:"ge-0/0/4"`
}

// Hardware is what a machine is made of. Whatever the site likes to note may stand in it.
type Hardware struct {
	// OOB is the address of the out-of-band controller (IPMI, iDRAC, iLO), by which a dead machine is reset.
	OOB netip.Addr `example:"10.1.240.11"`
	// Notes are all other keys, as they were written.
	Notes map[string]hostdb.Document `key:"*" example:"{Vendor: Dell, Service Tag: Q272ZJ2}"`
}

// Location is where a machine stands.
type Location struct {
	// Datacenter is the name of the site. Lease groups, and what must not go down together, follow it.
	Datacenter string `example:"dc1"`
	// Rack is the rack within the datacenter. Groups spread over racks.
	Rack string `key:"Rack Number" example:"r12"`
	// Units are the height units that the machine fills, counted from below.
	Units Units `key:"U Number" example:"08-11"`
}

// Status is what a host is meant for. What it does at the moment (pending, running, failed) is in its node's report.
type Status string

// The values of Status.
const (
	Active      Status = "active"      // in use
	Maintenance Status = "maintenance" // being worked on: gets no new virtual machines, serves no pool
	Retired     Status = "retired"     // out of use: no member of all, in no zone
)

func (Status) values() []string {
	return []string{string(Active), string(Maintenance), string(Retired)}
}

// VM is the virtual machine that a host is meant to be.
type VM struct {
	// Box is the host that carries it. Absent is a machine that waits to be placed.
	Box string `format:"key" example:"box30.dc1.example.com"`
	// UUID is its identity. It survives a rename; delete and create makes another machine. Absent is one not made yet.
	UUID string `format:"uuid" example:"0acfbcca-161e-427c-8423-ef788bb47f00"`
	// Image is the base image that the first disk grows from.
	Image string `format:"file" example:"debian-12"`
	// CPUs are the virtual processors.
	CPUs int `min:"1" max:"1024" example:"4"`
	// Memory is the size of the memory.
	Memory Size `min:"1MiB" example:"8GiB"`
	// Disk is the size of the first disk. Absent is the size of the image.
	Disk Size `example:"40GiB"`
	// Subnet is the tag with the network that it is connected to.
	Subnet string `format:"key" example:"prod"`
	// Power is whether it is meant to run.
	Power bool `example:"off"`
	// OnBoxLoss is what becomes of it when its box is gone for good.
	OnBoxLoss OnBoxLoss `example:"recreate"`
}

func (v *VM) defaults() {
	v.CPUs = 1           // what every image boots with
	v.Memory = 1 << 30   // so is this
	v.Power = true       // who enters a machine wants it to run
	v.OnBoxLoss = KeepVM // its disk may hold the only copy of something
}

// OnBoxLoss is what becomes of a virtual machine when its box is gone for good.
type OnBoxLoss string

// The values of OnBoxLoss.
const (
	KeepVM     OnBoxLoss = "keep"     // wait for the box: the disk is there
	RecreateVM OnBoxLoss = "recreate" // make it anew from its image on another box: nothing on the disk matters
)

func (OnBoxLoss) values() []string { return []string{string(KeepVM), string(RecreateVM)} }

// Box is what a machine gives to virtual machines.
type Box struct {
	// CPUs are the processors it gives. Absent is all it has.
	CPUs int `min:"1" max:"65536" example:"40"`
	// Memory is the memory it gives; it is never given twice. Absent is all it has but what the box itself needs.
	Memory Size `example:"368GiB"`
	// Disk is the disk space it gives. Absent is what is free in its pool.
	Disk Size `example:"3400GiB"`
	// Overcommit is how many virtual processors each of CPUs stands for.
	Overcommit float64 `min:"0.1" max:"100" example:"1.5"`
}

func (b *Box) defaults() {
	b.Overcommit = 1 // nobody is surprised by a slow neighbour
}
