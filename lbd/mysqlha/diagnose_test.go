package mysqlha

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, have string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != have {
		t.Errorf("%s is not current (%v): look at what changed, then run go test ./lbd/mysqlha -update\n%s", file, err, have)
	}
}

// now is when all cases are.
var (
	now   = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	start = now.Add(-24 * time.Hour)
)

// seen is a cluster of three that is well; a case changes what it needs.
type seen struct {
	c Cluster
	o Observations
}

func healthySeen() *seen {
	x := &seen{c: Cluster{
		Tag: "shop-db", HasRecord: true,
		MySQL:  section.MySQL{VIP: netip.MustParseAddr("10.1.0.60"), MaxLag: 5 * time.Second, Durability: section.Strict, Failover: section.Auto},
		Record: Record{Format: 1, Epoch: 7, Primary: "db1", Ackers: []string{"db2", "db3"}, Starts: map[string]time.Time{"db2": start, "db3": start}, Durability: "strict"},
	}, o: Observations{Now: now, Wall: now, Servers: map[string]Sight{}}}
	for i, host := range []string{"db1", "db2", "db3"} {
		x.c.Members = append(x.c.Members, Member{Host: host, Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(11 + i)}), Port: 3306})
		s := Sight{
			Known: true, Asked: now.Add(-51 * time.Millisecond), Answered: now.Add(-50 * time.Millisecond), Agent: true, Reported: true, Process: ProcessRuns, ProcessSince: start, ProcessSeen: start,
			Facts: Facts{
				Version: "10.11.19-MariaDB", Flavour: MariaDB, ServerID: uint32(i + 1), Uptime: 24*time.Hour - 50*time.Millisecond, ReadOnly: i > 0, Binlog: "0-1-900", Current: "0-1-900", MaxConnections: 100,
				Settings: map[string]string{"log_bin": "ON"},
			},
		}
		if i == 0 {
			s.VIP = "held"
			s.Facts.Semi = SemiSync{Source: true, Active: true, Clients: 2}
		} else {
			lag := time.Duration(0)
			s.Moved, s.IORan = now.Add(-100*time.Millisecond), now.Add(-50*time.Millisecond)
			s.Facts.Received = "0-1-900"
			s.Facts.Semi.Acker = true
			s.Facts.Replica = &Replication{SourceHost: "10.1.0.11", SourcePort: 3306, IO: "Yes", SQL: true, Heartbeats: 40, HeartbeatPeriod: 250 * time.Millisecond, Lag: &lag, UsesGTID: true}
		}
		x.o.Servers[host] = s
	}
	return x
}

// edit changes what was seen of a host.
func (x *seen) edit(host string, f func(s *Sight)) {
	s := x.o.Servers[host]
	if s.Facts.Replica != nil {
		r := *s.Facts.Replica
		s.Facts.Replica = &r
	}
	f(&s)
	x.o.Servers[host] = s
}

func (x *seen) silent(host string) {
	x.edit(host, func(s *Sight) {
		s.Cause, s.Error, s.Since, s.Failures = CauseUnreachable, "server does not answer: i/o timeout", now.Add(-900*time.Millisecond), 3
		s.Asked, s.Answered = now.Add(-1300*time.Millisecond), now.Add(-1300*time.Millisecond)
		s.Pings, s.PingError, s.PingAt = 3, "server does not answer: i/o timeout", now.Add(-100*time.Millisecond)
	})
}

func (x *seen) died(host string) {
	x.edit(host, func(s *Sight) {
		s.Cause, s.Error, s.Since = CauseUnreachable, "server does not answer: connection refused", now.Add(-10*time.Millisecond)
		s.Process, s.ProcessSince, s.ProcessSeen = ProcessDied, now.Add(-20*time.Millisecond), now.Add(-15*time.Millisecond)
	})
}

func (x *seen) io(state string, hosts ...string) {
	for _, h := range hosts {
		x.edit(h, func(s *Sight) { s.Facts.Replica.IO = state })
	}
}

func (x *seen) frozen(hosts ...string) {
	for _, h := range hosts {
		x.edit(h, func(s *Sight) { s.Moved = now.Add(-800 * time.Millisecond) })
	}
}

func (x *seen) agentGone(host string) { x.agentGoneFor(host, 2*time.Second) }

func (x *seen) agentGoneFor(host string, d time.Duration) {
	x.edit(host, func(s *Sight) { s.Agent, s.AgentGone = false, now.Add(-d) })
}

// choked has all connections of db1 wait for an acknowledgement, and none left for its replicas.
func (x *seen) choked() {
	x.edit("db1", func(s *Sight) {
		s.Facts.Semi.Clients, s.Facts.Semi.Waiting, s.Facts.MaxConnections, s.Wrote = 0, 150, 151, now.Add(-5*time.Second)
	})
	for _, h := range []string{"db2", "db3"} {
		x.edit(h, func(s *Sight) {
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "Connecting", 1040, "Too many connections"
		})
	}
}

// forsaken has db2 alone acknowledge, and be away; db3 is to be a copy of db1, where writes wait.
func (x *seen) forsaken() {
	x.c.Record.Ackers = []string{"db2"}
	x.silent("db2")
	x.agentGone("db2")
	x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting, s.Wrote = 1, 2, now.Add(-20*time.Second) })
	x.edit("db2", func(s *Sight) { s.IORan = now.Add(-20 * time.Second) })
	empty(x, "db3")
}

