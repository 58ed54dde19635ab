package mysqlha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb/section"
)

// Name names a diagnosis. docs/mysql.md has a remedy for each.
type Name string

// The diagnoses, the most urgent first: the first that holds is what a cluster has.
const (
	QuorumLost      Name = "quorum lost"
	NoMembers       Name = "no members"
	NoRecord        Name = "no record"
	RecordBehind    Name = "record is behind"
	IntentStopped   Name = "change stopped"
	IntentOpen      Name = "change under way"
	ClusterDown     Name = "whole cluster down"
	Blind           Name = "nothing is seen from here"
	TwoPrimaries    Name = "two primaries"
	PrimaryDead     Name = "primary dead"
	PrimarySilent   Name = "primary silent"
	PrimaryLost     Name = "primary lost data"
	PrimaryGone     Name = "primary is no member"
	WrongFlavour    Name = "other flavour or too old"
	WrongAccount    Name = "wrong credentials"
	PrimaryFull     Name = "disk full at the primary"
	PrimarySatiated Name = "primary has too many connections"
	PrimarySuspect  Name = "primary suspected"
	PrimaryAlone    Name = "agent of the primary gone"
	PrimaryStuck    Name = "acknowledgement lost"
	PrimaryMute     Name = "primary sends nothing"
	PrimaryChoked   Name = "primary lets no replica in"
	PrimaryFollows  Name = "primary follows another"
	PrimaryReadOnly Name = "primary is read-only"
	PrimaryAsync    Name = "primary does not wait for acknowledgements"
	ReplicaWritable Name = "replica takes writes"
	ErrantFound     Name = "errant transactions"
	BinlogOff       Name = "binary log off"
	NoGTID          Name = "replica without GTID"
	NoPlace         Name = "member without address"
	ReplicaBroken   Name = "replica broken"
	ReplicaLost     Name = "replica cannot follow"
	ReplicaDown     Name = "replica down"
	ReplicaAstray   Name = "replica follows another"
	ReplicaStopped  Name = "replica stopped"
	ReplicaNew      Name = "new member"
	CopyDiffers     Name = "copy differs"
	CopyUnverified  Name = "copy was not compared"
	OldPrimary      Name = "old primary to rejoin"
	OldPrimaryLeft  Name = "old primary is no member"
	AckerRestarted  Name = "acknowledging replica restarted"
	AckerAway       Name = "acknowledging replica away"
	AckerLeaving    Name = "former member acknowledges"
	AckerStray      Name = "acknowledges and is not counted"
	NoAcker         Name = "nobody acknowledges"
	AckerDue        Name = "replica is to acknowledge"
	AckerSilent     Name = "replica does not acknowledge"
	AddressAway     Name = "address is not at the primary"
	PrimaryUnseen   Name = "agent of the primary away"
	OneMember       Name = "one member"
	ReplicaLagging  Name = "replica lagging"
	IsPaused        Name = "paused"
	Well            Name = "well"
)

// byUrgency is all of them, in order.
var byUrgency = []Name{
	QuorumLost, NoMembers, NoRecord, RecordBehind, IntentStopped, IntentOpen, ClusterDown, Blind, TwoPrimaries, PrimaryDead, PrimarySilent, PrimaryLost, PrimaryGone, WrongFlavour, WrongAccount, PrimaryFull, PrimarySatiated,
	PrimarySuspect, PrimaryStuck, PrimaryMute, PrimaryChoked, PrimaryAlone, PrimaryFollows, PrimaryReadOnly, PrimaryAsync, ReplicaWritable, ErrantFound, BinlogOff, NoGTID, NoPlace, ReplicaBroken, ReplicaLost, ReplicaDown,
	ReplicaAstray, ReplicaStopped, ReplicaNew, CopyDiffers, CopyUnverified, OldPrimary, OldPrimaryLeft, AckerRestarted, AckerAway, AckerLeaving, AckerStray, NoAcker, AckerDue, AckerSilent, AddressAway, PrimaryUnseen, OneMember,
	ReplicaLagging, IsPaused, Well,
}

// Names are all diagnoses, the most urgent first.
func Names() []Name { return slices.Clone(byUrgency) }

