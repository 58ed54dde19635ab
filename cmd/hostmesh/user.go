package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) userCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "user",
		Short: "Users who log in from elsewhere",
		Long: `Lists, makes, changes and removes the users of the mesh, who log in with a
password. They are the same on every node; HostDB keeps them sealed with the
mesh key. Only an administrator may: root on an agent's box.

Users of a directory (auth.ldap) are not among them. What a user may write
stands in access lists: hostmesh db get NAMESPACE/.default/perms.`,
	})
	cmd.AddCommand(a.userListCommand(), a.userShowCommand(), a.userSetCommand(), a.userRemoveCommand())
	return cmd
}

func (a *app) userListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the users",
		Long: `Lists the users of the mesh. STATE is kept for those in HostDB, file for those
that only the users file of the agent's box has yet, and unreadable for those
sealed with another mesh key, who are nobody until they are set again.`,
		Example: "  hostmesh user list",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			users, err := c.Users(ctx)
			if err != nil {
				return err
			}
			return a.print(users, func(w io.Writer) { writeUsers(w, users) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func writeUsers(w io.Writer, users []api.User) {
	row(w, "NAME", "GROUPS", "MAY COME FROM", "PASSWORD", "STATE", "CHANGED")
	for _, u := range users {
		changed := ""
		if u.Modified != nil {
			changed = u.Modified.UTC().Format(time.DateOnly)
		}
		row(w, u.Name, orDash(strings.Join(u.Groups, " ")), orDash(strings.Join(u.Allow, " ")), orDash(u.Password), u.State, orDash(changed))
	}
}

func (a *app) userShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a user",
		Long:    `Shows a user: its groups, and the networks it may come from.`,
		Example: "  hostmesh user show alice",
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			u, err := c.User(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(u, func(w io.Writer) { writeUsers(w, []api.User{u}) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) userSetCommand() *cobra.Command {
	var (
		allow, groups []string
		stdin, keep   bool
		log           string
	)
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a user, or change one",
		Long: `Makes a user, or changes one. On a terminal the password is asked for twice
and not shown; --password-stdin takes the first line of the standard input. A
new password, be it the same again, ends the user's sessions on every node.
--keep-password changes the rest alone.

--allow and --group replace what was there; where they are not given, it stays.
--allow= and --group= leave nothing. Without a network to come from, nobody
can log in as the user.`,
		Example: `  hostmesh user set alice --allow 10.0.0.0/8 --group ops
  hostmesh user set alice --keep-password --group ops,dba -m "alice looks after MySQL, too"
  pass show hostmesh/robot | hostmesh user set robot --password-stdin --allow 10.1.0.53`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change api.UserChange
			if cmd.Flags().Changed("allow") {
				change.Allow = nonNil(allow)
			}
			if cmd.Flags().Changed("group") {
				change.Groups = nonNil(groups)
			}
			if keep && change.Allow == nil && change.Groups == nil {
				return usagef("nothing would change: with --keep-password give --allow or --group")
			}
			if !keep {
				password, err := a.newPassword(cmd.Context(), stdin)
				if err != nil {
					return err
				}
				change.Password = &password
			}
			return a.ask(func(ctx context.Context, c *api.Client, args []string) error {
				done, err := c.SetUser(ctx, args[0], change, log)
				if err != nil {
					return err
				}
				if done.Created && (change.Allow == nil || len(*change.Allow) == 0) {
					fmt.Fprintf(a.stderr, "warning: %s can log in from nowhere yet: name networks with --allow\n", visible(args[0]))
				}
				return nil
			})(cmd, args)
		},
	}
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "`CIDR` or address the user may come from; may be repeated")
	cmd.Flags().StringSliceVar(&groups, "group", nil, "`GROUP` the user is in; may be repeated")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "take the password from the first line of the standard input")
	cmd.Flags().BoolVar(&keep, "keep-password", false, "leave the password, and the sessions, as they are")
	cmd.MarkFlagsMutuallyExclusive("password-stdin", "keep-password")
	messageFlag(cmd, &log, "why, for those who read the history (default: the name)")
	return cmd
}

// nonNil is a list as JSON shows it when it is empty.
func nonNil(list []string) *[]string {
	if list == nil {
		list = []string{}
	}
	return &list
}

// newPassword is one to set: never an argument, because everybody on the box can read those.
func (a *app) newPassword(ctx context.Context, fromStdin bool) (password string, err error) {
	f, ok := a.stdin.(*os.File)
	switch {
	case fromStdin:
		password, err = readLine(bufio.NewReader(a.stdin))
	case ok && isTerminal(f):
		password, err = a.readPassword(ctx)
	default:
		return "", usagef("there is no terminal to ask for the password at: give it by --password-stdin, or leave it with --keep-password")
	}
	if err == nil && password == "" {
		err = fmt.Errorf("the password is empty")
	}
	a.started = true // what was wrong with it is no matter of usage
	return password, err
}

func (a *app) userRemoveCommand() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user",
		Long: `Removes a user from the whole mesh, and ends its sessions. A users file that
still has the user does not bring it back. Access lists keep the name: it may
be that of a user of the directory.`,
		Example: `  hostmesh user remove alice -m "alice left"`,
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			_, err := c.RemoveUser(ctx, args[0], log)
			return err
		}),
	}
	messageFlag(cmd, &log, "why, for those who read the history (default: the name)")
	return cmd
}
