package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbMembersCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "members",
		Short: "Read and change the member list of a key",
		Long: `Reads and changes the member list of a key, such as tags/shipping-web. A member
is a host, or @KEY: all members of another key of the same namespace.`,
	})
	cmd.AddCommand(a.membersListCommand(),
		a.memberChange("add", "Add members", "Adds members at the end of the list. One that is there stays where it is.",
			(*api.Client).AddMember),
		a.memberChange("remove", "Remove members", "Takes members out of the list. One that is not there is no error.",
			(*api.Client).RemoveMember),
		a.membersSetCommand())
	return cmd
}

// keyOf takes /members off an id, which people may or may not write.
func keyOf(id string) string { return strings.TrimSuffix(strings.TrimRight(id, "/"), "/members") }

func (a *app) membersListCommand() *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "list ID",
		Short: "Print the members of a key",
		Long: `Prints the hosts a key leads to, those of @KEY included, sorted. With --raw, the
list as it was written: in order, with @KEY and comments.`,
		Example: `  hostmesh db members list tags/shipping-web
  hostmesh db members list tags/shipping-web --raw`,
		Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			if raw {
				text, err := c.RawMembers(ctx, keyOf(args[0]))
				if err == nil && text != "" {
					fmt.Fprintln(a.stdout, strings.TrimSuffix(text, "\n"))
				}
				return err
			}
			list, err := c.MembersOf(ctx, keyOf(args[0]))
			for _, m := range list {
				fmt.Fprintln(a.stdout, m)
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the list as it was written")
	return cmd
}

// memberWrite is one of the client's methods that change a member list.
type memberWrite func(c *api.Client, ctx context.Context, id, member, log string) (api.Written, error)

func (a *app) memberChange(verb, short, long string, change memberWrite) *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:     verb + " ID HOST...",
		Short:   short,
		Long:    long + "\nEach member is a change of its own.",
		Example: fmt.Sprintf("  hostmesh db members %s tags/shipping-web web1.dc1.example.com @shipping-web-dc2", verb),
		Args:    cobra.MinimumNArgs(2),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			id := keyOf(args[0])
			for i, member := range args[1:] {
				_, err := change(c, ctx, id, member, orDefault(log, "hostmesh db members "+verb+" "+id+" "+member))
				if err != nil && i > 0 {
					return fmt.Errorf("%s: %w (done before it: %s)", member, err, strings.Join(args[1:i+1], ", "))
				}
				if err != nil {
					return fmt.Errorf("%s: %w", member, err)
				}
			}
			return nil
		}),
	}
	messageFlag(cmd, &log, "why, for those who read the history (default: the command)")
	return cmd
}

func (a *app) membersSetCommand() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "set ID [HOST... | -]",
		Short: "Replace the whole member list",
		Long: `Replaces the whole member list, all or nothing; without members, by an empty
one. With -, the list is read from the standard input, a member a line; lines
that begin with # are comments and are kept.`,
		Example: `  hostmesh db members set tags/bastions jump1.dc1.example.com jump1.dc2.example.com
  hostmesh db members list tags/web --raw | sort | hostmesh db members set tags/web -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := strings.Join(args[1:], "\n")
			if len(args) == 2 && args[1] == "-" {
				text, err := a.value(nil, "-")
				if err != nil {
					return err
				}
				list = string(text)
			}
			return a.write(func(ctx context.Context, c *api.Client) (api.Written, error) {
				return c.SetMembers(ctx, keyOf(args[0]), list, orDefault(log, "hostmesh db members set "+keyOf(args[0])))
			})(cmd, args)
		},
	}
	messageFlag(cmd, &log, "why, for those who read the history (default: the command)")
	return cmd
}

// orDefault is the message a person gave, or what stands for it where the command itself says all.
func orDefault(log, command string) string {
	if strings.TrimSpace(log) == "" {
		return command
	}
	return log
}
