package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbRollbackCommand() *cobra.Command {
	var req api.Rollback
	cmd := &cobra.Command{
		Use:   "rollback ID TO -m MESSAGE",
		Short: "Make a key, or a part of one, what it was",
		Long: `Makes a key what it was at a moment: its data, members and access list; or only
ID/members, ID/perms, or a value inside the data. It is a new revision: nothing
is taken out of the history.

TO is a revision or a time: a revision stands for the state right after it. A
key that did not exist then is deleted, and one that is gone is made again.
Members that do not exist any more are left out, with a warning.

To take back one revision in all the keys it touched, and to keep what came
after it, see "hostmesh db undo".`,
		Example: `  hostmesh db rollback tags/web/members 2h --dry-run -m "try"
  hostmesh db rollback tags/web/members 2h -m "the wrong boxes"
  hostmesh db rollback hosts/web1.dc1.example.com 019a0c1f2b3c0000.5f1e2d3c4b5a6978 -m "as before the move"`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(req.Log); err != nil {
				return err
			}
			req.ID, req.To = args[0], args[1]
			return a.restore(req.DryRun, func(ctx context.Context, c *api.Client) (api.Restored, error) { return c.Rollback(ctx, req) })(cmd, args)
		},
	}
	messageFlag(cmd, &req.Log, "why, for those who read the history (required)")
	cmd.Flags().StringVar(&req.IfUnchangedSince, "if-unchanged-since", "", "do it only if nobody changed it after this `REVISION`")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only show what would change")
	overrideFlag(cmd, &req.Override)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) dbUndoCommand() *cobra.Command {
	var req api.Undo
	cmd := &cobra.Command{
		Use:   "undo REVISION -m MESSAGE",
		Short: "Take back what one revision did",
		Long: `Takes back what one revision did, in all the keys it touched, in one new
revision. What came after it stays.

Where others have written over it since, nothing is done, and the places are
named. With --force they are taken back too.`,
		Example: `  hostmesh db undo 019a0c1f2b3c0000.5f1e2d3c4b5a6978 --dry-run -m "try"
  hostmesh db undo 019a0c1f2b3c0000.5f1e2d3c4b5a6978 -m "it was the wrong rack"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(req.Log); err != nil {
				return err
			}
			req.Revision = args[0]
			return a.restore(req.DryRun, func(ctx context.Context, c *api.Client) (api.Restored, error) { return c.Undo(ctx, req) })(cmd, args)
		},
	}
	messageFlag(cmd, &req.Log, "why, for those who read the history (required)")
	cmd.Flags().BoolVar(&req.Force, "force", false, "take back too what others have written over since")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only show what would change")
	overrideFlag(cmd, &req.Override)
	a.outputFlag(cmd)
	return cmd
}

// restore runs a write that takes something back, and shows what it did.
func (a *app) restore(dry bool, f func(context.Context, *api.Client) (api.Restored, error)) func(*cobra.Command, []string) error {
	return a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		done, err := f(ctx, c)
		if err != nil {
			return err
		}
		for _, w := range done.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", visible(w))
		}
		return a.print(done, func(w io.Writer) {
			changesText(w, done.Changes, done.Omitted)
			switch {
			case dry:
				fmt.Fprintf(w, "%s; nothing was written\n", plural(len(done.Changes)+done.Omitted, "change", "changes"))
			case done.Revision == "":
				fmt.Fprintln(w, "it is so already; nothing was written")
			default:
				fmt.Fprintf(w, "revision %s, held by %s\n", visible(done.Revision), plural(done.Acks, "box", "boxes"))
			}
		})
	})
}
