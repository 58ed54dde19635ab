package mysqlha

import (
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

// TestWhoCanBeDoneWithout: db2 acknowledges; whether it can be counted no more, and whether others have all.
func TestWhoCanBeDoneWithout(t *testing.T) {
	for _, c := range []struct {
		title         string
		others, spare bool
		see           func(x *seen)
	}{
		{"another has all", true, true, func(x *seen) {}},
		{"another has not got all", false, false, func(x *seen) { behindBy(x, "db3") }},
		{"another does not answer", false, false, func(x *seen) { x.silent("db3") }},
		{"another is not set to acknowledge", false, false, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false }) }},
		{"another follows somebody else", false, false, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Replica.SourceHost = "10.1.0.99" }) }},
		{"another does not receive", false, false, func(x *seen) { x.io("Connecting", "db3") }},
		{"another does not apply", false, false, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Replica.SQL = false }) }},
		{"another was started anew", false, false, func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Uptime = time.Minute }) }},
		{"another is not counted", false, false, func(x *seen) { x.c.Record.Ackers = []string{"db1", "db2"} }},
		{"the primary has one more connected than are counted", false, false, func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.Semi.Clients = 3 }) }},
		{"the primary does not answer", false, false, func(x *seen) { x.silent("db1") }},
		{"it is the only one: without it there is no failover", false, true, func(x *seen) { x.c.Record.Ackers = []string{"db2"} }},
		{"it is not counted, another alone is", true, true, func(x *seen) { x.c.Record.Ackers = []string{"db3"} }},
		{"it is not counted, another alone is, and has not got all", false, false, func(x *seen) { x.c.Record.Ackers = []string{"db3"}; behindBy(x, "db3") }},
		{"available", false, true, func(x *seen) { x.silent("db3"); x.c.MySQL.Durability = section.Available }},
	} {
		x := healthySeen()
		c.see(x)
		if got := others(&x.c, &x.o, "db2"); got != c.others {
			t.Errorf("%s: others have all: %v, want %v", c.title, got, c.others)
		}
		if got := spare(&x.c, &x.o, "db2"); got != c.spare {
			t.Errorf("%s: it can be done without: %v, want %v", c.title, got, c.spare)
		}
	}
}

// TestHopeless: whether one of db2 and db3 can be promoted, now or later.
func TestHopeless(t *testing.T) {
	for _, c := range []struct {
		title, want string
		see         func(x *seen)
	}{
		{"both answer", "", func(x *seen) {}},
		{"one is old, one does not answer, and its agent does", "", func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Version = "10.3.1-MariaDB" }); x.silent("db3") }},
		{"one is old, one is being started", "", func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Facts.Version = "10.3.1-MariaDB" })
			x.silent("db3")
			x.agentGone("db3")
			x.o.Busy = map[string]string{"db3": "start is under way"}
		}},
		{"one has not rejoined, one is away", "db2: it was the primary, and has not rejoined; db3: neither its server nor its agent answers", func(x *seen) {
			x.c.Record.Fenced = map[string]string{"db2": "a test"}
			x.silent("db2")
			x.silent("db3")
			x.agentGone("db3")
		}},
		{"one is empty, one has what the primary never had", "db2: it has no data, and follows nobody; db3: it has transactions that the old primary never had: 0-3-901", func(x *seen) {
			empty(x, "db2")
			x.edit("db3", func(s *Sight) { s.Facts.Current, s.Facts.Binlog = "0-3-901", "0-1-900,0-3-901" })
		}},
		{"nobody else", "there is no other member", func(x *seen) { x.c.Members = x.c.Members[:1] }},
	} {
		x := healthySeen()
		c.see(x)
		if got := hopeless(&x.c, &x.o, "db1"); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
}

// empty makes a server one that was just installed.
func empty(x *seen, host string) {
	x.edit(host, func(s *Sight) {
		s.Facts.Replica, s.Facts.Current, s.Facts.Received, s.Facts.Binlog, s.Facts.Semi.Acker = nil, "", "", "", false
	})
}

// TestUnstarted: a failover that was forced starts a replica when none runs that could be promoted.
func TestUnstarted(t *testing.T) {
	for _, c := range []struct {
		title, want string
		see         func(x *seen)
	}{
		{"nobody runs", "db2", func(x *seen) { x.died("db2"); x.died("db3") }},
		{"one runs", "", func(x *seen) { x.died("db2") }},
		{"one is being started", "", func(x *seen) { x.died("db2"); x.died("db3"); x.o.Busy = map[string]string{"db3": "start is under way"} }},
		{"one rests", "db3", func(x *seen) {
			x.died("db2")
			x.died("db3")
			x.o.Rest = map[string]time.Time{"db2": x.o.Now.Add(time.Second)}
		}},
		{"one runs, and has not rejoined", "db2", func(x *seen) { x.died("db2"); x.c.Record.Fenced = map[string]string{"db3": "a test"} }},
		{"one runs, and is empty", "db2", func(x *seen) { x.died("db2"); empty(x, "db3") }},
		{"nobody has forced it", "", func(x *seen) { x.died("db2"); x.died("db3"); x.c.Record.Intent.Forced = false }},
		{"it goes on", "", func(x *seen) { x.died("db2"); x.died("db3"); x.c.Record.Intent.Stopped = "" }},
	} {
		x := healthySeen()
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepChoose, Old: "db1", Forced: true, Stopped: "no replica can be promoted"}
		x.died("db1")
		c.see(x)
		if got := unstarted(&x.c, &x.o); got != c.want {
			t.Errorf("%s: %q is started, want %q", c.title, got, c.want)
		}
	}
}

