package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

var (
	// ErrVMState is returned for what cannot be done with a machine in the state that it is in. The text says which, and what to do.
	ErrVMState = errors.New("it cannot be done in this state of the machine")
	// ErrVMAway is returned while the box of a machine, or who places machines, cannot be asked.
	ErrVMAway = errors.New("the box cannot be asked")
	// ErrVMGone is returned for a deleted machine of which no box has anything: it was never made, or its disks are gone.
	ErrVMGone = errors.New("the machine has no disks")
)

// VMs are the virtual machines of the mesh, as this node's replica wants them and as the boxes report them, and what people
// want of them. Errors wrap ErrNotFound and hostdb's sentinels; hostdb.ErrDenied where who asks may not.
type VMs interface {
	// VMs are all that HostDB wants and all that a box has, by name.
	VMs(f VMFilter) (VMList, error)
	// VM is one, by name. When a deleted one had the same name, the one that HostDB wants is meant.
	VM(name string) (VM, error)
	// CreateVM enters a machine. The same wish again changes nothing.
	CreateVM(ctx context.Context, who Identity, wish VMWish) (VMWritten, error)
	// SetVMPower enters whether it is meant to run.
	SetVMPower(ctx context.Context, who Identity, name string, p VMPower) (VMWritten, error)
	// DestroyVM deletes the entry.
	DestroyVM(ctx context.Context, who Identity, name string, o VMOrder) (VMWritten, error)
	// UndeleteVM brings the entry back. ErrVMGone when it would be that of a machine without disks.
	UndeleteVM(ctx context.Context, who Identity, name string, o VMOrder) (VMWritten, error)
	// WatchVMs tells how the machines with these names stand, or all when there are none, then EventSynced, and then each
	// change, until ctx ends or tell fails. It is told of one event at a time.
	WatchVMs(ctx context.Context, names []string, tell func(VMEvent) error) error
}

// VMCommands are sent to the boxes. Errors as VMs, and ErrVMState and ErrVMAway.
type VMCommands interface {
	RebootVM(ctx context.Context, who Identity, name string, o VMReboot) (VMDone, error)
	RetryVM(ctx context.Context, who Identity, name string) (VMDone, error)
	PurgeVM(ctx context.Context, who Identity, name string, o VMPurge) (VMDone, error)
	// VMConsole is what a machine wrote to its serial console, from an offset; negative: from so many bytes before the end. It
	// waits for up to wait when there is nothing yet.
	VMConsole(ctx context.Context, who Identity, name string, from int64, wait time.Duration) (VMConsole, error)
	// VMDestroys are what waits to be destroyed, and what was lately, in this node's datacenter.
	VMDestroys(ctx context.Context) (VMDestroys, error)
	// ApproveVMs lets machines be destroyed that wait for it: those named, or all.
	ApproveVMs(ctx context.Context, who Identity, names []string, all bool) (VMApproved, error)
}

// VMPlanner tells where machines go, and why.
type VMPlanner interface {
	// ExplainVM gives each box's verdict on a machine.
	ExplainVM(ctx context.Context, name string) (VMExplanation, error)
	// VMCapacity sums up the boxes; without are boxes, or racks as rack:NAME, whose loss is thought through.
	VMCapacity(ctx context.Context, without []string) (VMCapacity, error)
}

// Phases of a machine beyond those that a box reports.
const (
	VMPending     = "pending"     // no box has it yet
	VMUnreachable = "unreachable" // its box does not answer
)

// VM is one virtual machine.
type VM struct {
	Name  string `json:"name"`
	UUID  string `json:"uuid,omitempty" doc:"Its identity; absent until it is placed when its entry was written by hand"`
	Phase string `json:"phase" doc:"pending: no box has it yet. reserved, preparing, starting, running, stopping, stopped, failed: as its box reports. unreachable: its box does not answer. waiting: to be destroyed, for an approval. deleted: its disks are kept. foreign: made by somebody else. unknown: it ran, and its box cannot see whether it still does"`
	Step  string `json:"step,omitempty" doc:"What is being done, or was when it failed: image, disk, seed, define, start"`
	// Reason is for people.
	Reason string     `json:"reason,omitempty" doc:"Why it waits or failed, and what to do"`
	Since  *time.Time `json:"since,omitempty" doc:"When the phase began, by the box's clock"`
	Box    string     `json:"box,omitempty" doc:"Host that carries it"`
	Node   string     `json:"node,omitempty" doc:"Id of the node that reports it"`
	IP     string     `json:"ip,omitempty"`
	MAC    string     `json:"mac,omitempty"`
	Until  *time.Time `json:"until,omitempty" doc:"When the disks of a deleted machine go"`
	// Restart: see mesh/report.
	Restart bool `json:"restart,omitempty" doc:"True when a change of the entry counts from the next start"`

	Wanted    bool     `json:"wanted" doc:"False for what HostDB does not have: a machine that is deleted, or foreign"`
	Image     string   `json:"image,omitempty"`
	Subnet    string   `json:"subnet,omitempty"`
	CPUs      int      `json:"cpus,omitempty"`
	Memory    int64    `json:"memory,omitempty" doc:"Bytes"`
	Disk      int64    `json:"disk,omitempty" doc:"Bytes; absent: the size of the image"`
	Power     string   `json:"power,omitempty" enum:"on,off" doc:"Whether it is meant to run"`
	Status    string   `json:"status,omitempty" doc:"Of the host: active, maintenance or retired"`
	Tags      []string `json:"tags,omitempty" doc:"Of the host, inherited ones included, without all"`
	Owner     string   `json:"owner,omitempty"`
	Expires   string   `json:"expires,omitempty"`
	Protected bool     `json:"protected,omitempty"`
	OnBoxLoss string   `json:"on_box_loss,omitempty" enum:"keep,recreate"`
}

