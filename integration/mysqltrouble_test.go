package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/node/api"
)

// dbTroubles are replicas that are not as they should be, when the primary dies and when it does not, and what must never replace a primary.
func dbTroubles() []dbFault {
	out := []dbFault{
		{name: "applying threads stopped, then kill -9", more: true, breaks: func(s *dbSite, primary string) {
			for _, host := range s.replicas(primary) {
				s.dbs[host].Exec("STOP SLAVE SQL_THREAD")
			}
			s.signals(primary, syscall.SIGKILL)
		}},
		{name: "a laggard, then kill -9", more: true, breaks: func(s *dbSite, primary string) {
			laggard := s.replicas(primary)[0]
			free := s.locks(laggard)
			s.lags(laggard)
			s.signals(primary, syscall.SIGKILL)
			s.await("somebody is chosen", func() error {
				c, err := s.cluster()
				if err != nil {
					return err
				}
				to := c.Record.Primary
				if i := c.Record.Intent; i != nil {
					to = i.To
				}
				switch to {
				case primary, "":
					return errNotYet
				case laggard:
					s.t.Errorf("the laggard, %s, was chosen", laggard)
				}
				return nil
			})
			free()
		}},
		{name: "a replica takes writes", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			replica := s.replicas(primary)[0]
			s.dbs[replica].Exec("SET GLOBAL read_only=0")
			s.await(replica+" is read-only again", func() error {
				if ro, err := s.text(replica, "SELECT @@read_only"); err != nil || ro != "1" {
					return fmt.Errorf("read_only is %q, %v", ro, err)
				}
				return nil
			})
		}},
		{name: "wrong credentials on a replica", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			replica := s.replicas(primary)[0]
			s.dbs[replica].Exec("SET sql_log_bin=0", "ALTER USER hostmesh@'"+shopHosts+"' IDENTIFIED BY 'another'", "KILL USER hostmesh")
			s.says(mysqlha.WrongAccount, replica)
			from := time.Now()
			s.writes.goesOn(from)
			s.dbs[replica].Exec("SET sql_log_bin=0", "ALTER USER hostmesh@'"+shopHosts+"' IDENTIFIED BY 'admin''s'")
		}},
		{name: "an errant transaction, then kill -9", more: true, breaks: func(s *dbSite, primary string) {
			errant := s.replicas(primary)[0]
			s.dbs[errant].Exec("INSERT INTO shop.written VALUES (-1, 99)") // root is not held by read_only
			s.says(mysqlha.ErrantFound, errant)
			s.writes.goesOn(time.Now())
			s.signals(primary, syscall.SIGKILL)
			s.undo = append(s.undo, func() {
				c, err := s.cluster()
				if err != nil || c.Record.Primary == errant {
					s.t.Errorf("%s, which has errant transactions, was promoted: %v", errant, err)
				}
				s.says(mysqlha.ErrantFound, errant)
				s.await("a person has it made a copy, once another acknowledges", func() error {
					if out, errs, code := s.boxes[4].hostmesh("mysql", "clone", shopTag, "-", errant); code != 0 {
						return errors.New(out + errs)
					}
					return nil
				})
			})
		}},
		{name: "an empty disk at the only one that acknowledges", more: true, stays: true, three: true, breaks: func(s *dbSite, primary string) {
			away, last := s.replicas(primary)[0], s.replicas(primary)[1]
			s.box(away).kill()
			s.signals(away, syscall.SIGKILL)
			s.await("only "+last+" is counted", func() error {
				if c, err := s.cluster(); err != nil || !slices.Equal(c.Record.Ackers, []string{last}) {
					return fmt.Errorf("%v are: %w", c.Record.Ackers, err)
				}
				return nil
			})
			s.box(last).kill()
			s.signals(last, syscall.SIGKILL)
			s.empties(last)
			s.box(last).start()
			s.await("the primary is ended, for writes wait there for nobody", func() error {
				if c, err := s.cluster(); err != nil || !slices.ContainsFunc(c.Record.History, historyHas(primary+" is ended, and starts again, read-only")) {
					return fmt.Errorf("%+v: %w", c.Verdict, err)
				}
				return nil
			})
			s.undo = append(s.undo, func() { s.box(away).start() })
		}},
		{name: "an empty disk at the primary, and a person decides", more: true, three: true, breaks: func(s *dbSite, primary string) {
			s.puts("tags/"+shopTag+"/MySQL/Failover", "manual")
			s.undo = append(s.undo, func() { s.puts("tags/"+shopTag+"/MySQL/Failover", "auto") })
			s.box(primary).kill()
			s.signals(primary, syscall.SIGKILL)
			s.empties(primary)
			s.box(primary).start()
			s.says(mysqlha.PrimaryLost, primary)
			time.Sleep(5 * time.Second) // for them to do what they must not
			for _, host := range s.replicas(primary) {
				if n, err := s.text(host, "SELECT COUNT(*) FROM shop.written"); err != nil || n == "0" {
					s.t.Errorf("%s has %s rows after the primary lost its data: %v", host, n, err)
				}
			}
			s.await("a person has another take over", func() error {
				if out, errs, code := s.boxes[4].hostmesh("mysql", "failover", shopTag, "-m", "a disk was replaced"); code != 0 {
					return errors.New(out + errs)
				}
				return nil
			})
		}},
		{name: "one that observes", more: true, three: true, breaks: func(s *dbSite, primary string) {
			b := s.box("box5")
			settings := slices.Clone(b.settings)
			b.stop()
			b.settings = append(b.settings, "observe: true")
			told := len(b.log())
			b.start()
			s.await("it says what it would do", func() error {
				out, errs, code := b.hostmesh("mysql", "explain", shopTag)
				if code != 0 || !strings.Contains(out, "if it did not only observe") {
					return fmt.Errorf("%d %s%s", code, out, errs)
				}
				return nil
			})
			time.Sleep(time.Second) // for it to hold a connection
			s.signals(primary, syscall.SIGKILL)
			s.undo = append(s.undo, func() {
				log := b.log()[told:]
				for _, never := range []string{"a step of a change of the primary is done", "order for a database server carried out", "the primary has changed"} {
					if strings.Contains(log, never) {
						s.t.Errorf("%s only observes, and its log has %q", b.name, never)
					}
				}
				// Those who act may be done before it has both kinds of evidence.
				if !strings.Contains(log, "observe=true") || !strings.Contains(log, "the primary, "+primary+", is dead") && !strings.Contains(log, `diagnosis="primary dead"`) {
					s.t.Errorf("%s observes, and has not seen that the primary died", b.name)
				}
				b.stop()
				b.settings = settings
				b.start()
			})
		}},
		// After those that want the spare server empty.
		{name: "all replicas are gone for good, and another host gets the tag", more: true, stays: true, three: true, breaks: func(s *dbSite, primary string) {
			gone := s.replicas(primary)
			s.dbs[primary].Exec("FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW()") // else the new one could receive all that was ever written, in place of a copy
			for _, host := range gone {
				s.hostDies(host)
			}
			was := slices.Clone(s.members)
			s.members = []string{primary, "box4"}
			slices.Sort(s.members)
			s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
			s.await("only box4 is counted", func() error {
				if c, err := s.cluster(); err != nil || !slices.Equal(c.Record.Ackers, []string{"box4"}) {
					return fmt.Errorf("%v are: %w", c.Record.Ackers, err)
				}
				return nil
			})
			s.undo = append(s.undo, func() {
				for _, host := range gone {
					s.box(host).start()
				}
				s.members = append(slices.Clone(was), "box4")
				slices.Sort(s.members)
				s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
				s.settles()
				s.members = was
				s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
				s.settles()
			})
		}},
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		out = append(out, dbFault{name: fmt.Sprintf("the whole cluster goes down, and returns in the order %v", order), more: true, stays: true, three: true, breaks: func(s *dbSite, primary string) {
			hosts := append([]string{primary}, s.replicas(primary)...) // 0 is the primary
			for _, host := range hosts {
				s.box(host).kill()
			}
			for _, host := range hosts {
				s.signals(host, syscall.SIGKILL)
			}
			for _, i := range order {
				s.box(hosts[i]).start()
				time.Sleep(3 * time.Second) // for them to do what they must not
			}
		}})
	}
	return out
}

