package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) membersCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show who is in the mesh",
		Long: `Shows every member of the mesh that this node knows of, as this node sees it.
Each node has its own opinion: ask another one when in doubt.

STATE is alive; failed (it stopped answering); left (its agent was stopped in
order); or unknown (not heard of since this agent started). SINCE is for how
long this node has seen it so. RTT is the estimated round trip from this node.
ID is the first part of the node's id; -o json has all of it. --all shows those
that were removed as well: they are not let in again.`,
		Example: `  hostmesh members
  hostmesh members -o json`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Members(ctx)
			if err != nil {
				return err
			}
			if all {
				removed, err := c.RemovedNodes(ctx)
				if err != nil {
					return err
				}
				for _, n := range removed {
					m := api.Member{ID: n.ID, Name: n.Name, State: "removed"}
					if n.At != nil {
						m.Since = *n.At
					}
					list = append(list, m)
				}
			}
			return a.print(list, func(w io.Writer) { membersTable(w, list, time.Now()) })
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "show removed nodes, too")
	a.outputFlag(cmd)
	return cmd
}

func membersTable(w io.Writer, list []api.Member, now time.Time) {
	row(w, "NAME", "STATE", "ADDRESS", "PLACE", "RTT", "SINCE", "ID")
	for _, m := range list {
		rtt := "-"
		switch {
		case m.Self:
			rtt = "self"
		case m.RTTMillis > 0 && m.State == "alive":
			rtt = fmt.Sprintf("%.1fms", m.RTTMillis)
		}
		row(w, orDash(m.Name), m.State, orDash(m.Addr), place(m.Datacenter, m.Rack), rtt, ago(m.Since, now), m.ID[:min(8, len(m.ID))])
	}
}

// place is where a box stands, from what is known of it.
func place(datacenter, rack string) string {
	if rack == "" {
		return orDash(datacenter)
	}
	return orDash(datacenter) + "/" + rack
}