// Diagnosis is one thing that a cluster has.
type Diagnosis struct {
	Name Name `json:"name"`
	// Host is whose it is; "" = the cluster's.
	Host string `json:"host,omitempty"`
	// Text says it in one line; Evidence is what was seen, one line each; Remedy is what a person can do, "" = nothing needs to be done.
	Text     string   `json:"text"`
	Evidence []string `json:"evidence,omitempty"`
	Remedy   string   `json:"remedy,omitempty"`
}

// diagnosing is one run of Diagnose.
type diagnosing struct {
	c   *Cluster
	o   *Observations
	out []Diagnosis
}

// Diagnose tells what a cluster has, the most urgent first, and never nothing. It is a pure function.
func Diagnose(c *Cluster, o *Observations) []Diagnosis {
	d := &diagnosing{c: c, o: o}
	d.all()
	if len(d.out) == 0 {
		d.add(Well, "", "one primary, and replicas that follow it", nil, "")
	}
	slices.SortStableFunc(d.out, func(a, b Diagnosis) int {
		return cmp.Or(cmp.Compare(slices.Index(byUrgency, a.Name), slices.Index(byUrgency, b.Name)), cmp.Compare(a.Host, b.Host))
	})
	return d.out
}

func (d *diagnosing) add(name Name, host, text string, evidence []string, remedy string) {
	d.out = append(d.out, Diagnosis{Name: name, Host: host, Text: text, Evidence: evidence, Remedy: remedy})
}

// has finds a diagnosis; host "" = of any host.
func has(list []Diagnosis, name Name, host string) (Diagnosis, bool) {
	i := slices.IndexFunc(list, func(d Diagnosis) bool { return d.Name == name && (host == "" || d.Host == host) })
	if i < 0 {
		return Diagnosis{}, false
	}
	return list[i], true
}

func (d *diagnosing) all() {
	c, r := d.c, &d.c.Record
	tag := c.Tag
	if c.RecordError != "" {
		d.add(QuorumLost, "", "the cluster's record cannot be read, so nobody may be promoted; what serves keeps serving", []string{c.RecordError},
			"bring a majority of the voters back: hostmesh duties voters names them; where they are gone for good: hostmesh duties recover --help, and docs/duties.md. What names a build or a format: bring all agents to one version")
		return
	}
	if len(c.Members) == 0 {
		d.add(NoMembers, "", "no host has the tag", nil, "hostmesh tag add HOST "+tag+" -m WHY, for each host of its servers; or take the section MySQL out of the tag")
		return
	}
	d.foreign()
	if !c.HasRecord {
		d.add(NoRecord, "", "nobody has set the cluster up: nothing is done about it", d.writable(), "hostmesh mysql setup "+tag+" says what it takes; hostmesh mysql setup "+tag+" --apply does it")
		if w := d.writable(); len(w) > 1 {
			d.add(TwoPrimaries, "", fmt.Sprintf("%d servers take writes", len(w)), w, "find out which of them clients have written to, set read_only=1 on the others, then hostmesh mysql setup "+tag+" --primary HOST --apply")
		}
		return
	}
	if seen, host := d.later(); seen > r.Epoch {
		d.add(RecordBehind, "", fmt.Sprintf("the record is at epoch %d, and the agent on %s has seen orders of epoch %d: a later record was lost. Nothing is done, for the primary may be another", r.Epoch, host, seen),
			d.writable(), "find out who takes writes, then hostmesh mysql setup "+tag+", and again with --apply")
	}
	if i := r.Intent; i != nil {
		evidence := []string{fmt.Sprintf("epoch %d, step %s, from %s to %s, because: %s", r.Epoch, i.Step, i.Old, cmp.Or(i.To, "nobody yet"), i.Why)}
		if i.Stopped != "" {
			d.add(IntentStopped, "", fmt.Sprintf("the %s has stopped at step %s: %s", i.Kind, i.Step, i.Stopped), evidence,
				"bring the hosts that it names back"+map[bool]string{false: ", or " + i.Old}[i.Spoilt]+", and it goes on; or accept the loss of what only they have: hostmesh mysql failover "+tag+" --force -m WHY")
		} else {
			d.add(IntentOpen, "", fmt.Sprintf("a %s from %s to %s is at step %s: %s", i.Kind, i.Old, cmp.Or(i.To, "the best replica"), i.Step, doing[i.Step]), evidence, i.waits(tag))
		}
	}
	if r.Paused != nil {
		d.add(IsPaused, "", "automatic acts were paused by "+r.Paused.By+": "+cmp.Or(r.Paused.Why, "no reason given"), nil, "hostmesh mysql resume "+tag)
	}
	if len(c.Members) == 1 {
		d.add(OneMember, c.Members[0].Host, "the cluster has one member: nobody can take over from it, and nobody acknowledges", nil, "hostmesh tag add HOST "+tag+" -m WHY")
	}
	if _, ok := c.Member(r.Primary); !ok {
		d.add(PrimaryGone, r.Primary, "the primary, "+r.Primary+", has not got the tag any more; it stays the primary until another is", nil, "hostmesh mysql switchover "+tag+", or give the tag back to it: hostmesh tag add "+r.Primary+" "+tag+" -m WHY")
	}
	d.primary()
	if _, lost := has(d.out, PrimaryLost, ""); lost {
		return // what replicas have of it is no fault of theirs
	}
	for _, m := range c.Members {
		if m.Host != r.Primary {
			d.replica(m)
		}
	}
	for _, m := range c.Others {
		if why := r.Fenced[m.Host]; why != "" && m.Host != r.Primary {
			d.left(m, why)
		}
	}
	d.ackers()
}

