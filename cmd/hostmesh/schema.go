package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func (a *app) schemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema [SECTION]",
		Short: "Explain the sections of tags and the facts of hosts",
		Long: `Explains what hostmesh reads in the documents of hosts and tags: what may stand
there, its unit, its default, and an example. SECTION is the name of a section
of a tag (DNS, LB, Puppet, ...) or of a fact of a host (Network, VM, ...).

It is what this program knows; no agent is asked.`,
		Example: `  hostmesh schema
  hostmesh schema DNS
  hostmesh schema VM -o json`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, d := range section.Schema() {
				names = append(names, d.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: a.do(func(_ context.Context, _ *cobra.Command, args []string) error {
			list := section.Schema()
			if len(args) == 1 {
				d, err := section.Find(args[0])
				if errors.Is(err, hostdb.ErrNotFound) {
					return fmt.Errorf("%w (hostmesh schema lists all)", err)
				}
				if err != nil {
					return err
				}
				list = []section.Description{d}
			}
			if a.output == formTable {
				return section.WriteText(a.stdout, list)
			}
			return a.print(list, nil)
		}),
	}
	a.outputFlag(cmd)
	return cmd
}