// stuck has sessions wait at the primary for what all replicas have had for long.
func (x *seen) stuck() {
	x.edit("db1", func(s *Sight) { s.Facts.Semi.Waiting, s.Wrote = 3, now.Add(-5*time.Second) })
	for _, host := range []string{"db2", "db3"} {
		x.edit(host, func(s *Sight) { s.Got = now.Add(-5 * time.Second) })
	}
}

// mute has replicas be connected to the primary, and get nothing.
func (x *seen) mute() {
	x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 0 })
	for _, host := range []string{"db2", "db3"} {
		x.edit(host, func(s *Sight) { s.Moved = now.Add(-5 * time.Second) })
	}
}

// started has the primary be as after a start.
func (x *seen) started() {
	x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Uptime, s.Facts.Semi = true, 5*time.Second, SemiSync{} })
}

// cases are what a cluster can have. The first diagnosis is want.
var cases = []struct {
	title string
	want  Name
	act   Act
	see   func(x *seen)
}{
	{"all is well", Well, ActNone, func(x *seen) {}},
	{"the process of the primary died, and replicas cannot connect", PrimaryDead, ActFailover, func(x *seen) { x.died("db1"); x.io("Connecting", "db2", "db3") }},
	{"the process died, and replicas have not noticed yet", PrimarySuspect, ActProbe, func(x *seen) { x.died("db1") }},
	{"the process died, and a person decides", PrimaryDead, ActStart, func(x *seen) {
		x.died("db1")
		x.io("Connecting", "db2", "db3")
		x.c.MySQL.Failover = section.Manual
	}},
	{"the held connection ended, fresh ones are refused, its agent is gone", PrimaryDead, ActFailover, func(x *seen) {
		x.silent("db1")
		x.edit("db1", func(s *Sight) { s.HoldLost, s.Pings = now.Add(-time.Second), 1 })
		x.agentGone("db1")
		x.io("Connecting", "db2", "db3")
	}},
	{"it is silent, and replicas are frozen", PrimarySilent, ActFailover, func(x *seen) { x.silent("db1"); x.frozen("db2", "db3") }},
	{"it is silent, and one replica receives", PrimarySuspect, ActProbe, func(x *seen) { x.silent("db1"); x.frozen("db2") }},
	{"it is silent, and a replica has missed one heartbeat only", PrimarySuspect, ActProbe, func(x *seen) {
		x.silent("db1")
		x.frozen("db2")
		x.edit("db3", func(s *Sight) { s.Moved = now.Add(-400 * time.Millisecond) })
	}},
	{"it is silent, and the threads of replicas have been stopped for an hour", PrimarySuspect, ActProbe, func(x *seen) {
		x.silent("db1")
		x.io("No", "db2", "db3")
		for _, h := range []string{"db2", "db3"} {
			x.edit(h, func(s *Sight) { s.IORan = now.Add(-time.Hour) })
		}
	}},
	{"it is silent to this node alone, replicas are well", PrimarySuspect, ActProbe, func(x *seen) { x.silent("db1") }},
	{"it is silent to this node, and has refused replicas the account", PrimarySuspect, ActProbe, func(x *seen) {
		x.silent("db1")
		x.io("Connecting", "db2", "db3")
		for _, h := range []string{"db2", "db3"} {
			x.edit(h, func(s *Sight) {
				s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = 1045, "Access denied for user 'repl'"
			})
		}
	}},
	{"it is silent to this node, and who cannot connect was shut out", PrimarySuspect, ActProbe, func(x *seen) {
		x.c.MySQL.Durability = section.Available
		x.c.Record.Ackers, x.c.Record.Shut = []string{"db3"}, []string{"db2"}
		x.silent("db1")
		x.silent("db3")
		x.io("Connecting", "db2")
	}},
	{"it is silent to this node, and replicas could not connect while it was not, available", PrimarySuspect, ActProbe, func(x *seen) {
		x.c.MySQL.Durability = section.Available
		x.silent("db1")
		x.io("Connecting", "db2", "db3")
		for _, h := range []string{"db2", "db3"} {
			x.edit(h, func(s *Sight) { s.IORan = now.Add(-time.Minute) })
		}
	}},
	{"the same, strict: nobody acknowledges what it writes", PrimarySilent, ActFailover, func(x *seen) {
		x.silent("db1")
		x.io("Connecting", "db2", "db3")
		for _, h := range []string{"db2", "db3"} {
			x.edit(h, func(s *Sight) { s.IORan = now.Add(-time.Minute) })
		}
	}},
	{"it answers, and replicas do not see it", Well, ActNone, func(x *seen) { x.io("Connecting", "db2", "db3") }},
	{"it is saturated, and replicas are frozen", PrimarySatiated, ActNone, func(x *seen) {
		x.edit("db1", func(s *Sight) { s.Cause, s.Error = CauseSaturated, "server has too many connections: 1040" })
		x.frozen("db2", "db3")
	}},
	{"silent; the last automatic failover was half an hour ago", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.c.Record.LastFailover = now.Add(-30 * time.Minute)
	}},
	{"silent; that was acknowledged", PrimarySilent, ActFailover, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.c.Record.LastFailover, x.c.Record.AckedBy = now.Add(-30*time.Minute), "somebody"
	}},
	{"silent; one that acknowledges does not answer, strict", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.frozen("db2")
		x.silent("db3")
	}},
	{"silent; one that acknowledges does not answer, available", PrimarySilent, ActFailover, func(x *seen) {
		x.silent("db1")
		x.frozen("db2")
		x.silent("db3")
		x.c.MySQL.Durability = section.Available
	}},
	{"dead; one that acknowledges was started anew", PrimaryDead, ActStart, func(x *seen) {
		x.died("db1")
		x.io("Connecting", "db2", "db3")
		x.edit("db3", func(s *Sight) { s.Facts.Uptime = 5 * time.Second })
	}},
	{"silent; the mesh suspects many, most of the cluster is not seen", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.silent("db3")
		x.frozen("db2")
		x.o.Mass = true
	}},
	{"paused, and dead", PrimaryDead, ActNone, func(x *seen) {
		x.died("db1")
		x.io("Connecting", "db2", "db3")
		x.c.Record.Paused = &Paused{By: "somebody", Since: now, Why: "works on it"}
	}},
	{"nothing is seen", Blind, ActNone, func(x *seen) {
		for _, h := range []string{"db1", "db2", "db3"} {
			x.silent(h)
			x.agentGone(h)
		}
	}},
	{"all are down", ClusterDown, ActStart, func(x *seen) {
		for _, h := range []string{"db1", "db2", "db3"} {
			x.died(h)
		}
	}},
	{"the quorum is lost", QuorumLost, ActNone, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.c.RecordError = "no quorum: context deadline exceeded"
	}},
	{"no members", NoMembers, ActNone, func(x *seen) { x.c.Members = nil }},
	{"no record", NoRecord, ActNone, func(x *seen) { x.c.Record, x.c.HasRecord = Record{}, false }},
	{"no record, and two primaries", NoRecord, ActNone, func(x *seen) {
		x.c.Record, x.c.HasRecord = Record{}, false
		x.edit("db2", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Replica = false, nil })
	}},
	{"a change is under way", IntentOpen, ActContinue, func(x *seen) {
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepApply, Old: "db1", To: "db2", Why: "the primary, db1, is dead"}
		x.died("db1")
	}},
	{"a change has stopped", IntentStopped, ActContinue, func(x *seen) {
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepChoose, Old: "db1", Why: "the primary, db1, is dead", Stopped: "db3 does not answer"}
		x.died("db1")
	}},
	{"the new primary dies while it opens", IntentOpen, ActFailover, func(x *seen) {
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepOpen, Old: "db4", To: "db1", Why: "the primary, db4, is dead"}
		x.died("db1")
		x.io("Connecting", "db2", "db3")
	}},
	{"the new primary dies while it opens, and a person asked for the failover", IntentOpen, ActFailover, func(x *seen) {
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepOpen, Old: "db4", To: "db1", By: "somebody", Why: "the primary, db4, is dead"}
		x.c.MySQL.Failover = section.Manual
		x.c.Record.Paused = &Paused{By: "somebody", Since: now, Why: "works on it"}
		x.silent("db1")
		x.frozen("db2", "db3")
	}},
	{"the next primary is gone while it opens, of a switchover", IntentOpen, ActFailover, func(x *seen) { opening(x) }},
	{"the same, and a person decides", IntentOpen, ActPage, func(x *seen) {
		opening(x)
		x.c.MySQL.Failover = section.Manual
	}},
	{"the same, and automatic acts are paused", IntentOpen, ActPage, func(x *seen) {
		opening(x)
		x.c.Record.Paused = &Paused{By: "somebody", Since: now, Why: "works on it"}
	}},
	{"the same, and the last automatic failover was half an hour ago", IntentOpen, ActPage, func(x *seen) {
		opening(x)
		x.c.Record.LastFailover = now.Add(-30 * time.Minute)
	}},
	{"the next primary dies while it opens, of a switchover, and a person decides", IntentOpen, ActStart, func(x *seen) {
		opening(x)
		x.died("db1")
		x.io("Connecting", "db2", "db3")
		x.c.MySQL.Failover = section.Manual
	}},
	{"the primary is read-only, and nobody acknowledges", PrimaryReadOnly, ActNone, func(x *seen) {
		x.c.Record.Ackers = nil
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi = true, SemiSync{} })
		x.edit("db2", func(s *Sight) { s.Facts.Semi.Acker = false })
		x.c.Members[1].Drained = "new disks"
		x.silent("db3")
	}},
	{"the primary takes writes, and nobody acknowledges yet", PrimaryAsync, ActClone, func(x *seen) {
		x.c.Record.Ackers = nil
		x.edit("db1", func(s *Sight) { s.Facts.Semi = SemiSync{} })
		x.edit("db2", func(s *Sight) {
			s.Facts.Semi.Acker, s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = false, nil, "", "", ""
		})
		x.silent("db3")
	}},
	{"the primary is read-only, and marked as one that was replaced", PrimaryReadOnly, ActNone, func(x *seen) {
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		x.c.Record.Fenced = map[string]string{"db1": "a test"}
	}},
	{"the primary died, and is marked as one that was replaced; a person decides", PrimaryDead, ActPage, func(x *seen) {
		x.died("db1")
		x.io("Connecting", "db2", "db3")
		x.c.MySQL.Failover = section.Manual
		x.c.Record.Fenced = map[string]string{"db1": "a test"}
	}},
	{"one member, read-only", PrimaryReadOnly, ActNone, func(x *seen) {
		x.c.Members, x.c.Record.Ackers = x.c.Members[:1], nil
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi = true, SemiSync{} })
	}},
	{"one member, read-only, available", PrimaryReadOnly, ActWritable, func(x *seen) {
		x.c.Members, x.c.Record.Ackers, x.c.MySQL.Durability = x.c.Members[:1], nil, section.Available
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi = true, SemiSync{} })
	}},
	{"silent; the relay log of one that acknowledges was dropped", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.edit("db3", func(s *Sight) { s.Furthest, _ = ParseGTIDs(MariaDB, "0-1-950") })
	}},
	{"two primaries", TwoPrimaries, ActReadOnly, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.ReadOnly = false; s.Facts.Replica = nil }) }},
	{"a replica takes writes", TwoPrimaries, ActReadOnly, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.ReadOnly = false }) }},
	{"errant transactions", ErrantFound, ActNone, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Binlog = "0-1-900,0-3-899" }) }},
	{"the primary is read-only", PrimaryReadOnly, ActWritable, func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true }) }},
	{"the primary follows a replica", PrimaryFollows, ActNone, func(x *seen) {
		x.edit("db1", func(s *Sight) {
			s.Facts.Replica = &Replication{SourceHost: "10.1.0.12", SourcePort: 3306, IO: "Yes", SQL: true, UsesGTID: true}
		})
	}},
	{"replicas have all, and an acknowledgement was lost", PrimaryStuck, ActFailover, func(x *seen) { x.stuck() }},
	{"an acknowledgement was lost, and a person decides", PrimaryStuck, ActPage, func(x *seen) { x.stuck(); x.c.MySQL.Failover = section.Manual }},
	{"an acknowledgement may be on its way", Well, ActNone, func(x *seen) {
		x.stuck()
		x.edit("db3", func(s *Sight) { s.Got = now.Add(-time.Second) })
	}},
	{"one that has not got all may acknowledge it yet", Well, ActNone, func(x *seen) {
		x.stuck()
		x.edit("db3", func(s *Sight) { s.Facts.Received, s.Facts.Current = "0-1-899", "0-1-899" })
	}},
	{"an acknowledgement was lost, and the other replica is away", PrimaryStuck, ActRelease, func(x *seen) { x.stuck(); x.silent("db3") }},
	{"the primary sends nothing to old primaries that take back what they dropped", PrimaryMute, ActAwaken, func(x *seen) {
		x.mute()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		x.c.Record.Ackers, x.c.Record.Starts = nil, nil
		x.c.Record.Fenced = map[string]string{"db2": "it was the primary until epoch 6: a test", "db3": "it was the primary until epoch 7: a test"}
		x.o.Busy = map[string]string{"db2": "rejoin is under way", "db3": "rejoin is under way"}
	}},
	{"the primary sends nothing, and was freed a moment ago", PrimaryMute, ActNone, func(x *seen) {
		x.mute()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		x.o.Rest = map[string]time.Time{"db1": now.Add(time.Second)}
	}},
	{"the primary is read-only, sends nothing, and a write waits", PrimaryMute, ActWritable, func(x *seen) {
		x.mute()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi.Waiting = true, 1 })
	}},
	{"the primary takes writes, and sends nothing to those who acknowledge", PrimaryMute, ActFailover, func(x *seen) { x.mute(); x.stuck() }},
	{"the primary takes writes and sends nothing, and a person decides", PrimaryMute, ActPage, func(x *seen) {
		x.mute()
		x.stuck()
		x.c.MySQL.Failover = section.Manual
	}},
	{"the primary takes writes and sends nothing, and the other replica is away", PrimaryMute, ActRelease, func(x *seen) { x.mute(); x.stuck(); x.silent("db3") }},
	{"the primary takes writes, sends nothing, and nobody waits", Well, ActNone, func(x *seen) { x.mute() }},
	{"replicas have connected to the primary a moment ago", PrimaryReadOnly, ActWritable, func(x *seen) {
		x.mute()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		for _, h := range []string{"db2", "db3"} {
			x.edit(h, func(s *Sight) { s.Moved = now.Add(-time.Second) })
		}
	}},
	{"replicas cannot connect to the primary", PrimaryReadOnly, ActWritable, func(x *seen) {
		x.mute()
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		x.io("Connecting", "db2", "db3")
	}},
	{"the primary was started, and nobody acknowledges yet", PrimaryReadOnly, ActSource, func(x *seen) { x.started() }},
	{"the primary was started, and waits for the first that acknowledges", PrimaryReadOnly, ActResume, func(x *seen) {
		x.started()
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Source = true })
		x.io("No", "db2")
	}},
	{"the primary was started, and somebody acknowledges", PrimaryReadOnly, ActWritable, func(x *seen) {
		x.started()
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Source, s.Facts.Semi.Clients = true, 1 })
	}},
	{"the primary does not wait", PrimaryAsync, ActSource, func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.Semi.Source = false }) }},
	{"the primary is no member", PrimaryGone, ActNone, func(x *seen) { x.c.Others, x.c.Members = x.c.Members[:1], x.c.Members[1:] }},
	{"its disk is full", PrimaryFull, ActNone, func(x *seen) { x.edit("db1", func(s *Sight) { s.DiskFull = "0 of 100 GiB are free" }) }},
	{"its agent is away", PrimaryUnseen, ActNone, func(x *seen) { x.agentGone("db1") }},
	{"its agent is gone for good", PrimaryAlone, ActSwitchover, func(x *seen) { x.agentGoneFor("db1", RestartGrace) }},
	{"its agent is gone, and so is that of the best replica", PrimaryAlone, ActSwitchover, func(x *seen) { x.agentGoneFor("db1", RestartGrace); x.agentGone("db2") }},
	{"its agent is gone, and so are all others", PrimaryAlone, ActPage, func(x *seen) {
		for _, h := range []string{"db1", "db2", "db3"} {
			x.agentGoneFor(h, RestartGrace)
		}
	}},
	{"its agent is gone, and a person decides", PrimaryAlone, ActPage, func(x *seen) {
		x.agentGoneFor("db1", RestartGrace)
		x.c.MySQL.Failover = section.Manual
	}},
	{"its agent is gone, the second within an hour", PrimaryAlone, ActPage, func(x *seen) {
		x.agentGoneFor("db1", RestartGrace)
		x.c.Record.LastFailover = now.Add(-20 * time.Minute)
	}},
	{"its agent is gone, and many others are suspected", PrimaryAlone, ActPage, func(x *seen) {
		x.agentGoneFor("db1", RestartGrace)
		x.o.Mass = true
	}},
	{"its agent is gone, and that was tried a moment ago", PrimaryAlone, ActNone, func(x *seen) {
		x.agentGoneFor("db1", RestartGrace)
		x.o.Rest = map[string]time.Time{restSwitchover: now.Add(time.Second)}
	}},
	{"this node is on a host that the primary is kept from hearing", PrimarySuspect, ActUnshut, func(x *seen) {
		x.silent("db1")
		x.edit("db1", func(s *Sight) { s.Pings, s.Since = 1, now.Add(-time.Minute) })
		x.c.Record.Ackers, x.c.Record.Shut = []string{"db3"}, []string{"db2"}
		x.io("Connecting", "db2")
	}},
	{"the record was lost, and an older one is back", RecordBehind, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) { s.Epoch, s.Facts.ReadOnly, s.Facts.Replica = 9, false, nil })
	}},
	{"the address is away", AddressAway, ActAddress, func(x *seen) { x.edit("db1", func(s *Sight) { s.VIP = "" }) }},
	{"the primary waits for ten seconds only", PrimaryAsync, ActSource, func(x *seen) {
		x.edit("db1", func(s *Sight) {
			s.Facts.Settings = map[string]string{"log_bin": "ON", "rpl_semi_sync_master_timeout": "10000", "rpl_semi_sync_master_wait_no_slave": "ON"}
		})
	}},
	{"silent; it did not wait for acknowledgements", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Active = false })
	}},
	{"wrong accounts at a replica", WrongAccount, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) { s.Cause, s.Error = CauseDenied, "server refuses the account: 1045" })
	}},
	{"a replica is too old", WrongFlavour, ActNone, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Version = "10.3.39-MariaDB" }) }},
	{"a replica is of another flavour", WrongFlavour, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Version, s.Facts.Flavour, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = "8.0.36", MySQL8, "", "", ""
		})
	}},
	{"a replica has no binary log", BinlogOff, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) { s.Facts.Settings = map[string]string{"log_bin": "OFF"} })
	}},
	{"a replica without GTID", NoGTID, ActNone, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Replica.UsesGTID = false }) }},
	{"a new server has the number of the primary", WrongFlavour, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) {
			s.Facts.ServerID, s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = 1, nil, "0-1-5", "0-1-5", ""
		})
	}},
	{"a member has the address of the primary", NoPlace, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.c.Members[2].Addr = x.c.Members[0].Addr
		x.o.Servers["db3"] = x.o.Servers["db1"]
		x.c.distinct()
	}},
	{"a member without address", NoPlace, ActNone, func(x *seen) { x.c.Members[2].Unfit = "it has no Network/IP" }},
	{"a replica is broken", ReplicaBroken, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica.SQL, s.Facts.Replica.SQLErrno, s.Facts.Replica.SQLError = false, 1062, "Duplicate entry '7' for key 'PRIMARY'"
		})
	}},
	{"a replica cannot follow, and acknowledges", ReplicaLost, ActDismiss, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "No", 1236, "could not find next log"
		})
	}},
	{"a replica cannot follow, and acknowledges, and the other has not got all", ReplicaLost, ActNone, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "No", 1236, "could not find next log"
		})
		x.edit("db3", func(s *Sight) { s.Facts.Received, s.Facts.Current, s.Facts.Binlog = "0-1-890", "0-1-890", "0-1-890" })
	}},
	{"the only one that acknowledges cannot follow", ReplicaLost, ActDismiss, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "No", 1236, "could not find next log"
		})
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false })
	}},
	{"a replica cannot follow", ReplicaLost, ActClone, func(x *seen) {
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "No", 1236, "could not find next log"
		})
		x.c.Record.Ackers = []string{"db3"}
		x.edit("db2", func(s *Sight) { s.Facts.Semi.Acker = false })
	}},
	{"a replica died", ReplicaDown, ActStart, func(x *seen) { x.died("db2") }},
	{"both replicas died", ReplicaDown, ActStart, func(x *seen) { x.died("db2"); x.died("db3") }},
	{"a replica follows another", ReplicaAstray, ActFollow, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Replica.SourceHost = "10.1.0.13" }) }},
	{"a replica is stopped", ReplicaStopped, ActResume, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Replica.SQL = false }) }},
	{"a replica does not get through", ReplicaStopped, ActResume, func(x *seen) {
		x.io("Connecting", "db2")
		x.edit("db2", func(s *Sight) { s.IORan = now.Add(-5 * time.Second) })
	}},
	{"a new member", ReplicaNew, ActClone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = nil, "", "", "" })
	}},
	{"a new member with data of its own", ErrantFound, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) {
			s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = nil, "0-9-5", "0-9-5", ""
		})
	}},
	{"a copy that nobody has compared", CopyUnverified, ActVerify, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Copy, s.Facts.Semi.Acker = "db2", false })
	}},
	{"a copy that nobody has compared, and that is shut out at the primary", CopyUnverified, ActUnshut, func(x *seen) {
		x.c.Record.Shut = []string{"db3"}
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Copy, s.Facts.Semi.Acker = "db2", false })
	}},
	{"a copy that nobody has compared, and that follows nobody yet", CopyUnverified, ActVerify, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Copy, s.Facts.Replica, s.Facts.Binlog, s.Facts.Received = "db2", nil, "", "" })
	}},
	{"a copy that nobody has compared, and that acknowledges", CopyUnverified, ActDismiss, func(x *seen) { x.edit("db3", func(s *Sight) { s.Copy = "db2" }) }},
	{"a copy that nobody has compared, and its agent is away", CopyUnverified, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Copy, s.Facts.Semi.Acker, s.Agent = "db2", false, false })
	}},
	{"a copy that cannot follow", ReplicaLost, ActClone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) {
			s.Copy, s.Facts.Semi.Acker = "db2", false
			s.Facts.Replica.IO, s.Facts.Replica.IOErrno, s.Facts.Replica.IOError = "No", 1236, "could not find next log"
		})
	}},
	{"a copy differs", CopyDiffers, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) {
			s.Copy, s.Differs, s.Facts.Semi.Acker = "db2", "shop.ledger is 7:1:2 at db2 (0-1-900), and 7:1:3 at db3 (0-1-900)", false
			s.Facts.Replica.IO, s.Facts.Replica.SQL = "No", false
		})
	}},
	{"silent, and the only one that could take over is a copy that nobody has compared", PrimarySilent, ActPage, func(x *seen) {
		x.silent("db1")
		x.frozen("db2", "db3")
		x.silent("db2")
		x.c.Record.Ackers = []string{"db3"}
		x.edit("db3", func(s *Sight) { s.Copy = "db2" })
	}},
	{"a new member, and a copy is made of the only replica", ReplicaNew, ActNone, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.o.Lends = map[string]string{"db2": "db4"}
		x.edit("db3", func(s *Sight) { s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = nil, "", "", "" })
	}},
	{"a new member, and the only replica is a copy that differs", ReplicaNew, ActClone, func(x *seen) {
		x.c.Record.Ackers = nil
		x.c.MySQL.Durability = section.Available
		x.edit("db2", func(s *Sight) { s.Copy, s.Differs, s.Facts.Semi.Acker = "db1", "shop.ledger", false })
		x.edit("db3", func(s *Sight) { s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = nil, "", "", "" })
	}},
	{"all connections of the primary wait, and its replicas get none", PrimaryChoked, ActFailover, func(x *seen) {
		x.choked()
	}},
	{"the same, and its replicas were started anew, so that none may take over", PrimaryChoked, ActRelease, func(x *seen) {
		x.choked()
		for _, host := range []string{"db2", "db3"} {
			x.edit(host, func(s *Sight) { s.Facts.Uptime = time.Minute })
		}
	}},
	{"the same, and nobody counts", PrimaryChoked, ActRelease, func(x *seen) {
		x.choked()
		x.c.Record.Ackers = nil
	}},
	{"the same, and a person decides", PrimaryChoked, ActPage, func(x *seen) {
		x.c.MySQL.Failover = section.Manual
		x.choked()
	}},
	{"the primary starts with nothing", PrimaryLost, ActFailover, func(x *seen) {
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Binlog, s.Facts.Current, s.Asked = true, "", "", now })
	}},
	{"the primary starts with nothing, and a person decides", PrimaryLost, ActPage, func(x *seen) {
		x.c.MySQL.Failover = section.Manual
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Binlog, s.Facts.Current, s.Asked = true, "", "", now })
	}},
	{"the primary starts with nothing, and was asked before the last three answers of its replicas came", PrimaryLost, ActFailover, func(x *seen) {
		x.edit("db1", func(s *Sight) {
			s.Facts.ReadOnly, s.Facts.Binlog, s.Facts.Current, s.Asked, s.Answered = true, "", "", now.Add(-800*time.Millisecond), now.Add(-20*time.Millisecond)
		})
		for _, host := range []string{"db2", "db3"} {
			x.edit(host, func(s *Sight) {
				for _, ago := range []time.Duration{1000, 700, 400, 100} {
					at := now.Add(-ago * time.Millisecond)
					*s = s.see(at.Add(-time.Millisecond), at, s.Facts, nil)
				}
			})
		}
	}},
	{"the primary starts with nothing, and takes writes", PrimaryLost, ActReadOnly, func(x *seen) {
		x.edit("db1", func(s *Sight) { s.Facts.Binlog, s.Facts.Current, s.Asked = "0-1-3", "0-1-3", now })
	}},
	{"the primary was set back, and nobody else is there", PrimaryLost, ActPage, func(x *seen) {
		x.c.Record.Position = "0-1-2000"
		x.o.Servers["db2"], x.o.Servers["db3"] = Sight{}, Sight{}
		x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
	}},
	{"the only one that acknowledged has lost its data, and is counted no more", ReplicaNew, ActRelease, func(x *seen) {
		x.c.Record.Ackers, x.c.Members = nil, x.c.Members[:2]
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting = 0, 8 })
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received, s.Facts.Semi.Acker = nil, "", "", "", false
		})
	}},
	{"the only one that acknowledges is away, writes wait for it, and a new member is there", ReplicaDown, ActRelease, func(x *seen) {
		x.forsaken()
	}},
	{"the same, and it was there a moment ago", ReplicaDown, ActNone, func(x *seen) {
		x.forsaken()
		x.edit("db2", func(s *Sight) { s.IORan = now.Add(-9 * time.Second) })
	}},
	{"the same, and its agent is there", ReplicaDown, ActNone, func(x *seen) {
		x.forsaken()
		x.edit("db2", func(s *Sight) { s.Agent = true })
	}},
	{"the same, and its agent says that it has ended", ReplicaDown, ActRelease, func(x *seen) {
		x.forsaken()
		x.died("db2")
		x.o.Rest = map[string]time.Time{"db2": now.Add(time.Minute)} // it does not start
	}},
	{"the same, and it answers, and does not get through to the primary", ReplicaStopped, ActResume, func(x *seen) {
		x.forsaken()
		x.edit("db2", func(s *Sight) {
			s.Agent, s.Cause, s.Answered = true, "", now.Add(-50*time.Millisecond)
			s.Facts.Replica.IO = "Connecting"
		})
	}},
	{"the same, and something was written a moment ago", ReplicaDown, ActClone, func(x *seen) {
		x.forsaken()
		x.edit("db1", func(s *Sight) { s.Wrote = now.Add(-2 * time.Second) })
	}},
	{"the same, and more are connected that acknowledge", ReplicaDown, ActNone, func(x *seen) {
		x.forsaken()
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 2 })
	}},
	{"the same, and the one that is away was deleted", ReplicaNew, ActNone, func(x *seen) {
		x.forsaken()
		x.c.Members, x.c.Others = []Member{x.c.Members[0], x.c.Members[2]}, []Member{{Host: "db2", Unfit: notInHostDB}}
	}},
	{"the only one that acknowledged has lost its data, is counted no more, and a person decides", ReplicaNew, ActNone, func(x *seen) {
		x.c.MySQL.Failover = section.Manual
		x.c.Record.Ackers, x.c.Members = nil, x.c.Members[:2]
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients, s.Facts.Semi.Waiting = 0, 8 })
		x.edit("db2", func(s *Sight) {
			s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received, s.Facts.Semi.Acker = nil, "", "", "", false
		})
	}},
	{"an old primary is back", OldPrimary, ActRejoin, func(x *seen) {
		x.c.Record.Ackers, x.c.Record.Fenced = []string{"db2"}, map[string]string{"db3": "it was the primary until epoch 7: it is dead"}
		x.died("db3")
	}},
	{"an old primary follows", OldPrimary, ActAdmit, func(x *seen) {
		x.c.Record.Ackers, x.c.Record.Fenced = []string{"db2"}, map[string]string{"db3": "it was the primary until epoch 7: it is dead"}
	}},
	{"an old primary follows, and has not taken back all that it had dropped", OldPrimary, ActRejoin, func(x *seen) {
		x.c.Record.Ackers, x.c.Record.Fenced = []string{"db2"}, map[string]string{"db3": "it was the primary until epoch 7: it is dead"}
		x.edit("db1", func(s *Sight) { s.Facts.Binlog = "0-1-900,0-3-890" })
		x.edit("db3", func(s *Sight) { s.Facts.Current, s.Facts.Binlog = "0-3-880", "0-3-880" })
	}},
	{"an old primary lost the tag before it rejoined", OldPrimaryLeft, ActNone, func(x *seen) {
		x.c.Record.Ackers, x.c.Record.Fenced = []string{"db2"}, map[string]string{"db3": "it was the primary until epoch 7: it is dead"}
		x.c.Others, x.c.Members = x.c.Members[2:], x.c.Members[:2]
		x.edit("db3", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Semi.Acker = false, false })
	}},
	{"an old primary was deleted before it rejoined", OldPrimaryLeft, ActForget, func(x *seen) {
		x.c.Record.Ackers, x.c.Record.Fenced = []string{"db2"}, map[string]string{"db3": "it was the primary until epoch 7: it is dead"}
		x.c.Others, x.c.Members = []Member{{Host: "db3", Unfit: notInHostDB}}, x.c.Members[:2]
		delete(x.o.Servers, "db3")
	}},
	{"one that acknowledges was started anew", AckerRestarted, ActProve, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Uptime = time.Minute }) }},
	{"one that acknowledges is away", ReplicaDown, ActShut, func(x *seen) {
		x.silent("db2")
		x.edit("db2", func(s *Sight) { s.IORan = now.Add(-time.Minute) })
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 1 })
	}},
	{"both that acknowledge are away", ReplicaDown, ActNone, func(x *seen) {
		for _, h := range []string{"db2", "db3"} {
			x.silent(h)
			x.edit(h, func(s *Sight) { s.IORan = now.Add(-time.Minute) })
		}
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 0 })
	}},
	{"a former member acknowledges", AckerLeaving, ActDismiss, func(x *seen) { x.c.Others, x.c.Members = x.c.Members[2:], x.c.Members[:2] }},
	{"one acknowledges that is not counted", AckerStray, ActCount, func(x *seen) { x.c.Record.Ackers = []string{"db2"} }},
	{"one that acknowledges was never seen", ReplicaDown, ActShut, func(x *seen) {
		x.o.Servers["db2"] = Sight{First: now.Add(-time.Minute), Cause: CauseUnreachable, Error: "server does not answer: i/o timeout", Since: now.Add(-time.Minute)}
		x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 1 })
	}},
	{"a replica is to acknowledge", AckerDue, ActAcker, func(x *seen) {
		x.c.Record.Ackers = []string{"db2"}
		x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false })
	}},
	{"a replica does not acknowledge", AckerSilent, ActSpeak, func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Semi.Acker = false }) }},
	{"one member", OneMember, ActNone, func(x *seen) { x.c.Members = x.c.Members[:1]; x.c.Record.Ackers = nil }},
	{"one member, dead", PrimarySuspect, ActProbe, func(x *seen) { x.c.Members = x.c.Members[:1]; x.c.Record.Ackers = nil; x.died("db1") }},
	{"a replica lags", ReplicaLagging, ActNone, func(x *seen) {
		lag := time.Minute
		x.edit("db2", func(s *Sight) { s.Facts.Replica.Lag = &lag })
	}},
	{"paused", IsPaused, ActNone, func(x *seen) { x.c.Record.Paused = &Paused{By: "somebody", Since: now, Why: "works on it"} }},
	{"Durability was changed", Well, ActAgree, func(x *seen) { x.c.MySQL.Durability = section.Available }},
}