// later is the latest epoch that an agent reports, and where.
func (d *diagnosing) later() (epoch uint64, host string) {
	for _, m := range slices.Concat(d.c.Members, d.c.Others) {
		if s := d.o.Servers[m.Host]; s.Agent && s.Epoch > epoch {
			epoch, host = s.Epoch, m.Host
		}
	}
	return epoch, host
}

// foreign finds servers with which nothing can be done.
func (d *diagnosing) foreign() {
	for _, m := range d.c.Members {
		s := d.o.Servers[m.Host]
		if m.Unfit != "" {
			d.add(NoPlace, m.Host, m.Host+" cannot be a member: "+m.Unfit, nil, "give the host a Network/IP of its own")
			continue
		}
		if s.Cause == CauseDenied {
			d.add(WrongAccount, m.Host, m.Host+" refuses our account", []string{s.Error}, "hostmesh mysql check "+d.c.Tag+" --grants prints the statements for the accounts; or correct the file in credentials.d on the node that watches")
		}
		why := ""
		if s.Cause == CauseFlavour {
			why = s.Error
		} else if s.answers(d.o.Now) {
			if why = Supported(s.Facts); why == "" {
				why = d.mixed(m.Host, s.Facts)
			}
		}
		if why != "" {
			d.add(WrongFlavour, m.Host, m.Host+" cannot be led together with the others: "+why, nil, "take the tag from it, or install what the others have, with a server_id of its own")
		}
		if !s.answers(d.o.Now) {
			continue
		}
		if v, ok := s.Facts.Settings["log_bin"]; ok && !isOn(v) {
			d.add(BinlogOff, m.Host, m.Host+" has no binary log: nobody could follow it", nil, "set log_bin in its file, and restart it")
		}
	}
}

// mixed tells whether a server is of another flavour than the record's primary, or than the first that answers.
func (d *diagnosing) mixed(host string, f Facts) string {
	reference := d.c.Record.Primary
	if s := d.o.Servers[reference]; !s.Known {
		for _, m := range d.c.Members {
			if d.o.Servers[m.Host].Known {
				reference = m.Host
				break
			}
		}
	}
	s := d.o.Servers[reference]
	switch {
	case !s.Known || host == reference:
		return ""
	case s.Facts.ServerID == f.ServerID:
		return fmt.Sprintf("its server_id is %d, as that of %s: their transactions cannot be told apart", f.ServerID, reference)
	case s.Facts.Flavour == f.Flavour:
		return ""
	}
	return fmt.Sprintf("it is %s, and %s is %s", f.Flavour, reference, s.Facts.Flavour)
}

