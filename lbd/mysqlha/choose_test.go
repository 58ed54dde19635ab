package mysqlha

import (
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb/section"
)

func TestChooses(t *testing.T) {
	at := func(x *seen, host, position string) {
		x.edit(host, func(s *Sight) {
			s.Facts.Received, s.Facts.Current, s.Facts.Binlog = position, position, position
			s.Facts.Replica.IO = "No"
		})
	}
	for _, c := range []struct {
		title      string
		see        func(x *seen)
		to         string
		stop, loss string // parts of them
	}{
		{"both have the same: the first by name", func(x *seen) {}, "db2", "", ""},
		{"the furthest", func(x *seen) { at(x, "db3", "0-1-901") }, "db3", "", ""},
		{"the furthest, though it is drained", func(x *seen) { at(x, "db3", "0-1-901"); x.c.Members[2].Drained = "works on it" }, "db3", "", ""},
		{"the one that is not drained", func(x *seen) { x.c.Members[1].Drained = "works on it" }, "db3", "", ""},
		{"the one that has applied what it has", func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Current = "0-1-890" }) }, "db3", "", ""},
		{"the one that has room on its disk", func(x *seen) { x.edit("db2", func(s *Sight) { s.DiskFull = "1 MB are left" }) }, "db3", "", ""},
		{"the one that does not lag on purpose", func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Replica.Delay = time.Hour }) }, "db3", "", ""},
		{"the one that was not tried in vain", func(x *seen) { x.o.Rest = map[string]time.Time{"db2": x.o.Now.Add(time.Second)} }, "db3", "", ""},
		{"the one that has room on its disk, though it is drained", func(x *seen) {
			x.edit("db2", func(s *Sight) { s.DiskFull = "1 MB are left" })
			x.c.Members[2].Drained = "works on it"
		}, "db3", "", ""},
		{"the one that has what was acknowledged, though its disk is full", func(x *seen) {
			at(x, "db3", "0-1-901")
			x.edit("db3", func(s *Sight) { s.DiskFull = "1 MB are left" })
		}, "db3", "", ""},
		{"the one that has room on its disk, though the other has what was not acknowledged", func(x *seen) {
			at(x, "db3", "0-1-901")
			x.edit("db3", func(s *Sight) { s.DiskFull, s.Facts.Semi.Acker = "1 MB are left", false })
			x.c.Record.Ackers = []string{"db2"}
		}, "db2", "", ""},
		{"the one that has more where the old one did not wait, though its disk is full", func(x *seen) {
			at(x, "db3", "0-1-901")
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Active = false })
			x.edit("db3", func(s *Sight) { s.DiskFull, s.Facts.Semi.Acker = "1 MB are left", false })
			x.c.Record.Ackers, x.c.MySQL.Durability = []string{"db2"}, section.Available
		}, "db3", "", "db1 did not wait for acknowledgements"},
		{"the one that has more where nobody is known to have all, though its disk is full", func(x *seen) {
			at(x, "db3", "0-1-901")
			x.edit("db3", func(s *Sight) { s.DiskFull, s.Facts.Semi.Acker = "1 MB are left", false })
			x.edit("db2", func(s *Sight) { s.Facts.Semi.Acker = false })
			x.c.Record.Ackers, x.c.MySQL.Durability = nil, section.Available
		}, "db3", "", "no replica was known to have all"},
		{"the one whose agent is there", func(x *seen) { x.edit("db2", func(s *Sight) { s.Agent = false }) }, "db3", "", ""},
		{"the furthest, though its agent is gone", func(x *seen) { at(x, "db3", "0-1-901"); x.edit("db3", func(s *Sight) { s.Agent = false }) }, "db3", "", ""},
		{"one is away", func(x *seen) { x.silent("db3") }, "", "db3 does not answer", ""},
		{"one is away, available", func(x *seen) { x.silent("db3"); x.c.MySQL.Durability = section.Available }, "db2", "", "db3 does not answer"},
		{"one is away, one was just installed, forced", func(x *seen) { x.silent("db3"); empty(x, "db2"); x.c.Record.Intent.Forced = true }, "", "db2: it has no data, and follows nobody", ""},
		{"one is away, forced", func(x *seen) { x.silent("db3"); x.c.Record.Intent.Forced = true }, "db2", "", "db3 does not answer"},
		{"one was started anew", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Uptime = time.Second }) }, "", "db3 was started anew", ""},
		{"one was started anew within the same seconds", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker = false }) }, "", "db3 was started anew", ""},
		{"the clock of who looks is another", func(x *seen) {
			x.o.Wall = x.o.Wall.Add(time.Hour)
			for _, h := range []string{"db2", "db3"} {
				x.edit(h, func(s *Sight) { s.Facts.Began = start })
			}
		}, "db2", "", ""},
		{"one was started anew, as it says itself", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Began = start.Add(time.Minute) }) }, "", "db3 was started anew", ""},
		{"the relay log of one was dropped", func(x *seen) {
			x.edit("db3", func(s *Sight) { s.Furthest, _ = ParseGTIDs(MariaDB, "0-1-950") })
		}, "", "db3 had received 0-1-950, and has 0-1-900", ""},
		{"one follows another by now", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Replica.SourceHost = "10.1.0.12" }) }, "", "db3 follows 10.1.0.12, and not db1", ""},
		{"one follows nobody by now", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.Replica = nil }) }, "", "db3 follows nobody any more", ""},
		{"the gate was passed before, and the one that was chosen is gone", func(x *seen) {
			x.c.Record.Intent.Position = "0-1-900"
			x.silent("db2")
			x.edit("db3", func(s *Sight) { s.Facts.Replica.SourceHost = "10.1.0.12" })
		}, "db3", "", ""},
		{"the same, and it has not got what it must", func(x *seen) {
			x.c.Record.Intent.Position = "0-1-901"
			x.silent("db2")
		}, "", "has not got 0-1-901", ""},
		{"the same, available", func(x *seen) {
			x.c.Record.Intent.Position, x.c.Record.Intent.Loss, x.c.MySQL.Durability = "0-1-901", "db9 did not answer", section.Available
			x.silent("db2")
		}, "db3", "", "db9 did not answer; db3, the furthest that can be promoted, has 0-1-900, and has not got 0-1-901"},
		{"the same, and one is not cut", func(x *seen) {
			x.c.Record.Intent.Position, x.c.Record.Intent.Cut = "0-1-900", []string{"db2"}
		}, "", "db3 could not be cut from db1", ""},
		{"the gate was passed before, by a position that cannot be read", func(x *seen) { x.c.Record.Intent.Position = "nonsense" }, "", "not a list of GTIDs", ""},
		{"one had been promoted already", func(x *seen) {
			x.edit("db3", func(s *Sight) { s.Facts.Semi.Acker, s.Facts.Semi.Source, s.Facts.Replica = false, true, nil })
		}, "db2", "", ""},
		{"one is a copy that nobody has compared", func(x *seen) { at(x, "db3", "0-1-901"); x.edit("db3", func(s *Sight) { s.Copy = "db2" }) }, "", "has not got 0-1-901", ""},
		{"one is a copy that nobody has compared, and is no further", func(x *seen) { x.edit("db2", func(s *Sight) { s.Copy = "db3" }) }, "db3", "", ""},
		{"all are copies that nobody has compared", func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Copy = "db1" })
			x.edit("db3", func(s *Sight) { s.Copy, s.Differs = "db1", "shop.ledger" })
		}, "", "no replica can be promoted", ""},
		{"the same, forced", func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Copy = "db1" })
			x.edit("db3", func(s *Sight) { s.Copy, s.Differs = "db1", "shop.ledger" })
			x.c.Record.Intent.Forced = true
		}, "db2", "", "it is a copy of db1, and was not compared yet"},
		{"one of them, forced", func(x *seen) {
			x.edit("db2", func(s *Sight) { s.Copy = "db1" })
			x.c.Record.Intent.Forced = true
		}, "db3", "", ""},
		{"one is not cut, and there is no fence", func(x *seen) { x.c.Record.Intent.Cut = []string{"db2"} }, "", "db3 could not be cut from db1", ""},
		{"one is not cut, and the old primary was killed", func(x *seen) {
			x.c.Record.Intent.Cut, x.c.Record.Intent.FenceConfirmed = []string{"db2"}, "its agent killed it"
		}, "db2", "", ""},
		{"the furthest cannot apply what it has received", func(x *seen) {
			at(x, "db3", "0-1-950")
			x.edit("db3", func(s *Sight) { s.Facts.Current, s.Facts.Binlog, s.Facts.Replica.SQL = "0-1-900", "0-1-900", false })
		}, "", "has not got 0-1-950", ""},
		{"one that others are as far as cannot apply: it does not matter", func(x *seen) {
			x.edit("db3", func(s *Sight) { s.Facts.Current, s.Facts.Replica.SQL, s.Facts.Replica.IO = "0-1-880", false, "No" })
		}, "db2", "", ""},
		{"the furthest has errant transactions", func(x *seen) {
			at(x, "db3", "0-1-900")
			x.edit("db3", func(s *Sight) { s.Facts.Binlog = "0-1-900,0-3-7" })
		}, "db2", "", ""},
		{"the old one was seen last while it was to be the primary, and had not got all yet", func(x *seen) {
			x.edit("db1", func(s *Sight) {
				s.Facts.Binlog, s.Facts.Current, s.Facts.ServerID, s.Facts.ReadOnly = "0-9-880", "0-9-880", 1, true
				s.Facts.Replica = &Replication{SourceHost: "10.1.0.12", SourcePort: 3306, IO: "Yes", SQL: true, UsesGTID: true}
			})
			for _, h := range []string{"db2", "db3"} {
				at(x, h, "0-9-900")
			}
		}, "db2", "", ""},
		{"numbers are the same, transactions are not, and the old one was never seen", func(x *seen) {
			delete(x.o.Servers, "db1")
			at(x, "db3", "0-1-901")
			x.edit("db2", func(s *Sight) {
				s.Facts.Received, s.Facts.Current, s.Facts.Binlog, s.Facts.Replica.SQL = "0-1-900", "0-2-901", "0-1-900,0-2-901", false
			})
		}, "", "has not got", ""},
		{"one that is not counted has a higher number, and not the transaction", func(x *seen) {
			delete(x.o.Servers, "db1")
			x.c.Record.Ackers = []string{"db3"}
			at(x, "db3", "0-1-901")
			x.edit("db2", func(s *Sight) {
				s.Facts.Received, s.Facts.Current, s.Facts.Binlog, s.Facts.Semi.Acker = "0-1-900", "0-2-905", "0-1-900,0-2-905", false
			})
		}, "db3", "", ""},
		{"it has come further in another domain", func(x *seen) {
			at(x, "db2", "0-1-950,1-1-20")
			at(x, "db3", "0-1-900,1-1-30")
		}, "", "has not got 1-1-30", ""},
		{"the furthest is too old", func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Version = "10.3.1-MariaDB" }) }, "db3", "", ""},
		{"one is being made a copy", func(x *seen) { x.o.Busy = map[string]string{"db2": "clone is under way"} }, "db3", "", ""},
		{"one acknowledges that is not counted, and is away", func(x *seen) {
			x.c.Record.Ackers = []string{"db2"}
			x.silent("db3")
		}, "", "db3 does not answer", ""},
		{"the old one did not wait", func(x *seen) { x.edit("db1", func(s *Sight) { s.Facts.Semi.Source = false }) }, "", "db1 did not wait for acknowledgements", ""},
		{"the old one had waited long enough, available", func(x *seen) {
			x.edit("db1", func(s *Sight) { s.Facts.Semi.Active = false })
			x.c.MySQL.Durability = section.Available
		}, "db2", "", "db1 did not wait for acknowledgements"},
		{"nobody is known to have all", func(x *seen) {
			x.c.Record.Ackers = nil
			for _, h := range []string{"db2", "db3"} {
				x.edit(h, func(s *Sight) { s.Facts.Semi.Acker = false })
			}
		}, "", "no replica was known", ""},
		{"nobody can be", func(x *seen) { x.silent("db2"); x.silent("db3") }, "", "no replica can be promoted", ""},
	} {
		x := healthySeen()
		x.c.Record.Intent = &Intent{Kind: Failover, Step: StepChoose, Old: "db1", Cut: []string{"db2", "db3"}}
		x.silent("db1")
		c.see(x)
		ch := Choose(&x.c, &x.o)
		if ch.To != c.to || !strings.Contains(ch.Stop, c.stop) || (c.stop == "") != (ch.Stop == "") || !strings.Contains(ch.Loss, c.loss) || (c.loss == "") != (ch.Loss == "") {
			t.Errorf("%s: %+v; want %q, stop %q, loss %q", c.title, ch, c.to, c.stop, c.loss)
		}
		if ch.To != "" && ch.Position == "" {
			t.Errorf("%s: it is not said how far it must come", c.title)
		}
	}
}

