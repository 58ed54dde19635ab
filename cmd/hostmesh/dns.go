package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dnsCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "dns",
		Short: "Look at the DNS zones this node serves",
		Long: `Looks at the DNS zones this node serves: what is in them, what cannot be, how
they differ from other times and servers. What is in them follows from the host
database. "import" makes hosts and a tag of a zone file of another server.`,
	})
	zones := &cobra.Command{
		Use:     "zones",
		Short:   "List the zones",
		Long:    `Lists the zones this node serves, with serial and number of records. Nodes with equal content have equal serials.`,
		Example: `  hostmesh dns zones`,
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Zones(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "ZONE", "SERIAL", "RECORDS")
				for _, z := range list {
					row(w, z.Name, fmt.Sprint(z.Serial), fmt.Sprint(z.Records))
				}
			})
		}),
	}
	a.outputFlag(zones)
	zone := &cobra.Command{
		Use:   "zone ZONE",
		Short: "Print a zone as a zone file",
		Long:  `Prints a zone as a zone file (RFC 1035), as other name servers read it.`,
		Example: `  hostmesh dns zone dc1.example.com
  hostmesh dns zone dc1.example.com > db.dc1 && named-checkzone dc1.example.com db.dc1`,
		Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			return c.WriteZone(ctx, a.stdout, args[0])
		}),
	}
	cmd.AddCommand(zones, zone, a.dnsLookupCommand(), a.dnsExplainCommand(), a.dnsCheckCommand(), a.dnsDiffCommand(), a.dnsImportCommand(), a.dnsKeyCommand(), a.dnsTopCommand())
	return cmd
}
