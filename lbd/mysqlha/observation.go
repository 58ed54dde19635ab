package mysqlha

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb/section"
)

// Member is a host of the cluster, as HostDB has it.
type Member struct {
	Host string     `json:"host"`
	Addr netip.Addr `json:"addr"`
	Port int        `json:"port"`
	// Drained is why a person has taken it out; "" = nobody has.
	Drained string `json:"drained,omitempty"`
	// Unfit is why it cannot be a member, as when it has no address; "" = it can.
	Unfit string `json:"unfit,omitempty"`
}

// notInHostDB is what makes a host unfit that was deleted.
const notInHostDB = "it is not in HostDB"

// Cluster is what a decision is about, beside what was seen. It is read only.
type Cluster struct {
	Tag   string
	MySQL section.MySQL
	// Members are those of the tag, by host.
	Members []Member
	// Others are hosts that are none any more and that the record still has to do with, by host.
	Others []Member
	// Record is the agreed one; HasRecord is false when there is none. RecordError is why it could not be read: then nothing is decided.
	Record      Record
	HasRecord   bool
	RecordError string
}

// Strict reports whether no acknowledged transaction may be lost.
func (c *Cluster) Strict() bool { return c.MySQL.Durability != section.Available }

// unheard reports whether the primary is to wait for acknowledgements, and nobody is known who could give one: then it is not opened, for its writes would
// wait without end, and no copy can be made of a server that has such. One that took writes before goes on as it did until the first acknowledges.
func (c *Cluster) unheard() bool { return c.Strict() && len(c.Record.Ackers) == 0 }

// deaf reports whether a primary that was just started is to wait for acknowledgements, and nobody is connected who gives any. What it wrote now, replicas could receive
// before they are told to acknowledge, and then never would. After a while it takes writes that wait.
func (c *Cluster) deaf(f Facts) bool {
	return c.Strict() && len(c.Members) > 1 && f.ReadOnly && f.Semi.Clients == 0 && f.Uptime < deafPatience
}

// Member finds a host among members.
func (c *Cluster) Member(host string) (Member, bool) { return find(c.Members, host) }

// Known finds a host among members and others.
func (c *Cluster) Known(host string) (Member, bool) {
	if m, ok := find(c.Members, host); ok {
		return m, true
	}
	return find(c.Others, host)
}

func find(list []Member, host string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(list, host, func(m Member, h string) int { return cmp.Compare(m.Host, h) })
	if !ok {
		return Member{}, false
	}
	return list[i], true
}

// distinct makes members unfit whose address is another's, but for the primary: what they would be told to do, that one would do.
func (c *Cluster) distinct() {
	at := map[string][]string{}
	for _, m := range slices.Concat(c.Members, c.Others) {
		if m.Unfit == "" {
			at[m.Source().String()] = append(at[m.Source().String()], m.Host)
		}
	}
	for _, list := range [][]Member{c.Members, c.Others} {
		for i := range list {
			m := &list[i]
			if same := at[m.Source().String()]; m.Unfit == "" && len(same) > 1 && m.Host != c.Record.Primary {
				m.Unfit = fmt.Sprintf("its address, %s, is that of another host: %s", m.Source(), strings.Join(without2(same, m.Host), ", "))
			}
		}
	}
}

// Source is how replicas reach a host.
func (m Member) Source() Source { return Source{Host: m.Addr.String(), Port: m.Port, Name: m.Host} }

// anything is a source that stands for whatever comes from a host: what a primary is to hear nothing of.
func (m Member) anything() Source { return Source{Host: m.Addr.String(), Name: m.Host} }

// Cause is why a server did not answer; "" = it did.
type Cause string

// The causes.
const (
	CauseUnreachable Cause = "unreachable"
	CauseSaturated   Cause = "saturated"
	CauseDenied      Cause = "denied"
	CauseFlavour     Cause = "flavour"
	CauseOther       Cause = "other"
)

