package replica

import (
	"log/slog"
	"time"

	"hostmesh/hostdb"
)

// Config is what a Replica needs. Begin with DefaultConfig.
type Config struct {
	Store  *hostdb.Store
	NodeID string
	Peers  Peers
	Logger *slog.Logger

	// Members are the ids of all nodes that were not removed, this one included, whether they are alive or not. Without it
	// no run is retired, and those count as members that were heard of.
	Members func() []string
	// Sick reports that this node had better doubt itself, because so many members failed at once: nothing is then concluded
	// from what the others lack or say. Nil is never.
	Sick func() bool
	// Clock is the wall that is compared with those of peers; nil is the system's.
	Clock hostdb.Clock
	// Evidence keeps a document about replicas that differ, for people; nil keeps none.
	Evidence func(name string, data []byte) error

	// Fanout is how many peers one node pushes to. A mesh of at most Fanout+1 nodes is one hop wide.
	Fanout int
	// Pushes is how many pushes are under way at a time. One that is not answered within a second counts in a second lot of
	// as many, so that slow peers do not stop the others.
	Pushes int
	// RepairEvery is the mean time between two comparisons with a random peer.
	RepairEvery time.Duration
	// MessageBytes is about how many bytes of operations one message carries; one operation may be larger.
	MessageBytes int
	// CallTimeout bounds one message and its answer.
	CallTimeout time.Duration
	// ServePulls is how many pulls, pieces of state and of history are answered at a time; further ones are told to try later.
	ServePulls int
	// BytesPerSecond bounds what this node sends of repair, states and history, and what it fetches of history.
	BytesPerSecond int
	// JoinOperations is how many operations a peer must hold for an empty replica to take its state rather than all of them.
	JoinOperations uint64
	// RetireEvery is the shortest time between two retirements of runs by this node, unless more than 64 are due.
	RetireEvery time.Duration
}

// DefaultConfig returns the defaults; Store, NodeID and Peers must still be set.
func DefaultConfig() Config {
	return Config{
		Fanout:         64,              // a mesh of this size needs one hop, and a writer's uplink bears it
		Pushes:         64,              // all children at once: people wait for the slowest hop
		RepairEvery:    3 * time.Second, // what a push missed is back within seconds; a comparison costs one small message
		MessageBytes:   1 << 20,         // large enough to fill a round trip, small enough not to delay others
		CallTimeout:    10 * time.Second,
		ServePulls:     4,        // a mass restart must not read the whole log for everybody at once
		BytesPerSecond: 32 << 20, // a quarter of a gigabit link, so that repair never starves what people wait for
		JoinOperations: 1000,     // below, a pull of operations is one message or two, and history is there at once
		RetireEvery:    time.Hour,
	}
}

func (c *Config) fill() {
	def := DefaultConfig()
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.Fanout, def.Fanout)
	set(&c.Pushes, def.Pushes)
	set(&c.MessageBytes, def.MessageBytes)
	set(&c.ServePulls, def.ServePulls)
	set(&c.BytesPerSecond, def.BytesPerSecond)
	setTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	setTime(&c.RepairEvery, def.RepairEvery)
	setTime(&c.CallTimeout, def.CallTimeout)
	setTime(&c.RetireEvery, def.RetireEvery)
	if c.JoinOperations == 0 {
		c.JoinOperations = def.JoinOperations
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	if c.Sick == nil {
		c.Sick = func() bool { return false }
	}
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }
