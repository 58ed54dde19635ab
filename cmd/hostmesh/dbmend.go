package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbForksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forks",
		Short: "List operations that are kept aside",
		Long: `Lists operations that do not continue the history which the agent holds: two
boxes write under one identity, as a machine does that was copied while it ran.
An agent keeps the chain that it heard of first. What it hears of the other one
is kept aside and not merged; write it again where it should stand, and empty
the data directory of the copy. Only administrators may look.`,
		Example: `  hostmesh db forks
  hostmesh db forks -o json`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Forks(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "no forks")
				}
				for _, f := range list {
					fmt.Fprintf(w, "%s  %s  run %s of %s, operation %d, which is %s here: %s\n", visible(f.Revision), visible(orDash(f.User)), visible(f.Origin),
						visible(orDash(f.Node)), f.Seq, visible(orDash(f.Ours)), visible(f.Log))
					changesText(w, f.Changes, f.Omitted)
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) dbRestampCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "restamp",
		Short: "Write operations of a box whose clock ran ahead anew",
		Long: `For a box whose clock ran ahead while it was cut off: the others hold its
operations aside until their clocks have passed the stamps, and it takes no
writes. Correct its clock first. Then, asked there, this takes the operations
that no other member holds and that are stamped ahead of the clock out of its
replica, and writes each again as it is now. What others wrote in the same place
meanwhile stands: what is left out is listed, and kept in the replica. Only
administrators may.`,
		Example: `  hostmesh db restamp`,
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			out, err := c.Restamp(ctx, all)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if len(out.Moved) == 0 {
					fmt.Fprintln(w, "nothing to restamp: no operation that only this node holds is ahead of its clock")
				}
				for _, m := range out.Moved {
					fmt.Fprintf(w, "%s -> %s  %s: %s\n", visible(m.Old), visible(orDash(m.New)), visible(orDash(m.User)), visible(m.Log))
				}
				for _, l := range out.Left {
					fmt.Fprintf(w, "left out of %s: %s: %s\n", visible(l.Revision), visible(l.Change.Place()), visible(l.Why))
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also operations that are not stamped ahead of the clock")
	a.outputFlag(cmd)
	return cmd
}
