package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbBlameCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "blame ID",
		Short: "Show who last wrote each line",
		Long: `Shows for each line of the data, the member list (ID/members) or the access list
(ID/perms) of a key which revision wrote it last, who that was, and when.`,
		Example: `  hostmesh db blame hosts/web1.dc1.example.com
  hostmesh db blame tags/web/members
  hostmesh db blame hosts/web1.dc1.example.com/Network --as-of 2026-01-31`,
		Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			b, err := c.Blame(ctx, args[0], at)
			if err != nil {
				return err
			}
			a.warnUnsettled(b.Settled == nil || *b.Settled)
			return a.print(b, func(w io.Writer) {
				for _, l := range b.Lines {
					fmt.Fprintf(w, "%s\t%s\t%s\t| %s\n", visible(orDash(l.Revision)), visible(orDash(l.User)), stampText(l.Time), visible(l.Text))
				}
			})
		}),
	}
	cmd.Flags().StringVar(&at, "as-of", "", "the lines as they were at this `MOMENT`: a revision or a time, as for \"hostmesh db diff\"")
	a.outputFlag(cmd)
	return cmd
}