// Running reports whether its box says that it runs.
func (v VM) Running() bool { return v.Phase == "running" }

// VMFilter narrows a list. The zero value is all.
type VMFilter struct{ Box, Tag, Phase string }

// VMList is the answer of GET /api/v1/vms.
type VMList struct {
	Version string `json:"version" doc:"The state of HostDB that it is of"`
	VMs     []VM   `json:"vms" nullable:"false"`
}

// VMWish is what POST /api/v1/vms is sent.
type VMWish struct {
	Name      string   `json:"name" maxLength:"253" doc:"Key of the host, and its name in DNS" example:"web7"`
	Image     string   `json:"image" maxLength:"128" doc:"Base image that its disk grows from" example:"debian-12"`
	Subnet    string   `json:"subnet" maxLength:"253" doc:"Tag with the section Subnet that it is connected to" example:"prod"`
	CPUs      int      `json:"cpus,omitempty" minimum:"0" maximum:"1024" doc:"0 = 1"`
	Memory    string   `json:"memory,omitempty" maxLength:"32" doc:"Absent = 1GiB" example:"2GiB"`
	Disk      string   `json:"disk,omitempty" maxLength:"32" doc:"Absent = the size of the image" example:"20GiB"`
	Tags      []string `json:"tags,omitempty" maxItems:"1000" doc:"Tags that it becomes a member of"`
	IP        string   `json:"ip,omitempty" maxLength:"64" doc:"An address outside the Pool of the subnet. Absent: its box gives it one of the Pool"`
	Protected bool     `json:"protected,omitempty" doc:"Refuse to destroy, reboot or shrink it without an override"`
	Owner     string   `json:"owner,omitempty" maxLength:"253"`
	Expires   string   `json:"expires,omitempty" maxLength:"64" doc:"A day or an instant" example:"2031-12-31"`
	Off       bool     `json:"off,omitempty" doc:"Make it, and do not start it"`
	Log       string   `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// VMOrder is a write about one machine.
type VMOrder struct {
	Override string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of the machine is lifted by this write"`
	Log      string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// VMPower is what POST /api/v1/vms/{name}/power is sent.
type VMPower struct {
	On       bool   `json:"on" doc:"Whether it is meant to run"`
	Override string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of the machine is lifted by this write"`
	Log      string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// VMWritten is what became of a write.
type VMWritten struct {
	Name     string   `json:"name"`
	UUID     string   `json:"uuid,omitempty"`
	Changed  bool     `json:"changed" doc:"False when it was so already: nothing was written"`
	Revision string   `json:"revision,omitempty" doc:"Of the operation; absent when nothing changed"`
	Acks     int      `json:"acks" doc:"Boxes that hold it, this one included"`
	Warnings []string `json:"warnings" nullable:"false"`
}

// VMReboot is what POST /api/v1/vms/{name}/reboot is sent.
type VMReboot struct {
	Hard     bool   `json:"hard,omitempty" doc:"As by the reset button, without asking the guest"`
	Override string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of the machine is lifted"`
}

// VMPurge is what POST /api/v1/vms/{name}/purge is sent.
type VMPurge struct {
	UUID     string `json:"uuid,omitempty" maxLength:"64" doc:"Which of several deleted machines of the name"`
	Override string `json:"override,omitempty" maxLength:"1000" doc:"Why the protection of the machine is lifted"`
}

// VMDone is what a box answers to a command.
type VMDone struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	Box  string `json:"box"`
	Text string `json:"text,omitempty" doc:"What happens now"`
}

// VMConsole is a part of what a machine wrote to its serial console.
type VMConsole struct {
	Data []byte `json:"data" doc:"In base64; at most 256 KiB"`
	Next int64  `json:"next" doc:"Offset of what follows. Lower than what was asked for when the console was begun anew"`
}

// VMDestroys is the answer of GET /api/v1/vmdestroys.
type VMDestroys struct {
	Limit    int            `json:"limit" doc:"How many machines may be destroyed within an hour without an approval"`
	Recent   []VMDestroyed  `json:"recent" nullable:"false" doc:"Those of the last hour, oldest first"`
	Waiting  []VM           `json:"waiting" nullable:"false" doc:"Machines that wait for an approval, in all datacenters"`
	Approved []VMApprovedAs `json:"approved" nullable:"false" doc:"Approvals that were not used yet"`
}

// VMDestroyed is a machine that was destroyed lately.
type VMDestroyed struct {
	UUID string    `json:"uuid"`
	Name string    `json:"name,omitempty" doc:"Absent when no box reports it any more"`
	At   time.Time `json:"at"`
}

// VMApprovedAs is an approval.
type VMApprovedAs struct {
	UUID string    `json:"uuid"`
	Name string    `json:"name,omitempty"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// ApproveVMs is what POST /api/v1/vmdestroys is sent.
type ApproveVMs struct {
	Names []string `json:"names,omitempty" maxItems:"10000" doc:"Machines that may be destroyed"`
	All   bool     `json:"all,omitempty" doc:"All that wait now"`
}

// VMApproved are the machines that were let through.
type VMApproved struct {
	VMs []VM `json:"vms" nullable:"false"`
}

// VMExplanation tells why a machine is where it is, or nowhere.
type VMExplanation struct {
	VM      VM     `json:"vm"`
	Reason  string `json:"reason" doc:"The whole in one sentence"`
	Problem string `json:"problem,omitempty" doc:"Why no box can have it: what is wrong with its entry, and what to do"`
	// Placer is who places.
	Placer     string      `json:"placer,omitempty" doc:"Node that places machines of its subnet; absent when none does"`
	PlacerName string      `json:"placer_name,omitempty"`
	Boxes      []VMVerdict `json:"boxes" nullable:"false" doc:"Each box's verdict as things stand now: those that fit first, the best of them first"`
	Refused    []VMAttempt `json:"refused,omitempty" doc:"Boxes that could not have it, oldest first"`
}

// VMVerdict is what is said of one box for one machine.
type VMVerdict struct {
	Box    string        `json:"box"`
	Node   string        `json:"node,omitempty"`
	OK     bool          `json:"ok" doc:"Whether it may have the machine"`
	Score  float64       `json:"score"`
	Reason string        `json:"reason"`
	Parts  []VMScorePart `json:"parts,omitempty" doc:"What the score is made of"`
}

// VMScorePart is one share of a score.
type VMScorePart struct {
	Name   string  `json:"name"`
	Score  float64 `json:"score"`
	Reason string  `json:"reason"`
}

// VMAttempt is a box that could not have a machine.
type VMAttempt struct {
	Box    string    `json:"box"`
	Node   string    `json:"node"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// VMRoom is an amount of what boxes give.
type VMRoom struct {
	CPUs   int   `json:"cpus" doc:"Virtual processors, overcommit included"`
	Memory int64 `json:"memory" doc:"Bytes"`
	Disk   int64 `json:"disk" doc:"Bytes"`
}

// VMUsage is what a place has, and what of it is used.
type VMUsage struct {
	Datacenter string `json:"datacenter,omitempty"`
	Rack       string `json:"rack,omitempty"`
	Box        string `json:"box,omitempty"`
	Boxes      int    `json:"boxes"`
	Out        int    `json:"out,omitempty" doc:"Boxes that take no machines now"`
	Machines   int    `json:"machines"`
	Total      VMRoom `json:"total"`
	Used       VMRoom `json:"used"`
	Free       VMRoom `json:"free" doc:"What machines can be given: nothing on boxes that are out"`
	Problem    string `json:"problem,omitempty" doc:"Why a box takes no machines"`
}

// VMCapacity is the answer of GET /api/v1/vmcapacity.
type VMCapacity struct {
	Boxes       []VMUsage `json:"boxes" nullable:"false"`
	Racks       []VMUsage `json:"racks" nullable:"false"`
	Datacenters []VMUsage `json:"datacenters" nullable:"false"`
	Total       VMUsage   `json:"total"`
	Loss        *VMLoss   `json:"loss,omitempty" doc:"With without: what would become of the machines"`
}

// VMLoss is what the loss of boxes would do.
type VMLoss struct {
	Boxes    []string `json:"boxes" nullable:"false"`
	Machines []VMLost `json:"machines" nullable:"false"`
	Homeless int      `json:"homeless" doc:"Machines that fit nowhere else"`
	Reason   string   `json:"reason"`
}

// VMLost is a machine of a lost box.
type VMLost struct {
	Name     string `json:"name"`
	UUID     string `json:"uuid"`
	Box      string `json:"box"`
	Recreate bool   `json:"recreate" doc:"True when it is meant to be made anew elsewhere (OnBoxLoss); else it waits for its box"`
	To       string `json:"to,omitempty" doc:"Box that it would fit on; absent: none"`
	Reason   string `json:"reason"`
}

// vmProblem is what a client hears of an error.
func vmProblem(err error) error {
	var status huma.StatusError
	switch {
	case errors.As(err, &status):
		return err
	case errors.Is(err, ErrVMState):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, ErrVMGone):
		return problem(http.StatusGone, err.Error())
	case errors.Is(err, ErrVMAway), errors.Is(err, ErrNoDuties):
		return problem(http.StatusServiceUnavailable, err.Error())
	}
	return problemOf(err)
}