// TestAges: an answer says how a server is for a second, and that it ended counts until it is heard of again.
func TestAges(t *testing.T) {
	s := Sight{Known: true, Agent: true, Reported: true, Process: ProcessDied, Answered: now.Add(-900 * time.Millisecond), ProcessSeen: now.Add(-950 * time.Millisecond)}
	if !s.answers(now) || s.answers(now.Add(time.Second)) {
		t.Error("an answer counts for a second")
	}
	if s.down() {
		t.Error("it answered after its agent had said that it ended")
	}
	if s.ProcessSeen = now; !s.down() {
		t.Error("its agent says that it ended, and nothing says otherwise since")
	}
	// A read of the record that is older than the order to take the address says nothing.
	if why := deposed(Record{Epoch: 1, Primary: "b"}, "a", 2); why != "" {
		t.Errorf("an older record ends a tenure: %s", why)
	}
	if why := deposed(Record{Epoch: 2, Primary: "b"}, "a", 2); why == "" {
		t.Error("a record that names another does not end a tenure")
	}
}

// TestWhatIsMissing: what a server lacks of a position, and what of its own it has forgotten.
func TestWhatIsMissing(t *testing.T) {
	gtids := func(s string) GTIDs {
		g, err := ParseGTIDs(MariaDB, s)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, c := range []struct{ received, current, binlog, position, want string }{
		{"0-1-900", "0-1-900", "0-1-900", "0-1-900", ""},
		{"0-1-890", "0-1-890", "0-1-890", "0-1-900", "0-1-900"},
		{"0-2-905", "0-2-905", "0-2-905", "0-1-900", ""},                // received from one that went on after it
		{"0-1-890", "0-2-905", "0-1-890,0-2-905", "0-1-900", "0-1-900"}, // its own numbers say nothing
		{"", "0-1-900", "", "0-1-880", ""},                              // a copy
	} {
		f := Facts{Flavour: MariaDB, Received: c.received, Current: c.current, Binlog: c.binlog}
		if got := lacks(f, gtids(c.position), false).String(); got != c.want {
			t.Errorf("%+v: it lacks %q", c, got)
		}
	}
	for _, c := range []struct{ current, source, want string }{
		{"0-1-10", "0-1-12,0-3-11", "0-3-11"}, {"0-3-11", "0-1-12,0-3-11", ""}, {"0-1-12", "0-1-12,0-3-11", ""}, {"0-1-10", "0-1-12", ""},
	} {
		got, err := Forgotten(Facts{Flavour: MariaDB, ServerID: 3, Current: c.current}, Facts{Flavour: MariaDB, ServerID: 1, Binlog: c.source})
		if err != nil || got.String() != c.want {
			t.Errorf("%+v: it has forgotten %q, %v", c, got, err)
		}
	}
}

// TestWhoIsShutOutIsNoStray: it is set to acknowledge, and nobody hears it.
func TestWhoIsShutOutIsNoStray(t *testing.T) {
	x := healthySeen()
	x.c.Record.Ackers = []string{"db2"}
	if !x.c.stray(x.o.Servers["db3"], "db3", "db1") || x.c.stray(x.o.Servers["db2"], "db2", "db1") {
		t.Error("db3 acknowledges and is not counted, db2 is")
	}
	if x.c.Record.Shut = []string{"db3"}; !x.c.stray(x.o.Servers["db3"], "db3", "db1") {
		t.Error("db3 is shut out, and receives all the same")
	}
	if x.io("Connecting", "db3"); x.c.stray(x.o.Servers["db3"], "db3", "db1") {
		t.Error("db3 is shut out")
	}
}

func behindBy(x *seen, host string) {
	x.edit(host, func(s *Sight) { s.Facts.Received, s.Facts.Current, s.Facts.Binlog = "0-1-890", "0-1-890", "0-1-890" })
}

// TestWhatAReplicaHadReceivedIsRemembered: of one source; another is another history to be had.
func TestWhatAReplicaHadReceivedIsRemembered(t *testing.T) {
	x := healthySeen()
	f := x.o.Servers["db2"].Facts
	at := func(position, source string) Facts {
		g := f
		r := *f.Replica
		r.SourceHost = source
		g.Received, g.Current, g.Replica = position, "0-1-800", &r
		return g
	}
	var s Sight
	for _, c := range []struct {
		f     Facts
		want  string // of Furthest
		whole bool
	}{
		{at("0-1-900", "10.1.0.11"), "0-1-900", true},
		{at("0-1-850", "10.1.0.11"), "0-1-900", false},
		{at("0-1-850", "10.1.0.11"), "0-1-900", false},
		{at("0-1-901", "10.1.0.11"), "0-1-901", true},
		{at("0-1-850", "10.1.0.12"), "0-1-850", true},
		{Facts{Flavour: MariaDB, Current: "0-1-700"}, "", true},
		{at("0-1-750", "10.1.0.12"), "0-1-800", true},
	} {
		s = s.see(now, now, c.f, nil)
		has, err := PositionOf(s.Facts)
		if err != nil || s.Furthest.String() != c.want || has.Reaches(s.Furthest) != c.whole {
			t.Errorf("after %q from %v: furthest %s, %v; want %s", c.f.Received, c.f.Replica, s.Furthest, err, c.want)
		}
	}
}
