package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/section"
	"hostmesh/node/api"
)

func (a *app) vmCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "vm",
		Short: "Make, look after and end virtual machines",
		Long: `Makes virtual machines and ends them. A machine is an entry in hosts that has a
VM: "create" writes it, a box is found and makes it, and from then on it has its
name in DNS and is in its tags. Deleting the entry ends it; its disks are kept
for a while, in which "undelete" brings it back.

Whoever may write the entry of a host may do all of this with it.`,
	})
	cmd.AddCommand(
		a.vmCreateCommand(), a.vmListCommand(), a.vmShowCommand(), a.vmStartCommand(), a.vmStopCommand(), a.vmRebootCommand(),
		a.vmDestroyCommand(), a.vmUndeleteCommand(), a.vmPurgeCommand(), a.vmRetryCommand(), a.vmConsoleCommand(), a.vmEventsCommand(),
		a.vmWaitCommand(), a.vmExplainCommand(), a.vmCapacityCommand(),
	)
	return cmd
}

// vmPhases are those that a list may be narrowed to.
var vmPhases = []string{"pending", "reserved", "preparing", "starting", "running", "stopping", "stopped", "failed", "unreachable", "waiting", "deleted", "foreign"}

func (a *app) vmListCommand() *cobra.Command {
	var f api.VMFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List virtual machines",
		Long: `Lists all virtual machines: those that the host database wants, with what their
boxes report; deleted ones whose disks are kept; and foreign ones, which
somebody made without hostmesh, and which are never touched.

PHASE is pending (no box has it yet), reserved, preparing, starting, running,
stopping, stopped, failed, unreachable (its box does not answer), waiting (to be
destroyed: see hostmesh approve), deleted or foreign. SINCE is for how long.`,
		Example: `  hostmesh vm list
  hostmesh vm list --box box3.dc1.example.com
  hostmesh vm list --phase failed -o json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&f.Box, "box", "", "only those of a `BOX`")
	cmd.Flags().StringVar(&f.Tag, "tag", "", "only members of a `TAG`")
	cmd.Flags().StringVar(&f.Phase, "phase", "", "only those in a `PHASE`")
	a.outputFlag(cmd)
	form := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if f.Phase != "" && !slices.Contains(vmPhases, f.Phase) {
			return usagef("--phase %s: the phases are %s", f.Phase, strings.Join(vmPhases, ", "))
		}
		return form(cmd, args)
	}
	_ = cmd.RegisterFlagCompletionFunc("phase", cobra.FixedCompletions(vmPhases, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.VMs(ctx, f)
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) { vmTable(w, list.VMs, time.Now()) })
	})
	return cmd
}

// shownReason is how much of a reason a table shows; show has all of it.
const shownReason = 70

func vmTable(w io.Writer, list []api.VM, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no virtual machine")
		return
	}
	row(w, "NAME", "PHASE", "BOX", "ADDRESS", "CPUS", "MEMORY", "IMAGE", "SINCE", "REASON")
	for _, vm := range list {
		reason := []rune(vm.Reason)
		if len(reason) > shownReason {
			reason = append(reason[:shownReason-3], []rune("...")...)
		}
		row(w, vm.Name, vm.Phase, orDash(vm.Box), orDash(vm.IP), fmt.Sprint(vm.CPUs), section.Size(max(vm.Memory, 0)).String(), orDash(vm.Image), sinceCell(vm.Since, now), string(reason))
	}
}

func (a *app) vmShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one virtual machine",
		Long:              `Shows what the host database wants of a virtual machine, and what its box reports.`,
		Example:           `  hostmesh vm show web7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeVMs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			vm, err := c.VM(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(vm, func(w io.Writer) { vmText(w, vm, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func vmText(w io.Writer, vm api.VM, now time.Time) {
	row(w, "name", vm.Name)
	phase := vm.Phase
	if vm.Step != "" {
		phase += " (" + vm.Step + ")"
	}
	row(w, "phase", phase, "for "+sinceCell(vm.Since, now))
	optional := func(name, value string) {
		if value != "" {
			row(w, name, value)
		}
	}
	optional("reason", vm.Reason)
	if vm.Restart {
		row(w, "restart", "needed: a change of its entry counts from the next start")
	}
	if vm.Until != nil {
		row(w, "disks", "kept until "+vm.Until.Local().Format("2006-01-02 15:04 MST"))
	}
	optional("box", vm.Box)
	optional("address", vm.IP)
	optional("mac", vm.MAC)
	optional("image", vm.Image)
	optional("subnet", vm.Subnet)
	row(w, "cpus", fmt.Sprint(vm.CPUs))
	row(w, "memory", section.Size(max(vm.Memory, 0)).String())
	if vm.Disk > 0 {
		row(w, "disk", section.Size(vm.Disk).String())
	} else if vm.Wanted {
		row(w, "disk", "as large as the image")
	}
	optional("power", vm.Power)
	optional("status", vm.Status)
	optional("tags", strings.Join(vm.Tags, " "))
	optional("owner", vm.Owner)
	optional("expires", vm.Expires)
	if vm.Protected {
		row(w, "protected", "yes")
	}
	optional("uuid", vm.UUID)
}

// completeVMs completes the names of machines.
func (a *app) completeVMs(cmd *cobra.Command, _ []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.VMs(ctx, api.VMFilter{})
		for _, vm := range list.VMs {
			out = append(out, vm.Name)
		}
		return err
	})(cmd, nil)
	return out, cobra.ShellCompDirectiveNoFileComp
}
