package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// vmPatience is how long is waited for machines when --timeout does not say: an image may have to be fetched first.
const vmPatience = 5 * time.Minute

// vmTime is how long to wait for machines.
func (a *app) vmTime(cmd *cobra.Command) time.Duration {
	if f := cmd.Flags().Lookup("timeout"); f != nil && f.Changed {
		return a.timeout
	}
	return vmPatience
}

// vmGoals are what one can wait for. Given the machines of a name, a goal says whether it is reached, or why it will not be.
var vmGoals = map[string]func(name string, list []api.VM) (reached bool, never string){
	"ready": func(name string, list []api.VM) (bool, string) {
		if len(list) > 0 && list[0].Wanted && list[0].Power == "off" {
			return phaseReached(name, list, "stopped")
		}
		return phaseReached(name, list, "running")
	},
	"running": func(name string, list []api.VM) (bool, string) {
		if len(list) > 0 && list[0].Wanted && list[0].Power == "off" && list[0].Phase == "stopped" {
			return false, "is stopped, as it is meant to be (VM/Power): hostmesh vm start " + name
		}
		return phaseReached(name, list, "running")
	},
	"stopped": func(name string, list []api.VM) (bool, string) { return phaseReached(name, list, "stopped") },
	"deleted": func(name string, list []api.VM) (bool, string) {
		for _, vm := range list {
			switch {
			case vm.Phase == "waiting":
				return false, "waits: " + vm.Reason
			case vm.Phase == "failed" && !vm.Wanted:
				return false, "failed: " + vm.Reason
			case vm.Wanted || vm.Phase != "deleted":
				return false, ""
			}
		}
		return true, ""
	},
	"gone": func(_ string, list []api.VM) (bool, string) { return len(list) == 0, "" },
}

func phaseReached(name string, list []api.VM, phase string) (bool, string) {
	for _, vm := range list {
		switch {
		case vm.Phase == phase && vm.Wanted:
			return true, ""
		case vm.Phase == "failed":
			return false, "failed" + ifStep(vm.Step) + ": " + vm.Reason
		case vm.Wanted:
			return false, ""
		}
	}
	if len(list) > 0 {
		return false, "is " + list[0].Phase + ", and the host database does not want it"
	}
	return false, "is not there"
}

func ifStep(step string) string {
	if step == "" {
		return ""
	}
	return " (" + step + ")"
}

// vmWaiter follows machines until each is where it is meant to be.
type vmWaiter struct {
	goal string
	// uuids are the identities of the names; a name that is not in it means whatever machine has it.
	uuids map[string]string
	// say is told of each step of a machine; nil = nobody.
	say func(name, text string)
	now func() time.Time

	began time.Time
	names []string
	rows  map[string]map[string]api.VM // by name and UUID
	said  map[string]string
	left  map[string]bool   // names that are not there yet
	never map[string]string // why a name will not be
}

// run returns when every machine is where it is meant to be, or will not be. Its error names those that are not.
func (x *vmWaiter) run(ctx context.Context, c *api.Client, names []string) error {
	x.names, x.began = names, x.now()
	x.said, x.never, x.left = map[string]string{}, map[string]string{}, map[string]bool{}
	for _, name := range names {
		x.left[name] = true
	}
	synced := false
	reset := func(error) { x.rows, synced = map[string]map[string]api.VM{}, false } // all are told anew
	reset(nil)
	for e, err := range c.WatchVMs(ctx, names, reset) {
		if err != nil {
			return err
		}
		if e.Kind == api.EventSynced {
			synced = true
			for _, name := range names {
				x.judge(name)
			}
		} else if x.take(e) && synced {
			x.judge(e.Name())
		}
		if synced && len(x.left) == 0 {
			break
		}
	}
	return x.outcome(ctx)
}

