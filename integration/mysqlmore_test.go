package integration

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/node/api"
)

// crowd takes all connections that the primary has, for a while.
func (s *dbSite) crowd(last time.Duration) {
	t := s.t
	t.Helper()
	var held []driver.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	full := false
	for until := time.Now().Add(last); time.Now().Before(until); {
		c, err := s.connects(writeVIP)
		var said *mysql.MySQLError
		switch {
		case err == nil:
			held = append(held, c)
		case errors.As(err, &said) && said.Number == 1040:
			full = true
			time.Sleep(50 * time.Millisecond)
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
	if !full {
		t.Errorf("%d connections were taken, and the server has more", len(held))
	}
}

// chokes has all connections of the primary wait for an acknowledgement: the hosts of its replicas are down for longer than its clients wait, who connect again each time. So the replicas are refused, which ends by what the agents do.
func (s *dbSite) chokes(primary string) {
	replicas := s.replicas(primary)
	for _, host := range replicas {
		s.hostDies(host)
	}
	s.await("no connection of the primary is left", func() error {
		c, err := s.connects(writeVIP)
		if err == nil {
			_ = c.Close()
			return errors.New("there is one")
		}
		if said := (*mysql.MySQLError)(nil); !errors.As(err, &said) || said.Number != 1040 {
			return err
		}
		return nil
	})
	for _, host := range replicas {
		s.box(host).start()
	}
	s.await("somebody has seen to it", func() error {
		if c, err := s.cluster(); err != nil || !slices.ContainsFunc(c.Record.History, historyHas(primary+" lets no replica in")) {
			return fmt.Errorf("%+v: %w", c.Verdict, err)
		}
		return nil
	})
}

// hostDies is a power cut of a host that stays away: nobody needs it for a majority when it returns, so that the next can follow.
func (s *dbSite) hostDies(host string) {
	s.box(host).kill()
	s.signals(host, syscall.SIGKILL)
	s.replacesVoter(host)
}

// replacesVoter waits until nobody needs a host that is away for a majority.
func (s *dbSite) replacesVoter(host string) {
	s.await("a majority without "+host, func() error {
		v, err := s.boxes[4].api.DutyVoters(s.t.Context())
		if err == nil && slices.ContainsFunc(v.Voters, func(x api.DutyVoter) bool { return x.Name == host }) {
			err = fmt.Errorf("it is a voter: %+v", v.Voters)
		}
		return err
	})
}

// grows gives the tag to box4, whose server is empty, and takes it away again.
func (s *dbSite) grows() {
	t := s.t
	t.Helper()
	primary := s.settles()
	from := time.Now()
	s.members = append(s.members, "box4")
	slices.Sort(s.members)
	s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
	if now := s.settles(); now != primary {
		t.Errorf("a member more, and the primary was %s and is %s", primary, now)
	}
	s.writes.goesOn(time.Now())
	at, err := s.text(primary, "SELECT @@gtid_current_pos")
	if err != nil {
		t.Fatal(err)
	}
	s.await("box4 has all that the primary had", func() error {
		if reached, err := s.text("box4", "SELECT MASTER_GTID_WAIT(?, 5)", at); err != nil || reached != "0" {
			has, _ := s.text("box4", "SELECT @@gtid_current_pos")
			return fmt.Errorf("it has %s, and %s had %s: %q %v", has, primary, at, reached, err)
		}
		return nil
	})
	s.await("box4 answers readers", func() error {
		if ids := s.reads.by(from); !slices.Contains(ids, 4) {
			return fmt.Errorf("servers %v do", ids)
		}
		return nil
	})
	s.writes.holds("box4")
	gap, text := s.writes.gap(from)
	s.writes.agrees(primary)
	s.reports("a member is added", gap, text)

	from = time.Now()
	s.members = slices.DeleteFunc(s.members, func(h string) bool { return h == "box4" })
	s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
	s.await("box4 is drained of readers", func() error {
		out, errs, code := s.boxes[0].hostmesh("lb", "show", shopTag)
		if code != 0 || !regexp.MustCompile(`(?m)^\s*box4\s.*draining`).MatchString(out) {
			return fmt.Errorf("%d %s%s", code, out, errs)
		}
		return nil
	})
	if now := s.settles(); now != primary { // which wants box4 not to be counted
		t.Errorf("a member less, and the primary was %s and is %s", primary, now)
	}
	if ids := s.reads.after(time.Now(), 20); slices.Contains(ids, 4) {
		t.Errorf("box4 is no member, and servers %v answer readers", ids)
	}
	if acker, err := s.text("box4", "SELECT @@rpl_semi_sync_slave_enabled"); err != nil || acker != "0" {
		t.Errorf("box4 is no member, and has rpl_semi_sync_slave_enabled %q: %v", acker, err)
	}
	s.writes.goesOn(time.Now())
	gap, text = s.writes.gap(from)
	s.reports("a member is removed", gap, text)
	s.writes.holds(primary)
	s.writes.agrees(primary)
}

// switches has another server take the writes. What a machine that is busy does not do in time is taken back, or not begun: it is asked for again.
func (s *dbSite) switches(args ...string) {
	s.t.Helper()
	args = append([]string{"mysql", "switchover", shopTag}, args...)
	before, err := s.cluster()
	if err != nil {
		s.t.Fatal(err)
	}
	asked := false
	s.await("a switchover", func() error {
		if asked { // one of which it was not known whether it was carried out may have been
			if c, err := s.cluster(); err != nil || c.Record.Intent != nil {
				return fmt.Errorf("%w: %v", errNotYet, err)
			} else if c.Record.Primary != before.Record.Primary {
				return nil
			}
		}
		asked = true
		out, errs, code := s.boxes[4].hostmesh(args...)
		if s.t.Logf("    %s: %d %s", strings.Join(args, " "), code, strings.TrimSpace(out+errs)); code != 0 {
			return errors.New(out + errs)
		}
		return nil
	})
}

// reports keeps a line for the end.
func (s *dbSite) reports(what string, gap time.Duration, text string) {
	line := fmt.Sprintf("%-40s no write for %d ms; %s", what, gap.Milliseconds(), text)
	s.t.Log(line)
	s.results = append(s.results, line)
	if s.gaps == nil {
		s.gaps = map[string][]time.Duration{}
	}
	s.gaps[what] = append(s.gaps[what], gap)
}

// table tells all results, and of what was made more than once the median and the worst.
func (s *dbSite) table() {
	for _, line := range s.results {
		s.t.Log(line)
	}
	for _, what := range slices.Sorted(maps.Keys(s.gaps)) {
		if list := slices.Sorted(slices.Values(s.gaps[what])); len(list) > 1 {
			s.t.Logf("%-40s no write for %d ms, worst %d, of %d runs", what, list[len(list)/2].Milliseconds(), list[len(list)-1].Milliseconds(), len(list))
		}
	}
}
