package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/textdiff"
	"hostmesh/node/api"
)

// logPage is how many revisions are asked for at a time.
const logPage = 500

func (a *app) dbLogCommand() *cobra.Command {
	var (
		q           api.RevisionQuery
		stat, patch bool
	)
	cmd := &cobra.Command{
		Use:   "log [ID]",
		Short: "List who wrote what, when and why",
		Long: `Lists the revisions that wrote what an ID names, newest first; without one, all.
A revision is one write, however many keys it touched, and has the same name on
every node. The history of a key goes on under the names it had before.

With --stat each revision is shown with its whole message and what it wrote;
with -p also with the old (-) and the new (+) values.

A time is 2026-01-31, "2026-01-31 12:00:05" (UTC), 2026-01-31T12:00:05+01:00, or
how long ago it is, such as 90m or 36h.`,
		Example: `  hostmesh db log
  hostmesh db log hosts/web1.dc1.example.com
  hostmesh db log tags/web/members --since 36h -p
  hostmesh db log hosts --user alice --until 2026-01-31 -n 100
  hostmesh db log hosts/web1.dc1.example.com/Network -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			list, err := revisions(ctx, c, id, q)
			if err != nil {
				return err
			}
			if patch {
				for i := range list {
					if list[i], err = c.Revision(ctx, list[i].ID, 0); err != nil {
						return err
					}
				}
			}
			return a.print(list, func(w io.Writer) {
				if !stat && !patch {
					logTable(w, list)
					return
				}
				for i, r := range list {
					if i > 0 {
						fmt.Fprintln(w)
					}
					revisionText(w, r)
				}
			})
		}),
	}
	flags := cmd.Flags()
	flags.IntVarP(&q.Limit, "number", "n", 20, "at most `N` revisions")
	flags.StringVar(&q.Since, "since", "", "only those from this `TIME` on")
	flags.StringVar(&q.Until, "until", "", "only those up to this `TIME`")
	flags.StringVar(&q.User, "user", "", "only those of this `USER`")
	flags.BoolVar(&stat, "stat", false, "show what each wrote")
	flags.BoolVarP(&patch, "patch", "p", false, "show the old and new values of what each wrote")
	cmd.MarkFlagsMutuallyExclusive("stat", "patch")
	a.outputFlag(cmd)
	form := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if q.Limit < 1 {
			return usagef("-n %d: at least one revision must be asked for", q.Limit)
		}
		return form(cmd, args)
	}
	return cmd
}

// revisions asks for so many revisions as q.Limit says, in pieces.
func revisions(ctx context.Context, c *api.Client, id string, q api.RevisionQuery) ([]api.Revision, error) {
	list := []api.Revision{}
	for want := q.Limit; len(list) < want; {
		q.Limit = min(want-len(list), logPage)
		part, err := c.Revisions(ctx, id, q)
		if err != nil {
			return nil, err
		}
		list = append(list, part.Revisions...)
		if !part.More {
			break
		}
		q.Before = part.Next
	}
	return list, nil
}

func logTable(w io.Writer, list []api.Revision) {
	row(w, "REVISION", "TIME", "USER", "WHAT", "MESSAGE")
	for _, r := range list {
		first, _, _ := strings.Cut(r.Log, "\n")
		row(w, r.ID, stampText(r.Time), orDash(r.User), whatText(r), orDash(first))
	}
}

// stampText is a moment for people, in UTC so that it can be given back to any agent.
func stampText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// whatText is what a revision wrote, in a few words.
func whatText(r api.Revision) string {
	var keys []string
	for _, c := range r.Changes {
		if !slices.Contains(keys, c.ID) {
			keys = append(keys, c.ID)
		}
	}
	switch {
	case len(r.Changes) == 0:
		return "-"
	case len(r.Changes) == 1 && r.Omitted == 0:
		return r.Changes[0].Place()
	case len(keys) == 1 && r.Omitted == 0:
		return keys[0]
	case r.Omitted > 0:
		return fmt.Sprintf("%s and others", keys[0])
	}
	return fmt.Sprintf("%s and %s", keys[0], plural(len(keys)-1, "other", "others"))
}

// revisionText shows one revision in full.
func revisionText(w io.Writer, r api.Revision) {
	fmt.Fprintf(w, "revision %s\n", visible(r.ID))
	fmt.Fprintf(w, "user:    %s\n", visible(orDash(r.User)))
	fmt.Fprintf(w, "time:    %s UTC\n", stampText(r.Time))
	if r.Source != nil {
		fmt.Fprintf(w, "source:  %s\n", visible(strings.TrimSpace(r.Source.Ref+" "+r.Source.Email)))
	}
	fmt.Fprintln(w)
	for line := range strings.SplitSeq(strings.TrimRight(r.Log, "\n"), "\n") {
		fmt.Fprintf(w, "    %s\n", visible(line))
	}
	fmt.Fprintln(w)
	changesText(w, r.Changes, r.Omitted)
}

// changesText shows changes, with their values where they are told.
func changesText(w io.Writer, list []api.RevisionChange, omitted int) {
	for _, c := range list {
		line := c.Kind + " " + c.Place()
		if c.From != "" {
			line = "rename " + c.From + " to " + c.ID
		}
		fmt.Fprintln(w, visible(line))
		valuesText(w, c.Old, c.New)
	}
	if omitted > 0 {
		fmt.Fprintf(w, "and %s\n", plural(omitted, "other change", "other changes"))
	}
}

// valuesText shows what a value was and is.
func valuesText(w io.Writer, was, is *string) {
	if was != nil && is != nil && strings.Contains(*was, "\n") && strings.Contains(*is, "\n") {
		diff := textdiff.Unified("", "", *was+"\n", *is+"\n", textdiff.Context)
		diffText(w, strings.TrimPrefix(diff, "--- \n+++ \n"))
		return
	}
	for _, side := range []struct {
		mark string
		text *string
	}{{"-", was}, {"+", is}} {
		if side.text != nil {
			for line := range strings.SplitSeq(*side.text, "\n") {
				fmt.Fprintln(w, side.mark+visible(line))
			}
		}
	}
}

// diffText shows a unified difference.
func diffText(w io.Writer, diff string) {
	for line := range strings.Lines(diff) {
		fmt.Fprintln(w, visible(strings.TrimSuffix(line, "\n")))
	}
}

func (a *app) dbShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show REVISION",
		Short: "Show one revision with the old and new values",
		Long: `Shows who made a revision, when and why, and the old (-) and the new (+) value
of everything it wrote. "hostmesh db log" lists revisions.`,
		Example: `  hostmesh db show 019a0c1f2b3c0000.5f1e2d3c4b5a6978`,
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			r, err := c.Revision(ctx, args[0], 0)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { revisionText(w, r) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}
