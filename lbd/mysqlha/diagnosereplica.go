package mysqlha

import (
	"fmt"
	"slices"
	"time"
)

// left tells of an old primary that lost the tag before it had rejoined: no agent leads its server, so nothing can be done there, and replicas go on to hear nothing from it.
func (d *diagnosing) left(m Member, why string) {
	tag, host := d.c.Tag, m.Host
	text := host + " was the primary, and lost the tag before it had rejoined: its server is left as it is"
	if s := d.o.Servers[host]; s.answers(d.o.Now) && !s.Facts.ReadOnly {
		text += ", and takes writes, at its own address, that no other server gets"
	}
	d.add(OldPrimaryLeft, host, text, []string{why},
		"hostmesh tag add "+host+" "+tag+" -m WHY, and it rejoins; or end its server for good: it is forgotten once the host is not in HostDB any more")
}

// replica tells what one member that is not the primary has. Whatever it is, it is never a reason to replace the primary.
func (d *diagnosing) replica(m Member) {
	c, o, r := d.c, d.o, &d.c.Record
	tag, host := c.Tag, m.Host
	s := o.Servers[host]
	p := o.Servers[r.Primary]
	if why, fenced := r.Fenced[host]; fenced {
		d.add(OldPrimary, host, host+" was the primary, and is to rejoin as a replica", []string{why}, "it rejoins by itself once its agent answers; else hostmesh mysql rejoin "+tag+" "+host)
		if s.answers(o.Now) && !s.Facts.ReadOnly {
			d.add(ReplicaWritable, host, host+" takes writes, and is not the primary", nil, "it is ended, or set read-only")
		}
		d.differs(host, s)
		return
	}
	if busy := o.Busy[host]; busy != "" {
		d.add(ReplicaNew, host, busy, nil, "")
		return
	}
	if s.DiskFull != "" && m.Unfit == "" {
		d.add(ReplicaLagging, host, host+" has no room on its disk: it receives and applies nothing until it has, and acknowledges nothing", []string{s.DiskFull}, "make room there: old binary logs (PURGE BINARY LOGS), other files")
	}
	switch {
	case s.lives(o.Now) && !s.answers(o.Now), m.Unfit != "":
		return // said by others, or it is full
	case s.down():
		text := fmt.Sprintf("the server on %s has ended", host)
		if s.Unrecoverable {
			text += ", and cannot recover its data"
		}
		d.add(ReplicaDown, host, text, []string{fmt.Sprintf("its agent: %s, since %s", s.Process, s.ProcessSince.UTC().Format("15:04:05"))}, "it is started by its agent while the primary answers; if it ends again, its error log says why")
		return
	case !s.answers(o.Now):
		if s.Cause != "" {
			d.add(ReplicaDown, host, host+" does not answer", []string{shorten(s.Error)}, "look at the host, its network and its server")
		}
		return
	}
	f := s.Facts
	if !f.ReadOnly {
		d.add(ReplicaWritable, host, host+" takes writes, and is not the primary", nil, "it is set read-only; look for errant transactions, and for who writes there")
	}
	if p.Known && f.Flavour == p.Facts.Flavour && f.Binlog != "" {
		was, later := s.before(p.Asked)
		if extra, err := Errant(was, p.Facts, later); err == nil && !extra.Empty() && p.answers(o.Now) && r.Intent == nil {
			d.add(ErrantFound, host, fmt.Sprintf("%s has transactions that the primary never had: %s", host, extra), nil,
				"look at them (mysqlbinlog), and bring over what is wanted by hand; then give it the primary's data: hostmesh mysql clone "+tag+" - "+host)
		}
	}
	if d.differs(host, s) {
		return
	}
	if x := f.Replica; s.Copy != "" && (x == nil || x.UsesGTID && !missingLog(x) && x.SQLErrno == 0) {
		d.add(CopyUnverified, host, host+" is a copy of "+s.Copy+", and was not compared yet: until then it is not counted, answers no readers, and is copied by nobody", nil,
			"it is compared by itself while its agent and the primary answer; the log of the node that watches tells why it was not")
		return
	}
	if f.Replica == nil {
		d.add(ReplicaNew, host, host+" follows nobody yet", nil, "it is made a copy of a replica, unless it has transactions of its own or no agent leads it; else hostmesh mysql clone "+tag+" - "+host)
		return
	}
	x := f.Replica
	switch {
	case !x.UsesGTID:
		d.add(NoGTID, host, host+" follows by file and offset: it cannot be set to follow another primary", nil, "CHANGE MASTER TO MASTER_USE_GTID=slave_pos there, or hostmesh mysql clone "+tag+" - "+host)
		return
	case missingLog(x):
		d.add(ReplicaLost, host, host+" needs what the primary has not got any more, or has what it never had", []string{fmt.Sprintf("error %d: %s", x.IOErrno, shorten(x.IOError))}, "it becomes a copy by itself, unless it has errant transactions; at once: hostmesh mysql clone "+tag+" - "+host)
		return
	case x.SQLErrno != 0:
		d.add(ReplicaBroken, host, host+" cannot apply what it receives", []string{fmt.Sprintf("error %d: %s", x.SQLErrno, shorten(x.SQLError))}, "find out why its data differ; then hostmesh mysql clone "+tag+" - "+host)
		return
	case r.Intent == nil && !c.follows(f, r.Primary):
		d.add(ReplicaAstray, host, fmt.Sprintf("%s follows %s, and not the primary", host, x.SourceHost), nil, "it is set to follow "+r.Primary)
		return
	case x.IO == "No" || !x.SQL:
		d.add(ReplicaStopped, host, fmt.Sprintf("%s: receiving: %s, applying: %s", host, x.IO, map[bool]string{true: "yes", false: "stopped"}[x.SQL]), nil, "it is started again, unless automatic acts are paused")
		return
	}
	if x.IO != "Yes" && r.Intent == nil && p.answers(o.Now) && !slices.Contains(r.Shut, host) && o.Now.Sub(s.IORan) > connectPatience {
		d.add(ReplicaStopped, host, host+" does not get through to the primary"+errno(x), nil, "what is left of a change is taken away; else look at the network between the two, and at the replication account")
		return
	}
	if x.Lag != nil && *x.Lag > c.MySQL.MaxLag && s.DiskFull == "" {
		d.add(ReplicaLagging, host, fmt.Sprintf("%s is %s behind, more than MaxLag (%s): readers are not sent there", host, *x.Lag, c.MySQL.MaxLag), nil, "see what it applies: SHOW PROCESSLIST there")
	}
}

