package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbReadOnlyCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "read-only",
		Short: "Stop and allow writes in the whole mesh",
		Long: `Switches read-only mode, which is of the whole mesh: every agent refuses writes
and logins from when it hears of it, and goes on to answer. Whoever is logged in
stays so. Only an administrator may switch it.`,
	})
	cmd.AddCommand(
		a.readOnlySwitch("on", true, "Stop writes in the whole mesh",
			"Stops writes in the whole mesh. The message is what everybody whose write is\nrefused gets to read.",
			`  hostmesh db read-only on -m "the datacenter moves until 18:00"`),
		a.readOnlySwitch("off", false, "Allow writes again",
			"Allows writes again. An agent that is cut off goes on to refuse them until it\nhears of it.",
			`  hostmesh db read-only off -m "moved"`),
		a.readOnlyStatusCommand(),
	)
	return cmd
}

func (a *app) readOnlySwitch(verb string, on bool, short, long, example string) *cobra.Command {
	var reason string
	use := verb
	if on {
		use += " -m MESSAGE"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if on {
				if err := needMessage(reason); err != nil {
					return err
				}
			}
			return a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
				_, err := c.SetReadOnly(ctx, on, reason)
				return err
			})(cmd, args)
		},
	}
	usage := "why, for those who read the history"
	if on {
		usage = "why, for those whose write is refused (required)"
	}
	messageFlag(cmd, &reason, usage)
	return cmd
}

func (a *app) readOnlyStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Tell whether writes are refused",
		Long:    `Tells whether the mesh is in read-only mode, as the agent that is asked knows it.`,
		Example: `  hostmesh db read-only status`,
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			r, err := c.ReadOnly(ctx)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				if !r.On {
					fmt.Fprintln(w, "off")
					return
				}
				line := "on: " + r.Reason
				if r.Since != nil {
					line = "on since " + stampText(*r.Since) + " UTC: " + r.Reason
				}
				fmt.Fprintln(w, visible(line))
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}
