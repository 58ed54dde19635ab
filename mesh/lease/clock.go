package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells the time in two ways.
type Clock interface {
	// Now is the wall clock, for people only.
	Now() time.Time
	// Boot is a clock that nobody sets, that goes on while the machine sleeps, and that has no meaning on another machine.
	Boot() time.Duration
}

// bootClock is CLOCK_BOOTTIME.
type bootClock struct{}

func (bootClock) Now() time.Time { return time.Now() }

func (bootClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// Times are what a group's safety and speed rest on. All nodes must have the same.
type Times struct {
	Renew    time.Duration // how often a session is renewed
	Hold     time.Duration // how long a holder acts on one renewal, counted from when it sent it
	Session  time.Duration // how long the leader keeps a session, counted from when a renewal came in
	Idle     time.Duration // how often a node renews that only says why it takes no duty
	HandOver time.Duration // how long a holder may take to hand over before people hear of it
	Settle   time.Duration // how long after its office begins a leader gives away the duties that it holds itself
	Stable   time.Duration // how long a node must be alive to become a voter
	Replace  time.Duration // how long a voter must be away to be replaced
	Election time.Duration // raft's heartbeat and election timeout
	Lease    time.Duration // how long raft's leader goes on without a majority
	Confirm  time.Duration // how long plain renewals are gathered for one confirmation of the leader
	Tick     time.Duration // how often the leader looks at its sessions; three without it and it was away
}

// DefaultTimes returns the times of the design.
func DefaultTimes() Times {
	return Times{
		Renew:    500 * time.Millisecond, // three may be lost before Hold is over
		Hold:     2 * time.Second,        // a holder that is cut off stops within this
		Session:  3 * time.Second,        // a second more than Hold: clocks may differ in rate by half
		Idle:     10 * time.Second,       // nobody waits for it
		HandOver: 10 * time.Second,       // stopping a program in order takes a while
		Settle:   10 * time.Second,       // a leader that loses its office at once moves nothing
		Stable:   30 * time.Second,       // a box that crashes at its start is no voter
		Replace:  30 * time.Second,       // a reboot of the agent is faster; one of the box need not be waited for
		Election: 500 * time.Millisecond, // a new leader after about a second
		Lease:    250 * time.Millisecond, // half of it: a leader without a majority is none before another can be
		Confirm:  50 * time.Millisecond,  // a fortieth of Hold; bounds what many sessions cost
		Tick:     100 * time.Millisecond, // how late an end of a session is seen
	}
}
