package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) approveCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "approve [NAME...]",
		Short: "Let virtual machines be destroyed that wait for it",
		Long: `Shows which virtual machines wait to be destroyed. Within an hour at most 5 are
destroyed in a datacenter; more wait, running, until somebody approves: it may
be a slip, or a program gone wrong.

With names, or --all for all that wait now, it lets them be destroyed. To keep
one, bring its entry back: hostmesh vm undelete NAME. Whoever could write the
host before it was deleted may approve. Machines of another datacenter are
approved at an agent there (--server).`,
		Example: `  hostmesh approve
  hostmesh approve web7 web8
  hostmesh approve --all`,
		ValidArgsFunction: a.completeWaiting,
		PreRunE: func(_ *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usagef("--all approves all that wait: leave the names out")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "approve all that wait now")
	form := cmd.PreRunE
	a.outputFlag(cmd)
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := form(cmd, args); err != nil {
			return err
		}
		return check(cmd, args)
	}
	cmd.RunE = a.ask(func(ctx context.Context, c *api.Client, args []string) error {
		if !all && len(args) == 0 {
			d, err := c.VMDestroys(ctx)
			if err != nil {
				return err
			}
			return a.print(d, func(w io.Writer) { destroysText(w, d, time.Now()) })
		}
		done, err := c.ApproveVMs(ctx, args, all)
		if err != nil {
			return err
		}
		return a.print(done, func(w io.Writer) {
			if len(done.VMs) == 0 {
				fmt.Fprintln(w, "nothing waits")
			}
			for _, vm := range done.VMs {
				fmt.Fprintln(w, visible(vm.Name+": may be destroyed"))
			}
		})
	})
	return cmd
}

func destroysText(w io.Writer, d api.VMDestroys, now time.Time) {
	if len(d.Waiting) == 0 {
		fmt.Fprintf(w, "nothing waits; %s within the last hour, of %d\n", plural(len(d.Recent), "machine was destroyed", "machines were destroyed"), d.Limit)
		return
	}
	approved := map[string]string{}
	for _, x := range d.Approved {
		approved[x.UUID] = "approved by " + x.By
	}
	row(w, "NAME", "BOX", "WAITS FOR", "REASON")
	for _, vm := range d.Waiting {
		row(w, vm.Name, orDash(vm.Box), sinceCell(vm.Since, now), orDefault(approved[vm.UUID], vm.Reason))
	}
}

// completeWaiting completes the names of machines that wait to be destroyed.
func (a *app) completeWaiting(cmd *cobra.Command, _ []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		d, err := c.VMDestroys(ctx)
		for _, vm := range d.Waiting {
			out = append(out, vm.Name)
		}
		return err
	})(cmd, nil)
	return out, cobra.ShellCompDirectiveNoFileComp
}
