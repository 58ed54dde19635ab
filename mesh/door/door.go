// Package door keeps neighbours from taking all connections of a port: it bounds those that are open, in all and from one
// source, and when there are too many it closes one that only waits, of whoever has the most of them. So who hoards
// connections loses them to who needs one. It counts what it closes and says so at a bounded rate.
//
// It knows nothing of what is spoken: its user says when a connection is busy. Timeouts of what is spoken are the user's,
// too.
package door

import (
	"container/list"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config bounds the connections of one port.
type Config struct {
	// Name says whose connections they are, in log lines.
	Name string
	// Max is the most connections open at a time. Beyond it one that waits is closed for each that comes; when none waits,
	// Accept waits for one to end. At least 1.
	Max int
	// PerSource is the most of them from one source: an IPv4 address, or 64 bits of an IPv6 address. Beyond it the source's
	// own longest waiting one is closed, or the new one when none of them waits. 0 is Max.
	PerSource int
	// Trusted reports sources whose connections are closed only when no others wait. It must be fast, and must not call
	// back. nil trusts nobody.
	Trusted func(netip.Addr) bool
	// Logger is nil for slog.Default().
	Logger *slog.Logger
	// Now is nil for time.Now.
	Now func() time.Time
}

// Stats is how a door stands.
type Stats struct {
	Name    string     // of the Config
	Open    int        // now
	Crowded uint64     // closed while they waited, because all places were taken
	Hoarded uint64     // closed because their source had too many
	Last    time.Time  // when one of the two last happened; zero: never
	Source  netip.Addr // and whose connection that was
}

// A Door keeps the book of a port's connections. All methods are safe for concurrent use.
type Door struct {
	cfg Config

	mu      sync.Mutex // guards the fields below
	room    sync.Cond  // a connection ended or began to wait, or the door was shut
	open    int
	sources map[netip.Addr]*source
	stats   Stats
	shut    bool
	said    time.Time
	unsaid  uint64
}

// source is where connections come from.
type source struct {
	addr    netip.Addr
	trusted bool
	open    int
	waiting list.List // of *Conn; the longest waiting first
}

// New makes a door.
func New(cfg Config) *Door {
	cfg.Max = max(cfg.Max, 1)
	if cfg.PerSource <= 0 {
		cfg.PerSource = cfg.Max
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Door{cfg: cfg, sources: make(map[netip.Addr]*source)}
	d.room.L = &d.mu
	return d
}

// sayEvery is how often a door tells what it closed.
const sayEvery = time.Minute

// Enter takes in a connection that waits for its client. It returns nil, and has closed c, when c's source has too many
// that are busy, or the door was shut. It blocks while all places are taken by busy ones.
func (d *Door) Enter(c net.Conn) *Conn {
	addr := sourceOf(c.RemoteAddr())
	d.mu.Lock()
	s := d.enter(addr)
	if s == nil {
		d.mu.Unlock()
		_ = c.Close()
		return nil
	}
	in := &Conn{Conn: c, door: d, source: s}
	s.open++
	d.open++
	in.place = s.waiting.PushBack(in)
	d.mu.Unlock()
	return in
}

// enter makes room for one more of a source; nil when there is none. The caller holds mu.
func (d *Door) enter(addr netip.Addr) *source {
	for !d.shut {
		s := d.sources[addr]
		if s == nil {
			s = &source{addr: addr, trusted: d.cfg.Trusted != nil && d.cfg.Trusted(addr)}
			s.waiting.Init()
		}
		switch {
		case s.open >= d.cfg.PerSource && d.cfg.PerSource < d.cfg.Max:
			d.note(&d.stats.Hoarded, addr)
			if s.waiting.Len() == 0 {
				return nil
			}
			d.evict(s)
		case d.open >= d.cfg.Max:
			rich := d.richest()
			if rich == nil {
				d.room.Wait() // all are busy: one will end
				continue      // and meanwhile the source may have gone, or got more
			}
			d.note(&d.stats.Crowded, rich.addr)
			d.evict(rich)
		default:
			d.sources[addr] = s
			return s
		}
	}
	return nil
}

// richest is the source with the most waiting connections, trusted ones last; nil when none waits.
func (d *Door) richest() (rich *source) {
	for _, s := range d.sources {
		switch {
		case s.waiting.Len() == 0:
		case rich == nil, rich.trusted && !s.trusted:
			rich = s
		case s.trusted != rich.trusted:
		case s.waiting.Len() > rich.waiting.Len():
			rich = s
		}
	}
	return rich
}

// evict closes the longest waiting connection of a source. Closing does not block: nothing of ours is on its way to a
// client that we wait for.
func (d *Door) evict(s *source) {
	c := s.waiting.Front().Value.(*Conn)
	d.leave(c)
	c.evicted = true
	_ = c.Conn.Close()
}

// leave frees a connection's place. The caller holds mu.
func (d *Door) leave(c *Conn) {
	if c.left {
		return
	}
	c.left = true
	if c.place != nil {
		c.source.waiting.Remove(c.place)
		c.place = nil
	}
	d.open--
	if c.source.open--; c.source.open == 0 {
		delete(d.sources, c.source.addr)
	}
	d.room.Signal()
}

// note counts and, once in a while, says that a connection is closed.
func (d *Door) note(counter *uint64, addr netip.Addr) {
	now := d.cfg.Now()
	*counter++
	d.stats.Last, d.stats.Source = now, addr
	if !d.said.IsZero() && now.Sub(d.said) < sayEvery {
		d.unsaid++
		return
	}
	d.cfg.Logger.Warn("connections closed: too many are open", "listener", d.cfg.Name, "addr", addr.String(),
		"open", d.open, "unlogged", d.unsaid)
	d.said, d.unsaid = now, 0
}

// Stats returns how the door stands.
func (d *Door) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.stats
	st.Name, st.Open = d.cfg.Name, d.open
	return st
}

// Closed returns how many connections the door closed.
func (d *Door) Closed() uint64 {
	st := d.Stats()
	return st.Crowded + st.Hoarded
}

// Shut lets nobody in any more, and ends calls of Enter that wait. Who is in stays.
func (d *Door) Shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	d.room.Broadcast()
}

