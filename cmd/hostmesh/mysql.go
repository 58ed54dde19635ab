package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) mysqlCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "mysql",
		Short: "Show database clusters, and change who takes the writes",
		Long: `Shows the tags that are database clusters (section MySQL): who takes the writes,
who replicates from whom and how far behind, and what the agent that watches
over the cluster thinks of it. Other commands change the primary, make servers
replicas, and say why a failover was made, or not.

Whoever may write the section MySQL of the tag may change its cluster.`,
	})
	cmd.AddCommand(
		a.mysqlStatusCommand(), a.mysqlCheckCommand(), a.mysqlSetupCommand(), a.mysqlSwitchoverCommand(), a.mysqlFailoverCommand(), a.mysqlAckCommand(),
		a.mysqlRejoinCommand(), a.mysqlCloneCommand(), a.mysqlPauseCommand(), a.mysqlResumeCommand(), a.mysqlExplainCommand(), a.mysqlHistoryCommand(),
	)
	return cmd
}

func (a *app) mysqlStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [TAG]",
		Short: "Draw the topology of clusters, with lag, position and verdict",
		Long: `Draws who replicates from whom, of one cluster or of all, as the node that
watches over it sees it. ROLE names the primary, who acknowledges its
transactions (acker), and who answers at ReadVIP (reads). LAG is how far behind
a replica is. Above stand what is the matter, what was seen of it, what the
agents do about it (so), and what a person can do (to do); below, what takes
long.

The exit code is 1 when the verdict on one of them is an error.`,
		Example: `  hostmesh mysql status
  hostmesh mysql status shop-db -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			var list []api.MySQLCluster
			var all any
			if len(args) > 0 {
				one, err := c.MySQLCluster(ctx, args[0])
				if err != nil {
					return err
				}
				list, all = []api.MySQLCluster{one}, one
			} else {
				some, err := c.MySQLClusters(ctx)
				if err != nil {
					return err
				}
				list, all = some.Clusters, some
			}
			if err := a.print(all, func(w io.Writer) { mysqlTexts(w, list, time.Now()) }); err != nil {
				return err
			}
			if slices.ContainsFunc(list, func(x api.MySQLCluster) bool { return x.Verdict.Severity == api.SeverityError || x.Problem != "" }) {
				return errSilent
			}
			return nil
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func mysqlTexts(w io.Writer, list []api.MySQLCluster, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no tag has a section MySQL")
		return
	}
	for i, x := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		mysqlText(w, x, now)
	}
}

func mysqlText(w io.Writer, x api.MySQLCluster, now time.Time) {
	row(w, "cluster", x.Tag)
	if x.Problem != "" {
		row(w, "problem", x.Problem)
	}
	if x.VIP != "" {
		at := fmt.Sprintf("%s port %d", x.VIP, x.Port)
		if x.ReadVIP != "" {
			at += ", readers at " + x.ReadVIP
		}
		row(w, "vip", at)
		row(w, "durability", x.Durability)
		row(w, "failover", x.Failover)
	}
	watcher := "nobody"
	if x.Watcher != nil {
		watcher = fmt.Sprintf("%s, fence %d", either(x.Watcher.Name, x.Watcher.ID), x.Fence)
		if x.Observe {
			watcher += ", which touches nothing (--observe)"
		}
	}
	if x.NotWatched != "" {
		watcher += ": " + x.NotWatched
	}
	row(w, "watched by", watcher)
	if r := x.Record; r != nil {
		row(w, "epoch", fmt.Sprint(r.Epoch))
		if r.Durability != x.Durability {
			row(w, "in force", r.Durability)
		}
		if r.LastFailover != nil {
			acked := "not acknowledged: no other is made by itself within an hour of it"
			if r.AckedBy != "" {
				acked = "acknowledged by " + r.AckedBy
			}
			row(w, "last failover", ago(*r.LastFailover, now)+" ago, "+acked)
		}
		if p := r.Paused; p != nil {
			row(w, "paused", fmt.Sprintf("by %s %s ago: %s", p.By, ago(p.Since, now), p.Why))
		}
		if in := r.Intent; in != nil {
			row(w, in.Kind, mysqlIntent(in, now))
		}
	}
	row(w, "verdict", mysqlVerdict(x.Verdict))
	for i, e := range x.Verdict.Evidence {
		row(w, first(i == 0, "seen"), e)
	}
	if x.Verdict.Act != "" {
		row(w, "so", x.Verdict.Act)
	}
	if x.Verdict.Remedy != "" {
		row(w, "to do", x.Verdict.Remedy)
	}
	if len(x.Servers) > 0 {
		fmt.Fprintln(w)
		mysqlTopology(w, x)
	}
	for i, t := range x.Tasks {
		if i == 0 {
			fmt.Fprintln(w)
		}
		row(w, "task", mysqlTaskText(t, now))
	}
}

// first is the label of the first of several rows.
func first(is bool, label string) string {
	if is {
		return label
	}
	return ""
}

func mysqlIntent(in *api.MySQLIntent, now time.Time) string {
	text := fmt.Sprintf("from %s to %s, at step %s, for %s: %s", in.Old, orDefault(in.To, "?"), in.Step, ago(in.Began, now), in.Why)
	if in.Stopped != "" {
		text += "; it waits for a person: " + in.Stopped
	}
	if in.Loss != "" {
		text += "; possibly lost: " + in.Loss
	}
	return text
}

func mysqlVerdict(v api.MySQLVerdict) string {
	if v.Text == "" {
		return orDash(v.Name)
	}
	return orDash(v.Name) + ": " + v.Text
}

// mysqlTopology draws servers below those that they replicate from.
func mysqlTopology(w io.Writer, x api.MySQLCluster) {
	row(w, "SERVER", "ROLE", "LAG", "POSITION", "PROCESS", "VERSION", "NOTE")
	below := map[string][]api.MySQLServer{}
	known := map[string]bool{}
	for _, s := range x.Servers {
		known[s.Host] = true
	}
	var roots []api.MySQLServer
	for _, s := range x.Servers {
		if s.Source != "" && known[s.Source] && s.Source != s.Host {
			below[s.Source] = append(below[s.Source], s)
		} else {
			roots = append(roots, s)
		}
	}
	drawn := map[string]bool{}
	var draw func(s api.MySQLServer, lead, rest string)
	draw = func(s api.MySQLServer, lead, rest string) {
		if drawn[s.Host] {
			return
		}
		drawn[s.Host] = true
		mysqlServerRow(w, lead, s)
		for i, child := range below[s.Host] {
			if i == len(below[s.Host])-1 {
				draw(child, rest+"└─ ", rest+"   ")
			} else {
				draw(child, rest+"├─ ", rest+"│  ")
			}
		}
	}
	slices.SortStableFunc(roots, func(a, b api.MySQLServer) int { return rank(a) - rank(b) })
	for _, s := range roots {
		draw(s, "", "")
	}
	for _, s := range x.Servers { // those that replicate in a circle
		draw(s, "", "")
	}
}

// rank puts the primary first.
func rank(s api.MySQLServer) int {
	if s.Role == "primary" {
		return 0
	}
	return 1
}

func mysqlServerRow(w io.Writer, lead string, s api.MySQLServer) {
	role := []string{orDefault(s.Role, "none")}
	if s.HasVIP {
		role = append(role, "vip")
	}
	if s.Acker {
		role = append(role, "acker")
	}
	if s.Reads {
		role = append(role, "reads")
	}
	if s.Role == "primary" && s.ReadOnly {
		role = append(role, "read-only")
	}
	lag := "-"
	if s.LagMS != nil {
		lag = (time.Duration(*s.LagMS) * time.Millisecond).String()
	}
	position := orDash(s.Position)
	if s.Received != "" && s.Received != s.Position {
		position += " of " + s.Received
	}
	note := s.Note
	if s.Marked != "" {
		note = strings.TrimPrefix(note+"; not to start: "+s.Marked, "; ")
	}
	row(w, lead+s.Host, strings.Join(role, " "), lag, position, orDash(s.Process), orDash(s.Version), note)
}

func mysqlTaskText(t api.MySQLTask, now time.Time) string {
	text := t.What
	if t.Host != "" {
		text += " " + t.Host
	}
	switch {
	case t.Error != "":
		return text + " failed at " + orDefault(t.Step, "its begin") + ": " + t.Error
	case t.Done:
		return fmt.Sprintf("%s done in %s", text, (time.Duration(t.TookMS) * time.Millisecond).String())
	}
	if t.Step != "" {
		text += ": " + t.Step
	}
	if t.Bytes > 0 {
		text += ", " + size(t.Bytes)
		if t.Total > 0 {
			text += " of about " + size(t.Total)
		}
	}
	return text + ", for " + ago(t.Began, now)
}

func (a *app) mysqlCheckCommand() *cobra.Command {
	var grants bool
	cmd := &cobra.Command{
		Use:   "check TAG",
		Short: "Compare the servers of a cluster with what it needs",
		Long: `Names each setting of each server that is not as the cluster needs it, what it
