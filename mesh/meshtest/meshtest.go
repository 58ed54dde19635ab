// Package meshtest is an in-memory network for tests of what runs over a mesh, with delay, loss and partitions, and a
// helper that starts meshed nodes on it.
//
// It carries both gossip and peer streams. Packets are dropped by loss and partitions, as by UDP. Streams are never
// damaged: in a partition they stall, as TCP does, and go on when it heals; dials time out. It uses only channels, timers
// and sync.Cond, so that a test may run it in a testing/synctest bubble, where a minute of failure detection passes in
// milliseconds; serf and memberlist work there too.
//
// It leaves real sockets to package mesh itself.
package meshtest

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"hostmesh/mesh"
)

// Net is a network in memory. All methods are safe for concurrent use, and take effect at once.
type Net struct {
	mu     sync.Mutex // guards the fields below
	rng    *rand.Rand
	nodes  map[netip.Addr]*node
	hosts  map[string][]netip.Addr
	cut    map[path]bool
	loss   map[path]float64
	delay  map[path]time.Duration
	halves map[*half]bool
	port   uint16 // last ephemeral port
}

// path is one direction between two nodes.
type path struct{ from, to netip.Addr }

// New returns a network without nodes. Losses and delays follow the seed; the order of goroutines does not.
func New(seed uint64) *Net {
	return &Net{
		rng:    rand.New(rand.NewPCG(seed, seed)),
		nodes:  make(map[netip.Addr]*node),
		hosts:  make(map[string][]netip.Addr),
		cut:    make(map[path]bool),
		loss:   make(map[path]float64),
		delay:  make(map[path]time.Duration),
		halves: make(map[*half]bool),
		port:   32767,
	}
}

// Node returns the network as the node with this address sees it: its Config.Network.
func (n *Net) Node(addr netip.Addr) mesh.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.nodes[addr]
	if x == nil {
		x = &node{net: n, addr: addr, listeners: make(map[uint16]*listener), gossip: make(map[uint16]*transport)}
		n.nodes[addr] = x
	}
	return x
}

// Host makes a name resolve to addresses; none removes it.
func (n *Net) Host(name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[name] = addrs
}

// Cut parts two nodes, both ways.
func (n *Net) Cut(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[path{a, b}], n.cut[path{b, a}] = true, true
}

// CutOneWay loses what from sends to to. Streams between them stall in that direction; dials fail both ways.
func (n *Net) CutOneWay(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[path{from, to}] = true
}

// Isolate parts a node from all others, as if its cable were pulled or its machine had died.
func (n *Net) Isolate(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for b := range n.nodes {
		if b != a {
			n.cut[path{a, b}], n.cut[path{b, a}] = true, true
		}
	}
}

// Split parts each node of one side from each of the other.
func (n *Net) Split(a, b []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			n.cut[path{x, y}], n.cut[path{y, x}] = true, true
		}
	}
}

// Heal ends all cuts. Loss and delay stay.
func (n *Net) Heal() {
	n.mu.Lock()
	clear(n.cut)
	halves := make([]*half, 0, len(n.halves))
	for h := range n.halves {
		halves = append(halves, h)
	}
	n.mu.Unlock()
	for _, h := range halves {
		h.wake()
	}
}

// Delay makes everything between two nodes take d longer, one way; a round trip takes twice that.
func (n *Net) Delay(a, b netip.Addr, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay[path{a, b}], n.delay[path{b, a}] = d, d
}

// Loss loses packets between two nodes, both ways, with probability p (0 to 1). Streams are spared.
func (n *Net) Loss(a, b netip.Addr, p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss[path{a, b}], n.loss[path{b, a}] = p, p
}

func (n *Net) isCut(p path) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[p]
}

func (n *Net) delayOf(p path) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.delay[p]
}

// node is one address. It implements mesh.Network.
type node struct {
	net       *Net
	addr      netip.Addr
	listeners map[uint16]*listener  // net.mu guards it
	gossip    map[uint16]*transport // net.mu guards it
}

// free takes port, or one that is free when it is 0. net.mu is held.
func (x *node) free(port uint16) (uint16, error) {
	used := func(p uint16) bool { return x.listeners[p] != nil || x.gossip[p] != nil }
	if port != 0 {
		if used(port) {
			return 0, fmt.Errorf("bind %s: %w", netip.AddrPortFrom(x.addr, port), syscall.EADDRINUSE)
		}
		return port, nil
	}
	for {
		if x.net.port++; x.net.port < 32768 {
			x.net.port = 32768
		}
		if !used(x.net.port) {
			return x.net.port, nil
		}
	}
}

