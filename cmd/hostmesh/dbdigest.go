package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbDigestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "digest",
		Short: "Print what this copy holds, in a form that can be compared",
		Long: `Prints a digest of each namespace, with the version they are of. Two agents with
the same version must print the same text; with another version one of them is
only behind, and the digests say nothing.`,
		Example: `  hostmesh db digest
  hostmesh db digest --server http://127.0.0.12:7950 | diff - <(hostmesh db digest)`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			d, err := c.Digest(ctx)
			if err != nil {
				return err
			}
			return a.print(d, func(w io.Writer) {
				row(w, "version", d.Version)
				row(w, "algorithm", fmt.Sprint(d.Algorithm))
				for _, ns := range slices.Sorted(maps.Keys(d.Namespaces)) {
					row(w, ns, d.Namespaces[ns])
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) dbNamespaceCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "namespace",
		Short: "Make namespaces",
		Long:  `Makes namespaces beside hosts and tags, which always exist.`,
	})
	var log string
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a namespace",
		Long: `Makes a namespace. Only an administrator may. Making one that exists changes
nothing and is no error.`,
		Example: `  hostmesh db namespace create vips`,
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			name := strings.Trim(args[0], "/")
			_, err := c.CreateNamespace(ctx, name, orDefault(log, "hostmesh db namespace create "+name))
			return err
		}),
	}
	messageFlag(create, &log, "why, for those who read the history (default: the command)")
	cmd.AddCommand(create)
	return cmd
}