// take keeps what an event says; false when it is of none that is waited for.
func (x *vmWaiter) take(e api.VMEvent) bool {
	name := e.Name()
	if !slices.Contains(x.names, name) {
		return false
	}
	if uuid := x.uuids[name]; uuid != "" && e.ID() != uuid && e.ID() != "" {
		return false
	}
	if x.rows[name] == nil {
		x.rows[name] = map[string]api.VM{}
	}
	if e.VM == nil {
		delete(x.rows[name], e.UUID)
		return true
	}
	if e.VM.UUID != "" {
		delete(x.rows[name], "") // it has its identity now
	}
	x.rows[name][e.VM.UUID] = *e.VM
	if key := vmStep(*e.VM, 0); x.say != nil && x.left[name] && x.said[name] != key && (e.VM.Wanted || !e.VM.Running()) {
		x.said[name] = key
		x.say(name, vmStep(*e.VM, x.now().Sub(x.began)))
	}
	return true
}

// judge decides whether a name is done with.
func (x *vmWaiter) judge(name string) {
	if !x.left[name] {
		return
	}
	var list []api.VM
	for _, vm := range x.rows[name] {
		list = append(list, vm)
	}
	slices.SortFunc(list, func(a, b api.VM) int { // the one that is wanted first
		switch {
		case a.Wanted == b.Wanted:
			return strings.Compare(a.UUID, b.UUID)
		case a.Wanted:
			return -1
		}
		return 1
	})
	reached, never := vmGoals[x.goal](name, list)
	if never != "" {
		x.never[name] = never
	}
	if reached || never != "" {
		delete(x.left, name)
	}
	if reached && len(list) == 0 && x.say != nil {
		x.say(name, "gone after "+seconds(x.now().Sub(x.began)))
	}
}

// outcome is nil when all are where they are meant to be.
func (x *vmWaiter) outcome(ctx context.Context) error {
	if len(x.never)+len(x.left) == 0 {
		return nil
	}
	var lines []string
	for _, name := range x.names {
		if why, is := x.never[name]; is {
			lines = append(lines, visible(name+" "+strings.TrimSuffix(why, ": ")))
		} else if x.left[name] {
			text := "nothing is known of it"
			for _, vm := range x.rows[name] {
				text = vm.Phase + ifStep(vm.Step)
				if vm.Reason != "" {
					text += ": " + vm.Reason
				}
			}
			lines = append(lines, visible(name+" is not "+x.goal+" yet: "+text))
		}
	}
	text := strings.Join(lines, "\n")
	if len(x.left) > 0 && ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("%s\ninterrupted; it goes on by itself", text)
		}
		return fmt.Errorf("%s\n%w; it goes on by itself: hostmesh vm wait", text, context.Cause(ctx))
	}
	return errors.New(text)
}

// seconds is a duration of some seconds for people.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// vmStep is how a machine stands, as a line of progress; took is since it was asked for.
func vmStep(vm api.VM, took time.Duration) string {
	on := ""
	if vm.Box != "" {
		on = " on " + vm.Box
	}
	why := func(text string) string {
		if vm.Reason != "" {
			return text + ": " + vm.Reason
		}
		return text
	}
	switch vm.Phase {
	case api.VMPending:
		if vm.Step == "place" && vm.Reason != "" {
			return "waits for a box: " + strings.TrimPrefix(vm.Reason, "it waits for a box: ")
		}
		return "waits for a box"
	case "reserved":
		return "placed" + on
	case "preparing":
		return why(orDefault(vm.Step, "prepared"))
	case "starting":
		return "started" + on
	case "running":
		at := ""
		if vm.IP != "" {
			at = " at " + vm.IP
		}
		return "running" + at + on + " after " + seconds(took)
	case "stopping":
		return "shutting down"
	case "stopped":
		return "stopped after " + seconds(took)
	case "deleted":
		text := "deleted after " + seconds(took)
		if vm.Until != nil {
			text += "; its disks are kept until " + vm.Until.Local().Format("2006-01-02 15:04 MST")
		}
		return text
	}
	return why(vm.Phase + ifStep(vm.Step))
}

// stepLine prints a line of progress: where it does not mix with what is printed.
func (a *app) stepLine(name, text string) { fmt.Fprintln(a.stderr, visible(name+": "+text)) }

// waitVMs waits for machines, telling each step.
func (a *app) waitVMs(ctx context.Context, c *api.Client, goal string, names []string, uuids map[string]string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s (--timeout)", limit))
	defer cancel()
	x := vmWaiter{goal: goal, uuids: uuids, say: a.stepLine, now: time.Now}
	return x.run(ctx, c, names)
}

