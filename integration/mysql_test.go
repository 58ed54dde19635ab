package integration

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dbRuns is how often each fault is made: once, and only the quick ones, unless make databases says otherwise.
const dbRuns = "HOSTMESH_TEST_DB_RUNS"

// dbOnly is a pattern of what of it happens; "" = all but clone450, which writes some gigabytes.
const dbOnly = "HOSTMESH_TEST_DB_ONLY"

// TestDatabases has five agents, three of which are beside a real MariaDB server, each in a network namespace of its own, and clients that write through the address
// of the primary all the time. Servers let nobody in without TLS. Servers, agents and links are broken; no row that was acknowledged may be lost.
func TestDatabases(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		ownProcesses(t)
		databases(t)
		return
	}
	t.Parallel()
	inOwnProcesses(t, "ip", "nft", "mariadbd", "mariadb-backup", "/usr/bin/python3")
}

// dbFault is something that happens to a cluster.
type dbFault struct {
	name string
	// more: it is for make databases, and not for each run of the tests.
	more bool
	// three: it makes no sense where all boxes are members.
	three bool
	// timed: docs/mysql.md says how long writes wait, so it is made three times in each run of the tests.
	timed bool
	// stays: the primary stays the one that it is. either: it may, and somebody is the primary in a later epoch.
	stays, either bool
	// planned: both may answer for the address for a moment, and no client waits long.
	planned bool
	// breaks does it, and may leave in s.undo what is to be undone after mends.
	breaks func(s *dbSite, primary string)
	mends  func(s *dbSite, primary string)
}

// dbFaults are those of one server, one agent, one link.
func dbFaults() []dbFault {
	restarts := func(s *dbSite, primary string) { s.box(primary).start() }
	return []dbFault{
		{name: "kill -9", timed: true, breaks: func(s *dbSite, primary string) { s.signals(primary, syscall.SIGKILL) }},
		{name: "SIGSTOP", timed: true, breaks: func(s *dbSite, primary string) { s.signals(primary, syscall.SIGSTOP) }},
		{name: "link down", timed: true, breaks: func(s *dbSite, primary string) { s.link(primary, "down") }, mends: func(s *dbSite, primary string) {
			time.Sleep(life) // one that comes back sooner may still have the address, and answer for that moment
			s.link(primary, "up")
		}},
		{name: "switchover", timed: true, planned: true, breaks: func(s *dbSite, primary string) {
			s.switches("-m", "new disks")
		}},
		{name: "switchover to a host", more: true, planned: true, breaks: func(s *dbSite, primary string) {
			to := s.replicas(primary)[0]
			s.switches("--to", to)
			if c, err := s.cluster(); err != nil || c.Record.Primary != to {
				s.t.Errorf("the primary is %+v, and not %s: %v", c.Record, to, err)
			}
		}},
		{name: "agent and server killed", more: true, breaks: func(s *dbSite, primary string) {
			s.box(primary).kill()
			s.signals(primary, syscall.SIGKILL)
		}, mends: restarts},
		{name: "too many connections", more: true, stays: true, breaks: func(s *dbSite, primary string) { s.crowd(5 * time.Second) }},
		{name: "all connections wait, and replicas get none", more: true, either: true, three: true, breaks: func(s *dbSite, primary string) { s.chokes(primary) }},
		{name: "a replica killed", more: true, stays: true, breaks: func(s *dbSite, primary string) { s.signals(s.replicas(primary)[0], syscall.SIGKILL) }},
		{name: "two servers killed", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			// Only the replica may have what was acknowledged last: the primary is started again.
			s.signals(s.replicas(primary)[0], syscall.SIGKILL)
			s.signals(primary, syscall.SIGKILL)
		}},
		{name: "a copy", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			s.cli(s.boxes[4], "clone", shopTag, "-", s.replicas(primary)[0])
			s.done("clone", s.replicas(primary)[0])
		}},
		{name: "all replicas stopped", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			for _, host := range s.replicas(primary) {
				s.signals(host, syscall.SIGSTOP)
			}
			time.Sleep(5 * time.Second) // nothing happens, which takes time
			for _, host := range s.replicas(primary) {
				s.signals(host, syscall.SIGCONT)
			}
		}},
		{name: "the primary's agent killed", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			s.box(primary).kill()
			time.Sleep(5 * time.Second) // more than the address lives
			s.box(primary).start()
		}},
		{name: "the primary's agent restarted in order", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			box := s.box(primary)
			told := len(box.log())
			box.stop()
			if !strings.Contains(box.log()[told:], `msg="address of the primary stays for the next agent"`) {
				s.t.Errorf("an agent that ends in order leaves no address:\n%s", box.log()[told:])
			}
			box.start()
			s.await("the next agent has the address", func() error {
				if !strings.Contains(box.log()[told:], `msg="virtual address is here"`) {
					return errNotYet
				}
				return nil
			})
		}},
		{name: "the primary's agent killed for good", more: true, breaks: func(s *dbSite, primary string) { s.box(primary).kill() }, mends: restarts},
	}
}