// writable are the servers that take writes, one line each.
func (d *diagnosing) writable() []string {
	var out []string
	for _, m := range d.c.Members {
		if s := d.o.Servers[m.Host]; s.answers(d.o.Now) && !s.Facts.ReadOnly && m.Unfit == "" {
			out = append(out, fmt.Sprintf("%s: read_only is off, its log has %s, %d clients", m.Host, cmp.Or(s.Facts.Binlog, "nothing"), s.Facts.Clients))
		}
	}
	return out
}

func (d *diagnosing) primary() {
	c, o, r := d.c, d.o, &d.c.Record
	host := r.Primary
	s := o.Servers[host]
	tag := c.Tag
	if down, name, evidence := d.suspicion(); down != "" {
		switch name {
		case Blind:
			d.add(Blind, "", "no server of the cluster answers, and no agent says why: this node is more likely cut off than all of them dead", evidence, "look at this node's network: hostmesh status; or have another node look: hostmesh duties move mysql/"+tag+" NODE")
		case ClusterDown:
			d.add(ClusterDown, "", "all servers of the cluster are down", evidence, "they are started as their agents come back, "+host+" as the primary; if it never does: hostmesh mysql failover "+tag+" --force -m WHY, once the servers of replicas run")
		case PrimaryDead, PrimarySilent:
			d.add(name, host, fmt.Sprintf("the primary, %s, %s", host, down), evidence, d.replace(", or "+host))
		default:
			undone, remedy := "nothing is done", ""
			if s.answers(o.Now) {
				undone, remedy = "it is not replaced", ": then look at what "+host+" and its host have no more of: threads (of the process, its control group, the kernel), file descriptors, entries of conntrack; clients that connect fail, too. Else"
			}
			d.add(name, host, fmt.Sprintf("the primary, %s, %s; the second kind of evidence is missing, so %s", host, down, undone), evidence, "if it lasts"+remedy+", look at the network between this node and "+host+"; or have another node look: hostmesh duties move mysql/"+tag+" NODE")
		}
	}
	if s.Cause == CauseSaturated {
		d.add(PrimarySatiated, host, host+" has no connection left; it lives, so nothing is replaced", []string{s.Error}, "end clients there, or raise max_connections; and find out who does not give connections back")
	}
	if s.DiskFull != "" {
		d.add(PrimaryFull, host, host+" has no room on its disk: writes wait or fail. A failover would not give it room, so none is made", []string{s.DiskFull}, "make room; or hostmesh mysql switchover "+tag+", to a replica that has some")
	}
	if !s.Agent && s.lives(o.Now) {
		switch why := alone(c, o); {
		case o.Now.Sub(s.AgentGone) < RestartGrace:
			d.add(PrimaryUnseen, host, "the agent on "+host+" is away; its server works. It is waited for, as after a restart", nil, "start hostmesh on "+host)
		case why == "":
			d.add(PrimaryAlone, host, "the agent on "+host+" is gone; its server works, and clients do not find it: another server takes over", nil, "start hostmesh on "+host)
		default:
			d.add(PrimaryAlone, host, "the agent on "+host+" is gone; its server works, and clients do not find it", nil, "start hostmesh on "+host+", or hostmesh mysql switchover "+tag)
		}
	}
	if !s.answers(o.Now) || r.Intent != nil {
		return
	}
	f := s.Facts
	if evidence := c.lost(o); len(evidence) > 0 {
		d.add(PrimaryLost, host, host+", the primary, has not got any more what it had: its data were replaced, or set back", evidence,
			cmp.Or(d.replace(""), "another takes over: a replica has what was acknowledged")+". Where what "+host+" has is wanted: hostmesh mysql setup "+tag+" --primary "+host+", and again with --apply")
		return
	}
	if why := s.unproven(); why != "" {
		d.add(CopyUnverified, host, host+" is the primary by force: "+why+". Others are compared with it from now on", nil, "")
	}
	if f.Replica != nil {
		d.add(PrimaryFollows, host, host+" is the primary by the record, and is set to follow "+f.Replica.SourceHost, nil, "if it is the primary: STOP SLAVE; RESET SLAVE ALL there; if not: hostmesh mysql failover "+tag+" --force -m WHY, which ends it")
	}
	if f.ReadOnly && f.Replica == nil {
		text, remedy := " is the primary, and read-only, as after each start: it is about to take writes", ""
		var evidence []string
		if c.deaf(f) {
			text = " is the primary, and read-only, as after each start, until a replica is connected that acknowledges"
		}
		if c.unheard() {
			text = " is the primary, and takes no writes before a replica acknowledges: Durability is strict, and writes would wait without end"
			evidence, remedy = d.unready(), "bring a replica back, or give the tag to another host (hostmesh tag add HOST "+tag+" -m WHY): it takes writes as soon as one has its data. Or let writes stand on "+host+" alone: "+availableOf(tag)
		}
		d.add(PrimaryReadOnly, host, host+text, evidence, remedy)
	}
	if !f.Semi.Source && c.unheard() && !f.ReadOnly {
		d.add(PrimaryAsync, host, host+" does not wait for acknowledgements yet, for no replica could give one: what is written stands there alone until the first does", d.unready(), "give the tag to another host, or bring a replica back. If "+host+" is started anew before that, it takes no writes until then")
	} else if !f.Semi.Source && (c.Strict() || len(r.Ackers) > 0) {
		d.add(PrimaryAsync, host, host+" does not wait for acknowledgements (semi-synchronous replication is off)", nil, "")
	} else if list := hurried(f, c.Strict()); f.Semi.Source && len(list) > 0 {
		var evidence []string
		for _, s := range list {
			evidence = append(evidence, fmt.Sprintf("%s is %s, and is to be %s: %s", s.Name, s.Have, s.Want, s.Why))
		}
		d.add(PrimaryAsync, host, host+" does not wait for acknowledgements as Durability wants it", evidence, "")
	}
	if since, by := c.stuck(o); by != "" {
		d.add(PrimaryStuck, host, fmt.Sprintf("%s waits for the acknowledgement of what its replicas have: it was lost, and will not come", host),
			[]string{fmt.Sprintf("%d sessions wait; its log has not moved for %s; %s received all that is in it %s ago, and is connected", f.Semi.Waiting, age(o.Now, since), by, age(o.Now, o.Servers[by].Got))},
			"hostmesh mysql failover "+tag+", where that is not automatic: another takes the writes, and has all")
	}
	d.muted()
	d.choked()
	if s.Agent && s.VIP == "" && !f.ReadOnly {
		d.add(AddressAway, host, fmt.Sprintf("%s, the address of the primary, is not at %s: clients do not find it", c.MySQL.VIP, host), nil, "it is brought there; if that lasts, hostmesh status on "+host+" says why it cannot have it")
	}
	writers := d.writable()
	if len(writers) > 1 {
		d.add(TwoPrimaries, "", fmt.Sprintf("%d servers take writes; by the record %s is the primary", len(writers), host), writers, "the others are set read-only; look for errant transactions then")
	}
}

