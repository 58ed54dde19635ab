package vmd

import "testing"

// everySituation yields all combinations of what next looks at.
func everySituation(yield func(situation)) {
	flags := func(n int, s *situation, fields ...*bool) {
		for i, f := range fields {
			*f = n&(1<<i) != 0
		}
	}
	for _, stage := range []Stage{Reserving, Held, Leaving, Destroying, Kept, Purging} {
		for _, wish := range []wanting{unseen, gone, wantOn, wantOff} {
			for _, domain := range []domainIs{unknown, absent, alien, off, running, paused, dying} {
				for _, problem := range []string{"", "bad"} {
					for n := range 1 << 14 {
						s := situation{Stage: stage, Wish: wish, Domain: domain, Problem: problem}
						flags(n, &s, &s.Ran, &s.Due, &s.Renamed, &s.NoAddr, &s.Unsaid, &s.Changed, &s.Image, &s.Disk, &s.Seed, &s.Composed, &s.Asked, &s.Late, &s.Rest, &s.Over)
						yield(s)
					}
				}
			}
		}
	}
}

// TestNextIsSafe holds the table to what may never happen, whatever the situation.
func TestNextIsSafe(t *testing.T) {
	bad := 0
	fail := func(s situation, a action, why string) {
		if bad++; bad < 10 {
			t.Errorf("%+v: %s: %s", s, a, why)
		}
	}
	wanted := func(s situation) bool { return s.Wish == wantOn || s.Wish == wantOff }
	everySituation(func(s situation) {
		a := next(s)
		switch a {
		case actImage, actDisk, actSeed, actCompose, actDefine, actStart, actResize, actAddress, actSay:
			if s.Stage != Held || !wanted(s) {
				fail(s, a, "only what is held and wanted is made")
			}
		}
		switch {
		case s.Domain == unknown && a != actWait && a != actNone && a != actReinstate && a != actTicket && a != actDoom && a != actSettle:
			fail(s, a, "nothing is done while the hypervisor is away but what the ledger and the lease log are for")
		case s.Domain == alien && (a == actCut || a == actUndefine || a == actShutdown || a == actDefine || a == actStart || a == actResize):
			fail(s, a, "what somebody else made is touched")
		case s.Ran && s.Stage == Held && (a == actLeave || a == actUndo || a == actDoom || a == actPurge):
			fail(s, a, "a machine that ran is given up without a ticket")
		case s.Ran && (a == actDisk || a == actSeed || a == actCompose):
			fail(s, a, "the disk of a machine that ran is made anew")
		case a == actTicket && (s.Stage != Held || s.Wish != gone):
			fail(s, a, "a ticket for what is wanted")
		case (a == actShutdown || a == actCut || a == actUndefine) && s.Stage == Held && s.Wish != wantOff:
			fail(s, a, "a machine that is to run is stopped")
		case a == actCut && s.Stage == Held && s.Domain != paused && !s.Late:
			fail(s, a, "the power is cut before its time")
		case (a == actKeep || a == actUndo || a == actPurge) && s.Domain != absent && s.Domain != alien:
			fail(s, a, "the domain is still there")
		case a == actPurge && s.Stage != Purging, a == actUndo && s.Stage != Leaving, a == actKeep && s.Stage != Destroying:
			fail(s, a, "in another stage")
		case s.Wish == unseen && s.Stage == Held && a != actWait:
			fail(s, a, "an entry that was not seen says nothing")
		case wanted(s) && (s.Stage == Kept || s.Stage == Destroying) && a != actReinstate:
			fail(s, a, "it is wanted again")
		}
	})
}

// TestNextGetsThere follows the table in a world in which everything works: from every situation it ends where it should, in
// finitely many steps.
func TestNextGetsThere(t *testing.T) {
	type end struct {
		stage  Stage
		domain domainIs
	}
	bad := 0
	everySituation(func(s situation) {
		if s.Domain == unknown || s.Domain == alien || s.Wish == unseen || s.Problem != "" || s.Rest {
			return // they wait for somebody, or for some time
		}
		was, path := s, ""
		for step := 0; ; step++ {
			a := next(s)
			path += " " + string(a)
			switch a {
			case actNone:
			case actWait: // time passes
				if s.Stage == Reserving {
					s.Due = true
				} else if s.Domain == dying {
					s.Domain = off
				} else {
					s.Late = true
				}
			case actSettle:
				s.Stage = Held
			case actRename:
				s.Renamed = false
			case actAddress:
				s.NoAddr = false
			case actSay:
				s.Unsaid = false
			case actImage:
				s.Image = true
			case actDisk:
				s.Disk = true
			case actSeed:
				s.Seed = true
			case actCompose:
				s.Composed = true
			case actDefine:
				s.Domain = off
			case actStart:
				s.Domain, s.Ran, s.Asked, s.Late = running, true, false, false
			case actResize:
				s.Changed = false
			case actShutdown:
				s.Asked = true
			case actCut:
				s.Domain = off
			case actTicket:
				s.Stage = Destroying
			case actReinstate:
				s.Stage, s.Over = Held, false
			case actUndefine:
				s.Domain = absent
			case actKeep:
				s.Stage = Kept
			case actDoom:
				s.Stage = Purging
			default: // undo, purge, lost: the end
				s.Stage, s.Domain = "", absent
			}
			got := end{s.Stage, s.Domain}
			switch {
			case s.Stage == "":
				if was.Wish != gone && a == actPurge && was.Stage != Purging {
					t.Fatalf("%+v: purged though it is wanted:%s", was, path)
				}
				return
			case a == actNone:
				want := end{Held, running}
				switch {
				case s.Wish == gone:
					want = end{Kept, s.Domain}
				case s.Wish == wantOff:
					want.domain = off
				}
				if got != want {
					if bad++; bad < 10 {
						t.Errorf("%+v: ends in %v, want %v:%s", was, got, want, path)
					}
				}
				return
			case step > 40:
				if bad++; bad < 10 {
					t.Errorf("%+v: does not end:%s", was, path)
				}
				return
			}
		}
	})
}
