package integration

import (
	"fmt"
	"slices"
	"time"
)

// dbCuts are partitions, with clients on both sides: some write through the address of the primary, others have stayed at the own address of the old one, beside it. What is
// acknowledged to any of them must be at whoever is the primary then.
func dbCuts() []dbFault {
	heals := func(s *dbSite, primary string) {
		time.Sleep(life) // one that comes back sooner may still have the address, and answer for that moment
	}
	cut := func(with func(s *dbSite, primary string) []string) func(s *dbSite, primary string) {
		return func(s *dbSite, primary string) {
			side := append([]string{primary}, with(s, primary)...)
			s.stayers(primary)
			s.split("br1", side...)
			s.undo = append(s.undo, func() { s.split("br0", side...) })
		}
	}
	return []dbFault{
		{name: "the primary cut off from all", breaks: cut(func(*dbSite, string) []string { return nil }), mends: heals},
		{name: "what the primary sends is lost", more: true, breaks: func(s *dbSite, primary string) {
			s.stayers(primary)
			s.loses(primary, true, false)
			s.undo = append(s.undo, s.finds)
		}, mends: heals},
		{name: "what the primary is sent is lost", more: true, breaks: func(s *dbSite, primary string) {
			s.stayers(primary)
			s.loses(primary, false, true)
			s.undo = append(s.undo, s.finds)
		}, mends: heals},
		{name: "the primary and who watches cut off", more: true, three: true, breaks: cut(func(s *dbSite, primary string) []string {
			return []string{s.watchesFew(primary)}
		}), mends: heals},
		{name: "the primary and a replica that counts cut off", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			replica := s.replicas(primary)[0]
			acked := s.stayers(primary)
			s.split("br1", primary, replica)
			before := acked()
			s.await("the two go on", func() error {
				if n := acked() - before; n < 100 {
					return fmt.Errorf("%d writes were acknowledged since the cut", n)
				}
				return nil
			})
			time.Sleep(life) // for others to do what they must not
			for _, host := range s.replicas(primary)[1:] {
				if ro, err := s.text(host, "SELECT @@read_only"); err != nil || ro != "1" {
					s.t.Errorf("%s has read_only %q while only %s may have the last transactions: %v", host, ro, replica, err)
				}
			}
			s.split("br0", primary, replica)
		}},
		{name: "replicas cut off from the primary alone", more: true, three: true, stays: true, breaks: func(s *dbSite, primary string) {
			s.watches("box4") // hears both sides
			acked := s.stayers(primary)
			s.parts(primary, s.replicas(primary)...)
			time.Sleep(life)
			before := acked()
			time.Sleep(2 * time.Second)
			if n := acked() - before; n > 0 {
				s.t.Errorf("%d writes were acknowledged while no replica was there that could", n)
			}
			s.finds()
		}},
	}
}

// parts lets all be lost that is sent between a namespace and some others.
func (s *dbSite) parts(space string, from ...string) {
	s.t.Helper()
	s.w.run("nft", "add", "table", "bridge", "cut")
	s.w.run("nft", "add", "chain", "bridge", "cut", "forward", "{ type filter hook forward priority 0; }")
	for _, other := range from {
		s.w.run("nft", "add", "rule", "bridge", "cut", "forward", "iifname", "to-"+space, "oifname", "to-"+other, "drop")
		s.w.run("nft", "add", "rule", "bridge", "cut", "forward", "iifname", "to-"+other, "oifname", "to-"+space, "drop")
	}
}

// stayers has clients on the primary's own host that write at its own address, and stay there until the fault is undone. It tells how many rows were acknowledged to them.
func (s *dbSite) stayers(primary string) (acked func() int) {
	s.t.Helper()
	acked, stop := s.writes.elsewhere(place{space: primary, addr: s.addrOf(primary), dial: 250 * time.Millisecond, patience: 4 * time.Second})
	s.undo = append(s.undo, func() {
		stop()
		s.t.Logf("    %d writes were acknowledged at the own address of %s", acked(), primary)
	})
	s.await("clients write at the own address of "+primary, func() error {
		if n := acked(); n < 10 {
			return fmt.Errorf("%d writes were acknowledged", n)
		}
		return nil
	})
	return acked
}

// watchesFew has a node watch that has, together with the primary's, no majority of the voters, and runs no replica. It returns its name.
func (s *dbSite) watchesFew(primary string) string {
	s.t.Helper()
	var voters []string
	s.await("the voters are known", func() error {
		v, err := s.boxes[4].api.DutyVoters(s.t.Context())
		voters = nil
		for _, x := range v.Voters {
			voters = append(voters, x.Name)
		}
		return err
	})
	for _, name := range []string{"box4", "box5"} {
		if slices.Contains(voters, primary) && slices.Contains(voters, name) {
			continue
		}
		s.watches(name)
		return name
	}
	// All three are: one that is away is replaced.
	s.box("box4").kill()
	s.replacesVoter("box4")
	s.box("box4").start()
	s.watches("box4")
	return "box4"
}

// watches has a node watch over the cluster.
func (s *dbSite) watches(name string) {
	s.t.Helper()
	if s.watcher().name == name {
		return
	}
	s.await(name+" gets the duty", func() error {
		_, err := s.boxes[4].api.MoveDuty(s.t.Context(), "mysql/"+shopTag, name)
		return err
	})
	s.await(name+" watches", func() error {
		if w := s.watcher(); w.name != name {
			return fmt.Errorf("%s does", w.name)
		}
		return nil
	})
}