// causeOf tells the cause of an error of a Server.
func causeOf(err error) Cause {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrSaturated):
		return CauseSaturated
	case errors.Is(err, ErrDenied):
		return CauseDenied
	case errors.Is(err, ErrFlavour):
		return CauseFlavour
	case errors.Is(err, ErrUnreachable):
		return CauseUnreachable
	}
	return CauseOther
}

// Earlier is what the binary log of a server had in an answer that was not the last.
type Earlier struct {
	Answered time.Time
	Binlog   string
}

// Sight is what has been seen of one server. Times are those of the monitor's own clock, but for ProcessSince.
type Sight struct {
	// Facts are the last; Known is false while there are none. They were asked for at Asked, and came at Answered.
	Facts    Facts
	Known    bool
	Asked    time.Time
	Answered time.Time
	// Earlier are the answers before that, the oldest first: as far back as another server that answers may have been asked. The slice is never changed.
	Earlier []Earlier
	// Cause is of the last try, Error its text, Since when the cause became what it is, Failures how many tries in a row had it.
	Cause    Cause
	Error    string
	Since    time.Time
	Failures int
	// Pings are how many fresh connections in a row were not served (unreachable only), PingError why, PingAt when the last was tried, Pinged when the
	// last was served.
	Pings     int
	PingError string
	PingAt    time.Time
	Pinged    time.Time
	// HoldLost is when the connection that was held has ended; zero = it has not, or there was none.
	HoldLost time.Time
	// First is when it was first asked.
	First time.Time
	// Furthest is how far it was seen to have received from the source that it has; empty = it has none.
	Furthest GTIDs
	// Moved is when its position or its heartbeats were last seen to move, IORan when its receiving thread was last seen to run.
	Moved time.Time
	IORan time.Time
	// Wrote is when its binary log was last seen to move, or nobody to wait there for an acknowledgement; Got when what it has received was.
	Wrote time.Time
	Got   time.Time
	// Agent says that the agent of its host is alive, by the mesh; Reported that it has spoken of this server. AgentGone is since when the agent is not seen to be; zero = it is.
	Agent     bool
	AgentGone time.Time
	Reported  bool
	// Epoch is that of the latest order that the agent has seen, as it reports.
	Epoch uint64
	// Process is by the agent, ProcessSeen when this was heard of.
	Process      Process
	ProcessSince time.Time
	ProcessSeen  time.Time
	// VIP is the phase of the claim of the primary's address there. DiskFull is what the agent says of a disk without room; "" = it has.
	VIP      string
	DiskFull string
	// Copy says by its agent that it is a copy which nobody has found right, and of whom; "" = it is not. Differs is what differs; "" = it was not compared yet.
	Copy, Differs string
	// Lends says that a copy is made of it.
	Lends bool
	// Unrecoverable says that its process has ended, and that its last start did because its data cannot be recovered (ErrUnrecoverable).
	Unrecoverable bool
}

// Observations are what has been seen of all servers of a cluster. They are read only.
type Observations struct {
	// Now is by the monitor's own clock; Wall by the wall's, for the record.
	Now, Wall time.Time
	Servers   map[string]Sight
	// Mass says that the mesh suspects so many that this node is more likely sick than they.
	Mass bool
	// Busy are hosts with which something long is being done, and what; Rest until when a host is left alone, because what was tried failed.
	Busy map[string]string
	Rest map[string]time.Time
	// Lends are hosts of which copies are made, and for whom, as far as this node does that.
	Lends map[string]string
	// Strangers is since when the primary has more replicas connected that acknowledge than are known; zero = it has not.
	Strangers time.Time
}

