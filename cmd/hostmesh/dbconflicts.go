package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbConflictsCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "conflicts [NAMESPACE]",
		Short: "List writes that lost to others",
		Long: `Lists the places that two people wrote without having seen each other's write,
through agents that were cut off from each other or at the same moment. One of
the writes won, on every node the same; the other is in the history alone.

A conflict is listed until somebody writes the place again: write the right
value, or take the winner's revision back with "hostmesh db undo". Other keys
that the losing revision wrote are named, because they belong together.`,
		Example: `  hostmesh db conflicts
  hostmesh db conflicts tags -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			ns := ""
			if len(args) > 0 {
				ns = args[0]
			}
			list, err := c.Conflicts(ctx, ns, limit)
			if err != nil {
				return err
			}
			if list.More {
				fmt.Fprintf(a.stderr, "warning: only the first %d are shown: ask for more with -n\n", len(list.Conflicts))
			}
			return a.print(list.Conflicts, func(w io.Writer) {
				if len(list.Conflicts) == 0 {
					fmt.Fprintln(w, "no conflicts")
				}
				for i, x := range list.Conflicts {
					if i > 0 {
						fmt.Fprintln(w)
					}
					conflictText(w, x)
				}
			})
		}),
	}
	cmd.Flags().IntVarP(&limit, "number", "n", 100, "at most `N` conflicts, up to 10000")
	a.outputFlag(cmd)
	return cmd
}

func conflictText(w io.Writer, x api.Conflict) {
	fmt.Fprintln(w, visible(x.Place()))
	for _, side := range []struct {
		word string
		s    api.ConflictSide
	}{{"won", x.Winner}, {"lost", x.Loser}} {
		s := side.s
		if !s.Held {
			fmt.Fprintf(w, "  %s:  revision %s of %s, which this node does not hold\n", side.word, visible(s.Revision), stampText(s.Time))
			continue
		}
		first, _, _ := strings.Cut(s.Log, "\n")
		fmt.Fprintf(w, "  %s:  revision %s by %s, %s: %s\n", side.word, visible(s.Revision), visible(orDash(s.User)), stampText(s.Time), visible(first))
		if s.Value == nil {
			fmt.Fprintln(w, "    (removed)")
			continue
		}
		for line := range strings.SplitSeq(*s.Value, "\n") {
			fmt.Fprintln(w, "    "+visible(line))
		}
	}
	if len(x.Loser.Also) > 0 {
		fmt.Fprintln(w, visible("  the losing revision also wrote "+strings.Join(x.Loser.Also, ", ")))
	}
}
