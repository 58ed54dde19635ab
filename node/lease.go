package node

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/lease/raftdisk"
	"hostmesh/node/api"
)

// leaseClock is the clock on which leases are counted. Only the wall part, which is for people, may be an injected one: a clock that
// is wrong or jumps has no part in who may act.
type leaseClock struct{ wall hostdb.Clock }

func (c leaseClock) Now() time.Time { return c.wall.Now() }

func (leaseClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// openLease opens this node's part in the lease group of its datacenter. Without it no duty is held here, and all else goes on.
func (a *Agent) openLease() error {
	cfg := lease.DefaultConfig()
	cfg.NodeID, cfg.Name, cfg.Datacenter = a.dir.nodeID, a.cfg.Name, a.cfg.Labels.Datacenter
	cfg.Dir, cfg.Founder = a.dir.file(leaseDir), a.founder
	cfg.Mesh, cfg.Space = a.mesh, func() error { return checkSpace(a.dir.path) }
	cfg.Clock, cfg.Logger = leaseClock{a.clock}, a.log
	cfg.Apart = a.leadsDatabase
	l, err := lease.Open(cfg)
	if err != nil {
		a.leaseErr = err
		a.log.Error("this agent takes no part in duties", "err", err, "remedy", leaseRemedy(err))
		return nil
	}
	a.lease = l
	a.closers = append(a.closers, l.Close)
	return nil
}

// leadsDatabase tells which clusters' primaries run on this box: when it dies, a failover needs a leader at once, and would wait for an election. "" = none.
func (a *Agent) leadsDatabase() string {
	r, ok := a.mesh.View().Report(a.dir.nodeID)
	if !ok {
		return ""
	}
	var tags []string
	for tag, m := range r.MySQL {
		if m.Role == "primary" {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return ""
	}
	slices.Sort(tags)
	return "the primary of " + strings.Join(tags, ", ") + " runs there, and what replaces it needs a leader at once"
}

// leaseRemedy is what to do when the lease cannot be opened.
func leaseRemedy(err error) string {
	switch {
	case errors.Is(err, raftdisk.ErrLocked):
		return "another process has the directory lease in the data directory open: end it, then restart this agent"
	case errors.Is(err, raftdisk.ErrFormat):
		return "a newer hostmesh wrote the directory lease: install that again, then restart this agent"
	}
	return "repair what the error names, then restart this agent. If the directory lease in the data directory cannot be saved, move it away: " +
		"the node then takes part as a new one"
}

// runLease is the lease among the services. Its end is no reason to stop the agent.
func (a *Agent) runLease(ctx context.Context) error {
	if err := a.lease.Run(ctx); err != nil {
		a.log.Error("this agent takes no part in duties any more", "err", err, "remedy", "restart it")
	}
	<-ctx.Done()
	return nil
}

// dutiesStatus is what this node knows of its part, without asking anybody.
func (a *Agent) dutiesStatus(mv mesh.View) api.DutiesStatus {
	if a.lease == nil {
		return api.DutiesStatus{Error: a.leaseErr.Error(), Remedy: leaseRemedy(a.leaseErr), AnsweredMS: -1, ContactMS: -1}
	}
	h := a.lease.Health()
	s := api.DutiesStatus{
		Leader: h.Leader, LeaderName: nodeName(mv, h.Leader), AnsweredMS: millisOf(h.Answered), ContactMS: millisOf(h.Contact),
		Votes: h.Serving, Leads: h.Leads, Offers: h.Offers, LastError: h.Error, Alarm: h.Alarm, Sick: h.Sick, OwnedTwice: h.OwnedTwo,
		Owing: h.Owing, Pending: h.Pending, Elsewhere: h.Elsewhere,
	}
	if h.Known {
		g := dutyGroup(h.Group)
		s.Group = &g
	}
	for _, d := range h.Holding {
		s.Holding = append(s.Holding, api.HeldDuty{Duty: d.Duty, Fence: d.Fence, Since: d.Since.UTC(), LeftMS: d.Left.Milliseconds()})
	}
	return s
}

// millisOf keeps what is negative, for never.
func millisOf(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

func dutyGroup(g lease.Group) api.DutyGroup {
	return api.DutyGroup{ID: g.ID, Generation: g.Generation, Datacenter: g.Datacenter, Home: g.Home}
}

// nodeName is a node's host name, as far as the mesh knows it.
func nodeName(mv mesh.View, id string) string {
	m, _ := mv.Get(id)
	return m.Name
}

// dutyDoctorTime bounds what the doctor waits for the leader.
const dutyDoctorTime = 5 * time.Second

// dutyProblems are what only the leader knows: for the doctor, which may wait for it.
func (a *Agent) dutyProblems(ctx context.Context) []api.Problem {
	if a.lease == nil {
		return nil // status says so
	}
	g, known := a.lease.Group()
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dutyDoctorTime)
	defer cancel()
	list, err := a.lease.Duties(ctx)
	var v lease.Voters
	if err == nil {
		v, err = a.lease.Voters(ctx)
	}
	mv := a.mesh.View()
	if err != nil {
		return []api.Problem{{
			Severity: api.SeverityError, Subject: "duties", Text: fmt.Sprintf("the leader of the lease group of datacenter %q does not answer: nothing new is granted", g.Datacenter),
			Remedy: api.RemedyNoLeader,
		}}
	}
	if a.lb.daemon != nil { // of virtual addresses that nobody holds lbProblems tells, with the tags
		list = slices.DeleteFunc(list, func(s lease.Status) bool { return s.Node == "" && strings.HasPrefix(s.Duty, lbDuty+"/") })
	}
	return examineDuties(g, list, v, mv.Members(), a.clock.Now())
}

const (
	longDrained = 24 * time.Hour
	// settledNode is how long a node must have been there before it is missed among the voters: three times what the leader waits.
	settledNode = 2 * time.Minute
)

// examineDuties finds what is wrong in what the leader tells: pure.
func examineDuties(g lease.Group, list []lease.Status, v lease.Voters, members []mesh.Member, now time.Time) (out []api.Problem) {
	names := map[string]string{}
	for _, m := range members {
		names[m.ID] = m.Name
	}
	name := func(id string) string {
		if n := names[id]; n != "" {
			return n
		}
		return id
	}
	add := func(severity, text, remedy string) {
		out = append(out, api.Problem{Severity: severity, Subject: "duties", Text: text, Remedy: remedy})
	}
	for _, d := range list {
		switch {
		case d.Node == "" && d.Candidates == 0:
			add(api.SeverityError, fmt.Sprintf("nobody holds %s, and no node is eligible for it", d.Duty), "see why not: hostmesh duties explain "+d.Duty)
		case d.Node == "":
			add(api.SeverityNotice, fmt.Sprintf("nobody holds %s yet", d.Duty), "if it lasts: hostmesh duties explain "+d.Duty)
		case d.Over != "" && time.Duration(d.OverMS)*time.Millisecond > longHandOver:
			add(api.SeverityError, fmt.Sprintf("%s does not hand %s over: %s", name(d.Node), d.Duty, d.Over), "look at the status of that node; stopping its agent ends its session")
		}
	}
	drained := map[string]bool{}
	for _, d := range v.Drained {
		drained[d.Node] = true
		if since := time.UnixMilli(d.At); now.Sub(since) > longDrained {
			add(api.SeverityNotice, fmt.Sprintf("%s has been drained for %d days: %s", name(d.Node), int(now.Sub(since)/(24*time.Hour)), d.Reason),
				"if it is over: hostmesh node undrain "+name(d.Node))
		}
	}
	for _, id := range v.Owing {
		add(api.SeverityNotice, fmt.Sprintf("%s has not brought in what it owns since the group was founded or recovered: no name or grant is made until then", name(id)),
			"start its agent; if the box is gone: hostmesh duties excuse "+name(id))
	}
	fit, voting := 0, 0
	for _, m := range members {
		if m.Datacenter == g.Datacenter && m.State == mesh.StateAlive && !drained[m.ID] && now.Sub(m.Since) > settledNode {
			fit++
		}
	}
	for _, s := range v.Servers {
		if s.Voter {
			voting++
		}
	}
	if want := lease.WantedVoters(fit); voting < want {
		text := fmt.Sprintf("%d of %d voters are there", voting, want)
		if v.Want != "" {
			text += "; next: " + namedNodes(v.Want, name)
		}
		add(api.SeverityNotice, text, "it is repaired by itself; if it lasts see hostmesh duties voters, and the status of the boxes that should vote")
	}
	return out
}

// longHandOver is after how long a holder that was asked to hand over is a problem.
const longHandOver = 30 * time.Second

// namedNodes replaces ids of nodes by their names in a text for people.
func namedNodes(text string, name func(id string) string) string {
	return nodeIDs.ReplaceAllStringFunc(text, name)
}

var nodeIDs = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
