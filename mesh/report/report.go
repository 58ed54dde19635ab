// Package report owns the shapes of what nodes observe: what a box can carry, what became of the machines on it, how
// members of balanced tags answer, which virtual addresses a node holds, and how its database servers stand.
// A report has one writer, the node it is of; everybody else reads it from mesh.View. Nothing in it is intent.
//
// How reports travel is package mesh's business; what follows from one is the reader's.
package report

import "time"

// Report is what one node observes. It is immutable once it is in a View.
type Report struct {
	Node string `cbor:"1,keyasint" json:"node"` // node id
	Boot uint64 `cbor:"2,keyasint" json:"boot"` // which run of the agent; grows with each
	N    uint64 `cbor:"3,keyasint" json:"n"`    // grows with each change within a run
	// Box is what the node can carry. nil = it carries no virtual machines, or does not say yet.
	Box *Box `cbor:"4,keyasint,omitempty" json:"box,omitempty"`
	// VMs are the machines of the node by UUID, foreign ones included.
	VMs map[string]VM `cbor:"5,keyasint,omitempty" json:"vms,omitempty"`
	// Checks are what the node sees of members of balanced tags, by CheckKey; those it checks and knows of.
	Checks map[string]Check `cbor:"6,keyasint,omitempty" json:"checks,omitempty"`
	// LB is its part in load balancing. nil = it has none.
	LB *LB `cbor:"7,keyasint,omitempty" json:"lb,omitempty"`
	// MySQL are its database servers, by the tag of their cluster.
	MySQL map[string]MySQL `cbor:"8,keyasint,omitempty" json:"mysql,omitempty"`
}

// MySQL is a database server of a node, as the agent beside it sees it. It holds what changes rarely: how far a replica is behind in seconds
// is for whoever asks.
type MySQL struct {
	// Process is running, died, stopped or unknown; Since when that began, by the node's clock, in Unix milliseconds.
	Process string `cbor:"1,keyasint" json:"process"`
	Since   int64  `cbor:"2,keyasint" json:"since_ms"`
	// Role is what the server does: primary, replica, or "" while neither.
	Role string `cbor:"3,keyasint,omitempty" json:"role,omitempty"`
	// Epoch is the highest of the cluster that the agent has seen.
	Epoch uint64 `cbor:"4,keyasint,omitempty" json:"epoch,omitempty"`
	// Reads says that it may answer readers: a replica that applies, and is no further behind than MaxLag; or the primary.
	Reads bool `cbor:"5,keyasint,omitempty" json:"reads,omitempty"`
	// Port is where it listens.
	Port uint16 `cbor:"6,keyasint,omitempty" json:"port,omitempty"`
	// VIP is the phase of the claim of the primary's address, as lbd/vip names it; "" = none here.
	VIP string `cbor:"7,keyasint,omitempty" json:"vip,omitempty"`
	// Reason is for people: why it died, or does not answer readers.
	Reason string `cbor:"8,keyasint,omitempty" json:"reason,omitempty"`
	// Full is what is the matter with the disk of its data, for people; "" = it has room.
	Full string `cbor:"9,keyasint,omitempty" json:"full,omitempty"`
	// Copy says that the data are a copy that nobody has found right, and of which host; "" = they are not. Differs is what differs, for people; "" = it was not compared.
	Copy    string `cbor:"10,keyasint,omitempty" json:"copy,omitempty"`
	Differs string `cbor:"11,keyasint,omitempty" json:"differs,omitempty"`
	// Lends says that a copy is made of it.
	Lends bool `cbor:"12,keyasint,omitempty" json:"lends,omitempty"`
	// Dumps says that mariadb-backup is not installed there, so that copies from and to it are dumps.
	Dumps bool `cbor:"13,keyasint,omitempty" json:"dumps,omitempty"`
}

// LB is a node's part in load balancing.
type LB struct {
	// VIPs are the virtual addresses whose duty it holds, by address.
	VIPs map[string]VIP `cbor:"1,keyasint,omitempty" json:"vips,omitempty"`
}

// VIP is a virtual address of its holder.
type VIP struct {
	Fence uint64 `cbor:"1,keyasint" json:"fence"` // of the grant
	// Phase is how the claim of the address stands, as lbd/vip names it: held where it is.
	Phase string `cbor:"2,keyasint" json:"phase"`
	// Why is for people, where the address is not here.
	Why string `cbor:"3,keyasint,omitempty" json:"why,omitempty"`
}

