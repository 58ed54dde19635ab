package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) vmExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain NAME",
		Short: "Show why a virtual machine is where it is, or nowhere",
		Long: `Shows what each box has to say about a virtual machine as things stand now:
those that could have it first, the best of them at the top, with what speaks
for them; then those that cannot, and why. Of a machine that waits it says why.
Of one that has a box it tells where it would go if it were new. Boxes that
failed to make it are listed with their reasons.`,
		Example:           `  hostmesh vm explain web7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeVMs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.ExplainVM(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { vmExplanationText(w, e, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func vmExplanationText(w io.Writer, e api.VMExplanation, now time.Time) {
	fmt.Fprintln(w, visible(e.Reason))
	if e.Problem != "" && e.Problem != e.Reason {
		fmt.Fprintln(w, visible("no box can have it: "+e.Problem))
	}
	if e.Placer != "" {
		fmt.Fprintln(w, visible("placed by "+either(e.PlacerName, e.Placer)))
	}
	if len(e.Boxes) > 0 {
		fmt.Fprintln(w)
		row(w, "BOX", "FITS", "SCORE", "REASON")
		for _, b := range e.Boxes {
			fits, score := "no", "-"
			if b.OK {
				fits, score = "yes", fmt.Sprintf("%.2f", b.Score)
			}
			row(w, b.Box, fits, score, b.Reason)
		}
	}
	if len(e.Refused) > 0 {
		fmt.Fprintln(w)
		row(w, "REFUSED BY", "AGO", "REASON")
		for _, r := range e.Refused {
			row(w, either(r.Box, r.Node), ago(r.At, now), r.Reason)
		}
	}
}

func (a *app) vmCapacityCommand() *cobra.Command {
	var without []string
	cmd := &cobra.Command{
		Use:   "capacity",
		Short: "Show what boxes have, what is used, and what a loss would do",
		Long: `Shows for each box how many virtual processors, how much memory and disk it
gives to machines, and what of it is free, and the same for the whole. A box
that takes no machines now is named with the reason; nothing is free on it.

--without thinks boxes away: a box, or all of a rack as rack:NAME, or as
rack:DATACENTER/NAME where several datacenters have a rack of that name. It
shows which machines would be gone, and whether they fit elsewhere, and ends
with exit code 1 when some do not.`,
		Example: `  hostmesh vm capacity
  hostmesh vm capacity --without box3.dc1.example.com
  hostmesh vm capacity --without rack:r12 -o json`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.VMCapacity(ctx, without)
			if err != nil {
				return err
			}
			if err := a.print(v, func(w io.Writer) { vmCapacityText(w, v) }); err != nil {
				return err
			}
			if v.Loss != nil && v.Loss.Homeless > 0 {
				return errSilent
			}
			return nil
		}),
	}
	cmd.Flags().StringSliceVar(&without, "without", nil, "`BOX` or rack:NAME that is thought away; may be given more than once")
	a.outputFlag(cmd)
	return cmd
}

func vmCapacityText(w io.Writer, v api.VMCapacity) {
	if l := v.Loss; l != nil {
		fmt.Fprintln(w, visible(l.Reason))
		if len(l.Machines) == 0 {
			return
		}
		fmt.Fprintln(w)
		row(w, "MACHINE", "BOX", "THEN", "TO", "REASON")
		for _, m := range l.Machines {
			then := "waits"
			if m.Recreate {
				then = "is made anew"
			}
			row(w, m.Name, m.Box, then, orDash(m.To), m.Reason)
		}
		return
	}
	if len(v.Boxes) == 0 {
		fmt.Fprintln(w, "no box carries virtual machines: a host that does has the fact Box, and an agent with libvirt")
		return
	}
	row(w, "BOX", "PLACE", "MACHINES", "CPUS FREE", "MEMORY FREE", "DISK FREE", "PROBLEM")
	for _, u := range v.Boxes {
		usageRow(w, u.Box, place(u.Datacenter, u.Rack), u, u.Problem)
	}
	out := ""
	if v.Total.Out > 0 {
		out = plural(v.Total.Out, "box takes", "boxes take") + " no machines"
	}
	usageRow(w, "total", plural(v.Total.Boxes, "box", "boxes"), v.Total, out)
}

func usageRow(w io.Writer, name, where string, u api.VMUsage, note string) {
	of := func(free, all int64) string {
		return fmt.Sprintf("%s of %s", size(free), size(all))
	}
	row(w, name, where, fmt.Sprint(u.Machines), fmt.Sprintf("%d of %d", u.Free.CPUs, u.Total.CPUs), of(u.Free.Memory, u.Total.Memory), of(u.Free.Disk, u.Total.Disk), note)
}