// The times that a diagnosis rests on.
const (
	// staleAfter is for how long an answer says how a server is.
	staleAfter = time.Second
	// deadPings are fresh connections in a row that were not served, before that is one of the two kinds.
	deadPings = 3
	// heartbeats that a replica has missed, before it is said to be frozen.
	frozenHeartbeats = 2.5
	// recently is how long ago a thread that does not run any more must have run, to say something of its source.
	recently = 10 * time.Second
	// ackerPatience is how long an acker may be away before the others are asked to do without it.
	ackerPatience = 10 * time.Second
	// stuckAfter is how long sessions wait for the acknowledgement of what all have, before it is said that it will never come: it takes milliseconds.
	stuckAfter = 3 * time.Second
	// muteAfter is how long a replica is connected and receives nothing before the source is taken to be mute: it is sent something at once, and then four times a second. It connects anew
	// after slave_net_timeout, which is 10 s at least where that is set as it should be.
	muteAfter = 3 * time.Second
	// deafPatience is how long after its start a primary is kept from taking writes that nobody would acknowledge.
	deafPatience = 30 * time.Second
	// startSlack is by how much two estimates of when one process began may differ: uptime has seconds, and where a server does not say it itself clocks are not one.
	startSlack = 3 * time.Second
	// flapTime is how long after an automatic failover no other follows, unless a person has acknowledged it.
	flapTime = time.Hour
)

// answers reports whether a server has just answered.
func (s Sight) answers(now time.Time) bool {
	return s.Known && s.Cause == "" && now.Sub(s.Answered) < staleAfter
}

// lives reports whether it has just said anything at all, as that it has no connection left.
func (s Sight) lives(now time.Time) bool {
	return s.answers(now) || s.Cause == CauseSaturated || s.Cause == CauseDenied || s.Cause == CauseFlavour
}

// heard is the last moment at which it proved to live.
func (s Sight) heard() time.Time {
	if s.Pinged.After(s.Answered) {
		return s.Pinged
	}
	return s.Answered
}

// acked is when it was last seen to receive, or else when it was first asked: it did not since.
func (s Sight) acked() time.Time {
	if s.IORan.IsZero() {
		return s.First
	}
	return s.IORan
}

// lent reports whether a copy is made of a host's server.
func (o *Observations) lent(host string) bool { return o.Lends[host] != "" || o.Servers[host].Lends }

// down reports whether its agent says that its process is gone, and nothing says otherwise since.
func (s Sight) down() bool {
	return s.Agent && s.Reported && (s.Process == ProcessDied || s.Process == ProcessStopped) && !s.heard().After(s.ProcessSeen)
}

// left reports whether its host's agent has been away for longer than the start of another takes.
func (s Sight) left(now time.Time) bool { return !s.Agent && now.Sub(s.AgentGone) >= RestartGrace }

// began is when the process of the server did, as it says itself; else by the wall clock of who looks, which differs from another's.
func (o *Observations) began(s Sight) time.Time {
	if !s.Facts.Began.IsZero() {
		return s.Facts.Began
	}
	return o.Wall.Add(-o.Now.Sub(s.Answered)).Add(-s.Facts.Uptime).Truncate(time.Second)
}

// sameStart reports whether two estimates are of one process.
func sameStart(a, b time.Time) bool { return a.Sub(b).Abs() <= startSlack }

// forgot tells why a counted acker may not have what it has acknowledged of a source's; "" = it has. It must be the process of which it was established that it has all: two starts within
// startSlack cannot be told apart by when they were, but a server that starts has forgotten that it was told to acknowledge. It must not have been set to follow another since. And it must
// have what it was seen to have received: whoever stops both its threads and starts them drops what it had not applied.
func (o *Observations) forgot(c *Cluster, host, source string) string {
	s := o.Servers[host]
	switch has, err := PositionOf(s.Facts); {
	case !sameStart(c.Record.Starts[host], o.began(s)), !s.Facts.Semi.Acker && !s.Facts.Semi.Source:
		return host + " was started anew, and has not caught up since: what it had acknowledged it may have dropped"
	case s.Facts.Replica != nil && !c.follows(s.Facts, source):
		return fmt.Sprintf("%s follows %s, and not %s: what it had received and not applied it may have dropped", host, s.Facts.Replica.SourceHost, source)
	case s.Facts.Replica == nil && !s.Facts.Semi.Source:
		return fmt.Sprintf("%s follows nobody any more: what it had received from %s and not applied it may have dropped", host, source)
	case err == nil && !has.Reaches(s.Furthest):
		return fmt.Sprintf("%s had received %s, and has %s: its relay log was dropped, with what it had acknowledged", host, s.Furthest, has)
	}
	return ""
}