// replace is what a person can do about a primary that is gone; "" = nothing needs to be done. self says that the primary itself would do when it is back.
func (d *diagnosing) replace(self string) string {
	c, tag := d.c, d.c.Tag
	command := "hostmesh mysql failover " + tag
	switch why := refuses(c, d.o); {
	case c.Record.Intent != nil:
		return ""
	case cannot(c, d.o) != "":
		return "bring back what is missing" + self + " (hostmesh mysql explain " + tag + "): then it goes on. Or accept that transactions are lost: " + command + " --force -m WHY"
	case c.Record.Paused != nil:
		return command + "; or hostmesh mysql resume " + tag + ", and the agents do what they would"
	case c.MySQL.Failover != section.Auto:
		return command
	case why != "":
		return "find out why a second primary is gone within the hour; then hostmesh mysql ack " + tag + ", and it is replaced"
	}
	return ""
}

// unready are the replicas, and why each does not acknowledge.
func (d *diagnosing) unready() (out []string) {
	c, o := d.c, d.o
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		why := "it is not as far as the primary yet"
		switch {
		case m.Host == c.Record.Primary:
			continue
		case m.Unfit != "":
			why = m.Unfit
		case o.Busy[m.Host] != "":
			why = o.Busy[m.Host]
		case c.Record.Fenced[m.Host] != "":
			why = "it was the primary, and has not rejoined"
		case s.down():
			why = "its process has ended"
		case !s.answers(o.Now):
			why = "it does not answer: " + cmp.Or(shorten(s.Error), "it was not asked yet")
		case m.Drained != "":
			why = "it is drained: " + m.Drained
		case s.Facts.Replica == nil:
			why = "it follows nobody yet"
		case !c.follows(s.Facts, c.Record.Primary):
			why = "it follows " + s.Facts.Replica.SourceHost
		case !healthy(s.Facts):
			why = fmt.Sprintf("its threads: receiving %s, applying %v%s", s.Facts.Replica.IO, s.Facts.Replica.SQL, errno(s.Facts.Replica))
		case s.frozen(o.Now):
			why = fmt.Sprintf("it is connected, and got no event and no heartbeat for %s", age(o.Now, s.Moved))
		}
		if s.DiskFull != "" {
			why += "; it has no room on its disk: " + s.DiskFull
		}
		out = append(out, m.Host+": "+why)
	}
	if len(out) == 0 {
		out = append(out, "no other host has the tag")
	}
	return out
}

