package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) lbDrainCommand() *cobra.Command {
	var message string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "drain HOST",
		Short: "Take a host out of all balanced tags",
		Long: `Takes a host out of all balanced tags: it gets no new connections, and those
that are there may go on for as long as LB/Drain of the tag says. It stays out
until "hostmesh lb enable". It writes the key Drain of the host, with the
message as its text; whoever may write that may drain.

The command waits until the nodes that hold the VIPs have it in their tables, at
most as long as --timeout says. The last backend of a tag stays in, is named,
and makes the exit code 1; it leaves as soon as another can take its place.`,
		Example: `  hostmesh lb drain web1.dc1.example.com -m "new disks"
  hostmesh lb drain web1.dc1.example.com --no-wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLBHosts,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			w, err := c.DrainLBHost(ctx, args[0], api.LBDrain{Reason: message, Log: orDefault(strings.TrimSpace(message), "hostmesh lb drain "+args[0])})
			if err != nil {
				return err
			}
			return a.lbEntered(ctx, c, w, "drained", noWait, lbDrained)
		}),
	}
	messageFlag(cmd, &message, "why, for those who wonder where the connections went (default: by whom)")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until the holders of the VIPs have it")
	return cmd
}

func (a *app) lbEnableCommand() *cobra.Command {
	var message string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "enable HOST",
		Short: "Put a drained host back into its balanced tags",
		Long: `Lets a host that was drained get connections again, in all balanced tags that it
is a member of. It deletes the key Drain of the host.

The command waits until the host is in, in the tables of the nodes that hold the
VIPs, at most as long as --timeout says: it is tried first. Where something else
keeps it out, that is said and makes the exit code 1.`,
		Example:           `  hostmesh lb enable web1.dc1.example.com`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLBHosts,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			w, err := c.EnableLBHost(ctx, args[0], api.LBEnable{Log: orDefault(strings.TrimSpace(message), "hostmesh lb enable "+args[0])})
			if err != nil {
				return err
			}
			return a.lbEntered(ctx, c, w, "enabled", noWait, lbEnabled)
		}),
	}
	messageFlag(cmd, &message, "why, for those who read the history (default: the command)")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is in")
	return cmd
}

// lbGoal says of a host's backends in one table whether what was entered is so there, or why it will not be.
type lbGoal func(list []api.LBBackend) (reached bool, text, never string)

// drainNote begins the reason of a backend that a person takes out; lbd/plan writes it.
const drainNote = "drained"

func lbDrained(list []api.LBBackend) (reached bool, text, never string) {
	if len(list) == 0 {
		return true, "no backend", ""
	}
	for _, b := range list {
		switch {
		case b.Held && strings.HasPrefix(b.Why, drainNote):
			return false, "", b.State + ", " + b.Why
		case b.State == api.LBIn || b.Cause != "drained" && b.Cause != "gone" && b.Cause != "retired" && b.Cause != "maintenance" && b.Cause != "moved":
			return false, b.State, ""
		}
		text = b.State
	}
	return true, text, ""
}

func lbEnabled(list []api.LBBackend) (reached bool, text, never string) {
	never = "no backend"
	for _, b := range list {
		switch {
		case b.Cause == "drained", b.Held && strings.HasPrefix(b.Why, drainNote), b.Cause == "unchecked":
			return false, orDefault(b.Why, b.State), ""
		case b.State == api.LBIn:
			return true, orDefault(b.Why, api.LBIn), ""
		}
		never = b.State + ": " + b.Why
	}
	return false, "", never
}

// lbEntered tells of a drain or its end, and waits until the holders have it.
func (a *app) lbEntered(ctx context.Context, c *api.Client, w api.LBWritten, verb string, noWait bool, goal lbGoal) error {
	for _, text := range w.Warnings {
		fmt.Fprintln(a.stderr, visible("warning: "+text))
	}
	already := ""
	if !w.Changed {
		already = " already"
	}
	fmt.Fprintln(a.stdout, visible(fmt.Sprintf("%s is %s%s", w.Host, verb, already)))
	if len(w.Tags) == 0 {
		fmt.Fprintln(a.stdout, "it is a member of no balanced tag")
		return nil
	}
	if noWait {
		return nil
	}
	return a.waitLB(ctx, c, w, goal)
}

// lbPoll is how often holders are asked while a command waits.
const lbPoll = 100 * time.Millisecond

// lbStays is for how long the holder must say that it will not be before the command believes it: a table made before the write looks the same.
const lbStays = 2 * time.Second

// waitLB waits until the holders of the VIPs of tags have what was entered of a host.
func (a *app) waitLB(ctx context.Context, c *api.Client, w api.LBWritten, goal lbGoal) error {
	start := time.Now()
	left := slices.Clone(w.Tags)
	hopeless := map[string]time.Time{} // tag -> since when
	why := map[string]string{}
	var bad []string
	for len(left) > 0 {
		list, err := c.LBServices(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, api.ErrUnavailable) {
			return fmt.Errorf("it is entered; whether the holders have it is not known: %w", err)
		}
		left = slices.DeleteFunc(left, func(tag string) bool {
			if err != nil {
				return false
			}
			i := slices.IndexFunc(list.Services, func(s api.LBService) bool { return s.Tag == tag })
			if i < 0 || !list.Services[i].Balanced {
				fmt.Fprintln(a.stdout, visible("tags/"+tag+" is not balanced"))
				return true
			}
			s := list.Services[i]
			if s.Trial {
				fmt.Fprintln(a.stdout, visible(fmt.Sprintf("tags/%s: nobody holds the VIP %s here, on loopback: there is nothing to wait for", tag, s.VIP)))
				return true
			}
			if why[tag] = lbNotThere(s); why[tag] != "" {
				return false
			}
			var own []api.LBBackend
			for _, b := range s.Backends {
				if b.Host == w.Host {
					own = append(own, b)
				}
			}
			reached, text, never := goal(own)
			why[tag] = text
			if reached {
				fmt.Fprintln(a.stdout, visible(fmt.Sprintf("tags/%s: %s on %s after %s", tag, text, either(s.Holder.Name, s.Holder.ID), time.Since(start).Round(time.Millisecond))))
				return true
			}
			if never == "" {
				delete(hopeless, tag)
				return false
			}
			why[tag] = never
			if hopeless[tag].IsZero() {
				hopeless[tag] = time.Now()
			}
			if time.Since(hopeless[tag]) < lbStays {
				return false
			}
			bad = append(bad, fmt.Sprintf("tags/%s: %s", tag, never))
			return true
		})
		if len(left) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			for _, tag := range left {
				bad = append(bad, fmt.Sprintf("tags/%s: %s", tag, orDefault(why[tag], "nothing is known of it")))
			}
			return fmt.Errorf("%s\n%w; it is entered, and holders follow when they can: hostmesh lb watch", visible(strings.Join(bad, "; ")), context.Cause(ctx))
		case <-time.After(lbPoll):
		}
	}
	if len(bad) > 0 {
		return errors.New(visible(strings.Join(bad, "; ")))
	}
	return nil
}

// lbNotThere is why no holder has the table of a service in force.
func lbNotThere(s api.LBService) string {
	switch {
	case s.Holder == nil:
		return "nobody holds the VIP " + s.VIP
	case s.NotHeld != "":
		return s.NotHeld
	case s.Error != "":
		return "not in force on " + either(s.Holder.Name, s.Holder.ID) + ": " + s.Error
	}
	return ""
}

// completeLBHosts completes the names of backends.
func (a *app) completeLBHosts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.lbBackendsOf(cmd, ""), cobra.ShellCompDirectiveNoFileComp
}

// lbBackendsOf are the backends of a tag, or of all.
func (a *app) lbBackendsOf(cmd *cobra.Command, tag string) (out []string) {
	_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.LBServices(ctx)
		for _, s := range list.Services {
			for _, b := range s.Backends {
				if tag == "" || s.Tag == tag {
					out = append(out, b.Host)
				}
			}
		}
		return err
	})(cmd, nil)
	slices.Sort(out)
	return slices.Compact(out)
}
