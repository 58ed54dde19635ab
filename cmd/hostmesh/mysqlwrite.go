package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// mysqlPatience is how long a command about a cluster waits where nothing else is said: a replica may have much to apply.
const mysqlPatience = 2 * time.Minute

// mysqlAsk is ask with the patience that changes of a cluster need, unless --timeout says otherwise.
func (a *app) mysqlAsk(f func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("timeout") {
			a.timeout = mysqlPatience
		}
		return a.ask(f)(cmd, args)
	}
}

// mysqlDone tells what was done.
func (a *app) mysqlDone(d api.MySQLDone) {
	for _, line := range d.Lines {
		fmt.Fprintln(a.stdout, visible(line))
	}
	if d.Loss != "" {
		fmt.Fprintln(a.stderr, visible("warning: possibly lost: "+d.Loss))
	}
}

func orCommand(message, command string) string { return orDefault(strings.TrimSpace(message), command) }

func (a *app) mysqlSetupCommand() *cobra.Command {
	var message, primary string
	var apply bool
	cmd := &cobra.Command{
		Use:   "setup TAG",
		Short: "Make the servers of a tag a cluster, or say what that takes",
		Long: `Says what it takes to make the servers of a tag a cluster: the settings of each,
who is to be the primary, who replicates from it. With --apply it does that, and
writes the record by which the agents agree from then on.

A topology that exists is taken as it is: the server that takes writes, and that
the others replicate from, is the primary. Where that cannot be told, say who it
is with --primary. Settings that only count after a restart are named, and not
made: they belong in the server's file. Nothing is promoted, and no data is
replaced.`,
		Example: `  hostmesh mysql setup shop-db
  hostmesh mysql setup shop-db --primary db1.dc1.example.com --apply -m "adopted"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.mysqlAsk(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.SetupMySQL(ctx, args[0], api.MySQLSetup{Primary: primary, Apply: apply, Log: orCommand(message, "hostmesh mysql setup "+args[0])})
			a.mysqlDone(d)
			return err
		}),
	}
	cmd.Flags().StringVar(&primary, "primary", "", "`HOST` that is to take the writes (default: the one that does)")
	cmd.Flags().BoolVar(&apply, "apply", false, "do it")
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}

func (a *app) mysqlSwitchoverCommand() *cobra.Command {
	var message, to string
	cmd := &cobra.Command{
		Use:   "switchover TAG",
		Short: "Have another server take the writes, losing none",
		Long: `Hands the writes of a cluster over to another server while all is well: the
primary takes no more, the next one applies all that it has, and takes over the
address. Clients are refused for a moment, and no transaction is lost. When a
step fails before the next one is promoted, the primary goes on.`,
		Example: `  hostmesh mysql switchover shop-db
  hostmesh mysql switchover shop-db --to db2.dc1.example.com -m "kernel update"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.mysqlAsk(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.SwitchoverMySQL(ctx, args[0], api.MySQLSwitchover{To: to, Log: orCommand(message, "hostmesh mysql switchover "+args[0])})
			a.mysqlDone(d)
			return err
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "`HOST` that is to take the writes (default: the best replica)")
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}

func (a *app) mysqlFailoverCommand() *cobra.Command {
	var message string
	var force bool
	cmd := &cobra.Command{
		Use:   "failover TAG",
		Short: "Replace a primary that is gone",
		Long: `Replaces a primary that does not work any more. The old one is fenced first, and
no acknowledged transaction is lost, or nothing is done: then the answer says
what stands in the way.

With --force it goes on where it would stop, and transactions may be lost. What
may have been is printed, and stands in the cluster's history.`,
		Example: `  hostmesh mysql failover shop-db
  hostmesh mysql failover shop-db --force -m "rack 12 burnt down"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.mysqlAsk(func(ctx context.Context, c *api.Client, args []string) error {
			if force {
				if err := needMessage(message); err != nil {
					return err
				}
			}
			d, err := c.FailoverMySQL(ctx, args[0], api.MySQLFailover{Force: force, Log: orCommand(message, "hostmesh mysql failover "+args[0])})
			a.mysqlDone(d)
			return err
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "accept that transactions are lost; needs -m")
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}

// mysqlNoteCommand makes a command that needs a reason alone.
func (a *app) mysqlNoteCommand(name, short, long string, f func(c *api.Client) func(ctx context.Context, tag string, o api.MySQLNote) (api.MySQLDone, error)) *cobra.Command {
	var message string
	cmd := &cobra.Command{
		Use:               name + " TAG",
		Short:             short,
		Long:              long,
		Example:           "  hostmesh mysql " + name + " shop-db -m \"new disks\"",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := f(c)(ctx, args[0], api.MySQLNote{Log: orCommand(message, "hostmesh mysql "+name+" "+args[0])})
			a.mysqlDone(d)
			return err
		}),
	}
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}

func (a *app) mysqlAckCommand() *cobra.Command {
	return a.mysqlNoteCommand("ack", "Acknowledge the last failover, so that another may follow",
		`Says that a person knows of the last failover. Without that no other one is made
by itself within an hour of it: what fails twice has a reason that a third
server would meet as well.`,
		func(c *api.Client) func(context.Context, string, api.MySQLNote) (api.MySQLDone, error) {
			return c.AckMySQL
		})
}

func (a *app) mysqlPauseCommand() *cobra.Command {
	return a.mysqlNoteCommand("pause", "Do nothing by itself on a cluster",
		`Stops all that the agents do by themselves on a cluster, such as failovers and
clones, until "resume". They go on watching, and do what they are told. A change
of the primary that has begun is finished.`,
		func(c *api.Client) func(context.Context, string, api.MySQLNote) (api.MySQLDone, error) {
			return c.PauseMySQL
		})
}

func (a *app) mysqlResumeCommand() *cobra.Command {
	return a.mysqlNoteCommand("resume", "Let the agents act by themselves again",
		`Takes "pause" back: the agents act by themselves on the cluster again.`,
		func(c *api.Client) func(context.Context, string, api.MySQLNote) (api.MySQLDone, error) {
			return c.ResumeMySQL
		})
}

func (a *app) mysqlRejoinCommand() *cobra.Command {
	var message string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "rejoin TAG HOST",
		Short: "Make a server that fell out a replica again",
		Long: `Makes a server that was fenced, or does not replicate any more, a replica of the
primary: by what it has where it never had more than the others, else by a clone
of a replica. The agents do that by themselves, unless they are paused.`,
		Example:           `  hostmesh mysql rejoin shop-db db1.dc1.example.com`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.mysqlAsk(func(ctx context.Context, c *api.Client, args []string) error {
			began := time.Now().Add(-time.Second) // clocks of two boxes differ a little
			d, err := c.RejoinMySQL(ctx, args[0], api.MySQLRejoin{Host: args[1], Log: orCommand(message, "hostmesh mysql rejoin "+strings.Join(args, " "))})
			a.mysqlDone(d)
			if err != nil || !d.Begun || noWait {
				return err
			}
			return a.followMySQL(ctx, c, args[0], "rejoin", args[1], began)
		}),
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it replicates")
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}

func (a *app) mysqlCloneCommand() *cobra.Command {
	var message string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "clone TAG FROM TO",
		Short: "Make a server a copy of another",
		Long: `Replaces the data of TO by a copy of FROM, and has it replicate from the
primary. FROM should be a replica: a copy of the primary makes its writes wait.
FROM may be "-": the best replica. TO must be a member of the tag, and not the
primary. Where writes wait for replicas that are gone, the primary is ended once
before, and takes writes again when TO acknowledges.`,
		Example:           `  hostmesh mysql clone shop-db - db4.dc1.example.com`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.mysqlAsk(func(ctx context.Context, c *api.Client, args []string) error {
			began := time.Now().Add(-time.Second)
			from := args[1]
			if from == "-" {
				from = ""
			}
			d, err := c.CloneMySQL(ctx, args[0], api.MySQLClone{From: from, To: args[2], Log: orCommand(message, "hostmesh mysql clone "+strings.Join(args, " "))})
			a.mysqlDone(d)
			if err != nil || !d.Begun || noWait {
				return err
			}
			return a.followMySQL(ctx, c, args[0], "clone", args[2], began)
		}),
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it replicates")
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	return cmd
}
