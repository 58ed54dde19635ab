package api

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// sickHealth is the score from which a node rather doubts itself than the others (of 8).
	sickHealth = 4
	// clockNotice and daemonLag are far beyond what happens in a healthy mesh.
	clockNotice = 500 * time.Millisecond
	daemonLag   = 10 * time.Second
	// settle is the time after a start in which members that were not heard of yet mean nothing.
	settle = time.Minute
	// staleReports is how long ago, at least, reports were compared when that is told: a dozen comparisons came to nothing.
	staleReports = time.Minute
)

// Diagnose finds what is wrong in a status, in words. It looks at nothing but s, and does not read s.Problems.
func Diagnose(s Status) []Problem {
	d := diagnosis{}
	d.store(s)
	d.mesh(s)
	d.replicas(s.HostDB)
	d.replication(s.HostDB.Replication)
	d.duties(s)
	d.daemons(s)
	if h := s.Hypervisor; h != nil && h.Error != "" {
		d.error("hypervisor", h.Error, "start libvirt, correct the libvirt knob, or leave it out on a box without virtual machines")
	}
	for _, l := range s.Listeners {
		if l.Error != "" {
			d.error(l.Name, fmt.Sprintf("not served on %s: %s", l.Addr, l.Error),
				"free the address or name another one in the agent's configuration, then restart the agent")
		}
	}
	if s.Node.Observe {
		d.notice("agent", "only shows what it would do, and does nothing (--observe)", "")
	}
	return d.problems
}

type diagnosis struct{ problems []Problem }

func (d *diagnosis) error(subject, text, remedy string) {
	d.problems = append(d.problems, Problem{Severity: SeverityError, Subject: subject, Text: text, Remedy: remedy})
}

func (d *diagnosis) notice(subject, text, remedy string) {
	d.problems = append(d.problems, Problem{Severity: SeverityNotice, Subject: subject, Text: text, Remedy: remedy})
}

func (d *diagnosis) store(s Status) {
	if s.HostDB.Failure != "" {
		d.error("hostdb", "writes are refused on this box: "+s.HostDB.Failure, "reads go on; write through another agent until this is repaired")
	}
	if ro := s.HostDB.ReadOnly; ro != nil {
		d.notice("hostdb", "read-only mode: every node refuses writes and logins: "+ro.Reason, "an administrator ends it: hostmesh db read-only off")
	}
	switch free, floor := s.Node.DiskFree, s.Node.DiskFloor; {
	case free < 0 || floor <= 0:
	case free < floor:
		d.error("disk", fmt.Sprintf("%s free where %s is; below %s nothing is written", size(free), s.Node.DataDir, size(floor)), "make room there")
	case free < 2*floor:
		d.notice("disk", fmt.Sprintf("%s free where %s is; below %s writes are refused", size(free), s.Node.DataDir, size(floor)), "make room there")
	}
	if lead := time.Duration(s.HostDB.ClockLeadMS) * time.Millisecond; lead >= clockNotice {
		d.notice("clock", fmt.Sprintf("new writes are stamped %s ahead of this box's clock, because it was set back or another box's is fast; from 1s on they are refused", lead),
			"compare the clocks of the boxes (chronyc tracking)")
	}
	if n := s.HostDB.Unfolded; n > 0 {
		d.notice("hostdb", fmt.Sprintf("%s of a newer version of hostmesh kept but not understood here", count(n, "operation", "operations")), "upgrade this agent")
	}
}

func (d *diagnosis) mesh(s Status) {
	m := s.Mesh
	if m.ID == "" {
		d.error("mesh", "this node has not joined a mesh yet",
			"check that an address in join answers, that both hold the same key, and that ports 7946 (tcp and udp) and 7947 (tcp) are open")
		return
	}
	away := m.Failed
	if s.Time.Sub(s.Node.Started) > settle {
		away += m.Unknown
	}
	switch {
	case m.MassSuspicion:
		d.error("mesh", fmt.Sprintf("%d of %d members stopped answering at once: this box or a switch is the likelier cause, so nothing is moved", away, m.Members),
			"check this box's network first")
	case away == 1:
		d.error("mesh", fmt.Sprintf("1 of %d members does not answer", m.Members), "see which: hostmesh members")
	case away > 0:
		d.error("mesh", fmt.Sprintf("%d of %d members do not answer", away, m.Members), "see which: hostmesh members")
	}
	if m.Health >= sickHealth {
		d.error("mesh", fmt.Sprintf("this node itself is slow or cut off (score %d, 0 is well)", m.Health), "check this box's load and network")
	}
	if m.IDConflicts > 0 {
		d.error("mesh", "two boxes have one node id, because a data directory was copied; the others see only one of them: "+m.ConflictAddrs,
			"stop the agent of the copy, empty its data directory, and let it join; restart this agent to clear this")
	}
	if lag := time.Duration(m.Reports.LagMS) * time.Millisecond; lag > staleReports && m.Reports.Nodes > 0 {
		d.notice("reports", fmt.Sprintf("what members report may be old here: none could be compared with for %s", lag.Round(time.Second)),
			"check that port 7947 of the others answers; the agent's log at level debug has why")
	}
	if m.Reports.Refused > 0 {
		d.notice("reports", fmt.Sprintf("a report was refused %s since the start", count(m.Reports.Refused, "time", "times")),
			"the agent's log has whose and why; a member may be of a later build: upgrade this one")
	}
	if m.RefusedKey > 0 {
		d.notice("mesh", fmt.Sprintf("a peer with another mesh key was turned away %s since the start", count(m.RefusedKey, "time", "times")), "the agent's log has its address")
	}
	if m.RefusedMesh > 0 {
		d.notice("mesh", fmt.Sprintf("a peer of another mesh was turned away %s since the start", count(m.RefusedMesh, "time", "times")), "the agent's log has its address")
	}
}

func (d *diagnosis) replicas(db HostDBStatus) {
	for _, p := range db.Peers {
		switch {
		case p.Differs:
			d.error(p.Name, "holds the same operations as this node but another state", "keep both data directories and report this: it must not happen")
		case p.Error != "":
			d.error(p.Name, "cannot be compared with this replica: "+p.Error, "")
		}
	}
}

func (d *diagnosis) daemons(s Status) {
	for _, x := range s.Daemons {
		lag := time.Duration(x.LagMS) * time.Millisecond
		switch {
		case x.Stuck:
			d.error(x.Name, "does not come to an end; what it made before stays in place", "the agent's log shows where it stands; restart the agent if it lasts")
		case x.Failures > 0:
			d.error(x.Name, fmt.Sprintf("failed %s in a row: %s", count(uint64(x.Failures), "time", "times"), x.Error), "what it made before stays in place")
		case lag >= daemonLag:
			d.error(x.Name, fmt.Sprintf("is %s behind HostDB", lag.Round(time.Second)), "")
		}
	}
}

// sortProblems puts errors before notices, and else keeps the order.
func sortProblems(list []Problem) []Problem {
	slices.SortStableFunc(list, func(a, b Problem) int { return strings.Compare(a.Severity, b.Severity) })
	return list
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// size is a number of bytes for people: 3 digits, binary units.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.3g %ciB", f, units[i])
}