// opening is a switchover whose next primary, db1, is silent before it took writes.
func opening(x *seen) {
	x.c.Record.Intent = &Intent{Kind: Switchover, Step: StepOpen, Old: "db2", To: "db1", By: "somebody", Why: "it was asked for"}
	x.silent("db1")
	x.frozen("db2", "db3")
}

func TestDiagnoses(t *testing.T) {
	var b strings.Builder
	found := map[Name]bool{}
	for _, c := range cases {
		x := healthySeen()
		c.see(x)
		list := Diagnose(&x.c, &x.o)
		a := Next(&x.c, &x.o, list)
		if list[0].Name != c.want || a.Act != c.act {
			t.Errorf("%s: %q, then %s; want %q, then %s", c.title, list[0].Name, a.Act, c.want, c.act)
		}
		fmt.Fprintf(&b, "# %s\n", c.title)
		for _, d := range list {
			found[d.Name] = true
			fmt.Fprintf(&b, "%s: %s\n", d.Name, d.Text)
			for _, e := range d.Evidence {
				fmt.Fprintf(&b, "    %s\n", e)
			}
			if d.Remedy != "" {
				fmt.Fprintf(&b, "    -> %s\n", d.Remedy)
			}
		}
		fmt.Fprintf(&b, "=> %s\n\n", strings.TrimSpace(fmt.Sprintf("%s %s %s %s: %s", a.Act, a.Host, a.From, a.As, a.Why)))
	}
	for _, n := range Names() {
		if !found[n] {
			t.Errorf("no case has %q", n)
		}
	}
	golden(t, "diagnoses.txt", b.String())
}

