package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

// vmRecords are the lease records that are read and written for people: *lease.Lease.
type vmRecords = vmd.Records

// allowed decides whether somebody may have something done to a machine: who may write the host. When its entry is gone, who
// could write it before.
func (d *vmDesk) allowed(ctx context.Context, who api.Identity, name string) error {
	v := d.db.View()
	if !v.Exists(hostdb.Hosts, name) {
		switch del, err := vmd.FindDeletion(ctx, d.db, name); {
		case err == nil:
			v = del.Before
		case !who.Admin && !errors.Is(err, hostdb.ErrNotFound):
			return err
		}
	}
	return who.Allow(v, hostdb.Hosts, name, hostdb.Data)
}

// named is a machine of a name, and what speaks against asking a box about it under that name.
type named struct {
	vm    api.VM
	entry bool  // HostDB has it under this name
	clash error // whose it is cannot be told
}

// machine finds the machine of a name that is in a box, that is fit for what is asked, and that somebody may ask about. Of
// several that are fit, which only one that HostDB does not have any more can be, uuid says which; "" = the one of the entry.
func (d *vmDesk) machine(ctx context.Context, who api.Identity, name, uuid string, fit func(api.VM) bool) (api.VM, error) {
	var list []named
	d.look(func(t *vmTable) { list = t.named(name) })
	if len(list) == 0 {
		if err := d.allowed(ctx, who, name); err != nil {
			return api.VM{}, err
		}
		if _, err := vmd.Machine(d.db.View(), name); err != nil {
			return api.VM{}, err
		}
		return api.VM{}, fmt.Errorf("machine %s: %w", name, api.ErrNotFound)
	}
	var may []named
	var refused error
	for _, n := range list {
		switch err := d.allowedOf(ctx, who, n); {
		case err == nil:
			may = append(may, n)
		case refused == nil:
			refused = err
		}
	}
	if len(may) == 0 {
		return api.VM{}, refused
	}
	var found []named
	for _, n := range may {
		if fit(n.vm) && (uuid == "" || strings.EqualFold(uuid, n.vm.UUID)) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 0 && uuid != "":
		return may[0].vm, fmt.Errorf("machine %s with the UUID %s: %w", name, uuid, api.ErrNotFound)
	case len(found) == 0:
		return may[0].vm, fmt.Errorf("%w: %s", api.ErrVMState, stateText(may[0].vm))
	case len(found) > 1 && !found[0].entry:
		return found[0].vm, fmt.Errorf("%w: %s is the name of several machines that were deleted: %s; say which (--uuid)", api.ErrVMState, name, uuidsText(found))
	}
	return found[0].vm, found[0].clash
}

