package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dnsTopCommand() *cobra.Command {
	most := 10
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what this node is asked, and by whom",
		Long: `Shows what this node was asked by DNS since it started, and which addresses
asked most. Addresses are counted about: of questions that come together one is
looked at, and only those that ask most are remembered.`,
		Example: `  hostmesh dns top
  hostmesh dns top --most 50`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			top, err := c.DNSTop(ctx)
			if err != nil {
				return err
			}
			return a.print(top, func(w io.Writer) {
				row(w, "QUERIES", "ZONE", "TYPE", "RCODE")
				for _, q := range top.Queries[:min(len(top.Queries), max(most, 0))] {
					row(w, fmt.Sprint(q.Queries), orDash(q.Zone), q.Type, q.Rcode)
				}
				row(w)
				row(w, "QUERIES", "ADDRESS")
				for _, asker := range top.Askers[:min(len(top.Askers), max(most, 0))] {
					row(w, fmt.Sprint(asker.Queries), asker.Addr)
				}
			})
		}),
	}
	cmd.Flags().IntVar(&most, "most", most, "print this many `lines` of each")
	a.outputFlag(cmd)
	return cmd
}