// Faults of replicas alone never replace a primary that answers, whatever else is seen.
func TestOnlyAPrimaryThatIsGoneIsReplaced(t *testing.T) {
	for _, c := range cases {
		x := healthySeen()
		c.see(x)
		if a := Next(&x.c, &x.o, Diagnose(&x.c, &x.o)); a.Act == ActFailover && !slices.Contains([]Name{PrimaryStuck, PrimaryMute, PrimaryChoked, PrimaryLost}, c.want) && x.o.Servers[x.c.Record.Primary].answers(now) && x.o.Servers[x.c.Record.Primary].Pings < deadPings && !x.o.Servers[x.c.Record.Primary].down() {
			t.Errorf("%s: the primary answers, and is replaced", c.title)
		}
	}
}

func TestExplains(t *testing.T) {
	x := healthySeen()
	x.silent("db1")
	x.frozen("db2")
	x.silent("db3")
	list := Diagnose(&x.c, &x.o)
	p := &Picture{At: now, Cluster: x.c, Observations: x.o, Diagnoses: list, Action: Next(&x.c, &x.o, list)}
	p.Story = []Line{{At: now.Add(-time.Minute), Diagnosis: Diagnosis{Name: Well}, Action: Action{Act: ActNone}}, {At: now, Diagnosis: list[0], Action: p.Action, Error: "no quorum"}}
	golden(t, "explain.txt", strings.Join(Explain(p), "\n")+"\n")
}