// Box is what a node can carry, and what of it is taken, by its own account.
type Box struct {
	// Unfit is why it takes no machines at present; "" = it does.
	Unfit string `cbor:"1,keyasint,omitempty" json:"unfit,omitempty"`
	// CPUs are virtual processors, overcommit included; Memory and Disk are bytes.
	CPUs   int   `cbor:"2,keyasint" json:"cpus"`
	Memory int64 `cbor:"3,keyasint" json:"memory"`
	Disk   int64 `cbor:"4,keyasint" json:"disk"`
	// UsedCPUs, UsedMemory and UsedDisk are reserved or in use, foreign machines included.
	UsedCPUs   int   `cbor:"5,keyasint" json:"used_cpus"`
	UsedMemory int64 `cbor:"6,keyasint" json:"used_memory"`
	UsedDisk   int64 `cbor:"7,keyasint" json:"used_disk"`
	// Images are the base images that are here and verified: name -> SHA-256 in hex.
	Images map[string]string `cbor:"8,keyasint,omitempty" json:"images,omitempty"`
	// Bridges are the network interfaces that a machine can be connected to, sorted.
	Bridges []string `cbor:"9,keyasint,omitempty" json:"bridges,omitempty"`
	// Hypervisor is what runs them, for people: QEMU 7.2.0.
	Hypervisor string `cbor:"10,keyasint,omitempty" json:"hypervisor,omitempty"`
}

// VM is what became of one machine.
type VM struct {
	Name  string `cbor:"1,keyasint" json:"name"` // key in hosts, or the domain's name when it is foreign
	Phase Phase  `cbor:"2,keyasint" json:"phase"`
	// Step is what is being done, or was when it failed: image, disk, seed, define, start.
	Step string `cbor:"3,keyasint,omitempty" json:"step,omitempty"`
	// Reason is for people: why it failed or waits, and what to do.
	Reason string `cbor:"4,keyasint,omitempty" json:"reason,omitempty"`
	// Since is when the phase began, by the node's clock, in Unix milliseconds.
	Since int64  `cbor:"5,keyasint" json:"since_ms"`
	IP    string `cbor:"6,keyasint,omitempty" json:"ip,omitempty"`
	MAC   string `cbor:"7,keyasint,omitempty" json:"mac,omitempty"`
	// Until is when the disks of a deleted machine go, in Unix milliseconds; 0 = it is not deleted.
	Until int64 `cbor:"8,keyasint,omitempty" json:"until_ms,omitempty"`
	// Restart says that a change counts from the next start.
	Restart bool `cbor:"9,keyasint,omitempty" json:"restart,omitempty"`
	// CPUs and Memory are what it has, Disk what its volume is meant for.
	CPUs   int   `cbor:"10,keyasint,omitempty" json:"cpus,omitempty"`
	Memory int64 `cbor:"11,keyasint,omitempty" json:"memory,omitempty"`
	Disk   int64 `cbor:"12,keyasint,omitempty" json:"disk,omitempty"`
}

// Phase is what a machine does.
type Phase string

// The phases of a machine.
const (
	Reserved  Phase = "reserved"  // its place is kept; nothing is made
	Preparing Phase = "preparing" // image, disk and domain are being made
	Starting  Phase = "starting"
	Running   Phase = "running"
	Stopping  Phase = "stopping"
	Stopped   Phase = "stopped" // as it is meant to be
	Failed    Phase = "failed"  // Reason says why; it is tried again where that can help
	Waiting   Phase = "waiting" // to be destroyed, for somebody to approve
	Deleted   Phase = "deleted" // its disks are kept until Until
	Foreign   Phase = "foreign" // made by somebody else, and not touched
	Unknown   Phase = "unknown" // it ran, and its box cannot see whether it still does
)

// Up reports whether a machine in this phase may serve. Nobody can say that of an Unknown one, nor that it may not: that is no reason to
// leave it out.
func (p Phase) Up() bool { return p == Running }

// Began is when the phase began.
func (v VM) Began() time.Time { return time.UnixMilli(v.Since) }