is and should be, and what happens otherwise; and accounts, versions and
topology that do not fit. It changes nothing: "setup" does.

With --grants it prints the statements that make the accounts of credentials.d,
with the least privileges that do; a password stands in none of them. The exit
code is 1 when something of severity error was found.`,
		Example: `  hostmesh mysql check shop-db
  hostmesh mysql check shop-db --grants`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			r, err := c.CheckMySQL(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) {
				if grants {
					for _, g := range r.Grants {
						fmt.Fprintln(w, visible(g))
					}
					return
				}
				mysqlCheckText(w, r)
			}); err != nil {
				return err
			}
			if !r.Good && !grants {
				return errSilent
			}
			return nil
		}),
	}
	a.outputFlag(cmd)
	cmd.Flags().BoolVar(&grants, "grants", false, "print the statements that make the accounts")
	return cmd
}

func mysqlCheckText(w io.Writer, r api.MySQLCheck) {
	bad := 0
	for _, s := range r.Servers {
		if s.Error != "" {
			row(w, s.Host, "error", s.Error)
			bad++
		}
		for _, x := range s.Settings {
			restart := ""
			if x.Restart {
				restart = " (in its file, and a restart)"
			}
			row(w, s.Host, x.Severity, fmt.Sprintf("%s is %s, and should be %s%s: %s", x.Name, orDefault(x.Have, "not set"), x.Want, restart, x.Why))
			bad++
		}
	}
	for _, n := range r.Notes {
		row(w, r.Tag, "note", n)
	}
	if bad == 0 {
		fmt.Fprintln(w, plural(len(r.Servers), "server is", "servers are")+" as the cluster needs")
	}
}

func (a *app) mysqlExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain TAG",
		Short: "Say why a cluster did, or did not, fail over",
		Long: `Says what the node that watches over the cluster has seen of each server, by