// Conn is a connection that went through a door. Closing it frees its place.
type Conn struct {
	net.Conn
	door   *Door
	source *source

	// door.mu guards the fields below.
	place   *list.Element // among those that wait; nil while it is busy
	left    bool
	evicted bool
}

// Busy says that the client is being served: the connection is not closed to make room for others.
func (c *Conn) Busy() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	if c.place != nil {
		c.source.waiting.Remove(c.place)
		c.place = nil
	}
}

// Waiting says that it is the client's turn, as at the beginning.
func (c *Conn) Waiting() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	if c.place == nil && !c.left {
		c.place = c.source.waiting.PushBack(c)
		c.door.room.Signal()
	}
}

// Leave frees the connection's place without closing it, and reports whether it was still there: false means that the
// door closed it.
func (c *Conn) Leave() bool {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.leave(c)
	return !c.evicted
}

// Close closes the connection and frees its place.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.leave(c)
	return err
}

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends what is sent, where the connection below can do that.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Of finds the door's connection below others; nil when there is none.
func Of(c net.Conn) *Conn {
	for {
		if in, ok := c.(*Conn); ok {
			return in
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = below.NetConn()
	}
}

// Listener lets the connections of another listener through a door.
type Listener struct {
	net.Listener
	*Door
}

// Listen puts a door before a listener. The connections that Accept returns are of type *Conn.
func Listen(ln net.Listener, cfg Config) *Listener { return &Listener{ln, New(cfg)} }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if in := l.Enter(c); in != nil {
			return in, nil
		}
		l.mu.Lock()
		shut := l.shut
		l.mu.Unlock()
		if shut {
			return nil, net.ErrClosed
		}
	}
}

// Close closes the listener and shuts the door.
func (l *Listener) Close() error {
	l.Shut()
	return l.Listener.Close()
}

// sourceOf is who a connection is counted for. All that have no address of their own are one.
func sourceOf(a net.Addr) netip.Addr {
	var addr netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		addr = a.AddrPort().Addr()
	case nil:
	default:
		ap, _ := netip.ParseAddrPort(a.String()) // else it has none
		addr = ap.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64) // a host has the whole of it
		addr = p.Addr()
	}
	return addr
}