// empties has the data of a host, whose server does not run, be those of one that was just installed, which box4 has.
func (s *dbSite) empties(host string) {
	s.t.Helper()
	s.installed(func(datadir string) { s.installs(host, datadir) })
}

// installed gives f the data of a server that was just installed, which box4 has.
func (s *dbSite) installed(f func(datadir string)) {
	s.t.Helper()
	fresh := s.dbs["box4"]
	fresh.Stop()
	f(fresh.Datadir)
	fresh.Restart("--read-only=1")
}

// installs has a host, whose server was ended, have other data.
func (s *dbSite) installs(host, from string) {
	s.t.Helper()
	for limit := time.Now().Add(dbPatience); s.pid(host) != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			s.t.Fatalf("the server of %s runs on", host)
		}
	}
	err := os.RemoveAll(s.dbs[host].Datadir)
	if err == nil {
		err = exec.Command("cp", "-a", from, s.dbs[host].Datadir).Run()
	}
	if err != nil {
		s.t.Fatalf("replace the disk of %s: %v", host, err)
	}
}

// says waits until whoever watches says that a host has something.
func (s *dbSite) says(name mysqlha.Name, host string) {
	s.t.Helper()
	s.await(fmt.Sprintf("it is said that %s has: %s", host, name), func() error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		all := append([]string{c.Verdict.Name + ": " + c.Verdict.Text}, c.Verdict.Evidence...)
		for _, line := range all {
			if strings.Contains(line, string(name)) && strings.Contains(line, host) {
				return nil
			}
		}
		return fmt.Errorf("%q is", all)
	})
}