func databases(t *testing.T) {
	c := dbChoiceOf(t)
	faults := c.of(false, dbFaults(), dbCuts(), dbKilled(), dbTroubles())
	grows, served, available := c.all && c.only.MatchString("member"), c.only.MatchString("application"), c.all && c.only.MatchString("available")
	large := os.Getenv(dbOnly) != "" && c.only.MatchString("clone450")
	if len(faults) == 0 && !grows && !served && !available && !large {
		t.Logf("nothing of this is meant by %s", c.only)
		return
	}
	s := newDBSite(t)
	s.begin()
	s.encrypted()
	s.makes(faults, c.runs)
	if grows {
		s.grows()
	}
	if served {
		changes := 2
		if c.all {
			changes = 10
		}
		s.serves(changes)
	}
	if available {
		s.announces()
	}
	if large {
		s.clone450()
	}
	s.table()
}

// dbChoice is which faults are made, and how often.
type dbChoice struct {
	runs int
	all  bool // those that are more, too
	only *regexp.Regexp
}

func dbChoiceOf(t *testing.T) dbChoice {
	c := dbChoice{runs: 1, only: regexp.MustCompile(os.Getenv(dbOnly))}
	if text := os.Getenv(dbRuns); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: want a number from 1", dbRuns, text)
		}
		c.runs, c.all = n, true
	}
	return c
}

func (c dbChoice) of(five bool, lists ...[]dbFault) []dbFault {
	return slices.DeleteFunc(slices.Concat(lists...), func(f dbFault) bool { return !c.only.MatchString(f.name) || f.more && !c.all || f.three && five })
}

// makes makes faults, each so often.
func (s *dbSite) makes(faults []dbFault, runs int) {
	for _, f := range faults {
		n := runs
		if f.timed && !s.five {
			n = max(runs, 3)
		}
		for range n {
			s.happens(f)
			if s.t.Failed() {
				s.t.Fatal("the rest would follow from that")
			}
		}
	}
}

// happens makes a fault, and judges what became of the cluster.
func (s *dbSite) happens(f dbFault) {
	t := s.t
	t.Helper()
	primary := s.settles()
	s.cli(s.boxes[4], "ack", shopTag, "-m", "seen")
	s.writes.goesOn(time.Now())
	if f.planned {
		s.keepsUp()
	}
	before, err := s.cluster()
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	f.breaks(s, primary)
	next := primary
	if !f.stays {
		s.await(f.name+": another takes writes", func() error {
			c, err := s.cluster()
			if err != nil {
				return err
			}
			if next = c.Record.Primary; next == primary && !f.either || c.Record.Epoch == before.Record.Epoch || c.Record.Intent != nil {
				return errNotYet
			}
			return nil
		})
	}
	s.writes.goesOn(time.Now())
	gap, text := s.writes.gap(from)
	s.reports(f.name, gap, text)
	s.writes.holds(next)
	if f.mends != nil {
		f.mends(s, primary)
	}
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	s.undo = nil
	if now := s.settles(); now != next {
		t.Errorf("%s: the primary was %s, and is %s without a reason\n%s", f.name, next, now, s.told())
	}
	both := overlap(spans(s.ears[0].since(from, writeVIP)))
	// A box that is told to let the address go, or whose server was killed by its agent, refuses, and answers for the address until it has heard the next one.
	if both > handOver && !f.planned || both > life {
		t.Errorf("%s: two boxes answered for %s for %s: %s", f.name, writeVIP, both, s.story(from, [][]saying{s.ears[0].since(from, writeVIP)}))
	}
	s.writes.holds(next)
	s.writes.agrees(next)
	s.reads.goesOn(time.Now())
}

var errNotYet = errors.New("it is the old one still, or the change goes on")
