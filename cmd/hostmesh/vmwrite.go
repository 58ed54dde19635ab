package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// vmVerb is a command that does something with machines, one after the other.
type vmVerb struct {
	use, short, long, example string
	goal                      string // what --wait waits for; "" = there is no --wait
	override                  bool   // whether it may lift a protection
	message                   bool   // whether it is written into the history
	do                        func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (uuid string, err error)
}

func (a *app) vmVerbCommand(v vmVerb) *cobra.Command {
	var o api.VMOrder
	var wait bool
	verb, _, _ := strings.Cut(v.use, " ")
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeVMs,
	}
	cmd.RunE = a.vmDo(func(ctx context.Context, c *api.Client, cmd *cobra.Command, args []string) error {
		uuids := map[string]string{}
		for i, name := range args {
			order := o
			order.Log = orDefault(o.Log, "hostmesh vm "+verb+" "+name)
			ask, cancel := a.withTimeout(ctx)
			uuid, err := v.do(ask, c, name, order)
			cancel()
			if err != nil {
				if i > 0 {
					err = fmt.Errorf("%w (%s done before it; nothing after it)", err, plural(i, "machine was", "machines were"))
				}
				return err
			}
			uuids[name] = uuid
		}
		if !wait {
			return nil
		}
		return a.waitVMs(ctx, c, v.goal, args, uuids, a.vmTime(cmd))
	})
	if v.goal != "" {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is "+v.goal+", and tell each step")
	}
	if v.override {
		overrideFlag(cmd, &o.Override)
	}
	if v.message {
		messageFlag(cmd, &o.Log, "why, for those who read the history (default: the command)")
	}
	return cmd
}

// vmWrote tells of a write, and returns whose it was.
func (a *app) vmWrote(what string, w api.VMWritten, err error) (string, error) {
	if err != nil {
		return "", err
	}
	a.vmWritten(w, what)
	return w.UUID, nil
}

// vmAnswered tells what a box answered.
func (a *app) vmAnswered(what string, d api.VMDone, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if d.Text != "" {
		what = d.Text
	}
	fmt.Fprintln(a.stdout, visible(d.Name+": "+what))
	return d.UUID, nil
}

func (a *app) vmStartCommand() *cobra.Command {
	return a.vmVerbCommand(vmVerb{
		use: "start NAME...", short: "Have virtual machines run",
		long: `Enters that virtual machines are meant to run (VM/Power). Their boxes start
them, and start them again when they stop by themselves.`,
		example: `  hostmesh vm start web7 --wait`, goal: "running", message: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			w, err := c.SetVMPower(ctx, name, api.VMPower{On: true, Override: o.Override, Log: o.Log})
			return a.vmWrote("to be started", w, err)
		},
	})
}

func (a *app) vmStopCommand() *cobra.Command {
	return a.vmVerbCommand(vmVerb{
		use: "stop NAME...", short: "Have virtual machines shut down",
		long: `Enters that virtual machines are not meant to run (VM/Power). Their boxes ask
the guests to shut down, and cut the power of those that have not done so after
a minute. Disks, addresses and entries stay.`,
		example: `  hostmesh vm stop web7 --wait`, goal: "stopped", override: true, message: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			w, err := c.SetVMPower(ctx, name, api.VMPower{Override: o.Override, Log: o.Log})
			return a.vmWrote("to be stopped", w, err)
		},
	})
}

func (a *app) vmDestroyCommand() *cobra.Command {
	return a.vmVerbCommand(vmVerb{
		use: "destroy NAME...", short: "Delete virtual machines, and keep their disks for a while",
		long: `Deletes the entries of virtual machines with their places in tags. Their boxes
shut them down and keep their disks, for 7 days unless configured otherwise;
until then "hostmesh vm undelete" brings them back as they were.

More than 5 within an hour wait until somebody approves: hostmesh approve. One
that is Protected takes --override and the reason. With --wait it waits until
the machine is off and deleted.`,
		example: `  hostmesh vm destroy web7 --wait -m "sold"
  hostmesh vm destroy db1 --override "replaced by db2"`,
		goal: "deleted", override: true, message: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			w, err := c.DestroyVM(ctx, name, o)
			return a.vmWrote("to be destroyed", w, err)
		},
	})
}