// Gossip implements mesh.Network.
func (x *node) Gossip(addr netip.AddrPort, _ *log.Logger) (memberlist.NodeAwareTransport, netip.AddrPort, error) {
	x.net.mu.Lock()
	defer x.net.mu.Unlock()
	port, err := x.free(addr.Port())
	if err != nil {
		return nil, addr, err
	}
	at := netip.AddrPortFrom(x.addr, port)
	t := &transport{node: x, addr: at, packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64)}
	x.gossip[port] = t
	return t, at, nil
}

// Listen implements mesh.Network.
func (x *node) Listen(addr netip.AddrPort) (net.Listener, error) {
	x.net.mu.Lock()
	defer x.net.mu.Unlock()
	port, err := x.free(addr.Port())
	if err != nil {
		return nil, err
	}
	l := &listener{node: x, addr: netip.AddrPortFrom(x.addr, port), conns: make(chan net.Conn, 64), closed: make(chan struct{})}
	x.listeners[port] = l
	return l, nil
}

// Resolve implements mesh.Network.
func (x *node) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	x.net.mu.Lock()
	defer x.net.mu.Unlock()
	addrs := x.net.hosts[host]
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// Dial implements mesh.Network. It goes to stream and gossip ports alike.
func (x *node) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	there, back := path{x.addr, to.Addr()}, path{to.Addr(), x.addr}
	if d := x.net.delayOf(there) + x.net.delayOf(back); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return fail(ctx.Err())
		}
	}
	if x.net.isCut(there) || x.net.isCut(back) {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
		}
		<-ctx.Done()
		return fail(ctx.Err())
	}
	x.net.mu.Lock()
	var l *listener
	var t *transport
	if y := x.net.nodes[to.Addr()]; y != nil {
		l, t = y.listeners[to.Port()], y.gossip[to.Port()]
	}
	if l == nil && t == nil {
		x.net.mu.Unlock()
		return fail(syscall.ECONNREFUSED)
	}
	if x.net.port++; x.net.port < 32768 {
		x.net.port = 32768
	}
	mine, theirs := x.net.pipe(netip.AddrPortFrom(x.addr, x.net.port), to)
	// Given over under the lock, under which ports are closed too: no connection is left in a closed one.
	ok := false
	if l != nil {
		select {
		case l.conns <- theirs:
			ok = true
		default:
		}
	} else {
		select {
		case t.streams <- theirs:
			ok = true
		default:
		}
	}
	x.net.mu.Unlock()
	if !ok {
		mine.Close()
		theirs.Close()
		return fail(syscall.ECONNREFUSED)
	}
	return mine, nil
}

// listener is a bound stream port.
type listener struct {
	node   *node
	addr   netip.AddrPort
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.node.net.mu.Lock()
		delete(l.node.listeners, l.addr.Port())
		l.node.net.mu.Unlock()
		close(l.closed)
		closeAll(l.conns)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func closeAll(conns chan net.Conn) {
	for {
		select {
		case c := <-conns:
			c.Close()
		default:
			return
		}
	}
}

// transport is a bound gossip port. memberlist's own MockTransport blocks for ever once a node is shut down; this one
// drops what nobody takes, as a socket does.
type transport struct {
	node    *node
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return now, err
	}
	p := path{t.addr.Addr(), to.Addr()}
	n := t.node.net
	n.mu.Lock()
	lost := n.cut[p] || n.rng.Float64() < n.loss[p]
	delay := n.delay[p]
	n.mu.Unlock()
	if lost {
		return now, nil
	}
	packet := append([]byte(nil), b...)
	if delay > 0 {
		time.AfterFunc(delay, func() { t.deliver(packet, to) })
	} else {
		t.deliver(packet, to)
	}
	return now, nil
}

func (t *transport) deliver(b []byte, to netip.AddrPort) {
	n := t.node.net
	n.mu.Lock()
	defer n.mu.Unlock()
	y := n.nodes[to.Addr()]
	if y == nil || y.gossip[to.Port()] == nil {
		return
	}
	select {
	case y.gossip[to.Port()].packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(t.addr), Timestamp: time.Now()}:
	default:
	}
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.node.Dial(ctx, to)
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (t *transport) Shutdown() error {
	t.node.net.mu.Lock()
	delete(t.node.gossip, t.addr.Port())
	t.node.net.mu.Unlock()
	closeAll(t.streams)
	return nil
}
