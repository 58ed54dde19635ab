package mesh

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config says who this node is and where it finds the others. Begin with DefaultConfig.
type Config struct {
	// NodeID is this node's permanent id, 32 lower-case hex digits. It belongs to the data directory, not to the name.
	NodeID string
	// Name is the host name, at most 253 bytes.
	Name string
	// MeshID is the mesh's id, 32 lower-case hex digits. A joiner that does not know it yet leaves it empty, and Run
	// learns it from the first join address that answers.
	MeshID string
	// Key is the mesh key.
	Key Key

	// Addr is the one address under which the others reach this node. It is bound; it is never 0.0.0.0 or ::.
	Addr netip.Addr
	// GossipPort is serf's port, TCP and UDP. 0 takes a free one.
	GossipPort uint16
	// StreamPort is the port of the peer streams, TCP. 0 takes a free one.
	StreamPort uint16
	// Join lists host or host:port (the gossip port) of some members. Names are resolved at every attempt. The stream
	// port of a join address is taken to lie as far from its gossip port as this node's own.
	Join []string
	// Datacenter and Rack are told to the others as they are. Empty = not known.
	Datacenter, Rack string

	// Dir is where the peer list is kept, as peers.json. Empty = in memory only.
	Dir string
	// OnMeshID is called once, by Run, on a joiner that learned the mesh's id and before it does anything with it, so
	// that the owner can write it down. An error ends Run. nil = nothing to do.
	OnMeshID func(id string) error

	// Logger gets all messages, those of serf and memberlist too. nil = slog.Default().
	Logger *slog.Logger
	// Clock is the source of time for what this package does itself. nil = the real one. (serf has its own: the real one.)
	Clock Clock
	// Network carries gossip and streams. nil = real sockets.
	Network Network

	// MaxFrame is the longest request or answer of a call, in bytes.
	MaxFrame int
	// MaxConns is the most incoming peer streams held open at a time; further ones are closed at once.
	MaxConns int
	// MaxRequests is the most requests that are served at a time, over all connections; further ones get ErrBusy. Urgent
	// ones (CallUrgent) are counted apart, with the same bound.
	MaxRequests int
	// MaxRequestsPerConn is the most requests in flight on one connection. A caller waits for its turn.
	MaxRequestsPerConn int
	// HandshakeTimeout bounds dialling, TLS and the first frame of a peer stream.
	HandshakeTimeout time.Duration
	// KeepAlive is how often an open but quiet stream is checked. One that is silent for three times as long is dropped.
	KeepAlive time.Duration
	// IdleTimeout is how long a stream without requests is kept open by the side that dialled it.
	IdleTimeout time.Duration
	// LeaveTimeout bounds the goodbye that Close says. Negative = leave without a word, as a crash does.
	LeaveTimeout time.Duration
	// RedialMax is the longest pause between two attempts to reach a member that is away.
	RedialMax time.Duration
}

// DefaultConfig returns the defaults; who the node is, its key and its address must still be set.
func DefaultConfig() Config {
	return Config{
		GossipPort: 7946, // serf's own port, so that firewalls and people know it
		StreamPort: 7947,

		MaxFrame:           16 << 20, // a snapshot piece or a whole document (1 MiB) with room; still bounds memory per request
		MaxConns:           4096,     // a mesh of 1,000 nodes, each with a connection in both lanes, twice
		MaxRequests:        1024,     // goroutines of handlers; they mostly wait for the disk
		MaxRequestsPerConn: 64,       // one peer cannot take all of them

		HandshakeTimeout: 5 * time.Second,  // one lost SYN (1 s) and its repetition (3 s) fit
		KeepAlive:        10 * time.Second, // half-open connections are noticed within 30 s
		IdleTimeout:      5 * time.Minute,  // a quiet mesh holds few connections
		LeaveTimeout:     3 * time.Second,  // stays well below what service managers wait before they kill
		RedialMax:        30 * time.Second, // a partition that ends is noticed within half a minute
	}
}

// Clock is the source of time.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets the time once d has passed.
	After(d time.Duration) <-chan time.Time
}

type realClock struct{}

func (realClock) Now() time.Time                         { return time.Now() }
func (realClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Network carries the mesh's bytes. The real one binds sockets; meshtest has one in memory. All methods are safe for
// concurrent use.
type Network interface {
	// Gossip binds the gossip port, for packets and streams. Port 0 takes a free one. The bound address is returned. Its
	// Shutdown must return although nobody reads from it.
	Gossip(addr netip.AddrPort, logger *log.Logger) (memberlist.NodeAwareTransport, netip.AddrPort, error)
	// Listen binds the stream port. Port 0 takes a free one.
	Listen(addr netip.AddrPort) (net.Listener, error)
	// Dial opens a stream from this node to a stream or gossip port.
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Resolve looks a join name up.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}