// differs tells of a copy that was compared, and is not right.
func (d *diagnosing) differs(host string, s Sight) bool {
	if s.Differs == "" {
		return false
	}
	d.add(CopyDiffers, host, host+" is a copy of "+s.Copy+", and differs from what it was compared with: it is not counted, answers no readers, and is copied by nobody", []string{shorten(s.Differs)},
		"find out which of them is right; then hostmesh mysql clone "+d.c.Tag+" FROM "+host)
	return true
}

// connectPatience is how long a replica may try to connect to a primary that answers.
const connectPatience = 3 * time.Second

// missingLog reports whether a replica has said that it cannot follow: 1236 is the source's refusal.
func missingLog(r *Replication) bool { return r.IOErrno == 1236 }

// caughtUp reports whether a replica has received all that the primary had when that was asked. What the primary wrote since does not count: an acker is
// asked for that.
func caughtUp(c *Cluster, o *Observations, host string) bool {
	s, p := o.Servers[host], o.Servers[c.Record.Primary]
	if !s.answers(o.Now) || !p.answers(o.Now) || !healthy(s.Facts) || !c.follows(s.Facts, c.Record.Primary) {
		return false
	}
	return hasAll(c, o, host)
}

// hasAll is caughtUp of a server that is known to follow the primary.
func hasAll(c *Cluster, o *Observations, host string) bool {
	s, p := o.Servers[host], o.Servers[c.Record.Primary]
	has, err := PositionOf(s.Facts)
	want, err2 := ParseGTIDs(p.Facts.Flavour, p.Facts.Current)
	if err != nil || err2 != nil {
		return false
	}
	return has.Reaches(want)
}