// suspicion is whether the primary seems gone, how that is said, and how sure it is. Two kinds of evidence must agree: what is seen of the primary itself, and what
// its replicas see of it.
func (d *diagnosing) suspicion() (text string, name Name, evidence []string) {
	c, o := d.c, d.o
	host := c.Record.Primary
	s := o.Servers[host]
	now := o.Now
	dead := false
	switch {
	case s.down():
		dead = true
		text = "is dead"
		evidence = append(evidence, fmt.Sprintf("the agent on %s: its process has ended (%s), at %s", host, s.Process, s.ProcessSince.UTC().Format("15:04:05.000")))
	case s.lives(now) && !(s.Cause == "" && s.Pings >= deadPings):
		return "", "", nil
	case !s.HoldLost.IsZero() && !s.heard().After(s.HoldLost) && (s.Cause == CauseUnreachable || s.Pings > 0):
		dead = true
		text = "has ended the connection that was held, and answers no other"
		evidence = append(evidence, fmt.Sprintf("the held connection ended %s ago; since then: %s", age(now, s.HoldLost), cmp.Or(s.PingError, s.Error)))
	case s.Pings >= deadPings && s.Cause == CauseUnreachable:
		text = "does not answer"
		evidence = append(evidence, fmt.Sprintf("%d fresh connections in a row were not served: %s", s.Pings, s.PingError))
	case s.Pings >= deadPings && s.answers(now) && s.PingAt.After(s.Since.Add(staleAfter)): // one that stood, and goes on, answers on that first
		text = "serves no new connection, and answers on one that was kept"
		evidence = append(evidence, fmt.Sprintf("%d fresh connections in a row were not served: %s", s.Pings, s.PingError))
	case s.Cause == CauseUnreachable || s.Pings > 0:
		return "did not answer", PrimarySuspect, []string{cmp.Or(s.Error, s.PingError)}
	default:
		return "", "", nil // it was never asked
	}
	if s.Known {
		evidence = append(evidence, fmt.Sprintf("last answer of %s: %s ago", host, age(now, s.heard())))
	}
	// Whoever sees nobody is sick itself.
	seen, agents, downs := 0, 0, 0
	for _, m := range c.Members {
		x := o.Servers[m.Host]
		switch {
		case m.Host != host && x.lives(now):
			seen++
		case x.down():
			downs++
		}
		if x.Agent {
			agents++
		}
	}
	if seen == 0 && len(c.Members) > 1 {
		switch {
		case downs == len(c.Members):
			return text, ClusterDown, append(evidence, "the agents of all say that their processes are gone")
		case agents <= 1 && downs == 0 && !s.answers(now):
			return text, Blind, evidence
		}
		return text, PrimarySuspect, append(evidence, "no replica answers, which could say the same")
	}
	// The second kind.
	agree, against := 0, 0
	for _, m := range slices.Concat(c.Members, c.Others) {
		x := o.Servers[m.Host]
		if m.Host == host || !x.answers(now) || !c.follows(x.Facts, host) {
			continue
		}
		switch io := x.Facts.Replica.IO; {
		case io != "Yes" && !s.down() && refusals[x.Facts.Replica.IOErrno]:
			evidence = append(evidence, fmt.Sprintf("%s: %s has answered its receiving thread, with a refusal%s: that says nothing", m.Host, host, errno(x.Facts.Replica)))
		case io != "Yes" && !s.down() && slices.Contains(c.Record.Shut, m.Host):
			evidence = append(evidence, fmt.Sprintf("%s: it was shut out at %s, and says nothing", m.Host, host))
		case io != "Yes" && !s.down() && !c.Strict() && x.IORan.Before(s.heard().Add(-recently)):
			evidence = append(evidence, fmt.Sprintf("%s: its receiving thread did not run while %s still answered, and says nothing", m.Host, host))
		case io == "Connecting" || io == "Preparing":
			agree++
			evidence = append(evidence, fmt.Sprintf("%s: its receiving thread cannot connect (%s)%s", m.Host, io, errno(x.Facts.Replica)))
		case io != "Yes" && now.Sub(x.IORan) < recently && !x.IORan.IsZero():
			agree++
			evidence = append(evidence, fmt.Sprintf("%s: its receiving thread stopped %s ago%s", m.Host, age(now, x.IORan), errno(x.Facts.Replica)))
		case io != "Yes":
			evidence = append(evidence, fmt.Sprintf("%s: its receiving thread has not run before, and says nothing", m.Host))
		case x.frozen(now):
			agree++
			evidence = append(evidence, fmt.Sprintf("%s: no event and no heartbeat for %s, at %d heartbeats of %s", m.Host, age(now, x.Moved), x.Facts.Replica.Heartbeats, x.Facts.Replica.HeartbeatPeriod))
		default:
			against++
			evidence = append(evidence, fmt.Sprintf("%s: it receives from %s, last %s ago", m.Host, host, age(now, x.Moved)))
		}
	}
	switch {
	case against > 0 || agree == 0:
		return text, PrimarySuspect, evidence
	case dead:
		return text, PrimaryDead, evidence
	}
	return text, PrimarySilent, evidence
}

