package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dutiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "duties",
		Short: "Show who holds which duty, and change it",
		Long: `Shows the duties of this node's datacenter. A duty is a job that one node at a
time may do, such as keeping the Git mirror. A majority of the datacenter's
voters grants it, so that no two nodes do it at once.

HOLDER is the node that has it, SINCE for how long. FENCE is its fencing number,
which grows with every grant. STATE is ok; "handing over to X" with the reason;
or free, with how many nodes would take it.`,
		Example: `  hostmesh duties
  hostmesh duties -o json`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Duties(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) { dutiesTable(w, list, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	cmd.AddCommand(a.dutiesExplainCommand(), a.dutiesMoveCommand(), a.dutiesVotersCommand(), a.dutiesFoundCommand(), a.dutiesRecoverCommand(), a.dutiesExcuseCommand())
	return cmd
}

func dutiesTable(w io.Writer, list api.DutyList, now time.Time) {
	if len(list.Duties) == 0 {
		fmt.Fprintf(w, "no node of datacenter %s offers itself for any duty\n", visible(orDash(list.Group.Datacenter)))
		return
	}
	row(w, "DUTY", "HOLDER", "SINCE", "FENCE", "STATE")
	for _, d := range list.Duties {
		row(w, d.Duty, orDash(either(d.Name, d.Node)), sinceCell(d.Since, now), fmt.Sprint(d.Fence), dutyState(d))
	}
}

func sinceCell(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return ago(*t, now)
}

// either is a name, or the id of what has none.
func either(name, id string) string {
	if name != "" {
		return name
	}
	return id
}

func dutyState(d api.Duty) string {
	switch {
	case d.HandOver != "" && d.To != "":
		return fmt.Sprintf("handing over to %s: %s", either(d.ToName, d.To), d.HandOver)
	case d.HandOver != "":
		return "handing over: " + d.HandOver
	case d.Node != "":
		return "ok"
	case d.Candidates == 0:
		return "free: no node is eligible"
	}
	return "free: " + plural(d.Candidates, "node", "nodes") + " would take it"
}

// dutiesLine is the line of status about this node's part.
func dutiesLine(s api.DutiesStatus) string {
	if s.Error != "" {
		return "no part in them"
	}
	if s.Group == nil {
		return "no group is known in this datacenter"
	}
	line := "holds none"
	if n := len(s.Holding); n > 0 {
		var names []string
		for _, d := range s.Holding[:min(n, 5)] {
			names = append(names, d.Duty)
		}
		if n > len(names) {
			names = append(names, fmt.Sprintf("%d more", n-len(names)))
		}
		line = "holds " + strings.Join(names, ", ")
	}
	switch {
	case s.Leads:
		line += ", leads"
	case s.Votes:
		line += ", votes"
	}
	if !s.Leads && s.Leader != "" {
		line += ", asks " + either(s.LeaderName, s.Leader)
	}
	home := ""
	if s.Group.Home {
		home = " (home)"
	}
	return fmt.Sprintf("%s; group %s of datacenter %s%s, generation %d", line, s.Group.ID[:min(8, len(s.Group.ID))], orDash(s.Group.Datacenter), home, s.Group.Generation)
}

func (a *app) dutiesExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain DUTY",
		Short: "Show why a duty is where it is",
		Long: `Shows which nodes could hold a duty, which could not and why, and why the one
that holds it does. The first of the list is the one that would get it now.

CLASS is wanted (a person moved it there), eligible, full (it holds its share of
duties), second choice, or not eligible. Nodes that neither offer themselves nor
say why not are counted in the last line.`,
		Example:           `  hostmesh duties explain mirror`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDuties,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.ExplainDuty(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { explanationText(w, e, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func explanationText(w io.Writer, e api.DutyExplanation, now time.Time) {
	d := e.Duty
	if d.Node == "" {
		row(w, "holder", "nobody", dutyState(d))
	} else {
		row(w, "holder", either(d.Name, d.Node), dutyState(d))
		row(w, "why", d.Why)
		row(w, "since", sinceCell(d.Since, now)+" ago")
	}
	if d.Fence > 0 {
		row(w, "fence", fmt.Sprint(d.Fence))
	}
	if d.Last != "" {
		row(w, "before", either(d.LastName, d.Last))
	}
	row(w, "leader", either(e.LeaderName, e.Leader))
	fmt.Fprintln(w)
	row(w, "NODE", "CLASS", "HOLDS", "REASON")
	for _, r := range e.Nodes {
		class := r.Class
		if r.Holder {
			class += ", holds it"
		}
		row(w, either(r.Name, r.Node), class, fmt.Sprint(r.Holds), r.Reason)
	}
	if e.Silent > 0 {
		fmt.Fprintf(w, "\n%s of the datacenter %s nothing of this duty\n", plural(e.Silent, "other node", "other nodes"), map[bool]string{true: "says", false: "say"}[e.Silent == 1])
	}
}

func (a *app) dutiesMoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "move DUTY NODE",
		Short: "Hand a duty to another node",
		Long: `Hands a duty to a node, named by its name or id, and waits until the node holds
it. The holder stops first. The duty stays there as long as the node is fit; to
keep a node free of duties, drain it. Only an administrator may.`,
		Example:           `  hostmesh duties move mirror box12.dc1.example.com`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeDuties,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			start := time.Now()
			d, err := c.MoveDuty(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is held by %s after %s, fencing number %d\n", visible(d.Duty), visible(either(d.Name, d.Node)),
				time.Since(start).Round(time.Millisecond), d.Fence)
			return nil
		}),
	}
}