// locks keeps a table of a server from being written until it is freed, so that the server cannot apply.
func (s *dbSite) locks(host string) (free func()) {
	s.t.Helper()
	conn, err := s.dbs[host].Root().Conn(s.t.Context())
	if err == nil {
		_, err = conn.ExecContext(s.t.Context(), "LOCK TABLES shop.written READ")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = conn.ExecContext(ctx, "UNLOCK TABLES") // the server may have been started anew meanwhile
		_ = conn.Close()
	}
}

// lags waits until a replica has received what it has not applied.
func (s *dbSite) lags(host string) {
	s.t.Helper()
	s.await(host+" lags", func() error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		for _, x := range c.Servers {
			if x.Host == host && x.Received != x.Position && x.LagMS != nil && *x.LagMS >= 1000 {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// announces has a failover miss what only a host has that is away, in Durability available: it goes on, and says what may be lost in its answer, in the log and in the history.
func (s *dbSite) announces() {
	t := s.t
	t.Helper()
	s.puts("tags/"+shopTag+"/MySQL/Durability", "available")
	s.puts("tags/"+shopTag+"/MySQL/Failover", "manual")
	primary := s.settles()
	s.cli(s.boxes[4], "setup", shopTag, "--apply")
	s.agreed("available")
	away := s.replicas(primary)[0]
	logs := map[*box]int{}
	for _, b := range s.boxes {
		logs[b] = len(b.log())
	}
	from := time.Now()
	s.signals(away, syscall.SIGSTOP)
	s.signals(primary, syscall.SIGSTOP) // one whose process ended would be started again
	var answer string
	s.await("a person has another take over", func() error {
		out, errs, code := s.boxes[4].hostmesh("mysql", "failover", shopTag, "-m", "the machine is gone")
		if answer = out + errs; code != 0 {
			return errors.New(answer)
		}
		return nil
	})
	s.writes.goesOn(time.Now())
	c, err := s.cluster()
	if err != nil || c.Record.Primary == primary {
		t.Fatalf("%+v: %v", c.Record, err)
	}
	if !strings.Contains(answer, "possibly lost: ") || !strings.Contains(answer, away) {
		t.Errorf("the answer does not say that what only %s has may be lost:\n%s", away, answer)
	}
	if at := slices.IndexFunc(c.Record.History, func(e api.MySQLEvent) bool {
		return strings.Contains(e.What, "possibly lost: ") && strings.Contains(e.What, away)
	}); at < 0 {
		t.Errorf("the history does not say that what only %s has may be lost: %+v", away, c.Record.History)
	}
	if !slices.ContainsFunc(s.boxes, func(b *box) bool {
		return strings.Contains(b.log()[logs[b]:], "transactions that were acknowledged may be lost")
	}) {
		t.Errorf("no log says that what only %s has may be lost", away)
	}
	lost := s.writes.forgives(c.Record.Primary)
	gap, text := s.writes.gap(from)
	s.reports("available, a failover past its gate", gap, fmt.Sprintf("%s; %d acknowledged rows lost, which was announced", text, lost))
	s.signals(away, syscall.SIGCONT)
	now := s.settles()
	s.writes.forgives(now)
	s.writes.agrees(now)
	s.puts("tags/"+shopTag+"/MySQL/Durability", "strict")
	s.puts("tags/"+shopTag+"/MySQL/Failover", "auto")
	s.cli(s.boxes[4], "setup", shopTag, "--apply")
	s.agreed("strict")
	s.writes.holds(s.settles())
}

// agreed waits until a durability is in force.
func (s *dbSite) agreed(durability string) {
	s.t.Helper()
	s.await("Durability is "+durability, func() error {
		c, err := s.cluster()
		if err == nil && c.Record.Durability != durability {
			err = fmt.Errorf("it is %s", c.Record.Durability)
		}
		return err
	})
}