func uuidsText(list []named) string {
	var out []string
	for _, n := range list {
		text := n.vm.UUID + " on " + n.vm.Box
		if n.vm.Until != nil {
			text += ", kept until " + n.vm.Until.Format("2006-01-02 15:04 MST")
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// allowedOf decides whether somebody may have something done to this machine of a name. Where HostDB has the name no more, or
// gave it to another machine since, that is who could write the entry that had this one's UUID, when it was deleted.
func (d *vmDesk) allowedOf(ctx context.Context, who api.Identity, n named) error {
	v := d.db.View()
	if !n.entry && !who.Admin {
		del, err := vmd.FindDeletionOf(ctx, d.db, n.vm.Name, n.vm.UUID)
		switch {
		case err == nil:
			v = del.Before
		case errors.Is(err, hostdb.ErrNotFound):
			return fmt.Errorf("machine %s (%s): %w: history does not tell whose it was, so an administrator must do that", n.vm.Name, n.vm.UUID, hostdb.ErrDenied)
		default:
			return err
		}
	}
	return who.Allow(v, hostdb.Hosts, n.vm.Name, hostdb.Data)
}

// namedAs is a machine of a list, as machine looks at it.
func (d *vmDesk) namedAs(vm api.VM) (n named) {
	d.look(func(t *vmTable) { n = t.named1(vm) })
	return n
}

// stateText tells how a machine stands, for those who wanted something else.
func stateText(vm api.VM) string {
	text := vm.Name + " is " + vm.Phase
	if vm.Reason != "" {
		text += ": " + vm.Reason
	}
	return text
}

// tell has a box do something with a machine.
func (d *vmDesk) tell(ctx context.Context, vm api.VM, call string, req, answer any) error {
	if vm.Node == "" || vm.Step == stepPlace && call != vmd.CallRetry {
		return fmt.Errorf("%w: %s", api.ErrVMState, stateText(vm))
	}
	raw, err := d.net.Call(ctx, vm.Node, call, vmd.Encode(req))
	if err == nil {
		err = vmd.Decode(raw, answer)
	}
	return vmCallError(vm, err)
}

// vmCallError sorts what a box answers.
func vmCallError(vm api.VM, err error) error {
	var remote *mesh.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mesh.ErrNoHandler):
		return fmt.Errorf("%w: the agent of %s carries no machines: it is of an older version, or was set up anew", api.ErrVMAway, vm.Box)
	case errors.As(err, &remote):
		kind := map[string]error{
			vmd.CodeNotHere: api.ErrNotFound, vmd.CodeProtected: hostdb.ErrProtected, vmd.CodeState: api.ErrVMState,
			vmd.CodeAway: api.ErrVMAway, vmd.CodeInvalid: hostdb.ErrInvalid, vmd.CodeFence: api.ErrVMState,
		}[remote.Code]
		return &dutyError{fmt.Sprintf("%s: %s", vm.Box, remote.Text), err, kind}
	case errors.Is(err, mesh.ErrUnreachable), errors.Is(err, mesh.ErrNotMember), errors.Is(err, context.DeadlineExceeded):
		return &dutyError{fmt.Sprintf("%s, which has %s, cannot be asked: %v", vm.Box, vm.Name, err), err, api.ErrVMAway}
	}
	return fmt.Errorf("ask %s about %s: %w", vm.Box, vm.Name, err)
}

func (d *vmDesk) done(vm api.VM, who api.Identity, what string, answer vmd.Done) api.VMDone {
	d.log.Info(what, "vm", vm.Name, "uuid", vm.UUID, "box", vm.Box, "user", who.User)
	return api.VMDone{Name: vm.Name, UUID: vm.UUID, Box: vm.Box, Text: answer.Text}
}

// RebootVM implements api.VMCommands.
func (d *vmDesk) RebootVM(ctx context.Context, who api.Identity, name string, o api.VMReboot) (api.VMDone, error) {
	vm, err := d.machine(ctx, who, name, "", func(vm api.VM) bool { return vm.Wanted })
	if err != nil {
		return api.VMDone{}, err
	}
	if vm.Protected && o.Override == "" {
		return api.VMDone{}, fmt.Errorf("hosts/%s is %w: to reboot it, give an override with the reason, or end the protection first", name, hostdb.ErrProtected)
	}
	if _, err := d.needed(ctx, name, "reboot", o.Override); err != nil {
		return api.VMDone{}, err
	}
	var answer vmd.Done
	if err := d.tell(ctx, vm, vmd.CallReboot, vmd.Reboot{UUID: vm.UUID, Hard: o.Hard, By: who.User, Override: o.Override}, &answer); err != nil {
		return api.VMDone{}, err
	}
	return d.done(vm, who, "machine rebooted", answer), nil
}

// PurgeVM implements api.VMCommands.
func (d *vmDesk) PurgeVM(ctx context.Context, who api.Identity, name string, o api.VMPurge) (api.VMDone, error) {
	vm, err := d.machine(ctx, who, name, o.UUID, func(vm api.VM) bool { return !vm.Wanted && vm.Phase != string(report.Foreign) })
	if errors.Is(err, api.ErrVMState) && vm.Wanted {
		return api.VMDone{}, fmt.Errorf("%w: %s is not deleted: hostmesh vm destroy %s first", api.ErrVMState, name, name)
	}
	if err != nil {
		return api.VMDone{}, err
	}
	var answer vmd.Done
	if err := d.tell(ctx, vm, vmd.CallPurge, vmd.Purge{UUID: vm.UUID, By: who.User, Override: o.Override}, &answer); err != nil {
		return api.VMDone{}, err
	}
	return d.done(vm, who, "machine purged", answer), nil
}

// RetryVM implements api.VMCommands.
func (d *vmDesk) RetryVM(ctx context.Context, who api.Identity, name string) (api.VMDone, error) {
	vm, err := d.machine(ctx, who, name, "", func(vm api.VM) bool { return vm.Phase != string(report.Foreign) })
	if err != nil {
		return api.VMDone{}, err
	}
	var answer vmd.Done
	req := vmd.Retry{UUID: vm.UUID, By: who.User}
	if vm.Node == "" { // no box has it: who places is asked
		placer, err := d.placer(ctx)
		if err != nil {
			return api.VMDone{}, err
		}
		vm.Node, vm.Box = placer, nodeName(d.net.View(), placer)
	}
	if err := d.tell(ctx, vm, vmd.CallRetry, req, &answer); err != nil {
		return api.VMDone{}, err
	}
	return d.done(vm, who, "machine to be tried again", answer), nil
}

// VMConsole implements api.VMCommands.
func (d *vmDesk) VMConsole(ctx context.Context, who api.Identity, name string, from int64, wait time.Duration) (api.VMConsole, error) {
	vm, err := d.machine(ctx, who, name, "", func(vm api.VM) bool { return vm.Box != "" && vm.Node != "" && vm.Phase != string(report.Foreign) })
	if err != nil {
		return api.VMConsole{}, err
	}
	var part vmd.ConsolePart
	if err := d.tell(ctx, vm, vmd.CallConsole, vmd.ConsoleRead{UUID: vm.UUID, Offset: from, WaitMS: wait.Milliseconds()}, &part); err != nil {
		return api.VMConsole{}, err
	}
	if wait == 0 || from < 0 { // the beginning, and not each piece of what is followed
		d.log.Info("console read", "vm", vm.Name, "uuid", vm.UUID, "box", vm.Box, "user", who.User)
	}
	return api.VMConsole{Data: part.Data, Next: part.Next}, nil
}

// VMDestroys implements api.VMCommands.
func (d *vmDesk) VMDestroys(ctx context.Context) (api.VMDestroys, error) {
	out := api.VMDestroys{Limit: vmd.DestroysPerHour}
	names := map[string]string{}
	d.look(func(t *vmTable) {
		for _, vm := range t.rows {
			names[vm.UUID] = vm.Name
		}
		out.Waiting = t.list(api.VMFilter{Phase: string(report.Waiting)})
	})
	records, err := d.records()
	if err != nil {
		return out, err
	}
	r, _, err := vmd.ReadDestroys(ctx, records)
	if err != nil {
		return out, d.leaseError(err)
	}
	hour := d.now().Add(-time.Hour)
	for _, x := range r.Recent {
		if when := time.UnixMilli(x.At).UTC(); when.After(hour) {
			out.Recent = append(out.Recent, api.VMDestroyed{UUID: x.UUID, Name: names[x.UUID], At: when})
		}
	}
	for _, x := range r.Approved {
		out.Approved = append(out.Approved, api.VMApprovedAs{UUID: x.UUID, Name: names[x.UUID], By: x.By, At: time.UnixMilli(x.At).UTC()})
	}
	return out, nil
}

// ApproveVMs implements api.VMCommands.
func (d *vmDesk) ApproveVMs(ctx context.Context, who api.Identity, names []string, all bool) (api.VMApproved, error) {
	var waiting []api.VM
	d.look(func(t *vmTable) { waiting = t.list(api.VMFilter{Phase: string(report.Waiting)}) })
	var chosen []api.VM
	if all {
		chosen = waiting
	}
	for _, name := range names {
		n := len(chosen)
		for _, vm := range waiting {
			if vm.Name == name {
				chosen = append(chosen, vm)
			}
		}
		if len(chosen) == n {
			return api.VMApproved{}, fmt.Errorf("machine %s: %w: it does not wait to be destroyed; hostmesh approve lists those that do", name, api.ErrNotFound)
		}
	}
	var uuids []string
	mv := d.net.View()
	for _, vm := range chosen {
		if err := d.allowedOf(ctx, who, d.namedAs(vm)); err != nil {
			return api.VMApproved{}, fmt.Errorf("nothing was approved: %w", err)
		}
		// The record is of this datacenter's group, and another would not look into it.
		if m, ok := mv.Get(vm.Node); ok && m.Datacenter != d.datacenter {
			return api.VMApproved{}, fmt.Errorf("%w: nothing was approved: %s is on %s of datacenter %s: approve it there (--server)", api.ErrVMState, vm.Name, vm.Box, m.Datacenter)
		}
		uuids = append(uuids, vm.UUID)
	}
	if len(uuids) == 0 {
		return api.VMApproved{}, nil
	}
	records, err := d.records()
	if err == nil {
		if err = vmd.Approve(ctx, records, uuids, who.User, d.now()); err != nil {
			err = d.leaseError(err)
		}
	}
	if err != nil {
		return api.VMApproved{}, err
	}
	d.log.Info("destroys approved", "user", who.User, "vms", strings.Join(vmNames(chosen), " "))
	return api.VMApproved{VMs: chosen}, nil
}

func vmNames(list []api.VM) (names []string) {
	for _, vm := range list {
		names = append(names, vm.Name)
	}
	return names
}