func (a *app) dutiesVotersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "voters",
		Short: "Show who grants duties",
		Long: `Shows the voters of this node's datacenter: 1, 3 or 5 nodes, of which a majority
must answer for a duty to be granted. They are chosen and replaced by
themselves. ROLE is leader, voter, or learner: one that catches up before it
votes, with how many entries it lacks in BEHIND. STATE is what the node that was
asked thinks of it.

What is about to change, drained nodes, and nodes that have not brought in what
they own since a recovery are shown below.`,
		Example: `  hostmesh duties voters`,
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.DutyVoters(ctx)
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { votersTable(w, v, time.Now()) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func votersTable(w io.Writer, v api.DutyVoters, now time.Time) {
	row(w, "NODE", "ROLE", "STATE", "BEHIND")
	for _, s := range v.Voters {
		role, behind := "learner", "-"
		switch {
		case s.Node == v.Leader:
			role = "leader"
		case s.Voter:
			role = "voter"
		default:
			behind = fmt.Sprint(s.Behind)
		}
		row(w, either(s.Name, s.Node), role, either(s.State, "removed"), behind)
	}
	if v.Next != "" {
		fmt.Fprintf(w, "\nnext: %s\n", visible(v.Next))
	}
	if len(v.Drained) > 0 {
		fmt.Fprintln(w)
		row(w, "DRAINED", "SINCE", "HOLDS", "BY", "WHY")
		for _, d := range v.Drained {
			row(w, either(d.Name, d.Node), sinceCell(d.At, now), fmt.Sprint(d.Holds), orDash(d.By), orDash(d.Reason))
		}
	}
	for _, n := range v.Owing {
		fmt.Fprintf(w, "\n%s has not brought in what it owns: no name or grant is made until then\n", visible(either(n.Name, n.ID)))
	}
	fmt.Fprintf(w, "\ngroup %s of datacenter %s, generation %d, term %d, entry %d\n", v.Group.ID[:min(8, len(v.Group.ID))], visible(orDash(v.Group.Datacenter)),
		v.Group.Generation, v.Term, v.Index)
}

func (a *app) dutiesFoundCommand() *cobra.Command {
	var how api.FoundDuties
	cmd := &cobra.Command{
		Use:   "found",
		Short: "Found the group of a datacenter",
		Long: `Founds the group that grants the duties of this node's datacenter, with this
node as its first voter. The datacenter where the mesh was founded has one from
the beginning; each further datacenter needs this once, on any of its nodes.

It is refused while a member of the datacenter knows a group. Members that
cannot be asked are named; --force goes on without them, which makes two groups
if one of them knows one. --home makes it the home group, which holds the
duties of the whole mesh: for a mesh that has none. Only an administrator may.`,
		Example: `  hostmesh duties found
  hostmesh duties found --home`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			g, err := c.FoundDuties(ctx, how)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "Group %s of datacenter %s is founded. Two more voters join when three nodes have been there for a while.\n", visible(g.ID), visible(orDash(g.Datacenter)))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&how.Home, "home", false, "make it the home group of the mesh, which must have none")
	cmd.Flags().BoolVar(&how.Force, "force", false, "go on although members of the datacenter cannot be asked")
	return cmd
}

func (a *app) dutiesRecoverCommand() *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on when a majority of the voters is lost for good",
		Long: `Begins a new generation of this datacenter's group, with this node as its only
voter, from what this node has of the log. It is for a majority of voters that
is lost for good; when they come back by themselves, so does everything else.

What only the lost voters had is lost: the newest grants and records. Duties
are granted anew. Messages of the former generation are refused, and voters of
it that return rejoin with empty hands. Permanent grants are brought in by
their owners; until every node of the datacenter has done so, no new ones are
made. Nodes that are gone are excused: hostmesh duties excuse NODE.

Run it on the voter that has the newest entry: another one refuses and names
it. A node that is no voter begins with nothing. It is refused while a majority
answers. --force overrides both. Only an administrator may. On a terminal you
are asked; elsewhere --yes is needed.`,
		Example: `  hostmesh duties recover
  hostmesh duties recover --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, terminal := a.stdin.(*os.File)
			if !yes && !(terminal && isTerminal(f)) {
				return usagef("there is no terminal to ask at: --yes says that the group shall go on without the voters that are lost")
			}
			return a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
				if !yes && !a.confirm("Begin a new generation from what this node has? What only the lost voters had is lost, and they must not be started as they were.") {
					return fmt.Errorf("nothing was done")
				}
				g, err := c.RecoverDuties(ctx, force)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, `Group %s of datacenter %s goes on in generation %d, with this node as its only voter.

Next: remove boxes that are gone (hostmesh node remove), see who has not brought in
what it owns (hostmesh duties voters), and excuse those that never will
(hostmesh duties excuse NODE). More voters join by themselves.
`, visible(g.ID), visible(orDash(g.Datacenter)), g.Generation)
				return nil
			})(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "recover here although another voter has more, or a majority answers")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) dutiesExcuseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "excuse NODE",
		Short: "Do not wait for what a node owned",
		Long: `Says that a node is gone and will not bring in what it owned, such as a block
of addresses. It is for after "hostmesh duties recover", which waits for every
node. What the node owned may be given to others then. Only an administrator
may.`,
		Example:           `  hostmesh duties excuse box12.dc1.example.com`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			n, err := c.ExcuseNode(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is excused\n", visible(either(n.Name, n.ID)))
			return nil
		}),
	}
}

// completeDuties completes the name of a duty, then that of a node.
func (a *app) completeDuties(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return a.completeNodes(cmd, nil, "")
	}
	_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.Duties(ctx)
		for _, d := range list.Duties {
			out = append(out, d.Duty)
		}
		return err
	})(cmd, nil)
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes the name of a node.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Members(ctx)
			for _, m := range list {
				if m.Name != "" {
					out = append(out, m.Name)
				}
			}
			return err
		})(cmd, nil)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