func TestChecks(t *testing.T) {
	good := map[string]string{
		"log_bin": "ON", "server_id": "1", "binlog_format": "ROW", "log_slave_updates": "ON", "sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1",
		"rpl_semi_sync_master_wait_point": "AFTER_SYNC", "rpl_semi_sync_master_timeout": "18446744073709551615", "rpl_semi_sync_master_wait_no_slave": "ON",
		"slave_net_timeout": "60", "sync_relay_log": "10000", "max_connections": "151", "skip_name_resolve": "ON", "gtid_strict_mode": "ON", "read_only": "OFF",
		"rpl_semi_sync_master_enabled": "ON", "rpl_semi_sync_slave_enabled": "OFF",
	}
	f := Facts{Flavour: MariaDB, Version: "10.11.19-MariaDB", Settings: good}
	if list := Check(f, OnPrimary, true); len(list) > 0 {
		t.Errorf("a good primary: %+v", list)
	}
	var b strings.Builder
	for _, flavour := range []string{MariaDB, MySQL8} {
		bad := map[string]string{}
		for _, name := range SettingNames(flavour) {
			bad[name] = "wrong"
		}
		bad["server_id"], bad["sync_relay_log"] = "0", "1"
		for _, role := range []Duty{OnPrimary, OnReplica} {
			fmt.Fprintf(&b, "# %s, %s\n", flavour, map[Duty]string{OnPrimary: "primary", OnReplica: "replica"}[role])
			for _, s := range Check(Facts{Flavour: flavour, Settings: bad, Replica: &Replication{HeartbeatPeriod: 30 * time.Second, Delay: time.Hour}}, role, role == OnPrimary) {
				fmt.Fprintf(&b, "%s %s = %s, is %s%s: %s\n", s.Severity, s.Name, s.Want, s.Have, map[bool]string{true: " (restart)"}[s.Restart], s.Why)
			}
		}
	}
	golden(t, "checks.txt", b.String())
}
