package integration

import (
	"errors"
	"os"
	"regexp"
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
// of the primary all the time. Servers, agents and links are broken; no row that was acknowledged may be lost.
func TestDatabases(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		ownProcesses(t)
		databases(t)
		return
	}
	t.Parallel()
	inOwnProcesses(t, "ip", "nft", "mariadbd", "mariadb-backup", "sysbench")
}

// dbFault is something that happens to a cluster.
type dbFault struct {
	name string
	// more: it is for make databases, and not for each run of the tests.
	more bool
	// stays: the primary stays the one that it is.
	stays bool
	// planned: both may answer for the address for a moment, and no client waits long.
	planned bool
	breaks  func(s *dbSite, primary string)
	mends   func(s *dbSite, primary string)
}

func dbFaults() []dbFault {
	restarts := func(s *dbSite, primary string) { s.box(primary).start() }
	return []dbFault{
		{name: "kill -9", breaks: func(s *dbSite, primary string) { s.signals(primary, syscall.SIGKILL) }},
		{name: "SIGSTOP", breaks: func(s *dbSite, primary string) { s.signals(primary, syscall.SIGSTOP) }},
		{name: "link down", breaks: func(s *dbSite, primary string) { s.link(primary, "down") }, mends: func(s *dbSite, primary string) {
			time.Sleep(life) // one that comes back sooner may still have the address, and answer for that moment
			s.link(primary, "up")
		}},
		{name: "switchover", planned: true, breaks: func(s *dbSite, primary string) {
			s.t.Log(s.cli(s.boxes[4], "switchover", shopTag, "-m", "new disks"))
		}},
		{name: "watcher killed amid a failover", breaks: func(s *dbSite, primary string) {
			w := s.watcher()
			told := len(w.log())
			s.signals(primary, syscall.SIGKILL)
			s.await("a failover has begun", func() error {
				if !strings.Contains(w.log()[told:], `msg="a step of a change of the primary is done"`) {
					return errNotYet
				}
				return nil
			})
			w.kill()
			s.killed = w
		}, mends: func(s *dbSite, primary string) { s.killed.start() }},
		{name: "switchover to a host", more: true, planned: true, breaks: func(s *dbSite, primary string) {
			to := s.members[0]
			if to == primary {
				to = s.members[1]
			}
			s.cli(s.boxes[4], "switchover", shopTag, "--to", to)
			if c, err := s.cluster(); err != nil || c.Record.Primary != to {
				s.t.Errorf("the primary is %+v, and not %s: %v", c.Record, to, err)
			}
		}},
		{name: "agent and server killed", more: true, breaks: func(s *dbSite, primary string) {
			s.box(primary).kill()
			s.signals(primary, syscall.SIGKILL)
		}, mends: restarts},
		{name: "too many connections", more: true, stays: true, breaks: func(s *dbSite, primary string) { s.crowd(5 * time.Second) }},
		{name: "a replica killed", more: true, stays: true, breaks: func(s *dbSite, primary string) { s.signals(s.replicas(primary)[0], syscall.SIGKILL) }},
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
	runs, all := 1, false
	if text := os.Getenv(dbRuns); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: want a number from 1", dbRuns, text)
		}
		runs, all = n, true
	}
	s := newDBSite(t)
	s.begin()
	only := regexp.MustCompile(os.Getenv(dbOnly))
	for _, f := range dbFaults() {
		if !only.MatchString(f.name) || f.more && !all {
			continue
		}
		for range runs {
			s.happens(f)
			if t.Failed() {
				t.Fatal("the rest would follow from that")
			}
		}
	}
	if all && only.MatchString("member") {
		s.grows()
	}
	if all && only.MatchString("sysbench") {
		s.benches()
	}
	if os.Getenv(dbOnly) != "" && only.MatchString("clone450") {
		s.clone450()
	}
	for _, line := range s.results {
		t.Log(line)
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
	from := time.Now()
	f.breaks(s, primary)
	next := primary
	if !f.stays {
		s.await("another takes writes", func() error {
			c, err := s.cluster()
			if err != nil {
				return err
			}
			if next = c.Record.Primary; next == primary || c.Record.Intent != nil {
				return errNotYet
			}
			return nil
		})
	}
	s.writes.goesOn(time.Now())
	gap, text := s.writes.gap(from)
	line := pad(f.name, 40) + " no write for " + strconv.FormatInt(gap.Milliseconds(), 10) + " ms; " + text
	t.Log(line)
	s.results = append(s.results, line)
	s.writes.holds(next)
	if f.mends != nil {
		f.mends(s, primary)
	}
	if now := s.settles(); now != next {
		t.Errorf("%s: the primary was %s, and is %s without a reason\n%s", f.name, next, now, s.told())
	}
	both := overlap(spans(s.ears[0].since(from, writeVIP)))
	if both > 0 && !f.planned {
		t.Errorf("%s: two boxes answered for %s for %s: %s", f.name, writeVIP, both, s.story(from, [][]saying{s.ears[0].since(from, writeVIP)}))
	}
	s.writes.holds(next)
	s.reads.goesOn(time.Now())
}

func pad(text string, n int) string { return text + strings.Repeat(" ", max(0, n-len(text))) }

var errNotYet = errors.New("it is the old one still, or the change goes on")