// stray reports whether a server is set to acknowledge what a primary writes, though the record does not count it. One that is shut out does so only if it receives all the same: somebody has taken away what
// shuts it out.
func (c *Cluster) stray(s Sight, host, primary string) bool {
	return s.Known && s.Facts.Semi.Acker && host != primary && c.follows(s.Facts, primary) && !slices.Contains(c.Record.Ackers, host) && (!slices.Contains(c.Record.Shut, host) || s.Facts.Replica.IO == "Yes") &&
		c.Record.Fenced[host] == "" // see takeBack: what that acknowledges nobody waits for
}

// ackers tells what those have whose acknowledgement counts, or should.
func (d *diagnosing) ackers() {
	c, o, r := d.c, d.o, &d.c.Record
	p := o.Servers[r.Primary]
	if r.Intent != nil || !p.answers(o.Now) {
		return
	}
	connected, hanging := 0, 0
	for _, host := range r.Ackers {
		s := o.Servers[host]
		_, member := c.Member(host)
		ok := s.answers(o.Now) && s.Facts.Replica != nil && s.Facts.Replica.IO == "Yes" && c.follows(s.Facts, r.Primary)
		switch {
		case !member:
			remedy := ""
			if m, ok := c.Known(host); !ok || !m.Addr.IsValid() {
				remedy = "it has no address in HostDB by which it could be shut out: until another counts, give it that which it had (hostmesh db set hosts/" + host + "/Network/IP ADDRESS -m WHY)"
			}
			d.add(AckerLeaving, host, host+" is no member any more, and is to acknowledge no longer", nil, remedy)
		case ok && !sameStart(r.Starts[host], o.began(s)):
			d.add(AckerRestarted, host, host+" was started anew, or set to follow anew: what it had received and not applied is fetched again; until it has all, no failover counts on it", nil, "")
		case ok && !s.Facts.Semi.Acker:
			d.add(AckerSilent, host, host+" counts as acknowledging, and does not", nil, "")
		case !ok && o.gone(host):
			d.add(AckerAway, host, fmt.Sprintf("%s has not acknowledged for %s", host, age(o.Now, s.acked()).Round(time.Second)), nil, "")
		}
		if ok && s.Facts.Semi.Acker {
			connected++
			if s.frozen(o.Now) {
				hanging++
			}
		}
	}
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		_, fenced := r.Fenced[m.Host]
		if c.stray(s, m.Host, r.Primary) && s.Facts.Replica.IO == "Yes" && s.answers(o.Now) && o.Busy[m.Host] == "" {
			d.add(AckerStray, m.Host, m.Host+" acknowledges, and is not counted", nil, "it is counted; who has set it to acknowledge?")
			continue
		}
		if m.Host == r.Primary || fenced || m.Drained != "" || slices.Contains(r.Ackers, m.Host) || o.Busy[m.Host] != "" || !caughtUp(c, o, m.Host) || !s.Facts.ReadOnly || s.unproven() != "" {
			continue
		}
		_, errant := has(d.out, ErrantFound, m.Host)
		if _, foreign := has(d.out, WrongFlavour, m.Host); errant || foreign {
			continue
		}
		d.add(AckerDue, m.Host, m.Host+" has all that the primary has: it is to acknowledge", nil, "")
	}
	d.stranger()
	// The server finds out late that one is gone, and never that one hangs. Where writes wait, that nothing was written since says it.
	waits := p.Facts.Semi.Waiting > 0 && o.Now.Sub(p.Wrote) >= stuckAfter
	if (connected == 0 && p.Facts.Semi.Clients == 0 || connected == hanging && waits) && len(c.Members) > 1 {
		text := "no replica acknowledges: writes wait until one does"
		switch {
		case c.Strict() && p.Facts.ReadOnly:
			text = "no replica acknowledges: " + r.Primary + " takes no writes until one does"
		case !c.Strict(), !p.Facts.Semi.Source:
			text = "no replica acknowledges: what is written now stands on " + r.Primary + " alone, and a failover would lose it"
		}
		d.add(NoAcker, "", text, d.unready(), "bring a replica back, or give the tag to another host: hostmesh tag add HOST "+c.Tag+" -m WHY")
	}
}
