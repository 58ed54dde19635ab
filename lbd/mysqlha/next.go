package mysqlha

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb/section"
)

// Act is what a runner does next.
type Act string

// The acts. docs/mysql.md explains them; each is harmless when it was done before.
const (
	ActNone       Act = "nothing"
	ActProbe      Act = "probe"      // ask all again, at once
	ActPage       Act = "page"       // a person has to decide
	ActFailover   Act = "failover"   // begin one
	ActSwitchover Act = "switchover" // from Host, which lives and whose agent does not, to To
	ActContinue   Act = "continue"   // the change that the record has
	ActStart      Act = "start"      // the server of Host, As
	ActReadOnly   Act = "read-only"  // Host takes no writes
	ActWritable   Act = "writable"   // Host takes writes
	ActSource     Act = "wait"       // Host waits for acknowledgements
	ActAddress    Act = "address"    // Host gets the address of the primary
	ActFollow     Act = "follow"     // Host follows the primary
	ActResume     Act = "resume"     // the threads of Host run
	ActRejoin     Act = "rejoin"     // Host, an old primary, becomes a replica
	ActAdmit      Act = "admit"      // Host, an old primary, follows the new one: it is none any more
	ActForget     Act = "forget"     // Host, an old primary, is in HostDB no more: nobody waits for it to rejoin
	ActClone      Act = "clone"      // Host becomes a copy of From
	ActVerify     Act = "verify"     // Host, a copy, is compared with a server that counts
	ActAcker      Act = "acker"      // Host is counted, and then acknowledges
	ActCount      Act = "count"      // Host acknowledges, and is counted from now on
	ActProve      Act = "prove"      // Host was started anew, and has all again
	ActSpeak      Act = "speak"      // Host is counted, and is told again to acknowledge
	ActShut       Act = "shut"       // Host is away: the primary is kept from hearing it, and it counts no more
	ActUnshut     Act = "unshut"     // Host is back, and was told that it does not acknowledge
	ActDismiss    Act = "dismiss"    // Host acknowledges no more
	ActAwaken     Act = "awaken"     // Host, the primary, sends again: its semi-sync is switched off and on
	ActRelease    Act = "release"    // Host, the primary, is ended, for writes wait there for nobody; it is started again, read-only
	ActAgree      Act = "agree"      // the record takes over Durability from HostDB
)