// refusals are errors of a receiving thread that only a source which lives can have said: it has no connection left, or refuses the account or the host.
var refusals = map[int]bool{1040: true, 1044: true, 1045: true, 1129: true, 1130: true, 1203: true, 1226: true, 1227: true, 1236: true}

func errno(r *Replication) string {
	if r.IOErrno == 0 {
		return ""
	}
	return fmt.Sprintf(", error %d %s", r.IOErrno, shorten(r.IOError))
}

func age(now, then time.Time) time.Duration { return now.Sub(then).Round(10 * time.Millisecond) }

func shorten(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}

// stuck tells since when sessions of the primary wait for an acknowledgement that was lost, and one that has all that they wait for; "" = they do not. A replica that is
// connected anew, by GTID, after what it has received is asked for an acknowledgement of the next transaction only; and that one waits for those before it. So do all.
func (c *Cluster) stuck(o *Observations) (since time.Time, by string) {
	p := o.Servers[c.Record.Primary]
	f := p.Facts
	if !p.answers(o.Now) || f.ReadOnly || f.Replica != nil || f.Semi.Waiting == 0 || f.Semi.Clients == 0 || o.Now.Sub(p.Wrote) < stuckAfter {
		return time.Time{}, ""
	}
	for _, host := range c.Record.Ackers {
		s := o.Servers[host]
		switch {
		case !s.answers(o.Now) || !s.Facts.Semi.Acker || !c.follows(s.Facts, c.Record.Primary) || s.Facts.Replica.IO != "Yes" || s.frozen(o.Now):
		case !hasAll(c, o, host) || o.Now.Sub(s.Got) < stuckAfter:
			return time.Time{}, "" // it may be about to acknowledge
		default:
			by = host
		}
	}
	return p.Wrote, by
}
