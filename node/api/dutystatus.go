package api

import (
	"fmt"
	"strings"
	"time"
)

// DutiesStatus is this node's part in the duties of its datacenter, as it knows it without asking anybody.
type DutiesStatus struct {
	Error      string     `json:"error,omitempty" doc:"Why this node takes no part at all"`
	Remedy     string     `json:"remedy,omitempty" doc:"What to do about that"`
	Group      *DutyGroup `json:"group,omitempty" doc:"Absent while none is known"`
	Leader     string     `json:"leader,omitempty" doc:"Id of the node that leads it, as last heard"`
	LeaderName string     `json:"leader_name,omitempty"`
	Votes      bool       `json:"votes" doc:"True when this node is a voter, or becomes one"`
	Leads      bool       `json:"leads"`
	Holding    []HeldDuty `json:"holding" nullable:"false"`
	Offers     int        `json:"offers" doc:"Duties that it holds or would take"`
	AnsweredMS int64      `json:"answered_ms" doc:"How long ago the group last answered this node; negative = never, or never asked"`
	ContactMS  int64      `json:"contact_ms" doc:"On a voter: how long ago it heard the leader; negative elsewhere"`
	LastError  string     `json:"last_error,omitempty" doc:"Why the last question to the group failed"`
	Alarm      string     `json:"alarm,omitempty" doc:"What is the matter with this node's directory"`
	Sick       string     `json:"sick,omitempty" doc:"Why its vote cannot be written"`
	OwnedTwice string     `json:"owned_twice,omitempty" doc:"What was granted to this node, and is another's by the word of its lease group: it is not used here any more"`
	Owing      bool       `json:"owing,omitempty" doc:"True when the group, which was recovered or is another than before, has not heard yet what this node owns"`
	Pending    bool       `json:"pending,omitempty" doc:"True when this node is to found the group and has not"`
	Elsewhere  bool       `json:"elsewhere,omitempty" doc:"True when the group is another datacenter's"`
}

// HeldDuty is a duty that this node holds.
type HeldDuty struct {
	Duty   string    `json:"duty"`
	Fence  uint64    `json:"fence"`
	Since  time.Time `json:"since"`
	LeftMS int64     `json:"left_ms" doc:"For how long it is held for sure, unless it is renewed"`
}

// RemedyNoLeader is what to do when no leader of a lease group answers.
const RemedyNoLeader = "see which voters are alive (hostmesh duties voters, or hostmesh members): it goes on when a majority of them is. If it is lost for " +
	"good: hostmesh duties recover"

const (
	// dutySettle is the time after a start in which the group need not be known yet, nor answer.
	dutySettle = 15 * time.Second
	// dutyQuiet is how long a leader may be silent: an election takes a second or two.
	dutyQuiet = 5 * time.Second
)

// duties finds what is wrong with this node's part in the duties.
func (d *diagnosis) duties(s Status) {
	const subject = "duties"
	x := s.Duties
	up := s.Time.Sub(s.Node.Started)
	if x.Error != "" {
		d.error(subject, "this node takes no part in duties: "+x.Error, x.Remedy)
		return
	}
	if x.Sick != "" {
		d.error(subject, "this node cannot vote: "+x.Sick, "its vote counts again by itself once that works; DNS and HostDB are not concerned")
	}
	switch {
	case x.Alarm == "":
	case strings.Contains(x.Alarm, "newer"):
		d.error(subject, x.Alarm, "upgrade this agent")
	case strings.HasPrefix(x.Alarm, "what raft had written here was discarded"):
		d.notice(subject, x.Alarm, "nothing, if the data directory was restored, moved or cloned: the node takes part as a new one. Else look at its disk; a restart clears this")
	default:
		d.error(subject, x.Alarm, "see the agent's log, repair what it names, and restart the agent")
	}
	if x.OwnedTwice != "" {
		d.notice(subject, "two lease groups, or generations of one, granted the same: "+x.OwnedTwice+"; this node uses it no more",
			"nothing, if the two groups are meant: what machines have of it already they keep, and HostDB names whose it is")
	}
	if x.Owing && up > dutySettle {
		d.notice(subject, "the lease group has not heard yet what this node owns, and grants it nothing", "it is told as soon as a leader answers")
	}
	switch {
	case x.Group == nil:
		d.noGroup(s, up)
		return
	case x.Elsewhere:
		d.error(subject, fmt.Sprintf("this node is of datacenter %q and its lease group of datacenter %q: it holds no duty of its own datacenter", s.Node.Datacenter, x.Group.Datacenter),
			"correct labels.datacenter, or, if this is a datacenter without a group, found one here: hostmesh duties found --force")
	}
	quiet, asks := time.Duration(-1), ""
	switch {
	case x.Leads:
	case x.Votes && time.Duration(x.ContactMS)*time.Millisecond > dutyQuiet && up > dutySettle:
		quiet, asks = min(time.Duration(x.ContactMS)*time.Millisecond, up), "this voter hears no leader of the lease group"
	case x.LastError != "" && x.AnsweredMS < 0 && up > dutySettle:
		quiet, asks = up, "no leader of the lease group answers"
	case x.LastError != "" && x.AnsweredMS > dutyQuiet.Milliseconds():
		quiet, asks = time.Duration(x.AnsweredMS)*time.Millisecond, "no leader of the lease group answers"
	}
	if quiet >= 0 {
		text := fmt.Sprintf("%s for %s: nothing new is granted, and what this node held it has stopped", asks, quiet.Round(time.Second))
		if x.LastError != "" {
			text += " (" + x.LastError + ")"
		}
		d.error(subject, text, RemedyNoLeader)
	}
}

// noGroup is for a node that knows no group. It is wrong only where a duty is wanted.
func (d *diagnosis) noGroup(s Status, up time.Duration) {
	switch {
	case s.Mesh.ID == "" || up <= dutySettle: // it is told that it has not joined
	case s.Duties.Pending:
		d.error("duties", "the lease group that was to begin on this node has not begun", "see the agent's log, and the directory lease in its data directory")
	default:
		place := "this datacenter"
		if dc := s.Node.Datacenter; dc != "" {
			place = "datacenter " + dc
		}
		say := d.notice
		if s.Duties.Offers > 0 {
			say = d.error
		}
		say("duties", fmt.Sprintf("no lease group is known in %s: no duty is held in it", place),
			"if it has none yet, found one on one of its nodes, once: hostmesh duties found (the mesh's first: with --home)")
	}
}
