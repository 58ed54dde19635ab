package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

const (
	vmReadTime    = 10 * time.Second // a question to the leader of the duties at most
	vmCommandTime = 30 * time.Second // another box, whose hypervisor may be slow
	// maxConsoleWait is how long a reader of a console may wait for the next byte.
	maxConsoleWait = 25 * time.Second
)

// VMPath names a machine.
type VMPath struct {
	Name string `path:"name" maxLength:"253" doc:"Key of the host" example:"web7"`
}

// vmOperation registers an operation about machines.
func vmOperation[In, Out any](a huma.API, op huma.Operation, limit time.Duration, f func(ctx context.Context, in *In) (Out, error)) {
	op.Tags = []string{"vms"}
	if op.Method != http.MethodGet {
		op.Security = writeSecurity
	}
	huma.Register(a, op, func(ctx context.Context, in *In) (*bodyOf[Out], error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		out, err := f(ctx, in)
		if err != nil {
			return nil, vmProblem(err)
		}
		return &bodyOf[Out]{out}, nil
	})
}

// vmWrite registers a write to HostDB about machines.
func vmWrite[In any](a huma.API, op huma.Operation, f func(ctx context.Context, in *In) (VMWritten, error)) {
	op.Errors = writeErrors
	vmOperation(a, op, vmCommandTime, func(ctx context.Context, in *In) (VMWritten, error) {
		out, err := f(ctx, in)
		if out.Warnings == nil {
			out.Warnings = []string{}
		}
		return out, err
	})
}

func logged(log string) error {
	if strings.TrimSpace(log) == "" {
		return errNoLog()
	}
	return nil
}

func registerVMs(a huma.API, m VMs) {
	vmOperation(a, huma.Operation{
		OperationID: "list-vms", Method: http.MethodGet, Path: "/api/v1/vms", Summary: "Virtual machines",
		Description: "All that HostDB wants, with what their boxes report, and those that boxes have besides: deleted ones whose disks are kept, and foreign ones.",
	}, vmReadTime, func(_ context.Context, in *struct {
		Box   string `query:"box" maxLength:"253" doc:"Only those of this box: host, or id of its node"`
		Tag   string `query:"tag" maxLength:"253" doc:"Only members of this tag"`
		Phase string `query:"phase" maxLength:"32" doc:"Only those in this phase" example:"failed"`
	}) (VMList, error) {
		out, err := m.VMs(VMFilter{Box: in.Box, Tag: in.Tag, Phase: in.Phase})
		if out.VMs == nil {
			out.VMs = []VM{}
		}
		return out, err
	})
	vmOperation(a, huma.Operation{
		OperationID: "get-vm", Method: http.MethodGet, Path: "/api/v1/vms/{name}", Summary: "One virtual machine",
	}, vmReadTime, func(_ context.Context, in *VMPath) (VM, error) { return m.VM(in.Name) })
	vmWrite(a, huma.Operation{
		OperationID: "create-vm", Method: http.MethodPost, Path: "/api/v1/vms", Summary: "Enter a virtual machine",
		Description: "Writes one operation: the host with its VM, and its memberships. A box is found and the machine is made from then on; watch it at /api/v1/vmevents. " +
			"The same again changes nothing; another machine under the name is a 409. Whoever may write the host and the lists of the tags may.",
	}, func(ctx context.Context, in *struct{ Body VMWish }) (VMWritten, error) {
		if err := logged(in.Body.Log); err != nil {
			return VMWritten{}, err
		}
		return m.CreateVM(ctx, identityOf(ctx), in.Body)
	})
	vmWrite(a, huma.Operation{
		OperationID: "set-vm-power", Method: http.MethodPost, Path: "/api/v1/vms/{name}/power", Summary: "Start or stop a virtual machine",
		Description: "Enters whether it is meant to run; its box makes it so. A guest that is stopped is asked to shut down first.",
	}, func(ctx context.Context, in *struct {
		VMPath
		Body VMPower
	}) (VMWritten, error) {
		if err := logged(in.Body.Log); err != nil {
			return VMWritten{}, err
		}
		return m.SetVMPower(ctx, identityOf(ctx), in.Name, in.Body)
	})
	vmWrite(a, huma.Operation{
		OperationID: "destroy-vm", Method: http.MethodDelete, Path: "/api/v1/vms/{name}", Summary: "Delete a virtual machine",
		Description: "Deletes the entry with its memberships, in one operation. The machine is shut down, and its disks are kept for a while, in which undelete brings it back.",
	}, func(ctx context.Context, in *struct {
		VMPath
		Log      string `query:"log" required:"true" maxLength:"4096" doc:"Why, for those who read the history"`
		Override string `query:"override" maxLength:"1000" doc:"Why the protection of the machine is lifted by this write"`
	}) (VMWritten, error) {
		if err := logged(in.Log); err != nil {
			return VMWritten{}, err
		}
		return m.DestroyVM(ctx, identityOf(ctx), in.Name, VMOrder{Override: in.Override, Log: in.Log})
	})
	vmWrite(a, huma.Operation{
		OperationID: "undelete-vm", Method: http.MethodPost, Path: "/api/v1/vms/{name}/undelete", Summary: "Bring a deleted virtual machine back",
		Description: "The entry as it was before its deletion, with its memberships and its identity. Its box takes up the same disk and address. 410: it has no disks: it was never made, or they are gone.",
	}, func(ctx context.Context, in *struct {
		VMPath
		Body VMOrder
	}) (VMWritten, error) {
		if err := logged(in.Body.Log); err != nil {
			return VMWritten{}, err
		}
		return m.UndeleteVM(ctx, identityOf(ctx), in.Name, in.Body)
	})
}