// single is a cluster of one.
func single(x *seen) { x.c.Members = x.c.Members[:1] }

func TestSetupIsPlanned(t *testing.T) {
	for _, c := range []struct {
		title, primary, want, err string
		see                       func(x *seen)
		warned                    bool
	}{
		{title: "alone, strict", want: "db1", see: single, warned: true},
		{title: "alone, strict, read-only", primary: "db1", want: "db1", see: func(x *seen) {
			single(x)
			x.edit("db1", func(s *Sight) { s.Facts.ReadOnly = true })
		}, warned: true},
		{title: "alone, available", want: "db1", see: func(x *seen) { single(x); x.c.MySQL.Durability = section.Available }},
		{title: "the others are empty", want: "db1", see: func(x *seen) {
			for _, h := range []string{"db2", "db3"} {
				x.edit(h, func(s *Sight) { s.Facts.Replica, s.Facts.Binlog, s.Facts.Current, s.Facts.Received = nil, "", "", "" })
			}
		}, warned: true},
		{"a topology that is there", "", "db1", "", func(x *seen) {}, false},
		{"named", "db1", "db1", "", func(x *seen) {}, false},
		{"a replica", "db2", "", "db2 follows 10.1.0.11", func(x *seen) {}, false},
		{"a stranger", "db9", "", "no member", func(x *seen) {}, false},
		{"two take writes", "", "", "which is the primary", func(x *seen) { x.edit("db3", func(s *Sight) { s.Facts.ReadOnly, s.Facts.Replica = false, nil }) }, false},
		{"none takes writes, none is followed", "", "", "name the one that has the data", func(x *seen) {
			for _, h := range []string{"db1", "db2", "db3"} {
				x.edit(h, func(s *Sight) { s.Facts.Replica, s.Facts.ReadOnly = nil, true })
			}
		}, false},
		{"one is too old", "", "", "10.5 or later", func(x *seen) { x.edit("db2", func(s *Sight) { s.Facts.Version = "5.5.68-MariaDB" }) }, false},
		{"one does not answer", "", "db1", "", func(x *seen) { x.silent("db2") }, false},
		{"the primary does not answer", "db1", "", "does not answer", func(x *seen) { x.silent("db1") }, false},
	} {
		x := healthySeen()
		x.c.Record, x.c.HasRecord = Record{}, false
		c.see(x)
		p, err := PlanSetup(&x.c, &x.o, c.primary)
		if warned := strings.Contains(strings.Join(p.Lines, "\n"), "warning: Durability is strict"); warned != c.warned {
			t.Errorf("%s: it is warned: %v; want %v: %q", c.title, warned, c.warned, p.Lines)
		}
		if p.Primary != c.want || (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v; want %q, %q", c.title, p.Primary, err, c.want, c.err)
		}
	}
}

