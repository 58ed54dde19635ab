package mysqlha

import (
	"context"
	"errors"
	"time"
)

// Order says under what an order is given. A host keeps, durably, the latest that it has seen of a cluster, and refuses an order that is earlier: ErrOvertaken.
type Order struct {
	Tag   string `json:"tag"`
	Epoch uint64 `json:"epoch"` // of the record
	Fence uint64 `json:"fence"` // of the runner's grant
	// Seq grows with the orders of a runner; 0 = it does not say. It tells which was given later of two orders to cut and to uncut, or to start and to end the server: one that arrives late, or again, takes back nothing.
	Seq uint64 `json:"seq,omitempty"`
}

// Stale reports whether an order is from the same runner as another, about the same thing, and was given before it.
func (o Order) Stale(last Order) bool {
	return o.Epoch == last.Epoch && o.Fence == last.Fence && o.Seq != 0 && o.Seq < last.Seq
}

// Before reports whether an order is earlier than another: of a lower epoch, or of the same and a lower number. A later epoch is written under a number that is no lower than
// those before, as long as there is one group that grants them; in a group that was founded anew numbers begin anew, and the epoch alone tells.
func (o Order) Before(p Order) bool {
	return o.Epoch < p.Epoch || o.Epoch == p.Epoch && o.Fence < p.Fence
}

// Role is as what a server is started.
type Role string

// The roles. A server that is started as a replica truncates what it has not had acknowledged (--init-rpl-role=SLAVE); one that is
// started as the primary keeps it. Both start read-only, and follow nobody by themselves.
const (
	AsPrimary Role = "primary"
	AsReplica Role = "replica"
)

// SocketMark is the mark (SO_MARK) of the agents' own connections to database servers: what a host is cut from, its agent is not, for it may be the one that watches over the
// cluster. It is one of the lowest byte: Kubernetes, Cilium and Calico look at others.
const SocketMark = 0x2d

// Errors of Local.
var (
	// ErrSilent is returned when the agent of a host does not answer. What was asked may have happened.
	ErrSilent = errors.New("agent of the host does not answer")
	// ErrNotHere is returned by an agent that has no server of this cluster: no file in credentials.d names one.
	ErrNotHere = errors.New("no server of this cluster here")
	// ErrMarked is returned by Start for a server that is not to start in that role: it was fenced.
	ErrMarked = errors.New("server is marked not to start")
	// ErrBusy is returned while a clone is made from or to a host.
	ErrBusy = errors.New("host makes a clone")
	// ErrUnrecoverable is returned by Start for a server that ends each time because it cannot tell which of its last transactions were committed, as after it was killed amid
	// a recovery: its data are to be made anew.
	ErrUnrecoverable = errors.New("server cannot recover its data")
)

// Local is what the agent on a server's host does for the runner, which may be on another node. All of it is idempotent.
type Local interface {
	// State tells how the process stands.
	State(ctx context.Context, tag string) (LocalState, error)
	// Cut has this host receive nothing from a source any more: established connections are reset, new ones refused, but for those with SocketMark. Uncut takes that back. With Port 0 the server
	// here is heard by nobody on that host any more, from whatever port: connections to the port of the own server are reset and refused. Of two about one source the one that was given last holds, in
	// whatever order they arrive (Order.Seq): ErrOvertaken.
	Cut(ctx context.Context, o Order, source Source) error
	Uncut(ctx context.Context, o Order, source Source) error
	// Kill ends the process at once (SIGKILL), marks it not to start, and returns when it is gone. Of orders to kill, start, stop and clone the one that was given last holds, in whatever order they
	// arrive (Order.Seq): ErrOvertaken.
	// The network of the server is shut first: sockets of a killed server close late.
	Kill(ctx context.Context, o Order, why string) error
	// Start starts it, unless it runs, and returns when it serves. As a replica it takes the mark of Kill away; as the primary it is refused while marked: ErrMarked,
	// but for an order of a later epoch than that of the mark, which takes it away: then the change for which it was killed was taken back, and nobody else was promoted.
	Start(ctx context.Context, o Order, as Role) error
	// Stop ends it in order.
	Stop(ctx context.Context, o Order) error
	// TakeVIP claims the address of the primary, and returns when it is here and announced. DropVIP returns when it is not here; HandOverVIP leaves it
	// refusing until the next has it.
	TakeVIP(ctx context.Context, o Order) error
	DropVIP(ctx context.Context, o Order) error
	HandOverVIP(ctx context.Context, o Order) error
	// Clone makes this host's server a copy of another's: it stops it, receives the files from the agent there, prepares and starts it as a replica,
	// not following anybody yet, and returns the GTID position of the copy. progress is called with what was done so far.
	// Before it touches the data the host remembers, on disk, that they are those of a copy which nobody has compared: LocalState.Copy. A clone that fails, and has the former
	// data back, has what was known of those back.
	Clone(ctx context.Context, o Order, from string, progress func(CloneProgress)) (position string, err error)
	// Compared says what came of comparing a copy with a server of the cluster: differs "" = they are the same, and it is as good as any from now on; else what differs, which
	// the host remembers. It does nothing where the data are no copy.
	Compared(ctx context.Context, o Order, differs string) error
}

// Unverified is what is known of a copy that nobody has found right.
type Unverified struct {
	// From is the host whose copy it is; Differs what was found to differ, "" = it was not compared yet.
	From    string `json:"from"`
	Differs string `json:"differs,omitempty"`
}

// LocalState is how a server's process stands, by its host's agent.
type LocalState struct {
	Process Process `json:"process"`
	PID     int     `json:"pid,omitempty"`
	// Since is when that began, by the host's clock.
	Since time.Time `json:"since"`
	// Why is for people: how it ended, why it was not started.
	Why string `json:"why,omitempty"`
	// Marked is why it is not to start; "" = it may.
	Marked string `json:"marked,omitempty"`
	// CutFrom are the addresses that it is cut from.
	CutFrom []string `json:"cut_from,omitempty"`
	// VIP is the phase of the claim of the primary's address here, as lbd/vip names it; "" = none.
	VIP string `json:"vip,omitempty"`
	// Copy says that the data are a copy which nobody has found right; nil = they are not.
	Copy *Unverified `json:"copy,omitempty"`
	// Rejoined is the epoch of the order under which this agent has started the process that runs, as a replica; 0 = it did not, or does not know.
	Rejoined uint64 `json:"rejoined,omitempty"`
	// Epoch and Fence are of the latest order seen.
	Epoch uint64 `json:"epoch"`
	Fence uint64 `json:"fence"`
}

// Process is how a process stands.
type Process string

// The states of a process.
const (
	ProcessRuns    Process = "running"
	ProcessDied    Process = "died"    // it ran, and ended without an order
	ProcessStopped Process = "stopped" // it ended by an order, or was never started
	ProcessUnknown Process = "unknown" // the agent cannot tell
)

// CloneProgress is how far a clone is.
type CloneProgress struct {
	Step  string `json:"step"` // backup, prepare, move, start
	Bytes int64  `json:"bytes"`
	// Total is an estimate; 0 = unknown.
	Total int64 `json:"total"`
}
