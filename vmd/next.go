package vmd

import "hostmesh/vmd/plan"

// wanting is what HostDB wants of a machine.
type wanting string

const (
	unseen  wanting = "unseen" // this replica has not heard of it, or is not whole
	gone    wanting = "gone"   // it is not to be any more
	wantOn  wanting = "on"
	wantOff wanting = "off"
)

// domainIs is what the hypervisor shows of a machine.
type domainIs string

const (
	unknown domainIs = "unknown" // the hypervisor is away
	absent  domainIs = "absent"
	alien   domainIs = "alien" // somebody else's domain has its UUID
	off     domainIs = "off"   // or crashed
	running domainIs = "running"
	paused  domainIs = "paused"
	dying   domainIs = "dying"
)

func domainOf(m plan.Machine, mesh string) domainIs {
	switch {
	case m.Mesh != mesh:
		return alien
	case m.State == plan.Running:
		return running
	case m.State == plan.Paused:
		return paused
	case m.State == plan.Dying:
		return dying
	}
	return off
}

// situation is all that the next action follows from.
type situation struct {
	Stage  Stage
	Ran    bool
	Wish   wanting
	Domain domainIs

	// Of Reserving: the offer is over, or another run of this agent wrote it down.
	Due bool
	// Of Held: what is to be done beside the domain.
	Renamed bool   // its host has another key by now
	NoAddr  bool   // it needs an address and has none
	Unsaid  bool   // HostDB does not say which box and address it has
	Changed bool   // CPUs, Memory or Disk are others than it was given
	Problem string // why it cannot be made as HostDB wants it
	// Image, Disk, Seed and Composed: what of it is here. Those that it does not need are true.
	Image, Disk, Seed, Composed bool
	// Asked: its guest was asked to end. Late: that is longer ago than Shutdown.
	Asked, Late bool
	// Rest: it ended by itself too often, and is to wait.
	Rest bool
	// Over: the time of a Kept one has come, or somebody asked for it.
	Over bool
}

// action is one thing that a box does for a machine.
type action string

const (
	actNone      action = ""          // as it should be
	actWait      action = "wait"      // for the hypervisor, the guest, HostDB, or some time
	actSettle    action = "settle"    // find out what the record says of a reservation
	actRename    action = "rename"    // claim the new name, write it down, free the old one
	actAddress   action = "address"   // choose an address, asking for a block if need be, and write it down
	actSay       action = "say"       // write box and address into HostDB
	actImage     action = "image"     // bring its image here
	actDisk      action = "disk"      // make its volume
	actSeed      action = "seed"      // make the seed
	actCompose   action = "compose"   // write down what is to be defined
	actDefine    action = "define"    //
	actStart     action = "start"     // having written down that it ran
	actResize    action = "resize"    // reserve what it is to have, and define it anew
	actShutdown  action = "shutdown"  // ask its guest to end
	actCut       action = "cut"       // its power
	actLeave     action = "leave"     // write down that it cannot be made
	actUndo      action = "undo"      // what was made, and give the machine up
	actTicket    action = "ticket"    // ask whether it may be destroyed, and write down that it may
	actReinstate action = "reinstate" // write down that it is wanted again
	actUndefine  action = "undefine"  //
	actKeep      action = "keep"      // write down until when its disks stay
	actDoom      action = "doom"      // write down that all of it goes
	actPurge     action = "purge"     // volumes, name, record, address, entry
	actLost      action = "lost"      // say that its disk is gone
)

// next is what a box does next for a machine. Each action is harmless when it was done before, and a box that dies before,
// in or after any of them comes back to a situation of this table: that is what makes it safe.
func next(s situation) action {
	switch s.Stage {
	case Reserving:
		if s.Due {
			return actSettle
		}
		return actWait
	case Held:
		return nextHeld(s)
	case Leaving:
		return ended(s, actUndo)
	case Destroying:
		switch {
		case s.Wish == wantOn || s.Wish == wantOff:
			return actReinstate
		case s.Domain == running && !s.Asked:
			return actShutdown
		case (s.Domain == running || s.Domain == dying) && !s.Late:
			return actWait
		}
		return ended(s, actKeep)
	case Kept:
		switch {
		case s.Wish == wantOn || s.Wish == wantOff:
			return actReinstate
		case s.Over:
			return actDoom
		}
		return actNone
	case Purging:
		return ended(s, actPurge)
	}
	return actWait
}

// ended takes a domain away, and then does the rest. What is alien is not touched.
func ended(s situation, then action) action {
	switch s.Domain {
	case unknown:
		return actWait
	case running, paused, dying:
		return actCut
	case off:
		return actUndefine
	}
	return then
}

func nextHeld(s situation) action {
	switch {
	case s.Wish == unseen:
		return actWait
	case s.Wish == gone && (s.Ran || s.Domain == running || s.Domain == paused || s.Domain == dying):
		return actTicket
	case s.Wish == gone: // it never ran: there is nothing to regret
		return actDoom
	case s.Domain == unknown:
		return actWait
	case s.Domain == alien && s.Ran:
		return actWait
	case s.Domain == alien:
		return actLeave
	case s.Renamed:
		return actRename
	}
	// A machine that ran goes on with what it has, whatever HostDB says of its network by now; HostDB is told at the end.
	if !s.Ran && s.Domain != running {
		switch {
		case s.Problem != "":
			return actLeave
		case s.NoAddr:
			return actAddress
		case s.Unsaid:
			return actSay
		}
	}
	switch s.Domain {
	case absent:
		return nextMade(s)
	case dying:
		if s.Late && s.Wish == wantOff {
			return actCut
		}
		return actWait
	case off:
		switch {
		case s.Changed:
			return actResize
		case s.Wish == wantOn && s.Rest:
			return actWait
		case s.Wish == wantOn:
			return actStart
		}
	case paused:
		switch {
		case s.Wish == wantOff:
			return actCut // it hears nobody
		case s.Rest:
			return actWait
		}
		return actStart
	case running:
		switch {
		case s.Wish == wantOff && !s.Asked:
			return actShutdown
		case s.Wish == wantOff && s.Late:
			return actCut
		case s.Wish == wantOff:
			return actWait
		case !s.Ran:
			return actStart // writes down that it ran
		case s.Changed:
			return actResize
		}
	}
	if s.Unsaid {
		return actSay
	}
	return actNone
}

// nextMade is the next step of a machine without a domain.
func nextMade(s situation) action {
	switch {
	case s.Ran && !s.Composed || s.Ran && !s.Disk:
		return actLost
	case s.Ran:
		return actDefine
	case !s.Image:
		return actImage
	case !s.Disk:
		return actDisk
	case !s.Seed:
		return actSeed
	case !s.Composed:
		return actCompose
	}
	return actDefine
}