func (a *app) vmUndeleteCommand() *cobra.Command {
	return a.vmVerbCommand(vmVerb{
		use: "undelete NAME...", short: "Bring deleted virtual machines back",
		long: `Brings the entries of deleted virtual machines back as they were before their
deletion, from history: the same data, access list, tags and identity. Their
boxes take up the same disks and addresses, and start them if they were meant to
run; --wait waits for that. It is refused when the machine has no disks (it was
never made, or they are gone), or when the name, the address or the identity is
used by another host by now.`,
		example: `  hostmesh vm undelete web7 --wait`, goal: "ready", message: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			w, err := c.UndeleteVM(ctx, name, o)
			return a.vmWrote("comes back", w, err)
		},
	})
}

func (a *app) vmRetryCommand() *cobra.Command {
	return a.vmVerbCommand(vmVerb{
		use: "retry NAME...", short: "Try failed virtual machines again at once",
		long: `Has virtual machines that failed tried again at once: a machine that no box
could make is placed anew, also on boxes that failed to make it; one that cannot
be started is started. What was wrong is in "hostmesh vm show". With --wait it
waits until the machine is ready: it runs, or is stopped as it is meant to be.`,
		example: `  hostmesh vm retry web7`, goal: "ready",
		do: func(ctx context.Context, c *api.Client, name string, _ api.VMOrder) (string, error) {
			d, err := c.RetryVM(ctx, name)
			return a.vmAnswered("is tried again", d, err)
		},
	})
}

func (a *app) vmRebootCommand() *cobra.Command {
	var hard bool
	cmd := a.vmVerbCommand(vmVerb{
		use: "reboot NAME...", short: "Boot virtual machines again",
		long: `Asks guests to boot again; with --hard resets them as by the button, without
asking. One that is Protected takes --override and the reason.`,
		example: `  hostmesh vm reboot web7
  hostmesh vm reboot web7 --hard`,
		override: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			d, err := c.RebootVM(ctx, name, api.VMReboot{Hard: hard, Override: o.Override})
			return a.vmAnswered("boots again", d, err)
		},
	})
	cmd.Flags().BoolVar(&hard, "hard", false, "reset it, without asking the guest")
	return cmd
}

func (a *app) vmPurgeCommand() *cobra.Command {
	var yes bool
	var uuid string
	cmd := a.vmVerbCommand(vmVerb{
		use: "purge NAME...", short: "Remove what is left of deleted virtual machines",
		long: `Removes the disks of deleted virtual machines before their time, and gives up
their addresses and names. After that they cannot be undeleted. On a terminal
you are asked; elsewhere --yes is needed. Where several deleted machines had
the name, --uuid says which.`,
		example: `  hostmesh vm purge web7
  hostmesh vm purge web7 --yes`,
		override: true,
		do: func(ctx context.Context, c *api.Client, name string, o api.VMOrder) (string, error) {
			d, err := c.PurgeVM(ctx, name, api.VMPurge{UUID: uuid, Override: o.Override})
			return a.vmAnswered("purged", d, err)
		},
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&uuid, "uuid", "", "which of several deleted machines of the name")
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if uuid != "" && len(args) > 1 {
			return usagef("--uuid is of one machine: give one name")
		}
		if f, terminal := a.stdin.(*os.File); yes || terminal && isTerminal(f) {
			return nil
		}
		return usagef("there is no terminal to ask at: --yes says that the disks shall go for good")
	}
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes && !a.confirm("Remove the disks of "+visible(strings.Join(args, ", "))+" for good?") {
			a.started = true
			return fmt.Errorf("nothing was done")
		}
		return run(cmd, args)
	}
	return cmd
}
