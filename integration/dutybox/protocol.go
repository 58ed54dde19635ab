// Package dutybox is a process that has nothing of an agent but its mesh and its part in a lease group, and the other end of its
// pipes: who starts it tells it what to do and hears what it did, moment by moment, on a clock that all processes of the machine
// share.
//
// It leaves to others in which network it runs, who breaks it and when, and what must be true of what it reports.
package dutybox

import (
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/mesh/lease"
	"hostmesh/mesh/lease/leasetest"
)

// Config is the first line that a process is told.
type Config struct {
	NodeID, Name, MeshID, KeyFile string
	Addr, Datacenter, Rack        string
	Join                          []string
	Dir                           string // made when it is not there
	Found                         bool   // the group begins here, if Dir is new
	Incarnation                   int    // of this process on Dir
	Times                         lease.Times

	Act    time.Duration // how often it acts on what it holds; 0 = never
	Report time.Duration // how often it tells of its acts and of itself
}

// Command is what a process is told to do; one of its fields is set beside ID. It is answered by an Event of the same ID.
type Command struct {
	ID       int
	Campaign []string  `json:",omitempty"` // from now on it offers itself for these duties
	Load     *Load     `json:",omitempty"` // from now on it reads and writes records
	Idle     bool      `json:",omitempty"` // it no longer does
	Move     *Move     `json:",omitempty"`
	Drain    string    `json:",omitempty"` // a node
	Undrain  string    `json:",omitempty"` // a node
	Remove   string    `json:",omitempty"` // a node, from the mesh
	Leap     *Leap     `json:",omitempty"`
	Puts     int       `json:",omitempty"` // so many, one after the other, and how long each took
	Voters   bool      `json:",omitempty"`
	Duties   bool      `json:",omitempty"`
	Quit     bool      `json:",omitempty"` // in order
	Until    time.Time // the answer is an error after that; zero = 10 s
}

// Load is how much a process does with records.
type Load struct {
	Seed    uint64
	Clients int
	Keys    int           // at a time; they are others after each Round
	Round   time.Duration // by the clock that all share
	Pause   time.Duration // at most, between two calls of a client
}

// Move moves a duty to a node.
type Move struct{ Duty, Node string }

// Leap sets a process's clocks off, by so much more than before.
type Leap struct{ Boot, Wall time.Duration }

// Event is what a process tells.
type Event struct {
	ID     int             `json:",omitempty"` // of the command that it answers
	Error  string          `json:",omitempty"`
	State  *State          `json:",omitempty"`
	Acts   []Act           `json:",omitempty"`
	Began  *Op             `json:",omitempty"`
	Ended  *Op             `json:",omitempty"`
	Voters *lease.Voters   `json:",omitempty"`
	Duties []lease.Status  `json:",omitempty"`
	Took   []time.Duration `json:",omitempty"`
}

// State is how a process stands in its group.
type State struct {
	At             time.Duration // see Now
	Leads, Serving bool
	Holds          int
	BytesOut       uint64 // on peer streams, without TLS
}

// Act sums up what one holder did for one duty since it reported last. The times are of Now, from just before the holder asked whether
// its grant is valid to just after; of all acts whose answer was yes, the checks need the first and the last.
type Act struct {
	Duty         string
	Fence        uint64
	Asked        time.Duration // when the node began to ask for it
	From, FromBy time.Duration // around the first
	To, ToBy     time.Duration // around the last
	Count        int
}

// Op is a call on records, told before it is sent and again when it came back. One that never came back may have been done.
type Op struct {
	Client, N int
	Call      leasetest.Call
	Seen      leasetest.Seen
	At        time.Duration
	Nothing   bool   // nothing was done, for sure
	Why       string `json:",omitempty"`
}

// Now is CLOCK_BOOTTIME: one clock for all processes of a machine.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
