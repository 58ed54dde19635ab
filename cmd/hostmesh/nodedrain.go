package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) nodeDrainCommand() *cobra.Command {
	var reason string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "drain NODE -m WHY",
		Short: "Take all duties off a node",
		Long: `Has a node, named by its name or id, hand over all duties that it holds, and
get none until "hostmesh node undrain". Nothing else changes: it goes on to
serve DNS and HostDB. A drained node is also replaced as a voter, where another
node can be one. Do it before work on a box.

The primary of a database cluster that runs there, or in a virtual machine of
its box, hands over to a replica where Failover is auto; where it is manual the
command says what to do.

The command waits until the node holds nothing, at most as long as --timeout
says. Duties for which no other node is eligible stay, are named, and make the
exit code 1; the node stays drained. Only an administrator may.`,
		Example: `  hostmesh node drain box12.dc1.example.com -m "new memory"
  hostmesh node drain box12.dc1.example.com -m "new memory" --no-wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(reason); err != nil {
				return err
			}
			return a.ask(func(ctx context.Context, c *api.Client, args []string) error {
				d, err := c.DrainNode(ctx, args[0], reason)
				if err != nil {
					return err
				}
				name := visible(either(d.Name, d.Node))
				for _, line := range d.Databases {
					fmt.Fprintln(a.stdout, visible(line))
				}
				if noWait {
					fmt.Fprintf(a.stdout, "%s is drained; it holds %s\n", name, plural(d.Holds, "duty", "duties"))
					return nil
				}
				return a.waitDrained(ctx, c, d.Node, name)
			})(cmd, args)
		},
	}
	messageFlag(cmd, &reason, "why, for those who wonder where the duties went (required)")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it holds nothing")
	return cmd
}

const (
	drainPoll = 100 * time.Millisecond
	// drainStays is for how long a duty must have had no other candidate to be one that stays: a node that starts needs a moment to
	// offer itself.
	drainStays = 3 * time.Second
)

// waitDrained waits until a node holds nothing, or nothing that another could take.
func (a *app) waitDrained(ctx context.Context, c *api.Client, node, name string) error {
	start := time.Now()
	stuck := start
	shown := -1
	for {
		list, err := c.Duties(ctx)
		var held, stay []string
		for _, d := range list.Duties {
			if d.Node == node {
				held = append(held, d.Duty)
				if d.Candidates == 0 {
					stay = append(stay, d.Duty)
				}
			}
		}
		now := time.Now()
		switch {
		case err != nil && ctx.Err() == nil && !errors.Is(err, api.ErrUnavailable): // a leader that is being replaced is waited for
			return err
		case err != nil:
			stuck = now
		case len(held) == 0:
			fmt.Fprintf(a.stdout, "%s is drained and holds nothing, after %s\n", name, now.Sub(start).Round(time.Millisecond))
			return nil
		case len(held) > len(stay):
			stuck = now
		}
		if err == nil && len(held) != shown {
			shown = len(held)
			if f, ok := a.stderr.(*os.File); ok && isTerminal(f) {
				fmt.Fprintf(a.stderr, "%s holds %s\n", name, plural(shown, "duty", "duties"))
			}
		}
		if now.Sub(stuck) >= drainStays {
			slices.Sort(stay)
			return fmt.Errorf("%s is drained but keeps %s, because no other node is eligible: %s; see hostmesh duties explain %s",
				name, plural(len(stay), "duty", "duties"), visible(strings.Join(stay, ", ")), visible(stay[0]))
		}
		select {
		case <-ctx.Done():
			if len(held) == 0 {
				return fmt.Errorf("%s is drained; what it holds is not known: %w", name, context.Cause(ctx))
			}
			return fmt.Errorf("%s is drained and still holds %s: %s: %w; it hands over when it can, see hostmesh duties",
				name, plural(len(held), "duty", "duties"), visible(strings.Join(held, ", ")), context.Cause(ctx))
		case <-time.After(drainPoll):
		}
	}
}

func (a *app) nodeUndrainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a node hold duties again",
		Long: `Lets a node that was drained hold duties again. What it held before does not
come back by itself: it gets its share of what is granted from now on. Only an
administrator may.`,
		Example:           `  hostmesh node undrain box12.dc1.example.com`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			n, err := c.UndrainNode(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s may hold duties again\n", visible(either(n.Name, n.ID)))
			return nil
		}),
	}
}
