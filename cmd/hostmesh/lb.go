package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) lbCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "lb",
		Short: "Show what is balanced, and take hosts out of it",
		Long: `Shows the tags that have a VIP (section LB): who holds it, and which members get
connections. "drain" takes a host out of all of them, "enable" puts it back.

A table of backends is that of the node that holds the VIP, and names the state
of the host database that it was made from. Where that node cannot be asked it
is what the answering node plans, and that is said.`,
	})
	cmd.AddCommand(a.lbListCommand(), a.lbShowCommand(), a.lbDrainCommand(), a.lbEnableCommand(), a.lbWatchCommand(), a.lbExplainCommand())
	return cmd
}

func (a *app) lbListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List balanced tags",
		Long: `Lists the tags that are balanced, with who holds the VIP of each and since when.
IN, DRAINING and OUT count backends. STATE is ok, or what is the matter; "show"
has all of it.`,
		Example: `  hostmesh lb list
  hostmesh lb list -o json`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.LBServices(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) { lbTable(w, list.Services, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func lbTable(w io.Writer, list []api.LBService, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no tag has a section LB")
		return
	}
	row(w, "TAG", "VIP", "PORTS", "MODE", "HOLDER", "SINCE", "IN", "DRAINING", "OUT", "STATE")
	for _, s := range list {
		if !s.Balanced {
			row(w, s.Tag, "-", "-", "-", "-", "-", "-", "-", "-", lbState(s))
			continue
		}
		holder, since := "-", "-"
		if h := s.Holder; h != nil {
			holder, since = either(h.Name, h.ID), sinceCell(h.Since, now)
		}
		row(w, s.Tag, s.VIP, lbPorts(s.Ports), s.Mode, holder, since,
			fmt.Sprint(s.Count(api.LBIn)), fmt.Sprint(s.Count(api.LBDraining)), fmt.Sprint(s.Count(api.LBOut)), lbState(s))
	}
	lbRefusals(w, list)
}

// lbRefusals says of addresses that nobody holds why the node that answers does not.
func lbRefusals(w io.Writer, list []api.LBService) {
	vips := map[string][]string{}
	var reasons []string
	for _, s := range list {
		if s.Refusal == "" || slices.Contains(vips[s.Refusal], s.VIP) {
			continue
		}
		if vips[s.Refusal] == nil {
			reasons = append(reasons, s.Refusal)
		}
		vips[s.Refusal] = append(vips[s.Refusal], s.VIP)
	}
	for i, reason := range reasons {
		if i == 0 {
			fmt.Fprintln(w)
		}
		which := vips[reason][0]
		if more := len(vips[reason]) - 1; more > 0 {
			which += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintln(w, visible(fmt.Sprintf("nobody holds %s; the node that answers does not: %s", which, reason)))
	}
}

// lbPorts are ports for people: 80/tcp, or 80/tcp>8080 where backends have another.
func lbPorts(list []api.LBPort) string {
	var out []string
	for _, p := range list {
		text := fmt.Sprintf("%d/%s", p.Port, p.Proto)
		if p.To != p.Port {
			text += fmt.Sprintf(">%d", p.To)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// lbState is what is the matter with a service, the worst first.
func lbState(s api.LBService) string {
	var all []string
	say := func(is bool, text string) {
		if is {
			all = append(all, text)
		}
	}
	say(!s.Balanced, "not balanced")
	say(s.Balanced && s.Holder == nil, "nobody holds the VIP")
	say(s.Holder != nil && s.Holder.Phase != "" && s.Holder.Phase != "held", "VIP "+lbPhase(s.Holder))
	say(s.Error != "", "not in force")
	say(s.Holder != nil && s.NotHeld != "", "not the holder's table")
	for _, p := range s.Problems {
		all = append(all, p.Name)
	}
	if len(all) == 0 {
		return "ok"
	}
	return strings.Join(all, ", ")
}

func lbPhase(h *api.LBHolder) string {
	if h == nil {
		return ""
	}
	return h.Phase
}

func (a *app) lbShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show TAG",
		Short: "Show one balanced tag and its backends",
		Long: `Shows who holds the VIP of a tag, since when and with which fencing number, and
the table of backends: each with its state and why, and what both nodes that try
it found. (*) is the holder of the VIP.

STATE is in, draining (no new connections; those that are there may go on until
the moment shown) or out. "in" with a reason is kept for the pool's sake. What
is wrong stands below, by the name of the problem.`,
		Example:           `  hostmesh lb show warehouse-web-dc1`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLBTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			s, err := c.LBService(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { lbText(w, s, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func lbText(w io.Writer, s api.LBService, now time.Time) {
	row(w, "tag", s.Tag)
	if s.Balanced {
		lbHead(w, s, now)
		lbBackends(w, s, now)
	} else {
		row(w, "state", "not balanced")
	}
	for i, p := range s.Problems {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, visible(p.Name+": "+p.Text))
	}
}

func lbHead(w io.Writer, s api.LBService, now time.Time) {
	network := ""
	if s.Subnet != "" {
		network = "in tags/" + s.Subnet
	}
	row(w, "vip", s.VIP, network)
	row(w, "ports", lbPorts(s.Ports))
	mode := s.Mode + ", " + s.Balance
	if s.Masquerade {
		mode += ", masqueraded"
	}
	row(w, "mode", mode)
	if c := s.Check; c != nil {
		row(w, "check", fmt.Sprintf("%s every %s, in after %d good, out after %d bad", c.Type, time.Duration(c.IntervalMS)*time.Millisecond, c.Rise, c.Fall))
	}
	row(w, "drain", "for "+(time.Duration(s.DrainMS)*time.Millisecond).String()+" at most")
	if s.NoQuorum != "" {
		row(w, "no quorum", s.NoQuorum+" the VIP")
	}
	if h := s.Holder; h == nil {
		row(w, "holder", "nobody", s.Refusal)
	} else {
		row(w, "holder", either(h.Name, h.ID), "since "+sinceCell(h.Since, now))
		row(w, "fence", fmt.Sprint(h.Fence))
		at := cmp.Or(h.Phase, "not claimed yet")
		if h.Interface != "" {
			at += " on " + h.Interface
		}
		if h.Why != "" {
			at += ": " + h.Why
		}
		row(w, "address", at)
	}
	by := ""
	if s.By != nil {
		by = "of " + either(s.By.Name, s.By.ID)
	}
	row(w, "table", by, s.NotHeld)
	row(w, "made from", "hostdb "+orDash(s.Version))
	row(w, "changed with", "hostdb "+orDash(s.Changed))
	if s.Kept {
		row(w, "kept", "its section LB cannot be used: this is what it said before")
	}
	if s.FailOpen {
		row(w, "fail open", "no backend works, so all are in")
	}
	if s.Error != "" {
		row(w, "not in force", s.Error)
	}
}

func lbBackends(w io.Writer, s api.LBService, now time.Time) {
	fmt.Fprintln(w)
	if len(s.Backends) == 0 {
		fmt.Fprintln(w, "no backend")
		return
	}
	row(w, "BACKEND", "ADDRESS", "STATE", "CHECKS", "WHY")
	for _, b := range s.Backends {
		row(w, b.Host, b.Addr, lbBackendState(b), lbChecks(b.Checks, len(s.Ports) > 1, now), lbWhy(b, now))
	}
}

func lbBackendState(b api.LBBackend) string {
	if b.Held {
		return b.State + " (held)"
	}
	return b.State
}

func lbWhy(b api.LBBackend, now time.Time) string {
	why := b.Why
	if b.Until != nil {
		if why != "" {
			why += "; "
		}
		why += "connections may go on for " + ago(now, *b.Until)
	}
	return why
}

// lbChecks is what both observers found: "up box1*, down box2 (connection refused)".
func lbChecks(list []api.LBSight, ports bool, now time.Time) string {
	if len(list) == 0 {
		return "not tried"
	}
	var out []string
	for _, c := range list {
		text := c.State + " " + either(c.Name, c.ID)
		if c.Holder {
			text += "*"
		}
		if ports {
			text += fmt.Sprintf(" %d/%s", c.Port, c.Proto)
		}
		var notes []string
		if c.Bad > 0 {
			notes = append(notes, fmt.Sprintf("%d bad", c.Bad))
		}
		if c.Reason != "" {
			notes = append(notes, c.Reason)
		}
		if c.State != "up" && c.Since != nil {
			notes = append(notes, "for "+ago(*c.Since, now))
		}
		if !c.Alive {
			notes = append(notes, "does not answer, and does not count")
		}
		if len(notes) > 0 {
			text += " (" + strings.Join(notes, ", ") + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (a *app) lbExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain TAG [HOST]",
		Short: "Show why a host is, or is not, behind a VIP",
		Long: `Says why a host gets connections of a balanced tag, or why not, and what to do.
Without a host it says it of each backend, and which nodes could hold the VIP,
which could not and why.

The answer is what the node that is asked plans; on another node it may differ
for as long as a change needs to arrive there.`,
		Example: `  hostmesh lb explain warehouse-web-dc1 web1.dc1.example.com
  hostmesh lb explain warehouse-web-dc1`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return a.lbBackendsOf(cmd, args[0]), cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeLBTags(cmd, args, text)
		},
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			host := ""
			if len(args) > 1 {
				host = args[1]
			}
			e, err := c.ExplainLB(ctx, args[0], host)
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { lbExplanation(w, e, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func lbExplanation(w io.Writer, e api.LBExplanation, now time.Time) {
	for _, line := range e.Lines {
		fmt.Fprintln(w, visible(line))
	}
	switch {
	case e.Duty != nil:
		fmt.Fprintln(w)
		explanationText(w, *e.Duty, now)
	case e.NoDuty != "":
		fmt.Fprintf(w, "\nwho could hold the VIP is not known: %s\n", visible(e.NoDuty))
	}
}

// completeLBTags completes the names of balanced tags.
func (a *app) completeLBTags(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.LBServices(ctx)
			for _, s := range list.Services {
				out = append(out, s.Tag)
			}
			return err
		})(cmd, nil)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
