package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) watchCommand() *cobra.Command {
	var o api.WatchOptions
	cmd := &cobra.Command{
		Use:   "watch [ID-PREFIX]",
		Short: "Print every change of the host database as it happens",
		Long: `Prints a line for each thing that changes, until it is stopped. ID-PREFIX is a
namespace, or a namespace and the beginning of keys.

--from begins earlier: at a revision, a time, or how long ago; 0 is everything.
When the agent stops or the way to it breaks, the command connects again and
goes on where it was: nothing is lost, and nothing comes twice.

With -o json each change is one line of JSON. Its cursor is what --from takes to
go on behind it, at any agent. Exit codes: 0 when it was stopped by a signal, 1
when it is refused or when what follows --from is not kept any more.`,
		Example: `  hostmesh watch
  hostmesh watch hosts/web --where 'Status == "maintenance"'
  hostmesh watch tags --from 24h --what members
  hostmesh watch -o json --data | jq -r '.documents[]?.id'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.NS, o.Prefix, _ = strings.Cut(strings.TrimPrefix(args[0], "/"), "/")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			o.Reconnecting = func(why error, pause time.Duration) {
				fmt.Fprintf(a.stderr, "hostmesh: %s; trying again in %s\n", visible(why.Error()), pause.Round(100*time.Millisecond))
			}
			for e, err := range c.Watch(ctx, o) {
				if err != nil {
					return explain(err)
				}
				if err := a.printEvent(e); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&o.From, "from", "now", "begin `WHERE`: now, 0, a cursor, a revision, a time, or how long ago")
	cmd.Flags().StringVar(&o.Where, "where", "", "only keys for which an `EXPRESSION` holds, before or after the change")
	cmd.Flags().StringSliceVar(&o.What, "what", nil, "only these `PARTS` of keys, divided by commas: data, members, perms")
	cmd.Flags().BoolVar(&o.Data, "data", false, "with -o json: add the documents that changed")
	a.outputFlag(cmd)
	form := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if a.output == formYAML {
			return usagef("-o yaml: a watch is printed as table or json")
		}
		return form(cmd, args)
	}
	return cmd
}

// printEvent prints what a watch yields.
func (a *app) printEvent(e api.Event) error {
	if e.Kind != api.EventRevision {
		return nil // a person sees by the silence that nothing more is there
	}
	if a.output == formJSON {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	}
	for _, c := range e.Changes {
		line := fmt.Sprintf("%s %s %s  (%s)", e.Time.Local().Format("2006-01-02 15:04:05"), orDash(e.User), changeText(c), e.Log)
		if _, err := fmt.Fprintln(a.stdout, visible(line)); err != nil {
			return err
		}
	}
	if e.More > 0 {
		_, err := fmt.Fprintf(a.stdout, "  and %s\n", plural(e.More, "more change", "more changes"))
		return err
	}
	return nil
}

// changeText is a change in words.
func changeText(c api.Change) string {
	id := c.ID
	if len(c.Path) > 0 {
		id += "/" + strings.Join(c.Path, "/")
	}
	verb := c.Kind
	switch {
	case c.Kind == "rename":
		ns, key, _ := strings.Cut(c.ID, "/")
		return "rename " + ns + "/" + c.From + " to " + key
	case c.What == "members" && c.Member == "":
		return "set comment " + id + "/members"
	case c.What == "members" && c.Kind == "set":
		return "add member " + id + "/members/" + c.Member
	case c.What == "members":
		return "remove member " + id + "/members/" + c.Member
	case c.What == "perms":
		id += "/perms"
	}
	return verb + " " + id
}