// follows reports whether a server replicates from a host.
func (c *Cluster) follows(f Facts, host string) bool {
	m, ok := c.Known(host)
	if !ok || f.Replica == nil {
		return false
	}
	r := f.Replica
	return (r.SourceHost == m.Addr.String() || r.SourceHost == m.Host) && (m.Port == 0 || r.SourcePort == 0 || r.SourcePort == m.Port)
}

// frozen reports whether a replica has received nothing for so long that its source's heartbeats are missing.
func (s Sight) frozen(now time.Time) bool {
	r := s.Facts.Replica
	if r == nil || s.Moved.IsZero() {
		return false
	}
	period := r.HeartbeatPeriod
	if period <= 0 {
		return false // it is promised none: silence says nothing
	}
	return now.Sub(s.Moved) >= time.Duration(frozenHeartbeats*float64(period))
}

// healthy reports whether a replica receives and applies.
func healthy(f Facts) bool {
	r := f.Replica
	return r != nil && r.IO == "Yes" && r.SQL && r.IOErrno == 0 && r.SQLErrno == 0 && r.UsesGTID
}

// see is how a try to observe changes a sight. It is the only place where ages of facts are made.
func (s Sight) see(asked, now time.Time, f Facts, err error) Sight {
	cause := causeOf(err)
	if s.First.IsZero() {
		s.First = asked
	}
	if cause != s.Cause || s.Since.IsZero() {
		s.Since, s.Failures = now, 0
	}
	s.Cause = cause
	if err != nil {
		s.Failures++
		s.Error = err.Error()
		return s
	}
	s.Error, s.Failures = "", 0
	s.Furthest = s.further(f)
	if r := f.Replica; r != nil {
		was := s.Facts.Replica
		if !s.Known || was == nil || was.Position != r.Position || was.Heartbeats != r.Heartbeats || s.Facts.Received != f.Received || was.IO != "Yes" && r.IO == "Yes" {
			s.Moved = now
		}
		if r.IO == "Yes" {
			s.IORan = now
		}
	}
	if !s.Known || s.Facts.Binlog != f.Binlog || f.Semi.Waiting == 0 {
		s.Wrote = now
	}
	if !s.Known || s.Facts.Received != f.Received {
		s.Got = now
	}
	if s.Known {
		s.Earlier = s.earlier(now.Add(-2 * staleAfter))
	}
	s.Facts, s.Known, s.Asked, s.Answered = f, true, asked, now
	return s
}

// before is what it said last before a moment; false = nothing.
func (s Sight) before(t time.Time) (Facts, bool) {
	f := s.Facts
	if t.After(s.Answered) {
		return f, s.Known
	}
	for _, e := range slices.Backward(s.Earlier) {
		if t.After(e.Answered) {
			f.Binlog = e.Binlog
			return f, true
		}
	}
	return f, false
}

// earlier are the answers up to now, without those that are not the last before a moment from since on.
func (s Sight) earlier(since time.Time) []Earlier {
	all := append(slices.Clip(s.Earlier), Earlier{Answered: s.Answered, Binlog: s.Facts.Binlog})
	for len(all) > 1 && all[1].Answered.Before(since) {
		all = all[1:]
	}
	return all
}

// further is how far a server was seen to have received, when it says f by now. What it had of another source says nothing.
func (s Sight) further(f Facts) GTIDs {
	has, err := PositionOf(f)
	switch was := s.Facts.Replica; {
	case f.Replica == nil:
		return GTIDs{}
	case err != nil || was == nil || was.SourceHost != f.Replica.SourceHost || was.SourcePort != f.Replica.SourcePort:
		return has
	}
	return has.Further(s.Furthest)
}

// pinged is how a fresh connection changes a sight.
func (s Sight) pinged(now time.Time, err error) Sight {
	s.PingAt = now
	switch causeOf(err) {
	case "", CauseSaturated, CauseDenied, CauseFlavour: // it lives
		s.Pings, s.PingError, s.Pinged = 0, "", now
	default:
		s.Pings++
		s.PingError = err.Error()
	}
	return s
}