func registerVMCommands(a huma.API, m VMCommands) {
	command := func(id, verb, summary, description string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodPost, Path: "/api/v1/vms/{name}/" + verb, Summary: summary, Description: description,
			Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
		}
	}
	vmOperation(a, command("reboot-vm", "reboot", "Boot a virtual machine again", "Whoever may write the host may."), vmCommandTime,
		func(ctx context.Context, in *struct {
			VMPath
			Body VMReboot
		}) (VMDone, error) {
			return m.RebootVM(ctx, identityOf(ctx), in.Name, in.Body)
		})
	vmOperation(a, command("retry-vm", "retry", "Try a failed virtual machine again at once", "Whoever may write the host may."), vmCommandTime,
		func(ctx context.Context, in *VMPath) (VMDone, error) { return m.RetryVM(ctx, identityOf(ctx), in.Name) })
	vmOperation(a, command("purge-vm", "purge", "Remove what is left of a deleted virtual machine",
		"Its disks, address and name are given up before their time; it cannot be undeleted after that. Whoever could write the host before it was deleted may."), vmCommandTime,
		func(ctx context.Context, in *struct {
			VMPath
			Body VMPurge
		}) (VMDone, error) {
			return m.PurgeVM(ctx, identityOf(ctx), in.Name, in.Body)
		})
	vmOperation(a, huma.Operation{
		OperationID: "read-vm-console", Method: http.MethodGet, Path: "/api/v1/vms/{name}/console", Summary: "What a virtual machine wrote to its serial console",
		Description: "Whoever may write the host may read it: consoles show secrets.", Security: writeSecurity,
		Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusServiceUnavailable},
	}, vmCommandTime+maxConsoleWait, func(ctx context.Context, in *struct {
		VMPath
		From   int64 `query:"from" doc:"Offset in bytes; negative: so many before the end"`
		WaitMS int64 `query:"wait_ms" minimum:"0" maximum:"25000" doc:"How long to wait for something when there is nothing behind from"`
	}) (VMConsole, error) {
		out, err := m.VMConsole(ctx, identityOf(ctx), in.Name, in.From, min(time.Duration(in.WaitMS)*time.Millisecond, maxConsoleWait))
		if out.Data == nil {
			out.Data = []byte{}
		}
		return out, err
	})
	vmOperation(a, huma.Operation{
		OperationID: "list-vm-destroys", Method: http.MethodGet, Path: "/api/v1/vmdestroys", Summary: "Virtual machines that wait to be destroyed",
		Description: "Only a few machines are destroyed within an hour; more wait until somebody approves. Tickets are of this node's datacenter.",
	}, vmReadTime, func(ctx context.Context, _ *struct{}) (VMDestroys, error) {
		out, err := m.VMDestroys(ctx)
		if out.Recent == nil {
			out.Recent = []VMDestroyed{}
		}
		if out.Waiting == nil {
			out.Waiting = []VM{}
		}
		if out.Approved == nil {
			out.Approved = []VMApprovedAs{}
		}
		return out, err
	})
	vmOperation(a, huma.Operation{
		OperationID: "approve-vm-destroys", Method: http.MethodPost, Path: "/api/v1/vmdestroys", Summary: "Let virtual machines be destroyed that wait for it",
		Description: "Whoever could write the host before it was deleted may.", Errors: []int{http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable},
	}, vmCommandTime, func(ctx context.Context, in *struct{ Body ApproveVMs }) (VMApproved, error) {
		if in.Body.All == (len(in.Body.Names) > 0) {
			return VMApproved{}, fmt.Errorf("%w: either names or all must be given", hostdb.ErrInvalid)
		}
		out, err := m.ApproveVMs(ctx, identityOf(ctx), in.Body.Names, in.Body.All)
		if out.VMs == nil {
			out.VMs = []VM{}
		}
		return out, err
	})
}

func registerVMPlanner(a huma.API, m VMPlanner) {
	vmOperation(a, huma.Operation{
		OperationID: "explain-vm", Method: http.MethodGet, Path: "/api/v1/vms/{name}/explain", Summary: "Why a virtual machine is where it is, or nowhere",
		Description: "Each box's verdict as things stand now. Of a machine that has a box it tells where it would go if it were new.",
	}, vmReadTime, func(ctx context.Context, in *VMPath) (VMExplanation, error) {
		out, err := m.ExplainVM(ctx, in.Name)
		if out.Boxes == nil {
			out.Boxes = []VMVerdict{}
		}
		return out, err
	})
	vmOperation(a, huma.Operation{
		OperationID: "vm-capacity", Method: http.MethodGet, Path: "/api/v1/vmcapacity", Summary: "What boxes have, and what is used",
		Description: "With without it tells what the loss of boxes would do: whether their machines fit elsewhere.",
	}, vmReadTime, func(ctx context.Context, in *struct {
		Without []string `query:"without" maxItems:"1000" doc:"Boxes that are thought away, divided by commas: a host, rack:NAME for all of a rack, rack:DATACENTER/NAME" example:"[\"rack:r12\"]"`
	}) (VMCapacity, error) {
		out, err := m.VMCapacity(ctx, in.Without)
		for _, list := range []*[]VMUsage{&out.Boxes, &out.Racks, &out.Datacenters} {
			if *list == nil {
				*list = []VMUsage{}
			}
		}
		if l := out.Loss; l != nil {
			if l.Boxes == nil {
				l.Boxes = []string{}
			}
			if l.Machines == nil {
				l.Machines = []VMLost{}
			}
		}
		return out, err
	})
}
