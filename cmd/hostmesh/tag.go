package main

import (
	"context"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) tagCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "tag",
		Short: "Put tags on hosts",
		Long: `Puts tags on hosts and takes them off. A host is configured by its tags: what a
tag says holds for its members. The tag must exist; make it with
"hostmesh db set tags/NAME".`,
	})
	cmd.AddCommand(
		a.tagChange("add", "Put a tag on a host", "Puts a tag on a host. Nothing changes when it is there already.",
			(*api.Client).AddMember),
		a.tagChange("remove", "Take a tag off a host", `Takes a tag off a host. Nothing changes when it is not there. A tag that the
host inherits, because the tag has another tag as member, stays.`,
			(*api.Client).RemoveMember),
	)
	return cmd
}

func (a *app) tagChange(verb, short, long string, change memberWrite) *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:     verb + " HOST TAG",
		Short:   short,
		Long:    long,
		Example: "  hostmesh tag " + verb + " web9.dc1.example.com shipping-web",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.write(func(ctx context.Context, c *api.Client) (api.Written, error) {
				return change(c, ctx, "tags/"+args[1], args[0], orDefault(log, "hostmesh tag "+verb+" "+args[0]+" "+args[1]))
			})(cmd, args)
		},
	}
	messageFlag(cmd, &log, "why, for those who read the history (default: the command)")
	return cmd
}
