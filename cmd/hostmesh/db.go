package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dbCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "db",
		Short: "Read and write the host database",
		Long: `Reads and writes the host database, on the copy of the agent that is asked; a
write is on all the others a moment later.

An ID names what is meant:

  hosts                          a namespace: its keys
  hosts/web1.dc1.example.com     a key: its data, in YAML
  hosts/web1.../Network/IP       a value inside the data
  tags/web/members               the hosts a key leads to, one a line
  tags/web/perms                 who may write a key
  tags/.default/perms            who may write a namespace

Every change has a message (-m): it stands in the history for ever.`,
	})
	cmd.AddCommand(
		a.dbGetCommand(), a.dbSetCommand(), a.dbDeleteCommand(), a.dbRenameCommand(),
		a.dbMembersCommand(), a.dbImportCommand(), a.dbExportCommand(), a.dbDigestCommand(), a.dbNamespaceCommand(),
		a.dbTxnCommand(),
		a.dbLogCommand(), a.dbShowCommand(), a.dbDiffCommand(), a.dbBlameCommand(),
		a.dbRollbackCommand(), a.dbUndoCommand(), a.dbConflictsCommand(), a.dbReadOnlyCommand(),
		a.dbForksCommand(), a.dbRestampCommand(),
		a.dbBackupCommand(), a.dbRestoreCommand(), a.dbVerifyCommand(), a.dbCompactCommand(),
	)
	return cmd
}

func (a *app) dbGetCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "get [ID]",
		Short: "Print what an ID names",
		Long: `Prints what an ID names; without one, the namespaces. See "hostmesh db --help"
for IDs. With --as-of, what it was at a moment: a revision, which stands for the
state right after it, or a time, as for "hostmesh db diff".`,
		Example: `  hostmesh db get
  hostmesh db get hosts
  hostmesh db get hosts/web1.dc1.example.com
  hostmesh db get hosts/web1.dc1.example.com/Network/IP
  hostmesh db get tags/shipping-web/members --as-of 24h`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			var out []byte
			var err error
			if at == "" {
				out, err = c.Get(ctx, id)
			} else {
				var settled bool
				out, settled, err = c.GetAsOf(ctx, id, at)
				a.warnUnsettled(settled)
			}
			if err != nil {
				return err
			}
			// Lists have no newline at their end.
			if len(out) > 0 && out[len(out)-1] != '\n' {
				out = append(out, '\n')
			}
			_, err = a.stdout.Write(out)
			return err
		}),
	}
	cmd.Flags().StringVar(&at, "as-of", "", "print what it was at this `MOMENT`: a revision or a time")
	return cmd
}

func (a *app) dbSetCommand() *cobra.Command {
	var log, file, override string
	cmd := &cobra.Command{
		Use:   "set ID [VALUE | -f FILE | -] -m MESSAGE",
		Short: "Create or replace what an ID names",
		Long: `Creates or replaces what an ID names. The value is YAML: on the command line,
in a file (-f), or on the standard input (-). Scalars keep their spelling:
0755 and 1.10 come back as they were written.

Replacing a whole document writes only the fields that differ, so that
somebody else's change of another field survives. To change one field, name it.`,
		Example: `  hostmesh db set hosts/web1.dc1.example.com/Status maintenance -m "fan is loud"
  hostmesh db set tags/dc1/DNS/TTL 60 -m "names move less now"
  hostmesh db set hosts/web9.dc1.example.com -f web9.yaml -m "new web server"
  hostmesh db get tags/dc1 | sed s/30/60/ | hostmesh db set tags/dc1 - -m "longer TTL"`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(log); err != nil {
				return err
			}
			value, err := a.value(args[1:], file)
			if err != nil {
				return err
			}
			return a.write(func(ctx context.Context, c *api.Client) (api.Written, error) {
				return c.WithOverride(override).Put(ctx, args[0], value, log)
			})(cmd, args)
		},
	}
	messageFlag(cmd, &log, "why, for those who read the history (required)")
	cmd.Flags().StringVarP(&file, "file", "f", "", "take the value from `FILE`")
	overrideFlag(cmd, &override)
	return cmd
}

// value is what a person wants to write, from one of three places.
func (a *app) value(args []string, file string) ([]byte, error) {
	var (
		text []byte
		err  error
	)
	switch {
	case len(args) == 1 && file != "":
		return nil, usagef("the value is given twice: on the command line and by -f")
	case len(args) == 0 && file == "":
		return nil, usagef("the value is missing: write it after the ID, or name a file with -f, or - for the standard input")
	case file != "" && file != "-":
		text, err = os.ReadFile(file)
	case file == "-" || args[0] == "-":
		text, err = io.ReadAll(a.stdin)
	default:
		text = []byte(args[0])
	}
	if err != nil {
		a.started = true
		return nil, fmt.Errorf("read the value: %w", err)
	}
	return text, nil
}

func (a *app) dbDeleteCommand() *cobra.Command {
	var log, override string
	cmd := &cobra.Command{
		Use:   "delete ID -m MESSAGE",
		Short: "Delete what an ID names",
		Long: `Deletes a key with its data, members and access list, and takes it out of
every member list; or one value inside the data of a key.`,
		Example: `  hostmesh db delete hosts/web9.dc1.example.com -m "sold"
  hostmesh db delete hosts/web1.dc1.example.com/Expires -m "it stays"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(log); err != nil {
				return err
			}
			return a.write(func(ctx context.Context, c *api.Client) (api.Written, error) {
				return c.WithOverride(override).Delete(ctx, args[0], log)
			})(cmd, args)
		},
	}
	messageFlag(cmd, &log, "why, for those who read the history (required)")
	overrideFlag(cmd, &override)
	return cmd
}

func (a *app) dbRenameCommand() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "rename ID NEWNAME -m MESSAGE",
		Short: "Give a key, or a value inside one, another name",
		Long: `Gives a key another name, and carries it through every member list. NEWNAME is
the name alone, without the namespace. Renames a value inside the data of a key
likewise.`,
		Example: `  hostmesh db rename hosts/web9.dc1.example.com web10.dc1.example.com -m "numbers without gaps"`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needMessage(log); err != nil {
				return err
			}
			return a.write(func(ctx context.Context, c *api.Client) (api.Written, error) {
				return c.Rename(ctx, args[0], args[1], log)
			})(cmd, args)
		},
	}
	messageFlag(cmd, &log, "why, for those who read the history (required)")
	return cmd
}

// write runs one write and prints what deserves a look; a write that went well prints nothing.
func (a *app) write(f func(context.Context, *api.Client) (api.Written, error)) func(*cobra.Command, []string) error {
	return a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		done, err := f(ctx, c)
		for _, w := range done.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", visible(w))
		}
		return err
	})
}

func overrideFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "override", "", "`REASON` to lift the protection of a host that is Protected")
}

func messageFlag(cmd *cobra.Command, log *string, usage string) {
	cmd.Flags().StringVarP(log, "message", "m", "", "`MESSAGE`: "+usage)
}

func needMessage(log string) error {
	if strings.TrimSpace(log) == "" {
		return usagef("the message is missing: say why with -m, for those who read the history")
	}
	return nil
}
