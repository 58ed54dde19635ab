package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbDiffCommand() *cobra.Command {
	var (
		names bool
		limit int
	)
	cmd := &cobra.Command{
		Use:   "diff ID [FROM [TO]]",
		Short: "Show how something differs between two moments",
		Long: `Shows how the data, the member list and the access list of a key differ between
two moments, in the form of diff -u. ID may also name a part of a key, a whole
namespace, or everything (/).

FROM and TO are revisions or times: a revision stands for the state right after
it. Without TO it is now; without either, what the last change did. A time is
2026-01-31 (its end), "2026-01-31 12:00:05" (UTC), 2026-01-31T12:00:05+01:00, or
how long ago it is, such as 90m.`,
		Example: `  hostmesh db diff hosts/web1.dc1.example.com
  hostmesh db diff tags/web/members 24h
  hostmesh db diff hosts 2026-01-30 2026-01-31
  hostmesh db diff / 10m --names`,
		Args: cobra.RangeArgs(1, 3),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			q := api.DiffQuery{Limit: limit}
			if len(args) > 1 {
				q.From = args[1]
			}
			if len(args) > 2 {
				q.To = args[2]
			}
			d, err := c.Diff(ctx, args[0], q)
			if err != nil {
				return err
			}
			a.warnUnsettled(d.Settled == nil || *d.Settled)
			if d.More {
				fmt.Fprintf(a.stderr, "warning: only the first %s that differ are shown: ask for more with -n\n", plural(len(d.Keys), "key", "keys"))
			}
			return a.print(d, func(w io.Writer) {
				for _, k := range d.Keys {
					switch {
					case names && k.From != "":
						fmt.Fprintln(w, visible(k.Kind+" "+k.From+" to "+k.ID))
					case names:
						fmt.Fprintln(w, visible(k.Kind+" "+k.ID))
					default:
						diffText(w, k.Diff)
					}
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&names, "names", false, "only tell which keys differ")
	cmd.Flags().IntVarP(&limit, "number", "n", 100, "at most `N` keys, up to 1000")
	a.outputFlag(cmd)
	return cmd
}

// warnUnsettled says so when a picture of the past may still change.
func (a *app) warnUnsettled(settled bool) {
	if !settled {
		fmt.Fprintln(a.stderr, "warning: not settled: a node that is away may still send writes of before that moment")
	}
}