// Action is one act.
type Action struct {
	Act  Act    `json:"act"`
	Host string `json:"host,omitempty"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	As   Role   `json:"as,omitempty"`
	// For is the diagnosis that it follows from; Why is for people, also where nothing is done.
	For Name `json:"for"`
	// Asked says that a person wants it, whatever Host has.
	Asked bool   `json:"asked,omitempty"`
	Why   string `json:"why,omitempty"`
}

// Next is the action table: what follows from a diagnosis. It is a pure function. One act at a time: after it, all is looked at anew.
func Next(c *Cluster, o *Observations, list []Diagnosis) Action {
	head := list[0]
	r := &c.Record
	nothing := func(why string) Action { return Action{Act: ActNone, For: head.Name, Why: why} }
	switch head.Name {
	case QuorumLost, NoMembers, NoRecord, RecordBehind:
		return nothing(head.Text)
	}
	if i := r.Intent; i != nil {
		// A change that opens has a new primary, which can die like any other.
		if p := o.Servers[r.Primary]; i.Step == StepOpen {
			d, down := primaryDown(list)
			why := "nobody else says that it is gone"
			if down {
				if why = chosenAgain(c, o); why == "" {
					return Action{Act: ActFailover, Host: r.Primary, For: d.Name, Why: d.Text}
				}
			}
			if _, suspect := has(list, PrimarySuspect, ""); !suspect || o.Now.Sub(p.ProcessSeen) > restartAfter {
				if a, ok := restart(c, o, head.Name, why); ok {
					return a
				}
			}
			if down {
				return Action{Act: ActPage, Host: r.Primary, For: d.Name, Why: why}
			}
		}
		// A failover that is taken back needs its old primary, as the one who keeps what was not acknowledged: nobody else has taken a write. That may take long, unless its host is gone.
		if i.Step == StepWithdraw && i.Kind == Failover {
			switch old := o.Servers[i.Old]; {
			case o.Busy[i.Old] != "" && !old.left(o.Now):
				return nothing(o.Busy[i.Old])
			case !old.answers(o.Now) && old.Agent && old.down() && !resting(o, i.Old):
				return Action{Act: ActStart, Host: i.Old, As: AsPrimary, For: head.Name, Why: "the failover is taken back, and its server was ended"}
			}
		}
		// Replicas are not started without a primary, for what they have received and not applied goes with that. A person who has accepted that has nobody else to take over.
		if host := unstarted(c, o); host != "" {
			return Action{Act: ActStart, Host: host, As: AsReplica, For: head.Name, Why: "no replica runs that could take over, and a person has accepted that transactions are lost"}
		}
		if until := o.Rest[restIntent]; o.Now.Before(until) {
			return nothing("the change is tried again soon: " + i.Stopped)
		}
		return Action{Act: ActContinue, Host: i.Old, For: head.Name, Why: "a change that has begun is finished, whoever began it"}
	}
	if r.Paused != nil {
		return nothing("automatic acts were paused by " + r.Paused.By)
	}
	p := o.Servers[r.Primary]
	if d, down := primaryDown(list); down {
		why := refuses(c, o)
		if why == "" {
			return Action{Act: ActFailover, Host: r.Primary, For: d.Name, Why: d.Text}
		}
		if a, ok := restart(c, o, d.Name, why); ok {
			return a
		}
		return Action{Act: ActPage, Host: r.Primary, For: d.Name, Why: why}
	}
	if _, blind := has(list, Blind, ""); blind {
		return nothing("a node that sees nobody decides nothing")
	}
	if d, ok := has(list, ClusterDown, ""); ok {
		if a, ok := restart(c, o, d.Name, "all servers are down"); ok {
			return a
		}
	}
	// One that answers on a connection that was kept is seen to as ever, for that may last.
	if d, ok := has(list, PrimarySuspect, ""); ok && !p.answers(o.Now) {
		if a, ok := restart(c, o, d.Name, "nobody can say that it is gone for good"); ok && o.Now.Sub(p.ProcessSeen) > restartAfter {
			return a
		}
		// When that lasts, this node may be on a host that the primary is kept from hearing.
		if a, ok := unshut(c, o, r.Shut...); ok && p.Cause != "" && o.Now.Sub(p.Since) > connectPatience {
			return a
		}
		return Action{Act: ActProbe, For: d.Name, Why: d.Text}
	}
	// It would take the numbers of transactions for its own that its replicas have, and be copied.
	if d, ok := has(list, PrimaryLost, ""); ok {
		if !p.Facts.ReadOnly && !resting(o, r.Primary) {
			return Action{Act: ActReadOnly, Host: r.Primary, For: d.Name, Why: d.Text}
		}
		if why := refuses(c, o); why != "" {
			return Action{Act: ActPage, Host: r.Primary, For: d.Name, Why: why}
		}
		return Action{Act: ActFailover, Host: r.Primary, For: d.Name, Why: d.Text}
	}
	// Nothing ends such waiting but the end of the server: whoever waits is told that all is well when it waits no more.
	stuck, isStuck := hangs(o, r.Primary, list)
	if isStuck && refuses(c, o) == "" {
		return Action{Act: ActFailover, Host: r.Primary, For: stuck.Name, Why: stuck.Text}
	}
	if o.lent(r.Primary) { // a copy that was begun does not end, either
		if away, yes := forsaken(c, o); yes {
			if a, ok := release(c, o, forNew(c, o, away, cmp.Or(o.Lends[r.Primary], "another host"))); ok {
				a.For = ReplicaNew
				return a
			}
		}
	}
	single, left := has(list, PrimaryAlone, "")
	if left && alone(c, o) == "" && !resting(o, restSwitchover) {
		return Action{Act: ActSwitchover, Host: r.Primary, To: heir(c, o), For: PrimaryAlone, Why: single.Text}
	}
	for _, d := range list {
		if a, ok := keep(c, o, list, d); ok {
			a.For = d.Name
			if first, shut := unshut(c, o, a.Host); shut && a.hears() {
				return first
			}
			return a
		}
	}
	if a, ok := unshut(c, o, r.Shut...); ok {
		return a
	}
	if p.answers(o.Now) && r.Durability != string(c.MySQL.Durability) && c.MySQL.Durability != "" {
		return Action{Act: ActAgree, For: head.Name, Why: fmt.Sprintf("Durability is %s in HostDB, and was %s", c.MySQL.Durability, cmp.Or(r.Durability, "nothing"))}
	}
	if isStuck {
		why := refuses(c, o)
		if a, ok := release(c, o, stuck.Text+"; and no other takes over: "+why); ok {
			a.For = stuck.Name
			return a
		}
		return Action{Act: ActPage, Host: r.Primary, For: stuck.Name, Why: why}
	}
	if left {
		if why := alone(c, o); why != "" {
			return Action{Act: ActPage, Host: r.Primary, For: PrimaryAlone, Why: "clients do not find the primary, whose agent is gone, and no other server takes over by itself: " + why}
		}
	}
	return nothing(head.Text)
}

// unshut lets hosts in that are shut out, as soon as they can be told not to acknowledge: they cannot receive. That the primary answers this node is not needed: it may be on such a host.
func unshut(c *Cluster, o *Observations, hosts ...string) (Action, bool) {
	for _, host := range hosts {
		if slices.Contains(c.Record.Shut, host) && o.Servers[c.Record.Primary].Agent && o.Servers[host].answers(o.Now) && !resting(o, host) {
			return Action{Act: ActUnshut, Host: host, For: AckerAway, Why: host + " answers again"}, true
		}
	}
	return Action{}, false
}

// hears reports whether an act needs its host to hear the primary.
func (a Action) hears() bool {
	switch a.Act {
	case ActFollow, ActResume, ActRejoin, ActClone, ActVerify:
		return true
	}
	return false
}

// restIntent is the key in Rest of the change that the record has: no host is called like that.
const restIntent = ""

// restAddress is that of the address, which was brought to the primary: its agent's report says so a little later. No host is called like that, either.
const restAddress = "\x00address"

// restSwitchover is that of a switchover by itself. No host is called like that, either.
const restSwitchover = "\x00switchover"

// restartAfter is how long a primary whose process has ended is left for a failover before it is started again.
const restartAfter = 3 * time.Second

func primaryDown(list []Diagnosis) (Diagnosis, bool) {
	if d, ok := has(list, PrimaryDead, ""); ok {
		return d, true
	}
	return has(list, PrimarySilent, "")
}

// refuses tells why there is no automatic failover now; "" = there is.
func refuses(c *Cluster, o *Observations) string {
	r := &c.Record
	since := o.Wall.Sub(r.LastFailover)
	switch {
	case c.MySQL.Failover != section.Auto:
		return fmt.Sprintf("Failover is %s: a person decides, by hostmesh mysql failover %s", cmp.Or(c.MySQL.Failover, section.Manual), c.Tag)
	case !r.LastFailover.IsZero() && since < flapTime && r.AckedBy == "":
		return fmt.Sprintf("the last automatic failover was %s, and nobody has acknowledged it: hostmesh mysql ack %s", ago(since), c.Tag)
	}
	return cannot(c, o)
}

// ago says for how long something has been, by the wall clock of this node. By one that was set back it is yet to come, and no hour passes since: that is said, and nothing is taken for over.
func ago(since time.Duration) string {
	if since <= -time.Minute {
		return fmt.Sprintf("%s ahead of this node's clock, which is behind that of the node that made it", (-since).Round(time.Second))
	}
	return max(since, 0).Round(time.Second).String() + " ago"
}

// alone tells why no other server takes over by itself from a primary that lives, and whose agent does not; "" = one does. The change is a planned one, which loses nothing; it counts as
// automatic.
func alone(c *Cluster, o *Observations) string {
	r := &c.Record
	p := o.Servers[r.Primary]
	since := o.Wall.Sub(r.LastFailover)
	switch {
	case c.MySQL.Failover != section.Auto:
		return fmt.Sprintf("Failover is %s: start hostmesh on %s, or hostmesh mysql switchover %s", cmp.Or(c.MySQL.Failover, section.Manual), r.Primary, c.Tag)
	case p.Agent, o.Now.Sub(p.AgentGone) < RestartGrace:
		return "the agent may be started again"
	case !r.LastFailover.IsZero() && since < flapTime && r.AckedBy == "":
		return fmt.Sprintf("the last automatic change of the primary was %s, and nobody has acknowledged it: hostmesh mysql ack %s", ago(since), c.Tag)
	case o.Mass:
		return "the mesh suspects many nodes at once: this node is more likely sick"
	case !p.answers(o.Now) || p.Facts.Replica != nil:
		return r.Primary + " cannot hand over: see what else it has"
	case heir(c, o) == "":
		return "no replica whose agent is there could take over at once"
	}
	return ""
}

// heir is the replica that takes over by itself from a primary that lives: one that can at once, and whose agent can have the address.
func heir(c *Cluster, o *Observations) string {
	able := *c
	able.Members = nil
	for _, m := range c.Members {
		if s := o.Servers[m.Host]; s.Agent && !behind(s) && c.follows(s.Facts, c.Record.Primary) {
			able.Members = append(able.Members, m)
		}
	}
	return best(&able, o)
}

// unstarted is a replica that is to be started for a failover that a person has forced and that has nobody to choose; "" = none is.
func unstarted(c *Cluster, o *Observations) string {
	i := c.Record.Intent
	if i.Kind != Failover || !i.Forced || i.Stopped == "" {
		return ""
	}
	host := ""
	for _, m := range c.Members {
		switch s := o.Servers[m.Host]; {
		case m.Host == i.Old, c.Record.Fenced[m.Host] != "": // such a one is not promoted, whether it runs or not
		case o.Busy[m.Host] != "", s.answers(o.Now) && fit(c, m, s) == "":
			return ""
		case host == "" && s.down() && !resting(o, m.Host):
			host = m.Host
		}
	}
	return host
}

// chosenAgain tells why nobody else is chosen when the server that was is gone before it took writes; "" = somebody is. A failover is finished by whoever can, for what was asked
// for is another primary than the old one: it is not over before one takes writes, whatever was said since. A switchover has handed over to the one that was named: that this is gone is another matter,
// about which a person decides where failovers are theirs.
func chosenAgain(c *Cluster, o *Observations) string {
	switch i := c.Record.Intent; {
	case i.Kind == Failover:
		return cannot(c, o)
	case c.Record.Paused != nil:
		return fmt.Sprintf("automatic acts were paused by %s: a person decides, by hostmesh mysql failover %s", c.Record.Paused.By, c.Tag)
	}
	return refuses(c, o)
}

// cannot tells why a failover would not pass its gate; "" = it could.
func cannot(c *Cluster, o *Observations) string {
	r := &c.Record
	answer, candidates := 0, 0
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		if s.lives(o.Now) {
			answer++
		}
		if m.Host != r.Primary && s.answers(o.Now) && fit(c, m, s) == "" {
			candidates++
		}
	}
	switch {
	case candidates == 0:
		return "no replica could take over"
	case o.Mass && 2*answer <= len(c.Members):
		return "the mesh suspects many nodes at once, and most servers of the cluster are not seen from here: this node is more likely sick"
	}
	if !c.Strict() {
		return ""
	}
	if len(r.Ackers) == 0 {
		return "no replica is known to have all that was acknowledged"
	}
	if why := asynchronous(r.Primary, o.Servers[r.Primary], o.Now); why != "" {
		return why + ", and Durability is strict"
	}
	for _, host := range r.Ackers {
		if s := o.Servers[host]; !s.answers(o.Now) {
			return fmt.Sprintf("%s acknowledges, and does not answer: only it may have the last transactions, and Durability is strict", host)
		} else if why := o.forgot(c, host, r.Primary); why != "" {
			return why + ", and Durability is strict"
		}
	}
	return ""
}

// fit tells why a member can never be promoted; "" = it can.
func fit(c *Cluster, m Member, s Sight) string {
	switch {
	case m.Unfit != "":
		return m.Unfit
	case c.Record.Fenced[m.Host] != "":
		return "it was the primary, and has not rejoined"
	case Supported(s.Facts) != "":
		return Supported(s.Facts)
	case s.Facts.Settings["log_bin"] != "" && !isOn(s.Facts.Settings["log_bin"]):
		return "it has no binary log"
	case s.Facts.Replica != nil && !s.Facts.Replica.UsesGTID:
		return "it does not follow by GTID"
	case s.Known && s.Facts.Replica == nil && s.Facts.Current == "" && s.Facts.Binlog == "" && !s.Facts.Semi.Source: // one that was chosen, in a cluster without data, waits for acknowledgements
		return "it has no data, and follows nobody" // whoever accepts that transactions are lost does not mean all
	}
	return s.unproven()
}

// unproven tells why what a server has is not to be trusted; "" = it is.
func (s Sight) unproven() string {
	switch {
	case s.Differs != "":
		return "it is a copy of " + s.Copy + ", and differs"
	case s.Copy != "":
		return "it is a copy of " + s.Copy + ", and was not compared yet"
	}
	return ""
}

// restart starts a primary whose process ended, as the primary: as a replica it would drop what was acknowledged. Replicas that are down are started
// only when it is there, or can be: what a replica has received and not applied goes with its start, and may be all that there is.
func restart(c *Cluster, o *Observations, name Name, why string) (Action, bool) {
	r := &c.Record
	p := o.Servers[r.Primary]
	if p.down() && r.Fenced[r.Primary] == "" && !resting(o, r.Primary) {
		return Action{Act: ActStart, Host: r.Primary, As: AsPrimary, For: name, Why: "its process has ended, and there is no failover: " + why}, true
	}
	return Action{}, false
}

func resting(o *Observations, host string) bool {
	return o.Now.Before(o.Rest[host]) || o.Busy[host] != ""
}

// keep is what is done about one thing while the primary answers.
func keep(c *Cluster, o *Observations, list []Diagnosis, d Diagnosis) (Action, bool) {
	r := &c.Record
	host := d.Host
	p, s := o.Servers[r.Primary], o.Servers[host]
	if host != "" && resting(o, host) || !p.answers(o.Now) {
		return Action{}, false
	}
	_, errant := has(list, ErrantFound, host)
	if _, foreign := has(list, WrongFlavour, host); foreign && host != "" && host != r.Primary && d.Name != ReplicaWritable {
		return Action{}, false
	}
	// One that is kept from taking writes until somebody acknowledges has replicas made for it all the same.
	open := p.Facts.Replica == nil && (!p.Facts.ReadOnly || c.unheard() || c.deaf(p.Facts))
	act := func(a Act, why string) (Action, bool) { return Action{Act: a, Host: host, Why: why}, true }
	switch d.Name {
	case ReplicaWritable:
		if r.Fenced[host] == "" {
			return act(ActReadOnly, d.Text)
		}
	case PrimaryReadOnly:
		if r.Fenced[host] == "" && p.Facts.Replica == nil && Supported(p.Facts) == "" && !c.unheard() && !c.deaf(p.Facts) {
			return act(ActWritable, "the record says that it is the primary, and nothing deposes it")
		}
	case PrimaryAsync:
		// Writes that wait for nobody never end, and no copy can be made of a server that has such: one that takes writes goes on as it did until the first acknowledges.
		if open && !c.unheard() {
			return act(ActSource, d.Text)
		}
	case PrimaryMute:
		if p.Facts.ReadOnly && p.Facts.Semi.Waiting == 0 && r.Fenced[host] == "" {
			return act(ActAwaken, d.Text)
		}
	case AddressAway:
		if !o.Now.Before(o.Rest[restAddress]) {
			return act(ActAddress, d.Text)
		}
	case ReplicaDown:
		if s.down() && open {
			return begin(c, o, d)
		}
	case OldPrimary:
		if s.answers(o.Now) && s.Facts.ReadOnly && healthy(s.Facts) && c.follows(s.Facts, r.Primary) {
			// One that was left while it took back what it had dropped is not there yet: it could come to skip the rest.
			if lost, err := Forgotten(s.Facts, p.Facts); err == nil && lost.Empty() {
				return act(ActAdmit, d.Text)
			}
		}
		if s.Agent && open {
			return act(ActRejoin, d.Text)
		}
	case ReplicaAstray, ReplicaStopped:
		if !open || errant {
			return Action{}, false
		}
		if d.Name == ReplicaAstray {
			return act(ActFollow, d.Text)
		}
		return act(ActResume, d.Text)
	case ReplicaLost, ReplicaNew:
		if o.Busy[host] != "" || !open || errant || !s.Agent || !s.answers(o.Now) || Supported(s.Facts) != "" {
			return Action{}, false
		}
		if slices.Contains(r.Ackers, host) {
			if !spare(c, o, host) {
				return Action{}, false // it alone may have what was acknowledged last, beside the primary
			}
			return act(ActDismiss, d.Text+"; it counts no more")
		}
		if d.Name == ReplicaNew && s.Facts.Current != "" && s.Facts.Binlog != "" {
			return act(ActFollow, "all that it has is the primary's too")
		}
		from := cloneFrom(c, o, host)
		if from == r.Primary && uncopyable(c, o) {
			if away, yes := forsaken(c, o); yes {
				return release(c, o, forNew(c, o, away, host))
			}
			return Action{}, false // a copy would not end before who is away comes back
		}
		if from != "" {
			return Action{Act: ActClone, Host: host, From: from, Why: d.Text}, true
		}
	case CopyDiffers, CopyUnverified:
		switch {
		case slices.Contains(r.Ackers, host):
			if spare(c, o, host) {
				return act(ActDismiss, d.Text+"; it counts no more")
			}
		case d.Name == CopyUnverified && open && !errant && s.Agent && s.answers(o.Now):
			return act(ActVerify, d.Text)
		}
	case OldPrimaryLeft:
		if m, ok := c.Known(host); ok && m.Unfit == notInHostDB {
			return act(ActForget, host+" was the primary, and is not in HostDB any more")
		}
	case AckerRestarted:
		if caughtUp(c, o, host) && asynchronous(r.Primary, p, o.Now) == "" { // else it would not have the next
			return act(ActProve, d.Text)
		}
	case AckerSilent:
		return act(ActSpeak, d.Text)
	case AckerAway:
		if c.Strict() && others(c, o, host) && p.Agent {
			return act(ActShut, d.Text+"; others have all")
		}
	case AckerLeaving:
		return leaving(c, o, d)
	case AckerStray:
		if host != "" {
			return act(ActCount, d.Text)
		}
	case AckerDue:
		if open && s.Agent && !slices.Contains(r.Shut, host) { // its agent is asked whether its data are to be trusted
			return act(ActAcker, d.Text)
		}
	}
	return Action{}, false
}

// cloneFrom chooses whose copy a host becomes: a replica that follows well, which is waited for until it has all, for a copy of the primary holds its writers up; the primary where there is none. One of whom a copy is made at the
// moment is waited for, where no other replica can be copied: then it is "".
func cloneFrom(c *Cluster, o *Observations, host string) string {
	best, wait := "", false
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		if m.Host == host || m.Host == c.Record.Primary || !s.Agent || resting(o, m.Host) || !s.answers(o.Now) || !healthy(s.Facts) || !c.follows(s.Facts, c.Record.Primary) ||
			s.Facts.Replica.Lag != nil && *s.Facts.Replica.Lag > c.MySQL.MaxLag || s.unproven() != "" {
			continue
		}
		if o.lent(m.Host) {
			wait = true
			continue
		}
		if best == "" || m.Drained != "" { // one that serves nobody is the best source
			best = m.Host
		}
	}
	if p := o.Servers[c.Record.Primary]; best == "" && !wait && p.Agent && !resting(o, c.Record.Primary) && !o.lent(c.Record.Primary) {
		return c.Record.Primary
	}
	return best
}
