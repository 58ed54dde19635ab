package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how this node is, and what is wrong",
		Long: `Shows how this node is. What is wrong comes first, in words, with what to do
about it; a line that begins with "note" tells what is worth knowing although
nothing is broken.

The exit code is 1 when something is wrong or no agent answers, so that a
monitoring system can run it as it is; notes alone leave it at 0.`,
		Example: `  hostmesh status
  hostmesh status --server https://10.1.0.12:7951 --ca web-ca.crt --token-file token
  hostmesh status -o json | jq .problems`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if err := a.print(s, func(w io.Writer) { statusText(w, s) }); err != nil {
				return err
			}
			for _, p := range s.Problems {
				if p.Severity == api.SeverityError {
					return errSilent
				}
			}
			return nil
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func statusText(w io.Writer, s api.Status) {
	wrong, notes := 0, 0
	for _, p := range s.Problems {
		if p.Severity == api.SeverityError {
			wrong++
		} else {
			notes++
		}
	}
	switch {
	case wrong > 0:
		fmt.Fprintf(w, "%s: %s\n\n", visible(s.Node.Name), plural(wrong, "problem", "problems"))
	case notes > 0:
		fmt.Fprintf(w, "%s: nothing is wrong, %s\n\n", visible(s.Node.Name), plural(notes, "note", "notes"))
	default:
		fmt.Fprintf(w, "%s: all is well\n\n", visible(s.Node.Name))
	}
	for _, p := range s.Problems {
		mark := "WRONG"
		if p.Severity != api.SeverityError {
			mark = "note"
		}
		row(w, mark, p.Subject+": "+p.Text)
		if p.Remedy != "" {
			row(w, "", p.Remedy)
		}
	}
	if len(s.Problems) > 0 {
		fmt.Fprintln(w)
	}
	n, db := s.Node, s.HostDB
	row(w, "agent", agentLine(n, s.Time))
	row(w, "mesh", meshLine(s.Mesh))
	mode := ""
	if db.ReadOnly != nil {
		mode = ", read-only"
	}
	row(w, "hostdb", fmt.Sprintf("%s, %s, version %s%s", plural(db.Hosts, "host", "hosts"), plural(db.Tags, "tag", "tags"), orDash(db.Version), mode))
	if len(db.Peers) > 0 {
		row(w, "replicas", replicasLine(db.Peers))
	}
	if s.Mesh.Reports.Nodes > 0 {
		row(w, "reports", reportsLine(s.Mesh.Reports))
	}
	row(w, "history", historyLine(db.Replication))
	row(w, "clock", clockLine(db.Replication.Clocks))
	row(w, "duties", dutiesLine(s.Duties))
	if n.DiskFree >= 0 {
		row(w, "disk", fmt.Sprintf("%s free in %s, writes stop below %s", size(n.DiskFree), n.DataDir, size(n.DiskFloor)))
	}
	for _, d := range s.Daemons {
		row(w, d.Name, daemonLine(d, s.Time))
	}
	if h := s.Hypervisor; h != nil {
		row(w, "vms", hypervisorLine(*h))
	}
	for _, l := range s.Listeners {
		state := ""
		if l.Error != "" {
			state = ": " + l.Error
		}
		row(w, "listens", l.Name+" "+l.Addr+state)
	}
}

func historyLine(r api.ReplicationStatus) string {
	switch {
	case r.Join != nil:
		return "none yet: a first copy is being taken"
	case r.HistoryMissing > 0:
		return fmt.Sprintf("being fetched, %d operations to go", r.HistoryMissing)
	case r.HistoryFrom != nil:
		return "from " + stampText(*r.HistoryFrom) + " UTC"
	}
	return "whole"
}

func clockLine(c api.ClocksStatus) string {
	if c.Known < 2 {
		return "no other to compare it with"
	}
	off := time.Duration(c.AheadMS) * time.Millisecond
	word := "ahead of"
	if off < 0 {
		off, word = -off, "behind"
	}
	return fmt.Sprintf("%s %s the median of %d", off, word, c.Known)
}

func hypervisorLine(h api.HypervisorStatus) string {
	if h.Error != "" {
		return h.URI + " cannot be used"
	}
	speed := "in software"
	if h.KVM {
		speed = "with kvm"
	}
	return fmt.Sprintf("%s, %s %s %s, libvirt %s", h.URI, h.Driver, h.Version, speed, h.Library)
}

func agentLine(n api.NodeStatus, now time.Time) string {
	line := n.Addr
	if n.Datacenter != "" || n.Rack != "" {
		line += " in " + place(n.Datacenter, n.Rack)
	}
	line += ", up " + ago(n.Started, now) + ", hostmesh " + n.Build.Version
	if n.Dev {
		line += ", --dev"
	}
	if n.Observe {
		line += ", --observe"
	}
	return line
}

func meshLine(m api.MeshStatus) string {
	if m.ID == "" {
		return "not joined yet"
	}
	var away []string
	for _, x := range []struct {
		n    int
		word string
	}{{m.Failed, "failed"}, {m.Unknown, "not heard of"}, {m.Left, "stopped in order"}} {
		if x.n > 0 {
			away = append(away, fmt.Sprintf("%d %s", x.n, x.word))
		}
	}
	line := fmt.Sprintf("%d of %s alive", m.Alive, plural(m.Members, "member", "members"))
	if len(away) > 0 {
		line += ", " + strings.Join(away, ", ")
	}
	return line
}

// reportsLine says of how many nodes reports are here, and how fresh.
func reportsLine(r api.ReportsStatus) string {
	line := fmt.Sprintf("of %s, complete %s ago, %s a second sent", plural(r.Nodes, "node", "nodes"),
		(time.Duration(r.LagMS) * time.Millisecond).Round(100*time.Millisecond), size(int64(r.SentPerSec)))
	if r.Refused > 0 {
		line += fmt.Sprintf(", %d refused", r.Refused)
	}
	return line
}

// replicasLine says how the other replicas compare with this one. While writes go on some are always a little behind.
func replicasLine(peers []api.ReplicaStatus) string {
	var equal, behind, ahead, silent int
	for _, p := range peers {
		switch {
		case p.Heard.IsZero():
			silent++
		case p.Ahead > 0:
			ahead++
		case p.Missing > 0:
			behind++
		default:
			equal++
		}
	}
	var parts []string
	for _, x := range []struct {
		n    int
		word string
	}{{equal, "equal"}, {behind, "behind"}, {ahead, "ahead"}, {silent, "not compared yet"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.word))
		}
	}
	return plural(len(peers), "other", "others") + ": " + strings.Join(parts, ", ")
}

func daemonLine(d api.DaemonStatus, now time.Time) string {
	switch lag := time.Duration(d.LagMS) * time.Millisecond; {
	case d.Failures > 0:
		return fmt.Sprintf("failing; last success %s", since(d.Reconciled, now))
	case d.Stuck:
		return fmt.Sprintf("stuck; last success %s", since(d.Reconciled, now))
	case d.Idle != "":
		return "idle: " + d.Idle
	case d.Version == "":
		return "has not run yet"
	case lag > 0:
		return fmt.Sprintf("%s behind hostdb", lag)
	case d.Note != "":
		return d.Note
	}
	return "up to date with hostdb"
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return ago(t, now) + " ago"
}
