package mesh

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"hostmesh/mesh/door"
)

// Bounds of what neighbours may make memberlist hold: it takes any number of streams, and reads up to 20 MiB from each
// before it knows whether the sender has the key.
const (
	maxGossipConns   = 128 // a full exchange takes milliseconds, and a member begins a few a minute
	maxGossipConnsOf = 16
	gossipFree       = 256 << 10 // what each may send in any case: a full exchange of 500 members
	gossipPool       = 48 << 20  // what all together may send beyond that; it is given back when they end
)

// guard is a gossip transport whose streams are bounded in number and in what they send.
type guard struct {
	memberlist.NodeAwareTransport
	door    *door.Door
	refuse  *refusals
	streams chan net.Conn
	ready   chan struct{} // closed by open
	left    atomic.Int64  // of gossipPool
	done    chan struct{}
	once    sync.Once
	ended   chan struct{}
}

func newGuard(t memberlist.NodeAwareTransport, refuse *refusals, cfg door.Config) *guard {
	g := &guard{NodeAwareTransport: t, door: door.New(cfg), refuse: refuse,
		streams: make(chan net.Conn), ready: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{})}
	g.left.Store(gossipPool)
	go g.pass()
	return g
}

// open lets streams in, once: cfg.Trusted is asked from then on.
func (g *guard) open() { close(g.ready) }

// pass lets streams through the door until Shutdown.
func (g *guard) pass() {
	defer close(g.ended)
	select {
	case <-g.ready:
	case <-g.done:
		return
	}
	for {
		select {
		case nc := <-g.NodeAwareTransport.StreamCh():
			in := g.door.Enter(nc)
			if in == nil {
				continue
			}
			select {
			case g.streams <- &gossipConn{Conn: in, guard: g, free: gossipFree}:
			case <-g.done:
				_ = in.Close()
				return
			}
		case <-g.done:
			return
		}
	}
}

func (g *guard) StreamCh() <-chan net.Conn { return g.streams }

func (g *guard) Shutdown() error {
	g.once.Do(func() { close(g.done) })
	<-g.ended
	return g.NodeAwareTransport.Shutdown()
}

// closed is how many streams were turned away.
func (g *guard) closed() uint64 { return g.door.Closed() }

var errGossipFull = errors.New("gossip streams send more than this node holds at a time")

// gossipConn is a stream that somebody opened to the gossip port.
type gossipConn struct {
	*door.Conn
	guard *guard
	once  sync.Once

	mu   sync.Mutex // guards the fields below
	free int        // bytes that may still come
	took int64      // of the pool
}

// Read takes from the pool what goes beyond the stream's own share.
func (c *gossipConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free == 0 {
		if c.guard.left.Add(-gossipFree) < 0 {
			c.guard.left.Add(gossipFree)
			c.guard.refuse.overload.Add(1)
			return 0, errGossipFull
		}
		c.free, c.took = gossipFree, c.took+gossipFree
	}
	n, err := c.Conn.Read(b[:min(len(b), c.free)])
	c.free -= n
	return n, err
}

func (c *gossipConn) Close() error {
	err := c.Conn.Close() // ends a Read
	c.once.Do(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.guard.left.Add(c.took)
	})
	return err
}