func TestRecordsOfLaterBuildsAreNotActedOn(t *testing.T) {
	r := Record{Format: RecordFormat + 1}
	if err := r.Check(); err == nil {
		t.Error("a record of a later format was taken")
	}
	r = Record{Format: RecordFormat, Intent: &Intent{Kind: Failover, Step: "dance"}}
	if err := r.Check(); err == nil {
		t.Error("a record at an unknown step was taken")
	}
	for _, k := range []Kind{Failover, Switchover} {
		steps := Steps(k)
		for i, s := range steps {
			r.Intent = &Intent{Kind: k, Step: s}
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			if next := after(k, s); i+1 < len(steps) && next != steps[i+1] || i+1 == len(steps) && next != "" {
				t.Errorf("after %s of a %s comes %q", s, k, next)
			}
		}
	}
}

// A planned change goes to one that can do it: clients would wait for one that lags on purpose, and one whose disk is full takes no writes.
func TestAPlannedChangeGoesToOneThatCan(t *testing.T) {
	for want, see := range map[string]func(x *seen){
		"db2": func(*seen) {},
		"db3": func(x *seen) { x.edit("db2", func(s *Sight) { s.DiskFull = "/srv: 99 % used" }) },
		"":    func(x *seen) { x.c.Members = x.c.Members[:1] },
	} {
		x := healthySeen()
		see(x)
		if is := best(&x.c, &x.o); is != want {
			t.Errorf("it goes to %q, and not %q", is, want)
		}
	}
	x := healthySeen()
	x.edit("db2", func(s *Sight) { s.Facts.Replica.Delay = time.Hour })
	if is := best(&x.c, &x.o); is != "db3" {
		t.Errorf("it goes to %q, which lags on purpose", is)
	}
}