func (a *app) vmWaitCommand() *cobra.Command {
	var goal string
	goals := []string{"ready", "running", "stopped", "deleted", "gone"}
	cmd := &cobra.Command{
		Use:   "wait NAME...",
		Short: "Wait until virtual machines are ready, or are gone",
		Long: `Waits until virtual machines are ready: they run, or are stopped where they are
meant to be (VM/Power); with --for until they run, are stopped, are deleted
(their disks are kept) or gone (nothing is left of them). It tells each step. A
machine that failed, that waits for an approval, or that is meant to be stopped
while --for running, ends the waiting with exit code 1. --timeout says for how
long to wait, 5m when it is not given.`,
		Example: `  hostmesh vm wait web7
  hostmesh vm wait web7 --for gone --timeout 10m`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeVMs,
		PreRunE: func(*cobra.Command, []string) error {
			if vmGoals[goal] == nil {
				return usagef("--for %s: one can wait for %s", goal, strings.Join(goals, ", "))
			}
			return nil
		},
		RunE: a.vmDo(func(ctx context.Context, c *api.Client, cmd *cobra.Command, args []string) error {
			if goal != "deleted" && goal != "gone" { // a slip in a name is told at once
				for _, name := range args {
					ask, cancel := a.withTimeout(ctx)
					_, err := c.VM(ask, name)
					cancel()
					if err != nil {
						return err
					}
				}
			}
			return a.waitVMs(ctx, c, goal, args, nil, a.vmTime(cmd))
		}),
	}
	cmd.Flags().StringVar(&goal, "for", "ready", "`STATE` to wait for: "+strings.Join(goals, ", "))
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(goals, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// vmDo is do for commands that ask an agent more than once, and wait.
func (a *app) vmDo(f func(ctx context.Context, c *api.Client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return explain(f(ctx, c, cmd, args))
	})
}

func (a *app) vmEventsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "events [NAME...]",
		Short: "Print how virtual machines stand, and with --follow each change",
		Long: `Prints a line for each virtual machine, or for those named, with how it stands.
With --follow it goes on with a line for each change, until it is stopped. When
the way to the agent breaks it connects again, and tells all from the beginning.

With -o json each line is an object; "gone" names a machine of which nothing is
left.`,
		Example: `  hostmesh vm events --follow
  hostmesh vm events web7 web8 -o json`,
		ValidArgsFunction: a.completeVMs,
		RunE: a.vmDo(func(ctx context.Context, c *api.Client, _ *cobra.Command, args []string) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if !follow {
				ctx, cancel = a.withTimeout(ctx)
				defer cancel()
			}
			reconnecting := func(why error) { fmt.Fprintf(a.stderr, "hostmesh: %s; trying again\n", visible(why.Error())) }
			for e, err := range c.WatchVMs(ctx, args, reconnecting) {
				if err != nil {
					return err
				}
				if e.Kind == api.EventSynced {
					if follow {
						continue
					}
					return nil
				}
				if len(args) > 0 && !slices.Contains(args, e.Name()) {
					continue
				}
				if err := a.printVMEvent(e); err != nil {
					return err
				}
			}
			if !follow {
				return fmt.Errorf("no answer in time: %w", context.Cause(ctx))
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with each change")
	a.outputFlag(cmd)
	form := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if a.output == formYAML {
			return usagef("-o yaml: events are printed as table or json")
		}
		return form(cmd, args)
	}
	return cmd
}

func (a *app) printVMEvent(e api.VMEvent) error {
	if a.output == formJSON {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	}
	text := "gone"
	if vm := e.VM; vm != nil {
		text = vm.Phase + ifStep(vm.Step)
		if vm.Box != "" {
			text += " on " + vm.Box
		}
		if vm.IP != "" {
			text += " at " + vm.IP
		}
		if vm.Reason != "" {
			text += ": " + vm.Reason
		}
	}
	_, err := fmt.Fprintln(a.stdout, visible(e.At.Local().Format("15:04:05")+" "+e.Name()+" "+text))
	return err
}