which way, and how long ago; what follows from it; and what keeps it from doing
more, or would.`,
		Example:           `  hostmesh mysql explain shop-db`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.ExplainMySQL(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) {
				for _, line := range e.Lines {
					fmt.Fprintln(w, visible(line))
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) mysqlHistoryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history TAG",
		Short: "List what was done to a cluster, the newest first",
		Long: `Lists what was done to a cluster, by the agents and by people: changes of the
primary and how long they took, what may have been lost, pauses. It stands in
the cluster's record, which keeps the last 20.`,
		Example:           `  hostmesh mysql history shop-db`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeMySQLTags,
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			x, err := c.MySQLCluster(ctx, args[0])
			if err != nil {
				return err
			}
			if x.Record == nil {
				return fmt.Errorf("tags/%s has no record: %s", args[0], orDefault(x.NotWatched, "hostmesh mysql setup makes it"))
			}
			return a.print(x.Record.History, func(w io.Writer) {
				if len(x.Record.History) == 0 {
					fmt.Fprintln(w, "nothing was done yet")
					return
				}
				row(w, "TIME", "EPOCH", "TOOK", "BY", "WHAT")
				for _, e := range x.Record.History {
					took := "-"
					if e.TookMS > 0 {
						took = (time.Duration(e.TookMS) * time.Millisecond).String()
					}
					row(w, e.At.Local().Format("2006-01-02 15:04:05"), fmt.Sprint(e.Epoch), took, orDefault(e.By, "agents"), e.What)
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

// completeMySQLTags completes tags that are clusters.
func (a *app) completeMySQLTags(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.MySQLClusters(ctx)
		for _, x := range list.Clusters {
			out = append(out, x.Tag)
		}
		return err
	})(cmd, args)
	return out, cobra.ShellCompDirectiveNoFileComp
}

// mysqlLook is how often a command asks how far a task is.
const mysqlLook = 200 * time.Millisecond

// followMySQL shows how far a task on a host is, until it is done.
func (a *app) followMySQL(ctx context.Context, c *api.Client, tag, what, host string, since time.Time) error {
	bar := newProgress(a.stderr)
	defer bar.end()
	for {
		x, err := c.MySQLCluster(ctx, tag)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, api.ErrUnavailable)) {
			return err
		}
		for _, t := range x.Tasks {
			if t.What != what || t.Host != host || t.Began.Before(since) {
				continue
			}
			text := mysqlTaskText(t, time.Now())
			switch {
			case t.Error != "":
				return errors.New(visible(text))
			case t.Done:
				bar.end()
				fmt.Fprintln(a.stdout, visible(text))
				return nil
			}
			bar.line(time.Now(), visible(text))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; it goes on in the background: hostmesh mysql status %s", context.Cause(ctx), tag)
		case <-time.After(mysqlLook):
		}
	}
}
